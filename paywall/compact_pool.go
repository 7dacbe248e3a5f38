package paywall

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/spillway/spillway/mpp/bitcoin"
)

const (
	// compactRest is how long an origin is left alone where the compact transport did not
	// get through, and maxBreaks how many connections in a row may break before it is.
	compactRest = 5 * time.Minute
	maxBreaks   = 3
	// compactIdle is how long a connection that nobody uses is kept.
	compactIdle = 30 * time.Second
	// maxIdleCompact is how many of them are kept for one resource, and maxAllIdle in all.
	maxIdleCompact = 16
	maxAllIdle     = 64
)

// compacts are a client's connections that nobody uses just now, by resource, and the
// origins at which none got through.
type compacts struct {
	mu     sync.Mutex
	idle   map[string][]*parked
	all    int
	breaks map[string]int       // in a row, by origin
	rest   map[string]time.Time // until then HTTP is used, by origin
}

type parked struct {
	x     *Compact
	timer *time.Timer
}

// take is a connection that was kept for a resource; nil: there is none.
func (p *compacts) take(resource string) *Compact {
	p.mu.Lock()
	defer p.mu.Unlock()
	for list := p.idle[resource]; len(list) > 0; list = p.idle[resource] {
		last := list[len(list)-1]
		p.drop(resource, len(list)-1)
		if last.timer.Stop() && last.x.Err() == nil {
			return last.x
		}
	}
	return nil
}

// drop forgets the i-th connection of a resource; p.mu is held.
func (p *compacts) drop(resource string, i int) {
	list := append(p.idle[resource][:i:i], p.idle[resource][i+1:]...)
	if p.all--; len(list) == 0 {
		delete(p.idle, resource)
	} else {
		p.idle[resource] = list
	}
}

// give keeps a connection for the next request; false: there are enough.
func (p *compacts) give(x *Compact) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if x.Err() != nil || p.all >= maxAllIdle || len(p.idle[x.target]) >= maxIdleCompact {
		return false
	}
	if p.idle == nil {
		p.idle = map[string][]*parked{}
	}
	one := &parked{x: x}
	one.timer = time.AfterFunc(compactIdle, func() { p.expire(one) })
	p.idle[x.target] = append(p.idle[x.target], one)
	p.all++
	return true
}

func (p *compacts) expire(one *parked) {
	p.mu.Lock()
	for i, other := range p.idle[one.x.target] {
		if other == one {
			p.drop(one.x.target, i)
			break
		}
	}
	p.mu.Unlock()
	one.x.fail(errClosedHere)
}

// resting reports whether HTTP is used at an origin for a while.
func (p *compacts) resting(origin string, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	until, ok := p.rest[origin]
	if ok && !now.Before(until) {
		delete(p.rest, origin)
		ok = false
	}
	return ok
}

// broke counts a connection that did not do what it was for. at once: it did not come
// about at all.
func (p *compacts) broke(origin string, now time.Time, atOnce bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.breaks == nil || len(p.breaks) > maxRemembered {
		p.breaks = map[string]int{}
	}
	if p.rest == nil || len(p.rest) > maxRemembered {
		p.rest = map[string]time.Time{}
	}
	if p.breaks[origin]++; atOnce || p.breaks[origin] >= maxBreaks {
		p.rest[origin] = now.Add(compactRest)
		delete(p.breaks, origin)
	}
}

func (p *compacts) worked(origin string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.breaks, origin)
}

// CloseIdle closes connections that are kept for further requests, not channels.
func (c *Client) CloseIdle() {
	c.compacts.mu.Lock()
	var all []*Compact
	for _, list := range c.compacts.idle {
		for _, one := range list {
			one.timer.Stop()
			all = append(all, one.x)
		}
	}
	c.compacts.idle, c.compacts.all = nil, 0
	c.compacts.mu.Unlock()
	for _, x := range all {
		_ = x.Close() // never fails
	}
	c.net.http.CloseIdleConnections()
}

// release gives a connection back once its answer is over.
func (x *Compact) release(whole bool) {
	if !whole || !x.c.compacts.give(x) {
		x.fail(errClosedHere)
	}
}

// carries reports whether a request can go over a compact connection: a voucher of a
// one-way channel, with nothing but what an order can say.
func (c *Client) carries(a ask, q *Quoted) (v bitcoin.Voucher, ok bool) {
	v, ok = a.payload.(bitcoin.Voucher)
	if !ok || !c.cfg.Compact || !q.Compact || v.FromPayee || v.Epoch != 0 {
		return v, false
	}
	if a.method != http.MethodGet && a.method != http.MethodHead {
		return v, false
	}
	for name, values := range a.header {
		if name != "If-Match" || len(values) != 1 || values[0] != `"b3-`+q.Request.MethodDetails.Root+`"` {
			return v, false
		}
	}
	origin := Origin(a.target)
	return v, origin != "" && !strings.Contains(a.target, "#") && !c.compacts.resting(origin, c.cfg.Now())
}

// compactly sends a request over a compact connection. nil: it has to go over HTTP,
// where, under the same key, it pays and is charged no more than once. Errors: the
// context's.
func (c *Client) compactly(ctx context.Context, a ask, q *Quoted) (*http.Response, error) {
	v, ok := c.carries(a, q)
	if !ok {
		return nil, nil
	}
	base, _, _ := strings.Cut(a.target, "?")
	x, fresh, err := c.compacts.take(base), false, error(nil)
	if x == nil {
		if x, err = c.DialCompact(ctx, a.target); err != nil {
			if ctx.Err() == nil {
				c.cfg.Log.Info("payments go over HTTP for a while", "url", base, "reason", err)
				c.compacts.broke(Origin(a.target), c.cfg.Now(), true)
			}
			return nil, ctx.Err()
		}
		fresh = true
	}
	resp, err := x.ask(ctx, a, q, v)
	if err == nil {
		c.compacts.worked(Origin(a.target))
		return resp, nil
	}
	x.fail(err)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	var refused *RefusedError
	if fresh && !errors.As(err, &refused) {
		c.compacts.broke(Origin(a.target), c.cfg.Now(), false)
	}
	c.cfg.Log.Debug("a request is repeated over HTTP", "url", a.target, "reason", err)
	return nil, nil
}
