package channel

import (
	"context"
	"errors"
	"testing"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/chain/devnet"
	"github.com/spillway/spillway/script"
)

const coin = uint64(100_000_000)

// pairOfLadders is a ladder of 100 BTC on the embedded chain, both sides.
type pairOfLadders struct {
	t    *testing.T
	node *devnet.Node
	ch   *script.Channel
	side [2]Ladder
}

func newLadders(t *testing.T) *pairOfLadders {
	t.Helper()
	node, err := devnet.New(devnet.Config{})
	wantNil(t, err)
	t.Cleanup(func() { wantNil(t, node.Close()) })
	tip, err := node.Tip(t.Context())
	wantNil(t, err)
	terms := duplexTerms(func(x *Terms) { x.Step, x.Expiry, x.Capacity = 1, tip.Height+120, 100*coin })
	pk, err := script.OutputScript(script.Duplex, terms.PayerKey, terms.PayeeKey, terms.Expiry)
	wantNil(t, err)
	txid, err := node.Faucet(t.Context(), pk, int64(terms.Capacity))
	wantNil(t, err)
	funding, err := node.Tx(t.Context(), txid)
	wantNil(t, err)
	for i, out := range funding.Tx.TxOut {
		if string(out.PkScript) == string(pk) {
			terms.Outpoint = Outpoint{Hash: txid, Index: uint32(i)}
		}
	}
	p := &pairOfLadders{t: t, node: node, ch: terms.built(t)}
	for s := range p.side {
		p.side[s] = Ladder{Terms: terms, Side: script.Side(s), Top: 100, Held: Rung{Number: 100}}
	}
	return p
}

func (p *pairOfLadders) sign(by script.Side, s script.State) Hex {
	p.t.Helper()
	sig, err := p.ch.SignState(priv(map[script.Side]byte{script.Payer: 0x11, script.Payee: 0x22}[by]), s)
	wantNil(p.t, err)
	return sig
}

func (p *pairOfLadders) tip() uint32 {
	p.t.Helper()
	tip, err := p.node.Tip(p.t.Context())
	wantNil(p.t, err)
	return tip.Height
}

// next plays one state, proposed and answered.
func (p *pairOfLadders) next(share uint64) {
	p.t.Helper()
	by := p.side[0].Turn
	other := by.Other()
	proposed, state, err := p.side[by].Propose(share, p.tip())
	wantNil(p.t, err)
	p.side[by] = proposed
	rung := proposed.Sent
	rung.Signature = p.sign(by, state)
	held, answer, err := p.side[other].Answer(p.ch, rung, p.tip())
	wantNil(p.t, err)
	p.side[other] = held
	rung.Signature = p.sign(other, answer)
	p.side[by], err = p.side[by].Answered(p.ch, rung)
	wantNil(p.t, err)
}

// complete makes the settlement of what a side held at some time.
func (p *pairOfLadders) complete(l Ladder, rate script.FeeRate) *wire.MsgTx {
	p.t.Helper()
	claim, err := l.Claim(p.ch)
	wantNil(p.t, err)
	claim.PayeeKey = priv(map[script.Side]byte{script.Payer: 0x11, script.Payee: 0x22}[l.Side])
	tx, _, err := script.Settle([]script.Claim{claim}, payout, rate)
	wantNil(p.t, err)
	return tx
}

func (p *pairOfLadders) mineTo(height uint32) {
	p.t.Helper()
	if n := int(height) - int(p.tip()); n > 0 {
		_, err := p.node.Mine(n)
		wantNil(p.t, err)
	}
}

func (p *pairOfLadders) refused(ctx context.Context, tx *wire.MsgTx, why string) {
	p.t.Helper()
	var refused *chain.RejectError
	if err := p.node.Broadcast(ctx, tx); !errors.As(err, &refused) {
		p.t.Fatalf("%s: %v", why, err)
	}
}

