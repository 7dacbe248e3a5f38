package badinput_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/internal/badinput"
	"github.com/spillway/spillway/internal/gateway"
	"github.com/spillway/spillway/internal/gateway/edgetest"
	"github.com/spillway/spillway/mpp"
	"github.com/spillway/spillway/mpp/bitcoin"
	"github.com/spillway/spillway/script"
)

// shop is a provider with an open channel, and one that is prepared.
type shop struct {
	*edgetest.Stand
	id       string
	prepared string
	quote    mpp.Challenge
}

func newShop(t *testing.T) *shop {
	t.Helper()
	s := &shop{Stand: edgetest.New(t, edgetest.Config{})}
	s.id = s.OpenChannel(script.Taproot)
	q := s.Quote("/f.bin")
	s.prepared, s.quote = s.Build(q, script.Taproot), s.Quote("/f.bin").Challenge
	return s
}

// request is a request that a provider has to refuse.
type bad struct {
	badinput.Case
	ask edgetest.Ask
}

// TestRequests: every bad request is refused with the status and the problem that the
// catalogue has; nothing is saved, broadcast or charged for it.
func TestRequests(t *testing.T) {
	s := newShop(t)
	catalogue := badinput.NewCatalogue("Bad requests to a provider, and its answers: status and problem.")
	for _, b := range append(s.credentials(t), s.requests()...) {
		commits, sent := len(s.PayeeDisk.Commits()), len(s.Chain.Sent())
		var r *edgetest.Reply
		badinput.Guard(t, b.Name(), func() { r = s.Do(b.ask) })
		if r == nil {
			continue // the client would not send it
		}
		if saved := len(s.PayeeDisk.Commits()) - commits; saved != 0 || len(s.Chain.Sent()) != sent {
			t.Errorf("%s: %d commits, %d broadcasts", b.Name(), saved, len(s.Chain.Sent())-sent)
		}
		outcome := fmt.Sprint(r.Status)
		if r.Problem != nil {
			outcome += " " + strings.TrimPrefix(r.Problem.Type, mpp.ProblemBase)
			if len(r.Problem.Detail) < 8 || len(r.Problem.Detail) > 1000 {
				t.Errorf("%s: it says %q", b.Name(), r.Problem.Detail)
			}
		} else if b.ask.Method != http.MethodHead {
			t.Errorf("%s: %d without a problem: %.200q", b.Name(), r.Status, r.Body)
		}
		if r.Status < 400 || r.Status >= 500 {
			t.Errorf("%s: status %d: %v", b.Name(), r.Status, r.Problem)
		}
		catalogue.Put(t, b.Case, outcome)
	}
	if catalogue.Len() < 300 {
		t.Errorf("%d requests", catalogue.Len())
	}
	catalogue.Check(t, "testdata/requests.txt", *update)
}

// credentials are the bad forms of the payloads of all actions, each with the MAC of
// the good one, in a credential on a challenge that is good.
func (s *shop) credentials(t *testing.T) (all []bad) {
	t.Helper()
	voucher := s.VoucherFor(s.id, 1000)
	open := s.OpenOf(s.prepared)
	for name, one := range map[string]struct {
		payload bitcoin.Payload
		method  string
		path    string
	}{
		"voucher": {voucher, "GET", "/f.bin?slice=0-999999"},
		"resume":  {s.ResumeOf(s.id), "POST", "/f.bin"},
		"close":   {bitcoin.Close{ChannelID: s.id, CumulativeAmount: voucher.CumulativeAmount, Signature: voucher.Signature, PayerNonce: make([]byte, 66)}, "POST", "/f.bin"},
		"open":    {open, "POST", "/f.bin"},
		"prepare": {bitcoin.Prepare{ChannelType: bitcoin.Multisig, PayerPubKey: open.PayerPubKey, ChannelID: s.prepared, Capacity: 50_000, RestScript: open.RestScript, RefundTx: make([]byte, 94)}, "POST", "/f.bin"},
	} {
		cred, err := mpp.ParseCredential([]string{s.Seal(s.quote, one.payload, "")})
		must(t, err)
		cases, err := badinput.JSON(name, cred.Payload)
		must(t, err)
		for _, c := range cases {
			if optional.MatchString(c.Name()) || !json.Valid(c.Input) || strings.HasSuffix(c.What, "endless") || c.What == "longer" {
				continue // good, or no credential that a client could send: the messages have these
			}
			header := mpp.Credential{Challenge: s.quote, Payload: c.Input}.Encode()
			all = append(all, bad{c, edgetest.Ask{Method: one.method, Path: one.path, Credential: header}})
		}
	}
	return all
}

