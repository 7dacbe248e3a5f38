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
