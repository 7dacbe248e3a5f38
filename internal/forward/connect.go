package forward

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// tunnelIdle is how long a tunnel may be silent.
const tunnelIdle = 10 * time.Minute

// tunnelled is a connection that goes through as it is.
type tunnelled struct {
	conns [2]io.Closer
	once  sync.Once
}

func (t *tunnelled) end() {
	t.once.Do(func() {
		for _, c := range t.conns {
			if c != nil {
				_ = c.Close() // it ends either way
			}
		}
	})
}

// connect answers a CONNECT. What goes through a tunnel is between its ends and is not
// paid here. With a CA, hosts on the allow-list are answered in their name.
func (p *Proxy) connect(w http.ResponseWriter, r *http.Request) {
	host, port, err := net.SplitHostPort(r.Host)
	if err != nil || host == "" || r.Host == p.cfg.Listen {
		explain(w, r, http.StatusBadRequest, "CONNECT names a host and a port.")
		return
	}
	origin := "https://" + strings.ToLower(net.JoinHostPort(host, port))
	if p.cfg.CA != nil && p.cfg.Budgets.Allowed(origin) {
		p.intercept(w, r, host, origin)
		return
	}
	d := net.Dialer{Timeout: 20 * time.Second}
	there, err := d.DialContext(r.Context(), "tcp", r.Host)
	if err != nil {
		explain(w, r, http.StatusBadGateway, "The host cannot be reached: "+clip(err.Error())+".")
		return
	}
	here, err := accept(w)
	if err != nil {
		_ = there.Close() // nothing went through it
		return
	}
	defer p.hold(&tunnelled{conns: [2]io.Closer{here, there}})()
	var both sync.WaitGroup
	both.Go(func() { pipe(there, here) })
	both.Go(func() { pipe(here, there) })
	both.Wait()
}

// hold has Close end a tunnel too, until what it returns ends it.
func (p *Proxy) hold(t *tunnelled) (end func()) {
	p.mu.Lock()
	p.tunnel[t] = struct{}{}
	p.mu.Unlock()
	return func() {
		t.end()
		p.mu.Lock()
		delete(p.tunnel, t)
		p.mu.Unlock()
	}
}

// accept says that the tunnel is there and takes the client's connection over.
func accept(w http.ResponseWriter) (net.Conn, error) {
	c, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, "CONNECT needs HTTP/1.1", http.StatusHTTPVersionNotSupported)
		return nil, err
	}
	if buffered.Reader.Buffered() > 0 { // nothing may come before the answer
		return nil, errors.Join(errors.New("bytes before the tunnel"), c.Close())
	}
	if _, err := io.WriteString(c, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// pipe copies until one end is silent for too long, or ends.
func pipe(to, from net.Conn) {
	buf := make([]byte, 32<<10)
	for {
		if err := from.SetReadDeadline(time.Now().Add(tunnelIdle)); err != nil {
			break
		}
		n, err := from.Read(buf)
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				break
			}
		}
		if err != nil {
			break
		}
	}
	if half, ok := to.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite() // the other direction may go on
		return
	}
	_ = to.Close() // it ends either way
}

// intercept answers for an https host, with a certificate of the user's own CA.
func (p *Proxy) intercept(w http.ResponseWriter, r *http.Request, host, origin string) {
	c, err := accept(w)
	if err != nil {
		return
	}
	secure := tls.Server(c, &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return p.cfg.CA.leaf(host) },
	})
	defer p.hold(&tunnelled{conns: [2]io.Closer{secure}})()
	l := &oneConn{conn: secure, done: make(chan struct{})}
	s := &http.Server{
		ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 128 << 10,
		ConnContext: func(ctx context.Context, _ net.Conn) context.Context { return context.WithoutCancel(r.Context()) },
		ConnState: func(_ net.Conn, s http.ConnState) {
			if s == http.StateClosed || s == http.StateHijacked {
				l.end()
			}
		},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, in *http.Request) {
			u := *in.URL
			u.Scheme, u.Host = "https", strings.TrimPrefix(hostOf(origin), "https://")
			if in.URL.IsAbs() || u.Path == "" || u.Path[0] != '/' {
				explain(w, in, http.StatusBadRequest, "Inside a tunnel a path is asked for.")
				return
			}
			p.serve(w, in, &wanted{url: &u, origin: origin})
		}),
	}
	if err := s.Serve(l); err != nil && !errors.Is(err, net.ErrClosed) {
		p.cfg.Log.Debug("an intercepted connection ended", "host", host, "error", err)
	}
}

// oneConn is a listener of one connection.
type oneConn struct {
	mu   sync.Mutex
	conn net.Conn
	done chan struct{}
	once sync.Once
}

func (l *oneConn) end() { l.once.Do(func() { close(l.done) }) }

// Accept implements net.Listener.
func (l *oneConn) Accept() (net.Conn, error) {
	l.mu.Lock()
	c := l.conn
	l.conn = nil
	l.mu.Unlock()
	if c != nil {
		return c, nil
	}
	<-l.done
	return nil, net.ErrClosed
}

// Close implements net.Listener.
func (l *oneConn) Close() error {
	l.end()
	return nil
}

// Addr implements net.Listener.
func (l *oneConn) Addr() net.Addr { return &net.TCPAddr{} }
