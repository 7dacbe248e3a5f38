// Package chain says what Spillway asks of a blockchain, and what a backend can
// do. The backends lie below it; chaintest is the suite that each passes.
//
// It holds no backend, and it decides nothing: what an answer means for a
// channel is for package channel to say.
package chain

import (
	"context"
	"errors"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/script"
)

// Errors of every backend, for errors.Is.
var (
	// ErrNotFound: the transaction is neither in a block nor in the mempool.
	ErrNotFound = errors.New("the chain does not know this")
	// ErrRejected: the node refused a transaction; the error is a *RejectError.
	ErrRejected = errors.New("the node refused the transaction")
	// ErrUnavailable: the backend can't be reached or answers nonsense.
	ErrUnavailable = errors.New("the blockchain cannot be asked")
)

// RejectError carries the node's own words.
type RejectError struct{ Reason string }

func (e *RejectError) Error() string { return ErrRejected.Error() + ": " + e.Reason }

// Is makes errors.Is(err, ErrRejected) true.
func (e *RejectError) Is(target error) bool { return target == ErrRejected }

// Tip is the best block.
type Tip struct {
	Height uint32
	Hash   chainhash.Hash
	Time   time.Time
}

// TxInfo is a transaction and where it stands.
type TxInfo struct {
	Tx        *wire.MsgTx
	Confirmed bool
	Height    uint32 // 0 while unconfirmed
	BlockHash chainhash.Hash
}

// Spend is what spends an output.
type Spend struct {
	Txid      chainhash.Hash
	Vin       uint32
	Confirmed bool
	Height    uint32 // 0 while unconfirmed
}

// UTXO is an output that nothing spends, in a block or in the mempool.
type UTXO struct {
	Outpoint  wire.OutPoint
	Value     int64 // sat
	PkScript  []byte
	Confirmed bool
	Height    uint32 // 0 while unconfirmed
}

// Capabilities is what a backend can do; what needs more asks.
type Capabilities struct {
	Mempool       bool // unconfirmed transactions are seen
	FeeEstimates  bool // rates come from a mempool, not from a default
	RejectReasons bool // a refusal says why
	Packages      bool // a parent and its child can be handed in together
}

// Backend is a blockchain.
type Backend interface {
	// Tip is the best block.
	Tip(ctx context.Context) (Tip, error)
	// BlockHash is the hash of the best chain's block at a height. Errors: ErrNotFound.
	BlockHash(ctx context.Context, height uint32) (chainhash.Hash, error)
	// Tx is a transaction. Errors: ErrNotFound.
	Tx(ctx context.Context, txid chainhash.Hash) (TxInfo, error)
	// Spend is what spends an output, also in the mempool; nil: nothing does.
	Spend(ctx context.Context, op wire.OutPoint) (*Spend, error)
	// UTXOs are a script's unspent outputs.
	UTXOs(ctx context.Context, pkScript []byte) ([]UTXO, error)
	// History is every transaction that pays to a script or spends from it, newest first.
	History(ctx context.Context, pkScript []byte) ([]TxInfo, error)
	// Broadcast hands a transaction to the network. One that is known or mined
	// is a success. Errors: *RejectError.
	Broadcast(ctx context.Context, tx *wire.MsgTx) error
	// FeeRate is the rate for a confirmation within so many blocks, never
	// below 1 sat/vB and never above MaxFeeRate.
	FeeRate(ctx context.Context, blocks int) (script.FeeRate, error)
	// Capabilities says what this backend can do.
	Capabilities() Capabilities
}

// MinFeeRate and MaxFeeRate bound what a backend's estimate is believed.
const (
	MinFeeRate = script.FeeRate(1_000)
	MaxFeeRate = script.FeeRate(2_000_000)
)

// ClampFeeRate puts an estimate within these bounds.
func ClampFeeRate(r script.FeeRate) script.FeeRate { return min(max(r, MinFeeRate), MaxFeeRate) }
