package paywall_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/internal/gateway/edgetest"
	"github.com/spillway/spillway/internal/pairtest"
	"github.com/spillway/spillway/mpp"
	"github.com/spillway/spillway/mpp/bitcoin"
	"github.com/spillway/spillway/paywall"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/store"
	"github.com/spillway/spillway/store/memory"
)

// proxied hands what a stand says about a test to the input that is being tried.
type proxied struct {
	testing.TB
	now *testing.T
}

func (r *proxied) at() testing.TB {
	if r.now != nil {
		return r.now
	}
	return r.TB
}

func (r *proxied) Helper()                      { r.at().Helper() }
func (r *proxied) Context() context.Context     { return context.Background() }
func (r *proxied) Error(args ...any)            { r.at().Helper(); r.at().Error(args...) }
func (r *proxied) Errorf(f string, args ...any) { r.at().Helper(); r.at().Errorf(f, args...) }
func (r *proxied) Fatal(args ...any)            { r.at().Helper(); r.at().Fatal(args...) }
func (r *proxied) Fatalf(f string, args ...any) { r.at().Helper(); r.at().Fatalf(f, args...) }

// crooked is a provider whose answers are changed on their way.
type crooked struct {
	real    http.Handler
	host    string
	which   uint16 // the requests whose answer is changed, as bits
	closing bool   // a POST never reaches the provider
	change  func(*httptest.ResponseRecorder)
	asked   int
	strayed string // a payment that went elsewhere
}

// RoundTrip implements http.RoundTripper.
func (c *crooked) RoundTrip(r *http.Request) (*http.Response, error) {
	if paywall.Origin(r.URL.String()) != paywall.Origin("http://"+c.host) && r.Header.Get(mpp.HeaderCredential) != "" {
		c.strayed = r.URL.String()
	}
	w := httptest.NewRecorder()
	if n := c.asked; !c.closing || r.Method != http.MethodPost {
		r.RemoteAddr, r.RequestURI = "127.0.0.1:1", r.URL.RequestURI()
		if r.Body == nil {
			r.Body = http.NoBody
		}
		c.real.ServeHTTP(w, r)
		if c.which>>(n%16)&1 == 1 {
			c.change(w)
		}
	} else {
		c.change(w)
	}
	c.asked++
	resp := w.Result()
	resp.Request = r
	if r.Method == http.MethodHead {
		resp.Body = http.NoBody
	}
	return resp, nil
}

var kinds = []error{
	paywall.ErrUnreachable, paywall.ErrMisbehaved, paywall.ErrRefused, paywall.ErrNotProvider, paywall.ErrPriceChanged, paywall.ErrRedirected,
	paywall.ErrUnconfirmed, paywall.ErrInsufficient, paywall.ErrExpiring, paywall.ErrGone, paywall.ErrOfferOver, paywall.ErrBusy,
	channel.ErrOwes, channel.ErrFinalized, channel.ErrTerms,
}

