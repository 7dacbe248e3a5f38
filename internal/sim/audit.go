package sim

import (
	"bytes"
	"encoding/json"
	"math/bits"
	"time"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/store"
)

// Buckets of the drivers' stores that the audit reads.
const (
	bucketPayer = "payer/channel"
	bucketPayee = "payee/channel"
	bucketPool  = "payee/pool"
	bucketPages = "payee/charged" // channel/file/page → bits of the chunks that are charged
)

// audit holds what happens against the invariants: every commit, every broadcast
// and every message, at the moment when it happens.
type audit struct {
	w     *world
	payer map[string]channel.PayerRecord // as they are on the disks
	payee map[string]channel.PayeeRecord
	read  map[place]decodedRecord // what was decoded last
	owner map[string]*buyer       // of channels
	pool  channel.Pool
	pages map[string][]byte // of chunks that are charged

	verified  map[string]uint64 // msat of what the buyer has verified, by channel
	acked     map[string]uint64 // sat, the highest amount that the payee acknowledged
	delivered map[goods]bool
	worth     map[string]uint64    // msat of what was delivered, by channel
	spent     map[string]time.Time // when an output's spend was seen first, by channel
	due       map[string]uint64    // sat, paid when the output's spend was mined
	blind     bool                 // the payee's watch failed when it looked last
	sighted   map[string]uint64    // sat, paid when it did not
	highest   script.FeeRate       // that was ever asked for
	reorged   time.Time            // the last reorg
	block     time.Time            // the last block
	late      bool                 // what is looked at was saved a while ago
	forgotten bool                 // the payee's old copy was read
	old       [][]byte             // settlements that the payee once made
	back      comeback             // of payers that lost their disks
}

// place is a key of a bucket of a side's disk.
type place struct {
	p           *process
	bucket, key string
}

// decodedRecord is a stored record, and what it says.
type decodedRecord struct {
	raw   string
	payer channel.PayerRecord
	payee channel.PayeeRecord
}

// goods is one chunk on one channel.
type goods struct {
	channel, file string
	chunk         uint64
}

func newAudit(w *world) *audit {
	return &audit{
		w: w, payer: map[string]channel.PayerRecord{}, payee: map[string]channel.PayeeRecord{}, owner: map[string]*buyer{}, pages: map[string][]byte{},
		back:     comeback{lost: map[string]bool{}, peak: map[string]uint64{}, closes: map[string]*channel.PayerClose{}, over: map[string]bool{}, keys: map[channel.Key]string{}},
		verified: map[string]uint64{}, acked: map[string]uint64{}, delivered: map[goods]bool{}, worth: map[string]uint64{}, due: map[string]uint64{}, sighted: map[string]uint64{},
		spent: map[string]time.Time{}, read: map[place]decodedRecord{},
	}
}

// saved is told what a side has committed.
func (a *audit) saved(p *process, ops []store.Op) {
	switch {
	case a.w.duo.has(p):
		a.w.duo.audit.saved(p, ops)
		return
	case a.w.tower.has(p):
		a.w.tower.saved(ops)
		return
	}
	fresh := a.fresh(ops)
	for _, op := range ops {
		switch op.Bucket {
		case bucketPayer, bucketPayee:
			r := a.record(p, op)
			if op.Bucket == bucketPayer {
				a.savedPayer(p, r.payer)
				continue
			}
			a.once(r.payee, fresh)
			a.savedPayee(r.payee)
		case bucketPool:
			a.pool = channel.Pool{}
			a.decode(op, &a.pool)
		}
	}
	a.debts()
}

// fresh is how many chunks a commit says are charged that were not before.
func (a *audit) fresh(ops []store.Op) (n uint64) {
	for _, op := range ops {
		if op.Bucket != bucketPages {
			continue
		}
		before := a.pages[op.Key]
		for i, bits8 := range op.Value {
			if i < len(before) {
				bits8 &^= before[i]
			}
			n += uint64(bits.OnesCount8(bits8))
		}
		a.pages[op.Key] = bytes.Clone(op.Value)
	}
	return n
}

