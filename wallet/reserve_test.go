package wallet

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/store"
	"github.com/spillway/spillway/store/memory"
)

// Coins stay reserved while their transaction comes and goes, and are forgotten
// when its spend is buried.
func TestReservationsLast(t *testing.T) {
	l := newLedger()
	s := memory.New()
	w := open(t, l, s)
	l.pays(receive(t, w), 100_000, true)
	f := fund(t, w, 10_000)
	again := open(t, l, s) // after a restart
	if _, err := again.Fund(t.Context(), outs(10_000), perVB); !errors.Is(err, ErrInsufficient) {
		t.Fatalf("the coin was promised twice: %v", err)
	}
	if err := l.Broadcast(t.Context(), f.Tx); err != nil {
		t.Fatal(err)
	}
	l.drop(f.Tx.TxHash()) // evicted: the coin is back, and still promised
	if _, err := again.Fund(t.Context(), outs(10_000), perVB); !errors.Is(err, ErrInsufficient) {
		t.Fatalf("the coin was promised twice after an eviction: %v", err)
	}
	if err := l.Broadcast(t.Context(), f.Tx); err != nil {
		t.Fatal(err)
	}
	l.mine(5)
	fund(t, again, 10_000)
	if held, _ := again.Reservations(t.Context()); len(held) != 2 {
		t.Fatalf("at depth 5: %v", held)
	}
	l.reorg(5)
	if held, _ := again.Reservations(t.Context()); len(held) != 2 {
		t.Fatalf("after a reorg: %v", held)
	}
	l.mine(6)
	l.pays(receive(t, again), 5000, true)
	fund(t, again, 1000) // funding looks at what is buried
	held, err := again.Reservations(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range held {
		if r.Txid == f.Tx.TxHash().String() {
			t.Fatalf("still reserved at depth 6: %v", r)
		}
	}
}

func TestRelease(t *testing.T) {
	l := newLedger()
	s := memory.New()
	w := open(t, l, s)
	l.pays(receive(t, w), 100_000, true)
	for range 3 * gapLimit { // failing again and again uses up no addresses
		f := fund(t, w, 10_000)
		if err := w.Release(t.Context(), f.Tx); err != nil {
			t.Fatal(err)
		}
		if err := w.Release(t.Context(), f.Tx); err != nil {
			t.Fatalf("released twice: %v", err)
		}
	}
	if x, err := w.index(t.Context(), true); err != nil || x.Next != 0 {
		t.Fatalf("%d internal addresses used, %v", x.Next, err)
	}
	balance(t, w, Balance{Confirmed: 100_000, Spendable: 100_000})
	a := fund(t, w, 10_000)
	b := a.Tx.Copy()
	b.TxOut[0].Value++ // another transaction with the same coin
	if err := w.Release(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	if held, _ := w.Reservations(t.Context()); len(held) != 1 || held[0].Txid != a.Tx.TxHash().String() || held[0].Value != 100_000 {
		t.Fatalf("another transaction's release freed the coin: %v", held)
	}
	if entries, err := s.List(t.Context(), bucketTx, ""); err != nil || len(entries) != 1 {
		t.Fatalf("%d transactions are kept, %v", len(entries), err)
	}
}

// Many wallets of many processes on one store never promise a coin twice.
func TestTwoWalletsOneStore(t *testing.T) {
	l := newLedger()
	s := memory.New()
	first := open(t, l, s)
	const coins = 8
	for range coins {
		l.pays(receive(t, first), 20_000, true)
	}
	type result struct {
		f   *Funded
		err error
	}
	results := make(chan result)
	for range coins + 2 {
		w := open(t, l, s)
		go func() {
			f, err := w.Fund(context.WithoutCancel(t.Context()), outs(15_000), perVB)
			results <- result{f, err}
		}()
	}
	spent, change, short := map[wire.OutPoint]bool{}, map[string]bool{}, 0
	var made []*Funded
	for range coins + 2 {
		r := <-results
		if r.err != nil {
			if !errors.Is(r.err, ErrInsufficient) {
				t.Error(r.err)
			}
			short++
			continue
		}
		for _, in := range r.f.Tx.TxIn {
			if spent[in.PreviousOutPoint] {
				t.Errorf("%v was promised twice", in.PreviousOutPoint)
			}
			spent[in.PreviousOutPoint] = true
		}
		to := fmt.Sprintf("%x", r.f.Tx.TxOut[r.f.ChangeIndex].PkScript)
		if change[to] {
			t.Errorf("two changes to one address")
		}
		change[to] = true
		made = append(made, r.f)
	}
	for _, f := range made {
		if err := l.Broadcast(t.Context(), f.Tx); err != nil {
			t.Error(err)
		}
	}
	if len(spent) != coins || short != 2 {
		t.Fatalf("%d of %d coins were used, %d were short", len(spent), coins, short)
	}
}

func TestFailingStore(t *testing.T) {
	l := newLedger()
	s := memory.New()
	w := open(t, l, s)
	l.pays(receive(t, w), 100_000, true)
	balance(t, w, Balance{Confirmed: 100_000, Spendable: 100_000})
	s.FailNext(store.ErrFull)
	if _, err := w.Fund(t.Context(), outs(10_000), perVB); !errors.Is(err, store.ErrFull) {
		t.Fatalf("a transaction left without a reservation: %v", err)
	}
	fund(t, w, 10_000)
	s.FailNext(store.ErrFull)
	if pk, err := w.ReceiveScript(t.Context()); !errors.Is(err, store.ErrFull) || pk != nil {
		t.Fatalf("an address left unsaved: %x, %v", pk, err)
	}
}
