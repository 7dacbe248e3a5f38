package paywall

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/spillway/spillway/mpp"
	"github.com/spillway/spillway/mpp/bitcoin"
)

// HeaderSocket in a request says that its client speaks metered WebSockets: a proxy that
// could carry one as it is meters it. docs/protocol.md, section 22.
const HeaderSocket = "Spillway-Socket"

// Socket is a WebSocket whose messages are paid as they are read. Read may be called from
// one goroutine at a time, Write and Close from any. docs/protocol.md, section 22.
type Socket struct {
	ws   *websocket.Conn
	trip *trip
	bill *bill
	ctx  context.Context
	stop context.CancelFunc
	idle sync.WaitGroup

	mu    sync.Mutex
	bytes uint64 // of messages that came
	ended error  // how it ended
}

// Socket opens a WebSocket at an http, https, ws or wss URL, opens a channel within the
// budget or uses one that is open, and pays for what comes, as RoundTrip does. header has
// further fields for the service; protocols are what the client speaks, the best first.
// The context bounds only the opening. Errors: *PaymentError, ErrNotAllowed in one, the
// context's, and *RefusedError where the service upgrades nothing.
func (t *Transport) Socket(ctx context.Context, target string, header http.Header, protocols ...string) (*Socket, error) {
	u, err := url.Parse(target)
	if err != nil {
		return nil, fmt.Errorf("%w: %q is no URL", ErrNotProvider, target)
	}
	switch u.Scheme {
	case "ws":
		u.Scheme = "http"
	case "wss":
		u.Scheme = "https"
	}
	origin := originOf(u)
	if origin == "" || u.User != nil {
		return nil, fmt.Errorf("%w: %q is no URL of a WebSocket", ErrNotProvider, target)
	}
	target = u.String()
	if !t.allowed(u.Host) {
		return nil, t.fail(target, "", fmt.Errorf("%w: %s", ErrNotAllowed, u.Host))
	}
	a, err := t.account(origin)
	if err != nil {
		return nil, t.fail(target, "", err)
	}
	r := &trip{t: t, a: a, target: target, method: http.MethodGet, expect: Expect{Check: t.cfg.Check}}
	s, err := r.socket(ctx, header, protocols)
	if err != nil {
		id := ""
		if r.lane != nil {
			id = r.lane.id
		}
		return nil, t.fail(target, id, err)
	}
	return s, nil
}

// socket opens a WebSocket with a payment until there is a success.
func (r *trip) socket(ctx context.Context, header http.Header, protocols []string) (*Socket, error) {
	q, err := r.t.c.current(ctx, r.target, r.expect)
	if err != nil {
		return nil, err
	}
	var n turns
	for {
		s, refused, err := r.dial(ctx, q, n.required, header, protocols)
		if err != nil || s != nil {
			return s, err
		}
		n.required = 0
		if n.all++; n.all-n.waits > maxTurns {
			return nil, refused
		}
		if err := r.next(ctx, refused, &n); err != nil {
			return nil, err
		}
		if again := r.t.c.recall(r.target); again != nil {
			q = again
		}
	}
}

