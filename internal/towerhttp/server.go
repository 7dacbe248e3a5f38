// Package towerhttp carries ladders from providers to a watchtower: the tower's
// HTTP API, the provider's client, and the rule by which a provider hands over anew.
// docs/protocol.md, "Watchtower".
//
// It judges no ladder itself and holds no key: a token only says whose room in the
// tower a ladder takes.
package towerhttp

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/watch/tower"
)

// Limits of the API.
const (
	MaxBody  = 64 << 10         // bytes of a hand-off: 64 rungs take less than 20 KiB
	inFlight = 64               // requests at once; more are told to come again
	perOne   = 8                // of these, requests of one provider
	bodyTime = 10 * time.Second // for a request's body
)

// Tower is what the API asks of a tower.
type Tower interface {
	Authenticate(ctx context.Context, token string) (provider string, err error)
	Take(ctx context.Context, provider string, h tower.Handoff) (tower.Taken, error)
	Entries(ctx context.Context, provider string) ([]tower.Entry, error)
}

// Problem is a refusal on the wire.
type Problem struct {
	Status int    `json:"status"`
	Code   string `json:"code"` // stable, for programs
	Detail string `json:"detail"`
}

// Held is what a tower tells a provider of one of its channels.
type Held struct {
	Channel string `json:"channel"`
	Amount  int64  `json:"amount_sat"`
	Epoch   uint32 `json:"epoch,omitempty"`       // duplex only
	Lock    uint32 `json:"lock_height,omitempty"` // duplex only
	Rungs   int    `json:"rungs"`
	Expiry  uint32 `json:"expiry_height"`
	Margin  uint32 `json:"margin"`
	// Halves holds the payer's half-signature for the amount: worth nothing without
	// the provider's key, and to a provider that was restored all that it forgot.
	Halves []channel.Hex `json:"halves"`
}

type heldList struct {
	Channels []Held `json:"channels"`
}

// refusals are looked through in order; the first match counts.
var refusals = []struct {
	is     error
	status int
	code   string
}{
	{tower.ErrToken, http.StatusUnauthorized, "token"},
	{tower.ErrMalformed, http.StatusBadRequest, "malformed"},
	{tower.ErrUnseen, http.StatusConflict, "unseen"},
	{tower.ErrSpent, http.StatusGone, "spent"},
	{tower.ErrFull, http.StatusInsufficientStorage, "full"},
	{tower.ErrOutpoint, http.StatusUnprocessableEntity, "outpoint"},
	{tower.ErrLocked, http.StatusUnprocessableEntity, "locked"},
	{tower.ErrForm, http.StatusUnprocessableEntity, "form"},
	{tower.ErrFees, http.StatusUnprocessableEntity, "fees"},
	{tower.ErrExecute, http.StatusUnprocessableEntity, "invalid"},
	{tower.ErrTime, http.StatusUnprocessableEntity, "time"},
	{chain.ErrUnavailable, http.StatusServiceUnavailable, "chain"},
}

// Handler is the tower's API. Every request carries a provider's token as a bearer
// credential.
//
//	PUT /v1/ladder    takes a tower.Handoff, answers a tower.Taken
//	GET /v1/ladders   the provider's channels, as Held
//
// Refusals are a Problem.
func Handler(t Tower, log *slog.Logger) http.Handler {
	s := &server{tower: t, log: log, slots: make(chan struct{}, inFlight), busy: map[string]int{}}
	mux := http.NewServeMux()
	mux.HandleFunc("PUT /v1/ladder", s.guarded(s.put))
	mux.HandleFunc("GET /v1/ladders", s.guarded(s.list))
	return mux
}

type server struct {
	tower Tower
	log   *slog.Logger
	slots chan struct{}
	mu    sync.Mutex
	busy  map[string]int // requests at hand, by provider
}

// enter counts a provider's request in, where there is room.
func (s *server) enter(provider string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.busy[provider] >= perOne {
		return false
	}
	s.busy[provider]++
	return true
}

func (s *server) leave(provider string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.busy[provider]--; s.busy[provider] == 0 {
		delete(s.busy, provider)
	}
}

// guarded admits whom the tower knows, before anything of the body is read.
func (s *server) guarded(do func(w http.ResponseWriter, r *http.Request, provider string) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		select {
		case s.slots <- struct{}{}:
			defer func() { <-s.slots }()
		default:
			s.tooMany(w)
			return
		}
		token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !ok {
			s.fail(w, tower.ErrToken)
			return
		}
		provider, err := s.tower.Authenticate(r.Context(), token)
		if err != nil {
			s.fail(w, err)
			return
		}
		if !s.enter(provider) {
			s.tooMany(w)
			return
		}
		defer s.leave(provider)
		v, err := do(w, r, provider)
		if err != nil {
			s.fail(w, err)
			return
		}
		s.answer(w, http.StatusOK, v)
	}
}

func (s *server) tooMany(w http.ResponseWriter) {
	w.Header().Set("Retry-After", "1")
	s.answer(w, http.StatusServiceUnavailable, Problem{http.StatusServiceUnavailable, "busy", "too many requests at once"})
}

func (s *server) put(w http.ResponseWriter, r *http.Request, provider string) (any, error) {
	err := http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTime))
	if err != nil && !errors.Is(err, http.ErrNotSupported) {
		return nil, err
	}
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxBody))
	if err != nil {
		return nil, err
	}
	h, err := Decode(raw)
	if err != nil {
		return nil, err
	}
	return s.tower.Take(r.Context(), provider, h)
}

// Decode reads a hand-off. Errors: tower.ErrMalformed.
func Decode(raw []byte) (h tower.Handoff, err error) {
	if err := json.Unmarshal(raw, &h); err != nil {
		return h, errors.Join(tower.ErrMalformed, err)
	}
	return h, nil
}

func (s *server) list(_ http.ResponseWriter, r *http.Request, provider string) (any, error) {
	entries, err := s.tower.Entries(r.Context(), provider)
	if err != nil {
		return nil, err
	}
	held := make([]Held, len(entries))
	for i, e := range entries {
		held[i] = Held{Channel: e.Channel.String(), Amount: e.Amount, Epoch: e.Epoch(), Lock: e.Lock,
			Rungs: len(e.Rungs), Expiry: e.Expiry, Margin: e.Margin}
		if held[i].Halves, err = e.Ladder.Halves(); err != nil {
			return nil, err
		}
	}
	return heldList{held}, nil
}

// fail answers a refusal. What is wrong here, and no refusal, is not told outside.
func (s *server) fail(w http.ResponseWriter, err error) {
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		s.answer(w, http.StatusRequestEntityTooLarge, Problem{http.StatusRequestEntityTooLarge, "too-large", err.Error()})
		return
	}
	for _, r := range refusals {
		if errors.Is(err, r.is) {
			if r.status == http.StatusUnauthorized {
				w.Header().Set("WWW-Authenticate", "Bearer")
			}
			s.answer(w, r.status, Problem{r.status, r.code, strings.ReplaceAll(err.Error(), "\n", ": ")})
			return
		}
	}
	s.log.Error("a request failed", "error", err)
	s.answer(w, http.StatusServiceUnavailable, Problem{http.StatusServiceUnavailable, "failed", "the tower could not do this; nothing was saved"})
}

func (s *server) answer(w http.ResponseWriter, status int, v any) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(v); err != nil {
		s.log.Debug("an answer was not sent", "error", err)
	}
}