// requests are bad in another way: ranges, slices, methods, names, keys.
func (s *shop) requests() (all []bad) {
	add := func(group, what string, a edgetest.Ask) {
		all = append(all, bad{badinput.Case{Group: group, What: what}, a})
	}
	paid := s.Seal(s.quote, s.VoucherFor(s.id, 0), "")
	for _, q := range []string{"slice=", "slice=x", "slice=1", "slice=-1", "slice=5-1", "slice=0-3000000", "slice=3000000-3000001", "slice=0-18446744073709551616", "slice=0-1&slice=2-3", "slice=0-1,5-9", "slice=%00", "slice=0--1"} {
		add("slice", q, edgetest.Ask{Method: "GET", Path: "/f.bin?" + q})
		add("slice, paid", q, edgetest.Ask{Method: "GET", Path: "/f.bin?" + q, Credential: paid})
	}
	for _, v := range []string{"bytes=5-1", "bytes=3000000-", "bytes=0-1,5-9", "bytes=99999999999999999999-"} {
		add("Range, paid", v, edgetest.Ask{Method: "GET", Path: "/f.bin", Credential: paid, Header: http.Header{"Range": {v}}})
	}
	for _, p := range []string{"/nothing", "/.hidden", "/%2e%2e/etc/passwd", "/f.bin/", "/f.bin/x", "/%00", "/f.bin%00", "/nothing?manifest", "/nothing/?manifest", "/F.BIN", "/%ff"} {
		add("path", p, edgetest.Ask{Method: "GET", Path: p})
		add("path, paid", p, edgetest.Ask{Method: "GET", Path: p, Credential: paid})
	}
	for _, m := range []string{"PUT", "DELETE", "PATCH", "TRACE", "PROPFIND"} {
		add("method", m, edgetest.Ask{Method: m, Path: "/f.bin"})
		add("method, paid", m, edgetest.Ask{Method: m, Path: "/f.bin", Credential: paid})
	}
	for _, k := range []string{strings.Repeat("k", 256), "ü"} {
		add("Idempotency-Key", fmt.Sprintf("%.20q, %d bytes", k, len(k)), edgetest.Ask{Method: "GET", Path: "/f.bin?slice=0-999999", Credential: paid, Header: http.Header{"Idempotency-Key": {k}}})
	}
	for name, c := range map[string]string{
		"no token": "Payment", "an empty token": "Payment ", "no base64": "Payment ???", "an empty object": "Payment e30", "padded": "Payment e30=", "endless": "Payment " + strings.Repeat("A", 30_000),
		"another scheme": "Basic YTpi", "a bearer": "Bearer x", "longer": paid + "x", "cut in half": paid[:len(paid)/2], "two in one": paid + ", " + paid,
	} {
		add("Authorization", name, edgetest.Ask{Method: "GET", Path: "/f.bin?slice=0-999999", Credential: c})
	}
	add("Authorization", "twice", edgetest.Ask{Method: "GET", Path: "/f.bin?slice=0-999999", Header: http.Header{"Authorization": {paid, paid}}})
	add("voucher", "with a body", edgetest.Ask{Method: "POST", Path: "/f.bin", Credential: paid, Body: "x"})
	add("resume", "that asks for a chunk", edgetest.Ask{Method: "GET", Path: "/f.bin?slice=0-999999", Credential: s.Seal(s.quote, s.ResumeOf(s.id), "")})
	return append(all, s.challenges()...)
}

// challenges are credentials on challenges that this provider did not make so.
func (s *shop) challenges() (all []bad) {
	v := s.VoucherFor(s.id, 0)
	for what, change := range map[string]func(*mpp.Challenge){
		"id": func(c *mpp.Challenge) { c.ID = strings.Repeat("A", len(c.ID)) }, "realm": func(c *mpp.Challenge) { c.Realm = "x" }, "method": func(c *mpp.Challenge) { c.Method = "card" },
		"intent": func(c *mpp.Challenge) { c.Intent = "charge" }, "request": func(c *mpp.Challenge) { c.Request = "e30" }, "expires": func(c *mpp.Challenge) { c.Expires = "2099-01-01T00:00:00Z" },
		"no expiry": func(c *mpp.Challenge) { c.Expires = "" }, "opaque": func(c *mpp.Challenge) { c.Opaque = "e30" }, "no opaque": func(c *mpp.Challenge) { c.Opaque = "" }, "digest": func(c *mpp.Challenge) { c.Digest = "sha-256=:AAAA:" },
		"of another server": func(c *mpp.Challenge) { *c = mpp.NewChallenge([]byte("other"), *c) },
	} {
		c := s.quote
		change(&c)
		all = append(all, bad{badinput.Case{Group: "challenge, changed", What: what}, edgetest.Ask{Method: "GET", Path: "/f.bin?slice=0-999999", Credential: s.Seal(c, v, "")}})
	}
	return all
}

