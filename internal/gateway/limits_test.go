package gateway_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/spillway/spillway/internal/gateway"
	"github.com/spillway/spillway/internal/gateway/edgetest"
	"github.com/spillway/spillway/mpp/bitcoin"
	"github.com/spillway/spillway/script"
)

// clock is a time that stands still until a test moves it.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// small is a stand that sells 1,000 chunks of 1,000 bytes for a satoshi each.
func small(t *testing.T, edit func(*gateway.Config)) *seller {
	t.Helper()
	s := edgetest.New(t, edgetest.Config{
		Files: map[string][]byte{"f.bin": edgetest.Pattern(1_000_000, 3)}, Chunk: 1000, Price: "1sat/1kB", Gateway: edit,
	})
	return &seller{s, s.OpenChannel(script.Taproot)}
}

func sliceOf(i int) string { return fmt.Sprintf("/f.bin?slice=%d-%d", i*1000, i*1000+999) }

// A thousand paid requests in a row from one address are served, however few unpaid
// ones are allowed; what costs the client nothing is limited, with a credential and
// without.
func TestPitfall41_PaidRequestsAreNotCounted(t *testing.T) {
	at := &clock{at: time.Unix(1_700_000_000, 0)}
	s := small(t, func(c *gateway.Config) { c.PerSecond, c.Now = 5, at.now })
	c := s.Quote("/f.bin").Challenge
	for i := range 1000 {
		r := s.Do(edgetest.Ask{Method: "GET", Path: sliceOf(i), Credential: s.Seal(c, s.VoucherFor(s.id, uint64(i)), "")})
		if r.Status != 200 || r.Receipt == nil || r.Receipt.Units != 1 {
			t.Fatalf("%d: %d %v", i, r.Status, r.Problem)
		}
	}
	if r := s.Do(edgetest.Ask{Method: "HEAD", Path: "/f.bin", Credential: s.Seal(c, s.VoucherFor(s.id, 1000), "")}); r.Status != 204 {
		t.Fatalf("%d", r.Status)
	}
	paid := s.VoucherFor(s.id, 1000)
	for name, a := range map[string]edgetest.Ask{
		"unpaid":         {Method: "GET", Path: "/f.bin"},
		"catalogue":      {Method: "GET", Path: "/"},
		"unknown":        {Method: "GET", Path: "/nothing"},
		"stale vouchers": {Method: "HEAD", Path: "/f.bin", Credential: s.Seal(c, paid, "")},
		"at the root":    {Method: "POST", Path: "/", Credential: s.Seal(c, paid, "")},
		"charged before": {Method: "GET", Path: sliceOf(5), Credential: s.Seal(c, paid, "")},
		"wrong":          {Method: "GET", Path: sliceOf(5), Credential: "Payment xyz"},
	} {
		at.add(time.Minute)
		served := 0
		for range 30 {
			r := s.Do(a)
			if r.Status == http.StatusTooManyRequests {
				if r.Header.Get("Retry-After") == "" || r.Receipt != nil {
					t.Errorf("%s: %v", name, r.Header)
				}
				continue
			}
			served++
		}
		if served != 10 {
			t.Errorf("%s: %d of 30 were served, want a burst of 10", name, served)
		}
	}
	if s.charged() != 1_000_000 {
		t.Errorf("charged %d", s.charged())
	}
}

// Pitfall 53: many requests at once, each with the same voucher, get together what it
// and the credit cover, and no chunk more.
func TestPitfall53_ParallelRequestsStayWithinTheCredit(t *testing.T) {
	s := small(t, func(c *gateway.Config) { c.MaxPerChannel = 64 })
	c := s.Quote("/f.bin").Challenge
	for round, want := range []uint64{1, 8, 16} {
		v := s.VoucherFor(s.id, want-1)
		cred := s.Seal(c, v, "")
		var group sync.WaitGroup
		replies := make([]*edgetest.Reply, 40)
		for i := range replies {
			group.Add(1)
			go func() {
				defer group.Done()
				path := sliceOf(i)
				if round == 2 && i%2 == 1 { // other forms of the same
					path = fmt.Sprintf("/f.bin?slice=%d-%d", i*1000+10, i*1000+11)
				}
				replies[i] = s.Do(edgetest.Ask{Method: "GET", Path: path, Credential: cred})
			}()
		}
		group.Wait()
		served := uint64(0)
		for i, r := range replies {
			switch r.Status {
			case 200:
				served++
			case 402:
				if r.Problem.String("requiredCumulative") == "" || len(r.Body) > 4000 {
					t.Errorf("%d: %v", i, r.Problem)
				}
			default:
				t.Errorf("%d: %d", i, r.Status)
			}
		}
		if served != want || s.charged() != want*1000 {
			t.Errorf("round %d: %d were served, charged %d msat, want %d chunks", round, served, s.charged(), want)
		}
	}
}

