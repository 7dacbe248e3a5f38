//go:build linux && amd64

package killtest

import (
	"fmt"
	"os"
	"runtime"
	"syscall"
	"unsafe"
)

// shimEnv marks a process that only installs the filter and becomes the program
// that its arguments name.
const shimEnv = "SPILLWAY_KILLTEST_SHIM"

// System calls that package syscall has no names for.
const (
	sysRenameat2     = 316
	sysSeccomp       = 317
	sysCopyFileRange = 326
)

// watched are the system calls that a traced process stops at.
var watched = []uint32{
	syscall.SYS_WRITE, syscall.SYS_PWRITE64, syscall.SYS_WRITEV, syscall.SYS_PWRITEV, sysCopyFileRange,
	syscall.SYS_SENDTO, syscall.SYS_SENDMSG, syscall.SYS_SENDFILE, syscall.SYS_SPLICE,
	syscall.SYS_FSYNC, syscall.SYS_FDATASYNC, syscall.SYS_FTRUNCATE, syscall.SYS_FALLOCATE,
	syscall.SYS_OPENAT, syscall.SYS_MKDIRAT, syscall.SYS_LINKAT, syscall.SYS_UNLINKAT,
	syscall.SYS_RENAME, syscall.SYS_RENAMEAT, sysRenameat2,
}

// Shim must be the first call of every main and TestMain that starts traced
// processes: in a process that was started to become one it does not return.
func Shim() {
	mode := os.Getenv(shimEnv)
	if mode == "" {
		return
	}
	if err := become(mode == "watched"); err != nil {
		fmt.Fprintln(os.Stderr, "shim:", err)
		os.Exit(125)
	}
}

// become installs the filter on this thread, where it is wanted, and turns the
// process into the program that its arguments name.
func become(filter bool) error {
	runtime.LockOSThread()
	if len(os.Args) < 2 {
		return syscall.EINVAL
	}
	if err := os.Unsetenv(shimEnv); err != nil {
		return err
	}
	if filter {
		if err := installFilter(watched); err != nil {
			return fmt.Errorf("seccomp: %w", err)
		}
	}
	return syscall.Exec(os.Args[1], os.Args[1:], os.Environ())
}

// installFilter makes the given system calls of this thread, and of what it
// becomes, stop for the tracer (seccomp(2), SECCOMP_RET_TRACE).
func installFilter(calls []uint32) error {
	const (
		load, equal, ret = 0x20, 0x15, 0x06 // BPF_LD|W|ABS, BPF_JMP|JEQ|K, BPF_RET|K
		archX8664        = 0xc000003e
		allow, trace     = 0x7fff0000, 0x7ff00000
		noNewPrivs       = 38
		setModeFilter    = 1
	)
	n := uint8(len(calls))
	prog := []syscall.SockFilter{
		{Code: load, K: 4}, // the architecture
		{Code: equal, K: archX8664, Jt: 0, Jf: n + 1}, // another one: allow
		{Code: load, K: 0},                            // the number
	}
	for i, nr := range calls {
		prog = append(prog, syscall.SockFilter{Code: equal, K: nr, Jt: n - uint8(i)})
	}
	prog = append(prog, syscall.SockFilter{Code: ret, K: allow}, syscall.SockFilter{Code: ret, K: trace})
	if _, _, errno := syscall.RawSyscall6(syscall.SYS_PRCTL, noNewPrivs, 1, 0, 0, 0, 0); errno != 0 {
		return errno
	}
	f := syscall.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}
	if _, _, errno := syscall.RawSyscall(sysSeccomp, setModeFilter, 0, uintptr(unsafe.Pointer(&f))); errno != 0 {
		return errno
	}
	return nil
}
