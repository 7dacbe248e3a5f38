package channel

import "github.com/spillway/spillway/script"

// closePatience is how many blocks a signed cooperative close may stay unseen
// before the payee settles its newest update.
const closePatience = 3

// ActionKind is what a watch has to do for a channel.
type ActionKind string

// The actions.
const (
	SendFunding    ActionKind = "send-funding"    // broadcast T1 again
	Send           ActionKind = "send"            // broadcast Action.Tx, which is saved, again
	MakeSettlement ActionKind = "make-settlement" // build at Action.Rate, save, broadcast
	MakeRefund     ActionKind = "make-refund"     // build at Action.Rate, save, broadcast
)

// Action is one thing to do after the record was saved.
type Action struct {
	Kind ActionKind
	Tx   Hex
	Rate script.FeeRate
	// Coins: a settlement takes a confirmed coin of the payee's own to pay that rate.
	Coins bool
}

// Due is the payee's duty for a channel as the chain stands. It is level
// triggered: asked again with the same view it answers the same, and after a
// reorg or a restart it is simply asked again. The returned record must be
// saved before the actions are taken. docs/protocol.md, "Time" and "Closing".
func (r PayeeRecord) Due(ch *script.Channel, payout []byte, v View, p Policy) (PayeeRecord, []Action) {
	if r.Phase.Final() {
		return r, nil
	}
	if r.SpentBy = ""; v.Spend != nil {
		r.SpentBy = v.Spend.Txid
	}
	if !v.Funding.Seen && v.Spend == nil {
		return r.fundingLost(v, p)
	}
	if v.SpendDepth() >= max(p.Burial, 1) {
		r.Phase = Closed
		return r.ends(v.Spend), nil
	}
	r = r.deepen(v)
	if r.Phase == Closing {
		return r.dueClosing(ch, payout, v, p)
	}
	if r.Duplex != nil {
		d, actions := r.duplex().Due(ch, payout, v, p)
		return r.with(d), actions
	}
	switch {
	case r.signedBefore(v):
		return r, nil
	case r.Phase == Settling:
	case r.Paid == 0:
		return r, nil // nothing to settle: the refund will spend it
	case v.Spend != nil && !r.own(v.Spend.Txid) && !r.covers(v.Spend):
		r.Phase, r.Reason = Settling, SpendSeen
	case v.Tip >= r.Terms.deadline():
		r.Phase, r.Reason = Settling, AtMargin
	}
	if r.Phase != Settling {
		return r, nil
	}
	return r, r.settle(ch, payout, v, p)
}

func (r PayeeRecord) fundingLost(v View, p Policy) (PayeeRecord, []Action) {
	if v.Funding.ConflictDepth >= max(p.Burial, 1) {
		r.Phase = Abandoned
		return r, nil
	}
	if len(r.FundingTx) == 0 {
		return r, nil
	}
	return r, []Action{{Kind: SendFunding, Tx: r.FundingTx}}
}

func (r PayeeRecord) dueClosing(ch *script.Channel, payout []byte, v View, p Policy) (PayeeRecord, []Action) {
	if v.Spend != nil && r.own(v.Spend.Txid) && (v.Spend.Height > 0 || v.Tip < r.deadline()) {
		return r, nil
	}
	var actions []Action
	if len(r.Close.FinalTx) > 0 && v.Spend == nil {
		actions = append(actions, Action{Kind: Send, Tx: r.Close.FinalTx})
	}
	late := v.Tip >= r.Close.Height+closePatience || v.Tip >= r.deadline()
	if late && r.Paid > 0 {
		if r.Reason == "" {
			r.Reason = CloseUnseen
		}
		actions = append(actions, r.settle(ch, payout, v, p)...)
	}
	return r, actions
}

// deadline is the height from which on the payee settles.
func (r PayeeRecord) deadline() uint32 {
	if r.Duplex != nil {
		if height, holds := r.duplex().Deadline(); holds {
			return height
		}
	}
	return r.Terms.deadline()
}

