package webhook_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/internal/pairtest"
	"github.com/spillway/spillway/internal/webhook"
	"github.com/spillway/spillway/payee"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/store"
	"github.com/spillway/spillway/store/memory"
)

const secret = "0123456789abcdef0123456789abcdef"

// receiver takes events, as its answers say.
type receiver struct {
	*httptest.Server
	mu     sync.Mutex
	got    []webhook.Event
	tries  []string // ids, refused ones too
	answer func(n int, e webhook.Event, w http.ResponseWriter) bool
	more   chan struct{}
}

func newReceiver(t *testing.T, answer func(n int, e webhook.Event, w http.ResponseWriter) bool) *receiver {
	r := &receiver{answer: answer, more: make(chan struct{}, 1000)}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		raw, err := io.ReadAll(req.Body)
		if err == nil {
			h := req.Header
			err = webhook.Verify([]byte(secret), h.Get("webhook-id"), h.Get("webhook-timestamp"), h.Get("webhook-signature"), raw, time.Now(), time.Minute)
		}
		var e webhook.Event
		if err = errors.Join(err, json.Unmarshal(raw, &e)); err != nil || e.ID != req.Header.Get("webhook-id") || req.Method != "POST" {
			t.Errorf("%v: %s %s", err, req.Method, raw)
		}
		r.mu.Lock()
		r.tries = append(r.tries, e.ID)
		n := len(r.tries)
		r.mu.Unlock()
		r.tell()
		if r.answer != nil && !r.answer(n, e, w) { // it may take its time: nothing is locked
			return
		}
		r.mu.Lock()
		r.got = append(r.got, e)
		r.mu.Unlock()
		r.tell()
	}))
	t.Cleanup(r.Close)
	return r
}

// tell says that something came. Where nobody looked for long, that is said already.
func (r *receiver) tell() {
	select {
	case r.more <- struct{}{}:
	default:
	}
}

// wait waits until cond holds of what was received.
func (r *receiver) wait(t *testing.T, what string, cond func(got []webhook.Event, tries []string) bool) {
	t.Helper()
	limit := time.After(20 * time.Second)
	for {
		r.mu.Lock()
		ok := cond(r.got, r.tries)
		r.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-r.more:
		case <-limit:
			r.mu.Lock()
			defer r.mu.Unlock()
			t.Fatalf("%s: got %+v in %d tries", what, r.got, len(r.tries))
		}
	}
}

func target(url string) webhook.Target {
	return webhook.Target{Name: "books", URL: url, Secrets: [][]byte{[]byte(secret)}, PaidEvery: time.Millisecond}
}

// start makes an outbox that delivers until stop is called.
func start(t *testing.T, cfg webhook.Config) (o *webhook.Outbox, stop func()) {
	t.Helper()
	cfg.Network, cfg.Provider = "regtest", "ab"
	if cfg.Backoff == 0 {
		cfg.Backoff, cfg.MaxBackoff = time.Millisecond, 20*time.Millisecond
	}
	o, err := webhook.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		o.Run(ctx, func(err error) { t.Error(err) })
	}()
	stop = sync.OnceFunc(func() { cancel(); <-done })
	t.Cleanup(stop)
	return o, stop
}

func raise(t *testing.T, o *webhook.Outbox, kind string) {
	t.Helper()
	if err := o.Raise(t.Context(), webhook.Alarmed{Kind: kind, Subject: "x", Text: "look"}); err != nil {
		t.Fatal(err)
	}
}

