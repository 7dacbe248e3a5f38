package download_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/download"
	"github.com/spillway/spillway/internal/gateway/edgetest"
	"github.com/spillway/spillway/mpp"
	"github.com/spillway/spillway/mpp/bitcoin"
	"github.com/spillway/spillway/payee"
	"github.com/spillway/spillway/payer"
	"github.com/spillway/spillway/paywall"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/store"
)

// dying is a store that fails a commit, before or after it is made, and every one
// after it, like a process that is killed.
type dying struct {
	payee.Store
	left  atomic.Int64 // commits until it dies; negative: never
	after bool
}

var errKilled = errors.New("killed")

func (d *dying) Commit(ctx context.Context, ops ...store.Op) error {
	if d.left.Add(-1) != 0 {
		if d.left.Load() < 0 && d.left.Load() > -1_000_000 {
			return errKilled
		}
		return d.Store.Commit(ctx, ops...)
	}
	if d.after {
		if err := d.Store.Commit(ctx, ops...); err != nil {
			return err
		}
	}
	return errKilled
}

const never = -1 << 40

// pair of peers: bob's provider, at which alice opened a duplex channel and bought
// three chunks, and alice's, which sells over it.
type peers struct {
	t          *testing.T
	bob, alice *edgetest.Stand
	id         string
	disk       *dying // bob's
}

func newPeers(t *testing.T) *peers {
	t.Helper()
	p := &peers{t: t, disk: &dying{}}
	p.disk.left.Store(never)
	p.bob = edgetest.New(t, edgetest.Config{Payee: func(c *payee.Config) {
		c.Constructions, c.Policy.Duration = []script.Construction{script.Taproot, script.Duplex}, 400
		p.disk.Store = c.Store
		c.Store = p.disk
	}})
	p.id = p.bob.OpenChannel(script.Duplex)
	for range 3 {
		p.alicePays(1_000_000)
	}
	p.alice = edgetest.New(t, edgetest.Config{
		Files: map[string][]byte{"a.bin": edgetest.Pattern(90_000, 9)}, Price: "200sat/20000", Chunk: 20_000,
		Paywall: func(c *paywall.ServerConfig) { c.Peer = p.bob.Payer },
	})
	return p
}

// alicePays has alice verify and pay so much (msat).
func (p *peers) alicePays(msat uint64) {
	p.t.Helper()
	items := []payee.Item{{Resource: [32]byte{1}, Chunk: uint64(len(p.bob.PayeeDisk.Commits())), Price: msat}}
	u, err := p.bob.Payer.Newest(p.t.Context(), p.id)
	p.must(err)
	_, err = p.bob.Payee.Pay(p.t.Context(), payee.Request{Channel: p.id, Update: &u, Items: items, Credit: msat})
	p.must(err)
	u, err = p.bob.Payer.Pay(p.t.Context(), p.id, payer.Payment{Verified: msat}, channel.Limits{Budget: channel.MaxSat})
	p.must(err)
	_, err = p.bob.Payee.Pay(p.t.Context(), payee.Request{Channel: p.id, Update: &u})
	p.must(err)
}

func (p *peers) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

// trades is what bob's process buys with; made anew it knows what its disk does.
func (p *peers) trades() *download.Trades {
	p.t.Helper()
	tr, err := paywall.NewTrader(p.bob.Payee, paywall.ClientConfig{Network: "regtest", Now: p.alice.Now})
	p.must(err)
	t, err := download.NewTrades(download.TradeConfig{
		Trader: tr, Payee: p.bob.Payee, Store: p.disk, Attempts: 1, Sleep: func(ctx context.Context, _ time.Duration) error { return ctx.Err() },
	})
	p.must(err)
	return t
}

func (p *peers) buy(dir string) (*download.Traded, error) {
	return p.trades().Run(p.t.Context(), download.Trade{
		Channel: p.id, Want: download.Want{URL: p.alice.Server.URL + "/a.bin", Dir: dir}, Budget: 1_000,
	})
}

