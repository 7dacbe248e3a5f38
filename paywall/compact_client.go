package paywall

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/mpp"
	"github.com/spillway/spillway/mpp/bitcoin"
)

// errNoCompact: the compact transport does not get through; HTTP may.
var errNoCompact = errors.New("no compact connection")

// handshakePatience is how long a compact connection may take until it can be used.
const handshakePatience = 10 * time.Second

// Compact is one connection of the compact transport to a provider: updates of about 80
// bytes, pipelined and acknowledged cumulatively, and orders that an update pays for.
// What it sends was signed and saved by the payer before. Its methods may be called from
// many goroutines. docs/protocol.md, section 21.
type Compact struct {
	c      *Client
	ws     *websocket.Conn
	target string // that it was opened for, without a query
	hello  helloFrame
	key    string // that binds are sealed under
	out    outbox
	in     *pull     // read by listen, and by whoever it lends it to
	lent   *incoming // that listen lends it to next
	cancel context.CancelCauseFunc
	closed chan struct{} // when the last of it has ended
	over   chan struct{} // closed when it ends

	mu      sync.Mutex
	ended   error
	greeted news
	ones    map[string]*bound
	numbers []*bound
	orders  map[uint64]*incoming
	last    uint64 // order
}

// bound is a channel on a connection, at the client.
type bound struct {
	id        string
	number    uint64
	challenge string // id of the one that orders are charged by
	asked     string // id of the one that a bind is under way for
	at        tally
	known     bool
	problem   *mpp.Problem // why the provider takes nothing on it here
	news      news         // of it
}

// news wakes those who wait for something to change. The zero value is ready; it is used
// with the connection's mu held.
type news struct {
	told bool // something has come at all
	ring chan struct{}
}

// next is closed when something comes.
func (n *news) next() <-chan struct{} {
	if n.ring == nil {
		n.ring = make(chan struct{})
	}
	return n.ring
}

func (n *news) tell() {
	n.told = true
	if n.ring != nil {
		close(n.ring)
		n.ring = nil
	}
}

// DialCompact opens a compact connection at a URL, whose query is not looked at, and waits
// until the provider has greeted. The context bounds only that. Close ends it.
// Errors: ErrUnreachable where it does not get through, and the context's.
func (c *Client) DialCompact(ctx context.Context, target string) (*Compact, error) {
	u, err := url.Parse(target)
	if err != nil || originOf(u) == "" || u.User != nil {
		return nil, fmt.Errorf("%w: %q is no http or https URL", ErrNotProvider, target)
	}
	u.RawQuery, u.Fragment, u.RawFragment = "", "", ""
	dialing, cancel := context.WithTimeout(ctx, min(handshakePatience, c.net.stall))
	defer cancel()
	ws, _, err := websocket.Dial(dialing, u.String(), &websocket.DialOptions{
		HTTPClient: c.net.http, HTTPHeader: http.Header{}, Subprotocols: []string{CompactProtocol},
	})
	if err != nil {
		return nil, errors.Join(ctx.Err(), unreachable("%w: %w", errNoCompact, err))
	}
	x := &Compact{c: c, ws: ws, in: newPull(ws), target: u.String(), closed: make(chan struct{}), over: make(chan struct{}), ones: map[string]*bound{}, orders: map[uint64]*incoming{}}
	inner, stop := context.WithCancelCause(context.Background())
	x.cancel = stop
	x.out.write, x.out.limit = sending(inner, ws, c.net.stall), 4<<10
	ws.SetReadLimit(maxSocketAnswer)
	go x.listen()
	if ws.Subprotocol() != CompactProtocol {
		x.fail(unreachable("%w: something in between does not pass it", errNoCompact))
	}
	if err := x.await(dialing, &x.greeted, func() bool { return x.greeted.told }); err != nil {
		x.fail(err)
		return nil, errors.Join(ctx.Err(), unreachable("%w: %w", errNoCompact, err))
	}
	return x, nil
}

// Close ends the connection. What was acknowledged is saved; what was not may be.
func (x *Compact) Close() error {
	x.fail(errClosedHere)
	<-x.closed
	return nil
}

// errClosedHere is why a connection ends that this side closed.
var errClosedHere = unreachable("the connection was closed here")

// fail ends the connection.
func (x *Compact) fail(why error) {
	x.mu.Lock()
	first := x.ended == nil
	if first {
		x.ended = why
		close(x.over)
		for _, in := range x.orders {
			in.end(why)
		}
	}
	x.mu.Unlock()
	if first {
		x.out.end(why)
		x.cancel(why)
		_ = x.ws.CloseNow() // it is over either way
	}
}

// Err is why the connection ended; nil: it has not.
func (x *Compact) Err() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.ended
}

