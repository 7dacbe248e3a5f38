package reverse

import (
	"io"
	"net/http"
	"net/http/httputil"
	"net/textproto"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spillway/spillway/mpp"
)

// Fields that a client may not speak to the upstream with: they claim to be a proxy's
// word, name another path or method than the one that was priced, or pay.
var (
	untrusted = []string{
		"Forwarded", "X-Real-Ip", "X-Client-Ip", "X-Cluster-Client-Ip", "True-Client-Ip", "X-Http-Method", "X-Http-Method-Override", "X-Method-Override",
		"Accept-Payment", mpp.HeaderAlternateCredential, "Payment-Receipt", "Proxy-Authorization", "Proxy-Connection", "Http2-Settings",
	}
	untrustedPrefixes = []string{"X-Forwarded-", "X-Original-", "X-Rewrite-", "X-Accel-", "X-Sendfile"}
)

// refuse says why a request is not taken; 0: it is. It is about requests that this
// proxy and what is behind it could read in two ways.
func refuse(r *http.Request) (status int, why string) {
	switch {
	case r.Method == http.MethodConnect || r.Method == http.MethodTrace:
		return http.StatusMethodNotAllowed, r.Method + " is not taken here"
	case !strings.HasPrefix(r.URL.Path, "/"):
		return http.StatusBadRequest, "the request names no path"
	case ambiguous(r.URL.EscapedPath(), r.URL.Path):
		return http.StatusBadRequest, "a path without backslashes, encoded slashes and control characters is wanted"
	case len(r.Header.Values(mpp.HeaderCredential)) > 1:
		return http.StatusBadRequest, "one Authorization is enough"
	}
	for name := range r.Header {
		if strings.ContainsAny(name, "_.") && foldable(r, name) {
			return http.StatusBadRequest, "a field with the name of another one is not taken"
		}
	}
	return 0, ""
}

// foldable reports whether a service behind could take a field for another one that is
// there as well, as those do that turn both - and _ into the same.
func foldable(r *http.Request, name string) bool {
	twin := textproto.CanonicalMIMEHeaderKey(strings.NewReplacer("_", "-", ".", "-").Replace(name))
	if _, both := r.Header[twin]; both {
		return true
	}
	return twin == "Content-Length" || twin == "Transfer-Encoding" || twin == "Host"
}

