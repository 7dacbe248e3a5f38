package gateway_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/internal/gateway"
	"github.com/spillway/spillway/internal/gateway/edgetest"
	"github.com/spillway/spillway/mpp"
	"github.com/spillway/spillway/mpp/bitcoin"
	"github.com/spillway/spillway/payee"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/store"
	"github.com/spillway/spillway/store/memory"
)

// relay hands what a stand says about a test to the input that is being tried.
type relay struct {
	testing.TB
	now *testing.T
}

func (r *relay) at() testing.TB {
	if r.now != nil {
		return r.now
	}
	return r.TB
}

func (r *relay) Helper()                      { r.at().Helper() }
func (r *relay) Context() context.Context     { return context.Background() }
func (r *relay) Error(args ...any)            { r.at().Helper(); r.at().Error(args...) }
func (r *relay) Errorf(f string, args ...any) { r.at().Helper(); r.at().Errorf(f, args...) }
func (r *relay) Fatal(args ...any)            { r.at().Helper(); r.at().Fatal(args...) }
func (r *relay) Fatalf(f string, args ...any) { r.at().Helper(); r.at().Fatalf(f, args...) }
func (r *relay) Logf(f string, args ...any)   { r.at().Helper(); r.at().Logf(f, args...) }

// attacked is a provider whose store goes back to where it was after each input.
type attacked struct {
	*edgetest.Stand
	tb        *relay
	id        string
	challenge mpp.Challenge
	base      [][]store.Op
	messages  []bitcoin.Payload
}

// newAttacked is a provider with one open channel that has paid for one chunk, and a
// payer that has every kind of message ready.
func newAttacked(f *testing.F) *attacked {
	tb := &relay{TB: f}
	s := edgetest.New(tb, edgetest.Config{
		Files: map[string][]byte{"f.bin": edgetest.Pattern(3000, 1), "d/g.bin": edgetest.Pattern(100, 2)}, Price: "1000sat/1000B", Chunk: 1000,
		Gateway: func(c *gateway.Config) { c.MaxWait, c.PerSecond = time.Millisecond, 1e12 },
	})
	a := &attacked{Stand: s, tb: tb, id: s.OpenChannel(script.Taproot)}
	if r := s.Pay("GET", "/f.bin?slice=0-999", s.VoucherFor(a.id, 1000)); r.Status != http.StatusOK {
		f.Fatalf("the first chunk: %d %v", r.Status, r.Problem)
	}
	q := s.Quote("/f.bin")
	a.challenge = q.Challenge
	fresh, multi := s.Build(q, script.Taproot), s.Build(s.Quote("/f.bin"), script.Multisig)
	nonce := make([]byte, 66)
	v := s.VoucherFor(a.id, 1500)
	a.messages = []bitcoin.Payload{
		v, s.VoucherFor(a.id, 1000), s.VoucherFor(a.id, 3000), bitcoin.Resume{ChannelID: a.id},
		bitcoin.Close{ChannelID: a.id, CumulativeAmount: 1500, Signature: v.Signature, PayerNonce: nonce},
		bitcoin.Close{ChannelID: a.id, FinalTx: make([]byte, 120)}, s.OpenOf(fresh), s.PrepareOf(multi),
	}
	a.base = s.PayeeDisk.Commits()
	return a
}

// back makes the store what it was.
func (a *attacked) back() {
	a.tb.Helper()
	fresh := memory.New()
	for _, ops := range a.base {
		a.Must(fresh.Commit(context.Background(), ops...))
	}
	a.PayeeDisk.Store = fresh
}

func (a *attacked) record() channel.PayeeRecord {
	a.tb.Helper()
	r, err := a.Payee.Record(context.Background(), a.id)
	a.Must(err)
	return r
}

