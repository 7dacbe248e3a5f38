package mpp

import (
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Names on the wire.
const (
	Scheme                    = "Payment"
	HeaderChallenge           = "WWW-Authenticate"
	HeaderCredential          = "Authorization"
	HeaderAlternateCredential = "Payment-Authorization" // where Authorization is taken
	HeaderReceipt             = "Payment-Receipt"
	HeaderAccept              = "Accept-Payment"
	HeaderIdempotencyKey      = "Idempotency-Key"
)

// Limits in bytes.
const (
	// MaxChallengeHeader bounds all WWW-Authenticate values of a response.
	MaxChallengeHeader = 64 << 10
	// MaxRequest bounds a challenge's request and its opaque parameter.
	MaxRequest = 16 << 10
	// TargetChallenge is what a challenge should stay under.
	TargetChallenge = 8 << 10
)

// Challenge is what a server asks for. Request and Opaque are kept as they came,
// in base64url: what the id binds is the string, not its meaning. Optional
// parameters are empty when absent. draft-httpauth-payment-02 section 5.1.
type Challenge struct {
	ID          string // binds the rest; see NewChallenge
	Realm       string // protection space, a host name
	Method      string // payment method, lower case
	Intent      string // "session", "charge" …
	Request     string // EncodeJSON of what the method needs
	Description string // for people; not bound
	Digest      string // of the request's body; see Digest
	Expires     string // RFC 3339
	Opaque      string // EncodeOpaque of what the server wants back
	Header      string // "" or HeaderAlternateCredential
}

// NewChallenge returns the challenge with the id that binds its parameters under
// the secret. draft-httpauth-payment-02 section 5.1.2.1. An empty secret makes no id: such a challenge verifies nowhere.
// Check the parameters with Validate where they come from configuration.
func NewChallenge(secret []byte, c Challenge) Challenge {
	c.ID = ""
	if len(secret) > 0 {
		c.ID = EncodeBase64(c.mac(secret))
	}
	return c
}

// slots are the parameters that the id binds.
func (c Challenge) slots() []string {
	s := []string{c.Realm, c.Method, c.Intent, c.Request, c.Expires, c.Digest, c.Opaque}
	if c.Header != "" {
		s = append(s, c.Header)
	}
	return s
}

func (c Challenge) mac(secret []byte) []byte {
	h := hmac.New(sha256.New, secret)
	h.Write([]byte(strings.Join(c.slots(), "|")))
	return h.Sum(nil)
}

// Verify checks that the id was made under this secret for these parameters, in
// constant time. It says nothing of the expiry. Errors: ErrInvalidChallenge.
// draft-httpauth-payment-02 section 5.1.2.1.
func (c Challenge) Verify(secret []byte) error {
	if len(secret) == 0 || c.ID == "" {
		return fmt.Errorf("%w: no id or no secret", ErrInvalidChallenge)
	}
	for _, s := range c.slots() {
		if strings.Contains(s, "|") {
			return fmt.Errorf("%w: a parameter contains %q", ErrInvalidChallenge, "|")
		}
	}
	if !hmac.Equal([]byte(c.ID), []byte(EncodeBase64(c.mac(secret)))) {
		return fmt.Errorf("%w: the id does not match the parameters", ErrInvalidChallenge)
	}
	return nil
}

// ExpiresAt is the time that the challenge names; ok is false where it names
// none. Errors: ErrChallengeSyntax. draft-httpauth-payment-02 section 5.1.2.
func (c Challenge) ExpiresAt() (at time.Time, ok bool, err error) {
	if c.Expires == "" {
		return time.Time{}, false, nil
	}
	at, err = parseTime(c.Expires)
	if err != nil {
		return time.Time{}, false, fmt.Errorf("%w: expires %.40q is no RFC 3339 time", ErrChallengeSyntax, c.Expires)
	}
	return at, true, nil
}

// Expired reports whether the challenge is over at a time. One that names no
// expiry never is, one whose expiry can't be read always.
func (c Challenge) Expired(now time.Time) bool {
	at, ok, err := c.ExpiresAt()
	return err != nil || ok && now.After(at)
}

// FormatTime is the form of expires and of a receipt's timestamp: RFC 3339 in
// UTC, whole seconds.
func FormatTime(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// parseTime reads RFC 3339 as the scheme's implementations do: with T and Z in
// upper case. A time that FormatTime could not write, because its year in UTC has
// not four digits, is refused.
func parseTime(s string) (time.Time, error) {
	if strings.ContainsAny(s, "tz,") {
		return time.Time{}, errors.New("not RFC 3339")
	}
	t, err := time.Parse(time.RFC3339, s)
	if year := t.UTC().Year(); err == nil && (year < 0 || year > 9999) {
		return time.Time{}, errors.New("not RFC 3339 in UTC")
	}
	return t, err
}

// Field is the header field that the credential for this challenge travels in. A
// credential that came in another field does not answer it.
// draft-httpauth-payment-02 section 5.1.2.
func (c Challenge) Field() string {
	if c.Header == "" {
		return HeaderCredential
	}
	return HeaderAlternateCredential
}

// Validate checks what the scheme demands of every parameter, the id apart.
// Errors: ErrChallengeSyntax, ErrTooLarge. draft-httpauth-payment-02 sections 5.1.1,
// 5.1.2 and 9.4.
func (c Challenge) Validate() error {
	switch {
	case c.Realm == "":
		return badChallenge("no realm")
	case !isMethod(c.Method):
		return badChallenge("method %.40q is not lower case", c.Method)
	case !isIntent(c.Intent):
		return badChallenge("intent %.40q", c.Intent)
	case len(c.Request) > MaxRequest || len(c.Opaque) > MaxRequest:
		return fmt.Errorf("%w: request or opaque has more than %d bytes", ErrTooLarge, MaxRequest)
	case c.Header != "" && c.Header != HeaderAlternateCredential:
		return badChallenge("header %.40q can't carry a credential", c.Header)
	}
	for _, s := range c.slots() {
		if strings.Contains(s, "|") {
			return badChallenge("a parameter contains %q", "|")
		}
	}
	if _, err := DecodeJSON(c.Request); err != nil {
		return fmt.Errorf("%w: request: %w", ErrChallengeSyntax, err)
	}
	if c.Opaque != "" {
		if _, err := DecodeOpaque(c.Opaque); err != nil {
			return fmt.Errorf("%w: opaque: %w", ErrChallengeSyntax, err)
		}
	}
	_, _, err := c.ExpiresAt()
	return err
}

func badChallenge(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrChallengeSyntax}, args...)...)
}

