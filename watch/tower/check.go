package tower

import (
	"bytes"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/script"
)

// Handoff is what a provider hands over for one channel.
type Handoff struct {
	Channel channel.Outpoint `json:"channel"`
	Expiry  uint32           `json:"expiry"` // height
	Margin  uint32           `json:"margin"` // blocks
	// Step is how many blocks lie between the locks of a duplex channel's epochs; 0: money
	// flows one way.
	Step uint32 `json:"step,omitempty"`
	Ladder
}

// Entry is what a tower keeps for one channel of one provider.
type Entry struct {
	Provider string           `json:"provider"`
	Channel  channel.Outpoint `json:"channel"`
	Expiry   uint32           `json:"expiry"` // height
	Margin   uint32           `json:"margin"` // blocks
	Step     uint32           `json:"step,omitempty"`
	Lock     uint32           `json:"lock,omitempty"` // height from which on the rungs are valid; duplex only
	Capacity int64            `json:"capacity"`       // sat, of the output as the chain showed it
	Amount   int64            `json:"amount"`         // sat, what the rungs claim before their fee
	Version  int32            `json:"version"`        // of the rungs
	Payout   channel.Hex      `json:"payout"`         // the script of their last output
	Rest     channel.Hex      `json:"rest"`           // the script of the payer's rest; empty where it is zero
	Funding  channel.Hex      `json:"funding"`        // T1
	Ladder   Ladder           `json:"ladder"`
	Rungs    []Rung           `json:"rungs"`
}

// Rung is what is known of a rung beforehand.
type Rung struct {
	Txid  string `json:"txid"`
	Fee   int64  `json:"fee"`   // sat
	VSize int64  `json:"vsize"` // vB
}

// id names an entry in the store and to package watch.
func (e Entry) id() string { return e.Provider + "/" + e.Channel.String() }

// Epoch is the epoch of a duplex channel that the rungs belong to; 0 in any other.
func (e Entry) Epoch() uint32 {
	if e.Step == 0 {
		return 0
	}
	return (e.Expiry - e.Lock) / e.Step
}

// Until is the height at which a rung has to be mined at the latest: from there on
// something older may be. The expiry, or in a duplex channel the lock before the rungs'.
func (e Entry) Until() uint32 {
	if e.Step == 0 {
		return e.Expiry
	}
	return e.Lock + e.Step
}

// newer reports whether a ladder supersedes another one of the channel: by epoch, then
// by amount.
func (e Entry) newer(than Entry) bool {
	return e.Epoch() > than.Epoch() || e.Epoch() == than.Epoch() && e.Amount > than.Amount
}

// rung is the index of a transaction among the rungs; −1: it is none.
func (e Entry) rung(txid string) int {
	for i, r := range e.Rungs {
		if r.Txid == txid {
			return i
		}
	}
	return -1
}

// maxHeight is where a locktime stops being a height. BIP65.
const maxHeight = 500_000_000

// Check looks at a hand-off in view of the output (T1's, as the chain shows it) that
// the rungs claim to spend: each rung can be read, spends that output and nothing
// else, is valid at once (in a duplex channel: from the lock of an odd epoch on) and
// replaceable, pays what the first one pays but for the
// fee, pays at least 1 sat/vB and 1 sat/vB more than the one before, and is executed.
// The entry is without provider and T1. Errors: ErrTime, ErrMalformed, ErrOutpoint,
// ErrLocked, ErrForm, ErrFees, ErrExecute. docs/protocol.md, "Watchtower".
func Check(h Handoff, output *wire.TxOut) (Entry, error) {
	e := Entry{Channel: h.Channel, Expiry: h.Expiry, Margin: h.Margin, Step: h.Step, Capacity: output.Value, Ladder: h.Ladder}
	if h.Expiry == 0 || h.Expiry >= maxHeight || h.Margin == 0 || h.Margin >= h.Expiry {
		return e, refuse(ErrTime, "an expiry at %d and a margin of %d blocks", h.Expiry, h.Margin)
	}
	if h.Step > 0 && (h.Step < h.Margin || h.Step >= h.Expiry) {
		return e, refuse(ErrTime, "a step of %d blocks with a margin of %d", h.Step, h.Margin)
	}
	rungs, err := h.Unpack()
	if err != nil {
		return e, err
	}
	first := rungs[0]
	e.Lock = first.LockTime
	if err := e.locked(); err != nil {
		return e, err
	}
	for i, tx := range rungs {
		if err := form(wire.OutPoint(h.Channel), first, tx); err != nil {
			return e, err
		}
		r := Rung{Txid: tx.TxHash().String(), Fee: output.Value, VSize: script.VSize(tx)}
		for _, out := range tx.TxOut {
			r.Fee -= out.Value // each is an amount of bitcoin: see form
		}
		least := r.VSize // 1 sat/vB
		if i > 0 {
			least += e.Rungs[i-1].Fee
		}
		if r.Fee < least {
			return e, refuse(ErrFees, "rung %d pays %d sat for %d vB, at least %d sat are wanted", i, r.Fee, r.VSize, least)
		}
		prev := map[wire.OutPoint]*wire.TxOut{wire.OutPoint(h.Channel): output}
		if err := script.Execute(tx, prev); err != nil {
			return e, refuse(ErrExecute, "rung %d: %v", i, err)
		}
		e.Rungs = append(e.Rungs, r)
	}
	e.Version, e.Payout, e.Amount = first.Version, first.TxOut[len(first.TxOut)-1].PkScript, output.Value
	if len(first.TxOut) == 2 {
		e.Rest, e.Amount = first.TxOut[0].PkScript, output.Value-first.TxOut[0].Value
	}
	return e, nil
}

// locked refuses a lock that no state has which a payee can complete.
func (e Entry) locked() error {
	switch {
	case e.Step == 0 && e.Lock != 0:
		return refuse(ErrLocked, "nLockTime %d", e.Lock)
	case e.Step > 0 && (e.Lock == 0 || e.Lock >= e.Expiry || (e.Expiry-e.Lock)%e.Step != 0 || e.Epoch()%2 == 0):
		return refuse(ErrLocked, "nLockTime %d is the lock of no epoch in which the payee receives", e.Lock)
	}
	return nil
}

// form refuses what is no settlement of this output alone, or pays others than the
// first rung does.
func form(op wire.OutPoint, first, tx *wire.MsgTx) error {
	in := tx.TxIn[0] // Unpack has seen to it that there is one
	switch {
	case len(tx.TxIn) != 1 || in.PreviousOutPoint != op:
		return refuse(ErrOutpoint, "%s, not %s", in.PreviousOutPoint, op)
	case in.Sequence != script.Sequence:
		return refuse(ErrForm, "nSequence 0x%08x", in.Sequence)
	case tx.Version != first.Version || tx.Version != 2 && tx.Version != 3:
		return refuse(ErrForm, "version %d", tx.Version)
	case len(tx.TxOut) == 0 || len(tx.TxOut) > 2 || len(tx.TxOut) != len(first.TxOut):
		return refuse(ErrForm, "%d outputs", len(tx.TxOut))
	}
	for i, out := range tx.TxOut {
		if out.Value < script.Dust(out.PkScript) || out.Value > channel.MaxSat {
			return refuse(ErrForm, "%d sat in output %d", out.Value, i)
		}
		last := i == len(tx.TxOut)-1
		if !bytes.Equal(out.PkScript, first.TxOut[i].PkScript) || !last && out.Value != first.TxOut[i].Value {
			return refuse(ErrForm, "output %d is not the first rung's", i)
		}
	}
	return nil
}
