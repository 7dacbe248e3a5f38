package paywall

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spillway/spillway/mpp"
	"github.com/spillway/spillway/mpp/bitcoin"
)

// meter is the ResponseWriter of a handler that is charged for. What the handler
// writes is handed to the connection in blocks, each charged, durably, before it is
// handed over. It can be flushed, and it pauses while the credit is used up.
type meter struct {
	wall   *wall
	w      http.ResponseWriter
	r      *http.Request
	ctx    context.Context
	cancel context.CancelCauseFunc
	price  Price
	grant  *Grant
	flow   *Flow
	name   [32]byte // of the delivery

	mu      sync.Mutex  // of all that follows: a clock writes too
	header  http.Header // the handler's; what is sent is a copy from when it was decided
	decided http.Header // nil: not yet
	status  int
	sent    bool   // the header is with the connection
	charged bool   // something was
	handed  uint64 // bytes of the body that were charged and handed over
	written uint64 // bytes that the handler wrote
	most    uint64 // bytes that it said it would write; 0: it did not
	units   uint64 // of the line, as charged
	buf     []byte
	copy    []byte // what was handed over, as long as it may be kept
	lost    bool   // it became too long to be kept
	err     error  // that ends the answer
	whole   *answer
	own     bool      // the handler sets the deadlines of its writes
	stream  *stream   // nil: no stream of events
	clock   *clock    // nil: not charged by the second
	pulse   pulse     // of a stream or a clock
	said    time.Time // when something was handed over last
}

// Header implements http.ResponseWriter.
func (m *meter) Header() http.Header { return m.header }

// WriteHeader implements http.ResponseWriter. Informational headers go out at once,
// uncharged; the final one with the first byte, or when the handler ends.
func (m *meter) WriteHeader(status int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.decide(status)
}

func (m *meter) decide(status int) {
	if m.decided != nil || m.sent {
		return
	}
	if status >= 100 && status < 200 && status != http.StatusSwitchingProtocols {
		m.copyHeader(m.header)
		m.w.WriteHeader(status)
		return
	}
	if status < 200 { // a connection that is handed over could not be metered
		m.err = http.ErrNotSupported
		return
	}
	m.status, m.decided = status, m.header.Clone()
	if m.chargeable() {
		m.flows()
	}
	if n, err := strconv.ParseUint(m.decided.Get("Content-Length"), 10, 62); err == nil {
		m.most = n
	}
}

func (m *meter) copyHeader(from http.Header) {
	to := m.w.Header()
	clear(to)
	for name, values := range from {
		to[name] = values
	}
}

// Write implements http.ResponseWriter. Errors: the connection's, the context's, and
// what the payee's driver refuses, such as channel.ErrInsufficient where no payment
// came in time.
func (m *meter) Write(p []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.decided == nil && m.err == nil {
		m.decide(http.StatusOK)
	}
	switch {
	case m.err != nil:
		return 0, m.err
	case m.status == http.StatusNoContent || m.status == http.StatusNotModified:
		return 0, http.ErrBodyNotAllowed
	case m.decided.Get("Content-Length") != "" && m.written+uint64(len(p)) > m.most:
		return 0, http.ErrContentLength
	case m.stream != nil:
		m.written += uint64(len(p))
		if m.err = m.stream.write(p); m.err != nil {
			return 0, m.err
		}
		return len(p), nil
	}
	done, block := 0, int(m.block())
	for done < len(p) {
		n := min(len(p)-done, block-len(m.buf))
		m.buf = append(m.buf, p[done:done+n]...)
		m.written += uint64(n)
		done += n
		if len(m.buf) < block {
			break
		}
		if err := m.hand(false); err != nil {
			return done, err
		}
	}
	return done, nil
}

// block is how many bytes are handed over at once. An answer that is not charged by
// the byte is held back as little as any other.
func (m *meter) block() uint64 {
	if !m.chargeable() {
		return maxBlock
	}
	return m.price.block()
}

