package paywall_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/download/downloadtest"
	"github.com/spillway/spillway/mpp"
	"github.com/spillway/spillway/mpp/bitcoin"
	"github.com/spillway/spillway/paywall"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/store"
)

func opAny(e store.Entry) store.Op {
	return store.Op{Bucket: e.Bucket, Key: e.Key, Value: e.Value, Expect: store.Any}
}

// A saved opening is repeated unchanged, also by another process and on a fresh
// challenge: T1 is never built anew. Pitfalls 69, 72.
func TestPitfall69_OpeningIsRepeatedUnchanged(t *testing.T) {
	for _, kind := range []script.Construction{script.Taproot, script.Multisig, script.MultisigP2SH} {
		s := newStand(t)
		var sent []bitcoin.Open
		s.Wrap(downloadtest.Tamper(downloadtest.Action("open"), func(r *http.Request, a *downloadtest.Answer) {
			c, err := mpp.ParseCredential(r.Header.Values(mpp.HeaderCredential))
			must(t, err)
			p, err := bitcoin.ParsePayload(c.Payload)
			must(t, err)
			sent = append(sent, p.(bitcoin.Open))
			a.Status, a.Body = http.StatusBadGateway, nil
		}))
		q, err := s.Client.Quote(ctx, s.url, paywall.Expect{})
		must(t, err)
		id, err := s.Client.Open(ctx, q, kind, 50_000, paywall.Expect{}, nil)
		if !errors.Is(err, paywall.ErrUnreachable) || id == "" {
			t.Fatalf("%s: channel %q, %v", kind, id, err)
		}
		s.Advance(11 * time.Hour)
		s.Opened = s.Customer.Open()
		if err := s.Client.Reopen(ctx, id, s.url, paywall.Expect{}, nil); !errors.Is(err, paywall.ErrUnreachable) {
			t.Fatalf("%s: %v", kind, err)
		}
		s.Wrap(nil)
		must(t, s.Client.Reopen(ctx, id, "", paywall.Expect{}, nil))
		for _, p := range sent[1:] {
			p.MAC = sent[0].MAC // that alone depends on the challenge and the key
			same := p.Offer == sent[0].Offer && p.ChannelID == id && p.Capacity == 50_000 && string(p.Signature) == string(sent[0].Signature) &&
				string(p.FundingTx) == string(sent[0].FundingTx) && p.PayerPubKey == sent[0].PayerPubKey && string(p.RestScript) == string(sent[0].RestScript)
			if !same {
				t.Fatalf("%s: a repeat differs: %+v and %+v", kind, p, sent[0])
			}
		}
		rec, err := s.Payer.Record(ctx, id)
		must(t, err)
		if len(sent) < 10 || !rec.Accepted || !rec.FundingSent {
			t.Fatalf("%s: sent %d times, accepted %v", kind, len(sent), rec.Accepted)
		}
		must(t, s.Client.Reopen(ctx, id, "", paywall.Expect{}, nil)) // nothing is left to do
	}
}

// Where the provider does not see T1 the payer publishes it, waits as long as it
// was asked to, and repeats. docs/adr/0004.
func TestPayerPublishesFunding(t *testing.T) {
	s := newStand(t)
	refused := 0
	s.Wrap(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if downloadtest.ActionOf(r) != "open" || refused > 1 {
				next.ServeHTTP(w, r)
				return
			}
			refused++
			unpaid := r.Clone(r.Context())
			unpaid.Header.Del(mpp.HeaderCredential)
			unpaid.Method = http.MethodGet
			downloadtest.Tamper(downloadtest.Always, func(_ *http.Request, a *downloadtest.Answer) {
				a.Header.Set("Retry-After", "7")
				a.Header.Del("Content-Length")
				var err error
				a.Body, err = mpp.NewProblem(mpp.ProblemChannelUnconfirmed, "not seen").MarshalJSON()
				must(t, err)
			})(next).ServeHTTP(w, unpaid)
		})
	})
	var waits []time.Duration
	s.OnSleep = func(d time.Duration) error { waits = append(waits, d); return nil }
	q, err := s.Client.Quote(ctx, s.url, paywall.Expect{})
	must(t, err)
	var stages []paywall.OpenStage
	id, err := s.Client.Open(ctx, q, script.Taproot, 50_000, paywall.Expect{}, func(ev paywall.OpenEvent) { stages = append(stages, ev.Stage) })
	must(t, err)
	op, err := channel.ParseOutpoint(id)
	must(t, err)
	if _, err := s.Market.Node.Tx(ctx, op.Hash); err != nil {
		t.Fatalf("T1: %v", err)
	}
	if len(waits) != 2 || waits[0] != 7*time.Second {
		t.Fatalf("waited %v", waits)
	}
	want := []paywall.OpenStage{paywall.StagePrepared, paywall.StageSent, paywall.StageWaiting, paywall.StageWaiting, paywall.StageAccepted}
	if len(stages) != len(want) {
		t.Fatalf("stages %v", stages)
	}
	for i := range want {
		if stages[i] != want[i] {
			t.Fatalf("stages %v", stages)
		}
	}
}

