package wallet

import (
	"context"
	"errors"
	"fmt"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/store"
)

// Refusals of RaiseFee.
var (
	// ErrNotBuilt: another wallet built the transaction, or none.
	ErrNotBuilt = errors.New("this wallet built no such transaction")
	// ErrMined: the transaction is in a block, where no fee helps it any more.
	ErrMined = errors.New("the transaction is in a block already")
	// ErrNoChange: no unspent change of the transaction is the wallet's.
	ErrNoChange = errors.New("the transaction has no change that could be spent")
	// ErrRateReached: the transaction pays the wanted rate already.
	ErrRateReached = errors.New("the transaction pays this fee rate already")
)

// family is an unconfirmed transaction with its unconfirmed ancestors, all of them
// built by this wallet.
type family struct {
	size int64 // vB
	fee  int64 // sat
}

// RaiseFee makes a miner's reward for an own, unconfirmed transaction larger: a
// child spends its change back to the wallet, with a fee that brings both, and what
// they hang on, to rate (sat per 1000 vB). The transaction keeps its id, so whatever
// was signed over its outputs stays valid: this is how an unconfirmed funding is
// hurried. Where the change is too small other coins are added. The child is saved
// before it is broadcast, and Rebroadcast sends it again where it is lost.
// Errors: ErrNotBuilt, chain.ErrNotFound where the chain does not show it, ErrMined,
// ErrNoChange, ErrRateReached, *InsufficientError, ErrRate, chain.ErrRejected,
// chain.ErrUnavailable (it is saved then, and returned with the error).
func (w *Wallet) RaiseFee(ctx context.Context, txid chainhash.Hash, rate script.FeeRate) (*Funded, error) {
	if rate <= 0 || rate > maxRate {
		return nil, fmt.Errorf("%w: %d sat per 1000 vB", ErrRate, rate)
	}
	if _, err := w.cfg.Store.Get(ctx, bucketTx, txid.String()); errors.Is(err, store.ErrNotFound) {
		return nil, fmt.Errorf("%w: %s", ErrNotBuilt, txid)
	} else if err != nil {
		return nil, err
	}
	var parents family
	mined, err := w.unconfirmed(ctx, txid, map[chainhash.Hash]bool{}, &parents)
	if err != nil {
		return nil, err
	}
	if mined {
		return nil, ErrMined
	}
	if parents.fee >= rate.Fee(parents.size) {
		return nil, fmt.Errorf("%w: %d sat for %d vB", ErrRateReached, parents.fee, parents.size)
	}
	f, err := w.reserve(ctx, kindSend, func(coins []coin) (*Funded, error) {
		return w.child(ctx, coins, txid, parents, rate)
	})
	if err != nil {
		return nil, err
	}
	err = w.cfg.Chain.Broadcast(ctx, f.Tx)
	if errors.Is(err, chain.ErrRejected) {
		return nil, errors.Join(err, w.Release(ctx, f.Tx))
	}
	if err != nil {
		return f, fmt.Errorf("the child %s is saved and will be sent again: %w", f.Tx.TxHash(), err)
	}
	return f, nil
}

// unconfirmed adds a transaction and its unconfirmed ancestors to a family; mined
// tells that it is in a block. The fees are those that were saved when they were
// built: the wallet spends nobody else's unconfirmed outputs.
func (w *Wallet) unconfirmed(ctx context.Context, txid chainhash.Hash, seen map[chainhash.Hash]bool, all *family) (mined bool, err error) {
	if seen[txid] {
		return false, nil
	}
	seen[txid] = true
	info, err := w.cfg.Chain.Tx(ctx, txid)
	if errors.Is(err, chain.ErrNotFound) {
		return false, fmt.Errorf("the chain does not show %s, so a child of it has nothing to spend: %w", txid, err)
	}
	if err != nil || info.Confirmed {
		return info.Confirmed, err
	}
	e, err := w.cfg.Store.Get(ctx, bucketTx, txid.String())
	if err != nil {
		return false, fmt.Errorf("transaction %s: %w", txid, err)
	}
	saved, tx, err := decodeSaved(e)
	if err != nil {
		return false, err
	}
	all.size, all.fee = all.size+script.VSize(tx), all.fee+saved.Fee
	for _, in := range tx.TxIn {
		_, err := w.unconfirmed(ctx, in.PreviousOutPoint.Hash, seen, all)
		if errors.Is(err, store.ErrNotFound) {
			continue // a confirmed coin's own history is nobody's concern
		}
		if err != nil {
			return false, err
		}
	}
	return false, nil
}

// child spends the change of txid, and further coins where it does not suffice,
// into one fresh output of the wallet.
func (w *Wallet) child(ctx context.Context, coins []coin, txid chainhash.Hash, parents family, rate script.FeeRate) (*Funded, error) {
	var own, rest []coin
	for _, c := range coins {
		switch {
		case c.Outpoint.Hash == txid:
			own = append(own, c)
		case c.Confirmed: // an unconfirmed one would bring a family of its own
			rest = append(rest, c)
		}
	}
	if len(own) == 0 {
		return nil, ErrNoChange
	}
	rest, _ = worth(rest, rate)
	to, op, err := w.fresh(ctx, true)
	if err != nil {
		return nil, err
	}
	out, have := wire.NewTxOut(0, to.pkScript), int64(0)
	for _, c := range own {
		have += c.Value
	}
	used := own
	for {
		size := vsize(len(used), out)
		// never less than the child owes for itself
		fee := max(rate.Fee(size), rate.Fee(parents.size+size)-parents.fee)
		least := fee + script.Dust(to.pkScript)
		if out.Value = have - fee; have >= least {
			break
		}
		if len(rest) == 0 {
			return nil, &InsufficientError{Needed: least, Available: have}
		}
		used, have, rest = append(used, rest[0]), have+rest[0].Value, rest[1:]
	}
	f := &Funded{Tx: wire.NewMsgTx(txVersion), ChangeIndex: 0, change: op}
	f.Tx.AddTxOut(out)
	f.spend(used)
	return f, nil
}
