package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"runtime"

	"github.com/spillway/spillway/store"
)

// maxBatch is how many commits share one transaction at the most.
const maxBatch = 512

// pending is one commit that waits for its answer.
type pending struct {
	ops    []store.Op
	answer chan error
}

// Commit implements store.Store. Once it was handed to the committer its answer
// is waited for, whatever happens to ctx: the answer is then the truth.
func (s *Store) Commit(ctx context.Context, ops ...store.Op) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if len(ops) == 0 {
		return nil
	}
	p := &pending{ops: ops, answer: make(chan error, 1)}
	s.mu.RLock()
	if s.shut {
		s.mu.RUnlock()
		return store.ErrClosed
	}
	select {
	case s.queue <- p:
		s.mu.RUnlock()
	case <-ctx.Done():
		s.mu.RUnlock()
		return ctx.Err()
	}
	return <-p.answer
}

// run is the committer: it takes whatever waits, and commits it together.
func (s *Store) run() {
	defer close(s.done)
	for {
		select {
		case p := <-s.queue:
			s.commit(s.gather(p))
		case <-s.stop:
			return
		}
	}
}

// gather takes the commits that wait now. It yields first: whoever is about to
// hand one in gets the chance.
func (s *Store) gather(first *pending) []*pending {
	batch := []*pending{first}
	for range 2 {
		runtime.Gosched()
		for more := true; more && len(batch) < maxBatch; {
			select {
			case p := <-s.queue:
				batch = append(batch, p)
			default:
				more = false
			}
		}
	}
	return batch
}

// commit answers every commit of a batch: with its own conflict, or with what
// became of the transaction.
func (s *Store) commit(batch []*pending) {
	answers, err := s.transact(batch)
	for i, p := range batch {
		switch {
		case err != nil:
			p.answer <- err
		default:
			p.answer <- answers[i]
		}
	}
}

func (s *Store) transact(batch []*pending) (answers []error, err error) {
	ctx := context.Background()
	tx, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return nil, classify(err)
	}
	defer func() {
		if err != nil {
			if rb := tx.Rollback(); rb != nil && !errors.Is(rb, sql.ErrTxDone) {
				err = errors.Join(err, classify(rb))
			}
		}
	}()
	var seq uint64
	if err := tx.QueryRow("SELECT revision FROM counter WHERE id = 1").Scan(&seq); err != nil {
		return nil, classify(err)
	}
	start := seq
	answers = make([]error, len(batch))
	for i, p := range batch {
		conflict, err := check(tx, p.ops)
		if err != nil {
			return nil, classify(err)
		}
		if conflict != nil {
			answers[i] = conflict
			continue
		}
		if seq, err = apply(tx, p.ops, seq); err != nil {
			return nil, classify(err)
		}
	}
	if seq == start {
		return answers, classify(tx.Rollback())
	}
	if _, err := tx.Exec("UPDATE counter SET revision = ? WHERE id = 1", seq); err != nil {
		return nil, classify(err)
	}
	return answers, classify(tx.Commit())
}

// check compares every op's expected revision with what is there.
func check(tx *sql.Tx, ops []store.Op) (conflict, err error) {
	for i, op := range ops {
		var have uint64
		err := tx.QueryRow("SELECT revision FROM entries WHERE bucket = ? AND key = ?", op.Bucket, op.Key).Scan(&have)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return nil, err
		}
		twice := false
		for _, before := range ops[:i] {
			twice = twice || before.Bucket == op.Bucket && before.Key == op.Key
		}
		if twice || op.Expect != store.Any && op.Expect != have {
			return &store.ConflictError{Bucket: op.Bucket, Key: op.Key, Expected: op.Expect, Have: have}, nil
		}
	}
	return nil, nil
}

func apply(tx *sql.Tx, ops []store.Op, seq uint64) (uint64, error) {
	for _, op := range ops {
		seq++
		var err error
		if op.Value == nil {
			_, err = tx.Exec("DELETE FROM entries WHERE bucket = ? AND key = ?", op.Bucket, op.Key)
		} else {
			_, err = tx.Exec(`INSERT INTO entries (bucket, key, revision, value) VALUES (?, ?, ?, ?)
				ON CONFLICT (bucket, key) DO UPDATE SET revision = excluded.revision, value = excluded.value`, op.Bucket, op.Key, seq, op.Value)
		}
		if err != nil {
			return seq, err
		}
	}
	return seq, nil
}
