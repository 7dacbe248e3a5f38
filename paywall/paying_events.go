package paywall

import (
	"bytes"
	"fmt"
	"hash"
	"io"

	"github.com/spillway/spillway/mpp/bitcoin"
)

// maxKnown bounds how many ids of a stream's events are remembered.
const maxKnown = 4096

// eventReader reads a stream of server-sent events of which the payment's own ones are
// acted on and taken out. What it hands on ends with whole events, so that a stream that
// broke off goes on behind the last of them.
type eventReader struct {
	b     *paidBody
	cut   events
	buf   []byte
	out   []byte // to be read
	err   error  // behind out
	lines []line // what is counted once it was read
	made  uint64 // bytes that were put into out
	given uint64 // bytes that were read out of it
	count uint64 // bytes that were counted
	early uint64 // those of them of the event that is not complete

	part  bool              // what was handed on ends within an event
	last  string            // id of the newest event that came; "": it has none
	known map[[16]byte]bool // ids that came

	asked bool   // it was asked to go on behind last, and it is not known yet whether it does
	drops bool   // it began anew: what came is dropped, up to last
	skip  uint64 // bytes that come again, from the beginning, and are to be the same
	sum   hash.Hash
	want  []byte
}

// line is what is done once so many bytes were read: an event counts once the reader has
// it, and what the provider waits for is looked at behind what it sent before.
type line struct {
	at    uint64
	bytes uint64
	event bool
	own   *piece // of the payment
}

func newEventReader(b *paidBody) *eventReader {
	return &eventReader{b: b, buf: make([]byte, 16<<10), known: map[[16]byte]bool{}}
}

// again begins with another connection. behind: it was asked to go on behind the last
// event; else so many bytes come again, whose hash is known.
func (e *eventReader) again(behind bool, n uint64, want []byte) {
	e.cut, e.err = events{}, nil
	if e.asked, e.drops, e.skip = behind, false, 0; !behind {
		e.skip, e.sum, e.want = n, newHash(), want
	}
}

// read reads what is there of whole events, or waits for one.
func (e *eventReader) read(p []byte) (int, error) {
	for len(e.out) == 0 {
		if failed := e.settle(); failed != nil {
			return 0, failed
		}
		if e.err != nil {
			return 0, e.err
		}
		n, err := e.b.raw(e.buf)
		failed := e.cut.feed(e.buf[:n], e.take)
		if e.beginning(); failed != nil {
			e.err = failed
		} else if e.err = err; err == io.EOF {
			e.tail()
		}
	}
	n := copy(p, e.out)
	e.out = e.out[n:]
	if len(e.out) == 0 {
		e.out = nil
	}
	e.given += uint64(n)
	return n, e.settle()
}

// settle counts what was read. Errors: where it may not be paid.
func (e *eventReader) settle() error {
	for len(e.lines) > 0 && e.lines[0].at <= e.given {
		l := e.lines[0]
		e.lines = e.lines[1:]
		var err error
		if l.own != nil {
			err = e.payment(*l.own)
		} else {
			err = e.add(l.bytes, l.event)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// tail hands on what came of an event that did not end.
func (e *eventReader) tail() {
	rest, failed := e.past(e.cut.rest())
	switch {
	case failed != nil:
		e.err = failed
	case e.skip > 0:
		e.err = fmt.Errorf("%w: it is shorter", ErrReplaced)
	case !e.drops && len(rest) > 0:
		e.hand(rest, false)
	}
}

// past takes away what came before. Errors: ErrReplaced where it is not the same.
func (e *eventReader) past(raw []byte) ([]byte, error) {
	if e.skip == 0 {
		return raw, nil
	}
	n := min(uint64(len(raw)), e.skip)
	e.sum.Write(raw[:n])
	if e.skip -= n; e.skip == 0 && !bytes.Equal(e.sum.Sum(nil), e.want) {
		return nil, ErrReplaced
	}
	return raw[n:], nil
}

// take takes an event, or a piece of a long one.
func (e *eventReader) take(p piece) error {
	if p.payment() {
		own := piece{name: p.name, data: p.data}
		e.lines = append(e.lines, line{at: e.made, own: &own})
		return nil
	}
	if e.asked && p.last && p.hasID { // does it go on behind the last one, or begin anew?
		e.asked, e.drops = false, e.known[idHash(p.id)]
	}
	if e.drops {
		e.drops = !(p.last && p.hasID && p.id == e.last)
		return nil
	}
	raw, err := e.past(p.raw)
	if err != nil || len(raw) == 0 {
		return err
	}
	// the LF of a CRLF may have come with the event before
	e.hand(raw, p.event && len(raw)+1 >= len(p.raw))
	if e.part = !p.last; p.last && p.hasID {
		if e.last = p.id; !usableID(p.id) {
			e.last = ""
		}
		if len(e.known) >= maxKnown {
			clear(e.known)
		}
		e.known[idHash(p.id)] = true
	}
	return nil
}

// hand hands on what came.
func (e *eventReader) hand(raw []byte, event bool) {
	e.out = append(e.out, raw...)
	n := uint64(len(raw))
	e.made += n
	n, e.early = n-min(n, e.early), e.early-min(n, e.early)
	e.lines = append(e.lines, line{at: e.made, bytes: n, event: event})
}

// beginning counts what came of an event that is not complete: what is charged by the
// byte may have to be paid before the rest of it comes.
func (e *eventReader) beginning() {
	n := uint64(len(e.cut.begins()))
	if e.skip > 0 || e.drops || n <= e.early {
		return
	}
	e.lines = append(e.lines, line{at: e.made, bytes: n - e.early})
	e.early = n
}

// add counts bytes, and an event that they complete.
func (e *eventReader) add(n uint64, event bool) error {
	bill := e.b.bill
	if bill == nil {
		return nil
	}
	e.count += n
	switch unit := bill.cost.unit; {
	case unit == bitcoin.UnitByte:
		return bill.add(n)
	case unit == bitcoin.UnitChunk:
		return bill.reached(chunks(e.count, bill.cost.unitBytes))
	case unit == bitcoin.UnitEvent && event:
		return bill.add(1)
	}
	return bill.add(0)
}

// payment acts on an event of the payment. One that cannot be read is left out all the
// same. Errors: where what is wanted may not be paid.
func (e *eventReader) payment(p piece) error {
	if e.b.bill == nil {
		return nil
	}
	if p.name == bitcoin.EventReceipt {
		var r bitcoin.Receipt
		if r.UnmarshalJSON(p.data) == nil {
			e.b.bill.receipt(r)
		}
		return nil
	}
	var n bitcoin.NeedVoucher
	if n.UnmarshalJSON(p.data) != nil {
		return nil
	}
	return e.b.bill.need(n)
}

// usableID reports whether an id can travel in a header.
func usableID(id string) bool {
	for i := range len(id) {
		if c := id[i]; c < ' ' || c == 0x7f {
			return false
		}
	}
	return len(id) <= 1024
}
