package channel

import (
	"bytes"

	"github.com/spillway/spillway/script"
)

// soundDuplex is what must hold of the duplex part of a payee's record.
func (r *PayeeRecord) soundDuplex() error {
	if r.Duplex == nil || r.Terms.Construction != script.Duplex {
		return violated("duplex", "a %s channel with the state of another kind", r.Terms.Construction)
	}
	d := r.duplex()
	if err := d.sound(); err != nil {
		return err
	}
	if share := d.Share(); share != r.Paid {
		return violated("duplex", "paid %d sat, the newest state says %d sat", r.Paid, share)
	}
	return nil
}

// soundDuplex is what must hold of the duplex part of a payer's record.
func (r *PayerRecord) soundDuplex() error {
	if r.Duplex == nil || r.Terms.Construction != script.Duplex {
		return violated("duplex", "a %s channel with the state of another kind", r.Terms.Construction)
	}
	d := r.duplex()
	if err := d.sound(); err != nil {
		return err
	}
	if share := d.Share(); share != r.Signed {
		return violated("duplex", "signed %d sat, the newest state says %d sat", r.Signed, share)
	}
	return nil
}

// sound: each side signs in its own epochs, at amounts that there are, and the step is
// no less than the margin.
func (r *Duplex) sound() error {
	if err := r.Terms.CheckStep(); err != nil {
		return violated("step", "%v", err)
	}
	if err := r.Terms.soundState(r.Held, r.Side.Other()); err != nil {
		return err
	}
	if err := r.Terms.soundState(r.Sent, r.Side); err != nil {
		return err
	}
	if CeilSat(r.Ledger) > r.Terms.Capacity {
		return violated("payable", "a ledger of %d msat, the capacity is %d sat", r.Ledger, r.Terms.Capacity)
	}
	return nil
}

func (t *Terms) soundState(u Update, by script.Side) error {
	if u.Epoch == 0 && u.Amount == 0 {
		return nil // none yet
	}
	if SenderOf(u.Epoch) != by {
		return violated("epoch", "the %s sends nothing in epoch %d", by, u.Epoch)
	}
	if _, err := t.State(u.Epoch, u.Amount); err != nil {
		return violated("epoch", "%v", err)
	}
	if len(u.Signature) == 0 {
		return violated("signature", "a state (%d, %d sat) without a half-signature", u.Epoch, u.Amount)
	}
	return nil
}

// followDuplex: neither side's newest state is replaced by an older one, or by another
// at the same epoch and amount, and what was returned is not asked back.
func followDuplex(next, old *Duplex) error {
	switch {
	case next == nil || old == nil:
		return violated("duplex", "the states appeared or are gone")
	case next.Back < old.Back || next.Off < old.Off:
		return violated("back-fell", "from %d and %d to %d and %d msat", old.Back, old.Off, next.Back, next.Off)
	}
	for _, s := range [2][2]Update{{next.Held, old.Held}, {next.Sent, old.Sent}} {
		if !s[0].Newer(s[1]) && !sameUpdate(s[0], s[1]) {
			return violated("epoch", "(%d, %d sat) after (%d, %d sat)", s[0].Epoch, s[0].Amount, s[1].Epoch, s[1].Amount)
		}
	}
	return nil
}

func sameUpdate(a, b Update) bool {
	return a.Epoch == b.Epoch && a.Amount == b.Amount && bytes.Equal(a.Signature, b.Signature)
}

func sameDuplex(a, b *Duplex) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Back == b.Back && sameUpdate(a.Held, b.Held) && sameUpdate(a.Sent, b.Sent)
}

// MaySign is what must hold before the payee's half-signature for its newest state of a
// duplex channel is made: its own epoch, newer than what it signed before, not after a
// restore's reversal, and no more than is owed by the ledger. old is the record as it is
// saved. Errors: ErrInvariant.
func (r *PayeeRecord) MaySign(old *PayeeRecord) error {
	if err := r.Follows(old, &Step{}); err != nil {
		return err
	}
	if r.Duplex == nil || old.Duplex == nil {
		return violated("duplex", "a payee's half-signature in a %s channel", r.Terms.Construction)
	}
	sent := r.Duplex.Sent
	d := r.duplex()
	switch {
	case old.Phase == Closing || old.Phase.Final():
		return violated("final", "a state of epoch %d in phase %s", sent.Epoch, old.Phase)
	case !sent.Newer(old.Duplex.Sent):
		return violated("signed-fell", "a second state (%d, %d sat)", sent.Epoch, sent.Amount)
	case SenderOf(sent.Epoch) != script.Payee || sent.Epoch == 0:
		return violated("epoch", "the payee sends nothing in epoch %d", sent.Epoch)
	case sent.Amount > r.Terms.Capacity-min(r.Terms.Capacity, d.Target()):
		return violated("agreed", "a state of %d sat, the ledger says %d msat", sent.Amount, r.Charged)
	}
	return nil
}
