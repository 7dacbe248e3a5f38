package paywall_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/internal/gateway/edgetest"
	"github.com/spillway/spillway/mpp"
	"github.com/spillway/spillway/mpp/bitcoin"
	"github.com/spillway/spillway/payer"
	"github.com/spillway/spillway/paywall"
	"github.com/spillway/spillway/script"
)

// compactStand is a provider, a payer with an open channel, and a client that uses the
// compact transport.
type compactStand struct {
	*edgetest.Stand
	id     string
	url    string
	client *paywall.Client
	// challenge for f.bin, from before Serve
	challenge mpp.Challenge

	front *httptest.Server
	mu    sync.Mutex
	other http.Handler
}

// Serve has another handler answer in the provider's place; nil: it answers itself.
func (s *compactStand) Serve(h http.Handler) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.other = h
}

func newCompactStand(t testing.TB, cfg edgetest.Config, kind script.Construction) *compactStand {
	t.Helper()
	s := &compactStand{Stand: edgetest.New(t, cfg)}
	t.Cleanup(func() { s.Wall.CloseConnections() })
	s.id = s.OpenChannel(kind)
	s.front = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		h := s.other
		s.mu.Unlock()
		if h == nil {
			h = s.Handler()
		}
		h.ServeHTTP(w, r)
	}))
	t.Cleanup(s.front.Close)
	s.url = s.front.URL + "/f.bin"
	s.client = s.compactClient(nil)
	s.challenge = s.Quote("/f.bin").Challenge
	return s
}

// compactClient makes a client that uses the compact transport.
func (s *compactStand) compactClient(over http.RoundTripper) *paywall.Client {
	s.T.Helper()
	if over == nil {
		over = paywall.DefaultHTTP().Transport
	}
	c, err := paywall.NewClient(paywall.ClientConfig{
		HTTP: &http.Client{Transport: over}, Payer: s.Payer, Network: "regtest", Now: s.Now, Compact: true, Stall: 10 * time.Second,
		Sleep: func(ctx context.Context, _ time.Duration) error { return ctx.Err() },
	})
	s.Must(err)
	s.T.Cleanup(c.CloseIdle)
	return c
}

// dial opens a connection and binds the stand's channel with an update of that amount.
func (s *compactStand) dial(amount uint64) *paywall.Compact {
	s.T.Helper()
	x, err := s.client.DialCompact(ctx, s.url)
	s.Must(err)
	s.T.Cleanup(func() { s.Must(x.Close()) })
	s.Must(x.Bind(ctx, s.id, s.Quote("/f.bin"), s.Update(s.id, amount)))
	return x
}

func (s *compactStand) record() channel.PayeeRecord {
	s.T.Helper()
	r, err := s.Payee.Record(ctx, s.id)
	s.Must(err)
	return r
}

// buy fetches a chunk with the payer's newest update, and pays for what was charged.
func (s *compactStand) buy(c *paywall.Client, chunk uint64, key string) ([]byte, error) {
	s.T.Helper()
	before, err := s.Payer.Record(ctx, s.id)
	s.Must(err)
	resp, receipt, err := c.Fetch(ctx, paywall.Paid{
		Channel: s.id, URL: fmt.Sprintf("%s?slice=%d-%d", s.url, chunk*1_000_000, chunk*1_000_000+999_999), Update: before.Newest(), Key: key,
	})
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return nil, err
	}
	_, err = s.Payer.Pay(ctx, s.id, payer.Payment{Verified: receipt.ChargedMsat - min(receipt.ChargedMsat, before.Owed)}, channel.Limits{Budget: channel.MaxSat})
	return body, err
}

// counted counts what goes over HTTP.
type counted struct {
	base http.RoundTripper
	mu   sync.Mutex
	gets map[string]int
}

func (c *counted) RoundTrip(r *http.Request) (*http.Response, error) {
	c.mu.Lock()
	what := r.Method
	switch {
	case r.Header.Get("Upgrade") != "":
		what = "upgrade"
	case r.Header.Get(mpp.HeaderCredential) != "":
		what += " paid"
	}
	if c.gets == nil {
		c.gets = map[string]int{}
	}
	c.gets[what]++
	c.mu.Unlock()
	return c.base.RoundTrip(r)
}

