package channel

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"slices"
	"testing"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/script"
)

// tape gives a fuzz target its choices, byte by byte; behind its end all are 0.
type tape []byte

func (d *tape) byte() byte {
	if len(*d) == 0 {
		return 0
	}
	b := (*d)[0]
	*d = (*d)[1:]
	return b
}

func (d *tape) number(limit uint64) uint64 {
	var raw [8]byte
	for i := range 1 + d.byte()%8 {
		raw[i] = d.byte()
	}
	n := binary.LittleEndian.Uint64(raw[:])
	if limit < 1<<64-1 {
		n %= limit + 1
	}
	return n
}

func (d *tape) view() View {
	v := View{Tip: fundedAt + uint32(d.number(uint64(expiry)+30-uint64(fundedAt))), Rate: script.FeeRate(d.number(400_000))}
	how := d.byte()
	if v.Funding.Seen = how&1 == 0; how&2 == 0 && v.Funding.Seen {
		v.Funding.Height = fundedAt + uint32(d.byte()%8)
	}
	v.Funding.ConflictDepth = uint32(how >> 6)
	if how&4 != 0 {
		v.Spend = &SpendView{Txid: []string{"settlement", "close", "refund", "other"}[how>>3&3], Fee: int64(d.number(90_000)) - 1, VSize: int64(d.byte())}
		if how&32 != 0 {
			v.Spend.Height = min(v.Tip, fundedAt+uint32(d.number(1100)))
		}
	}
	return v
}

// refusals are all that a rule of this package may answer.
var refusals = []error{
	ErrSignature, ErrAmountExceeds, ErrInsufficient, ErrUnconfirmed, ErrExpiring, ErrFinalized, ErrTerms, ErrConflict, ErrOwes,
	ErrBudget, ErrPrepay, ErrNotYet, ErrUnsupported, ErrOverflow, ErrNothingAtStake, ErrTooSmall,
}

func typed(t *testing.T, err error) {
	t.Helper()
	if err != nil && !slices.ContainsFunc(refusals, func(kind error) bool { return errors.Is(err, kind) }) {
		t.Fatalf("an error of no kind: %v", err)
	}
}

// FuzzPayeeMessages plays any sequence of messages and views to a payee's record:
// no amount falls, what was released is within credit and capacity, a refusal
// changes nothing but for the update that came along, closing is final, the pool is
// never overdrawn, and the duty is the same when asked again.
func FuzzPayeeMessages(f *testing.F) {
	f.Add([]byte{0, 0, 1, 1, 5, 2, 200})
	f.Add([]byte{3, 0, 0, 0, 0, 0, 0, 4, 1, 2, 3, 0, 9, 5, 5, 5, 2, 2, 2})
	f.Add(bytes.Repeat([]byte{0, 4, 1, 7, 0, 0, 2, 0x22, 0x11, 3, 0}, 12))
	f.Add(bytes.Repeat([]byte{6, 2, 0xff, 0xff, 1, 0, 5, 1}, 20))
	f.Fuzz(func(t *testing.T, data []byte) {
		d := tape(data)
		r, pool := record(), Pool{Size: 4 * chunk}
		r.Phase, r.Terms.TxVersion = []Phase{Open, Funding}[d.byte()&1], 2+int32(d.byte()&1)
		r.Terms.Credit, r.NewcomerAbove = []uint64{chunk, 0, 1, 5 * chunk}[d.byte()&3], []uint64{noPlaces, 0}[d.byte()&1]
		ch := r.Terms.built(t)
		for i := 0; len(d) > 0 && i < 64; i++ {
			before, beforePool := r, pool
			r, pool = step(t, &d, ch, r, pool)
			switch {
			case r.Paid < before.Paid || r.Charged < before.Charged:
				t.Fatalf("paid %d after %d, charged %d after %d", r.Paid, before.Paid, r.Charged, before.Charged)
			case r.Terms.CheckAmount(r.Paid) != nil:
				t.Fatalf("paid %d", r.Paid)
			case pool.Taken() > max(pool.Size, beforePool.Taken()):
				t.Fatalf("%d msat of a pool of %d, %d before", pool.Taken(), pool.Size, beforePool.Taken())
			case before.Phase == Closing && r.Phase != Closing && r.Phase != Closed && r.Phase != Abandoned,
				before.Phase.Final() && r.Phase != before.Phase:
				t.Fatalf("%s became %s", before.Phase, r.Phase)
			}
		}
	})
}