// A chunk that was sent three times is sent slowly, all of a channel's deliveries
// together: free bytes are bounded, and none is refused.
func TestPitfall68_AgainIsSlow(t *testing.T) {
	s := edgetest.New(t, edgetest.Config{
		Files: map[string][]byte{"f.bin": file[:200_000]}, Chunk: 100_000, Price: "1sat/1kB",
		Gateway: func(c *gateway.Config) { c.Slow = 100_000 },
	})
	b := &seller{s, s.OpenChannel(script.Taproot)}
	fetch := func() {
		r := b.get("/f.bin", 0, http.Header{"Range": {"bytes=0-99999"}})
		if r.Status != 206 || !bytes.Equal(r.Body, file[:100_000]) {
			t.Errorf("%d, %d bytes", r.Status, len(r.Body))
		}
	}
	for range 3 {
		fetch()
	}
	begin := time.Now()
	var group sync.WaitGroup
	for range 4 {
		group.Add(1)
		go func() { defer group.Done(); fetch() }()
	}
	group.Wait()
	if took := time.Since(begin); took < 2*time.Second {
		t.Errorf("400,000 bytes at 100,000 a second took %v", took)
	}
	if b.charged() != 100_000 {
		t.Errorf("charged %d", b.charged())
	}
}

// whole begins to buy the whole file with a voucher for nothing.
func (s *seller) whole() *http.Response {
	s.T.Helper()
	req := s.Request(s.T.Context(), edgetest.Ask{Method: "GET", Path: "/f.bin", Credential: s.Seal(s.Quote("/f.bin").Challenge, s.VoucherFor(s.id, 0), "")})
	resp, err := s.Server.Client().Do(req)
	s.Must(err)
	if resp.StatusCode != 200 {
		s.T.Fatalf("%d", resp.StatusCode)
	}
	return resp
}

// A stream sends what is charged, waits for vouchers on other connections, and ends
// with what was paid for.
func TestStreamWaitsForVouchers(t *testing.T) {
	s := newSeller(t, edgetest.Config{})
	resp := s.whole()
	got := make([]byte, len(file))
	for i := range 3 {
		if i > 0 {
			if r := s.Pay("HEAD", "/f.bin", s.VoucherFor(s.id, uint64(i)*1000)); r.Status != 204 {
				t.Fatalf("%d", r.Status)
			}
		}
		_, err := io.ReadFull(resp.Body, got[i*1_000_000:(i+1)*1_000_000])
		s.Must(err)
		if s.charged() > uint64(i+1)*1_000_000 {
			t.Fatalf("charged %d", s.charged())
		}
	}
	if n, err := resp.Body.Read(make([]byte, 1)); n != 0 || err != io.EOF || !bytes.Equal(got, file) {
		t.Errorf("%d more, %v", n, err)
	}
	s.Must(resp.Body.Close())
}

// A stream that is not paid breaks off when its time is over: never a byte more than
// was charged, and the client sees that it is not whole.
func TestStreamEndsUnpaid(t *testing.T) {
	s := newSeller(t, edgetest.Config{Gateway: func(c *gateway.Config) { c.MaxWait = 50 * time.Millisecond }})
	r := s.Read(s.whole())
	if r.Broken == nil || !bytes.Equal(r.Body, file[:1_000_000]) || s.charged() != 1_000_000 {
		t.Errorf("%d bytes, %v, charged %d", len(r.Body), r.Broken, s.charged())
	}
}

// A stream that waits ends at once when its channel is closed: nothing can be paid any
// more.
func TestStreamEndsWithItsChannel(t *testing.T) {
	s := newSeller(t, edgetest.Config{})
	resp := s.whole()
	_, err := io.ReadFull(resp.Body, make([]byte, 1_000_000))
	s.Must(err)
	c, err := s.Payer.BeginClose(t.Context(), s.id)
	s.Must(err)
	v := s.VoucherFor(s.id, 1000)
	r := s.Do(edgetest.Ask{Method: "POST", Path: "/", Credential: s.Seal(s.rootChallenge(), bitcoin.Close{
		ChannelID: s.id, CumulativeAmount: 1000, Signature: v.Signature, PayerNonce: c.Nonce[:],
	}, "")})
	if r.Status != 200 {
		t.Fatalf("%d %v", r.Status, r.Problem)
	}
	if n, err := io.Copy(io.Discard, resp.Body); err == nil || n > 0 {
		t.Errorf("%d bytes after the close, %v", n, err)
	}
	s.Must(resp.Body.Close())
}

