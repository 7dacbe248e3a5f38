package memdb

import (
	"bytes"
	"errors"
	"maps"
	"slices"
	"testing"

	"github.com/btcsuite/btcd/btcutil/v2"
	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/database"
	"pgregory.net/rapid"
)

func code(err error) database.ErrorCode {
	var e database.Error
	if !errors.As(err, &e) {
		return -1
	}
	return e.ErrorCode
}

// TestModel: after any sequence of updates, of which some fail, the database holds what the ones that did not fail
// have put, in the order of its keys, forwards and backwards.
func TestModel(t *testing.T) {
	boom := errors.New("boom")
	rapid.Check(t, func(t *rapid.T) {
		db, want := New(), map[string]string{}
		names := rapid.SampledFrom([]string{"a", "b", "b\x00", "c", "\xff"})
		for range rapid.IntRange(1, 20).Draw(t, "updates") {
			next, fails := maps.Clone(want), rapid.Bool().Draw(t, "fails")
			err := db.Update(func(tx database.Tx) error {
				b, err := tx.Metadata().CreateBucketIfNotExists([]byte("bucket"))
				if err != nil {
					return err
				}
				for range rapid.IntRange(0, 5).Draw(t, "steps") {
					k := names.Draw(t, "key")
					if rapid.Bool().Draw(t, "put") {
						next[k] = rapid.StringN(0, 3, 3).Draw(t, "value")
						err = b.Put([]byte(k), []byte(next[k]))
					} else {
						delete(next, k)
						err = b.Delete([]byte(k))
					}
					if err != nil {
						return err
					}
				}
				if fails {
					return boom
				}
				return nil
			})
			if fails != errors.Is(err, boom) {
				t.Fatalf("an update that fails %v: %v", fails, err)
			}
			if !fails {
				want = next
			}
			compare(t, db, want)
		}
	})
}

