package paywall

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/textproto"
	"slices"
	"strings"

	"github.com/spillway/spillway/channel"
)

// CompactProtocol is the WebSocket subprotocol of the compact transport, and
// HeaderCompact the field by which a provider says that it speaks it. docs/protocol.md,
// section 21.
const (
	CompactProtocol = "spillway.compact.1"
	HeaderCompact   = "Spillway-Compact"
)

// Kinds of frames. docs/protocol.md, section 21.
const (
	frameBind    = 0x01 // the client's
	frameUpdate  = 0x02
	frameOrder   = 0x03
	frameHello   = 0x41 // the server's
	frameBound   = 0x42
	frameAck     = 0x43
	frameReply   = 0x44
	frameData    = 0x45
	frameEnd     = 0x46
	frameProblem = 0x47
)

// Limits of the wire. docs/protocol.md, section 21.
const (
	compactVersion  = 1
	compactNonce    = 16       // bytes
	maxDataFrame    = 64 << 10 // bytes of content in one frame
	maxSocketAnswer = maxDataFrame + 64<<10
	maxQuery        = 512  // bytes of an order's query
	minSignature    = 64   // bytes
	maxSignature    = 73   // bytes
	maxCompactOnes  = 1024 // channels on one connection
	maxOrders       = 16   // that wait on one connection
	maxFields       = 8 << 10
)

// errFrame: bytes that are no frame of the compact transport.
var errFrame = errors.New("not a frame of the compact transport")

func badFrame(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errFrame, fmt.Sprintf(format, args...))
}

// frame is one frame of a message.
type frame struct {
	kind byte
	body []byte
}

// appendFrame writes a frame: its kind, the length of its body, the body.
func appendFrame(to []byte, kind byte, body []byte) []byte {
	to = append(to, kind)
	to = binary.AppendUvarint(to, uint64(len(body)))
	return append(to, body...)
}

// nextFrame takes the first frame off a message. Errors: errFrame.
func nextFrame(message []byte) (f frame, rest []byte, err error) {
	if len(message) == 0 {
		return f, nil, badFrame("an empty message")
	}
	r := reading{b: message[1:]}
	n := r.uint(math.MaxInt32)
	f = frame{kind: message[0], body: r.take(n)}
	return f, r.b, r.err
}

// reading reads a body's fields one by one; the first error stays.
type reading struct {
	b   []byte
	err error
}

func (r *reading) fail(format string, args ...any) {
	if r.err == nil {
		r.err = badFrame(format, args...)
	}
	r.b = nil
}

// uint reads a varint in its shortest form, at most limit.
func (r *reading) uint(limit uint64) uint64 {
	v, n := binary.Uvarint(r.b)
	switch {
	case r.err != nil:
		return 0
	case n <= 0 || n > 1 && r.b[n-1] == 0:
		r.fail("a number that is none")
		return 0
	case v > limit:
		r.fail("%d where %d is the most", v, limit)
		return 0
	}
	r.b = r.b[n:]
	return v
}

// take reads so many bytes; they are part of the message.
func (r *reading) take(n uint64) []byte {
	if r.err != nil || n > uint64(len(r.b)) {
		r.fail("it is too short")
		return nil
	}
	got := r.b[:n]
	r.b = r.b[n:]
	return got
}

// all reads what is left, within bounds.
func (r *reading) all(least, most int) []byte {
	if r.err == nil && (len(r.b) < least || len(r.b) > most) {
		r.fail("%d bytes where %d to %d belong", len(r.b), least, most)
	}
	got := r.b
	r.b = nil
	return got
}

// end demands that nothing is left.
func (r *reading) end() error {
	if r.err == nil && len(r.b) > 0 {
		r.fail("%d bytes too many", len(r.b))
	}
	return r.err
}

// bindFrame names a channel for a connection and proves whose it is.
type bindFrame struct {
	number     uint64 // of the channel on this connection
	credential string // as in the field Authorization
}

func (f bindFrame) append(to []byte) []byte {
	return appendFrame(to, frameBind, append(binary.AppendUvarint(nil, f.number), f.credential...))
}

func parseBind(body []byte) (f bindFrame, err error) {
	r := reading{b: body}
	f.number = r.uint(maxCompactOnes - 1)
	f.credential = string(r.all(1, math.MaxInt32))
	return f, r.err
}

