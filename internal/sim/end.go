package sim

import (
	"bytes"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/script"
)

// verify counts what a buyer has verified on a channel. A chunk that was verified
// before, and could not be signed for, is counted again: it is one chunk more that
// the ledger may hold at the most.
func (a *audit) verify(id string, price uint64) {
	a.verified[id] = max(a.verified[id], a.payer[id].Owed+price)
}

// mined remembers what was paid when an output's spend was mined: what comes
// later cannot be settled any more.
func (a *audit) mined() {
	a.block = a.w.now
	if a.w.duo != nil {
		a.w.duo.audit.mined()
	}
	a.highest = max(a.highest, a.rate())
	for id, r := range a.payee {
		_, height, ok := a.w.chain.Spender(wire.OutPoint(r.Terms.Outpoint))
		_, noted := a.due[id]
		switch {
		case ok && height > 0 && !noted:
			held := r.Paid
			if a.blind { // what came after a settlement had left could not be added to it
				held = min(held, a.sighted[id])
			}
			a.due[id] = a.w.tower.promised(id, held)
		case (!ok || height == 0) && noted:
			delete(a.due, id)
		}
	}
}

func (a *audit) rate() script.FeeRate {
	rate, err := a.w.chain.FeeRate(a.w.ctx, 1)
	a.w.must(err)
	return rate
}

// undone takes note of a reorg.
func (a *audit) undone(int) {
	a.reorged = a.w.now
	a.mined()
}

// check holds what is true between two events against the invariants.
func (a *audit) check() {
	a.highest = max(a.highest, a.rate())
	a.spends()
	tip := a.w.chain.Height()
	a.w.crowd.unpaid()
	if !a.w.strict() {
		return
	}
	for id, r := range a.payee {
		if r.Paid = a.w.tower.promised(id, r.Paid); tip != r.Terms.Expiry || !a.worthSettling(r) {
			continue
		}
		if _, height, ok := a.w.chain.Spender(wire.OutPoint(r.Terms.Outpoint)); !ok || height == 0 {
			if info, err := a.w.chain.Tx(a.w.ctx, r.Terms.Outpoint.Hash); err == nil && info.Confirmed {
				a.w.violate("%d sat were paid on %.12s and at its expiry %d nothing is settled", r.Paid, id, tip)
			}
		}
	}
}

// looked remembers what was paid when the payee's watch last went through: a settlement
// that is mined before the watch gets through again pays that much. A watch that fails
// at a block is within the bounds as one that is down for it is.
func (a *audit) looked(through bool) {
	a.blind = !through
	if through {
		for id, r := range a.payee {
			a.sighted[id] = r.Paid
		}
	}
}

// worthSettling: what was paid covers a settlement at the highest rate of the run.
func (a *audit) worthSettling(r channel.PayeeRecord) bool {
	return int64(r.Paid) > 330+a.highest.Fee(360)*3/2 && !r.Restored && r.Phase != channel.Abandoned
}

// small is how much newer updates may be worth, in sat, without a settlement of one
// channel being replaced for them: what the replacement would cost at 1 sat/vB more.
const small = 400

// smallFor is the same for a settlement that may hold several channels.
func smallFor(tx *wire.MsgTx) int64 { return max(small, script.VSize(tx)+1) }

// end holds how the day came out against the chain.
func (a *audit) end() {
	w := a.w
	if !w.settled() {
		w.violate("after %d events it is not over: %s", w.result.Events, a.open())
		return
	}
	for id, r := range a.payer {
		a.endOf(id, r)
	}
	if w.duo != nil {
		w.duo.audit.end()
	}
	for _, b := range w.buyers {
		if b.dishonest() || w.story.payee != "honest" || w.story.wild {
			continue
		}
		if err := b.load(); err != nil || b.job.Stage != "" {
			w.violate("%s is honest and ends without its file: %+v", b.name, b.job)
		}
	}
}

// open tells what is not over.
func (a *audit) open() string {
	var out bytes.Buffer
	for _, b := range a.w.buyers {
		if !b.gone {
			out.WriteString(b.name + " still buys; ")
		}
	}
	for id, r := range a.payer {
		if !r.Phase.Final() {
			out.WriteString(id[:12] + " is " + string(r.Phase) + " for its payer; ")
		}
	}
	for id, r := range a.payee {
		if !r.Phase.Final() {
			out.WriteString(id[:12] + " is " + string(r.Phase) + " for the payee; ")
		}
	}
	return out.String()
}

