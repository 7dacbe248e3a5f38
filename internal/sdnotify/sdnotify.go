// Package sdnotify tells systemd how a service is, as sd_notify(3) describes: ready,
// reloading, stopping, alive. Where there is no systemd it says nothing.
package sdnotify

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Notifier speaks to the service manager. A nil Notifier speaks to nobody.
type Notifier struct {
	socket   string
	watchdog time.Duration
}

// FromEnvironment reads where the service manager listens (NOTIFY_SOCKET) and how often
// it wants a sign of life (WATCHDOG_USEC, WATCHDOG_PID); nil: it does not listen.
// Errors: a variable that makes no sense.
func FromEnvironment() (*Notifier, error) {
	n := &Notifier{socket: os.Getenv("NOTIFY_SOCKET")}
	if n.socket == "" {
		return nil, nil
	}
	if n.socket[0] != '/' && n.socket[0] != '@' {
		return nil, fmt.Errorf("NOTIFY_SOCKET is no path: %q", n.socket)
	}
	if pid := os.Getenv("WATCHDOG_PID"); pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return n, nil // another process is meant
	}
	if text := os.Getenv("WATCHDOG_USEC"); text != "" {
		usec, err := strconv.ParseUint(text, 10, 50)
		if err != nil || usec == 0 {
			return nil, fmt.Errorf("WATCHDOG_USEC is no time: %q", text)
		}
		n.watchdog = time.Duration(usec) * time.Microsecond
	}
	return n, nil
}

// Watchdog is how often a sign of life is due, at the latest; 0: none is.
func (n *Notifier) Watchdog() time.Duration {
	if n == nil {
		return 0
	}
	return n.watchdog
}

// Ready says that the service does its work, also after a reload.
func (n *Notifier) Ready(status string) error { return n.send("READY=1\nSTATUS=" + status) }

// Reloading says that a reload has begun; Ready says that it is over.
func (n *Notifier) Reloading() error {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return err
	}
	return n.send(fmt.Sprintf("RELOADING=1\nMONOTONIC_USEC=%d", now.Nano()/1000))
}

// Stopping says that the service is about to end.
func (n *Notifier) Stopping() error { return n.send("STOPPING=1") }

// Alive is the sign of life.
func (n *Notifier) Alive() error { return n.send("WATCHDOG=1") }

// More asks for that much more time for what is going on, a start or a stop.
func (n *Notifier) More(d time.Duration) error {
	return n.send(fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", d.Microseconds()))
}

func (n *Notifier) send(state string) (err error) {
	if n == nil {
		return nil
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: n.socket, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("tell systemd: %w", err)
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	if _, err := c.Write([]byte(state)); err != nil {
		return fmt.Errorf("tell systemd: %w", err)
	}
	return nil
}
