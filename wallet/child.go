package wallet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/store"
)

// ErrDear says that a fee is more than was allowed; *DearError says by how much.
var ErrDear = errors.New("wallet: the fee is more than was allowed")

// DearError is an ErrDear. Nothing was saved or sent.
type DearError struct {
	Fee  int64 // sat, what is needed
	Most int64 // sat, what was allowed
}

// Error says both fees.
func (e *DearError) Error() string {
	return fmt.Sprintf("a fee of %d sat is needed, at most %d sat are allowed", e.Fee, e.Most)
}

// Is makes it an ErrDear.
func (e *DearError) Is(target error) bool { return target == ErrDear }

// maxChild is how large a child of a version 3 transaction may be, in vB. BIP431.
const maxChild = 1_000

// Child spends an output of this wallet in an unconfirmed transaction at a fee that
// brings both to a rate, and broadcasts it: miners take the parent for the child's sake.
// It is of version 3 where the parent is. parentFee is what the parent pays itself, in
// sat. Asked again the older child is replaced. It pays from that output alone, and
// leaves it at least dust; it is saved, and the output reserved, before it leaves. most
// bounds its fee, in sat; 0: what the output holds. A large parent makes a dear child.
// Errors: ErrOutput where the output is not this wallet's, *InsufficientError, *DearError,
// ErrRate, chain.ErrRejected.
func (w *Wallet) Child(ctx context.Context, parent *wire.MsgTx, index uint32, parentFee int64, rate script.FeeRate, most int64) (*Funded, error) {
	if rate <= 0 || rate > maxRate {
		return nil, fmt.Errorf("%w: %d sat per 1000 vB", ErrRate, rate)
	}
	w.funding.Lock()
	defer w.funding.Unlock()
	c, err := w.ownOutput(ctx, parent, index)
	if err != nil {
		return nil, err
	}
	older, olderFee, err := w.olderChild(ctx, c.Outpoint)
	if err != nil {
		return nil, err
	}
	f, err := w.childOf(ctx, parent, c, parentFee, olderFee, rate)
	if err != nil {
		return nil, err
	}
	if most > 0 && f.Fee > most {
		return nil, &DearError{Fee: f.Fee, Most: most}
	}
	if err := w.complete(f); err != nil {
		return nil, err
	}
	if older != "" {
		err = w.saveReplacement(ctx, f, older)
	} else {
		err = w.commit(ctx, kindSend, f)
	}
	if err != nil {
		return nil, err
	}
	err = w.cfg.Chain.Broadcast(ctx, f.Tx)
	if errors.Is(err, chain.ErrRejected) && older != "" {
		return nil, errors.Join(err, w.undoReplacement(ctx, f, older))
	} else if errors.Is(err, chain.ErrRejected) {
		return nil, errors.Join(err, w.Release(ctx, f.Tx))
	}
	return f, err
}

// childOf builds it: one input, one output to a fresh script.
func (w *Wallet) childOf(ctx context.Context, parent *wire.MsgTx, c coin, parentFee, olderFee int64, rate script.FeeRate) (*Funded, error) {
	tip, err := w.cfg.Chain.Tip(ctx)
	if err != nil {
		return nil, err
	}
	to, op, err := w.fresh(ctx, true)
	if err != nil {
		return nil, err
	}
	out := wire.NewTxOut(0, to.pkScript)
	size := vsize(1, out)
	fee := max(rate.Fee(script.VSize(parent)+size)-max(parentFee, 0), rate.Fee(size), script.FeeRatePerVB(1).Fee(size))
	if olderFee > 0 {
		fee = max(fee, olderFee+script.FeeRatePerVB(1).Fee(size))
	}
	out.Value = c.Value - fee
	if dust := script.Dust(to.pkScript); size > maxChild || out.Value < dust {
		return nil, &InsufficientError{Needed: fee + dust, Available: c.Value}
	}
	f := &Funded{Tx: wire.NewMsgTx(txVersion), ChangeIndex: 0, change: op, height: tip.Height}
	if parent.Version == 3 {
		f.Tx.Version = 3
	}
	f.Tx.AddTxOut(out)
	f.spend([]coin{c})
	return f, nil
}

// ownOutput is an output of a transaction as a coin of this wallet.
func (w *Wallet) ownOutput(ctx context.Context, tx *wire.MsgTx, index uint32) (coin, error) {
	if int64(index) >= int64(len(tx.TxOut)) {
		return coin{}, fmt.Errorf("%w: there is no output %d", ErrOutput, index)
	}
	own, err := w.owned(ctx)
	if err != nil {
		return coin{}, err
	}
	out := tx.TxOut[index]
	p, ok := own[string(out.PkScript)]
	if !ok {
		return coin{}, fmt.Errorf("%w: output %d of %s is not the wallet's", ErrOutput, index, tx.TxHash())
	}
	return coin{
		UTXO: chain.UTXO{Outpoint: wire.OutPoint{Hash: tx.TxHash(), Index: index}, Value: out.Value, PkScript: out.PkScript},
		slot: slot{path: p, pkScript: out.PkScript},
	}, nil
}

// olderChild is the transaction that an output is promised to, and its fee; none: "".
func (w *Wallet) olderChild(ctx context.Context, op wire.OutPoint) (txid string, fee int64, err error) {
	e, err := w.cfg.Store.Get(ctx, bucketReserved, op.String())
	if errors.Is(err, store.ErrNotFound) {
		return "", 0, nil
	} else if err != nil {
		return "", 0, err
	}
	var r reservation
	if err := json.Unmarshal(e.Value, &r); err != nil {
		return "", 0, fmt.Errorf("%w: %s/%s: %w", store.ErrDamaged, bucketReserved, op, err)
	}
	saved, err := w.cfg.Store.Get(ctx, bucketTx, r.Txid)
	if err != nil {
		return "", 0, err
	}
	s, tx, err := decodeSaved(saved)
	if err != nil {
		return "", 0, err
	}
	if s.Kind != kindSend || len(tx.TxIn) != 1 {
		return "", 0, fmt.Errorf("%w: %s is promised to %s", store.ErrConflict, op, r.Txid)
	}
	return r.Txid, s.Fee, nil
}
