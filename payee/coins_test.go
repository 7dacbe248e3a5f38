package payee_test

import (
	"bytes"
	"testing"

	"github.com/spillway/spillway/chain/devnet"
	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/internal/pairtest"
	"github.com/spillway/spillway/payee"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/wallet"
)

// withCoins gives the payee a wallet with so many confirmed coins of 10,000 sat, and one
// that is in no block.
func withCoins(t *testing.T, p *pairtest.Pair, n int) *wallet.Wallet {
	t.Helper()
	w, err := wallet.New(t.Context(), wallet.Config{Keys: p.PayeeKeys, Chain: p.Chain, Store: p.PayeeDisk, Params: devnet.Params()})
	wantNil(t, err)
	for range n + 1 {
		if n == 0 {
			p.Mine(1)
		}
		pk, err := w.ReceiveScript(t.Context())
		wantNil(t, err)
		_, err = p.Chain.Faucet(t.Context(), pk, 10_000)
		wantNil(t, err)
		if n--; n >= 0 {
			p.Mine(1)
		}
	}
	p.Payee, err = payee.New(payee.Config{
		Store: p.PayeeDisk, Keys: p.PayeeKeys, Chain: p.Chain, Network: "regtest", Payout: p.Payout, Policy: p.Policy, Coins: w, Now: p.Now, Rand: bytes.NewReader(make([]byte, 1000)),
	})
	wantNil(t, err)
	return w
}

// A settlement whose own output would be below dust takes one confirmed coin: reserved
// before it is saved, the same one for its replacements, free again when it is over. The
// payee never gives more than was paid.
func TestFeeInput(t *testing.T) {
	for _, kind := range []script.Construction{script.Taproot, script.Multisig, script.MultisigP2SH} {
		t.Run(string(kind), func(t *testing.T) {
			p := pairtest.New(t)
			paid := uint64(450)
			if kind == script.MultisigP2SH {
				paid = 600
			}
			ids := due(t, p, paid, kind)
			wantNil(t, p.StepPayee())
			if spender(t, p, ids[0]) != nil {
				t.Fatal("settled without a coin")
			}
			w := withCoins(t, p, 2)
			wantNil(t, p.StepPayee())
			first, s := spender(t, p, ids[0]), recordOf(t, p, ids[0]).Settlement
			if first == nil || len(first.TxIn) != 2 || s.Coins != 10_000 || s.Txid != first.TxID() {
				t.Fatalf("%+v by %+v", s, first)
			}
			check := func(fee int64) {
				t.Helper()
				outs := spender(t, p, ids[0]).TxOut
				if own := outs[1].Value; own != 10_000+int64(paid)-fee || own < 10_000 || outs[0].Value != int64(pairtest.Capacity-paid) {
					t.Fatalf("a payout of %d sat and a rest of %d sat, at a fee of %d sat", own, outs[0].Value, fee)
				}
			}
			check(s.Fee)
			if held, err := w.Reservations(t.Context()); err != nil || len(held) != 1 || held[0].Outpoint != first.TxIn[1].PreviousOutPoint {
				t.Fatalf("reserved: %+v, %v", held, err)
			}
			if n, err := w.ReleaseOrphans(t.Context(), 0, func(string) bool { return false }); err != nil || n != 0 {
				t.Fatalf("%d coins released: %v", n, err)
			}
			p.Chain.SetFeeRate(script.FeeRatePerVB(50)) // it gives all that it saves, and not a satoshi of its own
			wantNil(t, p.StepPayee())
			last := recordOf(t, p, ids[0]).Settlement
			if last.Rate < s.Rate || last.Fee > int64(paid) {
				t.Fatalf("%+v", last)
			}
			p.Chain.SetFeeRate(script.FeeRatePerVB(1))
			p.Mine(8)
			wantNil(t, p.StepPayee())
			if r := recordOf(t, p, ids[0]); r.Phase != channel.Closed {
				t.Fatalf("phase %s", r.Phase)
			}
			if held, err := w.Reservations(t.Context()); err != nil || len(held) != 0 {
				t.Fatalf("still reserved: %+v, %v", held, err)
			}
		})
	}
}

// Without a confirmed coin, and where it would cost more than it saves, nothing is made;
// with several such channels together none is needed.
func TestNoFeeInput(t *testing.T) {
	p := pairtest.New(t)
	ids := due(t, p, 450, script.Taproot)
	withCoins(t, p, 0)
	wantNil(t, p.StepPayee())
	if tx := spender(t, p, ids[0]); tx != nil {
		t.Fatalf("settled with %+v", tx.TxIn)
	}
	p = pairtest.New(t)
	ids = due(t, p, 250, script.Taproot) // 263 vB at 1 sat/vB are more
	withCoins(t, p, 2)
	wantNil(t, p.StepPayee())
	if tx := spender(t, p, ids[0]); tx != nil {
		t.Fatalf("settled with %+v", tx.TxIn)
	}
	p = pairtest.New(t)
	ids = due(t, p, 450, script.Taproot, script.Taproot, script.Taproot)
	w := withCoins(t, p, 2)
	wantNil(t, p.StepPayee())
	if tx := spender(t, p, ids[0]); tx == nil || len(tx.TxIn) != 3 {
		t.Fatalf("settled with %+v", tx)
	}
	if held, err := w.Reservations(t.Context()); err != nil || len(held) != 0 {
		t.Fatalf("reserved: %+v, %v", held, err)
	}
}
