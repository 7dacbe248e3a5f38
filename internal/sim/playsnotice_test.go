package sim

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/store"
)

// until plays seeds of a kind of day, calmly, until a condition holds.
func until(t *testing.T, p play, reached func(*world) bool) *world {
	t.Helper()
	for seed := uint64(0); seed < 400; seed++ {
		if playOf(seed) != p {
			continue
		}
		w := newWorld(seed, nil)
		if w.story.wild || w.story.payee != "honest" || w.story.payer != "honest" {
			continue
		}
		for i := range 250 {
			w.at++
			w.begin(step{seed: uint64(i), calm: true})
			switch i % 5 {
			case 0:
				w.block(nil)
			case 1, 2:
				w.someone().step()
			default:
				w.special()
			}
			if w.failed {
				t.Fatal(w.result.Violations)
			}
			if reached(w) {
				return w
			}
		}
	}
	t.Fatal("no seed comes so far")
	return nil
}

// noticed checks that a breach was named.
func noticed(t *testing.T, w *world, want string) {
	t.Helper()
	if !w.failed || !strings.Contains(strings.Join(w.result.Violations, "\n"), want) {
		t.Errorf("not noticed: %v", w.result.Violations)
	}
}

// Every invariant of duplex channels can fail.
func TestDuplexInvariantsNotice(t *testing.T) {
	payer := func(change func(*channel.PayerRecord, *channel.Duplex)) func(*duo) {
		return func(d *duo) {
			r, s := d.audit.payer, *d.audit.payer.Duplex
			r.Duplex = &s
			change(&r, &s)
			d.audit.saved(d.one, []store.Op{record(t, bucketPayer, d.id, r)})
		}
	}
	payee := func(change func(*channel.PayeeRecord, *channel.Duplex)) func(*duo) {
		return func(d *duo) {
			r, s := d.audit.payee, *d.audit.payee.Duplex
			r.Duplex = &s
			change(&r, &s)
			d.audit.saved(d.other, []store.Op{record(t, bucketPayee, d.id, r)})
		}
	}
	for want, breach := range map[string]func(*duo){
		"its ledger is":                     payer(func(_ *channel.PayerRecord, s *channel.Duplex) { s.Sent.Amount += 5_000_000 }),
		"duplex payer's states fell":        payer(func(_ *channel.PayerRecord, s *channel.Duplex) { s.Sent.Amount-- }),
		"duplex payee's states fell":        payee(func(_ *channel.PayeeRecord, s *channel.Duplex) { s.Held = channel.Update{} }),
		"which nobody has saved as signed":  payee(func(_ *channel.PayeeRecord, s *channel.Duplex) { s.Held.Amount++ }),
		"payer's ledger is":                 payer(func(r *channel.PayerRecord, _ *channel.Duplex) { r.Owed += 1000 }),
		"payee's ledger is":                 payee(func(r *channel.PayeeRecord, _ *channel.Duplex) { r.Charged += 1000 }),
		"a margin of":                       payee(func(r *channel.PayeeRecord, _ *channel.Duplex) { r.Terms.Step-- }),
		"back to funding":                   payee(func(r *channel.PayeeRecord, _ *channel.Duplex) { r.Phase = channel.Funding }),
		"signs epoch":                       payer(func(_ *channel.PayerRecord, s *channel.Duplex) { s.Sent.Epoch += 6; s.Sent.Amount = 1 }),
		"settles with a lock":               payee(func(r *channel.PayeeRecord, _ *channel.Duplex) { r.Settlement = spend(t, r.Terms, 1_000, nil) }),
		"which it has not saved":            func(d *duo) { d.audit.broadcast(d.one, wire.NewMsgTx(2)) },
		"are charged":                       func(d *duo) { d.audit.deliver(1, 1<<20) },
		"counts":                            func(d *duo) { d.audit.verified = 0; payer(func(*channel.PayerRecord, *channel.Duplex) {})(d) },
		"epoch 1 of the duplex channel was": func(d *duo) { won(d, 1, 3) },
		"was mined at height":               func(d *duo) { won(d, 1, 1) },
		"output is not spent":               func(d *duo) { d.audit.end() },
	} {
		t.Run(want, func(t *testing.T) {
			w := until(t, duplex, func(w *world) bool {
				s := w.duo.audit.payee
				return s.Duplex != nil && s.Duplex.Held.Amount > 1 && s.Phase == channel.Open && w.duo.audit.next > 0
			})
			breach(w.duo)
			noticed(t, w, want)
		})
	}
}

