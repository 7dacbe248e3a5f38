package paywall

import (
	"container/list"
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	// maxRequestHeader bounds a request's header, in bytes: the largest credential and
	// what goes with it.
	maxRequestHeader = 128 << 10
	// defaultConnections is how many connections are held at once, and perClient how many
	// of one client's address.
	defaultConnections = 4096
	defaultPerClient   = 512
)

// HTTPServer is a server with the limits that one needs which anybody can reach: slow
// headers end after ten seconds, connections on which nothing is asked after two minutes,
// or sooner where others need the room; a header has at most 128 KiB, an HTTP/2
// connection 64 streams. What the middleware sends and reads it bounds itself, so that
// streams may take as long as they are paid: there is no ReadTimeout and no WriteTimeout.
// A handler that is not behind the middleware has to set its own deadlines. Serve it on
// what Connections.Listen returns.
func HTTPServer(h http.Handler) (*http.Server, *Connections) {
	c := &Connections{}
	return &http.Server{
		Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: maxRequestHeader, ConnState: c.State,
		HTTP2: &http.HTTP2Config{MaxConcurrentStreams: 64, SendPingTimeout: time.Minute, WriteByteTimeout: time.Minute},
	}, c
}

// Connections bound how many connections a server holds: where there is no room for one
// more, the one that has been without a request for longest gives way. So those that
// only hold connections keep nobody out. The zero value has the default limits.
type Connections struct {
	Most      int // at once; default 4,096
	PerClient int // of one IPv4 address or IPv6 /64; default 512

	mu   sync.Mutex
	all  map[net.Conn]*held
	by   map[string]int // of a client
	idle list.List      // of *held without a request, the longest first
}

// held is a connection.
type held struct {
	conn   net.Conn
	client string
	idle   *list.Element // nil: a request is under way
}

// Listen takes connections within the limits.
func (c *Connections) Listen(l net.Listener) net.Listener { return &guarded{l, c} }

type guarded struct {
	net.Listener
	all *Connections
}

// Accept implements net.Listener.
func (g *guarded) Accept() (net.Conn, error) {
	for {
		conn, err := g.Listener.Accept()
		if err != nil {
			return nil, err
		}
		one := &counted{Conn: conn, all: g.all}
		if g.all.enter(one) {
			return one, nil
		}
		_ = conn.Close() // there is no room, and nobody to tell
	}
}

// counted is a connection that leaves when it is closed.
type counted struct {
	net.Conn
	all  *Connections
	once sync.Once
}

// Close implements net.Conn.
func (c *counted) Close() error {
	c.once.Do(func() { c.all.leave(c) })
	return c.Conn.Close()
}

func (c *Connections) limits() (most, each int) {
	if most = c.Most; most <= 0 {
		most = defaultConnections
	}
	if each = c.PerClient; each <= 0 {
		each = defaultPerClient
	}
	return most, each
}

// enter takes a connection, and ends another one where it needs the room.
func (c *Connections) enter(conn net.Conn) bool {
	h := &held{conn: conn, client: clientAt(conn.RemoteAddr().String())}
	most, each := c.limits()
	c.mu.Lock()
	var gone *held
	switch {
	case c.by[h.client] >= each:
		gone = c.oldest(h.client)
	case len(c.all) >= most:
		gone = c.oldest("")
	}
	full := gone == nil && (c.by[h.client] >= each || len(c.all) >= most)
	if !full {
		if c.all == nil {
			c.all, c.by = map[net.Conn]*held{}, map[string]int{}
		}
		c.all[conn] = h
		c.by[h.client]++
		h.idle = c.idle.PushBack(h)
	}
	if gone != nil {
		c.forget(gone)
	}
	c.mu.Unlock()
	if gone != nil {
		_ = gone.conn.Close() // its server sees that
	}
	return !full
}

// oldest is the connection that has been without a request for longest, of a client or
// of all; c.mu is held.
func (c *Connections) oldest(client string) *held {
	for e := c.idle.Front(); e != nil; e = e.Next() {
		if h := e.Value.(*held); client == "" || h.client == client {
			return h
		}
	}
	return nil
}

// forget drops what is known of a connection; c.mu is held.
func (c *Connections) forget(h *held) {
	if c.all[h.conn] != h {
		return
	}
	delete(c.all, h.conn)
	if c.by[h.client]--; c.by[h.client] == 0 {
		delete(c.by, h.client)
	}
	if h.idle != nil {
		c.idle.Remove(h.idle)
	}
}

func (c *Connections) leave(conn net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if h := c.all[conn]; h != nil {
		c.forget(h)
	}
}

// State is the ConnState of the server.
func (c *Connections) State(conn net.Conn, state http.ConnState) {
	if over, ok := conn.(interface{ NetConn() net.Conn }); ok { // TLS
		conn = over.NetConn()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.all[conn]
	switch {
	case h == nil:
	case state == http.StateIdle && h.idle == nil:
		h.idle = c.idle.PushBack(h)
	case state == http.StateActive && h.idle != nil:
		c.idle.Remove(h.idle)
		h.idle = nil
	}
}

// Held is how many connections there are.
func (c *Connections) Held() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.all)
}