// once: what is charged is one price for each chunk that was not charged before, and
// which ones these are is saved with it.
func (a *audit) once(r channel.PayeeRecord, fresh uint64) {
	id := r.Terms.ID()
	if a.late || r.Restored {
		return
	}
	if rise := r.Charged - min(r.Charged, a.payee[id].Charged); rise != fresh*a.w.story.price {
		a.w.violate("%.12s was charged %d msat for %d chunks that were not charged before, at %d msat each", id, rise, fresh, a.w.story.price)
	}
}

// reread takes over what is on a disk that was opened again: a save of unknown
// fate is there or not, an old copy has forgotten something.
func (a *audit) reread(p *process, open store.Store) {
	switch {
	case a.w.duo.has(p):
		a.w.duo.audit.reread(p, open)
		return
	case a.w.tower.has(p):
		a.w.tower.reread(open)
		return
	}
	bucket := bucketPayer
	if a.w.seller == nil || p == a.w.seller.process {
		bucket = bucketPayee
	}
	entries, err := open.List(a.w.ctx, bucket, "")
	a.w.must(err)
	if bucket == bucketPayee && a.w.seller != nil && a.w.seller.restored && !a.forgotten {
		a.forget(open, entries)
		return
	}
	a.late = true
	defer func() { a.late = false }()
	for _, e := range entries {
		a.saved(p, []store.Op{{Bucket: bucket, Key: e.Key, Value: e.Value}})
	}
	if bucket == bucketPayee {
		a.readPages(open)
		if e, err := open.Get(a.w.ctx, bucketPool, "pool"); err == nil {
			a.saved(p, []store.Op{{Bucket: bucketPool, Key: "pool", Value: e.Value}})
		}
	}
}

// forget is the audit's side of a payee that was restored from an old copy.
func (a *audit) forget(open store.Store, entries []store.Entry) {
	a.forgotten = true
	a.payee, a.acked, a.worth, a.pool = map[string]channel.PayeeRecord{}, map[string]uint64{}, map[string]uint64{}, channel.Pool{}
	a.delivered = map[goods]bool{}
	a.readPages(open)
	for _, e := range entries {
		var r channel.PayeeRecord
		a.decode(store.Op{Bucket: bucketPayee, Key: e.Key, Value: e.Value}, &r)
		a.payee[e.Key] = r
	}
}

// readPages takes over which chunks a disk says are charged.
func (a *audit) readPages(open store.Store) {
	entries, err := open.List(a.w.ctx, bucketPages, "")
	a.w.must(err)
	a.pages = map[string][]byte{}
	for _, e := range entries {
		a.pages[e.Key] = bytes.Clone(e.Value)
	}
}

// record decodes a record, once for the same bytes.
func (a *audit) record(p *process, op store.Op) decodedRecord {
	at := place{p, op.Bucket, op.Key}
	r := a.read[at]
	if op.Value != nil && r.raw == string(op.Value) {
		return r
	}
	r = decodedRecord{raw: string(op.Value)}
	if op.Bucket == bucketPayer {
		a.decode(op, &r.payer)
	} else {
		a.decode(op, &r.payee)
	}
	a.read[at] = r
	return r
}

func (a *audit) decode(op store.Op, to any) {
	if op.Value == nil {
		a.w.violate("%s %s was deleted", op.Bucket, op.Key)
		return
	}
	if r, ok := to.(json.Unmarshaler); ok {
		a.w.must(r.UnmarshalJSON(op.Value)) // it checks the form itself
		return
	}
	a.w.must(json.Unmarshal(op.Value, to))
}

// order is how far a phase is: no record goes back.
var order = map[channel.Phase]int{
	channel.Prepared: 0, channel.Funding: 1, channel.Open: 2, channel.Settling: 3, channel.Closing: 4, channel.Refunding: 5,
	channel.Closed: 6, channel.Refunded: 6, channel.Abandoned: 6,
}

