package paywall_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spillway/spillway/internal/gateway/edgetest"
	"github.com/spillway/spillway/mpp"
	"github.com/spillway/spillway/mpp/bitcoin"
	"github.com/spillway/spillway/script"
)

// echo is a credential whose challenge a client changed as it liked: edit gets the
// challenge's JSON. The payload and its MAC fit the id that the challenge has then.
func (e *edge) echo(c mpp.Challenge, edit func(map[string]any)) string {
	e.T.Helper()
	raw, err := json.Marshal(c)
	e.Must(err)
	var obj map[string]any
	e.Must(json.Unmarshal(raw, &obj))
	edit(obj)
	id, _ := obj["id"].(string)
	mac, err := e.Payer.MACKey(ctx, e.id)
	e.Must(err)
	payload, err := bitcoin.Seal(e.VoucherFor(e.id, 900), mac, id, "")
	e.Must(err)
	raw, err = json.Marshal(map[string]any{"challenge": obj, "payload": json.RawMessage(payload)})
	e.Must(err)
	return "Payment " + mpp.EncodeBase64(raw)
}

// reword changes a field inside the challenge's request.
func reword(name string, value any) func(map[string]any) {
	return func(o map[string]any) {
		raw, err := mpp.DecodeBase64(o["request"].(string))
		if err != nil {
			panic(err)
		}
		var r map[string]any
		if err := json.Unmarshal(raw, &r); err != nil {
			panic(err)
		}
		in := r
		if _, top := r[name]; !top {
			in = r["methodDetails"].(map[string]any)
		}
		in[name] = value
		if raw, err = mpp.JCS(r); err != nil {
			panic(err)
		}
		o["request"] = mpp.EncodeBase64(raw)
	}
}

// Every parameter of a challenge but the text for people is bound by its id: with any
// of them changed, added, left out or moved, nothing is charged, taken or told.
func TestForgedChallenges(t *testing.T) {
	e := newEdge(t, edgetest.Config{Price: "3000001msat/file"})
	c := e.Quote("/f.bin").Challenge
	other := e.Quote("/f.bin").Challenge
	set := func(name string, value any) func(map[string]any) {
		return func(o map[string]any) { o[name] = value }
	}
	without := func(name string) func(map[string]any) {
		return func(o map[string]any) { delete(o, name) }
	}
	tests := map[string]func(map[string]any){
		"id of another":          set("id", other.ID),
		"id cut":                 set("id", c.ID[:20]),
		"id longer":              set("id", c.ID+"A"),
		"id empty":               set("id", ""),
		"no id":                  without("id"),
		"realm":                  set("realm", "elsewhere"),
		"realm in upper case":    set("realm", strings.ToUpper(c.Realm)),
		"no realm":               without("realm"),
		"method":                 set("method", "tempo"),
		"intent":                 set("intent", "charge"),
		"expires later":          set("expires", mpp.FormatTime(e.Now().Add(time.Hour))),
		"expires in another way": set("expires", strings.Replace(c.Expires, "Z", "+00:00", 1)),
		"no expires":             without("expires"),
		"expires never":          set("expires", ""),
		"no opaque":              without("opaque"),
		"opaque of another":      set("opaque", other.Opaque),
		"request of another":     set("request", other.Request),
		"no request":             without("request"),
		"digest added":           set("digest", "sha-256=:AAAA:"),
		"header added":           set("header", mpp.HeaderAlternateCredential),
		"slots moved": func(o map[string]any) {
			o["realm"], o["method"] = c.Realm+"|"+c.Method, c.Intent
		},
		"a number": set("realm", 7), "null": set("opaque", nil), "a list": set("request", []string{c.Request}),
	}
	for name, value := range map[string]any{
		"amount": "1", "unitsPerAmount": 1000, "unitType": "event", "recipient": strings.Repeat("00", 32), "suggestedDeposit": "1",
		"creditMsat": "900000000", "lastUnitMsat": "1", "root": strings.Repeat("00", 32), "minDeposit": "1", "maxDeposit": "2000000", "minimumCharge": "0",
		"requiredCumulative": "1", "minConfirmations": 0, "zeroConfLimit": "100000", "expiryHeight": 400_000_000, "tipHeight": 1, "marginBlocks": 1,
		"network": "mainnet", "txVersion": 2, "payeePubKey": "02" + strings.Repeat("79", 32), "channelTypes": []string{"duplex"},
	} {
		tests["request: "+name] = reword(name, value)
	}
	for name, edit := range tests {
		r := e.stays(t, func() *edgetest.Reply { return e.get(chunk0, e.echo(c, edit), nil) })
		if r.Status != 402 || r.Problem == nil || r.Problem.Type != mpp.ProblemInvalidChallenge && r.Problem.Type != mpp.ProblemMalformedCredential {
			t.Errorf("%s: %d %v", name, r.Status, r.Problem)
		}
		if r.Request.MethodDetails.Channel != nil || r.Problem.String("acceptedCumulative") != "" {
			t.Errorf("%s: tells of the channel", name)
		}
	}
	if rec, err := e.Payee.Record(ctx, e.id); err != nil || rec.Paid != 0 || rec.Charged != 0 {
		t.Fatalf("%+v, %v", rec, err)
	}
	// the text for people is not bound, and unknown parameters are ignored
	for name, edit := range map[string]func(map[string]any){
		"unchanged": func(map[string]any) {}, "description": set("description", "cheap"), "unknown": set("x-unknown", "y"),
	} {
		if r := e.get(chunk0, e.echo(c, edit), nil); r.Status != 200 {
			t.Errorf("%s: %d %v", name, r.Status, r.Problem)
		}
	}
}

