package payee_test

import (
	"testing"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/internal/pairtest"
	"github.com/spillway/spillway/script"
)

// One channel of a batch whose half-signature is not good for what its record says keeps
// none of the others from being settled, nor does one that a batch cannot be made with.
func TestOneBadRecordKeepsNobodyFromABatch(t *testing.T) {
	for _, row := range []struct {
		name   string
		change func(*channel.PayeeRecord)
	}{
		{"an amount that nobody signed", func(r *channel.PayeeRecord) { r.Paid += 10 }},
		{"another half-signature", func(r *channel.PayeeRecord) { r.Signature[3] ^= 1 }},
	} {
		t.Run(row.name, func(t *testing.T) {
			p := pairtest.New(t)
			ids := due(t, p, 9_000, script.Taproot, script.Multisig, script.Taproot)
			tamper(t, p, ids[1], row.change)
			p.RestartPayee()
			if err := p.StepPayee(); err == nil {
				t.Error("nothing is said of the record that nobody can settle")
			}
			for _, id := range []string{ids[0], ids[2]} {
				if spender(t, p, id) == nil {
					t.Errorf("%s is not settled", id)
				}
			}
			if spender(t, p, ids[1]) != nil {
				t.Error("settled at an amount that nobody signed")
			}
		})
	}
}

// Where several channels wait in the mempool together, and one of them went wrong on the
// disk since, the others still rise.
func TestOneBadRecordKeepsNobodyFromRising(t *testing.T) {
	p := pairtest.New(t)
	ids := due(t, p, 9_000, script.Taproot, script.Multisig, script.Taproot)
	wantNil(t, p.StepPayee())
	before := recordOf(t, p, ids[0]).Settlement
	tamper(t, p, ids[1], func(r *channel.PayeeRecord) { r.Signature[3] ^= 1 })
	p.RestartPayee()
	p.Chain.SetFeeRate(script.FeeRatePerVB(4))
	_ = p.StepPayee() // the bad one is named
	_ = p.StepPayee()
	if s := recordOf(t, p, ids[0]).Settlement; s.Rate <= before.Rate || spender(t, p, ids[0]).TxID() != s.Txid {
		t.Errorf("%+v after %+v", s, before)
	}
}
