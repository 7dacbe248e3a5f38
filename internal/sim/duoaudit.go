package sim

import (
	"bytes"
	"encoding/json"
	"maps"
	"math/bits"
	"strings"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/store"
)

// duoAudit holds what the pair does against docs/protocol.md, section 18: at each
// save, each broadcast, each delivery, and at the end against the chain.
type duoAudit struct {
	d     *duo
	payer channel.PayerRecord // as they are on the disks
	payee channel.PayeeRecord

	signed    map[stateKey]bool // states that were saved as signed
	charged   uint64            // of the payee's goods, as marked on its disk
	pages     map[string][]byte
	bought    uint64 // of the payer's goods, as the payee's journal says
	sold      uint64 // of them, as marked on its disk
	next      uint64 // of the payee's goods, as the payer's journal says
	verified  uint64 // of them
	due       [2]channel.Update
	noted     bool // due is what was held when the output's spend was mined
	late      bool // what is looked at was saved a while ago
	forgotten bool // the payee was restored from an old copy that was not read yet
	vanished  bool
}

type stateKey struct {
	epoch  uint32
	amount uint64
}

func newDuoAudit(d *duo) *duoAudit {
	return &duoAudit{d: d, signed: map[stateKey]bool{}, pages: map[string][]byte{}}
}

// reread takes over what is on a disk that was opened again.
func (a *duoAudit) reread(p *process, open store.Store) {
	a.late = true
	defer func() { a.late = false }()
	buckets := []string{bucketDuo, bucketPages, bucketSold, bucketPayer, bucketPayee}
	if p == a.d.other && a.forgotten {
		a.forgotten, a.payee, a.charged, a.bought = false, channel.PayeeRecord{}, 0, 0
		maps.DeleteFunc(a.pages, func(key string, _ []byte) bool { return strings.HasPrefix(key, bucketPages) })
	}
	for _, bucket := range buckets {
		entries, err := open.List(a.d.w.ctx, bucket, "")
		a.d.w.must(err)
		for _, e := range entries {
			a.saved(p, []store.Op{{Bucket: bucket, Key: e.Key, Value: e.Value}})
		}
	}
}

// saved is told what a side has committed.
func (a *duoAudit) saved(p *process, ops []store.Op) {
	for _, op := range ops {
		switch op.Bucket {
		case bucketDuo:
			var n uint64
			a.d.w.must(json.Unmarshal(op.Value, &n))
			switch op.Key {
			case "next":
				a.next = n
			case "bought":
				a.bought = n
			}
		case bucketPages:
			a.charged += a.marked(op)
		case bucketSold:
			a.sold += a.marked(op)
		}
	}
	for _, op := range ops {
		switch op.Bucket {
		case bucketPayer:
			var r channel.PayerRecord
			a.d.w.must(json.Unmarshal(op.Value, &r))
			a.savedPayer(r)
		case bucketPayee:
			var r channel.PayeeRecord
			a.d.w.must(json.Unmarshal(op.Value, &r))
			a.savedPayee(r)
		}
	}
}

// marked is how many items a page says are charged that were not before.
func (a *duoAudit) marked(op store.Op) (n uint64) {
	before := a.pages[op.Bucket+op.Key]
	for i, b := range op.Value {
		if i < len(before) {
			b &^= before[i]
		}
		n += uint64(bits.OnesCount8(b))
	}
	a.pages[op.Bucket+op.Key] = bytes.Clone(op.Value)
	return n
}

func (a *duoAudit) savedPayer(r channel.PayerRecord) {
	was := a.payer
	a.payer = r
	d := r.Duplex
	if d == nil {
		return // its opening is not saved yet
	}
	before := channel.Duplex{}
	if was.Duplex != nil {
		before = *was.Duplex
	}
	a.states("payer", r.Terms, script.Payer, before, *d, a.d.one)
	w := a.d.w
	ledger := int64(a.next*a.d.price) - int64(a.sold*a.d.sale) - int64(d.Back)
	switch {
	case d.Sent.Newer(before.Sent) && d.Sent.Epoch > 0 && d.Sent.Amount > channel.CeilSat(r.Owed):
		w.violate("the duplex payer signs %d sat, its ledger is %d msat", d.Sent.Amount, r.Owed)
	case a.next > a.verified:
		w.violate("the duplex payer counts %d items, it verified %d", a.next, a.verified)
	case !a.late && ledger >= 0 && r.Owed != uint64(ledger) && r.Owed > was.Owed:
		w.violate("the duplex payer's ledger is %d msat, for %d items got, %d sold and %d msat back", r.Owed, a.next, a.sold, d.Back)
	case r.Owed < was.Owed && d.Back == before.Back && !a.late && a.out(r.Signed, r.Owed) >= int64(a.d.trusted)+1000: // less than a satoshi is not owed
		w.violate("the duplex payer sells up to a share of %d sat at a ledger of %d msat: more than a credit of %d msat", r.Signed, r.Owed, a.d.trusted)
	case was.Phase.Final() && r.Phase != was.Phase:
		w.violate("the duplex payer's channel went from %s back to %s", was.Phase, r.Phase)
	}
	if r.Refund != nil && (was.Refund == nil || was.Refund.Txid != r.Refund.Txid) {
		a.settlement(script.Payer, r.Terms, *r.Refund, was.Refund, d.Held, r.RefundScript, r.Terms.PayeeRest)
	}
}