// step is one message or one look at the chain.
func step(t *testing.T, d *tape, ch *script.Channel, r PayeeRecord, pool Pool) (PayeeRecord, Pool) {
	t.Helper()
	switch kind := d.byte() % 6; kind {
	case 0, 1, 2:
		p := Payment{Price: d.number(3 * chunk), Credit: d.number(2 * chunk), Deliver: kind > 0, Now: clock + int64(d.number(10_000))}
		if kind == 2 {
			p.Price = d.number(1<<64 - 1)
		}
		p.Dearest = p.Price
		if amount := d.number(capacity + 10); d.byte()&1 == 1 && r.Terms.CheckAmount(amount) == nil {
			p.Update = &Update{Amount: amount, Signature: Hex{1}}
		}
		return released(t, r, p, d.view(), pool)
	case 3:
		next, _, err := r.BeginClose(ch, CloseRequest{Update: Update{Amount: r.Terms.Payable(d.number(capacity)), Signature: Hex{2}}, PayerNonce: Hex{d.byte()}}, payout, d.view())
		typed(t, err)
		if err != nil {
			next.Paid, next.Signature = r.Paid, r.Signature
			same(t, "record after a refused close", next, r)
			return r, pool
		}
		if next.Close.Fee < 0 || next.Owed() > 0 {
			t.Fatalf("closed with a fee of %d and a debt of %d", next.Close.Fee, next.Owed())
		}
		return next.SetAnswer([]byte{1}, []byte{2}, []byte{3}), pool
	case 4:
		next, err := r.AskSettle(WhenAsked)
		typed(t, err)
		if _, err := r.FinishClose(ch, d.take()); err == nil {
			t.Fatal("an unsigned close was finished")
		}
		return next, pool
	default:
		v := d.view()
		once, actions := r.Due(ch, payout, v, policy())
		twice, again := once.Due(ch, payout, v, policy())
		same(t, "record", twice, once)
		same(t, "actions", again, actions)
		for _, a := range actions {
			if a.Kind != MakeSettlement {
				continue
			}
			if once.Settlement != nil && int64(a.Rate) < once.Settlement.Rate && int64(a.Rate) < int64(limitOf(ch, once)) {
				t.Fatalf("rate %d after %d", a.Rate, once.Settlement.Rate)
			}
			once.Settlement = saved(a, once.Paid, v.Tip)
		}
		return once, pool
	}
}

// take is a transaction's bytes, or any.
func (d *tape) take() []byte {
	n := min(int(d.byte()), len(*d))
	b := (*d)[:n]
	*d = (*d)[n:]
	return b
}

// released checks a payment's outcome.
func released(t *testing.T, r PayeeRecord, p Payment, v View, pool Pool) (PayeeRecord, Pool) {
	t.Helper()
	was, _ := json.Marshal(pool)
	out := r.Pay(p, v, pool)
	typed(t, out.Refusal)
	if now, _ := json.Marshal(pool); !bytes.Equal(was, now) {
		t.Fatal("the rule changed the pool that it was given")
	}
	switch next := out.Record; {
	case !out.RecordChanged && (next.Paid != r.Paid || next.Charged != r.Charged || next.Phase != r.Phase):
		t.Fatalf("changed without a word: %+v", next)
	case out.Refusal != nil && next.Charged != r.Charged:
		t.Fatalf("refused with %v, and charged %d msat", out.Refusal, next.Charged-r.Charged)
	case next.Charged > r.Charged && next.Owed() > max(r.Terms.Credit, p.Credit):
		t.Fatalf("%d msat on a credit of %d", next.Owed(), max(r.Terms.Credit, p.Credit))
	case next.Charged > r.Charged && next.Terms.deliverable(next.Charged, next.Paid) != nil:
		t.Fatalf("released for %d msat, which cannot be paid", next.Charged)
	case next.Charged > r.Charged && (next.Phase == Closing || next.Phase.Final() || next.Phase == Settling || v.Tip >= r.Terms.deadline() || v.Spend != nil || !v.Funding.Seen):
		t.Fatalf("released in phase %s at height %d", next.Phase, v.Tip)
	case out.Refusal == nil && p.Deliver && next.Charged != r.Charged+p.Price:
		t.Fatalf("released for %d msat, charged %d", p.Price, next.Charged-r.Charged)
	}
	return out.Record, out.Pool
}