func compare(t *rapid.T, db *DB, want map[string]string) {
	err := db.View(func(tx database.Tx) error {
		b := tx.Metadata().Bucket([]byte("bucket"))
		if b == nil {
			if len(want) > 0 {
				t.Fatal("the bucket is gone")
			}
			return nil
		}
		got := map[string]string{}
		var order []string
		if err := b.ForEach(func(k, v []byte) error {
			got[string(k)] = string(v)
			order = append(order, string(k))
			return nil
		}); err != nil {
			return err
		}
		if !maps.Equal(got, want) || !slices.IsSorted(order) {
			t.Fatalf("got %q in the order %q, want %q", got, order, want)
		}
		c := b.Cursor()
		var forth, back []string
		for ok := c.First(); ok; ok = c.Next() {
			forth = append(forth, string(c.Key()))
			if string(c.Value()) != want[string(c.Key())] {
				t.Fatalf("the cursor reads %q at %q", c.Value(), c.Key())
			}
		}
		for ok := c.Last(); ok; ok = c.Prev() {
			back = append(back, string(c.Key()))
		}
		slices.Reverse(back)
		if !slices.Equal(forth, order) || !slices.Equal(back, order) || c.Key() != nil || c.Value() != nil {
			t.Fatalf("the cursor walks %q and %q, want %q", forth, back, order)
		}
		if i, _ := slices.BinarySearch(order, "b\x00"); c.Seek([]byte("b\x00")) != (i < len(order)) {
			t.Fatal("the cursor does not find the next key")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestErrors(t *testing.T) {
	db := New()
	var stale database.Tx
	err := db.Update(func(tx database.Tx) error {
		stale = tx
		m := tx.Metadata()
		if _, err := m.CreateBucket([]byte("x")); err != nil {
			return err
		}
		for what, c := range map[string]struct {
			err  error
			want database.ErrorCode
		}{
			"bucket twice":      {second(m.CreateBucket([]byte("x"))), database.ErrBucketExists},
			"bucket nameless":   {second(m.CreateBucket(nil)), database.ErrBucketNameRequired},
			"no such bucket":    {m.DeleteBucket([]byte("y")), database.ErrBucketNotFound},
			"key nameless":      {m.Put(nil, nil), database.ErrKeyRequired},
			"key of a bucket":   {m.Put([]byte("x"), nil), database.ErrIncompatibleValue},
			"delete nameless":   {m.Delete(nil), database.ErrKeyRequired},
			"cursor is nowhere": {m.Cursor().Delete(), database.ErrIncompatibleValue},
		} {
			if code(c.err) != c.want {
				t.Errorf("%s: %v", what, c.err)
			}
		}
		if c := m.Cursor(); !c.First() || code(c.Delete()) != database.ErrIncompatibleValue || c.Value() != nil {
			t.Error("a cursor deletes a bucket")
		}
		if err := m.Put([]byte("empty"), nil); err != nil {
			return err
		}
		if v := m.Get([]byte("empty")); v == nil || len(v) > 0 || m.Get([]byte("none")) != nil {
			t.Error("an empty value is not told from none")
		}
		return m.DeleteBucket([]byte("x"))
	})
	if err != nil {
		t.Fatal(err)
	}
	if code(stale.Metadata().Put([]byte("k"), nil)) != database.ErrTxClosed || stale.Metadata().Get([]byte("empty")) != nil {
		t.Error("a transaction lives on")
	}
	err = db.View(func(tx database.Tx) error {
		return tx.Metadata().Put([]byte("k"), nil)
	})
	if code(err) != database.ErrTxNotWritable {
		t.Errorf("a view that writes: %v", err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if code(db.View(func(database.Tx) error { return nil })) != database.ErrDbNotOpen || code(db.Close()) != database.ErrDbNotOpen {
		t.Error("a closed database answers")
	}
}

func second[T any](_ T, err error) error { return err }

func TestBlocks(t *testing.T) {
	db := New()
	block := btcutil.NewBlock(chaincfg.RegressionNetParams.GenesisBlock)
	raw, err := block.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	tx, err := db.Begin(true)
	if err != nil {
		t.Fatal(err)
	}
	if err := tx.StoreBlock(block); err != nil {
		t.Fatal(err)
	}
	if code(tx.StoreBlock(block)) != database.ErrBlockExists {
		t.Error("a block twice")
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	if err := db.View(func(tx database.Tx) error {
		if has, err := tx.HasBlock(block.Hash()); has || err != nil {
			t.Errorf("a block that was rolled back is there: %v", err)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := db.Update(func(tx database.Tx) error { return tx.StoreBlock(block) }); err != nil {
		t.Fatal(err)
	}
	if err := db.View(func(tx database.Tx) error { return readBack(t, tx, block.Hash(), raw) }); err != nil {
		t.Fatal(err)
	}
}

func readBack(t *testing.T, tx database.Tx, hash *chainhash.Hash, raw []byte) error {
	all, err := tx.FetchBlocks([]chainhash.Hash{*hash})
	if err != nil || !bytes.Equal(all[0], raw) {
		t.Errorf("the block is not the one that was stored: %v", err)
	}
	headers, err := tx.FetchBlockHeaders([]chainhash.Hash{*hash})
	if err != nil || !bytes.Equal(headers[0], raw[:80]) {
		t.Errorf("the header is not the block's: %v", err)
	}
	regions, err := tx.FetchBlockRegions([]database.BlockRegion{{Hash: hash, Offset: 4, Len: 32}})
	if err != nil || !bytes.Equal(regions[0], raw[4:36]) {
		t.Errorf("a region is not the block's: %v", err)
	}
	for _, r := range []database.BlockRegion{{Hash: hash, Offset: uint32(len(raw)), Len: 1}, {Hash: hash, Offset: 1<<32 - 1, Len: 1<<32 - 1}} {
		if _, err := tx.FetchBlockRegion(&r); code(err) != database.ErrBlockRegionInvalid {
			t.Errorf("a region beyond the block: %v", err)
		}
	}
	if _, err := tx.FetchBlock(&chainhash.Hash{1}); code(err) != database.ErrBlockNotFound {
		t.Errorf("an unknown block: %v", err)
	}
	has, err := tx.HasBlocks([]chainhash.Hash{*hash, {1}})
	if err != nil || !has[0] || has[1] {
		t.Errorf("has %v: %v", has, err)
	}
	return nil
}
