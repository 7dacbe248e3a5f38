package paywall

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/mpp"
	"github.com/spillway/spillway/mpp/bitcoin"
	"github.com/spillway/spillway/script"
)

// OpenStage says how far an opening is.
type OpenStage string

// The stages of an opening, in order.
const (
	StagePrepared     OpenStage = "prepared"      // T1 is built and saved, nothing has left
	StageRefundSigned OpenStage = "refund-signed" // multisig: the refund is signed by both
	StageSent         OpenStage = "sent"          // the opening is with the provider
	StageWaiting      OpenStage = "waiting"       // the provider does not see T1 yet
	StageAccepted     OpenStage = "accepted"      // the provider has stored the channel
)

// OpenEvent tells of an opening's progress.
type OpenEvent struct {
	Stage   OpenStage
	Channel string        // id, txid:vout; the funding's txid is its first part
	Wait    time.Duration // until the next attempt
}

// Open opens a channel on a quote: it builds and saves T1 and its refund, in a
// multisig channel has the refund signed first, and tells the provider. When it
// returns, the provider has stored the channel; T1 may still need confirmations.
// The id comes back also with an error, once there is one: Reopen goes on from
// there. Errors: channel.ErrTerms, wallet.ErrInsufficient, as Reopen.
func (c *Client) Open(ctx context.Context, q *Quoted, construction script.Construction, capacity uint64, e Expect, progress func(OpenEvent)) (id string, err error) {
	return c.OpenAs(ctx, q, Opening{Construction: construction, Capacity: capacity}, e, progress)
}

func tell(progress func(OpenEvent), ev OpenEvent) {
	if progress != nil {
		progress(ev)
	}
}

// Reopen takes a saved channel to where the provider has stored it, from wherever
// it stopped: a saved opening is repeated unchanged, T1 is never built anew.
// target is any resource of the provider's, "" the one that it was prepared at.
// Errors: ErrMisbehaved for a refund signature that is wrong (nothing was locked
// then), ErrRefused, ErrUnreachable, chain.ErrRejected where the chain refuses T1.
func (c *Client) Reopen(ctx context.Context, id, target string, e Expect, progress func(OpenEvent)) error {
	r, err := c.cfg.Payer.Record(ctx, id)
	switch {
	case err != nil:
		return err
	case r.Phase != channel.Prepared && r.Phase != channel.Funding && r.Phase != channel.Open:
		return fmt.Errorf("%w: channel %s is %s", ErrGone, id, r.Phase)
	case r.Accepted:
		return nil
	}
	target, e = saved(r, target, e)
	if err := c.freshEnough(r); err != nil {
		return err
	}
	if r.Terms.Cosigned() && len(r.RefundSig) == 0 {
		if err := c.signRefund(ctx, r, target, e); err != nil {
			return err
		}
		tell(progress, OpenEvent{Stage: StageRefundSigned, Channel: id})
	}
	payload, err := c.opening(ctx, r)
	if err != nil {
		return err
	}
	tell(progress, OpenEvent{Stage: StageSent, Channel: id})
	if err := c.sendOpening(ctx, payload, target, e, progress); err != nil {
		return err
	}
	if err := c.cfg.Payer.Accepted(ctx, id); err != nil {
		return err
	}
	if err := c.cfg.Payer.Publish(ctx, id); err != nil {
		// The provider sees T1; the watch repeats this broadcast with each block.
		c.cfg.Log.Warn("the funding transaction was not taken by our own node", "channel", id, "reason", err)
	}
	tell(progress, OpenEvent{Stage: StageAccepted, Channel: id})
	return nil
}

// freshEnough refuses to send the opening of a channel on an offer that the
// provider may have forgotten: nothing has left yet, a new offer is better.
func (c *Client) freshEnough(r channel.PayerRecord) error {
	if r.Phase != channel.Prepared && !r.Unsigned {
		return nil
	}
	var ch mpp.Challenge
	if err := json.Unmarshal([]byte(r.Offer), &ch); err != nil {
		return fmt.Errorf("the saved offer of channel %s: %w", r.Terms.ID(), err)
	}
	if ch.Expired(c.cfg.Now().Add(-offerLife)) {
		return fmt.Errorf("%w: channel %s, %s", ErrOfferOver, r.Terms.ID(), ch.Expires)
	}
	return nil
}

