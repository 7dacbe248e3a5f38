// Package metrics measures a provider, for Prometheus: what it earns and risks, how long
// checks and saves take, how its blockchain is. It watches from outside, through small
// interfaces, with the clock that the drivers have not.
//
// It decides nothing, and no label ever holds a channel, a key, an address or a name
// that somebody else chose.
package metrics

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/payee"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/store"
)

// Build labels spillway_build_info.
type Build struct{ Version, Revision, Go string }

// Metrics are the measures of one provider. They are safe for concurrent use.
type Metrics struct {
	registry *prometheus.Registry

	payments, paid, refused, opened, ended, commitErrors, stepErrors prometheus.Counter
	verification, commit, step                                       prometheus.Histogram
	calls, failures, requests, raised, hooks                         *prometheus.CounterVec
}

// fine are the bounds of what takes microseconds to a second.
var fine = []float64{25e-6, 50e-6, 100e-6, 200e-6, 400e-6, 800e-6, 1.6e-3, 3.2e-3, 6.4e-3, 12.8e-3, 25.6e-3, 51.2e-3, 0.1, 0.2, 0.4, 0.8, 1.6}

// coarse are the bounds of what takes milliseconds to minutes.
var coarse = []float64{1e-3, 4e-3, 16e-3, 64e-3, 0.25, 1, 4, 16, 64, 256}

// New makes the measures; now, where it is set, is asked for what is true at each scrape.
func New(b Build, now func(context.Context) Now) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry()}
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
		m.registry.MustRegister(c)
		return c
	}
	vector := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
		m.registry.MustRegister(c)
		return c
	}
	histogram := func(name, help string, bounds []float64) prometheus.Histogram {
		h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: bounds})
		m.registry.MustRegister(h)
		return h
	}
	m.payments = counter("spillway_payments_total", "Updates that raised what is paid.")
	m.paid = counter("spillway_payments_sat_total", "What updates raised it by, in sat.")
	m.refused = counter("spillway_updates_refused_total", "Updates whose signature is wrong.")
	m.opened = counter("spillway_channels_opened_total", "Channels that were opened.")
	m.ended = counter("spillway_channels_ended_total", "Channels that are over: closed, refunded or abandoned.")
	m.commitErrors = counter("spillway_commit_errors_total", "Commits that were not saved, but for conflicts.")
	m.stepErrors = counter("spillway_watch_errors_total", "Looks at the chain in which something failed.")
	m.verification = histogram("spillway_verification_seconds", "How long the check of an update's signature takes.", fine)
	m.commit = histogram("spillway_commit_seconds", "How long a durable commit takes.", fine)
	m.step = histogram("spillway_watch_seconds", "How long a look at the chain and at every channel takes.", coarse)
	m.calls = vector("spillway_chain_calls_total", "Questions to the blockchain's backend.", "call")
	m.failures = vector("spillway_chain_errors_total", "Questions that the blockchain's backend did not answer.", "call")
	m.requests = vector("spillway_http_requests_total", "Requests that were answered, by status.", "code")
	m.raised = vector("spillway_alarms_total", "Alarms that were raised.", "kind")
	m.hooks = vector("spillway_webhook_attempts_total", "Attempts to deliver an event.", "webhook", "result")
	info := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "spillway_build_info", Help: "What this program was built from.",
		ConstLabels: prometheus.Labels{"version": b.Version, "revision": b.Revision, "go": b.Go}}, func() float64 { return 1 })
	m.registry.MustRegister(info, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if now != nil {
		m.registry.MustRegister(&snapshot{now: now})
	}
	return m
}

// Handler answers Prometheus.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: 4, Timeout: 30 * time.Second})
}

// Names are the names of all metrics that are there now.
func (m *Metrics) Names() ([]string, error) {
	all, err := m.registry.Gather()
	names := make([]string, len(all))
	for i, f := range all {
		names[i] = f.GetName()
	}
	return names, err
}

// Verifying implements payee.Observer.
func (m *Metrics) Verifying() func(error) {
	began := time.Now()
	return func(err error) {
		m.verification.Observe(time.Since(began).Seconds())
		if err != nil {
			m.refused.Inc()
		}
	}
}

// Beside implements payee.Observer: nothing is saved.
func (m *Metrics) Beside(*channel.PayeeRecord, channel.PayeeRecord) ([]store.Op, error) {
	return nil, nil
}

