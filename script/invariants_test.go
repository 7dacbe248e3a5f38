package script_test

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"testing"

	"github.com/btcsuite/btcd/wire/v2"
	"pgregory.net/rapid"

	"github.com/spillway/spillway/script"
)

// payouts are scripts of every kind that a payout may go to.
var payouts = [][]byte{p2tr("payout"), p2wpkh("payout"), p2wsh("payout"), p2sh("payout"), p2pkh("payout")}

// drawParty draws a channel of a version.
func drawParty(t *testing.T, rt *rapid.T, name string, version int32) party {
	kind := rapid.SampledFrom(constructions).Draw(rt, "kind")
	rest := rapid.SampledFrom([][]byte{p2tr("rest"), p2wpkh("rest"), p2wsh("rest")}).Draw(rt, "rest script")
	return open(t, kind, name, func(f *script.Funding) {
		f.TxVersion, f.RestScript = version, rest
		f.Capacity = rapid.Int64Range(540, 3_000_000).Draw(rt, "capacity")
		f.Expiry = rapid.Uint32Range(1, 499_999_999).Draw(rt, "expiry")
	})
}

// drawRest draws a rest that may be signed: zero, or dust to all.
func drawRest(rt *rapid.T, p party) int64 {
	if rapid.IntRange(0, 2).Draw(rt, "rest zero") == 0 {
		return 0
	}
	return rapid.Int64Range(min(script.Dust(p.RestScript), p.Capacity), p.Capacity).Draw(rt, "rest")
}

func drawRate(rt *rapid.T) script.FeeRate {
	return script.FeeRate(rapid.Int64Range(0, 400_000).Draw(rt, "rate"))
}

// noDust fails when an output would not be relayed.
func noDust(rt *rapid.T, tx *wire.MsgTx) {
	for i, out := range tx.TxOut {
		if out.Value < script.Dust(out.PkScript) {
			rt.Fatalf("output %d holds %d sat", i, out.Value)
		}
	}
}

// Whatever is settled: outputs and fee are what went in, nothing is dust, every
// payer gets its rest at its own input's index, the rate is kept, and the
// transaction runs. What is refused is refused for a reason that holds.
func TestSettlementInvariants(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		version := rapid.SampledFrom(versions).Draw(rt, "version")
		payout := rapid.SampledFrom(payouts).Draw(rt, "payout")
		rate := drawRate(rt)
		byOutpoint := map[wire.OutPoint]script.Claim{}
		var claims []script.Claim
		var parties []party
		var total, capacity int64
		bound := 0
		for i := range rapid.IntRange(1, 5).Draw(rt, "channels") {
			p := drawParty(t, rt, fmt.Sprintf("invariant %d", i), version)
			c := p.claim(t, drawRest(rt, p))
			if p.Construction == script.MultisigP2SH && c.Rest > 0 {
				bound++
			}
			total, capacity = total+p.Capacity-c.Rest, capacity+p.Capacity
			claims, parties = append(claims, c), append(parties, p)
			byOutpoint[p.Outpoint] = c
		}
		tx, fee, err := script.Settle(claims, payout, rate)
		switch {
		case bound > 1:
			if !errors.Is(err, script.ErrBatch) {
				rt.Fatalf("%d P2SH rests: %v", bound, err)
			}
			return
		case errors.Is(err, script.ErrPayoutDust):
			if total-rate.Fee(10_000) >= script.Dust(payout) {
				rt.Fatalf("%d sat for the payee are not too little: %v", total, err)
			}
			return
		case err != nil:
			rt.Fatal(err)
		}
		if paid(tx)+fee != capacity {
			rt.Fatalf("%d sat out, a fee of %d, %d in", paid(tx), fee, capacity)
		}
		if fee < rate.Fee(script.VSize(tx)) {
			rt.Fatalf("a fee of %d sat for %d vB at %s", fee, script.VSize(tx), rate)
		}
		noDust(rt, tx)
		checkLayout(rt, tx, byOutpoint, payout)
		if err := script.Execute(tx, prevouts(parties...)); err != nil {
			rt.Fatal(err)
		}
	})
}

func checkLayout(rt *rapid.T, tx *wire.MsgTx, claims map[wire.OutPoint]script.Claim, payout []byte) {
	if len(tx.TxIn) != len(claims) || tx.LockTime != 0 {
		rt.Fatalf("%d inputs, nLockTime %d", len(tx.TxIn), tx.LockTime)
	}
	rests := len(tx.TxOut) - 1
	for i, in := range tx.TxIn {
		c := claims[in.PreviousOutPoint]
		if in.Sequence != script.Sequence || tx.Version != c.Channel.TxVersion {
			rt.Fatalf("input %d: nSequence 0x%08x, version %d", i, in.Sequence, tx.Version)
		}
		switch {
		case c.Rest == 0 && i < rests:
			rt.Fatalf("a rest of zero at index %d of %d rests", i, rests)
		case c.Rest > 0 && (i >= rests || tx.TxOut[i].Value != c.Rest || !bytes.Equal(tx.TxOut[i].PkScript, c.Channel.RestScript)):
			rt.Fatalf("the rest of input %d is not at its index", i)
		}
	}
	if !bytes.Equal(tx.TxOut[rests].PkScript, payout) {
		rt.Fatal("the payout is not last")
	}
}

