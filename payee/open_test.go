package payee_test

import (
	"errors"
	"testing"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/internal/pairtest"
	"github.com/spillway/spillway/payee"
	"github.com/spillway/spillway/script"
)

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

func decode(t *testing.T, raw []byte) *wire.MsgTx {
	t.Helper()
	tx, err := channel.DecodeTx(raw)
	wantNil(t, err)
	return tx
}

func encode(t *testing.T, tx *wire.MsgTx) []byte {
	t.Helper()
	raw, err := channel.EncodeTx(tx)
	wantNil(t, err)
	return raw
}

// refundRequest is what a payer of a multisig channel asks to have signed.
func refundRequest(t *testing.T, p *pairtest.Pair) (channel.Offer, channel.Opening, []byte) {
	t.Helper()
	o := p.Offer()
	r := p.Prepare(o, script.Multisig)
	raw, err := p.Payer.RefundRequest(t.Context(), r.Terms.ID())
	wantNil(t, err)
	return o, pairtest.Terms(r), raw
}

// TestPitfall02_SigningOracle: the payee signs nothing but a refund of this very
// channel, with a key made for it, in time.
func TestPitfall02_SigningOracle(t *testing.T) {
	p := pairtest.New(t)
	o, op, raw := refundRequest(t, p)
	for name, change := range map[string]func(*wire.MsgTx){
		"another output":      func(tx *wire.MsgTx) { tx.TxIn[0].PreviousOutPoint.Index++ },
		"another transaction": func(tx *wire.MsgTx) { tx.TxIn[0].PreviousOutPoint.Hash[0] ^= 1 },
		"a second input":      func(tx *wire.MsgTx) { tx.AddTxIn(wire.NewTxIn(&wire.OutPoint{}, nil, nil)) },
		"no input":            func(tx *wire.MsgTx) { tx.TxIn = nil },
		"an earlier lock":     func(tx *wire.MsgTx) { tx.LockTime-- },
		"a later lock":        func(tx *wire.MsgTx) { tx.LockTime++ },
		"no lock":             func(tx *wire.MsgTx) { tx.LockTime = 0 },
		"a lock by time":      func(tx *wire.MsgTx) { tx.LockTime = 1_700_000_000 },
		"a final sequence":    func(tx *wire.MsgTx) { tx.TxIn[0].Sequence = wire.MaxTxInSequenceNum },
	} {
		tx := decode(t, raw)
		change(tx)
		if len(tx.TxIn) == 0 {
			continue // not even a transaction on the wire
		}
		if sig, err := p.Payee.Prepare(t.Context(), o, op, encode(t, tx)); !errors.Is(err, channel.ErrTerms) || sig != nil {
			t.Errorf("%s: signed %s, %v", name, sig, err)
		}
	}
	for name, change := range map[string]func(*channel.Offer, *channel.Opening){
		"a taproot channel":     func(_ *channel.Offer, op *channel.Opening) { op.Construction = script.Taproot },
		"a small capacity":      func(_ *channel.Offer, op *channel.Opening) { op.Capacity = 1 },
		"the payee's own key":   func(o *channel.Offer, op *channel.Opening) { op.PayerKey = o.PayeeKey },
		"an expiry too near":    func(o *channel.Offer, _ *channel.Opening) { o.Expiry -= 30 },
		"an unspendable script": func(_ *channel.Offer, op *channel.Opening) { op.RestScript = channel.Hex{0x6a} },
	} {
		o, op := o, op
		change(&o, &op)
		if sig, err := p.Payee.Prepare(t.Context(), o, op, raw); err == nil || sig != nil {
			t.Errorf("%s: signed %s", name, sig)
		}
	}
	id := p.Open(script.Multisig)
	known, err := p.Payee.Record(t.Context(), id)
	wantNil(t, err)
	used := o
	used.PayeeKey, used.Nonce = known.Terms.PayeeKey, known.Terms.Nonce
	_, err = p.Payee.Prepare(t.Context(), used, op, raw)
	wantErr(t, err, channel.ErrConflict) // a key that belongs to a channel
	tracked := op
	tracked.Outpoint = known.Terms.Outpoint
	_, err = p.Payee.Prepare(t.Context(), o, tracked, raw)
	wantErr(t, err, channel.ErrConflict) // an outpoint that belongs to a channel
}

