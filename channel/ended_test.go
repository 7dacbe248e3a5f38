package channel

import (
	"testing"

	"github.com/btcsuite/btcd/wire/v2"
)

// mined is a buried spend of the channel with these outputs at this lock.
func mined(t Terms, txid string, lock uint32, outs ...*wire.TxOut) View {
	tx := wire.NewMsgTx(2)
	tx.LockTime = lock
	op := wire.OutPoint(t.Outpoint)
	tx.AddTxIn(wire.NewTxIn(&op, nil, nil))
	for _, out := range outs {
		tx.AddTxOut(out)
	}
	v := at(expiry + 20)
	v.Spend = &SpendView{Txid: txid, Height: expiry + 10, Tx: tx}
	return v
}

// TestEndedByWhatWasMined: the books of both sides follow what was mined, not what was
// last signed: a refund pays the payee nothing, an older settlement less, one that an
// old copy does not know of more.
func TestEndedByWhatWasMined(t *testing.T) {
	rest := func(left uint64) *wire.TxOut { return wire.NewTxOut(int64(capacity-left), p2tr(0x33)) }
	gets := func(sat int64) *wire.TxOut { return wire.NewTxOut(sat, payout) }
	duplex := duplexTerms()
	even, _ := duplex.Lock(2)
	odd, _ := duplex.Lock(1)
	made := func(r *PayeeRecord) {
		paid(6000)(r)
		r.Made = []Made{{Txid: "older", Amount: 4000}}
		r.Settlement = &Broadcast{Txid: "newest", Amount: 6000, Rate: 1000, Tx: Hex{1}}
	}
	unknown := at(expiry+20, spentBy("older", expiry+10))
	for _, c := range []struct {
		name  string
		terms Terms
		view  View
		phase Phase
		got   int64 // -1: not known
		lost  uint64
	}{
		{"the settlement", terms(), mined(terms(), "newest", 0, gets(5800), rest(6000)), Closed, 6000, 0},
		{"an older settlement", terms(), mined(terms(), "older", 0, gets(3800), rest(4000)), Closed, 4000, 2000 * sat},
		{"an older settlement that the backend does not show", terms(), unknown, Closed, 4000, 2000 * sat},
		{"something that the backend does not show", terms(), at(expiry+20, spentBy("x", expiry+10)), Closed, -1, 0},
		{"everything", terms(), mined(terms(), "all", 0, gets(99_000)), Closed, int64(capacity), 0},
		{"the refund", terms(), mined(terms(), "refund", expiry, wire.NewTxOut(int64(capacity-200), p2tr(0x55))), Refunded, 0, 6000 * sat},
		{"the refund, to the rest script", terms(), mined(terms(), "refund", expiry, wire.NewTxOut(int64(capacity-200), p2tr(0x33))), Refunded, 0, 6000 * sat},
		{"a duplex state of the payer's", duplex, mined(duplex, "one", odd, gets(5800), wire.NewTxOut(int64(capacity-6000), duplex.RestScript)), Closed, 6000, 0},
		{"a duplex state of the payee's", duplex, mined(duplex, "two", even, wire.NewTxOut(90_000, p2tr(0x66)), wire.NewTxOut(2000, duplex.PayeeRest)), Closed, 2000, 4000 * sat},
		{"a duplex refund", duplex, mined(duplex, "refund", expiry, wire.NewTxOut(90_000, p2tr(0x55))), Refunded, 0, 6000 * sat},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := record(made, func(r *PayeeRecord) { r.Terms, r.Charged = c.terms, 6000*sat })
			next, actions := r.Due(c.terms.built(t), payout, c.view, policy())
			if next.Phase != c.phase || len(actions) > 0 || (next.Got == nil) != (c.got < 0) || next.Got != nil && int64(*next.Got) != c.got || next.Lost() != c.lost {
				t.Errorf("payee: %s with %v, lost %d msat, actions %v", next.Phase, next.Got, next.Lost(), actions)
			}
			if want := (6000*sat - c.lost) / sat; c.got <= 6000 && next.Earned() != want {
				t.Errorf("earned %d sat, want %d", next.Earned(), want)
			}
			if err := next.Follows(&r, &Step{View: c.view}); err != nil {
				t.Error(err)
			}
			payer := bought(signed(5000), func(r *PayerRecord) { r.Terms = c.terms }) // an old copy: none of its own transactions
			after, _ := payer.Due(c.terms.built(t), c.view, policy())
			known := c.view.Spend.Tx != nil
			if after.Phase != c.phase || (after.Got != nil) != known || known && int64(*after.Got) != c.got {
				t.Errorf("payer: %s with %v", after.Phase, after.Got)
			}
		})
	}
}

// TestEarnedOfAbandoned: what never confirmed paid nothing.
func TestEarnedOfAbandoned(t *testing.T) {
	r := record(paid(500), func(r *PayeeRecord) { r.Phase, r.Charged = Abandoned, 700*sat })
	if r.Earned() != 0 || r.Lost() != 700*sat {
		t.Errorf("earned %d sat, lost %d msat", r.Earned(), r.Lost())
	}
	if r.Phase = Open; r.Earned() != 500 || r.Lost() != 0 {
		t.Errorf("open: earned %d sat, lost %d msat", r.Earned(), r.Lost())
	}
}
