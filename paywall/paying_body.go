package paywall

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/spillway/spillway/mpp"
	"github.com/spillway/spillway/mpp/bitcoin"
)

// idlePay is how long a read may wait before what was read so far is paid: other answers
// on the channel may need the credit.
const idlePay = 50 * time.Millisecond

// idleMost is the longest between two such looks, and secondMost where time is paid.
const (
	idleMost   = 5 * time.Second
	secondMost = time.Second
)

func newHash() hash.Hash { return sha256.New() }

// paidBody is the body of an answer that was paid. It pays as it is read where it is
// charged by what is in it, and goes on where a connection breaks.
type paidBody struct {
	trip   *trip
	ctx    context.Context
	resp   *http.Response // that the caller has
	cur    *http.Response // that is read now
	hash   hash.Hash      // of what was read
	read   uint64         // bytes of it
	breaks int            // in a row
	bill   *bill          // nil: it is paid already
	events *eventReader   // nil: no stream of events that the payment speaks in

	mu    sync.Mutex // a caller may close while it reads
	body  io.ReadCloser
	ended bool
}

// Read implements io.Reader. Errors: io.EOF, the context's, *PaymentError where the
// answer cannot be paid or gone on with.
func (b *paidBody) Read(p []byte) (int, error) {
	for {
		n, err := b.next(p)
		if failed := b.failed(); err != nil && failed != nil {
			return n, b.fail(failed)
		}
		if n > 0 {
			b.breaks = 0
			b.hash.Write(p[:n])
			b.read += uint64(n)
			if failed := b.count(uint64(n)); failed != nil {
				return n, b.fail(failed)
			}
		}
		switch {
		case err == nil || n > 0 && err != io.EOF:
			return n, nil
		case err == io.EOF:
			b.trailers()
			return n, b.end()
		case b.ctx.Err() != nil:
			return n, b.ctx.Err()
		}
		if err := b.resume(err); err != nil {
			return 0, b.fail(err)
		}
	}
}

// next reads what comes next of the answer itself.
func (b *paidBody) next(p []byte) (int, error) {
	if b.events != nil {
		return b.events.read(p)
	}
	return b.raw(p)
}

// raw reads what comes next over the connection.
func (b *paidBody) raw(p []byte) (int, error) {
	body := b.now()
	stop := b.payWhenIdle(body)
	defer stop()
	return body.Read(p)
}

// now is the body that is read now.
func (b *paidBody) now() io.ReadCloser {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.body
}

// over marks the body as ended; false: it was before.
func (b *paidBody) over() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	first := !b.ended
	b.ended = true
	return first
}

func (b *paidBody) closed() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.ended
}

// goesOnIn takes the answer as it comes again. Errors: where the caller has closed it.
func (b *paidBody) goesOnIn(resp *http.Response) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended {
		return errors.Join(http.ErrBodyReadAfterClose, closeAnswer(resp.Body))
	}
	b.cur, b.body = resp, resp.Body
	return nil
}

// count counts bytes that were read, where bytes are charged. Events are counted as they
// come.
func (b *paidBody) count(n uint64) error {
	if b.bill == nil || b.events != nil {
		return nil
	}
	switch b.bill.cost.unit {
	case bitcoin.UnitByte:
		return b.bill.add(n)
	case bitcoin.UnitChunk:
		return b.bill.reached(chunks(b.read, b.bill.cost.unitBytes))
	}
	return b.bill.add(0)
}

func chunks(bytes, each uint64) uint64 { return (bytes + each - 1) / each }

func (b *paidBody) fail(err error) error {
	return b.trip.t.fail(b.trip.target, b.trip.lane.id, err)
}

// trailers hands the trailers on, and takes the receipt among them.
func (b *paidBody) trailers() {
	for name, values := range b.cur.Trailer {
		if b.resp.Trailer == nil {
			b.resp.Trailer = http.Header{}
		}
		b.resp.Trailer[name] = values
	}
	if b.bill != nil {
		b.bill.trailing(b.cur.Trailer.Values(mpp.HeaderReceipt))
	}
}

// payWhenIdle pays for what was read where the next read takes long, and sends again
// what did not get through: the provider may be waiting for it. A stream of events that
// says nothing for too long is broken.
func (b *paidBody) payWhenIdle(body io.Closer) (stop func()) {
	if b.bill == nil {
		return func() {}
	}
	every, most := idlePay, idleMost
	if b.bill.cost.unit == bitcoin.UnitSecond {
		most = secondMost
	}
	var timer *time.Timer
	var mu sync.Mutex
	begun, over := time.Now(), false
	mu.Lock()
	timer = time.AfterFunc(every, func() {
		if !b.bill.idle() || b.events != nil && time.Since(begun) > b.trip.t.cfg.Stall {
			_ = body.Close() // the read that waits ends, and says why
		}
		mu.Lock()
		defer mu.Unlock()
		if every = min(2*every, most); !over {
			timer.Reset(every)
		}
	})
	mu.Unlock()
	return func() {
		mu.Lock()
		defer mu.Unlock()
		over = true
		timer.Stop()
	}
}

