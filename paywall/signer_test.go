package paywall_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/mpp"
	"github.com/spillway/spillway/mpp/bitcoin"
	"github.com/spillway/spillway/paywall"
	"github.com/spillway/spillway/watch"
)

// generic is a client of the scheme that knows nothing of channels: it sends what the
// signer gives it, and repeats what got no answer.
type generic struct {
	*mall
	signer *paywall.Signer
	max    uint64
	price  paywall.Price
}

func echoPath(w http.ResponseWriter, r *http.Request) {
	_, _ = io.WriteString(w, "answer to "+r.URL.Path)
}

func newGeneric(t *testing.T, price paywall.Price) *generic {
	t.Helper()
	g := &generic{mall: newMall(t, price, echoPath), max: 1000, price: price}
	g.restart()
	return g
}

// restart makes the payer's process anew, with its signer: all they know is on the disk.
func (g *generic) restart() {
	g.t.Helper()
	g.RestartPayer()
	client, err := paywall.NewClient(paywall.ClientConfig{
		HTTP: &http.Client{Transport: g.net}, Payer: g.Payer, Network: "regtest", Now: g.Now,
		Sleep: func(ctx context.Context, _ time.Duration) error {
			_, err := g.Chain.Mine(1)
			return errors.Join(err, ctx.Err())
		},
	})
	must(g.t, err)
	g.signer, err = paywall.NewSigner(paywall.SignerConfig{
		Client: client, Store: g.PayerDisk,
		Look: func(ctx context.Context, _ channel.PayerRecord) error {
			return (&watch.Watch{Chain: g.Chain, Drivers: []watch.Driver{g.Payer}}).Step(ctx)
		},
	})
	must(g.t, err)
}

// once sends a request once, with a credential where there is one.
func (g *generic) once(path, key string, signed *paywall.SignedCredential) (*http.Response, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, g.web.URL+path, nil)
	must(g.t, err)
	if key != "" {
		req.Header.Set(mpp.HeaderIdempotencyKey, key)
	}
	if signed != nil {
		req.Header.Set(signed.Field, signed.Value)
	}
	resp, err := g.net.RoundTrip(req)
	if err != nil {
		return nil, nil, err
	}
	body, err := io.ReadAll(resp.Body)
	return resp, body, errors.Join(err, resp.Body.Close())
}

// ask gets a path as mppx does: unpaid, then with a credential for each challenge that
// comes. What got no answer is sent again from the beginning, under the same key.
func (g *generic) ask(path, key string, url bool, each func()) (string, *http.Response) {
	g.t.Helper()
	for try := 0; try < 12; try++ {
		var signed *paywall.SignedCredential
		for turn := 0; turn < 6; turn++ {
			if each != nil {
				each()
			}
			resp, body, err := g.once(path, key, signed)
			if err != nil {
				break
			}
			if resp.StatusCode != http.StatusPaymentRequired {
				return string(body), resp
			}
			list, err := mpp.ParseChallenges(resp.Header.Values(mpp.HeaderChallenge))
			must(g.t, err)
			q := paywall.SignRequest{Challenge: list[0], Key: key, Max: g.max}
			if url {
				q.URL = g.web.URL + path
			}
			got, err := g.signer.Sign(ctx, q)
			if errors.Is(err, paywall.ErrUnreachable) {
				break
			}
			must(g.t, err)
			signed = &got
		}
	}
	g.t.Fatalf("%s: no answer", path)
	return "", nil
}

// TestSignerRetriesNeverPayTwice: whichever message of three requests is cut, and however,
// also where both sides start anew meanwhile, each answer comes, is charged once and paid
// once.
func TestSignerRetriesNeverPayTwice(t *testing.T) {
	for _, url := range []bool{true, false} {
		for _, how := range []string{"never", "answer", "body"} {
			for _, anew := range []bool{false, true} {
				t.Run(fmt.Sprintf("url %v, %s, anew %v", url, how, anew), func(t *testing.T) {
					for cut := 1; ; cut++ {
						if g := cutSigner(t, url, how, anew, cut); g.net.requests < cut {
							if cut < 6 {
								t.Fatalf("there were only %d messages", cut)
							}
							return
						}
					}
				})
			}
		}
	}
}

func cutSigner(t *testing.T, url bool, how string, anew bool, cut int) *generic {
	t.Helper()
	g := newGeneric(t, paywall.Price{Msat: 1500, Ahead: true})
	g.net.cutAt, g.net.how, g.net.after = cut, how, 3
	each := func() {
		if anew && g.net.requests == cut {
			g.restart()
			g.sell(paywall.MiddlewareConfig{Price: g.price}, echoPath)
		}
	}
	for i := range 3 {
		path := fmt.Sprintf("/%d", i)
		if body, resp := g.ask(path, "key"+path, url, each); body != "answer to "+path || resp.StatusCode != http.StatusOK {
			t.Fatalf("cut %d: %s %q", cut, resp.Status, body)
		}
	}
	mine, theirs := g.records()
	if theirs.Charged != 4500 || mine.Signed > 5 || theirs.Paid != mine.Signed {
		t.Fatalf("cut %d %s: charged are %d msat, paid %d sat, signed %d sat", cut, how, theirs.Charged, theirs.Paid, mine.Signed)
	}
	return g
}