// A provider that was restarted with another secret, as after a restore, knows none of
// the old challenges; one of another realm with the same secret neither.
func TestChallengesOfAnotherTime(t *testing.T) {
	e := newEdge(t, edgetest.Config{})
	c := e.Quote("/f.bin").Challenge
	secret, err := e.PayeeKeys.ChallengeSecret(1)
	must(t, err)
	secret0, err := e.PayeeKeys.ChallengeSecret(0)
	must(t, err)
	elsewhere := c
	elsewhere.Realm = "stand.example"
	for name, bad := range map[string]mpp.Challenge{"epoch": mpp.NewChallenge(secret[:], c), "realm": mpp.NewChallenge(secret0[:], elsewhere)} {
		r := e.stays(t, func() *edgetest.Reply { return e.get(chunk0, e.Seal(bad, e.VoucherOf(e.id), ""), nil) })
		if want(t, r, 402, "invalid-challenge"); r.Challenge.Realm != c.Realm {
			t.Errorf("%s: %+v", name, r.Challenge)
		}
	}
}

// An Idempotency-Key is bound to its first request: who has seen a credential can
// repeat that request, which is free, and can do nothing else with it.
func TestReplayedCredential(t *testing.T) {
	e := newEdge(t, edgetest.Config{})
	c := e.Quote("/f.bin").Challenge
	seen := e.Seal(c, e.VoucherFor(e.id, 1000), "k1")
	first := edgetest.Ask{Method: "GET", Path: chunk0, Credential: seen, Key: "k1"}
	want(t, e.Do(first), 200, "")
	r := e.Do(first)
	if want(t, r, 200, ""); r.Receipt.Units != 0 || r.Receipt.ChargedMsat != 1_000_000 {
		t.Errorf("%+v", r.Receipt)
	}
	for name, a := range map[string]edgetest.Ask{
		"another chunk": {Method: "GET", Path: chunk1},
		"plain bytes":   {Method: "GET", Path: "/f.bin"},
		"a range":       {Method: "GET", Path: chunk0, Header: http.Header{"Range": {"bytes=1000000-1000001"}}},
		"another file":  {Method: "GET", Path: "/g.bin"},
		"alone":         {Method: "POST", Path: "/f.bin"},
		"at the root":   {Method: "POST", Path: "/"},
		"no key":        {Method: "GET", Path: chunk1, Key: "-"},
		"another key":   {Method: "GET", Path: chunk1, Key: "k2"},
	} {
		a.Credential = seen
		switch a.Key {
		case "":
			a.Key = "k1"
		case "-":
			a.Key = ""
		}
		r := e.stays(t, func() *edgetest.Reply { return e.Do(a) })
		if r.Status/100 == 2 || r.Receipt != nil {
			t.Errorf("%s: %d %+v", name, r.Status, r.Receipt)
		}
	}
	want(t, e.stays(t, func() *edgetest.Reply {
		return e.Do(edgetest.Ask{Method: "GET", Path: chunk1, Credential: seen, Key: "k1"})
	}), 400, "bad-request")
	// a key is a channel's own, and a new one is a new request
	other := e.OpenChannel(script.Taproot)
	want(t, e.Do(edgetest.Ask{Method: "GET", Path: chunk1, Credential: e.Seal(c, e.VoucherOf(other), "k1"), Key: "k1"}), 200, "")
	want(t, e.Do(edgetest.Ask{Method: "GET", Path: chunk1, Credential: e.Seal(c, e.VoucherFor(e.id, 1000), "k3"), Key: "k3"}), 200, "")
	// money that comes with a key that was used is kept
	want(t, e.Do(edgetest.Ask{Method: "GET", Path: chunk2, Credential: e.Seal(c, e.VoucherFor(e.id, 1500), "k3"), Key: "k3"}), 400, "bad-request")
	if rec, err := e.Payee.Record(ctx, e.id); err != nil || rec.Paid != 1500 || rec.Charged != 2_000_000 {
		t.Errorf("paid %d, charged %d, %v", rec.Paid, rec.Charged, err)
	}
	// the key outlives the challenge in its credential
	late := edgetest.Ask{Method: "GET", Path: chunk0, Credential: e.Seal(e.Quote("/f.bin").Challenge, e.VoucherFor(e.id, 1500), "k4"), Key: "k4"}
	want(t, e.Do(late), 200, "")
	late.Path = chunk2
	e.Wait(9 * time.Minute)
	want(t, e.Do(late), 400, "bad-request")
	e.Wait(2 * time.Minute)
	want(t, e.Do(late), 402, "payment-expired")
}