// won lets an epoch be mined late, where another one was held.
func won(d *duo, mined, held uint32) {
	tx := wire.NewMsgTx(3)
	tx.LockTime, _ = d.audit.payer.Terms.Lock(mined)
	tx.AddTxOut(&wire.TxOut{Value: 1_000, PkScript: d.audit.payer.Terms.RestScript})
	d.audit.newestWon(tx, d.audit.payer.Terms.Expiry+1, mined, channel.Update{Epoch: held, Amount: 1_000})
}

// Every invariant of towers can fail.
func TestTowerInvariantsNotice(t *testing.T) {
	entry := func(w *world) (string, store.Op) {
		id := slices.Sorted(maps.Keys(w.tower.entries))[0]
		e := w.tower.entries[id]
		e.Amount--
		raw, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		return id, store.Op{Bucket: bucketTower, Key: e.Provider + "/" + id, Value: raw}
	}
	for want, breach := range map[string]func(*world){
		"and now": func(w *world) { _, op := entry(w); w.tower.saved([]store.Op{op}) },
		"it is not over": func(w *world) {
			_, op := entry(w)
			op.Value = nil
			w.tower.saved([]store.Op{op})
		},
		"which it does not hold": func(w *world) { w.tower.broadcast(wire.NewMsgTx(2)) },
		"its tower holds": func(w *world) {
			for w.tower.keep(true) != nil {
				w.block(nil)
			}
			clear(w.tower.entries)
			w.tower.orderly()
		},
	} {
		t.Run(want, func(t *testing.T) {
			w := until(t, towers, func(w *world) bool {
				for id := range w.tower.entries {
					if r := w.audit.payee[id]; r.Phase == channel.Open && r.SpentBy == "" && w.audit.worthSettling(r) && w.tower.of == w.seller.payee {
						return true
					}
				}
				return false
			})
			breach(w)
			noticed(t, w, want)
		})
	}
}

// The invariants of payers that lost their disks, and of strangers, can fail.
func TestOldPayerInvariantsNotice(t *testing.T) {
	for want, breach := range map[string]func(*world, string, channel.PayerRecord){
		"was imported": func(w *world, _ string, r channel.PayerRecord) {
			was := r
			was.Imported = true
			r.Signed++
			w.audit.cameBack(r, was)
		},
		"comes back with": func(w *world, id string, r channel.PayerRecord) {
			w.audit.back.lost[id] = true
			w.audit.cameBack(r, r)
		},
		"the key of": func(w *world, _ string, r channel.PayerRecord) {
			other := r
			other.Terms.Outpoint.Index = 7
			w.audit.cameBack(other, r)
		},
		"there is no export": func(w *world, id string, _ channel.PayerRecord) {
			delete(w.audit.owner[id].exports, id)
			w.audit.lose(w.audit.owner[id])
		},
	} {
		t.Run(want, func(t *testing.T) {
			var id string
			w := until(t, oldPayer, func(w *world) bool {
				for at, r := range w.audit.payer {
					if id = at; r.Signed > 0 && r.Phase == channel.Open && w.audit.owner[at].returns == 0 {
						return true
					}
				}
				return false
			})
			breach(w, id, w.audit.payer[id])
			noticed(t, w, want)
		})
	}
	w := until(t, crowds, func(w *world) bool { return len(w.audit.payee) > 0 })
	for id, r := range w.audit.payee {
		r.Paid, r.Charged, r.MaxPrice, r.NewcomerAbove = 0, 1<<50, 2, 1
		w.audit.payee[id] = r
	}
	w.crowd.unpaid()
	noticed(t, w, "paid nothing")
}
