package paywall_test

import (
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/spillway/spillway/internal/gateway/edgetest"
	"github.com/spillway/spillway/mpp"
	"github.com/spillway/spillway/mpp/bitcoin"
	"github.com/spillway/spillway/script"
)

const (
	chunk0 = "/f.bin?slice=0-999999"
	chunk1 = "/f.bin?slice=1000000-1999999"
	chunk2 = "/f.bin?slice=2000000-2999999"
)

// edge is a stand with an open taproot channel.
type edge struct {
	*edgetest.Stand
	id string
}

func newEdge(t *testing.T, cfg edgetest.Config) *edge {
	t.Helper()
	s := edgetest.New(t, cfg)
	return &edge{s, s.OpenChannel(script.Taproot)}
}

// want checks an answer's status and problem type.
func want(t *testing.T, r *edgetest.Reply, status int, kind string) {
	t.Helper()
	got := ""
	if r.Problem != nil {
		got = strings.TrimPrefix(r.Problem.Type, mpp.ProblemBase)
	}
	if r.Status != status || got != kind {
		t.Errorf("%d %q, want %d %q; %v", r.Status, got, status, kind, r.Problem)
	}
}

// stays checks that a request saves and broadcasts nothing.
func (e *edge) stays(t *testing.T, ask func() *edgetest.Reply) *edgetest.Reply {
	t.Helper()
	commits, sent := len(e.PayeeDisk.Commits()), len(e.Chain.Sent())
	r := ask()
	if n := len(e.PayeeDisk.Commits()); n != commits {
		t.Errorf("%d commits", n-commits)
	}
	if n := len(e.Chain.Sent()); n != sent {
		t.Errorf("%d broadcasts", n-sent)
	}
	return r
}

// ask is a GET of a chunk with a credential as it is.
func (e *edge) get(path, credential string, header http.Header) *edgetest.Reply {
	return e.Do(edgetest.Ask{Method: "GET", Path: path, Credential: credential, Header: header})
}