// TestAdminRequests: the operator's API refuses what it does not understand, and what
// has not its token, and saves nothing.
func TestAdminRequests(t *testing.T) {
	s := newShop(t)
	h := gateway.Admin(gateway.AdminConfig{Driver: s.Payee, Token: "token", Show: func(r channel.PayeeRecord) any { return r }})
	catalogue := badinput.NewCatalogue("Bad requests to the operator's API, and the status of the answers.")
	ask := func(group, what, method, path, auth, body string) {
		r := httptest.NewRequest(method, path, strings.NewReader(body))
		if auth != "" {
			r.Header.Set("Authorization", auth)
		}
		w := httptest.NewRecorder()
		commits := len(s.PayeeDisk.Commits())
		badinput.Guard(t, group+" "+what, func() { h.ServeHTTP(w, r) })
		if len(s.PayeeDisk.Commits()) != commits || w.Code < 400 || w.Code > 499 {
			t.Errorf("%s %s: status %d, %d commits: %s", group, what, w.Code, len(s.PayeeDisk.Commits())-commits, w.Body)
		}
		catalogue.Put(t, badinput.Case{Group: group, What: what}, fmt.Sprint(w.Code))
	}
	const token, back = "Bearer token", `{"amount_msat":5,"key":"k"}`
	for _, auth := range []string{"", "Bearer", "Bearer ", "Bearer x", "bearer token", "Bearer token ", "Basic token", "token"} {
		ask("token", fmt.Sprintf("%q", auth), "GET", "/v1/channels", auth, "")
	}
	for _, id := range []string{"%20", "x", s.id[:20], s.id + "0", strings.Repeat("0", 64) + ":0", "%00", "%ff"} {
		ask("id", fmt.Sprintf("show %s", named(id, s.id)), "GET", "/v1/channels/"+id, token, "")
		ask("id", "settle "+named(id, s.id), "POST", "/v1/channels/"+id+"/settle", token, "")
		ask("id", "payback "+named(id, s.id), "POST", "/v1/channels/"+id+"/payback", token, back)
	}
	for _, body := range []string{"", "x", "{}", "[]", "null", back + back, `{"amount_msat":5,"key":"k","more":1}`, `{"amount_msat":5}`, `{"key":"k"}`, strings.Repeat(" ", 70000) + back} {
		ask("payback", fmt.Sprintf("%.40q", body), "POST", "/v1/channels/"+s.id+"/payback", token, body)
	}
	for _, msat := range []string{`""`, "0", "-1", "1.5", "x", "18446744073709551616", "1e400", "null"} {
		ask("payback", "amount_msat "+msat, "POST", "/v1/channels/"+s.id+"/payback", token, `{"amount_msat":`+msat+`,"key":"k"}`)
	}
	ask("payback", "in a channel of one way", "POST", "/v1/channels/"+s.id+"/payback", token, back)
	ask("settle", "with nothing paid", "POST", "/v1/channels/"+s.id+"/settle", token, "")
	for _, limit := range []string{"0", "-1", "x", "1.5", "1000001", "99999999999999999999"} {
		ask("list", "limit "+limit, "GET", "/v1/channels?limit="+limit, token, "")
	}
	for _, m := range [][2]string{{"POST", "/v1/channels"}, {"GET", "/v1/channels/ID/settle"}, {"GET", "/v1/channels/ID/payback"}, {"DELETE", "/v1/channels/ID"}, {"GET", "/nothing"}, {"GET", "/"}, {"GET", "/channels"}, {"GET", "/v1/../v1/channels"}, {"GET", "/v2/channels"}, {"OPTIONS", "/v1/channels"}} {
		ask("method or path", m[0]+" "+m[1], m[0], strings.ReplaceAll(m[1], "ID", s.id), token, "")
	}
	catalogue.Check(t, "testdata/admin.txt", *update)
}

// named writes an id so that it is the same each time.
func named(id, good string) string {
	return strings.ReplaceAll(strings.ReplaceAll(fmt.Sprintf("%q", id), good, "ID"), good[:20], "HALF")
}
