package tower_test

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"testing"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/internal/pairtest"
	"github.com/spillway/spillway/payee"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/store"
	"github.com/spillway/spillway/store/memory"
	"github.com/spillway/spillway/store/sqlite"
	"github.com/spillway/spillway/watch"
	"github.com/spillway/spillway/watch/tower"
)

var kinds = []script.Construction{script.Taproot, script.Multisig, script.MultisigP2SH}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// stand is a pair of whose payee a tower takes care.
type stand struct {
	*pairtest.Pair
	t      *testing.T
	disk   store.Store
	tower  *tower.Tower
	events []tower.Event
	cfg    tower.Config
}

const provider = "ada"

func newStand(t *testing.T) *stand {
	t.Helper()
	s := &stand{Pair: pairtest.New(t), t: t, disk: memory.New()}
	_, err := tower.AddProvider(t.Context(), s.disk, provider, [32]byte{1})
	must(t, err)
	s.restart()
	return s
}

// restart makes the tower's process anew; only its disk is as it was.
func (s *stand) restart() {
	s.t.Helper()
	cfg := s.cfg
	cfg.Store, cfg.Chain, cfg.Notify = s.disk, s.Chain, func(e tower.Event) { s.events = append(s.events, e) }
	var err error
	s.tower, err = tower.New(cfg)
	must(s.t, err)
}

func (s *stand) step() {
	s.t.Helper()
	must(s.t, (&watch.Watch{Chain: s.Chain, Drivers: []watch.Driver{s.tower}}).Step(s.t.Context()))
}

// ladder is what the payee would hand over now.
func (s *stand) ladder(id string) tower.Handoff {
	s.t.Helper()
	rungs, err := s.Payee.Rungs(s.t.Context(), id, script.FeeRatePerVB(1000))
	must(s.t, err)
	r, err := s.Payee.Record(s.t.Context(), id)
	must(s.t, err)
	return tower.Handoff{Channel: r.Terms.Outpoint, Expiry: r.Terms.Expiry, Margin: r.Terms.Margin, Ladder: pack(s.t, rungs)}
}

func pack(t *testing.T, rungs []payee.Rung) tower.Ladder {
	t.Helper()
	var txs []*wire.MsgTx
	for _, r := range rungs {
		tx, err := channel.DecodeTx(r.Tx)
		must(t, err)
		txs = append(txs, tx)
	}
	l, err := tower.Pack(txs)
	must(t, err)
	return l
}

// bought opens a channel, buys n chunks that are all paid, and hands the ladder over.
func (s *stand) bought(kind script.Construction, n int) string {
	s.t.Helper()
	id := s.Open(kind)
	s.buy(id, 0, n)
	taken, err := s.tower.Take(s.t.Context(), provider, s.ladder(id))
	must(s.t, err)
	if !taken.Stored || taken.Amount != int64(n)*pairtest.Price/1000 {
		s.t.Fatalf("taken %+v", taken)
	}
	return id
}

func (s *stand) buy(id string, from, to int) {
	s.t.Helper()
	for i := from; i < to; i++ {
		_, err := s.Buy(id, uint64(i))
		must(s.t, err)
	}
	_, err := s.Buy(id)
	must(s.t, err)
}

func (s *stand) mineTo(height uint32) {
	s.t.Helper()
	s.Mine(s.blocksTo(height))
}

// blocksTo is how many blocks are missing to a height.
func (s *stand) blocksTo(height uint32) int {
	s.t.Helper()
	tip, err := s.Chain.Tip(s.t.Context())
	must(s.t, err)
	return int(height - tip.Height)
}

func (s *stand) terms(id string) channel.Terms {
	s.t.Helper()
	r, err := s.Payee.Record(s.t.Context(), id)
	must(s.t, err)
	return r.Terms
}

func (s *stand) spend(id string) *chain.Spend {
	s.t.Helper()
	at, err := channel.ParseOutpoint(id)
	must(s.t, err)
	spend, err := s.Chain.Spend(s.t.Context(), wire.OutPoint(at))
	must(s.t, err)
	return spend
}