// dial opens a WebSocket once.
func (r *trip) dial(ctx context.Context, q *Quoted, required uint64, header http.Header, protocols []string) (s *Socket, refused, err error) {
	if r.cost, err = tariffOf(q); err != nil {
		return nil, nil, err
	}
	settled := r.expect
	settled.Recipient = q.Request.Recipient
	if r.lane, err = r.a.lane(ctx, q, r.cost, settled); err != nil {
		return nil, nil, err
	}
	update, err := r.lane.begin(ctx, r.cost, required)
	if err != nil {
		return nil, nil, err
	}
	over := func(left bool) {
		r.lane.answered(r.cost, left)
		r.lane.ended(0)
	}
	if r.key, err = r.t.c.NewKey(); err != nil { // each attempt is a connection of its own
		over(false)
		return nil, nil, err
	}
	a := ask{method: http.MethodGet, id: r.lane.id, target: r.target, key: r.key, expect: settled,
		payload: bitcoin.Voucher{ChannelID: r.lane.id, CumulativeAmount: update.Amount, Signature: update.Signature}}
	fields, err := r.t.c.credential(ctx, a.id, q, a.payload, a.key, header)
	if err == nil {
		err = r.asking(ctx)
	}
	if err != nil {
		over(false)
		return nil, nil, err
	}
	if header.Get(q.Challenge.Field()) != "" {
		over(false)
		return nil, nil, ErrAuthorization
	}
	fields.Set(HeaderSocket, "1")
	ws, resp, err := websocket.Dial(ctx, r.target, &websocket.DialOptions{
		HTTPClient: &http.Client{Transport: r.t.base, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
		HTTPHeader: fields, Subprotocols: protocols,
	})
	if err != nil {
		over(resp == nil)
		if resp == nil {
			return nil, nil, errors.Join(ctx.Err(), unreachable("%w", err))
		}
		return r.notOpened(resp, a, q)
	}
	s, err = r.opened(ctx, ws, a)
	if err != nil {
		over(true)
		return nil, nil, errors.Join(err, ctx.Err())
	}
	return s, nil, nil
}

// notOpened reads why a WebSocket was refused.
func (r *trip) notOpened(resp *http.Response, a ask, q *Quoted) (*Socket, error, error) {
	if resp.Body == nil {
		resp.Body = http.NoBody
	}
	if resp.Request == nil {
		resp.Request = requestOf(a)
	}
	if resp.StatusCode != http.StatusPaymentRequired {
		return nil, nil, refusal(resp)
	}
	fresh, refused := r.t.c.refused(resp, a, q)
	if fresh {
		refused = fmt.Errorf("%w: %w", errFresh, refused)
	}
	return nil, refused, nil
}

// opened reads the receipt that a WebSocket begins with.
func (r *trip) opened(ctx context.Context, ws *websocket.Conn, a ask) (s *Socket, err error) {
	defer func() {
		if err != nil {
			_ = ws.CloseNow() // it is of no use
		}
	}()
	ws.SetReadLimit(maxSocketMessage + 64<<10)
	within, cancel := context.WithTimeout(ctx, handshakePatience)
	defer cancel()
	_, text, err := ws.Read(within)
	if err != nil {
		return nil, unreachable("%w", err)
	}
	f, ok := readSocketFrame(text)
	switch {
	case ok && f.Name == socketError:
		return nil, &RefusedError{Status: f.Status, Problem: &mpp.Problem{Type: "about:blank", Title: f.Message, Status: f.Status}}
	case !ok || f.Name != bitcoin.EventReceipt:
		return nil, misbehaved("it begins with no receipt")
	}
	resp := &http.Response{Header: http.Header{mpp.HeaderReceipt: {mpp.EncodeBase64(f.Data)}}}
	receipt, err := r.t.c.receipt(ctx, a, resp)
	if err != nil {
		return nil, err
	}
	claimed, err := r.lane.claim(ctx, receipt, receipt.RequestMsat)
	if err != nil {
		return nil, err
	}
	r.lane.answered(r.cost, false)
	s = &Socket{ws: ws, trip: r}
	s.ctx, s.stop = context.WithCancel(context.WithoutCancel(ctx))
	s.bill = newBill(s.ctx, r.lane, r.target, r.expect, r.cost, receipt.RequestMsat, claimed)
	if r.cost.unit == bitcoin.UnitRequest { // the connection as a whole: owed once it is open
		if err := s.bill.add(1); err != nil {
			return nil, err
		}
	}
	s.idle.Go(s.payWhenIdle)
	return s, nil
}

// payWhenIdle pays for what came while nothing is read, and for time.
func (s *Socket) payWhenIdle() {
	every := 250 * time.Millisecond
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-tick.C:
			if !s.bill.idle() {
				s.fail(s.bill.why())
				return
			}
		}
	}
}

// why nothing more is paid.
func (b *bill) why() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.failed
}

// Subprotocol is what the service chose; "": none.
func (s *Socket) Subprotocol() string { return s.ws.Subprotocol() }

