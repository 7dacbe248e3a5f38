package main

import (
	"errors"
	"io"
	"syscall"
	"testing"

	"github.com/spillway/spillway/keys"
)

// Before a seed is in memory this process writes no core dumps any more.
func TestNoDumpsBeforeASeedIsRead(t *testing.T) {
	const getDumpable, setDumpable = 3, 4
	prctl := func(op, arg uintptr) uintptr {
		got, _, e := syscall.Syscall(syscall.SYS_PRCTL, op, arg, 0)
		if e != 0 {
			t.Fatal(e)
		}
		return got
	}
	a := &app{out: &output{stdout: io.Discard, stderr: io.Discard}}
	calls := map[string]func() error{
		"read":    func() error { _, err := a.readSeed(t.TempDir()); return err },
		"create":  func() error { return a.walletCreate(t.Context(), "payer") },
		"restore": func() error { return a.restore(t.Context(), "payer", nil) },
	}
	for name, call := range calls {
		a.flags.data, a.flags.network, a.out.quiet = t.TempDir(), "signet", true
		prctl(setDumpable, 1)
		if err := call(); err == nil {
			t.Errorf("%s: no error", name)
		} else if name == "read" && !errors.Is(err, keys.ErrNoSeed) {
			t.Error(err)
		}
		if prctl(getDumpable, 0) != 0 {
			t.Errorf("%s: the process can be dumped", name)
		}
	}
	prctl(setDumpable, 1)
}