// TestPitfall03_OneSignature: a retry gets the identical signature, also from another
// process, and nothing has to be stored for it.
func TestPitfall03_OneSignature(t *testing.T) {
	p := pairtest.New(t)
	o, op, raw := refundRequest(t, p)
	first, err := p.Payee.Prepare(t.Context(), o, op, raw)
	wantNil(t, err)
	p.RestartPayee()
	again, err := p.Payee.Prepare(t.Context(), o, op, raw)
	wantNil(t, err)
	if first.String() != again.String() {
		t.Fatal("two signatures for one key")
	}
	dearer := decode(t, raw) // where the refund goes and what it pays is the payer's affair
	dearer.TxOut[0].Value -= 1000
	third, err := p.Payee.Prepare(t.Context(), o, op, encode(t, dearer))
	wantNil(t, err)
	if first.String() != third.String() {
		t.Fatal("the signature covers the outputs")
	}
	later := o
	later.Expiry++
	if sig, err := p.Payee.Prepare(t.Context(), later, op, raw); err == nil {
		t.Fatalf("a second lock was signed: %s", sig)
	}
	if got := p.PayeeDisk.Commits(); len(got) > 0 {
		t.Fatalf("stored: %v", got)
	}
}

// TestPitfall69_NoStateBeforeT1: offers, refund requests and openings whose T1 is not
// seen leave nothing behind, and such an opening counts whenever T1 appears.
func TestPitfall69_NoStateBeforeT1(t *testing.T) {
	p := pairtest.New(t)
	o := p.Offer()
	r := p.Prepare(o, script.Taproot)
	op, err := p.Payer.Opening(t.Context(), r.Terms.ID())
	wantNil(t, err)
	op.FundingTx = nil
	for range 3 {
		_, err = p.Payee.Open(t.Context(), o, op)
		wantErr(t, err, channel.ErrUnconfirmed)
	}
	if got := p.PayeeDisk.Commits(); len(got) > 0 {
		t.Fatalf("stored: %v", got)
	}
	wantNil(t, p.Payer.Publish(t.Context(), r.Terms.ID()))
	p.Mine(8) // the challenge has long expired
	p.RestartPayee()
	got, err := p.Payee.Open(t.Context(), o, op)
	wantNil(t, err)
	if got.Record.Phase != channel.Open || got.Depth != 8 || len(p.PayeeDisk.Commits()) != 1 {
		t.Fatalf("%+v", got)
	}
}

// TestPitfall06_FloodOfOpens: openings whose T1 nobody has seen, however many, are neither
// stored nor watched; only one that is on the chain is.
func TestPitfall06_FloodOfOpens(t *testing.T) {
	p := pairtest.New(t)
	r := p.Prepare(p.Offer(), script.Taproot)
	key, err := p.PayerKeys.PayerChannelKey(r.KeyIndex)
	wantNil(t, err)
	for i := range 50 {
		o := p.Offer()
		op := pairtest.Terms(r)
		op.Outpoint.Hash[0], op.Outpoint.Hash[1] = byte(i), 0xfe // no such transaction
		terms, ch, err := o.Terms(op, p.Policy)
		wantNil(t, err)
		op.Update.Signature, err = ch.SignHalf(key, int64(terms.Capacity))
		wantNil(t, err)
		_, err = p.Payee.Open(t.Context(), o, op)
		wantErr(t, err, channel.ErrUnconfirmed)
	}
	targets, err := p.Payee.Watched(t.Context())
	wantNil(t, err)
	if got := p.PayeeDisk.Commits(); len(got) > 0 || len(targets) > 0 {
		t.Fatalf("%d commits, %d watched channels", len(got), len(targets))
	}
	p.Open(script.Taproot)
	if targets, err = p.Payee.Watched(t.Context()); err != nil || len(targets) != 1 {
		t.Fatalf("%v, %v", targets, err)
	}
}

