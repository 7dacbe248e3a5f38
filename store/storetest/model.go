package storetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"pgregory.net/rapid"

	"github.com/spillway/spillway/store"
)

// fataler is a test of either kind.
type fataler interface{ Fatal(args ...any) }

// reopened is a store that is closed and opened again before each read.
type reopened struct {
	t    fataler
	open func() (store.Store, error)
	mu   sync.Mutex
	store.Store
}

func (r *reopened) again() {
	r.close()
	s, err := r.open()
	if err != nil {
		r.t.Fatal(err)
	}
	r.Store = s
}

func (r *reopened) close() {
	if r.Store != nil {
		if err := r.Store.Close(); err != nil {
			r.t.Fatal(err)
		}
	}
}

// Get implements store.Store.
func (r *reopened) Get(c context.Context, bucket, key string) (store.Entry, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.again()
	return r.Store.Get(c, bucket, key)
}

// List implements store.Store.
func (r *reopened) List(c context.Context, bucket, prefix string) ([]store.Entry, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.again()
	return r.Store.List(c, bucket, prefix)
}

// cell is what the model holds of an entry.
type cell struct {
	value string
	rev   uint64
}

// machine is a store and the plain map that it is compared with.
type machine struct {
	s     store.Store
	cells map[[2]string]cell
	floor uint64 // the highest revision of a deletion
}

// model runs random actions on a store and on a plain map: they answer alike.
func model(t *rapid.T, open func() store.Store, reopens bool) {
	m := &machine{s: open(), cells: map[[2]string]cell{}}
	actions := map[string]func(*rapid.T){
		"commit": m.commit, "commit again": m.commit, "get": m.get, "list": m.list,
		"": func(t *rapid.T) { m.compare(t, "b1", ""); m.compare(t, "b2", "") },
	}
	if reopens {
		actions["reopen"] = func(*rapid.T) { m.s = open() }
		delete(actions, "")
		actions["list all"] = func(t *rapid.T) { m.compare(t, "b1", ""); m.compare(t, "b2", "") }
	}
	t.Repeat(actions)
}

var (
	buckets = rapid.SampledFrom([]string{"b1", "b2"})
	keys    = rapid.SampledFrom([]string{"a", "a/1", "a/2", "b", "ü"})
)

// op draws one op, most of them with a revision that fits.
func (m *machine) op(t *rapid.T) store.Op {
	op := store.Op{Bucket: buckets.Draw(t, "bucket"), Key: keys.Draw(t, "key")}
	have := m.cells[[2]string{op.Bucket, op.Key}].rev
	op.Expect = rapid.SampledFrom([]uint64{have, have, have, store.Any, 0, have + 1, max(have, 1) - 1}).Draw(t, "expect")
	if rapid.IntRange(0, 3).Draw(t, "kind") > 0 {
		op.Value = []byte(rapid.StringN(0, 5, 20).Draw(t, "value"))
	}
	return op
}

func (m *machine) commit(t *rapid.T) {
	ops := make([]store.Op, rapid.IntRange(0, 4).Draw(t, "ops"))
	named, want := map[[2]string]bool{}, error(nil)
	for i := range ops {
		ops[i] = m.op(t)
		at := [2]string{ops[i].Bucket, ops[i].Key}
		if ops[i].Expect != store.Any && ops[i].Expect != m.cells[at].rev && want == nil {
			want = store.ErrConflict
		}
		named[at] = true
	}
	if len(named) < len(ops) {
		want = store.ErrInvalid
	}
	err := m.s.Commit(ctx, ops...)
	if !errors.Is(err, want) || (err == nil) != (want == nil) {
		t.Fatalf("commit %+v on %v: %v, want %v", ops, m.cells, err, want)
	}
	if err != nil {
		return
	}
	for _, op := range ops {
		m.apply(op)
	}
}

func (m *machine) apply(op store.Op) {
	at := [2]string{op.Bucket, op.Key}
	have, there := m.cells[at]
	switch {
	case op.Value == nil && there:
		m.floor = max(m.floor, have.rev+1)
		delete(m.cells, at)
	case op.Value == nil:
	case there:
		m.cells[at] = cell{string(op.Value), have.rev + 1}
	default:
		m.cells[at] = cell{string(op.Value), m.floor + 1}
	}
}

func (m *machine) get(t *rapid.T) {
	at := [2]string{buckets.Draw(t, "bucket"), keys.Draw(t, "key")}
	want, there := m.cells[at]
	e, err := m.s.Get(ctx, at[0], at[1])
	switch {
	case there && (err != nil || string(e.Value) != want.value || e.Revision != want.rev):
		t.Fatalf("get %q: %+v, %v; want %+v", at, e, err, want)
	case !there && !errors.Is(err, store.ErrNotFound):
		t.Fatalf("get %q, which is not there: %+v, %v", at, e, err)
	}
}

func (m *machine) list(t *rapid.T) {
	m.compare(t, buckets.Draw(t, "bucket"), rapid.SampledFrom([]string{"", "a", "a/", "b", "\xc3", "z"}).Draw(t, "prefix"))
}

// compare lists a bucket and the map.
func (m *machine) compare(t *rapid.T, bucket, prefix string) {
	all, err := m.s.List(ctx, bucket, prefix)
	if err != nil {
		t.Fatalf("list %s %q: %v", bucket, prefix, err)
	}
	var got, want []string
	for _, e := range all {
		got = append(got, fmt.Sprintf("%q=%q@%d", e.Key, e.Value, e.Revision))
	}
	for _, at := range slices.SortedFunc(maps.Keys(m.cells), func(a, b [2]string) int { return strings.Compare(a[1], b[1]) }) {
		if at[0] == bucket && strings.HasPrefix(at[1], prefix) {
			want = append(want, fmt.Sprintf("%q=%q@%d", at[1], m.cells[at].value, m.cells[at].rev))
		}
	}
	if !slices.Equal(got, want) {
		t.Fatalf("list %s %q: %v, want %v", bucket, prefix, got, want)
	}
}