// Each refusal of http-402 is provoked once, has the right status, and changes
// nothing.
func TestEveryProblem(t *testing.T) {
	tests := []struct {
		name   string
		status int
		kind   string
		ask    func(t *testing.T, e *edge) *edgetest.Reply
	}{
		{"unpaid", 402, "payment-required", func(_ *testing.T, e *edge) *edgetest.Reply { return e.get(chunk0, "", nil) }},
		{"another scheme", 402, "payment-required", func(_ *testing.T, e *edge) *edgetest.Reply { return e.get(chunk0, "Basic YTpi", nil) }},
		{"no base64", 402, "malformed-credential", func(_ *testing.T, e *edge) *edgetest.Reply { return e.get(chunk0, "Payment ???", nil) }},
		{"nothing behind the scheme", 402, "malformed-credential", func(_ *testing.T, e *edge) *edgetest.Reply { return e.get(chunk0, "Payment", nil) }},
		{"no JSON", 402, "malformed-credential", func(_ *testing.T, e *edge) *edgetest.Reply {
			return e.get(chunk0, "Payment "+mpp.EncodeBase64([]byte("{")), nil)
		}},
		{"no such action", 402, "malformed-credential", func(_ *testing.T, e *edge) *edgetest.Reply {
			return e.get(chunk0, e.Forge(e.Quote("/f.bin").Challenge, e.VoucherOf(e.id), func(o map[string]any) { o["action"] = "grab" }), nil)
		}},
		{"an amount that is a number", 402, "malformed-credential", func(_ *testing.T, e *edge) *edgetest.Reply {
			return e.get(chunk0, e.Forge(e.Quote("/f.bin").Challenge, e.VoucherOf(e.id), func(o map[string]any) { o["cumulativeAmount"] = 7 }), nil)
		}},
		{"no MAC", 402, "malformed-credential", func(_ *testing.T, e *edge) *edgetest.Reply {
			return e.get(chunk0, e.Forge(e.Quote("/f.bin").Challenge, e.VoucherOf(e.id), func(o map[string]any) { delete(o, "mac") }), nil)
		}},
		{"top up", 400, "bad-request", func(t *testing.T, e *edge) *edgetest.Reply {
			r := e.Do(edgetest.Ask{Method: "POST", Path: "/f.bin", Credential: e.Forge(e.Quote("/f.bin").Challenge, e.VoucherOf(e.id), func(o map[string]any) { o["action"] = "topUp" })})
			if r.Problem == nil || !strings.Contains(r.Problem.Detail, "open a second one") {
				t.Errorf("%v", r.Problem)
			}
			return r
		}},
		{"a resume that asks for a chunk", 400, "bad-request", func(_ *testing.T, e *edge) *edgetest.Reply {
			return e.get(chunk0, e.Seal(e.Quote("/f.bin").Challenge, bitcoin.Resume{ChannelID: e.id}, ""), nil)
		}},
		{"a close by HEAD", 400, "", func(_ *testing.T, e *edge) *edgetest.Reply {
			v := e.VoucherOf(e.id)
			return e.Do(edgetest.Ask{Method: "HEAD", Path: "/f.bin", Credential: e.Seal(e.Quote("/f.bin").Challenge,
				bitcoin.Close{ChannelID: e.id, Signature: v.Signature}, "")})
		}},
		{"a voucher with a body", 400, "bad-request", func(_ *testing.T, e *edge) *edgetest.Reply {
			return e.Do(edgetest.Ask{Method: "POST", Path: "/f.bin", Body: "x", Credential: e.Seal(e.Quote("/f.bin").Challenge, e.VoucherOf(e.id), "")})
		}},
		{"a key that is none", 400, "bad-request", func(_ *testing.T, e *edge) *edgetest.Reply {
			return e.get(chunk0, e.Seal(e.Quote("/f.bin").Challenge, e.VoucherOf(e.id), "k"), http.Header{"Idempotency-Key": {strings.Repeat("k", 256)}})
		}},
		{"two keys", 400, "bad-request", func(_ *testing.T, e *edge) *edgetest.Reply {
			return e.get(chunk0, e.Seal(e.Quote("/f.bin").Challenge, e.VoucherOf(e.id), "k"), http.Header{"Idempotency-Key": {"k", "l"}})
		}},
		{"a challenge of another server", 402, "invalid-challenge", func(_ *testing.T, e *edge) *edgetest.Reply {
			return e.get(chunk0, e.Seal(mpp.NewChallenge([]byte("other"), e.Quote("/f.bin").Challenge), e.VoucherOf(e.id), ""), nil)
		}},
		{"a challenge with a later end", 402, "invalid-challenge", func(_ *testing.T, e *edge) *edgetest.Reply {
			c := e.Quote("/f.bin").Challenge
			c.Expires = mpp.FormatTime(e.Now().Add(24 * time.Hour))
			return e.get(chunk0, e.Seal(c, e.VoucherOf(e.id), ""), nil)
		}},
		{"a challenge of another realm", 402, "invalid-challenge", func(t *testing.T, e *edge) *edgetest.Reply {
			c := e.Quote("/f.bin").Challenge
			c.Realm = "elsewhere"
			secret, err := e.PayeeKeys.ChallengeSecret(0)
			must(t, err)
			return e.get(chunk0, e.Seal(mpp.NewChallenge(secret[:], c), e.VoucherOf(e.id), ""), nil)
		}},
		{"an old challenge", 402, "payment-expired", func(_ *testing.T, e *edge) *edgetest.Reply {
			c := e.Quote("/f.bin").Challenge
			e.Wait(11 * time.Minute)
			return e.get(chunk0, e.Seal(c, e.VoucherOf(e.id), ""), nil)
		}},
		{"an old price", 402, "verification-failed", func(_ *testing.T, e *edge) *edgetest.Reply {
			c := e.Quote("/f.bin").Challenge
			e.Reprice("1001sat/1MB")
			return e.get(chunk0, e.Seal(c, e.VoucherOf(e.id), ""), nil)
		}},
		{"a wrong MAC", 402, "session/signer-mismatch", func(_ *testing.T, e *edge) *edgetest.Reply {
			return e.get(chunk0, e.Forge(e.Quote("/f.bin").Challenge, e.VoucherOf(e.id), func(o map[string]any) { o["mac"] = strings.Repeat("00", 32) }), nil)
		}},
		{"a wrong signature", 402, "session/invalid-signature", func(_ *testing.T, e *edge) *edgetest.Reply {
			v := e.VoucherFor(e.id, 900)
			v.CumulativeAmount = 901
			return e.get(chunk0, e.Seal(e.Quote("/f.bin").Challenge, v, ""), nil)
		}},
		{"a stale amount with a wrong signature", 402, "session/invalid-signature", func(_ *testing.T, e *edge) *edgetest.Reply {
			v := e.VoucherOf(e.id)
			v.Signature = append([]byte{}, v.Signature...)
			v.Signature[3] ^= 1
			return e.get(chunk0, e.Seal(e.Quote("/f.bin").Challenge, v, ""), nil)
		}},
		{"above the capacity", 402, "session/amount-exceeds-deposit", func(_ *testing.T, e *edge) *edgetest.Reply {
			v := e.VoucherFor(e.id, 900)
			v.CumulativeAmount = 50_001
			return e.get(chunk0, e.Seal(e.Quote("/f.bin").Challenge, v, ""), nil)
		}},
		{"into the forbidden rest", 402, "session/amount-exceeds-deposit", func(_ *testing.T, e *edge) *edgetest.Reply {
			v := e.VoucherFor(e.id, 900)
			v.CumulativeAmount = 50_000 - 1
			return e.get(chunk0, e.Seal(e.Quote("/f.bin").Challenge, v, ""), nil)
		}},
		{"another channel", 410, "session/channel-not-found", func(t *testing.T, e *edge) *edgetest.Reply {
			other := e.Build(e.Quote("/f.bin"), script.Taproot)
			_, err := e.Payer.Opening(ctx, other)
			must(t, err)
			return e.get(chunk0, e.Seal(e.Quote("/f.bin").Challenge, e.VoucherOf(other), ""), nil)
		}},
		{"two chunks at a credit of one", 402, "session/insufficient-balance", func(t *testing.T, e *edge) *edgetest.Reply {
			r := e.get("/f.bin?slice=0-1000000", e.Seal(e.Quote("/f.bin").Challenge, e.VoucherOf(e.id), ""), nil)
			if r.Problem.String("requiredCumulative") != "1000" || r.Request.MethodDetails.RequiredCumulative != 1000 {
				t.Errorf("%v, challenge %+v", r.Problem.Extra, r.Request.MethodDetails)
			}
			return r
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			e := newEdge(t, edgetest.Config{})
			want(t, e.stays(t, func() *edgetest.Reply { return test.ask(t, e) }), test.status, test.kind)
			r, err := e.Payee.Record(ctx, e.id)
			must(t, err)
			if r.Paid != 0 || r.Charged != 0 {
				t.Errorf("paid %d, charged %d", r.Paid, r.Charged)
			}
		})
	}
}

