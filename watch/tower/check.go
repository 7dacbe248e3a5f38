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
	Ladder
}

// Entry is what a tower keeps for one channel of one provider.
type Entry struct {
	Provider string           `json:"provider"`
	Channel  channel.Outpoint `json:"channel"`
	Expiry   uint32           `json:"expiry"`   // height
	Margin   uint32           `json:"margin"`   // blocks
	Capacity int64            `json:"capacity"` // sat, of the output as the chain showed it
	Amount   int64            `json:"amount"`   // sat, what the rungs claim before their fee
	Version  int32            `json:"version"`  // of the rungs
	Payout   channel.Hex      `json:"payout"`   // the script of their last output
	Rest     channel.Hex      `json:"rest"`     // the script of the payer's rest; empty where it is zero
	Funding  channel.Hex      `json:"funding"`  // T1
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
// else, is valid at once and replaceable, pays what the first one pays but for the
// fee, pays at least 1 sat/vB and 1 sat/vB more than the one before, and is executed.
// The entry is without provider and T1. Errors: ErrTime, ErrMalformed, ErrOutpoint,
// ErrLocked, ErrForm, ErrFees, ErrExecute. docs/protocol.md, "Watchtower".
func Check(h Handoff, output *wire.TxOut) (Entry, error) {
	e := Entry{Channel: h.Channel, Expiry: h.Expiry, Margin: h.Margin, Capacity: output.Value, Ladder: h.Ladder}
	if h.Expiry == 0 || h.Expiry >= maxHeight || h.Margin == 0 || h.Margin >= h.Expiry {
		return e, refuse(ErrTime, "an expiry at %d and a margin of %d blocks", h.Expiry, h.Margin)
	}
	rungs, err := h.Unpack()
	if err != nil {
		return e, err
	}
	first := rungs[0]
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

// form refuses what is no settlement of this output alone, or pays others than the
// first rung does.
func form(op wire.OutPoint, first, tx *wire.MsgTx) error {
	in := tx.TxIn[0] // Unpack has seen to it that there is one
	switch {
	case len(tx.TxIn) != 1 || in.PreviousOutPoint != op:
		return refuse(ErrOutpoint, "%s, not %s", in.PreviousOutPoint, op)
	case tx.LockTime != 0:
		return refuse(ErrLocked, "nLockTime %d", tx.LockTime)
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