// left is what is in the outbox still.
func left(t *testing.T, s store.Store) []store.Entry {
	t.Helper()
	all, err := s.List(t.Context(), "webhook/books", "")
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// empty waits until the outbox is.
func empty(t *testing.T, s store.Store) {
	t.Helper()
	for limit := time.Now().Add(10 * time.Second); len(left(t, s)) > 0; {
		if time.Now().After(limit) {
			t.Fatalf("%d events are left", len(left(t, s)))
		}
		wait := time.NewTimer(2 * time.Millisecond)
		<-wait.C
	}
}

// TestChannelIsTold: a channel's life, as a receiver hears of it, each event from the
// commit of the change itself.
func TestChannelIsTold(t *testing.T) {
	r := newReceiver(t, nil)
	p := pairtest.New(t)
	o, _ := start(t, webhook.Config{Store: p.PayeeDisk, Targets: []webhook.Target{target(r.URL + "/hook?key=1")}})
	p.Observer = o
	p.RestartPayee()
	id := p.Open(script.Taproot)
	told := func(typ string) {
		t.Helper()
		r.wait(t, typ, func(got []webhook.Event, _ []string) bool {
			return slices.ContainsFunc(got, func(e webhook.Event) bool { return e.Type == typ })
		})
	}
	_, err := p.Buy(id, 0)
	must(t, err)
	u := p.Update(id, 1000)
	_, err = p.Payee.Pay(t.Context(), payee.Request{Channel: id, Update: &u})
	must(t, err)
	told(webhook.Paid)
	must(t, p.StepPayee())
	_, err = p.Payee.Settle(t.Context(), id, nil, false)
	must(t, err)
	told(webhook.Opened)
	told(webhook.Closing)
	p.Mine(120)
	must(t, p.StepPayee())
	told(webhook.Closed)
	empty(t, p.PayeeDisk)
	for _, e := range r.got {
		if e.Network != "regtest" || e.Provider != "ab" || e.Channel == nil || e.Channel.ID != id || e.Channel.Capacity != pairtest.Capacity || !strings.HasPrefix(e.ID, "evt_") || e.Time.IsZero() {
			t.Errorf("%+v", e)
		}
	}
	last := r.got[len(r.got)-1]
	if last.Type != webhook.Closed || last.Channel.Paid != 1000 || len(last.Channel.Closing) != 64 || last.Channel.Phase != "closed" {
		t.Errorf("%+v %+v", last, last.Channel)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestChanged: which events a change is.
func TestChanged(t *testing.T) {
	at := func(phase channel.Phase, paid uint64) channel.PayeeRecord {
		return channel.PayeeRecord{Phase: phase, Paid: paid}
	}
	for _, c := range []struct {
		before *channel.PayeeRecord
		next   channel.PayeeRecord
		want   string
	}{
		{nil, at(channel.Funding, 0), ""},
		{nil, at(channel.Open, 0), "opened"},
		{nil, at(channel.Open, 5), "opened paid"},
		{ptr(at(channel.Funding, 0)), at(channel.Open, 0), "opened"},
		{ptr(at(channel.Funding, 0)), at(channel.Funding, 3), "paid"},
		{ptr(at(channel.Funding, 3)), at(channel.Settling, 3), "opened closing"},
		{ptr(at(channel.Open, 3)), at(channel.Open, 3), ""},
		{ptr(at(channel.Open, 3)), at(channel.Open, 9), "paid"},
		{ptr(at(channel.Open, 3)), at(channel.Closing, 9), "paid closing"},
		{ptr(at(channel.Closing, 9)), at(channel.Settling, 9), ""},
		{ptr(at(channel.Settling, 9)), at(channel.Closed, 9), "closed"},
		{ptr(at(channel.Open, 9)), at(channel.Refunded, 9), "refunded"},
		{ptr(at(channel.Funding, 0)), at(channel.Abandoned, 0), ""},
		{ptr(at(channel.Closed, 0)), at(channel.Closed, 0), ""},
		{ptr(at(channel.Settling, 0)), at(channel.Open, 0), ""},
	} {
		if got := strings.Join(webhook.Changed(c.before, c.next), " "); got != c.want {
			t.Errorf("%+v > %+v: %q, want %q", c.before, c.next, got, c.want)
		}
	}
}

func ptr(r channel.PayeeRecord) *channel.PayeeRecord { return &r }

// TestFailingReceiver: what is refused is sent again with the same id until it is taken,
// and one event that is never taken holds up no other.
func TestFailingReceiver(t *testing.T) {
	for _, status := range []int{500, 503, 429, 408, 404, 400, 410} {
		t.Run(strconv.Itoa(status), func(t *testing.T) {
			r := newReceiver(t, func(n int, e webhook.Event, w http.ResponseWriter) bool {
				if n < 4 {
					w.WriteHeader(status)
				}
				return n >= 4
			})
			s := memory.New()
			o, _ := start(t, webhook.Config{Store: s, Targets: []webhook.Target{target(r.URL)}})
			raise(t, o, "stale")
			r.wait(t, "taken at last", func(got []webhook.Event, tries []string) bool { return len(got) == 1 })
			empty(t, s)
			if len(r.tries) != 4 || len(slices.Compact(slices.Clone(r.tries))) != 1 || r.got[0].Alarm.Kind != "stale" {
				t.Errorf("%q %+v", r.tries, r.got)
			}
			if st := o.States()[0]; st.Delivered != 1 || st.Failed != 3 || st.LastError != "" || strings.Contains(st.URL, "?") {
				t.Errorf("%+v", st)
			}
		})
	}
	r := newReceiver(t, func(n int, e webhook.Event, w http.ResponseWriter) bool {
		if e.Alarm.Kind == "stale" {
			w.WriteHeader(http.StatusBadRequest)
		}
		return e.Alarm.Kind != "stale"
	})
	s := memory.New()
	o, _ := start(t, webhook.Config{Store: s, Targets: []webhook.Target{target(r.URL)}})
	raise(t, o, "stale")
	raise(t, o, "disk")
	r.wait(t, "the other one", func(got []webhook.Event, tries []string) bool { return len(got) == 1 && len(tries) > 3 })
	if len(left(t, s)) != 1 {
		t.Error("what was refused is not there any more")
	}
}

// TestKilledBetweenAnswerAndDeletion: an event is kept over a restart, also where the
// receiver took it and nobody heard; its id is the same, so that it counts once.
func TestKilledBetweenAnswerAndDeletion(t *testing.T) {
	taken := make(chan struct{})
	r := newReceiver(t, func(n int, _ webhook.Event, w http.ResponseWriter) bool {
		if n > 1 {
			return true
		}
		close(taken)
		c, _, err := w.(http.Hijacker).Hijack() // the answer is lost
		if err == nil {
			err = c.Close()
		}
		if err != nil {
			t.Error(err)
		}
		return true
	})
	s := memory.New()
	o, stop := start(t, webhook.Config{Store: s, Targets: []webhook.Target{target(r.URL)}, Backoff: time.Hour, MaxBackoff: time.Hour})
	raise(t, o, "stopped")
	<-taken
	stop()
	if len(left(t, s)) != 1 {
		t.Fatal("it was deleted without an answer")
	}
	start(t, webhook.Config{Store: s, Targets: []webhook.Target{target(r.URL)}})
	r.wait(t, "again", func(got []webhook.Event, tries []string) bool { return len(got) == 2 && got[0].ID == got[1].ID })
	empty(t, s)
}

// TestSlowReceiver: a receiver that does not answer, or drips, is given up for now, and
// holds up neither another one nor what is told of.
func TestSlowReceiver(t *testing.T) {
	release := make(chan struct{})
	slow := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(slow.Close)
	t.Cleanup(func() { close(release) })
	quick := newReceiver(t, nil)
	s := memory.New()
	other := target(quick.URL)
	other.Name = "quick"
	stuck := make(chan string, 10)
	o, _ := start(t, webhook.Config{Store: s, Targets: []webhook.Target{target(slow.URL), other}, Timeout: 30 * time.Millisecond,
		StuckAfter: time.Millisecond, Stuck: func(name, why string) { stuck <- name + ": " + why }})
	for i := range 20 {
		raise(t, o, fmt.Sprint("k", i))
	}
	quick.wait(t, "all of the quick one", func(got []webhook.Event, _ []string) bool { return len(got) == 20 })
	select {
	case why := <-stuck:
		if !strings.HasPrefix(why, "books: the webhook books has taken nothing since") || strings.Contains(why, slow.URL) {
			t.Error(why)
		}
	case <-time.After(10 * time.Second):
		t.Error("nobody was told that it takes nothing")
	}
	if len(left(t, s)) != 20 {
		t.Errorf("%d events are kept", len(left(t, s)))
	}
}

// TestRedirectsAreNotFollowed: a receiver cannot send the provider's machine elsewhere:
// a redirect is a refusal, whatever its kind and wherever it points.
func TestRedirectsAreNotFollowed(t *testing.T) {
	inside, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { _ = inside.Close() })
	asked := make(chan struct{}, 100)
	go func() {
		for {
			c, err := inside.Accept()
			if err != nil {
				return
			}
			asked <- struct{}{}
			_ = c.Close()
		}
	}()
	kinds := []int{301, 302, 303, 307, 308, 300}
	r := newReceiver(t, func(n int, e webhook.Event, w http.ResponseWriter) bool {
		if n <= len(kinds) {
			w.Header().Set("Location", "http://"+inside.Addr().String()+"/latest/meta-data")
			w.Header().Set("Refresh", "0; url=http://"+inside.Addr().String())
			w.WriteHeader(kinds[n-1])
		}
		return n > len(kinds)
	})
	s := memory.New()
	o, _ := start(t, webhook.Config{Store: s, Targets: []webhook.Target{target(r.URL)}})
	raise(t, o, "stale")
	r.wait(t, "taken after the redirects", func(got []webhook.Event, _ []string) bool { return len(got) == 1 })
	if len(asked) != 0 {
		t.Errorf("what a redirect points to was asked %d times", len(asked))
	}
}

// TestPaymentsAreTakenTogether: of many payments that were not told of only the newest is.
func TestPaymentsAreTakenTogether(t *testing.T) {
	open := make(chan struct{})
	r := newReceiver(t, func(n int, _ webhook.Event, _ http.ResponseWriter) bool {
		if n == 1 {
			<-open
		}
		return true
	})
	p := pairtest.New(t)
	hook := target(r.URL)
	hook.Events = []string{webhook.Paid}
	o, _ := start(t, webhook.Config{Store: p.PayeeDisk, Targets: []webhook.Target{hook}})
	p.Observer = o
	p.RestartPayee()
	id := p.Open(script.Taproot)
	pay := func(amount uint64) {
		u := p.Update(id, amount)
		_, err := p.Payee.Pay(t.Context(), payee.Request{Channel: id, Update: &u})
		must(t, err)
	}
	pay(100)
	r.wait(t, "the first try", func(_ []webhook.Event, tries []string) bool { return len(tries) == 1 })
	for i := range uint64(50) {
		pay(200 + i)
	}
	if n := len(left(t, p.PayeeDisk)); n != 1 {
		t.Errorf("%d events wait", n)
	}
	close(open)
	r.wait(t, "the newest", func(got []webhook.Event, _ []string) bool {
		return len(got) > 1 && got[len(got)-1].Channel.Paid == 249
	})
	if len(r.got) > 5 || r.got[0].ID == r.got[len(r.got)-1].ID {
		t.Errorf("%d events", len(r.got))
	}
	empty(t, p.PayeeDisk)
}

// TestUnsavedIsNotTold: where the change is not saved there is no event of it.
func TestUnsavedIsNotTold(t *testing.T) {
	p := pairtest.New(t)
	o, err := webhook.New(webhook.Config{Store: p.PayeeDisk, Targets: []webhook.Target{target("http://127.0.0.1:1")}})
	must(t, err)
	p.Observer = o
	p.RestartPayee()
	id := p.Open(script.Taproot)
	n := len(left(t, p.PayeeDisk))
	u := p.Update(id, 100)
	p.PayeeDisk.FailNext(store.ErrFull)
	if _, err := p.Payee.Pay(t.Context(), payee.Request{Channel: id, Update: &u}); !errors.Is(err, store.ErrFull) {
		t.Fatal(err)
	}
	if len(left(t, p.PayeeDisk)) != n {
		t.Error("an event of what was not saved")
	}
	_, err = p.Payee.Pay(t.Context(), payee.Request{Channel: id, Update: &u})
	must(t, err)
	if len(left(t, p.PayeeDisk)) != n+1 {
		t.Error("no event of what was saved")
	}
}

// TestRetryAfter: a receiver that asks to be left alone is, and what is tried by hand
// goes to one webhook alone.
func TestRetryAfter(t *testing.T) {
	r := newReceiver(t, func(n int, _ webhook.Event, w http.ResponseWriter) bool {
		w.Header().Set("Retry-After", "1000")
		w.WriteHeader(http.StatusServiceUnavailable)
		return false
	})
	s := memory.New()
	o, _ := start(t, webhook.Config{Store: s, Targets: []webhook.Target{target(r.URL)}, Backoff: time.Millisecond, MaxBackoff: time.Hour})
	if _, err := o.Try(t.Context(), "books"); err != nil {
		t.Fatal(err)
	}
	if _, err := o.Try(t.Context(), "nobody"); !errors.Is(err, webhook.ErrTarget) {
		t.Error(err)
	}
	r.wait(t, "one try", func(_ []webhook.Event, tries []string) bool { return len(tries) == 1 })
	for limit := time.Now().Add(10 * time.Second); ; {
		if next := o.States()[0].NextTry; time.Until(next) > 10*time.Minute {
			break
		}
		if time.Now().After(limit) {
			t.Fatalf("%+v", o.States()[0])
		}
		wait := time.NewTimer(time.Millisecond)
		<-wait.C
	}
}

// TestDrop: what is kept for a webhook that is not there any more is deleted, and what
// cannot be read too.
func TestDrop(t *testing.T) {
	r := newReceiver(t, nil)
	s := memory.New()
	for _, bucket := range []string{"webhook/gone", "webhook/books"} {
		must(t, s.Commit(t.Context(), store.Op{Bucket: bucket, Key: "k", Value: []byte("{")}))
	}
	o, _ := start(t, webhook.Config{Store: s, Targets: []webhook.Target{target(r.URL)}})
	if n, err := o.Drop(t.Context(), "gone", "books"); n != 1 || err != nil {
		t.Error(n, err)
	}
	raise(t, o, "disk")
	r.wait(t, "the other one", func(got []webhook.Event, _ []string) bool { return len(got) == 1 })
	empty(t, s)
}

// TestTargets: what cannot be delivered to, or not safely, is refused.
func TestTargets(t *testing.T) {
	good := target("https://books.example/hook")
	must(t, good.Check())
	for what, change := range map[string]func(*webhook.Target){
		"no name": func(t *webhook.Target) { t.Name = "" }, "a path": func(t *webhook.Target) { t.Name = "../x" }, "long": func(t *webhook.Target) { t.Name = strings.Repeat("a", 65) },
		"no URL": func(t *webhook.Target) { t.URL = "" }, "ftp": func(t *webhook.Target) { t.URL = "ftp://h" }, "no host": func(t *webhook.Target) { t.URL = "https:///x" }, "broken": func(t *webhook.Target) { t.URL = "https://[" },
		"a user": func(t *webhook.Target) { t.URL = "https://u:p@h/" }, "no TLS": func(t *webhook.Target) { t.URL = "http://books.example/" }, "an address": func(t *webhook.Target) { t.URL = "http://10.0.0.1/" },
		"no secret": func(t *webhook.Target) { t.Secrets = nil }, "short": func(t *webhook.Target) { t.Secrets = [][]byte{[]byte("short")} },
		"event": func(t *webhook.Target) { t.Events = []string{"sold"} }, "time": func(t *webhook.Target) { t.PaidEvery = -1 },
	} {
		bad := good
		change(&bad)
		if err := bad.Check(); !errors.Is(err, webhook.ErrTarget) || strings.Contains(err.Error(), "u:p") {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, url := range []string{"http://127.0.0.1:8080/x", "http://[::1]/", "http://localhost/"} {
		here := good
		here.URL = url
		must(t, here.Check())
	}
	plain := good
	plain.URL, plain.Plain = "http://10.0.0.1/", true
	must(t, plain.Check())
	if _, err := webhook.New(webhook.Config{Store: memory.New(), Targets: []webhook.Target{good, good}}); !errors.Is(err, webhook.ErrTarget) {
		t.Error(err)
	}
}

// TestSignature: a signature is what the published scheme says, an old one is refused,
// and a secret can be replaced without a gap.
func TestSignature(t *testing.T) {
	at := time.Unix(1614265330, 0)
	body := []byte(`{"test": 2432232314}`)
	secrets, err := webhook.ParseSecrets("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n" + secret + "\n")
	must(t, err)
	got := webhook.Sign(secrets, "msg_p5jXN8AQM9LWM0D4loKWxJek", at, body)
	if !strings.HasPrefix(got, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE= v1,") {
		t.Error(got)
	}
	for i, s := range secrets {
		must(t, webhook.Verify(s, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", got, body, at.Add(time.Minute), 5*time.Minute))
		for what, err := range map[string]error{
			"another id": webhook.Verify(s, "x", "1614265330", got, body, at, time.Minute), "another body": webhook.Verify(s, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", got, body[1:], at, time.Minute),
			"another time": webhook.Verify(s, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265331", got, body, at, time.Minute), "none": webhook.Verify(s, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", "", body, at, time.Minute),
		} {
			if !errors.Is(err, webhook.ErrSignature) {
				t.Errorf("%d %s: %v", i, what, err)
			}
		}
		for _, when := range []string{"1614265330", "x", ""} {
			if err := webhook.Verify(s, "msg_p5jXN8AQM9LWM0D4loKWxJek", when, got, body, at.Add(time.Hour), time.Minute); !errors.Is(err, webhook.ErrTime) {
				t.Errorf("%q: %v", when, err)
			}
		}
	}
	for _, bad := range []string{"", "short", "whsec_short", "whsec_!!!!", secret + "\nshort"} {
		if _, err := webhook.ParseSecrets(bad); !errors.Is(err, webhook.ErrTarget) || strings.Contains(err.Error(), "!!!!") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
