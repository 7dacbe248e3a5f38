//go:build linux && amd64

package killtest

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// All disk points and all syncs are also counted together, under these names.
const (
	AnyDisk = "disk" // whatever needs space: writes, new files and folders, new names
	AnySync = "sync" // fsync and fdatasync
)

// point is one stop of a traced process: what the system call is about.
type point struct {
	name    string // kind and object, such as "write wal"; "": of no interest
	disk    bool   // it may need space on the disk
	sync    bool
	receipt string // a Payment-Receipt that the bytes to be sent carry
	acks    []ack  // what they acknowledge over the compact transport
}

// look says what a stopped thread is about to do.
func (t *trace) look(tid int, r *syscall.PtraceRegs) point {
	fd := func(n uint64) string { return fmt.Sprintf("/proc/%d/fd/%d", tid, int32(n)) }
	switch r.Orig_rax {
	case syscall.SYS_WRITE, syscall.SYS_PWRITE64, syscall.SYS_WRITEV, syscall.SYS_PWRITEV, syscall.SYS_SENDTO, syscall.SYS_SENDMSG:
		return t.writes(fd(r.Rdi), r)
	case syscall.SYS_SENDFILE:
		return t.writes(fd(r.Rdi), r)
	case syscall.SYS_SPLICE, sysCopyFileRange:
		return t.writes(fd(r.Rdx), r)
	case syscall.SYS_FSYNC, syscall.SYS_FDATASYNC:
		return point{name: "sync " + object(fd(r.Rdi)), sync: true}
	case syscall.SYS_FTRUNCATE:
		return point{name: "truncate " + object(fd(r.Rdi))}
	case syscall.SYS_FALLOCATE:
		return point{name: "allocate " + object(fd(r.Rdi)), disk: true}
	case syscall.SYS_OPENAT:
		return t.opens(tid, r)
	case syscall.SYS_MKDIRAT:
		path := t.path(tid, r.Rdi, r.Rsi)
		if _, err := os.Lstat(path); err == nil {
			return point{} // it is there: nothing is made
		}
		return point{name: "make folder", disk: true}
	case syscall.SYS_LINKAT:
		return point{name: "link " + object(t.path(tid, r.Rdx, r.R10)), disk: true}
	case syscall.SYS_UNLINKAT:
		return point{name: "unlink " + object(t.path(tid, r.Rdi, r.Rsi))}
	case syscall.SYS_RENAME:
		return point{name: "rename " + object(t.path(tid, 0, r.Rsi)), disk: true}
	case syscall.SYS_RENAMEAT, sysRenameat2:
		return point{name: "rename " + object(t.path(tid, r.Rdx, r.R10)), disk: true}
	}
	return point{}
}

// opens is a point where a file is made.
func (t *trace) opens(tid int, r *syscall.PtraceRegs) point {
	if r.Rdx&syscall.O_CREAT == 0 {
		return point{}
	}
	path := t.path(tid, r.Rdi, r.Rsi)
	if _, err := os.Lstat(path); err == nil {
		return point{}
	}
	return point{name: "create " + object(path), disk: true}
}

// writes is a point where bytes go to a file, a peer or a person.
func (t *trace) writes(fd string, r *syscall.PtraceRegs) point {
	target, err := os.Readlink(fd)
	switch {
	case err != nil || strings.HasPrefix(target, "anon_inode:"):
		return point{}
	case strings.HasPrefix(target, "pipe:") || strings.HasPrefix(target, "/dev/"):
		return point{name: "say"}
	case strings.HasPrefix(target, "socket:"):
		if r.Orig_rax != syscall.SYS_WRITE && r.Orig_rax != syscall.SYS_SENDTO {
			return point{name: "send body"}
		}
		return t.sends(t.peek(r.Rsi, min(r.Rdx, 8192)))
	}
	return point{name: "write " + object(fd), disk: true}
}

// sends names what is sent by its first bytes.
func (t *trace) sends(b []byte) point {
	if p, ok := compact(b); ok {
		return p
	}
	head, _, _ := bytes.Cut(b, []byte("\r\n\r\n"))
	lines := strings.Split(string(head), "\r\n")
	method, rest, _ := strings.Cut(lines[0], " ")
	switch method {
	case "HTTP/1.1":
		p := point{name: "send answer"}
		for _, line := range lines[1:] {
			if text, ok := strings.CutPrefix(line, "Payment-Receipt: "); ok && strings.HasPrefix(rest, "2") {
				p.name, p.receipt = "send receipt", text
			}
		}
		return p
	case "GET", "POST", "HEAD", "OPTIONS":
	default:
		return point{name: "send body"}
	}
	for _, line := range lines[1:] {
		if line == "Host: "+t.chainHost {
			kind, _, _ := strings.Cut(strings.TrimPrefix(rest, "/"), "/")
			kind, _, _ = strings.Cut(kind, " ")
			return point{name: "ask chain " + method + " " + kind}
		}
		if strings.HasPrefix(line, "Authorization: Payment ") {
			return point{name: "send payment"}
		}
	}
	return point{name: "ask provider"}
}

// object names a file by what it is for.
func object(path string) string {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return "folder"
	}
	if to, err := os.Readlink(path); err == nil {
		path = to
	}
	base := filepath.Base(path)
	for _, of := range []struct{ suffix, name string }{
		{".db-wal", "wal"}, {".db-shm", "shm"}, {".db-journal", "journal"}, {".db", "db"}, {".lock", "lock"},
		{"seed", "seed"}, {"admin.sock", "admin"}, {".bin", "file"},
	} {
		if strings.HasSuffix(base, of.suffix) {
			return of.name
		}
	}
	switch {
	case strings.HasPrefix(base, ".seed"):
		return "seed"
	case strings.Contains(path, "/outboards/"):
		return "outboard"
	case strings.Contains(path, "/bought/"):
		return "file"
	}
	return "other"
}

// path reads a path argument, against the folder that dirfd names.
func (t *trace) path(tid int, dirfd, addr uint64) string {
	b := t.peek(addr, 4096)
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	p := string(b)
	if filepath.IsAbs(p) {
		return p
	}
	dir := fmt.Sprintf("/proc/%d/cwd", tid)
	if n := int32(dirfd); n >= 0 && dirfd != 0 {
		dir = fmt.Sprintf("/proc/%d/fd/%d", tid, n)
	}
	if to, err := os.Readlink(dir); err == nil {
		dir = to
	}
	return filepath.Join(dir, p)
}

// peek reads the process's memory; a page at a time, so that the end of a mapping
// does not hide what lies before it.
func (t *trace) peek(addr, n uint64) []byte {
	var out []byte
	for n > 0 {
		part := min(n, 4096-addr%4096)
		b := make([]byte, part)
		got, err := t.mem.ReadAt(b, int64(addr))
		out = append(out, b[:got]...)
		if err != nil {
			break
		}
		addr, n = addr+part, n-part
	}
	return out
}
