package paywall_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/download/downloadtest"
	"github.com/spillway/spillway/mpp"
	"github.com/spillway/spillway/mpp/bitcoin"
	"github.com/spillway/spillway/payer"
	"github.com/spillway/spillway/paywall"
	"github.com/spillway/spillway/script"
)

var ctx = context.Background()

// must ends the test on an error.
var must = downloadtest.Must

// stand is a market with one customer that has opened nothing yet.
type stand struct {
	*downloadtest.Market
	*downloadtest.Customer
	*downloadtest.Opened
	url string
}

func newStand(t *testing.T) *stand {
	t.Helper()
	m := downloadtest.New(t, downloadtest.Config{Price: "30sat/1KiB"})
	c := m.NewCustomer()
	return &stand{m, c, c.Open(), m.URL("f.bin")}
}

// open opens a channel and waits until it is deep enough.
func (s *stand) open(t *testing.T, kind script.Construction) string {
	t.Helper()
	q, err := s.Client.Quote(ctx, s.url, paywall.Expect{})
	must(t, err)
	id, err := s.Client.Open(ctx, q, kind, 50_000, paywall.Expect{}, nil)
	must(t, err)
	s.Mine(1)
	return id
}

// paid is the request for a slice with the newest update.
func (s *stand) paid(t *testing.T, id, slice string) paywall.Paid {
	t.Helper()
	u, err := s.Payer.Newest(ctx, id)
	must(t, err)
	url := s.url
	if slice != "" {
		url += "?slice=" + slice
	}
	return paywall.Paid{Channel: id, URL: url, Update: u}
}

// buy fetches a chunk and signs for it.
func (s *stand) buy(t *testing.T, id, slice string, msat uint64) bitcoin.Receipt {
	t.Helper()
	resp, receipt, err := s.Client.Fetch(ctx, s.paid(t, id, slice))
	must(t, err)
	_, err = io.Copy(io.Discard, resp.Body)
	must(t, errors.Join(err, resp.Body.Close()))
	_, err = s.Payer.Pay(ctx, id, payer.Payment{Verified: msat}, channel.Limits{Budget: channel.MaxSat})
	must(t, err)
	return receipt
}

const chunkMsat = 30 * 64 * 1000

// thief is another origin that notes what it is sent.
type thief struct {
	*httptest.Server
	mu   sync.Mutex
	seen []http.Header
}

func newThief(t *testing.T) *thief {
	th := &thief{}
	th.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		th.mu.Lock()
		defer th.mu.Unlock()
		th.seen = append(th.seen, r.Header.Clone())
		w.WriteHeader(http.StatusOK)
	}))
	t.Cleanup(th.Close)
	return th
}

// Whatever is asked for, and however it is redirected, nothing that pays goes to
// another origin, and nothing at all is asked there.
func TestPitfall42_RedirectsCarryNoPayment(t *testing.T) {
	s := newStand(t)
	id := s.open(t, script.Taproot)
	s.buy(t, id, "0-65535", chunkMsat)
	th := newThief(t)
	calls := map[string]func() error{
		"quote": func() error { _, err := s.Client.Quote(ctx, s.url, paywall.Expect{}); return err },
		"get":   func() error { _, _, err := s.Client.Get(ctx, s.url+"?manifest", nil, 1000); return err },
		"fetch": func() error { _, _, err := s.Client.Fetch(ctx, s.paid(t, id, "65536-131071")); return err },
		"voucher": func() error {
			_, err := s.Client.Voucher(ctx, s.paid(t, id, ""))
			return err
		},
		"resume": func() error { _, err := s.Client.Resume(ctx, id, s.url, paywall.Expect{}); return err },
		"close":  func() error { _, err := s.Client.Close(ctx, id, s.url, paywall.Expect{}); return err },
		"open": func() error {
			q, err := s.Client.Quote(ctx, s.url, paywall.Expect{})
			if err != nil {
				return err
			}
			_, err = s.Client.Open(ctx, q, script.Taproot, 50_000, paywall.Expect{}, nil)
			return err
		},
	}
	for _, status := range []int{301, 302, 303, 307, 308} {
		for _, to := range []string{th.URL + "/f.bin", "//" + th.Listener.Addr().String() + "/f.bin"} {
			s.Wrap(func(http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					w.Header().Set("Location", to)
					w.WriteHeader(status)
				})
			})
			for name, call := range calls {
				if err := call(); !errors.Is(err, paywall.ErrRedirected) {
					t.Errorf("%s with %d to %s: %v", name, status, to, err)
				}
			}
		}
	}
	if len(th.seen) != 0 {
		t.Fatalf("the other origin was sent %v", th.seen)
	}
}

