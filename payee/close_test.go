package payee_test

import (
	"errors"
	"testing"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/internal/pairtest"
	"github.com/spillway/spillway/payee"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/store"
)

// paid opens a channel, delivers a chunk and has it paid.
func paid(t *testing.T, p *pairtest.Pair, kind script.Construction) string {
	t.Helper()
	id := p.Open(kind)
	_, err := p.Buy(id, 0)
	wantNil(t, err)
	u := p.Update(id, 1000)
	_, err = p.Payee.Pay(t.Context(), payee.Request{Channel: id, Update: &u})
	wantNil(t, err)
	return id
}

// request begins a close as the payer does.
func request(t *testing.T, p *pairtest.Pair, id string) channel.CloseRequest {
	t.Helper()
	c, err := p.Payer.BeginClose(t.Context(), id)
	wantNil(t, err)
	return channel.CloseRequest{Update: c.Update, PayerNonce: c.Nonce[:]}
}

// TestPitfall57_SavedBeforeThePartial: where *closing* is not saved no partial signature
// leaves; where it was saved it is final, also when its answer was lost.
func TestPitfall57_SavedBeforeThePartial(t *testing.T) {
	p := pairtest.New(t)
	id := paid(t, p, script.Taproot)
	q := request(t, p, id)
	p.PayeeDisk.FailNext(store.ErrFull)
	if got, err := p.Payee.Close(t.Context(), id, q); !errors.Is(err, store.ErrFull) || got != nil {
		t.Fatalf("an answer without a save: %+v, %v", got, err)
	}
	if r, _ := p.Payee.Record(t.Context(), id); r.Phase != channel.Open {
		t.Fatalf("phase %s", r.Phase)
	}
	_, err := p.Buy(id, 1)
	wantNil(t, err)

	q = request(t, p, id)
	p.PayeeDisk.FailButPersistNext(pairtest.ErrInjected)
	if got, err := p.Payee.Close(t.Context(), id, q); !errors.Is(err, pairtest.ErrInjected) || got != nil {
		t.Fatalf("%+v, %v", got, err)
	}
	p.RestartPayee()
	u := p.Update(id, 9000)
	_, err = p.Payee.Pay(t.Context(), payee.Request{Channel: id, Update: &u, Items: []payee.Item{pairtest.Item(5)}, Credit: p.Credit})
	wantErr(t, err, channel.ErrFinalized)
	got, err := p.Payee.Close(t.Context(), id, q)
	wantNil(t, err)
	if got.Amount != 2000 || len(got.Partial) != 32 {
		t.Fatalf("%+v", got)
	}
}

// TestPitfall73_NoncesOfTheDriver: the same payer nonce gets the stored answer, whatever
// happened meanwhile; another one the same transaction with a new nonce.
func TestPitfall73_NoncesOfTheDriver(t *testing.T) {
	p := pairtest.New(t)
	id := paid(t, p, script.Taproot)
	q := request(t, p, id)
	first, err := p.Payee.Close(t.Context(), id, q)
	wantNil(t, err)
	p.Chain.SetFeeRate(script.FeeRatePerVB(20))
	for range 2 {
		p.RestartPayee()
		again, err := p.Payee.Close(t.Context(), id, q)
		wantNil(t, err)
		if again.Partial.String() != first.Partial.String() || again.PayeeNonce.String() != first.PayeeNonce.String() || again.Tx.String() != first.Tx.String() {
			t.Fatal("another answer for the same nonce")
		}
	}
	other, err := p.Payee.Close(t.Context(), id, request(t, p, id))
	wantNil(t, err)
	if other.Tx.String() != first.Tx.String() {
		t.Fatal("another transaction for another nonce")
	}
	if other.PayeeNonce.String() == first.PayeeNonce.String() || other.Partial.String() == first.Partial.String() {
		t.Fatal("a secret nonce was used twice")
	}
	for name, nonce := range map[string]channel.Hex{"short": q.PayerNonce[:65], "none": nil, "no point": make(channel.Hex, 66)} {
		bad := q
		bad.PayerNonce = nonce
		if _, err := p.Payee.Close(t.Context(), id, bad); err == nil {
			t.Errorf("a nonce that is %s was answered", name)
		}
	}
}