func (a *audit) savedPayer(p *process, r channel.PayerRecord) {
	w, id := a.w, r.Terms.ID()
	was, known := a.payer[id]
	if a.owner[id] == nil {
		for _, b := range w.buyers {
			if b.process == p {
				a.owner[id] = b
			}
		}
		if w.crowd.has(p) {
			a.owner[id] = w.crowd.buyer
		}
	}
	a.payer[id] = r
	a.stopped(r.Stop(), was.Stopped)
	a.over(p, r.Terms, r.Phase, was.Phase)
	a.funded(r, was)
	if a.cameBack(r, was) {
		return
	}
	owed := channel.CeilSat(r.Owed)
	floor := max(owed+w.story.prepay, min(r.Terms.MinimumCharge, r.Terms.Capacity-min(r.Terms.Capacity, r.Terms.Dust())))
	switch {
	case r.Owed > max(a.verified[id], a.shown(r)) && r.Owed > was.Owed:
		w.violate("the payer's ledger of %.12s says %d msat, it verified %d msat", id, r.Owed, a.verified[id])
	case r.Signed > was.Signed && r.Signed > floor:
		w.violate("signed %d sat on %.12s, verified %d msat", r.Signed, id, r.Owed)
	case r.Signed > r.Terms.Capacity:
		w.violate("signed %d sat on %.12s, it holds %d sat", r.Signed, id, r.Terms.Capacity)
	case !known:
		if r.Phase != channel.Prepared {
			w.violate("%.12s begins as %s", id, r.Phase)
		}
	case r.Signed < was.Signed:
		w.violate("signed fell from %d to %d sat on %.12s", was.Signed, r.Signed, id)
	case r.Owed < was.Owed:
		w.violate("the payer's ledger of %.12s fell from %d to %d msat", id, was.Owed, r.Owed)
	case was.Phase.Final() && r.Phase != was.Phase || order[r.Phase] < order[was.Phase] && was.Phase != channel.Closing && was.Phase != channel.Settling:
		w.violate("the payer's %.12s went from %s back to %s", id, was.Phase, r.Phase)
	}
	if r.Refund != nil && (was.Refund == nil || was.Refund.Txid != r.Refund.Txid) {
		a.refund(r, was)
	}
}

// stopped: no side ever has to stop a channel by the invariants that it checks itself.
func (a *audit) stopped(stop *channel.StoppedError, before string) {
	if stop != nil && before == "" {
		a.w.violate("%v", stop)
	}
}

// refund holds a refund that was saved against the rules.
func (a *audit) refund(r, was channel.PayerRecord) {
	tx, err := channel.DecodeTx(r.Refund.Tx)
	if err != nil {
		a.w.violate("a refund was saved that is no transaction: %v", err)
		return
	}
	if was.Refund != nil && r.Refund.Rate < was.Refund.Rate {
		a.w.violate("the refund's rate fell from %d to %d", was.Refund.Rate, r.Refund.Rate)
	}
	if tx.LockTime != r.Terms.Expiry || len(tx.TxIn) != 1 || tx.TxIn[0].PreviousOutPoint != wire.OutPoint(r.Terms.Outpoint) || tx.TxIn[0].Sequence != script.Sequence {
		a.w.violate("the refund of %.12s has lock %d, the expiry is %d", r.Terms.ID(), tx.LockTime, r.Terms.Expiry)
	}
	a.outputs("refund", tx, int64(r.Terms.Capacity), r.Refund.Fee, r.RefundScript)
}

// outputs: outputs and fee are the capacity, everything goes to who it should go
// to, and can be relayed.
func (a *audit) outputs(what string, tx *wire.MsgTx, capacity, fee int64, to ...[]byte) {
	sum := fee
	for _, out := range tx.TxOut {
		sum += out.Value
		right := false
		for _, pk := range to {
			right = right || bytes.Equal(pk, out.PkScript)
		}
		if !right {
			a.w.violate("a %s pays to %x", what, out.PkScript)
		}
		if out.Value < script.Dust(out.PkScript) {
			a.w.violate("a %s has an output of %d sat, which no node relays", what, out.Value)
		}
	}
	if sum != capacity || fee < script.FeeRatePerVB(1).Fee(script.VSize(tx)) {
		a.w.violate("a %s of %d sat with a fee of %d sat out of %d sat", what, sum-fee, fee, capacity)
	}
}

