package paywall_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"testing"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/internal/gateway/edgetest"
	"github.com/spillway/spillway/mpp"
	"github.com/spillway/spillway/mpp/bitcoin"
	"github.com/spillway/spillway/paywall"
	"github.com/spillway/spillway/script"
)

// twoWay is a stand with an open duplex channel in which three chunks were bought, one
// of them paid back, and a fourth bought: epoch 3.
func twoWay(t *testing.T) (*edgetest.Stand, string, [4]channel.Update) {
	t.Helper()
	s := edgetest.New(t, edgetest.Config{Payee: allKinds(script.Duplex)})
	id := s.OpenChannel(script.Duplex)
	var signed [4]channel.Update
	newest := func(i int) {
		u, err := s.Payer.Newest(ctx, id)
		must(t, err)
		signed[i] = u
	}
	for i := range uint64(2) {
		newest(int(i))
		if r := s.Pay("GET", "/f.bin?slice="+sliceOf(i), s.VoucherOf(id)); r.Status != http.StatusOK {
			t.Fatalf("%d %v", r.Status, r.Problem)
		}
		s.Verified(id, 1_000_000)
	}
	newest(2)
	if r := s.Pay("HEAD", "/f.bin", s.VoucherOf(id)); r.Status != http.StatusNoContent {
		t.Fatalf("%d", r.Status)
	}
	_, err := s.Payee.Refund(ctx, id, "k", 1_000_000)
	must(t, err)
	_, err = s.Client.Resume(ctx, id, "", paywall.Expect{})
	must(t, err)
	if r := s.Pay("GET", "/f.bin?slice="+sliceOf(2), s.VoucherOf(id)); r.Status != http.StatusOK {
		t.Fatalf("%d %v", r.Status, r.Problem)
	}
	s.Verified(id, 1_000_000)
	newest(3)
	if r := s.Pay("HEAD", "/f.bin", s.VoucherOf(id)); r.Status != http.StatusNoContent {
		t.Fatalf("%d", r.Status)
	}
	if signed[2].Epoch != 1 || signed[3].Epoch != 3 || signed[3].Amount != 2_000 {
		t.Fatalf("signed %+v", signed)
	}
	return s, id, signed
}

func sliceOf(chunk uint64) string {
	return strconv.FormatUint(chunk*1_000_000, 10) + "-" + strconv.FormatUint(chunk*1_000_000+999_999, 10)
}

// What somebody may send who has seen, or made, older states: nothing of it moves the
// channel.
func TestDuplexAttacks(t *testing.T) {
	s, id, signed := twoWay(t)
	before, err := s.Payee.Record(ctx, id)
	must(t, err)
	edit := func(u channel.Update, change func(*bitcoin.Voucher)) bitcoin.Voucher {
		v := s.Voucher(id, u)
		change(&v)
		return v
	}
	for name, c := range map[string]struct {
		v      bitcoin.Voucher
		status int
		kind   string
	}{
		"an old epoch again":             {s.Voucher(id, signed[2]), http.StatusOK, ""},
		"the first state again":          {s.Voucher(id, signed[0]), http.StatusOK, ""},
		"the newest again":               {s.Voucher(id, signed[3]), http.StatusOK, ""},
		"more than was signed":           {edit(signed[3], func(v *bitcoin.Voucher) { v.CumulativeAmount++ }), 402, mpp.ProblemInvalidSignature},
		"an old state as a new one":      {edit(signed[2], func(v *bitcoin.Voucher) { v.Epoch, v.LockHeight = 3, s.Voucher(id, signed[3]).LockHeight }), 402, mpp.ProblemInvalidSignature},
		"another lock":                   {edit(signed[3], func(v *bitcoin.Voucher) { v.LockHeight++ }), 402, mpp.ProblemInvalidSignature},
		"an epoch that there is not":     {edit(signed[3], func(v *bitcoin.Voucher) { v.Epoch, v.LockHeight = 99_999_999, 1 }), 402, mpp.ProblemInvalidSignature},
		"an epoch out of turn":           {s.Voucher(id, signUnknown(t, s, id, 5, 2_500)), 402, mpp.ProblemVerificationFailed},
		"above the capacity":             {edit(signed[3], func(v *bitcoin.Voucher) { v.CumulativeAmount = 50_001 }), 402, mpp.ProblemAmountExceedsDeposit},
		"a rest below dust":              {edit(signed[3], func(v *bitcoin.Voucher) { v.CumulativeAmount = 49_999 }), 402, mpp.ProblemAmountExceedsDeposit},
		"no epoch":                       {edit(signed[3], func(v *bitcoin.Voucher) { v.Epoch, v.LockHeight = 0, 0 }), 402, mpp.ProblemInvalidSignature},
		"the payee's direction, to her":  {edit(before.Duplex.Sent, func(v *bitcoin.Voucher) { v.FromPayee = true }), 410, mpp.ProblemChannelNotFound},
		"the payee's direction, nothing": {bitcoin.Voucher{ChannelID: id, FromPayee: true}, 410, mpp.ProblemChannelNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			r := s.Pay("POST", "/f.bin", c.v)
			if kind := problemOf(r); r.Status != c.status || kind != c.kind {
				t.Fatalf("%d %s, want %d %s", r.Status, kind, c.status, c.kind)
			}
			after, err := s.Payee.Record(ctx, id)
			must(t, err)
			if after.Paid != before.Paid || after.Charged != before.Charged || after.Duplex.Held.Epoch != 3 || !bytes.Equal(after.Duplex.Held.Signature, before.Duplex.Held.Signature) {
				t.Fatalf("it moved the channel: %+v", after.Duplex)
			}
		})
	}
}

