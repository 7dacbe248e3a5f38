package btcdtest

import (
	"errors"
	"testing"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"
)

func TestNodePaysMinesAndReorganizes(t *testing.T) {
	n := Start(t, "--txindex")
	n.MineCoins(3)
	one, two := n.Pay(n.script, 50_000), n.Pay(n.script, 60_000)
	if !n.InMempool(one.Hash) || !n.InMempool(two.Hash) {
		t.Fatal("a payment is not in the mempool")
	}
	before := n.Height()
	n.Mine(2)
	if got := n.Height(); got != before+2 || n.InMempool(one.Hash) {
		t.Fatalf("the tip is %d", got)
	}
	n.Reorg(2, 3, []chainhash.Hash{one.Hash}, nil)
	if n.Height() != before+3 || n.InMempool(one.Hash) || !n.InMempool(two.Hash) {
		t.Fatalf("the reorg did not drop one payment and give back the other: at %d, %v, %v", n.Height()-before, n.InMempool(one.Hash), n.InMempool(two.Hash))
	}
	n.Mine(1)
	if n.InMempool(two.Hash) {
		t.Fatal("not mined")
	}
}

// The relay rules are the field's, not btcd's of regtest.
func TestNodeIsStandard(t *testing.T) {
	n := Start(t)
	n.MineCoins(1)
	c := n.coins[0]
	tx := wire.NewMsgTx(2)
	tx.AddTxIn(&wire.TxIn{PreviousOutPoint: c.out, Sequence: 0})
	tx.AddTxOut(wire.NewTxOut(c.value-fundingFee, []byte{0x61, 0x61, 0x51}))
	n.sign(tx, c.value)
	var refused *Error
	if err := n.Send(tx); !errors.As(err, &refused) {
		t.Fatalf("an output of an unknown form: %v", err)
	}
	tx.TxOut[0].PkScript, tx.LockTime = n.script, uint32(n.Height()+100)
	n.sign(tx, c.value)
	if err := n.Send(tx); !errors.As(err, &refused) {
		t.Fatalf("a transaction that is not final: %v", err)
	}
}
