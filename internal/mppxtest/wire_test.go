package mppxtest

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/spillway/spillway/mpp"
)

const secret = "0123456789abcdef0123456789abcdef"

// mirror reads with mppx what package mpp wrote, and writes it again.
const mirror = `
import { readFileSync } from 'node:fs'
import { pathToFileURL } from 'node:url'
import { Challenge, Credential, Receipt } from 'mppx'

const [file, modules] = process.argv.slice(2)
const AcceptPayment = await import(pathToFileURL(modules + '/mppx/dist/internal/AcceptPayment.js'))
const asked = JSON.parse(readFileSync(file, 'utf8'), (name, v) => v ?? [])
const attempt = (f) => { try { return { ok: f() } } catch (e) { return { error: String(e.message ?? e) } } }
console.log(JSON.stringify({
  challenges: asked.challenges.map((header) => attempt(() => Challenge.deserializeList(header).map((c) => ({
    header: Challenge.serialize(c), verified: Challenge.verify(c, { secretKey: asked.secret }),
    credential: Credential.serialize({ challenge: c, payload: { action: 'voucher', n: 1 } }), field: Challenge.credentialHeader(c),
  })))),
  receipts: asked.receipts.map((r) => attempt(() => Receipt.serialize(Receipt.deserialize(r)))),
  accept: asked.accept.map(([header, ...offers]) => attempt(() =>
    AcceptPayment.rank(offers.map((o) => ({ method: o.split('/')[0], intent: o.split('/')[1] })), AcceptPayment.parse(header)).map((o) => o.method + '/' + o.intent))),
  bad: asked.bad.map((header) => attempt(() => Challenge.deserializeList(header).length)),
  credentials: asked.credentials.map((header) => attempt(() => Credential.deserialize(Credential.extractPaymentScheme(header)).challenge.id)),
}))
`

// question is what both sides are asked, answers what mppx made of it.
type question struct {
	Secret      string     `json:"secret"`
	Challenges  []string   `json:"challenges"`
	Receipts    []string   `json:"receipts"`
	Accept      [][]string `json:"accept"`
	Bad         []string   `json:"bad"`
	Credentials []string   `json:"credentials"`
}

type attempt[T any] struct {
	OK    T      `json:"ok"`
	Error string `json:"error"`
}

type mirrored struct {
	Header, Credential, Field string
	Verified                  bool
}

type answers struct {
	Challenges  []attempt[[]mirrored]
	Receipts    []attempt[string]
	Accept      []attempt[[]string]
	Bad         []attempt[int]
	Credentials []attempt[string]
}

func (k *Kit) mirror(t *testing.T, q question) (a answers) {
	t.Helper()
	dir := k.Work(t)
	raw, err := json.Marshal(q)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "question.json")
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(k.Script(t, dir, mirror, nil, file, k.modules)), &a); err != nil {
		t.Fatal(err)
	}
	return a
}

// dice makes values of every kind.
type dice struct{ *rand.Rand }

func (d dice) pick(from ...string) string { return from[d.IntN(len(from))] }

func (d dice) text() string {
	out := make([]rune, d.IntN(12))
	for i := range out {
		out[i] = []rune(`az09 "\,;=/-_.~é€😀漢` + "\u2028\u007e")[d.IntN(20)]
	}
	return string(out)
}

func (d dice) value(depth int) any {
	switch d.IntN(6 - 2*min(depth, 1)) {
	case 0:
		return d.text()
	case 1:
		return json.Number(d.pick("0", "-1", "1e21", "1e-7", "0.1", "123456789012", "1.5e300", "4.9e-324", "100", "1E2", "-0.25"))
	case 2:
		return d.IntN(2) == 0
	case 3:
		return nil
	case 4:
		list := make([]any, d.IntN(3))
		for i := range list {
			list[i] = d.value(depth + 1)
		}
		return list
	default:
		m := map[string]any{}
		for range d.IntN(4) {
			m[d.text()] = d.value(depth + 1)
		}
		return m
	}
}

// challenge is one as a server of ours could make it.
func (d dice) challenge(t *testing.T) mpp.Challenge {
	t.Helper()
	request := map[string]any{"amount": "1"}
	for range d.IntN(4) {
		request[d.text()] = d.value(0)
	}
	c := mpp.Challenge{Realm: d.pick("api.example", "127.0.0.1", "a b", "r"), Method: d.pick("bitcoin", "tempo", "a:b-c_9"), Intent: d.pick("session", "charge", "x-1")}
	var err error
	if c.Request, err = mpp.EncodeJSON(request); err != nil {
		t.Fatal(err)
	}
	if d.IntN(2) == 0 {
		c.Description = strings.Trim(d.text(), " ")
	}
	if d.IntN(2) == 0 {
		c.Digest = mpp.Digest([]byte(d.text()))
	}
	if d.IntN(4) > 0 {
		c.Expires = d.pick("2026-01-02T03:04:05Z", "2036-12-31T23:59:59.123Z", "2026-01-02T03:04:05+02:00")
	}
	if d.IntN(2) == 0 {
		c.Header = mpp.HeaderAlternateCredential
	}
	if d.IntN(2) == 0 {
		if c.Opaque, err = mpp.EncodeOpaque(map[string]string{"nonce": d.text(), "b": "x"}); err != nil {
			t.Fatal(err)
		}
	}
	return mpp.NewChallenge([]byte(secret), c)
}