// updateFrame raises what is paid on a channel.
type updateFrame struct {
	number uint64
	update channel.Update
}

func (f updateFrame) append(to []byte) []byte {
	var scratch [96]byte
	b := binary.AppendUvarint(scratch[:0], f.number)
	b = binary.AppendUvarint(b, f.update.Amount)
	return appendFrame(to, frameUpdate, append(b, f.update.Signature...))
}

func parseUpdate(body []byte) (f updateFrame, err error) {
	r := reading{b: body}
	f.number = r.uint(maxCompactOnes - 1)
	f.update.Amount = r.uint(channel.MaxSat)
	f.update.Signature = slices.Clone(r.all(minSignature, maxSignature))
	return f, r.err
}

// orderFrame is an update with a request that it pays for.
type orderFrame struct {
	number uint64
	order  uint64 // named by the client, rising
	update channel.Update
	key    string // Idempotency-Key
	match  bool   // only if the content is still what the challenge names
	query  string // of the connection's URL
}

func (f orderFrame) append(to []byte) []byte {
	b := binary.AppendUvarint(nil, f.number)
	b = binary.AppendUvarint(b, f.order)
	b = binary.AppendUvarint(b, f.update.Amount)
	b = appendText(b, string(f.update.Signature))
	b = appendText(b, f.key)
	b = append(b, flag(f.match))
	return appendFrame(to, frameOrder, append(b, f.query...))
}

func parseOrder(body []byte) (f orderFrame, err error) {
	r := reading{b: body}
	f.number = r.uint(maxCompactOnes - 1)
	f.order = r.uint(math.MaxInt64)
	f.update.Amount = r.uint(channel.MaxSat)
	if f.update.Signature = []byte(r.text(maxSignature)); r.err == nil && len(f.update.Signature) < minSignature {
		r.fail("a signature of %d bytes", len(f.update.Signature))
	}
	f.key = r.text(255)
	f.match = r.flag()
	f.query = string(r.all(0, maxQuery))
	return f, r.err
}

func appendText(to []byte, s string) []byte {
	return append(binary.AppendUvarint(to, uint64(len(s))), s...)
}

func (r *reading) text(most uint64) string { return string(r.take(r.uint(most))) }

func flag(set bool) byte {
	if set {
		return 1
	}
	return 0
}

func (r *reading) flag() bool { return r.uint(1) == 1 }

// helloFrame is the first of a connection.
type helloFrame struct {
	version uint64
	nonce   [compactNonce]byte
	ones    uint64 // channels that may be bound
	orders  uint64 // that may wait
	message uint64 // bytes of the longest message that is taken
}

func (f helloFrame) append(to []byte) []byte {
	b := append(binary.AppendUvarint(nil, f.version), f.nonce[:]...)
	for _, n := range []uint64{f.ones, f.orders, f.message} {
		b = binary.AppendUvarint(b, n)
	}
	return appendFrame(to, frameHello, b)
}

func parseHello(body []byte) (f helloFrame, err error) {
	r := reading{b: body}
	f.version = r.uint(math.MaxInt32)
	copy(f.nonce[:], r.take(compactNonce))
	f.ones, f.orders, f.message = r.uint(math.MaxInt32), r.uint(math.MaxInt32), r.uint(math.MaxInt32)
	return f, r.err // what follows is of a later version
}

// tally is where a channel stands, as a receipt says it.
type tally struct {
	paid, charged, required uint64 // sat, msat, sat
}

func (t tally) append(to []byte) []byte {
	for _, n := range []uint64{t.paid, t.charged, t.required} {
		to = binary.AppendUvarint(to, n)
	}
	return to
}

func (r *reading) tally() tally {
	return tally{r.uint(channel.MaxSat), r.uint(channel.MaxSat * 1000), r.uint(channel.MaxSat)}
}

// ackFrame says that everything up to an amount is saved; also the answer to a bind.
type ackFrame struct {
	number uint64
	at     tally
}

func (f ackFrame) append(to []byte, kind byte) []byte {
	var scratch [48]byte
	return appendFrame(to, kind, f.at.append(binary.AppendUvarint(scratch[:0], f.number)))
}

