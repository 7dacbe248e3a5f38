package payee_test

import (
	"testing"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/internal/pairtest"
	"github.com/spillway/spillway/script"
)

// The payee has paid back: the payer's state of epoch 2 is newer than what the payee holds.
// The payer puts it into the mempool at a fee that no miner takes, to replace it by its
// refund once that is valid. The payee settles what it holds at its deadline, before the
// refund may be mined; a state that pays what is usual it leaves alone.
func TestDuplexParkedState(t *testing.T) {
	for rate, parked := range map[script.FeeRate]bool{script.FeeRatePerVB(1): true, script.FeeRatePerVB(9): false} {
		p, id := openDuplex(t)
		ctx := t.Context()
		for i := range uint64(20) {
			_, err := p.Buy(id, i)
			wantNil(t, err)
		}
		_, err := p.Buy(id)
		wantNil(t, err)
		got, err := p.Payee.Refund(ctx, id, "eight", 8*pairtest.Price)
		wantNil(t, err)
		hand(t, p, id, got)
		r, err := p.Payer.Record(ctx, id)
		wantNil(t, err)
		deadline := r.Terms.Expiry - r.Terms.Margin
		tip, err := p.Chain.Tip(ctx)
		wantNil(t, err)
		p.Mine(int(deadline - 1 - tip.Height))

		p.Chain.SetFeeRate(script.FeeRatePerVB(9))
		ch, err := r.Terms.Script()
		wantNil(t, err)
		claim, err := r.Claim(ch)
		wantNil(t, err)
		claim.PayeeKey, err = p.PayerKeys.PayerChannelKey(r.KeyIndex)
		wantNil(t, err)
		tx, _, err := script.Settle([]script.Claim{claim}, r.RefundScript, rate)
		wantNil(t, err)
		wantNil(t, p.Chain.Broadcast(ctx, tx))
		stays := func() bool {
			spend, err := p.Chain.Spend(ctx, ch.Outpoint)
			wantNil(t, err)
			return spend != nil && spend.Txid == tx.TxHash()
		}
		wantNil(t, p.StepPayee())
		if !stays() {
			t.Fatalf("at %s: replaced before the deadline", rate)
		}
		_, err = p.Chain.MineBlock()
		wantNil(t, err)
		wantNil(t, p.StepPayee())
		if stays() == parked {
			t.Fatalf("at %s, from the deadline on: left alone %v", rate, stays())
		}
		p.Mine(7)
		wantNil(t, p.StepPayee())
		s, err := p.Payee.Record(ctx, id)
		wantNil(t, err)
		if s.Phase != channel.Closed || (s.Settlement != nil && s.Settlement.Txid == s.SpentBy) != parked {
			t.Fatalf("at %s: %s, spent by %s", rate, s.Phase, s.SpentBy)
		}
	}
}

// What a payee tells at a resume is saved by the payer: it is there after a restart.
func TestDuplexResumeIsSaved(t *testing.T) {
	p, id := openDuplex(t)
	ctx := t.Context()
	for i := range uint64(10) {
		_, err := p.Buy(id, i)
		wantNil(t, err)
	}
	_, err := p.Buy(id)
	wantNil(t, err)
	got, err := p.Payee.Refund(ctx, id, "three", 3*pairtest.Price)
	wantNil(t, err)
	s, err := p.Payee.Record(ctx, id)
	wantNil(t, err)
	wantNil(t, p.Payer.ResumedDuplex(ctx, id, channel.Resumed{Held: s.Duplex.Held, Back: got.Back, Sent: got.State}))
	p.RestartPayer()
	agree(t, p, id, 7_000, 7*pairtest.Price, 2)
}
