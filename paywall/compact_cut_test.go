package paywall_test

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/internal/gateway/edgetest"
	"github.com/spillway/spillway/payer"
	"github.com/spillway/spillway/paywall"
	"github.com/spillway/spillway/script"
)

var errCut = errors.New("cut")

// cutWires cuts a connection at one of its messages, in whichever direction it goes:
// before it, in its middle, or behind it. A connection that was opened later is whole.
type cutWires struct {
	base http.RoundTripper
	at   int    // message, from one, over all connections; 0: none
	how  string // "before", "half" or "after"
	then func() // what happens at the cut besides

	mu   sync.Mutex
	seen int
}

// RoundTrip implements http.RoundTripper.
func (c *cutWires) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := c.base.RoundTrip(r)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		return resp, err
	}
	under := resp.Body.(io.ReadWriteCloser)
	resp.Body = &cutWire{ReadWriteCloser: under, all: c, in: bufio.NewReaderSize(under, 1<<17)}
	return resp, nil
}

// message counts one; here: it is the one that is cut.
func (c *cutWires) message() (here bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen++
	return c.seen == c.at
}

type cutWire struct {
	io.ReadWriteCloser
	all  *cutWires
	in   *bufio.Reader
	left []byte
	over atomic.Bool
}

func (w *cutWire) cut() error {
	w.over.Store(true)
	if w.all.then != nil {
		w.all.then()
	}
	return errors.Join(errCut, w.Close())
}

// Write writes one message: each is flushed by itself.
func (w *cutWire) Write(p []byte) (int, error) {
	if !w.all.message() {
		return w.ReadWriteCloser.Write(p)
	}
	part := map[string]int{"before": 0, "half": len(p) / 2, "after": len(p)}[w.all.how]
	if part > 0 {
		if _, err := w.ReadWriteCloser.Write(p[:part]); err != nil {
			return 0, err
		}
	}
	return 0, w.cut()
}

// Read gives out what is left of a message that was read whole.
func (w *cutWire) Read(p []byte) (int, error) {
	if len(w.left) == 0 {
		if w.over.Load() {
			return 0, w.cut()
		}
		message, err := w.next()
		if err != nil {
			return 0, err
		}
		w.left = message
		if w.all.message() {
			w.left = message[:map[string]int{"before": 0, "half": len(message) / 2, "after": len(message)}[w.all.how]]
			if w.over.Store(true); len(w.left) == 0 {
				return 0, w.cut()
			}
		}
	}
	n := copy(p, w.left)
	w.left = w.left[n:]
	return n, nil
}

// next reads a WebSocket frame of the server's.
func (w *cutWire) next() ([]byte, error) {
	head, err := w.in.Peek(2)
	if err != nil {
		return nil, err
	}
	size, more := int(head[1]&0x7f), 2
	switch size {
	case 126:
		if head, err = w.in.Peek(4); err != nil {
			return nil, err
		}
		size, more = int(binary.BigEndian.Uint16(head[2:])), 4
	case 127:
		if head, err = w.in.Peek(10); err != nil {
			return nil, err
		}
		size, more = int(binary.BigEndian.Uint64(head[2:])), 10
	}
	frame := make([]byte, more+size)
	_, err = io.ReadFull(w.in, frame)
	return frame, err
}

// purchase buys three chunks and pays for the last, as a buyer does that goes on after
// every failure: what was charged is what came, once, and paid is what was charged.
func (s *compactStand) purchase(client *paywall.Client, first, size uint64) {
	t := s.T
	t.Helper()
	before, err := s.Payer.Record(ctx, s.id)
	s.Must(err)
	for i := first; i < first+3; i++ {
		key := fmt.Sprintf("chunk %d", i)
		for attempt := 0; ; attempt++ {
			rec, err := s.Payer.Record(ctx, s.id)
			s.Must(err)
			got, receipt, err := s.slice(client, i, size, rec.Newest(), key)
			if err == nil {
				if uint64(got) < size {
					t.Fatalf("chunk %d: %d bytes", i, got)
				}
				_, err = s.Payer.Pay(ctx, s.id, payer.Payment{Verified: receipt - min(receipt, rec.Owed)}, channel.Limits{Budget: channel.MaxSat})
				s.Must(err)
				break
			}
			if attempt == 4 || !errors.Is(err, paywall.ErrUnreachable) {
				t.Fatalf("chunk %d: %v", i, err)
			}
		}
	}
	u, err := s.Payer.Newest(ctx, s.id)
	s.Must(err)
	for attempt := 0; ; attempt++ {
		_, err := client.Voucher(ctx, paywall.Paid{Channel: s.id, URL: s.url, Update: u, Key: fmt.Sprintf("last %d", first)})
		if err == nil {
			break
		}
		if attempt == 4 || !errors.Is(err, paywall.ErrUnreachable) {
			t.Fatalf("the last payment: %v", err)
		}
	}
	mine, err := s.Payer.Record(ctx, s.id)
	s.Must(err)
	theirs := s.record()
	if want := before.Owed + 300_000; theirs.Charged != want || mine.Owed != want || theirs.Paid != mine.Signed || theirs.Paid*1000 != want {
		t.Fatalf("charged %d msat, owed %d, want %d; paid %d sat, signed %d", theirs.Charged, mine.Owed, want, theirs.Paid, mine.Signed)
	}
}