// FuzzOpen: any opening on any offer is refused with an error of a known kind, or
// its terms are within the policy, its output is there, and its update verifies.
func FuzzOpen(f *testing.F) {
	raw, err := json.Marshal(offer())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw, byte(0), capacity, uint64(0), []byte(p2tr(0x33)), uint32(fundedAt), []byte{}, int64(capacity))
	f.Add(raw, byte(1), capacity, uint64(500), []byte(p2tr(0x33)), uint32(expiry), []byte{1}, int64(capacity))
	f.Add(raw, byte(2), uint64(1)<<63, uint64(1)<<63, []byte{0x51}, uint32(fundedAt), []byte{}, int64(-1))
	f.Add([]byte(`{"constructions":["taproot","x"],"max_deposit":18446744073709551615,"expiry":4294967295}`), byte(0), uint64(1)<<62, uint64(7), []byte{}, uint32(4294967290), []byte{}, int64(1))
	f.Fuzz(func(t *testing.T, rawOffer []byte, kind byte, deposit, amount uint64, rest []byte, tip uint32, sig []byte, value int64) {
		var o Offer
		if json.Unmarshal(rawOffer, &o) != nil {
			return
		}
		op := Opening{
			Construction: []script.Construction{script.Taproot, script.Multisig, script.MultisigP2SH, "x"}[kind&3], PayerKey: pub(0x11),
			Outpoint: terms().Outpoint, Capacity: deposit, RestScript: rest, Update: Update{Amount: amount, Signature: sig},
		}
		p := policy()
		v := View{Tip: tip, Funding: FundingView{Seen: true, Height: tip}}
		var out *wire.TxOut
		if t1, ch, err := o.Terms(op, p); err == nil {
			if len(sig) == 0 && t1.CheckAmount(amount) == nil {
				op.Update = half(t, t1, amount)
			}
			out = &wire.TxOut{Value: value, PkScript: ch.OutputScript()}
		} else {
			typed(t, err)
		}
		r, err := o.Open(op, p, v, out)
		if typed(t, err); err != nil {
			same(t, "record of a refused opening", r, PayeeRecord{})
			return
		}
		left := int64(r.Terms.Expiry) - int64(tip) - int64(r.Terms.Margin) - int64(p.Useful)
		if value != int64(deposit) || deposit > MaxSat || deposit < o.MinDeposit || deposit > o.MaxDeposit || r.Paid != amount || left < 0 || r.Terms.CheckAmount(amount) != nil {
			t.Fatalf("opened: %+v at height %d, output of %d sat", r, tip, value)
		}
		ch := r.Terms.built(t)
		if err := r.Terms.VerifyUpdate(ch, Update{Amount: r.Paid, Signature: r.Signature}); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzOffer: an offer that a payer takes leads to no overflow, whatever it deposits,
// and to a channel within its limits.
func FuzzOffer(f *testing.F) {
	for _, o := range []Offer{offer(), offer(func(o *Offer) { o.Margin = 4_000_000_000 }), offer(func(o *Offer) { o.Tip = 1<<32 - 1 })} {
		raw, err := json.Marshal(o)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw, uint32(fundedAt), capacity)
	}
	f.Fuzz(func(t *testing.T, raw []byte, tip uint32, deposit uint64) {
		var o, back Offer
		if json.Unmarshal(raw, &o) != nil {
			return
		}
		roundTrip(t, o, &back)
		same(t, "offer", back, o)
		p := policy()
		if err := o.CheckOffer("regtest", tip, p); err != nil {
			typed(t, err)
			return
		}
		blocks := int64(o.Expiry) - int64(tip)
		if blocks <= int64(o.Margin) || blocks > int64(p.MaxDuration) || o.MaxDeposit > MaxSat || o.MinimumCharge > MaxSat {
			t.Fatalf("taken at height %d: %+v", tip, o)
		}
		op, _ := opening(t, func(op *Opening) { op.Capacity = deposit })
		bound, _, err := o.Terms(op, p)
		if typed(t, err); err != nil {
			return
		}
		r := PayerRecord{Terms: bound, Phase: Open}
		for _, ahead := range []uint64{0, 1, deposit, deposit * 1000, 1<<64 - 1} {
			next, amount, err := r.Pay(ahead, Limits{Budget: MaxSat, Prepay: MaxSat})
			if typed(t, err); err == nil && (bound.CheckAmount(amount) != nil || next.Signed != amount || bound.Payable(amount) != amount) {
				t.Fatalf("signs %d sat of %d sat", amount, deposit)
			}
		}
		if _, last, err := r.PayLast(free); err == nil && bound.CheckAmount(last) != nil {
			t.Fatalf("signs %d sat last, of %d sat", last, deposit)
		}
	})
}

// FuzzCheckClose: a close that the payer takes pays it all that it has not signed
// away, less no more than the fee that it allows.
func FuzzCheckClose(f *testing.F) {
	ch := terms().built(f)
	for _, share := range []int64{0, 500, 40_000, int64(capacity)} {
		tx, err := ch.CloseTx(share, payout, 300)
		if err != nil {
			f.Fatal(err)
		}
		raw, err := EncodeTx(tx)
		if err != nil {
			f.Fatal(err)
		}
		f.Add([]byte(raw), uint64(share), int64(300))
	}
	f.Fuzz(func(t *testing.T, raw []byte, signed uint64, feeLimit int64) {
		tx, err := DecodeTx(raw)
		if err != nil || signed > capacity || terms().CheckAmount(signed) != nil || feeLimit < 0 {
			return
		}
		r := bought(func(r *PayerRecord) { r.Signed = signed })
		if err := r.CheckClose(tx, feeLimit); err != nil {
			typed(t, err)
			return
		}
		var mine, total int64
		for _, out := range tx.TxOut {
			if total += out.Value; bytes.Equal(out.PkScript, r.Terms.RestScript) {
				mine += out.Value
			}
		}
		least := int64(capacity-signed) - max(0, feeLimit-int64(signed))
		if len(tx.TxIn) != 1 || tx.TxIn[0].PreviousOutPoint != wire.OutPoint(r.Terms.Outpoint) || total > int64(capacity) || least >= int64(dustP2TR) && mine < least {
			t.Fatalf("signed %d, gets %d of %d: %x", signed, mine, total, raw)
		}
	})
}

// FuzzTexts: a text that a key, a nonce, a byte string or an outpoint is read from is
// read from what is written of it too, and a refused one changes nothing.
func FuzzTexts(f *testing.F) {
	for _, s := range []string{pub(1).String(), pub(1).String()[2:], "0f" + pub(1).String()[4:34], "1000", "ABCDEF", someID, ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var k, k2 Key
		var n, n2 Nonce
		var h, h2 Hex
		var o, o2 Outpoint
		for _, c := range []struct {
			into, again interface{ UnmarshalText([]byte) error }
			from        func() ([]byte, error)
		}{
			{&k, &k2, func() ([]byte, error) { return k.MarshalText() }}, {&n, &n2, func() ([]byte, error) { return n.MarshalText() }},
			{&h, &h2, func() ([]byte, error) { return h.MarshalText() }}, {&o, &o2, func() ([]byte, error) { return o.MarshalText() }},
		} {
			if c.into.UnmarshalText([]byte(s)) != nil {
				continue
			}
			out, err := c.from()
			if err != nil || c.again.UnmarshalText(out) != nil || !bytes.EqualFold(out, []byte(s)) {
				t.Fatalf("%T: %q became %q, %v", c.into, s, out, err)
			}
		}
		if k != k2 || n != n2 || !bytes.Equal(h, h2) || o != o2 || n[0]>>4 != 0 {
			t.Fatalf("%q was read in two ways", s)
		}
	})
}