// An update that comes with a refused close is kept.
func TestRefusedCloseKeepsItsUpdate(t *testing.T) {
	p := pairtest.New(t)
	id := paid(t, p, script.Taproot)
	_, err := p.Buy(id, 1)
	wantNil(t, err)
	q := request(t, p, id)
	q.Update = p.Update(id, 1500) // charged are 2000
	_, err = p.Payee.Close(t.Context(), id, q)
	wantErr(t, err, channel.ErrOwes)
	p.RestartPayee()
	if r, _ := p.Payee.Record(t.Context(), id); r.Paid != 1500 || r.Phase != channel.Open {
		t.Fatalf("paid %d, phase %s", r.Paid, r.Phase)
	}
	q.Update = p.Update(id, 2000)
	q.Update.Amount = 2001
	_, err = p.Payee.Close(t.Context(), id, q)
	wantErr(t, err, channel.ErrSignature)
}

// FinishClose takes the agreed transaction, complete, and nothing else; a repeat is a success.
func TestFinishClose(t *testing.T) {
	p := pairtest.New(t)
	id := paid(t, p, script.Taproot)
	if err := p.Payee.FinishClose(t.Context(), id, []byte{1}); !errors.Is(err, channel.ErrConflict) {
		t.Fatal(err)
	}
	c, err := p.Payer.BeginClose(t.Context(), id)
	wantNil(t, err)
	got, err := p.Payee.Close(t.Context(), id, channel.CloseRequest{Update: c.Update, PayerNonce: c.Nonce[:]})
	wantNil(t, err)
	if err := p.Payee.FinishClose(t.Context(), id, got.Tx); !errors.Is(err, channel.ErrConflict) {
		t.Fatalf("an unsigned close: %v", err)
	}
	final, err := p.Payer.FinishClose(t.Context(), id, c, got.Tx, [66]byte(got.PayeeNonce), got.Partial)
	wantNil(t, err)
	for range 2 {
		wantNil(t, p.Payee.FinishClose(t.Context(), id, final))
		p.RestartPayee()
	}
	r, err := p.Payee.Record(t.Context(), id)
	wantNil(t, err)
	if r.Close.FinalTx.String() != channel.Hex(final).String() {
		t.Fatal("the final transaction is not kept")
	}
}

// TestPitfall35_SettlementSavedFirst: each settlement is saved before it is broadcast, so that
// after a crash the same one is sent again, and its rate never falls.
func TestPitfall35_SettlementSavedFirst(t *testing.T) {
	p := pairtest.New(t)
	id := paid(t, p, script.Taproot)
	sent := len(p.Chain.Sent())
	p.PayeeDisk.FailNext(store.ErrFull)
	_, err := p.Payee.Settle(t.Context(), id, nil, false)
	wantErr(t, err, store.ErrFull)
	if len(p.Chain.Sent()) != sent {
		t.Fatal("a settlement left unsaved")
	}
	p.Chain.Down(true)
	_, err = p.Payee.Settle(t.Context(), id, nil, false)
	if err == nil {
		t.Fatal("settled without a chain")
	}
	p.Chain.Down(false)
	p.Chain.SetFeeRate(script.FeeRatePerVB(5))
	first, err := p.Payee.Settle(t.Context(), id, nil, false)
	wantNil(t, err)
	p.RestartPayee()
	p.Chain.SetFeeRate(script.FeeRatePerVB(1))
	again, err := p.Payee.Settle(t.Context(), id, nil, false)
	wantNil(t, err)
	if again.Txid != first.Txid || again.Rate != first.Rate {
		t.Fatalf("at a lower rate another settlement: %+v after %+v", again, first)
	}
	if tx := decode(t, first.Tx); tx.Version != 3 || tx.LockTime != 0 || len(tx.TxOut) != 2 {
		t.Fatalf("version %d, lock %d, %d outputs", tx.Version, tx.LockTime, len(tx.TxOut))
	}
}

