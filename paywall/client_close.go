package paywall

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/mpp/bitcoin"
	"github.com/spillway/spillway/script"
)

// closeAttempts bounds how often a close without an answer is begun again.
const closeAttempts = 4

// Close closes a channel together with the provider and returns the id of the
// transaction that splits it: the cooperative close of a taproot or duplex channel, the
// settlement that the provider returns of a multisig channel. It is on the
// network when this returns. target is any resource of the provider's, "" the one
// that the channel was opened at; where that does not take the close any more,
// because the file is gone or another one, the origin's root is asked. A close that
// failed is begun again with a new nonce: none is used twice.
// Errors: channel.ErrOwes while something verified is not paid, *InsufficientError
// while something is charged that was not, ErrMisbehaved for a transaction or
// signature that is wrong, ErrRefused, ErrUnreachable.
func (c *Client) Close(ctx context.Context, id, target string, e Expect) (txid string, err error) {
	r, err := c.cfg.Payer.Record(ctx, id)
	if err != nil {
		return "", err
	}
	target, e = saved(r, target, e)
	if r.Close != nil {
		return r.Close.Txid, c.settling(target, func(target string) error { return c.returnClose(ctx, r, target, e, errNotAsked) })
	}
	if r.Phase.Final() || r.Phase == channel.Refunding {
		return "", fmt.Errorf("%w: channel %s is %s", channel.ErrFinalized, id, r.Phase)
	}
	err = c.settling(target, func(target string) error {
		txid, err = c.closeAt(ctx, r, target, e)
		return err
	})
	if Forgotten(err) { // it closes nothing together now, but is owed what was signed
		err = errors.Join(err, c.Remind(ctx, id, target, e))
	}
	return txid, err
}

// closeAt asks for a close at one address, until there is an answer.
func (c *Client) closeAt(ctx context.Context, r channel.PayerRecord, target string, e Expect) (txid string, err error) {
	for n := 0; ; n++ {
		txid, err = c.closeOnce(ctx, r, target, e)
		if !errors.Is(err, ErrUnreachable) || n+1 == closeAttempts {
			return txid, err
		}
		c.cfg.Log.Info("the close is begun again", "channel", r.Terms.ID(), "reason", err)
		if err := c.cfg.Sleep(ctx, patience(n, err)); err != nil {
			return "", err
		}
	}
}

// saved fills in what a channel's record knows of its provider.
func saved(r channel.PayerRecord, target string, e Expect) (string, Expect) {
	if target == "" {
		target = r.Origin
	}
	if e.Recipient == "" {
		e.Recipient = r.Payee
	}
	return target, e.settled()
}

// settled is what is expected where nothing is bought any more: the same provider,
// at whatever price.
func (e Expect) settled() Expect { return Expect{Recipient: e.Recipient} }

// isRoot reports whether a URL is the root of its origin, where every provider
// takes what settles a channel.
func isRoot(target string) bool {
	name, err := resourceOf(target)
	return err == nil && (name == Origin(target) || name == Origin(target)+"/")
}

// settling does something that settles what was bought: at the address where it
// was bought, or, where that does not take it, at the origin's root.
func (c *Client) settling(target string, do func(target string) error) error {
	err := do(target)
	moved := errors.Is(err, ErrRefused) || errors.Is(err, ErrNotProvider) || errors.Is(err, ErrRedirected)
	if !moved || isRoot(target) {
		return err
	}
	c.cfg.Log.Info("the origin's root is asked instead", "url", target, "reason", err)
	again := do(Origin(target) + "/")
	var refused *RefusedError
	if errors.Is(again, ErrNotProvider) || errors.As(again, &refused) && refused.Problem == nil {
		return err // it takes nothing there: the first reason tells more
	}
	return again
}

// closeOnce is one attempt: a new nonce, the provider's answer, and what it makes.
func (c *Client) closeOnce(ctx context.Context, r channel.PayerRecord, target string, e Expect) (string, error) {
	id := r.Terms.ID()
	if r.Duplex != nil { // what the provider returns comes first: the close is at the ledger
		if _, err := c.Resume(ctx, id, target, e); err != nil {
			return "", err
		}
	}
	begun, err := c.cfg.Payer.BeginClose(ctx, id)
	if err != nil {
		return "", err
	}
	p := bitcoin.Close{ChannelID: id, CumulativeAmount: begun.Update.Amount, Signature: begun.Update.Signature}
	if !r.Terms.Cosigned() {
		p.PayerNonce = begun.Nonce[:]
	}
	if r.Duplex != nil {
		p.Epoch, p.ChargedMsat = begun.Update.Epoch, begun.Ledger
		p.LockHeight, _ = r.Terms.Lock(p.Epoch)
	}
	var answer bitcoin.CloseAnswer
	if err := c.once(ctx, ask{method: http.MethodPost, id: id, target: target, payload: p, expect: e}, &answer); err != nil {
		return "", err
	}
	if r.Terms.Cosigned() {
		_, err = c.cfg.Payer.TakeSettlement(ctx, id, answer.Tx)
		return c.closed(ctx, id, err)
	}
	if len(answer.PayeeNonce) != len(begun.Nonce) {
		return "", misbehaved("a close without a nonce")
	}
	_, err = c.cfg.Payer.FinishClose(ctx, id, begun, answer.Tx, [66]byte(answer.PayeeNonce), answer.PayeePartial)
	txid, sent := c.closed(ctx, id, err)
	if txid == "" {
		return "", sent
	}
	if r, err = c.cfg.Payer.Record(ctx, id); err != nil {
		return txid, err
	}
	return txid, c.returnClose(ctx, r, target, e, sent)
}

// closed sorts out what a close's completion said: a wrong transaction is the
// provider's doing; one that is saved but was not taken by our own node is
// repeated by the watch, and handed to the provider all the same.
func (c *Client) closed(ctx context.Context, id string, failed error) (string, error) {
	if errors.Is(failed, channel.ErrTerms) || errors.Is(failed, channel.ErrSignature) ||
		errors.Is(failed, script.ErrSignature) || errors.Is(failed, script.ErrExecute) {
		return "", misbehaved("%w", failed)
	}
	r, err := c.cfg.Payer.Record(ctx, id)
	if err != nil {
		return "", errors.Join(failed, err)
	}
	if r.Close == nil {
		return "", failed
	}
	if failed != nil {
		c.cfg.Log.Warn("the close was not taken by our own node", "channel", id, "txid", r.Close.Txid, "reason", failed)
	}
	return r.Close.Txid, failed
}

// errNotAsked: our own node was not asked to broadcast; the watch does that.
var errNotAsked = errors.New("the close was broadcast before, or will be with the next block")

// returnClose hands a completed close to the provider. sent is what our own node
// said to it: one of the two is enough.
func (c *Client) returnClose(ctx context.Context, r channel.PayerRecord, target string, e Expect, sent error) error {
	id := r.Terms.ID()
	if r.Terms.Cosigned() {
		if errors.Is(sent, errNotAsked) {
			return nil
		}
		return sent
	}
	err := c.alone(ctx, ask{method: http.MethodPost, id: id, target: target, expect: e,
		payload: bitcoin.Close{ChannelID: id, FinalTx: r.Close.Tx}}, nil)
	switch {
	case err == nil:
		return nil
	case sent == nil:
		c.cfg.Log.Info("the provider did not take the close, it is on the network from here", "channel", id, "reason", err)
		return nil
	default:
		return errors.Join(err, sent)
	}
}
