package sim

import (
	"errors"
	"time"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/payee"
	"github.com/spillway/spillway/script"
)

// maxEvents bounds a run.
const maxEvents = 3_000

// Run plays one seed. trace may be nil.
func Run(seed uint64, trace func(string, ...any)) Result {
	w := newWorld(seed, trace)
	for w.result.Events < maxEvents && !w.failed && !w.over() {
		w.result.Events++
		w.event()
		w.check()
	}
	if !w.failed {
		w.end()
	}
	return w.result
}

// event is one thing that happens.
func (w *world) event() {
	w.now = w.now.Add(time.Duration(w.rng.IntN(30)) * time.Second)
	switch n := w.rng.IntN(100); {
	case n < 55:
		w.step()
	case n < 58:
		w.crash("payer")
	case n < 61:
		w.crash("payee")
	case n < 64:
		w.fail()
	case n < 66:
		w.spike()
	case n < 67:
		w.evict()
	case n < 68:
		w.reorg()
	default:
		w.block()
	}
}

// fail makes the next save of one side fail, or fail although it was saved.
func (w *world) fail() {
	disk := w.payerDisk
	if w.rng.IntN(2) == 0 {
		disk = w.payeeDisk
	}
	if w.rng.IntN(2) == 0 {
		disk.FailNext(errFault)
		return
	}
	disk.FailButPersistNext(errFault)
}

func (w *world) spike() {
	rates := []int64{1, 1, 2, 5, 20, 100}
	w.chain.rate = script.FeeRatePerVB(rates[w.rng.IntN(len(rates))])
	w.fault("fee-change")
}

// evict drops something from the mempool, as a node under pressure does.
func (w *world) evict() {
	if len(w.chain.pool) == 0 {
		return
	}
	tx := w.chain.pool[w.rng.IntN(len(w.chain.pool))]
	w.chain.Evict(tx.TxHash())
	w.fault("eviction")
	w.trace("the mempool drops %s", tx.TxHash())
}

// reorg undoes up to R blocks, once in a run: that is what the margin is for.
func (w *world) reorg() {
	if w.seen.reorged {
		return
	}
	depth := 1 + w.rng.IntN(int(w.pol.Reorg))
	undone := w.chain.Reorg(depth)
	w.seen.reorged = true
	w.result.Reorgs++
	if undone > 0 {
		w.fault("reorg-of-something")
	}
	w.trace("a reorg of %d blocks undoes %d transactions, tip %d", depth, undone, w.chain.height())
	w.watches()
}

// block mines a block, and now and then a stretch in which nothing of the
// channel gets in; both sides look at the chain after each block.
func (w *world) block() {
	blocks, censored := 1, false
	if w.rng.IntN(40) == 0 {
		blocks, censored = 1+w.rng.IntN(int(w.pol.Censorship)), true
		w.trace("%d blocks are censored", blocks)
	}
	for range blocks {
		w.now = w.now.Add(10 * time.Minute)
		w.watches() // between two blocks there are many looks
		if censored {
			if len(w.chain.pool) > 0 {
				w.fault("censored-block")
			}
			w.chain.Mine(func(*wire.MsgTx) bool { return false })
		} else {
			w.chain.Mine(nil)
		}
		w.watches()
	}
	if censored { // one window at a time is what the margin allows for
		w.chain.Mine(nil)
		w.watches()
	}
}

func (w *world) watches() {
	w.watchPayee()
	w.watchPayer()
	w.check()
}

// over reports whether nothing more can happen to the channel.
func (w *world) over() bool {
	if w.buyer.id == "" {
		return false
	}
	r, err := w.payer.Record(w.ctx, w.buyer.id)
	if err != nil {
		return false
	}
	if w.story.payer == "vanishes" && w.buyer.gone {
		p, err := w.payee.Record(w.ctx, w.buyer.id)
		if errors.Is(err, payee.ErrUnknown) {
			return true
		}
		// a payer that leaves early costs at most min(paid, F) and the credit: less than F need not be worth a settlement
		return err == nil && (p.Phase.Final() || p.Paid < p.Terms.MinimumCharge && w.chain.height() > p.Terms.Expiry)
	}
	return r.Phase.Final()
}

