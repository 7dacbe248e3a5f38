package paywall

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/mpp"
	"github.com/spillway/spillway/mpp/bitcoin"
)

// Paid is a request that carries an update. The update is one that the payer has
// signed and saved; sending it again pays nothing more.
type Paid struct {
	Channel string // id
	URL     string
	Update  channel.Update
	Header  http.Header // further fields, such as Range
	Key     string      // Idempotency-Key, the same for every repeat; "": a fresh one
	Expect  Expect
}

// voucher is the update as it travels.
func (c *Client) voucher(ctx context.Context, p Paid) (bitcoin.Payload, error) {
	v := bitcoin.Voucher{ChannelID: p.Channel, CumulativeAmount: p.Update.Amount, Signature: p.Update.Signature, Epoch: p.Update.Epoch}
	if v.Epoch == 0 {
		return v, nil
	}
	r, err := c.cfg.Payer.Record(ctx, p.Channel)
	if err != nil {
		return nil, err
	}
	v.LockHeight, _ = r.Terms.Lock(v.Epoch)
	return v, nil
}

// Fetch gets a resource with a voucher. The answer is a success, and its body
// has to be closed; what is in it is for the caller to verify. A challenge that
// ran out meanwhile is replaced by a fresh one, once.
// Errors: *UnconfirmedError, *InsufficientError, ErrExpiring, ErrGone,
// ErrPriceChanged, ErrMisbehaved, ErrRedirected, ErrRefused, ErrUnreachable.
func (c *Client) Fetch(ctx context.Context, p Paid) (*http.Response, bitcoin.Receipt, error) {
	voucher, err := c.voucher(ctx, p)
	if err != nil {
		return nil, bitcoin.Receipt{}, err
	}
	a := ask{method: http.MethodGet, id: p.Channel, target: p.URL, payload: voucher, header: p.Header, key: p.Key, expect: p.Expect}
	resp, err := c.send(ctx, a)
	if err != nil {
		return nil, bitcoin.Receipt{}, err
	}
	receipt, err := c.receipt(ctx, a, resp)
	if err != nil {
		return nil, receipt, errors.Join(err, resp.Body.Close())
	}
	return resp, receipt, nil
}

// Voucher pays without asking for anything: the last payment of a purchase. It
// goes by HEAD, and where that is refused by POST, which can say why; where the
// resource is gone or another one by now it goes to the origin's root. What is
// paid was bought before: the present price is not looked at.
// Errors: as Fetch.
func (c *Client) Voucher(ctx context.Context, p Paid) (receipt bitcoin.Receipt, err error) {
	err = c.settling(p.URL, func(target string) error {
		receipt, err = c.voucherAt(ctx, p, target)
		return err
	})
	return receipt, err
}

func (c *Client) voucherAt(ctx context.Context, p Paid, target string) (bitcoin.Receipt, error) {
	voucher, err := c.voucher(ctx, p)
	if err != nil {
		return bitcoin.Receipt{}, err
	}
	a := ask{method: http.MethodHead, id: p.Channel, target: target, payload: voucher, header: p.Header, key: p.Key, expect: p.Expect.settled()}
	if isRoot(target) {
		a.method, a.key = http.MethodPost, ""
	}
	resp, err := c.send(ctx, a)
	if a.method == http.MethodHead && (errors.Is(err, ErrRefused) || errors.Is(err, errNoReason)) {
		a.method, a.key = http.MethodPost, ""
		resp, err = c.send(ctx, a)
	}
	if err != nil {
		return bitcoin.Receipt{}, err
	}
	receipt, err := c.receipt(ctx, a, resp)
	return receipt, errors.Join(err, closeAnswer(resp.Body))
}

