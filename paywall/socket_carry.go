package paywall

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/spillway/spillway/mpp/bitcoin"
)

// gate lets messages pass while it is open. The zero value is shut.
type gate struct {
	mu   sync.Mutex
	open bool
	news chan struct{} // closed when it opens
}

func (g *gate) set(open bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open = open; open && g.news != nil {
		close(g.news)
		g.news = nil
	}
}

// pass waits until it is open.
func (g *gate) pass(ctx context.Context) error {
	for {
		g.mu.Lock()
		if g.open {
			g.mu.Unlock()
			return nil
		}
		if g.news == nil {
			g.news = make(chan struct{})
		}
		news := g.news
		g.mu.Unlock()
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-news:
		}
	}
}

// errCloseRequested: the client wants no more.
var errCloseRequested = errors.New("the client ends it")

// carry carries messages both ways until one end is over, and tells the other.
func (x *meteredSocket) carry(outer context.Context, inner *websocket.Conn) {
	ctx, cancel := context.WithCancelCause(outer)
	defer cancel(nil)
	var group sync.WaitGroup
	run := func(do func(context.Context, *websocket.Conn) error) {
		group.Go(func() {
			if err := do(ctx, inner); err != nil {
				cancel(err)
			}
		})
	}
	held := newParcels()
	run(x.fromService)
	run(x.keepTime)
	run(func(ctx context.Context, inner *websocket.Conn) error { return x.toService(ctx, inner, held) })
	reading := make(chan error, 1)
	group.Go(func() { // its context is not the pumps': a read that is cancelled ends the connection
		reading <- x.fromClient(outer, ctx, held, cancel)
	})
	<-ctx.Done()
	why := context.Cause(ctx)
	held.close()
	_ = inner.CloseNow()
	x.over(outer, why, reading)
	_ = x.ws.CloseNow()
	group.Wait()
}

// over tells the client how it ended, and gives it a while for its last payment.
func (x *meteredSocket) over(ctx context.Context, why error, reading <-chan error) {
	var closed websocket.CloseError
	code, reason := websocket.StatusNormalClosure, ""
	switch {
	case ctx.Err() != nil:
		return
	case errors.Is(why, errClientGone):
		return
	case errors.As(why, &closed):
		code, reason = closed.Code, closed.Reason
	case errors.Is(why, errCloseRequested):
	case refusalOf(why) != nil:
		p := refusalOf(why)
		x.fail(p.Status, p.Detail, websocket.StatusPolicyViolation)
		return
	default:
		x.w.cfg.Server.cfg.Log.Debug("a WebSocket ended", "path", x.r.URL.Path, "error", why)
		x.fail(http.StatusServiceUnavailable, "the service ended the connection", websocket.StatusInternalError)
		return
	}
	f, err := socketData(socketCloseReady, x.flow.Receipt())
	if f.Code, f.Reason = int(code), reason; err != nil || x.send(f) != nil {
		return
	}
	late := time.NewTimer(socketGrace)
	defer late.Stop()
	select {
	case <-reading:
	case <-late.C:
		if code == websocket.StatusNoStatusRcvd {
			code = websocket.StatusNormalClosure
		}
		_ = x.ws.Close(code, reason) // it is over either way
	case <-ctx.Done():
	}
}

// fromService hands the service's messages to the client, each charged before.
func (x *meteredSocket) fromService(ctx context.Context, inner *websocket.Conn) error {
	if err := x.once(ctx); err != nil {
		return err
	}
	for {
		kind, p, err := inner.Read(ctx)
		if err != nil {
			return err
		}
		if x.price.Unit == bitcoin.UnitSecond {
			if err := x.open.pass(ctx); err != nil {
				return err
			}
		} else if units := x.more(len(p)); units > 0 {
			if err := x.charge(ctx, units); err != nil {
				return err
			}
		}
		if kind == websocket.MessageText {
			if err := x.say(socketMessage, string(p)); err != nil {
				return err
			}
		} else if err := x.write(kind, p); err != nil {
			return err
		}
	}
}

