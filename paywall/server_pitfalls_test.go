package paywall_test

import (
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/internal/gateway/edgetest"
	"github.com/spillway/spillway/mpp"
	"github.com/spillway/spillway/mpp/bitcoin"
	"github.com/spillway/spillway/payee"
	"github.com/spillway/spillway/paywall"
	"github.com/spillway/spillway/script"
)

// sealRaw is a credential for a payload that the payer's own code would not make.
func (e *edge) sealRaw(id string, c mpp.Challenge, p bitcoin.Payload) string {
	e.T.Helper()
	mac, err := e.Payer.MACKey(ctx, id)
	e.Must(err)
	raw, err := bitcoin.Seal(p, mac, c.ID, "")
	e.Must(err)
	return mpp.Credential{Challenge: c, Payload: raw}.Encode()
}

func (e *edge) post(credential string) *edgetest.Reply {
	e.T.Helper()
	return e.Do(edgetest.Ask{Method: "POST", Path: "/f.bin", Credential: credential})
}

// An unpaid request has no side effect, whatever it asks for.
func TestUnpaidHasNoSideEffect(t *testing.T) {
	e := &edge{Stand: edgetest.New(t, edgetest.Config{})}
	for _, method := range []string{"GET", "HEAD", "POST", "OPTIONS", "PUT", "DELETE", "PATCH", "BREW"} {
		for _, path := range []string{"/", "/f.bin", "/f.bin?manifest", chunk0, "/f.bin?slice=9-1", "/f.bin?slice=x", "/nothing", "/../etc/passwd", "/f.bin/"} {
			r := e.stays(t, func() *edgetest.Reply { return e.Do(edgetest.Ask{Method: method, Path: path}) })
			if r.Status >= 500 || r.Receipt != nil {
				t.Errorf("%s %s: %d", method, path, r.Status)
			}
		}
	}
}

// Pitfall 4: what the channel holds is what the chain shows, not what is claimed.
func TestPitfall04_ClaimsAreChecked(t *testing.T) {
	for name, edit := range map[string]func(e *edge, p *bitcoin.Open, terms *channel.Terms){
		"a larger capacity": func(_ *edge, p *bitcoin.Open, terms *channel.Terms) { p.Capacity = 60_000; terms.Capacity = 60_000 },
		"another output": func(_ *edge, p *bitcoin.Open, terms *channel.Terms) {
			terms.Outpoint.Index ^= 1
			p.ChannelID = terms.ID()
		},
		"another expiry": func(e *edge, p *bitcoin.Open, terms *channel.Terms) {
			e.Mine(3)
			q := e.Quote("/f.bin")
			p.Offer, terms.Expiry, terms.PayeeKey, terms.Nonce = q.Challenge, q.Offer.Expiry, q.Offer.PayeeKey, q.Offer.Nonce
		},
	} {
		t.Run(name, func(t *testing.T) {
			e := &edge{Stand: edgetest.New(t, edgetest.Config{})}
			id := e.Build(e.Quote("/f.bin"), script.Taproot)
			p := e.OpenOf(id)
			must(t, e.Payer.Publish(ctx, id))
			e.Mine(6)
			rec, err := e.Payer.Record(ctx, id)
			must(t, err)
			terms := rec.Terms
			edit(e, &p, &terms)
			ch, err := terms.Script()
			must(t, err)
			key, err := e.PayerKeys.PayerChannelKey(rec.KeyIndex)
			must(t, err)
			p.Signature, err = ch.SignHalf(key, int64(terms.Capacity))
			must(t, err)
			p.FundingTx = nil
			mac, err := bitcoin.MACKey(key, terms.PayeeKey)
			must(t, err)
			c := e.Quote("/f.bin").Challenge
			raw, err := bitcoin.Seal(p, mac, c.ID, "")
			must(t, err)
			r := e.stays(t, func() *edgetest.Reply { return e.post(mpp.Credential{Challenge: c, Payload: raw}.Encode()) })
			if r.Status != 402 || r.Problem.Type == mpp.ProblemInvalidSignature {
				t.Errorf("%d %v", r.Status, r.Problem)
			}
			if all, err := e.Payee.Records(ctx); err != nil || len(all) != 0 {
				t.Errorf("%d channels, %v", len(all), err)
			}
		})
	}
}

