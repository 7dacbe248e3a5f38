package channel

import "github.com/spillway/spillway/script"

// Deadline is the height from which on this side settles with the newest epoch
// in which it is the receiver, whatever it has seen; ok is false where it holds
// no state: the payer then has its refund, the payee nothing to settle.
func (r Duplex) Deadline() (height uint32, ok bool) {
	if r.Held.Epoch == 0 {
		return 0, false
	}
	before, _ := r.Terms.Lock(r.Held.Epoch - 1)
	return before - min(before, r.Terms.Margin), true
}

// Due is one side's duty for a duplex channel as the chain stands: it settles
// with Held at its deadline, when asked, or when the other side broadcasts an
// older epoch; the payer without a state takes its refund after the expiry.
// MakeSettlement completes Held, MakeRefund the refund. See PayeeRecord.Due.
func (r Duplex) Due(ch *script.Channel, payout []byte, v View, p Policy) (Duplex, []Action) {
	if r.Phase.Final() {
		return r, nil
	}
	if r.SpentBy = ""; v.Spend != nil {
		r.SpentBy = v.Spend.Txid
	}
	if !v.Funding.Seen && v.Spend == nil {
		return r, nil
	}
	if v.SpendDepth() >= max(p.Burial, 1) {
		r.Phase = Closed
		return r, nil
	}
	if r.Phase == Funding && v.Depth() >= r.Terms.Confirmations {
		r.Phase = Open
	}
	deadline, holds := r.Deadline()
	switch {
	case r.Phase == Settling || r.Phase == Refunding:
	case holds && r.older(v.Spend):
		r.Phase, r.Reason = Settling, SpendSeen
	case holds && v.Tip >= deadline:
		r.Phase, r.Reason = Settling, AtMargin
	case !holds && r.Side == script.Payer && v.Spend == nil && v.Tip >= r.Terms.Expiry:
		r.Phase = Refunding
	}
	switch r.Phase {
	case Settling:
		return r, r.settle(ch, payout, v, deadline)
	case Refunding:
		return r, r.refund(ch, payout, v)
	}
	return r, nil
}

// older reports whether a spend belongs to an epoch before the one that is held, or
// leaves the payee less in the same epoch (a rung of its tower, or its own settlement
// that it forgot): the held one is valid already where that one is, and is to be mined
// instead.
func (r Duplex) older(s *SpendView) bool {
	if s == nil || s.Height > 0 || r.Close.Is(s.Txid) {
		return false
	}
	lock, _ := r.Terms.Lock(r.Held.Epoch)
	return s.Lock > lock || s.Lock == lock && r.leaves(s) < r.Held.Amount
}

// leaves is what a spend of the held epoch, which this side alone can complete, leaves to
// it, in sat; the payer completes none but its own.
func (r Duplex) leaves(s *SpendView) uint64 {
	if r.Side == script.Payer || s.Leaves <= 0 {
		return r.Held.Amount
	}
	return uint64(s.Leaves)
}

// spared reports whether what spends the output in the mempool, and is neither ours nor
// older, is left alone: before the deadline whatever it is, then what pays the going rate
// and what is due by now. What pays less would keep ours away until something older than
// ours is valid, and could be replaced by that. One of the same epoch that leaves more
// was forgotten here: it is answered in the last need only.
func (r Duplex) spared(v View, deadline uint32, c climb) bool {
	s := v.Spend
	if v.Tip < deadline {
		return true
	}
	if s.Lock == 0 {
		return false // a close: it would disarm the deadline
	}
	rate := s.carried()
	lock, _ := r.Terms.Lock(r.Held.Epoch)
	if s.Lock == lock && r.leaves(s) > r.Held.Amount {
		return rate >= v.Rate || c.left > 0
	}
	return rate >= v.Rate && !c.due(rate)
}

func (r Duplex) settle(ch *script.Channel, payout []byte, v View, deadline uint32) []Action {
	lock, _ := r.Terms.Lock(r.Held.Epoch)
	switch {
	case r.Held.Epoch == 0 || v.Tip < lock:
		return nil // there is no unilateral close before the lock
	case v.Spend != nil && v.Spend.Height > 0:
		return nil
	case v.Funding.Height == 0 && r.Terms.TxVersion == 3 && v.Tip < deadline:
		return nil
	}
	size := ch.StateVSize(r.heldState(), payout)
	limit := stakeRate(int64(r.Held.Amount)-script.Dust(payout), size)
	c := r.Terms.climb(deadline+r.Terms.Margin, v.Tip, limit)
	if v.Spend != nil && !r.Close.Is(v.Spend.Txid) {
		if !r.older(v.Spend) && r.spared(v, deadline, c) {
			return nil // newer than what is held, as good, or a close that may be mined yet
		}
		v.Rate = max(v.Rate, v.outbid(size))
	}
	return again(r.Close, r.Held.Amount, v, c, limit, MakeSettlement)
}

