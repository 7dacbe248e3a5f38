package channel

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/btcsuite/btcd/wire/v2"
	"pgregory.net/rapid"

	"github.com/spillway/spillway/script"
)

// dice is randomness for nonces that a test can repeat.
func dice(seed byte) *rand.ChaCha8 { return rand.NewChaCha8([32]byte{seed}) }

func newNonce(tb testing.TB, key, seed byte) *script.Nonce {
	tb.Helper()
	n, err := script.NewNonce(dice(seed), priv(key))
	if err != nil {
		tb.Fatal(err)
	}
	return n
}

// TestCloseTogether plays a whole cooperative close, up to the executed transaction.
func TestCloseTogether(t *testing.T) {
	for _, amount := range []uint64{0, 50, 1000, 50_000, capacity - dustP2TR, capacity} {
		r := record(paid(amount), func(r *PayeeRecord) { r.Charged = amount * sat })
		ch := r.Terms.built(t)
		b := bought(func(b *PayerRecord) { b.Signed = amount })
		payerNonce := newNonce(t, 0x11, 1)
		req := CloseRequest{Update: Update{Amount: amount}, PayerNonce: payerNonce.Public[:]}
		next, answered, err := r.BeginClose(ch, req, payout, at(200))
		wantNil(t, err)
		if answered || next.Phase != Closing || next.Close.Amount != amount || next.Close.Height != 200 {
			t.Fatalf("%+v", next.Close)
		}
		tx, err := DecodeTx(next.Close.Tx)
		wantNil(t, err)
		wantNil(t, b.CheckClose(tx, 1000))
		final := combine(t, ch, tx, payerNonce, newNonce(t, 0x22, 2))
		done, err := next.FinishClose(ch, final)
		wantNil(t, err)
		if !bytes.Equal(done.Close.FinalTx, final) {
			t.Fatal("the final transaction is not kept")
		}
	}
}

// combine signs a close for both sides and returns it complete.
func combine(t *testing.T, ch *script.Channel, tx *wire.MsgTx, payer, payee *script.Nonce) []byte {
	t.Helper()
	nonces := [2][66]byte{payer.Public, payee.Public}
	one, err := ch.PartialSign(tx, priv(0x11), payer, nonces[1])
	wantNil(t, err)
	two, err := ch.PartialSign(tx, priv(0x22), payee, nonces[0])
	wantNil(t, err)
	done, err := ch.CombineClose(tx, one, two, nonces)
	wantNil(t, err)
	raw, err := encodeTx(done)
	wantNil(t, err)
	return raw
}

// Outputs and fee are the capacity; the payer has its rest, less only what the
// payee's share lacks for the fee; the fee is at most a settlement's.
func TestCloseProperty(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		terms := terms(func(t *Terms) { t.Capacity = rapid.Uint64Range(2000, 300_000).Draw(rt, "capacity") })
		amount := terms.Payable(rapid.Uint64Range(0, terms.Capacity).Draw(rt, "paid"))
		r := PayeeRecord{Terms: terms, Phase: Open, Paid: amount, Charged: amount * sat}
		ch := terms.built(t)
		v := at(200)
		v.Rate = script.FeeRate(rapid.Int64Range(1000, 12_000).Draw(rt, "rate"))
		next, _, err := r.BeginClose(ch, CloseRequest{Update: Update{Amount: amount}}, payout, v)
		if err != nil {
			wantErr(t, err, ErrTooSmall)
			return
		}
		tx, err := DecodeTx(next.Close.Tx)
		wantNil(t, err)
		var mine, theirs int64
		for _, out := range tx.TxOut {
			switch {
			case bytes.Equal(out.PkScript, terms.RestScript):
				mine += out.Value
			case bytes.Equal(out.PkScript, payout):
				theirs += out.Value
			default:
				rt.Fatalf("an output to somebody else: %x", out.PkScript)
			}
			if out.Value < script.Dust(out.PkScript) {
				rt.Fatalf("an output of %d sat", out.Value)
			}
		}
		if mine+theirs+next.Close.Fee != int64(terms.Capacity) {
			rt.Fatalf("%d + %d and a fee of %d are not %d", mine, theirs, next.Close.Fee, terms.Capacity)
		}
		settlementFee := v.Rate.Fee(ch.SettlementVSize(int64(terms.Capacity-amount), payout))
		rest := int64(terms.Capacity - amount)
		if lack := max(0, settlementFee-int64(amount)); mine < rest-lack && rest-lack >= int64(dustP2TR) {
			rt.Fatalf("the payer gets %d of %d", mine, rest)
		}
		if theirs > 0 && int64(amount)-theirs > settlementFee {
			rt.Fatalf("the payee loses %d sat, a settlement costs %d", int64(amount)-theirs, settlementFee)
		}
		b := PayerRecord{Terms: terms, Signed: amount}
		wantNil(t, b.CheckClose(tx, settlementFee))
	})
}