func parseAck(body []byte) (f ackFrame, err error) {
	r := reading{b: body}
	f.number = r.uint(maxCompactOnes - 1)
	f.at = r.tally()
	return f, r.end()
}

// slip is what a receipt says beside where the channel stands.
type slip struct {
	at          tally
	units, line uint64 // of this request; msat of it in all its repeats
}

func appendSlip(to []byte, s *slip) []byte {
	if s == nil {
		return append(to, 0)
	}
	to = s.at.append(append(to, 1))
	return binary.AppendUvarint(binary.AppendUvarint(to, s.units), s.line)
}

func (r *reading) slip() *slip {
	if !r.flag() {
		return nil
	}
	return &slip{r.tally(), r.uint(math.MaxInt64), r.uint(channel.MaxSat * 1000)}
}

// replyFrame begins the answer to an order.
type replyFrame struct {
	order  uint64
	status uint64
	slip   *slip // nil: no receipt
	fields http.Header
}

func (f replyFrame) append(to []byte) []byte {
	b := binary.AppendUvarint(nil, f.order)
	b = binary.AppendUvarint(b, f.status)
	return appendFrame(to, frameReply, appendFields(appendSlip(b, f.slip), f.fields))
}

func parseReply(body []byte) (f replyFrame, err error) {
	r := reading{b: body}
	f.order = r.uint(math.MaxInt64)
	if f.status = r.uint(599); r.err == nil && f.status < 200 {
		r.fail("an answer with status %d", f.status)
	}
	f.slip = r.slip()
	f.fields = r.fields()
	return f, r.end()
}

// appendFields writes header fields, sorted by name, as pairs of texts.
func appendFields(to []byte, h http.Header) []byte {
	names := make([]string, 0, len(h))
	for name := range h {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		for _, value := range h[name] {
			to = appendText(appendText(to, name), value)
		}
	}
	return to
}

func (r *reading) fields() http.Header {
	h := http.Header{}
	for len(r.b) > 0 && r.err == nil {
		name, value := r.text(maxFields), r.text(maxSocketAnswer)
		if name == "" || textproto.TrimString(name) != name || strings.ContainsAny(name, "\r\n:") || strings.ContainsAny(value, "\r\n\x00") {
			r.fail("a field that is none")
		}
		h.Add(name, value)
	}
	return h
}

// dataHead writes what stands before n bytes of an answer's body.
func dataHead(to []byte, order uint64, n int) []byte {
	var scratch [binary.MaxVarintLen64]byte
	id := binary.AppendUvarint(scratch[:0], order)
	to = binary.AppendUvarint(append(to, frameData), uint64(len(id)+n))
	return append(to, id...)
}

func parseData(body []byte) (order uint64, bytes []byte, err error) {
	r := reading{b: body}
	order = r.uint(math.MaxInt64)
	bytes = r.all(1, maxDataFrame)
	return order, bytes, r.err
}

// endFrame ends the answer to an order.
type endFrame struct {
	order  uint64
	broken bool  // not all of it came
	slip   *slip // the second receipt of an answer that is metered
	fields http.Header
}

func (f endFrame) append(to []byte) []byte {
	b := append(binary.AppendUvarint(nil, f.order), flag(f.broken))
	return appendFrame(to, frameEnd, appendFields(appendSlip(b, f.slip), f.fields))
}

func parseEnd(body []byte) (f endFrame, err error) {
	r := reading{b: body}
	f.order = r.uint(math.MaxInt64)
	f.broken = r.flag()
	f.slip = r.slip()
	f.fields = r.fields()
	return f, r.end()
}

// problemFrame is a refusal: of a channel, which is bound no more, or of the
// connection, which ends.
type problemFrame struct {
	number  uint64 // of the channel, from one; 0: the connection
	problem []byte // RFC 9457
}

func (f problemFrame) append(to []byte) []byte {
	return appendFrame(to, frameProblem, append(binary.AppendUvarint(nil, f.number), f.problem...))
}

func parseProblemFrame(body []byte) (f problemFrame, err error) {
	r := reading{b: body}
	f.number = r.uint(maxCompactOnes)
	f.problem = r.all(2, maxFields)
	return f, r.err
}