// agree checks both records: one share, one ledger.
func (p *peers) agree(share, ledger uint64) {
	p.t.Helper()
	r, err := p.bob.Payer.Record(p.t.Context(), p.id)
	p.must(err)
	s, err := p.bob.Payee.Record(p.t.Context(), p.id)
	p.must(err)
	if r.Signed != share || s.Paid != share || r.Owed != ledger || s.Charged != ledger {
		p.t.Fatalf("alice: %d sat of %d msat, bob: %d sat of %d msat; want %d sat of %d msat", r.Signed, r.Owed, s.Paid, s.Charged, share, ledger)
	}
}

// Bob buys of alice over the channel that she funded, killed at each commit of his,
// before and after it is made: the file is whole, each chunk is paid once.
func TestTradeKilledAtEachCommit(t *testing.T) {
	for kill := int64(1); ; kill++ {
		died := false
		for _, after := range []bool{false, true} {
			p := newPeers(t)
			dir := t.TempDir()
			p.disk.after = after
			p.disk.left.Store(kill)
			_, err := p.buy(dir)
			if died = errors.Is(err, errKilled); !died && err != nil {
				t.Fatal(err)
			}
			p.disk.left.Store(never)
			p.bob.Restart()
			got, err := p.buy(dir)
			if err != nil {
				t.Fatalf("after commit %d: %v", kill, err)
			}
			file, err := os.ReadFile(filepath.Join(dir, "a.bin"))
			if err != nil || !bytes.Equal(file, edgetest.Pattern(90_000, 9)) {
				t.Fatalf("after commit %d the file is wrong: %v", kill, err)
			}
			if got.Msat != 900_000 || got.Unsettled != nil {
				t.Fatalf("after commit %d it cost %d msat, unsettled: %v", kill, got.Msat, got.Unsettled)
			}
			// the last chunk's 100 sat are less than the credit and than a reversal's worth: the state runs on
			r, err := p.bob.Payer.Record(t.Context(), p.id)
			p.must(err)
			if r.Owed != 2_100_000 || r.Duplex.Held.Epoch != 2 {
				t.Fatalf("after commit %d: %d msat, %+v", kill, r.Owed, r.Duplex)
			}
			p.agree(2_100, 2_100_000)
		}
		if !died {
			if kill < 5 {
				t.Fatalf("it was killed %d times only", kill-1)
			}
			return
		}
	}
}