// Within an origin an unpaid request is followed, and pays at the place that
// answered.
func TestRedirectsWithinTheOrigin(t *testing.T) {
	s := newStand(t)
	s.Wrap(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/old" {
				http.Redirect(w, r, "/f.bin", http.StatusFound)
				return
			}
			next.ServeHTTP(w, r)
		})
	})
	q, err := s.Client.Quote(ctx, s.Server.URL+"/old", paywall.Expect{})
	must(t, err)
	if q.URL != s.url {
		t.Fatalf("the quote is for %s", q.URL)
	}
	s.Wrap(func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/f.bin", http.StatusFound) })
	})
	if _, err := s.Client.Quote(ctx, s.url, paywall.Expect{}); !errors.Is(err, paywall.ErrRedirected) {
		t.Fatalf("a loop: %v", err)
	}
}

// Every request that pays has one credential with a MAC, and one Idempotency-Key.
func TestEveryPaymentIsAuthenticated(t *testing.T) {
	s := newStand(t)
	keys := map[string]bool{}
	actions := map[string]int{}
	s.Net.Watch = func(r *http.Request) {
		if r.Header.Get(mpp.HeaderCredential) == "" {
			return
		}
		c, err := mpp.ParseCredential(r.Header.Values(mpp.HeaderCredential))
		must(t, err)
		p, err := bitcoin.ParsePayload(c.Payload)
		must(t, err)
		key, err := mpp.IdempotencyKey(r.Header.Values(mpp.HeaderIdempotencyKey))
		must(t, err)
		shared, err := s.Payer.MACKey(ctx, p.Channel())
		must(t, err)
		if err := bitcoin.Authenticate(p, shared, c.Challenge.ID, key); err != nil || key == "" {
			t.Errorf("%s with key %q: %v", p.Action(), key, err)
		}
		keys[key] = true
		actions[p.Action()]++
	}
	id := s.open(t, script.Multisig)
	s.buy(t, id, "0-65535", chunkMsat)
	_, err := s.Client.Voucher(ctx, s.paid(t, id, ""))
	must(t, err)
	_, err = s.Client.Resume(ctx, id, "", paywall.Expect{})
	must(t, err)
	_, err = s.Client.Close(ctx, id, "", paywall.Expect{})
	must(t, err)
	for _, a := range []string{"prepare", "open", "voucher", "resume", "close"} {
		if actions[a] == 0 {
			t.Errorf("no %s", a)
		}
	}
	if len(keys) < 6 {
		t.Errorf("only %d keys for %v", len(keys), actions)
	}
}

// An acknowledgement that is lost is no refusal: what was signed is spent, the
// same update is sent again, and nothing is paid twice.
func TestPitfall22_LostAcknowledgement(t *testing.T) {
	s := newStand(t)
	id := s.open(t, script.Taproot)
	s.buy(t, id, "0-65535", chunkMsat)
	p := s.paid(t, id, "65536-131071")
	p.Key = "the same for every repeat"
	s.Net.Count()
	s.Net.FailAt, s.Net.Arrives = 1, true
	if _, _, err := s.Client.Fetch(ctx, p); !errors.Is(err, paywall.ErrUnreachable) {
		t.Fatalf("got %v", err)
	}
	held, err := s.Payee.Record(ctx, id)
	must(t, err)
	if held.Paid != chunkMsat/1000 || held.Charged != 2*chunkMsat {
		t.Fatalf("the provider holds %d sat, charged %d msat", held.Paid, held.Charged)
	}
	u, err := s.Payer.Pay(ctx, id, payer.Payment{}, channel.Limits{Budget: channel.MaxSat})
	must(t, err)
	if u.Amount != p.Update.Amount {
		t.Fatalf("%d sat are signed after %d", u.Amount, p.Update.Amount)
	}
	resp, receipt, err := s.Client.Fetch(ctx, p)
	must(t, err)
	must(t, resp.Body.Close())
	if receipt.ChargedMsat != 2*chunkMsat || receipt.AcceptedCumulative != chunkMsat/1000 {
		t.Fatalf("the receipt says %d msat charged, %d sat paid", receipt.ChargedMsat, receipt.AcceptedCumulative)
	}
}

