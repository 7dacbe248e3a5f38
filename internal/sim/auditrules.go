package sim

import (
	"bytes"
	"time"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/mpp/bitcoin"
)

// sees reports whether what a side knows of the chain is what it is.
func (a *audit) sees(p *process) bool {
	return !a.late && p.link.bad == 0 && a.w.now.Sub(p.link.lied) > fresh+time.Second && a.w.now.Sub(a.reorged) > fresh+time.Second
}

// over: what is over for a side cannot be undone by a reorg that is survived. A
// record is final where the output's spend is buried, or a conflict of T1's.
func (a *audit) over(p *process, t channel.Terms, phase, was channel.Phase) {
	if !phase.Final() || was.Final() || was == "" || was == channel.Prepared || !a.sees(p) { // from prepared it is its own decision
		return
	}
	if phase == channel.Abandoned {
		if was != channel.Prepared { // by what its disk says nothing left of it
			a.abandoned(t)
		}
		return
	}
	_, height, spent := a.w.chain.Spender(wire.OutPoint(t.Outpoint))
	if tip := a.w.chain.Height(); !spent || height == 0 || tip+1-height < a.w.pol.Burial {
		a.w.violate("%.12s is %s for %s at height %d, its output was spent at height %d: a reorg may undo that", t.ID(), phase, p.name, tip, height)
	}
}

// abandoned: a conflict of T1's that may be undone is no reason.
func (a *audit) abandoned(t channel.Terms) {
	t1, err := channel.DecodeTx(a.payer[t.ID()].FundingTx)
	if err != nil {
		return // nobody saved it
	}
	for _, in := range t1.TxIn {
		tx, height, spent := a.w.chain.Spender(in.PreviousOutPoint)
		if tip := a.w.chain.Height(); spent && height > 0 && tx.TxHash() != t.Outpoint.Hash && tip+1-height < a.w.pol.Burial {
			a.w.violate("%.12s is abandoned at height %d for a conflict at height %d: a reorg may undo that", t.ID(), tip, height)
		}
	}
}

// funded: what a payer funds it can get back.
func (a *audit) funded(r, was channel.PayerRecord) {
	if was.Phase != channel.Prepared || r.Phase != channel.Funding {
		return
	}
	ch, err := r.Terms.Script()
	if err != nil {
		a.w.violate("%.12s is funded and has no scripts: %v", r.Terms.ID(), err)
		return
	}
	if !r.Terms.Cosigned() {
		return
	}
	if err := ch.VerifyRefundSig(r.RefundSig); err != nil {
		a.w.violate("%.12s is funded and its refund is not signed: %v", r.Terms.ID(), err)
	}
}

// spends takes note of outputs whose spend is seen for the first time, or is not
// seen any more.
func (a *audit) spends() {
	for id, r := range a.payer {
		_, _, spent := a.w.chain.Spender(wire.OutPoint(r.Terms.Outpoint))
		since, noted := a.spent[id]
		switch {
		case !spent && noted:
			delete(a.spent, id)
		case spent && since.IsZero():
			a.spent[id] = a.w.now
		}
	}
}

// long reports whether an output's spend has been there for as long as answers of
// the chain are used.
func (a *audit) long(id string) bool {
	since, noted := a.spent[id]
	return noted && a.w.now.Sub(since) > fresh+time.Second
}

// races: an honest payer does not send its refund where a settlement is on its way.
func (a *audit) races(p *process, r channel.PayerRecord) {
	tx, height, spent := a.w.chain.Spender(wire.OutPoint(r.Terms.Outpoint))
	if !spent || height > 0 || tx.LockTime != 0 || !a.long(r.Terms.ID()) || !a.sees(p) {
		return
	}
	a.w.violate("%s sends its refund of %.12s although %.12s, which settles it, is on its way", p.name, r.Terms.ID(), tx.TxHash().String())
}

// agreed: what the payee signs of a close it has saved before.
func (a *audit) agreed(body []byte) {
	var c bitcoin.CloseAnswer
	if !bytes.Contains(body, []byte("payeePartial")) || c.UnmarshalJSON(body) != nil {
		return
	}
	tx, err := channel.DecodeTx(c.Tx)
	if err != nil || len(tx.TxIn) != 1 {
		a.w.violate("the payee signs a close that is none: %v", err)
		return
	}
	for id, r := range a.payee {
		if wire.OutPoint(r.Terms.Outpoint) == tx.TxIn[0].PreviousOutPoint && r.Close == nil {
			a.w.violate("the payee signs a close of %.12s, which it has not saved", id)
		}
	}
}

// resent: a settlement that the mempool dropped is in it again once its payee has
// looked at the chain, if the network takes it.
func (a *audit) resent() {
	s := a.w.seller
	if s.dead || s.away() || s.disk.failed || s.disk.full > 0 || a.w.vanished || !a.sees(s.process) || a.w.story.wild {
		return
	}
	for id, r := range a.payee {
		if r.Phase != channel.Settling || r.Settlement == nil || r.Restored || r.Stopped != "" {
			continue
		}
		if _, _, spent := a.w.chain.Spender(wire.OutPoint(r.Terms.Outpoint)); spent {
			continue
		}
		tx, err := channel.DecodeTx(r.Settlement.Tx)
		a.w.must(err)
		if a.w.chain.Broadcast(a.w.ctx, tx) == nil {
			a.w.violate("the settlement of %.12s was dropped, and is not sent again", id)
		}
	}
}
