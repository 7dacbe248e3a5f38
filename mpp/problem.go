package mpp

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
)

// ContentTypeProblem is the media type of a problem. RFC 9457.
const ContentTypeProblem = "application/problem+json"

// MaxProblem bounds a problem's body, in bytes.
const MaxProblem = 64 << 10

// ProblemBase is where the scheme's problem types live. draft-httpauth-payment-02
// sections 8.1 and 8.2.
const ProblemBase = "https://paymentauth.org/problems/"

// The scheme's problem types, those of sessions, and Spillway's own two.
const (
	ProblemPaymentRequired      = ProblemBase + "payment-required"
	ProblemPaymentInsufficient  = ProblemBase + "payment-insufficient"
	ProblemPaymentExpired       = ProblemBase + "payment-expired"
	ProblemVerificationFailed   = ProblemBase + "verification-failed"
	ProblemMethodUnsupported    = ProblemBase + "method-unsupported"
	ProblemMalformedCredential  = ProblemBase + "malformed-credential"
	ProblemInvalidChallenge     = ProblemBase + "invalid-challenge"
	ProblemInvalidPayload       = ProblemBase + "invalid-payload"
	ProblemBadRequest           = ProblemBase + "bad-request"
	ProblemInternalPaymentError = ProblemBase + "internal-payment-error"
	ProblemInvalidSignature     = ProblemBase + "session/invalid-signature"
	ProblemSignerMismatch       = ProblemBase + "session/signer-mismatch"
	ProblemAmountExceedsDeposit = ProblemBase + "session/amount-exceeds-deposit"
	ProblemChannelNotFound      = ProblemBase + "session/channel-not-found"
	ProblemChannelFinalized     = ProblemBase + "session/channel-finalized"
	ProblemInsufficientBalance  = ProblemBase + "session/insufficient-balance"
	ProblemChannelUnconfirmed   = ProblemBase + "channel-unconfirmed"
	ProblemChannelExpiring      = ProblemBase + "channel-expiring"
)

// problemAbout is the type of a problem that names none. RFC 9457.
const problemAbout = "about:blank"

const (
	statusBadRequest      = 400
	statusPaymentRequired = 402
	statusGone            = 410
	statusInternal        = 500
)

// problemKinds are each type's title and HTTP status.
var problemKinds = map[string]struct {
	title  string
	status int
}{
	ProblemPaymentRequired:      {"Payment Required", statusPaymentRequired},
	ProblemPaymentInsufficient:  {"Payment Insufficient", statusPaymentRequired},
	ProblemPaymentExpired:       {"Payment Expired", statusPaymentRequired},
	ProblemVerificationFailed:   {"Verification Failed", statusPaymentRequired},
	ProblemMethodUnsupported:    {"Method Unsupported", statusBadRequest},
	ProblemMalformedCredential:  {"Malformed Credential", statusPaymentRequired},
	ProblemInvalidChallenge:     {"Invalid Challenge", statusPaymentRequired},
	ProblemInvalidPayload:       {"Invalid Payload", statusPaymentRequired},
	ProblemBadRequest:           {"Bad Request", statusBadRequest},
	ProblemInternalPaymentError: {"Internal Payment Error", statusInternal},
	ProblemInvalidSignature:     {"Invalid Signature", statusPaymentRequired},
	ProblemSignerMismatch:       {"Signer Mismatch", statusPaymentRequired},
	ProblemAmountExceedsDeposit: {"Amount Exceeds Deposit", statusPaymentRequired},
	ProblemChannelNotFound:      {"Channel Not Found", statusGone},
	ProblemChannelFinalized:     {"Channel Finalized", statusGone},
	ProblemInsufficientBalance:  {"Insufficient Balance", statusPaymentRequired},
	ProblemChannelUnconfirmed:   {"Channel Unconfirmed", statusPaymentRequired},
	ProblemChannelExpiring:      {"Channel Expiring", statusPaymentRequired},
}

// Problem is the body of a refusal, RFC 9457. It is an error, so that a client
// can return what the server said.
type Problem struct {
	Type   string         // URI, one of the constants
	Title  string         // the same for every problem of a type
	Status int            // HTTP status, 0 when absent
	Detail string         // this occurrence, for people
	Extra  map[string]any // further members, e.g. requiredCumulative
}

// NewProblem returns a problem with its type's title and status; an unknown type
// has none.
func NewProblem(kind, detail string) *Problem {
	k := problemKinds[kind]
	return &Problem{Type: kind, Title: k.title, Status: k.status, Detail: detail}
}

// With adds a member and returns the problem. The five names of RFC 9457 can't
// be taken.
func (p *Problem) With(name string, value any) *Problem {
	if p.Extra == nil {
		p.Extra = map[string]any{}
	}
	p.Extra[name] = value
	return p
}

// String returns an additional member that is a string, else "".
func (p *Problem) String(name string) string {
	s, _ := p.Extra[name].(string)
	return s
}

func (p *Problem) Error() string {
	text := p.Detail
	if text == "" {
		text = p.Title
	}
	if text == "" {
		text = p.Type
	}
	return text
}

// Is makes errors.Is match any problem of the same type.
func (p *Problem) Is(target error) bool {
	t, ok := target.(*Problem)
	return ok && t.Type == p.Type
}

// MarshalJSON implements json.Marshaler. Additional members are on the same
// level; they don't replace the standard ones.
func (p *Problem) MarshalJSON() ([]byte, error) {
	m := make(map[string]any, len(p.Extra)+4)
	for name, v := range p.Extra {
		m[name] = v
	}
	m["type"] = p.Type
	delete(m, "title")
	delete(m, "status")
	delete(m, "detail")
	if p.Title != "" {
		m["title"] = p.Title
	}
	if p.Status != 0 {
		m["status"] = p.Status
	}
	if p.Detail != "" {
		m["detail"] = p.Detail
	}
	return marshal(m)
}

// ParseProblem reads a problem's body. A member of the wrong type is ignored, as
// RFC 9457 asks; numbers among the additional members are json.Number.
// Errors: ErrTooLarge, ErrJSON.
func ParseProblem(body []byte) (*Problem, error) {
	if len(body) > MaxProblem {
		return nil, fmt.Errorf("%w: a problem of %d bytes", ErrTooLarge, len(body))
	}
	obj, err := ParseObject(body)
	if err != nil {
		return nil, err
	}
	p := &Problem{Type: problemAbout}
	for name, v := range obj {
		switch name {
		case "type":
			takeString(&p.Type, v)
		case "title":
			takeString(&p.Title, v)
		case "detail":
			takeString(&p.Detail, v)
		case "status":
			p.Status = status(v)
		default:
			p.With(name, v)
		}
	}
	return p, nil
}

func takeString(to *string, v any) {
	if s, ok := v.(string); ok {
		*to = s
	}
}

func status(v any) int {
	n, ok := v.(json.Number)
	if !ok {
		return 0
	}
	i, err := strconv.ParseUint(string(n), 10, 16)
	if err != nil || i > math.MaxInt16 {
		return 0
	}
	return int(i)
}
