package tower

import (
	"bytes"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/script"
)

// keepUnseen is how many blocks after its expiry a channel is kept whose funding is
// not on the chain any more.
const keepUnseen = 2016

// lastBlocks is how many blocks before Until the highest rung is due: two less
// than for a payee, so that one that is alive is always ahead.
const lastBlocks = 6

// View is what the chain says of a channel that a tower watches.
type View struct {
	channel.View
	// Leaves is what an unconfirmed spend that is no rung leaves to the payee before
	// its fee, in satoshi: see leaves.
	Leaves int64
}

// Action is what a tower does for a channel.
type Action string

// The actions.
const (
	Wait        Action = "wait"
	SendFunding Action = "send-funding" // broadcast T1 again
	Climb       Action = "climb"        // broadcast the lowest rung from Decision.From on that is accepted
	Forget      Action = "forget"       // it is over: the entry goes
)

// Reason is why a tower broadcasts.
type Reason string

// The reasons.
const (
	AtMargin   Reason = "margin"      // tip ≥ the deadline
	RefundSeen Reason = "refund"      // a spend with a lock (duplex: the expiry's) is in the mempool
	OlderState Reason = "older-state" // a spend of an older epoch, or that leaves less to the payee, is in the mempool
	Stuck      Reason = "stuck"       // one as good, or newer, waits in the mempool at less than is due by now
)

// Decision is what the rule says.
type Decision struct {
	Do   Action
	From int // the lowest rung to try
	Why  Reason
}

// Deadline is the height from which on the channel is settled: a margin before Until.
func (e Entry) Deadline() uint32 { return e.Until() - min(e.Until(), e.Margin) }

// Decide is the tower's rule for one channel as the chain stands. It is level
// triggered and keeps no state: asked again with the same view it answers the same,
// and after a restart or a reorg it is simply asked again. burial is the depth (in
// blocks) at which a spend is final. docs/protocol.md, "Watchtower".
func Decide(e Entry, v View, burial uint32) Decision {
	burial = max(burial, 1)
	switch {
	case v.Spend == nil && !v.Funding.Seen:
		return lost(e, v, burial)
	case v.SpendDepth() >= burial:
		return Decision{Do: Forget}
	case v.Spend != nil && v.Spend.Height > 0:
		return Decision{Do: Wait} // mined; a reorg asks again
	case e.Version == 3 && v.Funding.Height == 0 && v.Tip < e.Deadline():
		return Decision{Do: Wait} // version 3 does not relay over an unconfirmed version 2 parent
	case v.Tip < e.Lock:
		return Decision{Do: Wait} // no node takes it yet
	}
	within := v.Tip >= e.Deadline()
	floor := max(e.climbed(v.Tip), e.going(v.Rate))
	if v.Spend == nil {
		if !within {
			return Decision{Do: Wait}
		}
		return Decision{Climb, floor, AtMargin}
	}
	if mine := e.rung(v.Spend.Txid); mine >= 0 {
		if floor <= mine { // it waits at a rung that is high enough by now
			return Decision{Do: Wait}
		}
		return Decision{Climb, floor, AtMargin}
	}
	from := max(floor, e.outbids(v.Spend))
	switch {
	case v.Leaves < e.Amount && v.Spend.Lock > 0 && (e.Step == 0 || v.Spend.Lock >= e.Expiry):
		return Decision{Climb, from, RefundSeen}
	case v.Leaves < e.Amount:
		return Decision{Climb, from, OlderState}
	case e.late(v), within && e.parked(v):
		return Decision{Climb, from, Stuck}
	}
	return Decision{Do: Wait} // the provider's own: it is alive, or it has closed; or something newer
}

// lost is the rule for a channel whose T1 is neither in a block nor in the mempool.
func lost(e Entry, v View, burial uint32) Decision {
	if v.Funding.ConflictDepth >= burial || v.Tip >= e.Expiry+keepUnseen {
		return Decision{Do: Forget}
	}
	return Decision{Do: SendFunding}
}

// climbed is the rung that the tip demands: the lowest one, until the others are needed,
// one a block, for the highest to be there lastBlocks before Until. Never one
// before the margin.
func (e Entry) climbed(tip uint32) int {
	top := int64(len(e.Rungs) - 1)
	if tip < e.Deadline() {
		return 0
	}
	left := max(int64(e.Until())-lastBlocks-int64(tip), 0)
	return int(max(top-left, 0))
}

// going is the lowest rung that pays the going rate, or the highest.
func (e Entry) going(rate script.FeeRate) int {
	for i, r := range e.Rungs {
		if r.rate() >= rate {
			return i
		}
	}
	return len(e.Rungs) - 1
}

// late reports whether an unconfirmed spend that leaves enough to the payee pays less
// than the rung that the tip demands, or is not known to pay as much.
func (e Entry) late(v View) bool {
	due := e.climbed(v.Tip)
	if due == 0 {
		return false
	}
	return paid(v.Spend) < e.Rungs[due].rate()
}

// parked reports whether something newer than a duplex channel's ladder, or agreed, waits
// at less than the going rate or the rung that is due: it may be there to keep the ladder
// away until something older is valid.
func (e Entry) parked(v View) bool {
	return e.Step > 0 && v.Spend.Lock < e.Lock && paid(v.Spend) < max(v.Rate, e.Rungs[e.climbed(v.Tip)].rate())
}

// paid is the rate of an unconfirmed spend; 0 where it is not known.
func paid(s *channel.SpendView) script.FeeRate {
	if s.VSize <= 0 || s.Fee < 0 || s.Fee > channel.MaxSat {
		return 0
	}
	return script.FeeRate(s.Fee * 1000 / s.VSize)
}

// outbids is the lowest rung that replaces a spend in the mempool: a higher rate,
// and a fee that pays for it, for what hangs on it and for itself (BIP125). 0 where
// the spend's fee is not known: then the node refuses what is too little. The highest
// where none does: a node may think otherwise.
func (e Entry) outbids(s *channel.SpendView) int {
	if s.VSize <= 0 || s.Fee < 0 || s.Fee > channel.MaxSat {
		return 0
	}
	evicted := s.Fee + min(max(s.ChildFee, 0), channel.MaxSat)
	for i, r := range e.Rungs {
		if r.Fee >= evicted+r.VSize && r.Fee*1000/r.VSize > s.Fee*1000/s.VSize {
			return i
		}
	}
	return len(e.Rungs) - 1
}

// leaves is what a transaction that spends the channel with its input vin leaves to
// the payee before its fee, in satoshi: nothing where its lock is higher than the rungs'
// (a refund, an older epoch), all where it is lower (a newer epoch, a close), else the
// capacity less what goes to others. In a transaction of several channels that
// is the output at the input's index, where it is a rest.
func (e Entry) leaves(tx *wire.MsgTx, vin uint32) int64 {
	switch {
	case tx.LockTime > e.Lock:
		return 0
	case tx.LockTime < e.Lock:
		return e.Capacity
	}
	left := e.Capacity
	if len(tx.TxIn) == 1 {
		for _, out := range tx.TxOut {
			if !bytes.Equal(out.PkScript, e.Payout) {
				left -= out.Value
			}
		}
	} else if int(vin) < len(tx.TxOut) {
		out := tx.TxOut[vin]
		if bytes.Equal(out.PkScript, e.Rest) || len(e.Rest) == 0 && !bytes.Equal(out.PkScript, e.Payout) {
			left -= out.Value
		}
	}
	return max(left, 0)
}
