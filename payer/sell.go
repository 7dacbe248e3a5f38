package payer

import (
	"context"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/internal/charged"
)

// bucketCharged remembers what the payer of a duplex channel charged the payee:
// channel id/resource/page → bits.
const bucketCharged = "payer/charged"

// Order is what the payee of a duplex channel asks of the payer.
type Order struct {
	Update channel.Update // the payee's newest; no signature: none
	Items  []charged.Item // chunks to be released; none: the payment alone
	Credit uint64         // msat
}

// Sold is where a duplex channel stands after an order.
type Sold struct {
	Channel  string
	Held     uint64 // sat, what the payer holds under the newest state
	Ledger   uint64 // msat, what the payee holds once nobody owes anything
	Required uint64 // sat, what the payer holds then
	Fresh    uint64 // msat that this sale charged
	Units    int    // items that it charged for; what was charged before is free
}

func sold(r channel.PayerRecord, fresh uint64, units int) Sold {
	held := r.Refundable()
	return Sold{
		Channel: r.Terms.ID(), Held: held, Ledger: r.Owed, Fresh: fresh, Units: units,
		Required: max(held, r.Terms.Capacity-min(r.Terms.Capacity, channel.CeilSat(r.Owed))),
	}
}

// SellItems takes the payee's update and charges the items of the payer's own goods that
// were not charged yet, in one durable commit, before anything may be released. An
// update that comes with a refused sale is taken all the same; what is returned is
// right then too. The chain is asked at most every 20 seconds where Config.Now is set. Errors: ErrUnknown, channel.ErrUnsupported, ErrSignature, those of
// channel.Duplex.Take and Charge, and of the store.
func (p *Payer) SellItems(ctx context.Context, id string, q Order) (Sold, error) {
	if len(q.Update.Signature) > 0 {
		if err := p.TakeBack(ctx, id, 0, q.Update); err != nil {
			return Sold{}, err
		}
	}
	h, err := p.lockLive(ctx, id)
	if err != nil {
		return Sold{}, err
	}
	defer h.unlock()
	if len(q.Items) == 0 {
		return sold(h.record, 0, 0), nil
	}
	v, err := p.view(ctx, h)
	if err != nil {
		return sold(h.record, 0, 0), err
	}
	marks, err := charged.Load(ctx, p.cfg.Store, bucketCharged, id, q.Items)
	if err != nil {
		return sold(h.record, 0, 0), err
	}
	var price uint64
	units := 0
	for _, it := range q.Items {
		if marks.Mark(it) {
			continue
		}
		if price, err = channel.AddMsat(price, it.Price); err != nil {
			return sold(h.record, 0, 0), err
		}
		units++
	}
	next, err := h.record.Sell(price, q.Credit, v)
	if err != nil {
		return sold(h.record, 0, 0), err
	}
	if units == 0 && next.Phase == h.record.Phase {
		return sold(h.record, 0, 0), nil
	}
	if err := p.save(ctx, h, next, marks.Ops()...); err != nil {
		return sold(h.record, 0, 0), err
	}
	return sold(next, price, units), nil
}

// Trades reports whether a channel is a duplex one of this payer's, in which its
// goods may be sold.
func (p *Payer) Trades(ctx context.Context, id string) bool {
	r, err := p.Record(ctx, id)
	return err == nil && r.Duplex != nil && !r.Void()
}
