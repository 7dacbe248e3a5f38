package wallet

import (
	"bytes"
	"errors"
	"testing"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/store/memory"
)

func scriptAt(t *testing.T, w *Wallet, change bool, index uint32) []byte {
	t.Helper()
	s, err := w.slot(path{change, index})
	if err != nil {
		t.Fatal(err)
	}
	return s.pkScript
}

// A seed restored into an empty store finds all that lies within the gap limit on
// both chains, and goes on behind it.
func TestRestoreFromTheSeed(t *testing.T) {
	l := newLedger()
	old := open(t, l, memory.New())
	for _, c := range []struct {
		change bool
		index  uint32
		sat    int64
	}{{false, 0, 1000}, {false, 19, 2000}, {false, 39, 4000}, {true, 5, 8000}, {true, 25, 16_000}, {false, 80, 32_000}} {
		l.pays(scriptAt(t, old, c.change, c.index), c.sat, true)
	}
	w := open(t, l, memory.New())
	const found = 1000 + 2000 + 4000 + 8000 + 16_000 // not the one that 20 unused ones hide
	balance(t, w, Balance{Confirmed: found, Spendable: found})
	if pk := receive(t, w); !bytes.Equal(pk, scriptAt(t, w, false, 40)) {
		t.Fatal("the first fresh address is not the one behind the last that was used")
	}
	change, err := w.ChangeScript(t.Context())
	if err != nil || !bytes.Equal(change, scriptAt(t, w, true, 26)) {
		t.Fatalf("change %x, %v", change, err)
	}
	f := fund(t, w, 30_000-1000)
	if len(f.Tx.TxIn) != 4 {
		t.Fatalf("%d inputs", len(f.Tx.TxIn))
	}
}

// A restart goes on where the store ends: nothing is searched and no address repeats.
func TestRestart(t *testing.T) {
	l := newLedger()
	s := memory.New()
	w := open(t, l, s)
	seen := map[string]bool{}
	for range 5 {
		pk := receive(t, w)
		if seen[string(pk)] {
			t.Fatal("an address twice")
		}
		seen[string(pk)] = true
		w = open(t, l, s)
	}
	x, err := w.index(t.Context(), false)
	if err != nil || x.Next != 5 {
		t.Fatalf("%+v, %v", x, err)
	}
}

// A spent coin's address still counts as used when a seed is restored.
func TestRestoreCountsWhatWasSpent(t *testing.T) {
	l := newLedger()
	w := open(t, l, memory.New())
	l.pays(receive(t, w), 100_000, true)
	if _, err := w.Send(t.Context(), elsewhere, All, perVB); err != nil {
		t.Fatal(err)
	}
	l.mine(1)
	restored := open(t, l, memory.New())
	if pk := receive(t, restored); !bytes.Equal(pk, scriptAt(t, w, false, 1)) {
		t.Fatal("a used address was handed out again")
	}
}

// Another device with the same seed pays to an address beyond the last one here:
// the coin is found, and its address is not handed out.
func TestCoinBeyondTheIndex(t *testing.T) {
	l := newLedger()
	w := open(t, l, memory.New())
	receive(t, w)
	l.pays(scriptAt(t, w, false, 12), 50_000, true)
	balance(t, w, Balance{Confirmed: 50_000, Spendable: 50_000})
	if pk := receive(t, w); !bytes.Equal(pk, scriptAt(t, w, false, 13)) {
		t.Fatal("not the address behind it")
	}
}

// Twenty unused addresses in a row are the most: a further one would not be found
// from the seed. They are handed out in turn, until one is used.
func TestGapIsNeverExceeded(t *testing.T) {
	l := newLedger()
	w := open(t, l, memory.New())
	first := map[string]int{}
	for range 3 * gapLimit {
		first[string(receive(t, w))]++
	}
	if len(first) != gapLimit {
		t.Fatalf("%d addresses are out, none is used", len(first))
	}
	for pk, times := range first {
		if times != 3 {
			t.Fatalf("%x was handed out %d times", pk, times)
		}
	}
	l.pays(scriptAt(t, w, false, 7), 1000, true)
	if pk := receive(t, w); !bytes.Equal(pk, scriptAt(t, w, false, gapLimit)) {
		t.Fatal("no fresh address after one was used")
	}
	restored := open(t, l, memory.New())
	balance(t, restored, Balance{Confirmed: 1000, Spendable: 1000})
}