// TestWireAgainstMppx: what package mpp writes, mppx reads, verifies and writes again as
// the same bytes; and what a client of mppx echoes is taken here.
func TestWireAgainstMppx(t *testing.T) {
	d := dice{rand.New(rand.NewPCG(1, 2))}
	q := question{Secret: secret}
	var lists [][]mpp.Challenge
	for range 300 {
		var list []mpp.Challenge
		var headers []string
		for range 1 + d.IntN(3) {
			c := d.challenge(t)
			list, headers = append(list, c), append(headers, c.String())
		}
		q.Credentials = append(q.Credentials, mpp.Credential{Challenge: list[0], Payload: json.RawMessage(`{"action":"voucher"}`)}.Encode())
		lists, q.Challenges = append(lists, list), append(q.Challenges, strings.Join(headers, d.pick(", ", ",", " , ")))
	}
	methods := []string{"bitcoin", "tempo", "*", "stripe"}
	for range 300 {
		var entries []string
		for range 1 + d.IntN(4) {
			entries = append(entries, d.pick(methods...)+"/"+d.pick("session", "charge", "*")+d.pick("", ";q=0", ";q=1", ";q=0.5", "; q=0.123", ";q=1.000", ";q=0.9"))
		}
		q.Accept = append(q.Accept, append([]string{strings.Join(entries, d.pick(",", ", "))}, "bitcoin/session", "tempo/charge", "tempo/session", "stripe/charge"))
	}
	for range 50 {
		r, err := mpp.EncodeReceipt(map[string]any{"method": "bitcoin", "status": "success", "reference": "x" + d.text(), "timestamp": "2026-01-02T03:04:05Z", "more": d.value(0)})
		if err != nil {
			t.Fatal(err)
		}
		q.Receipts = append(q.Receipts, r)
	}
	a := Install(t).mirror(t, q)

	for i, got := range a.Challenges {
		if got.Error != "" || len(got.OK) != len(lists[i]) {
			t.Fatalf("%s: %s", q.Challenges[i], got.Error)
		}
		ours, err := mpp.ParseChallenges([]string{q.Challenges[i]})
		if err != nil || !reflect.DeepEqual(ours, lists[i]) {
			t.Fatalf("%s: %v", q.Challenges[i], err)
		}
		for j, m := range got.OK {
			c := lists[i][j]
			again, err := mpp.ParseChallenges([]string{m.Header})
			if err != nil || !reflect.DeepEqual(again, []mpp.Challenge{c}) || m.Field != c.Field() {
				t.Errorf("mppx writes\n%s of\n%s", m.Header, c.String())
			}
			if !strings.Contains(c.Description, "é") && m.Header != c.String() { // Latin-1 is not escaped there
				t.Errorf("mppx writes\n%s of\n%s", m.Header, c.String())
			}
			if m.Verified != (c.Header == "") { // the eighth slot stands elsewhere there
				t.Errorf("%s: verified there: %v", c.String(), m.Verified)
			}
			cred, err := mpp.ParseCredential([]string{m.Credential})
			if err != nil || cred.Challenge != c || string(cred.Payload) != `{"action":"voucher","n":1}` {
				t.Errorf("of %s: %+v, %v", m.Credential, cred, err)
			}
			if err := cred.Challenge.Verify([]byte(secret)); err != nil {
				t.Error(err)
			}
		}
	}
	for i, got := range a.Credentials {
		if got.Error != "" || got.OK != lists[i][0].ID {
			t.Errorf("%s: %+v", q.Credentials[i], got)
		}
	}
	for i, got := range a.Accept {
		accept, err := mpp.ParseAccept([]string{q.Accept[i][0]})
		if err != nil || got.Error != "" {
			t.Fatalf("%s: %v, %s", q.Accept[i][0], err, got.Error)
		}
		var offers []mpp.Challenge
		for _, o := range q.Accept[i][1:] {
			method, intent, _ := strings.Cut(o, "/")
			offers = append(offers, mpp.Challenge{Method: method, Intent: intent})
		}
		ranked := []string{}
		for _, c := range accept.Rank(offers) {
			ranked = append(ranked, c.Method+"/"+c.Intent)
		}
		if fmt.Sprint(ranked) != fmt.Sprint(got.OK) {
			t.Errorf("%s: %v here, %v there", q.Accept[i][0], ranked, got.OK)
		}
	}
	for i, got := range a.Receipts {
		there, err := mpp.ParseReceipt([]string{got.OK})
		here, _ := mpp.ParseReceipt([]string{q.Receipts[i]})
		if err != nil || got.Error != "" || !reflect.DeepEqual(here, there) {
			t.Errorf("%s: %v %s", q.Receipts[i], err, got.Error)
		}
	}
}

