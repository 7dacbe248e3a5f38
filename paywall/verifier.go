package paywall

import (
	"bytes"
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/mpp"
)

// Bounds of what a Verifier is asked, in bytes.
const (
	maxVerify       = 256 << 10
	maxVerifyAnswer = 1 << 20
)

// VerifierConfig is what a Verifier needs. Server and Token must be set.
type VerifierConfig struct {
	Server *Server
	// Token is what callers show as their bearer token.
	Token string
	// Ahead asks for payment first; else one request may be delivered before it is paid.
	Ahead bool
}

// Verifier lets a service in any language sell for bitcoin channels: the service speaks
// HTTP with its clients, makes the challenges of the scheme itself under the secret that
// it shares with the Server, and asks here for what goes into them, and whether a
// credential pays for a request. Money is verified, charged and saved here, by the payee,
// before the answer. It is an http.Handler for a loopback listener. docs/interop.md.
type Verifier struct {
	cfg    VerifierConfig
	charge http.Handler
	asked  atomic.Int64
}

// NewVerifier checks the configuration.
func NewVerifier(cfg VerifierConfig) (*Verifier, error) {
	if cfg.Server == nil || len(cfg.Token) < 16 {
		return nil, errors.New("paywall: a verifier needs a server and a token of 16 characters or more")
	}
	// its own answer is not kept: each repeat counts, since the service makes its anew
	charge, err := NewMiddleware(MiddlewareConfig{Server: cfg.Server, Price: Price{Ahead: cfg.Ahead, For: priceAsked}, MaxKept: 1})
	if err != nil {
		return nil, err
	}
	return &Verifier{cfg: cfg, charge: charge(http.HandlerFunc(granted))}, nil
}

// Asked is how many credentials were looked at.
func (v *Verifier) Asked() int64 { return v.asked.Load() }

// verifyAsk is what a Verifier is asked about. Price is in msat.
type verifyAsk struct {
	Price       uint64 `json:"priceMsat"`
	Description string `json:"description"`

	Method     string `json:"method"`
	URL        string `json:"url"` // path and query
	Credential string `json:"credential"`
	Key        string `json:"idempotencyKey"`
	Range      string `json:"range"`
	Body       string `json:"bodyDigest"` // of the request's body; "": it has none
}

// verifyOffer is what goes into a challenge.
type verifyOffer struct {
	Realm   string            `json:"realm"`
	Method  string            `json:"method"`
	Intent  string            `json:"intent"`
	Request json.RawMessage   `json:"request"`
	Opaque  map[string]string `json:"opaque"`
	Expires string            `json:"expires"`
}

// verifyAnswer is what became of a credential: the service serves the request, or sends
// the answer that is here.
type verifyAnswer struct {
	Serve   bool              `json:"serve"`
	Receipt json.RawMessage   `json:"receipt,omitempty"`
	Status  int               `json:"status"`
	Headers map[string]string `json:"headers"`
	Body    json.RawMessage   `json:"body,omitempty"`
}

type priceKey struct{}

// priceAsked is the price that the service says, in msat.
func priceAsked(r *http.Request) uint64 {
	msat, _ := r.Context().Value(priceKey{}).(uint64)
	return msat
}

// headerServe marks the answer of granted, also where it is repeated.
const headerServe = "Spillway-Serve"

// granted is the handler whose answer is charged in place of the service's.
func granted(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set(headerServe, "1")
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, "{}") // to memory
}

// ServeHTTP implements http.Handler.
func (v *Verifier) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	switch {
	case !ok || subtle.ConstantTimeCompare([]byte(token), []byte(v.cfg.Token)) != 1:
		v.say(w, http.StatusUnauthorized, map[string]string{"detail": "the token of this verifier is needed"})
		return
	case r.Method != http.MethodPost:
		w.Header().Set("Allow", http.MethodPost)
		v.say(w, http.StatusMethodNotAllowed, map[string]string{"detail": "POST"})
		return
	}
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxVerify))
	var ask verifyAsk
	if err == nil {
		err = json.Unmarshal(raw, &ask)
	}
	if err == nil && (ask.Price == 0 || ask.Price > channel.MaxSat*1000) {
		err = errors.New("priceMsat is more than nothing, and at most all there is")
	}
	if err != nil {
		v.say(w, http.StatusBadRequest, map[string]string{"detail": err.Error()})
		return
	}
	var out any
	switch r.URL.Path {
	case "/v1/challenge":
		out, err = v.offer(r.Context(), ask)
	case "/v1/verify":
		v.asked.Add(1)
		out, err = v.verify(r.Context(), ask)
	default:
		v.say(w, http.StatusNotFound, map[string]string{"detail": "/v1/challenge or /v1/verify"})
		return
	}
	if err != nil {
		status := http.StatusServiceUnavailable
		if refusalOf(err) != nil {
			status = http.StatusBadRequest
		}
		v.say(w, status, map[string]string{"detail": err.Error()})
		return
	}
	v.say(w, http.StatusOK, out)
}