// Pitfall 5: one outpoint, one K2, one channel; a repeat gets the same answer, other
// content a refusal, also when they come at once.
func TestPitfall05_OpenedOnce(t *testing.T) {
	e := &edge{Stand: edgetest.New(t, edgetest.Config{})}
	q := e.Quote("/f.bin")
	id := e.Build(q, script.Taproot)
	p := e.OpenOf(id)
	var group sync.WaitGroup
	answers := make([]*edgetest.Reply, 16)
	for i := range answers {
		group.Add(1)
		go func() {
			defer group.Done()
			answers[i] = e.post(e.Seal(q.Challenge, p, ""))
		}()
	}
	group.Wait()
	for _, r := range answers {
		want(t, r, 200, "")
		if string(r.Body) != string(answers[0].Body) {
			t.Errorf("%s and %s", r.Body, answers[0].Body)
		}
	}
	if n := len(e.PayeeDisk.Commits()); n != 1 {
		t.Errorf("%d commits", n)
	}
	u := e.Update(id, 7)
	p.CumulativeAmount, p.Signature = u.Amount, u.Signature
	want(t, e.stays(t, func() *edgetest.Reply { return e.post(e.Seal(q.Challenge, p, "")) }), 402, "verification-failed")
	// the same K2 for another output
	other := e.Build(q, script.Taproot)
	want(t, e.stays(t, func() *edgetest.Reply { return e.post(e.Seal(q.Challenge, e.OpenOf(other), "")) }), 402, "verification-failed")
}

// Pitfall 6: openings whose T1 is not seen leave nothing, and only so many channels
// wait for their confirmations; either client is told to come again.
func TestPitfall06_FloodsAtTheEdge(t *testing.T) {
	e := &edge{Stand: edgetest.New(t, edgetest.Config{Payee: func(c *payee.Config) { c.MaxPending = 1 }})}
	for range 20 {
		p := e.OpenOf(e.Build(e.Quote("/f.bin"), script.Taproot))
		p.FundingTx = nil // only its id: the payer says that it broadcasts, and does not
		r := e.stays(t, func() *edgetest.Reply { return e.post(e.sealRaw(p.ChannelID, e.Quote("/f.bin").Challenge, p)) })
		want(t, r, 402, "channel-unconfirmed")
		if r.Header.Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
		rec, err := e.Payer.Record(ctx, p.ChannelID)
		must(t, err)
		tx, err := channel.DecodeTx(rec.FundingTx)
		must(t, err)
		must(t, e.Wallet.Release(ctx, tx)) // its coins are for the next one
	}
	if targets, err := e.Payee.Watched(ctx); err != nil || len(targets) != 0 {
		t.Errorf("%d are watched, %v", len(targets), err)
	}
	open := func(id string) *edgetest.Reply { return e.post(e.Seal(e.Quote("/f.bin").Challenge, e.OpenOf(id), "")) }
	first := e.Build(e.Quote("/f.bin"), script.Taproot)
	want(t, open(first), 200, "")
	second := e.Build(e.Quote("/f.bin"), script.Taproot)
	r := open(second)
	want(t, r, 402, "channel-unconfirmed")
	if r.Header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	e.Mine(1)
	want(t, open(second), 200, "")
}

// Pitfalls 7 and 65: until T1 is deep enough, and again when a reorg takes that away,
// nothing is delivered, however much was signed; updates are kept.
func TestPitfall07_65_NoMoneyBeforeDepth(t *testing.T) {
	e := &edge{Stand: edgetest.New(t, edgetest.Config{})}
	q := e.Quote("/f.bin")
	e.id = e.Build(q, script.Taproot)
	want(t, e.post(e.Seal(q.Challenge, e.OpenOf(e.id), "")), 200, "")
	unconfirmed := func(amount uint64) {
		t.Helper()
		r := e.Pay("GET", chunk0, e.VoucherFor(e.id, amount))
		want(t, r, 402, "channel-unconfirmed")
		if r.Header.Get("Retry-After") == "" || r.Problem.String("acceptedCumulative") != fmt.Sprint(amount) || r.Problem.String("chargedMsat") != "0" {
			t.Errorf("%v", r.Problem.Extra)
		}
	}
	unconfirmed(5000)
	want(t, e.Pay("HEAD", "/f.bin", e.VoucherFor(e.id, 6000)), 204, "")
	e.Mine(1)
	must(t, e.Chain.Reorg(1, 2)) // T1 is back in the mempool, or mined again
	tx, err := e.Chain.Tx(ctx, edgetest.OutPoint(mustOutpoint(t, e.id)).Hash)
	must(t, err)
	if !tx.Confirmed {
		unconfirmed(7000)
		e.Mine(1)
	}
	want(t, e.Pay("GET", chunk0, e.VoucherFor(e.id, 7000)), 200, "")
	must(t, e.Chain.Reorg(3, 4))
	e.Wait(time.Minute)
	if tx, err = e.Chain.Tx(ctx, edgetest.OutPoint(mustOutpoint(t, e.id)).Hash); err != nil || tx.Confirmed {
		t.Fatalf("T1: %+v, %v", tx, err)
	}
	r := e.Pay("GET", chunk1, e.VoucherFor(e.id, 8000))
	want(t, r, 402, "channel-unconfirmed")
	if r.Problem.String("chargedMsat") != "1000000" || r.Problem.String("acceptedCumulative") != "8000" {
		t.Errorf("%v", r.Problem.Extra)
	}
	e.Mine(1)
	want(t, e.Pay("GET", chunk1, e.VoucherFor(e.id, 8000)), 200, "")
}

