package reverse

import (
	"bufio"
	"context"
	"errors"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spillway/spillway/mpp/bitcoin"
	"github.com/spillway/spillway/paywall"
)

// handed are the connections that were handed over to what speaks another protocol.
type handed struct {
	mu   sync.Mutex
	all  map[net.Conn]struct{}
	over bool
}

func (h *handed) add(c net.Conn) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.over {
		return false
	}
	if h.all == nil {
		h.all = map[net.Conn]struct{}{}
	}
	h.all[c] = struct{}{}
	return true
}

func (h *handed) drop(c net.Conn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.all, c)
}

// end closes all of them, and those that come later.
func (h *handed) end() {
	h.mu.Lock()
	h.over = true
	open := slices.Collect(maps.Keys(h.all))
	h.mu.Unlock()
	for _, c := range open { // each drops itself
		_ = c.Close() // it ends either way
	}
}

// Hijack implements http.Hijacker: the connection is remembered until it ends.
func (a *answering) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, buffered, err := a.control.Hijack()
	if err != nil {
		return nil, nil, err
	}
	own := &upgraded{Conn: c, all: a.handed, out: a}
	if !a.handed.add(own) {
		return nil, nil, errors.Join(http.ErrServerClosed, c.Close())
	}
	return own, buffered, nil
}

// upgraded is a connection on which another protocol is spoken.
type upgraded struct {
	net.Conn
	all  *handed
	out  *answering
	once sync.Once
}

// Write implements net.Conn: a client that takes nothing for too long is given up.
func (u *upgraded) Write(p []byte) (int, error) {
	if err := u.SetWriteDeadline(time.Now().Add(u.out.stall)); err != nil {
		return 0, err
	}
	n, err := u.Conn.Write(p)
	u.out.sent.Add(uint64(max(n, 0)))
	return n, err
}

// Close implements net.Conn.
func (u *upgraded) Close() error {
	u.once.Do(func() { u.all.drop(u) })
	return u.Conn.Close()
}

// upgrade answers a request that wants to switch protocols and is charged for: by the
// request once it has switched, by the byte for what goes to the client, by the second
// for as long as it lasts. A pause for a payment holds it, and breaks nothing; what pays
// comes by HEAD on the same address. By the event, and for clients that speak the metered
// form (docs/protocol.md, section 22), the paywall itself meters the messages.
func (p *Proxy) upgrade(w *answering, r *http.Request, price paywall.Price) {
	flow, ok := p.cfg.Wall.Flow(w, r, price, 0)
	if !ok {
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer func() {
		cancel()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), 10*time.Second)
		defer cancel()
		if err := flow.End(ctx); err != nil {
			p.cfg.Log.Warn("a payment of a connection was not kept", "channel", flow.Channel(), "error", err)
		}
	}()
	c := &charging{answering: w, ctx: ctx, flow: flow, unit: price.Unit}
	p.direct.ServeHTTP(c, r.WithContext(context.WithValue(ctx, chargingKey{}, c)))
}

// chargingKey is where what charges for a request that may switch protocols is kept in
// its context.
type chargingKey struct{}

// switches reports whether a request is one for a WebSocket. RFC 6455, section 4.1.
func switches(r *http.Request) bool {
	named := func(v string) bool {
		return slices.ContainsFunc(strings.Split(v, ","), func(s string) bool { return strings.EqualFold(strings.TrimSpace(s), "upgrade") })
	}
	return r.Method == http.MethodGet && r.ProtoMajor == 1 && strings.EqualFold(strings.TrimSpace(r.Header.Get("Upgrade")), "websocket") &&
		slices.ContainsFunc(r.Header.Values("Connection"), named)
}

// charging is the way to a client whose connection is charged for once it is handed over.
type charging struct {
	*answering
	ctx  context.Context
	flow *paywall.Flow
	unit string
}

// Hijack implements http.Hijacker. Errors: what keeps the first charge from being made.
func (c *charging) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	if c.unit != bitcoin.UnitByte {
		if err := c.flow.Charge(c.ctx, 1, nil); err != nil {
			return nil, nil, err
		}
	}
	conn, buffered, err := c.answering.Hijack()
	if err != nil {
		return nil, nil, err
	}
	switch c.unit {
	case bitcoin.UnitByte:
		conn = &byByte{Conn: conn, c: c}
	case bitcoin.UnitSecond:
		go c.bySecond(conn)
	}
	return conn, buffered, nil
}

// bySecond charges for each second that begins, and ends the connection where that is
// not paid.
func (c *charging) bySecond(conn net.Conn) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-c.ctx.Done():
			return
		case <-tick.C:
		}
		if err := c.flow.Charge(c.ctx, 1, nil); err != nil {
			_ = conn.Close() // it ends either way
			return
		}
	}
}

// chargedBlock is how many bytes are charged and handed over at once, at the most.
const chargedBlock = 16 << 10

// byByte is a connection on which what goes to the client is charged.
type byByte struct {
	net.Conn
	c *charging
}

// Write implements net.Conn: bytes are charged before they are handed over.
func (b *byByte) Write(p []byte) (done int, err error) {
	for done < len(p) {
		block := p[done:min(len(p), done+chargedBlock)]
		if err := b.c.flow.Charge(b.c.ctx, uint64(len(block)), nil); err != nil {
			return done, err
		}
		n, err := b.Conn.Write(block)
		done += n
		if err != nil {
			return done, err
		}
	}
	return done, nil
}