// A purchase over the compact transport brings the same bytes, and the same ledgers, as
// one over HTTP; the payments and the content go over one connection.
func TestCompactBuysLikeHTTP(t *testing.T) {
	for _, kind := range []script.Construction{script.Taproot, script.Multisig, script.MultisigP2SH} {
		t.Run(string(kind), func(t *testing.T) {
			s := newCompactStand(t, edgetest.Config{}, kind)
			net := &counted{base: paywall.DefaultHTTP().Transport}
			client := s.compactClient(net)
			plain, err := paywall.NewClient(paywall.ClientConfig{Payer: s.Payer, Network: "regtest", Now: s.Now})
			s.Must(err)
			for i := range uint64(3) {
				got, err := s.buy(client, i, "")
				s.Must(err)
				again, err := s.buy(plain, i, "") // what was charged is served again free
				s.Must(err)
				if !bytes.Equal(got, again) || len(got) < 1_000_000 {
					t.Fatalf("chunk %d: %d bytes here, %d over HTTP", i, len(got), len(again))
				}
			}
			u, err := s.Payer.Newest(ctx, s.id)
			s.Must(err)
			receipt, err := client.Voucher(ctx, paywall.Paid{Channel: s.id, URL: s.url, Update: u})
			s.Must(err)
			if r := s.record(); r.Charged != 3_000_000 || r.Paid != 3000 || receipt.AcceptedCumulative != 3000 || receipt.ChargedMsat != 3_000_000 {
				t.Errorf("charged %d msat, paid %d sat, receipt %+v", r.Charged, r.Paid, receipt)
			}
			if net.gets["upgrade"] != 1 || net.gets["GET paid"]+net.gets["HEAD paid"]+net.gets["POST paid"] != 0 {
				t.Errorf("what went over the net: %v", net.gets)
			}
		})
	}
}

// A duplex channel goes on over HTTP.
func TestCompactLeavesDuplexToHTTP(t *testing.T) {
	s := newCompactStand(t, edgetest.Config{Payee: allKinds(script.Duplex)}, script.Duplex)
	net := &counted{base: paywall.DefaultHTTP().Transport}
	u, err := s.Payer.Newest(ctx, s.id)
	s.Must(err)
	resp, _, err := s.compactClient(net).Fetch(ctx, paywall.Paid{Channel: s.id, URL: s.url + "?slice=0-999999", Update: u})
	s.Must(err)
	s.Must(resp.Body.Close())
	if net.gets["upgrade"] != 0 || net.gets["GET paid"] != 1 {
		t.Errorf("what went over the net: %v", net.gets)
	}
}

// Updates are pipelined: none waits for the answer to another one, the newest that waits
// is the one that is verified, and what is acknowledged is saved.
func TestCompactPipelinesUpdates(t *testing.T) {
	s := newCompactStand(t, edgetest.Config{}, script.Taproot)
	x := s.dial(0)
	before := len(s.PayeeDisk.Commits())
	var updates []channel.Update
	const n = 400
	for i := range uint64(n) {
		updates = append(updates, s.Update(s.id, i+1))
	}
	for _, u := range updates {
		s.Must(x.Update(s.id, u))
	}
	s.Must(x.Wait(ctx, s.id, n))
	if r := s.record(); r.Paid != n || !bytes.Equal(r.Signature, updates[n-1].Signature) {
		t.Fatalf("paid %d sat", r.Paid)
	}
	if saved := len(s.PayeeDisk.Commits()) - before; saved > n/2 {
		t.Errorf("%d commits for %d updates", saved, n)
	}
	for _, u := range updates { // stale and equal ones are successes without effect
		s.Must(x.Update(s.id, u))
	}
	if paid, _ := x.Acknowledged(s.id); paid != n {
		t.Errorf("acknowledged are %d sat", paid)
	}
	s.Must(x.Update(s.id, s.Update(s.id, n+1)))
	s.Must(x.Wait(ctx, s.id, n+1))
	if saved := len(s.PayeeDisk.Commits()) - before; saved > n/2+1 {
		t.Errorf("%d commits after stale ones", saved)
	}
}

