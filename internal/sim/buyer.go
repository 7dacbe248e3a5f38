package sim

import (
	"encoding/binary"
	"errors"
	"math"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/payee"
	"github.com/spillway/spillway/payer"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/store"
)

// buyer is the payer's process between events: what it knows is gone with a
// crash, but for what is on its disk.
type buyer struct {
	id     string
	offer  channel.Offer
	opened bool
	paid   bool // the last payment got through
	closed bool
	gone   bool // it vanished
	alone  bool // the payee vanished
}

// forget is what a crash does: the id and the offer are in the record on disk.
func (b *buyer) forget() {
	b.opened, b.paid, b.closed = false, false, false
}

// lost decides what the network does to a request: nothing, or it loses the
// request, or the answer.
func (w *world) lost() (request, answer bool) {
	switch w.rng.IntN(12) {
	case 0:
		w.fault("lost-request")
		w.trace("  the request is lost")
		return true, true
	case 1:
		w.fault("lost-answer")
		w.trace("  the answer is lost")
		return false, true
	}
	return false, false
}

// step is the buyer's next try.
func (w *world) step() {
	b := &w.buyer
	switch {
	case b.gone || b.alone:
	case b.id == "":
		w.prepare()
	case !b.opened:
		w.open()
	case w.next() < w.story.chunks:
		w.chunk(w.next())
	case !b.paid:
		w.last()
	case !b.closed:
		w.close()
	}
}

const journal = "sim/journal"

// next is the first chunk that the buyer has not verified, by its journal.
func (w *world) next() uint64 {
	e, err := w.payerDisk.Get(w.ctx, journal, "next")
	if err != nil || len(e.Value) != 8 {
		return 0
	}
	return binary.LittleEndian.Uint64(e.Value)
}

func (w *world) prepare() {
	price := payee.Price{Chunk: w.story.price, Least: w.story.price, Total: w.story.chunks * w.story.price, Credit: w.story.price}
	o, err := w.payee.Offer(w.ctx, price)
	if w.afterDisk("payee", err) {
		return
	}
	r, err := w.payer.Prepare(w.ctx, payer.OpenRequest{Offer: o, Construction: w.story.kind, Capacity: w.story.capacity, Origin: "sim"})
	if w.afterDisk("payer", err) {
		return
	}
	w.buyer.id, w.buyer.offer = r.Terms.ID(), o
	w.trace("the payer prepares channel %s", r.Terms.ID())
}

// open takes the channel to where the payee has stored it, from wherever it is.
func (w *world) open() {
	b := &w.buyer
	r, err := w.payer.Record(w.ctx, b.id)
	if w.afterDisk("payer", err) {
		return
	}
	if r.Phase.Final() {
		b.gone = true
		return
	}
	if r.Terms.Construction != script.Taproot && len(r.RefundSig) == 0 && !w.refundSigned(r) {
		return
	}
	op, err := w.payer.Opening(w.ctx, b.id)
	if w.afterDisk("payer", err) {
		return
	}
	request, answer := w.lost()
	if request {
		return
	}
	_, err = w.payee.Open(w.ctx, b.offer, op)
	w.trace("open: %v", err)
	if w.afterDisk("payee", err) && !errors.Is(err, channel.ErrUnconfirmed) || answer {
		return
	}
	if w.afterDisk("payer", w.payer.Accepted(w.ctx, b.id)) || w.afterDisk("payer", w.payer.Publish(w.ctx, b.id)) {
		return
	}
	b.opened = true
}

// refundSigned goes through the steps 3 to 5 of a multisig opening.
func (w *world) refundSigned(r channel.PayerRecord) bool {
	tx, err := w.payer.RefundRequest(w.ctx, w.buyer.id)
	if w.afterDisk("payer", err) {
		return false
	}
	t := r.Terms
	sig, err := w.payee.Prepare(w.ctx, w.buyer.offer, channel.Opening{
		Construction: t.Construction, PayerKey: t.PayerKey, Outpoint: t.Outpoint, Capacity: t.Capacity, RestScript: t.RestScript,
	}, tx)
	if w.afterDisk("payee", err) {
		return false
	}
	return !w.afterDisk("payer", w.payer.TakeRefundSignature(w.ctx, w.buyer.id, sig))
}

