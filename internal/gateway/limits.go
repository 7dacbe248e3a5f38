package gateway

import (
	"context"
	"errors"
	"log"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/spillway/spillway/content"
)

const (
	// maxBody bounds a request's body, in bytes: nothing here takes one.
	maxBody = 1 << 10
	// maxHeader bounds a request's header, in bytes: the largest credential and
	// what goes with it.
	maxHeader = 128 << 10
	// maxRemembered bounds the maps of clients and of what was sent.
	maxRemembered = 1 << 16
)

// HTTPServer wraps a handler in a server with limits: slow headers, endless
// bodies, silent connections and many streams on one connection end. Its answers
// may take as long as the handler lets them: a Gateway ends those that stall.
func HTTPServer(h http.Handler, errorLog *log.Logger) *http.Server {
	return &http.Server{
		Handler: h, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute,
		WriteTimeout: time.Minute, MaxHeaderBytes: maxHeader, ErrorLog: errorLog,
		HTTP2: &http.HTTP2Config{MaxConcurrentStreams: 64, SendPingTimeout: time.Minute, WriteByteTimeout: time.Minute},
	}
}

// LimitListener takes at most n connections at once; more wait in the system's
// queue. A server with it holds a bounded number of them.
func LimitListener(l net.Listener, n int) net.Listener {
	return &limitListener{Listener: l, slots: make(chan struct{}, max(n, 1)), closed: make(chan struct{})}
}

type limitListener struct {
	net.Listener
	slots  chan struct{}
	closed chan struct{}
	once   sync.Once
}

// Accept implements net.Listener.
func (l *limitListener) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
		return nil, err
	}
	return &limitConn{Conn: c, free: func() { <-l.slots }}, nil
}

// Close implements net.Listener.
func (l *limitListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

type limitConn struct {
	net.Conn
	once sync.Once
	free func()
}

// Close implements net.Conn.
func (c *limitConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(c.free)
	return err
}

// buckets limit the requests that nobody paid for, by client address: a burst of
// two seconds, then so many a second.
type buckets struct {
	rate float64
	now  func() time.Time
	mu   sync.Mutex
	by   map[string]*bucket
}

type bucket struct {
	all   *buckets
	level float64 // requests that may still be made
	at    time.Time
}

// of is the bucket of a request's client.
func (b *buckets) of(r *http.Request) *bucket {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	host = network(host)
	c := b.by[host]
	if c == nil {
		if len(b.by) >= maxRemembered {
			b.by = nil // everybody begins anew: a burst more, and memory stays bounded
		}
		if b.by == nil {
			b.by = map[string]*bucket{}
		}
		c = &bucket{all: b, level: b.most(), at: b.now()}
		b.by[host] = c
	}
	return c
}

// network is the address that a limit is kept for: of IPv6 the /64 that one client
// has to itself.
func network(host string) string {
	a, err := netip.ParseAddr(host)
	if err != nil {
		return host
	}
	if a = a.Unmap().WithZone(""); a.Is4() {
		return a.String()
	}
	return netip.PrefixFrom(a, 64).Masked().String()
}

// most is a full bucket.
func (b *buckets) most() float64 { return max(2*b.rate, 1) }

func (c *bucket) take() bool {
	c.all.mu.Lock()
	defer c.all.mu.Unlock()
	now := c.all.now()
	if d := now.Sub(c.at); d > 0 {
		c.level = min(c.level+d.Seconds()*c.all.rate, c.all.most())
	}
	c.at = now
	if c.level < 1 {
		return false
	}
	c.level--
	return true
}

// giveBack returns what a request took that was paid for.
func (c *bucket) giveBack() {
	c.all.mu.Lock()
	defer c.all.mu.Unlock()
	c.level = min(c.level+1, c.all.most())
}

// errGaveWay ends a delivery that waited for a payment while another one had
// nothing to wait for.
var errGaveWay = errors.New("the delivery waited too long while others had to be served")

// streams are the deliveries that run. The zero value is not usable: set the limits.
type streams struct {
	most, perChannel int
	now              func() time.Time
	mu               sync.Mutex
	all              map[*stream]struct{}
	turn             uint64
}

type stream struct {
	in      *streams
	channel string
	paused  uint64 // when its wait began, in turns; 0: it does not wait
	cancel  context.CancelCauseFunc
	since   time.Time // when it began, or went on after a wait
	taken   uint64    // bytes since then
}

// enter begins a delivery; nil where too many run. One of the same channel, or
// where all are too many of any channel, that waits for a payment is ended for it,
// else the slowest of those that take next to nothing.
func (s *streams) enter(channel string, cancel context.CancelCauseFunc) *stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	own := 0
	for st := range s.all {
		if st.channel == channel {
			own++
		}
	}
	if own >= s.perChannel && !s.evict(func(st *stream) bool { return st.channel == channel }) {
		return nil
	}
	if len(s.all) >= s.most && !s.evict(func(*stream) bool { return true }) {
		return nil
	}
	if s.all == nil {
		s.all = map[*stream]struct{}{}
	}
	st := &stream{in: s, channel: channel, cancel: cancel, since: s.now()}
	s.all[st] = struct{}{}
	return st
}

