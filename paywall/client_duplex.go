package paywall

import (
	"context"
	"errors"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/mpp/bitcoin"
)

// resumeOf is the question where a channel stands. In a duplex channel it says what
// this side knows: the newest epoch, and its ledger.
func resumeOf(r channel.PayerRecord) bitcoin.Resume {
	p := bitcoin.Resume{ChannelID: r.Terms.ID()}
	if r.Duplex == nil {
		return p
	}
	p.Epoch = max(r.Duplex.Sent.Epoch, r.Duplex.Held.Epoch)
	p.LockHeight, _ = r.Terms.Lock(p.Epoch)
	p.ChargedMsat = r.Owed
	return p
}

// state reads a state of the payee's; nil is none. Errors: ErrMisbehaved.
func state(t channel.Terms, u *bitcoin.Update) (channel.Update, error) {
	if u == nil {
		return channel.Update{}, nil
	}
	if err := t.CheckLock(u.Epoch, u.LockHeight); err != nil {
		return channel.Update{}, misbehaved("%w", err)
	}
	return channel.Update{Amount: u.CumulativeAmount, Signature: u.Signature, Epoch: u.Epoch}, nil
}

// forged are the refusals of what a provider shows that an honest one never would.
func forged(err error) error {
	if errors.Is(err, channel.ErrSignature) || errors.Is(err, channel.ErrAmountExceeds) || errors.Is(err, channel.ErrTerms) {
		return misbehaved("%w", err)
	}
	return err
}

// resumedDuplex has the payer take what a provider answered to a resume.
func (c *Client) resumedDuplex(ctx context.Context, r channel.PayerRecord, a bitcoin.ResumeAnswer) error {
	if err := r.Terms.CheckLock(a.Epoch, a.LockHeight); err != nil {
		return misbehaved("%w", err)
	}
	sent, err := state(r.Terms, a.Update)
	if err != nil {
		return err
	}
	return forged(c.cfg.Payer.ResumedDuplex(ctx, r.Terms.ID(), channel.Resumed{
		Held: channel.Update{Amount: a.CumulativeAmount, Signature: a.Signature, Epoch: a.Epoch}, Back: a.BackMsat, Sent: sent,
	}))
}

// takeBack has the payer take what came back with a receipt. A state that comes too
// late to be taken is left; the older one stays.
func (c *Client) takeBack(ctx context.Context, r channel.PayerRecord, receipt bitcoin.Receipt) error {
	sent, err := state(r.Terms, receipt.Update)
	if err != nil || receipt.BackMsat <= r.Duplex.Back && !sent.Newer(r.Duplex.Held) {
		return err
	}
	id := r.Terms.ID()
	err = c.cfg.Payer.TakeBack(ctx, id, receipt.BackMsat, sent)
	if errors.Is(err, channel.ErrExpiring) || errors.Is(err, channel.ErrFinalized) {
		c.cfg.Log.Warn("what the provider pays back comes too late", "channel", id, "epoch", sent.Epoch, "reason", err)
		return nil
	}
	return forged(err)
}