// A wrong half-signature ends the channel's part of the connection; the good one before
// it is saved, and another channel on the connection goes on.
func TestCompactRefusesAWrongSignature(t *testing.T) {
	s := newCompactStand(t, edgetest.Config{}, script.Taproot)
	other := s.OpenChannel(script.Taproot)
	x := s.dial(0)
	s.Must(x.Bind(ctx, other, s.Quote("/f.bin"), s.Update(other, 0)))
	wrong := s.Update(s.id, 8)
	wrong.Amount = 9
	s.Must(x.Update(s.id, s.Update(s.id, 7)))
	s.Must(x.Update(s.id, wrong))
	err := x.Wait(ctx, s.id, 9)
	var refused *paywall.RefusedError
	if !errors.As(err, &refused) || refused.Problem.Type != mpp.ProblemInvalidSignature {
		t.Fatalf("got %v", err)
	}
	if r := s.record(); r.Paid != 7 {
		t.Errorf("paid %d sat: what was good before is saved", r.Paid)
	}
	if err := x.Update(s.id, s.Update(s.id, 10)); !errors.Is(err, paywall.ErrRefused) {
		t.Errorf("got %v", err)
	}
	s.Must(x.Update(other, s.Update(other, 5)))
	s.Must(x.Wait(ctx, other, 5))
	above := s.Update(other, 50_000)
	above.Amount = 60_000
	y := s.dial(7)
	s.Must(y.Bind(ctx, other, s.Quote("/f.bin"), s.Update(other, 5)))
	s.Must(y.Update(other, above))
	if err := y.Wait(ctx, other, above.Amount); !errors.As(err, &refused) || s.Alarms() != nil {
		t.Errorf("above the capacity: got %v", err)
	}
}

// Whose channel it is is proved for this connection: a bind is worth nothing on another
// one nor over HTTP, and a credential of HTTP binds nothing. Pitfalls 24 and 61.
func TestPitfall61_CompactProvesTheChannel(t *testing.T) {
	s := newCompactStand(t, edgetest.Config{}, script.Taproot)
	q := s.Quote("/f.bin")
	voucher := s.VoucherFor(s.id, 5)
	a := s.raw("/f.bin")
	overHTTP := s.Seal(q.Challenge, voucher, "")
	mine := s.Seal(q.Challenge, voucher, a.key())
	for name, credential := range map[string]string{
		"of HTTP": overHTTP, "of another connection": s.Seal(q.Challenge, voucher, s.raw("/f.bin").key()),
		"forged": s.Forge(q.Challenge, voucher, func(o map[string]any) { o["mac"] = fmt.Sprintf("%064x", 7) }),
		"none":   "Payment e30", "a resume": s.Seal(q.Challenge, bitcoin.Resume{ChannelID: s.id}, a.key()),
	} {
		a.bind(0, credential)
		if p := a.problem(); p.Type == "" || s.record().Paid != 0 {
			t.Errorf("%s: %v, paid %d sat", name, p, s.record().Paid)
		}
	}
	for _, key := range []string{a.key(), ""} {
		r := s.Do(edgetest.Ask{Method: "GET", Path: "/f.bin?slice=0-9", Credential: mine, Key: key})
		if r.Status != http.StatusBadRequest && r.Status != http.StatusPaymentRequired {
			t.Errorf("over HTTP with the key %q: %d", key, r.Status)
		}
	}
	if r := s.record(); r.Charged != 0 || r.Paid != 0 {
		t.Errorf("charged %d msat, paid %d sat", r.Charged, r.Paid)
	}
	a.bind(0, mine)
	if at := a.acked(); at != 5 {
		t.Errorf("bound at %d sat", at)
	}
}