// out is by how much (msat) a share (sat) is above a ledger (msat).
func (a *duoAudit) out(share, ledger uint64) int64 { return int64(share*1000) - int64(ledger) }

func (a *duoAudit) savedPayee(r channel.PayeeRecord) {
	was := a.payee
	a.payee = r
	w, d := a.d.w, r.Duplex
	if d == nil {
		w.violate("a duplex channel is stored without its states")
		return
	}
	before := channel.Duplex{}
	if was.Duplex != nil {
		before = *was.Duplex
	}
	a.states("payee", r.Terms, script.Payee, before, *d, a.d.other)
	ledger := int64(a.charged*a.d.price) - int64(a.bought*a.d.sale) - int64(d.Back)
	switch {
	case !r.Restored && ledger >= 0 && r.Charged != uint64(ledger) && !a.late:
		w.violate("the duplex payee's ledger is %d msat, for %d items charged, %d bought and %d msat back", r.Charged, a.charged, a.bought, d.Back)
	case r.Charged > was.Charged && !r.Restored && !a.late && -a.out(r.Paid, r.Charged) > int64(a.d.credit):
		w.violate("the duplex payee charges %d msat at a share of %d sat: more than a credit of %d msat", r.Charged, r.Paid, a.d.credit)
	case was.Phase.Final() && r.Phase != was.Phase || order[r.Phase] < order[was.Phase]:
		w.violate("the duplex payee's channel went from %s back to %s", was.Phase, r.Phase)
	}
	if s := r.Settlement; s != nil && (was.Settlement == nil || was.Settlement.Txid != s.Txid) {
		a.settlement(script.Payee, r.Terms, *s, was.Settlement, d.Held, w.seller.payout, r.Terms.RestScript)
	}
}

// states: what a side signed and holds only gets newer, by the rules of epochs, and
// it holds nothing that the other has not saved as signed.
func (a *duoAudit) states(who string, t channel.Terms, side script.Side, was, is channel.Duplex, p *process) {
	w := a.d.w
	if is.Sent.Epoch > 0 {
		a.signed[stateKey{is.Sent.Epoch, is.Sent.Amount}] = true
	}
	newest := was.Sent
	if was.Held.Newer(newest) {
		newest = was.Held
	}
	switch {
	case t.Step < t.Margin:
		w.violate("a step of %d blocks, a margin of %d", t.Step, t.Margin)
	case was.Sent.Newer(is.Sent) || was.Held.Newer(is.Held) || is.Back < was.Back:
		w.violate("the duplex %s's states fell from %d/%d to %d/%d", who, was.Sent.Epoch, was.Held.Epoch, is.Sent.Epoch, is.Held.Epoch)
	case is.Held.Epoch > 0 && !a.signed[stateKey{is.Held.Epoch, is.Held.Amount}]:
		w.violate("the duplex %s holds epoch %d at %d sat, which nobody has saved as signed", who, is.Held.Epoch, is.Held.Amount)
	case is.Sent.Epoch > 0 && channel.SenderOf(is.Sent.Epoch) != side, is.Held.Epoch > 0 && channel.SenderOf(is.Held.Epoch) == side:
		w.violate("the duplex %s sent epoch %d and holds epoch %d", who, is.Sent.Epoch, is.Held.Epoch)
	case is.Sent.Newer(was.Sent) && is.Sent.Epoch > 1 && is.Sent.Epoch != newest.Epoch && is.Sent.Epoch != newest.Epoch+1 && !a.late:
		w.violate("the duplex %s signs epoch %d, the newest is %d", who, is.Sent.Epoch, newest.Epoch)
	}
	if a.late || w.story.wild || p.link.bad > 0 {
		return
	}
	tip := w.chain.Height()
	if is.Sent.Newer(was.Sent) && was.Sent.Epoch+was.Held.Epoch > 0 {
		before, _ := t.Lock(is.Sent.Epoch - 1)
		if tip+t.Margin >= before {
			w.violate("the duplex %s signs epoch %d at height %d, lock(%d) is %d", who, is.Sent.Epoch, tip, is.Sent.Epoch-1, before)
		}
		itself, _ := t.Lock(is.Sent.Epoch)
		if is.Sent.Epoch%2 == 0 && is.Sent.Epoch > newest.Epoch && tip+t.Margin >= itself {
			w.violate("the duplex %s begins epoch %d at height %d, which could not be reversed", who, is.Sent.Epoch, tip)
		}
	}
}