// settle decides whether the settlement is made anew, sent again, or has to wait.
func (r PayeeRecord) settle(ch *script.Channel, payout []byte, v View, p Policy) []Action {
	if r.Duplex != nil {
		deadline, _ := r.duplex().Deadline()
		return r.duplex().settle(ch, payout, v, deadline)
	}
	if v.Spend != nil && v.Spend.Height > 0 || r.Paid == 0 {
		return nil // mined: wait until it is buried; a reorg asks again
	}
	if v.Funding.Height == 0 && r.Terms.TxVersion == 3 && v.Tip < r.Terms.deadline() {
		return nil // version 3 does not relay over an unconfirmed version 2 parent; within the margin a node is asked
	}
	size := ch.SettlementVSize(int64(r.Terms.Capacity-r.Paid), payout)
	limit := stakeRate(int64(r.Paid)-script.Dust(payout), size)
	coins := r.topUp(size, limit, v, p)
	if limit = max(limit, coins); coins > 0 {
		size += feeInput
	}
	amount := r.Paid
	if r.small(size) || r.Shared(v) {
		amount = r.Settlement.Amount // the next one that has to be made anew takes it along
	}
	c := r.Terms.climb(r.Terms.Expiry, v.Tip, limit)
	if r.covered(v, c) {
		return nil
	}
	v, hidden := r.budgeted(v)
	if v.Spend != nil && !r.own(v.Spend.Txid) && (amount == r.Paid || v.Spend.Txid != r.Settlement.Txid) {
		v.Rate = max(v.Rate, v.outbid(size)) // a refund came first: at less no node takes the settlement
	}
	rate, remake := nextRate(r.Settlement, amount, v, c, limit)
	if !r.Shared(v) && (remake || hidden) {
		next, ok := r.replacing(v, size, rate, limit)
		if remake && !ok {
			if r.own(v.Spend.Txid) {
				return nil
			}
			remake = false // nothing dearer can be made: what is saved, where it does not wait itself
		}
		if ok && next > rate {
			rate, remake = next, true
		}
	}
	if remake && r.Settlement != nil && rate < script.FeeRate(r.Settlement.Rate) {
		remake = false // a coin that helped is not lent any more
	}
	switch {
	case !remake && v.Spend != nil && v.Spend.Txid == r.Settlement.Txid:
		return nil // it waits in the mempool
	case !remake:
		return []Action{{Kind: Send, Tx: r.Settlement.Tx}}
	case rate <= 0:
		return nil // what was paid does not cover any fee
	}
	return []Action{{Kind: MakeSettlement, Rate: rate, Coins: coins > 0}}
}

// small reports whether what was paid since the last settlement was made is less
// than the replacement's higher fee (BIP125) would take from the payee. Else a
// payer could have it give its earnings to miners, a satoshi at a time.
func (r PayeeRecord) small(size int64) bool {
	last := r.Settlement
	return last != nil && r.Paid >= last.Amount && int64(r.Paid-last.Amount) <= minStep.Fee(size)+1
}

// stakeRate is the highest rate at which a transaction of this size leaves at
// least nothing of what is at stake (sat).
func stakeRate(stake, size int64) script.FeeRate {
	if stake <= 0 || size <= 0 {
		return 0
	}
	return script.FeeRate(min(stake, MaxSat) * 1000 / size)
}

// minStep is the least by which a replacement's rate rises, 1 sat/vB.
const minStep = script.FeeRate(1000)

// lastBlocks is how many blocks before a deadline the rate of a settlement has
// reached its limit: R + 2.
const lastBlocks = 8

// climb is how a broadcast's rate rises while the going rate stands still.
type climb struct {
	on    bool
	left  uint32         // blocks in which the limit is to be reached
	limit script.FeeRate // up to here
}

// climb is how a settlement rises that has to be mined before a height: within the
// margin, and only when it could not reach its limit in time otherwise. Earlier it
// would burn what waiting keeps.
func (t Terms) climb(before, tip uint32, limit script.FeeRate) climb {
	left := before - min(before, tip)
	return climb{on: left <= t.Margin, left: left - min(left, lastBlocks), limit: limit}
}

// step is the next higher rate, a quarter or 1 sat/vB.
func (climb) step(rate script.FeeRate) script.FeeRate { return rate + max(minStep, rate/4) }

// due reports whether a rate has to rise now.
func (c climb) due(rate script.FeeRate) bool {
	needed := uint32(0)
	for ; c.on && rate < c.limit && needed < c.left; needed++ {
		rate = c.step(rate)
	}
	return c.on && needed >= c.left
}

// nextRate is the rate of the next broadcast. It never falls, rises with the
// going rate, with a new amount, and, where it is to climb, with the block; limit is
// what is at stake. remake is false when the last broadcast is to be repeated.
func nextRate(last *Broadcast, amount uint64, v View, c climb, limit script.FeeRate) (rate script.FeeRate, remake bool) {
	floor := max(v.Rate, minStep)
	switch {
	case last == nil && limit < minStep:
		return 0, true // no node relays it
	case last == nil:
		return min(floor, limit), true
	}
	prev := script.FeeRate(last.Rate)
	next := prev
	switch {
	case last.Amount != amount || floor > prev:
		next = max(floor, prev+minStep)
	case v.Tip > last.Height && c.due(prev):
		next = max(prev, min(c.step(prev), c.limit))
	}
	next = min(next, limit)
	if next <= prev && last.Amount == amount {
		return prev, false
	}
	return max(next, min(prev, limit)), true
}
