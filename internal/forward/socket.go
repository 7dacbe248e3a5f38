package forward

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/coder/websocket"

	"github.com/spillway/spillway/paywall"
)

// maxMessage is the longest message of a WebSocket that is paid here, in bytes.
const maxMessage = 1 << 20

// asksForSocket reports whether a request is one for a WebSocket. RFC 6455, section 4.1.
func asksForSocket(r *http.Request) bool {
	return r.Method == http.MethodGet && r.ProtoMajor == 1 && strings.EqualFold(strings.TrimSpace(r.Header.Get("Upgrade")), "websocket")
}

// socket answers a request for a WebSocket that is sold: its messages are paid as they
// come, within the budget, and the client sees the service's alone. false: it is not sold,
// and nothing was written.
func (p *Proxy) socket(w http.ResponseWriter, r *http.Request, q *wanted) bool {
	target := q.url.String()
	_, err := p.cfg.Client.Quote(r.Context(), target, paywall.Expect{Check: notFile})
	switch {
	case errors.Is(err, paywall.ErrNotProvider), errors.Is(err, paywall.ErrRefused), errors.Is(err, paywall.ErrRedirected), errors.Is(err, errFile):
		return false
	case err != nil:
		p.refuse(w, r, err)
		return true
	}
	g := p.gate(q.origin)
	if err := g.enter(r.Context(), false); err != nil {
		p.refuse(w, r, err)
		return true
	}
	defer g.leave(false)
	asked := &asking{origin: q.origin}
	defer asked.ends()
	s, err := p.dial(context.WithValue(r.Context(), askingKey{}, asked), r, target)
	if err != nil {
		p.refuse(w, r, err)
		return true
	}
	defer func() {
		if err := s.Close(); err != nil {
			p.cfg.Log.Info("what came on a WebSocket is not paid to the end", "url", q.url.Redacted(), "error", err)
		}
	}()
	var protocols []string
	if chosen := s.Subprotocol(); chosen != "" {
		protocols = []string{chosen}
	}
	w.Header().Set("Via", "1.1 "+p.name)
	// who may connect from where the service has said, of the request that it saw
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: protocols, InsecureSkipVerify: true})
	if err != nil {
		p.cfg.Log.Debug("a WebSocket was not taken over", "url", q.url.Redacted(), "error", err)
		return true
	}
	ws.SetReadLimit(maxMessage)
	p.carry(ws, s)
	return true
}

// dial opens the service's end, once more where the wallet had to be filled.
func (p *Proxy) dial(ctx context.Context, r *http.Request, target string) (*paywall.Socket, error) {
	header := http.Header{"Via": {"1.1 " + p.name}}
	for name, values := range r.Header {
		switch name {
		case "Connection", "Upgrade", "Proxy-Authorization", "Proxy-Connection", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Via", "Idempotency-Key":
		default:
			if !strings.HasPrefix(name, "Sec-Websocket-") {
				header[name] = values
			}
		}
	}
	var protocols []string
	for _, field := range r.Header.Values("Sec-WebSocket-Protocol") {
		for one := range strings.SplitSeq(field, ",") {
			protocols = append(protocols, strings.TrimSpace(one))
		}
	}
	s, err := p.pays.Socket(ctx, target, header, protocols...)
	if lacksCoins(err) && p.cfg.Fund != nil && p.cfg.Fund(ctx) {
		s, err = p.pays.Socket(ctx, target, header, protocols...)
	}
	return s, err
}

// carry carries messages both ways until one end is over, and tells the client why.
func (p *Proxy) carry(ws *websocket.Conn, s *paywall.Socket) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	defer p.hold(&tunnelled{conns: [2]io.Closer{closes(ws.CloseNow), nil}})()
	var both sync.WaitGroup
	both.Go(func() {
		defer cancel()
		for {
			kind, b, err := ws.Read(ctx)
			if err != nil || s.Write(ctx, kind, b) != nil {
				return
			}
		}
	})
	why := p.fromService(ctx, ws, s)
	if ctx.Err() == nil {
		code, reason := ended(why)
		_ = ws.Close(code, reason) // it is over either way
	}
	cancel()
	both.Wait()
}

// fromService hands the service's messages to the client until there are no more.
func (p *Proxy) fromService(ctx context.Context, ws *websocket.Conn, s *paywall.Socket) error {
	for {
		kind, b, err := s.Read(ctx)
		if err == nil {
			err = ws.Write(ctx, kind, b)
		}
		if err != nil {
			return err
		}
	}
}

// ended is how a client is told that its WebSocket is over.
func ended(why error) (websocket.StatusCode, string) {
	var closed websocket.CloseError
	switch {
	case errors.Is(why, io.EOF):
		return websocket.StatusNormalClosure, ""
	case errors.As(why, &closed):
		return closed.Code, closed.Reason
	}
	var payment *paywall.PaymentError
	if errors.As(why, &payment) {
		why = payment.Err // the client knows where it is
	}
	var refused *paywall.RefusedError
	if errors.As(why, &refused) { // as where the channel has no more to give
		return websocket.StatusPolicyViolation, reason(clip(why.Error()))
	}
	status, text := meaning(why)
	if status == http.StatusPaymentRequired {
		return websocket.StatusPolicyViolation, reason(text)
	}
	return websocket.StatusInternalError, reason(text)
}

// reason fits a text into a close frame. RFC 6455, section 5.5.
func reason(text string) string { return strings.ToValidUTF8(text[:min(len(text), 120)], "") }

// closes is a function that closes something.
type closes func() error

// Close implements io.Closer.
func (c closes) Close() error { return c() }

// unmetered turns the upgrade to a WebSocket that waits for payments, which nobody would
// make, into an explanation.
func unmetered(resp *http.Response, why string) *http.Response {
	if err := resp.Body.Close(); err != nil {
		why += " The connection did not end: " + clip(err.Error()) + "."
	}
	resp.Body = http.NoBody
	resp.StatusCode, resp.Status = http.StatusPaymentRequired, "402 Payment Required"
	for _, name := range []string{"Connection", "Upgrade", "Sec-Websocket-Accept", "Sec-Websocket-Protocol", "Sec-Websocket-Extensions"} {
		resp.Header.Del(name)
	}
	return decorate(resp, why)
}
