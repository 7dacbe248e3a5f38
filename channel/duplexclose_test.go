package channel

import (
	"testing"

	"github.com/spillway/spillway/script"
)

// holding is a side of a duplex channel that holds a state.
func holding(b *both, side script.Side) Duplex { return b.side[side] }

// threeEpochs: the payee holds epoch 3 (11,000 sat), the payer epoch 2.
func threeEpochs(t *testing.T) *both {
	t.Helper()
	b := newBoth(t)
	for i, msat := range []int64{20_000_000, -10_000_000, 1_000_000} {
		b.goods(msat)
		wantNil(t, b.pay(SenderOf(uint32(i+1)), 200, anyAmount))
	}
	return b
}

// Both sides have deadlines, and act at the first height at which they must.
func TestDuplexDue(t *testing.T) {
	b := threeEpochs(t)
	lock := func(k uint32) uint32 { h, _ := b.side[0].Terms.Lock(k); return h }
	p := DefaultPolicy("regtest")
	spend := func(epoch, height uint32) func(*View) {
		return func(v *View) {
			v.Spend = &SpendView{Txid: "theirs", Height: height, Lock: lock(epoch), Fee: 200, VSize: 200}
		}
	}
	asked := func(r *Duplex) { r.Phase, r.Reason = Settling, WhenAsked }
	leaving := func(sat int64) func(*View) {
		return func(v *View) { spend(3, 0)(v); v.Spend.Leaves = sat }
	}
	agreed := func(v *View) { v.Spend = &SpendView{Txid: "agreed", Fee: 2000, VSize: 200, Leaves: 9_000} }
	usual := func(v *View) { v.Rate = 1001 }
	for name, c := range map[string]struct {
		side   script.Side
		change func(*Duplex)
		v      View
		phase  Phase
		act    ActionKind // "": nothing
	}{
		"nothing to do":                            {script.Payee, nil, at(lock(2) - margin - 1), Open, ""},
		"the payee's deadline":                     {script.Payee, nil, at(lock(2) - margin), Settling, MakeSettlement},
		"the payer's is a step later":              {script.Payer, nil, at(lock(1) - margin - 1), Open, ""},
		"the payer, that heard of nothing newer":   {script.Payer, nil, at(lock(1) - margin), Settling, MakeSettlement},
		"asked, before the lock":                   {script.Payee, asked, at(lock(3) - 1), Settling, ""},
		"the deadline, the funding unmined":        {script.Payee, nil, at(lock(2)-margin, unconfirmed), Settling, MakeSettlement},
		"asked, at the lock":                       {script.Payee, asked, at(lock(3)), Settling, MakeSettlement},
		"an older epoch is broadcast":              {script.Payee, nil, at(lock(2), spend(2, 0)), Settling, MakeSettlement},
		"the refund is broadcast":                  {script.Payee, nil, at(lock(3), spend(0, 0)), Settling, MakeSettlement},
		"a newer epoch is broadcast":               {script.Payer, nil, at(lock(3), spend(3, 0)), Open, ""},
		"a newer one, at our deadline":             {script.Payer, nil, at(lock(1)-margin, spend(3, 0)), Settling, ""},
		"a newer one that pays too little, before": {script.Payer, nil, at(lock(1)-margin-1, spend(3, 0), usual), Open, ""},
		"and at our deadline":                      {script.Payer, nil, at(lock(1)-margin, spend(3, 0), usual), Settling, MakeSettlement},
		"a newer one, when more is due":            {script.Payer, nil, at(lock(1)-1, spend(3, 0)), Settling, MakeSettlement},
		"a tower's rung of less":                   {script.Payee, nil, at(lock(3), leaving(10_999)), Settling, MakeSettlement},
		"a tower's rung":                           {script.Payee, nil, at(lock(2)-margin, leaving(11_000)), Settling, ""},
		"a tower's rung that pays too little":      {script.Payee, nil, at(lock(2)-margin, leaving(11_000), usual), Settling, MakeSettlement},
		"a tower's rung of more":                   {script.Payee, nil, at(lock(2)-lastBlocks-1, leaving(11_001), usual), Settling, ""},
		"a tower's rung of more, in the last need": {script.Payee, nil, at(lock(2)-lastBlocks, leaving(11_001), usual), Settling, MakeSettlement},
		"a close":                   {script.Payee, nil, at(lock(2)-margin-1, agreed), Open, ""},
		"a close, at our deadline":  {script.Payee, nil, at(lock(2)-margin, agreed), Settling, MakeSettlement},
		"mined":                     {script.Payee, nil, at(lock(2), spend(2, lock(2))), Settling, ""},
		"buried":                    {script.Payee, nil, at(lock(2)+6, spend(2, lock(2))), Closed, ""},
		"the funding is gone":       {script.Payee, nil, View{Tip: lock(2)}, Open, ""},
		"the payer without a state": {script.Payer, func(r *Duplex) { r.Held = Update{} }, at(expiry - 1), Open, ""},
		"the payer without a state, at the expiry": {script.Payer, func(r *Duplex) { r.Held = Update{} }, at(expiry), Refunding, MakeRefund},
		"the payee without a state":                {script.Payee, func(r *Duplex) { r.Held = Update{} }, at(expiry), Open, ""},
		"closed":                                   {script.Payee, func(r *Duplex) { r.Phase = Closed }, at(expiry), Closed, ""},
		"funding becomes open":                     {script.Payee, func(r *Duplex) { r.Phase = Funding }, at(200), Open, ""},
		"funding, not deep enough":                 {script.Payee, func(r *Duplex) { r.Phase = Funding }, at(200, unconfirmed), Funding, ""},
		"ours waits in the mempool": {script.Payee, func(r *Duplex) {
			asked(r)
			r.Close = &Broadcast{Txid: "theirs", Rate: 1000, Amount: r.Held.Amount, Height: lock(3)}
		}, at(lock(3), spend(3, 0)), Settling, ""},
		"ours was dropped": {script.Payee, func(r *Duplex) {
			asked(r)
			r.Close = &Broadcast{Txid: "ours", Tx: Hex{1}, Rate: 1000, Amount: r.Held.Amount, Height: lock(3)}
		}, at(lock(3)), Settling, Send},
	} {
		t.Run(name, func(t *testing.T) {
			r := holding(b, c.side)
			if c.change != nil {
				c.change(&r)
			}
			next, actions := r.Due(b.ch, payout, c.v, p)
			var kind ActionKind
			if len(actions) > 0 {
				kind = actions[0].Kind
			}
			if next.Phase != c.phase || kind != c.act || len(actions) > 1 {
				t.Fatalf("phase %s, %+v; want %s, %q", next.Phase, actions, c.phase, c.act)
			}
			again, twice := next.Due(b.ch, payout, c.v, p)
			same(t, "record when asked again", again, next)
			same(t, "actions when asked again", twice, actions)
		})
	}
}