// ambiguous reports whether a path means one thing to this proxy and may mean another
// to what is behind it.
func ambiguous(escaped, decoded string) bool {
	lower := strings.ToLower(escaped)
	if strings.Contains(lower, "%2f") || strings.Contains(lower, "%5c") || strings.Contains(decoded, `\`) {
		return true
	}
	for _, segment := range strings.Split(decoded, "/") {
		bare, _, more := strings.Cut(segment, ";")
		if more && (bare == "." || bare == "..") {
			return true
		}
	}
	return strings.ContainsFunc(decoded, func(c rune) bool { return c < 0x20 || c == 0x7f })
}

// dots reports whether a path has . or .. segments.
func dots(decoded string) bool {
	return slices.ContainsFunc(strings.Split(decoded, "/"), func(s string) bool { return s == "." || s == ".." })
}

// clean is a request as the paywall, the rules and the upstream see it: in origin form,
// its host in small letters, its path without . and .. segments.
func clean(r *http.Request) *http.Request {
	in := r.Clone(r.Context())
	in.URL.Scheme, in.URL.Host, in.URL.User = "", "", nil
	if dots(in.URL.Path) { // encoded slashes were refused: this can be written again
		cleaned := path.Clean(in.URL.Path)
		if last := in.URL.Path[strings.LastIndexByte(in.URL.Path, '/')+1:]; (last == "" || dots(last)) && cleaned != "/" {
			cleaned += "/"
		}
		in.URL.Path, in.URL.RawPath = cleaned, ""
	}
	in.Host = hostOf(r.Host)
	if !switches(r) {
		in.Header.Del("Upgrade") // h2c and its like would open a way around the paywall
	}
	return in
}

// hostOf is a host in small letters and without a dot behind its name, which names the
// same one.
func hostOf(host string) string {
	host = strings.ToLower(host)
	port := ""
	if i := strings.LastIndexByte(host, ':'); i >= 0 && !strings.HasSuffix(host, "]") {
		host, port = host[:i], host[i:]
	}
	return strings.TrimSuffix(host, ".") + port
}

// streams reports whether a request's body has to go on as it comes.
func streams(r *http.Request) bool {
	return strings.HasPrefix(strings.ToLower(r.Header.Get("Content-Type")), "application/grpc")
}

// rewrite makes the request that the upstream gets.
func (p *Proxy) rewrite(pr *httputil.ProxyRequest) {
	rule, ok := pr.In.Context().Value(ruleKey{}).(*Rule)
	if !ok {
		rule = p.now.Load().rule(pr.In)
	}
	pr.SetURL(rule.Upstream)
	if rule.KeepHost {
		pr.Out.Host = pr.In.Host
	}
	h := pr.Out.Header
	for name := range h {
		if drops(name, rule) {
			delete(h, name)
		}
	}
	if pays(h.Get(mpp.HeaderCredential)) {
		h.Del(mpp.HeaderCredential)
	}
	pr.Out.Trailer = nil
	pr.SetXForwarded()
	h.Add("Via", via(pr.In))
	for name, value := range rule.Set {
		h.Set(name, value)
	}
}

// drops reports whether the upstream does not get a field from the client.
func drops(name string, rule *Rule) bool {
	folded := textproto.CanonicalMIMEHeaderKey(strings.NewReplacer("_", "-", ".", "-").Replace(name))
	if slices.Contains(untrusted, folded) || slices.ContainsFunc(rule.Remove, func(n string) bool { return strings.EqualFold(n, folded) }) {
		return true
	}
	for _, prefix := range untrustedPrefixes {
		if strings.HasPrefix(folded, prefix) {
			return true
		}
	}
	for set := range rule.Set {
		if strings.EqualFold(set, folded) {
			return true
		}
	}
	return false
}

// pays reports whether an Authorization is one of the Payment scheme.
func pays(value string) bool {
	scheme, _, _ := strings.Cut(strings.TrimSpace(value), " ")
	return strings.EqualFold(scheme, "payment")
}

func via(r *http.Request) string {
	if r.ProtoMajor == 2 {
		return "2 spillway"
	}
	return "1.1 spillway"
}

// answer takes from an upstream's answer what only this proxy may say.
func (p *Proxy) answer(resp *http.Response) error {
	if len(resp.Trailer) > 0 {
		resp.Header.Del("Content-Length") // with HTTP/1.1 there are trailers behind chunks alone
	}
	resp.Header.Del(mpp.HeaderReceipt)
	all := resp.Header.Values(mpp.HeaderChallenge)
	resp.Header.Del(mpp.HeaderChallenge)
	for _, value := range all {
		if !pays(value) {
			resp.Header.Add(mpp.HeaderChallenge, value)
		}
	}
	if c, ok := resp.Request.Context().Value(chargingKey{}).(*charging); ok && resp.StatusCode >= 200 && resp.StatusCode < 300 {
		return c.answered(resp)
	}
	return nil
}

// answering is the way to a client: one that takes nothing for too long is given up.
type answering struct {
	http.ResponseWriter
	control *http.ResponseController
	stall   time.Duration
	sent    *atomic.Uint64
	handed  *handed
	until   time.Time
}

// Unwrap is for http.ResponseController.
func (a *answering) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// Write implements io.Writer.
func (a *answering) Write(p []byte) (int, error) {
	if now := time.Now(); a.until.Sub(now) < a.stall/2 {
		a.until = now.Add(a.stall)
		if err := a.control.SetWriteDeadline(a.until); err != nil {
			return 0, err
		}
	}
	n, err := a.ResponseWriter.Write(p)
	a.sent.Add(uint64(max(n, 0)))
	return n, err
}

// asking is a request's body: a client that sends nothing for too long is given up, and
// one that sends next to nothing for longer.
type asking struct {
	readCloser
	control *http.ResponseController
	stall   time.Duration
	begun   time.Time
	came    int64 // bytes
	done    bool  // the server watches the connection by itself from then on
}

const (
	slowGrace = 5       // times the stall that a body may come as slowly as it likes
	slowest   = 1 << 10 // bytes a second that it has to come with after that
)

// until is when what comes next has to be there.
func (a *asking) until(now time.Time) time.Time {
	if a.begun.IsZero() {
		a.begun = now
	}
	last := a.begun.Add(slowGrace*a.stall + time.Duration(a.came/slowest)*time.Second)
	if next := now.Add(a.stall); next.Before(last) {
		return next
	}
	return last
}

type readCloser interface {
	Read(p []byte) (int, error)
	Close() error
}

// Read implements io.Reader.
func (a *asking) Read(p []byte) (int, error) {
	if a.done {
		return 0, io.EOF
	}
	if err := a.control.SetReadDeadline(a.until(time.Now())); err != nil {
		return 0, err
	}
	n, err := a.readCloser.Read(p)
	a.came += int64(n)
	a.done = err == io.EOF
	return n, err
}

// buffers are what answers are copied through.
type buffers struct{ pool sync.Pool }

// Get implements httputil.BufferPool.
func (b *buffers) Get() []byte {
	if p, ok := b.pool.Get().(*[]byte); ok {
		return *p
	}
	return make([]byte, 32<<10)
}

// Put implements httputil.BufferPool.
func (b *buffers) Put(p []byte) { b.pool.Put(&p) }