// endOf holds one channel's end against the chain.
func (a *audit) endOf(id string, r channel.PayerRecord) {
	w := a.w
	b := a.owner[id]
	tx, height, spent := w.chain.Spender(wire.OutPoint(r.Terms.Outpoint))
	p, known := a.payee[id]
	switch {
	case r.Phase == channel.Prepared && !a.back.over[id]:
		return
	case !spent || height == 0:
		if r.Phase == channel.Abandoned && !w.story.wild && !b.vanished() {
			if info, err := w.chain.Tx(w.ctx, r.Terms.Outpoint.Hash); err == nil && info.Confirmed {
				w.violate("%.12s was given up, and holds %d sat", id, r.Terms.Capacity)
			}
			return
		}
		if w.story.wild || b.vanished() || a.back.over[id] {
			return
		}
		w.violate("%.12s is %s and its output is not spent", id, r.Phase)
		return
	case b.vanished(), a.back.over[id]:
	case r.SpentBy != tx.TxHash().String() && !w.story.wild:
		w.violate("the payer's ledger says that %.12s is spent by %.12s, it is %.12s", id, r.SpentBy, tx.TxHash().String())
	}
	if known && p.Phase.Final() && p.SpentBy != tx.TxHash().String() && !w.story.wild && !w.vanished && !w.seller.restored {
		w.violate("the payee's ledger says that %.12s is spent by %.12s, it is %.12s", id, p.SpentBy, tx.TxHash().String())
	}
	if tx.LockTime == r.Terms.Expiry {
		a.refunded(id, r, p, known)
		return
	}
	a.settled(id, tx, height, r, p)
}

// refunded: everything went back. That is right only where the payee holds too
// little for a settlement, or vanished, or was asked for more than its margin.
func (a *audit) refunded(id string, r channel.PayerRecord, p channel.PayeeRecord, known bool) {
	a.w.fault("refund-mined")
	p.Paid = a.w.tower.promised(id, p.Paid)
	if known && a.w.strict() && a.worthSettling(p) {
		a.w.violate("the refund of %.12s confirmed although the payee holds %d sat", id, p.Paid)
	}
}

// settled: the payer has its rest, the payee the newest amount, before the expiry.
func (a *audit) settled(id string, tx *wire.MsgTx, height uint32, r channel.PayerRecord, p channel.PayeeRecord) {
	w := a.w
	if r.Close == nil {
		r.Close = a.back.closes[id]
	}
	held := p.Paid
	p.Paid = w.tower.promised(id, held)
	if w.tower != nil && w.tower.rungs[tx.TxHash().String()] {
		w.fault("settled-by-tower")
	}
	var rest, payout int64
	for _, out := range tx.TxOut {
		if bytes.Equal(out.PkScript, r.Terms.RestScript) {
			rest += out.Value
		} else if bytes.Equal(out.PkScript, w.seller.payout) {
			payout += out.Value
		}
	}
	capacity := int64(r.Terms.Capacity)
	due := capacity - int64(max(r.Signed, a.back.peak[id]))
	fee := capacity - rest - payout
	switch {
	case rest < due && due >= int64(r.Terms.Dust()) && (r.Close == nil || rest < due-fee):
		w.violate("the payer got %d sat of its %d sat out of %.12s", rest, due, id)
	case w.strict() && capacity-rest+smallFor(tx) < int64(a.due[id]) && r.Close == nil:
		w.violate("%.12s was settled at %d sat, paid were %d sat", id, capacity-rest, a.due[id])
	case w.strict() && height > r.Terms.Expiry && a.worthSettling(p):
		w.violate("%.12s was settled at height %d, the expiry is %d", id, height, r.Terms.Expiry)
	}
	if !a.owner[id].dishonest() && a.owner[id].returns == 0 && w.strict() && !w.vanished && held < r.Signed && height < r.Terms.Expiry-r.Terms.Margin {
		w.violate("an honest payer signed %d sat on %.12s, the payee holds %d sat", r.Signed, id, held)
	}
}