func TestSend(t *testing.T) {
	l := newLedger()
	w := open(t, l, memory.New())
	l.pays(receive(t, w), 100_000, true)
	f, err := w.Send(t.Context(), elsewhere, 30_000, perVB)
	if err != nil {
		t.Fatal(err)
	}
	checkFunded(t, f, perVB, 30_000)
	if _, err := l.Tx(t.Context(), f.Tx.TxHash()); err != nil {
		t.Fatalf("not broadcast: %v", err)
	}
	l.pays(receive(t, w), 500, true)
	l.pays(receive(t, w), 40, true) // not worth its fee
	all, err := w.Send(t.Context(), elsewhere, All, perVB)
	if err != nil {
		t.Fatal(err)
	}
	want := 100_000 - 30_000 - f.Fee + 500 - all.Fee
	checkFunded(t, all, perVB, want)
	if len(all.Tx.TxIn) != 2 || all.ChangeIndex != -1 {
		t.Fatalf("%d inputs, change at %d", len(all.Tx.TxIn), all.ChangeIndex)
	}
	balance(t, w, Balance{Confirmed: 40, Spendable: 40})
	_, err = w.Send(t.Context(), elsewhere, All, perVB)
	if !errors.Is(err, ErrInsufficient) {
		t.Fatalf("%v", err)
	}
}

// Coins that a killed process had reserved for a channel that was never saved are
// free again after some blocks; those of channels and of payments are not.
func TestReleaseOrphans(t *testing.T) {
	l := newLedger()
	s := memory.New()
	w := open(t, l, s)
	for range 3 {
		l.pays(receive(t, w), 100_000, true)
	}
	orphan, channel := fund(t, w, 1000), fund(t, w, 1000)
	if _, err := w.Send(t.Context(), elsewhere, 1000, perVB); err != nil {
		t.Fatal(err)
	}
	known := func(txid string) bool { return txid == channel.Tx.TxHash().String() }
	w = open(t, l, s)
	for _, c := range []struct {
		blocks uint32
		freed  int
	}{{5, 0}, {1, 1}, {10, 0}} {
		l.height += c.blocks
		if freed, err := w.ReleaseOrphans(t.Context(), 6, known); err != nil || freed != c.freed {
			t.Fatalf("%d blocks later: %d, %v", c.blocks, freed, err)
		}
	}
	held, err := w.Reservations(t.Context())
	if err != nil || len(held) != 2 {
		t.Fatalf("%v, %v", held, err)
	}
	for _, r := range held {
		if r.Txid == orphan.Tx.TxHash().String() {
			t.Fatal("still reserved")
		}
	}
}

// A payment that the chain refuses leaves its coins free.
func TestSendRefused(t *testing.T) {
	l := newLedger()
	w := open(t, l, memory.New())
	l.pays(receive(t, w), 100_000, true)
	l.refuse = reject("no reason")
	if _, err := w.Send(t.Context(), elsewhere, 5000, perVB); !errors.Is(err, chain.ErrRejected) {
		t.Fatal(err)
	}
	balance(t, w, Balance{Confirmed: 100_000, Spendable: 100_000})
	if err := w.Rebroadcast(t.Context()); err != nil {
		t.Fatal(err)
	}
	balance(t, w, Balance{Confirmed: 100_000, Spendable: 100_000})
}