// While the chain cannot be asked nothing is quoted, and nothing is delivered that
// rests on it; it is said so, without a challenge that could not be kept.
func TestChainDown(t *testing.T) {
	s := newSeller(t, edgetest.Config{})
	c := s.Quote("/f.bin").Challenge
	s.Chain.Down(true)
	for _, a := range []edgetest.Ask{
		{Method: "GET", Path: "/f.bin"}, {Method: "HEAD", Path: "/f.bin"}, {Method: "POST", Path: "/"},
		{Method: "GET", Path: slice0, Credential: s.Seal(c, s.VoucherFor(s.id, 100), "")},
	} {
		r := s.Do(a)
		if r.Status != 503 || r.Header.Get("Retry-After") == "" || r.Receipt != nil || len(r.Body) > 1000 {
			t.Errorf("%s %s: %d %v", a.Method, a.Path, r.Status, r.Problem)
		}
	}
	if s.charged() != 0 || s.paid() != 100 {
		t.Errorf("charged %d, paid %d", s.charged(), s.paid())
	}
	s.Chain.Down(false)
	if r := s.get(slice0, 100, nil); r.Status != 200 {
		t.Errorf("%d", r.Status)
	}
}

// A stream that waits for a payment gives way to a delivery that need not wait, and
// where all deliver the next one is told to come again, uncharged.
func TestStreamsGiveWay(t *testing.T) {
	s := newSeller(t, edgetest.Config{Gateway: func(c *gateway.Config) { c.MaxPerChannel = 1 }})
	first := s.whole()
	_, err := io.ReadFull(first.Body, make([]byte, 1_000_000))
	s.Must(err)
	r := s.get(slice0, 0, nil)
	for tries := 0; r.Status == 503 && tries < 1000; tries++ { // it may not wait yet
		r = s.get(slice0, 0, nil)
	}
	if r.Status != 200 {
		t.Fatalf("%d %v", r.Status, r.Problem)
	}
	if n, err := io.Copy(io.Discard, first.Body); err == nil || n != 0 {
		t.Errorf("the stream that waited went on: %d bytes, %v", n, err)
	}
	s.Must(first.Body.Close())
}

// A client that takes nothing loses its delivery, and its place goes to another.
func TestPitfall41_SilentReaders(t *testing.T) {
	big := edgetest.Pattern(24_000_000, 5)
	s := edgetest.New(t, edgetest.Config{Files: map[string][]byte{"f.bin": big}, Chunk: 24_000_000, Price: "1000sat/file", Gateway: func(c *gateway.Config) {
		c.MaxPerChannel, c.Stall = 1, 300*time.Millisecond
	}})
	b := &seller{s, s.OpenChannel(script.Taproot)}
	conn, err := net.Dial("tcp", s.Server.Listener.Addr().String())
	s.Must(err)
	defer conn.Close()
	s.Must(conn.(*net.TCPConn).SetReadBuffer(4096))
	req := s.Request(t.Context(), edgetest.Ask{Method: "GET", Path: "/f.bin", Credential: s.Seal(s.Quote("/f.bin").Challenge, s.VoucherFor(b.id, 0), "")})
	s.Must(req.Write(conn))
	for deadline := time.Now().Add(10 * time.Second); b.charged() == 0; {
		if time.Now().After(deadline) {
			t.Fatal("not charged")
		}
	}
	busy := 0
	for deadline := time.Now().Add(20 * time.Second); ; busy++ {
		r := b.get("/f.bin", 0, http.Header{"Range": {"bytes=0-9"}})
		if r.Status == 206 {
			break
		}
		if r.Status != 503 || time.Now().After(deadline) {
			t.Fatalf("%d %v after %d tries", r.Status, r.Problem, busy)
		}
	}
	if busy == 0 {
		t.Error("the silent reader held nothing")
	}
}

// Where all places for requests are taken the next one is refused, uncharged.
func TestTooManyRequests(t *testing.T) {
	s := newSeller(t, edgetest.Config{Gateway: func(c *gateway.Config) { c.MaxRequests = 1 }})
	first := s.whole()
	_, err := io.ReadFull(first.Body, make([]byte, 1_000_000))
	s.Must(err)
	r := s.Do(edgetest.Ask{Method: "GET", Path: "/f.bin"})
	if r.Status != 503 || r.Header.Get("Retry-After") == "" {
		t.Errorf("%d", r.Status)
	}
	s.Must(first.Body.Close())
}

// In other chunks a file is another resource: what was charged in small chunks makes
// no large one free.
func TestRechunkedFile(t *testing.T) {
	cfg := edgetest.Config{Files: map[string][]byte{"f.bin": file}, Chunk: 1000, Price: "1sat/1kB"}
	s := edgetest.New(t, cfg)
	b := &seller{s, s.OpenChannel(script.Taproot)}
	for i := range 3 {
		if r := b.get(sliceOf(i), uint64(i), nil); r.Status != 200 {
			t.Fatalf("%d", r.Status)
		}
	}
	s.Rechunk(1_000_000)
	r := b.get(slice0, 3, nil)
	if r.Status != 200 || b.charged() != 3000+1_000_000 || r.Receipt.Units != 1 {
		t.Errorf("%d, charged %d msat", r.Status, b.charged())
	}
	if r := b.get(slice1, 3, nil); r.Status != 402 {
		t.Errorf("%d", r.Status)
	}
}
