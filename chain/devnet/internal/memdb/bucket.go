package memdb

import (
	"maps"
	"slices"

	"github.com/btcsuite/btcd/database"
)

// bucket implements database.Bucket within one transaction.
type bucket struct {
	t *transaction
	n *node
}

// Bucket implements database.Bucket.
func (b *bucket) Bucket(key []byte) database.Bucket {
	n, ok := b.n.nested[string(key)]
	if !ok || b.t.check(false) != nil {
		return nil
	}
	return &bucket{b.t, n}
}

// CreateBucket implements database.Bucket.
func (b *bucket) CreateBucket(key []byte) (database.Bucket, error) {
	k := string(key)
	if err := b.t.check(true); err != nil {
		return nil, err
	}
	if k == "" {
		return nil, fail(database.ErrBucketNameRequired, "a bucket needs a name")
	}
	if _, ok := b.n.nested[k]; ok {
		return nil, fail(database.ErrBucketExists, "the bucket is there already")
	}
	if _, ok := b.n.values[k]; ok {
		return nil, fail(database.ErrIncompatibleValue, "the key holds a value")
	}
	n := newNode()
	b.n.nested[k] = n
	b.t.undo = append(b.t.undo, func() { delete(b.n.nested, k) })
	return &bucket{b.t, n}, nil
}

// CreateBucketIfNotExists implements database.Bucket.
func (b *bucket) CreateBucketIfNotExists(key []byte) (database.Bucket, error) {
	if err := b.t.check(true); err != nil {
		return nil, err
	}
	if n, ok := b.n.nested[string(key)]; ok {
		return &bucket{b.t, n}, nil
	}
	return b.CreateBucket(key)
}

// DeleteBucket implements database.Bucket.
func (b *bucket) DeleteBucket(key []byte) error {
	if err := b.t.check(true); err != nil {
		return err
	}
	k := string(key)
	old, ok := b.n.nested[k]
	if !ok {
		return fail(database.ErrBucketNotFound, "there is no such bucket")
	}
	delete(b.n.nested, k)
	b.t.undo = append(b.t.undo, func() { b.n.nested[k] = old })
	return nil
}

// ForEach implements database.Bucket, in the order of the keys.
func (b *bucket) ForEach(fn func(k, v []byte) error) error {
	if err := b.t.check(false); err != nil {
		return err
	}
	for _, k := range slices.SortedFunc(maps.Keys(b.n.values), less) {
		if err := fn([]byte(k), b.n.values[k]); err != nil {
			return err
		}
	}
	return nil
}

// ForEachBucket implements database.Bucket, in the order of the names.
func (b *bucket) ForEachBucket(fn func(k []byte) error) error {
	if err := b.t.check(false); err != nil {
		return err
	}
	for _, k := range slices.SortedFunc(maps.Keys(b.n.nested), less) {
		if err := fn([]byte(k)); err != nil {
			return err
		}
	}
	return nil
}

// Writable implements database.Bucket.
func (b *bucket) Writable() bool { return b.t.writable }

// Put implements database.Bucket.
func (b *bucket) Put(key, value []byte) error {
	k := string(key)
	if err := b.t.check(true); err != nil {
		return err
	}
	if k == "" {
		return fail(database.ErrKeyRequired, "a value needs a key")
	}
	if _, ok := b.n.nested[k]; ok {
		return fail(database.ErrIncompatibleValue, "the key names a bucket")
	}
	b.remember(k)
	b.n.values[k] = keep(value)
	return nil
}

func (b *bucket) remember(k string) {
	old, ok := b.n.values[k]
	b.t.undo = append(b.t.undo, func() {
		if ok {
			b.n.values[k] = old
		} else {
			delete(b.n.values, k)
		}
	})
}

// Get implements database.Bucket.
func (b *bucket) Get(key []byte) []byte {
	if b.t.check(false) != nil {
		return nil
	}
	return b.n.values[string(key)]
}

// Delete implements database.Bucket.
func (b *bucket) Delete(key []byte) error {
	k := string(key)
	if err := b.t.check(true); err != nil {
		return err
	}
	if k == "" {
		return fail(database.ErrKeyRequired, "a value needs a key")
	}
	b.remember(k)
	delete(b.n.values, k)
	return nil
}

// Cursor implements database.Bucket. It walks the keys that are there when it is made.
func (b *bucket) Cursor() database.Cursor {
	keys := slices.Collect(maps.Keys(b.n.values))
	keys = slices.AppendSeq(keys, maps.Keys(b.n.nested))
	slices.SortFunc(keys, less)
	return &cursor{b: b, keys: keys, at: len(keys)}
}

// cursor implements database.Cursor.
type cursor struct {
	b    *bucket
	keys []string
	at   int // an index that is out of range: nowhere
}

func (c *cursor) move(at int) bool {
	if c.b.t.check(false) != nil || at < 0 || at >= len(c.keys) {
		c.at = len(c.keys)
		return false
	}
	c.at = at
	return true
}

func (c *cursor) valid() bool { return c.at < len(c.keys) && c.b.t.check(false) == nil }

// Bucket implements database.Cursor.
func (c *cursor) Bucket() database.Bucket { return c.b }

// Delete implements database.Cursor.
func (c *cursor) Delete() error {
	if err := c.b.t.check(true); err != nil {
		return err
	}
	if !c.valid() {
		return fail(database.ErrIncompatibleValue, "the cursor is nowhere")
	}
	if _, ok := c.b.n.nested[c.keys[c.at]]; ok {
		return fail(database.ErrIncompatibleValue, "the cursor is at a bucket")
	}
	return c.b.Delete([]byte(c.keys[c.at]))
}

// First implements database.Cursor.
func (c *cursor) First() bool { return c.move(0) }

// Last implements database.Cursor.
func (c *cursor) Last() bool { return c.move(len(c.keys) - 1) }

// Next implements database.Cursor.
func (c *cursor) Next() bool { return c.valid() && c.move(c.at+1) }

// Prev implements database.Cursor.
func (c *cursor) Prev() bool { return c.valid() && c.move(c.at-1) }

// Seek implements database.Cursor.
func (c *cursor) Seek(seek []byte) bool {
	at, _ := slices.BinarySearchFunc(c.keys, string(seek), less)
	return c.move(at)
}

// Key implements database.Cursor.
func (c *cursor) Key() []byte {
	if !c.valid() {
		return nil
	}
	return []byte(c.keys[c.at])
}

// Value implements database.Cursor.
func (c *cursor) Value() []byte {
	if !c.valid() {
		return nil
	}
	return c.b.n.values[c.keys[c.at]]
}
