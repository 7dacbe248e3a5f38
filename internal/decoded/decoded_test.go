package decoded

import (
	"strconv"
	"testing"
)

func TestRevisions(t *testing.T) {
	var v Values[int]
	if _, ok := v.Get("a", 1); ok {
		t.Error("nothing was put in")
	}
	v.Put("a", 1, 10)
	v.Put("b", 1, 20)
	v.Put("a", 2, 11)
	for _, c := range []struct {
		key      string
		revision uint64
		want     int
		ok       bool
	}{{"a", 2, 11, true}, {"a", 1, 0, false}, {"a", 3, 0, false}, {"b", 1, 20, true}, {"c", 1, 0, false}} {
		if got, ok := v.Get(c.key, c.revision); got != c.want || ok != c.ok {
			t.Errorf("%s at %d: %d, %v", c.key, c.revision, got, ok)
		}
	}
}

func TestBounded(t *testing.T) {
	var v Values[int]
	for i := range 3 * limit {
		v.Put(strconv.Itoa(i), 1, i)
		if got, ok := v.Get(strconv.Itoa(i), 1); !ok || got != i {
			t.Fatalf("%d: %d, %v", i, got, ok)
		}
	}
	if len(v.all) != limit {
		t.Errorf("%d values are kept", len(v.all))
	}
}

// What was not used for longest is forgotten first, and the limit can be another.
func TestLeastUsed(t *testing.T) {
	v := Values[int]{Limit: 3}
	for i := range 3 {
		if !v.Room() {
			t.Fatal("no room")
		}
		v.Put(strconv.Itoa(i), 1, i)
	}
	if v.Room() {
		t.Fatal("room for a fourth")
	}
	v.Get("0", 1)
	v.Put("1", 2, 1)
	v.Put("3", 1, 3)
	for key, want := range map[string]bool{"0": true, "2": false, "3": true} {
		if _, ok := v.Get(key, 1); ok != want {
			t.Errorf("%s: %v", key, ok)
		}
	}
	if got, ok := v.Get("1", 2); !ok || got != 1 || v.Len() != 3 {
		t.Errorf("%d, %v, %d values", got, ok, v.Len())
	}
	one := Values[int]{Limit: 1}
	for i := range 5 {
		one.Put(strconv.Itoa(i), 1, i)
		if got, ok := one.Get(strconv.Itoa(i), 1); !ok || got != i || one.Len() != 1 {
			t.Fatalf("%d: %d, %v", i, got, ok)
		}
	}
}