func (a *audit) savedPayee(r channel.PayeeRecord) {
	w, id := a.w, r.Terms.ID()
	was, known := a.payee[id]
	a.payee[id] = r
	a.stopped(r.Stop(), was.Stopped)
	a.over(w.seller.process, r.Terms, r.Phase, was.Phase)
	mine, ours := a.payer[id]
	switch {
	case !ours:
		w.violate("the payee stores %s, which no payer has saved", id)
	case r.Paid > max(mine.Signed, a.back.peak[id]):
		w.violate("the payee holds %d sat on %.12s, signed were %d sat", r.Paid, id, mine.Signed)
	case r.Charged > r.Paid*1000+max(w.story.credit, r.Terms.Credit) && r.Charged > was.Charged:
		w.violate("charged %d msat on %.12s, paid %d sat: more than a credit of %d msat", r.Charged, id, r.Paid, w.story.credit)
	case r.Charged%w.story.price != 0 && !r.Restored:
		w.violate("charged %d msat on %.12s is no number of chunks", r.Charged, id)
	case channel.CeilSat(r.Charged) > max(r.Paid, r.Terms.Capacity) || r.Terms.CheckAmount(max(r.Paid, channel.CeilSat(r.Charged))) != nil:
		w.violate("charged %d msat on %.12s cannot be paid out of %d sat", r.Charged, id, r.Terms.Capacity)
	case !known:
		a.oneKey(r)
		a.opened(r)
	case r.Paid < was.Paid:
		w.violate("paid fell from %d to %d sat on %.12s", was.Paid, r.Paid, id)
	case r.Charged < was.Charged:
		w.violate("charged fell from %d to %d msat on %.12s", was.Charged, r.Charged, id)
	case was.Phase.Final() && r.Phase != was.Phase || order[r.Phase] < order[was.Phase]:
		w.violate("the payee's %.12s went from %s back to %s", id, was.Phase, r.Phase)
	case r.Paid < a.acked[id]:
		w.violate("the payee acknowledged %d sat on %.12s and holds %d sat", a.acked[id], id, r.Paid)
	}
	if r.Charged > was.Charged {
		a.charged(r, was)
	}
	if s := r.Settlement; s != nil && (was.Settlement == nil || was.Settlement.Txid != s.Txid) {
		a.settlement(r, was)
	}
	if r.Close != nil && was.Close == nil {
		a.close(r)
	}
}

// opened: T1 is on the chain, or in the mempool, as the terms say.
func (a *audit) opened(r channel.PayeeRecord) {
	if a.w.story.wild || a.misled() || a.late {
		return
	}
	info, err := a.w.chain.Tx(a.w.ctx, r.Terms.Outpoint.Hash)
	if err != nil {
		a.w.violate("the payee stores %.12s, whose funding nobody sees", r.Terms.ID())
		return
	}
	if out := info.Tx.TxOut[r.Terms.Outpoint.Index]; out.Value != int64(r.Terms.Capacity) {
		a.w.violate("the payee stores %.12s with %d sat, it holds %d sat", r.Terms.ID(), r.Terms.Capacity, out.Value)
	}
}

// fresh is how old what a payee knows of the chain may be.
const fresh = 20 * time.Second

// charged holds a charge against the rules of delivery.
func (a *audit) charged(r, was channel.PayeeRecord) {
	w, id := a.w, r.Terms.ID()
	if was.Phase != channel.Funding && was.Phase != channel.Open || r.Restored {
		if !was.Restored && r.Restored {
			return // charged is raised to paid
		}
		w.violate("the payee charged %.12s in phase %s, restored: %t", id, was.Phase, r.Restored)
	}
	if w.story.wild || a.late || w.seller.skew != 0 || a.misled() || w.now.Sub(a.reorged) <= fresh+time.Second {
		return
	}
	if tip := w.chain.Height(); w.now.Sub(a.block) > fresh+time.Second && tip >= r.Terms.Expiry-r.Terms.Margin {
		w.violate("the payee delivers on %.12s at height %d, its expiry is %d", id, tip, r.Terms.Expiry)
	}
	if a.long(id) {
		w.violate("the payee delivers on %.12s, whose output is spent", id)
	}
	info, err := w.chain.Tx(w.ctx, r.Terms.Outpoint.Hash)
	if (err != nil || !info.Confirmed) && r.Charged > r.Terms.ZeroConf { // a payee that lies may offer to
		w.violate("the payee delivers on %.12s, whose funding is not confirmed", id)
	}
}

