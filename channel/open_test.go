package channel

import (
	"errors"
	"testing"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/script"
)

func TestOpen(t *testing.T) {
	op, out := opening(t)
	r, err := offer().Open(op, policy(), at(fundedAt), out)
	wantNil(t, err)
	if r.Phase != Open || r.Paid != 0 || r.Charged != 0 || r.Terms.ID() != op.Outpoint.String() {
		t.Fatalf("%+v", r)
	}
	if r, err = offer().Open(op, policy(), at(fundedAt, unconfirmed), out); err != nil || r.Phase != Funding {
		t.Fatalf("with T1 in the mempool: phase %s, %v", r.Phase, err)
	}
}

// TestOpenRefusals: every rule of an opening, each broken alone.
func TestOpenRefusals(t *testing.T) {
	type in struct {
		offer Offer
		op    Opening
		p     Policy
		view  View
		out   *wire.TxOut
	}
	for _, c := range []struct {
		name   string
		change func(*testing.T, *in)
		want   error
	}{
		{"construction not offered", func(_ *testing.T, i *in) { i.offer.Constructions = []script.Construction{script.Multisig} }, ErrTerms},
		{"unknown construction", func(_ *testing.T, i *in) { i.op.Construction = "duplex" }, ErrTerms},
		{"capacity below the least", func(_ *testing.T, i *in) { i.op.Capacity = 9_999 }, ErrTerms},
		{"capacity above the most", func(_ *testing.T, i *in) { i.offer.MaxDeposit = capacity - 1 }, ErrTerms},
		{"capacity is not the output's", func(_ *testing.T, i *in) { i.out.Value-- }, ErrTerms},
		{"output is larger", func(_ *testing.T, i *in) { i.out.Value++ }, ErrTerms},
		{"output has another script", func(_ *testing.T, i *in) { i.out.PkScript = p2tr(9) }, ErrTerms},
		{"output spent", func(_ *testing.T, i *in) { i.view.Spend = &SpendView{Txid: "x"} }, ErrTerms},
		{"T1 unseen", func(_ *testing.T, i *in) { i.view.Funding = FundingView{} }, ErrUnconfirmed},
		{"no such output", func(_ *testing.T, i *in) { i.out = nil }, ErrUnconfirmed},
		{"payer's key is the payee's", func(_ *testing.T, i *in) { i.op.PayerKey = i.offer.PayeeKey }, ErrTerms},
		{"payer's key is the payee's with the other sign", func(_ *testing.T, i *in) {
			i.op.PayerKey = i.offer.PayeeKey
			i.op.PayerKey[0] ^= 1
		}, ErrTerms},
		{"payer's key is no point", func(_ *testing.T, i *in) { i.op.PayerKey = Key{} }, ErrTerms},
		{"rest script anyone can spend", func(_ *testing.T, i *in) { i.op.RestScript = Hex{0x51} }, ErrTerms},
		{"rest script is data", func(_ *testing.T, i *in) { i.op.RestScript = Hex{0x6a} }, ErrTerms},
		{"half-signature of another amount", func(t *testing.T, i *in) { i.op.Update.Signature = half(t, terms(), 1).Signature }, ErrSignature},
		{"no half-signature", func(_ *testing.T, i *in) { i.op.Update.Signature = nil }, ErrSignature},
		{"first amount above the capacity", func(_ *testing.T, i *in) { i.op.Update.Amount = capacity + 1 }, ErrAmountExceeds},
		{"first amount leaves a forbidden rest", func(_ *testing.T, i *in) { i.op.Update.Amount = capacity - 1 }, ErrAmountExceeds},
		{"too little time", func(_ *testing.T, i *in) { i.view.Tip = expiry - margin - 144 }, ErrTerms},
		{"expired", func(_ *testing.T, i *in) { i.view.Tip = expiry + 1 }, ErrTerms},
		{"expiry is a time", func(_ *testing.T, i *in) { i.offer.Expiry = 500_000_000 }, ErrTerms},
		{"expiry is zero", func(_ *testing.T, i *in) { i.offer.Expiry = 0 }, ErrTerms},
		{"version", func(_ *testing.T, i *in) { i.offer.TxVersion = 1 }, ErrTerms},
	} {
		t.Run(c.name, func(t *testing.T) {
			i := in{offer: offer(), p: policy(), view: at(fundedAt)}
			i.op, i.out = opening(t)
			c.change(t, &i)
			r, err := i.offer.Open(i.op, i.p, i.view, i.out)
			wantErr(t, err, c.want)
			same(t, "what is to be stored", r, PayeeRecord{})
		})
	}
}