// A channel that is over, or about to be, is told apart: 410, and 402.
func TestProblemsOfAnOldChannel(t *testing.T) {
	e := newEdge(t, edgetest.Config{})
	want(t, e.Pay("GET", chunk0, e.VoucherOf(e.id)), 200, "")
	r, err := e.Payee.Record(ctx, e.id)
	must(t, err)
	tip, err := e.Chain.Tip(ctx)
	must(t, err)
	e.Mine(int(r.Terms.Expiry - r.Terms.Margin - tip.Height))
	want(t, e.stays(t, func() *edgetest.Reply { return e.Pay("GET", chunk1, e.VoucherOf(e.id)) }), 402, "channel-expiring")
	want(t, e.Pay("HEAD", "/f.bin", e.VoucherFor(e.id, 1000)), 204, "") // what was delivered can be paid still
	must(t, e.StepPayee())
	e.Mine(7)
	must(t, e.StepPayee())
	want(t, e.Pay("GET", chunk1, e.VoucherFor(e.id, 1001)), 410, "session/channel-finalized")
	want(t, e.Pay("POST", "/f.bin", e.VoucherFor(e.id, 1001)), 410, "session/channel-finalized")
}

// An opening that breaks a rule is refused before T1 leaves, and stores nothing.
func TestProblemsOfAnOpening(t *testing.T) {
	tests := []struct {
		name   string
		status int
		kind   string
		edit   func(p *bitcoin.Open)
	}{
		{"a small capacity", 402, "verification-failed", func(p *bitcoin.Open) { p.Capacity = 1 }},
		{"a channel that is not offered", 402, "verification-failed", func(p *bitcoin.Open) { p.ChannelType = bitcoin.Duplex }},
		{"a rest that is no relayable script", 402, "verification-failed", func(p *bitcoin.Open) { p.RestScript = []byte{0x51} }},
		{"another outpoint", 402, "session/invalid-signature", func(p *bitcoin.Open) { p.ChannelID = "00" + p.ChannelID[2:] }},
		{"a first update that is not signed", 402, "session/invalid-signature", func(p *bitcoin.Open) { p.CumulativeAmount = 1 }},
		{"an offer of somebody else", 402, "invalid-challenge", func(p *bitcoin.Open) { p.Offer = mpp.NewChallenge([]byte("x"), p.Offer) }},
		{"an offer with a later expiry", 402, "invalid-challenge", func(p *bitcoin.Open) { p.Offer.Expires = "2099-01-01T00:00:00Z" }},
		{"another transaction", 402, "verification-failed", func(p *bitcoin.Open) {
			p.FundingTx = append([]byte{}, p.FundingTx...)
			p.FundingTx[len(p.FundingTx)-1]++ // lock time
		}},
		{"no transaction", 402, "verification-failed", func(p *bitcoin.Open) { p.FundingTx = make([]byte, 100) }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			e := &edge{Stand: edgetest.New(t, edgetest.Config{})}
			q := e.Quote("/f.bin")
			id := e.Build(q, script.Taproot)
			p := e.OpenOf(id)
			good := e.Seal(q.Challenge, p, "")
			test.edit(&p)
			mac, err := e.Payer.MACKey(ctx, id)
			must(t, err)
			raw, err := bitcoin.Seal(p, mac, q.Challenge.ID, "")
			must(t, err)
			bad := mpp.Credential{Challenge: q.Challenge, Payload: raw}.Encode()
			r := e.stays(t, func() *edgetest.Reply {
				return e.Do(edgetest.Ask{Method: "POST", Path: "/f.bin", Credential: bad})
			})
			want(t, r, test.status, test.kind)
			want(t, e.Do(edgetest.Ask{Method: "POST", Path: "/f.bin", Credential: good}), 200, "")
		})
	}
}

