package paywall

import (
	"bytes"
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"strings"

	"github.com/spillway/spillway/mpp/bitcoin"
)

const (
	// eventStream is the media type of server-sent events.
	eventStream = "text/event-stream"
	// headerLastEvent says after which event a stream is to go on.
	headerLastEvent = "Last-Event-ID"
	// maxEvent is how many bytes of one event are held back; a longer one is handed
	// over in pieces, and nothing is put between them.
	maxEvent = 64 << 10
)

// streamsEvents reports whether an answer is a stream of server-sent events that can be
// read as they are.
func streamsEvents(h http.Header) bool {
	if coding := h.Get("Content-Encoding"); coding != "" && !strings.EqualFold(coding, "identity") {
		return false
	}
	kind, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	return err == nil && kind == eventStream
}

// piece is an event of a stream with its blank line, or a part of a long one. HTML
// standard, section 9.2.6.
type piece struct {
	raw   []byte // valid until the next one
	first bool   // it begins an event
	last  bool   // it ends one
	event bool   // the event has data, which makes it one, and that was not said before
	name  string // of a whole one
	id    string // that it sets
	hasID bool
	data  []byte // its data, each line with its end, as far as it is short
}

// whole reports whether a piece is all of its event.
func (p piece) whole() bool { return p.first && p.last }

// payment reports whether a piece is an event of the payment, which no handler sends
// and no reader sees.
func (p piece) payment() bool {
	return p.whole() && (p.name == bitcoin.EventNeedVoucher || p.name == bitcoin.EventReceipt)
}

// events cuts a stream into its events, whatever ends its lines.
type events struct {
	buf    []byte // of the event that is not complete
	from   int    // where it begins in buf
	line   int    // where its last line begins; before from: that was handed on already
	seen   int    // how far it was looked through
	now    piece  // what is known of the event
	begun  bool   // a part of it was handed on
	told   bool   // and that it has data
	pastCR bool   // the last line ended with CR: an LF belongs to it
	inside bool   // the stream has begun: a byte order mark counts no more
}

// feed takes bytes of the stream and hands on what is complete, in order. Errors: of
// emit; the stream is over then.
func (e *events) feed(p []byte, emit func(piece) error) error {
	e.buf = append(e.buf, p...)
	for {
		i := bytes.IndexAny(e.buf[e.seen:], "\r\n")
		if i < 0 {
			break
		}
		at := e.seen + i
		e.seen = at + 1
		if e.pastCR && at == e.line && e.buf[at] == '\n' {
			e.pastCR, e.line = false, at+1
			continue
		}
		e.pastCR = e.buf[at] == '\r'
		blank := at == e.line
		if !blank {
			e.field(at)
		}
		if e.line = at + 1; !blank {
			continue
		}
		if e.pastCR && e.line < len(e.buf) && e.buf[e.line] == '\n' { // so that it ends the event
			e.pastCR, e.line, e.seen = false, e.line+1, e.seen+1
		}
		if err := e.emit(e.line, true, emit); err != nil {
			return err
		}
		e.now, e.begun, e.told = piece{}, false, false
	}
	e.seen = len(e.buf)
	if len(e.buf)-e.from >= maxEvent {
		cut := e.line < len(e.buf)
		if cut && e.line >= e.from && bytes.HasPrefix(e.buf[e.line:], []byte("data:")) {
			e.now.event = true
		}
		if err := e.emit(len(e.buf), false, emit); err != nil {
			return err
		}
		if e.line = e.from; cut {
			e.line-- // its beginning is gone
		}
	}
	e.compact()
	return nil
}

// compact forgets what was handed on.
func (e *events) compact() {
	e.line, e.seen = e.line-e.from, e.seen-e.from
	e.buf = append(e.buf[:0], e.buf[e.from:]...)
	e.from = 0
}

// emit hands on what is there up to end.
func (e *events) emit(end int, last bool, emit func(piece) error) error {
	p := e.now
	p.raw, p.first, p.last = e.buf[e.from:end], !e.begun, last
	p.event = p.event && !e.told
	e.told = e.told || p.event
	e.begun, e.from = true, end
	return emit(p)
}

// rest is what came of an event that did not end; it is none.
func (e *events) rest() []byte { return e.buf[e.from:] }

// begins is what there is of an event that is not complete, where it is none of the
// payment's own.
func (e *events) begins() []byte {
	const own = "event: payment-"
	rest := e.buf[e.from:]
	if !e.begun && strings.HasPrefix(own, string(rest[:min(len(rest), len(own))])) {
		return nil
	}
	return rest
}

// field reads the line that ends at an index.
func (e *events) field(at int) {
	if e.line < e.from {
		return // the rest of a line of which the beginning is gone
	}
	line := e.buf[e.line:at]
	if !e.inside {
		e.inside = true
		line = bytes.TrimPrefix(line, []byte("\xef\xbb\xbf"))
	}
	name, value, _ := bytes.Cut(line, []byte(":"))
	value = bytes.TrimPrefix(value, []byte(" "))
	switch string(name) {
	case "event":
		e.now.name = string(value)
	case "id":
		if bytes.IndexByte(value, 0) < 0 {
			e.now.id, e.now.hasID = string(value), true
		}
	case "data":
		e.now.event = true
		if len(e.now.data)+len(value) <= maxEvent {
			e.now.data = append(append(e.now.data, value...), '\n')
		}
	}
}

// textOf writes an event of the payment.
func textOf(name string, v json.Marshaler) ([]byte, error) {
	raw, err := v.MarshalJSON()
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(nil, "event: %s\ndata: %s\n\n", name, raw), nil
}