// The last tip at which a channel may be opened leaves confirmations, a useful
// time and the margin.
func TestTimeLeft(t *testing.T) {
	p, terms := policy(), terms()
	last := expiry - margin - p.Useful - terms.Confirmations
	wantNil(t, terms.TimeLeft(last, p))
	wantErr(t, terms.TimeLeft(last+1, p), ErrTerms)
	wantErr(t, terms.TimeLeft(1<<32-1, p), ErrTerms)
}

// TestPitfall07_DepthGrows: how many confirmations count grows with what can be taken.
func TestPitfall07_DepthGrows(t *testing.T) {
	p := DefaultPolicy("mainnet")
	for _, c := range []struct {
		capacity uint64
		want     uint32
	}{{999_999, 1}, {1_000_000, 3}, {99_999_999, 3}, {100_000_000, 6}} {
		if got := p.Confirmations(c.capacity); got != c.want {
			t.Errorf("%d sat: %d confirmations, want %d", c.capacity, got, c.want)
		}
		op, _ := opening(t, func(o *Opening) { o.Capacity = c.capacity })
		got, _, err := offer().Terms(op, p)
		wantNil(t, err)
		if got.Confirmations != c.want {
			t.Errorf("%d sat: terms want %d confirmations, not %d", c.capacity, got.Confirmations, c.want)
		}
	}
	if got := DefaultPolicy("regtest").Confirmations(MaxSat); got != 1 {
		t.Errorf("regtest: %d", got)
	}
}

// TestPitfall10_Margin ◆: margin ≥ C + R + r + 2, without reorgs C + r + 1.
func TestPitfall10_Margin(t *testing.T) {
	for _, c := range []struct {
		margin, censorship, reorg, reaction uint32
		ok                                  bool
	}{
		{36, 27, 6, 1, true}, {35, 27, 6, 1, false}, {29, 27, 0, 1, true}, {28, 27, 0, 1, false},
		{4, 0, 1, 1, true}, {3, 0, 1, 1, false}, {2, 0, 0, 1, true}, {1, 0, 0, 1, false},
	} {
		p := policy()
		p.Margin, p.Censorship, p.Reorg, p.Reaction = c.margin, c.censorship, c.reorg, c.reaction
		if err := p.CheckMargin(); (err == nil) != c.ok {
			t.Errorf("margin %d for C=%d R=%d r=%d: %v", c.margin, c.censorship, c.reorg, c.reaction, err)
		} else if err != nil && !errors.Is(err, ErrTerms) {
			t.Errorf("%v is no ErrTerms", err)
		}
	}
	p := DefaultPolicy("mainnet")
	wantNil(t, p.CheckMargin())
	p.Burial = p.Reorg // the deepest reorg that is survived would undo what nobody watches any more
	wantErr(t, p.CheckMargin(), ErrTerms)
}

// TestMarginModel ◆ plays the last blocks of a channel with every length of
// censorship, reorg and reaction: with the margin that CheckMargin wants the
// settlement is always mined at a height ≤ expiry, with one block less not always.
func TestMarginModel(t *testing.T) {
	for c := uint32(0); c <= 6; c++ {
		for reorg := uint32(0); reorg <= 4; reorg++ {
			for reaction := uint32(0); reaction <= 3; reaction++ {
				p := policy()
				p.Censorship, p.Reorg, p.Reaction = c, reorg, reaction
				for p.Margin = 0; p.CheckMargin() != nil; p.Margin++ {
				}
				if !settlesInTime(p.Margin, c, reorg, reaction) {
					t.Errorf("C=%d R=%d r=%d: a margin of %d is accepted and too small", c, reorg, reaction, p.Margin)
				}
				if p.Margin > 0 && settlesInTime(p.Margin-1, c, reorg, reaction) {
					t.Errorf("C=%d R=%d r=%d: a margin of %d is refused without need", c, reorg, reaction, p.Margin-1)
				}
			}
		}
	}
}