func mustOutpoint(t *testing.T, id string) channel.Outpoint {
	t.Helper()
	o, err := channel.ParseOutpoint(id)
	must(t, err)
	return o
}

// Pitfall 69: an opening whose challenge ended while T1 was under way is taken on a
// fresh challenge, for a day; one whose T1 is not seen changes nothing.
func TestPitfall69_OffersOutliveTheirChallenge(t *testing.T) {
	for wait, status := range map[time.Duration]int{11 * time.Minute: 200, 24 * time.Hour: 200, 25 * time.Hour: 402} {
		e := &edge{Stand: edgetest.New(t, edgetest.Config{})}
		q := e.Quote("/f.bin")
		id := e.Build(q, script.Taproot)
		p := e.OpenOf(id)
		full := p
		p.FundingTx = nil
		want(t, e.stays(t, func() *edgetest.Reply { return e.post(e.sealRaw(id, q.Challenge, p)) }), 402, "channel-unconfirmed")
		must(t, e.Payer.Publish(ctx, id))
		e.Wait(wait)
		// the old challenge is over for every action; the offer in it is not
		want(t, e.stays(t, func() *edgetest.Reply { return e.post(e.Seal(q.Challenge, full, "")) }), 402, "payment-expired")
		r := e.post(e.sealRaw(id, e.Quote("/f.bin").Challenge, p))
		kind := ""
		if status == 402 {
			kind = "payment-expired"
		}
		want(t, r, status, kind)
	}
}

// After a restore an opening on an offer from before is taken, of whatever age, for
// updates and settlement only; one of an epoch that is not known is refused, and
// nothing is prepared on either.
func TestPitfall62_OffersFromBeforeARestore(t *testing.T) {
	restored := false
	e := &edge{}
	e.Stand = edgetest.New(t, edgetest.Config{Paywall: func(c *paywall.ServerConfig) {
		if restored {
			c.Before = [][32]byte{{1}, c.Secret}
			c.Secret = [32]byte{2}
		}
	}})
	q := e.Quote("/f.bin")
	id := e.Build(q, script.Taproot)
	p := e.OpenOf(id)
	restored = true
	e.Restart()
	e.Wait(30 * time.Hour)
	want(t, e.stays(t, func() *edgetest.Reply { return e.post(e.sealRaw(id, q.Challenge, p)) }), 402, "invalid-challenge")
	unknown := p
	unknown.Offer = mpp.NewChallenge([]byte{3}, p.Offer)
	want(t, e.stays(t, func() *edgetest.Reply { return e.post(e.sealRaw(id, e.Quote("/f.bin").Challenge, unknown)) }), 402, "invalid-challenge")
	want(t, e.post(e.sealRaw(id, e.Quote("/f.bin").Challenge, p)), 200, "")
	rec, err := e.Payee.Record(ctx, id)
	if err != nil || !rec.Restored || rec.Place {
		t.Fatalf("taken as %+v, %v", rec, err)
	}
	e.Mine(1)
	r := e.get(chunk0, e.Seal(e.Quote("/f.bin").Challenge, e.VoucherFor(id, 1000), ""), nil)
	if r.Status/100 == 2 {
		t.Fatalf("delivered on it: %d", r.Status)
	}
	if rec, err = e.Payee.Record(ctx, id); err != nil || rec.Paid != 1000 || rec.Charged != 0 {
		t.Fatalf("paid %d sat, charged %d msat, %v", rec.Paid, rec.Charged, err)
	}
}