// settled checks that one of the tower's rungs spends the channel in a block and
// pays the payee what was handed over, and that the tower forgets it once buried.
func (s *stand) settled(id string, amount int64) {
	s.t.Helper()
	spend := s.spend(id)
	if spend == nil || !spend.Confirmed {
		s.t.Fatalf("the channel's spend is %+v, not in a block", spend)
	}
	info, err := s.Chain.Tx(s.t.Context(), spend.Txid)
	must(s.t, err)
	var last tower.Event
	for _, e := range s.events {
		if e.Kind == "rung" && e.Txid == spend.Txid.String() {
			last = e
		}
	}
	if last.Txid == "" {
		s.t.Fatalf("%s is no rung that the tower told of: %+v", spend.Txid, s.events)
	}
	out := info.Tx.TxOut[len(info.Tx.TxOut)-1]
	if !bytes.Equal(out.PkScript, s.Payout) || out.Value != amount-last.Fee {
		s.t.Fatalf("%d sat went to %x, want %d sat less %d", out.Value, out.PkScript, amount, last.Fee)
	}
	s.Mine(int(s.Policy.Burial))
	s.step()
	if left, err := s.tower.Entries(s.t.Context(), ""); err != nil || len(left) > 0 {
		s.t.Fatalf("buried, and the tower still holds %v, %v", left, err)
	}
	for _, p := range s.providers() {
		if p.Channels != 0 || p.Bytes != 0 {
			s.t.Fatalf("%s is still charged for %d channels, %d bytes", p.Name, p.Channels, p.Bytes)
		}
	}
}

func (s *stand) providers() []tower.Provider {
	s.t.Helper()
	all, err := tower.Providers(s.t.Context(), s.disk)
	must(s.t, err)
	return all
}

// The provider is dead. At the margin the tower settles, each construction.
func TestDeadlinePasses(t *testing.T) {
	for _, kind := range kinds {
		t.Run(string(kind), func(t *testing.T) {
			s := newStand(t)
			id := s.bought(kind, 5)
			s.mineTo(s.terms(id).Expiry - s.terms(id).Margin - 1)
			s.step()
			if spend := s.spend(id); spend != nil {
				t.Fatalf("before the margin the tower broadcast %s", spend.Txid)
			}
			s.Mine(1)
			s.step()
			s.step()
			s.Mine(1)
			s.step()
			s.settled(id, 5_000)
		})
	}
}

// The provider is dead and the tower was away: the payer's refund is in the mempool
// at the expiry. The tower replaces it.
func TestRefundAtTheExpiry(t *testing.T) {
	for _, kind := range kinds {
		t.Run(string(kind), func(t *testing.T) {
			s := newStand(t)
			id := s.bought(kind, 5)
			s.mineTo(s.terms(id).Expiry)
			refund, err := s.Payer.Refund(t.Context(), id)
			must(t, err)
			if spend := s.spend(id); spend == nil || spend.Txid.String() != refund.Txid {
				t.Fatalf("the refund %s is not in the mempool: %v", refund.Txid, spend)
			}
			s.restart()
			s.step()
			if last := s.events[len(s.events)-1]; last.Why != tower.RefundSeen {
				t.Fatalf("the tower did %+v", last)
			}
			s.Mine(1)
			s.settled(id, 5_000)
		})
	}
}

// An older settlement is in the mempool, long before the margin: the tower's newer
// state replaces it at once.
func TestOlderStateAppears(t *testing.T) {
	for _, kind := range kinds {
		t.Run(string(kind), func(t *testing.T) {
			s := newStand(t)
			id := s.bought(kind, 5)
			old, err := s.Payee.Rungs(t.Context(), id, script.FeeRatePerVB(3))
			must(t, err)
			s.buy(id, 5, 8)
			_, err = s.tower.Take(t.Context(), provider, s.ladder(id))
			must(t, err)
			tx, err := channel.DecodeTx(old[len(old)-1].Tx)
			must(t, err)
			must(t, s.Chain.Broadcast(t.Context(), tx))
			s.step()
			if last := s.events[len(s.events)-1]; last.Why != tower.OlderState {
				t.Fatalf("the tower did %+v", last)
			}
			s.Mine(1)
			s.settled(id, 8_000)
		})
	}
}

// The tower waits at the lowest rung as long as the others can still come in time. Then
// every block that passes a rung over is answered with the next one, also after a
// restart, until the highest is there six blocks before the expiry.
// A settlement of the provider's that pays the payee as much is not raced. Where it got
// stuck, because the provider died, the tower takes over when rungs above it are due.
// A provider that is alive and its tower do not drive each other's fees up, to the last
// block before the expiry: once the provider has answered, the tower leaves it alone,
// whoever came first.
// A cooperative close that pays what was handed over is no older state.
func TestCooperativeCloseIsLeftAlone(t *testing.T) {
	s := newStand(t)
	id := s.bought(script.Taproot, 10)
	begun, err := s.Payer.BeginClose(t.Context(), id)
	must(t, err)
	answer, err := s.Payee.Close(t.Context(), id, channel.CloseRequest{Update: begun.Update, PayerNonce: begun.Nonce[:]})
	must(t, err)
	_, err = s.Payer.FinishClose(t.Context(), id, begun, answer.Tx, [66]byte(answer.PayeeNonce), answer.Partial)
	must(t, err)
	s.step()
	if spend := s.spend(id); spend == nil || spend.Txid.String() != answer.Txid {
		t.Fatalf("in the mempool is %v, not the close %s", spend, answer.Txid)
	}
	s.Mine(7)
	s.step()
	if left, err := s.tower.Entries(t.Context(), ""); err != nil || len(left) > 0 {
		t.Fatalf("closed, and the tower still holds %v, %v", left, err)
	}
}

