package paywall

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/time/rate"

	"github.com/spillway/spillway/mpp"
	"github.com/spillway/spillway/mpp/bitcoin"
)

const (
	// maxSockets is how many metered WebSockets and compact connections there may be, and
	// maxClientSockets how many of one client.
	maxSockets, maxClientSockets = 4096, 256
	// socketGrace is how long a connection stays for its last payment.
	socketGrace = 10 * time.Second
	// socketPings is how often a client shows that it is there.
	socketPings = 30 * time.Second
)

func newBody(b []byte) io.Reader { return bytes.NewReader(b) }

// meteredSocket is a WebSocket that a handler serves and that is charged as it flows.
type meteredSocket struct {
	w     *wall
	r     *http.Request
	price Price
	flow  *Flow

	mu      sync.Mutex
	ws      *websocket.Conn
	ctx     context.Context // of the connection: a write that is cancelled ends it
	cancel  context.CancelCauseFunc
	stopped bool

	bytes   uint64 // of the service's messages
	refusal int    // payments that were refused
	limit   *rate.Limiter
	open    gate
}

// stop ends the connection.
func (x *meteredSocket) stop(why error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.stopped = true
	if x.cancel != nil {
		x.cancel(why)
	}
}

// socket charges for a WebSocket that a handler serves. The handler runs once a payment
// came: in the request's own field, or in the first message. docs/protocol.md, section 22.
func (w *wall) socket(rw http.ResponseWriter, r *http.Request, next http.Handler, price Price, unpaid bool) {
	s := w.cfg.Server
	x := &meteredSocket{w: w, r: r, price: price, limit: rate.NewLimiter(50, 100)}
	client := clientOf(r)
	if !s.wires.enter(x, client, maxSockets, maxClientSockets) {
		s.unavailable(&visit{s: s, w: rw, r: r}, errBusy)
		return
	}
	defer s.wires.leave(x, client)
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(r.Context()))
	defer cancel(nil)
	x.mu.Lock()
	x.ctx, x.cancel = ctx, cancel
	late := x.stopped
	x.mu.Unlock()
	if late {
		cancel(errStopped)
	}
	if !unpaid {
		client, ok := w.asks(rw, r)
		if !ok || !x.admit(rw, r) {
			return
		}
		w.unpaid.giveBack(client, w.cfg.Unpaid)
	}
	defer x.end()
	rw.Header().Del(mpp.HeaderReceipt)
	if rw.Header().Get("Cache-Control") == "private" {
		rw.Header().Del("Cache-Control")
	}
	x.serve(ctx, rw, next)
}

// admit begins the delivery that a request pays for; false: the answer has been written.
// Each connection is a delivery of its own, and a credential begins one.
func (x *meteredSocket) admit(rw http.ResponseWriter, r *http.Request) bool {
	s := x.w.cfg.Server
	res := Resource{Quote: x.price.quote(), metered: x.price.metering("")}
	res.metered.limit = func(channel string) error { return x.w.mayAsk(channel, x.price) }
	flow, ok := s.flow(rw, r, res, x.price, x.w.cfg.MaxWait)
	if ok {
		x.flow = flow
	}
	return ok
}

// end keeps an update that no charge has saved.
func (x *meteredSocket) end() {
	if x.flow == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(x.r.Context()), 10*time.Second)
	defer cancel()
	x.flow.finish(ctx)
}

// serve upgrades the connection, waits for a payment where none came, runs the handler,
// and carries messages both ways until one end is over.
func (x *meteredSocket) serve(ctx context.Context, rw http.ResponseWriter, next http.Handler) {
	log := x.w.cfg.Server.cfg.Log
	protocols := subprotocols(x.r)
	var inner *websocket.Conn
	var running *innerSocket
	if x.flow != nil {
		if inner, running = x.run(ctx, rw, next, protocols); inner == nil {
			x.wait(running)
			return
		}
		protocols = []string{inner.Subprotocol()}
	} else if len(protocols) > 1 {
		protocols = protocols[:1]
	}
	rw.Header().Set(HeaderSocket, "1")
	// who may connect from where is the handler's to say, of the request that it sees
	ws, err := websocket.Accept(rw, x.r, &websocket.AcceptOptions{Subprotocols: protocols, InsecureSkipVerify: true})
	if err != nil {
		log.Debug("a connection was not upgraded", "path", x.r.URL.Path, "error", err)
		if inner != nil {
			_ = inner.CloseNow()
		}
		x.wait(running)
		return
	}
	defer func() { _ = ws.CloseNow() }()
	ws.SetReadLimit(maxSocketMessage)
	x.mu.Lock()
	x.ws = ws
	x.mu.Unlock()
	if x.flow == nil {
		if !x.first(ctx) {
			return
		}
		if inner, running = x.run(ctx, nil, next, protocols); inner == nil {
			x.wait(running)
			return
		}
	}
	defer x.wait(running)
	defer func() { _ = inner.CloseNow() }()
	if err := x.say(bitcoin.EventReceipt, x.flow.Receipt()); err == nil {
		x.carry(ctx, inner)
	}
}

// wait waits until the handler has returned: its connection is closed.
func (x *meteredSocket) wait(running *innerSocket) {
	if running != nil && running.done != nil {
		<-running.done
	}
}

// answered hands over the answer of a handler that did not upgrade: it is charged like
// that to any other request, else asking for an upgrade would have it for nothing.
func (x *meteredSocket) answered(ctx context.Context, rw http.ResponseWriter, resp *http.Response) {
	grant := x.flow.grant
	m := &meter{wall: x.w, w: rw, r: x.r, price: x.price, grant: grant, flow: x.flow, header: http.Header{}, name: grant.line.Resource}
	m.ctx, m.cancel = context.WithCancelCause(ctx)
	defer m.cancel(nil)
	x.w.deliver(m, x.r.WithContext(m.ctx), http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		maps.Copy(w.Header(), resp.Header)
		w.WriteHeader(resp.StatusCode)
		if _, err := io.Copy(w, resp.Body); err != nil {
			x.w.cfg.Server.cfg.Log.Debug("an answer broke off", "path", x.r.URL.Path, "error", err)
		}
	}))
}

