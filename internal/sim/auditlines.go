package sim

import (
	"net/http"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/mpp"
	"github.com/spillway/spillway/mpp/bitcoin"
)

// What is held against the invariants when it leaves: broadcasts, requests, answers and
// deliveries.

// broadcast: what a side sends to the network is on its disk.
func (a *audit) broadcast(p *process, tx *wire.MsgTx) {
	switch {
	case a.w.duo.has(p):
		a.w.duo.audit.broadcast(p, tx)
		return
	case a.w.tower.has(p):
		a.w.tower.broadcast(tx)
		return
	}
	hash := tx.TxHash()
	id := hash.String()
	for _, r := range a.payer {
		if r.Terms.Outpoint.Hash == hash && (r.Phase != channel.Prepared || a.back.knew(r)) {
			return // T1, whose refund is saved
		}
	}
	if p == a.w.seller.process {
		for _, r := range a.payee {
			if r.Settlement != nil && r.Settlement.Txid == id || r.Close != nil && r.Close.Txid == id {
				return
			}
		}
	} else {
		for _, r := range a.payer {
			if r.Refund != nil && r.Refund.Txid == id {
				a.races(p, r)
				return
			}
			if r.Close != nil && r.Close.Txid == id {
				return
			}
		}
	}
	a.w.violate("%s broadcasts %s, which it has not saved", p.name, id)
}

// sent: a request carries nothing that is not saved as signed.
func (a *audit) sent(b *buyer, req *http.Request) {
	c, err := mpp.ParseCredential(req.Header.Values(mpp.HeaderCredential))
	if err != nil {
		return // unpaid, or refused by the other side
	}
	p, err := bitcoin.ParsePayload(c.Payload)
	if err != nil {
		a.w.violate("%s sends a payload that cannot be read: %v", b.name, err)
		return
	}
	var amount uint64
	switch p := p.(type) {
	case bitcoin.Voucher:
		amount = p.CumulativeAmount
	case bitcoin.Close:
		amount = p.CumulativeAmount
	case bitcoin.Open:
		amount = p.CumulativeAmount
	}
	if r := a.payer[p.Channel()]; amount > r.Signed {
		a.w.violate("%s sends %d sat on %.12s and has saved %d sat", b.name, amount, p.Channel(), r.Signed)
	}
}

// answered: what the payee acknowledges is saved.
func (a *audit) answered(s *seller, ans *answer) {
	a.agreed(ans.body.Bytes())
	values := ans.header.Values(mpp.HeaderReceipt)
	if len(values) == 0 {
		return
	}
	rec, err := bitcoin.ParseReceipt(values)
	if err != nil {
		a.w.violate("the payee sends a receipt that cannot be read: %v", err)
		return
	}
	r := a.payee[rec.ChannelID]
	if rec.AcceptedCumulative > r.Paid || rec.ChargedMsat > r.Charged {
		a.w.violate("the payee acknowledges %d sat and %d msat on %.12s, saved are %d sat and %d msat", rec.AcceptedCumulative, rec.ChargedMsat, rec.ChannelID, r.Paid, r.Charged)
	}
	a.acked[rec.ChannelID] = max(a.acked[rec.ChannelID], rec.AcceptedCumulative)
}

// deliver: what is delivered is charged, once.
func (a *audit) deliver(s *seller, id string, f *file, chunk uint64) {
	g := goods{id, f.name, chunk}
	if !a.delivered[g] {
		a.delivered[g] = true
		a.worth[id] += f.price
	}
	if r := a.payee[id]; a.worth[id] > r.Charged && !s.restored {
		a.w.violate("delivered for %d msat on %.12s, charged are %d msat", a.worth[id], id, r.Charged)
	}
}
