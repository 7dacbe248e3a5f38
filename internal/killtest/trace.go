//go:build linux && amd64

package killtest

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"syscall"
)

// Fault is what happens to a process at a named point. The zero value is none.
type Fault struct {
	Point   string        `json:"point,omitempty"`   // a name of a point, or AnyDisk, AnySync
	N       int           `json:"n,omitempty"`       // the n-th time, from 1
	Errno   syscall.Errno `json:"errno,omitempty"`   // what the call fails with; 0: the process is killed before it
	Lasting bool          `json:"lasting,omitempty"` // every disk point from there on fails too
}

// trace is the tracer of one process. Its loop runs on one thread.
type trace struct {
	fault     Fault
	chainHost string
	onReceipt func(string)
	onAck     func(ack)

	pid  int
	mem  *os.File
	live bool // the program has begun, the shim is over

	mu     sync.Mutex
	counts map[string]int
	fired  bool
	at     string // the point where the fault fired
}

const (
	optExitKill    = 0x100000
	optSeccomp     = 0x80
	eventSeccomp   = 7
	waitNoThread   = 0x20000000
	waitAllThreads = 0x40000000
)

// start starts the program under the trace. The caller must have locked its
// goroutine to its thread, and go on with loop on it.
func (t *trace) start(argv []string, attr *os.ProcAttr, filter bool) (*os.Process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	mode := "plain"
	if filter {
		mode = "watched"
	}
	attr.Env = append(attr.Env, shimEnv+"="+mode)
	attr.Sys = &syscall.SysProcAttr{Ptrace: true, Setpgid: true}
	p, err := os.StartProcess(self, append([]string{self}, argv...), attr)
	if err != nil {
		return nil, fmt.Errorf("starting under ptrace: %w", err)
	}
	t.pid, t.counts = p.Pid, map[string]int{}
	var ws syscall.WaitStatus
	if _, err := syscall.Wait4(t.pid, &ws, waitAllThreads, nil); err != nil {
		return nil, err
	}
	opts := syscall.PTRACE_O_TRACECLONE | syscall.PTRACE_O_TRACEFORK | syscall.PTRACE_O_TRACEVFORK | syscall.PTRACE_O_TRACEEXEC | optSeccomp | optExitKill
	if err := syscall.PtraceSetOptions(t.pid, opts); err != nil {
		return nil, errors.Join(err, p.Kill())
	}
	return p, syscall.PtraceCont(t.pid, 0)
}

// loop lets the process run from stop to stop until it has ended, and returns how.
func (t *trace) loop() (end syscall.WaitStatus, err error) {
	defer func() {
		if t.mem != nil {
			err = errors.Join(err, t.mem.Close())
		}
	}()
	seen := map[int]bool{t.pid: true}
	for {
		// its process group alone: this thread may have started other children
		var ws syscall.WaitStatus
		tid, err := syscall.Wait4(-t.pid, &ws, waitAllThreads|waitNoThread, nil)
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.ECHILD:
			return end, nil
		case err != nil:
			return end, err
		}
		if ws.Exited() || ws.Signaled() {
			if tid == t.pid {
				end = ws
			}
			delete(seen, tid)
			continue
		}
		deliver := 0
		switch sig := ws.StopSignal(); {
		case sig == syscall.SIGTRAP && ws.TrapCause() == eventSeccomp:
			t.stopped(tid)
		case sig == syscall.SIGTRAP && ws.TrapCause() == syscall.PTRACE_EVENT_EXEC:
			t.begun()
		case sig == syscall.SIGTRAP && ws.TrapCause() > 0:
		case sig == syscall.SIGSTOP && !seen[tid]: // a new thread
		default:
			deliver = int(sig)
		}
		seen[tid] = true
		if err := syscall.PtraceCont(tid, deliver); err != nil && err != syscall.ESRCH { // ESRCH: it was killed meanwhile
			return end, err
		}
	}
}

// begun notes that the shim became the program.
func (t *trace) begun() {
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", t.pid))
	if err != nil {
		return // it was killed just now
	}
	if t.mem != nil {
		t.mem.Close() // of what it was before; nothing was written
	}
	t.mem, t.live = mem, true
}

// stopped decides about a system call that is about to happen.
func (t *trace) stopped(tid int) {
	var r syscall.PtraceRegs
	if !t.live || syscall.PtraceGetRegs(tid, &r) != nil {
		return
	}
	p := t.look(tid, &r)
	if p.name == "" {
		return
	}
	if p.receipt != "" && t.onReceipt != nil {
		t.onReceipt(p.receipt)
	}
	for _, a := range p.acks {
		if t.onAck != nil {
			t.onAck(a)
		}
	}
	hit, fail := t.count(p)
	switch {
	case hit && t.fault.Errno == 0:
		syscall.Kill(t.pid, syscall.SIGKILL) // it is stopped, so it is there
	case hit || fail:
		r.Orig_rax, r.Rax = ^uint64(0), uint64(-int64(t.fault.Errno))
		if err := syscall.PtraceSetRegs(tid, &r); err != nil && err != syscall.ESRCH {
			panic(fmt.Sprintf("the call could not be made to fail: %v", err)) // the run would prove nothing
		}
	}
}

// count counts a point and reports whether the fault is due at it, or still lasts.
func (t *trace) count(p point) (hit, fail bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	names := []string{p.name}
	if p.disk {
		names = append(names, AnyDisk)
	}
	if p.sync {
		names = append(names, AnySync)
	}
	for _, name := range names {
		t.counts[name]++
		if !t.fired && t.fault.Point == name && t.counts[name] == t.fault.N {
			t.fired, t.at = true, fmt.Sprintf("%s %d", p.name, t.counts[p.name])
			hit = true
		}
	}
	return hit, t.fired && t.fault.Lasting && p.disk
}

// run starts the program and calls started, then traces it until its end, all on a
// thread of its own.
func (t *trace) run(argv []string, attr *os.ProcAttr, filter bool, started func(*os.Process, error)) (syscall.WaitStatus, error) {
	runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
	p, err := t.start(argv, attr, filter)
	started(p, err)
	if err != nil {
		return 0, err
	}
	return t.loop()
}