// Resume asks for the newest update that the provider holds and lets the payer
// check that it signed it. Where the payer had forgotten it, it counts as spent
// from then on. Errors: as Fetch; ErrMisbehaved for an update that is not ours.
func (c *Client) Resume(ctx context.Context, id, target string, e Expect) (bitcoin.ResumeAnswer, error) {
	var answer bitcoin.ResumeAnswer
	rec, err := c.cfg.Payer.Record(ctx, id)
	if err != nil {
		return answer, err
	}
	target, e = saved(rec, target, e)
	ask := ask{method: http.MethodPost, id: id, payload: resumeOf(rec), expect: e}
	err = c.settling(target, func(target string) error {
		ask.target = target
		return c.alone(ctx, ask, &answer)
	})
	if err != nil {
		return answer, err
	}
	if answer.ChannelID != id {
		return answer, misbehaved("it answers for channel %s, asked for %s", answer.ChannelID, id)
	}
	if rec.Duplex != nil {
		return answer, c.resumedDuplex(ctx, rec, answer)
	}
	u := channel.Update{Amount: answer.CumulativeAmount, Signature: answer.Signature}
	if err := c.cfg.Payer.Resumed(ctx, id, u); errors.Is(err, channel.ErrSignature) || errors.Is(err, channel.ErrAmountExceeds) {
		return answer, misbehaved("%w", err)
	} else if err != nil {
		return answer, err
	}
	return answer, nil
}

// ask is one request that carries a credential.
type ask struct {
	method, id, target string
	payload            bitcoin.Payload
	header             http.Header
	key                string
	expect             Expect
	fixed              *Quoted // the one challenge that fits; nil: any that is current
}

// send sends a request with a credential for a challenge that was checked. It
// never follows a redirect. A success comes back with its body open.
func (c *Client) send(ctx context.Context, a ask) (*http.Response, error) {
	if a.key == "" {
		key, err := c.NewKey()
		if err != nil {
			return nil, err
		}
		a.key = key
	}
	a.expect.ended = true
	for again := true; ; again = false {
		q, err := c.challengeFor(ctx, a)
		if err != nil {
			return nil, err
		}
		resp, err := c.carry(ctx, a, q)
		if err != nil {
			return nil, err
		}
		if resp.StatusCode >= 200 && resp.StatusCode < 300 {
			return resp, nil
		}
		retry, err := c.refused(resp, a, q)
		err = errors.Join(err, closeAnswer(resp.Body))
		if !retry || !again || a.fixed != nil {
			return nil, err
		}
		c.cfg.Log.Debug("a fresh challenge is used", "url", a.target, "reason", err)
	}
}

// carry sends a request once, over a compact connection where it can.
func (c *Client) carry(ctx context.Context, a ask, q *Quoted) (*http.Response, error) {
	if resp, err := c.compactly(ctx, a, q); resp != nil || err != nil {
		return resp, err
	}
	header, err := c.credential(ctx, a.id, q, a.payload, a.key, a.header)
	if err != nil {
		return nil, err
	}
	return c.net.do(ctx, a.method, a.target, header)
}

func (c *Client) challengeFor(ctx context.Context, a ask) (*Quoted, error) {
	if a.fixed != nil {
		return a.fixed, nil
	}
	if a.method == http.MethodHead && c.recall(a.target) == nil { // a GET might be answered free
		if q, err := c.quoteBy(ctx, http.MethodHead, a.target, a.expect); err == nil && Origin(q.URL) == Origin(a.target) {
			return q, nil
		}
	}
	return c.current(ctx, a.target, a.expect)
}

// errNoReason: a 402 to a HEAD, which has no body.
var errNoReason = errors.New("the provider gave no reason")

// refused reads an answer that is no success. retry is true where a fresh
// challenge came with it and was all that was missing.
func (c *Client) refused(resp *http.Response, a ask, old *Quoted) (retry bool, err error) {
	if resp.StatusCode != http.StatusPaymentRequired {
		return false, refusal(resp)
	}
	c.forget(a.target)
	q, err := c.challengeOf(resp, a.target, a.expect)
	if err != nil {
		return false, err
	}
	problem, err := problemOf(resp)
	if err != nil {
		return false, err
	}
	if problem == nil {
		return q.Challenge.ID != old.Challenge.ID, fmt.Errorf("%w: %w", ErrRefused, errNoReason)
	}
	switch problem.Type {
	case mpp.ProblemChannelUnconfirmed:
		return false, &UnconfirmedError{RetryAfter: retryAfterOf(resp.Header), Problem: problem}
	case mpp.ProblemInsufficientBalance, mpp.ProblemPaymentInsufficient:
		return false, &InsufficientError{Required: requiredBy(problem, q), Problem: problem}
	case mpp.ProblemChannelExpiring:
		return false, fmt.Errorf("%w: %w", ErrExpiring, problem)
	case mpp.ProblemAmountExceedsDeposit:
		return false, fmt.Errorf("%w: %w", channel.ErrAmountExceeds, &RefusedError{resp.StatusCode, problem})
	case mpp.ProblemInvalidSignature, mpp.ProblemSignerMismatch, mpp.ProblemMalformedCredential, mpp.ProblemInvalidPayload:
		return false, &RefusedError{resp.StatusCode, problem}
	}
	return q.Challenge.ID != old.Challenge.ID, &RefusedError{resp.StatusCode, problem}
}