func (r Duplex) refund(ch *script.Channel, payout []byte, v View) []Action {
	if v.Spend != nil && (v.Spend.Height > 0 || !r.Close.Is(v.Spend.Txid)) || v.Tip < r.Terms.Expiry {
		return nil
	}
	size := ch.RefundVSize(payout)
	limit := stakeRate(int64(r.Terms.Capacity)-script.Dust(payout), size)
	return again(r.Close, 0, v, refundClimb(r.Sent.Amount, size), limit, MakeRefund)
}

// again makes a broadcast, repeats the last one, or waits.
func again(last *Broadcast, amount uint64, v View, c climb, limit script.FeeRate, kind ActionKind) []Action {
	rate, remake := nextRate(last, amount, v, c, limit)
	switch {
	case !remake && v.Spend != nil && v.Spend.Txid == last.Txid:
		return nil // it waits in the mempool
	case !remake:
		return []Action{{Kind: Send, Tx: last.Tx}}
	case rate <= 0:
		return nil
	}
	return []Action{{Kind: kind, Rate: rate}}
}

func (r Duplex) heldState() script.State {
	lock, _ := r.Terms.Lock(r.Held.Epoch)
	return script.State{Sender: SenderOf(r.Held.Epoch), Lock: lock, Rest: int64(r.Terms.Capacity - r.Held.Amount)}
}

// claim is the settlement's part of this channel: Held, to be completed by this
// side's key.
func (r Duplex) claim(ch *script.Channel) (script.Claim, error) {
	if r.Held.Epoch == 0 {
		return script.Claim{}, ErrNothingAtStake
	}
	s := r.heldState()
	return script.Claim{Channel: ch, Rest: s.Rest, HalfSig: r.Held.Signature, Sender: s.Sender, Lock: s.Lock}, nil
}

// Claim is the payee's newest update as part of a settlement, without its key.
// Errors: ErrNothingAtStake.
func (r PayeeRecord) Claim(ch *script.Channel) (script.Claim, error) {
	if r.Duplex != nil {
		return r.duplex().claim(ch)
	}
	return script.Claim{Channel: ch, Rest: int64(r.Terms.Capacity - r.Paid), HalfSig: r.Signature}, nil
}

// Claimed is the amount (sat) that a settlement of the newest update pays.
func (r PayeeRecord) Claimed() uint64 {
	if r.Duplex != nil {
		return r.Duplex.Held.Amount
	}
	return r.Paid
}

// LockedUntil is the height from which on what the payee of a duplex channel holds
// may be broadcast, where a tip is below it.
func (r PayeeRecord) LockedUntil(tip uint32) (height uint32, locked bool) {
	if r.Duplex == nil {
		return 0, false
	}
	lock, ok := r.Terms.Lock(r.Duplex.Held.Epoch)
	return lock, ok && tip < lock
}

// Claim is what a payer of a duplex channel holds as part of a settlement,
// without its key. Errors: ErrNothingAtStake.
func (r PayerRecord) Claim(ch *script.Channel) (script.Claim, error) {
	if r.Duplex == nil {
		return script.Claim{}, ErrNothingAtStake
	}
	return r.duplex().claim(ch)
}

// dueDuplex is the payer's duty: the agreed close again, until its own deadline;
// then what it holds, or the refund.
func (r PayerRecord) dueDuplex(ch *script.Channel, v View, p Policy) (PayerRecord, []Action) {
	d := r.duplex()
	deadline, holds := d.Deadline()
	if !holds {
		deadline = r.Terms.Expiry
	}
	if v.Spend == nil && r.Close != nil && len(r.Close.Tx) > 0 && v.Tip < deadline {
		return r, []Action{{Kind: Send, Tx: r.Close.Tx}}
	}
	if v.Spend != nil && r.Close != nil && r.Close.Txid == v.Spend.Txid && (!holds || v.Spend.Height > 0 || v.Tip < deadline) {
		return r, nil // the agreed close is on its way
	}
	d, actions := d.Due(ch, r.RefundScript, v, p)
	return r.with(d), actions
}
