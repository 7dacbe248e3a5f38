// Package chain is what Spillway asks of a blockchain: a tip, transactions, spends, coins, a way to
// broadcast and a fee rate, with the capabilities of the backend said openly. It defines words and errors
// only: it never connects to anything, keeps no state and trusts no backend. The backends are in the packages
// below it, and each passes the suite in chaintest.
package chain

import (
	"context"
	"errors"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/script"
)

// Bounds of every fee rate that a backend answers, in satoshi per 1000 vB: what a backend says is clamped into
// them, so that neither a silent nor a lying one sets an absurd fee.
const (
	MinFeeRate script.FeeRate = 1_000     // 1 sat/vB, the relay floor of the network
	MaxFeeRate script.FeeRate = 2_000_000 // 2,000 sat/vB
)

// Sentinels of every backend, to be asked for with errors.Is.
var (
	// ErrNotFound says that a transaction is neither in the mempool nor in a block of the best chain, or that
	// there is no block at a height.
	ErrNotFound = errors.New("the chain does not know this")
	// ErrRejected says that a node refused a transaction; the error is then a *RejectError.
	ErrRejected = errors.New("the node refused the transaction")
	// ErrUnavailable says that a backend can't be reached, is closed, or answers nonsense. It says nothing about
	// the chain: the question is asked again later.
	ErrUnavailable = errors.New("the blockchain cannot be asked")
)

// RejectError is a refusal by a node, in its own words. errors.Is(err, ErrRejected) holds.
type RejectError struct {
	// Reason is what the node said, or a general phrase where Capabilities.RejectReasons is false.
	Reason string
}

// Error implements error.
func (e *RejectError) Error() string { return ErrRejected.Error() + ": " + e.Reason }

// Is makes every RejectError an ErrRejected.
func (e *RejectError) Is(target error) bool { return target == ErrRejected }

// Tip is the newest block of the best chain.
type Tip struct {
	Height uint32         // blocks above genesis
	Hash   chainhash.Hash // of the block
	Time   time.Time      // the timestamp in the block's header; a miner may set it up to two hours wrong
}

// TxInfo is a transaction and where it is.
type TxInfo struct {
	Tx        *wire.MsgTx
	Confirmed bool           // in a block of the best chain; false: in the mempool
	Height    uint32         // of that block, 0 while unconfirmed
	BlockHash chainhash.Hash // of that block, zero while unconfirmed
}

// Spend is the input that spends an output.
type Spend struct {
	Txid      chainhash.Hash // the spending transaction
	Vin       uint32         // index of the input in it
	Confirmed bool           // in a block of the best chain; false: in the mempool
	Height    uint32         // of that block, 0 while unconfirmed
}

// UTXO is an output that neither a block nor the mempool spends.
type UTXO struct {
	Outpoint  wire.OutPoint
	Value     int64 // sat
	PkScript  []byte
	Confirmed bool
	Height    uint32 // of its block, 0 while unconfirmed
}

// Capabilities is what a backend can do beyond blocks and confirmed transactions.
type Capabilities struct {
	Mempool       bool // sees unconfirmed transactions and spends: zero-conf and a refund seen early need it
	FeeEstimates  bool // FeeRate follows the fee market; otherwise it is a fixed guess
	RejectReasons bool // RejectError carries the node's own words
	Packages      bool // can submit parent and child together
	NoVersion3    bool // does not relay transactions of version 3 (TRUC, BIP 431), so that nothing of it may be
}

// Backend is a blockchain as Spillway sees it. Every method is safe for concurrent use, honours ctx and answers
// with ErrUnavailable (wrapping the cause) when the backend can't answer. No answer is final: a reorg changes
// any of them, and callers ask again at every tip.
type Backend interface {
	// Tip is the newest block.
	Tip(ctx context.Context) (Tip, error)
	// BlockHash is the hash of the best chain's block at a height. Errors: ErrNotFound above the tip.
	BlockHash(ctx context.Context, height uint32) (chainhash.Hash, error)
	// Tx finds a transaction in the mempool or the best chain. Errors: ErrNotFound.
	Tx(ctx context.Context, txid chainhash.Hash) (TxInfo, error)
	// Spend finds what spends an output, in a block or in the mempool; nil, nil while nothing does, also where
	// the output itself is unknown.
	Spend(ctx context.Context, op wire.OutPoint) (*Spend, error)
	// UTXOs lists the unspent outputs with exactly this script, confirmed ones first by height.
	UTXOs(ctx context.Context, pkScript []byte) ([]UTXO, error)
	// History lists the transactions that pay to or spend from a script: unconfirmed first, then by height,
	// newest first.
	History(ctx context.Context, pkScript []byte) ([]TxInfo, error)
	// Broadcast gives a transaction to the network; nil also when it is known already, in the mempool or in a
	// block. Errors: *RejectError (errors.Is ErrRejected).
	Broadcast(ctx context.Context, tx *wire.MsgTx) error
	// FeeRate estimates the rate that confirms within so many blocks, within MinFeeRate and MaxFeeRate. Less than
	// one block is taken as one, more than 1,008 as 1,008.
	FeeRate(ctx context.Context, blocks int) (script.FeeRate, error)
	// Capabilities says what the backend can do.
	Capabilities() Capabilities
}

// ClampFeeRate brings a rate into MinFeeRate…MaxFeeRate.
func ClampFeeRate(r script.FeeRate) script.FeeRate {
	return max(MinFeeRate, min(r, MaxFeeRate))
}

// ClampTarget brings a confirmation target into 1…1,008 blocks.
func ClampTarget(blocks int) int { return max(1, min(blocks, 1008)) }
