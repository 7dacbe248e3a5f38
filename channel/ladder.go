package channel

import "github.com/spillway/spillway/script"

// The classic ladder is the symmetric form of a duplex channel: every state is
// answered, so that either side can complete it, and every state lowers the
// lock. State n of a ladder that starts at 100 has the lock expiry − 100 + n.
// There is one state for each number, and the turn to propose passes with the
// answer. docs/protocol.md, "The classic ladder".

// Rung is one state of a ladder as one side knows it.
type Rung struct {
	Number    uint32 `json:"number"`
	Share     uint64 `json:"share"`     // sat, the payee's
	Signature Hex    `json:"signature"` // the other side's half-signature: what completes the state; empty until answered
}

// Ladder is what one side remembers of a classic ladder.
type Ladder struct {
	Terms Terms       `json:"terms"` // Step is what a rung lowers the lock by
	Side  script.Side `json:"side"`
	Top   uint32      `json:"top"`  // number of the first state, which gives the payer everything
	Held  Rung        `json:"held"` // newest state that this side can complete
	Sent  Rung        `json:"sent"` // proposed and not answered yet; Number 0: nothing
	Turn  script.Side `json:"turn"` // who proposes next
}

// Lock is the height from which on a state may be broadcast.
func (l Ladder) Lock(number uint32) (height uint32, ok bool) {
	if number > l.Top {
		return 0, false
	}
	return l.Terms.Lock(l.Top - number)
}

// Check refuses a ladder whose rungs are too close for censorship and reorgs;
// demonstration allows steps of one block. Errors: ErrTerms.
func (l Ladder) Check(demonstration bool) error {
	if demonstration && l.Terms.Step > 0 && l.Terms.Construction == script.Duplex {
		return nil
	}
	return l.Terms.CheckStep()
}

// state is the commitment of a rung whose half-signature a side makes.
func (l Ladder) state(r Rung, by script.Side) (script.State, error) {
	lock, ok := l.Lock(r.Number)
	if !ok || r.Number >= l.Top || r.Share > l.Terms.Capacity {
		return script.State{}, refuse(ErrTerms, "no state %d with %d sat", r.Number, r.Share)
	}
	rest := l.Terms.Capacity - r.Share
	if by == script.Payee {
		rest = r.Share
	}
	if least := l.Terms.dustOf(by); rest > 0 && rest < least {
		return script.State{}, refuse(ErrAmountExceeds, "%d sat for the %s are below the dust limit of %d sat", rest, by, least)
	}
	return script.State{Sender: by, Lock: lock, Rest: int64(rest)}, nil
}

// Propose makes the next state, with this share of the payee's (sat). The record
// is saved, then the returned state signed (by this side's key) and sent.
// Errors: ErrNotYet (not this side's turn, or its last proposal is unanswered),
// ErrExpiring, ErrTerms, ErrAmountExceeds.
func (l Ladder) Propose(share uint64, tip uint32) (Ladder, script.State, error) {
	if l.Turn != l.Side || l.Sent.Number > 0 {
		return l, script.State{}, refuse(ErrNotYet, "the %s proposes next", l.Turn)
	}
	r := Rung{Number: l.Held.Number - 1, Share: share}
	s, err := l.check(r, tip)
	if err != nil {
		return l, s, err
	}
	l.Sent = r
	return l, s, nil
}

// check refuses a rung that is out of turn or comes too late: a state needs a
// margin until the state before it is valid.
func (l Ladder) check(r Rung, tip uint32) (script.State, error) {
	before, ok := l.Lock(l.Held.Number)
	if !ok || l.Held.Number <= 1 || r.Number != l.Held.Number-1 {
		return script.State{}, refuse(ErrTerms, "state %d follows on state %d", r.Number, l.Held.Number)
	}
	if _, err := l.state(r, l.Side.Other()); err != nil {
		return script.State{}, err
	}
	late := uint64(tip)+uint64(l.Terms.Margin) >= uint64(before) // from there on the other side may be closing
	if l.Terms.Step < l.Terms.Margin {
		late = uint64(tip)+uint64(l.Terms.Step) > uint64(before) // the demonstration
	}
	if late {
		return script.State{}, refuse(ErrExpiring, "state %d is valid from height %d on", l.Held.Number, before)
	}
	return l.state(r, l.Side)
}

// Answer takes the other side's proposal: it is held from now on, and the
// returned state is signed (by this side's key) and sent back after the record
// is saved. The same proposal again gets the same answer. Errors: as Propose;
// ErrConflict (a second state with one number), ErrSignature.
func (l Ladder) Answer(ch *script.Channel, r Rung, tip uint32) (Ladder, script.State, error) {
	if r.Number == l.Held.Number {
		if r.Share != l.Held.Share {
			return l, script.State{}, refuse(ErrConflict, "state %d gives the payee %d sat", r.Number, l.Held.Share)
		}
		s, err := l.state(r, l.Side)
		return l, s, err
	}
	if l.Turn == l.Side {
		return l, script.State{}, refuse(ErrNotYet, "the %s proposes next", l.Turn)
	}
	own, err := l.check(r, tip)
	if err != nil {
		return l, own, err
	}
	theirs, err := l.state(r, l.Side.Other())
	if err != nil {
		return l, own, err
	}
	if err := ch.VerifyState(theirs, r.Signature); err != nil {
		return l, own, refuse(ErrSignature, "%v", err)
	}
	l.Held, l.Turn = r, l.Side
	return l, own, nil
}

// Answered takes the other side's half-signature for what this side proposed.
// A withheld answer harms nobody: the state before is held still.
// Errors: ErrConflict, ErrSignature.
func (l Ladder) Answered(ch *script.Channel, r Rung) (Ladder, error) {
	if r.Number == l.Held.Number && r.Share == l.Held.Share {
		return l, nil
	}
	if l.Sent.Number == 0 || r.Number != l.Sent.Number || r.Share != l.Sent.Share {
		return l, refuse(ErrConflict, "state %d with %d sat was not proposed", r.Number, r.Share)
	}
	theirs, err := l.state(r, l.Side.Other())
	if err != nil {
		return l, err
	}
	if err := ch.VerifyState(theirs, r.Signature); err != nil {
		return l, refuse(ErrSignature, "%v", err)
	}
	l.Held, l.Sent, l.Turn = r, Rung{}, l.Side.Other()
	return l, nil
}

// Claim is the settlement of the newest state that this side holds.
// Errors: ErrNothingAtStake for the first state, which is the refund.
func (l Ladder) Claim(ch *script.Channel) (script.Claim, error) {
	if l.Held.Number >= l.Top || len(l.Held.Signature) == 0 {
		return script.Claim{}, ErrNothingAtStake
	}
	s, err := l.state(l.Held, l.Side.Other())
	if err != nil {
		return script.Claim{}, err
	}
	return script.Claim{Channel: ch, Rest: s.Rest, HalfSig: l.Held.Signature, Sender: s.Sender, Lock: s.Lock}, nil
}
