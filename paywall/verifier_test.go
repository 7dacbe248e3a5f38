package paywall_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/spillway/spillway/mpp"
	"github.com/spillway/spillway/mpp/bitcoin"
	"github.com/spillway/spillway/paywall"
)

const verifierToken = "a token of a test"

// clerk is a service in another language: it asks a verifier, and makes the challenges
// itself.
type clerk struct {
	*mall
	desk   http.Handler
	secret [32]byte
}

func newClerk(t *testing.T, ahead bool) *clerk {
	t.Helper()
	c := &clerk{mall: newMall(t, paywall.PerRequest(1000), echoPath)}
	secret, err := c.PayeeKeys.ChallengeSecret(0)
	must(t, err)
	c.secret = secret
	c.desk, err = paywall.NewVerifier(paywall.VerifierConfig{Server: c.wall, Token: verifierToken, Ahead: ahead})
	must(t, err)
	c.mu.Lock()
	c.handler = http.HandlerFunc(c.serve)
	c.mu.Unlock()
	return c
}

// call asks the verifier.
func (c *clerk) call(path, token, body string) (int, map[string]json.RawMessage) {
	c.t.Helper()
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	w := httptest.NewRecorder()
	c.desk.ServeHTTP(w, r)
	var out map[string]json.RawMessage
	must(c.t, json.Unmarshal(w.Body.Bytes(), &out))
	return w.Code, out
}

// challenge is what the service makes of an offer.
func (c *clerk) challenge() mpp.Challenge {
	c.t.Helper()
	status, out := c.call("/v1/challenge", verifierToken, `{"priceMsat":1500,"description":"x"}`)
	if status != http.StatusOK {
		c.t.Fatalf("%d %s", status, out)
	}
	var made mpp.Challenge
	var opaque map[string]string
	for name, to := range map[string]any{"realm": &made.Realm, "method": &made.Method, "intent": &made.Intent, "expires": &made.Expires, "opaque": &opaque} {
		must(c.t, json.Unmarshal(out[name], to))
	}
	var request any
	request, err := mpp.ParseJSON(out["request"])
	must(c.t, err)
	made.Request, err = mpp.EncodeJSON(request)
	must(c.t, err)
	made.Opaque, err = mpp.EncodeOpaque(opaque)
	must(c.t, err)
	return mpp.NewChallenge(c.secret[:], made)
}

// serve answers as docs/interop.md says a service does.
func (c *clerk) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	must(c.t, err)
	credential := r.Header.Get(mpp.HeaderCredential)
	if credential == "" {
		w.Header().Set(mpp.HeaderChallenge, c.challenge().String())
		w.WriteHeader(http.StatusPaymentRequired)
		return
	}
	ask := map[string]any{"priceMsat": 1500, "method": r.Method, "url": r.URL.RequestURI(), "credential": credential, "idempotencyKey": r.Header.Get(mpp.HeaderIdempotencyKey)}
	if len(body) > 0 || r.ContentLength < 0 {
		ask["bodyDigest"] = fmt.Sprintf("d%x", body)
	}
	raw, err := json.Marshal(ask)
	must(c.t, err)
	status, out := c.call("/v1/verify", verifierToken, string(raw))
	if status != http.StatusOK {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	var serve bool
	must(c.t, json.Unmarshal(out["serve"], &serve))
	var headers map[string]string
	must(c.t, json.Unmarshal(out["headers"], &headers))
	must(c.t, json.Unmarshal(out["status"], &status))
	if receipt := out["receipt"]; len(receipt) > 0 {
		w.Header().Set(mpp.HeaderReceipt, mpp.EncodeBase64(receipt))
	}
	if serve {
		c.runs.Add(1)
		echoPath(w, r)
		return
	}
	for name, value := range headers {
		w.Header().Set(name, value)
	}
	if status == http.StatusPaymentRequired {
		w.Header().Set(mpp.HeaderChallenge, c.challenge().String())
	}
	w.WriteHeader(status)
	_, _ = w.Write(out["body"])
}

// TestVerifierServesAnyLanguage: a service that knows nothing of bitcoin sells by asking,
// with payment behind and ahead; a client that is cut off at any message pays once.
func TestVerifierServesAnyLanguage(t *testing.T) {
	for _, e := range []struct {
		ahead bool
		how   string
	}{{false, "never"}, {true, "answer"}, {false, "body"}, {true, "body"}} {
		t.Run(fmt.Sprintf("ahead %v, %s", e.ahead, e.how), func(t *testing.T) {
			for cut := 1; ; cut++ {
				c := newClerk(t, e.ahead)
				c.travel(paywall.TransportConfig{MaxPrepay: 2})
				c.net.cutAt, c.net.how, c.net.after = cut, e.how, 3
				for i := range 2 {
					path := fmt.Sprintf("/%d", i)
					resp, err := c.http().Post(c.web.URL+path, "text/plain", bytes.NewReader([]byte("ask")))
					must(t, err)
					body, err := io.ReadAll(resp.Body)
					must(t, err)
					must(t, resp.Body.Close())
					if resp.StatusCode != http.StatusOK || string(body) != "answer to "+path {
						t.Fatalf("cut %d: %s %q", cut, resp.Status, body)
					}
				}
				c.settled(3000)
				if c.net.requests < cut {
					return
				}
			}
		})
	}
}