// settlesInTime is the worst case of the model: the payee first sees its deadline
// `reaction` blocks late, the settlement is kept out of `censored` blocks and then
// mined, and just then a reorg of up to `reorg` blocks takes it out again; the
// branch that wins is one block longer and need not hold it before its end.
func settlesInTime(margin, censored, reorg, reaction uint32) bool {
	const expiry = 1000
	tip := uint32(expiry) - margin // the tip at which settling is due
	tip += reaction                // the tip at which it is broadcast
	mined := tip + censored + 1
	if reorg > 0 {
		// It was mined when the blocks were wound back; the winning branch ends one
		// block higher, and takes it up in the block behind that at the earliest.
		mined = mined + reorg + 1
	}
	return mined <= expiry
}

// TestPitfall36_Duration: the payer caps for how long its rest may be locked.
func TestPitfall36_Duration(t *testing.T) {
	p := policy()
	wantNil(t, offer(func(o *Offer) { o.Expiry = fundedAt + p.MaxDuration }).CheckOffer("regtest", fundedAt, p))
	wantErr(t, offer(func(o *Offer) { o.Expiry = fundedAt + p.MaxDuration + 1 }).CheckOffer("regtest", fundedAt, p), ErrTerms)
}

func TestCheckOffer(t *testing.T) {
	p := policy()
	for _, c := range []struct {
		name   string
		change func(*Offer)
		ok     bool
	}{
		{"as it is", func(*Offer) {}, true},
		{"another network", func(o *Offer) { o.Network = "mainnet" }, false},
		{"expired", func(o *Offer) { o.Expiry = fundedAt }, false},
		{"only the margin left", func(o *Offer) { o.Expiry = fundedAt + margin }, false},
		{"a huge margin", func(o *Offer) { o.Margin = 1 << 31 }, false},
		{"version 1", func(o *Offer) { o.TxVersion = 1 }, false},
		{"version 2", func(o *Offer) { o.TxVersion = 2 }, true},
		{"a tip far ahead", func(o *Offer) { o.Tip = fundedAt + 7 }, false},
		{"a tip a little ahead", func(o *Offer) { o.Tip = fundedAt + 6 }, true},
		{"deposits upside down", func(o *Offer) { o.MinDeposit, o.MaxDeposit = 2, 1 }, false},
		{"deposits above all bitcoin", func(o *Offer) { o.MaxDeposit = MaxSat + 1 }, false},
		{"a minimum charge above all bitcoin", func(o *Offer) { o.MinimumCharge = MaxSat + 1 }, false},
	} {
		if err := offer(c.change).CheckOffer("regtest", fundedAt, p); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		} else if err != nil {
			wantErr(t, err, ErrTerms)
		}
	}
}

// TestPitfall32_MinimumChargeIsQuoted: F is in the offer, and so known before
// anything is funded; the terms carry it unchanged.
func TestPitfall32_MinimumChargeIsQuoted(t *testing.T) {
	op, _ := opening(t)
	o := offer(func(o *Offer) { o.MinimumCharge = 777 })
	got, _, err := o.Terms(op, policy())
	wantNil(t, err)
	if got.MinimumCharge != 777 {
		t.Fatalf("the terms have a minimum charge of %d", got.MinimumCharge)
	}
}

// TestVerifyUpdate: an update counts only with the exact half-signature of its amount.
func TestVerifyUpdate(t *testing.T) {
	for _, c := range []script.Construction{script.Taproot, script.Multisig, script.MultisigP2SH} {
		terms := terms(func(t *Terms) { t.Construction = c })
		ch := terms.built(t)
		for _, amount := range []uint64{0, 1, capacity - dustP2TR, capacity} {
			u := half(t, terms, amount)
			wantNil(t, terms.VerifyUpdate(ch, u))
			other := u
			other.Amount = amount + 1
			if amount == capacity {
				other.Amount = 5
			}
			if terms.VerifyUpdate(ch, other) == nil {
				t.Errorf("%s: the signature for %d was taken for %d", c, amount, other.Amount)
			}
			flipped := u
			flipped.Signature = append(Hex(nil), u.Signature...)
			flipped.Signature[len(flipped.Signature)-1] ^= 0x02 // the sighash flag
			wantErr(t, terms.VerifyUpdate(ch, flipped), ErrSignature)
		}
	}
}