// A refund pays everything but the fee to the payer, or says that it cannot.
func TestRefundInvariants(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		p := drawParty(t, rt, "refunded", rapid.SampledFrom(versions).Draw(rt, "version"))
		payout, rate := rapid.SampledFrom(payouts).Draw(rt, "payout"), drawRate(rt)
		tx, fee, err := p.Refund(p.payer, p.refundSig(t), payout, rate)
		if errors.Is(err, script.ErrPayoutDust) {
			if p.Capacity-rate.Fee(p.RefundVSize(payout)) >= script.Dust(payout) {
				rt.Fatalf("%d sat are not too little: %v", p.Capacity, err)
			}
			return
		}
		if err != nil {
			rt.Fatal(err)
		}
		if paid(tx)+fee != p.Capacity || fee < rate.Fee(script.VSize(tx)) || script.VSize(tx) > p.RefundVSize(payout) {
			rt.Fatalf("%d sat out, a fee of %d for %d vB, %d in", paid(tx), fee, script.VSize(tx), p.Capacity)
		}
		if tx.LockTime != p.Expiry || tx.TxIn[0].Sequence != script.Sequence || len(tx.TxOut) != 1 {
			rt.Fatalf("nLockTime %d, nSequence 0x%08x, %d outputs", tx.LockTime, tx.TxIn[0].Sequence, len(tx.TxOut))
		}
		noDust(rt, tx)
		if err := script.Execute(tx, prevouts(p)); err != nil {
			rt.Fatal(err)
		}
	})
}

// A close pays the rest and the share, takes the fee from the share first, and
// leaves out what is dust.
func TestCloseInvariants(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		capacity := rapid.Int64Range(330, 1_000_000).Draw(rt, "capacity")
		p := open(t, script.Taproot, "closed", func(f *script.Funding) { f.Capacity = capacity })
		share := rapid.Int64Range(0, capacity).Draw(rt, "share")
		fee := rapid.Int64Range(0, min(capacity, 5000)).Draw(rt, "fee")
		payout := rapid.SampledFrom(payouts).Draw(rt, "payout")
		tx, err := p.CloseTx(share, payout, fee)
		rest, mine := capacity-share, share-fee
		if mine < 0 {
			rest, mine = rest+mine, 0
		}
		var want []*wire.TxOut
		if rest >= script.Dust(p.RestScript) {
			want = append(want, &wire.TxOut{Value: rest, PkScript: p.RestScript})
		}
		if mine >= script.Dust(payout) {
			want = append(want, &wire.TxOut{Value: mine, PkScript: payout})
		}
		if len(want) == 0 {
			if !errors.Is(err, script.ErrPayoutDust) {
				rt.Fatalf("nothing to pay: %v", err)
			}
			return
		}
		if err != nil || len(tx.TxOut) != len(want) {
			rt.Fatalf("%d outputs, want %d: %v", len(tx.TxOut), len(want), err)
		}
		for i, out := range want {
			if tx.TxOut[i].Value != out.Value || !bytes.Equal(tx.TxOut[i].PkScript, out.PkScript) {
				rt.Fatalf("output %d is %d sat to %x", i, tx.TxOut[i].Value, tx.TxOut[i].PkScript)
			}
		}
		if got := paid(tx); got+fee > capacity {
			rt.Fatalf("%d sat out, a fee of %d, %d in", got, fee, capacity)
		}
		noDust(rt, tx)
	})
}

// A half-signature is good for its own rest and its own channel only, and no bit
// of it can be changed.
func TestHalfSignatureInvariants(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		version := rapid.SampledFrom(versions).Draw(rt, "version")
		p := drawParty(t, rt, "half", version)
		rest := drawRest(rt, p)
		sig := p.half(t, rest)
		if err := p.VerifyHalf(rest, sig); err != nil {
			rt.Fatal(err)
		}
		if again := p.half(t, rest); !bytes.Equal(again, sig) {
			rt.Fatal("a half-signature is not deterministic")
		}
		if other := drawRest(rt, p); other != rest && p.VerifyHalf(other, sig) == nil {
			rt.Fatalf("a half-signature for %d is taken for %d", rest, other)
		}
		spoilt := bytes.Clone(sig)
		bit := rapid.IntRange(0, 8*len(sig)-1).Draw(rt, "bit")
		spoilt[bit/8] ^= 1 << (bit % 8)
		if err := p.VerifyHalf(rest, spoilt); !errors.Is(err, script.ErrSignature) && !errors.Is(err, script.ErrSighashFlag) {
			rt.Fatalf("bit %d changed: %v", bit, err)
		}
		other := open(t, p.Construction, "half", func(f *script.Funding) {
			*f = p.Funding
			f.Outpoint.Index++
		})
		if err := other.VerifyHalf(rest, sig); !errors.Is(err, script.ErrSignature) {
			rt.Fatalf("taken for another output: %v", err)
		}
	})
}

// Fees round up, never fall with rate or size, and never overflow.
func TestFeeInvariants(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		rate := script.FeeRate(rapid.Int64Range(math.MinInt64, math.MaxInt64-1).Draw(rt, "rate"))
		size := rapid.Int64Range(math.MinInt64, math.MaxInt64-1).Draw(rt, "size")
		fee := rate.Fee(size)
		if fee < 0 || fee > 21_000_000*100_000_000 || (fee > 0) != (rate > 0 && size > 0) {
			rt.Fatalf("%d sat", fee)
		}
		if (rate+1).Fee(size) < fee || rate.Fee(size+1) < fee {
			rt.Fatalf("%d sat, but less for more", fee)
		}
		sat := rapid.Int64().Draw(rt, "sat")
		if r := script.FeeRatePerVB(sat); r < 0 || (sat > 0) != (r > 0) {
			rt.Fatalf("%d sat/vB are %d", sat, r)
		}
	})
}
