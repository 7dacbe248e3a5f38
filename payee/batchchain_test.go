package payee_test

import (
	"context"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/chain/devnet"
	"github.com/spillway/spillway/internal/pairtest"
)

// refusing is a node that takes no settlement of several channels.
type refusing struct {
	*pairtest.Chain
	refused int
}

func (r *refusing) Broadcast(ctx context.Context, tx *wire.MsgTx) error {
	if len(tx.TxIn) > 1 && tx.TxIn[0].PreviousOutPoint.Index == 0 {
		r.refused++
		return &chain.RejectError{Reason: "txn-mempool-conflict"}
	}
	return r.Chain.Broadcast(ctx, tx)
}

// dropping is a reorg that loses a transaction.
func dropping(depth int, txid chainhash.Hash) devnet.ReorgOptions {
	return devnet.ReorgOptions{Depth: depth, Length: depth + 1, Drop: []chainhash.Hash{txid}}
}