// chunk asks for a chunk with the newest update, verifies it, and signs for it.
func (w *world) chunk(i uint64) {
	if w.misbehaves(i) {
		return
	}
	u, err := w.payer.Newest(w.ctx, w.buyer.id)
	if w.afterDisk("payer", err) {
		return
	}
	request, answer := w.lost()
	if request {
		return
	}
	rec, err := w.payee.Pay(w.ctx, payee.Request{
		Channel: w.buyer.id, Update: &u, Credit: w.story.price, Items: []payee.Item{{Resource: [32]byte{1}, Chunk: i, Price: w.story.price}},
	})
	w.trace("chunk %d with %d sat: charged %d msat, paid %d sat, %v", i, u.Amount, rec.Charged, rec.Paid, err)
	if err != nil {
		if errors.Is(err, channel.ErrFinalized) || errors.Is(err, channel.ErrExpiring) || errors.Is(err, channel.ErrAmountExceeds) {
			w.buyer.gone = true // it has what it has; the chain does the rest
		}
		w.afterDisk("payee", err)
		return
	}
	w.seen.delivered[i] = true
	if answer {
		return
	}
	if w.story.payer == "stops" && i == w.story.at {
		w.trace("the payer keeps the chunk and pays no more")
		w.fault("payer-stops")
		w.buyer.gone = true
		return
	}
	next := binary.LittleEndian.AppendUint64(nil, i+1)
	_, err = w.payer.Pay(w.ctx, w.buyer.id, payer.Payment{
		Verified: w.story.price, Ops: []store.Op{{Bucket: journal, Key: "next", Value: next, Expect: store.Any}},
	}, channel.Limits{Budget: math.MaxUint64})
	if w.afterDisk("payer", err) {
		return
	}
	w.seen.verified += w.story.price
}

// misbehaves lets somebody vanish at the story's chunk.
func (w *world) misbehaves(i uint64) bool {
	if i != w.story.at {
		return false
	}
	switch {
	case w.story.payer == "vanishes":
		w.trace("the payer vanishes")
		w.fault("payer-vanishes")
		w.buyer.gone = true
		return true
	case w.story.payee == "vanishes":
		w.trace("the payee vanishes")
		w.fault("payee-vanishes")
		w.buyer.alone = true
		return true
	}
	return false
}

// last is the payment that ends the purchase.
func (w *world) last() {
	u, err := w.payer.Pay(w.ctx, w.buyer.id, payer.Payment{Last: true}, channel.Limits{Budget: math.MaxUint64})
	if w.afterDisk("payer", err) {
		return
	}
	request, answer := w.lost()
	if request {
		return
	}
	rec, err := w.payee.Pay(w.ctx, payee.Request{Channel: w.buyer.id, Update: &u})
	w.trace("the last payment, %d sat: %v", u.Amount, err)
	if w.afterDisk("payee", err) {
		w.buyer.gone = w.buyer.gone || errors.Is(err, channel.ErrFinalized)
		return
	}
	w.buyer.paid = !answer && rec.Paid == u.Amount
}

// close ends the channel together, or has a multisig payee settle it.
func (w *world) close() {
	c, err := w.payer.BeginClose(w.ctx, w.buyer.id)
	if w.afterDisk("payer", err) {
		return
	}
	if request, _ := w.lost(); request {
		return
	}
	if w.story.kind != script.Taproot {
		b, err := w.payee.Settle(w.ctx, w.buyer.id, &c.Update, true)
		w.trace("settle: %v", err)
		if !w.afterDisk("payee", err) {
			_, err = w.payer.TakeSettlement(w.ctx, w.buyer.id, b.Tx)
			w.buyer.closed = !w.afterDisk("payer", err)
		}
		w.buyer.closed = w.buyer.closed || errors.Is(err, channel.ErrFinalized)
		return
	}
	a, err := w.payee.Close(w.ctx, w.buyer.id, channel.CloseRequest{Update: c.Update, PayerNonce: c.Nonce[:]})
	w.trace("close: %v", err)
	if w.afterDisk("payee", err) {
		w.buyer.closed = errors.Is(err, channel.ErrFinalized) || errors.Is(err, channel.ErrExpiring)
		return
	}
	if _, answer := w.lost(); answer {
		return
	}
	final, err := w.payer.FinishClose(w.ctx, w.buyer.id, c, a.Tx, [66]byte(a.PayeeNonce), a.Partial)
	if w.afterDisk("payer", err) {
		return
	}
	w.buyer.closed = true
	if request, _ := w.lost(); request {
		return
	}
	w.afterDisk("payee", w.payee.FinishClose(w.ctx, w.buyer.id, final))
}