// A reorg that undoes the settlement, or T1, is another look.
// A rung that the node evicts is broadcast again, at the rung that the tip demands.
// From the expiry on the payer races the tower with dearer and dearer refunds: the
// tower answers each with the lowest rung that replaces it, as long as it has one.
// A channel that is paid up to its capacity has no rest: its rungs pay the payee alone,
// and the flag of the payer's half-signature is another one.
func TestWholeCapacity(t *testing.T) {
	for _, kind := range kinds {
		t.Run(string(kind), func(t *testing.T) {
			s := newStand(t)
			id := s.bought(kind, pairtest.Capacity*1000/pairtest.Price)
			held, err := s.tower.Entries(t.Context(), provider)
			must(t, err)
			if e := held[0]; e.Amount != pairtest.Capacity || len(e.Rest) > 0 {
				t.Fatalf("%+v", e)
			}
			s.mineTo(s.terms(id).Expiry)
			refund, err := s.Payer.Refund(t.Context(), id)
			must(t, err)
			s.step()
			if spend := s.spend(id); spend == nil || spend.Txid.String() == refund.Txid {
				t.Fatal("the refund is not replaced")
			}
			s.Mine(1)
			s.settled(id, pairtest.Capacity)
		})
	}
}

// What a provider is told of its ladders is the payer's half-signature, good for the
// amount, and never the signature that would complete a rung.
func TestHalves(t *testing.T) {
	for _, kind := range kinds {
		for _, n := range []int{1, 20, 50} { // one rung, several, no rest
			s := newStand(t)
			id := s.Open(kind)
			s.buy(id, 0, n)
			h := s.ladder(id)
			halves, err := h.Halves()
			must(t, err)
			ch, err := s.terms(id).Script()
			must(t, err)
			if len(halves) != 1 {
				t.Fatalf("%s, %d chunks: %d halves", kind, n, len(halves))
			}
			u := channel.Update{Amount: uint64(n) * 1000, Signature: halves[0]}
			must(t, s.terms(id).VerifyUpdate(ch, u))
		}
	}
}

// A ladder costs a signature of new bytes for each rung but the first.
func TestLadderIsCompact(t *testing.T) {
	for _, kind := range kinds {
		s := newStand(t)
		id := s.Open(kind)
		s.buy(id, 0, 40)
		h := s.ladder(id)
		if len(h.More) < 6 {
			t.Fatalf("%s: %d rungs for 40,000 sat", kind, len(h.More)+1)
		}
		for i, step := range h.More {
			if kind == script.Taproot && len(step.Signature) != 64 || len(step.Signature) > 72 {
				t.Errorf("%s: rung %d has %d new bytes", kind, i+1, len(step.Signature))
			}
		}
	}
}

// What is handed over survives the tower's end, on a real disk.
func TestRestartOnDisk(t *testing.T) {
	s := newStand(t)
	path := filepath.Join(t.TempDir(), "spillway.db")
	open := func() {
		t.Helper()
		db, err := sqlite.Open(t.Context(), path, sqlite.Options{Shared: true})
		must(t, err)
		s.disk = db
	}
	open()
	_, err := tower.AddProvider(t.Context(), s.disk, provider, [32]byte{1})
	must(t, err)
	s.restart()
	id := s.bought(script.Taproot, 5)
	must(t, s.disk.Close())
	open()
	s.restart()
	s.mineTo(s.terms(id).Expiry - s.terms(id).Margin)
	s.step()
	s.Mine(1)
	s.settled(id, 5_000)
	must(t, s.disk.Close())
}

// failing is a disk that fails.
type failing struct {
	store.Store
	err error
}

func (f *failing) Commit(ctx context.Context, ops ...store.Op) error {
	if f.err != nil {
		return f.err
	}
	return f.Store.Commit(ctx, ops...)
}

// What is not saved is not acknowledged.
func TestSavedBeforeAcknowledged(t *testing.T) {
	s := newStand(t)
	disk := &failing{Store: s.disk}
	s.disk = disk
	s.restart()
	id := s.Open(script.Taproot)
	s.buy(id, 0, 5)
	disk.err = store.ErrFull
	if _, err := s.tower.Take(t.Context(), provider, s.ladder(id)); !errors.Is(err, store.ErrFull) {
		t.Fatalf("acknowledged on a full disk: %v", err)
	}
	if len(s.events) > 0 {
		t.Fatalf("told of %v", s.events)
	}
	disk.err = nil
	if taken, err := s.tower.Take(t.Context(), provider, s.ladder(id)); err != nil || !taken.Stored {
		t.Fatalf("%+v, %v", taken, err)
	}
}
