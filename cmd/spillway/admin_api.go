package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"net/http"

	"github.com/spillway/spillway/internal/gateway"
	"github.com/spillway/spillway/internal/webhook"
	"github.com/spillway/spillway/payee"
)

// adminAnswers are what the admin API answers besides channels: what the operator's
// commands ask of a provider that runs, whose folder they cannot open.
func (p *provider) adminAnswers() map[string]gateway.Answer {
	return map[string]gateway.Answer{
		"GET /v1/version":         func(*http.Request) (any, error) { return buildInfo(), nil },
		"GET /v1/chain":           func(r *http.Request) (any, error) { return p.app.chainStateOf(r.Context(), p.role.chain), nil },
		"GET /v1/earnings":        p.answerEarnings,
		"GET /v1/wallet/balance":  p.answerBalance,
		"POST /v1/wallet/address": p.answerAddress,
		"POST /v1/trade":          p.answerTrade,
		"GET /v1/alarms":          func(*http.Request) (any, error) { return map[string]any{"alarms": p.app.alarms.list()}, nil },
		"GET /v1/ready": func(r *http.Request) (any, error) {
			checks, ok := p.ops.ready(r.Context())
			return map[string]any{"ready": ok, "checks": checks}, nil
		},
		"GET /v1/webhooks":       p.answerWebhooks,
		"POST /v1/webhooks/test": p.answerTry,
		"POST /v1/reload":        p.answerReload,
	}
}

// adminHandler is the admin API: for whoever is in the folder, or for the token.
func (p *provider) adminHandler(trusted bool, token string) http.Handler {
	return gateway.Admin(gateway.AdminConfig{
		Driver: p.payee, Show: shownRow, Trusted: trusted, Token: token, More: p.adminAnswers(), Log: p.app.out.logger(),
		Open: p.ops.probes(), Handlers: map[string]http.Handler{"GET /metrics": p.ops.metrics.Handler()},
	})
}

// answerEarnings sums up what was charged: by day, file or channel, from a day on.
func (p *provider) answerEarnings(r *http.Request) (any, error) {
	q := r.URL.Query()
	by, since := q.Get("by"), q.Get("since")
	if by == "" {
		by = "all"
	}
	if err := checkEarnings(by, since); err != nil {
		return nil, &gateway.BadRequest{Detail: err.Error()}
	}
	all, err := payee.Earnings(r.Context(), p.role.store, since)
	if err != nil {
		return nil, err
	}
	records, err := p.payee.Records(r.Context())
	if err != nil {
		return nil, err
	}
	return earningsOf(all, records, by, since), nil
}

func (p *provider) answerBalance(r *http.Request) (any, error) {
	h, err := p.role.holdings(r.Context())
	if err != nil {
		return nil, err
	}
	return balance{Confirmed: h.Confirmed, Unconfirmed: h.Unconfirmed, Reserved: h.Reserved, Spendable: h.Spendable, Unsettled: h.Unsettled, Channels: h.Channels}, nil
}

func (p *provider) answerAddress(r *http.Request) (any, error) {
	addr, _, err := p.role.wallet.Address(r.Context())
	if err != nil {
		return nil, err
	}
	return map[string]any{"address": addr, "network": p.app.flags.network}, nil
}

func (p *provider) answerTrade(r *http.Request) (any, error) {
	var q tradeWanted
	if err := gateway.ReadJSON(r, &q); err != nil {
		return nil, err
	}
	return p.trade(r.Context(), q)
}

func (p *provider) answerWebhooks(*http.Request) (any, error) {
	all := p.ops.outbox.States()
	if all == nil {
		all = []webhook.State{}
	}
	return map[string]any{"webhooks": all}, nil
}

// webhookName names a webhook.
type webhookName struct {
	Name string `json:"name"`
}

func (p *provider) answerTry(r *http.Request) (any, error) {
	var q webhookName
	if err := gateway.ReadJSON(r, &q); err != nil {
		return nil, err
	}
	id, err := p.ops.outbox.Try(r.Context(), q.Name)
	if errors.Is(err, webhook.ErrTarget) {
		return nil, &gateway.BadRequest{Detail: err.Error()}
	}
	return map[string]any{"id": id}, err
}

func (p *provider) answerReload(*http.Request) (any, error) {
	names, err := p.ops.reload()
	if err != nil {
		return nil, &gateway.BadRequest{Detail: sentence(err)}
	}
	return map[string]any{"reloaded": names}, nil
}

// randomToken is a new secret of 256 bits, in hex.
func randomToken() (string, error) {
	var raw [32]byte
	if _, err := rand.Read(raw[:]); err != nil {
		return "", err
	}
	return hex.EncodeToString(raw[:]), nil
}