// The money turns: alice buys again, and it ends at the ledger, on the chain.
func TestTradeThereAndBack(t *testing.T) {
	p := newPeers(t)
	if _, err := p.buy(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	p.alicePays(1_000_000)
	p.agree(3_100, 3_100_000)
	txid, err := p.bob.Client.Close(t.Context(), p.id, "", paywall.Expect{})
	p.must(err)
	p.bob.Mine(1)
	r, err := p.bob.Payer.Record(t.Context(), p.id)
	p.must(err)
	tx, err := channel.DecodeTx(r.Close.Tx)
	p.must(err)
	var rest, share int64
	for _, out := range tx.TxOut {
		switch {
		case bytes.Equal(out.PkScript, r.Terms.RestScript):
			rest = out.Value
		case bytes.Equal(out.PkScript, p.bob.Payout):
			share = out.Value
		}
	}
	if spend, err := p.bob.Chain.Spend(t.Context(), edgetest.OutPoint(r.Terms.Outpoint)); err != nil || spend == nil || spend.Txid.String() != txid || !spend.Confirmed {
		t.Fatalf("the close is not mined: %v %v", spend, err)
	}
	if rest != int64(r.Terms.Capacity)-3_100 || share <= 2_700 || share >= 3_100 {
		t.Fatalf("alice has %d sat, bob %d sat", rest, share)
	}
}

// What a peer may not do: nothing of it is delivered or moves the channel.
func TestTradeAttacks(t *testing.T) {
	p := newPeers(t)
	if _, err := p.buy(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	rec, err := p.bob.Payee.Record(t.Context(), p.id)
	p.must(err)
	sent := rec.Duplex.Sent
	lock, _ := rec.Terms.Lock(sent.Epoch)
	good := bitcoin.Voucher{ChannelID: p.id, FromPayee: true, CumulativeAmount: sent.Amount, Signature: sent.Signature, Epoch: sent.Epoch, LockHeight: lock}
	edit := func(change func(*bitcoin.Voucher)) bitcoin.Voucher {
		v := good
		change(&v)
		return v
	}
	key, err := p.bob.Payee.MACKey(t.Context(), p.id)
	p.must(err)
	stranger := key
	stranger[0] ^= 1
	send := func(v bitcoin.Voucher, key [32]byte, path string) *edgetest.Reply {
		t.Helper()
		c := p.alice.Quote("/a.bin").Challenge
		sealed, err := bitcoin.Seal(v, key, c.ID, "")
		p.must(err)
		return p.alice.Do(edgetest.Ask{Method: "GET", Path: path, Credential: mpp.Credential{Challenge: c, Payload: sealed}.Encode()})
	}
	other := p.bob.OpenChannel(script.Taproot)
	for name, c := range map[string]struct {
		v      bitcoin.Voucher
		key    [32]byte
		status int
		kind   string
	}{
		"somebody else's hand":       {good, stranger, 402, mpp.ProblemSignerMismatch},
		"more than was signed":       {edit(func(v *bitcoin.Voucher) { v.CumulativeAmount++ }), key, 402, mpp.ProblemInvalidSignature},
		"above the capacity":         {edit(func(v *bitcoin.Voucher) { v.CumulativeAmount = 50_001 }), key, 402, mpp.ProblemAmountExceedsDeposit},
		"another epoch":              {edit(func(v *bitcoin.Voucher) { v.Epoch += 2; v.LockHeight, _ = rec.Terms.Lock(v.Epoch) }), key, 402, mpp.ProblemInvalidSignature},
		"another lock":               {edit(func(v *bitcoin.Voucher) { v.LockHeight-- }), key, 402, mpp.ProblemInvalidSignature},
		"a one-way channel":          {edit(func(v *bitcoin.Voucher) { v.ChannelID = other }), key, 410, mpp.ProblemChannelNotFound},
		"the payer's own direction":  {bitcoin.Voucher{ChannelID: p.id, CumulativeAmount: rec.Duplex.Held.Amount, Signature: rec.Duplex.Held.Signature, Epoch: 1, LockHeight: rec.Terms.Expiry - rec.Terms.Step}, key, 410, mpp.ProblemChannelNotFound},
		"what was charged is free":   {good, key, http.StatusOK, ""},
		"without a state, also free": {bitcoin.Voucher{ChannelID: p.id, FromPayee: true}, key, http.StatusOK, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := send(c.v, c.key, "/a.bin?slice=0-19999")
			kind := ""
			if r.Problem != nil {
				kind = r.Problem.Type
			}
			if r.Status != c.status || kind != c.kind {
				t.Fatalf("%d %s, want %d %s", r.Status, kind, c.status, c.kind)
			}
			p.agree(2_100, 2_100_000)
		})
	}
	// a provider that trades with nobody has no such channel
	if r := send(good, key, "/a.bin?slice=0-19999"); r.Status != http.StatusOK {
		t.Fatalf("%d %v", r.Status, r.Problem)
	}
	p.alice.Put("b.bin", edgetest.Pattern(40_000, 4))
	p.alice.Restart()
	if r := send(good, key, "/b.bin?slice=0-39999"); r.Status != 402 || r.Problem.Type != mpp.ProblemVerificationFailed && r.Problem.Type != mpp.ProblemInsufficientBalance {
		t.Fatalf("two chunks on a credit of one: %d %v", r.Status, r.Problem)
	}
	p.agree(2_100, 2_100_000)
}
