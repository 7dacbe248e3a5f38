package paywall

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime/debug"
	"sync"

	"github.com/coder/websocket"
)

// innerSocket is a handler's end of a metered WebSocket: the handler upgrades a
// connection in memory, with whatever library it uses, and what goes over that is
// metered on its way to the client.
type innerSocket struct {
	w    *wall
	next http.Handler
	r    *http.Request
	done chan struct{} // closed when the handler has returned; nil: it did not run
	body []byte        // of the answer of one that did not upgrade
}

// dial runs the handler and returns the connection that it upgraded. resp is its answer
// where it did not.
func (in *innerSocket) dial(ctx context.Context, protocols []string) (ws *websocket.Conn, resp *http.Response, err error) {
	ws, resp, err = websocket.Dial(ctx, "http://handler/", &websocket.DialOptions{
		HTTPClient: &http.Client{Transport: in, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
		HTTPHeader: http.Header{}, Subprotocols: protocols,
	})
	if err == nil {
		ws.SetReadLimit(maxSocketMessage)
		return ws, nil, nil
	}
	if resp != nil && resp.StatusCode != http.StatusSwitchingProtocols {
		resp.Body = io.NopCloser(newBody(in.body)) // the library keeps its beginning only
		return nil, resp, nil
	}
	return nil, nil, fmt.Errorf("the handler's WebSocket: %w", err)
}

// RoundTrip implements http.RoundTripper: it has the handler answer over a connection in
// memory.
func (in *innerSocket) RoundTrip(made *http.Request) (*http.Response, error) {
	r := in.r.Clone(in.r.Context())
	for _, name := range []string{"Connection", "Upgrade", "Sec-WebSocket-Version", "Sec-WebSocket-Key"} {
		r.Header[http.CanonicalHeaderKey(name)] = made.Header.Values(name)
	}
	for _, name := range []string{"Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions"} {
		r.Header.Del(name)
		if v := made.Header.Get(name); v != "" {
			r.Header.Set(name, v)
		}
	}
	ours, theirs := net.Pipe()
	h := &innerAnswer{conn: theirs, header: http.Header{}}
	in.done = make(chan struct{})
	go func() {
		defer close(in.done)
		defer func() {
			if why := recover(); why != nil && why != http.ErrAbortHandler {
				in.w.cfg.Server.cfg.Log.Error("a handler panicked", "path", r.URL.Path, "panic", fmt.Sprint(why), "stack", string(debug.Stack()))
				h.broke()
			}
			h.finish()
		}()
		in.next.ServeHTTP(h, r)
	}()
	stop := context.AfterFunc(made.Context(), func() { _ = ours.Close() })
	defer stop()
	from := bufio.NewReader(ours)
	resp, err := http.ReadResponse(from, made)
	if err != nil {
		return nil, errors.Join(err, ours.Close())
	}
	if resp.StatusCode == http.StatusSwitchingProtocols {
		resp.Body = &innerConn{from, ours}
		return resp, nil
	}
	in.body, err = io.ReadAll(io.LimitReader(resp.Body, maxSocketMessage))
	resp.Body = io.NopCloser(newBody(in.body))
	return resp, errors.Join(err, ours.Close())
}

type innerConn struct {
	io.Reader
	net.Conn
}

// Read implements io.Reader: what was read with the head comes first.
func (c *innerConn) Read(p []byte) (int, error) { return c.Reader.Read(p) }

// innerAnswer is the ResponseWriter of such a handler.
type innerAnswer struct {
	conn   net.Conn
	mu     sync.Mutex
	header http.Header
	status int
	body   []byte
	long   bool // it wrote more than is kept
	taken  bool // the connection is the handler's
}

// Header implements http.ResponseWriter.
func (h *innerAnswer) Header() http.Header { return h.header }

// WriteHeader implements http.ResponseWriter.
func (h *innerAnswer) WriteHeader(status int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.status == 0 && (status >= 200 || status == http.StatusSwitchingProtocols) {
		h.status = status
	}
}

// Write implements http.ResponseWriter.
func (h *innerAnswer) Write(p []byte) (int, error) {
	h.WriteHeader(http.StatusOK)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.taken {
		return 0, http.ErrHijacked
	}
	if len(h.body)+len(p) > maxSocketMessage {
		h.long = true
		return 0, http.ErrContentLength
	}
	h.body = append(h.body, p...)
	return len(p), nil
}

// Flush implements http.Flusher.
func (h *innerAnswer) Flush() {}

// Hijack implements http.Hijacker. Where the handler has written its head, that goes out.
func (h *innerAnswer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.taken {
		return nil, nil, http.ErrHijacked
	}
	h.taken = true
	if h.status == http.StatusSwitchingProtocols {
		head := &http.Response{StatusCode: h.status, ProtoMajor: 1, ProtoMinor: 1, Header: h.header}
		if err := head.Write(h.conn); err != nil {
			return nil, nil, err
		}
	}
	return h.conn, bufio.NewReadWriter(bufio.NewReader(h.conn), bufio.NewWriter(h.conn)), nil
}

func (h *innerAnswer) broke() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.status, h.body = http.StatusInternalServerError, nil
}

// finish sends the answer of a handler that took no connection.
func (h *innerAnswer) finish() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.taken {
		return
	}
	h.taken = true
	if h.long { // a part of an answer is none
		h.header, h.status, h.body = http.Header{}, http.StatusNotImplemented, []byte("this is no WebSocket: ask for it without Upgrade\n")
	}
	if h.status == 0 || h.status == http.StatusSwitchingProtocols {
		h.status = http.StatusOK
	}
	resp := &http.Response{
		StatusCode: h.status, ProtoMajor: 1, ProtoMinor: 1, Header: h.header,
		Body: io.NopCloser(newBody(h.body)), ContentLength: int64(len(h.body)),
	}
	_ = resp.Write(h.conn) // who asked may be gone
	_ = h.conn.Close()
}
