package paywall_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/spillway/spillway/mpp"
	"github.com/spillway/spillway/paywall"
)

// Over TLS and HTTP/2 all of it is the same: streams, trailers, an empty POST.
func TestTransportOverHTTP2(t *testing.T) {
	m := newMallWith(t, paywall.MiddlewareConfig{
		Price: paywall.PerByte(1000, 100), Rules: map[string]paywall.Price{"POST /": paywall.PerRequest(5_000)},
	}, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			fmt.Fprintf(w, "%s HTTP/%d", r.Method, r.ProtoMajor)
			return
		}
		for range 50 {
			if _, err := w.Write(make([]byte, 1000)); err != nil {
				return
			}
			w.(http.Flusher).Flush()
		}
	})
	web := httptest.NewUnstartedServer(m.handler)
	web.EnableHTTP2 = true
	web.StartTLS()
	defer web.Close()
	var err error
	m.client, err = paywall.NewClient(paywall.ClientConfig{
		HTTP: web.Client(), Payer: m.Payer, Network: "regtest", Now: m.Now,
		Sleep: func(ctx context.Context, _ time.Duration) error {
			_, err := m.Chain.Mine(1)
			return errors.Join(err, ctx.Err())
		},
	})
	must(t, err)
	m.travel(paywall.TransportConfig{})
	ask := func(method string) (*http.Response, string) {
		req, err := http.NewRequest(method, web.URL+"/", nil)
		must(t, err)
		resp, err := m.http().Do(req)
		must(t, err)
		body, err := io.ReadAll(resp.Body)
		must(t, errors.Join(err, resp.Body.Close()))
		return resp, string(body)
	}
	if _, body := ask(http.MethodPost); body != "POST HTTP/2" {
		t.Errorf("%q", body)
	}
	if resp, body := ask(http.MethodGet); len(body) != 50_000 || resp.Trailer.Get(mpp.HeaderReceipt) == "" || resp.ProtoMajor != 2 {
		t.Errorf("%d bytes over HTTP/%d, trailer %v", len(body), resp.ProtoMajor, resp.Trailer)
	}
	m.settled(5_000 + 500_000)
}

// A handler is bought with an empty POST too, which is no payment that comes alone; the
// channel is paid at the same address.
func TestTransportBuysAnEmptyPost(t *testing.T) {
	m := newMall(t, paywall.PerRequest(5_000), func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "ran by ", r.Method) })
	for range 2 {
		resp, err := m.http().Post(m.web.URL, "", nil)
		must(t, err)
		body, err := io.ReadAll(resp.Body)
		must(t, errors.Join(err, resp.Body.Close()))
		if string(body) != "ran by POST" {
			t.Fatalf("%q", body)
		}
	}
	m.settled(10_000)
}
