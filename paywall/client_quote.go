package paywall

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/mpp"
	"github.com/spillway/spillway/mpp/bitcoin"
	"github.com/spillway/spillway/script"
)

// accepts is what Accept-Payment says of this client.
const accepts = bitcoin.Method + "/" + bitcoin.Intent

// Quoted is a challenge that was read and checked.
type Quoted struct {
	URL       string // the resource, after redirects within its origin
	Challenge mpp.Challenge
	Request   bitcoin.Request
	Offer     channel.Offer
	Problem   *mpp.Problem // the body of the 402, for a person; may be nil
	Compact   bool         // the provider speaks the compact transport here
}

// Raw is the challenge as it is saved with a channel: its JSON.
func (q *Quoted) Raw() (string, error) {
	b, err := json.Marshal(q.Challenge)
	return string(b), err
}

// Expect is what a buyer agreed to. Every challenge is held against it before
// anything is signed.
type Expect struct {
	// Recipient is the provider's identity, in hex; "" takes any.
	Recipient string
	// Check has a say about the price; nil takes any. Its error comes back as
	// it is: wrap ErrPriceChanged where that is what happened.
	Check func(*Quoted) error
	// ended takes a challenge that has ended by this side's clock: on a channel that is
	// there the payee judges, by its own. What is owed can be paid whoever's is wrong.
	ended bool
	// body is what the request carries; nil: nothing. A challenge may be bound to it.
	body func() ([]byte, error)
}

func (e Expect) check(q *Quoted) error {
	if err := e.checkDigest(q.Challenge.Digest); err != nil {
		return err
	}
	if e.Recipient != "" && q.Request.Recipient != e.Recipient {
		return misbehaved("it wants to be paid as %s, the provider is %s", q.Request.Recipient, e.Recipient)
	}
	if e.Check == nil {
		return nil
	}
	return e.Check(q)
}

// checkDigest refuses a challenge that is bound to another body than the request's.
// draft-httpauth-payment-02 section 5.1.3.
func (e Expect) checkDigest(digest string) error {
	if digest == "" {
		return nil
	}
	if e.body == nil {
		return misbehaved("its challenge is bound to a body that was not sent")
	}
	raw, err := e.body()
	if err == nil {
		err = mpp.CheckDigest(digest, raw)
	}
	if err != nil {
		return misbehaved("its challenge is bound to another body: %w", err)
	}
	return nil
}

// Quote asks for the price and the terms of a resource without paying. It follows
// redirects within the origin only. Nothing of it is kept by the provider.
// Errors: ErrUnreachable, ErrRedirected, ErrNotProvider, ErrMisbehaved, ErrRefused.
func (c *Client) Quote(ctx context.Context, target string, e Expect) (*Quoted, error) {
	if _, err := resourceOf(target); err != nil {
		return nil, err
	}
	return c.quoteBy(ctx, http.MethodGet, target, e)
}

// terms is Quote for a request that follows: the root of an origin sells nothing and
// gives its challenge to a POST. docs/protocol.md, section 13.
func (c *Client) terms(ctx context.Context, target string, e Expect) (*Quoted, error) {
	if isRoot(target) {
		return c.quoteBy(ctx, http.MethodPost, target, e)
	}
	return c.Quote(ctx, target, e)
}

func (c *Client) quoteBy(ctx context.Context, method, target string, e Expect) (*Quoted, error) {
	resp, at, err := c.net.follow(ctx, method, target, http.Header{mpp.HeaderAccept: {accepts}})
	if err != nil {
		return nil, err
	}
	q, err := c.quoteOf(resp, at, e)
	return q, errors.Join(err, closeAnswer(resp.Body))
}

// quoteOf reads the answer to an unpaid request.
func (c *Client) quoteOf(resp *http.Response, at string, e Expect) (*Quoted, error) {
	switch {
	case resp.StatusCode == http.StatusPaymentRequired:
	case resp.StatusCode < 300:
		return nil, fmt.Errorf("%w: %s is free", ErrNotProvider, at)
	default:
		return nil, refusal(resp)
	}
	q, err := c.challengeOf(resp, at, e)
	if err != nil {
		return nil, err
	}
	if body, err := readAnswer(resp.Body, mpp.MaxProblem); err == nil {
		q.Problem, err = mpp.ParseProblem(body)
		if err != nil {
			q.Problem = nil // only for a person; the challenge is what counts
		}
	}
	return q, nil
}

// challengeOf takes our method's challenge out of a 402, checks it, and keeps it
// for the next request.
func (c *Client) challengeOf(resp *http.Response, at string, e Expect) (*Quoted, error) {
	list, err := mpp.ParseChallenges(resp.Header.Values(mpp.HeaderChallenge))
	if errors.Is(err, mpp.ErrNoChallenge) {
		return nil, fmt.Errorf("%w: a 402 without a challenge", ErrNotProvider)
	} else if err != nil {
		return nil, misbehaved("%w", err)
	}
	for _, ch := range list {
		if ch.Method != bitcoin.Method || ch.Intent != bitcoin.Intent {
			continue
		}
		if ch.Expired(c.cfg.Now()) && !e.ended {
			return nil, misbehaved("its challenge ended at %s already; is the clock right?", ch.Expires)
		}
		q, err := c.read(ch, at)
		if err != nil {
			return nil, err
		}
		q.Compact = resp.Header.Get(HeaderCompact) == "1"
		if err := e.check(q); err != nil {
			return nil, err
		}
		c.remember(q)
		return q, nil
	}
	return nil, fmt.Errorf("%w: it does not take payments over bitcoin channels", ErrNotProvider)
}