// FuzzPool: a pool that is read from a store is read back unchanged, and no change
// of it takes more than there is.
func FuzzPool(f *testing.F) {
	for _, p := range []Pool{{}, {Size: chunk, Height: 7, Places: map[string]Place{"a": {Reserved: 5, Owed: 5, Active: 1}, "b": {Ended: true, Owed: 9}}}} {
		raw, err := json.Marshal(p)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw, uint64(3), uint32(9), clock)
	}
	f.Fuzz(func(t *testing.T, raw []byte, msat uint64, height uint32, now int64) {
		var p, back Pool
		if json.Unmarshal(raw, &p) != nil {
			return
		}
		roundTrip(t, p, &back)
		same(t, "pool", back, p)
		for _, place := range p.Places {
			if place.taken() > MaxSat*1000 || len(p.Places) > 1000 {
				return // more than there is was never written
			}
		}
		then := p.At(height, now)
		if then.Taken() > p.Taken() || then.Height < p.Height {
			t.Fatalf("time takes: %+v became %+v", p, then)
		}
		for id := range p.Places {
			if next, ok := then.Reserve(id, msat, now); ok && next.Taken() > max(next.Size, then.Taken()) {
				t.Fatalf("reserved %d: %+v became %+v", msat, then, next)
			}
			if next, ok := then.Owe(id, msat, now); ok && next.Taken() > then.Taken() {
				t.Fatalf("owes %d: %+v became %+v", msat, then, next)
			}
			if then.Paid(id, msat).Taken() > then.Taken() || then.Leave(id, true).Taken() > then.Taken() {
				t.Fatalf("giving back takes: %+v", then)
			}
		}
		if next, ok := then.Reserve("new", msat, now); ok && next.Taken() > next.Size {
			t.Fatalf("reserved %d: %+v", msat, next)
		}
		same(t, "pool after all that", p, back)
	})
}