// Read reads the next message of the service's, which is paid for. Errors: io.EOF where
// the service ended it in order, *PaymentError where it cannot be paid, the context's,
// after which the connection is over, and ErrUnreachable in all others.
func (s *Socket) Read(ctx context.Context) (websocket.MessageType, []byte, error) {
	for {
		kind, p, err := s.ws.Read(ctx)
		if err != nil {
			return 0, nil, s.ends(ctx, err)
		}
		if kind == websocket.MessageText {
			f, own := readSocketFrame(p)
			if !own {
				s.fail(misbehaved("a text that is no message"))
				return 0, nil, s.ends(ctx, nil)
			}
			if f.Name != socketMessage {
				if err := s.payment(f); err != nil {
					s.fail(err)
					return 0, nil, s.ends(ctx, err)
				}
				continue
			}
			text, ok := f.text()
			if !ok {
				s.fail(misbehaved("a message that is no text"))
				return 0, nil, s.ends(ctx, nil)
			}
			p = []byte(text)
		}
		return kind, p, s.count(ctx, p)
	}
}

// count enters a message that came.
func (s *Socket) count(ctx context.Context, p []byte) (err error) {
	s.mu.Lock()
	s.bytes += uint64(len(p))
	all := s.bytes
	s.mu.Unlock()
	switch s.bill.cost.unit {
	case bitcoin.UnitEvent:
		err = s.bill.add(1)
	case bitcoin.UnitByte:
		err = s.bill.add(uint64(len(p)))
	case bitcoin.UnitChunk:
		err = s.bill.reached(chunks(all, s.bill.cost.unitBytes))
	default:
		err = s.bill.add(0)
	}
	if err != nil {
		s.fail(err)
		return s.ends(ctx, err)
	}
	return nil
}

// payment does what a message of the payment's says.
func (s *Socket) payment(f socketFrame) error {
	switch f.Name {
	case bitcoin.EventNeedVoucher:
		var n bitcoin.NeedVoucher
		if err := n.UnmarshalJSON(f.Data); err != nil {
			return misbehaved("%w", err)
		}
		return s.bill.need(n)
	case bitcoin.EventReceipt, socketCloseReady:
		var r bitcoin.Receipt
		if err := r.UnmarshalJSON(f.Data); err != nil {
			return misbehaved("%w", err)
		}
		s.bill.receipt(r)
		if f.Name == socketCloseReady {
			if code := websocket.StatusCode(f.Code); f.Code != 0 && code != websocket.StatusNormalClosure && code != websocket.StatusNoStatusRcvd {
				return websocket.CloseError{Code: code, Reason: f.Reason}
			}
			return io.EOF
		}
	case socketError:
		var p mpp.Problem
		if problem, err := mpp.ParseProblem(f.Problem); err == nil {
			p = *problem
		} else {
			p = mpp.Problem{Type: "about:blank", Title: f.Message, Status: f.Status}
		}
		return &RefusedError{Status: f.Status, Problem: &p}
	}
	return nil
}

// fail notes why it ends, and ends the connection.
func (s *Socket) fail(why error) {
	s.mu.Lock()
	if s.ended == nil {
		s.ended = why
	}
	s.mu.Unlock()
	_ = s.ws.CloseNow() // it is over either way
}

// ends is what a reader is told once it is over.
func (s *Socket) ends(ctx context.Context, err error) error {
	s.mu.Lock()
	why := s.ended
	s.mu.Unlock()
	switch {
	case errors.Is(why, io.EOF):
		if _, err := s.bill.end(); err != nil {
			return s.trip.t.fail(s.trip.target, s.trip.lane.id, err)
		}
		return io.EOF
	case why != nil:
		return s.trip.t.fail(s.trip.target, s.trip.lane.id, why)
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return unreachable("%w", err)
}

// Write sends a message to the service; it costs nothing by itself. A text that looks like
// one of the payment's own reaches the service all the same. Errors: the context's, after
// which the connection is over, and ErrUnreachable.
func (s *Socket) Write(ctx context.Context, kind websocket.MessageType, p []byte) error {
	if kind == websocket.MessageText {
		f, err := socketData(socketMessage, string(p))
		if err == nil {
			p, err = json.Marshal(f)
		}
		if err != nil {
			return err
		}
	}
	if err := s.ws.Write(ctx, kind, p); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return unreachable("%w", err)
	}
	return nil
}

// Close ends the connection. What came is paid. Errors: *PaymentError where it is not.
func (s *Socket) Close() error {
	s.fail(errClosedHere)
	s.stop()
	s.idle.Wait()
	if err := s.bill.leave(); err != nil {
		return s.trip.t.fail(s.trip.target, s.trip.lane.id, err)
	}
	return nil
}