// signRefund is steps 3 to 5 of opening a multisig channel: the unsigned refund
// goes out, the payee's signature comes back and is verified and saved. T1 stays
// here. docs/protocol.md, "Opening, multisig".
func (c *Client) signRefund(ctx context.Context, r channel.PayerRecord, target string, e Expect) error {
	id := r.Terms.ID()
	refund, err := c.cfg.Payer.RefundRequest(ctx, id)
	if err != nil {
		return err
	}
	var answer bitcoin.PrepareAnswer
	q, err := c.savedOffer(r, target)
	if err != nil {
		return err
	}
	err = c.alone(ctx, ask{method: http.MethodPost, id: id, target: target, expect: e, fixed: q, payload: bitcoin.Prepare{
		ChannelType: string(r.Terms.Construction), PayerPubKey: r.Terms.PayerKey, ChannelID: id,
		Capacity: r.Terms.Capacity, RestScript: r.Terms.RestScript, RefundTx: refund,
	}}, &answer)
	if err != nil {
		return err
	}
	err = c.cfg.Payer.TakeRefundSignature(ctx, id, answer.RefundSignature)
	if errors.Is(err, channel.ErrSignature) {
		return misbehaved("%w", err)
	}
	return err
}

// savedOffer is the challenge that a channel's terms came from. A prepare echoes
// it: K2 and the expiry are in it. Errors: ErrOfferOver.
func (c *Client) savedOffer(r channel.PayerRecord, target string) (*Quoted, error) {
	var ch mpp.Challenge
	if err := json.Unmarshal([]byte(r.Offer), &ch); err != nil {
		return nil, fmt.Errorf("the saved offer of channel %s: %w", r.Terms.ID(), err)
	}
	if ch.Expired(c.cfg.Now()) {
		return nil, fmt.Errorf("%w: channel %s, %s", ErrOfferOver, r.Terms.ID(), ch.Expires)
	}
	return c.read(ch, target)
}

// opening is the payload of a saved opening; a repeat is the same to the byte.
func (c *Client) opening(ctx context.Context, r channel.PayerRecord) (bitcoin.Open, error) {
	op, err := c.cfg.Payer.Opening(ctx, r.Terms.ID())
	if err != nil {
		return bitcoin.Open{}, err
	}
	var offer mpp.Challenge
	if err := json.Unmarshal([]byte(r.Offer), &offer); err != nil {
		return bitcoin.Open{}, fmt.Errorf("the saved offer of channel %s: %w", r.Terms.ID(), err)
	}
	return bitcoin.Open{
		Offer: offer, ChannelType: string(op.Construction), PayerPubKey: op.PayerKey, ChannelID: op.Outpoint.String(),
		Capacity: op.Capacity, RestScript: op.RestScript, CumulativeAmount: op.Update.Amount,
		Signature: op.Update.Signature, FundingTx: op.FundingTx,
	}, nil
}

// sendOpening repeats an opening until the provider has stored it. T1 goes out
// with it, and from here as soon as the provider answers that it only waits for
// T1; one too large for a header goes out from here first. docs/adr/0004.
func (c *Client) sendOpening(ctx context.Context, p bitcoin.Open, target string, e Expect, progress func(OpenEvent)) error {
	key, err := c.NewKey()
	if err != nil {
		return err
	}
	a := ask{method: http.MethodPost, id: p.ChannelID, target: target, payload: p, expect: e, key: key}
	if large, err := c.tooLarge(ctx, a); err != nil {
		return err
	} else if large {
		if err := c.cfg.Payer.Publish(ctx, p.ChannelID); err != nil {
			return err
		}
		p.FundingTx = nil
		a.payload = p
	}
	for {
		var answer bitcoin.OpenAnswer
		err := c.alone(ctx, a, &answer)
		var wait *UnconfirmedError
		if !errors.As(err, &wait) {
			return err
		}
		if err := c.cfg.Payer.Publish(ctx, p.ChannelID); errors.Is(err, chain.ErrRejected) {
			return fmt.Errorf("channel %s: %w", p.ChannelID, err)
		} else if err != nil {
			return err
		}
		tell(progress, OpenEvent{Stage: StageWaiting, Channel: p.ChannelID, Wait: wait.RetryAfter})
		if err := c.cfg.Sleep(ctx, wait.RetryAfter); err != nil {
			return err
		}
	}
}

// tooLarge reports whether a credential with T1 in it is longer than any server
// can be trusted to take.
func (c *Client) tooLarge(ctx context.Context, a ask) (bool, error) {
	q, err := c.current(ctx, a.target, a.expect)
	if err != nil {
		return false, err
	}
	h, err := c.credential(ctx, a.id, q, a.payload, a.key, nil)
	if err != nil {
		return false, err
	}
	return len(h.Get(q.Challenge.Field())) > safeCredential, nil
}