// try sends a request to the handler and checks what holds for every one: there is an
// answer that is no fault of ours, nothing that is refused changes anything but that
// an update is kept, and nothing is released beyond the credit.
func (a *attacked) try(t *testing.T, r *http.Request) *edgetest.Reply {
	t.Helper()
	a.tb.now = t
	defer func() { a.tb.now = nil }()
	before, n := a.record(), len(a.PayeeDisk.Commits())
	w := httptest.NewRecorder()
	a.Handler().ServeHTTP(w, r)
	got := a.Read(w.Result())
	after, commits := a.record(), a.PayeeDisk.Commits()[n:]
	if got.Status >= 500 && got.Status != http.StatusServiceUnavailable {
		t.Fatalf("%s %s: %d %s", r.Method, r.URL, got.Status, got.Body)
	}
	if after.Paid < before.Paid || after.Charged < before.Charged || after.Charged > after.Paid*1000+after.Terms.Credit {
		t.Fatalf("paid %d after %d, charged %d after %d", after.Paid, before.Paid, after.Charged, before.Charged)
	}
	if got.Status >= 300 {
		if after.Charged != before.Charged || after.Phase != before.Phase {
			t.Fatalf("refused with %d: charged %d after %d, %s after %s", got.Status, after.Charged, before.Charged, after.Phase, before.Phase)
		}
		stored := got.Problem != nil && got.Problem.Type == mpp.ProblemChannelUnconfirmed
		for _, ops := range commits {
			for _, op := range ops {
				if stored && !strings.Contains(op.Key, a.id) {
					continue // an opening whose T1 is seen: saved, and told to wait
				}
				if op.Key != a.id && op.Key != "pool" || op.Key == a.id && after.Paid == before.Paid {
					t.Fatalf("refused with %d %s, and saved %s/%s: %s", got.Status, got.Body, op.Bucket, op.Key, op.Value)
				}
			}
		}
	}
	if got.Receipt == nil && r.Header.Get(mpp.HeaderCredential) == "" && len(commits) > 0 {
		t.Fatalf("nobody pays, and %d commits", len(commits))
	}
	if len(commits) > 0 {
		ch, err := after.Terms.Script()
		if err == nil && after.Paid > 0 {
			err = after.Terms.VerifyUpdate(ch, channel.Update{Amount: after.Paid, Signature: after.Signature})
		}
		if err != nil {
			t.Fatalf("it holds %d sat with a signature that is none: %v", after.Paid, err)
		}
		a.back()
	}
	return got
}

// FuzzMessage plays every kind of message with any of its JSON changed, with the MAC
// that it had or one that fits the change, in any request: what is refused changes
// nothing, but an update that verifies is kept, and no charge passes the credit.
func FuzzMessage(f *testing.F) {
	a := newAttacked(f)
	for i := range a.messages {
		f.Add(byte(i), "POST", "/f.bin", "", "", false, uint16(0), byte(0))
		f.Add(byte(i), "GET", "/f.bin?slice=1000-1999", "", "", true, uint16(0), byte(0))
		f.Add(byte(i), "HEAD", "/f.bin", "channelId", `"x"`, false, uint16(0), byte(0))
		f.Add(byte(i), "GET", "/f.bin", "cumulativeAmount", `"4000"`, true, uint16(40), byte(1))
		f.Add(byte(i), "POST", "/gone", "capacity", `"18446744073709551615"`, true, uint16(0), byte(0))
	}
	f.Add(byte(0), "GET", "/f.bin?slice=0-2999", "cumulativeAmount", `"2000"`, true, uint16(0), byte(0))
	f.Add(byte(6), "POST", "/f.bin", "fundingTx", `"00"`, true, uint16(0), byte(0))
	f.Add(byte(6), "POST", "/f.bin", "restScript", `"51"`, true, uint16(0), byte(0))
	f.Fuzz(func(t *testing.T, which byte, method, target, field, value string, proved bool, at uint16, flip byte) {
		p := a.messages[int(which)%len(a.messages)]
		a.tb.now = t
		key, err := a.Payer.MACKey(context.Background(), p.Channel())
		a.Must(err)
		raw, err := bitcoin.Seal(p, key, a.challenge.ID, "")
		a.Must(err)
		raw = changed(t, raw, field, value)
		if flip != 0 && len(raw) > 0 {
			raw[int(at)%len(raw)] ^= flip
		}
		if proved {
			if edited, err := bitcoin.ParsePayload(raw); err == nil {
				if again, err := bitcoin.Seal(edited, key, a.challenge.ID, ""); err == nil {
					raw = again
				}
			}
		}
		r := request(method, target)
		if r == nil {
			return
		}
		r.Header.Set(mpp.HeaderCredential, mpp.Credential{Challenge: a.challenge, Payload: raw}.Encode())
		got := a.try(t, r)
		honest := field == "" && flip == 0
		if _, voucher := p.(bitcoin.Voucher); voucher && honest && method == "HEAD" && r.URL.Path == "/f.bin" && got.Status >= 300 {
			t.Fatalf("an honest payment was refused: %d %v", got.Status, got.Problem)
		}
	})
}