// settlement holds a settlement of a state, or the refund, that was saved against
// the rules.
func (a *duoAudit) settlement(by script.Side, t channel.Terms, s channel.Broadcast, was *channel.Broadcast, held channel.Update, own, others []byte) {
	w := a.d.w
	tx, err := channel.DecodeTx(s.Tx)
	if err != nil {
		w.violate("a duplex settlement was saved that is no transaction: %v", err)
		return
	}
	lock, _ := t.Lock(held.Epoch)
	switch {
	case was != nil && s.Rate < was.Rate:
		w.violate("the rate of the duplex %s's settlement fell from %d to %d", by, was.Rate, s.Rate)
	case len(tx.TxIn) != 1 || tx.TxIn[0].PreviousOutPoint != wire.OutPoint(t.Outpoint) || tx.LockTime != lock:
		w.violate("the duplex %s settles with a lock of %d, that of epoch %d is %d", by, tx.LockTime, held.Epoch, lock)
	case held.Epoch > 0 && s.Amount != held.Amount || held.Epoch == 0 && by == script.Payee:
		w.violate("the duplex %s settles at %d sat, it holds epoch %d at %d sat", by, s.Amount, held.Epoch, held.Amount)
	}
	if held.Epoch == 0 {
		w.audit.outputs("duplex refund", tx, int64(t.Capacity), s.Fee, own)
		return
	}
	if !bytes.Equal(own, others) && valueTo(tx, others) != int64(t.Capacity-held.Amount) {
		w.violate("the duplex %s's settlement leaves the other %d sat of %d sat", by, valueTo(tx, others), t.Capacity-held.Amount)
	}
	w.audit.outputs("duplex settlement", tx, int64(t.Capacity), s.Fee, own, others)
}

func valueTo(tx *wire.MsgTx, pk []byte) (sum int64) {
	for _, out := range tx.TxOut {
		if bytes.Equal(out.PkScript, pk) {
			sum += out.Value
		}
	}
	return sum
}

// broadcast: what a side sends to the network is on its disk.
func (a *duoAudit) broadcast(p *process, tx *wire.MsgTx) {
	id := tx.TxHash()
	r, s := a.payer, a.payee
	switch {
	case r.Terms.Outpoint.Hash == id && r.Phase != channel.Prepared:
	case p == a.d.one && (r.Refund != nil && r.Refund.Txid == id.String() || r.Close != nil && r.Close.Txid == id.String()):
	case p == a.d.other && (s.Settlement != nil && s.Settlement.Txid == id.String() || s.Close != nil && s.Close.Txid == id.String()):
	default:
		a.d.w.violate("%s broadcasts %s, which it has not saved", p.name, id)
	}
}

// deliver: what is delivered is charged on the seller's disk.
func (a *duoAudit) deliver(by script.Side, i uint64) {
	switch {
	case by == script.Payee && a.charged <= i && !a.d.restored:
		a.d.w.violate("the duplex payee delivers item %d, %d are charged", i, a.charged)
	case by == script.Payer && a.sold <= i:
		a.d.w.violate("the duplex payer delivers item %d, %d are charged", i, a.sold)
	}
}

// held are the newest states that each side holds, of those that there are.
func (a *duoAudit) held() (all []channel.Update) {
	if r := a.payer.Duplex; r != nil && r.Held.Epoch > 0 {
		all = append(all, r.Held)
	}
	if s := a.payee.Duplex; s != nil && s.Held.Epoch > 0 {
		all = append(all, s.Held)
	}
	return all
}

// mined remembers what was held when the output's spend was mined.
func (a *duoAudit) mined() {
	_, height, ok := a.d.w.chain.Spender(wire.OutPoint(a.payer.Terms.Outpoint))
	switch mined := ok && height > 0; {
	case mined && !a.noted:
		a.noted, a.due = true, [2]channel.Update{}
		if r := a.payer.Duplex; r != nil && !a.d.vanished(a.d.one) {
			a.due[0] = r.Held
		}
		if s := a.payee.Duplex; s != nil && !a.d.vanished(a.d.other) {
			a.due[1] = s.Held
		}
	case !mined:
		a.noted = false
	}
}

// strict reports whether the guarantees of both sides hold.
func (a *duoAudit) strict() bool { return !a.d.w.story.wild && !a.d.restored }

