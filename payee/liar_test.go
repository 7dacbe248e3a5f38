package payee_test

import (
	"bytes"
	"context"
	"testing"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/chain/several"
	"github.com/spillway/spillway/internal/pairtest"
	"github.com/spillway/spillway/payee"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/watch"
)

// liar is one of two backends: the other one is honest.
type liar struct {
	*pairtest.Chain
	unconfirmed bool        // no transaction is in a block
	invented    *wire.MsgTx // is in the mempool
}

func (l *liar) Tx(ctx context.Context, id chainhash.Hash) (chain.TxInfo, error) {
	if l.invented != nil && l.invented.TxHash() == id {
		return chain.TxInfo{Tx: l.invented}, nil
	}
	info, err := l.Chain.Tx(ctx, id)
	if l.unconfirmed {
		info.Confirmed, info.Height, info.BlockHash = false, 0, chainhash.Hash{}
	}
	return info, err
}

func (l *liar) Spend(ctx context.Context, op wire.OutPoint) (*chain.Spend, error) {
	if l.invented != nil && l.invented.TxIn[0].PreviousOutPoint == op {
		return &chain.Spend{Txid: l.invented.TxHash()}, nil
	}
	return l.Chain.Spend(ctx, op)
}

// lying has the payee and its watch ask both.
func lying(t *testing.T, p *pairtest.Pair, l *liar) (step func()) {
	t.Helper()
	l.Chain = p.Chain
	both, err := several.New(several.Config{Members: []several.Member{{Name: "honest", Backend: p.Chain}, {Name: "liar", Backend: l}}})
	wantNil(t, err)
	p.Payee, err = payee.New(payee.Config{
		Store: p.PayeeDisk, Keys: p.PayeeKeys, Chain: both, Network: "regtest", Payout: p.Payout, Policy: p.Policy, Now: p.Now, Rand: bytes.NewReader(make([]byte, 1000)),
	})
	wantNil(t, err)
	w := &watch.Watch{Chain: both, Drivers: []watch.Driver{p.Payee}}
	return func() { t.Helper(); wantNil(t, w.Step(t.Context())) }
}

// One of two backends that says that no funding is in a block, or stands still since before
// it was, keeps no settlement from being sent within the margin.
func TestOneBackendHidesABlock(t *testing.T) {
	for _, kinds := range [][]script.Construction{{script.Taproot}, {script.Taproot, script.Multisig}} {
		p := pairtest.New(t)
		ids := due(t, p, 9_000, kinds...)
		step := lying(t, p, &liar{unconfirmed: true})
		step()
		for _, id := range ids {
			if spender(t, p, id) == nil {
				t.Errorf("%s of %d is not settled", id, len(ids))
			}
		}
	}
}

// Nor does one that invents a transaction which would leave the payee more: nobody but the
// payee could have signed that.
func TestOneBackendInventsASettlement(t *testing.T) {
	p := pairtest.New(t)
	id := due(t, p, 9_000, script.Taproot)[0]
	fake := wire.NewMsgTx(3)
	fake.AddTxIn(&wire.TxIn{PreviousOutPoint: wire.OutPoint(recordOf(t, p, id).Terms.Outpoint), Sequence: script.Sequence, Witness: wire.TxWitness{make([]byte, 64)}})
	fake.AddTxOut(wire.NewTxOut(pairtest.Capacity-5_000, p.Payout))
	step := lying(t, p, &liar{invented: fake})
	step()
	if spender(t, p, id) == nil {
		t.Error("not settled")
	}
}
