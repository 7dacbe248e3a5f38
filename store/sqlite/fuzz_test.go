package sqlite

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/spillway/spillway/store"
	"github.com/spillway/spillway/store/memory"
)

// FuzzOps commits any writes to a file and to the store in memory: both take the same
// ones, refuse the others in the same words, and hold and list the same afterwards.
func FuzzOps(f *testing.F) {
	f.Add([]byte{0, 0, 1, 1, 0, 2, 2, 0, 1}, "a", "a\xf4\x8f\xbf\xbf", "a", []byte("v"))
	f.Add([]byte{0, 1, 0, 0, 1, 1, 0, 1, 0, 0, 1, 3}, "payee/channel", "z", "", []byte{})
	f.Add([]byte{4, 0, 0, 4, 0, 0}, "a\x00b", "", "\xff", []byte(nil))
	f.Add(bytes.Repeat([]byte{0, 0, 3, 2, 0, 3}, 9), "ü", "ü/", "ü", []byte{0})
	file := open(f, filepath.Join(f.TempDir(), "s.db"), Options{})
	model := memory.New()
	ctx, round := context.Background(), 0
	f.Fuzz(func(t *testing.T, tape []byte, one, two, prefix string, value []byte) {
		round++
		bucket := fmt.Sprint("b", round)
		keys := []string{one, two, one + two, "k"}
		var ops []store.Op
		for i := 0; i+2 < len(tape) && i < 60; i += 3 {
			op := store.Op{Bucket: bucket, Key: keys[tape[i+1]%4], Value: append([]byte{}, value...)}
			if tape[i]&1 == 1 {
				op.Value = nil
			}
			if e, err := model.Get(ctx, bucket, op.Key); err == nil && tape[i+2]%4 > 0 {
				op.Expect = e.Revision + uint64(tape[i+2]%4) - 1
			}
			if tape[i+2]&8 != 0 {
				op.Expect = store.Any
			}
			if ops = append(ops, op); tape[i]&4 == 0 {
				continue // more in the same commit
			}
			both(t, file.Commit(ctx, ops...), model.Commit(ctx, ops...))
			ops = nil
		}
		both(t, file.Commit(ctx, ops...), model.Commit(ctx, ops...))
		for _, key := range keys {
			got, err := file.Get(ctx, bucket, key)
			want, werr := model.Get(ctx, bucket, key)
			if both(t, err, werr); !reflect.DeepEqual(got, want) {
				t.Fatalf("%q: %+v in the file, %+v in memory", key, got, want)
			}
		}
		for _, p := range []string{"", prefix, one} {
			got, err := file.List(ctx, bucket, p)
			want, werr := model.List(ctx, bucket, p)
			if both(t, err, werr); len(got)+len(want) > 0 && !reflect.DeepEqual(got, want) {
				t.Fatalf("%q: %+v in the file, %+v in memory", p, got, want)
			}
		}
	})
}

// both fails where two stores answer differently.
func both(t *testing.T, file, model error) {
	t.Helper()
	if fmt.Sprint(file) != fmt.Sprint(model) {
		t.Fatalf("the file says %v, the memory %v", file, model)
	}
}

// FuzzFile opens a store's file with any of its bytes changed or cut off: it is
// refused, or what is read is what was saved, or damage is reported; nothing else is
// ever answered.
func FuzzFile(f *testing.F) {
	dir := f.TempDir()
	path := filepath.Join(dir, "good.db")
	s, err := Open(context.Background(), path, Options{})
	if err != nil {
		f.Fatal(err)
	}
	ctx, saved := context.Background(), map[string]string{}
	for i := range 40 {
		key, value := fmt.Sprintf("key %d", i), fmt.Sprintf("%d %s", i, bytes.Repeat([]byte{byte('a' + i%26)}, 50*i))
		if err := s.Commit(ctx, put(key, value, 0)); err != nil {
			f.Fatal(err)
		}
		saved[key] = value
	}
	if err := s.Close(); err != nil {
		f.Fatal(err)
	}
	good, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(uint32(len(good)), uint32(0), byte(0), []byte{})
	for _, at := range []int{0, 16, 24, 100, 1000, 4096, 5000, 8192 + 9, len(good) - 1} {
		f.Add(uint32(len(good)), uint32(at), byte(0xff), []byte{})
	}
	f.Add(uint32(4096), uint32(0), byte(0), []byte{})
	f.Add(uint32(0), uint32(0), byte(0), []byte("SQLite format 3\x00"))
	f.Fuzz(func(t *testing.T, length, at uint32, flip byte, tail []byte) {
		raw := append(bytes.Clone(good[:min(int(length), len(good))]), tail...)
		if len(raw) > 0 {
			raw[int(at)%len(raw)] ^= flip
		}
		path := filepath.Join(t.TempDir(), "s.db")
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Open(ctx, path, Options{})
		if err != nil {
			if !errors.Is(err, store.ErrDamaged) && !errors.Is(err, store.ErrNewer) {
				t.Fatalf("length %d, byte %d changed by %d: %v", length, at, flip, err)
			}
			return
		}
		defer func() {
			if err := s.Close(); err != nil && !errors.Is(err, store.ErrDamaged) {
				t.Error(err)
			}
		}()
		if len(raw) == 0 {
			return // an empty file is a new store
		}
		all, err := s.List(ctx, "b", "")
		if err != nil && !errors.Is(err, store.ErrDamaged) {
			t.Fatal(err)
		}
		for _, e := range all {
			if saved[e.Key] != string(e.Value) || e.Revision != 1 {
				t.Fatalf("byte %d changed by %d: %q is %q at revision %d", at, flip, e.Key, e.Value, e.Revision)
			}
		}
		if err == nil && len(all) != len(saved) {
			t.Fatalf("byte %d changed by %d: %d of %d entries, and nobody says so", at, flip, len(all), len(saved))
		}
	})
}