// await waits until something is true, which is asked with x.mu held whenever there is
// news. Errors: the context's, and what ended the connection.
func (x *Compact) await(ctx context.Context, n *news, is func() bool) error {
	for {
		x.mu.Lock()
		done, ended, next := is(), x.ended, n.next()
		x.mu.Unlock()
		switch {
		case done:
			return nil
		case ended != nil:
			return ended
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-x.over:
		case <-next:
		}
	}
}

// Bind takes a channel onto the connection under a challenge, proves whose it is, and
// brings the newest update of its payer. Where it is bound under this challenge it does
// nothing. Errors: *RefusedError, what ended the connection, the payer's.
func (x *Compact) Bind(ctx context.Context, id string, q *Quoted, newest channel.Update) error {
	b, fresh, err := x.number(id, q.Challenge.ID)
	if err != nil {
		return err
	}
	if fresh {
		voucher := bitcoin.Voucher{ChannelID: id, CumulativeAmount: newest.Amount, Signature: newest.Signature}
		header, err := x.c.credential(ctx, id, q, voucher, x.key, nil)
		if err == nil {
			err = x.out.put(bindFrame{b.number, header.Get(q.Challenge.Field())}.append)
		}
		if err != nil {
			x.fail(err)
			return err
		}
	}
	if err := x.await(ctx, &b.news, func() bool { return b.problem != nil || b.challenge == q.Challenge.ID }); err != nil {
		return err
	}
	return x.refusedAs(b)
}

// number is a channel's number; fresh: it has to be bound under this challenge.
func (x *Compact) number(id, challenge string) (b *bound, fresh bool, err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if b = x.ones[id]; b == nil {
		if uint64(len(x.numbers)) >= min(x.hello.ones, maxCompactOnes) {
			return nil, false, unreachable("%w: it takes no more than %d channels", errNoCompact, x.hello.ones)
		}
		b = &bound{id: id, number: uint64(len(x.numbers))}
		x.ones[id], x.numbers = b, append(x.numbers, b)
	}
	fresh = b.asked != challenge || b.problem != nil
	b.asked, b.problem = challenge, nil
	return b, fresh, nil
}

// refusedAs is why the provider takes nothing on a channel here.
func (x *Compact) refusedAs(b *bound) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if b.problem == nil {
		return nil
	}
	return &RefusedError{Status: b.problem.Status, Problem: b.problem}
}

// Update sends an update and does not wait for its answer: many may be under way, on
// one channel and on several. It waits where the connection takes no more.
// Errors: *RefusedError where the channel is refused or not bound, what ended the connection.
func (x *Compact) Update(id string, u channel.Update) error {
	x.mu.Lock()
	b := x.ones[id]
	x.mu.Unlock()
	if b == nil {
		return fmt.Errorf("%w: channel %s is not bound to this connection", ErrRefused, id)
	}
	if err := x.refusedAs(b); err != nil {
		return err
	}
	return x.out.put(updateFrame{b.number, u}.append)
}

// Acknowledged is where a channel stands by the provider's last word: paid (sat), which is
// saved, and charged (msat).
func (x *Compact) Acknowledged(id string) (paid, charged uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if b := x.ones[id]; b != nil {
		return b.at.paid, b.at.charged
	}
	return 0, 0
}

// Wait waits until the provider holds at least an amount (sat) on a channel: everything up
// to there is saved. Errors: *RefusedError, what ended the connection, the context's.
func (x *Compact) Wait(ctx context.Context, id string, amount uint64) error {
	x.mu.Lock()
	b := x.ones[id]
	x.mu.Unlock()
	if b == nil {
		return fmt.Errorf("%w: channel %s is not bound to this connection", ErrRefused, id)
	}
	err := x.await(ctx, &b.news, func() bool { return b.problem != nil || b.known && b.at.paid >= amount })
	if err != nil {
		return err
	}
	x.mu.Lock()
	enough := b.known && b.at.paid >= amount
	x.mu.Unlock()
	if enough {
		return nil
	}
	return x.refusedAs(b)
}

// receipt is where a channel stands, as the header of an answer says it.
func (x *Compact) receipt(id, challenge string, s slip) (string, error) {
	return bitcoin.Receipt{
		Timestamp: x.c.cfg.Now(), ChallengeID: challenge, ChannelID: id, AcceptedCumulative: s.at.paid,
		ChargedMsat: s.at.charged, RequiredCumulative: s.at.required, Units: s.units, RequestMsat: s.line,
	}.Encode()
}

// key of an order, and what it asks for.
func (x *Compact) fits(target string) (query string, ok bool) {
	base, query, _ := strings.Cut(target, "?")
	return query, base == x.target && len(query) <= maxQuery
}

// nonceKey is what binds of a connection are sealed under.
func nonceKey(nonce [compactNonce]byte) string { return compactKeys + hex.EncodeToString(nonce[:]) }
