package script_test

import (
	"errors"
	"testing"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/wire/v2"
	"pgregory.net/rapid"

	"github.com/spillway/spillway/internal/bitcoindtest"
	"github.com/spillway/spillway/script"
)

func duplex(f *script.Funding) { f.PayeeRestScript = p2wpkh("the payee's rest") }

// keyOf is a side's key.
func (p party) keyOf(s script.Side) *btcec.PrivateKey {
	if s == script.Payee {
		return p.payee
	}
	return p.payer
}

// complete is the settlement of a state by its receiver.
func (p party) complete(t testing.TB, s script.State, rate script.FeeRate) *wire.MsgTx {
	t.Helper()
	sig, err := p.SignState(p.keyOf(s.Sender), s)
	if err != nil {
		t.Fatal(err)
	}
	claim := script.Claim{Channel: p.Channel, Rest: s.Rest, HalfSig: sig, PayeeKey: p.keyOf(s.Sender.Other()), Sender: s.Sender, Lock: s.Lock}
	return settle(t, rate, claim)
}

// A state of either side is completed by the other one alone; its half-signature
// is good for that side, that height and that rest only.
func TestDuplexStates(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		p := open(t, script.Duplex, "duplex", duplex)
		draw := func(name string) script.State {
			return script.State{
				Sender: script.Side(rapid.IntRange(0, 1).Draw(rt, name+" sender")),
				Lock:   rapid.Uint32Range(0, p.Expiry-1).Draw(rt, name+" lock"),
				Rest:   rapid.OneOf(rapid.Just(int64(0)), rapid.Int64Range(330, p.Capacity-2000)).Draw(rt, name+" rest"),
			}
		}
		s, other := draw("a"), draw("another")
		sig, err := p.SignState(p.keyOf(s.Sender), s)
		if err != nil {
			rt.Fatal(err)
		}
		if err := p.VerifyState(s, sig); err != nil {
			rt.Fatal(err)
		}
		if other != s && p.VerifyState(other, sig) == nil {
			rt.Fatalf("a half-signature of %+v is taken for %+v", s, other)
		}
		if _, err := p.SignState(p.keyOf(s.Sender.Other()), s); !errors.Is(err, script.ErrWrongKey) {
			rt.Fatalf("the receiver signs for the sender: %v", err)
		}
		tx := p.complete(t, s, 1000)
		if tx.LockTime != s.Lock || s.Rest > 0 && tx.TxOut[0].Value != s.Rest {
			rt.Fatalf("%+v became lock %d, %d sat", s, tx.LockTime, tx.TxOut[0].Value)
		}
		noDust(rt, tx)
		claim := script.Claim{Channel: p.Channel, Rest: s.Rest, HalfSig: sig, PayeeKey: p.keyOf(s.Sender), Sender: s.Sender, Lock: s.Lock}
		if _, _, err := script.Settle([]script.Claim{claim}, p2tr("payout"), 1000); !errors.Is(err, script.ErrWrongKey) {
			rt.Fatalf("the sender completes its own state: %v", err)
		}
	})
}

// What no channel of its kind knows is refused.
func TestDuplexRefusals(t *testing.T) {
	p := open(t, script.Duplex, "refused", duplex)
	oneWay := open(t, script.Taproot, "one way")
	for name, c := range map[string]struct {
		p    party
		s    script.State
		want error
	}{
		"a payee's state of a one-way channel": {oneWay, script.State{Sender: script.Payee, Rest: 1000}, script.ErrUnsupported},
		"a lock in a one-way channel":          {oneWay, script.State{Lock: 5, Rest: 1000}, script.ErrUnsupported},
		"at the expiry":                        {p, script.State{Lock: p.Expiry, Rest: 1000}, script.ErrExpiry},
		"a third side":                         {p, script.State{Sender: 2, Rest: 1000}, script.ErrExpiry},
		"the payee's dust":                     {p, script.State{Sender: script.Payee, Rest: 293}, script.ErrDust},
		"the payer's dust":                     {p, script.State{Rest: 329}, script.ErrDust},
		"more than there is":                   {p, script.State{Rest: p.Capacity + 1}, script.ErrAmount},
		"less than nothing":                    {p, script.State{Sender: script.Payee, Rest: -1}, script.ErrAmount},
	} {
		if _, err := c.p.SignState(c.p.payer, c.s); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if err := c.p.VerifyState(c.s, make([]byte, 65)); !errors.Is(err, c.want) {
			t.Errorf("%s, verified: %v, want %v", name, err, c.want)
		}
	}
	f := funding(script.Duplex, "no rest script")
	if err := f.Validate(); !errors.Is(err, script.ErrRestScript) {
		t.Errorf("a duplex channel without a rest script for the payee: %v", err)
	}
	if f = funding(script.Taproot, "one too many"); true {
		duplex(&f)
		if err := f.Validate(); !errors.Is(err, script.ErrRestScript) {
			t.Errorf("a one-way channel with one: %v", err)
		}
	}
	q := open(t, script.Duplex, "another", duplex)
	var claims []script.Claim
	for i, c := range []party{p, q} {
		s := script.State{Lock: uint32(100 + i), Rest: 5000}
		sig, err := c.SignState(c.payer, s)
		if err != nil {
			t.Fatal(err)
		}
		claims = append(claims, script.Claim{Channel: c.Channel, Rest: s.Rest, HalfSig: sig, PayeeKey: c.payee, Lock: s.Lock})
	}
	if _, _, err := script.Settle(claims, p2tr("payout"), 1000); !errors.Is(err, script.ErrBatch) {
		t.Errorf("two locks in one settlement: %v", err)
	}
}

// On a real node: a state is refused before its height, the newer epoch, whose
// lock is lower, is mined first, and replaces an older one in the mempool.
func TestBitcoindDuplex(t *testing.T) {
	n := bitcoindtest.Start(t)
	for _, version := range versions {
		expiry := uint32(n.Height()) + 40
		f := funding(script.Duplex, "on a node")
		pk, err := script.OutputScript(script.Duplex, f.PayerKey, f.PayeeKey, expiry)
		if err != nil {
			t.Fatal(err)
		}
		made := n.FundAll(&wire.TxOut{Value: f.Capacity, PkScript: pk})
		p := open(t, script.Duplex, "on a node", duplex, func(f *script.Funding) {
			f.Expiry, f.TxVersion, f.Outpoint = expiry, version, made[0]
		})
		older := p.complete(t, script.State{Sender: script.Payer, Lock: expiry - 10, Rest: 400_000}, 2000)
		newer := p.complete(t, script.State{Sender: script.Payee, Lock: expiry - 20, Rest: 300_000}, 9000)
		n.MineTo(int64(expiry) - 21)
		if ok, reason := n.TestAccept(newer); ok || reason != "non-final" {
			t.Fatalf("before its height: %v, %q", ok, reason)
		}
		n.MineTo(int64(expiry) - 20)
		if ok, reason := n.TestAccept(newer); !ok {
			t.Fatalf("at its height: %q", reason)
		}
		if ok, reason := n.TestAccept(older); ok || reason != "non-final" {
			t.Fatalf("the older one at that height: %v, %q", ok, reason)
		}
		n.MineTo(int64(expiry) - 10)
		mustSend(t, n, older)
		mustSend(t, n, newer)
		if n.InMempool(older) {
			t.Fatal("the older state is still there")
		}
		mustMine(t, n, newer)
	}
}