// differ are what one side takes and the other does not: facts that
// docs/method-bitcoin-session.md lists. Whatever is not here both must take, or refuse.
var differ = []struct {
	header      string
	here, there bool
	why         string
}{
	{`Payment id="a", realm="r", method="m", intent="i", request="e30"`, true, true, "as it should be"},
	{`payment ID="a",REALM=r,method=m , intent = i, request="e30"`, true, true, "case, tokens and white space"},
	{`Basic realm="x", Payment id="a", realm="r", method="m", intent="i", request="e30"`, true, true, "another scheme first"},
	{`Payment id="a", realm="r", method="m", intent="i", request="e30", Basic realm="x"`, true, true, "another scheme last"},
	{`Payment id="a", realm="r", method="m", intent="i", request="e30", new="1"`, true, true, "an unknown parameter"},
	{`Payment id="a", realm="r", method="m", intent="i", request="e30", id="b"`, false, false, "a parameter twice"},
	{`Payment realm="r", method="m", intent="i", request="e30"`, false, false, "no id"},
	{`Payment id="", realm="r", method="m", intent="i", request="e30"`, false, false, "an empty id"},
	{`Payment id="a", method="m", intent="i", request="e30"`, false, false, "no realm"},
	{`Payment id="a", realm="r", method="M", intent="i", request="e30"`, false, false, "a method in upper case"},
	{`Payment id="a", realm="r", method="m", intent="i"`, false, false, "no request"},
	{`Payment id="a", realm="r", method="m", intent="i", request="W10"`, false, false, "a request that is no object"},
	{`Payment id="a", realm="r", method="m", intent="i", request="!"`, false, false, "a request that is no base64url"},
	{`Payment id="a", realm="r", method="m", intent="i", request="e30", expires="soon"`, false, false, "an expiry that is none"},
	{`Payment id="a", realm="r", method="m", intent="i", request="` + strings.Repeat("A", 17<<10) + `"`, false, false, "a request beyond 16 KiB"},
	{`Payment id="a", realm="r", method="m", intent="i", request="e30`, false, false, "an open quoted-string"},
	{`Payment id="a", realm="", method="m", intent="i", request="e30"`, false, true, "an empty realm"},
	{`Payment id="a", realm="r", method="m", intent="", request="e30"`, false, true, "an empty intent"},
	{`Payment id="a", realm="r", method="m", intent="i j", request="e30"`, false, true, "an intent with a space"},
	{`Payment id="a", realm="r", method="m", intent="i", request="e30="`, false, true, "padding in base64url"},
	{`Payment id="a", realm="r", method="m", intent="i", request="eyJhIjoxLCJhIjoyfQ"`, false, true, "a name twice in the request"},
	{`Payment id="a", realm="r", method="m", intent="i", request="e30", header="X-Other"`, false, true, "another field for the credential than Payment-Authorization"},
	{`Payment id="a", realm="r", method="m", intent="i", request="e30", opaque="!"`, false, true, "an opaque that is no base64url: it is not looked at there"},
	{`Payment id="a", realm="r", method="m", intent="i", request="e30", digest="md5=x"`, true, false, "a digest of another kind: here the method decides"},
	{`Payment id="a" realm="r" method="m" intent="i" request="e30"`, false, true, "no commas"},
	{`Payment id=a realm=r, method="m", intent="i", request="e30"`, false, false, "a token that goes on"},
	{`Payment id="a|b", realm="r|", method="m", intent="i", request="e30"`, false, true, "a bar in a slot"},
}

// TestWhereMppxDiffers holds the list of differences against mppx itself.
func TestWhereMppxDiffers(t *testing.T) {
	var q question
	for _, e := range differ {
		q.Bad = append(q.Bad, e.header)
	}
	a := Install(t).mirror(t, q)
	for i, e := range differ {
		_, err := mpp.ParseChallenges([]string{e.header})
		if (err == nil) != e.here {
			t.Errorf("%s: here %v", e.why, err)
		}
		if got := a.Bad[i]; (got.Error == "") != e.there {
			t.Errorf("%s: there %+v", e.why, got)
		}
	}
}