// check holds the invariants against what is on both disks.
func (w *world) check() {
	if w.buyer.id == "" || w.failed {
		return
	}
	r, err := w.payer.Record(w.ctx, w.buyer.id)
	if err != nil {
		w.violate("the payer's record: %v", err)
		return
	}
	floor := max(channel.CeilSat(r.Owed), min(r.Terms.MinimumCharge, r.Terms.Capacity-330))
	switch {
	case r.Signed < w.seen.signed:
		w.violate("signed fell from %d to %d sat", w.seen.signed, r.Signed)
	case r.Signed > floor:
		w.violate("signed %d sat, verified %d msat", r.Signed, r.Owed)
	case r.Owed > w.story.price*w.next():
		w.violate("the payer's ledger %d msat is above %d verified chunks", r.Owed, w.next())
	}
	w.seen.signed = r.Signed
	p, err := w.payee.Record(w.ctx, w.buyer.id)
	if errors.Is(err, payee.ErrUnknown) {
		if len(w.seen.delivered) > 0 {
			w.violate("chunks were delivered without a channel on disk")
		}
		return
	} else if err != nil {
		w.violate("the payee's record: %v", err)
		return
	}
	switch {
	case p.Paid < w.seen.paid:
		w.violate("paid fell from %d to %d sat", w.seen.paid, p.Paid)
	case p.Paid > r.Signed:
		w.violate("the payee holds %d sat, signed were %d sat", p.Paid, r.Signed)
	case p.Charged > p.Paid*1000+w.story.price:
		w.violate("charged %d msat, paid %d sat: more than a credit of %d msat", p.Charged, p.Paid, w.story.price)
	case uint64(len(w.seen.delivered))*w.story.price > p.Charged:
		w.violate("%d chunks were delivered, %d msat were charged", len(w.seen.delivered), p.Charged)
	case p.Charged%w.story.price != 0:
		w.violate("charged %d msat is no number of chunks", p.Charged)
	}
	w.seen.paid = p.Paid
	if tx, height, _ := w.chain.spender(wire.OutPoint(r.Terms.Outpoint)); tx != nil && height > 0 && w.seen.due == 0 {
		w.seen.due = p.Paid // what comes later cannot be settled any more
	} else if height == 0 {
		w.seen.due = 0
	}
}

// end checks how the day came out, on the chain.
func (w *world) end() {
	if w.buyer.id == "" {
		return
	}
	r, err := w.payer.Record(w.ctx, w.buyer.id)
	if err != nil {
		w.violate("the payer's record: %v", err)
		return
	}
	if !w.over() {
		w.violate("after %d events the payer is in phase %s at height %d, expiry %d", w.result.Events, r.Phase, w.chain.height(), r.Terms.Expiry)
		return
	}
	tx, height, _ := w.chain.spender(wire.OutPoint(r.Terms.Outpoint))
	p, err := w.payee.Record(w.ctx, w.buyer.id)
	known := err == nil
	switch {
	case r.Phase == channel.Abandoned || tx == nil:
		if known && p.Paid >= p.Terms.MinimumCharge && w.story.payee == "honest" {
			w.violate("%d sat are paid and nothing settles them", p.Paid)
		}
		return
	case tx.LockTime == r.Terms.Expiry:
		w.refunded(p, known)
	default:
		w.settled(tx, height, r)
	}
	honest := w.story.payer == "honest" && w.story.payee == "honest"
	if honest && !w.buyer.gone && w.next() < w.story.chunks && height < r.Terms.Expiry-r.Terms.Margin {
		w.violate("an honest pair ended with %d of %d chunks", w.next(), w.story.chunks)
	}
}

// refunded: everything went back. That is right only where the payee holds too
// little for a settlement, or vanished.
func (w *world) refunded(p channel.PayeeRecord, known bool) {
	w.fault("refund-mined")
	if !known || w.story.payee == "vanishes" {
		return
	}
	least := uint64(330 + script.FeeRatePerVB(100).Fee(360))
	if p.Paid > least {
		w.violate("the refund confirmed although the payee holds %d sat", p.Paid)
	}
}

// settled: outputs and fee are the capacity, the payer has its rest, the payee
// the newest amount, before the expiry.
func (w *world) settled(tx *wire.MsgTx, height uint32, r channel.PayerRecord) {
	var rest, payout int64
	for _, out := range tx.TxOut {
		switch {
		case string(out.PkScript) == string(r.Terms.RestScript) && rest == 0:
			rest = out.Value
		case string(out.PkScript) == string(w.payout):
			payout += out.Value
		default:
			w.violate("a settlement pays to %x", out.PkScript)
		}
	}
	capacity := int64(r.Terms.Capacity)
	due := capacity - int64(r.Signed)
	switch {
	case rest+payout > capacity:
		w.violate("a settlement of %d sat out of %d sat", rest+payout, capacity)
	case rest < due && due >= 330 && rest < due-50_000:
		w.violate("the payer got %d sat of its %d sat", rest, due)
	case w.story.payee == "honest" && capacity-rest < int64(w.seen.due) && rest > 0 && r.Close == nil:
		w.violate("settled at %d sat, paid were %d sat", capacity-rest, w.seen.due)
	case height > r.Terms.Expiry && w.story.payee == "honest":
		w.violate("settled at height %d, the expiry is %d", height, r.Terms.Expiry)
	}
}
