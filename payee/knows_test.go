package payee_test

import (
	"testing"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/internal/pairtest"
	"github.com/spillway/spillway/payee"
	"github.com/spillway/spillway/script"
)

// A payee whose disk was put back to 5,000 of 9,000 sat sees the rung for 9,000 that its
// tower broadcast: it makes nothing against it, and what is mined pays it 9,000.
func TestRestoredPayeeLeavesTheNewerRung(t *testing.T) {
	for _, kind := range []script.Construction{script.Taproot, script.Multisig, script.MultisigP2SH} {
		t.Run(string(kind), func(t *testing.T) {
			p := pairtest.New(t)
			id := p.Open(kind)
			pay := func(amount uint64) {
				t.Helper()
				u := p.Update(id, amount)
				_, err := p.Payee.Pay(t.Context(), payee.Request{Channel: id, Update: &u})
				wantNil(t, err)
			}
			pay(5000)
			old := snapshot(t, p)
			pay(9000)
			rungs, err := p.Payee.Rungs(t.Context(), id, script.FeeRatePerVB(4))
			wantNil(t, err)
			old(t)
			rung, err := channel.DecodeTx(rungs[1].Tx)
			wantNil(t, err)
			r, err := p.Payee.Record(t.Context(), id)
			wantNil(t, err)
			tip, err := p.Chain.Tip(t.Context())
			wantNil(t, err)
			if r.Paid != 5000 {
				t.Fatalf("the backup knows %d sat", r.Paid)
			}
			p.Mine(int(r.Terms.Expiry - r.Terms.Margin - tip.Height))
			wantNil(t, p.Chain.Broadcast(t.Context(), rung))
			sent := len(p.Chain.Sent())
			for range 3 {
				wantNil(t, p.StepPayee())
				_, err := p.Chain.MineBlock() // it is passed over
				wantNil(t, err)
			}
			if now := p.Chain.Sent()[sent:]; len(now) > 0 {
				t.Fatalf("%d transactions against a newer settlement, the first pays %d sat", len(now), now[0].TxOut[len(now[0].TxOut)-1].Value)
			}
			p.Mine(8)
			wantNil(t, p.StepPayee())
			if r, err = p.Payee.Record(t.Context(), id); err != nil || r.Phase != channel.Closed || r.SpentBy != rungs[1].Txid {
				t.Fatalf("phase %s by %s, %v", r.Phase, r.SpentBy, err)
			}
		})
	}
}
