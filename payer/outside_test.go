package payer_test

import (
	"context"
	"errors"
	"testing"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/internal/pairtest"
	"github.com/spillway/spillway/payer"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/store"
	"github.com/spillway/spillway/wallet"
)

// invited is a channel that another wallet (here: the test's, on the same coins) has
// built the funding of.
func invited(t *testing.T, p *pairtest.Pair, kind script.Construction) (channel.Offer, payer.Invitation, *wallet.Funded) {
	t.Helper()
	o := p.Offer()
	v, err := p.Payer.Invite(t.Context(), payer.OpenRequest{Offer: o, Construction: kind, Capacity: pairtest.Capacity})
	wantNil(t, err)
	f, err := p.Wallet.Fund(t.Context(), []*wire.TxOut{wire.NewTxOut(int64(v.Capacity), v.Script)}, 2000)
	wantNil(t, err)
	return o, v, f
}

// A channel that another wallet funds: its refund is held before a signature is taken,
// nothing leaves before it is signed, and then it opens like any other.
func TestOutsideFunding(t *testing.T) {
	for _, kind := range []script.Construction{script.Taproot, script.Multisig, script.MultisigP2SH} {
		p := pairtest.New(t)
		o, v, f := invited(t, p, kind)
		p.RestartPayer()
		if all, err := p.Payer.Invitations(t.Context()); err != nil || len(all) != 1 || all[0].Script.String() != v.Script.String() {
			t.Fatalf("%v, %v", all, err)
		}
		r, err := p.Payer.Bind(t.Context(), v.Script, v.Capacity, f.Tx, f.Prevouts)
		wantNil(t, err)
		id := r.Terms.ID()
		if all, err := p.Payer.Invitations(t.Context()); err != nil || len(all) != 0 {
			t.Fatalf("%v, %v", all, err)
		}
		_, err = p.Payer.Bind(t.Context(), v.Script, v.Capacity, f.Tx, f.Prevouts)
		wantErr(t, err, payer.ErrNoInvitation)
		wantErr(t, p.Payer.TakeFunding(t.Context(), id, f.Tx), channel.ErrFinalized) // no refund is held
		if kind != script.Taproot {
			wantErr(t, p.Payer.Secure(t.Context(), id), channel.ErrTerms) // the payee has not signed it
			p.SignRefund(o, r)
		}
		wantNil(t, p.Payer.Secure(t.Context(), id))
		if _, err := p.Payer.EarlyRefund(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		_, err = p.Payer.Opening(t.Context(), id)
		wantErr(t, err, payer.ErrUnsigned)
		wantErr(t, p.Payer.Publish(t.Context(), id), payer.ErrUnsigned)
		other := f.Tx.Copy()
		other.LockTime = 7
		wantErr(t, p.Payer.TakeFunding(t.Context(), id, other), channel.ErrTerms)
		bare := f.Tx.Copy()
		bare.TxIn[0].Witness = nil
		wantErr(t, p.Payer.TakeFunding(t.Context(), id, bare), channel.ErrTerms)
		wantNil(t, p.Payer.TakeFunding(t.Context(), id, f.Tx))
		wantNil(t, p.Payer.TakeFunding(t.Context(), id, f.Tx)) // again
		if len(p.Chain.Sent()) > 0 {
			t.Fatal("T1 has left")
		}
		op, err := p.Payer.Opening(t.Context(), id)
		wantNil(t, err)
		if len(op.FundingTx) == 0 {
			t.Fatal("without T1")
		}
		wantNil(t, p.Payer.Publish(t.Context(), id))
		p.Mine(1)
		wantNil(t, p.StepPayer())
		if got := record(t, p, id); got.Phase != channel.Open || got.Unsigned {
			t.Fatalf("%s: %+v", kind, got.Phase)
		}
	}
}

// Whichever save fails, the same steps go on from there; what was saved is enough for
// the refund before T1 can leave; nothing is sent by any of it.
func TestOutsideFundingIsInterrupted(t *testing.T) {
	for fail := 1; fail <= 4; fail++ {
		p := pairtest.New(t)
		o := p.Offer()
		saves := 0
		step := func(do func() error) {
			if saves++; saves == fail {
				p.PayerDisk.FailNext(store.ErrFull)
				wantErr(t, do(), store.ErrFull)
				p.RestartPayer()
			}
			wantNil(t, do())
			p.RestartPayer()
		}
		var v payer.Invitation
		step(func() (err error) {
			v, err = p.Payer.Invite(t.Context(), payer.OpenRequest{Offer: o, Construction: script.Taproot, Capacity: pairtest.Capacity})
			return err
		})
		f, err := p.Wallet.Fund(t.Context(), []*wire.TxOut{wire.NewTxOut(int64(v.Capacity), v.Script)}, 2000)
		wantNil(t, err)
		var id string
		step(func() error {
			r, err := p.Payer.Bind(t.Context(), v.Script, v.Capacity, f.Tx, f.Prevouts)
			id = r.Terms.ID()
			return err
		})
		step(func() error { return p.Payer.Secure(t.Context(), id) })
		step(func() error { return p.Payer.TakeFunding(t.Context(), id, f.Tx) })
		if len(p.Chain.Sent()) > 0 {
			t.Fatal("something was sent")
		}
		if r := record(t, p, id); r.Phase != channel.Funding || r.Unsigned {
			t.Fatalf("%+v", r)
		}
	}
}

// TestPitfall08_OutsideFundingIsExportedFirst: where the export is not kept nothing goes
// on, and no signature is taken.
func TestPitfall08_OutsideFundingIsExportedFirst(t *testing.T) {
	p := pairtest.New(t)
	_, v, f := invited(t, p, script.Taproot)
	full := errors.New("the disk is full")
	var kept int
	cfg := payer.Config{Store: p.PayerDisk, Keys: p.PayerKeys, Wallet: p.Wallet, Chain: p.Chain, Network: "regtest", Policy: p.Policy, Rand: zeros{},
		Keep: func(_ context.Context, e payer.Export) error {
			if kept++; kept == 1 {
				return full
			}
			if len(e.RefundTx) == 0 || len(e.FundingTx) == 0 {
				t.Error("no refund in the export")
			}
			return nil
		}}
	driver, err := payer.New(cfg)
	wantNil(t, err)
	r, err := driver.Bind(t.Context(), v.Script, v.Capacity, f.Tx, f.Prevouts)
	wantNil(t, err)
	wantErr(t, driver.Secure(t.Context(), r.Terms.ID()), full)
	wantErr(t, driver.TakeFunding(t.Context(), r.Terms.ID(), f.Tx), channel.ErrFinalized)
	wantNil(t, driver.Secure(t.Context(), r.Terms.ID()))
	wantNil(t, driver.TakeFunding(t.Context(), r.Terms.ID(), f.Tx))
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

// The other wallet broadcasts T1 by itself: the watch sees it, and the refund is there
// at the expiry, though no signature was ever given to this one.
func TestOutsideFundingLeavesByItself(t *testing.T) {
	p := pairtest.New(t)
	_, v, f := invited(t, p, script.Taproot)
	r, err := p.Payer.Bind(t.Context(), v.Script, v.Capacity, f.Tx, f.Prevouts)
	wantNil(t, err)
	id := r.Terms.ID()
	wantNil(t, p.Payer.Secure(t.Context(), id))
	wantNil(t, p.StepPayer()) // nothing to be done, and nothing unsigned is sent
	if len(p.Chain.Sent()) > 0 {
		t.Fatal("an unsigned transaction was sent")
	}
	wantNil(t, p.Chain.Broadcast(t.Context(), f.Tx))
	p.Mine(1)
	wantNil(t, p.StepPayer())
	got := record(t, p, id)
	if !got.FundingSent || got.Phase != channel.Open {
		t.Fatalf("%+v", got)
	}
	tip, err := p.Chain.Tip(t.Context())
	wantNil(t, err)
	p.Mine(int(got.Terms.Expiry - tip.Height))
	_, err = p.Payer.Refund(t.Context(), id)
	wantNil(t, err)
}

// It is given up while the other wallet may still sign it: the watch goes on, and should
// T1 appear all the same, the money comes back with the refund.
func TestOutsideFundingGivenUp(t *testing.T) {
	p := pairtest.New(t)
	_, v, f := invited(t, p, script.Taproot)
	r, err := p.Payer.Bind(t.Context(), v.Script, v.Capacity, f.Tx, f.Prevouts)
	wantNil(t, err)
	id := r.Terms.ID()
	wantNil(t, p.Payer.Secure(t.Context(), id))
	_, err = p.Payer.Cancel(t.Context(), id)
	wantNil(t, err)
	wantErr(t, p.Payer.TakeFunding(t.Context(), id, f.Tx), channel.ErrFinalized)
	wantNil(t, p.StepPayer())
	wantNil(t, p.Chain.Broadcast(t.Context(), f.Tx))
	p.Mine(1)
	wantNil(t, p.StepPayer())
	if got := record(t, p, id); !got.FundingSent || got.Void() {
		t.Fatalf("%+v", got)
	}
}

// What is not offered, or makes no sense, is refused before a key is made for it.
func TestInviteRefuses(t *testing.T) {
	p := pairtest.New(t)
	o := p.Offer()
	for name, q := range map[string]payer.OpenRequest{
		"too little":        {Offer: o, Construction: script.Taproot, Capacity: o.MinDeposit - 1},
		"too much":          {Offer: o, Construction: script.Taproot, Capacity: channel.MaxSat + 1},
		"a kind of its own": {Offer: o, Construction: "lightning", Capacity: pairtest.Capacity},
		"back to nowhere":   {Offer: o, Construction: script.Taproot, Capacity: pairtest.Capacity, Back: []byte{0x51}},
	} {
		if _, err := p.Payer.Invite(t.Context(), q); !errors.Is(err, channel.ErrTerms) {
			t.Errorf("%s: %v", name, err)
		}
	}
	back := append([]byte{0, 20}, make([]byte, 20)...)
	v, err := p.Payer.Invite(t.Context(), payer.OpenRequest{Offer: o, Construction: script.Taproot, Capacity: pairtest.Capacity, Back: back})
	wantNil(t, err)
	if v.Back.String() != channel.Hex(back).String() {
		t.Fatalf("back to %s", v.Back)
	}
}