// The classic ladder, literally: {100: c100 s0}, {99: c99 s1}, … {90: c90 s10}.
// The payer broadcasts the old state 99 as soon as it can; the payee has been able
// to answer with 90 for nine blocks, and 90 is what confirms.
func TestPitfall56_ClassicLadder(t *testing.T) {
	for name, idle := range map[string]bool{"the payee closes as soon as it can": false, "the payee acts when it sees the old state": true} {
		t.Run(name, func(t *testing.T) {
			p := newLadders(t)
			wantNil(t, p.side[0].Check(true))
			wantErr(t, p.side[0].Check(false), ErrTerms) // one block a step holds only without censorship or reorgs
			var old Ladder
			for s := uint64(1); s <= 10; s++ {
				p.next(s * coin)
				if s == 1 {
					old = p.side[script.Payer]
				}
			}
			ctx := t.Context()
			newest := p.side[script.Payee]
			if newest.Held.Number != 90 || old.Held.Number != 99 {
				t.Fatalf("held: %d and %d", newest.Held.Number, old.Held.Number)
			}
			stale, latest := p.complete(old, perVB), p.complete(newest, 5*perVB)
			lock99, _ := old.Lock(99)
			lock90, _ := newest.Lock(90)
			p.mineTo(lock90 - 1)
			p.refused(ctx, latest, "state 90 before its height")
			p.mineTo(lock90)
			p.refused(ctx, stale, "state 99 before its height")
			if !idle {
				wantNil(t, p.node.Broadcast(ctx, latest))
				p.mineTo(lock99)
				p.refused(ctx, stale, "state 99, after 90 was mined")
			} else {
				p.mineTo(lock99)
				wantNil(t, p.node.Broadcast(ctx, stale))
				wantNil(t, p.node.Broadcast(ctx, latest)) // replaces it
			}
			p.mineTo(lock99 + 1)
			info, err := p.node.Tx(ctx, latest.TxHash())
			wantNil(t, err)
			if !info.Confirmed || info.Tx.TxOut[0].Value != int64(90*coin) || info.Tx.TxOut[1].Value < int64(10*coin)-2000 {
				t.Fatalf("confirmed %v: %d and %d sat", info.Confirmed, info.Tx.TxOut[0].Value, info.Tx.TxOut[1].Value)
			}
			if _, err := p.node.Tx(ctx, stale.TxHash()); !errors.Is(err, chain.ErrNotFound) {
				t.Fatalf("state 99: %v", err)
			}
		})
	}
}

// One state for each number, in turn, each with a margin; a withheld answer
// harms nobody.
func TestPitfall56_OneStateForEachNumber(t *testing.T) {
	p := newLadders(t)
	p.next(coin) // the payer proposed, the payee is next
	payer, payee := p.side[script.Payer], p.side[script.Payee]
	_, _, err := payer.Propose(2*coin, p.tip())
	wantErr(t, err, ErrNotYet)
	proposed, state, err := payee.Propose(2*coin, p.tip())
	wantNil(t, err)
	_, _, err = proposed.Propose(3*coin, p.tip())
	wantErr(t, err, ErrNotYet)
	good := proposed.Sent
	good.Signature = p.sign(script.Payee, state)
	lock99, _ := payer.Lock(99)
	for name, c := range map[string]struct {
		change func(*Rung)
		tip    uint32
		want   error
	}{
		"as it is":             {func(*Rung) {}, lock99 - 1, nil},
		"too late":             {func(*Rung) {}, lock99, ErrExpiring},
		"a number is left out": {func(r *Rung) { r.Number-- }, 300, ErrTerms},
		"a second state 99":    {func(r *Rung) { r.Number++ }, 300, ErrConflict},
		"another share":        {func(r *Rung) { r.Share++ }, 300, ErrSignature},
		"dust for the payer":   {func(r *Rung) { r.Share = 100*coin - 1 }, 300, ErrAmountExceeds},
		"dust for the payee":   {func(r *Rung) { r.Share = 1 }, 300, ErrAmountExceeds},
		"more than there is":   {func(r *Rung) { r.Share = 100*coin + 1 }, 300, ErrTerms},
		"no signature":         {func(r *Rung) { r.Signature = nil }, 300, ErrSignature},
	} {
		t.Run(name, func(t *testing.T) {
			r := good
			c.change(&r)
			next, _, err := payer.Answer(p.ch, r, c.tip)
			if !errors.Is(err, c.want) {
				t.Fatalf("%v, want %v", err, c.want)
			}
			if err != nil {
				same(t, "ladder", next, payer)
			}
		})
	}
	_, _, err = payee.Answer(p.ch, Rung{Number: 98, Share: 2 * coin}, p.tip())
	wantErr(t, err, ErrNotYet)
	held, answer, err := payer.Answer(p.ch, good, p.tip())
	wantNil(t, err)
	twice, same2, err := held.Answer(p.ch, good, p.tip())
	wantNil(t, err)
	same(t, "ladder after a repeat", twice, held)
	same(t, "the answer to a repeat", same2, answer)
	if c, err := proposed.Claim(p.ch); err != nil || c.Lock != lock99 {
		t.Errorf("while the answer is withheld the payee closes from %d: %v", c.Lock, err)
	}
	good.Signature = p.sign(script.Payer, answer)
	done, err := proposed.Answered(p.ch, good)
	wantNil(t, err)
	if done.Held.Number != 98 || done.Turn != script.Payer {
		t.Errorf("%+v", done)
	}
	_, err = proposed.Answered(p.ch, Rung{Number: 98, Share: 2 * coin, Signature: Hex{1, 2}})
	wantErr(t, err, ErrSignature)
	_, err = proposed.Answered(p.ch, Rung{Number: 98, Share: 3 * coin})
	wantErr(t, err, ErrConflict)
	_, err = Ladder{Terms: p.side[0].Terms, Top: 100, Held: Rung{Number: 100}}.Claim(p.ch)
	wantErr(t, err, ErrNothingAtStake)
}
