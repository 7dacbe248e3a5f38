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
)

// idlePay is how long a read may wait before what was read so far is paid: other answers
// on the channel may need the credit.
const idlePay = 50 * time.Millisecond

// idleMost is the longest between two such looks.
const idleMost = 5 * time.Second

func newHash() hash.Hash { return sha256.New() }

// paidBody is the body of an answer that was paid. It pays as it is read where it is
// charged by what is in it, and goes on where a connection breaks.
type paidBody struct {
	trip *trip
	ctx  context.Context
	resp *http.Response // that the caller has
	cur  *http.Response // that is read now
	body io.ReadCloser  // its own
	hash hash.Hash      // of what was read

	metered bool
	free    uint64 // msat of the line that were in the ledger before
	breaks  int    // in a row

	mu      sync.Mutex // of what follows: a timer pays too
	read    uint64     // bytes
	entered uint64     // msat that are in the ledger
	claims  uint64     // msat that are claimed and not in the ledger yet
	failed  error      // why nothing more is paid
	done    bool
}

// Read implements io.Reader. Errors: io.EOF, the context's, *PaymentError where the
// answer cannot be paid or gone on with.
func (b *paidBody) Read(p []byte) (int, error) {
	for {
		stop := b.payWhenIdle()
		n, err := b.body.Read(p)
		stop()
		if n > 0 {
			b.breaks = 0
			b.hash.Write(p[:n])
			if failed := b.count(uint64(n)); failed != nil {
				return n, b.fail(failed)
			}
		}
		switch {
		case err == nil || n > 0 && err != io.EOF:
			return n, nil
		case err == io.EOF:
			for name, values := range b.cur.Trailer {
				if b.resp.Trailer == nil {
					b.resp.Trailer = http.Header{}
				}
				b.resp.Trailer[name] = values
			}
			return n, b.end()
		case b.ctx.Err() != nil:
			return n, b.ctx.Err()
		}
		if err := b.resume(err); err != nil {
			return 0, b.fail(err)
		}
	}
}

func (b *paidBody) fail(err error) error {
	return b.trip.t.fail(b.trip.target, b.trip.lane.id, err)
}

// step is how much is read before it is paid, in msat: half of the credit.
func (b *paidBody) step() uint64 { return b.trip.cost.credit / 2 }

// due is what was read and is not in the ledger yet, in msat; b.mu is held.
func (b *paidBody) due() uint64 {
	msat := b.trip.cost.body(b.read)
	msat -= min(msat, b.free)
	return msat - min(msat, b.entered)
}

// count counts bytes that were read, and pays where enough has come.
func (b *paidBody) count(n uint64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.read += n
	if !b.metered || b.failed != nil || b.due() < max(b.step(), 1) {
		return b.failed
	}
	return b.pay()
}

// pay enters what is due into the ledger, signs for it and sends it; b.mu is held.
func (b *paidBody) pay() error {
	due := b.due()
	if due == 0 {
		return nil
	}
	l := b.trip.lane
	claimed := min(due, b.claims)
	if err := l.owe(b.ctx, due, claimed); err != nil {
		b.failed = err
		return err
	}
	b.entered += due
	b.claims -= claimed
	l.push(b.trip.target, b.trip.expect)
	return nil
}

// payWhenIdle pays for what was read where the next read takes long, and sends again
// what did not get through: the provider may be waiting for it.
func (b *paidBody) payWhenIdle() (stop func()) {
	if !b.metered {
		return func() {}
	}
	every := idlePay
	var timer *time.Timer
	var mu sync.Mutex
	over := false
	mu.Lock()
	timer = time.AfterFunc(every, func() {
		b.idle()
		mu.Lock()
		defer mu.Unlock()
		if every = min(2*every, idleMost); !over {
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

// idle is what is done while a read waits.
func (b *paidBody) idle() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.done || b.failed != nil {
		return
	}
	if b.due() == 0 {
		if b.trip.lane.unsent() {
			b.trip.lane.push(b.trip.target, b.trip.expect)
		}
		return
	}
	if b.pay() != nil {
		_ = b.body.Close() // the read that waits ends, and says why
	}
}

// end pays for the last of a body that came to its end.
func (b *paidBody) end() error {
	b.mu.Lock()
	if b.done {
		b.mu.Unlock()
		return io.EOF
	}
	b.done = true
	var err error
	if b.metered && b.failed == nil {
		err = b.pay()
	}
	b.drop()
	b.mu.Unlock()
	b.trip.lane.ended(0)
	if err != nil {
		return b.fail(err)
	}
	return io.EOF
}

// drop gives back what was claimed and did not come; b.mu is held.
func (b *paidBody) drop() {
	l := b.trip.lane
	l.mu.Lock()
	defer l.mu.Unlock()
	l.claims -= min(l.claims, b.claims)
	b.claims = 0
}

// Close implements io.Closer. What was read is paid.
func (b *paidBody) Close() error {
	err := b.body.Close()
	b.mu.Lock()
	if b.done {
		b.mu.Unlock()
		return err
	}
	b.done = true
	var failed error
	left := uint64(0)
	if b.metered {
		if b.failed == nil {
			failed = b.pay()
		}
		left = max(b.trip.cost.credit, b.trip.cost.first())
	}
	b.drop()
	b.mu.Unlock()
	b.trip.lane.ended(left)
	if failed != nil {
		return errors.Join(err, b.fail(failed))
	}
	return err
}

// resume asks for an answer that broke off once more, under the same key, and goes on
// where it ended. What was charged of it is not charged again.
func (b *paidBody) resume(why error) error {
	r := b.trip
	if err := b.body.Close(); err != nil {
		r.t.c.cfg.Log.Debug("a broken answer did not close", "error", err)
	}
	b.mu.Lock()
	read, failed := b.read, b.failed
	b.mu.Unlock()
	switch {
	case failed != nil:
		return failed
	case r.body == nil:
		return fmt.Errorf("%w: %w", ErrBody, why)
	case b.breaks >= r.t.cfg.Retries:
		return unreachable("the answer breaks off again and again: %w", why)
	}
	if err := r.t.c.cfg.Sleep(b.ctx, patience(b.breaks, why)); err != nil {
		return err
	}
	b.breaks++
	r.t.c.cfg.Log.Debug("an answer is gone on with", "url", r.target, "at", read, "reason", why)
	l := r.lane
	q, err := r.t.c.current(b.ctx, r.target, r.expect)
	if err != nil {
		return err
	}
	resp, receipt, err := r.pay(b.ctx, q)
	if err != nil {
		return err
	}
	if receipt == nil || r.lane != l || resp.StatusCode != b.resp.StatusCode {
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
	b.cur, b.body = resp, resp.Body
	return b.skip(read)
}

// skip reads over what came before, and makes sure that it is the same.
func (b *paidBody) skip(n uint64) error {
	sum := newHash()
	if _, err := io.CopyN(sum, b.body, int64(n)); err != nil {
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
