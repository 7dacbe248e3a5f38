package keys

import (
	"fmt"
	"syscall"
)

// prSetDumpable is prctl's PR_SET_DUMPABLE.
const prSetDumpable = 4

// NoDumps keeps this process's memory out of core dumps, and from other processes
// of the same user that would trace it. A program calls it before it opens a seed.
func NoDumps() error {
	if err := syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{}); err != nil {
		return fmt.Errorf("core dumps cannot be switched off: %w", err)
	}
	if _, _, e := syscall.Syscall(syscall.SYS_PRCTL, prSetDumpable, 0, 0); e != 0 {
		return fmt.Errorf("core dumps cannot be switched off: %w", e)
	}
	return nil
}