// read decodes a challenge and checks all that depends neither on what is bought nor on
// the clock: currency, network, recipient's form.
func (c *Client) read(ch mpp.Challenge, at string) (*Quoted, error) {
	req, err := bitcoin.ParseRequest(ch.Request)
	if err != nil {
		return nil, misbehaved("%w", err)
	}
	if req.MethodDetails.Network != c.cfg.Network {
		return nil, misbehaved("%w: it is paid on %q, not on %q", channel.ErrTerms, req.MethodDetails.Network, c.cfg.Network)
	}
	opaque, err := bitcoin.ParseOpaque(ch.Opaque)
	if err != nil {
		return nil, misbehaved("%w", err)
	}
	return &Quoted{URL: at, Challenge: ch, Request: req, Offer: offerOf(req, opaque.Nonce)}, nil
}

// offerOf is the offer in a request. Channel types that are not known here are
// left out, and so are duplex channels without what they need.
func offerOf(r bitcoin.Request, nonce channel.Nonce) channel.Offer {
	d := r.MethodDetails
	o := channel.Offer{
		Network: d.Network, TxVersion: d.TxVersion, PayeeKey: d.PayeePubKey, Nonce: nonce,
		Tip: d.TipHeight, Expiry: d.ExpiryHeight, Margin: d.MarginBlocks,
		MinDeposit: d.MinDeposit, MaxDeposit: d.MaxDeposit, Confirmations: d.MinConfirmations,
		ZeroConf: d.ZeroConfLimit * 1000, Credit: d.CreditMsat, MinimumCharge: d.MinimumCharge,
	}
	for _, t := range d.ChannelTypes {
		switch t {
		case bitcoin.Taproot, bitcoin.Multisig, bitcoin.MultisigP2SH:
			o.Constructions = append(o.Constructions, script.Construction(t))
		case bitcoin.Duplex:
			if d.StepBlocks > 0 && len(d.PayeeRestScript) > 0 && d.Mode != bitcoin.ModeLadder {
				o.Constructions = append(o.Constructions, script.Duplex)
				o.Step, o.PayeeRest = d.StepBlocks, d.PayeeRestScript
			}
		}
	}
	return o
}

// current is a challenge that can be echoed now: the newest one that is known, or
// a fresh one. One that is known is checked again: what is expected may differ.
func (c *Client) current(ctx context.Context, target string, e Expect) (*Quoted, error) {
	if q := c.recall(target); q != nil {
		if err := e.check(q); err == nil {
			return q, nil
		}
		c.forget(target)
	}
	q, err := c.terms(ctx, target, e)
	if err != nil {
		return nil, err
	}
	if Origin(q.URL) != Origin(target) {
		return nil, &RedirectError{From: target, To: q.URL}
	}
	return q, nil
}

// refusal turns an answer that is neither a success nor a challenge into an error.
func refusal(resp *http.Response) error {
	if to, err := redirectOf(resp, resp.Request.URL.String()); err != nil {
		return err
	} else if to != "" {
		return &RedirectError{From: resp.Request.URL.String(), To: to}
	}
	problem, err := problemOf(resp)
	switch {
	case err != nil:
		return err
	case resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode == http.StatusServiceUnavailable:
		return &BusyError{Status: resp.StatusCode, RetryAfter: retryAfterOf(resp.Header), Problem: problem}
	case resp.StatusCode >= 500:
		return unreachable("HTTP status %d: %w", resp.StatusCode, problemText(problem))
	case resp.StatusCode == http.StatusGone && problem != nil &&
		(problem.Type == mpp.ProblemChannelNotFound || problem.Type == mpp.ProblemChannelFinalized):
		return fmt.Errorf("%w: %w", ErrGone, problem)
	}
	return &RefusedError{Status: resp.StatusCode, Problem: problem}
}

func problemText(p *mpp.Problem) error {
	if p == nil {
		return errors.New("it gave no reason")
	}
	return p
}

// problemOf reads a refusal's problem; nil where there is none that can be
// understood. Errors: ErrUnreachable where the answer breaks off.
func problemOf(resp *http.Response) (*mpp.Problem, error) {
	body, err := readAnswer(resp.Body, mpp.MaxProblem)
	if errors.Is(err, ErrMisbehaved) {
		return nil, nil // too long to be one
	} else if err != nil {
		return nil, err
	}
	p, err := mpp.ParseProblem(body)
	if err != nil {
		return nil, nil // for people, and in no form that they could read
	}
	return p, nil
}
