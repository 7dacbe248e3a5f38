package paywall

import (
	"context"
	"fmt"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/mpp"
	"github.com/spillway/spillway/mpp/bitcoin"
	"github.com/spillway/spillway/payee"
	"github.com/spillway/spillway/script"
)

// open takes an opening; with a resource that is released in the same turn. The
// challenge that it echoes must be current, the offer in it need not be: T1 may
// have been under way when that ended.
func (v *visit) open(ctx context.Context, p bitcoin.Open) (*Grant, error) {
	offer, restored, err := v.openingOffer(p.Offer)
	if err != nil {
		return nil, err
	}
	op, err := opening(p.ChannelType, p.PayerPubKey, p.ChannelID, p.Capacity, p.RestScript)
	if err != nil {
		return nil, err
	}
	op.Update = channel.Update{Amount: p.CumulativeAmount, Signature: p.Signature}
	op.FundingTx = p.FundingTx
	op.Update.Epoch = (channel.Terms{Construction: op.Construction}).First(nil).Epoch
	if err := v.authenticateFresh(offer, p.PayerPubKey); err != nil {
		return nil, err
	}
	if err := v.unexpired(); err != nil {
		return nil, err
	}
	take := v.s.cfg.Payee.Open
	if restored {
		take = v.s.cfg.Payee.OpenRestored
	}
	opened, err := take(ctx, offer, op)
	if err != nil {
		return nil, err
	}
	v.proved = p.ChannelID
	if !opened.Repeat && v.res.Worth != nil {
		v.res.Worth()
	}
	if !v.alone() {
		if err := v.present(); err != nil {
			return nil, err
		}
		return v.pay(ctx, op.Update)
	}
	rec, err := v.s.cfg.Payee.Status(ctx, p.ChannelID)
	if err != nil {
		return nil, err
	}
	return nil, v.answer(rec, bitcoin.OpenAnswer{
		Phase: string(opened.Record.Phase), Confirmations: opened.Record.Terms.Confirmations, Depth: opened.Depth,
	})
}

// openingOffer is offer for an `open`, whose offer may be from before a restore, of any
// age: the channel was forgotten, and its payer says what is owed on it.
// docs/protocol.md, section 12.
func (v *visit) openingOffer(c mpp.Challenge) (o channel.Offer, restored bool, err error) {
	for _, secret := range v.s.cfg.Before {
		if v.s.ownBy(c, secret) == nil {
			o, err = ownOffer(c)
			return o, true, err
		}
	}
	o, err = v.offer(c)
	return o, false, err
}

// offer reads the offer of a challenge that was made here and ended at most a day
// ago.
func (v *visit) offer(c mpp.Challenge) (channel.Offer, error) {
	if err := v.s.own(c); err != nil {
		return channel.Offer{}, err
	}
	if c.Expired(v.s.cfg.Now().Add(-offerTTL)) {
		return channel.Offer{}, fmt.Errorf("%w: the offer ended at %s", errExpired, c.Expires)
	}
	return ownOffer(c)
}

// ownOffer reads the offer back out of a challenge of this server.
func ownOffer(c mpp.Challenge) (channel.Offer, error) {
	req, err := bitcoin.ParseRequest(c.Request)
	if err != nil {
		return channel.Offer{}, err
	}
	opaque, err := bitcoin.ParseOpaque(c.Opaque)
	if err != nil {
		return channel.Offer{}, err
	}
	return offerOf(req, opaque.Nonce), nil
}

// authenticateFresh checks the MAC of an action on a channel that is not known yet.
func (v *visit) authenticateFresh(o channel.Offer, payer [33]byte) error {
	key, err := v.s.cfg.Payee.MACKeyFor(o.Nonce, payer)
	if err != nil {
		return err
	}
	return bitcoin.Authenticate(v.payload, key, v.credential.Challenge.ID, v.key)
}

func opening(kind string, payer [33]byte, id string, capacity uint64, rest []byte) (channel.Opening, error) {
	at, err := channel.ParseOutpoint(id)
	if err != nil {
		return channel.Opening{}, fmt.Errorf("%w: %w", bitcoin.ErrPayload, err)
	}
	return channel.Opening{
		Construction: script.Construction(kind), PayerKey: payer, Outpoint: at, Capacity: capacity, RestScript: rest,
	}, nil
}

