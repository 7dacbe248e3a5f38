package forward

import (
	"bufio"
	"context"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// peerKey is where a connection's other end is kept in a request's context.
type peerKey struct{}

// peer is the other end of a connection; whose it is is looked up once.
type peer struct {
	remote, local net.Addr
	once          sync.Once
	uid           uint32
	err           error
}

// Conn is http.Server.ConnContext: it remembers who is at the other end.
func Conn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, peerKey{}, &peer{remote: c.RemoteAddr(), local: c.LocalAddr()})
}

// owner is the user whose process is at the other end of the request's connection, where
// that is on this machine.
func owner(r *http.Request) (uint32, error) {
	p, ok := r.Context().Value(peerKey{}).(*peer)
	if !ok {
		return 0, errors.New("the connection is not known")
	}
	p.once.Do(func() { p.uid, p.err = ownerOf(p.remote, p.local) })
	return p.uid, p.err
}

// ownerOf finds the user of the socket whose own end is remote and whose other end is
// here. Linux says so in /proc/net/tcp; elsewhere it cannot be said.
func ownerOf(remote, here net.Addr) (uint32, error) {
	from, err := netip.ParseAddrPort(remote.String())
	if err != nil {
		return 0, err
	}
	to, err := netip.ParseAddrPort(here.String())
	if err != nil {
		return 0, err
	}
	if !from.Addr().Unmap().IsLoopback() {
		return 0, errors.New("it comes from another machine")
	}
	for _, name := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		uid, err := search(name, from, to)
		if err == nil || !errors.Is(err, errNoSocket) {
			return uid, err
		}
	}
	return 0, errNoSocket
}

// errNoSocket: the system does not list the socket.
var errNoSocket = errors.New("whose connection it is cannot be said on this system")

// errNobody: the other end was closed, and is no process's any more.
var errNobody = errors.New("nobody is at the other end of the connection")

// search looks for a socket in one of the system's lists.
func search(name string, from, to netip.AddrPort) (uid uint32, err error) {
	f, err := os.Open(name)
	if errors.Is(err, os.ErrNotExist) {
		return 0, errNoSocket
	} else if err != nil {
		return 0, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 10 {
			continue
		}
		a, err := socketAddr(fields[1])
		if err != nil || a != unmapped(from) {
			continue
		}
		if b, err := socketAddr(fields[2]); err != nil || b != unmapped(to) {
			continue
		}
		if fields[9] == "0" { // no inode: its process has closed it, and the system calls it root's
			return 0, errNobody
		}
		n, err := strconv.ParseUint(fields[7], 10, 32)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", name, err)
		}
		return uint32(n), nil
	}
	if err := lines.Err(); err != nil {
		return 0, err
	}
	return 0, errNoSocket
}

func unmapped(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
}

// socketAddr reads an address as /proc/net/tcp writes it: words of four bytes in the
// machine's order, which is little-endian wherever this is built for.
func socketAddr(text string) (none netip.AddrPort, err error) {
	host, port, ok := strings.Cut(text, ":")
	raw, err := hex.DecodeString(host)
	if !ok || err != nil || len(raw)%4 != 0 {
		return none, errNoSocket
	}
	for i := 0; i < len(raw); i += 4 {
		slices.Reverse(raw[i : i+4])
	}
	a, ok := netip.AddrFromSlice(raw)
	n, err := strconv.ParseUint(port, 16, 16)
	if !ok || err != nil {
		return none, errNoSocket
	}
	return netip.AddrPortFrom(a.Unmap(), uint16(n)), nil
}

// mayAsk reports whether a request may use this proxy, and why not: it has the token, or
// it comes from a process of a user that may.
func (p *Proxy) mayAsk(r *http.Request) error {
	if given, ok := tokenOf(r); ok && p.cfg.Token != "" {
		if subtle.ConstantTimeCompare([]byte(given), []byte(p.cfg.Token)) == 1 {
			return nil
		}
		return errors.New("the token is another one")
	}
	if p.cfg.TokenOnly {
		return errors.New("a token is needed, as Proxy-Authorization")
	}
	uid, err := owner(r)
	if err != nil {
		return err
	}
	if !slices.Contains(p.cfg.Users, uid) {
		return fmt.Errorf("user %d may not spend this user's money", uid)
	}
	return nil
}

// tokenOf is the token in a Proxy-Authorization: Bearer TOKEN, or the password of Basic.
func tokenOf(r *http.Request) (string, bool) {
	scheme, rest, _ := strings.Cut(r.Header.Get("Proxy-Authorization"), " ")
	switch strings.ToLower(scheme) {
	case "bearer":
		return strings.TrimSpace(rest), true
	case "basic":
		raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(rest))
		if err != nil {
			return "", true
		}
		_, password, _ := strings.Cut(string(raw), ":")
		return password, true
	}
	return "", false
}
