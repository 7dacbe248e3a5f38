package paywall

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// A connection that falls silent in the middle of a body ends the request; bytes
// that keep coming, however slowly, do not.
func TestSilenceEndsARequest(t *testing.T) {
	gone := make(chan struct{})
	step := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for range 3 {
			if _, err := io.WriteString(w, "x"); err != nil {
				return
			}
			w.(http.Flusher).Flush()
			select {
			case step <- struct{}{}:
			case <-r.Context().Done():
				return
			}
		}
		<-r.Context().Done()
		close(gone)
	}))
	defer s.Close()
	tr := newTransport(nil, 400*time.Millisecond)
	resp, err := tr.do(context.Background(), http.MethodGet, s.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1)
	for range 3 {
		<-step
		if n, err := resp.Body.Read(b); n != 1 || err != nil {
			t.Fatalf("%d bytes, %v", n, err)
		}
	}
	if _, err := resp.Body.Read(b); !errors.Is(err, ErrUnreachable) || !errors.Is(err, errStalled) {
		t.Fatalf("got %v", err)
	}
	if err := resp.Body.Close(); err != nil {
		t.Fatal(err)
	}
	<-gone // the server sees the end too
}

// A caller that gives up gets its own error, not the network's.
func TestCancelledRequest(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	defer s.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	if _, err := newTransport(nil, 0).do(ctx, http.MethodGet, s.URL, nil); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrUnreachable) {
		t.Fatalf("got %v", err)
	}
}

func TestReadAnswer(t *testing.T) {
	if b, err := readAnswer(strings.NewReader("12345"), 5); string(b) != "12345" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
	if _, err := readAnswer(strings.NewReader("123456"), 5); !errors.Is(err, ErrMisbehaved) {
		t.Errorf("too long: %v", err)
	}
	if _, err := readAnswer(io.MultiReader(strings.NewReader("1"), brokenReader{}), 5); !errors.Is(err, ErrUnreachable) {
		t.Errorf("broken: %v", err)
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, errors.New("broken pipe") }

func TestRetryAfterIsBounded(t *testing.T) {
	for in, want := range map[string]time.Duration{
		"": time.Second, "0": time.Second, "7": 7 * time.Second, " 7 ": 7 * time.Second, "99999999": time.Minute,
		"-1": time.Second, "soon": time.Second, "Wed, 21 Oct 2015 07:28:00 GMT": time.Second,
	} {
		if got := retryAfterOf(http.Header{"Retry-After": {in}}); got != want {
			t.Errorf("%q: %v, want %v", in, got, want)
		}
	}
}

func TestPatienceGrows(t *testing.T) {
	before := time.Duration(0)
	for n := range 20 {
		d := Patience(n, ErrUnreachable)
		if d < before || d > 30*time.Second {
			t.Errorf("after %d failures: %v", n, d)
		}
		before = d
	}
	if d := Patience(0, &BusyError{RetryAfter: 9 * time.Second}); d != 9*time.Second {
		t.Errorf("busy: %v", d)
	}
}