// TestPitfall57_ClosingIsFinal ◆: what BeginClose returns, and must be saved before
// the answer leaves, is final: no delivery, no update, no reopening.
func TestPitfall57_ClosingIsFinal(t *testing.T) {
	r := record(paid(5000), func(r *PayeeRecord) { r.Charged = 5000 * sat })
	ch := r.Terms.built(t)
	closing, _, err := r.BeginClose(ch, CloseRequest{Update: Update{Amount: 5000}, PayerNonce: Hex{1}}, payout, at(200))
	wantNil(t, err)
	if closing.Phase != Closing || closing.Close == nil {
		t.Fatalf("the record to be saved before the answer is in phase %s", closing.Phase)
	}
	closing = closing.SetAnswer([]byte{1}, []byte{2}, []byte{3})
	if closing.Phase != Closing || len(closing.Close.Partial) == 0 {
		t.Fatal("the answer is not in the record that is saved")
	}
	if r.Phase != Open || r.Close != nil {
		t.Fatal("the rule changed its argument")
	}
	_, changed, err := closing.Update(Update{Amount: 6000})
	if wantErr(t, err, ErrFinalized); changed {
		t.Fatal("an update was taken")
	}
	for _, p := range []Payment{ask(chunk), ask(0), ask(chunk, 9000), {Update: &Update{Amount: 9000}}} {
		out := closing.Pay(p, at(200), Pool{})
		wantErr(t, out.Refusal, ErrFinalized)
		same(t, "record", out.Record, closing)
	}
	_, _, err = closing.BeginClose(ch, CloseRequest{Update: Update{Amount: 6000}, PayerNonce: Hex{1}}, payout, at(200))
	wantErr(t, err, ErrFinalized)
	_, err = closing.AskSettle(WhenAsked)
	wantErr(t, err, ErrFinalized)
	for tip := uint32(150); tip < expiry+10; tip += 7 { // not by any height, nor by a reorg of the funding
		for _, v := range []View{at(tip), at(tip, unconfirmed), at(tip, spentBy("x", 0))} {
			if next, _ := closing.Due(ch, payout, v, policy()); next.Phase != Closing || next.Paid != 5000 {
				t.Fatalf("reopened at %d: %s", tip, next.Phase)
			}
		}
	}
}

// TestPitfall73_CloseRepeated: a repeated close gets the same transaction, with the
// same payer nonce the stored answer; the agreed fee does not move with the rate.
func TestPitfall73_CloseRepeated(t *testing.T) {
	r := record(paid(5000), func(r *PayeeRecord) { r.Charged = 5000 * sat })
	ch := r.Terms.built(t)
	req := CloseRequest{Update: Update{Amount: 5000}, PayerNonce: Hex{1, 1}}
	first, answered, err := r.BeginClose(ch, req, payout, at(200))
	wantNil(t, err)
	if answered {
		t.Fatal("there is no answer yet")
	}
	first = first.SetAnswer(req.PayerNonce, []byte{2}, []byte{3})
	later := at(lastBlock + 30)
	later.Rate *= 50
	again, answered, err := first.BeginClose(ch, req, payout, later)
	wantNil(t, err)
	if !answered {
		t.Fatal("the same nonce did not get the stored answer: the secret nonce would be used twice")
	}
	same(t, "record", again, first)
	other := req
	other.PayerNonce = Hex{9, 9}
	next, answered, err := first.BeginClose(ch, other, payout, later)
	wantNil(t, err)
	if answered {
		t.Fatal("another nonce got the old answer: the close would be stuck")
	}
	if !bytes.Equal(next.Close.Tx, first.Close.Tx) {
		t.Fatal("another nonce got another transaction")
	}
	stale := req
	stale.Update.Amount = 3
	if _, _, err := first.BeginClose(ch, stale, payout, later); err != nil {
		t.Fatalf("a repeat with an older update: %v", err)
	}
}

