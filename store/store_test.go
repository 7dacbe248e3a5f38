package store

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestCheck(t *testing.T) {
	op := func(bucket, key string, n int) Op { return Op{Bucket: bucket, Key: key, Value: make([]byte, n)} }
	long := strings.Repeat("x", MaxName)
	for name, c := range map[string]struct {
		ops  []Op
		says string // empty: it is taken
	}{
		"nothing":              {nil, ""},
		"one":                  {[]Op{op("b", "k", 1)}, ""},
		"a deletion":           {[]Op{{Bucket: "b", Key: "k"}}, ""},
		"one key in two":       {[]Op{op("b", "k", 1), op("c", "k", 1), op("b", "kk", 1)}, ""},
		"the longest":          {[]Op{op(long, long, MaxValue)}, ""},
		"no bucket":            {[]Op{op("", "k", 1)}, "the bucket is empty"},
		"no key":               {[]Op{op("b", "k", 1), op("b", "", 1)}, "the key is empty"},
		"a key too long":       {[]Op{op("b", long+"x", 1)}, "the key has 1025 bytes, at most 1024"},
		"a bucket too long":    {[]Op{op(long+"x", "k", 1)}, "the bucket has 1025 bytes"},
		"a NUL":                {[]Op{op("b\x00", "k", 1)}, `the bucket "b\x00" is no text`},
		"no UTF-8":             {[]Op{op("b", "\xff", 1)}, `the key "\xff" is no text`},
		"a value too large":    {[]Op{op("b", "k", MaxValue+1)}, "b k has 67108865 bytes, at most 67108864"},
		"twice":                {[]Op{op("b", "k", 1), op("b", "l", 1), {Bucket: "b", Key: "k"}}, "b k is named twice"},
		"two things at a time": {[]Op{op("", "", 1)}, "the key is empty"},
	} {
		err := Check(c.ops)
		if (err == nil) != (c.says == "") || err != nil && (!errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
	}
}

func TestConflictError(t *testing.T) {
	err := fmt.Errorf("wrapped: %w", &ConflictError{Bucket: "payer/channel", Key: "ab:0", Expected: 3, Have: 4})
	if !errors.Is(err, ErrConflict) || errors.Is(err, ErrNotFound) {
		t.Errorf("%v is no conflict, or more than that", err)
	}
	if want := "wrapped: something else was saved meanwhile: payer/channel ab:0 is at revision 4, not 3"; err.Error() != want {
		t.Errorf("%q, want %q", err, want)
	}
}