// end pays for the last of a body that came to its end.
func (b *paidBody) end() error {
	if !b.over() {
		return io.EOF
	}
	if b.bill == nil {
		b.trip.lane.ended(0)
		return io.EOF
	}
	if _, err := b.bill.end(); err != nil {
		return b.fail(err)
	}
	return io.EOF
}

// Close implements io.Closer. What was read is paid.
func (b *paidBody) Close() error {
	first := b.over()
	err := b.now().Close()
	switch {
	case !first:
	case b.bill == nil:
		b.trip.lane.ended(0)
	default:
		if failed := b.bill.leave(); failed != nil {
			err = errors.Join(err, b.fail(failed))
		}
	}
	return err
}

// resume asks for an answer that broke off once more, under the same key, and goes on
// where it ended. What was charged of it is not charged again.
func (b *paidBody) resume(why error) error {
	r := b.trip
	if err := b.now().Close(); err != nil {
		r.t.c.cfg.Log.Debug("a broken answer did not close", "error", err)
	}
	switch {
	case b.closed():
		return http.ErrBodyReadAfterClose
	case b.failed() != nil:
		return b.failed()
	case r.body == nil:
		return fmt.Errorf("%w: %w", ErrBody, why)
	case b.breaks >= r.t.cfg.Retries:
		return unreachable("the answer breaks off again and again: %w", why)
	}
	if b.bill != nil { // what came is paid; what is not is what did not come
		if err := b.bill.catchUp(); err != nil {
			return err
		}
	}
	if err := r.t.c.cfg.Sleep(b.ctx, patience(b.breaks, why)); err != nil {
		return err
	}
	b.breaks++
	r.t.c.cfg.Log.Debug("an answer is gone on with", "url", r.target, "at", b.read, "reason", why)
	if r.after = ""; b.events != nil && !b.events.part {
		r.after = b.events.last
	}
	l := r.lane
	q, err := r.t.c.current(b.ctx, r.target, r.expect)
	if err != nil {
		return err
	}
	resp, receipt, err := r.pay(b.ctx, q)
	if err != nil {
		return err
	}
	if receipt == nil && busy(resp) {
		why := &BusyError{Status: resp.StatusCode, RetryAfter: retryAfterOf(resp.Header)}
		if err := closeAnswer(resp.Body); err != nil {
			return err
		}
		return b.resume(why)
	}
	if receipt == nil || r.lane != l || resp.StatusCode != b.resp.StatusCode || streamsEvents(resp.Header) != streamsEvents(b.resp.Header) {
		if receipt != nil {
			r.lane.answered(r.cost, true)
			r.lane.ended(0)
			r.lane = l
		}
		return errors.Join(ErrReplaced, closeAnswer(resp.Body))
	}
	l.answered(r.cost, false)
	l.ended(0) // the first one is still counted
	l.note(*receipt)
	if b.bill != nil {
		b.bill.reprice(r.cost)
	}
	if err := b.goesOnIn(resp); err != nil {
		return err
	}
	return b.goOn()
}

// busy reports whether an answer says that it is to be asked for again.
func busy(resp *http.Response) bool {
	switch resp.StatusCode {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

func (b *paidBody) failed() error {
	if b.bill == nil {
		return nil
	}
	b.bill.mu.Lock()
	defer b.bill.mu.Unlock()
	return b.bill.failed
}

// goOn finds the place in the answer as it comes again.
func (b *paidBody) goOn() error {
	if b.events != nil {
		b.events.again(b.trip.after != "", b.read, b.hash.Sum(nil))
		return nil
	}
	return b.skip(b.read)
}

// skip reads over what came before, and makes sure that it is the same.
func (b *paidBody) skip(n uint64) error {
	sum := newHash()
	if _, err := io.CopyN(sum, b.now(), int64(n)); err != nil {
		if err == io.EOF {
			return fmt.Errorf("%w: it is shorter", ErrReplaced)
		}
		if err := b.ctx.Err(); err != nil {
			return err
		}
		return b.resume(err)
	}
	if string(sum.Sum(nil)) != string(b.hash.Sum(nil)) {
		return ErrReplaced
	}
	return nil
}