// TestVerifierRefuses: strangers, nonsense, and what does not pay.
func TestVerifierRefuses(t *testing.T) {
	if _, err := paywall.NewVerifier(paywall.VerifierConfig{Token: verifierToken}); err == nil {
		t.Error("a verifier without a server")
	}
	c := newClerk(t, true)
	good := `{"priceMsat":1500,"method":"GET","url":"/","credential":"Payment e30"}`
	for _, e := range []struct {
		path, token, body string
		status            int
	}{
		{"/v1/verify", "", good, 401},
		{"/v1/verify", "another token here", good, 401},
		{"/v1/verify", verifierToken + "x", good, 401},
		{"/v1/other", verifierToken, good, 404},
		{"/v1/verify", verifierToken, "", 400},
		{"/v1/verify", verifierToken, "[]", 400},
		{"/v1/verify", verifierToken, `{"priceMsat":-1}`, 400},
		{"/v1/verify", verifierToken, `{"priceMsat":1.5}`, 400},
		{"/v1/verify", verifierToken, `{"priceMsat":0,"method":"GET","url":"/"}`, 400},
		{"/v1/verify", verifierToken, `{"priceMsat":9000000000000000000,"method":"GET","url":"/"}`, 400},
		{"/v1/verify", verifierToken, `{"priceMsat":1,"method":"G T","url":"/"}`, 400},
		{"/v1/verify", verifierToken, `{"priceMsat":1,"method":"GET","url":"x"}`, 400},
		{"/v1/verify", verifierToken, `{"priceMsat":1,"method":"","url":"/"}`, 400},
		{"/v1/verify", verifierToken, `{"priceMsat":1,"x":"` + strings.Repeat("a", 300<<10) + `"}`, 400},
		{"/v1/challenge", verifierToken, `{"priceMsat":0}`, 400},
	} {
		if status, out := c.call(e.path, e.token, e.body); status != e.status || len(out["detail"]) < 5 {
			t.Errorf("%s %.60s: %d %s", e.path, e.body, status, out)
		}
	}
	for credential, kind := range map[string]string{
		"":                      mpp.ProblemPaymentRequired,
		"Payment e30":           mpp.ProblemMalformedCredential,
		"Basic eDp5":            mpp.ProblemPaymentRequired,
		c.stranger("e" + "vil"): mpp.ProblemInvalidChallenge,
	} {
		raw, err := json.Marshal(map[string]any{"priceMsat": 1500, "method": "GET", "url": "/", "credential": credential})
		must(t, err)
		status, out := c.call("/v1/verify", verifierToken, string(raw))
		p, err := mpp.ParseProblem(out["body"])
		if status != http.StatusOK || string(out["serve"]) != "false" || string(out["status"]) != "402" || err != nil || p.Type != kind || out["receipt"] != nil {
			t.Errorf("%.40s: %d %s", credential, status, out)
		}
	}
	if all, err := c.Payee.Records(ctx); err != nil || len(all) != 0 {
		t.Errorf("%d channels, %v", len(all), err)
	}
}

// stranger is a credential for a challenge that somebody else made.
func (c *clerk) stranger(secret string) string {
	ch := mpp.NewChallenge([]byte(secret), c.challenge())
	return mpp.Credential{Challenge: ch, Payload: json.RawMessage(`{"action":"voucher"}`)}.Encode()
}

// TestVerifierHoldsThePrice: a credential for another price than the service says now is
// refused, and charges nothing.
func TestVerifierHoldsThePrice(t *testing.T) {
	g := newGeneric(t, paywall.Price{Msat: 1500, Ahead: true})
	g.ask("/", "k", true, nil)
	desk, err := paywall.NewVerifier(paywall.VerifierConfig{Server: g.wall, Token: verifierToken, Ahead: true})
	must(t, err)
	unpaid, _, err := g.once("/", "k2", nil)
	must(t, err)
	list, err := mpp.ParseChallenges(unpaid.Header.Values(mpp.HeaderChallenge))
	must(t, err)
	got, err := g.signer.Sign(ctx, paywall.SignRequest{Challenge: list[0], URL: g.web.URL + "/", Key: "k2", Max: 10})
	must(t, err)
	_, before := g.records()
	c := &clerk{mall: g.mall, desk: desk}
	for _, e := range []struct {
		price  int
		serve  string
		amount uint64
	}{{1600, "false", 0}, {1500, "true", 1500}, {1500, "true", 1500}} {
		raw, err := json.Marshal(map[string]any{"priceMsat": e.price, "method": "GET", "url": "/", "credential": got.Value, "idempotencyKey": "k2"})
		must(t, err)
		if _, out := c.call("/v1/verify", verifierToken, string(raw)); string(out["serve"]) != e.serve {
			t.Errorf("%d msat: %s", e.price, out)
		} else if e.serve == "true" {
			r, err := bitcoin.ParseReceipt([]string{mpp.EncodeBase64(out["receipt"])})
			if err != nil || r.RequestMsat != 1500 {
				t.Errorf("%+v %v", r, err)
			}
		}
		if _, after := g.records(); after.Charged != before.Charged+e.amount {
			t.Errorf("%d msat: charged are %d msat, before %d", e.price, after.Charged, before.Charged)
		}
	}
}
