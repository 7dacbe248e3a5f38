package paywall

import (
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/spillway/spillway/mpp/bitcoin"
)

// stream is what a meter has where the answer is a stream of server-sent events that is
// charged by more than the request: it goes out event by event, so that the payment's
// own events can go between them. docs/protocol.md, section 13.
type stream struct {
	m       *meter
	events  events
	at      uint64              // where the end of the buffer is: in events, or in bytes
	charged uint64              // units, when it was asked for before
	before  map[[16]byte]uint64 // events that were charged when it was asked for before
	seen    map[[16]byte]bool   // those that came this time
	fresh   []mark              // in the buffer
	held    bool                // the buffer ends within an event
	within  bool                // and so does what was handed over
}

// flows decides how the answer that begins is charged while it flows.
func (m *meter) flows() {
	if m.price.Unit == bitcoin.UnitSecond {
		m.clock = &clock{now: m.wall.cfg.Server.cfg.Now, had: m.grant.had}
	}
	if m.price.Unit == bitcoin.UnitRequest || !streamsEvents(m.decided) {
		return
	}
	m.decided.Del("Content-Length") // of what the handler sends, not of what goes between
	m.stream = &stream{m: m, charged: m.grant.had, before: m.wall.pasts.of(m.name), seen: map[[16]byte]bool{}}
	m.stream.at = m.price.begin(m.r, m.stream.before, m.grant.Receipt)
}