// evict ends the one that has waited longest of those that fit.
func (s *streams) evict(fits func(*stream) bool) bool {
	var longest *stream
	for st := range s.all {
		if st.paused > 0 && fits(st) && (longest == nil || st.paused < longest.paused) {
			longest = st
		}
	}
	if longest == nil {
		longest = s.slowest(fits)
	}
	if longest == nil {
		return false
	}
	delete(s.all, longest)
	longest.cancel(errGaveWay)
	return true
}

// A client that takes less than leastRate bytes per second over patience gives way
// where there is no room: 4 KiB a second is a chunk of 1 MiB in four minutes.
const (
	leastRate = 4 << 10
	patience  = 30 * time.Second
)

// slowest is the delivery that takes the least of those that fit, nil where all take
// enough.
func (s *streams) slowest(fits func(*stream) bool) (found *stream) {
	now, least := s.now(), float64(leastRate)
	for st := range s.all {
		ran := now.Sub(st.since)
		if st.paused > 0 || ran < patience || !fits(st) {
			continue
		}
		if rate := float64(st.taken) / ran.Seconds(); rate < least {
			found, least = st, rate
		}
	}
	return found
}

// took counts bytes that the client took.
func (st *stream) took(bytes uint64) {
	st.in.mu.Lock()
	defer st.in.mu.Unlock()
	st.taken += bytes
}

// pause says that the delivery waits for a payment, or goes on.
func (st *stream) pause(waits bool) {
	st.in.mu.Lock()
	defer st.in.mu.Unlock()
	st.paused, st.since, st.taken = 0, st.in.now(), 0
	if waits {
		st.in.turn++
		st.paused = st.in.turn
	}
}

func (st *stream) leave() {
	st.in.mu.Lock()
	defer st.in.mu.Unlock()
	delete(st.in.all, st)
}

// sent counts what was sent of each chunk to each channel. It is forgotten with a
// restart, and where there is too much of it: then a chunk is sent fast once more.
type sent struct {
	rate int // bytes per second of one channel, for what was sent three times
	mu   sync.Mutex
	by   map[sentKey]uint64 // bytes
	slow map[string]*rate.Limiter
}

type sentKey struct {
	channel string
	root    content.Hash
	chunk   uint64
}

// add counts bytes that were sent.
func (s *sent) add(k sentKey, bytes uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.by == nil {
		s.by = map[sentKey]uint64{}
	}
	for old := range s.by {
		if len(s.by) < maxRemembered {
			break
		}
		delete(s.by, old)
	}
	s.by[k] += bytes
}

// of is how many bytes were sent.
func (s *sent) of(k sentKey) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.by[k]
}

// limit is the slow rate of a channel, which all its deliveries share, those at once
// and those that follow.
func (s *sent) limit(channel string) *rate.Limiter {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.slow[channel]
	if l != nil {
		return l
	}
	if len(s.slow) >= maxRemembered {
		s.slow = nil // as in buckets
	}
	if s.slow == nil {
		s.slow = map[string]*rate.Limiter{}
	}
	l = rate.NewLimiter(rate.Limit(s.rate), max(s.rate/4, 1))
	s.slow[channel] = l
	return l
}
