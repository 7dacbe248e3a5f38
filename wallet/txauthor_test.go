package wallet

import (
	"errors"
	"testing"

	"github.com/btcsuite/btcd/btcutil/v2"
	"github.com/btcsuite/btcd/wire/v2"
	"github.com/btcsuite/btcwallet/wallet/txauthor"

	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/store/memory"
)

// authored is what the library's author makes of the coins, large ones first, as the
// wallet takes them.
func authored(outputs []*wire.TxOut, rate script.FeeRate, coins []int64, pk []byte) (*txauthor.AuthoredTx, error) {
	return txauthor.NewUnsignedTransaction(outputs, btcutil.Amount(rate), func(target btcutil.Amount) (total btcutil.Amount, ins []*wire.TxIn, values []btcutil.Amount, pks [][]byte, err error) {
		for i, sat := range coins {
			if total >= target {
				break
			}
			total += btcutil.Amount(sat)
			ins = append(ins, &wire.TxIn{PreviousOutPoint: wire.OutPoint{Index: uint32(i)}, Sequence: sequence})
			values, pks = append(values, btcutil.Amount(sat)), append(pks, pk)
		}
		return total, ins, values, pks, nil
	}, &txauthor.ChangeSource{ScriptSize: 34, NewScript: func() ([]byte, error) { return pk, nil }})
}

// docs/adr/0007: a coin of the capacity and the exact fee opens a channel, which the
// library's author of transactions refuses; where both fund, ours is no dearer and
// spends no more coins.
func TestSelectionAgainstTxauthor(t *testing.T) {
	const capacity, rate = 100_000, script.FeeRate(7_300)
	exact := rate.Fee(vsize(1, outs(capacity)...))
	l := newLedger()
	w := open(t, l, memory.New())
	pk := receive(t, w)
	l.pays(pk, capacity+exact, true)
	f, err := w.Fund(t.Context(), outs(capacity), rate)
	if err != nil || f.Fee != exact || len(f.Tx.TxOut) != 1 {
		t.Fatalf("%+v, %v", f, err)
	}
	var short txauthor.InputSourceError
	if _, err := authored(outs(capacity), rate, []int64{capacity + exact}, pk); !errors.As(err, &short) {
		t.Fatalf("the library takes a coin that just suffices now: see docs/adr/0007 again: %v", err)
	}
	for _, coins := range [][]int64{{200_000}, {90_000, 80_000, 70_000}, {60_000, 50_000, 1_000, 900, 100}, {100_900, 5_000}, {99_000, 3_000, 2_000, 2_000}} {
		l := newLedger()
		w := open(t, l, memory.New())
		pk := receive(t, w)
		for _, sat := range coins {
			l.pays(pk, sat, true)
		}
		f, err := w.Fund(t.Context(), outs(capacity), rate)
		if err != nil {
			t.Fatalf("%v: %v", coins, err)
		}
		checkFunded(t, f, rate, capacity)
		theirs, err := authored(outs(capacity), rate, coins, pk)
		if err != nil {
			continue // it refuses what suffices
		}
		fee := int64(theirs.TotalInput)
		for _, out := range theirs.Tx.TxOut {
			fee -= out.Value
		}
		if f.Fee > fee || len(f.Tx.TxIn) > len(theirs.Tx.TxIn) {
			t.Errorf("%v: ours pays %d sat for %d inputs, the library's %d sat for %d", coins, f.Fee, len(f.Tx.TxIn), fee, len(theirs.Tx.TxIn))
		}
	}
}

// A wallet is restored from its seed on a real chain, with gaps as they come: addresses
// that were given out and never paid, on both chains; spent ones between; and one coin
// just inside the limit, one just beyond it, which only a larger search would find.
func TestRestoreWithGapsOnDevnet(t *testing.T) {
	n := newNode(t)
	old := open(t, n, memory.New())
	want := int64(0)
	for _, c := range []struct {
		change bool
		index  uint32
		sat    int64
	}{{false, 0, 10_000}, {false, 3, 20_000}, {false, 22, 30_000}, {false, 42, 40_000}, {true, 19, 50_000}, {true, 39, 60_000}} {
		faucet(t, n, scriptAt(t, old, c.change, c.index), c.sat)
		want += c.sat
	}
	faucet(t, n, scriptAt(t, old, false, 64), 70_000) // more than 20 unused ones hide it, also later
	mine(t, n, 1)
	spender := open(t, n, memory.New())
	balance(t, spender, Balance{Confirmed: want, Spendable: want})
	f, err := spender.Send(t.Context(), elsewhere, All, perVB) // every address is spent and empty now
	if err != nil || len(f.Tx.TxIn) != 6 {
		t.Fatalf("%v, %v", f, err)
	}
	faucet(t, n, receive(t, spender), 80_000) // behind them all
	mine(t, n, 1)
	restored := open(t, n, memory.New())
	balance(t, restored, Balance{Confirmed: 80_000, Spendable: 80_000})
	list, err := restored.History(t.Context())
	if err != nil || len(list) != 8 {
		t.Fatalf("%d transactions, %v", len(list), err)
	}
	if pk := receive(t, restored); string(pk) != string(scriptAt(t, old, false, 44)) {
		t.Fatal("the next address is not the one behind the last that was used")
	}
	change, err := restored.ChangeScript(t.Context())
	if err != nil || string(change) != string(scriptAt(t, old, true, 40)) {
		t.Fatalf("change %x, %v", change, err)
	}
}
