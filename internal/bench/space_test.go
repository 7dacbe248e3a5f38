package bench

import (
	"errors"
	"testing"

	"github.com/spillway/spillway/store"
)

// A file that does not fit is halved until it does; where four chunks do not fit either,
// the error says so.
func TestFitting(t *testing.T) {
	dir := t.TempDir()
	free, err := freeBytes(dir)
	if err != nil {
		t.Fatal(err)
	}
	if free < 2*leeway {
		t.Fatalf("%d bytes are free here: too little to test with", free)
	}
	if got, err := fitting(dir, 1<<10, 1<<20, 1); err != nil || got != 1<<20 {
		t.Errorf("%d bytes, %v", got, err)
	}
	huge := free - free%4096
	got, err := fitting(dir, 1<<10, huge, 3)
	if err != nil || got >= huge || huge%got != 0 || roomFor(got, 3) > free || roomFor(2*got, 3) < free/2 {
		t.Errorf("%d bytes of %d, %v", got, huge, err)
	}
	if _, err := fitting(dir, huge, 4*huge, 16); !errors.Is(err, store.ErrFull) {
		t.Errorf("chunks of all that is free fit: %v", err)
	}
}
