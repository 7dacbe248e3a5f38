package forward

import (
	"errors"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"github.com/spillway/spillway/paywall"
)

// errTarget: what a request names cannot be fetched.
var errTarget = errors.New("that is nothing to fetch")

// target is what a request to this proxy asks for. In the form of a proxy request it
// names it as a URL; asked like a server, it is /https/HOST[:PORT]/PATH or /http/…, and
// plain is true. RFC 9112, section 3.2.2.
func target(r *http.Request) (u *url.URL, plain bool, err error) {
	if r.URL.IsAbs() {
		u = &url.URL{}
		*u = *r.URL
	} else {
		scheme, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.EscapedPath(), "/"), "/")
		if scheme != "http" && scheme != "https" {
			return nil, true, errTarget
		}
		if u, err = url.Parse(scheme + "://" + rest); err != nil {
			return nil, true, errTarget
		}
		u.RawQuery, plain = r.URL.RawQuery, true
	}
	u.Fragment, u.RawFragment = "", ""
	u.RawQuery, _, _ = strings.Cut(u.RawQuery, "#") // in a request line it would begin none
	if u.User != nil || paywall.Origin(u.String()) == "" || u.Hostname() == "" {
		return nil, plain, errTarget
	}
	if u.Path == "" {
		u.Path = "/"
	}
	for _, segment := range strings.Split(u.Path, "/") {
		if segment == "." || segment == ".." { // apt asks like that. RFC 3986, section 6.2.2.3
			u = u.JoinPath()
			break
		}
	}
	return u, plain, nil
}

// local is a URL in the form that this proxy is asked in as a server.
func local(u *url.URL) string {
	text := "/" + u.Scheme + "/" + u.Host + u.EscapedPath()
	if u.RawQuery != "" {
		text += "?" + u.RawQuery
	}
	if u.Fragment != "" {
		text += "#" + u.EscapedFragment()
	}
	return text
}

// fromPage reports whether a request asked like a server may come from a page of
// somebody else in a browser: such a page must not spend the user's money. Browsers say
// where a request comes from (Sec-Fetch-Site); and a name that was made to point here
// is not how a user writes this address.
func fromPage(r *http.Request) bool {
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" && site != "none" && site != "same-origin" {
		return true
	}
	if r.Header.Get("Origin") != "" && !isLocal(strings.TrimPrefix(r.Header.Get("Origin"), "http://")) {
		return true
	}
	return !isLocal(r.Host)
}

// isLocal reports whether a host, with or without a port, names this machine's loopback.
func isLocal(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	a, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && a.IsLoopback()
}
