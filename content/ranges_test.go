package content_test

import (
	"encoding/json"
	"errors"
	"math"
	"testing"

	"github.com/spillway/spillway/content"
	"pgregory.net/rapid"
)

// Ranges behave as a bitmap does.
func TestRangesAgainstBitmap(t *testing.T) {
	const size = 200
	rapid.Check(t, func(t *rapid.T) {
		var r content.Ranges
		var bitmap [size]bool
		for range rapid.IntRange(0, 30).Draw(t, "adds") {
			start := rapid.Uint64Range(0, size).Draw(t, "start")
			end := rapid.Uint64Range(0, size).Draw(t, "end")
			r.Add(start, end)
			for i := start; i < end; i++ {
				bitmap[i] = true
			}
		}
		start := rapid.Uint64Range(0, size).Draw(t, "from")
		end := rapid.Uint64Range(0, size).Draw(t, "to")
		var within, total uint64
		missing := map[uint64]bool{}
		for i, set := range bitmap {
			in := uint64(i) >= start && uint64(i) < end
			if set {
				total++
			}
			if in && set {
				within++
			} else if in {
				missing[uint64(i)] = true
			}
		}
		if r.Total() != total || r.Within(start, end) != within || r.Contains(start, end) != (len(missing) == 0) {
			t.Fatalf("%v: total %d of %d, within %d of %d, contains %v", r.List(), r.Total(), total, r.Within(start, end), within, r.Contains(start, end))
		}
		checkMissing(t, r.Missing(start, end), missing)
		checkShape(t, &r)
		checkSerial(t, &r)
	})
}

func checkMissing(t *rapid.T, got []content.Range, want map[uint64]bool) {
	var n int
	for i, v := range got {
		if v.Len() == 0 || (i > 0 && v.Start <= got[i-1].End) {
			t.Fatalf("missing %v", got)
		}
		for b := v.Start; b < v.End; b++ {
			if !want[b] {
				t.Fatalf("byte %d is not missing", b)
			}
			n++
		}
	}
	if n != len(want) {
		t.Fatalf("%d bytes missing, want %d", n, len(want))
	}
}

func checkShape(t *rapid.T, r *content.Ranges) {
	list := r.List()
	for i, v := range list {
		if v.Start >= v.End || (i > 0 && v.Start <= list[i-1].End) {
			t.Fatalf("intervals %v", list)
		}
	}
}

func checkSerial(t *rapid.T, r *content.Ranges) {
	b, err := r.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	j, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var fromB, fromJ content.Ranges
	if err := fromB.UnmarshalBinary(b); err != nil || !fromB.Equal(r) {
		t.Fatalf("%v: read back %v, %v", r.List(), fromB.List(), err)
	}
	if err := json.Unmarshal(j, &fromJ); err != nil || !fromJ.Equal(r) {
		t.Fatalf("%s: read back %v, %v", j, fromJ.List(), err)
	}
	c := r.Clone()
	c.Add(0, math.MaxUint64)
	if !fromB.Equal(r) {
		t.Fatal("a clone changed its original")
	}
}

func TestRangesRefuseDamage(t *testing.T) {
	for name, b := range map[string][]byte{
		"empty": {}, "version": {2}, "cut": {1, 5}, "no length": {1, 5, 0}, "no gap": {1, 5, 1, 0, 1}, "endless varint": {1, 0x80},
		"overflow": {1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 1},
	} {
		var r content.Ranges
		if err := r.UnmarshalBinary(b); !errors.Is(err, content.ErrRanges) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, j := range []string{`[[5,5]]`, `[[5,4]]`, `[[0,5],[5,6]]`, `[[5,6],[0,1]]`, `[[1]]`, `[[1,2,3]]`, `{}`, `[[-1,2]]`, `[["1",2]]`} {
		var r content.Ranges
		if err := json.Unmarshal([]byte(j), &r); !errors.Is(err, content.ErrRanges) {
			t.Errorf("%s: %v", j, err)
		}
	}
}

// FuzzRanges: ranges that are read from bytes are written and read as the same set.
func FuzzRanges(f *testing.F) {
	f.Add([]byte{1, 5, 1, 2, 3})
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, b []byte) {
		var r, again content.Ranges
		if r.UnmarshalBinary(b) != nil {
			return
		}
		out, err := r.MarshalBinary()
		if err != nil || again.UnmarshalBinary(out) != nil || !again.Equal(&r) || len(r.Missing(0, math.MaxUint64)) > len(r.List())+1 {
			t.Fatalf("%x: %v", b, r.List())
		}
	})
}