// Pitfalls 54 and 75: a retry is none of a new request, whether it is the same to the
// byte, or has another key, another challenge, or asks for a part: a chunk is
// charged once per channel.
func TestPitfall54_75_RetriesAreFree(t *testing.T) {
	e := newEdge(t, edgetest.Config{})
	c := e.Quote("/f.bin").Challenge
	asks := []edgetest.Ask{
		{Method: "GET", Path: chunk0, Credential: e.Seal(c, e.VoucherOf(e.id), "k"), Key: "k"},
		{Method: "GET", Path: chunk0, Credential: e.Seal(c, e.VoucherOf(e.id), "k"), Key: "k"},
		{Method: "GET", Path: chunk0, Credential: e.Seal(c, e.VoucherOf(e.id), "l"), Key: "l"},
		{Method: "GET", Path: chunk0, Credential: e.Seal(e.Quote("/f.bin").Challenge, e.VoucherOf(e.id), "")},
		{Method: "GET", Path: "/f.bin?slice=500000-500000", Credential: e.Seal(c, e.VoucherOf(e.id), "")},
		{Method: "GET", Path: "/f.bin", Header: http.Header{"Range": {"bytes=10-19"}}, Credential: e.Seal(c, e.VoucherOf(e.id), "")},
	}
	for i, a := range asks {
		r := e.Do(a)
		units := uint64(0)
		if i == 0 {
			units = 1
		}
		if r.Status/100 != 2 || r.Receipt == nil || r.Receipt.ChargedMsat != 1_000_000 || r.Receipt.Units != units {
			t.Errorf("%d: %d %+v %v", i, r.Status, r.Receipt, r.Problem)
		}
		if i == 2 {
			e.Restart()
		}
	}
	// the same voucher for another chunk is no replay, and no credit is left
	want(t, e.stays(t, func() *edgetest.Reply { return e.Pay("GET", chunk1, e.VoucherOf(e.id)) }), 402, "session/insufficient-balance")
	// what was charged among what is asked for is named: it is free
	r := e.Pay("GET", "/f.bin?slice=0-1999999", e.VoucherOf(e.id))
	want(t, r, 402, "session/insufficient-balance")
	if free := fmt.Sprint(r.Problem.Extra["chargedChunks"]); free != "[0]" || r.Problem.String("owedMsat") != "1000000" || r.Problem.String("requiredCumulative") != "1000" {
		t.Errorf("%v", r.Problem.Extra)
	}
}

// Pitfall 71: a chunk that the capacity, or the forbidden rest, does not allow to be
// paid is neither charged nor delivered.
func TestPitfall71_UnpayableChunks(t *testing.T) {
	for price, chunks := range map[string]int{"20000sat/1MB": 2, "16600sat/1MB": 2, "25000sat/1MB": 2, "16500sat/1MB": 3} {
		e := newEdge(t, edgetest.Config{Price: price, Payee: func(c *payee.Config) { c.Dearest = func() uint64 { return 25_000_000 } }})
		paid := uint64(0)
		each := e.Quote("/f.bin").Request.Amount
		for i, path := range []string{chunk0, chunk1, chunk2} {
			r := e.Pay("GET", path, e.VoucherFor(e.id, paid))
			if i < chunks {
				want(t, r, 200, "")
				paid += each
				continue
			}
			want(t, r, 402, "session/amount-exceeds-deposit")
			rec, err := e.Payee.Record(ctx, e.id)
			must(t, err)
			if rec.Charged != uint64(chunks)*each*1000 || rec.Paid != paid {
				t.Errorf("%s: charged %d, paid %d", price, rec.Charged, rec.Paid)
			}
		}
	}
}