// The credit is one over all connections of a channel, compact ones and HTTP alike.
func TestCompactCreditIsOneOverAllConnections(t *testing.T) {
	s := newCompactStand(t, edgetest.Config{Files: map[string][]byte{"f.bin": edgetest.Pattern(12_000_000, 1)}}, script.Taproot)
	plain, err := paywall.NewClient(paywall.ClientConfig{Payer: s.Payer, Network: "regtest", Now: s.Now})
	s.Must(err)
	var wg sync.WaitGroup
	var mu sync.Mutex
	served := map[int]bool{}
	for i := range 12 {
		wg.Go(func() {
			client := s.client
			if i%3 == 0 {
				client = plain
			}
			resp, _, err := client.Fetch(ctx, paywall.Paid{
				Channel: s.id, URL: fmt.Sprintf("%s?slice=%d-%d", s.url, i*1_000_000, i*1_000_000+999_999), Update: s.Update(s.id, 0),
			})
			if err != nil {
				if !errors.Is(err, paywall.ErrInsufficient) {
					t.Errorf("chunk %d: %v", i, err)
				}
				return
			}
			n, err := io.Copy(io.Discard, resp.Body)
			if err = errors.Join(err, resp.Body.Close()); err != nil || n < 1_000_000 {
				t.Errorf("chunk %d: %d bytes, %v", i, n, err)
			}
			mu.Lock()
			defer mu.Unlock()
			served[i] = true
		})
	}
	wg.Wait()
	if r := s.record(); len(served) != 1 || r.Charged != 1_000_000 {
		t.Errorf("%d chunks on a credit of one; charged %d msat", len(served), r.Charged)
	}
}

// A key is bound to its request over both transports: a repeat is free, another request refused.
func TestPitfall75_CompactKeysAreThoseOfHTTP(t *testing.T) {
	s := newCompactStand(t, edgetest.Config{}, script.Taproot)
	plain, err := paywall.NewClient(paywall.ClientConfig{Payer: s.Payer, Network: "regtest", Now: s.Now})
	s.Must(err)
	for _, c := range []*paywall.Client{s.client, plain, s.client} {
		_, err := s.buy(c, 0, "one")
		s.Must(err)
	}
	if _, err := s.buy(s.client, 1, "one"); !errors.Is(err, paywall.ErrRefused) {
		t.Errorf("got %v", err)
	}
	if r := s.record(); r.Charged != 1_000_000 {
		t.Errorf("charged %d msat", r.Charged)
	}
}

// A connection outlives its challenge: updates go on, and an order gets a fresh one.
func TestCompactOutlivesItsChallenge(t *testing.T) {
	s := newCompactStand(t, edgetest.Config{}, script.Taproot)
	net := &counted{base: paywall.DefaultHTTP().Transport}
	client := s.compactClient(net)
	_, err := s.buy(client, 0, "")
	s.Must(err)
	x := s.dial(1000)
	s.Wait(11 * time.Minute)
	s.Must(x.Update(s.id, s.Update(s.id, 1001)))
	s.Must(x.Wait(ctx, s.id, 1001))
	_, err = s.buy(client, 1, "")
	s.Must(err)
	if net.gets["upgrade"] != 1 || net.gets["GET paid"] != 0 {
		t.Errorf("what went over the net: %v", net.gets)
	}
	s.Reprice("2000sat/1MB") // another gateway here: connections of the one before have to end
	s.Wall.CloseConnections()
	until(t, func() bool { return s.Wall.Connections() == 0 })
	changed := errors.New("the price is another one")
	_, _, err = client.Fetch(ctx, paywall.Paid{
		Channel: s.id, URL: s.url + "?slice=2000000-2999999", Update: s.Update(s.id, 2000),
		Expect: paywall.Expect{Check: func(q *paywall.Quoted) error {
			if q.Request.MethodDetails.CreditMsat != 1_000_000 {
				return changed
			}
			return nil
		}},
	})
	if r := s.record(); !errors.Is(err, changed) || r.Charged != 2_000_000 || r.Paid != 2000 {
		t.Errorf("at another price: %v; charged %d msat, paid %d sat", err, r.Charged, r.Paid)
	}
}