// An offer that is long over is not used for a first opening.
func TestOfferThatIsOver(t *testing.T) {
	for _, kind := range []script.Construction{script.Taproot, script.Multisig} {
		s := newStand(t)
		q, err := s.Client.Quote(ctx, s.url, paywall.Expect{})
		must(t, err)
		s.Customer.Store.Watch = func(ops []store.Op) error {
			if strings.Contains(string(ops[0].Value), `"phase":"funding"`) {
				return downloadtest.ErrInjected
			}
			return nil
		}
		s.Wrap(func(http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
		})
		id, err := s.Client.Open(ctx, q, kind, 50_000, paywall.Expect{}, nil)
		rec, failed := s.Payer.Record(ctx, id)
		must(t, failed)
		if err == nil || rec.Phase != channel.Prepared {
			t.Fatalf("%s: %v, the channel is %s", kind, err, rec.Phase)
		}
		s.Wrap(nil)
		s.Advance(13 * time.Hour)
		if err := s.Client.Reopen(ctx, id, "", paywall.Expect{}, nil); !errors.Is(err, paywall.ErrOfferOver) {
			t.Fatalf("%s: %v", kind, err)
		}
	}
}

// What is not a provider, and what refuses, is told apart.
func TestAnswersThatAreNoQuote(t *testing.T) {
	s := newStand(t)
	challenge := `Payment id="x", realm="r", method="tempo", intent="charge", request="e30"`
	for name, c := range map[string]struct {
		status int
		header map[string]string
		want   error
	}{
		"page":       {200, nil, paywall.ErrNotProvider},
		"bare 402":   {402, nil, paywall.ErrNotProvider},
		"other 402":  {402, map[string]string{"WWW-Authenticate": challenge}, paywall.ErrNotProvider},
		"broken 402": {402, map[string]string{"WWW-Authenticate": `Payment id="x"`}, paywall.ErrMisbehaved},
		"unknown":    {404, nil, paywall.ErrRefused},
		"gone":       {410, nil, paywall.ErrRefused},
		"busy":       {429, map[string]string{"Retry-After": "30"}, paywall.ErrBusy},
		"starting":   {503, nil, paywall.ErrUnreachable},
		"broken":     {500, nil, paywall.ErrUnreachable},
		"nowhere":    {302, nil, paywall.ErrMisbehaved},
	} {
		s.Wrap(func(http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				for k, v := range c.header {
					w.Header().Set(k, v)
				}
				w.WriteHeader(c.status)
			})
		})
		_, err := s.Client.Quote(ctx, s.url, paywall.Expect{})
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
		var busy *paywall.BusyError
		if name == "busy" && (!errors.As(err, &busy) || busy.RetryAfter != 30*time.Second) {
			t.Errorf("%s: %v", name, err)
		}
	}
	s.Server.Close()
	if _, err := s.Client.Quote(ctx, s.url, paywall.Expect{}); !errors.Is(err, paywall.ErrUnreachable) {
		t.Errorf("nobody there: %v", err)
	}
	for _, bad := range []string{"", "f.bin", "ftp://x/", "http://user@x/", "http:///x", "::"} {
		if _, err := s.Client.Quote(ctx, bad, paywall.Expect{}); !errors.Is(err, paywall.ErrNotProvider) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestOrigin(t *testing.T) {
	for in, want := range map[string]string{
		"http://Example.com/x?y":     "http://example.com:80",
		"https://example.com:443":    "https://example.com:443",
		"https://example.com/":       "https://example.com:443",
		"http://[::1]:4402/f":        "http://[::1]:4402",
		"http://example.com:8080/#a": "http://example.com:8080",
		"ftp://example.com":          "",
		"/x":                         "",
		"%":                          "",
	} {
		if got := paywall.Origin(in); got != want {
			t.Errorf("%s: %q, want %q", in, got, want)
		}
	}
}
