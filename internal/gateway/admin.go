package gateway

import (
	"context"
	"crypto/subtle"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path"
	"strconv"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/payee"
)

// AdminDriver is what the admin API does on channels.
type AdminDriver interface {
	Records(ctx context.Context) ([]channel.PayeeRecord, error)
	Record(ctx context.Context, id string) (channel.PayeeRecord, error)
	Settle(ctx context.Context, id string, update *channel.Update, payerAsks bool) (*channel.Broadcast, error)
	Refund(ctx context.Context, id, key string, msat uint64) (payee.Returned, error)
}

// AdminAPI is the description of the admin API, in OpenAPI 3.
//
//go:embed admin-openapi.json
var AdminAPI []byte

// Answer answers a request to the admin API with what becomes its JSON. A BadRequest
// is answered as one.
type Answer func(r *http.Request) (any, error)

// AdminConfig is what the admin API needs. Driver and Show must be set.
type AdminConfig struct {
	Driver AdminDriver
	// Show is a channel as it is answered.
	Show func(channel.PayeeRecord) any
	// Trusted: whoever reaches the listener is the operator, as with a socket in a folder
	// that nobody else enters. Else every request carries Token as a bearer credential,
	// and without one in the configuration none is taken.
	Trusted bool
	Token   string
	// More is what it answers besides, by pattern, such as "GET /v1/chain".
	More map[string]Answer
	// Open is what it answers without a token, such as probes: nothing that is anybody's.
	Open map[string]http.Handler
	// Handlers is what answers by itself, with a token, such as metrics.
	Handlers map[string]http.Handler
	Log      *slog.Logger
}

// BadRequest is an error in what was asked.
type BadRequest struct{ Detail string }

// Error is the detail.
func (e *BadRequest) Error() string { return e.Detail }

// maxAdminBody is how many bytes of a request's body are read.
const maxAdminBody = 64 << 10

// maxPage is how many channels are answered at most, and where nothing is said.
const maxPage = 1_000_000

// Admin is the operator's API of a running provider, as admin-openapi.json describes it.
func Admin(cfg AdminConfig) http.Handler {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	mux := http.NewServeMux()
	all := map[string]Answer{
		"GET /v1/status":                 cfg.status,
		"GET /v1/channels":               cfg.channels,
		"GET /v1/channels/{id}":          cfg.channel,
		"POST /v1/channels/{id}/settle":  cfg.settle,
		"POST /v1/channels/{id}/payback": cfg.payback,
		"GET /v1/openapi.json":           func(*http.Request) (any, error) { return json.RawMessage(AdminAPI), nil },
	}
	for pattern, ask := range cfg.More {
		all[pattern] = ask
	}
	for pattern, ask := range all {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			r.Body = http.MaxBytesReader(w, r.Body, maxAdminBody)
			v, err := ask(r)
			reply(w, r, cfg.Log, v, err)
		})
	}
	for pattern, h := range cfg.Handlers {
		mux.Handle(pattern, h)
	}
	open := http.NewServeMux()
	for pattern, h := range cfg.Open {
		open.Handle(pattern, h)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, pattern := open.Handler(r); pattern != "" {
			open.ServeHTTP(w, r)
			return
		}
		if !cfg.Trusted && !hasToken(r, cfg.Token) {
			w.Header().Set("WWW-Authenticate", "Bearer")
			fail(w, r, http.StatusUnauthorized, "the token of the admin API is needed, as Authorization: Bearer TOKEN")
			return
		}
		if _, pattern := mux.Handler(r); pattern == "" || path.Clean(r.URL.Path) != r.URL.Path {
			cfg.nowhere(mux, w, r)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// hasToken reports whether a request carries the token; without one nobody has it.
func hasToken(r *http.Request, token string) bool {
	return token != "" && subtle.ConstantTimeCompare([]byte(r.Header.Get("Authorization")), []byte("Bearer "+token)) == 1
}

// nowhere answers what there is no route for, in the form of all answers.
func (cfg AdminConfig) nowhere(mux *http.ServeMux, w http.ResponseWriter, r *http.Request) {
	var allowed []string
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		other := r.Clone(r.Context())
		other.Method = method
		if _, pattern := mux.Handler(other); pattern != "" && path.Clean(r.URL.Path) == r.URL.Path {
			allowed = append(allowed, method)
		}
	}
	if len(allowed) > 0 {
		w.Header().Set("Allow", allowed[0])
		fail(w, r, http.StatusMethodNotAllowed, "this is asked with "+allowed[0])
		return
	}
	fail(w, r, http.StatusNotFound, "the admin API has nothing here; what it has is at /v1/openapi.json")
}

// ReadJSON reads a request's body into v. Errors: *BadRequest.
func ReadJSON(r *http.Request, v any) error {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return &BadRequest{"the body is not the JSON that is wanted: " + err.Error()}
	}
	if d.More() {
		return &BadRequest{"the body is more than one JSON value"}
	}
	return nil
}

