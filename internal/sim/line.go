package sim

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"testing/iotest"
)

// errLine is what a client sees of a line that breaks.
var errLine = errors.New("the connection broke")

// packet is a request as it travelled.
type packet struct {
	from *buyer
	raw  []byte
	good bool // it was answered as a success
}

// maxHistory bounds how many packets are remembered.
const maxHistory = 64

// line is the line between a buyer and the payee. It carries bytes; what becomes
// of them is drawn for each message.
type line struct{ b *buyer }

// RoundTrip implements http.RoundTripper.
func (l *line) RoundTrip(req *http.Request) (*http.Response, error) {
	b, w := l.b, l.b.w
	if err := b.point("before a request is sent"); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if err := req.Write(&out); err != nil {
		return nil, err
	}
	raw := out.Bytes()
	w.audit.sent(b, req)
	answer, err := w.transmit(b, raw)
	if dead := b.point("after an answer came"); dead != nil {
		return nil, dead
	}
	if err != nil {
		return nil, err
	}
	if b.deaf {
		return nil, errLine
	}
	return http.ReadResponse(bufio.NewReader(w.dribble(answer)), req)
}

// transmit carries a request to the payee and its answer back, or not.
func (w *world) transmit(b *buyer, raw []byte) ([]byte, error) {
	fate := w.fate(b)
	switch fate {
	case "lost-request", "partition":
		w.fault(fate)
		w.tell("  the request is lost")
		return nil, errLine
	case "delayed-request":
		w.fault(fate)
		w.tell("  the request takes its time")
		w.delayed = append(w.delayed, packet{from: b, raw: raw})
		return nil, errLine
	case "torn-request":
		w.fault(fate)
		w.tell("  the connection breaks in the middle of the request")
		w.deliver(packet{from: b, raw: raw[:w.rng.IntN(len(raw))]})
		return nil, errLine
	}
	p := packet{from: b, raw: raw}
	answer := w.deliver(p)
	switch fate {
	case "duplicated-request":
		w.fault(fate)
		w.tell("  the request arrives twice")
		if again := w.deliver(p); w.rng.IntN(2) == 0 {
			answer = again
		}
	case "lost-answer":
		w.fault(fate)
		w.tell("  the answer is lost")
		return nil, errLine
	case "torn-answer":
		if len(answer) > 0 {
			w.fault(fate)
			w.tell("  the connection breaks in the middle of the answer")
			answer = answer[:w.rng.IntN(len(answer))]
		}
	}
	if answer == nil {
		return nil, errLine
	}
	if w.story.payee == "lies" && !w.calm && w.rng.IntN(3) == 0 {
		answer = w.lie(answer)
	}
	return answer, nil
}

// fate draws what becomes of a message.
func (w *world) fate(b *buyer) string {
	if w.cut[b.n] > w.at {
		return "partition"
	}
	if w.calm {
		return ""
	}
	switch w.rng.IntN(60) {
	case 0, 1:
		return "lost-request"
	case 2, 3:
		return "lost-answer"
	case 4:
		return "delayed-request"
	case 5:
		return "duplicated-request"
	case 6:
		return "torn-request"
	case 7:
		return "torn-answer"
	}
	return ""
}

// deliver hands bytes to the payee and remembers them.
func (w *world) deliver(p packet) []byte {
	raw, a := w.seller.handle(bufio.NewReader(w.dribble(p.raw)))
	if a != nil {
		p.good = raw != nil && a.status < 300
		if len(w.history) < maxHistory {
			w.history = append(w.history, p)
		} else {
			w.history[w.rng.IntN(maxHistory)] = p
		}
	}
	return raw
}

// dribble is bytes as they come: now and then one at a time.
func (w *world) dribble(raw []byte) io.Reader {
	if !w.calm && w.rng.IntN(20) == 0 {
		w.fault("one-byte-at-a-time")
		return iotest.OneByteReader(bytes.NewReader(raw))
	}
	return bytes.NewReader(raw)
}