// chargeable: answers of 2xx are.
func (m *meter) chargeable() bool { return m.status >= 200 && m.status < 300 }

// hand charges what is in the buffer and hands it to the connection.
func (m *meter) hand(last bool) error {
	if m.err != nil {
		return m.err
	}
	if m.stream != nil {
		if m.err = m.stream.split(); m.err != nil {
			return m.err
		}
	}
	if m.err = m.charge(last); m.err != nil {
		return m.err
	}
	if m.err = m.give(m.buf, last); m.err != nil {
		return m.err
	}
	m.buf = m.buf[:0]
	if m.stream != nil {
		m.stream.handed()
	}
	return nil
}

// give hands bytes that are charged to the connection, behind the header.
func (m *meter) give(p []byte, last bool) error {
	if !m.sent {
		if err := m.sendHeader(last); err != nil {
			return err
		}
	}
	if len(p) == 0 {
		return nil
	}
	m.handed += uint64(len(p))
	m.keep(p)
	return m.put(p)
}

// put writes to the connection. A client that takes nothing ends the answer.
func (m *meter) put(p []byte) error {
	if err := m.hurry(); err != nil {
		return err
	}
	m.said = time.Now()
	_, err := m.w.Write(p)
	return err
}

// hurry bounds how long what is written next may take, where the writer can: those of
// net/http can. Errors: of a connection that is over.
func (m *meter) hurry() error {
	if m.own {
		return nil
	}
	err := http.NewResponseController(m.w).SetWriteDeadline(time.Now().Add(m.wall.cfg.Stall))
	if errors.Is(err, http.ErrNotSupported) {
		return nil
	}
	return err
}

// charge charges the answer up to the end of the buffer.
func (m *meter) charge(last bool) error {
	if !m.chargeable() {
		return nil
	}
	units := uint64(0)
	switch {
	case m.price.After != nil:
		units = m.after(last)
	case m.clock != nil:
		units = m.clock.units()
	case m.stream != nil:
		units = m.stream.units(m.stream.at)
	default:
		units = m.price.units(m.handed + uint64(len(m.buf)))
	}
	return m.chargeTo(units)
}

// chargeTo charges so many units in all; m.units are where it stands.
func (m *meter) chargeTo(units uint64) error {
	if m.charged && units <= m.units {
		return nil
	}
	if err := m.flow.chargeTo(m.ctx, units, m.need); err != nil {
		return err
	}
	if m.clock != nil {
		m.clock.goOn()
	}
	m.charged, m.units = true, units
	return nil
}

// after is what an answer costs whose price depends on it, in msat, which its line
// counts.
func (m *meter) after(last bool) uint64 {
	if m.charged {
		return m.units
	}
	size := int64(-1)
	if last {
		size = int64(len(m.buf))
	} else if m.most > 0 {
		size = int64(m.most)
	}
	return min(m.price.After(m.r, Answer{Status: m.status, Header: m.decided.Clone(), Size: size}), m.price.Msat)
}

// sendHeader sends the header as the handler decided it, with the receipt.
func (m *meter) sendHeader(last bool) error {
	m.copyHeader(m.decided)
	h := m.w.Header()
	if m.chargeable() {
		if err := m.receipt(); err != nil {
			return err
		}
		if strings.Contains(m.decided.Get("Cache-Control"), "no-store") {
			h.Set("Cache-Control", m.decided.Get("Cache-Control"))
		}
	}
	if h.Get("Content-Length") == "" && m.status != http.StatusNoContent && m.status != http.StatusNotModified {
		switch {
		case last && len(m.trailers()) == 0 && m.stream == nil:
			h.Set("Content-Length", strconv.Itoa(len(m.buf)))
		case m.chargeable() && (!last || m.stream != nil):
			h.Add("Trailer", mpp.HeaderReceipt) // what it came to in the end
		}
	}
	m.sent = true
	m.w.WriteHeader(m.status)
	m.beat()
	return nil
}