// run has the handler upgrade its end. Where it does not, its answer is the client's, at
// the price of an answer.
func (x *meteredSocket) run(ctx context.Context, rw http.ResponseWriter, next http.Handler, protocols []string) (*websocket.Conn, *innerSocket) {
	r := x.r.WithContext(context.WithValue(ctx, buyerKey{}, Buyer{Channel: x.flow.Channel(), Price: x.price}))
	r.Header = r.Header.Clone()
	r.Header.Del(x.w.cfg.Server.cfg.CredentialField)
	running := &innerSocket{w: x.w, next: next, r: r}
	ws, resp, err := running.dial(ctx, protocols)
	switch {
	case err != nil && rw != nil:
		x.w.cfg.Server.unavailable(&visit{s: x.w.cfg.Server, w: rw, r: x.r}, err)
	case err != nil:
		x.fail(http.StatusServiceUnavailable, "the service does not answer", websocket.StatusInternalError)
	case resp != nil && rw != nil:
		x.answered(ctx, rw, resp)
	case resp != nil:
		x.fail(resp.StatusCode, "the service takes no WebSocket: "+resp.Status, websocket.StatusPolicyViolation)
	default:
		return ws, running
	}
	if err != nil {
		x.w.cfg.Server.cfg.Log.Warn("a WebSocket was not opened", "path", x.r.URL.Path, "error", err)
	}
	return nil, running
}

// first waits for the payment that begins it.
func (x *meteredSocket) first(ctx context.Context) bool {
	within, cancel := context.WithTimeout(ctx, socketGrace)
	defer cancel()
	for {
		kind, text, err := x.ws.Read(within)
		if err != nil {
			return false
		}
		f, ok := readSocketFrame(text)
		if kind != websocket.MessageText || !ok || f.Name != socketAuthorization {
			x.fail(http.StatusPaymentRequired, "the first message is a payment", websocket.StatusPolicyViolation)
			return false
		}
		a := &answerRecorder{header: http.Header{}}
		if x.admit(a, x.made(f, http.MethodGet)) {
			return true
		}
		out, err := a.frame()
		if err == nil {
			err = x.send(out)
		}
		if x.refusal++; err != nil || x.refusal > 3 {
			return false
		}
	}
}

// made is a request with the credential of a frame.
func (x *meteredSocket) made(f socketFrame, method string) *http.Request {
	u := *x.r.URL
	r := &http.Request{
		Method: method, URL: &u, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{}, Body: http.NoBody,
		Host: x.r.Host, RemoteAddr: x.r.RemoteAddr, RequestURI: u.RequestURI(), TLS: x.r.TLS,
	}
	r.Header.Set(x.w.cfg.Server.cfg.CredentialField, f.Authorization)
	if f.IdempotencyKey != "" {
		r.Header.Set(mpp.HeaderIdempotencyKey, f.IdempotencyKey)
	}
	return r.WithContext(x.r.Context())
}

// fail tells the client why it ends, and ends it.
func (x *meteredSocket) fail(status int, why string, code websocket.StatusCode) {
	if err := x.send(socketFrame{Name: socketError, Status: status, Message: why}); err == nil {
		_ = x.ws.Close(code, cutReason(why)) // it is over either way
	}
}

// cutReason fits a reason into a close frame.
func cutReason(why string) string { return strings.ToValidUTF8(why[:min(len(why), 120)], "") }

func (x *meteredSocket) send(f socketFrame) error {
	raw, err := f.encode()
	if err != nil {
		return err
	}
	return x.write(websocket.MessageText, raw)
}

func (x *meteredSocket) say(name string, data any) error {
	f, err := socketData(name, data)
	if err != nil {
		return err
	}
	return x.send(f)
}

func (x *meteredSocket) write(kind websocket.MessageType, p []byte) error {
	ctx, cancel := context.WithTimeout(x.ctx, x.w.cfg.Stall)
	defer cancel()
	return x.ws.Write(ctx, kind, p)
}

// need tells the client what a pause waits for.
func (x *meteredSocket) need(n bitcoin.NeedVoucher) {
	if err := x.say(bitcoin.EventNeedVoucher, n); err != nil {
		x.stop(err)
	}
}

// charge charges for so many more units, before they are handed over, and pauses while
// the credit is used up.
func (x *meteredSocket) charge(ctx context.Context, units uint64) error {
	return x.flow.Charge(ctx, units, x.need)
}

// more is how many units a message of the service's has.
func (x *meteredSocket) more(n int) uint64 {
	before := x.bytes
	x.bytes += uint64(n)
	switch x.price.Unit {
	case bitcoin.UnitEvent:
		return 1
	case bitcoin.UnitByte:
		return uint64(n)
	case bitcoin.UnitChunk:
		return chunks(x.bytes, x.price.ChunkBytes) - chunks(before, x.price.ChunkBytes)
	}
	return 0
}

var errSocketUnit = errors.New("a WebSocket cannot be charged so")

// once is what is charged before anything is carried.
func (x *meteredSocket) once(ctx context.Context) error {
	switch {
	case x.price.After != nil:
		return fmt.Errorf("%w: by its answer", errSocketUnit)
	case x.price.Unit == bitcoin.UnitRequest:
		return x.charge(ctx, 1)
	}
	return nil
}