// write takes what the handler writes.
func (s *stream) write(p []byte) error {
	for len(p) > 0 { // so that no more than an event is held back
		n := min(len(p), maxBlock)
		if err := s.events.feed(p[:n], s.take); err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}

// take puts an event, or a piece of a long one, into the buffer. What is in it already
// goes out before, where all of it would cost too much at once.
func (s *stream) take(p piece) error {
	m := s.m
	if p.payment() { // a handler that sells on what it buys has those of its own provider
		m.written -= uint64(len(p.raw))
		return nil
	}
	next := s.at + s.size(p)
	if p.last && p.hasID {
		next = s.known(p, next)
	}
	if len(m.buf) > 0 && !s.held && (len(m.buf)+len(p.raw) > maxBlock || s.dear(next)) {
		if err := m.hand(false); err != nil {
			return err
		}
	}
	m.buf = append(m.buf, p.raw...)
	s.at, s.held = next, !p.last
	if p.last && p.hasID {
		s.fresh = append(s.fresh, mark{idHash(p.id), next})
	}
	if len(m.buf) < maxBlock && !s.held {
		return nil
	}
	return m.hand(false)
}

// size is how much of the line a piece takes.
func (s *stream) size(p piece) uint64 {
	switch s.m.price.Unit {
	case bitcoin.UnitByte, bitcoin.UnitChunk:
		return uint64(len(p.raw))
	}
	if p.event {
		return 1
	}
	return 0
}

// units is how much of the line there is up to a position.
func (s *stream) units(at uint64) uint64 {
	if s.m.price.Unit == bitcoin.UnitEvent {
		return at
	}
	return s.m.price.units(at)
}

// known is where an event is that was charged when the stream was asked for before: it
// is had again free.
func (s *stream) known(p piece, next uint64) uint64 {
	id := idHash(p.id)
	at, ok := s.before[id]
	if again := s.seen[id]; !ok || again {
		return next
	}
	s.seen[id] = true
	return min(at, s.m.price.measure(s.charged))
}

// dear reports whether what is in the buffer, and what would come to it, costs more
// than a quarter of the credit.
func (s *stream) dear(next uint64) bool {
	return s.more(next) > s.m.price.credit()/4
}

// more is what it costs to go on to a position, in msat.
func (s *stream) more(next uint64) uint64 {
	p := s.m.price
	before, after := p.cost(max(s.m.units, s.charged)), p.cost(s.units(next))
	return after - min(after, before)
}

// split hands over the beginning of a long event in blocks, where it costs more than
// there can be credit for.
func (s *stream) split() error {
	m := s.m
	if m.price.Unit != bitcoin.UnitByte && m.price.Unit != bitcoin.UnitChunk {
		return nil
	}
	block := m.price.block()
	if m.price.Unit == bitcoin.UnitChunk {
		block = min(m.price.ChunkBytes, maxBlock)
	}
	for uint64(len(m.buf)) > block && s.more(s.at) > m.price.credit() {
		left := uint64(len(m.buf)) - block
		if err := m.chargeTo(s.units(s.at - min(s.at, left))); err != nil {
			return err
		}
		if err := m.give(m.buf[:block], false); err != nil {
			return err
		}
		m.buf = append(m.buf[:0], m.buf[block:]...)
		s.within = true
	}
	return nil
}

// end takes what the handler left of an event that it did not end: it is none.
func (s *stream) end() error {
	rest := s.events.rest()
	if len(rest) == 0 {
		return nil
	}
	s.m.buf = append(s.m.buf, rest...)
	if u := s.m.price.Unit; u == bitcoin.UnitByte || u == bitcoin.UnitChunk {
		s.at += uint64(len(rest))
	}
	s.held = true
	return nil
}

// handed is called once the buffer is with the connection.
func (s *stream) handed() {
	s.m.wall.pasts.add(s.m.name, s.fresh)
	s.fresh, s.within = s.fresh[:0], s.held
}

// say puts an event of the payment into the stream, between two others.
func (s *stream) say(name string, v json.Marshaler) error {
	text, err := textOf(name, v)
	if err == nil {
		err = s.m.put(text)
	}
	if err == nil {
		err = s.m.flush()
	}
	return err
}

// receipt ends a stream: what it came to, for those that do not read trailers.
func (s *stream) receipt() error {
	if s.within {
		return nil
	}
	return s.say(bitcoin.EventReceipt, s.m.flow.Receipt())
}

// need tells the client what a pause waits for, where it can be told.
func (m *meter) need(n bitcoin.NeedVoucher) {
	if m.clock != nil {
		m.clock.pause()
	}
	var err error
	if !m.sent && m.stream != nil { // one that is gone on with: a client that is told nothing pays nothing
		err = m.sendHeader(false)
	}
	if !m.sent {
		return
	}
	if err != nil {
		m.cancel(err)
		return
	}
	if m.stream != nil && !m.stream.within {
		err = m.stream.say(bitcoin.EventNeedVoucher, n)
	} else if err = m.flush(); errors.Is(err, http.ErrNotSupported) { // what is held back cannot be paid
		err = nil
	}
	if err != nil {
		m.cancel(err) // nobody is there to pay
	}
}

// clock counts the seconds of an answer, without its pauses.
type clock struct {
	now    func() time.Time
	had    uint64    // seconds that were charged before
	since  time.Time // when the answer began; zero: it did not
	paused time.Time // since when it waits; zero: it does not
}

// units are the seconds that have begun.
func (c *clock) units() uint64 {
	now := c.now()
	if c.since.IsZero() {
		c.since = now
	}
	return c.had + uint64(max(now.Sub(c.since), 0)/time.Second) + 1
}

func (c *clock) pause() {
	if c.paused.IsZero() {
		c.paused = c.now()
	}
}

func (c *clock) goOn() {
	if !c.paused.IsZero() {
		c.since = c.since.Add(c.now().Sub(c.paused))
		c.paused = time.Time{}
	}
}

// errSuperseded ends an answer that is made anew on another connection.
var errSuperseded = errors.New("the answer goes on on another connection")

// tick is how often a clock is looked at.
const tick = 250 * time.Millisecond

// pulse is what goes on beside a handler.
type pulse struct {
	stop chan struct{} // nil: nothing does
	done chan struct{}
}

// beat begins to charge an answer by the second, and to keep a stream that is silent
// alive; rest ends it.
func (m *meter) beat() {
	every := m.wall.cfg.KeepAlive / 2
	switch {
	case m.clock != nil:
		every = min(every, tick)
	case m.stream == nil:
		return
	}
	m.pulse = pulse{stop: make(chan struct{}), done: make(chan struct{})}
	m.wall.kept.unshared(m.name, m.supersede)
	go func() {
		defer close(m.pulse.done)
		t := time.NewTicker(every)
		defer t.Stop()
		for {
			select {
			case <-m.pulse.stop:
				return
			case <-m.ctx.Done():
				return
			case <-t.C:
				if !m.live() {
					return
				}
			}
		}
	}()
}

// rest waits until nothing goes on beside the handler.
func (m *meter) rest() {
	if m.pulse.stop != nil {
		close(m.pulse.stop)
		m.cancel(nil) // a handler that broke off waits for no payment
		<-m.pulse.done
	}
}

// live is one beat. false: the answer is over.
func (m *meter) live() bool {
	if !m.mu.TryLock() {
		return true // the handler writes, or waits for a payment
	}
	defer m.mu.Unlock()
	if m.err == nil && m.clock != nil {
		m.err = m.chargeTo(m.clock.units())
	}
	if m.err == nil && m.stream != nil && !m.stream.within && time.Since(m.said) >= m.wall.cfg.KeepAlive {
		if m.err = m.put([]byte(":\n\n")); m.err == nil {
			_ = m.flush() // sets m.err
		}
	}
	if m.err != nil {
		m.cancel(m.err)
	}
	return m.err == nil
}

// supersede ends an answer that is asked for anew: its client has lost the connection.
func (m *meter) supersede() {
	m.cancel(errSuperseded)
	// it may be waiting for a connection that is gone; not every writer can be told
	if err := http.NewResponseController(m.w).SetWriteDeadline(time.Now()); err != nil && !errors.Is(err, http.ErrNotSupported) {
		m.wall.cfg.Server.cfg.Log.Debug("a connection that is given up takes no deadline", "path", m.r.URL.Path, "error", err)
	}
}
