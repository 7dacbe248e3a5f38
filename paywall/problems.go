package paywall

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/mpp"
	"github.com/spillway/spillway/mpp/bitcoin"
	"github.com/spillway/spillway/payee"
	"github.com/spillway/spillway/script"
)

// errAlone: an action that cannot come with a request for a resource, or a
// request that has no such action.
var errAlone = errors.New("this action comes alone, with POST and an empty body")

// errPrice: a voucher on a challenge that quotes another price than the present one.
var errPrice = errors.New("the challenge quotes another price than the present one")

// refusals maps errors to problem types; the first match counts.
var refusals = []struct {
	is   error
	kind string
}{
	{mpp.ErrRepeated, mpp.ProblemMalformedCredential},
	{mpp.ErrTooLarge, mpp.ProblemMalformedCredential},
	{mpp.ErrIdempotencyKey, mpp.ProblemBadRequest},
	{mpp.ErrInvalidChallenge, mpp.ProblemInvalidChallenge},
	{errExpired, mpp.ProblemPaymentExpired},
	{bitcoin.ErrPayload, mpp.ProblemMalformedCredential},
	{mpp.ErrMalformed, mpp.ProblemMalformedCredential},
	{mpp.ErrJSON, mpp.ProblemMalformedCredential},
	{bitcoin.ErrMAC, mpp.ProblemSignerMismatch},
	{bitcoin.ErrKey, mpp.ProblemVerificationFailed},
	{errPrice, mpp.ProblemVerificationFailed},
	{errAlone, mpp.ProblemBadRequest},
	{channel.ErrSignature, mpp.ProblemInvalidSignature},
	{script.ErrSignature, mpp.ProblemInvalidSignature},
	{channel.ErrAmountExceeds, mpp.ProblemAmountExceedsDeposit},
	{channel.ErrUnconfirmed, mpp.ProblemChannelUnconfirmed},
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
}

// retryAfter is how many seconds a client is asked to wait.
const retryAfter = "2"

// refuse writes a refusal: a problem, with a fresh challenge where it is a 402.
// on is the channel that the client has proved to be its own, nil: none.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, q Quote, on *payee.Receipt, err error) {
	p := refusalOf(err)
	if p == nil {
		s.unavailable(w, r, err)
		return
	}
	var insufficient *channel.InsufficientError
	if errors.As(err, &insufficient) {
		p.With("requiredCumulative", strconv.FormatUint(insufficient.Required, 10))
	} else if on != nil && errors.Is(err, channel.ErrOwes) {
		p.With("requiredCumulative", strconv.FormatUint(on.Required, 10))
	}
	if on != nil {
		p.With("acceptedCumulative", strconv.FormatUint(on.Paid, 10)).With("chargedMsat", strconv.FormatUint(on.Charged, 10)).
			With("owedMsat", strconv.FormatUint(on.Charged-min(on.Charged, on.Paid*1000), 10))
	}
	var unconfirmed *channel.UnconfirmedError
	if errors.As(err, &unconfirmed) {
		p.With("confirmations", unconfirmed.Have).With("confirmationsWanted", unconfirmed.Want)
		w.Header().Set("Retry-After", retryAfter)
	}
	s.problem(w, r, q, on, p)
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

// problem writes a problem; a 402 always has a challenge.
func (s *Server) problem(w http.ResponseWriter, r *http.Request, q Quote, on *payee.Receipt, p *mpp.Problem) {
	if p.Status == http.StatusPaymentRequired {
		c, err := s.Challenge(r.Context(), q, on)
		if err != nil {
			s.unavailable(w, r, err)
			return
		}
		w.Header().Set(mpp.HeaderChallenge, c.String())
	}
	writeProblem(w, r, p)
}

// unavailable answers a failure of this side: nothing was charged.
func (s *Server) unavailable(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, context.Canceled) {
		s.cfg.Log.Debug("the client went away", "path", r.URL.Path)
	} else {
		s.cfg.Log.Error("a request failed", "path", r.URL.Path, "error", err)
	}
	w.Header().Set("Retry-After", retryAfter)
	writeProblem(w, r, &mpp.Problem{
		Type: "about:blank", Title: "Service Unavailable", Status: http.StatusServiceUnavailable,
		Detail: "the provider cannot answer now; nothing was charged for this request",
	})
}

func writeProblem(w http.ResponseWriter, r *http.Request, p *mpp.Problem) {
	raw, err := json.Marshal(p)
	if err != nil {
		http.Error(w, p.Title, http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", mpp.ContentTypeProblem)
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Length", strconv.Itoa(len(raw)))
	w.WriteHeader(p.Status)
	if r.Method != http.MethodHead {
		// the client may be gone; there is nobody else to tell
		if _, err := w.Write(raw); err != nil {
			return
		}
	}
}