// slice fetches a chunk and returns its length and what the receipt says is charged, in msat.
func (s *compactStand) slice(c *paywall.Client, chunk, size uint64, u channel.Update, key string) (int64, uint64, error) {
	resp, receipt, err := c.Fetch(ctx, paywall.Paid{
		Channel: s.id, URL: fmt.Sprintf("%s?slice=%d-%d", s.url, chunk*size, chunk*size+size-1), Update: u, Key: key,
	})
	if err != nil {
		return 0, 0, err
	}
	n, err := io.Copy(io.Discard, resp.Body)
	return n, receipt.ChargedMsat, errors.Join(err, resp.Body.Close())
}

// Wherever a connection is cut, and whether the provider's process goes with it or not,
// nothing is paid or charged twice, nothing that was acknowledged is lost, and the
// purchase goes on, over another connection or over HTTP.
func TestCompactCutAtEveryMessage(t *testing.T) {
	const size = 100_000
	s := newCompactStand(t, edgetest.Config{
		Files: map[string][]byte{"f.bin": edgetest.Pattern(300*size, 1)}, Chunk: size, Price: "100sat/100kB",
	}, script.Taproot)
	next := uint64(0)
	run := func(at int, how string, then func()) (messages int) {
		net := &cutWires{base: paywall.DefaultHTTP().Transport, at: at, how: how, then: then}
		client := s.compactClient(net)
		s.purchase(client, next, size)
		next += 3
		client.CloseIdle()
		net.mu.Lock()
		defer net.mu.Unlock()
		return net.seen
	}
	all := run(0, "", nil)
	if all < 14 {
		t.Fatalf("a purchase has %d messages", all)
	}
	for at := 1; at <= all; at++ {
		for _, how := range []string{"before", "half", "after"} {
			run(at, how, nil)
		}
	}
	for at := 1; at <= all; at++ {
		once := sync.Once{}
		run(at, []string{"before", "half", "after"}[at%3], func() {
			once.Do(func() { s.Wall.CloseConnections(); s.Restart() })
		})
	}
}

// Something in between that does not pass the transport, or breaks it again and again, is
// no obstacle: HTTP takes its place.
func TestCompactFallsBackToHTTP(t *testing.T) {
	s := newCompactStand(t, edgetest.Config{}, script.Taproot)
	for name, refuse := range map[string]func(http.ResponseWriter, *http.Request){
		"a proxy that drops the upgrade": func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusOK) },
		"a proxy that refuses it":        func(w http.ResponseWriter, r *http.Request) { http.Error(w, "no", http.StatusBadRequest) },
		"a proxy that breaks off": func(w http.ResponseWriter, r *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			s.Must(err)
			s.Must(conn.Close())
		},
	} {
		t.Run(name, func(t *testing.T) {
			var upgrades atomic.Int64
			s.Serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Upgrade") != "" {
					upgrades.Add(1)
					refuse(w, r)
					return
				}
				s.Handler().ServeHTTP(w, r)
			}))
			client := s.compactClient(nil)
			for i := range uint64(3) {
				_, err := s.buy(client, i, "")
				s.Must(err)
			}
			if n := upgrades.Load(); n != 1 {
				t.Errorf("%d attempts", n)
			}
		})
	}
	if r := s.record(); r.Charged != 3_000_000 {
		t.Errorf("charged %d msat", r.Charged)
	}
}
