package paywall

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/mpp"
	"github.com/spillway/spillway/payer"
	"github.com/spillway/spillway/script"
)

// Opening is how a channel is to be opened on a quote.
type Opening struct {
	Construction script.Construction
	Capacity     uint64 // sat
	// Back is where the rest and the refund go: P2TR, P2WPKH or P2WSH; nil: to the wallet.
	Back []byte
	// Rate is the funding's fee rate; 0: the going one.
	Rate script.FeeRate
}

func (o Opening) request(q *Quoted) (r payer.OpenRequest, err error) {
	if !q.offers(string(o.Construction)) {
		return r, fmt.Errorf("%w: the provider offers no %s channels", channel.ErrTerms, o.Construction)
	}
	raw, err := q.Raw()
	return payer.OpenRequest{
		Offer: q.Offer, RawOffer: raw, Construction: o.Construction, Capacity: o.Capacity,
		Origin: q.URL, Payee: q.Request.Recipient, Back: o.Back, Rate: o.Rate,
	}, err
}

// OpenAs is Open with a say about where the rest goes and what the funding may cost.
// Errors: as Open.
func (c *Client) OpenAs(ctx context.Context, q *Quoted, o Opening, e Expect, progress func(OpenEvent)) (id string, err error) {
	req, err := o.request(q)
	if err != nil {
		return "", err
	}
	r, err := c.cfg.Payer.Prepare(ctx, req)
	if err != nil {
		return "", err
	}
	id = r.Terms.ID()
	tell(progress, OpenEvent{Stage: StagePrepared, Channel: id})
	return id, c.Reopen(ctx, id, q.URL, e, progress)
}

// Invite makes a channel on a quote that another wallet is asked to fund. Nothing leaves.
// Errors: those of payer.Payer.Invite.
func (c *Client) Invite(ctx context.Context, q *Quoted, o Opening) (payer.Invitation, error) {
	req, err := o.request(q)
	if err != nil {
		return payer.Invitation{}, err
	}
	return c.cfg.Payer.Invite(ctx, req)
}

// Alive refuses an offer, as it is saved, that is too old for a channel to be begun on:
// the provider may have forgotten it. signs tells that the payee has to sign the refund
// on it yet, which it does while the challenge lives. Errors: ErrOfferOver.
func (c *Client) Alive(rawOffer string, signs bool) error {
	var ch mpp.Challenge
	if err := json.Unmarshal([]byte(rawOffer), &ch); err != nil {
		return fmt.Errorf("the saved offer: %w", err)
	}
	now := c.cfg.Now()
	if !signs {
		now = now.Add(-offerLife)
	}
	if ch.Expired(now) {
		return fmt.Errorf("%w: %s", ErrOfferOver, ch.Expires)
	}
	return nil
}

// Secure holds the refund of a channel that another wallet funds: in a multisig channel
// the payee signs it first. Nothing of the funding leaves. It may be repeated.
// Errors: ErrMisbehaved for a refund signature that is wrong, ErrOfferOver, ErrUnreachable,
// ErrRefused, those of payer.Payer.Secure.
func (c *Client) Secure(ctx context.Context, id string, e Expect) error {
	r, err := c.cfg.Payer.Record(ctx, id)
	if err != nil {
		return err
	}
	if r.Terms.Cosigned() && len(r.RefundSig) == 0 {
		target, e := saved(r, "", e)
		if err := c.signRefund(ctx, r, target, e); err != nil {
			return err
		}
	}
	return c.cfg.Payer.Secure(ctx, id)
}
