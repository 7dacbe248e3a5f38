package watch

import (
	"context"
	"errors"
	"math"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/script"
)

const (
	// maxInputs bounds how many inputs of a foreign transaction are looked up for its fee.
	maxInputs = 100
	// maxChildren bounds how many unconfirmed descendants are looked at: nodes keep no
	// more (25 with the parent).
	maxChildren = 24
)

// unconfirmed describes a spend in the mempool: its lock, its fee and size, what it
// leaves to the payee, and what hangs on it. What cannot be told stays 0, and so does all
// but the lock of a transaction that the channel's keys have not signed as it is shown: its
// id says nothing of its witness, and a backend may have made it up. Its lock is the
// highest: it counts as older than whatever is held.
func unconfirmed(ctx context.Context, c Chain, t Target, spend *chain.Spend, t1 *wire.MsgTx) (*channel.SpendView, error) {
	s := &channel.SpendView{Txid: spend.Txid.String()}
	info, err := c.Tx(ctx, spend.Txid)
	if errors.Is(err, chain.ErrNotFound) {
		return s, nil // gone meanwhile; the next step sees what is true then
	} else if err != nil {
		return nil, err
	}
	if int(t.Outpoint.Index) >= len(t1.TxOut) {
		return s, nil
	}
	known := map[chainhash.Hash]*wire.MsgTx{t.Outpoint.Hash: t1}
	fee, ok, err := feeOf(ctx, c, info.Tx, known)
	if err != nil {
		return nil, err
	}
	if !ok || !signed(info.Tx, spend.Vin, t.Outpoint, known) {
		s.Lock = math.MaxUint32
		return s, nil
	}
	s.Lock, s.Fee, s.VSize = info.Tx.LockTime, fee, script.VSize(info.Tx)
	if len(t.Rest) == 0 {
		return s, nil
	}
	s.Leaves = Leaves(info.Tx, spend.Vin, t1.TxOut[t.Outpoint.Index].Value, t.Rest)
	s.ChildFee, s.ChildVSize, err = children(ctx, c, info.Tx, known)
	return s, err
}

// Leaves is channel.Leaves.
func Leaves(tx *wire.MsgTx, vin uint32, capacity int64, rest []byte) int64 {
	return channel.Leaves(tx, vin, capacity, rest)
}

// mined describes a spend in a block, with the transaction itself where the backend has it.
func mined(ctx context.Context, c Chain, spend *chain.Spend) (*channel.SpendView, error) {
	s := &channel.SpendView{Txid: spend.Txid.String(), Height: spend.Height}
	info, err := c.Tx(ctx, spend.Txid)
	if errors.Is(err, chain.ErrNotFound) {
		return s, nil
	} else if err != nil {
		return nil, err
	}
	s.Tx, s.Vin = info.Tx, spend.Vin
	return s, nil
}

// signed reports whether an input spends an output, with a witness that is good for this
// transaction. known holds all that it spends.
func signed(tx *wire.MsgTx, vin uint32, op wire.OutPoint, known map[chainhash.Hash]*wire.MsgTx) bool {
	if int64(vin) >= int64(len(tx.TxIn)) || tx.TxIn[vin].PreviousOutPoint != op {
		return false
	}
	prevouts := make(map[wire.OutPoint]*wire.TxOut, len(tx.TxIn))
	for _, in := range tx.TxIn {
		op := in.PreviousOutPoint
		prevouts[op] = known[op.Hash].TxOut[op.Index]
	}
	return script.ExecuteInput(tx, int(vin), prevouts) == nil
}

// feeOf is a transaction's fee (sat); ok is false where it cannot be told: what the
// backend cannot show of foreign inputs must not hide the channel. known are transactions
// that need not be asked for. Errors: of ctx.
func feeOf(ctx context.Context, c Chain, tx *wire.MsgTx, known map[chainhash.Hash]*wire.MsgTx) (fee int64, ok bool, err error) {
	if len(tx.TxIn) > maxInputs {
		return 0, false, nil
	}
	for _, in := range tx.TxIn {
		op := in.PreviousOutPoint
		parent := known[op.Hash]
		if parent == nil {
			info, err := c.Tx(ctx, op.Hash)
			if err != nil { // anybody may add an input that is older than what a pruned node has
				return 0, false, ctx.Err()
			}
			parent = info.Tx
			known[op.Hash] = parent
		}
		if int(op.Index) >= len(parent.TxOut) {
			return 0, false, nil
		}
		fee += parent.TxOut[op.Index].Value
	}
	for _, out := range tx.TxOut {
		fee -= out.Value
	}
	return fee, fee >= 0 && fee <= channel.MaxSat, nil
}

// children are the fees (sat) of what spends a transaction's outputs in the mempool, and
// of what spends theirs. size is that of the one child (vB), where there is one and all
// else that it spends is mined: only then do both together pay what a miner sees. 0: they
// carry the transaction no further, as far as can be told.
func children(ctx context.Context, c Chain, tx *wire.MsgTx, known map[chainhash.Hash]*wire.MsgTx) (fee, size int64, err error) {
	seen := map[chainhash.Hash]bool{}
	carries := true
	for queue := []*wire.MsgTx{tx}; len(queue) > 0; queue = queue[1:] {
		parent := queue[0]
		txid := parent.TxHash()
		known[txid] = parent
		for i := range min(len(parent.TxOut), maxInputs) {
			spend, err := c.Spend(ctx, wire.OutPoint{Hash: txid, Index: uint32(i)})
			if err != nil {
				return 0, 0, err
			}
			if spend == nil || spend.Confirmed || seen[spend.Txid] || len(seen) == maxChildren {
				continue
			}
			seen[spend.Txid] = true
			info, err := c.Tx(ctx, spend.Txid)
			if errors.Is(err, chain.ErrNotFound) {
				continue
			} else if err != nil {
				return 0, 0, err
			}
			own, ok, err := feeOf(ctx, c, info.Tx, known)
			if err != nil {
				return 0, 0, err
			}
			if carries = carries && ok && minedBut(ctx, c, info.Tx, tx.TxHash()); ok {
				fee, size = fee+own, size+script.VSize(info.Tx)
			}
			queue = append(queue, info.Tx)
		}
	}
	if fee = min(fee, channel.MaxSat); !carries || len(seen) != 1 {
		return fee, 0, nil
	}
	return fee, size, nil
}

// minedBut reports whether all that a transaction spends is in blocks, but for one parent.
func minedBut(ctx context.Context, c Chain, tx *wire.MsgTx, parent chainhash.Hash) bool {
	for _, in := range tx.TxIn {
		if in.PreviousOutPoint.Hash == parent {
			continue
		}
		if info, err := c.Tx(ctx, in.PreviousOutPoint.Hash); err != nil || !info.Confirmed {
			return false
		}
	}
	return true
}