// TestSignerWithoutKeys: without Idempotency-Keys the challenge names the request.
func TestSignerWithoutKeys(t *testing.T) {
	g := newGeneric(t, paywall.Price{Msat: 1000, Ahead: true})
	for i := range 3 {
		g.ask(fmt.Sprintf("/%d", i), "", true, nil)
	}
	mine, theirs := g.records()
	if theirs.Charged != 3000 || mine.Signed != 3 {
		t.Errorf("charged are %d msat, signed %d sat", theirs.Charged, mine.Signed)
	}
}

// TestSignerBelievesNoMoreThanAgreed: a receipt, or a challenge, that claims more than was
// agreed makes nobody sign more; a limit holds for each credential and for all.
func TestSignerBelievesNoMoreThanAgreed(t *testing.T) {
	g := newGeneric(t, paywall.Price{Msat: 1000, Ahead: true})
	_, resp := g.ask("/", "a", true, nil)
	mine, _ := g.records()
	receipt, err := bitcoin.ParseReceipt(resp.Header.Values(mpp.HeaderReceipt))
	must(t, err)
	lie := receipt
	lie.ChargedMsat, lie.AcceptedCumulative, lie.RequiredCumulative = 9_000_000, 9000, 9000
	text, err := lie.Encode()
	must(t, err)
	for range 2 {
		_, err = g.signer.TakeReceipt(ctx, text, "a")
		must(t, err)
	}
	if r, _ := g.records(); r.Signed != mine.Signed || r.Owed > r.Signed*1000 {
		t.Errorf("signed are %d sat, owed %d msat", r.Signed, r.Owed)
	}
	if _, err := g.signer.TakeReceipt(ctx, "e30", ""); !errors.Is(err, paywall.ErrMisbehaved) {
		t.Error(err)
	}
	unpaid, _, err := g.once("/", "b", nil)
	must(t, err)
	list, err := mpp.ParseChallenges(unpaid.Header.Values(mpp.HeaderChallenge))
	must(t, err)
	q := paywall.SignRequest{Challenge: list[0], URL: g.web.URL + "/", Key: "b", Max: 1, Required: 3}
	if _, err := g.signer.Sign(ctx, q); !errors.Is(err, channel.ErrBudget) {
		t.Errorf("two satoshi more than --max: %v", err)
	}
	q.Required, q.Total, q.Max = 0, mine.Signed, 100
	if _, err := g.signer.Sign(ctx, q); !errors.Is(err, channel.ErrBudget) {
		t.Errorf("more than in all: %v", err)
	}
	q.Total = 0
	got, err := g.signer.Sign(ctx, q)
	must(t, err)
	if got.Added != 1 || got.Amount != mine.Signed+1 {
		t.Errorf("%+v", got)
	}
	q.Challenge.Expires = mpp.FormatTime(g.Now().Add(-time.Minute))
	if _, err := g.signer.Sign(ctx, q); !errors.Is(err, paywall.ErrChallengeOver) {
		t.Error(err)
	}
	q = paywall.SignRequest{Challenge: list[0], URL: g.web.URL + "/", Key: "c", Max: 5, Required: channel.MaxSat + 1}
	if _, err := g.signer.Sign(ctx, q); !errors.Is(err, paywall.ErrMisbehaved) {
		t.Error(err)
	}
}

// TestSignerSavesBeforeItSpeaks: what a credential carries is on the disk when it is
// printed, with what it was agreed for, in one commit.
func TestSignerSavesBeforeItSpeaks(t *testing.T) {
	g := newGeneric(t, paywall.Price{Msat: 1000, Ahead: true})
	g.ask("/", "a", true, nil)
	before := len(g.PayerDisk.Commits())
	g.ask("/2", "b", true, nil)
	found := false
	for _, ops := range g.PayerDisk.Commits()[before:] {
		var signed uint64
		wanted := false
		for _, op := range ops {
			if op.Bucket == "payer/channel" {
				var r channel.PayerRecord
				must(t, json.Unmarshal(op.Value, &r))
				signed = r.Signed
			}
			wanted = wanted || op.Bucket == "payer/signer"
		}
		found = found || signed == 2 && wanted
	}
	if !found {
		t.Error("the amount and what it is for were not saved together")
	}
}