// keepTime charges the seconds, where they are, and looks whether the client is there.
func (x *meteredSocket) keepTime(ctx context.Context, _ *websocket.Conn) error {
	every := socketPings
	if x.price.Unit == bitcoin.UnitSecond {
		every = time.Second
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	last := time.Now()
	for {
		if x.price.Unit == bitcoin.UnitSecond {
			x.open.set(false)
			if err := x.charge(ctx, 1); err != nil {
				return err
			}
			x.open.set(true)
			tick.Reset(every) // what it pauses for a payment is not charged
		}
		if time.Since(last) >= socketPings {
			last = time.Now()
			within, cancel := context.WithTimeout(x.ctx, x.w.cfg.Stall)
			err := x.ws.Ping(within)
			if cancel(); err != nil {
				return errClientGone
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// errClientGone: the client's end is over.
var errClientGone = errors.New("the client is gone")

// parcels are the client's messages that the service has not read yet: payments overtake
// them, since the service may be waiting for one.
type parcels struct {
	mu     sync.Mutex
	change *sync.Cond
	list   []parcel
	bytes  int
	closed bool
}

type parcel struct {
	kind  websocket.MessageType
	bytes []byte
}

// maxParcels bounds how many wait; their bytes are bounded by maxSocketMessage, or one.
const maxParcels = 256

func newParcels() *parcels {
	q := &parcels{}
	q.change = sync.NewCond(&q.mu)
	return q
}

// put adds a message. Where too much waits it waits too; false: it is over.
func (q *parcels) put(p parcel) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.list) > 0 && (len(q.list) >= maxParcels || q.bytes+len(p.bytes) > maxSocketMessage) && !q.closed {
		q.change.Wait()
	}
	if q.closed {
		return false
	}
	q.list, q.bytes = append(q.list, p), q.bytes+len(p.bytes)
	q.change.Broadcast()
	return true
}

// take takes the oldest message; false: it is over.
func (q *parcels) take() (p parcel, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.list) == 0 && !q.closed {
		q.change.Wait()
	}
	if q.closed {
		return p, false
	}
	p = q.list[0]
	q.list, q.bytes = q.list[1:], q.bytes-len(p.bytes)
	q.change.Broadcast()
	return p, true
}

func (q *parcels) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed, q.list = true, nil
	q.change.Broadcast()
}

// toService hands the client's messages to the service.
func (x *meteredSocket) toService(ctx context.Context, inner *websocket.Conn, held *parcels) error {
	for {
		p, ok := held.take()
		if !ok {
			return nil
		}
		if x.price.Unit == bitcoin.UnitSecond {
			if err := x.open.pass(ctx); err != nil {
				return err
			}
		}
		if err := inner.Write(ctx, p.kind, p.bytes); err != nil {
			return err
		}
	}
}

// fromClient reads the client's messages and takes its payments, until its end is over.
// over ends with the service; payments are taken still.
func (x *meteredSocket) fromClient(ctx, over context.Context, held *parcels, end context.CancelCauseFunc) error {
	for {
		kind, p, err := x.ws.Read(ctx)
		if err != nil {
			end(errClientGone)
			return err
		}
		f, own := socketFrame{}, false
		if kind == websocket.MessageText {
			f, own = readSocketFrame(p)
		}
		switch {
		case own && f.Name == socketAuthorization:
			if err := x.paid(ctx, f); err != nil {
				end(err)
				return err
			}
			continue
		case own && f.Name == socketCloseRequest:
			end(errCloseRequested)
			continue
		case own && f.Name == socketMessage:
			text, ok := f.text()
			if !ok {
				end(errRequest)
				return errRequest
			}
			p = []byte(text)
		case own:
			continue // the server's
		}
		if over.Err() == nil {
			held.put(parcel{kind, p})
		}
	}
}

// paid takes a payment that came as a message, and answers it. A refusal ends nothing;
// many do.
func (x *meteredSocket) paid(ctx context.Context, f socketFrame) error {
	if err := x.limit.Wait(ctx); err != nil {
		return err
	}
	a := &answerRecorder{header: http.Header{}}
	x.w.cfg.Server.AdmitAlone(a, x.made(f, http.MethodPost), nil)
	out, err := a.frame()
	if err != nil {
		return err
	}
	if out.Name == socketError {
		if x.refusal++; x.refusal > 16 {
			return errRequest
		}
	}
	return x.send(out)
}