// A payment whose broadcast is not answered is saved, keeps its coins, and is sent
// again: after a restart, after an eviction, after a reorg; funding never is.
func TestRebroadcast(t *testing.T) {
	l := newLedger()
	s := memory.New()
	w := open(t, l, s)
	l.pays(receive(t, w), 100_000, true)
	l.pays(receive(t, w), 100_000, true)
	held := fund(t, w, 1000) // T1 of a channel: its payer decides when it leaves
	l.lossy = true
	f, err := w.Send(t.Context(), elsewhere, 30_000, perVB)
	if !errors.Is(err, chain.ErrUnavailable) || f == nil {
		t.Fatalf("%v, %v", f, err)
	}
	l.lossy = false
	l.drop(f.Tx.TxHash())
	w = open(t, l, s)
	if err := w.Rebroadcast(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Tx(t.Context(), f.Tx.TxHash()); err != nil {
		t.Fatalf("not sent again: %v", err)
	}
	if _, err := l.Tx(t.Context(), held.Tx.TxHash()); !errors.Is(err, chain.ErrNotFound) {
		t.Fatalf("a channel's funding was broadcast: %v", err)
	}
	if _, err := w.Fund(t.Context(), outs(90_000), perVB); !errors.Is(err, ErrInsufficient) {
		t.Fatalf("its coin was used again: %v", err)
	}
}

// Cancel takes the coins of a transaction back that is not mined, at a higher fee.
func TestCancel(t *testing.T) {
	for _, sent := range []bool{true, false} {
		l := newLedger()
		w := open(t, l, memory.New())
		l.pays(receive(t, w), 100_000, true)
		f := fund(t, w, 50_000)
		if sent {
			if err := l.Broadcast(t.Context(), f.Tx); err != nil {
				t.Fatal(err)
			}
		}
		c, err := w.Cancel(t.Context(), f.Tx.TxHash(), perVB)
		if err != nil {
			t.Fatal(err)
		}
		if err := script.Execute(c.Tx, c.Prevouts); err != nil {
			t.Fatal(err)
		}
		if c.Fee < f.Fee+script.VSize(c.Tx) || len(c.Tx.TxOut) != 1 {
			t.Fatalf("fee %d after %d", c.Fee, f.Fee)
		}
		if _, err := l.Tx(t.Context(), f.Tx.TxHash()); !errors.Is(err, chain.ErrNotFound) {
			t.Fatalf("the first one is still there: %v", err)
		}
		balance(t, w, Balance{Unconfirmed: 100_000 - c.Fee, Spendable: 100_000 - c.Fee})
		if _, err := w.Cancel(t.Context(), f.Tx.TxHash(), perVB); err == nil {
			t.Fatal("cancelled twice")
		}
	}
}

// A cancellation that comes too late changes nothing.
func TestCancelTooLate(t *testing.T) {
	l := newLedger()
	w := open(t, l, memory.New())
	l.pays(receive(t, w), 100_000, true)
	f := fund(t, w, 50_000)
	if err := l.Broadcast(t.Context(), f.Tx); err != nil {
		t.Fatal(err)
	}
	l.mine(1)
	if _, err := w.Cancel(t.Context(), f.Tx.TxHash(), perVB); !errors.Is(err, chain.ErrRejected) {
		t.Fatal(err)
	}
	held, err := w.Reservations(t.Context())
	if err != nil || len(held) != 1 || held[0].Txid != f.Tx.TxHash().String() {
		t.Fatalf("%v, %v", held, err)
	}
	if _, err := w.Cancel(t.Context(), f.Tx.TxHash(), 0); !errors.Is(err, ErrRate) {
		t.Fatal(err)
	}
}

func TestHistory(t *testing.T) {
	l := newLedger()
	w := open(t, l, memory.New())
	coin := l.pays(receive(t, w), 100_000, true)
	l.mine(1)
	f, err := w.Send(t.Context(), elsewhere, 30_000, perVB)
	if err != nil {
		t.Fatal(err)
	}
	got, err := w.History(t.Context())
	if err != nil || len(got) != 2 {
		t.Fatalf("%v, %v", got, err)
	}
	if got[0] != (HistoryEntry{Txid: f.Tx.TxHash(), Net: -30_000 - f.Fee, Fee: f.Fee}) {
		t.Fatalf("%+v", got[0])
	}
	if got[1] != (HistoryEntry{Txid: coin.Hash, Net: 100_000, Confirmed: true, Height: 200}) {
		t.Fatalf("%+v", got[1])
	}
}

// Sign adds a fee input to somebody else's transaction and leaves the rest alone.
func TestSign(t *testing.T) {
	l := newLedger()
	w := open(t, l, memory.New())
	mine := l.pays(receive(t, w), 10_000, true)
	theirs := l.pays(elsewhere, 20_000, true)
	tx := wire.NewMsgTx(3)
	tx.AddTxIn(&wire.TxIn{PreviousOutPoint: theirs, Sequence: sequence})
	tx.AddTxIn(&wire.TxIn{PreviousOutPoint: mine, Sequence: sequence})
	tx.AddTxOut(wire.NewTxOut(25_000, elsewhere))
	prevouts := map[wire.OutPoint]*wire.TxOut{mine: wire.NewTxOut(10_000, scriptAt(t, w, false, 0))}
	if _, err := w.Sign(t.Context(), tx, prevouts); !errors.Is(err, ErrOutput) {
		t.Fatalf("signed without knowing every prevout: %v", err)
	}
	prevouts[theirs] = wire.NewTxOut(20_000, elsewhere)
	signed, err := w.Sign(t.Context(), tx, prevouts)
	if err != nil || signed != 1 || len(tx.TxIn[0].Witness) != 0 || len(tx.TxIn[1].Witness) != 1 {
		t.Fatalf("signed %d, %v", signed, err)
	}
	if err := script.Execute(tx, prevouts); err == nil {
		t.Fatal("the other input has no signature")
	}
}