// A credential comes once, is understood or not, and is never too long.
func TestPitfall41_Credentials(t *testing.T) {
	e := newEdge(t, edgetest.Config{})
	good := func() string { return e.Seal(e.Quote("/f.bin").Challenge, e.VoucherOf(e.id), "") }
	one := good()
	for name, fields := range map[string][]string{
		"twice": {one, one}, "beside another": {one, "Basic YTpi"}, "in a list": {one + ", " + one}, "two different": {one, good()},
	} {
		r := e.stays(t, func() *edgetest.Reply { return e.get(chunk0, "", http.Header{"Authorization": fields}) })
		t.Run(name, func(t *testing.T) { want(t, r, 400, "malformed-credential") })
	}
	long := func(n int) string {
		return e.Forge(e.Quote("/f.bin").Challenge, e.VoucherOf(e.id), func(o map[string]any) { o["unknown"] = strings.Repeat("x", n) })
	}
	if n := len(long(3000)); n < 4096 {
		t.Fatalf("%d bytes are not enough to show anything", n)
	}
	want(t, e.stays(t, func() *edgetest.Reply { return e.get(chunk0, long(100_000), nil) }), 400, "malformed-credential")
	for _, n := range []int{3000, 30_000} {
		want(t, e.get(chunk0, long(n), nil), 200, "")
	}
	// beyond every credential the server does not even read it
	r := e.stays(t, func() *edgetest.Reply { return e.get(chunk0, long(2_000_000), nil) })
	if r.Status != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("status %d", r.Status)
	}
}

