package wallet

import (
	"errors"
	"testing"

	"github.com/btcsuite/btcd/chainhash/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/store/memory"
)

// An unconfirmed funding at too low a rate is hurried by a child of its change: the
// funding keeps its id, and both together pay what was asked for.
func TestRaiseFee(t *testing.T) {
	n, s := newNode(t), memory.New()
	w := open(t, n, s)
	faucet(t, n, receive(t, w), btc)
	mine(t, n, 1)
	f := fund(t, w, btc/2)
	if err := n.Broadcast(t.Context(), f.Tx); err != nil {
		t.Fatal(err)
	}
	rate := 20 * perVB
	c, err := w.RaiseFee(t.Context(), f.Tx.TxHash(), rate)
	if err != nil {
		t.Fatal(err)
	}
	if err := script.Execute(c.Tx, c.Prevouts); err != nil {
		t.Fatal(err)
	}
	size := script.VSize(f.Tx) + script.VSize(c.Tx)
	if paid := f.Fee + c.Fee; paid < rate.Fee(size) || paid > rate.Fee(size+2) {
		t.Fatalf("both pay %d sat for %d vB", paid, size)
	}
	if len(c.Tx.TxIn) != 1 || c.Tx.TxIn[0].PreviousOutPoint.Hash != f.Tx.TxHash() {
		t.Fatalf("the child spends %v", c.Tx.TxIn[0].PreviousOutPoint)
	}
	left := btc - btc/2 - f.Fee - c.Fee
	balance(t, w, Balance{Unconfirmed: left, Spendable: left})

	// a child at the same rate would change nothing; one that pays more hangs on the first
	if _, err := w.RaiseFee(t.Context(), c.Tx.TxHash(), rate); !errors.Is(err, ErrRateReached) {
		t.Fatal(err)
	}
	if _, err := w.RaiseFee(t.Context(), f.Tx.TxHash(), 2*rate); !errors.Is(err, ErrNoChange) {
		t.Fatal(err)
	}
	again, err := w.RaiseFee(t.Context(), c.Tx.TxHash(), 2*rate)
	if err != nil {
		t.Fatal(err)
	}
	size += script.VSize(again.Tx)
	if paid := f.Fee + c.Fee + again.Fee; paid < (2 * rate).Fee(size) {
		t.Fatalf("three pay %d sat for %d vB", paid, size)
	}
	mine(t, n, 1)
	left -= again.Fee
	balance(t, w, Balance{Confirmed: left, Spendable: left})
	if _, err := w.RaiseFee(t.Context(), f.Tx.TxHash(), 5*rate); !errors.Is(err, ErrMined) {
		t.Fatal(err)
	}
}

// Where the change is too small a confirmed coin helps; where there is none it is
// said how much is missing. Nothing is reserved by a refusal.
func TestRaiseFeeWithAnotherCoin(t *testing.T) {
	n := newNode(t)
	w := open(t, n, memory.New())
	faucet(t, n, receive(t, w), 51_000)
	mine(t, n, 1)
	f := fund(t, w, 50_000)
	if err := n.Broadcast(t.Context(), f.Tx); err != nil {
		t.Fatal(err)
	}
	rate := 10 * perVB
	var missing *InsufficientError
	if _, err := w.RaiseFee(t.Context(), f.Tx.TxHash(), rate); !errors.As(err, &missing) || missing.Available != 51_000-50_000-f.Fee {
		t.Fatal(err)
	}
	faucet(t, n, receive(t, w), 20_000)
	if _, err := w.RaiseFee(t.Context(), f.Tx.TxHash(), rate); !errors.Is(err, ErrInsufficient) {
		t.Fatalf("a stranger's unconfirmed coin was spent: %v", err)
	}
	if held, err := w.Reservations(t.Context()); err != nil || len(held) != 1 {
		t.Fatalf("%v, %v", held, err)
	}
	mine(t, n, 1)
	faucet(t, n, receive(t, w), 51_000)
	faucet(t, n, receive(t, w), 500_000)
	mine(t, n, 1)
	g := fund(t, w, 499_000)
	if err := n.Broadcast(t.Context(), g.Tx); err != nil {
		t.Fatal(err)
	}
	c, err := w.RaiseFee(t.Context(), g.Tx.TxHash(), 30*perVB)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Tx.TxIn) < 2 {
		t.Fatalf("%d inputs pay %d sat", len(c.Tx.TxIn), c.Fee)
	}
	if err := script.Execute(c.Tx, c.Prevouts); err != nil {
		t.Fatal(err)
	}
}

// What cannot be raised is refused, each for its reason.
func TestRaiseFeeRefuses(t *testing.T) {
	n := newNode(t)
	w := open(t, n, memory.New())
	faucet(t, n, receive(t, w), btc)
	mine(t, n, 1)
	if _, err := w.RaiseFee(t.Context(), chainhash.Hash{1}, perVB); !errors.Is(err, ErrNotBuilt) {
		t.Fatal(err)
	}
	f := fund(t, w, 50_000)
	if _, err := w.RaiseFee(t.Context(), f.Tx.TxHash(), 9*perVB); !errors.Is(err, chain.ErrNotFound) {
		t.Fatal(err)
	}
	for _, rate := range []script.FeeRate{0, -1, maxRate + 1} {
		if _, err := w.RaiseFee(t.Context(), f.Tx.TxHash(), rate); !errors.Is(err, ErrRate) {
			t.Fatal(err)
		}
	}
}