// Pitfall 23: where the save fails nothing is released and no receipt is given; where
// only its answer is lost the repeat is free.
func TestPitfall23_SavedFirst(t *testing.T) {
	broken := errors.New("no space")
	e := newEdge(t, edgetest.Config{})
	fails := func(r *edgetest.Reply) {
		t.Helper()
		if r.Status != 503 || r.Receipt != nil || len(r.Body) > 1000 || r.Header.Get("Retry-After") == "" {
			t.Fatalf("%d %+v, %d bytes", r.Status, r.Receipt, len(r.Body))
		}
	}
	e.PayeeDisk.FailNext(broken)
	fails(e.Pay("GET", chunk0, e.VoucherOf(e.id)))
	if rec, err := e.Payee.Record(ctx, e.id); err != nil || rec.Charged != 0 {
		t.Fatalf("charged %d, %v", rec.Charged, err)
	}
	e.PayeeDisk.FailButPersistNext(broken)
	fails(e.Pay("GET", chunk0, e.VoucherOf(e.id)))
	r := e.Pay("GET", chunk0, e.VoucherOf(e.id))
	if r.Status != 200 || r.Receipt.ChargedMsat != 1_000_000 || r.Receipt.Units != 0 {
		t.Fatalf("%d %+v", r.Status, r.Receipt)
	}
	e.PayeeDisk.FailNext(broken)
	fails(e.Pay("HEAD", "/f.bin", e.VoucherFor(e.id, 1000)))
	want(t, e.Pay("HEAD", "/f.bin", e.VoucherFor(e.id, 1000)), 204, "")
	e.PayeeDisk.FailNext(broken)
	c, err := e.Payer.BeginClose(ctx, e.id)
	must(t, err)
	u := e.VoucherFor(e.id, 1000)
	closing := bitcoin.Close{ChannelID: e.id, CumulativeAmount: 1000, Signature: u.Signature, PayerNonce: c.Nonce[:]}
	fails(e.post(e.Seal(e.Quote("/f.bin").Challenge, closing, "")))
	want(t, e.Pay("GET", chunk0, u), 200, "") // it did not close
	want(t, e.post(e.Seal(e.Quote("/f.bin").Challenge, closing, "")), 200, "")
	want(t, e.Pay("GET", chunk0, u), 410, "session/channel-finalized")
}

// A stale and an equal voucher are successes without effect, in any order.
func TestStaleVouchers(t *testing.T) {
	e := newEdge(t, edgetest.Config{})
	for _, amount := range []uint64{500, 500, 400, 0, 501, 500} {
		r := e.Pay("POST", "/f.bin", e.VoucherFor(e.id, amount))
		if r.Status != 200 || r.Receipt.AcceptedCumulative < 500 {
			t.Errorf("%d: %d %+v", amount, r.Status, r.Receipt)
		}
	}
	if rec, err := e.Payee.Record(ctx, e.id); err != nil || rec.Paid != 501 {
		t.Errorf("paid %d, %v", rec.Paid, err)
	}
}

// prepare, open and close take effect once: a repeat gets the same answer, also from
// the next process.
func TestActionsTakeEffectOnce(t *testing.T) {
	for _, kind := range []script.Construction{script.Taproot, script.Multisig, script.MultisigP2SH} {
		e := &edge{Stand: edgetest.New(t, edgetest.Config{})}
		q := e.Quote("/f.bin")
		e.id = e.Build(q, kind)
		twice := func(p bitcoin.Payload) {
			t.Helper()
			first := e.post(e.Seal(q.Challenge, p, ""))
			commits := len(e.PayeeDisk.Commits())
			e.Restart()
			again := e.Do(edgetest.Ask{Method: "POST", Path: "/f.bin", Key: "again", Credential: e.Seal(e.challengeFor(p, q.Challenge), p, "again")})
			if first.Status != 200 || again.Status != 200 || string(first.Body) != string(again.Body) {
				t.Errorf("%s %s: %d %s, then %d %s", kind, p.Action(), first.Status, first.Body, again.Status, again.Body)
			}
			if p.Action() != "close" && len(e.PayeeDisk.Commits()) != commits {
				t.Errorf("%s %s: saved again", kind, p.Action())
			}
		}
		if kind != script.Taproot {
			twice(e.PrepareOf(e.id))
			e.SignRefundOf(q, e.id)
		}
		twice(e.OpenOf(e.id))
		_, err := e.Chain.Mine(1)
		must(t, err)
		want(t, e.get(chunk0, e.Seal(q.Challenge, e.VoucherOf(e.id), ""), nil), 200, "")
		e.Verified(e.id, 1_000_000)
		c, err := e.Payer.BeginClose(ctx, e.id)
		must(t, err)
		p := bitcoin.Close{ChannelID: e.id, CumulativeAmount: c.Update.Amount, Signature: c.Update.Signature}
		if kind == script.Taproot {
			p.PayerNonce = c.Nonce[:]
		}
		twice(p)
	}
}

// challengeFor is a fresh challenge, but for a prepare, which needs its own.
func (e *edge) challengeFor(p bitcoin.Payload, own mpp.Challenge) mpp.Challenge {
	if p.Action() == "prepare" {
		return own
	}
	return e.Quote("/f.bin").Challenge
}
