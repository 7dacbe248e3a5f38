package sqlite

import (
	"context"
	"errors"
	"fmt"
	"runtime"

	"github.com/spillway/spillway/store"
)

// Limits of what shares one transaction.
const (
	batchOps   = 8192
	batchBytes = 16 << 20
)

// pending is one commit that waits for its answer.
type pending struct {
	ops    []store.Op
	answer chan error // holds one
}

// size is the bytes that a commit writes.
func (p *pending) size() (n int) {
	for _, op := range p.ops {
		n += len(op.Bucket) + len(op.Key) + len(op.Value)
	}
	return n
}

// Commit implements store.Store. Once the committer has taken it up its answer is
// waited for, whatever happens to ctx: the answer is then the truth.
func (s *Store) Commit(ctx context.Context, ops ...store.Op) error {
	if err := store.Check(ops); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	p := &pending{ops: ops, answer: make(chan error, 1)}
	if err := s.hand(p); err != nil || len(ops) == 0 {
		return err
	}
	select {
	case err := <-p.answer:
		return err
	case <-ctx.Done():
		if s.withdraw(p) {
			return ctx.Err()
		}
		return <-p.answer
	}
}

// hand gives a commit to the committer.
func (s *Store) hand(p *pending) error {
	s.mu.Lock()
	if s.shut {
		s.mu.Unlock()
		return store.ErrClosed
	}
	if s.failed != nil {
		s.mu.Unlock()
		return s.failed
	}
	if len(p.ops) > 0 {
		s.waiting = append(s.waiting, p)
	}
	s.mu.Unlock()
	s.nudge()
	return nil
}

func (s *Store) nudge() {
	select {
	case s.wake <- struct{}{}:
	default: // told already
	}
}

// withdraw takes a commit back that the committer has not taken up.
func (s *Store) withdraw(p *pending) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, q := range s.waiting {
		if q == p {
			s.waiting = append(s.waiting[:i:i], s.waiting[i+1:]...)
			return true
		}
	}
	return false
}

// run is the committer: it takes whatever waits, and commits it together, until
// the store is closed and nothing waits.
func (s *Store) run() {
	defer close(s.done)
	for range s.wake {
		for batch := s.gather(); len(batch) > 0; batch = s.gather() {
			s.commit(batch)
		}
		if s.closed() {
			return
		}
	}
}

// gather takes the commits that wait now. It yields first, as long as that brings
// more: whoever is about to hand one in gets the chance.
func (s *Store) gather() []*pending {
	for before, round := -1, 0; round < 8; round++ {
		runtime.Gosched()
		s.mu.Lock()
		now := len(s.waiting)
		s.mu.Unlock()
		if now == before {
			break
		}
		before = now
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n, ops, bytes := 0, 0, 0
	for n < len(s.waiting) && (n == 0 || ops < batchOps && bytes < batchBytes) {
		ops, bytes = ops+len(s.waiting[n].ops), bytes+s.waiting[n].size()
		n++
	}
	batch := s.waiting[:n:n]
	s.waiting = s.waiting[n:]
	s.taken += n
	return batch
}

// commit writes a batch and answers every commit of it: with its own conflict, or
// with what became of the transaction. A batch that fails is tried again one by
// one, so that one commit that needs too much room does not fail the others.
func (s *Store) commit(batch []*pending) {
	if err := s.broken(); err != nil {
		answer(batch, err)
		return
	}
	conflicts, err := s.w.transact(batch)
	switch {
	case err == nil:
		for i, p := range batch {
			p.answer <- conflicts[i]
		}
	case gone(err):
		s.fail(err)
		answer(batch, s.broken())
	case len(batch) == 1, errors.Is(classify(err), store.ErrLocked):
		answer(batch, fmt.Errorf("%s: %w", s.path, classify(err)))
	default:
		for i := range batch {
			s.commit(batch[i : i+1])
		}
	}
}

func answer(batch []*pending, err error) {
	for _, p := range batch {
		p.answer <- err
	}
}

// broken is the error of a disk that failed.
func (s *Store) broken() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed
}

func (s *Store) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failed = fmt.Errorf("%w: %s: %w", store.ErrFailed, s.path, err)
}