func (v *Verifier) say(w http.ResponseWriter, status int, out any) {
	raw, err := json.Marshal(out)
	if err != nil {
		status, raw = http.StatusInternalServerError, []byte(`{"detail":"the answer cannot be written"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	if _, err := w.Write(raw); err != nil {
		v.cfg.Server.cfg.Log.Debug("an answer was not taken", "error", err)
	}
}

// offer is what goes into a challenge for a price, with a fresh nonce. Nothing is stored.
func (v *Verifier) offer(ctx context.Context, ask verifyAsk) (verifyOffer, error) {
	q := Price{Msat: ask.Price, Ahead: v.cfg.Ahead}.of(nil).quote()
	q.Description = ask.Description
	c, err := v.cfg.Server.Challenge(ctx, q, nil)
	if err != nil {
		return verifyOffer{}, err
	}
	request, err := mpp.DecodeJSON(c.Request)
	if err != nil {
		return verifyOffer{}, err
	}
	raw, err := mpp.JCS(request)
	if err != nil {
		return verifyOffer{}, err
	}
	opaque, err := mpp.DecodeOpaque(c.Opaque)
	return verifyOffer{Realm: c.Realm, Method: c.Method, Intent: c.Intent, Request: raw, Opaque: opaque, Expires: c.Expires}, err
}

// verify runs the payment protocol for a request that the service got.
func (v *Verifier) verify(ctx context.Context, ask verifyAsk) (verifyAnswer, error) {
	r, err := ask.request(ctx, v.cfg.Server.cfg.CredentialField)
	if err != nil {
		return verifyAnswer{}, fmt.Errorf("%w: %w", errRequest, err)
	}
	w := &notedAnswer{header: http.Header{}}
	if err := w.run(v.charge, r); err != nil {
		return verifyAnswer{}, err
	}
	out := verifyAnswer{Status: w.status, Headers: map[string]string{}, Serve: w.header.Get(headerServe) != ""}
	for name := range w.header {
		switch name {
		case headerServe, mpp.HeaderReceipt, mpp.HeaderChallenge, "Content-Length", "Date":
		default:
			out.Headers[name] = w.header.Get(name)
		}
	}
	if text := w.header.Get(mpp.HeaderReceipt); text != "" {
		if out.Receipt, err = mpp.DecodeBase64(text); err != nil {
			return out, fmt.Errorf("the receipt: %w", err)
		}
	}
	if body := bytes.TrimSpace(w.body.Bytes()); !out.Serve && json.Valid(body) {
		out.Body = body
	}
	return out, nil
}

// request is the service's request as far as its payment is concerned: its body is there
// by its digest only.
func (ask verifyAsk) request(ctx context.Context, field string) (*http.Request, error) {
	at, err := url.ParseRequestURI(ask.URL)
	if err != nil || !strings.HasPrefix(at.Path, "/") || ask.Method == "" || strings.ContainsAny(ask.Method, " \t\r\n") {
		return nil, errors.New("method and url (path and query) name the request")
	}
	var body io.Reader
	if ask.Body != "" {
		body = strings.NewReader(ask.Body)
	}
	r, err := http.NewRequestWithContext(context.WithValue(ctx, priceKey{}, ask.Price), ask.Method, "http://verifier/", body)
	if err != nil {
		return nil, err
	}
	r.URL.Path, r.URL.RawPath, r.URL.RawQuery = at.Path, at.RawPath, at.RawQuery
	for name, value := range map[string]string{field: ask.Credential, mpp.HeaderIdempotencyKey: ask.Key, "Range": ask.Range, "Accept": "application/json"} {
		if value != "" {
			r.Header.Set(name, value)
		}
	}
	return r, nil
}

// notedAnswer is an answer in memory.
type notedAnswer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

// Header implements http.ResponseWriter.
func (w *notedAnswer) Header() http.Header { return w.header }

// WriteHeader implements http.ResponseWriter.
func (w *notedAnswer) WriteHeader(status int) {
	if w.status == 0 && status >= 200 {
		w.status = status
	}
}

// Write implements http.ResponseWriter.
func (w *notedAnswer) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	if w.body.Len()+len(p) > maxVerifyAnswer {
		return 0, errors.New("the answer is too long")
	}
	return w.body.Write(p)
}

// run has a handler answer. One that breaks off is a failure of this side.
func (w *notedAnswer) run(h http.Handler, r *http.Request) (err error) {
	defer func() {
		if why := recover(); why != nil {
			if why != http.ErrAbortHandler {
				panic(why)
			}
			err = errors.New("the charge broke off; repeat the request, nothing is charged twice")
		}
	}()
	h.ServeHTTP(w, r)
	w.WriteHeader(http.StatusOK)
	return nil
}
