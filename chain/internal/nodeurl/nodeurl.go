// Package nodeurl reads the URLs that name a node, for the backends that have some:
// SCHEME://[USER[:PASSWORD]@]HOST[:PORT][?OPTION=VALUE&…]. Its errors wrap the backend's
// own and never hold a password; it asks no node.
package nodeurl

import (
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spillway/spillway/chain/internal/said"
)

// longest is how much of what somebody typed is repeated in a message.
const longest = 100

// Reader reads for one backend.
type Reader struct {
	Scheme string
	Form   string // how such a URL looks, for messages
	Err    error  // what errors wrap
}

// Node is where a node is, and what is said besides.
type Node struct {
	Host, Port     string
	User, Password string
	Options        url.Values
}

// Option takes an option's value.
type Option func(value string) error

func (r Reader) errorf(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{r.Err}, args...)...)
}

// Parse reads a URL; port is the one that is meant where none is named, "": one has to be.
// Errors: Err.
func (r Reader) Parse(text, port string) (n Node, err error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != r.Scheme || u.Hostname() == "" || u.Path != "" && u.Path != "/" || u.Fragment != "" {
		return n, r.errorf("%s is not %s", Redact(r.Scheme, text), r.Form)
	}
	n.Host, n.Port = u.Hostname(), u.Port()
	if n.Port == "" {
		n.Port = port
	}
	if n.Port == "" {
		return n, r.errorf("%s names no port", Redact(r.Scheme, text))
	}
	if at, err := strconv.ParseUint(n.Port, 10, 16); err != nil || at == 0 {
		return n, r.errorf("the port of %s is 1 to 65535", Redact(r.Scheme, text))
	}
	if u.User != nil {
		n.User = u.User.Username()
		n.Password, _ = u.User.Password()
	}
	if n.Options, err = r.Query(u.RawQuery); err != nil {
		return n, err
	}
	return n, nil
}

// Query reads what follows the question mark. Errors: Err.
func (r Reader) Query(text string) (url.Values, error) {
	q, err := url.ParseQuery(text)
	if err != nil {
		return nil, r.errorf("the options cannot be read")
	}
	return q, nil
}

// Take gives each option to who takes it, in the order of their names. Errors: Err for
// one that nobody takes, or that is there twice or without a value, and theirs.
func (r Reader) Take(q url.Values, known map[string]Option) error {
	for _, name := range slices.Sorted(maps.Keys(q)) {
		take, ok := known[name]
		if !ok {
			return r.errorf("no option is called %s: %s", said.Clip(name, longest), strings.Join(slices.Sorted(maps.Keys(known)), ", "))
		}
		if values := q[name]; len(values) != 1 || values[0] == "" {
			return r.errorf("%s is given once and with a value", name)
		}
		if err := take(q.Get(name)); err != nil {
			return err
		}
	}
	return nil
}

// Number is an option that is a number of at least so much, below 2^31.
func (r Reader) Number(name string, least uint64, into *uint32) Option {
	return func(text string) error {
		n, err := strconv.ParseUint(text, 10, 31)
		if err != nil || n < least {
			return r.errorf("%s is a number of at least %d, not %q", name, least, said.Clip(text, longest))
		}
		*into = uint32(n)
		return nil
	}
}

// Only is an option that has one value, and says yes by that.
func (r Reader) Only(name, value string, into *bool) Option {
	return func(text string) error {
		if *into = text == value; !*into {
			return r.errorf("%s is %s or left out", name, value)
		}
		return nil
	}
}

// Text is an option that is taken as it stands.
func Text(into *string) Option {
	return func(text string) error {
		*into = text
		return nil
	}
}

// PasswordFile is an option that names the file with the password of a user.
func (r Reader) PasswordFile(user string, into *string) Option {
	return func(path string) error {
		if user == "" || *into != "" {
			return r.errorf("password-file goes with a user and without another password")
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return r.errorf("%w", err)
		}
		if *into = strings.TrimRight(string(raw), "\r\n"); *into == "" {
			return r.errorf("%s is empty", path)
		}
		return nil
	}
}

// Redact is a URL without its credentials, fit for a message; of one that is none only
// its scheme, or the one that was meant.
func Redact(scheme, text string) string {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		if of, _, ok := strings.Cut(text, ":"); ok && scheme == "" {
			scheme = of
		}
		return said.Clip(scheme, longest) + "://…"
	}
	return said.Clip(u.Scheme+"://"+u.Host, longest)
}

// Loopback reports whether a host is this machine.
func Loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}