// What is held is completed by its receiver, at its lock, for its amount.
func TestDuplexClaim(t *testing.T) {
	b := threeEpochs(t)
	for side, key := range map[script.Side]byte{script.Payer: 0x11, script.Payee: 0x22} {
		r := b.side[side]
		claim, err := r.claim(b.ch)
		wantNil(t, err)
		claim.PayeeKey = priv(key)
		tx, fee, err := script.Settle([]script.Claim{claim}, payout, perVB)
		wantNil(t, err)
		lock, _ := r.Terms.Lock(r.Held.Epoch)
		if tx.LockTime != lock || tx.TxOut[0].Value != int64(capacity-r.Held.Amount) || tx.TxOut[1].Value != int64(r.Held.Amount)-fee {
			t.Errorf("%s: lock %d, outputs %d and %d, fee %d", side, tx.LockTime, tx.TxOut[0].Value, tx.TxOut[1].Value, fee)
		}
		claim.PayeeKey = priv(key ^ 0x33) // the other side's
		if _, _, err := script.Settle([]script.Claim{claim}, payout, perVB); err == nil {
			t.Errorf("the sender completed what the %s holds", side)
		}
	}
	_, err := Duplex{Terms: duplexTerms()}.claim(b.ch)
	wantErr(t, err, ErrNothingAtStake)
}
