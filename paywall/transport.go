package paywall

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// maxAnswer bounds an answer that is not content, in bytes.
	maxAnswer = 1 << 20
	// maxHeader bounds the header of an answer, in bytes.
	maxHeader = 256 << 10
	// maxRedirects bounds how often an unpaid request follows within its origin.
	maxRedirects = 5
	// defaultStall is how long a connection may be silent.
	defaultStall = 60 * time.Second
	// maxRetryAfter and minRetryAfter bound what a provider asks to wait.
	maxRetryAfter = 60 * time.Second
	minRetryAfter = time.Second
)

// errStalled ends a request whose connection was silent for too long.
var errStalled = errors.New("nothing came for too long")

// Origin is the scheme, host and port of a URL in one canonical form; "" where
// it is no http or https URL. RFC 6454.
func Origin(rawURL string) string {
	u, err := url.Parse(rawURL)
	if err != nil {
		return ""
	}
	return originOf(u)
}

func originOf(u *url.URL) string {
	port := u.Port()
	switch {
	case u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return ""
	case port == "" && u.Scheme == "http":
		port = "80"
	case port == "":
		port = "443"
	}
	host := strings.ToLower(u.Hostname())
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return u.Scheme + "://" + host + ":" + port
}

// DefaultHTTP is the HTTP client of a buyer: HTTP/1.1 and 2, bounded headers, no
// compression of content that is verified as it is.
func DefaultHTTP() *http.Client {
	base := http.DefaultTransport.(*http.Transport).Clone()
	base.MaxResponseHeaderBytes = maxHeader
	base.DisableCompression = true
	base.MaxIdleConnsPerHost = 16
	return &http.Client{Transport: base}
}

// transport sends single requests: it never follows a redirect by itself and never
// lets a silent connection hold the buyer up.
type transport struct {
	http  *http.Client
	stall time.Duration
}

func newTransport(h *http.Client, stall time.Duration) *transport {
	if h == nil {
		h = DefaultHTTP()
	}
	own := *h // what the caller's client does with redirects stays its affair
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	own.Timeout = 0
	if stall <= 0 {
		stall = defaultStall
	}
	return &transport{http: &own, stall: stall}
}

// do sends one request. The answer's body ends with errStalled where nothing
// comes for too long; closing it frees everything. Errors: ErrUnreachable, the
// context's.
func (t *transport) do(ctx context.Context, method, target string, header http.Header) (*http.Response, error) {
	inner, cancel := context.WithCancelCause(ctx)
	req, err := http.NewRequestWithContext(inner, method, target, nil)
	if err != nil {
		cancel(nil)
		return nil, unreachable("%w", err)
	}
	for name, values := range header {
		req.Header[name] = values
	}
	guard := &stallGuard{ctx: inner, outer: ctx, cancel: cancel, every: t.stall}
	guard.timer = time.AfterFunc(t.stall, func() { cancel(errStalled) })
	resp, err := t.http.Do(req)
	if err != nil {
		guard.stop()
		return nil, guard.explain(err)
	}
	if resp.StatusCode == http.StatusSwitchingProtocols {
		guard.stop()
		return nil, errors.Join(misbehaved("it switches protocols unasked"), resp.Body.Close())
	}
	guard.body = resp.Body
	resp.Body = guard
	return resp, nil
}

// stallGuard is a response body that ends when nothing comes for too long.
type stallGuard struct {
	ctx, outer context.Context
	cancel     context.CancelCauseFunc
	every      time.Duration
	timer      *time.Timer
	body       io.ReadCloser
	once       sync.Once
}

// Read implements io.Reader; every byte that comes winds the timer up again.
func (g *stallGuard) Read(p []byte) (int, error) {
	n, err := g.body.Read(p)
	if n > 0 {
		g.timer.Reset(g.every)
	}
	if err != nil && err != io.EOF {
		err = g.explain(err)
	}
	return n, err
}

// Close implements io.Closer.
func (g *stallGuard) Close() error {
	g.stop()
	return g.body.Close()
}

func (g *stallGuard) stop() {
	g.once.Do(func() {
		g.timer.Stop()
		g.cancel(context.Canceled)
	})
}

// explain tells a caller's own cancellation from the other side's silence.
func (g *stallGuard) explain(err error) error {
	if outer := g.outer.Err(); outer != nil {
		return outer
	}
	if cause := context.Cause(g.ctx); errors.Is(cause, errStalled) {
		return unreachable("%w", errStalled)
	}
	return unreachable("%w", err)
}

// follow sends an unpaid request and follows redirects within its origin. It
// returns the URL that answered. Errors: *RedirectError for another origin.
func (t *transport) follow(ctx context.Context, method, target string, header http.Header) (*http.Response, string, error) {
	for range maxRedirects {
		resp, err := t.do(ctx, method, target, header)
		if err != nil {
			return nil, target, err
		}
		next, err := redirectOf(resp, target)
		if err != nil {
			return nil, target, errors.Join(err, resp.Body.Close())
		}
		if next == "" {
			return resp, target, nil
		}
		if err := resp.Body.Close(); err != nil {
			return nil, target, unreachable("%w", err)
		}
		if Origin(next) != Origin(target) {
			return nil, target, &RedirectError{From: target, To: next}
		}
		target = next
	}
	return nil, target, fmt.Errorf("%w: more than %d times", ErrRedirected, maxRedirects)
}

// redirectOf is where an answer sends the request; "" where it does not.
func redirectOf(resp *http.Response, from string) (string, error) {
	switch resp.StatusCode {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther,
		http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
	default:
		return "", nil
	}
	base, err := url.Parse(from)
	if err != nil {
		return "", unreachable("%w", err)
	}
	to, err := base.Parse(resp.Header.Get("Location"))
	if err != nil || resp.Header.Get("Location") == "" {
		return "", misbehaved("a redirect without a place to go")
	}
	return to.String(), nil
}

// readAnswer reads a whole answer of at most limit bytes. Errors: ErrMisbehaved
// where it is longer, ErrUnreachable where it breaks off.
func readAnswer(body io.Reader, limit int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(body, limit+1))
	if err != nil {
		if errors.Is(err, ErrUnreachable) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
			return nil, err
		}
		return nil, unreachable("%w", err)
	}
	if int64(len(b)) > limit {
		return nil, misbehaved("an answer of more than %d bytes", limit)
	}
	return b, nil
}

// retryAfterOf is how long an answer asks to wait, within bounds. RFC 9110
// section 10.2.3; a date counts as the least.
func retryAfterOf(h http.Header) time.Duration {
	seconds, err := strconv.ParseUint(strings.TrimSpace(h.Get("Retry-After")), 10, 31)
	if err != nil {
		return minRetryAfter
	}
	return min(max(time.Duration(seconds)*time.Second, minRetryAfter), maxRetryAfter)
}
