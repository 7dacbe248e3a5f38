package paywall

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/internal/web"
	"github.com/spillway/spillway/mpp"
	"github.com/spillway/spillway/mpp/bitcoin"
	"github.com/spillway/spillway/payee"
	"github.com/spillway/spillway/script"
)

// Refusals of the edge itself.
var (
	// errExpired: a challenge whose time is over.
	errExpired = errors.New("the challenge has ended, repeat with the fresh one; it ended")
	// errPrice: a voucher on a challenge that quotes another price than the present one.
	errPrice = errors.New("the price has changed")
	// errContent: a voucher on a challenge for what was here before.
	errContent = errors.New("the content has changed")
	// errRequest: a request that cannot carry what its credential asks for.
	errRequest = errors.New("the request does not fit its payment")
	// errRepeated: an answer that was made again often enough.
	errRepeated = errors.New("this answer was delivered too often; ask for it with another Idempotency-Key")
	// errBusy: too much is being delivered.
	errBusy = errors.New("too much is being delivered at once")
)

// refusals maps errors to problem types; the first match counts. What is in no
// row is a failure of this side: 503, and to be repeated.
// docs/protocol.md, section 13.
var refusals = []struct {
	is   error
	kind string
}{
	{mpp.ErrNoCredential, mpp.ProblemPaymentRequired},
	{errRequest, mpp.ProblemBadRequest},
	{errReused, mpp.ProblemBadRequest},
	{errRepeated, mpp.ProblemBadRequest},
	{mpp.ErrRepeated, mpp.ProblemMalformedCredential},
	{mpp.ErrTooLarge, mpp.ProblemMalformedCredential},
	{mpp.ErrInvalidChallenge, mpp.ProblemInvalidChallenge},
	{errExpired, mpp.ProblemPaymentExpired},
	{errPrice, mpp.ProblemVerificationFailed},
	{errContent, mpp.ProblemVerificationFailed},
	{bitcoin.ErrTopUp, mpp.ProblemBadRequest},
	{bitcoin.ErrAction, mpp.ProblemMalformedCredential},
	{bitcoin.ErrPayload, mpp.ProblemMalformedCredential},
	{mpp.ErrMalformed, mpp.ProblemMalformedCredential},
	{mpp.ErrJSON, mpp.ProblemMalformedCredential},
	{bitcoin.ErrMAC, mpp.ProblemSignerMismatch},
	{bitcoin.ErrKey, mpp.ProblemVerificationFailed},
	{channel.ErrSignature, mpp.ProblemInvalidSignature},
	{script.ErrSignature, mpp.ProblemInvalidSignature},
	{channel.ErrAmountExceeds, mpp.ProblemAmountExceedsDeposit},
	{channel.ErrUnconfirmed, mpp.ProblemChannelUnconfirmed},
	{payee.ErrBusy, mpp.ProblemChannelUnconfirmed},
	{channel.ErrInsufficient, mpp.ProblemInsufficientBalance},
	{channel.ErrOwes, mpp.ProblemInsufficientBalance},
	{channel.ErrExpiring, mpp.ProblemChannelExpiring},
	{channel.ErrFinalized, mpp.ProblemChannelFinalized},
	{payee.ErrUnknown, mpp.ProblemChannelNotFound},
	{channel.ErrConflict, mpp.ProblemVerificationFailed},
	{channel.ErrTerms, mpp.ProblemVerificationFailed},
	{channel.ErrUnsupported, mpp.ProblemVerificationFailed},
	{channel.ErrNothingAtStake, mpp.ProblemVerificationFailed},
	{channel.ErrTooSmall, mpp.ProblemVerificationFailed},
	{channel.ErrOverflow, mpp.ProblemVerificationFailed},
	{chain.ErrRejected, mpp.ProblemVerificationFailed},
	{ErrQuote, mpp.ProblemInternalPaymentError},
}

// refusalOf is nil for what is no refusal but a failure of this side.
func refusalOf(err error) *mpp.Problem {
	for _, row := range refusals {
		if errors.Is(err, row.is) {
			p := mpp.NewProblem(row.kind, err.Error())
			if errors.Is(err, mpp.ErrRepeated) || errors.Is(err, mpp.ErrTooLarge) {
				p.Status = http.StatusBadRequest
			}
			return p
		}
	}
	return nil
}

// Seconds that a client is asked to wait: for a failure here, and for a block.
const (
	retrySoon  = "2"
	retryBlock = "15"
)

// refuse writes a refusal: a problem, with a fresh challenge where it is a 402. A
// client that has proved whose channel it is learns where that stands.
func (s *Server) refuse(v *visit, err error) {
	p := refusalOf(err)
	if p == nil {
		s.unavailable(v, err)
		return
	}
	if errors.Is(err, mpp.ErrNoCredential) && !v.res.nothing {
		s.describe(v, p)
	} else if errors.Is(err, mpp.ErrNoCredential) {
		p.Detail = nothingSold
	}
	if v.res.Quote.Root != "" {
		p.With("root", v.res.Quote.Root)
	}
	on := v.standing(v.r.Context())
	if on != nil {
		on = s.situate(v, p, *on, err)
	}
	if p.Type == mpp.ProblemChannelUnconfirmed {
		s.wait(v.w, p, err)
	}
	if p.Status == http.StatusInternalServerError {
		s.cfg.Log.Error("a resource cannot be sold", "path", v.r.URL.Path, "error", err)
	}
	s.problem(v, on, p)
}

