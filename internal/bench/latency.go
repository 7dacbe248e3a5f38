package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/payer"
	"github.com/spillway/spillway/paywall"
	"github.com/spillway/spillway/store"
	"github.com/spillway/spillway/store/sqlite"
)

// Latency measures how long one payment takes, one at a time over one TLS connection:
// from the payer's decision until it holds the payee's receipt. Beside it stand its
// parts, measured in turn with it: the payer's save, its signature, a round trip, the
// verification, and the payee's save. What is more than their sum is overhead.
func Latency(ctx context.Context, cfg Config, emit func(Figure) error) (err error) {
	cfg = cfg.defaults()
	cfg.say("latency of one payment")
	dir, err := os.MkdirTemp(cfg.Dir, "spillway-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	m, err := newMarket(ctx, dir, 64<<10, 64<<10, 1, 1)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	if m.built, err = m.scripts(); err != nil {
		return err
	}
	var t turns
	for i, begin := 0, time.Now(); i < 10 || time.Since(begin) < cfg.Time; i++ {
		if err := m.single(ctx, i, &t); err != nil {
			return err
		}
	}
	var sum time.Duration
	for _, p := range t.parts() {
		sum += median(*p.took)
	}
	whole := compared("latency of one payment, p50", ms(median(t.whole)), "ms", "the sum of its parts", ms(sum))
	whole.Ceiling = 1.5
	if err := emit(whole); err != nil {
		return err
	}
	for _, p := range t.parts() {
		if err := emit(compared("latency of one payment, p50: "+p.name, ms(median(*p.took)), "ms", "the whole", whole.Value)); err != nil {
			return err
		}
	}
	return nil
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// turns are how long a payment took, and each of its parts alone, in each turn.
type turns struct {
	whole, payerSave, sign, trip, verify, payeeSave []time.Duration
}

type namedPart struct {
	name string
	took *[]time.Duration
}

func (t *turns) parts() []namedPart {
	return []namedPart{
		{"payer's save", &t.payerSave}, {"signature", &t.sign}, {"round trip", &t.trip},
		{"verification", &t.verify}, {"payee's save", &t.payeeSave},
	}
}

// single makes one payment, and then each of its parts alone.
func (m *market) single(ctx context.Context, i int, t *turns) error {
	c, id, ch := m.buyers[0], m.buyers[0].ids[0], m.built[0]
	var u channel.Update
	rest := int64(capacity - i - 1)
	var sig []byte
	for _, step := range []struct {
		into *[]time.Duration
		do   func() error
	}{
		{&t.whole, func() (err error) {
			u, err = c.payer.Pay(ctx, id, payer.Payment{Verified: 1000}, channel.Limits{Budget: channel.MaxSat})
			if err != nil {
				return err
			}
			got, err := c.client.Voucher(ctx, paywall.Paid{Channel: id, URL: m.url + soldName, Update: u})
			if err == nil && got.AcceptedCumulative != u.Amount {
				err = fmt.Errorf("%d sat were taken, not %d sat", got.AcceptedCumulative, u.Amount)
			}
			return err
		}},
		{&t.payerSave, func() error { return again(ctx, c.store, "payer/channel", id) }},
		{&t.sign, func() (err error) { sig, err = ch.SignHalf(m.keys[0], rest); return err }},
		{&t.trip, func() error { return m.trip(ctx, c) }},
		{&t.verify, func() error { return ch.VerifyHalf(rest, sig) }},
		{&t.payeeSave, func() error { return again(ctx, m.store, "payee/channel", id) }},
	} {
		begin := time.Now()
		if err := step.do(); err != nil {
			return err
		}
		*step.into = append(*step.into, time.Since(begin))
	}
	return nil
}

// again saves what is stored under a key in another bucket, as large as it is.
func again(ctx context.Context, s *sqlite.Store, bucket, key string) error {
	e, err := s.Get(ctx, bucket, key)
	if err != nil {
		return err
	}
	return s.Commit(ctx, store.Op{Bucket: "bench", Key: key, Value: e.Value, Expect: store.Any})
}

// trip is a request that the provider answers without asking anything, over the
// connection that is there.
func (m *market) trip(ctx context.Context, c *customer) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodOptions, m.url+soldName, nil)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return errors.Join(err, resp.Body.Close())
}
