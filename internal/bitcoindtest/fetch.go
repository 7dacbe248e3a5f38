package bitcoindtest

import (
	"path/filepath"
	"testing"

	"github.com/spillway/spillway/internal/programs"
)

// Program is the path of bitcoind, fetched where it is not there yet.
func Program(t testing.TB) string {
	t.Helper()
	dir, err := programs.Get("bitcoind", "get-bitcoind")
	if err != nil {
		t.Fatalf("no bitcoind: %v", err)
	}
	return filepath.Join(dir, "bin", "bitcoind")
}