func problemOf(r *edgetest.Reply) string {
	if r.Problem == nil {
		return ""
	}
	return r.Problem.Type
}

// signUnknown is a state of the payer's that its driver would not make.
func signUnknown(t *testing.T, s *edgetest.Stand, id string, epoch uint32, amount uint64) channel.Update {
	t.Helper()
	r, err := s.Payer.Record(ctx, id)
	must(t, err)
	ch, err := r.Terms.Script()
	must(t, err)
	key, err := s.PayerKeys.PayerChannelKey(r.KeyIndex)
	must(t, err)
	u := channel.Update{Amount: amount, Epoch: epoch}
	state, err := r.Terms.Commitment(u)
	must(t, err)
	u.Signature, err = ch.SignState(key, state)
	must(t, err)
	return u
}

// A field of a sealed action that somebody on the way changes is noticed.
func TestDuplexMutatedFields(t *testing.T) {
	s, id, signed := twoWay(t)
	q := s.Quote("/f.bin")
	for name, c := range map[string]struct {
		p    bitcoin.Payload
		edit func(map[string]any)
		kind string
	}{
		"a resume's ledger":   {s.ResumeOf(id), func(o map[string]any) { o["chargedMsat"] = "0" }, mpp.ProblemSignerMismatch},
		"a resume's epoch":    {s.ResumeOf(id), func(o map[string]any) { o["epoch"] = json.Number("1") }, mpp.ProblemSignerMismatch},
		"a resume's lock":     {s.ResumeOf(id), func(o map[string]any) { o["lockHeight"] = json.Number("7") }, mpp.ProblemInvalidSignature},
		"a voucher's epoch":   {s.Voucher(id, signed[3]), func(o map[string]any) { o["epoch"] = json.Number("1") }, mpp.ProblemSignerMismatch},
		"a voucher's sender":  {s.Voucher(id, signed[3]), func(o map[string]any) { o["from"] = "payee" }, mpp.ProblemMalformedCredential},
		"a voucher, no epoch": {s.Voucher(id, signed[3]), func(o map[string]any) { delete(o, "epoch"); delete(o, "lockHeight") }, mpp.ProblemSignerMismatch},
	} {
		t.Run(name, func(t *testing.T) {
			r := s.Do(edgetest.Ask{Method: "POST", Path: "/f.bin", Credential: s.Forge(q.Challenge, c.p, c.edit)})
			if kind := problemOf(r); r.Status != 402 || kind != c.kind {
				t.Fatalf("%d %s, want 402 %s", r.Status, kind, c.kind)
			}
		})
	}
}

// liar changes the answers to resumes on their way.
type liar struct {
	next http.RoundTripper
	edit func(map[string]any)
}

