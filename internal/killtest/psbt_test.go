//go:build linux && amd64

package killtest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	bip174 "github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/wallet"
)

// all plays every point of an opening from another wallet, for .ci/full.
var all = flag.Bool("all", false, "kill open --psbt at every kind of point that it passes, not at a few")

// steps of open --psbt: what is to be paid, the unsigned payment, the signed one.
var steps = []string{"pay", "sign", "open"}

// opening is a channel that another wallet funds, by processes.
type opening struct {
	*round
	t       *testing.T
	address string // that was told to pay
	id      string // of the channel, once it was told
	txid    chainhash.Hash
}

// TestOpenIsKilled: `open --psbt` is killed at points of each of its steps, and given
// again: the address that was told stays, nothing is sent before the channel is saved and
// its export is there, and the channel opens with the transaction that was signed.
func TestOpenIsKilled(t *testing.T) {
	s, err := NewStand(t.Context(), disk(t), os.Getenv("KILLTEST_BINARY"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	number := 1000
	o := newOpening(t, s, number)
	passed := o.play(t.Context(), "", Fault{})
	killed := 0
	for _, step := range steps {
		for _, f := range faultsOf(passed[step], *all) {
			number++
			t.Run(fmt.Sprintf("%s/%s %d", step, f.Point, f.N), func(t *testing.T) {
				o := newOpening(t, s, number)
				o.play(t.Context(), step, f)
				killed += o.out.Kills
			})
		}
	}
	if want := map[bool]int{false: 5, true: 40}[*all]; killed < want {
		t.Errorf("%d processes were killed, want at least %d", killed, want)
	}
	t.Logf("%d processes were killed; a calm opening passes %v", killed, passed)
}

func newOpening(t *testing.T, s *Stand, number int) *opening {
	return &opening{t: t, round: &round{stand: s, Round: Round{Number: number, Channel: "taproot"}, out: &Outcome{}, lives: map[string]int{},
		rand: rand.New(rand.NewPCG(uint64(number), 1))}}
}

// faultsOf are the points at which a step is killed: each kind's first and last, or a few.
func faultsOf(passed map[string]int, every bool) (all []Fault) {
	for name, n := range passed {
		switch {
		case name == AnyDisk || name == AnySync || name == "say" && !every:
		case every && n > 1:
			all = append(all, Fault{Point: name, N: 1}, Fault{Point: name, N: n})
		case every || name == "write wal" || strings.HasPrefix(name, "ask chain POST") || name == "sync file":
			all = append(all, Fault{Point: name, N: n})
		}
	}
	if !every && passed["sync wal"] > 1 {
		all = append(all, Fault{Point: "sync wal", N: passed["sync wal"]/2 + 1})
	}
	slices.SortFunc(all, func(a, b Fault) int { return strings.Compare(fmt.Sprint(a.Point, a.N), fmt.Sprint(b.Point, b.N)) })
	return all
}

func (o *opening) must(err error) {
	o.t.Helper()
	if err != nil {
		o.t.Fatalf("%v (in %s)", err, o.dir)
	}
}

// play opens a channel by three commands; the one of a step is killed once. It returns the
// points that each passed.
func (o *opening) play(ctx context.Context, at string, f Fault) map[string]map[string]int {
	o.must(o.prepare())
	o.must(o.begin(ctx))
	passed := map[string]map[string]int{}
	file := func(name string) string { return filepath.Join(o.dir, name) }
	for i, step := range steps {
		args := []string{"open", "http://" + o.host + "/f.bin", "--psbt", "--capacity", "100000sat", "--exports", file("exports"), "--channel", o.Channel}
		switch i {
		case 1:
			o.device(ctx, file("unsigned.psbt"), file("signed.psbt"))
			args = append(args, file("unsigned.psbt"))
		case 2:
			args = append(args, file("signed.psbt"))
		}
		fault := Fault{}
		if step == at {
			fault = f
		}
		passed[step] = o.step(ctx, step, fault, args)
	}
	o.sent(ctx, true)
	l, err := o.ask(ctx, "channels", "close", o.id)
	o.must(err)
	if l.text("closing_txid") == "" {
		o.t.Errorf("not closed: %v", l)
	}
	o.must(o.stopPayee(ctx))
	if !o.t.Failed() {
		o.must(os.RemoveAll(o.dir))
	}
	return passed
}

// begin starts the provider.
func (o *opening) begin(ctx context.Context) error {
	p, err := spawn(&trace{}, append([]string{o.stand.Binary, "serve", filepath.Join(o.dir, "files"), "--listen", o.host, "--chunks", fmt.Sprint(chunks), "--price", "16003sat/file"}, o.common()...), environment(o.dir), false)
	if err != nil {
		return err
	}
	o.payee = p
	o.t.Cleanup(func() {
		if err := p.kill(); err != nil {
			o.t.Error(err)
		}
	})
	up, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	return o.offers(up)
}

// step gives a command until it succeeds, the first time with a fault.
func (o *opening) step(ctx context.Context, step string, f Fault, args []string) map[string]int {
	for life := range 3 {
		tr := &trace{fault: f, chainHost: strings.TrimPrefix(o.stand.url, "http://")}
		p, err := spawn(tr, append(append([]string{o.stand.Binary}, args...), o.common()...), environment(o.dir), true)
		o.must(err)
		limit, cancel := context.WithTimeout(ctx, getLimit)
		err = p.wait(limit)
		cancel()
		o.must(errors.Join(err, p.kill()))
		if p.killed() {
			o.out.Kills++
			o.sent(ctx, false)
			f = Fault{}
			continue
		}
		l := p.last()
		if p.code() != 0 || l.text("type") != "result" {
			o.t.Fatalf("%s, life %d: exit %d: %s (in %s)", step, life+1, p.code(), p.said(), o.dir)
		}
		o.told(step, l)
		return tr.counts
	}
	o.t.Fatalf("%s did not end in three lives", step)
	return nil
}

// told notes what a step said, and that it says the same again.
func (o *opening) told(step string, l line) {
	switch got := l.text("step"); {
	case step == "pay" && got == "pay":
		o.address = l.text("address")
	case step == "sign" && got == "sign", step == "open" && got == "open":
		if o.id != "" && l.text("channel_id") != o.id || l.text("funding_txid") != o.txid.String() {
			o.t.Fatalf("%s: %v, after channel %q and funding %s", step, l, o.id, o.txid)
		}
		o.id = l.text("channel_id")
	default:
		o.t.Fatalf("%s: %v", step, l)
	}
}

// sent: what is on the chain, or must be, belongs to a channel that is saved and exported.
func (o *opening) sent(ctx context.Context, must bool) {
	if o.txid == (chainhash.Hash{}) {
		return
	}
	_, err := o.stand.chain.Tx(ctx, o.txid)
	if errors.Is(err, chain.ErrNotFound) && !must {
		return
	}
	o.must(err)
	if must && o.out.Kills == 0 && o.id == "" {
		o.t.Fatal("sent, and no channel was told of")
	}
	l, err := o.ask(ctx, "channels", "list")
	o.must(err)
	raw, err := json.Marshal(l)
	o.must(err)
	exports, err := os.ReadDir(filepath.Join(o.dir, "exports"))
	if err != nil || len(exports) == 0 || !bytes.Contains(raw, []byte(o.txid.String())) {
		o.t.Fatalf("%s was sent, and this is saved: %s; exported: %v, %v", o.txid, raw, exports, err)
	}
}

// device is the other wallet: it makes the payment that was asked for, and signs it.
func (o *opening) device(ctx context.Context, unsigned, signed string) {
	key, _ := btcec.PrivKeyFromBytes(bytes.Repeat([]byte{byte(o.Number), 0x21}, 16))
	own, err := txscript.PayToTaprootScript(txscript.ComputeTaprootKeyNoScript(key.PubKey()))
	o.must(err)
	coin, value := o.coin(ctx, own)
	to, err := wallet.ParseAddress(o.address, &chaincfg.RegressionNetParams)
	o.must(err)
	tx := wire.NewMsgTx(2)
	tx.AddTxIn(&wire.TxIn{PreviousOutPoint: coin, Sequence: wire.MaxTxInSequenceNum - 2})
	tx.AddTxOut(wire.NewTxOut(100_000, to))
	tx.AddTxOut(wire.NewTxOut(value-100_000-1_000, own))
	o.txid = tx.TxHash()
	p, err := bip174.NewFromUnsignedTx(tx)
	o.must(err)
	p.Inputs[0].WitnessUtxo = wire.NewTxOut(value, own)
	save := func(path string) {
		text, err := p.B64Encode()
		o.must(err)
		o.must(os.WriteFile(path, []byte(text+"\n"), 0o600))
	}
	save(unsigned)
	hashes := txscript.NewTxSigHashes(tx, txscript.NewCannedPrevOutputFetcher(own, value))
	p.Inputs[0].TaprootKeySpendSig, err = txscript.RawTxInTaprootSignature(tx, hashes, 0, value, own, []byte{}, txscript.SigHashDefault, key)
	o.must(err)
	save(signed)
}

// coin has the faucet pay 200,000 sat.
func (o *opening) coin(ctx context.Context, pkScript []byte) (at wire.OutPoint, value int64) {
	body := fmt.Sprintf(`{"script":"%x","sat":200000}`, pkScript)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, o.stand.url+"/faucet", strings.NewReader(body))
	o.must(err)
	resp, err := http.DefaultClient.Do(req)
	o.must(err)
	o.must(resp.Body.Close())
	coins, err := o.stand.chain.UTXOs(ctx, pkScript)
	o.must(err)
	if len(coins) == 0 {
		o.t.Fatalf("the faucet paid nothing: %s", resp.Status)
	}
	return coins[0].Outpoint, coins[0].Value
}