// changed sets a field of a JSON object to any JSON; what cannot be set is left.
func changed(t *testing.T, raw []byte, field, value string) []byte {
	t.Helper()
	var obj map[string]json.RawMessage
	if err := json.Unmarshal(raw, &obj); err != nil {
		t.Fatal(err)
	}
	if field == "" || !json.Valid([]byte(value)) {
		return raw
	}
	obj[field] = json.RawMessage(value)
	out, err := json.Marshal(obj)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// request makes a request as a server gets it; nil where no client could send it.
func request(method, target string) *http.Request {
	u, err := url.ParseRequestURI(target)
	if err != nil || !strings.HasPrefix(target, "/") {
		return nil
	}
	r, err := http.NewRequestWithContext(context.Background(), method, "http://stand"+target, nil)
	if err != nil || r.URL.Host != "stand" {
		return nil
	}
	r.URL.Path, r.RemoteAddr, r.RequestURI = u.Path, "127.0.0.1:1", target
	return r
}

// FuzzRequest sends any request with any headers: without a payment no byte of a file
// leaves and nothing is saved, whatever path, range, tag or credential it names.
func FuzzRequest(f *testing.F) {
	a := newAttacked(f)
	f.Add("GET", "/f.bin", "bytes=0-1", "", "Payment e30", "")
	f.Add("GET", "/f.bin?slice=0-18446744073709551615", "", "", "Basic YTpi", "key")
	f.Add("GET", "/d/../f.bin", "bytes=-1", "\"x\"", "", "")
	f.Add("HEAD", "/%2e%2e/%00", "", "", "", "")
	f.Add("POST", "/f.bin", "", "", "Payment "+mpp.EncodeBase64([]byte(`{"challenge":{},"payload":{"action":"topUp"}}`)), "\x01")
	f.Add("GET", "/d/?x", "bytes=1-2,3-4", "", mpp.Credential{Challenge: a.challenge, Payload: []byte(`{"action":"topUp"}`)}.Encode(), "")
	f.Add("OPTIONS", "/f.bin?manifest", "", "", "", "")
	f.Fuzz(func(t *testing.T, method, target, span, tag, credential, key string) {
		r := request(method, target)
		if r == nil {
			return
		}
		for name, value := range map[string]string{"Range": span, "If-Range": tag, "If-None-Match": tag, mpp.HeaderCredential: credential, mpp.HeaderIdempotencyKey: key} {
			if value != "" {
				r.Header[http.CanonicalHeaderKey(name)] = []string{value}
			}
		}
		got := a.try(t, r)
		for _, data := range [][]byte{edgetest.Pattern(3000, 1), edgetest.Pattern(100, 2)} {
			if bytes.Contains(got.Body, data[:32]) || got.Status == http.StatusPartialContent {
				t.Fatalf("%s %s: %d with bytes that nobody has paid for", method, target, got.Status)
			}
		}
		if got.Receipt != nil {
			t.Fatalf("%s %s: a receipt for nothing", method, target)
		}
	})
}

// operator notes what the admin API does.
type operator struct{ asked, settled int }

func (o *operator) Records(context.Context) ([]channel.PayeeRecord, error) {
	o.asked++
	return nil, nil
}

func (o *operator) Record(_ context.Context, id string) (channel.PayeeRecord, error) {
	o.asked++
	return channel.PayeeRecord{}, payee.ErrUnknown
}

func (o *operator) Refund(_ context.Context, id, _ string, _ uint64) (payee.Returned, error) {
	o.settled++
	return payee.Returned{}, payee.ErrUnknown
}

func (o *operator) Settle(_ context.Context, id string, _ *channel.Update, _ bool) (*channel.Broadcast, error) {
	o.settled++
	if id == "" {
		return nil, payee.ErrUnknown
	}
	return nil, channel.ErrNothingAtStake
}

// FuzzAdmin: nothing is asked and nothing settled without the token and from this
// machine, and only a POST settles.
func FuzzAdmin(f *testing.F) {
	f.Add("GET", "/v1/status", "Bearer token", "")
	f.Add("POST", "/v1/channels/x/settle", "Bearer token", "")
	f.Add("GET", "/v1/channels/x/settle", "Bearer token", "")
	f.Add("GET", "/v1/channels", "bearer token", "")
	f.Add("GET", "/v1/channels/%00", "Bearer token", "")
	f.Add("GET", "/v1/channels?limit=-1", "Bearer token", "")
	f.Add("POST", "/v1/channels/x/payback", "Bearer token", `{"amount_msat":5,"key":"k"}`)
	f.Add("POST", "//v1/channels/x/settle", "Bearer ", "{}")
	f.Fuzz(func(t *testing.T, method, target, auth, body string) {
		r := request(method, target)
		if r == nil {
			return
		}
		r.Body = io.NopCloser(strings.NewReader(body))
		r.Header["Authorization"] = []string{auth}
		o := &operator{}
		w := httptest.NewRecorder()
		cfg := gateway.AdminConfig{Driver: o, Token: "token", Show: func(r channel.PayeeRecord) any { return r }}
		gateway.Admin(cfg).ServeHTTP(w, r)
		if auth != "Bearer token" && (o.asked+o.settled > 0 || w.Code != http.StatusUnauthorized) {
			t.Fatalf("%s %s with %q: %d", method, target, auth, w.Code)
		}
		if o.settled > 0 && method != http.MethodPost || w.Code >= 500 {
			t.Fatalf("%s %s: %d, settled %d", method, target, w.Code, o.settled)
		}
		other := httptest.NewRecorder()
		cfg.Token = ""
		gateway.Admin(cfg).ServeHTTP(other, r)
		if other.Code != http.StatusUnauthorized {
			t.Fatalf("%d without any token", other.Code)
		}
	})
}