// FuzzAnswer gives a client any answers in the place of the true ones, or true ones
// with any header, status or byte of the body changed: it fails with an error of a
// known kind or succeeds, signs nothing, believes no close that does not verify, and
// sends no payment to another host.
func FuzzAnswer(f *testing.F) {
	tb := &proxied{TB: f}
	s := edgetest.New(tb, edgetest.Config{Files: map[string][]byte{"f.bin": edgetest.Pattern(3000, 1)}, Price: "1000sat/1000B", Chunk: 1000})
	id := s.OpenChannel(script.Taproot)
	if r := s.Pay("GET", "/f.bin?slice=0-999", s.VoucherFor(id, 0)); r.Status != http.StatusOK {
		f.Fatalf("the first chunk: %d %v", r.Status, r.Problem)
	}
	s.Verified(id, 1_000_000)
	u, err := s.Payer.Newest(context.Background(), id)
	s.Must(err)
	challenge := s.Do(edgetest.Ask{Method: "GET", Path: "/f.bin"}).Header.Get(mpp.HeaderChallenge)
	receipt := s.Do(edgetest.Ask{Method: "HEAD", Path: "/f.bin", Credential: s.Seal(s.Quote("/f.bin").Challenge, s.VoucherOf(id), "")}).Header.Get(mpp.HeaderReceipt)
	answer, err := json.Marshal(bitcoin.ResumeAnswer{ChannelID: id, Phase: "open", CumulativeAmount: 49_000, Signature: make([]byte, 65), RequiredCumulative: 49_000})
	s.Must(err)
	closed, err := json.Marshal(bitcoin.CloseAnswer{Tx: make([]byte, 120), PayeeNonce: make([]byte, 66), PayeePartial: make([]byte, 32)})
	s.Must(err)
	for op := range byte(6) {
		f.Add(op, uint16(0), uint16(0), "", "", []byte{}, uint16(0), byte(0))
		f.Add(op, uint16(1), uint16(402), mpp.HeaderChallenge, challenge, []byte(`{"type":"`+mpp.ProblemInsufficientBalance+`","requiredCumulative":"49000"}`), uint16(0), byte(0))
		f.Add(op, uint16(3), uint16(200), mpp.HeaderReceipt, receipt, answer, uint16(0), byte(0))
		f.Add(op, uint16(2), uint16(0), "Location", "http://other/f.bin", []byte{}, uint16(30), byte(4))
		f.Add(op, uint16(0xffff), uint16(307), "Location", "//other/f.bin", []byte{}, uint16(0), byte(0))
		f.Add(op, uint16(2), uint16(503), "Retry-After", "99999999999", closed, uint16(0), byte(0))
		f.Add(op, uint16(0xfffe), uint16(410), "", "", []byte(`{"type":"`+mpp.ProblemChannelFinalized+`"}`), uint16(0), byte(0))
	}
	base := s.PayerDisk.Commits()
	theirs := s.PayeeDisk.Commits()
	ours, payees := len(base), len(theirs)
	f.Fuzz(func(t *testing.T, op byte, which, status uint16, name, value string, body []byte, at uint16, flip byte) {
		tb.now = t
		defer func() { tb.now = nil }()
		way := &crooked{real: s.Handler(), host: "stand", which: which, closing: op%6 == 5, change: func(w *httptest.ResponseRecorder) {
			if status >= 200 && status < 600 {
				w.Code = int(status)
			}
			if name != "" && !strings.ContainsAny(name+value, "\r\n\x00") {
				w.Header()[http.CanonicalHeaderKey(name)] = []string{value}
			}
			if len(body) > 0 {
				w.Body = bytes.NewBuffer(bytes.Clone(body))
			}
			if raw := w.Body.Bytes(); flip != 0 && len(raw) > 0 {
				raw[int(at)%len(raw)] ^= flip
			}
		}}
		c, err := paywall.NewClient(paywall.ClientConfig{
			HTTP: &http.Client{Transport: way}, Payer: s.Payer, Network: "regtest", Now: s.Now,
			Sleep: func(ctx context.Context, _ time.Duration) error { return ctx.Err() },
		})
		s.Must(err)
		before, err := s.Payer.Record(context.Background(), id)
		s.Must(err)
		sent := len(s.Chain.Sent())
		err = act(c, op, id, u)
		known := err == nil
		for _, kind := range kinds {
			known = known || errors.Is(err, kind)
		}
		after, rerr := s.Payer.Record(context.Background(), id)
		s.Must(rerr)
		switch {
		case !known:
			t.Fatalf("an error of no kind: %v", err)
		case op%6 == 5 && err == nil, len(s.Chain.Sent()) != sent:
			t.Fatalf("closed by an answer that is none: %v", err)
		case after.Signed != before.Signed || after.Owed != before.Owed || after.Phase != before.Phase && err == nil:
			t.Fatalf("signed %d after %d, owes %d after %d, %s after %s", after.Signed, before.Signed, after.Owed, before.Owed, after.Phase, before.Phase)
		case way.strayed != "":
			t.Fatalf("a payment went to %s", way.strayed)
		case way.asked > 64:
			t.Fatalf("asked %d times", way.asked)
		}
		back(s, s.PayerDisk, base, &ours)
		back(s, s.PayeeDisk, theirs, &payees)
	})
}

// back makes a store what it was after the commits of base, where there were more
// than seen.
func back(s *edgetest.Stand, d *pairtest.Disk, base [][]store.Op, seen *int) {
	s.T.Helper()
	n := len(d.Commits())
	if n == *seen {
		return
	}
	*seen = n
	fresh := memory.New()
	for _, ops := range base {
		s.Must(fresh.Commit(context.Background(), ops...))
	}
	d.Store = fresh
}

// act does one thing that a client does.
func act(c *paywall.Client, op byte, id string, u channel.Update) error {
	ctx, target := context.Background(), "http://stand/f.bin"
	paid := paywall.Paid{Channel: id, URL: target, Update: u}
	switch op % 6 {
	case 0:
		_, err := c.Quote(ctx, target, paywall.Expect{})
		return err
	case 1:
		_, _, err := c.Get(ctx, target+"?manifest", nil, 4096)
		return err
	case 2:
		paid.URL += "?slice=1000-1999"
		resp, _, err := c.Fetch(ctx, paid)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, resp.Body)
		return errors.Join(err, resp.Body.Close())
	case 3:
		_, err := c.Voucher(ctx, paid)
		return err
	case 4:
		_, err := c.Resume(ctx, id, target, paywall.Expect{})
		return err
	default:
		_, err := c.Close(ctx, id, target, paywall.Expect{})
		return err
	}
}