// The MAC covers the challenge, the action, the amount and the Idempotency-Key.
func TestMACCoversTheRequest(t *testing.T) {
	e := newEdge(t, edgetest.Config{})
	c := e.Quote("/f.bin").Challenge
	v := e.VoucherFor(e.id, 100)
	mac, err := e.Payer.MACKey(ctx, e.id)
	must(t, err)
	proof := func(challenge, action, amount, key string) string {
		return e.Forge(c, v, func(o map[string]any) { o["mac"] = bitcoin.MAC(mac, challenge, action, amount, key) })
	}
	for name, credential := range map[string]string{
		"another challenge": proof("x", "voucher", "100", "k"),
		"another action":    proof(c.ID, "resume", "100", "k"),
		"another amount":    proof(c.ID, "voucher", "101", "k"),
		"another key":       proof(c.ID, "voucher", "100", "l"),
		"no key":            proof(c.ID, "voucher", "100", ""),
	} {
		t.Run(name, func(t *testing.T) {
			r := e.stays(t, func() *edgetest.Reply {
				return e.Do(edgetest.Ask{Method: "GET", Path: chunk0, Credential: credential, Key: "k"})
			})
			want(t, r, 402, "session/signer-mismatch")
			if r.Problem.String("acceptedCumulative") != "" || r.Request.MethodDetails.Channel != nil {
				t.Errorf("somebody else is told %v", r.Problem.Extra)
			}
		})
	}
	r := e.Do(edgetest.Ask{Method: "GET", Path: chunk0, Credential: proof(c.ID, "voucher", "100", "k"), Key: "k"})
	want(t, r, 200, "")
	if r.Receipt == nil || r.Receipt.AcceptedCumulative != 100 {
		t.Errorf("%+v", r.Receipt)
	}
}

// A half-signature is money, not identity: whoever has seen one can pay with it, and
// cannot spend the payer's credit, resume or close. Pitfall 61, 24.
func TestPitfall61_SignaturesAreNoIdentity(t *testing.T) {
	e := newEdge(t, edgetest.Config{})
	want(t, e.Pay("GET", chunk0, e.VoucherOf(e.id)), 200, "")
	seen := e.VoucherFor(e.id, 1000)
	thief := strings.Repeat("11", 32)
	for name, p := range map[string]bitcoin.Payload{
		"voucher": seen,
		"resume":  bitcoin.Resume{ChannelID: e.id},
		"close":   bitcoin.Close{ChannelID: e.id, CumulativeAmount: 1000, Signature: seen.Signature, PayerNonce: make([]byte, 66)},
	} {
		method, path := "POST", "/f.bin"
		if name == "voucher" {
			method, path = "GET", chunk1
		}
		credential := e.Forge(e.Quote("/f.bin").Challenge, p, func(o map[string]any) { o["mac"] = thief })
		r := e.stays(t, func() *edgetest.Reply { return e.Do(edgetest.Ask{Method: method, Path: path, Credential: credential}) })
		want(t, r, 402, "session/signer-mismatch")
		if strings.Contains(string(r.Body), hex.EncodeToString(seen.Signature)) || r.Request.MethodDetails.Channel != nil {
			t.Errorf("%s: a thief learns %s", name, r.Body)
		}
	}
}

