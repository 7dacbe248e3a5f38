package sdnotify_test

import (
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/spillway/spillway/internal/sdnotify"
)

// TestNotify: each state is one datagram in the form of sd_notify(3).
func TestNotify(t *testing.T) {
	for _, name := range []string{filepath.Join(t.TempDir(), "notify"), "@spillway-test-" + strconv.Itoa(os.Getpid())} {
		l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
		if err != nil {
			t.Fatal(err)
		}
		t.Setenv("NOTIFY_SOCKET", name)
		t.Setenv("WATCHDOG_USEC", "3000000")
		t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
		n, err := sdnotify.FromEnvironment()
		if err != nil || n.Watchdog() != 3*time.Second {
			t.Fatal(n, err)
		}
		for _, say := range []struct {
			do   func() error
			want string
		}{
			{func() error { return n.Ready("Selling.") }, `^READY=1\nSTATUS=Selling\.$`},
			{n.Reloading, `^RELOADING=1\nMONOTONIC_USEC=[1-9][0-9]+$`},
			{n.Alive, `^WATCHDOG=1$`},
			{n.Stopping, `^STOPPING=1$`},
			{func() error { return n.More(90 * time.Second) }, `^EXTEND_TIMEOUT_USEC=90000000$`},
		} {
			if err := say.do(); err != nil {
				t.Fatal(err)
			}
			raw := make([]byte, 300)
			if err := l.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
				t.Fatal(err)
			}
			size, err := l.Read(raw)
			if err != nil || !regexp.MustCompile(say.want).Match(raw[:size]) {
				t.Errorf("%q, %v, want %s", raw[:size], err, say.want)
			}
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if err := n.Alive(); err == nil {
			t.Error("nobody listens, and it was said")
		}
	}
}

// TestNobodyListens: without systemd nothing is said, and what makes no sense is refused.
func TestNobodyListens(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	n, err := sdnotify.FromEnvironment()
	if n != nil || err != nil || n.Alive() != nil || n.Ready("x") != nil || n.Watchdog() != 0 {
		t.Error(n, err)
	}
	t.Setenv("NOTIFY_SOCKET", "relative")
	if _, err := sdnotify.FromEnvironment(); err == nil {
		t.Error("a relative path was taken")
	}
	t.Setenv("NOTIFY_SOCKET", "/nowhere")
	for _, usec := range []string{"x", "0", "-1", "99999999999999999999"} {
		t.Setenv("WATCHDOG_USEC", usec)
		if _, err := sdnotify.FromEnvironment(); err == nil {
			t.Errorf("WATCHDOG_USEC=%s was taken", usec)
		}
	}
	t.Setenv("WATCHDOG_PID", "1")
	if n, err := sdnotify.FromEnvironment(); err != nil || n.Watchdog() != 0 {
		t.Error("another process is meant", n, err)
	}
}