// isMethod takes what the registry allows (lower-case letters) and the signs
// that unregistered methods use. draft-httpauth-payment-02 section 6.1.
func isMethod(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c < 'a' || c > 'z' {
			if i == 0 || strings.IndexByte("0123456789:_-", c) < 0 {
				return false
			}
		}
	}
	return s != ""
}

// isIntent: draft-httpauth-payment-02 section 7.2.
func isIntent(s string) bool {
	for i := 0; i < len(s); i++ {
		if !isAlnum(s[i]) && s[i] != '-' {
			return false
		}
	}
	return s != ""
}

// String is the value of WWW-Authenticate, in printable ASCII.
// draft-httpauth-payment-02 sections 5.1 and 10.1.
func (c Challenge) String() string {
	var b strings.Builder
	b.WriteString(Scheme)
	sep := " "
	for _, p := range c.params() {
		if p.value == "" && p.optional {
			continue
		}
		b.WriteString(sep + p.name + "=" + quote(p.value))
		sep = ", "
	}
	return b.String()
}

type param struct {
	name     string
	value    string
	optional bool
}

// params are all parameters in the order of the header.
func (c Challenge) params() []param {
	return []param{
		{"id", c.ID, false}, {"realm", c.Realm, false}, {"method", c.Method, false},
		{"intent", c.Intent, false}, {"request", c.Request, false},
		{"description", c.Description, true}, {"digest", c.Digest, true},
		{"expires", c.Expires, true}, {"header", c.Header, true}, {"opaque", c.Opaque, true},
	}
}

// ParseChallenges returns the Payment challenges among the values of
// WWW-Authenticate, in their order. Other schemes and unknown parameters are
// skipped. So is a challenge that breaks the rules, as long as a good one is
// there. Errors: ErrNoChallenge, ErrChallengeSyntax, ErrTooLarge.
// draft-httpauth-payment-02 sections 7.3 (several challenges) and 9.3 (unknown
// parameters); RFC 9110 section 11.6.1.
func ParseChallenges(header []string) ([]Challenge, error) {
	if err := checkSize(header, MaxChallengeHeader); err != nil {
		return nil, err
	}
	var good []Challenge
	var bad []error
	for _, value := range header {
		items, err := parseAuth(value)
		if err != nil {
			bad = append(bad, err)
			continue
		}
		for _, item := range items {
			if !item.is(Scheme) {
				continue
			}
			c, err := item.challenge()
			if err != nil {
				bad = append(bad, err)
				continue
			}
			good = append(good, c)
		}
	}
	switch {
	case len(good) > 0:
		return good, nil
	case len(bad) > 0:
		return nil, errors.Join(bad...)
	}
	return nil, ErrNoChallenge
}

func checkSize(values []string, limit int) error {
	total := 0
	for _, v := range values {
		total += len(v)
	}
	if total > limit {
		return fmt.Errorf("%w: %d bytes of header, at most %d", ErrTooLarge, total, limit)
	}
	return nil
}

func (a authItem) challenge() (Challenge, error) {
	for _, name := range []string{"id", "realm", "method", "intent", "request"} {
		if a.params[name] == "" {
			return Challenge{}, badChallenge("no %s", name)
		}
	}
	c := Challenge{
		ID: a.params["id"], Realm: a.params["realm"], Method: a.params["method"], Intent: a.params["intent"],
		Request: a.params["request"], Description: a.params["description"], Digest: a.params["digest"],
		Expires: a.params["expires"], Opaque: a.params["opaque"], Header: a.params["header"],
	}
	return c, c.Validate()
}
