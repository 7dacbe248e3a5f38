// Package memdb is a database for btcd's blockchain that lives in memory alone. The devnet keeps its durable
// state in a log of its own and builds everything else from that at start, so what btcd itself stores need not
// touch a disk. It validates nothing, persists nothing, and never outlives its process.
package memdb

import (
	"bytes"
	"sync"

	"github.com/btcsuite/btcd/btcutil/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/database"
	"github.com/btcsuite/btcd/wire/v2"
)

// DB implements database.DB: one writer or many readers at a time, a failed Update leaves no trace.
type DB struct {
	mu     sync.RWMutex
	root   *node
	blocks map[chainhash.Hash][]byte
	closed bool
}

var _ database.DB = (*DB)(nil)

// New makes an empty database.
func New() *DB {
	return &DB{root: newNode(), blocks: map[chainhash.Hash][]byte{}}
}

// Type implements database.DB.
func (db *DB) Type() string { return "memory" }

// Begin implements database.DB. A transaction must be committed or rolled back before a writer may follow.
func (db *DB) Begin(writable bool) (database.Tx, error) { return db.begin(writable) }

func (db *DB) begin(writable bool) (*transaction, error) {
	if writable {
		db.mu.Lock()
	} else {
		db.mu.RLock()
	}
	t := &transaction{db: db, writable: writable}
	if db.closed {
		t.release()
		return nil, fail(database.ErrDbNotOpen, "the database is closed")
	}
	return t, nil
}

// View implements database.DB.
func (db *DB) View(fn func(database.Tx) error) error {
	t, err := db.begin(false)
	if err != nil {
		return err
	}
	defer t.release()
	return fn(t)
}

// Update implements database.DB: it commits when fn returns nil and undoes everything otherwise.
func (db *DB) Update(fn func(database.Tx) error) error {
	t, err := db.begin(true)
	if err != nil {
		return err
	}
	done := false
	defer func() {
		if !done {
			t.revert()
		}
		t.release()
	}()
	if err := fn(t); err != nil {
		return err
	}
	done = true
	return nil
}

// Close implements database.DB.
func (db *DB) Close() error {
	db.mu.Lock()
	defer db.mu.Unlock()
	if db.closed {
		return fail(database.ErrDbNotOpen, "the database is closed")
	}
	db.closed = true
	return nil
}

func fail(code database.ErrorCode, what string) error {
	return database.Error{ErrorCode: code, Description: what}
}

// transaction implements database.Tx. Every change pushes how to undo it.
type transaction struct {
	db       *DB
	writable bool
	closed   bool
	undo     []func()
}

func (t *transaction) revert() {
	for i := len(t.undo) - 1; i >= 0; i-- {
		t.undo[i]()
	}
	t.undo = nil
}

func (t *transaction) release() {
	if t.closed {
		return
	}
	t.closed = true
	if t.writable {
		t.db.mu.Unlock()
	} else {
		t.db.mu.RUnlock()
	}
}

// check says whether the transaction is open, and writable where that is asked.
func (t *transaction) check(write bool) error {
	switch {
	case t.closed:
		return fail(database.ErrTxClosed, "the transaction is closed")
	case write && !t.writable:
		return fail(database.ErrTxNotWritable, "the transaction is read-only")
	}
	return nil
}

// Metadata implements database.Tx.
func (t *transaction) Metadata() database.Bucket { return &bucket{t, t.db.root} }

// StoreBlock implements database.Tx.
func (t *transaction) StoreBlock(block *btcutil.Block) error {
	if err := t.check(true); err != nil {
		return err
	}
	hash := *block.Hash()
	if _, ok := t.db.blocks[hash]; ok {
		return fail(database.ErrBlockExists, "block "+hash.String()+" is there already")
	}
	raw, err := block.Bytes()
	if err != nil {
		return err
	}
	t.db.blocks[hash] = raw
	t.undo = append(t.undo, func() { delete(t.db.blocks, hash) })
	return nil
}

// HasBlock implements database.Tx.
func (t *transaction) HasBlock(hash *chainhash.Hash) (bool, error) {
	if err := t.check(false); err != nil {
		return false, err
	}
	_, ok := t.db.blocks[*hash]
	return ok, nil
}

// HasBlocks implements database.Tx.
func (t *transaction) HasBlocks(hashes []chainhash.Hash) ([]bool, error) {
	all := make([]bool, len(hashes))
	for i := range hashes {
		var err error
		if all[i], err = t.HasBlock(&hashes[i]); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// FetchBlock implements database.Tx.
func (t *transaction) FetchBlock(hash *chainhash.Hash) ([]byte, error) {
	if err := t.check(false); err != nil {
		return nil, err
	}
	raw, ok := t.db.blocks[*hash]
	if !ok {
		return nil, fail(database.ErrBlockNotFound, "block "+hash.String()+" is not there")
	}
	return raw, nil
}

// FetchBlocks implements database.Tx.
func (t *transaction) FetchBlocks(hashes []chainhash.Hash) ([][]byte, error) {
	return each(hashes, t.FetchBlock)
}

// FetchBlockHeader implements database.Tx.
func (t *transaction) FetchBlockHeader(hash *chainhash.Hash) ([]byte, error) {
	return t.FetchBlockRegion(&database.BlockRegion{Hash: hash, Len: wire.MaxBlockHeaderPayload})
}

// FetchBlockHeaders implements database.Tx.
func (t *transaction) FetchBlockHeaders(hashes []chainhash.Hash) ([][]byte, error) {
	return each(hashes, t.FetchBlockHeader)
}

func each(hashes []chainhash.Hash, fetch func(*chainhash.Hash) ([]byte, error)) ([][]byte, error) {
	all := make([][]byte, len(hashes))
	for i := range hashes {
		var err error
		if all[i], err = fetch(&hashes[i]); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// FetchBlockRegion implements database.Tx.
func (t *transaction) FetchBlockRegion(r *database.BlockRegion) ([]byte, error) {
	raw, err := t.FetchBlock(r.Hash)
	if err != nil {
		return nil, err
	}
	end := uint64(r.Offset) + uint64(r.Len)
	if end > uint64(len(raw)) {
		return nil, fail(database.ErrBlockRegionInvalid, "the region ends after the block")
	}
	return raw[r.Offset:end], nil
}

// FetchBlockRegions implements database.Tx.
func (t *transaction) FetchBlockRegions(regions []database.BlockRegion) ([][]byte, error) {
	all := make([][]byte, len(regions))
	for i := range regions {
		var err error
		if all[i], err = t.FetchBlockRegion(&regions[i]); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// PruneBlocks implements database.Tx; nothing is ever pruned.
func (t *transaction) PruneBlocks(uint64) ([]chainhash.Hash, error) { return nil, t.check(true) }

// BeenPruned implements database.Tx.
func (t *transaction) BeenPruned() (bool, error) { return false, t.check(false) }

// Commit implements database.Tx.
func (t *transaction) Commit() error {
	if err := t.check(true); err != nil {
		return err
	}
	t.undo = nil
	t.release()
	return nil
}

// Rollback implements database.Tx.
func (t *transaction) Rollback() error {
	if err := t.check(false); err != nil {
		return err
	}
	t.revert()
	t.release()
	return nil
}

// node is a bucket's content.
type node struct {
	values map[string][]byte
	nested map[string]*node
}

func newNode() *node { return &node{map[string][]byte{}, map[string]*node{}} }

// keep copies a value and never gives nil, so that an empty value differs from an absent one.
func keep(v []byte) []byte { return append(make([]byte, 0, len(v)), v...) }

func less(a, b string) int { return bytes.Compare([]byte(a), []byte(b)) }
