package wallet

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/btcsuite/btcd/btcutil/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/store"
)

const (
	// sequence of every input: replaceable, no relative lock (docs/protocol.md, "Keys and scripts").
	sequence = wire.MaxTxInSequenceNum - 2
	// txVersion of what the wallet builds: a version 3 parent would bind its children.
	txVersion = 2
	// maxInputs keeps a transaction under the 100,000 vB that nodes relay.
	maxInputs = 1000
	// maxRate in sat per 1000 vB; above it a rate is a mistake.
	maxRate = script.FeeRate(10_000_000)
	// maxAttempts bounds how often a lost race for the same coin is run again.
	maxAttempts = 100
	maxSat      = int64(btcutil.MaxSatoshi)
)

// Funded is a signed transaction that has not left yet.
type Funded struct {
	Tx          *wire.MsgTx
	Fee         int64 // sat
	Prevouts    map[wire.OutPoint]*wire.TxOut
	ChangeIndex int // of the change among the outputs; -1: there is none

	paths  []path // of the inputs
	change *store.Op
	height uint32 // tip when it was made
}

// kind says what a saved transaction is for.
type kind string

const (
	kindFund kind = "fund" // somebody else broadcasts it
	kindSend kind = "send" // the wallet broadcasts it, again where it is lost
)

// savedTx is what bucketTx holds.
type savedTx struct {
	Kind kind   `json:"kind"`
	Tx   string `json:"tx"` // hex
	Fee  int64  `json:"fee"`
}

// Fund builds and signs a transaction that pays the given outputs, which keep
// their places, and adds its change behind them where that is above dust. Every
// input is a taproot key spend of an own coin: confirmed, or the unconfirmed
// change of an own transaction. The coins are reserved durably before it
// returns; nothing is broadcast. rate is in sat per 1000 vB.
// Errors: *InsufficientError, ErrRate, ErrOutput, of the chain and the store.
func (w *Wallet) Fund(ctx context.Context, outputs []*wire.TxOut, rate script.FeeRate) (*Funded, error) {
	if err := checkOutputs(outputs, rate); err != nil {
		return nil, err
	}
	return w.reserve(ctx, kindFund, func(coins []coin) (*Funded, error) {
		return w.author(ctx, coins, outputs, rate)
	})
}

// FundingFee is the fee in sat that Fund would pay for these outputs now, with the
// coins that there are. Nothing is reserved; another coin may be there, or gone,
// when Fund is called. Errors: as Fund.
func (w *Wallet) FundingFee(ctx context.Context, outputs []*wire.TxOut, rate script.FeeRate) (int64, error) {
	if err := checkOutputs(outputs, rate); err != nil {
		return 0, err
	}
	all, err := w.coins(ctx)
	if err != nil {
		return 0, err
	}
	f, err := w.author(ctx, usable(all), outputs, rate)
	if err != nil {
		return 0, err
	}
	return f.Fee, nil
}

func checkOutputs(outputs []*wire.TxOut, rate script.FeeRate) error {
	if rate <= 0 || rate > maxRate {
		return fmt.Errorf("%w: %d sat per 1000 vB", ErrRate, rate)
	}
	if len(outputs) == 0 {
		return fmt.Errorf("%w: none is given", ErrOutput)
	}
	var sum int64
	for _, out := range outputs {
		if out == nil || out.Value < 0 || out.Value > maxSat-sum {
			return fmt.Errorf("%w: more than there is", ErrOutput)
		}
		if dust := script.Dust(out.PkScript); out.Value < dust {
			return fmt.Errorf("%w: %d sat is below the dust limit of %d sat", ErrOutput, out.Value, dust)
		}
		sum += out.Value
	}
	return nil
}

// reserve lets build choose among the spendable coins, signs, and saves the
// reservations, the change's index and the transaction in one commit. Where
// another wallet on this store was faster it starts over with what is left.
func (w *Wallet) reserve(ctx context.Context, k kind, build func([]coin) (*Funded, error)) (*Funded, error) {
	w.funding.Lock()
	defer w.funding.Unlock()
	for range maxAttempts {
		all, err := w.coins(ctx)
		if err != nil {
			return nil, err
		}
		if err := w.forget(ctx, all); err != nil {
			return nil, err
		}
		f, err := build(usable(all))
		if err != nil {
			return nil, err
		}
		tip, err := w.cfg.Chain.Tip(ctx)
		if err != nil {
			return nil, err
		}
		f.height = tip.Height
		if err := w.complete(f); err != nil {
			return nil, err
		}
		err = w.commit(ctx, k, f)
		if errors.Is(err, store.ErrConflict) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("the coins were not reserved: %w", err)
		}
		w.cfg.Logger.Debug("funded", "txid", f.Tx.TxHash(), "fee_sat", f.Fee, "inputs", len(f.Tx.TxIn))
		return f, nil
	}
	return nil, fmt.Errorf("other wallets on this store kept taking the coins: %w", store.ErrConflict)
}

// usable keeps the coins that may be spent, at most as many as fit.
func usable(all []coin) []coin {
	var some []coin
	for _, c := range all {
		if c.usable() && len(some) < maxInputs {
			some = append(some, c)
		}
	}
	return some
}

func encodeSaved(k kind, f *Funded) ([]byte, error) {
	var raw bytes.Buffer
	if err := f.Tx.Serialize(&raw); err != nil {
		return nil, err
	}
	return json.Marshal(savedTx{Kind: k, Tx: hex.EncodeToString(raw.Bytes()), Fee: f.Fee})
}

// commit saves the reservations with the change's index and the transaction.
func (w *Wallet) commit(ctx context.Context, k kind, f *Funded) error {
	txid := f.Tx.TxHash().String()
	saved, err := encodeSaved(k, f)
	if err != nil {
		return err
	}
	ops := []store.Op{{Bucket: bucketTx, Key: txid, Value: saved, Expect: store.Any}}
	for _, in := range f.Tx.TxIn {
		value, err := json.Marshal(reservation{Txid: txid, Value: f.Prevouts[in.PreviousOutPoint].Value, Height: f.height})
		if err != nil {
			return err
		}
		ops = append(ops, store.Op{Bucket: bucketReserved, Key: in.PreviousOutPoint.String(), Value: value})
	}
	if f.change != nil {
		ops = append(ops, *f.change)
	}
	return w.cfg.Store.Commit(ctx, ops...)
}
