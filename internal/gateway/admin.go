package gateway

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/url"
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

// Returned answers a pay-back.
type Returned struct {
	Back  uint64 `json:"returned_msat"` // in all
	Epoch uint32 `json:"epoch"`         // of the provider's newest state; 0: it has signed none
	State uint64 `json:"state_sat"`     // what that state leaves to the payer
}

// Admin is the operator's API of a running provider. It answers to loopback only,
// and every request carries the token as a bearer credential.
//
//	GET  /status                how many channels there are, by phase, and their sums
//	GET  /channels              the records
//	GET  /channels/show?id=     one record
//	POST /channels/settle?id=   settles one channel now, answers the broadcast
//	POST /channels/payback?id=&msat=&key=   pays a duplex channel's payer back, once for each key
//
// and what more holds, by pattern, asked with the query.
func Admin(driver AdminDriver, token string, log *slog.Logger, more map[string]func(context.Context, url.Values) (any, error)) http.Handler {
	mux := http.NewServeMux()
	for pattern, ask := range more {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			v, err := ask(r.Context(), r.URL.Query())
			reply(w, r, log, v, err)
		})
	}
	mux.HandleFunc("GET /channels", func(w http.ResponseWriter, r *http.Request) {
		records, err := driver.Records(r.Context())
		reply(w, r, log, records, err)
	})
	mux.HandleFunc("GET /channels/show", func(w http.ResponseWriter, r *http.Request) {
		record, err := driver.Record(r.Context(), r.URL.Query().Get("id"))
		reply(w, r, log, record, err)
	})
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, r *http.Request) {
		records, err := driver.Records(r.Context())
		reply(w, r, log, statusOf(records), err)
	})
	mux.HandleFunc("POST /channels/settle", func(w http.ResponseWriter, r *http.Request) {
		b, err := driver.Settle(r.Context(), r.URL.Query().Get("id"), nil, false)
		reply(w, r, log, b, err)
	})
	mux.HandleFunc("POST /channels/payback", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		msat, err := strconv.ParseUint(q.Get("msat"), 10, 64)
		if err != nil || msat == 0 {
			fail(w, r, http.StatusUnprocessableEntity, "msat is an amount")
			return
		}
		got, err := driver.Refund(r.Context(), q.Get("id"), q.Get("key"), msat)
		reply(w, r, log, Returned{Back: got.Back, Epoch: got.State.Epoch, State: got.State.Amount}, err)
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if host, _, err := net.SplitHostPort(r.RemoteAddr); err != nil || !net.ParseIP(host).IsLoopback() {
			fail(w, r, http.StatusForbidden, "only for this machine")
			return
		}
		want := "Bearer " + token
		if token == "" || subtle.ConstantTimeCompare([]byte(r.Header.Get("Authorization")), []byte(want)) != 1 {
			fail(w, r, http.StatusUnauthorized, "the token in the provider's data folder is needed")
			return
		}
		mux.ServeHTTP(w, r)
	})
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
	switch {
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