// Pitfall 24: a resume answers a challenge of now, and evicts nobody.
func TestPitfall24_ResumeProvesItself(t *testing.T) {
	e := newEdge(t, edgetest.Config{})
	want(t, e.Pay("GET", chunk0, e.VoucherOf(e.id)), 200, "")
	resume := func(c mpp.Challenge) string { return e.Seal(c, bitcoin.Resume{ChannelID: e.id}, "") }
	old := e.Quote("/f.bin").Challenge
	e.Wait(11 * time.Minute)
	want(t, e.stays(t, func() *edgetest.Reply {
		return e.Do(edgetest.Ask{Method: "POST", Path: "/f.bin", Credential: resume(old)})
	}), 402, "payment-expired")
	r := e.stays(t, func() *edgetest.Reply {
		return e.Do(edgetest.Ask{Method: "POST", Path: "/f.bin", Credential: resume(e.Quote("/f.bin").Challenge)})
	})
	want(t, r, 200, "")
	var a bitcoin.ResumeAnswer
	must(t, a.UnmarshalJSON(r.Body))
	if a.ChargedMsat != 1_000_000 || a.OwedMsat != 1_000_000 || a.RequiredCumulative != 1000 || a.CumulativeAmount != 0 {
		t.Errorf("%+v", a)
	}
	want(t, e.Pay("GET", chunk1, e.VoucherFor(e.id, 1000)), 200, "") // the live user goes on
}

// A voucher of one channel is none of another's.
func TestVoucherOfAnotherChannel(t *testing.T) {
	e := newEdge(t, edgetest.Config{})
	other := e.OpenChannel(script.Taproot)
	v := e.VoucherFor(other, 1000)
	v.ChannelID = e.id
	want(t, e.stays(t, func() *edgetest.Reply { return e.Pay("GET", chunk0, v) }), 402, "session/invalid-signature")
	credential := e.Forge(e.Quote("/f.bin").Challenge, e.VoucherFor(other, 1000), func(o map[string]any) { o["channelId"] = e.id })
	want(t, e.stays(t, func() *edgetest.Reply { return e.get(chunk0, credential, nil) }), 402, "session/signer-mismatch")
	for _, id := range []string{e.id, other} {
		if r, err := e.Payee.Record(ctx, id); err != nil || r.Paid != 0 || r.Charged != 0 {
			t.Errorf("%s: paid %d, charged %d, %v", id, r.Paid, r.Charged, err)
		}
	}
}

// What a refused request brought is kept: an update is money whatever becomes of
// the request that it came with.
func TestRefusedRequestsKeepTheirUpdate(t *testing.T) {
	e := newEdge(t, edgetest.Config{})
	refused := map[string]func(v bitcoin.Voucher) *edgetest.Reply{
		"expired": func(v bitcoin.Voucher) *edgetest.Reply {
			c := e.Quote("/f.bin").Challenge
			e.Wait(11 * time.Minute)
			return e.get(chunk0, e.Seal(c, v, ""), nil)
		},
		"old price": func(v bitcoin.Voucher) *edgetest.Reply {
			c := e.Quote("/f.bin").Challenge
			e.Reprice("1001sat/1MB")
			defer e.Reprice("1000sat/1MB")
			return e.get(chunk0, e.Seal(c, v, ""), nil)
		},
		"credit used up": func(v bitcoin.Voucher) *edgetest.Reply { return e.Pay("GET", "/f.bin?slice=0-2999999", v) },
	}
	paid := uint64(0)
	for name, ask := range refused {
		paid += 100
		r := ask(e.VoucherFor(e.id, paid))
		if r.Status != 402 || r.Problem.String("acceptedCumulative") != fmt.Sprint(paid) {
			t.Errorf("%s: %d %v", name, r.Status, r.Problem)
		}
		rec, err := e.Payee.Record(ctx, e.id)
		must(t, err)
		if rec.Paid != paid || rec.Charged != 0 {
			t.Errorf("%s: paid %d, charged %d", name, rec.Paid, rec.Charged)
		}
	}
}
