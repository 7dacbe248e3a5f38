package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spillway/spillway/chain/devnet"
	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/internal/mppxtest"
	"github.com/spillway/spillway/keys"
	"github.com/spillway/spillway/mpp"
	"github.com/spillway/spillway/payee"
	"github.com/spillway/spillway/paywall"
	"github.com/spillway/spillway/store/memory"
	"github.com/spillway/spillway/watch"
)

// shop is a Go service behind the middleware, with a payee of its own on a post's chain.
type shop struct {
	t      *testing.T
	payee  *payee.Payee
	wall   *paywall.Server
	url    string
	mu     sync.Mutex
	served map[string]int // runs of the handler, by path
}

// newShop sells /answer by the request and /events by the event.
func newShop(t *testing.T, p *post, change func(*paywall.ServerConfig)) *shop {
	t.Helper()
	words, err := keys.NewMnemonic(rand.Reader)
	must(t, err)
	ring, err := keys.FromMnemonic(words, devnet.Params())
	must(t, err)
	_, payout, err := ring.WalletKey(false, 0)
	must(t, err)
	s := &shop{t: t, served: map[string]int{}}
	s.payee, err = payee.New(payee.Config{
		Store: memory.New(), Keys: ring, Chain: p.node.node, Network: "regtest", Payout: payout, Policy: channel.DefaultPolicy("regtest"),
		Dearest: func() uint64 { return 2000 }, Now: time.Now, Rand: rand.Reader,
	})
	must(t, err)
	cfg := paywall.ServerConfig{Payee: s.payee, Keys: ring, Network: "regtest", Realm: "127.0.0.1"}
	if change != nil {
		change(&cfg)
	}
	s.wall, err = paywall.NewServer(cfg)
	must(t, err)
	events := paywall.PerEvent(1000)
	events.Credit = 2000
	charge, err := paywall.NewMiddleware(paywall.MiddlewareConfig{
		Server: s.wall, Price: paywall.Price{Msat: 1500, Ahead: true}, Rules: map[string]paywall.Price{"/events": events},
	})
	must(t, err)
	about := paywall.Discovery{Title: "A shop", Network: "regtest", Operations: []paywall.Operation{
		{Path: "/answer", Price: paywall.Price{Msat: 1500, Ahead: true}, Kind: "application/json", Summary: "An answer"},
		{Path: "/events", Price: events, Kind: "text/event-stream"},
		{Method: http.MethodPost, Path: "/items/{id}", Price: paywall.ByRequest(func(*http.Request) uint64 { return 1500 }), Params: map[string]string{"id": "7"}, Body: json.RawMessage(`{"type":"object"}`)},
	}}
	h, err := about.Handler(charge(http.HandlerFunc(s.serve)))
	must(t, err)
	web := httptest.NewServer(h)
	t.Cleanup(web.Close)
	s.url = web.URL
	ctx, stop := context.WithCancel(context.Background())
	watching := &watch.Watch{Chain: p.node.node, Drivers: []watch.Driver{s.payee}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		every(ctx, 100*time.Millisecond, watching.Step, func(err error) { t.Logf("watch: %v", err) })
	}()
	t.Cleanup(func() { stop(); <-done })
	return s
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (s *shop) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.served[r.URL.Path]++
	n := s.served[r.URL.Path]
	s.mu.Unlock()
	if r.URL.Path != "/events" {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"answer":%d}`, n)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	for i := range 10 {
		if _, err := fmt.Fprintf(w, "id: %d\ndata: {\"n\":%d}\n\n", i, i); err != nil {
			return
		}
		if f, ok := w.(http.Flusher); ok {
			f.Flush()
		}
	}
}

func (s *shop) runs(path string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.served[path]
}

// record is the shop's one channel.
func (s *shop) record() channel.PayeeRecord {
	s.t.Helper()
	all, err := s.payee.Records(s.t.Context())
	must(s.t, err)
	if len(all) != 1 {
		s.t.Fatalf("%d channels", len(all))
	}
	return all[0]
}

// mppxBuyer opens a channel, pays three requests and a stream of ten events, and closes.
const mppxBuyer = `
import { Mppx } from 'mppx/client'
import { Challenge, Receipt } from 'mppx'
import { spillway } from './client.js'

const [url] = process.argv.slice(2)
const said = []
const pay = spillway({ max: 50, total: 10_000, log: (line) => said.push(line) })
const mppx = Mppx.create({ methods: [pay.method], fetch: pay.fetch, polyfill: false })
const out = { answers: [], receipts: [], events: [], said }
for (let n = 0; n < 3; n++) {
  const response = await mppx.fetch(url + '/answer')
  out.answers.push([response.status, await response.json()])
  out.receipts.push(Receipt.fromResponse(response))
}
const stream = await mppx.fetch(url + '/events')
out.stream = [stream.status, stream.headers.get('content-type')]
out.text = await stream.text()
out.closed = await pay.close(url)
console.log(JSON.stringify(out))
`

// TestMppxBuys: a client of the scheme that others wrote, with our small plugin and the
// program as its signer, opens a channel, pays three requests and a stream, and closes.
func TestMppxBuys(t *testing.T) {
	for _, header := range []string{"", mpp.HeaderAlternateCredential} {
		t.Run("in "+header, func(t *testing.T) {
			kit := mppxtest.Install(t)
			p := newPost(t)
			s := newShop(t, p, func(c *paywall.ServerConfig) { c.CredentialField = header })
			out := kit.Script(t, kit.Work(t), mppxBuyer, p.vars(), s.url)
			var got struct {
				Answers  [][]json.RawMessage
				Receipts []struct {
					Method, Intent, Status, ChannelID, ChargedMsat string
				}
				Text   string
				Closed []struct {
					ChannelID string `json:"channel_id"`
					Paid      uint64 `json:"paid_sat"`
				}
			}
			must(t, json.Unmarshal([]byte(out), &got))
			for i, a := range got.Answers {
				if string(a[0]) != "200" || string(a[1]) != fmt.Sprintf(`{"answer":%d}`, i+1) {
					t.Errorf("answer %d: %s", i, a)
				}
				if r := got.Receipts[i]; r.Method != "bitcoin" || r.Intent != "session" || r.Status != "success" || r.ChargedMsat != fmt.Sprint(1500*(i+1)) {
					t.Errorf("receipt %d: %+v", i, r)
				}
			}
			if strings.Count(got.Text, "data: ") != 10 || strings.Contains(got.Text, "payment-") {
				t.Errorf("the stream was %q", got.Text)
			}
			if s.runs("/answer") != 3 || s.runs("/events") != 1 {
				t.Errorf("%d and %d runs", s.runs("/answer"), s.runs("/events"))
			}
			r := s.record()
			if want := uint64(3*1500 + 10*1000); r.Charged != want || r.Paid < channel.CeilSat(want) || r.Close == nil {
				t.Errorf("charged are %d msat, paid %d sat, closed %v: %s", r.Charged, r.Paid, r.Close != nil, out)
			}
			if len(got.Closed) != 1 || got.Closed[0].ChannelID != r.Terms.ID() || got.Closed[0].Paid != r.Paid {
				t.Errorf("%+v, paid %d sat", got.Closed, r.Paid)
			}
		})
	}
}

// mppxShop is an mppx server that sells /answer for 1500 msat, with our payee beside it.
const mppxShop = `
import { createServer } from 'node:http'
import { Mppx, Request as MppRequest } from 'mppx/server'
import { spillway } from './server.js'

const till = spillway({ file: process.argv[2] })
const mppx = Mppx.create({ methods: [till.method], secretKey: till.secretKey, realm: till.realm })
const charge = till.charge(mppx, { priceMsat: 1500, description: 'An answer' })
let runs = 0
const listener = MppRequest.toNodeListener(async (request) => {
  if (new URL(request.url).pathname === '/runs') return Response.json(runs)
  const paid = await charge(request)
  if (paid.status !== 200) return paid.challenge
  if (paid.alone) return paid.withReceipt()
  return paid.withReceipt(Response.json({ answer: ++runs, body: await request.text() }))
})
const server = createServer(listener).listen(0, '127.0.0.1', () => console.log('http://127.0.0.1:' + server.address().port))
`

// TestPaysMppx: our client opens a channel with a server of the scheme that others wrote,
// pays three requests, and closes; the money is verified and kept by our payee.
func TestPaysMppx(t *testing.T) {
	kit := mppxtest.Install(t)
	p := newPost(t)
	line := p.start("serving", "verifier", "--realm", "127.0.0.1", "--listen", "127.0.0.1:0")
	url := kit.Serve(t, kit.Work(t), mppxShop, nil, line["file"].(string))
	b := p.buyer(t)
	paying, err := paywall.NewTransport(paywall.TransportConfig{Client: b.client, Hosts: []string{"127.0.0.1:*"}, MaxPerHost: 20_000})
	must(t, err)
	web := &http.Client{Transport: paying}
	for i := range 3 {
		resp, err := web.Post(url+"/answer", "text/plain", strings.NewReader("ask"))
		must(t, err)
		var got struct {
			Answer int
			Body   string
		}
		must(t, json.NewDecoder(resp.Body).Decode(&got))
		must(t, resp.Body.Close())
		if resp.StatusCode != http.StatusOK || got.Answer != i+1 || got.Body != "ask" || resp.Header.Get(mpp.HeaderReceipt) == "" {
			t.Errorf("%d: %s %+v", i, resp.Status, got)
		}
	}
	must(t, paying.Close(t.Context()))
	mine, err := b.payer.Records(t.Context())
	must(t, err)
	if len(mine) != 1 || mine[0].Owed != 4500 || mine[0].Signed < 5 || mine[0].Close == nil {
		t.Fatalf("%+v", mine)
	}
	listed := p.spillway("channels", "list")["channels"].([]any)
	found := false
	for _, one := range listed {
		c := one.(map[string]any)
		if c["role"] == "payee" {
			found = c["id"] == mine[0].Terms.ID() && c["paid_sat"] == float64(mine[0].Signed) && c["charged_msat"] == float64(4500)
		}
	}
	if !found {
		t.Errorf("the payee's channel is another one: %v", listed)
	}
	if _, runs := fetch(t, url+"/runs"); string(runs) != "3" {
		t.Errorf("%s runs", runs)
	}
}

// buyer is the post's payer, opened in this process.
func (p *post) buyer(t *testing.T) *buyer {
	t.Helper()
	a := &app{out: &output{stdout: io.Discard, stderr: io.Discard, quiet: true}}
	a.flags.data, a.flags.network, a.flags.chain = p.data, "regtest", []string{p.node.url}
	b, err := a.openBuyer(t.Context())
	must(t, err)
	t.Cleanup(func() { must(t, b.Close()) })
	b.watch()
	must(t, b.fillFromFaucet(t.Context(), 60_000))
	return b
}