// situate adds where the client's channel stands to a problem, and what to sign.
func (s *Server) situate(v *visit, p *mpp.Problem, on payee.Receipt, err error) *payee.Receipt {
	var insufficient *channel.InsufficientError
	if errors.As(err, &insufficient) {
		on.Required = max(on.Required, insufficient.Required)
	}
	if p.Type == mpp.ProblemInsufficientBalance {
		p.With("requiredCumulative", decimal(on.Required))
	}
	p.With("channelId", on.Channel).With("acceptedCumulative", decimal(on.Paid)).With("chargedMsat", decimal(on.Charged))
	if v.order != nil {
		return &on
	}
	p.With("owedMsat", decimal(on.Charged-min(on.Charged, on.Paid*1000)))
	if free := v.charged(); len(free) > 0 {
		p.With("chargedChunks", free) // served again free, also now
	}
	return &on
}

// charged are the chunks of the request that have been charged already.
func (v *visit) charged() (free []uint64) {
	done, err := v.s.cfg.Payee.Charged(v.r.Context(), v.proved, v.res.Items)
	if err != nil {
		return nil
	}
	for _, it := range v.res.Items {
		if done[it.Chunk] {
			free = append(free, it.Chunk)
		}
	}
	return free
}

// wait says how deep the funding is, and when to ask again.
func (s *Server) wait(w http.ResponseWriter, p *mpp.Problem, err error) {
	after := retryBlock
	var unconfirmed *channel.UnconfirmedError
	if errors.As(err, &unconfirmed) {
		p.With("confirmations", unconfirmed.Have).With("confirmationsWanted", unconfirmed.Want)
	}
	if s.cfg.Network == "regtest" {
		after = retrySoon
	}
	w.Header().Set("Retry-After", after)
}

// problem writes a problem; a 402 always has a challenge.
func (s *Server) problem(v *visit, on *payee.Receipt, p *mpp.Problem) {
	if p.Status == http.StatusPaymentRequired {
		c, err := s.Challenge(v.r.Context(), v.res.Quote, on)
		if err != nil && refusalOf(err) != nil {
			s.cfg.Log.Error("a resource cannot be sold", "path", v.r.URL.Path, "error", err)
			p = refusalOf(err)
		} else if err != nil {
			s.unavailable(v, err)
			return
		} else {
			v.w.Header().Set(mpp.HeaderChallenge, c.String())
		}
	}
	writeProblem(v.w, v.r, p)
}

// unavailable answers a failure of this side. What was asked may or may not have
// been done: repeating it is safe, nothing is charged or taken twice.
func (s *Server) unavailable(v *visit, err error) {
	if limit := asLimit(err); limit != nil {
		limited(v.w, v.r, limit)
		return
	}
	switch {
	case errors.Is(err, context.Canceled):
		s.cfg.Log.Debug("the client went away", "path", v.r.URL.Path)
	case errors.Is(err, errBusy):
		s.cfg.Log.Debug("busy", "path", v.r.URL.Path)
	default:
		s.cfg.Log.Error("a request failed", "path", v.r.URL.Path, "error", err)
	}
	v.w.Header().Set("Retry-After", retrySoon)
	writeProblem(v.w, v.r, &mpp.Problem{
		Type: "about:blank", Title: http.StatusText(http.StatusServiceUnavailable), Status: http.StatusServiceUnavailable,
		Detail: "the provider cannot answer now; repeat the request, nothing is charged twice",
	})
}

// writeProblem writes a problem's body, as a page for a browser. To a HEAD it
// writes none, and leaves the handler's headers of the resource as they are.
func writeProblem(w http.ResponseWriter, r *http.Request, p *mpp.Problem) {
	h := w.Header()
	h.Del(mpp.HeaderReceipt)
	h.Set("Cache-Control", "no-store")
	if r.Method == http.MethodHead {
		w.WriteHeader(p.Status)
		return
	}
	raw, err := json.Marshal(p)
	kind := mpp.ContentTypeProblem
	if err == nil && r.Method == http.MethodGet && web.PrefersHTML(r) {
		raw, err = pageOf(h, p)
		kind = h.Get("Content-Type")
	}
	if err != nil {
		http.Error(w, p.Title, http.StatusInternalServerError)
		return
	}
	h.Set("Vary", "Accept")
	h.Set("Content-Type", kind)
	h.Set("Content-Length", strconv.Itoa(len(raw)))
	w.WriteHeader(p.Status)
	// the client may be gone; there is nobody else to tell
	if _, err := w.Write(raw); err != nil {
		return
	}
}