func (m *meter) receipt() error {
	return m.wall.cfg.Server.header(m.w, m.grant.Challenge, m.grant.Receipt)
}

// trailers are the fields that the handler set to follow the body.
func (m *meter) trailers() http.Header {
	set := http.Header{}
	for _, line := range m.decided.Values("Trailer") {
		for _, name := range strings.Split(line, ",") {
			name = http.CanonicalHeaderKey(strings.TrimSpace(name))
			if values, ok := m.header[name]; ok {
				set[name] = values
			}
		}
	}
	for name, values := range m.header {
		if strings.HasPrefix(name, http.TrailerPrefix) {
			set[name] = values
		}
	}
	return set
}

// keep copies what is handed over while it is short enough to be kept.
func (m *meter) keep(p []byte) {
	if m.lost || int64(len(m.copy)+len(p)) > m.wall.cfg.MaxKept {
		if m.lost, m.copy = true, nil; m.pulse.stop == nil {
			m.wall.kept.unshared(m.name, m.supersede) // nobody can wait for it
		}
		return
	}
	m.copy = append(m.copy, p...)
}

// finish hands over the rest when the handler has ended. keep: it may be kept for
// repeats.
func (m *meter) finish(keep bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.decided == nil && m.err == nil {
		m.decide(http.StatusOK)
	}
	// where the client went away before, the handler may have left out the rest
	keep = keep && m.err == nil && m.ctx.Err() == nil
	if m.stream != nil && m.err == nil {
		m.err = m.stream.end()
	}
	err := m.hand(true)
	m.complete(keep)
	if err == nil && m.stream != nil {
		err = m.stream.receipt()
	}
	if err != nil {
		m.refuse(err)
		return
	}
	for name, values := range m.trailers() {
		m.w.Header()[name] = values
	}
	if m.chargeable() && m.price.Unit != bitcoin.UnitRequest {
		if err := m.receipt(); err != nil {
			m.refuse(err)
		}
	}
	if err := m.hurry(); err != nil && m.err == nil { // what is written behind us
		m.err = err
	}
}

// complete makes the answer one that can be kept, where all of it was charged.
func (m *meter) complete(keep bool) {
	short := m.decided != nil && m.decided.Get("Content-Length") != "" && m.written < m.most
	if !keep || m.lost || !m.charged || short || m.handed != m.written {
		return
	}
	m.whole = &answer{status: m.status, header: m.decided, body: m.copy, trailer: m.trailers(), units: m.units}
}

// Flush implements http.Flusher.
func (m *meter) Flush() {
	_ = m.FlushError() // the next Write says what went wrong
}

// FlushError hands over what was written so far, for http.ResponseController.
func (m *meter) FlushError() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.decided == nil && m.err == nil {
		m.decide(http.StatusOK)
	}
	if err := m.hand(false); err != nil {
		return err
	}
	return m.flush()
}

// flush has the connection send what it was given.
func (m *meter) flush() error {
	err := m.hurry()
	if err == nil {
		err = http.NewResponseController(m.w).Flush()
	}
	if err != nil && !errors.Is(err, http.ErrNotSupported) {
		m.err = err
	}
	return err
}

// SetReadDeadline is for http.ResponseController.
func (m *meter) SetReadDeadline(at time.Time) error {
	return http.NewResponseController(m.w).SetReadDeadline(at)
}

// SetWriteDeadline is for http.ResponseController.
func (m *meter) SetWriteDeadline(at time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.own = true
	return http.NewResponseController(m.w).SetWriteDeadline(at)
}

// EnableFullDuplex is for http.ResponseController.
func (m *meter) EnableFullDuplex() error {
	return http.NewResponseController(m.w).EnableFullDuplex()
}

var (
	_ http.Flusher                    = (*meter)(nil)
	_ interface{ FlushError() error } = (*meter)(nil)
)
