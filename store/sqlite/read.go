package sqlite

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/spillway/spillway/store"
)

// readers is how many connections read at once, at most.
const readers = 4

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sum is the checksum of an entry: CRC-32C over bucket, key, revision and value,
// lengths first.
func sum(bucket, key string, revision uint64, value []byte) int64 {
	var b [24]byte
	binary.BigEndian.PutUint64(b[:], uint64(len(bucket)))
	binary.BigEndian.PutUint64(b[8:], uint64(len(key)))
	binary.BigEndian.PutUint64(b[16:], revision)
	c := crc32.Update(0, castagnoli, b[:])
	c = crc32.Update(c, castagnoli, []byte(bucket))
	c = crc32.Update(c, castagnoli, []byte(key))
	return int64(crc32.Update(c, castagnoli, value))
}

func (s *Store) prepareReads(ctx context.Context) (err error) {
	for _, q := range []struct {
		to   **sql.Stmt
		text string
	}{
		{&s.get, "SELECT key, revision, value, sum FROM entries WHERE bucket = ? AND key = ?"},
		{&s.list, "SELECT key, revision, value, sum FROM entries WHERE bucket = ? AND key >= ? AND key < ? ORDER BY key"},
		{&s.listEnd, "SELECT key, revision, value, sum FROM entries WHERE bucket = ? AND key >= ? ORDER BY key"},
	} {
		if *q.to, err = s.read.PrepareContext(ctx, q.text); err != nil {
			return err
		}
	}
	return nil
}

// Get implements store.Store.
func (s *Store) Get(ctx context.Context, bucket, key string) (store.Entry, error) {
	if err := s.usable(ctx); err != nil {
		return store.Entry{}, err
	}
	e, known, asked := s.cache.get(bucket, key)
	if known {
		return e, nil
	}
	e, err := scan(s.get.QueryRowContext(ctx, bucket, key), bucket)
	if errors.Is(err, sql.ErrNoRows) {
		return store.Entry{}, store.ErrNotFound
	}
	if err == nil {
		s.cache.learn(asked, e)
	}
	return e, s.answer(err)
}

// usable tells why nothing can be asked of the store.
func (s *Store) usable(ctx context.Context) error {
	if s.closed() {
		return store.ErrClosed
	}
	return ctx.Err()
}

// answer turns an error of a query that ran while the store was closed into that.
func (s *Store) answer(err error) error {
	if err != nil && s.closed() {
		return store.ErrClosed
	}
	return classify(err)
}

// scan reads an entry and checks its sum. Errors: store.ErrDamaged.
func scan(row interface{ Scan(...any) error }, bucket string) (store.Entry, error) {
	e := store.Entry{Bucket: bucket}
	var want sql.NullInt64
	if err := row.Scan(&e.Key, &e.Revision, &e.Value, &want); err != nil {
		return store.Entry{}, err
	}
	if e.Value == nil {
		e.Value = []byte{} // empty is a value; nil, written back, would delete it
	}
	if want.Valid && want.Int64 != sum(bucket, e.Key, e.Revision, e.Value) {
		return store.Entry{}, fmt.Errorf("%w: %s %s at revision %d has not the checksum that it was saved with", store.ErrDamaged, bucket, e.Key, e.Revision)
	}
	return e, nil
}

// List implements store.Store.
func (s *Store) List(ctx context.Context, bucket, prefix string) (all []store.Entry, err error) {
	if err := s.usable(ctx); err != nil {
		return nil, err
	}
	var rows *sql.Rows
	if end, ok := after(prefix); ok {
		rows, err = s.list.QueryContext(ctx, bucket, prefix, end)
	} else {
		rows, err = s.listEnd.QueryContext(ctx, bucket, prefix)
	}
	if err != nil {
		return nil, s.answer(err)
	}
	defer func() {
		if e := rows.Close(); err == nil && e != nil {
			all, err = nil, s.answer(e)
		}
	}()
	for rows.Next() {
		e, err := scan(rows, bucket)
		if err != nil {
			return nil, s.answer(err)
		}
		all = append(all, e)
	}
	if err := rows.Err(); err != nil {
		return nil, s.answer(err)
	}
	return all, nil
}

// after is the first string above all those that begin with prefix, if there is
// one. SQLite compares texts by their bytes, as Go does.
func after(prefix string) (string, bool) {
	b := []byte(prefix)
	for i := len(b) - 1; i >= 0; i-- {
		if b[i] < 0xff {
			b[i]++
			return string(b[:i+1]), true
		}
	}
	return "", false
}