// The payer of a multisig channel can't have it settled while it owes.
func TestSettleForAPayerThatOwes(t *testing.T) {
	p := pairtest.New(t)
	id := p.Open(script.Multisig)
	_, err := p.Buy(id, 0)
	wantNil(t, err)
	u := p.Update(id, 999)
	_, err = p.Payee.Settle(t.Context(), id, &u, true)
	wantErr(t, err, channel.ErrOwes)
	if r, _ := p.Payee.Record(t.Context(), id); r.Paid != 999 || r.Phase != channel.Open {
		t.Fatalf("paid %d, phase %s", r.Paid, r.Phase)
	}
	u.Amount = 1000
	_, err = p.Payee.Settle(t.Context(), id, &u, true)
	wantErr(t, err, channel.ErrSignature)
	u = p.Update(id, 1000)
	_, err = p.Payee.Settle(t.Context(), id, &u, true)
	wantNil(t, err)
	_, err = p.Payee.Close(t.Context(), id, channel.CloseRequest{Update: u, PayerNonce: make(channel.Hex, 66)})
	wantErr(t, err, channel.ErrUnsupported)
}

// What was paid does not cover a settlement: that is said, and nothing is broadcast.
func TestSettleTooSmall(t *testing.T) {
	p := pairtest.New(t)
	id := p.Open(script.Taproot)
	_, err := p.Payee.Settle(t.Context(), id, nil, false)
	wantErr(t, err, channel.ErrNothingAtStake)
	u := p.Update(id, 300)
	sent := len(p.Chain.Sent())
	_, err = p.Payee.Settle(t.Context(), id, &u, false)
	wantErr(t, err, channel.ErrTooSmall)
	if len(p.Chain.Sent()) != sent {
		t.Fatal("something was broadcast")
	}
}

// TestPitfall29_EachAlone: a failure in one channel does not keep the watch from the others.
func TestPitfall29_EachAlone(t *testing.T) {
	p := pairtest.New(t)
	p.Coins(2)
	first, second := paid(t, p, script.Taproot), paid(t, p, script.Taproot)
	broken := min(first, second)
	tip, err := p.Chain.Tip(t.Context())
	wantNil(t, err)
	r, err := p.Payee.Record(t.Context(), broken)
	wantNil(t, err)
	p.Mine(int(r.Terms.Expiry - r.Terms.Margin - tip.Height + 2))
	p.PayeeDisk.FailNext(pairtest.ErrInjected) // the first save of the step, the first channel's
	err = p.StepPayee()
	wantErr(t, err, pairtest.ErrInjected)
	other := max(first, second)
	if r, _ := p.Payee.Record(t.Context(), other); r.Phase != channel.Settling || r.Settlement == nil {
		t.Fatalf("the other channel was not settled: %s", r.Phase)
	}
	wantNil(t, p.StepPayee())
	if r, _ := p.Payee.Record(t.Context(), broken); r.Phase != channel.Settling || r.Settlement == nil {
		t.Fatalf("the channel was not settled in the next step: %s", r.Phase)
	}
}

// TestPitfall25_BuriedFirst: a channel is over only when its end is buried; until then a
// reorg reopens the question.
func TestPitfall25_BuriedFirst(t *testing.T) {
	p := pairtest.New(t)
	id := paid(t, p, script.Taproot)
	_, err := p.Payee.Settle(t.Context(), id, nil, false)
	wantNil(t, err)
	phase := func() channel.Phase {
		t.Helper()
		wantNil(t, p.StepPayee())
		r, err := p.Payee.Record(t.Context(), id)
		wantNil(t, err)
		return r.Phase
	}
	p.Mine(6)
	if got := phase(); got != channel.Settling {
		t.Fatalf("at depth 6: %s", got)
	}
	wantNil(t, p.Chain.Reorg(6, 7))
	if got := phase(); got != channel.Settling {
		t.Fatalf("after the reorg: %s", got)
	}
	p.Mine(7)
	if got := phase(); got != channel.Closed {
		t.Fatalf("at depth 7: %s", got)
	}
	targets, err := p.Payee.Watched(t.Context())
	wantNil(t, err)
	if len(targets) != 0 {
		t.Fatalf("still watched: %v", targets)
	}
	_, err = p.Payee.Record(t.Context(), id) // over, and still known
	wantNil(t, err)
}