// TestPitfall04_FakeFunding: what the channel holds is taken from the chain, never
// from the peer; a T1 that does not pay it is not even broadcast.
func TestPitfall04_FakeFunding(t *testing.T) {
	p := pairtest.New(t)
	o := p.Offer()
	r := p.Prepare(o, script.Taproot)
	op, err := p.Payer.Opening(t.Context(), r.Terms.ID())
	wantNil(t, err)
	wantNil(t, err)
	key, err := p.PayerKeys.PayerChannelKey(r.KeyIndex)
	wantNil(t, err)
	for name, change := range map[string]func(*channel.Opening){
		"more than T1 holds": func(op *channel.Opening) { op.Capacity++ },
		"another output":     func(op *channel.Opening) { op.Outpoint.Index ^= 1 },
		"no such output":     func(op *channel.Opening) { op.Outpoint.Index = 7 },
		"another T1":         func(op *channel.Opening) { op.Outpoint.Hash[3] ^= 1 },
		"a cut T1":           func(op *channel.Opening) { op.FundingTx = op.FundingTx[:50] },
	} {
		bad := op
		change(&bad)
		terms, script, err := o.Terms(bad, p.Policy)
		wantNil(t, err)
		bad.Update.Signature, err = script.SignHalf(key, int64(terms.Capacity))
		wantNil(t, err)
		sent := len(p.Chain.Sent())
		if _, err := p.Payee.Open(t.Context(), o, bad); !errors.Is(err, channel.ErrTerms) {
			t.Errorf("%s: %v", name, err)
		}
		if len(p.Chain.Sent()) > sent {
			t.Errorf("%s: it was broadcast", name)
		}
		bad.FundingTx = nil // told by its id only, and T1 is on the chain by now
		if name == "a cut T1" {
			wantNil(t, p.Payer.Publish(t.Context(), r.Terms.ID()))
			continue
		}
		if _, err := p.Payee.Open(t.Context(), o, bad); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
	for name, change := range map[string]func(*channel.Opening){
		"more than T1 holds": func(op *channel.Opening) { op.Capacity++ },
		"another output":     func(op *channel.Opening) { op.Outpoint.Index ^= 1 },
	} {
		bad := op
		bad.FundingTx = nil
		change(&bad)
		terms, script, err := o.Terms(bad, p.Policy)
		wantNil(t, err)
		bad.Update.Signature, err = script.SignHalf(key, int64(terms.Capacity))
		wantNil(t, err)
		if _, err := p.Payee.Open(t.Context(), o, bad); !errors.Is(err, channel.ErrTerms) {
			t.Errorf("%s, on the chain: %v", name, err)
		}
	}
	if got := p.PayeeDisk.Commits(); len(got) > 0 {
		t.Fatalf("stored: %v", got)
	}
}

// A T1 that the chain refuses opens nothing; one that can't be handed in may be tried again.
func TestOpenRefusedByTheChain(t *testing.T) {
	p := pairtest.New(t)
	o := p.Offer()
	r := p.Prepare(o, script.Taproot)
	op, err := p.Payer.Opening(t.Context(), r.Terms.ID())
	wantNil(t, err)
	broken := op
	tx := decode(t, op.FundingTx)
	tx.TxIn[0].Witness[0][5] ^= 1 // the id stays
	broken.FundingTx = encode(t, tx)
	_, err = p.Payee.Open(t.Context(), o, broken)
	wantErr(t, err, chain.ErrRejected)
	p.Chain.Down(true)
	_, err = p.Payee.Open(t.Context(), o, op)
	wantErr(t, err, chain.ErrUnavailable)
	p.Chain.Down(false)
	if got := p.PayeeDisk.Commits(); len(got) > 0 {
		t.Fatalf("stored: %v", got)
	}
	_, err = p.Payee.Open(t.Context(), o, op)
	wantNil(t, err)
}

// TestPitfall05_OpenedOnce: an outpoint and a K2 belong to one channel; a repeat gets the
// stored answer, other content a refusal.
func TestPitfall05_OpenedOnce(t *testing.T) {
	p := pairtest.New(t)
	o := p.Offer()
	r := p.Prepare(o, script.Taproot)
	op, err := p.Payer.Opening(t.Context(), r.Terms.ID())
	wantNil(t, err)
	first, err := p.Payee.Open(t.Context(), o, op)
	wantNil(t, err)
	if first.Repeat {
		t.Fatal("the first is no repeat")
	}
	byID := op
	byID.FundingTx = nil
	for _, repeat := range []channel.Opening{op, byID} {
		p.RestartPayee()
		again, err := p.Payee.Open(t.Context(), o, repeat)
		wantNil(t, err)
		if !again.Repeat || again.Record.Terms.ID() != first.Record.Terms.ID() {
			t.Fatalf("%+v", again)
		}
	}
	other := op
	other.RestScript = append(channel.Hex{0x51, 0x20}, make([]byte, 32)...)
	_, err = p.Payee.Open(t.Context(), o, other)
	wantErr(t, err, channel.ErrConflict)
	_, err = p.Payee.Open(t.Context(), p.Offer(), op) // the same outpoint on another offer
	wantErr(t, err, channel.ErrConflict)
	second := p.Prepare(o, script.Taproot) // another T1 on the used K2
	op2, err := p.Payer.Opening(t.Context(), second.Terms.ID())
	wantNil(t, err)
	sent := len(p.Chain.Sent())
	_, err = p.Payee.Open(t.Context(), o, op2)
	wantErr(t, err, channel.ErrConflict)
	if len(p.Chain.Sent()) != sent {
		t.Fatal("a T1 was broadcast for an opening that is refused: its coins are locked for nothing")
	}
	if records, err := p.Payee.Records(t.Context()); err != nil || len(records) != 1 {
		t.Fatalf("%d channels, %v", len(records), err)
	}
}

// Two openings of one T1 at once: one channel.
func TestOpenedOnceAtOnce(t *testing.T) {
	p := pairtest.New(t)
	o := p.Offer()
	r := p.Prepare(o, script.Taproot)
	op, err := p.Payer.Opening(t.Context(), r.Terms.ID())
	wantNil(t, err)
	results := make(chan error)
	for range 8 {
		go func() {
			_, err := p.Payee.Open(t.Context(), o, op)
			results <- err
		}()
	}
	for range 8 {
		wantNil(t, <-results)
	}
	if got := p.PayeeDisk.Commits(); len(got) != 1 {
		t.Fatalf("%d commits", len(got))
	}
}

// TestUnknownChannel: requests about unknown channels are told so.
func TestUnknownChannel(t *testing.T) {
	p := pairtest.New(t)
	id := "00000000000000000000000000000000000000000000000000000000000009ff:1"
	_, err := p.Payee.Pay(t.Context(), payee.Request{Channel: id})
	wantErr(t, err, payee.ErrUnknown)
	_, err = p.Payee.Close(t.Context(), id, channel.CloseRequest{})
	wantErr(t, err, payee.ErrUnknown)
	_, err = p.Payee.Settle(t.Context(), id, nil, false)
	wantErr(t, err, payee.ErrUnknown)
	_, err = p.Payee.Resume(t.Context(), id)
	wantErr(t, err, payee.ErrUnknown)
	_, err = p.Payee.MACKey(t.Context(), id)
	wantErr(t, err, payee.ErrUnknown)
}

// Both sides have the same key for MACs, in every construction and after a restart.
func TestBothSidesShareTheMACKey(t *testing.T) {
	p := pairtest.New(t)
	for _, kind := range []script.Construction{script.Taproot, script.Multisig} {
		id := p.Open(kind)
		p.RestartPayee()
		p.RestartPayer()
		a, err := p.Payer.MACKey(t.Context(), id)
		wantNil(t, err)
		b, err := p.Payee.MACKey(t.Context(), id)
		wantNil(t, err)
		if a != b {
			t.Fatalf("%s: different keys", kind)
		}
	}
}
