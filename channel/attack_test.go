package channel

import (
	"errors"
	"testing"

	"github.com/spillway/spillway/script"
)

// TestPitfall55_OpensInTheFirstEpoch: a duplex channel begins with epoch 1. One that
// began later would leave the payee no epoch to pay back in, or none to be paid in.
func TestPitfall55_OpensInTheFirstEpoch(t *testing.T) {
	for _, epoch := range []uint32{1, 3, 5} {
		op, out := opening(t)
		o := offer(func(o *Offer) {
			o.Constructions, o.Step, o.PayeeRest = []script.Construction{script.Duplex}, o.Margin, p2tr(0x55)
		})
		op.Construction = script.Duplex
		terms, ch, err := o.Terms(op, policy())
		wantNil(t, err)
		out.PkScript = ch.OutputScript()
		op.Update = Update{Epoch: epoch}
		state, err := terms.Commitment(op.Update)
		wantNil(t, err)
		op.Update.Signature, err = ch.SignState(priv(0x11), state)
		wantNil(t, err)
		v := at(o.Tip)
		v.Funding = FundingView{Seen: true, Height: o.Tip}
		_, err = o.Open(op, policy(), v, out)
		if epoch == 1 {
			wantNil(t, err)
		} else {
			wantErr(t, err, ErrTerms)
		}
	}
}

// TestPitfall36_ConfirmationsLeaveNoTime: an offer whose confirmations and margin leave
// no block for a delivery would lock the payer's coins for nothing.
func TestPitfall36_ConfirmationsLeaveNoTime(t *testing.T) {
	for left, ok := range map[uint32]bool{1: true, 0: false} {
		o := offer(func(o *Offer) { o.Confirmations = o.Expiry - o.Tip - o.Margin - left })
		err := o.CheckOffer("regtest", o.Tip, policy())
		if ok {
			wantNil(t, err)
		} else {
			wantErr(t, err, ErrTerms)
		}
	}
	o := offer(func(o *Offer) { o.Confirmations = 1<<32 - 1 })
	wantErr(t, o.CheckOffer("regtest", o.Tip, policy()), ErrTerms)
}

// TestPitfall59_ManyCheapChunksOnCredit: chunks that are each worth less than a fresh
// channel need no place, but a credit of many of them does: else a thief with fresh
// channels gets more than they cost it, and outside of the pool.
func TestPitfall59_ManyCheapChunksOnCredit(t *testing.T) {
	const price, credit = 40 * sat, 16 * 40 * sat // a fresh channel costs 43 sat
	for name, c := range map[string]struct {
		pool uint64 // msat
		free uint64 // msat that may be owed
	}{"full pool": {0, price}, "room": {10 * credit, credit}, "no place yet": {10 * credit, credit}} {
		r, pool := newcomer(1), Pool{Size: c.pool}
		r.Terms.Credit = 0
		if c.pool > 0 && name == "room" {
			r.Terms.Credit = credit
			pool = pool.opens(&r, 200, clock)
		}
		for range 20 {
			p := ask(price)
			p.Credit = credit
			uses := r.UsesPool(p, at(200))
			out := r.Pay(p, at(200), pool)
			if !uses && out.PoolChanged {
				t.Fatalf("%s: the pool mattered and was not read", name)
			}
			r, pool = out.Record, out.Pool
			var e *InsufficientError
			if out.Refusal != nil && (!errors.As(out.Refusal, &e) || e.Required > CeilSat(r.Charged)) {
				t.Fatalf("%s: %v: more than what was delivered is asked for", name, out.Refusal)
			}
		}
		if r.Owed() != c.free {
			t.Fatalf("%s: a fresh channel owes %d msat, %d are allowed", name, r.Owed(), c.free)
		}
	}
}

// TestPitfall57_AgreedAtTheMargin: a close that was agreed just before the margin and is
// not mined gives way to a settlement at the margin, whatever patience is left; one that
// waits in the mempool then is outbid.
func TestPitfall57_AgreedAtTheMargin(t *testing.T) {
	r := record(func(r *PayeeRecord) {
		r.Phase, r.Paid, r.Charged = Closing, 5000, 5000*sat
		r.Close = &PayeeClose{Amount: 5000, Txid: "close", Height: lastBlock}
	})
	ch := r.Terms.built(t)
	for name, c := range map[string]struct {
		v    View
		made bool
	}{
		"before":         {at(lastBlock), false},
		"at the margin":  {at(lastBlock + 1), true},
		"in the mempool": {at(lastBlock+1, spentBy("close", 0)), true},
		"mined":          {at(lastBlock+1, spentBy("close", lastBlock)), false},
	} {
		next, actions := r.Due(ch, payout, c.v, policy())
		made := len(actions) == 1 && actions[0].Kind == MakeSettlement
		if made != c.made || next.Phase != Closing {
			t.Errorf("%s: %s, %+v", name, next.Phase, actions)
		}
	}
}

// TestPitfall55_LadderAtTheMargin: outside of the demonstration a state is made and taken
// only while the other side has no reason yet to close with the one before.
func TestPitfall55_LadderAtTheMargin(t *testing.T) {
	x := duplexTerms(func(x *Terms) { x.Step = x.Margin })
	l := Ladder{Terms: x, Side: script.Payer, Top: 3, Held: Rung{Number: 2}}
	wantNil(t, l.Check(false))
	before, ok := l.Lock(2)
	if !ok {
		t.Fatal("no state 2")
	}
	_, _, err := l.Propose(2000, before-x.Margin-1)
	wantNil(t, err)
	_, _, err = l.Propose(2000, before-x.Margin)
	wantErr(t, err, ErrExpiring)
}