// settlement holds a settlement that was saved against the rules.
func (a *audit) settlement(r, was channel.PayeeRecord) {
	w, id, s := a.w, r.Terms.ID(), r.Settlement
	tx, err := channel.DecodeTx(s.Tx)
	if err != nil {
		w.violate("a settlement was saved that is no transaction: %v", err)
		return
	}
	if old := was.Settlement; old != nil && s.Rate < old.Rate && (len(old.Batch) < 2 || len(s.Batch) > 1) { // alone after a batch: what the stake allows
		w.violate("the settlement's rate of %.12s fell from %d to %d", id, old.Rate, s.Rate)
	}
	if s.Amount > r.Paid || was.Settlement != nil && s.Amount < was.Settlement.Amount {
		w.violate("a settlement of %.12s at %d sat, paid are %d sat", id, s.Amount, r.Paid)
	}
	if len(s.Batch) > 0 {
		a.old = append(a.old, s.Tx)
		a.batch(r, tx)
		return
	}
	if len(tx.TxIn) != 1 || tx.TxIn[0].PreviousOutPoint != wire.OutPoint(r.Terms.Outpoint) || tx.LockTime != 0 {
		w.violate("a settlement of %.12s spends something else, or later", id)
	}
	a.old = append(a.old, s.Tx)
	rest := int64(0)
	for _, out := range tx.TxOut {
		if bytes.Equal(out.PkScript, r.Terms.RestScript) {
			rest = out.Value
		}
	}
	if rest != int64(r.Terms.Capacity-s.Amount) {
		w.violate("a settlement of %.12s at %d sat leaves the payer %d sat of %d sat", id, s.Amount, rest, r.Terms.Capacity)
	}
	if int64(r.Paid) < 330+script.VSize(tx) {
		return // too little for any fee: what is made of it is not relayed, and nobody is promised that it is
	}
	a.outputs("settlement", tx, int64(r.Terms.Capacity), s.Fee, r.Terms.RestScript, w.seller.payout)
}

// close holds a cooperative close that the payee agreed to against the rules.
func (a *audit) close(r channel.PayeeRecord) {
	id := r.Terms.ID()
	if r.Owed() > 0 || r.Restored || r.Phase != channel.Closing || r.Close.Amount != r.Paid {
		a.w.violate("the payee closes %.12s at %d sat, owed are %d msat, restored: %t, phase %s", id, r.Close.Amount, r.Owed(), r.Restored, r.Phase)
	}
	tx, err := channel.DecodeTx(r.Close.Tx)
	if err != nil {
		a.w.violate("a close was saved that is no transaction: %v", err)
		return
	}
	a.outputs("close", tx, int64(r.Terms.Capacity), r.Close.Fee, r.Terms.RestScript, a.w.seller.payout)
}

// debts: what newcomers owe together stays within the pool.
func (a *audit) debts() {
	w := a.w
	size := w.pol.PoolChunks * w.story.price
	if a.pool.Taken() > size && len(a.pool.Places) > 0 {
		w.violate("places for %d msat in a pool of %d msat", a.pool.Taken(), size)
	}
	var sum uint64
	for _, r := range a.payee {
		newcomer := r.MaxPrice > r.NewcomerAbove && (r.Paid < r.Terms.MinimumCharge || (r.Paid-r.Terms.MinimumCharge)*1000 < 10*r.MaxPrice)
		if newcomer && !r.Phase.Final() {
			sum += r.Owed()
		}
	}
	if place := a.faded(); sum > size+place {
		w.violate("newcomers owe %d msat, the pool has %d msat", sum, size)
	}
}

// faded is what channels owe that the pool has forgotten since, in msat.
func (a *audit) faded() (sum uint64) {
	for id, r := range a.payee {
		if place, has := a.pool.Places[id]; !has || place.Owed < r.Owed() {
			sum += r.Owed() - min(r.Owed(), place.Owed)
		}
	}
	return sum
}
