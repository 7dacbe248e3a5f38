package programs_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/spillway/spillway/internal/programs"
)

// A folder is filled by one of all that want it, again where that failed, and never
// after it was whole.
func TestOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tools", "one")
	broken := errors.New("broken off")
	if err := programs.Once(dir, func() error {
		return errors.Join(os.WriteFile(filepath.Join(dir, "half"), nil, 0o644), broken)
	}); !errors.Is(err, broken) {
		t.Fatal(err)
	}
	var fills atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if err := programs.Once(dir, func() error {
				fills.Add(1)
				return os.WriteFile(filepath.Join(dir, "whole"), nil, 0o644)
			}); err != nil {
				t.Error(err)
			}
			if _, err := os.Stat(filepath.Join(dir, "whole")); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if _, err := os.Stat(filepath.Join(dir, "half")); fills.Load() != 1 || !os.IsNotExist(err) {
		t.Errorf("filled %d times; what the first attempt left: %v", fills.Load(), err)
	}
}

func TestRoot(t *testing.T) {
	root, err := programs.Root()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(root, "go.mod")); err != nil {
		t.Error(err)
	}
}

// A command's end is told, and one that does not start is an error.
func TestStart(t *testing.T) {
	exited, err := programs.Start(exec.Command("false"))
	if err != nil {
		t.Fatal(err)
	}
	if err := <-exited; err == nil {
		t.Error("a command that failed ended without an error")
	}
	if _, err := programs.Start(exec.Command(filepath.Join(t.TempDir(), "nothing"))); err == nil {
		t.Error("a program that is not there was started")
	}
}
