package scenario

import (
	"context"
	"errors"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
)

// show puts a transaction into the mempool of this side's own node alone.
func (l *line) show(tx *wire.MsgTx) {
	if l.lax == nil {
		l.lax = map[wire.OutPoint]*wire.MsgTx{}
	}
	for _, in := range tx.TxIn {
		l.lax[in.PreviousOutPoint] = tx
	}
}

// Spend implements chain.Backend.
func (l *line) Spend(ctx context.Context, op wire.OutPoint) (*chain.Spend, error) {
	s, err := l.Node.Spend(ctx, op)
	if err != nil || s != nil {
		return s, err
	}
	tx, ok := l.lax[op]
	if !ok {
		return nil, nil
	}
	for i, in := range tx.TxIn {
		if in.PreviousOutPoint == op {
			return &chain.Spend{Txid: tx.TxHash(), Vin: uint32(i)}, nil
		}
	}
	return nil, nil
}

// Tx implements chain.Backend.
func (l *line) Tx(ctx context.Context, txid chainhash.Hash) (chain.TxInfo, error) {
	info, err := l.Node.Tx(ctx, txid)
	if !errors.Is(err, chain.ErrNotFound) {
		return info, err
	}
	for _, tx := range l.lax {
		if tx.TxHash() == txid {
			return chain.TxInfo{Tx: tx}, nil
		}
	}
	return info, err
}