func (cfg AdminConfig) status(r *http.Request) (any, error) {
	records, err := cfg.Driver.Records(r.Context())
	return statusOf(records), err
}

// channels answers the channels, sorted by id: of one phase, after one, so many.
func (cfg AdminConfig) channels(r *http.Request) (any, error) {
	q := r.URL.Query()
	limit := maxPage
	if text := q.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > maxPage {
			return nil, &BadRequest{fmt.Sprintf("limit is a number from 1 to %d", maxPage)}
		}
		limit = n
	}
	records, err := cfg.Driver.Records(r.Context())
	if err != nil {
		return nil, err
	}
	page := []any{}
	for _, rec := range records {
		if phase := q.Get("phase"); phase != "" && phase != string(rec.Phase) || rec.Terms.ID() <= q.Get("after") {
			continue
		}
		if len(page) == limit {
			break
		}
		page = append(page, cfg.Show(rec))
	}
	return map[string]any{"channels": page}, nil
}

func (cfg AdminConfig) channel(r *http.Request) (any, error) {
	rec, err := cfg.Driver.Record(r.Context(), r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	return cfg.Show(rec), nil
}

func (cfg AdminConfig) settle(r *http.Request) (any, error) {
	b, err := cfg.Driver.Settle(r.Context(), r.PathValue("id"), nil, false)
	if err != nil {
		return nil, err
	}
	return Settled{Txid: b.Txid, Amount: b.Amount, Fee: b.Fee}, nil
}

func (cfg AdminConfig) payback(r *http.Request) (any, error) {
	var q Payback
	if err := ReadJSON(r, &q); err != nil {
		return nil, err
	}
	if q.Msat == 0 || q.Key == "" {
		return nil, &BadRequest{"amount_msat is more than nothing, and key names this pay-back"}
	}
	got, err := cfg.Driver.Refund(r.Context(), r.PathValue("id"), q.Key, q.Msat)
	return Returned{Back: got.Back, Epoch: got.State.Epoch, State: got.State.Amount}, err
}

// Settled answers the settlement of a channel.
type Settled struct {
	Txid   string `json:"closing_txid"`
	Amount uint64 `json:"paid_sat"`
	Fee    int64  `json:"fees_sat"`
}

// Payback asks for a pay-back in a duplex channel: once for each key.
type Payback struct {
	Msat uint64 `json:"amount_msat"`
	Key  string `json:"key"`
}

// Returned answers a pay-back.
type Returned struct {
	Back  uint64 `json:"returned_msat"` // in all
	Epoch uint32 `json:"epoch"`         // of the provider's newest state; 0: it has signed none
	State uint64 `json:"state_sat"`     // what that state leaves to the payer
}

// Status is a provider at a glance.
type Status struct {
	Channels int                   `json:"channels"`
	Phases   map[channel.Phase]int `json:"phases"`
	Capacity uint64                `json:"capacity_sat"` // of channels that are not over
	Paid     uint64                `json:"paid_sat"`     // of channels that are not over
	Owed     uint64                `json:"owed_msat"`    // charged and not paid, of the same
}

func statusOf(records []channel.PayeeRecord) Status {
	s := Status{Channels: len(records), Phases: map[channel.Phase]int{}}
	for _, r := range records {
		s.Phases[r.Phase]++
		if !r.Phase.Final() {
			s.Capacity += r.Terms.Capacity
			s.Paid += r.Paid
			s.Owed += r.Owed()
		}
	}
	return s
}

func reply(w http.ResponseWriter, r *http.Request, log *slog.Logger, v any, err error) {
	var bad *BadRequest
	switch {
	case errors.As(err, &bad):
		fail(w, r, http.StatusBadRequest, bad.Detail)
		return
	case errors.Is(err, payee.ErrUnknown):
		fail(w, r, http.StatusNotFound, err.Error())
		return
	case errors.Is(err, channel.ErrNothingAtStake), errors.Is(err, channel.ErrTooSmall), errors.Is(err, channel.ErrFinalized):
		fail(w, r, http.StatusConflict, err.Error())
		return
	case errors.Is(err, channel.ErrUnsupported), errors.Is(err, channel.ErrConflict), errors.Is(err, channel.ErrTerms),
		errors.Is(err, channel.ErrAmountExceeds), errors.Is(err, channel.ErrExpiring), errors.Is(err, channel.ErrNotYet):
		fail(w, r, http.StatusUnprocessableEntity, err.Error())
		return
	case err != nil:
		log.Error("admin", "path", r.URL.Path, "error", err)
		fail(w, r, http.StatusInternalServerError, err.Error())
		return
	}
	raw, err := json.Marshal(v)
	if err != nil {
		fail(w, r, http.StatusInternalServerError, err.Error())
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	write(w, raw)
}