// Saved implements payee.Observer.
func (m *Metrics) Saved(before *channel.PayeeRecord, next channel.PayeeRecord) {
	if before == nil {
		m.opened.Inc()
		before = &channel.PayeeRecord{}
	}
	if next.Paid > before.Paid {
		m.payments.Inc()
		m.paid.Add(float64(next.Paid - before.Paid))
	}
	if next.Phase.Final() && !before.Phase.Final() {
		m.ended.Inc()
	}
}

var _ payee.Observer = (*Metrics)(nil)

// Step measures a look at the chain.
func (m *Metrics) Step(step func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		began := time.Now()
		err := step(ctx)
		m.step.Observe(time.Since(began).Seconds())
		if err != nil && ctx.Err() == nil {
			m.stepErrors.Inc()
		}
		return err
	}
}

// Raised counts an alarm.
func (m *Metrics) Raised(kind string) { m.raised.WithLabelValues(kind).Inc() }

// Hooked counts an attempt to deliver an event; result is delivered, refused or failed.
func (m *Metrics) Hooked(webhook, result string) { m.hooks.WithLabelValues(webhook, result).Inc() }

// Store measures the commits of a store.
func (m *Metrics) Store(s payee.Store) payee.Store { return measuredStore{s, m} }

type measuredStore struct {
	payee.Store
	m *Metrics
}

func (s measuredStore) Commit(ctx context.Context, ops ...store.Op) error {
	began := time.Now()
	err := s.Store.Commit(ctx, ops...)
	s.m.commit.Observe(time.Since(began).Seconds())
	if err != nil && !errors.Is(err, store.ErrConflict) && ctx.Err() == nil {
		s.m.commitErrors.Inc()
	}
	return err
}

// Chain counts the questions to a blockchain.
func (m *Metrics) Chain(c payee.Chain) payee.Chain { return countedChain{c, m} }

type countedChain struct {
	of payee.Chain
	m  *Metrics
}

// count counts a question; that something is not there, or not taken, is an answer.
func (c countedChain) count(ctx context.Context, call string, err error) {
	c.m.calls.WithLabelValues(call).Inc()
	if err != nil && !errors.Is(err, chain.ErrNotFound) && !errors.Is(err, chain.ErrRejected) && ctx.Err() == nil {
		c.m.failures.WithLabelValues(call).Inc()
	}
}

func (c countedChain) Tip(ctx context.Context) (chain.Tip, error) {
	v, err := c.of.Tip(ctx)
	c.count(ctx, "tip", err)
	return v, err
}

func (c countedChain) Tx(ctx context.Context, txid chainhash.Hash) (chain.TxInfo, error) {
	v, err := c.of.Tx(ctx, txid)
	c.count(ctx, "tx", err)
	return v, err
}

func (c countedChain) Spend(ctx context.Context, op wire.OutPoint) (*chain.Spend, error) {
	v, err := c.of.Spend(ctx, op)
	c.count(ctx, "spend", err)
	return v, err
}

func (c countedChain) Broadcast(ctx context.Context, tx *wire.MsgTx) error {
	err := c.of.Broadcast(ctx, tx)
	c.count(ctx, "broadcast", err)
	return err
}

func (c countedChain) FeeRate(ctx context.Context, blocks int) (script.FeeRate, error) {
	v, err := c.of.FeeRate(ctx, blocks)
	c.count(ctx, "fee_rate", err)
	return v, err
}

// HTTP counts the answers of a handler, by status.
func (m *Metrics) HTTP(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := &coded{ResponseWriter: w}
		defer func() { m.requests.WithLabelValues(strconv.Itoa(c.status())).Inc() }()
		h.ServeHTTP(c, r)
	})
}

// coded notes the status of an answer. What the writer can do besides is reached through
// http.ResponseController, by Unwrap.
type coded struct {
	http.ResponseWriter
	code int
}

func (c *coded) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// Flush is for handlers that ask the writer itself.
func (c *coded) Flush() {
	if err := http.NewResponseController(c.ResponseWriter).Flush(); err != nil {
		return // what cannot be flushed is sent with the end
	}
}

// WriteHeader notes the first status that is no announcement.
func (c *coded) WriteHeader(code int) {
	if c.code == 0 && (code >= 200 || code == http.StatusSwitchingProtocols) {
		c.code = code
	}
	c.ResponseWriter.WriteHeader(code)
}

func (c *coded) status() int {
	if c.code == 0 {
		return http.StatusOK
	}
	return c.code
}