// prepare signs the refund of a multisig channel; the offer is the challenge
// that the credential echoes. Nothing is stored.
func (v *visit) prepare(ctx context.Context, p bitcoin.Prepare) error {
	offer, err := v.offer(v.credential.Challenge)
	if err != nil {
		return err
	}
	op, err := opening(p.ChannelType, p.PayerPubKey, p.ChannelID, p.Capacity, p.RestScript)
	if err != nil {
		return err
	}
	if err := v.authenticateFresh(offer, p.PayerPubKey); err != nil {
		return err
	}
	if err := v.unexpired(); err != nil {
		return err
	}
	sig, err := v.s.cfg.Payee.Prepare(ctx, offer, op, p.RefundTx)
	if err != nil {
		return err
	}
	return v.answer(payee.Receipt{Channel: p.ChannelID}, bitcoin.PrepareAnswer{RefundSignature: sig})
}

// resume tells the channel's payer where it stands.
func (v *visit) resume(ctx context.Context, p bitcoin.Resume) error {
	if err := v.authenticate(ctx); err != nil {
		return err
	}
	if err := v.unexpired(); err != nil {
		return err
	}
	if err := v.reconcile(ctx, p); err != nil {
		return err
	}
	got, err := v.s.cfg.Payee.Resume(ctx, p.ChannelID)
	if err != nil {
		return err
	}
	r := got.Record
	rec := payee.Standing(r)
	answer := bitcoin.ResumeAnswer{
		ChannelID: p.ChannelID, Phase: string(r.Phase), CumulativeAmount: r.Paid, Signature: r.Signature,
		ChargedMsat: r.Charged, OwedMsat: r.Owed(), RequiredCumulative: rec.Required,
	}
	if d := r.Duplex; d != nil {
		answer.CumulativeAmount, answer.Signature, answer.Epoch = d.Held.Amount, d.Held.Signature, d.Held.Epoch
		answer.LockHeight, _ = r.Terms.Lock(d.Held.Epoch)
		lock, _ := r.Terms.Lock(d.Sent.Epoch)
		answer.BackMsat, answer.Update = d.Back, wireState(d.Sent, lock)
	}
	return v.answer(rec, answer)
}

// reconcile holds the ledger that the payer of a duplex channel states against this
// side's: what is not on offer any more and never arrived is taken off. Within the
// margin, or where the channel is over, nothing is; the answer is the same.
func (v *visit) reconcile(ctx context.Context, p bitcoin.Resume) error {
	r, err := v.s.cfg.Payee.Record(ctx, p.ChannelID)
	if err != nil || r.Duplex == nil && p.Epoch == 0 {
		return err
	}
	if err := r.Terms.CheckLock(p.Epoch, p.LockHeight); err != nil {
		return err
	}
	return v.s.cfg.Payee.Reconcile(ctx, p.ChannelID, p.ChargedMsat)
}

// close agrees to a cooperative close, takes its end, or settles a multisig channel.
func (v *visit) close(ctx context.Context, p bitcoin.Close) error {
	if err := v.authenticate(ctx); err != nil {
		return err
	}
	if err := v.unexpired(); err != nil {
		return err
	}
	out, err := v.closing(ctx, p)
	if err != nil {
		return err
	}
	v.s.bells.over(p.ChannelID)
	rec, err := v.s.cfg.Payee.Status(ctx, p.ChannelID)
	if err != nil {
		return err
	}
	return v.answer(rec, out)
}

func (v *visit) closing(ctx context.Context, p bitcoin.Close) (bitcoin.CloseAnswer, error) {
	var out bitcoin.CloseAnswer
	if len(p.FinalTx) > 0 {
		out.Tx = p.FinalTx
		return out, v.s.cfg.Payee.FinishClose(ctx, p.ChannelID, p.FinalTx)
	}
	u := channel.Update{Amount: p.CumulativeAmount, Signature: p.Signature, Epoch: p.Epoch}
	rec, err := v.s.cfg.Payee.Record(ctx, p.ChannelID)
	if err != nil {
		return out, err
	}
	if err := rec.Terms.CheckLock(p.Epoch, p.LockHeight); err != nil {
		return out, err
	}
	if rec.Terms.Cosigned() {
		b, err := v.s.cfg.Payee.Settle(ctx, p.ChannelID, &u, true)
		if err != nil {
			return out, err
		}
		out.Tx = b.Tx
		return out, nil
	}
	q := channel.CloseRequest{Update: u, PayerNonce: p.PayerNonce}
	if rec.Duplex != nil {
		q.Ledger = &p.ChargedMsat
	}
	c, err := v.s.cfg.Payee.Close(ctx, p.ChannelID, q)
	if err != nil {
		return out, err
	}
	out.Tx, out.PayeeNonce, out.PayeePartial = c.Tx, c.PayeeNonce, c.Partial
	return out, nil
}
