package payee_test

import (
	"errors"
	"testing"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/internal/pairtest"
	"github.com/spillway/spillway/payee"
	"github.com/spillway/spillway/script"
)

// The rungs are settlements of the newest update at 1, 2, 4 … sat/vB up to the limit,
// or to what is at stake; each is good, and making them saves and sends nothing.
func TestRungs(t *testing.T) {
	for _, kind := range []script.Construction{script.Taproot, script.Multisig, script.MultisigP2SH} {
		t.Run(string(kind), func(t *testing.T) {
			p := pairtest.New(t)
			id := p.Open(kind)
			if _, err := p.Payee.Rungs(t.Context(), id, script.FeeRatePerVB(100)); !errors.Is(err, channel.ErrNothingAtStake) {
				t.Fatalf("before anything was paid: %v", err)
			}
			for i := range 20 {
				if _, err := p.Buy(id, uint64(i)); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := p.Buy(id); err != nil {
				t.Fatal(err)
			}
			saved, sent := len(p.PayeeDisk.Commits()), len(p.Chain.Sent())
			for _, limit := range []script.FeeRate{1_000, 1_999, 2_000, 20_000, 1_000_000} {
				rungs, err := p.Payee.Rungs(t.Context(), id, limit)
				if err != nil {
					t.Fatal(err)
				}
				checkRungs(t, p, id, rungs, limit)
			}
			if _, err := p.Payee.Rungs(t.Context(), id, 999); !errors.Is(err, channel.ErrTooSmall) {
				t.Errorf("below 1 sat/vB: %v", err)
			}
			if len(p.PayeeDisk.Commits()) != saved || len(p.Chain.Sent()) != sent {
				t.Error("making rungs saved or sent something")
			}
		})
	}
}

func checkRungs(t *testing.T, p *pairtest.Pair, id string, rungs []payee.Rung, limit script.FeeRate) {
	t.Helper()
	r, err := p.Payee.Record(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	ch, err := r.Terms.Script()
	if err != nil {
		t.Fatal(err)
	}
	size := ch.SettlementVSize(int64(r.Terms.Capacity-r.Paid), p.Payout)
	for i, rung := range rungs {
		tx, err := channel.DecodeTx(rung.Tx)
		if err != nil {
			t.Fatal(err)
		}
		if err := script.Execute(tx, map[wire.OutPoint]*wire.TxOut{ch.Outpoint: ch.Prevout()}); err != nil {
			t.Errorf("rung %d: %v", i, err)
		}
		last := i == len(rungs)-1
		if !last && rung.Rate != script.FeeRatePerVB(1<<i) || last && rung.Rate > limit {
			t.Errorf("rung %d of %d to %s is at %s", i, len(rungs), limit, rung.Rate)
		}
		if i > 0 && rung.Fee-rungs[i-1].Fee < size {
			t.Errorf("rung %d pays %d sat, the one before %d, at %d vB", i, rung.Fee, rungs[i-1].Fee, size)
		}
		if got := tx.TxOut[1].Value; got != 20_000-rung.Fee || rung.Amount != 20_000 || tx.TxOut[0].Value != 30_000 {
			t.Errorf("rung %d pays %d and %d sat with a fee of %d", i, tx.TxOut[0].Value, got, rung.Fee)
		}
	}
	top := rungs[len(rungs)-1]
	if stake := int64(20_000) - script.Dust(p.Payout); limit.Fee(size) > stake && stake-top.Fee > 1 {
		t.Errorf("the highest rung leaves %d sat of what is at stake", stake-top.Fee)
	} else if limit.Fee(size) <= stake && top.Rate != limit {
		t.Errorf("the highest rung is at %s, not %s", top.Rate, limit)
	}
}

// What is paid may be too little for any settlement, and a channel may be over or unknown.
func TestRungsRefused(t *testing.T) {
	p := pairtest.New(t)
	id := p.Open(script.Taproot)
	if _, err := p.Payee.Rungs(t.Context(), "nothing", 1000); !errors.Is(err, payee.ErrUnknown) {
		t.Errorf("unknown: %v", err)
	}
	u := p.Update(id, 500)
	if _, err := p.Payee.Pay(t.Context(), payee.Request{Channel: id, Update: &u}); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Payee.Rungs(t.Context(), id, 1_000_000); !errors.Is(err, channel.ErrTooSmall) {
		t.Errorf("500 sat: %v", err)
	}
	u = p.Update(id, 5_000)
	if _, err := p.Payee.Pay(t.Context(), payee.Request{Channel: id, Update: &u}); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Payee.Settle(t.Context(), id, nil, false); err != nil {
		t.Fatal(err)
	}
	p.Mine(7)
	if err := p.StepPayee(); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Payee.Rungs(t.Context(), id, 1_000_000); !errors.Is(err, channel.ErrFinalized) {
		t.Errorf("closed: %v", err)
	}
}
