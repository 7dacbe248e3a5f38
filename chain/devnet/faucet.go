package devnet

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"slices"

	"github.com/btcsuite/btcd/address/v2"
	"github.com/btcsuite/btcd/blockchain"
	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/btcec/v2/schnorr"
	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"
)

const (
	faucetRate   = 2   // sat/vB
	faucetDust   = 330 // sat; no smaller output is made
	faucetInputs = 600 // a payment spends no more coins
	maxSat       = 21_000_000 * 100_000_000
)

// faucet owns what every block of the devnet pays its miner. Its key is public: these coins are worth nothing.
type faucet struct {
	key    *btcec.PrivateKey
	addr   address.Address
	script []byte
}

func newFaucet(params *chaincfg.Params) (*faucet, error) {
	seed := sha256.Sum256([]byte("spillway/devnet/faucet"))
	key, _ := btcec.PrivKeyFromBytes(seed[:])
	addr, err := address.NewAddressTaproot(schnorr.SerializePubKey(txscript.ComputeTaprootKeyNoScript(key.PubKey())), params)
	if err != nil {
		return nil, fmt.Errorf("devnet: address of the faucet: %w", err)
	}
	script, err := txscript.PayToAddrScript(addr)
	if err != nil {
		return nil, fmt.Errorf("devnet: script of the faucet: %w", err)
	}
	return &faucet{key, addr, script}, nil
}

// Faucet pays an amount in satoshi to a script, in one output, and returns the txid. The transaction is in the
// mempool, or in a block with Config.MineOnTx. Errors: ErrRange below 330 sat or above all bitcoin, ErrFaucetEmpty,
// chain.ErrRejected for a script that is not standard.
func (n *Node) Faucet(ctx context.Context, pkScript []byte, sat int64) (txid chainhash.Hash, err error) {
	if sat < faucetDust || sat > maxSat {
		return txid, fmt.Errorf("%w: %d sat, the faucet pays at least %d", ErrRange, sat, faucetDust)
	}
	err = n.write(ctx, func() ([]record, error) {
		tx, err := n.payFromFaucet(pkScript, sat)
		if err != nil {
			return nil, err
		}
		txid = tx.TxHash()
		return n.submit(tx)
	})
	return txid, err
}

func (n *Node) payFromFaucet(pkScript []byte, sat int64) (*wire.MsgTx, error) {
	coins := n.faucetCoins()
	tx := wire.NewMsgTx(2)
	tx.AddTxOut(wire.NewTxOut(sat, bytes.Clone(pkScript)))
	prevouts := txscript.NewMultiPrevOutFetcher(nil)
	var in int64
	for _, c := range coins {
		fee := faucetFee(len(tx.TxIn), len(pkScript))
		if in >= sat+fee || len(tx.TxIn) == faucetInputs {
			break
		}
		tx.AddTxIn(wire.NewTxIn(&c.op, nil, nil))
		prevouts.AddPrevOut(c.op, c.out)
		in += c.out.Value
	}
	change := in - sat - faucetFee(len(tx.TxIn), len(pkScript))
	if change < 0 {
		return nil, fmt.Errorf("%w: %d sat asked for, %d there", ErrFaucetEmpty, sat, in)
	}
	if change >= faucetDust {
		tx.AddTxOut(wire.NewTxOut(change, n.faucet.script))
	}
	hashes := txscript.NewTxSigHashes(tx, prevouts)
	for i, txin := range tx.TxIn {
		out := prevouts.FetchPrevOutput(txin.PreviousOutPoint)
		w, err := txscript.TaprootWitnessSignature(tx, hashes, i, out.Value, out.PkScript, txscript.SigHashDefault, n.faucet.key)
		if err != nil {
			return nil, fmt.Errorf("devnet: sign for the faucet: %w", err)
		}
		txin.Witness = w
	}
	return tx, nil
}

// faucetFee is the fee in satoshi of a payment with change: 10.5 vB, 57.5 for each input, 43 for the change, 9 and
// the script for the payment.
func faucetFee(inputs, scriptLen int) int64 {
	return faucetRate * (int64(11+9+43+scriptLen) + (int64(inputs)*115+1)/2)
}

// faucetCoins lists what the faucet can spend in the next block: confirmed coins first, the largest first, so that
// a payment has few inputs and payments do not hang on each other.
func (n *Node) faucetCoins() (all []coin) {
	next := n.idx.tip().height + 1
	for _, c := range n.idx.coins(sha256.Sum256(n.faucet.script)) {
		young := c.e.confirmed() && blockchain.IsCoinBaseTx(c.e.tx) && next-c.e.block.height < uint32(n.params.CoinbaseMaturity)
		if c.out.Value >= faucetDust && !young {
			all = append(all, c)
		}
	}
	slices.SortStableFunc(all, func(a, b coin) int {
		if a.e.confirmed() != b.e.confirmed() {
			if a.e.confirmed() {
				return -1
			}
			return 1
		}
		return cmp.Compare(b.out.Value, a.out.Value)
	})
	return all
}
