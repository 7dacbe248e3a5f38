package paywall_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/mpp"
	"github.com/spillway/spillway/mpp/bitcoin"
	"github.com/spillway/spillway/paywall"
)

const eventsOfStream = 9

// tellEvents is a handler that goes on behind the event that its client had last.
func tellEvents(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	from := 0
	if last, err := strconv.Atoi(r.Header.Get("Last-Event-ID")); err == nil {
		from = last + 1
	}
	for i := from; i < eventsOfStream; i++ {
		if _, err := fmt.Fprintf(w, "id: %d\ndata: event %d\n\n", i, i); err != nil {
			return
		}
	}
}

// TestSignerGoesOnWithAStream: a client without a ledger pays a stream that is cut after
// any event, or in which either side starts anew; it goes on under the same key, and
// each event is charged and paid once.
func TestSignerGoesOnWithAStream(t *testing.T) {
	for _, how := range []string{"line", "payer", "payee"} {
		t.Run(how, func(t *testing.T) {
			for cut := range eventsOfStream {
				price := paywall.PerEvent(1000)
				price.Credit = 2000
				g := newGeneric(t, price)
				g.sell(paywall.MiddlewareConfig{Price: price}, tellEvents)
				had := g.listen("", cut+1)
				switch how {
				case "payer":
					g.restart()
				case "payee":
					g.sell(paywall.MiddlewareConfig{Price: price}, tellEvents)
				}
				had = append(had, g.listen(strconv.Itoa(cut), eventsOfStream)...)
				for i, id := range had {
					if id != strconv.Itoa(i) {
						t.Fatalf("cut after %d: the events were %v", cut, had)
					}
				}
				mine, theirs := g.records()
				least := uint64(eventsOfStream)
				if how == "payee" { // it forgot which events it sent: what is owed is had again, at most the credit
					least -= 2
				}
				if len(had) != eventsOfStream || theirs.Charged > eventsOfStream*1000 || theirs.Charged < least*1000 || theirs.Paid != channel.CeilSat(theirs.Charged) || mine.Signed != theirs.Paid {
					t.Fatalf("cut after %d: %d events, charged are %d msat, paid %d sat, signed %d sat", cut, len(had), theirs.Charged, theirs.Paid, mine.Signed)
				}
			}
		})
	}
}

// listen reads so many events behind the one that was had last, and pays what the stream
// asks for; with all of them read it pays what was delivered on credit.
func (g *generic) listen(last string, most int) (ids []string) {
	g.t.Helper()
	resp := g.begin(last)
	defer func() { _ = resp.Body.Close() }() // it may be cut off in the middle
	lines := bufio.NewScanner(resp.Body)
	name, id, data := "", "", ""
	for lines.Scan() {
		field, value, _ := strings.Cut(lines.Text(), ": ")
		switch field {
		case "event":
			name = value
		case "id":
			id = value
		case "data":
			data = value
		case "":
			switch name {
			case bitcoin.EventNeedVoucher:
				var need bitcoin.NeedVoucher
				must(g.t, json.Unmarshal([]byte(data), &need))
				g.voucher(need.RequiredCumulative)
			case bitcoin.EventReceipt:
				var r bitcoin.Receipt
				must(g.t, json.Unmarshal([]byte(data), &r))
				if r.RequiredCumulative > r.AcceptedCumulative {
					g.voucher(r.RequiredCumulative)
				}
			case "":
				if data != "" {
					ids = append(ids, id)
				}
			}
			name, data = "", ""
			if len(ids) == most && most < eventsOfStream {
				return ids
			}
		}
	}
	must(g.t, lines.Err())
	return ids
}

// begin asks for the stream until it comes.
func (g *generic) begin(last string) *http.Response {
	g.t.Helper()
	var signed *paywall.SignedCredential
	for range 6 {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, g.web.URL+"/events", nil)
		must(g.t, err)
		req.Header.Set(mpp.HeaderIdempotencyKey, "stream")
		if last != "" {
			req.Header.Set("Last-Event-ID", last)
		}
		if signed != nil {
			req.Header.Set(signed.Field, signed.Value)
		}
		resp, err := g.net.RoundTrip(req)
		must(g.t, err)
		if resp.StatusCode == http.StatusOK {
			_, err := g.signer.TakeReceipt(ctx, resp.Header.Get(mpp.HeaderReceipt), "stream")
			must(g.t, err)
			return resp
		}
		if resp.StatusCode != http.StatusPaymentRequired {
			body, _ := io.ReadAll(resp.Body)
			g.t.Fatalf("%s %s", resp.Status, body)
		}
		must(g.t, resp.Body.Close())
		got := g.sign(resp, paywall.SignRequest{Key: "stream"})
		signed = &got
	}
	g.t.Fatal("the stream does not begin")
	return nil
}

// sign makes a credential for the challenge of an answer.
func (g *generic) sign(resp *http.Response, q paywall.SignRequest) paywall.SignedCredential {
	g.t.Helper()
	list, err := mpp.ParseChallenges(resp.Header.Values(mpp.HeaderChallenge))
	must(g.t, err)
	q.Challenge, q.URL, q.Max = list[0], g.web.URL+"/events", 5
	got, err := g.signer.Sign(ctx, q)
	must(g.t, err)
	return got
}

// voucher pays up to a cumulative amount, in sat, by a HEAD.
func (g *generic) voucher(required uint64) {
	g.t.Helper()
	if required > channel.MaxSat {
		g.t.Fatal(required)
	}
	var signed *paywall.SignedCredential
	key := fmt.Sprintf("voucher %d %d", required, g.net.requests)
	for range 3 {
		req, err := http.NewRequestWithContext(ctx, http.MethodHead, g.web.URL+"/events", nil)
		must(g.t, err)
		req.Header.Set(mpp.HeaderIdempotencyKey, key)
		if signed != nil {
			req.Header.Set(signed.Field, signed.Value)
		}
		resp, err := g.net.RoundTrip(req)
		must(g.t, err)
		must(g.t, resp.Body.Close())
		if receipt := resp.Header.Get(mpp.HeaderReceipt); resp.StatusCode == http.StatusNoContent {
			_, err := g.signer.TakeReceipt(ctx, receipt, key)
			must(g.t, err)
			return
		}
		got := g.sign(resp, paywall.SignRequest{Key: key, Required: required})
		signed = &got
	}
	g.t.Fatal("the voucher is not taken")
}