func TestCloseRefusals(t *testing.T) {
	base := record(paid(5000), func(r *PayeeRecord) { r.Charged = 5000 * sat })
	for _, c := range []struct {
		name   string
		change func(*PayeeRecord)
		amount uint64
		view   View
		want   error
	}{
		{"something is owed", func(r *PayeeRecord) { r.Charged++ }, 5000, at(200), ErrOwes},
		{"a fraction of a satoshi is owed", func(r *PayeeRecord) { r.Charged = 5001*sat - 999 }, 5000, at(200), ErrOwes},
		{"multisig", func(r *PayeeRecord) { r.Terms.Construction = script.Multisig }, 5000, at(200), ErrUnsupported},
		{"settling", func(r *PayeeRecord) { r.Phase = Settling }, 5000, at(200), ErrExpiring},
		{"closed", func(r *PayeeRecord) { r.Phase = Closed }, 5000, at(200), ErrFinalized},
		{"inside the margin", func(*PayeeRecord) {}, 5000, at(lastBlock + 1), ErrExpiring},
		{"the output is being spent", func(*PayeeRecord) {}, 5000, at(200, spentBy("x", 0)), ErrFinalized},
		{"T1 is not seen", func(*PayeeRecord) {}, 5000, View{Tip: 200, Rate: perVB}, ErrUnconfirmed},
		{"not worth the fee", func(r *PayeeRecord) { r.Paid, r.Charged, r.Terms.Capacity = 400, 0, 400 }, 400, at(200), ErrTooSmall},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := base
			c.change(&r)
			v := c.view
			if c.want == ErrTooSmall {
				v.Rate = 5000
			}
			next, _, err := r.BeginClose(r.Terms.built(t), CloseRequest{Update: Update{Amount: c.amount}}, payout, v)
			wantErr(t, err, c.want)
			if next.Phase != r.Phase || next.Close != nil {
				t.Fatalf("phase %s", next.Phase)
			}
		})
	}
	// What the newest update pays is no debt any more.
	owing := base
	owing.Charged = 6000 * sat
	next, _, err := owing.BeginClose(owing.Terms.built(t), CloseRequest{Update: Update{Amount: 6000, Signature: Hex{6}}}, payout, at(200))
	wantNil(t, err)
	if next.Paid != 6000 || next.Close.Amount != 6000 {
		t.Fatalf("%+v", next)
	}
}

// An update that comes with a close which is refused is money all the same.
func TestRefusedCloseKeepsTheUpdate(t *testing.T) {
	r := record(paid(5000), func(r *PayeeRecord) { r.Charged = 9000 * sat })
	next, _, err := r.BeginClose(r.Terms.built(t), CloseRequest{Update: Update{Amount: 8000, Signature: Hex{8}}}, payout, at(200))
	wantErr(t, err, ErrOwes)
	if next.Paid != 8000 || next.Signature.String() != "08" || next.Phase != Open {
		t.Fatalf("paid %d, phase %s", next.Paid, next.Phase)
	}
}