// requiredBy is the cumulative amount (sat) that a refusal names.
func requiredBy(p *mpp.Problem, q *Quoted) uint64 {
	if n, err := strconv.ParseUint(p.String("requiredCumulative"), 10, 64); err == nil && n <= channel.MaxSat {
		return n
	}
	return q.Request.MethodDetails.RequiredCumulative
}

// receipt reads and checks the receipt of a success. Where the provider holds
// more than this side remembers to have signed, it has to show it.
func (c *Client) receipt(ctx context.Context, a ask, resp *http.Response) (bitcoin.Receipt, error) {
	r, err := bitcoin.ParseReceipt(resp.Header.Values(mpp.HeaderReceipt))
	switch {
	case err != nil:
		return r, misbehaved("%w", err)
	case r.ChannelID != a.id:
		return r, misbehaved("a receipt for channel %s, paid was on %s", r.ChannelID, a.id)
	}
	if v, ok := a.payload.(bitcoin.Voucher); ok && r.AcceptedCumulative <= v.CumulativeAmount && r.BackMsat == 0 && r.Update == nil {
		return r, nil // it holds no more than was just sent, and gives nothing back
	}
	rec, err := c.cfg.Payer.Record(ctx, a.id)
	if err != nil {
		return r, err
	}
	if rec.Duplex != nil {
		if err := c.takeBack(ctx, rec, r); err != nil {
			return r, err
		}
	}
	if r.AcceptedCumulative > rec.Signed {
		c.cfg.Log.Warn("the provider holds more than is remembered here", "channel", a.id,
			"accepted_sat", r.AcceptedCumulative, "signed_sat", rec.Signed)
		got, err := c.Resume(ctx, a.id, a.target, a.expect)
		if err != nil {
			return r, err
		}
		if rec.Duplex == nil && got.CumulativeAmount < r.AcceptedCumulative {
			return r, misbehaved("it claims %d sat and shows %d sat", r.AcceptedCumulative, got.CumulativeAmount)
		}
	}
	return r, nil
}

// alone sends an action by itself and reads its JSON answer. It is repeated,
// unchanged, while no answer comes.
func (c *Client) alone(ctx context.Context, a ask, answer json.Unmarshaler) error {
	if a.key == "" {
		key, err := c.NewKey()
		if err != nil {
			return err
		}
		a.key = key
	}
	for n := 0; ; n++ {
		err := c.once(ctx, a, answer)
		if !errors.Is(err, ErrUnreachable) || n+1 == openAttempts {
			return err
		}
		if err := c.cfg.Sleep(ctx, patience(n, err)); err != nil {
			return err
		}
	}
}

func (c *Client) once(ctx context.Context, a ask, answer json.Unmarshaler) error {
	resp, err := c.send(ctx, a)
	if err != nil {
		return err
	}
	body, err := readAnswer(resp.Body, maxAnswer)
	if err = errors.Join(err, closeAnswer(resp.Body)); err != nil || answer == nil {
		return err
	}
	if err := answer.UnmarshalJSON(body); err != nil {
		return misbehaved("%w", err)
	}
	return nil
}

// patience is how long to wait after the n-th failure in a row.
func patience(n int, err error) time.Duration {
	var busy *BusyError
	if errors.As(err, &busy) {
		return busy.RetryAfter
	}
	return min(500*time.Millisecond<<min(n, 6), 30*time.Second)
}

// Patience is how long a buyer waits after the n-th failure in a row, from zero.
func Patience(n int, err error) time.Duration { return patience(max(n, 0), err) }

// offers reports whether a construction is on offer.
func (q *Quoted) offers(c string) bool {
	return slices.Contains(q.Request.MethodDetails.ChannelTypes, c)
}