// Requests that come at once with one key are one request.
func TestOneKeyAtOnce(t *testing.T) {
	e := newEdge(t, edgetest.Config{})
	c := e.Quote("/f.bin").Challenge
	v := e.VoucherFor(e.id, 3000)
	var group sync.WaitGroup
	var mu sync.Mutex
	served := map[string]bool{}
	for i := range 9 {
		group.Add(1)
		go func() {
			defer group.Done()
			path := []string{chunk0, chunk1, chunk2}[i%3]
			if r := e.Do(edgetest.Ask{Method: "GET", Path: path, Credential: e.Seal(c, v, "one"), Key: "one"}); r.Status == 200 {
				mu.Lock()
				served[path] = true
				mu.Unlock()
			}
		}()
	}
	group.Wait()
	if len(served) != 1 {
		t.Errorf("one key was good for %d chunks", len(served))
	}
	if rec, err := e.Payee.Record(ctx, e.id); err != nil || rec.Charged != 1_000_000 {
		t.Errorf("charged %d, %v", rec.Charged, err)
	}
}

// What no parser of a credential likes is refused with its type, and the next request
// is served: nothing panics and nothing is charged.
func TestMalformedCredentials(t *testing.T) {
	e := newEdge(t, edgetest.Config{})
	c := e.Quote("/f.bin").Challenge
	good := e.Seal(c, e.VoucherOf(e.id), "")
	text := strings.TrimPrefix(good, "Payment ")
	raw, err := mpp.DecodeBase64(text)
	must(t, err)
	b64 := func(s string) string { return "Payment " + mpp.EncodeBase64([]byte(s)) }
	body := string(raw)
	tests := map[string]string{
		"padded": good + "==", "standard alphabet": "Payment " + strings.NewReplacer("-", "+", "_", "/").Replace(text) + "+",
		"cut": good[:len(good)-3], "cut JSON": b64(body[:len(body)-1]), "trailing": b64(body + "{}"), "nothing": b64(""), "null": b64("null"), "list": b64("[]"),
		"a string": b64(`"x"`), "no payload": b64(`{"challenge":{}}`), "no challenge": b64(`{"payload":{}}`), "challenge is text": b64(`{"challenge":"x","payload":{}}`),
		"twice in it": b64(strings.Replace(body, `"payload":`, `"payload":{},"payload":`, 1)), "deep": b64(strings.Repeat("[", 5000)), "deep objects": b64(strings.Repeat(`{"a":`, 5000)),
		"not UTF-8": b64("{\"challenge\":{\"id\":\"\xff\"},\"payload\":{}}"), "zero byte": b64("\x00"), "BOM": b64("\ufeff" + body),
		"parameters": `Payment token="x", id="y"`, "unclosed": `Payment id="`, "only spaces": "Payment    ", "comma": "Payment ,",
		"huge number": b64(strings.Replace(body, `"cumulativeAmount":"0"`, `"cumulativeAmount":1e999`, 1)),
		"negative":    b64(strings.Replace(body, `"cumulativeAmount":"0"`, `"cumulativeAmount":"-1"`, 1)),
		"fraction":    b64(strings.Replace(body, `"cumulativeAmount":"0"`, `"cumulativeAmount":"0.5"`, 1)),
		"zeros":       b64(strings.Replace(body, `"cumulativeAmount":"0"`, `"cumulativeAmount":"00"`, 1)),
		"above all":   b64(strings.Replace(body, `"cumulativeAmount":"0"`, `"cumulativeAmount":"18446744073709551616"`, 1)),
		"upper hex":   b64(strings.Replace(body, `"channelId":"`+e.id, `"channelId":"`+strings.ToUpper(e.id), 1)),
		"no output":   b64(strings.Replace(body, `"channelId":"`+e.id, `"channelId":"`+e.id[:64], 1)),
		"long output": b64(strings.Replace(body, `"channelId":"`+e.id, `"channelId":"`+e.id+"99999999999", 1)),
	}
	for name, credential := range tests {
		r := e.stays(t, func() *edgetest.Reply { return e.get(chunk0, credential, nil) })
		if r.Problem == nil || r.Problem.Type != mpp.ProblemMalformedCredential || r.Status != 402 && r.Status != 400 {
			t.Errorf("%s: %d %v", name, r.Status, r.Problem)
		}
	}
	for _, fine := range []string{"payment " + text, "PAYMENT  " + text} { // schemes have no case. RFC 9110
		if r := e.get(chunk0, fine, nil); r.Status != 200 {
			t.Errorf("%.10s: %d %v", fine, r.Status, r.Problem)
		}
	}
	// the other field is asked for by a challenge only
	if r := e.get(chunk1, "", http.Header{mpp.HeaderAlternateCredential: {good}}); r.Status != 402 || r.Problem.Type != mpp.ProblemPaymentRequired {
		t.Errorf("%d %v", r.Status, r.Problem)
	}
	if rec, err := e.Payee.Record(ctx, e.id); err != nil || rec.Charged != 1_000_000 {
		t.Errorf("charged %d, %v", rec.Charged, err)
	}
}
