package wallet

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/spillway/spillway/chain/devnet"
	"github.com/spillway/spillway/store/memory"
	"github.com/spillway/spillway/store/sqlite"
)

func newNode(t *testing.T) *devnet.Node {
	t.Helper()
	n, err := devnet.New(devnet.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

func faucet(t *testing.T, n *devnet.Node, pk []byte, sat int64) {
	t.Helper()
	if _, err := n.Faucet(t.Context(), pk, sat); err != nil {
		t.Fatal(err)
	}
}

func mine(t *testing.T, n *devnet.Node, blocks int) {
	t.Helper()
	if _, err := n.Mine(blocks); err != nil {
		t.Fatal(err)
	}
}

// The wallet on a real chain: 100 BTC out of one coin, the unconfirmed change spent
// on, a reorg, and the same seed in an empty folder.
func TestOnDevnet(t *testing.T) {
	n, s := newNode(t), memory.New()
	w := open(t, n, s)
	faucet(t, n, receive(t, w), 101*btc)
	balance(t, w, Balance{Unconfirmed: 101 * btc})
	if _, err := w.Fund(t.Context(), outs(btc), perVB); !errors.Is(err, ErrInsufficient) {
		t.Fatalf("a stranger's unconfirmed coin was spent: %v", err)
	}
	mine(t, n, 1)
	f := fund(t, w, 100*btc)
	if err := n.Broadcast(t.Context(), f.Tx); err != nil {
		t.Fatal(err)
	}
	left := btc - f.Fee
	balance(t, w, Balance{Unconfirmed: left, Spendable: left})
	next, err := w.Send(t.Context(), elsewhere, 1_000_000, 2500)
	if err != nil {
		t.Fatal(err)
	}
	checkFunded(t, next, 2500, 1_000_000)
	left -= 1_000_000 + next.Fee
	mine(t, n, 1)
	balance(t, w, Balance{Confirmed: left, Spendable: left})
	if err := n.Reorg(1, 2); err != nil {
		t.Fatal(err)
	}
	if err := w.Rebroadcast(t.Context()); err != nil {
		t.Fatal(err)
	}
	mine(t, n, 6)
	restored := open(t, n, memory.New())
	balance(t, restored, Balance{Confirmed: left, Spendable: left})
	list, err := restored.History(t.Context())
	if err != nil || len(list) != 3 {
		t.Fatalf("%v, %v", list, err)
	}
	if list[2].Net != 101*btc || list[1].Net != -100*btc-f.Fee || list[0].Net != -1_000_000-next.Fee || list[0].Fee != next.Fee {
		t.Fatalf("%+v", list)
	}
}

// A payment that is evicted for a dearer one of the same coins is not paid twice.
func TestCancelOnDevnet(t *testing.T) {
	n := newNode(t)
	w := open(t, n, memory.New())
	faucet(t, n, receive(t, w), btc)
	mine(t, n, 1)
	f := fund(t, w, 50_000)
	if err := n.Broadcast(t.Context(), f.Tx); err != nil {
		t.Fatal(err)
	}
	c, err := w.Cancel(t.Context(), f.Tx.TxHash(), perVB)
	if err != nil {
		t.Fatal(err)
	}
	mine(t, n, 7)
	balance(t, w, Balance{Confirmed: btc - c.Fee, Spendable: btc - c.Fee})
	fund(t, w, 1000) // looks at what is buried
	if held, err := w.Reservations(t.Context()); err != nil || len(held) != 1 {
		t.Fatalf("%v, %v", held, err)
	}
}

// The wallet's state survives in a file.
func TestInAFile(t *testing.T) {
	n, path := newNode(t), filepath.Join(t.TempDir(), "wallet.db")
	for i := range 2 {
		s, err := sqlite.Open(t.Context(), path, sqlite.Options{})
		if err != nil {
			t.Fatal(err)
		}
		w := open(t, n, s)
		if i == 0 {
			faucet(t, n, receive(t, w), btc)
			mine(t, n, 1)
			fund(t, w, 50_000)
		}
		balance(t, w, Balance{Confirmed: btc, Reserved: btc})
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
