package sim

import (
	"errors"
	"fmt"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/payee"
	"github.com/spillway/spillway/payer"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/store"
)

// open goes on with the opening of the pair's channel.
func (d *duo) open() {
	w := d.w
	if d.idle(d.one) || d.idle(d.other) || w.vanished {
		return
	}
	if d.id == "" {
		o, err := d.payee.Offer(w.ctx, payee.Price{Chunk: d.price, Least: d.price, Total: 10 * d.price, Credit: d.credit})
		if err != nil {
			return
		}
		d.offer = o
		r, err := d.payer.Prepare(w.ctx, payer.OpenRequest{Offer: o, Construction: script.Duplex, Capacity: max(d.capacity, o.MinDeposit), Origin: "http://" + realm})
		w.tell("the duplex payer prepares %.12s with %d sat until %d: %v", r.Terms.ID(), r.Terms.Capacity, o.Expiry, err)
		if err != nil {
			return
		}
		d.id = r.Terms.ID()
	}
	id, o := d.id, d.offer
	op, err := d.payer.Opening(w.ctx, id)
	if err != nil {
		return
	}
	d.send(d.one, d.other, "an opening", func() {
		_, err := d.payee.Open(w.ctx, o, op)
		w.tell("the duplex payee takes %.12s: %v", id, err)
		if err != nil {
			return
		}
		d.send(d.other, d.one, "an acceptance", func() {
			err := errors.Join(d.payer.Accepted(w.ctx, id), d.payer.Publish(w.ctx, id))
			w.tell("the duplex payer has %.12s accepted: %v", id, err)
		})
	})
}

func (d *duo) accepted() bool { return d.audit.payer.Accepted }

// item is one of the payee's goods.
func (d *duo) item(i uint64) []payee.Item {
	return []payee.Item{{Resource: [32]byte{0xd0}, Chunk: i, Price: d.price}}
}

// buy asks the payee for the next of its goods with the payer's newest state; what
// comes is verified and paid.
func (d *duo) buy() {
	w := d.w
	next, ok := d.journal(d.one, "next")
	if !ok || d.idle(d.one) {
		return
	}
	u, err := d.payer.Newest(w.ctx, d.id)
	if err != nil {
		return
	}
	d.send(d.one, d.other, "a payment of the payer's", func() {
		got, err := d.payee.Pay(w.ctx, payee.Request{Channel: d.id, Update: &u, Items: d.item(next), Credit: d.credit})
		w.tell("the duplex payer asks for item %d with epoch %d, %d sat: share %d sat, ledger %d msat, %v", next, u.Epoch, u.Amount, got.Paid, got.Charged, err)
		if err != nil {
			return
		}
		d.audit.deliver(script.Payee, next)
		d.send(d.other, d.one, "goods of the payee's", func() { d.got(next) })
	})
	if w.rng.IntN(3) == 0 {
		d.pay()
	}
}

// got: the payer has verified an item, and pays for it.
func (d *duo) got(i uint64) {
	w := d.w
	if next, ok := d.journal(d.one, "next"); !ok || next != i {
		return // it has it
	}
	d.audit.verified = max(d.audit.verified, i+1)
	u, err := d.payer.Pay(w.ctx, d.id, payer.Payment{Verified: d.price, Ops: []store.Op{note("next", i+1)}}, d.limits())
	w.tell("  it is right, the duplex payer signs epoch %d, %d sat: %v", u.Epoch, u.Amount, err)
	if err == nil {
		w.done("duplex-bought")
	}
}

// pay brings the payer's newest state to the payee, alone.
func (d *duo) pay() {
	u, err := d.payer.Newest(d.w.ctx, d.id)
	if err != nil {
		return
	}
	d.send(d.one, d.other, "a state of the payer's", func() {
		_, err := d.payee.Pay(d.w.ctx, payee.Request{Channel: d.id, Update: &u, Credit: d.credit})
		d.w.tell("  the duplex payee is shown epoch %d, %d sat: %v", u.Epoch, u.Amount, err)
	})
}