// end holds how the pair's channel came out against the chain.
func (a *duoAudit) end() {
	w, r, s := a.d.w, a.payer, a.payee
	if a.d.id == "" || r.Phase == channel.Prepared || r.Duplex == nil {
		return
	}
	tx, height, spent := w.chain.Spender(wire.OutPoint(r.Terms.Outpoint))
	if !spent || height == 0 {
		if !w.story.wild && !a.d.vanished(a.d.one) {
			w.violate("the duplex channel is %s and its output is not spent", r.Phase)
		}
		return
	}
	w.fault("duplex-ended")
	if tx.LockTime == 0 {
		w.fault("duplex-closed-together")
		a.closed(tx)
		return
	}
	share, epoch := a.share(tx)
	if epoch == 0 {
		w.fault("duplex-refunded")
	} else if epoch%2 == 0 {
		w.fault("duplex-settled-by-payer")
	} else {
		w.fault("duplex-settled-by-payee")
	}
	if !a.strict() {
		return
	}
	newest := a.due[0]
	if a.due[1].Newer(newest) {
		newest = a.due[1]
	}
	own := int64(newest.Amount)
	if newest.Epoch > 0 && w.audit.affordable(own) {
		a.newestWon(tx, height, epoch, newest)
	}
	// what the payee said it returns, and no state says, is only worth something in a close
	reversal := max(a.d.trusted, r.Terms.MinimumCharge*1000)
	switch {
	case !a.d.vanished(a.d.other) && -a.out(share, s.Charged) > int64(a.d.credit)+small*1000 && w.audit.affordable(own):
		w.violate("the duplex payee has %d sat of a ledger of %d msat, its credit was %d msat", share, s.Charged, a.d.credit)
	case !a.d.vanished(a.d.one) && a.out(share, r.Owed+r.Duplex.Back) > int64(reversal)+small*1000 && w.audit.affordable(own):
		w.violate("the duplex payer has paid %d sat of a ledger of %d msat, its credit was %d msat", share, r.Owed, a.d.trusted)
	}
}

// affordable: an amount (sat) covers a settlement at the highest rate of the run.
func (a *audit) affordable(amount int64) bool { return amount > 330+a.highest.Fee(360)*3/2 }

// share is what a settlement leaves the payee, before fees (sat), and its epoch.
func (a *duoAudit) share(tx *wire.MsgTx) (share uint64, epoch uint32) {
	t := a.payer.Terms
	for k := uint32(0); ; k++ {
		lock, ok := t.Lock(k)
		if !ok {
			a.d.w.violate("the duplex channel is spent with a lock of %d, which no epoch has", tx.LockTime)
			return 0, 0
		}
		if lock == tx.LockTime {
			epoch = k
			break
		}
	}
	switch {
	case epoch == 0:
		return 0, 0
	case epoch%2 == 1:
		return t.Capacity - uint64(valueTo(tx, t.RestScript)), epoch
	}
	return uint64(valueTo(tx, t.PayeeRest)), epoch
}

// newestWon: the newest state that somebody held who was there is what was mined,
// before anything older could be.
func (a *duoAudit) newestWon(tx *wire.MsgTx, height, epoch uint32, newest channel.Update) {
	w, t := a.d.w, a.payer.Terms
	before, _ := t.Lock(newest.Epoch - 1)
	share, _ := a.share(tx)
	amount := share
	if epoch%2 == 0 {
		amount = t.Capacity - share
	}
	switch {
	case epoch < newest.Epoch:
		w.violate("epoch %d of the duplex channel was mined, epoch %d was held", epoch, newest.Epoch)
	case epoch == newest.Epoch && amount+small < newest.Amount:
		w.violate("epoch %d of the duplex channel was mined at %d sat, %d sat were held", epoch, amount, newest.Amount)
	case epoch == newest.Epoch && height > before:
		w.violate("epoch %d of the duplex channel was mined at height %d, lock(%d) is %d", epoch, height, epoch-1, before)
	}
}

// closed: a close together is at the ledger, whoever owes.
func (a *duoAudit) closed(tx *wire.MsgTx) {
	w, r, s := a.d.w, a.payer, a.payee
	if s.Close == nil || s.Close.Txid != tx.TxHash().String() {
		w.violate("a close of the duplex channel was mined that nobody agreed to")
		return
	}
	rest, want := valueTo(tx, r.Terms.RestScript), int64(r.Terms.Capacity)-int64(channel.CeilSat(r.Owed))
	if rest < want-s.Close.Fee && want >= int64(r.Terms.Dust()) {
		w.violate("the duplex payer got %d sat of its %d sat", rest, want)
	}
}