func TestFinishCloseRefusals(t *testing.T) {
	r := record(paid(5000), func(r *PayeeRecord) { r.Charged = 5000 * sat })
	ch := r.Terms.built(t)
	_, err := r.FinishClose(ch, sampleTx(t))
	wantErr(t, err, ErrConflict)
	closing, _, err := r.BeginClose(ch, CloseRequest{Update: Update{Amount: 5000}}, payout, at(200))
	wantNil(t, err)
	tx, err := DecodeTx(closing.Close.Tx)
	wantNil(t, err)
	good := combine(t, ch, tx, newNonce(t, 0x11, 1), newNonce(t, 0x22, 2))
	broken := bytes.Clone(good)
	broken[len(broken)-6] ^= 1 // inside the signature: the txid stays
	for name, raw := range map[string][]byte{
		"nothing": nil, "noise": {1, 2}, "another transaction": sampleTx(t), "without a signature": closing.Close.Tx, "a broken signature": broken,
	} {
		if _, err := closing.FinishClose(ch, raw); !errors.Is(err, ErrConflict) {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err = closing.FinishClose(ch, good)
	wantNil(t, err)
}

// The payer signs a close only where it gets its rest.
func TestCheckClose(t *testing.T) {
	b := bought(func(b *PayerRecord) { b.Signed = 5000 })
	base := func() *wire.MsgTx {
		tx, err := b.Terms.built(t).CloseTx(5000, payout, 154)
		wantNil(t, err)
		return tx
	}
	wantNil(t, b.CheckClose(base(), 500))
	for name, change := range map[string]func(*wire.MsgTx){
		"another input":         func(tx *wire.MsgTx) { tx.TxIn[0].PreviousOutPoint.Index++ },
		"a second input":        func(tx *wire.MsgTx) { tx.AddTxIn(&wire.TxIn{}) },
		"a lock":                func(tx *wire.MsgTx) { tx.LockTime = 1 },
		"no outputs":            func(tx *wire.MsgTx) { tx.TxOut = nil },
		"three outputs":         func(tx *wire.MsgTx) { tx.AddTxOut(wire.NewTxOut(330, payout)) },
		"one satoshi less":      func(tx *wire.MsgTx) { tx.TxOut[0].Value-- },
		"the payer's left out":  func(tx *wire.MsgTx) { tx.TxOut = tx.TxOut[1:] },
		"the payer's elsewhere": func(tx *wire.MsgTx) { tx.TxOut[0].PkScript = payout },
		"more than there is":    func(tx *wire.MsgTx) { tx.TxOut[1].Value = int64(capacity) },
		"negative":              func(tx *wire.MsgTx) { tx.TxOut[1].Value = -1 },
	} {
		tx := base()
		change(tx)
		if err := b.CheckClose(tx, 500); !errors.Is(err, ErrTerms) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A fee that the share does not cover comes from the rest, up to the limit.
	small := bought(func(b *PayerRecord) { b.Signed = 50 })
	tx, err := small.Terms.built(t).CloseTx(50, payout, 150)
	wantNil(t, err)
	wantNil(t, small.CheckClose(tx, 150))
	wantErr(t, small.CheckClose(tx, 149), ErrTerms)
}

// A close that can't be mined for long (a relative lock in its sequence) is refused.
func TestCheckCloseSequence(t *testing.T) {
	b := bought(func(b *PayerRecord) { b.Signed = 5000 })
	tx, err := b.Terms.built(t).CloseTx(5000, payout, 154)
	wantNil(t, err)
	tx.TxIn[0].Sequence = 0xffff
	wantErr(t, b.CheckClose(tx, 500), ErrTerms)
}

func TestAskSettle(t *testing.T) {
	_, err := record().AskSettle(WhenAsked)
	wantErr(t, err, ErrNothingAtStake)
	r, err := record(paid(1)).AskSettle(WhenAsked)
	wantNil(t, err)
	if r.Phase != Settling || r.Reason != WhenAsked {
		t.Fatalf("%s, %s", r.Phase, r.Reason)
	}
	if again, err := r.AskSettle(Misbehaved); err != nil || again.Reason != WhenAsked {
		t.Fatalf("%v, %s", err, again.Reason)
	}
}
