package sim

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/store"
)

// Every invariant can fail: what breaks it is noticed, and named.
func TestInvariantsNotice(t *testing.T) {
	payee := func(change func(*channel.PayeeRecord)) func(*world, string) {
		return func(w *world, id string) {
			r := w.audit.payee[id]
			change(&r)
			w.audit.saved(w.seller.process, []store.Op{record(t, bucketPayee, id, r)})
		}
	}
	payer := func(change func(*channel.PayerRecord)) func(*world, string) {
		return func(w *world, id string) {
			r := w.audit.payer[id]
			change(&r)
			w.audit.saved(w.buyers[0].process, []store.Op{record(t, bucketPayer, id, r)})
		}
	}
	for want, breach := range map[string]func(*world, string){
		"paid fell":                       payee(func(r *channel.PayeeRecord) { r.Paid-- }),
		"charged fell":                    payee(func(r *channel.PayeeRecord) { r.Charged = 0 }),
		"more than a credit":              payee(func(r *channel.PayeeRecord) { r.Charged += 2 * 1_000_000 * 1000 }),
		"signed were":                     payee(func(r *channel.PayeeRecord) { r.Paid = r.Terms.Capacity - 400 }),
		"is no number of chunks":          payee(func(r *channel.PayeeRecord) { r.Charged -= 7 }),
		"back to funding":                 payee(func(r *channel.PayeeRecord) { r.Phase = channel.Funding }),
		"which no payer has saved":        payee(func(r *channel.PayeeRecord) { r.Terms.Outpoint.Index = 7 }),
		"signed fell":                     payer(func(r *channel.PayerRecord) { r.Signed-- }),
		"the payer's ledger":              payer(func(r *channel.PayerRecord) { r.Owed += 1_000_000_000 }),
		"verified":                        payer(func(r *channel.PayerRecord) { r.Signed = r.Terms.Capacity - 400 }),
		"went from open back to prepared": payer(func(r *channel.PayerRecord) { r.Phase = channel.Prepared }),
		"which it has not saved":          func(w *world, _ string) { w.audit.broadcast(w.buyers[0].process, wire.NewMsgTx(2)) },
		"acknowledged":                    func(w *world, id string) { w.audit.acked[id] = 1 << 40; payee(func(*channel.PayeeRecord) {})(w, id) },
		"delivered for":                   func(w *world, id string) { deliverAll(w, id) },
		"places for":                      overfill(t),
		"a settlement of":                 payee(func(r *channel.PayeeRecord) { r.Settlement = spend(t, r.Terms, 1_000, nil) }),
		"a settlement pays to":            payee(func(r *channel.PayeeRecord) { r.Settlement = spend(t, r.Terms, 1_000, []byte{0x51}) }),
		"ends without its file":           func(w *world, _ string) { w.buyers[0].gone, w.last = true, true; w.tail() },
		"at its expiry":                   atExpiry,
		"settled at height":               settledLate,
	} {
		t.Run(want, func(t *testing.T) {
			w, id := midway(t)
			breach(w, id)
			if !w.failed || !strings.Contains(strings.Join(w.result.Violations, "\n"), want) {
				t.Errorf("not noticed: %v", w.result.Violations)
			}
		})
	}
}

// midway is a quiet run of an honest pair that has paid for some chunks.
func midway(t *testing.T) (*world, string) {
	t.Helper()
	for seed := uint64(1); seed < 100; seed++ {
		w := newWorld(seed, nil)
		if s := w.story; s.payer != "honest" || s.payee != "honest" || s.wild || s.buyers != 1 || s.credit == 0 || s.price < 1_000_000 {
			continue
		}
		for i := range 400 {
			w.at++
			w.begin(step{seed: uint64(i), calm: true})
			if i%6 == 5 {
				w.block(nil)
			}
			w.buyers[0].step()
			for id, r := range w.audit.payee {
				if r.Paid > 0 && r.Phase == channel.Open && len(w.audit.payee) == 1 {
					if w.failed {
						t.Fatal(w.result.Violations)
					}
					return w, id
				}
			}
		}
	}
	t.Fatal("no seed is an honest pair alone")
	return nil, ""
}

func record(t *testing.T, bucket, id string, r any) store.Op {
	t.Helper()
	raw, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	return store.Op{Bucket: bucket, Key: id, Value: raw}
}

func deliverAll(w *world, id string) {
	for i := range uint64(30) {
		w.audit.deliver(w.seller, id, w.seller.files[0], i)
	}
}

func overfill(t *testing.T) func(*world, string) {
	return func(w *world, id string) {
		p := channel.Pool{Places: map[string]channel.Place{id: {Reserved: 100 * w.story.price}}}
		w.audit.saved(w.seller.process, []store.Op{record(t, bucketPool, "pool", p)})
	}
}

// spend is a settlement that leaves the payer this much less than its rest.
func spend(t *testing.T, terms channel.Terms, less int64, to []byte) *channel.Broadcast {
	t.Helper()
	tx := wire.NewMsgTx(3)
	tx.AddTxIn(&wire.TxIn{PreviousOutPoint: wire.OutPoint(terms.Outpoint)})
	if to == nil {
		to = terms.RestScript
	}
	tx.AddTxOut(&wire.TxOut{Value: int64(terms.Capacity) - less, PkScript: to})
	raw, err := channel.EncodeTx(tx)
	if err != nil {
		t.Fatal(err)
	}
	return &channel.Broadcast{Tx: raw, Txid: tx.TxHash().String(), Fee: less, Rate: 5_000}
}

// atExpiry lets the payee sleep until the expiry.
func atExpiry(w *world, id string) {
	r := w.audit.payee[id]
	r.Paid = 1 << 40
	w.audit.payee[id] = r
	for w.chain.Height() < r.Terms.Expiry {
		w.chain.Mine(nil)
	}
	w.audit.check()
}

// settledLate settles after the expiry.
func settledLate(w *world, id string) {
	r, p := w.audit.payer[id], w.audit.payee[id]
	p.Paid = 1 << 40
	tx := wire.NewMsgTx(3)
	tx.AddTxIn(&wire.TxIn{PreviousOutPoint: wire.OutPoint{Hash: chainhash.Hash{1}}})
	tx.AddTxOut(&wire.TxOut{Value: int64(r.Terms.Capacity), PkScript: r.Terms.RestScript})
	w.audit.settled(id, tx, r.Terms.Expiry+1, r, p)
}
