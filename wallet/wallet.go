// Package wallet is the built-in wallet that funds channels: single-key taproot
// outputs as BIP86 describes them, derived from the seed, found and spent
// through any chain backend.
//
// It builds and signs transactions and reserves their coins durably, so that no
// coin is promised twice, also by two processes on one store. It never spends a
// stranger's unconfirmed coin, never broadcasts a channel's funding itself, and
// never keeps a private key longer than one signature takes.
package wallet

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/btcsuite/btcd/address/v2"
	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/store"
)

// Refusals. Each is a sentinel for errors.Is.
var (
	// ErrInsufficient: the coins that may be spent do not cover outputs and fee.
	ErrInsufficient = errors.New("there are not enough coins")
	// ErrRate: a fee rate that is zero, negative, or beyond any sense.
	ErrRate = errors.New("the fee rate is out of range")
	// ErrOutput: an output that is dust, negative, or more than there is.
	ErrOutput = errors.New("the output cannot be paid")
	// ErrAddress: not an address of this network.
	ErrAddress = errors.New("this is no address of this network")
	// ErrOtherSeed: the store belongs to a wallet with another seed or network.
	ErrOtherSeed = errors.New("this folder belongs to a wallet with another seed or network")
)

// InsufficientError says how much is missing. errors.Is(err, ErrInsufficient) holds.
type InsufficientError struct {
	Needed    int64 // sat, outputs and fee
	Available int64 // sat, coins that may be spent now: neither reserved nor a stranger's unconfirmed
}

func (e *InsufficientError) Error() string {
	return fmt.Sprintf("%v: %d sat are needed, %d sat can be spent", ErrInsufficient, e.Needed, e.Available)
}

// Unwrap makes errors.Is(err, ErrInsufficient) true.
func (e *InsufficientError) Unwrap() error { return ErrInsufficient }

// Keys derives the wallet's keys: BIP86, account 0, untweaked, and the P2TR
// output script of each. keys.Keyring fits.
type Keys interface {
	WalletKey(change bool, index uint32) (*btcec.PrivateKey, []byte, error)
}

// Chain is what the wallet asks of a blockchain.
type Chain interface {
	Tip(ctx context.Context) (chain.Tip, error)
	Tx(ctx context.Context, txid chainhash.Hash) (chain.TxInfo, error)
	Spend(ctx context.Context, op wire.OutPoint) (*chain.Spend, error)
	UTXOs(ctx context.Context, pkScript []byte) ([]chain.UTXO, error)
	History(ctx context.Context, pkScript []byte) ([]chain.TxInfo, error)
	Broadcast(ctx context.Context, tx *wire.MsgTx) error
}

// Store is what the wallet needs of a store.
type Store interface {
	Get(ctx context.Context, bucket, key string) (store.Entry, error)
	List(ctx context.Context, bucket, prefix string) ([]store.Entry, error)
	Commit(ctx context.Context, ops ...store.Op) error
}

// Config is what a Wallet needs. All but Logger must be set.
type Config struct {
	Keys   Keys
	Chain  Chain
	Store  Store
	Params *chaincfg.Params
	Logger *slog.Logger
}

// Wallet is the built-in BIP86 wallet. Its methods may be called from many
// goroutines, and several wallets of one seed may share a store.
type Wallet struct {
	cfg Config

	mu      sync.Mutex // guards what follows; never held while the chain is asked
	slots   map[path]slot
	matured map[chainhash.Hash]bool // young transactions that are no coinbase
	scanned bool
	turn    uint32
	funding sync.Mutex // one selection at a time in this process; others lose the swap and pick again
}

// path is a wallet key's place under the account.
type path struct {
	change bool
	index  uint32
}

// slot is a derived output script.
type slot struct {
	path
	pkScript []byte
}

// Buckets of the store.
const (
	bucketIndex    = "wallet/index"    // "external", "internal" → chainIndex; "seed" → script 0; "scanned"
	bucketReserved = "wallet/reserved" // outpoint → reservation
	bucketTx       = "wallet/tx"       // txid → savedTx, what this wallet built
)

// New opens the wallet. It writes the seed's mark into a new store and refuses
// a store of another seed; it does not ask the chain.
// Errors: ErrOtherSeed, those of the store and the keys.
func New(ctx context.Context, cfg Config) (*Wallet, error) {
	if cfg.Keys == nil || cfg.Chain == nil || cfg.Store == nil || cfg.Params == nil {
		return nil, errors.New("wallet: keys, chain, store and network are needed")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	w := &Wallet{cfg: cfg, slots: map[path]slot{}, matured: map[chainhash.Hash]bool{}}
	return w, w.bindSeed(ctx)
}

func (w *Wallet) bindSeed(ctx context.Context) error {
	first, err := w.slot(path{})
	if err != nil {
		return err
	}
	mark := w.cfg.Params.Name + " " + hex.EncodeToString(first.pkScript)
	for {
		e, err := w.cfg.Store.Get(ctx, bucketIndex, "seed")
		switch {
		case err == nil && string(e.Value) == mark:
			return nil
		case err == nil:
			return ErrOtherSeed
		case !errors.Is(err, store.ErrNotFound):
			return err
		}
		err = w.cfg.Store.Commit(ctx, store.Op{Bucket: bucketIndex, Key: "seed", Value: []byte(mark)})
		if !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
}

// slot derives a script, once.
func (w *Wallet) slot(p path) (slot, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s, ok := w.slots[p]; ok {
		return s, nil
	}
	_, pk, err := w.cfg.Keys.WalletKey(p.change, p.index)
	if err != nil {
		return slot{}, fmt.Errorf("wallet key %d: %w", p.index, err)
	}
	s := slot{path: p, pkScript: pk}
	w.slots[p] = s
	return s, nil
}

// address encodes a P2TR script for the wallet's network.
func (w *Wallet) address(pkScript []byte) (string, error) {
	a, err := address.NewAddressTaproot(pkScript[2:], w.cfg.Params)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrAddress, err)
	}
	return a.EncodeAddress(), nil
}

// ParseAddress is the output script of an address of the wallet's network.
// Errors: ErrAddress.
func (w *Wallet) ParseAddress(text string) ([]byte, error) {
	return ParseAddress(text, w.cfg.Params)
}

// ParseAddress is the script of an address of a network. Errors: ErrAddress.
func ParseAddress(text string, params *chaincfg.Params) ([]byte, error) {
	a, err := address.DecodeAddress(text, params)
	if err != nil {
		return nil, fmt.Errorf("%w: %q: %w", ErrAddress, text, err)
	}
	if _, bare := a.(*address.AddressPubKey); bare || !a.IsForNet(params) { // a public key in hex names no network
		return nil, fmt.Errorf("%w: %q", ErrAddress, text)
	}
	pk, err := txscript.PayToAddrScript(a)
	if err != nil {
		return nil, fmt.Errorf("%w: %q: %w", ErrAddress, text, err)
	}
	return pk, nil
}