func (l *liar) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := l.next.RoundTrip(r)
	if err != nil || r.Method != http.MethodPost || resp.StatusCode != http.StatusOK {
		return resp, err
	}
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var o map[string]any
	if err := d.Decode(&o); err != nil {
		return nil, err
	}
	l.edit(o)
	if raw, err = json.Marshal(o); err != nil {
		return nil, err
	}
	resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(raw)), int64(len(raw))
	resp.Header.Set("Content-Length", strconv.Itoa(len(raw)))
	return resp, nil
}

// What a provider shows that an honest one would not is not taken.
func TestDuplexLyingProvider(t *testing.T) {
	s, id, _ := twoWay(t)
	_, err := s.Payee.Refund(ctx, id, "second", 1_500_000)
	must(t, err)
	state := func(o map[string]any) map[string]any { return o["update"].(map[string]any) }
	other := "00"
	if id[:2] == other {
		other = "01"
	}
	before, err := s.Payer.Record(ctx, id)
	must(t, err)
	for name, edit := range map[string]func(map[string]any){
		"a state above the capacity":    func(o map[string]any) { state(o)["cumulativeAmount"] = "50001" },
		"a state that it did not sign":  func(o map[string]any) { state(o)["cumulativeAmount"] = "49600" },
		"a state of another epoch":      func(o map[string]any) { state(o)["epoch"] = json.Number("2") },
		"a state of the payer's epochs": func(o map[string]any) { state(o)["epoch"] = json.Number("5") },
		"another lock":                  func(o map[string]any) { state(o)["lockHeight"] = json.Number("9") },
		"half a state":                  func(o map[string]any) { delete(state(o), "signature") },
		"an update of mine, newer":      func(o map[string]any) { o["cumulativeAmount"] = "2001" },
		"another channel":               func(o map[string]any) { o["channelId"] = other + id[2:] },
	} {
		t.Run(name, func(t *testing.T) {
			web := paywall.DefaultHTTP()
			web.Transport = &liar{next: web.Transport, edit: edit}
			c, err := paywall.NewClient(paywall.ClientConfig{HTTP: web, Payer: s.Payer, Network: "regtest", Now: s.Now})
			must(t, err)
			if _, err := c.Resume(ctx, id, "", paywall.Expect{}); !errors.Is(err, paywall.ErrMisbehaved) {
				t.Fatalf("it was taken: %v", err)
			}
			after, err := s.Payer.Record(ctx, id)
			must(t, err)
			if after.Signed != before.Signed || after.Owed != before.Owed || after.Duplex.Back != before.Duplex.Back || after.Duplex.Held.Epoch != before.Duplex.Held.Epoch {
				t.Fatalf("it moved the channel: %+v", after.Duplex)
			}
		})
	}
	if _, err := s.Client.Resume(ctx, id, "", paywall.Expect{}); err != nil {
		t.Fatal(err)
	}
	after, err := s.Payer.Record(ctx, id)
	must(t, err)
	if after.Duplex.Held.Epoch != 4 || after.Signed != 500 || after.Owed != 500_000 {
		t.Fatalf("the true answer: %+v, signed %d sat, owed %d msat", after.Duplex, after.Signed, after.Owed)
	}
}

// A chunk that was charged and never arrived keeps a close from being agreed; nothing
// is final then.
func TestDuplexCloseAtTheLedger(t *testing.T) {
	s, id, _ := twoWay(t)
	s.Put("g.bin", edgetest.Pattern(1_000_000, 3))
	s.Reprice("1000sat/file")
	r := s.Pay("GET", "/g.bin?slice=0-999999", s.VoucherOf(id))
	if r.Status != http.StatusOK {
		t.Fatalf("%d %v", r.Status, r.Problem)
	}
	_, err := s.Client.Close(ctx, id, "", paywall.Expect{})
	var short *paywall.InsufficientError
	if !errors.As(err, &short) {
		t.Fatalf("closed while a chunk is under way: %v", err)
	}
	rec, err := s.Payee.Record(ctx, id)
	must(t, err)
	if rec.Phase != channel.Open {
		t.Fatalf("phase %s", rec.Phase)
	}
	s.Verified(id, 1_000_000) // it arrived
	if _, err := s.Client.Close(ctx, id, "", paywall.Expect{}); err != nil {
		t.Fatal(err)
	}
}
