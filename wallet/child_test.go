package wallet

import (
	"errors"
	"testing"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/store"
	"github.com/spillway/spillway/store/memory"
)

// parentOf is an unconfirmed transaction of 30,000 sat to the wallet.
func parentOf(t *testing.T, l *ledger, w *Wallet, version int32, sat int64) *wire.MsgTx {
	t.Helper()
	op := l.pays(receive(t, w), sat, false)
	info := l.txs[op.Hash]
	delete(l.txs, op.Hash)
	info.Tx.Version = version
	l.txs[info.Tx.TxHash()] = info
	return info.Tx
}

// A child pays for its parent and itself, from the one output, in the parent's version; a
// dearer one takes its place, and pays at least 1 sat/vB more than the older one did.
func TestChild(t *testing.T) {
	for _, version := range []int32{2, 3} {
		l := newLedger()
		w := open(t, l, memory.New())
		parent := parentOf(t, l, w, version, 30_000)
		both := func(f *Funded) int64 { return script.VSize(parent) + script.VSize(f.Tx) }
		first, err := w.Child(t.Context(), parent, 0, 50, 5*perVB, 0)
		if err != nil {
			t.Fatal(err)
		}
		if len(first.Tx.TxIn) != 1 || len(first.Tx.TxOut) != 1 || first.Tx.Version != version || first.Tx.TxOut[0].Value != 30_000-first.Fee {
			t.Fatalf("%+v", first)
		}
		if want := (5 * perVB).Fee(both(first)) - 50; first.Fee < want || first.Fee > want+10 {
			t.Fatalf("a fee of %d sat, want %d", first.Fee, want)
		}
		second, err := w.Child(t.Context(), parent, 0, 50, 5*perVB+1, 0) // hardly more: it pays for its own relay
		if err != nil || second.Fee < first.Fee+script.VSize(second.Tx) {
			t.Fatalf("%+v, %v", second, err)
		}
		third, err := w.Child(t.Context(), parent, 0, 50, 20*perVB, 0)
		if err != nil || third.Fee < (20*perVB).Fee(both(third))-50 {
			t.Fatalf("%+v, %v", third, err)
		}
		l.refuse = reject("too cheap")
		if _, err := w.Child(t.Context(), parent, 0, 50, 21*perVB, 0); !errors.Is(err, chain.ErrRejected) {
			t.Fatalf("refused: %v", err)
		}
		held, err := w.Reservations(t.Context())
		if err != nil || len(held) != 1 || held[0].Txid != third.Tx.TxHash().String() {
			t.Fatalf("after a refusal the output is promised to %+v, %v", held, err)
		}
		rich := parentOf(t, l, w, version, 20_000)
		own, err := w.Child(t.Context(), rich, 0, 1_000_000, 2*perVB, 0) // what pays for itself: the child alone
		if err != nil || own.Fee < (2*perVB).Fee(script.VSize(own.Tx)) || own.Fee > (2*perVB).Fee(script.VSize(own.Tx)+2) {
			t.Fatalf("%+v, %v", own, err)
		}
		forged := parentOf(t, l, w, version, 20_000)
		if f, err := w.Child(t.Context(), forged, 0, -9_000, 2*perVB, 0); err != nil || f.Fee > (2*perVB).Fee(script.VSize(forged)+script.VSize(f.Tx)+2) {
			t.Fatalf("a fee below nothing: %+v, %v", f, err)
		}
	}
}

// What no child can be made of: nothing is reserved for it.
func TestNoChild(t *testing.T) {
	l := newLedger()
	w := open(t, l, memory.New())
	parent, small := parentOf(t, l, w, 3, 30_000), parentOf(t, l, w, 3, 700)
	foreign := wire.NewMsgTx(3)
	foreign.AddTxIn(&wire.TxIn{})
	foreign.AddTxOut(wire.NewTxOut(5_000, elsewhere))
	for _, c := range []struct {
		name  string
		tx    *wire.MsgTx
		index uint32
		rate  script.FeeRate
		want  error
	}{
		{"no such output", parent, 1, perVB, ErrOutput}, {"far off", parent, 1 << 31, perVB, ErrOutput}, {"somebody else's", foreign, 0, perVB, ErrOutput},
		{"no rate", parent, 0, 0, ErrRate}, {"less", parent, 0, -1, ErrRate}, {"more than there is", parent, 0, maxRate + 1, ErrRate},
		{"too little is left", small, 0, 3 * perVB, ErrInsufficient},
	} {
		if f, err := w.Child(t.Context(), c.tx, c.index, 0, c.rate, 0); !errors.Is(err, c.want) {
			t.Errorf("%s: %+v, %v", c.name, f, err)
		}
	}
	l.refuse = reject("not now")
	if _, err := w.Child(t.Context(), parent, 0, 0, perVB, 0); !errors.Is(err, chain.ErrRejected) {
		t.Errorf("refused: %v", err)
	}
	if held, err := w.Reservations(t.Context()); err != nil || len(held) != 0 {
		t.Fatalf("reserved: %+v, %v", held, err)
	}
	lent, err := w.Lend(t.Context(), "x", 1, perVB) // nothing confirmed is there
	if !errors.Is(err, ErrInsufficient) || lent != nil {
		t.Fatalf("%v, %v", lent, err)
	}
	l.pays(receive(t, w), 9_000, true)
	f := fund(t, w, 1_000) // its change is ours, and in no block
	if err := l.Broadcast(t.Context(), f.Tx); err != nil {
		t.Fatal(err)
	}
	if lent, err := w.Lend(t.Context(), "x", 1, perVB); !errors.Is(err, ErrInsufficient) {
		t.Fatalf("unconfirmed change was lent: %v, %v", lent, err)
	}
	g := fund(t, w, 1_000) // promised to what has two inputs or more, or is no child: left alone
	if _, err := w.Child(t.Context(), f.Tx, uint32(f.ChangeIndex), f.Fee, 9*perVB, 0); !errors.Is(err, store.ErrConflict) {
		t.Fatalf("taken from %s: %v", g.Tx.TxHash(), err)
	}
}
