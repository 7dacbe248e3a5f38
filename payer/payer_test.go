package payer_test

import (
	"context"
	"crypto/rand"
	"errors"
	"testing"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/internal/pairtest"
	"github.com/spillway/spillway/payee"
	"github.com/spillway/spillway/payer"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/store"
	"github.com/spillway/spillway/wallet"
)

const price = pairtest.Price

var free = channel.Limits{Budget: channel.MaxSat}

func wantErr(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error %v, want %v", err, want)
	}
}

func wantNil(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func record(t *testing.T, p *pairtest.Pair, id string) channel.PayerRecord {
	t.Helper()
	r, err := p.Payer.Record(t.Context(), id)
	wantNil(t, err)
	return r
}

// TestPitfall08_SavedBeforeSent: the channel and all that its refund needs is saved before
// T1 or the opening leaves; what is not saved does not leave.
func TestPitfall08_SavedBeforeSent(t *testing.T) {
	p := pairtest.New(t)
	r := p.Prepare(p.Offer(), script.Taproot)
	id := r.Terms.ID()
	if len(p.Chain.Sent()) > 0 {
		t.Fatal("T1 left with its preparation")
	}
	p.RestartPayer()
	if _, err := p.Payer.EarlyRefund(t.Context(), id); err != nil {
		t.Fatalf("the refund can't be made of what is saved: %v", err)
	}
	wantErr(t, p.Payer.Publish(t.Context(), id), channel.ErrTerms) // not before `open` is saved
	p.PayerDisk.FailNext(store.ErrFull)
	_, err := p.Payer.Opening(t.Context(), id)
	wantErr(t, err, store.ErrFull)
	_, err = p.Payer.Opening(t.Context(), id)
	wantNil(t, err)
	p.PayerDisk.FailNext(store.ErrFull)
	wantErr(t, p.Payer.Publish(t.Context(), id), store.ErrFull)
	if len(p.Chain.Sent()) > 0 {
		t.Fatal("T1 left although that was not saved")
	}
	p.Chain.Down(true)
	wantErr(t, p.Payer.Publish(t.Context(), id), chain.ErrUnavailable)
	p.Chain.Down(false)
	p.RestartPayer()
	if !record(t, p, id).FundingSent {
		t.Fatal("it is not known that T1 may have left")
	}
	wantNil(t, p.StepPayer()) // the watch sends it again
	if _, err := p.Chain.Tx(t.Context(), r.Terms.Outpoint.Hash); err != nil {
		t.Fatal(err)
	}
}

// A preparation that fails leaves no coin reserved and no channel.
func TestFailedPreparation(t *testing.T) {
	p := pairtest.New(t)
	o := p.Offer()
	for name, change := range map[string]func(*payer.OpenRequest){
		"more than the coins":    func(q *payer.OpenRequest) { q.Capacity = 10_000_000 },
		"more than there is":     func(q *payer.OpenRequest) { q.Capacity = channel.MaxSat + 1 },
		"less than offered":      func(q *payer.OpenRequest) { q.Capacity = q.Offer.MinDeposit - 1 },
		"another network":        func(q *payer.OpenRequest) { q.Offer.Network = "mainnet" },
		"a kind not offered":     func(q *payer.OpenRequest) { q.Offer.Constructions = []script.Construction{script.Multisig} },
		"an unknown kind":        func(q *payer.OpenRequest) { q.Construction = "duplex" },
		"a far expiry":           func(q *payer.OpenRequest) { q.Offer.Expiry += 5000 },
		"a key that is no point": func(q *payer.OpenRequest) { q.Offer.PayeeKey = channel.Key{2} },
	} {
		q := payer.OpenRequest{Offer: o, Construction: script.Taproot, Capacity: pairtest.Capacity}
		change(&q)
		if _, err := p.Payer.Prepare(t.Context(), q); err == nil {
			t.Errorf("%s: prepared", name)
		}
	}
	if held, err := p.Wallet.Reservations(t.Context()); err != nil || len(held) > 0 {
		t.Fatalf("%v, %v", held, err)
	}
	if records, err := p.Payer.Records(t.Context()); err != nil || len(records) > 0 {
		t.Fatalf("%v, %v", records, err)
	}
	q := payer.OpenRequest{Offer: o, Construction: script.Taproot, Capacity: 10_000_000}
	_, err := p.Payer.Prepare(t.Context(), q)
	wantErr(t, err, wallet.ErrInsufficient)
}

// Keys are never used twice, not by two processes on one folder either.
func TestKeysAreFresh(t *testing.T) {
	p := pairtest.New(t)
	o := p.Offer()
	first := p.Payer
	p.RestartPayer() // another process
	seen := map[channel.Key]bool{}
	for _, driver := range []*payer.Payer{first, p.Payer, first} {
		r, err := driver.Prepare(t.Context(), payer.OpenRequest{Offer: o, Construction: script.Taproot, Capacity: pairtest.Capacity})
		wantNil(t, err)
		if seen[r.Terms.PayerKey] {
			t.Fatal("a key twice")
		}
		seen[r.Terms.PayerKey] = true
	}
}

// meddled runs something between a reading of the next key and its save.
type meddled struct {
	*pairtest.Disk
	between func()
}

func (m *meddled) Get(ctx context.Context, bucket, key string) (store.Entry, error) {
	e, err := m.Disk.Get(ctx, bucket, key)
	if between := m.between; bucket == "payer/meta" && between != nil {
		m.between = nil
		between()
	}
	return e, err
}

// Two processes that take a key at the same moment get two keys.
func TestKeysAreFreshAtOnce(t *testing.T) {
	p := pairtest.New(t)
	q := payer.OpenRequest{Offer: p.Offer(), Construction: script.Taproot, Capacity: pairtest.Capacity}
	var other channel.PayerRecord
	disk := &meddled{Disk: p.PayerDisk, between: func() {
		var err error
		other, err = p.Payer.Prepare(t.Context(), q)
		wantNil(t, err)
	}}
	driver, err := payer.New(payer.Config{
		Store: disk, Keys: p.PayerKeys, Wallet: p.Wallet, Chain: p.Chain, Network: "regtest", Policy: p.Policy, Rand: rand.Reader,
	})
	wantNil(t, err)
	mine, err := driver.Prepare(t.Context(), q)
	wantNil(t, err)
	if mine.Terms.PayerKey == other.Terms.PayerKey || mine.KeyIndex == other.KeyIndex {
		t.Fatal("two channels with one key")
	}
}

// TestPitfall72_OpeningIsRepeatedUnchanged: an opening that is not answered is repeated to the
// byte, T1 included, also after a restart.
func TestPitfall72_OpeningIsRepeatedUnchanged(t *testing.T) {
	p := pairtest.New(t)
	for _, kind := range []script.Construction{script.Taproot, script.Multisig} {
		o := p.Offer()
		r := p.Prepare(o, kind)
		if kind == script.Multisig {
			_, err := p.Payer.Opening(t.Context(), r.Terms.ID())
			wantErr(t, err, channel.ErrTerms) // the refund is not signed yet
			p.SignRefund(o, r)
		}
		first, err := p.Payer.Opening(t.Context(), r.Terms.ID())
		wantNil(t, err)
		p.RestartPayer()
		again, err := p.Payer.Opening(t.Context(), r.Terms.ID())
		wantNil(t, err)
		if first.Update.Signature.String() != again.Update.Signature.String() || first.FundingTx.String() != again.FundingTx.String() {
			t.Fatalf("%s: another opening", kind)
		}
	}
}

// TestPitfall51_RefundIsMadeLate: the refund is built at the rate of its time, and raised,
// from one signature that the payee gave at the opening.
func TestPitfall51_RefundIsMadeLate(t *testing.T) {
	for _, kind := range []script.Construction{script.Taproot, script.Multisig, script.MultisigP2SH} {
		p := pairtest.New(t)
		id := p.Open(kind)
		r := record(t, p, id)
		_, err := p.Payer.Refund(t.Context(), id)
		wantErr(t, err, channel.ErrNotYet)
		tip, err := p.Chain.Tip(t.Context())
		wantNil(t, err)
		p.Mine(int(r.Terms.Expiry - tip.Height))
		p.Chain.SetFeeRate(script.FeeRatePerVB(40))
		first, err := p.Payer.Refund(t.Context(), id)
		wantNil(t, err)
		if first.Rate != 40_000 {
			t.Fatalf("%s: a rate of %d", kind, first.Rate)
		}
		p.Chain.SetFeeRate(script.FeeRatePerVB(60))
		p.RestartPayer()
		wantNil(t, p.StepPayer())
		raised := record(t, p, id).Refund
		if raised.Rate != 60_000 || raised.Txid == first.Txid {
			t.Fatalf("%s: not raised: %+v", kind, raised)
		}
		p.Chain.SetFeeRate(script.FeeRatePerVB(1))
		wantNil(t, p.StepPayer())
		if again := record(t, p, id).Refund; again.Txid != raised.Txid {
			t.Fatalf("%s: replaced at a lower rate", kind)
		}
		p.Mine(7)
		wantNil(t, p.StepPayer())
		if got := record(t, p, id).Phase; got != channel.Refunded {
			t.Fatalf("%s: %s", kind, got)
		}
		_, err = p.Payer.Refund(t.Context(), id)
		if err == nil && record(t, p, id).Phase != channel.Refunded {
			t.Fatalf("%s: refunded twice", kind)
		}
	}
}

// TestPitfall22_SavedBeforeSigned: an update leaves only when its amount, its signature and
// what it pays for are saved in one commit; what was signed counts as spent.
func TestPitfall22_SavedBeforeSigned(t *testing.T) {
	p := pairtest.New(t)
	id := p.Open(script.Taproot)
	q := payer.Payment{Verified: price, Ops: []store.Op{{Bucket: "journal", Key: "0", Value: []byte{1}}}}
	before := record(t, p, id)
	p.PayerDisk.FailNext(store.ErrFull)
	u, err := p.Payer.Pay(t.Context(), id, q, free)
	wantErr(t, err, store.ErrFull)
	if after := record(t, p, id); after.Signed != before.Signed || after.Owed != before.Owed {
		t.Fatalf("signed %d without a save (%v)", after.Signed, u)
	}
	n := len(p.PayerDisk.Commits())
	u, err = p.Payer.Pay(t.Context(), id, q, free)
	wantNil(t, err)
	commits := p.PayerDisk.Commits()[n:]
	if len(commits) != 1 || len(commits[0]) != 2 {
		t.Fatalf("%d commits for a payment with its journal", len(commits))
	}
	if want := p.Update(id, 1000); u.Amount != 1000 || u.Signature.String() != want.Signature.String() {
		t.Fatalf("%+v", u)
	}
	p.RestartPayer()
	again, err := p.Payer.Newest(t.Context(), id)
	wantNil(t, err)
	if again.Amount != u.Amount || again.Signature.String() != u.Signature.String() {
		t.Fatalf("after a restart the newest update is %d sat", again.Amount)
	}
	got, err := p.Payee.Pay(t.Context(), payee.Request{Channel: id, Update: &again})
	wantNil(t, err)
	if got.Paid != 1000 {
		t.Fatalf("paid %d", got.Paid)
	}
	taken := payer.Payment{Verified: price, Ops: []store.Op{{Bucket: "journal", Key: "0", Value: []byte{1}}}}
	_, err = p.Payer.Pay(t.Context(), id, taken, free) // the journal has the chunk: not twice
	wantErr(t, err, store.ErrConflict)
	if got := record(t, p, id); got.Owed != price || got.Signed != 1000 {
		t.Fatalf("a chunk was booked twice: %d msat", got.Owed)
	}
}

// TestPitfall67_LastWithTheChunk: the last update, with the minimum charge in it, is saved in
// the same commit as the last chunk, and a repeat signs nothing more.
func TestPitfall67_LastWithTheChunk(t *testing.T) {
	p := pairtest.New(t)
	id := p.Open(script.Taproot)
	f := record(t, p, id).Terms.MinimumCharge
	n := len(p.PayerDisk.Commits())
	u, err := p.Payer.Pay(t.Context(), id, payer.Payment{Verified: 1000, Last: true}, free)
	wantNil(t, err)
	if u.Amount != f || f <= 1 || len(p.PayerDisk.Commits()) != n+1 {
		t.Fatalf("%d sat in %d commits, F is %d", u.Amount, len(p.PayerDisk.Commits())-n, f)
	}
	if r := record(t, p, id); r.Owed != 1000 || r.Signed != f {
		t.Fatalf("owed %d, signed %d", r.Owed, r.Signed)
	}
	again, err := p.Payer.Pay(t.Context(), id, payer.Payment{Last: true}, free)
	wantNil(t, err)
	if again.Amount != f || again.Signature.String() != u.Signature.String() {
		t.Fatalf("a repeat signed %d", again.Amount)
	}
}

// What the limits forbid is not signed, and nothing is saved.
func TestLimits(t *testing.T) {
	p := pairtest.New(t)
	id := p.Open(script.Taproot)
	n := len(p.PayerDisk.Commits())
	_, err := p.Payer.Pay(t.Context(), id, payer.Payment{Ahead: 1}, free)
	wantErr(t, err, channel.ErrPrepay)
	_, err = p.Payer.Pay(t.Context(), id, payer.Payment{Verified: price}, channel.Limits{Budget: 999})
	wantErr(t, err, channel.ErrBudget)
	_, err = p.Payer.Pay(t.Context(), id, payer.Payment{Verified: pairtest.Capacity*1000 + 1}, free)
	wantErr(t, err, channel.ErrAmountExceeds)
	if len(p.PayerDisk.Commits()) != n {
		t.Fatal("something was saved")
	}
}

// A payer checks what the payee shows as its newest update.
func TestResumed(t *testing.T) {
	p := pairtest.New(t)
	id := p.Open(script.Taproot)
	forged := p.Update(id, 5000)
	forged.Amount = 6000
	wantErr(t, p.Payer.Resumed(t.Context(), id, forged), channel.ErrSignature)
	wantNil(t, p.Payer.Resumed(t.Context(), id, p.Update(id, 5000)))
	if r := record(t, p, id); r.Signed != 5000 || r.Owed != 5000*1000 {
		t.Fatalf("%d, %d", r.Signed, r.Owed)
	}
}

// A refund signature is verified before T1 may leave; a wrong one changes nothing.
func TestRefundSignatureIsVerified(t *testing.T) {
	p := pairtest.New(t)
	o := p.Offer()
	r := p.Prepare(o, script.Multisig)
	id := r.Terms.ID()
	raw, err := p.Payer.RefundRequest(t.Context(), id)
	wantNil(t, err)
	good, err := p.Payee.Prepare(t.Context(), o, pairtest.Terms(r), raw)
	wantNil(t, err)
	flagged := append(channel.Hex(nil), good...)
	flagged[len(flagged)-1] = 0x01 // ALL: it would freeze the refund's fee
	for name, sig := range map[string]channel.Hex{"none": nil, "cut": good[:20], "another flag": flagged} {
		if err := p.Payer.TakeRefundSignature(t.Context(), id, sig); !errors.Is(err, channel.ErrSignature) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(record(t, p, id).RefundSig) > 0 {
		t.Fatal("a wrong signature was kept")
	}
	wantErr(t, p.Payer.Publish(t.Context(), id), channel.ErrTerms)
	wantNil(t, p.Payer.TakeRefundSignature(t.Context(), id, good))
}

// unknown channels are told so.
func TestUnknown(t *testing.T) {
	p := pairtest.New(t)
	id := wire.OutPoint{Index: 1}.String()
	_, err := p.Payer.Record(t.Context(), id)
	wantErr(t, err, payer.ErrUnknown)
	_, err = p.Payer.Pay(t.Context(), id, payer.Payment{}, free)
	wantErr(t, err, payer.ErrUnknown)
	_, err = p.Payer.BeginClose(t.Context(), id)
	wantErr(t, err, payer.ErrUnknown)
	_, err = p.Payer.Refund(t.Context(), id)
	wantErr(t, err, payer.ErrUnknown)
}