// buyBack asks the payer for the next of its goods with the payee's newest state.
func (d *duo) buyBack() {
	w := d.w
	next, ok := d.journal(d.other, "bought")
	if !ok || d.idle(d.other) {
		return
	}
	state, err := d.payee.Returned(w.ctx, d.id)
	if err != nil {
		return
	}
	d.send(d.other, d.one, "a request of the payee's", func() {
		order := payer.Order{Update: state.State, Credit: d.trusted, Items: []payee.Item{{Resource: [32]byte{0xd1}, Chunk: next, Price: d.sale}}}
		r, err := d.payer.SellItems(w.ctx, d.id, order)
		w.tell("the duplex payee asks for item %d with epoch %d, %d sat: the payer holds %d sat, ledger %d msat, %v", next, state.State.Epoch, state.State.Amount, r.Held, r.Ledger, err)
		if err != nil {
			return
		}
		d.audit.deliver(script.Payer, next)
		d.send(d.one, d.other, "goods of the payer's", func() { d.gotBack(next) })
	})
}

// gotBack: the payee has verified an item, and pays for it.
func (d *duo) gotBack(i uint64) {
	if next, ok := d.journal(d.other, "bought"); !ok || next != i {
		return
	}
	got, err := d.payee.Bought(d.w.ctx, d.id, payee.Purchase{Price: d.sale, Blocked: d.w.rng.IntN(2) == 0, Ops: []store.Op{note("bought", i+1)}})
	d.w.tell("  it is right, the duplex payee signs epoch %d, %d sat: %v", got.State.Epoch, got.State.Amount, err)
	if err == nil {
		d.w.done("duplex-sold")
		d.give(got)
	}
}

// give brings what the payee returns to the payer.
func (d *duo) give(got payee.Returned) {
	d.send(d.other, d.one, "what the payee returns", func() {
		err := d.payer.TakeBack(d.w.ctx, d.id, got.Back, got.State)
		d.w.tell("  the duplex payer is shown epoch %d, %d sat, %d msat back: %v", got.State.Epoch, got.State.Amount, got.Back, err)
	})
}

// refund lets the payee pay something back.
func (d *duo) refund() {
	if d.idle(d.other) {
		return
	}
	n := d.w.rng.IntN(len(d.backs) + 1) // one of those before, or another one
	if n == len(d.backs) {
		d.backs = append(d.backs, d.w.rng.Uint64N(2*d.price))
	}
	got, err := d.payee.Refund(d.w.ctx, d.id, fmt.Sprint("back ", n), d.backs[n])
	d.w.tell("the duplex payee pays back, %d msat in all, epoch %d: %v", got.Back, got.State.Epoch, err)
	if err == nil {
		d.w.fault("duplex-refund")
		d.give(got)
	}
}

// ask lets the payer ask what the payee returns.
func (d *duo) ask() {
	d.send(d.one, d.other, "a question of the payer's", func() {
		if got, err := d.payee.Returned(d.w.ctx, d.id); err == nil {
			d.give(got)
		}
	})
	d.pay()
}

// close lets both close together, at the ledger.
func (d *duo) close() {
	w := d.w
	if d.idle(d.one) || d.idle(d.other) || d.closing != nil || d.audit.payer.Close != nil {
		return
	}
	c, err := d.payer.BeginClose(w.ctx, d.id)
	if err != nil {
		return
	}
	d.closing = c
	ledger := d.audit.payer.Owed
	answer, err := d.payee.Close(w.ctx, d.id, channel.CloseRequest{Update: c.Update, PayerNonce: c.Nonce[:], Ledger: &ledger})
	w.tell("the duplex payer asks to close at %d msat: %v", ledger, err)
	if err != nil {
		return
	}
	final, err := d.payer.FinishClose(w.ctx, d.id, c, answer.Tx, [66]byte(answer.PayeeNonce), answer.Partial)
	w.tell("  it completes the close: %v", err)
	if err == nil {
		w.fault("duplex-close")
		w.must(d.payee.FinishClose(w.ctx, d.id, final))
	}
}

// finish is what the pair does when everything comes to its end.
func (d *duo) finish() {
	if d == nil || d.id == "" {
		return
	}
	if d.w.rng.IntN(8) == 0 {
		d.cheat()
	}
	switch {
	case !d.accepted() && d.audit.payer.Phase != channel.Prepared && d.audit.payee.Terms.Capacity == 0:
		if d.open(); !d.accepted() && d.payer.Publish(d.w.ctx, d.id) == nil {
			d.w.tell("the duplex payer publishes what was not accepted")
		}
	case !d.accepted():
		d.open()
	case d.together:
		d.ask()
		d.close()
	}
}