// A buyer that lost its newest state learns it from the provider, and checks
// that it signed it. Pitfall 26.
func TestPitfall26_ForgottenStateIsShown(t *testing.T) {
	s := newStand(t)
	id := s.open(t, script.Taproot)
	old, err := s.Customer.Store.Get(ctx, "payer/channel", id)
	must(t, err)
	s.buy(t, id, "0-65535", chunkMsat)
	s.buy(t, id, "65536-131071", chunkMsat)
	newest := s.paid(t, id, "")
	_, err = s.Client.Voucher(ctx, newest)
	must(t, err)
	must(t, s.Customer.Store.Commit(ctx, opAny(old)))

	if _, err := s.Client.Voucher(ctx, s.paid(t, id, "")); err != nil {
		t.Fatal(err)
	}
	u, err := s.Payer.Newest(ctx, id)
	must(t, err)
	if u.Amount != newest.Update.Amount {
		t.Fatalf("%d sat are remembered, %d sat were signed", u.Amount, newest.Update.Amount)
	}
	must(t, s.Customer.Store.Commit(ctx, opAny(old)))
	s.Wrap(downloadtest.Tamper(downloadtest.Action("resume"), func(_ *http.Request, a *downloadtest.Answer) {
		var r bitcoin.ResumeAnswer
		must(t, r.UnmarshalJSON(a.Body))
		r.CumulativeAmount++
		a.Body, err = r.MarshalJSON()
		must(t, err)
	}))
	if _, err := s.Client.Resume(ctx, id, s.url, paywall.Expect{}); !errors.Is(err, paywall.ErrMisbehaved) {
		t.Fatalf("an update that was never signed: %v", err)
	}
}

// A close whose answer is lost is begun again with a new nonce, and ends. No
// nonce is used twice.
func TestPitfall73_CloseIsBegunAgain(t *testing.T) {
	s := newStand(t)
	id := s.open(t, script.Taproot)
	s.buy(t, id, "0-65535", chunkMsat)
	nonces := map[string]bool{}
	lost := 0
	s.Wrap(downloadtest.Tamper(downloadtest.Action("close"), func(r *http.Request, a *downloadtest.Answer) {
		c, err := mpp.ParseCredential(r.Header.Values(mpp.HeaderCredential))
		must(t, err)
		p, err := bitcoin.ParsePayload(c.Payload)
		must(t, err)
		if n := string(p.(bitcoin.Close).PayerNonce); n != "" {
			if nonces[n] {
				t.Error("a nonce came twice")
			}
			nonces[n] = true
		}
		if lost++; lost <= 2 {
			a.Status, a.Body = http.StatusBadGateway, nil
		}
	}))
	txid, err := s.Client.Close(ctx, id, s.url, paywall.Expect{})
	must(t, err)
	if len(nonces) != 3 {
		t.Fatalf("%d nonces", len(nonces))
	}
	again, err := s.Client.Close(ctx, id, s.url, paywall.Expect{})
	must(t, err)
	rec, err := s.Payee.Record(ctx, id)
	must(t, err)
	if again != txid || rec.Close == nil || rec.Close.Txid != txid || len(rec.Close.FinalTx) == 0 {
		t.Fatalf("closed by %s, then %s; the provider has %+v", txid, again, rec.Close)
	}
}

// A challenge that ran out is replaced by a fresh one, with the same key; one
// with another price is not paid on. Pitfall 75.
func TestPitfall75_RetriesAndOldPrices(t *testing.T) {
	s := newStand(t)
	id := s.open(t, script.Taproot)
	s.buy(t, id, "0-65535", chunkMsat)
	s.Advance(20 * 60e9)
	p := s.paid(t, id, "0-65535")
	resp, receipt, err := s.Client.Fetch(ctx, p)
	must(t, err)
	must(t, resp.Body.Close())
	if receipt.ChargedMsat != chunkMsat {
		t.Fatalf("a chunk was charged twice: %d msat", receipt.ChargedMsat)
	}
	price := func(q *paywall.Quoted) error {
		if q.Request.Amount != 1920 {
			return paywall.ErrPriceChanged
		}
		return nil
	}
	s.Reprice("31sat/1KiB")
	p = s.paid(t, id, "65536-131071")
	p.Expect.Check = price
	if _, _, err := s.Client.Fetch(ctx, p); !errors.Is(err, paywall.ErrPriceChanged) {
		t.Fatalf("got %v", err)
	}
	rec, err := s.Payee.Record(ctx, id)
	must(t, err)
	if rec.Charged != chunkMsat {
		t.Fatalf("%d msat are charged", rec.Charged)
	}
}
