package paywall

import (
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
	out   []byte // to be read
	buf   []byte
	err   error // behind out
	count uint64
	part  bool              // what was handed on ends within an event
	last  string            // id of the newest event that came; "": it has none
	known map[[16]byte]bool // ids that came

	asked   bool // it was asked to go on behind last, and it is not known yet whether it does
	drops   bool // it began anew: what came is dropped, up to last
	replays bool // it comes again from the beginning: nothing is counted
}

func newEventReader(b *paidBody) *eventReader {
	return &eventReader{b: b, buf: make([]byte, 16<<10), known: map[[16]byte]bool{}}
}

// again begins with another connection. behind: it was asked to go on behind the last
// event, else it comes from the beginning.
func (e *eventReader) again(behind bool) {
	e.cut, e.err = events{}, nil
	e.asked, e.drops, e.replays = behind, false, !behind
}

// Read implements io.Reader, for what comes again.
func (e *eventReader) Read(p []byte) (int, error) { return e.read(p) }

// read reads what is there of whole events, or waits for one.
func (e *eventReader) read(p []byte) (int, error) {
	for len(e.out) == 0 {
		if e.err != nil {
			return 0, e.err
		}
		n, err := e.b.raw(e.buf)
		if failed := e.cut.feed(e.buf[:n], e.take); failed != nil {
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
	return n, nil
}

// tail hands on what came of an event that did not end.
func (e *eventReader) tail() {
	rest := e.cut.rest()
	if e.drops || len(rest) == 0 {
		return
	}
	e.out = append(e.out, rest...)
	if failed := e.counted(rest, false); failed != nil {
		e.err = failed
	}
}

// take takes an event, or a piece of a long one.
func (e *eventReader) take(p piece) error {
	if p.payment() {
		return e.payment(p)
	}
	if e.asked && p.last && p.hasID { // does it go on behind the last one, or begin anew?
		e.asked, e.drops = false, e.known[idHash(p.id)]
	}
	if e.drops {
		e.drops = !(p.last && p.hasID && p.id == e.last)
		return nil
	}
	e.out = append(e.out, p.raw...)
	if e.part = !p.last; p.last && p.hasID {
		if e.last = p.id; !usableID(p.id) {
			e.last = ""
		}
		if len(e.known) >= maxKnown {
			clear(e.known)
		}
		e.known[idHash(p.id)] = true
	}
	return e.counted(p.raw, p.event)
}

// counted counts what is handed on.
func (e *eventReader) counted(raw []byte, event bool) error {
	bill := e.b.bill
	if bill == nil || e.replays {
		return nil
	}
	e.count += uint64(len(raw))
	switch unit := bill.cost.unit; {
	case unit == bitcoin.UnitByte:
		return bill.add(uint64(len(raw)))
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
