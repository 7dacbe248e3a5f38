package bench

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/spillway/spillway/mpp"
)

// besieged measures what an honest payer waits for an answer, calm and under siege by
// turns: 2,000 connections that are only held, 200 that send a byte of a header now and
// then, streams of HTTP/2 that are reset, bodies without an end, credentials that are
// mutated, repeated or too large. The hostile ones are paced: they use this machine too.
func (h *hall) besieged(ctx context.Context, cfg Config, emit func(Figure) error) error {
	var p, tail pairs
	for round := range cfg.Rounds + 1 {
		cfg.say("middleware under siege, round %d of %d", round, cfg.Rounds)
		calm, err := h.waits(ctx, cfg)
		if err != nil {
			return err
		}
		lift, err := h.besiege(ctx)
		if err != nil {
			return err
		}
		under, err := h.waits(ctx, cfg)
		if err = errors.Join(err, lift()); err != nil {
			return err
		}
		if round > 0 {
			p.add(ms(median(under)), ms(median(calm)))
			tail.add(ms(high(under)), ms(high(calm)))
		}
	}
	f := p.figure("middleware, an honest payer's answer under siege, p50", "ms", "the same in calm")
	f.Ceiling = 2
	if err := emit(f); err != nil {
		return err
	}
	return emit(tail.figure("middleware, an honest payer's answer under siege, p90", "ms", "the same in calm"))
}

// high is the ninth of ten; 0 where there are none.
func high(took []time.Duration) time.Duration {
	if len(took) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(took))
	return sorted[(len(sorted)-1)*9/10]
}

// waits is how long an honest payer waits for each of its answers.
func (h *hall) waits(ctx context.Context, cfg Config) (took []time.Duration, err error) {
	for i, begin := 0, time.Now(); i < 5 || time.Since(begin) < cfg.Time/time.Duration(cfg.Rounds); i++ {
		at := time.Now()
		if _, err := get(ctx, h.paying[0], fmt.Sprintf("%spaid/say?%d", h.url, i), true); err != nil {
			return nil, err
		}
		took = append(took, time.Since(at))
	}
	return took, nil
}

// siege are hostile clients.
type siege struct {
	h     *hall
	addr  string
	wg    sync.WaitGroup
	mu    sync.Mutex
	conns []net.Conn
}

// besiege begins a siege; what it returns ends it.
func (h *hall) besiege(ctx context.Context) (lift func() error, err error) {
	ctx, cancel := context.WithCancel(ctx)
	s := &siege{h: h, addr: strings.TrimSuffix(strings.TrimPrefix(h.url, "https://"), "/")}
	lift = func() error {
		cancel()
		s.mu.Lock()
		for _, c := range s.conns {
			_ = c.Close() // most are ended by the server already
		}
		s.mu.Unlock()
		s.wg.Wait()
		return nil
	}
	for range 2200 {
		c, err := net.DialTimeout("tcp", s.addr, 5*time.Second)
		if err != nil {
			return lift, errors.Join(err, lift())
		}
		s.conns = append(s.conns, c)
	}
	if n := h.conns.Held(); n > 1000 {
		return lift, errors.Join(fmt.Errorf("%d connections are held", n), lift())
	}
	slow := s.conns[2000:]
	s.every(ctx, 100*time.Millisecond, func() {
		for _, c := range slow {
			_, _ = c.Write([]byte{22}) // the beginning of a TLS record, and no more
		}
	})
	s.every(ctx, 50*time.Millisecond, s.reset)
	hostile := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: h.roots}}}
	kinds := []func() *http.Request{s.mutated, s.repeated, s.large, s.endless}
	n := 0
	s.every(ctx, 20*time.Millisecond, func() {
		resp, err := hostile.Do(kinds[n%len(kinds)]())
		if n++; err != nil {
			return // it was ended
		}
		_, _ = io.CopyN(io.Discard, resp.Body, 64<<10)
		_ = resp.Body.Close()
	})
	return lift, nil
}

// every does something again and again until the siege ends.
func (s *siege) every(ctx context.Context, d time.Duration, do func()) {
	s.wg.Go(func() {
		t := time.NewTicker(d)
		defer t.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-t.C:
				do()
			}
		}
	})
}

func (s *siege) request(method, path string, body io.Reader) *http.Request {
	r, err := http.NewRequest(method, s.h.url+path, body)
	if err != nil {
		panic(err) // the URL is ours
	}
	return r
}

func (s *siege) mutated() *http.Request {
	r := s.request(http.MethodGet, "paid/say", nil)
	r.Header.Set(mpp.HeaderCredential, "Payment "+strings.Repeat("eyJj", 500))
	return r
}

func (s *siege) repeated() *http.Request {
	r := s.mutated()
	r.Header.Add(mpp.HeaderCredential, r.Header.Get(mpp.HeaderCredential))
	return r
}

func (s *siege) large() *http.Request {
	r := s.request(http.MethodGet, "paid/say", nil)
	r.Header.Set(mpp.HeaderCredential, "Payment "+strings.Repeat("x", 100<<10))
	return r
}

func (s *siege) endless() *http.Request {
	return s.request(http.MethodPost, "paid/say", io.LimitReader(forEver{}, 16<<20))
}

// forEver is a body without an end.
type forEver struct{}

func (forEver) Read(p []byte) (int, error) { return len(p), nil }

// reset opens a connection of HTTP/2 and resets a hundred streams on it.
func (s *siege) reset() {
	d := &net.Dialer{Timeout: 5 * time.Second}
	conn, err := tls.DialWithDialer(d, "tcp", s.addr, &tls.Config{RootCAs: s.h.roots, NextProtos: []string{"h2"}})
	if err != nil {
		return
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return
	}
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		return
	}
	frames := http2.NewFramer(conn, conn)
	if frames.WriteSettings() != nil {
		return
	}
	var block bytes.Buffer
	fields := hpack.NewEncoder(&block)
	for _, f := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":path", "/paid/say"}, {":authority", s.addr}} {
		if fields.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}) != nil {
			return
		}
	}
	for id := uint32(1); id < 200; id += 2 {
		header := http2.HeadersFrameParam{StreamID: id, BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true}
		if frames.WriteHeaders(header) != nil || frames.WriteRSTStream(id, http2.ErrCodeCancel) != nil {
			return
		}
	}
}
