package payer_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/internal/pairtest"
	"github.com/spillway/spillway/payer"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/store"
)

// agreed is a channel with one chunk paid, and a close that the payee has answered.
func agreed(t *testing.T, p *pairtest.Pair) (id string, c *payer.Closing, got *channel.PayeeClose) {
	t.Helper()
	id = p.Open(script.Taproot)
	_, err := p.Buy(id, 0)
	wantNil(t, err)
	c, err = p.Payer.BeginClose(t.Context(), id)
	wantNil(t, err)
	got, err = p.Payee.Close(t.Context(), id, channel.CloseRequest{Update: c.Update, PayerNonce: c.Nonce[:]})
	wantNil(t, err)
	return id, c, got
}

// The payer signs only a close that gives it its rest and that the payee has signed.
func TestFinishCloseRefusals(t *testing.T) {
	p := pairtest.New(t)
	id, c, got := agreed(t, p)
	nonce := [66]byte(got.PayeeNonce)
	sent := len(p.Chain.Sent())
	change := func(f func(*wire.MsgTx)) []byte {
		tx, err := channel.DecodeTx(got.Tx)
		wantNil(t, err)
		f(tx)
		raw, err := channel.EncodeTx(tx)
		wantNil(t, err)
		return raw
	}
	other := nonce
	other[10] ^= 1
	partial := append([]byte(nil), got.Partial...)
	partial[3] ^= 1
	for name, try := range map[string]struct {
		tx      []byte
		nonce   [66]byte
		partial []byte
		want    error
	}{
		"no transaction":       {[]byte{1}, nonce, got.Partial, channel.ErrTerms},
		"less for the payer":   {change(func(tx *wire.MsgTx) { tx.TxOut[0].Value-- }), nonce, got.Partial, channel.ErrTerms},
		"a lock":               {change(func(tx *wire.MsgTx) { tx.LockTime = 5 }), nonce, got.Partial, channel.ErrTerms},
		"more for the payer":   {change(func(tx *wire.MsgTx) { tx.TxOut[0].Value++ }), nonce, got.Partial, channel.ErrSignature},
		"a wrong partial":      {got.Tx, nonce, partial, channel.ErrSignature},
		"no partial":           {got.Tx, nonce, nil, channel.ErrSignature},
		"another nonce":        {got.Tx, other, got.Partial, channel.ErrSignature},
		"a nonce of no points": {got.Tx, [66]byte{}, got.Partial, channel.ErrSignature},
	} {
		if _, err := p.Payer.FinishClose(t.Context(), id, c, try.tx, try.nonce, try.partial); !errors.Is(err, try.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if r := record(t, p, id); r.Close != nil || len(p.Chain.Sent()) != sent {
		t.Fatalf("phase %s, %d broadcasts", r.Phase, len(p.Chain.Sent())-sent)
	}
	_, err := p.Payer.FinishClose(t.Context(), id, c, got.Tx, nonce, got.Partial)
	wantNil(t, err)
}

// TestPitfall18_NonceOnce: a secret nonce signs once; another attempt is another Closing.
func TestPitfall18_NonceOnce(t *testing.T) {
	p := pairtest.New(t)
	id, c, got := agreed(t, p)
	p.PayerDisk.FailNext(store.ErrFull)
	_, err := p.Payer.FinishClose(t.Context(), id, c, got.Tx, [66]byte(got.PayeeNonce), got.Partial)
	wantErr(t, err, store.ErrFull)
	_, err = p.Payer.FinishClose(t.Context(), id, c, got.Tx, [66]byte(got.PayeeNonce), got.Partial)
	wantErr(t, err, script.ErrNonceReused)
	next, err := p.Payer.BeginClose(t.Context(), id)
	wantNil(t, err)
	if next.Nonce == c.Nonce {
		t.Fatal("the same nonce again")
	}
	got, err = p.Payee.Close(t.Context(), id, channel.CloseRequest{Update: next.Update, PayerNonce: next.Nonce[:]})
	wantNil(t, err)
	final, err := p.Payer.FinishClose(t.Context(), id, next, got.Tx, [66]byte(got.PayeeNonce), got.Partial)
	wantNil(t, err)
	wantNil(t, p.Payee.FinishClose(t.Context(), id, final))
}

// A close that is saved and did not leave is sent by the watch.
func TestCloseIsSentAgain(t *testing.T) {
	p := pairtest.New(t)
	id, c, got := agreed(t, p)
	p.PayerDisk.FailButPersistNext(pairtest.ErrInjected)
	_, err := p.Payer.FinishClose(t.Context(), id, c, got.Tx, [66]byte(got.PayeeNonce), got.Partial)
	wantErr(t, err, pairtest.ErrInjected)
	p.RestartPayer()
	wantNil(t, p.StepPayer())
	spend, err := p.Chain.Spend(t.Context(), wire.OutPoint(record(t, p, id).Terms.Outpoint))
	wantNil(t, err)
	if spend == nil || spend.Txid.String() != got.Txid {
		t.Fatalf("%+v", spend)
	}
}

// The payer does not ask for a close while it owes by its own ledger.
func TestBeginCloseOwing(t *testing.T) {
	p := pairtest.New(t)
	id := p.Open(script.Taproot)
	entry, err := p.PayerDisk.Get(t.Context(), "payer/channel", id)
	wantNil(t, err)
	value := bytes.Replace(entry.Value, []byte(`"owed":0,`), []byte(`"owed":1,`), 1)
	wantNil(t, p.PayerDisk.Commit(t.Context(), store.Op{Bucket: "payer/channel", Key: id, Value: value, Expect: entry.Revision}))
	_, err = p.Payer.BeginClose(t.Context(), id)
	wantErr(t, err, channel.ErrOwes)
}

// The settlement of a multisig channel is taken where it pays the rest and executes.
func TestTakeSettlement(t *testing.T) {
	p := pairtest.New(t)
	id := p.Open(script.Multisig)
	_, err := p.Buy(id, 0)
	wantNil(t, err)
	u, err := p.Payer.Newest(t.Context(), id)
	wantNil(t, err)
	s, err := p.Payee.Settle(t.Context(), id, &u, true)
	wantNil(t, err)
	tx, err := channel.DecodeTx(s.Tx)
	wantNil(t, err)
	for name, change := range map[string]func(*wire.MsgTx){
		"less for the payer": func(tx *wire.MsgTx) { tx.TxOut[0].Value-- },
		"more for the payer": func(tx *wire.MsgTx) { tx.TxOut[0].Value++ },
		"no witness":         func(tx *wire.MsgTx) { tx.TxIn[0].Witness = nil },
		"a later lock":       func(tx *wire.MsgTx) { tx.LockTime = 9 },
	} {
		bad := tx.Copy()
		change(bad)
		raw, err := channel.EncodeTx(bad)
		wantNil(t, err)
		if _, err := p.Payer.TakeSettlement(t.Context(), id, raw); !errors.Is(err, channel.ErrTerms) {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err = p.Payer.TakeSettlement(t.Context(), id, s.Tx)
	wantNil(t, err)
	if r := record(t, p, id); r.Phase != channel.Settling || r.Close.Txid != s.Txid {
		t.Fatalf("%s, %+v", r.Phase, r.Close)
	}
}
