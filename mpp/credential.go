package mpp

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
)

// DefaultMaxCredential bounds the header values of a credential, in bytes. The
// scheme demands that at least 4,096 are taken: draft-httpauth-payment-02 section 9.4.
const DefaultMaxCredential = 64 << 10

// Credential answers a challenge: its parameters echoed unchanged, and the
// method's proof of payment. draft-httpauth-payment-02 section 5.2.
type Credential struct {
	Challenge Challenge
	Source    string          // who pays, often a DID; may be empty
	Payload   json.RawMessage // an object, defined by the method
}

// wireChallenge fixes names and order of the echoed parameters.
type wireChallenge struct {
	Description string `json:"description,omitempty"`
	Digest      string `json:"digest,omitempty"`
	Expires     string `json:"expires,omitempty"`
	Header      string `json:"header,omitempty"`
	ID          string `json:"id"`
	Intent      string `json:"intent"`
	Method      string `json:"method"`
	Realm       string `json:"realm"`
	Opaque      string `json:"opaque,omitempty"`
	Request     string `json:"request"`
}

type wireCredential struct {
	Challenge wireChallenge   `json:"challenge"`
	Payload   json.RawMessage `json:"payload"`
	Source    string          `json:"source,omitempty"`
}

func (c Challenge) wire() wireChallenge {
	return wireChallenge{
		Description: c.Description, Digest: c.Digest, Expires: c.Expires, Header: c.Header, ID: c.ID,
		Intent: c.Intent, Method: c.Method, Realm: c.Realm, Opaque: c.Opaque, Request: c.Request,
	}
}

// MarshalJSON writes the parameters as a credential echoes them.
func (c Challenge) MarshalJSON() ([]byte, error) { return marshal(c.wire()) }

// UnmarshalJSON reads echoed parameters, strictly. Errors: ErrJSON, ErrMalformed.
func (c *Challenge) UnmarshalJSON(data []byte) error {
	obj, err := ParseObject(data)
	if err != nil {
		return err
	}
	*c, err = challengeFrom(obj)
	return err
}

// ChallengeFrom reads echoed parameters out of a JSON object that ParseJSON
// returned: of a credential, or a challenge that a payload carries. Only the
// types are checked; Verify says whether the parameters are the server's own.
// Errors: ErrMalformed.
func ChallengeFrom(v any) (Challenge, error) {
	obj, ok := v.(map[string]any)
	if !ok {
		return Challenge{}, malformed("challenge is not an object")
	}
	return challengeFrom(obj)
}

func challengeFrom(obj map[string]any) (c Challenge, err error) {
	fields := []struct {
		name     string
		to       *string
		required bool
	}{
		{"id", &c.ID, true}, {"realm", &c.Realm, true}, {"method", &c.Method, true},
		{"intent", &c.Intent, true}, {"request", &c.Request, true},
		{"description", &c.Description, false}, {"digest", &c.Digest, false},
		{"expires", &c.Expires, false}, {"opaque", &c.Opaque, false}, {"header", &c.Header, false},
	}
	for _, f := range fields {
		v, there := obj[f.name]
		text, ok := v.(string)
		if there && !ok {
			return Challenge{}, malformed("challenge.%s is not a string", f.name)
		}
		if f.required && text == "" {
			return Challenge{}, malformed("challenge.%s is missing", f.name)
		}
		*f.to = text
	}
	return c, nil
}

// Encode is the value of the header that the challenge selects (Challenge.Field):
// "Payment " and base64url. The payload's JSON is taken as it is, white space
// apart. What is no JSON object is sent as null, and refused as malformed by
// every server.
func (c Credential) Encode() string {
	payload := c.Payload
	if _, err := ParseObject(payload); err != nil {
		payload = nil
	}
	b, err := marshal(wireCredential{c.Challenge.wire(), payload, c.Source})
	if err != nil { // strings and checked JSON always marshal
		b = []byte("null")
	}
	return Scheme + " " + EncodeBase64(b)
}

// marshal is json.Marshal without the escapes that are meant for HTML, compact.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimRight(b.Bytes(), "\n"), nil
}

// ParseCredential finds the one Payment credential in the values of a header
// field and decodes it, at most DefaultMaxCredential bytes.
// Errors: as ParseCredentialMax.
func ParseCredential(headerValues []string) (Credential, error) {
	return ParseCredentialMax(headerValues, DefaultMaxCredential)
}

// ParseCredentialMax is ParseCredential with another bound in bytes; zero or less
// means the default. draft-httpauth-payment-02 section 5.2. Errors: ErrNoCredential where none is there (other schemes
// are not our business), ErrRepeated where the field or the credential comes more
// than once, ErrTooLarge, ErrMalformed.
func ParseCredentialMax(headerValues []string, limit int) (Credential, error) {
	if limit <= 0 {
		limit = DefaultMaxCredential
	}
	if err := checkSize(headerValues, limit); err != nil {
		return Credential{}, err
	}
	token, err := findCredential(headerValues)
	if err != nil {
		return Credential{}, err
	}
	return decodeCredential(token)
}

// findCredential returns the base64url of the one credential.
func findCredential(values []string) (string, error) {
	lines, found, token := 0, 0, ""
	for _, value := range values {
		if strings.TrimSpace(value) == "" {
			continue
		}
		lines++
		items, err := parseAuth(value)
		if err != nil {
			if !startsWithScheme(value) {
				continue // of another scheme, or nobody's
			}
			items = []authItem{{scheme: Scheme}}
		}
		for _, item := range items {
			if item.is(Scheme) {
				found++
				token = item.token
			}
		}
	}
	switch {
	case found == 0:
		return "", ErrNoCredential
	case found > 1 || lines > 1:
		return "", fmt.Errorf("credential: %w", ErrRepeated)
	case token == "":
		return "", malformed("a credential is %q and base64url", Scheme)
	}
	return token, nil
}

func startsWithScheme(value string) bool {
	value = strings.TrimLeft(value, " \t,")
	return len(value) > len(Scheme) && strings.EqualFold(value[:len(Scheme)], Scheme) && !isToken(value[len(Scheme)])
}

func decodeCredential(token string) (Credential, error) {
	raw, err := DecodeBase64(token)
	if err != nil {
		return Credential{}, fmt.Errorf("%w: credential: %w", ErrMalformed, err)
	}
	obj, err := ParseObject(raw)
	if err != nil {
		return Credential{}, fmt.Errorf("%w: credential: %w", ErrMalformed, err)
	}
	var c Credential
	if c.Challenge, err = ChallengeFrom(obj["challenge"]); err != nil {
		return Credential{}, err
	}
	if source, there := obj["source"]; there {
		text, ok := source.(string)
		if !ok {
			return Credential{}, malformed("source is not a string")
		}
		c.Source = text
	}
	payload, ok := obj["payload"].(map[string]any)
	if !ok {
		return Credential{}, malformed("payload is not an object")
	}
	if c.Payload, err = marshal(payload); err != nil {
		return Credential{}, fmt.Errorf("%w: payload: %w", ErrMalformed, err)
	}
	return c, nil
}

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrMalformed}, args...)...)
}
