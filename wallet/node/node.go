// Package node funds channels from the wallet of one's own bitcoind: it has the node
// choose the coins and sign, by a PSBT that is checked like any other wallet's before it
// is signed, and holds the coins there until the transaction leaves.
//
// It makes no wallet in the node, imports nothing, never broadcasts, and sees no key.
package node

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/wallet"
	"github.com/spillway/spillway/wallet/psbt"
)

// Refusals of the node's wallet. Each is a sentinel for errors.Is.
var (
	// ErrNoWallet: the node has no wallet of this name, or none at all.
	ErrNoWallet = errors.New("the node has no such wallet loaded")
	// ErrWhich: several are loaded, and none was named.
	ErrWhich = errors.New("the node has several wallets loaded, and none was named")
	// ErrLocked: it is encrypted, and locked.
	ErrLocked = errors.New("the node's wallet is locked")
	// ErrCannotSign: it does not hold the keys (watch-only, or a device's).
	ErrCannotSign = errors.New("the node's wallet cannot sign by itself")
	// ErrAnswer: an answer that makes no sense.
	ErrAnswer = errors.New("the node's wallet answered nonsense")
)

// Caller asks a wallet of a node; bitcoind.Wallet is one. Its errors have a method
// RPCCode where the node refused.
type Caller interface {
	Call(ctx context.Context, into any, method string, params ...any) error
}

// Config is what a Wallet needs. All but Logger must be set.
type Config struct {
	Node   Caller
	Params *chaincfg.Params
	Logger *slog.Logger
}

// Wallet is a wallet of a bitcoind. Its methods may be called from many goroutines.
type Wallet struct{ cfg Config }

// New checks the configuration; it asks nothing.
func New(cfg Config) (*Wallet, error) {
	if cfg.Node == nil || cfg.Params == nil {
		return nil, errors.New("node: a node and a network are needed")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Wallet{cfg}, nil
}

// Codes of bitcoind's wallet (src/rpc/protocol.h).
const (
	codeWallet       = -4
	codeFunds        = -6
	codeUnlockNeeded = -13
	codeNotFound     = -18
	codeNotSpecified = -19
	codeNoMethod     = -32601
)

// call asks, and names what the node refuses.
func (w *Wallet) call(ctx context.Context, into any, method string, params ...any) error {
	err := w.cfg.Node.Call(ctx, into, method, params...)
	switch codeOf(err) {
	case codeUnlockNeeded:
		return fmt.Errorf("%w: %w", ErrLocked, err)
	case codeNotFound, codeNoMethod:
		return fmt.Errorf("%w: %w", ErrNoWallet, err)
	case codeNotSpecified:
		return fmt.Errorf("%w: %w", ErrWhich, err)
	}
	return err
}

func codeOf(err error) int {
	var r interface{ RPCCode() int }
	if errors.As(err, &r) {
		return r.RPCCode()
	}
	return 0
}

// ReceiveScript is a fresh script of the node's wallet: P2TR, or P2WPKH where it has no
// taproot keys. Errors: ErrNoWallet, ErrWhich, ErrAnswer, of the node.
func (w *Wallet) ReceiveScript(ctx context.Context) ([]byte, error) {
	var addr string
	err := w.call(ctx, &addr, "getnewaddress", "spillway", "bech32m")
	if codeOf(err) == codeWallet {
		err = w.call(ctx, &addr, "getnewaddress", "spillway", "bech32")
	}
	if err != nil {
		return nil, err
	}
	pk, err := wallet.ParseAddress(addr, w.cfg.Params)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAnswer, err)
	}
	return pk, nil
}

// Fund has the node pay the outputs from native segwit coins and sign that; the coins
// are locked in the node until Release, or its restart. Nothing is broadcast. The
// outputs keep their order; the change comes last. rate is in sat per 1000 vB.
// Errors: *wallet.InsufficientError, wallet.ErrRate, ErrLocked, ErrCannotSign, ErrNoWallet,
// ErrWhich, those of psbt.Want.Check, of the node.
func (w *Wallet) Fund(ctx context.Context, outputs []*wire.TxOut, rate script.FeeRate) (*wallet.Funded, error) {
	p, f, err := w.build(ctx, outputs, rate, true)
	if err != nil {
		return nil, err
	}
	done, err := w.signed(ctx, p, f)
	if err != nil {
		return nil, errors.Join(err, w.Release(context.WithoutCancel(ctx), f.Tx))
	}
	change := -1
	if len(done.TxOut) > len(outputs) {
		change = len(outputs)
	}
	w.cfg.Logger.Debug("funded by the node's wallet", "txid", done.TxHash(), "fee_sat", f.Fee, "inputs", len(done.TxIn))
	return &wallet.Funded{Tx: done, Fee: f.Fee, Prevouts: f.Prevouts, ChangeIndex: change}, nil
}

// FundingFee is the fee in sat that Fund would pay now. Nothing is locked. Errors: as Fund.
func (w *Wallet) FundingFee(ctx context.Context, outputs []*wire.TxOut, rate script.FeeRate) (int64, error) {
	_, f, err := w.build(ctx, outputs, rate, false)
	if err != nil {
		return 0, err
	}
	return f.Fee, nil
}

// build has the node choose coins, and checks what it made of it. Where it took coins
// that are not native segwit it is told which to take.
func (w *Wallet) build(ctx context.Context, outputs []*wire.TxOut, rate script.FeeRate, lock bool) (*psbt.Packet, *psbt.Funding, error) {
	if rate <= 0 || rate > 10_000_000 {
		return nil, nil, fmt.Errorf("%w: %d sat per 1000 vB", wallet.ErrRate, rate)
	}
	p, f, err := w.create(ctx, outputs, rate, lock, nil)
	if errors.Is(err, psbt.ErrNotSegwit) {
		coins, err := w.pick(ctx, outputs, rate)
		if err != nil {
			return nil, nil, err
		}
		return w.create(ctx, outputs, rate, lock, coins)
	}
	return p, f, err
}

type outpoint struct {
	Txid string `json:"txid"`
	Vout uint32 `json:"vout"`
}

func (w *Wallet) create(ctx context.Context, outputs []*wire.TxOut, rate script.FeeRate, lock bool, coins []outpoint) (*psbt.Packet, *psbt.Funding, error) {
	pays := make([]map[string]json.Number, len(outputs))
	for i, out := range outputs {
		_, addrs, _, err := txscript.ExtractPkScriptAddrs(out.PkScript, w.cfg.Params)
		if err != nil || len(addrs) != 1 {
			return nil, nil, fmt.Errorf("%w: a script without an address: %x", wallet.ErrOutput, out.PkScript)
		}
		pays[i] = map[string]json.Number{addrs[0].EncodeAddress(): btc(out.Value)}
	}
	inputs := coins
	if inputs == nil {
		inputs = []outpoint{}
	}
	var answer struct {
		PSBT string `json:"psbt"`
	}
	options := map[string]any{
		"add_inputs": len(coins) == 0, "changePosition": len(outputs), "lockUnspents": lock, "replaceable": true,
		"fee_rate": json.Number(strconv.FormatInt(int64(rate)/1000, 10) + fmt.Sprintf(".%03d", int64(rate)%1000)),
	}
	if err := w.call(ctx, &answer, "walletcreatefundedpsbt", inputs, pays, 0, options); err != nil {
		if code := codeOf(err); code == codeFunds || code == codeWallet && strings.Contains(err.Error(), "nsufficient") {
			return nil, nil, w.insufficient(ctx, outputs, rate)
		}
		return nil, nil, err
	}
	p, err := psbt.Read([]byte(answer.PSBT))
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrAnswer, err)
	}
	f, err := check(p, outputs)
	if err != nil && lock {
		return nil, nil, errors.Join(err, w.Release(context.WithoutCancel(ctx), p.Tx()))
	}
	return p, f, err
}

// check holds what the node built against what was asked.
func check(p *psbt.Packet, outputs []*wire.TxOut) (*psbt.Funding, error) {
	tx := p.Tx()
	if len(tx.TxOut) < len(outputs) || len(tx.TxOut) > len(outputs)+1 {
		return nil, fmt.Errorf("%w: %d outputs were asked for, %d are there", ErrAnswer, len(outputs), len(tx.TxOut))
	}
	for i, out := range outputs {
		if got := tx.TxOut[i]; got.Value != out.Value || string(got.PkScript) != string(out.PkScript) {
			return nil, fmt.Errorf("%w: output %d is another one", ErrAnswer, i)
		}
	}
	// the node's own tip is what its lock is about; the chain refuses one that is not final
	return psbt.Want{Script: outputs[0].PkScript, Amount: outputs[0].Value, Height: math.MaxInt32}.Check(p)
}

// signed has the node sign what was checked.
func (w *Wallet) signed(ctx context.Context, p *psbt.Packet, f *psbt.Funding) (*wire.MsgTx, error) {
	text, err := p.Base64()
	if err != nil {
		return nil, err
	}
	var answer struct {
		PSBT     string `json:"psbt"`
		Complete bool   `json:"complete"`
	}
	if err := w.call(ctx, &answer, "walletprocesspsbt", text); err != nil {
		return nil, err
	}
	if !answer.Complete {
		return nil, ErrCannotSign
	}
	done, err := psbt.Read([]byte(answer.PSBT))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAnswer, err)
	}
	return psbt.Finalize(done, f.Tx, f.Prevouts)
}

// Release unlocks a transaction's coins in the node. Coins that are not locked, or not
// the wallet's, are no error. Errors: of the node.
func (w *Wallet) Release(ctx context.Context, tx *wire.MsgTx) error {
	var locked []outpoint
	if err := w.call(ctx, &locked, "listlockunspent"); err != nil {
		return err
	}
	mine := locked[:0]
	for _, op := range locked {
		if slices.ContainsFunc(tx.TxIn, func(in *wire.TxIn) bool {
			return in.PreviousOutPoint.Hash.String() == op.Txid && in.PreviousOutPoint.Index == op.Vout
		}) {
			mine = append(mine, op)
		}
	}
	if len(mine) == 0 {
		return nil
	}
	return w.call(ctx, nil, "lockunspent", true, mine)
}

// unspent is a coin as the node lists it.
type unspent struct {
	outpoint
	Script    string      `json:"scriptPubKey"`
	Amount    json.Number `json:"amount"`
	Spendable bool        `json:"spendable"`
	Safe      bool        `json:"safe"`
	sat       int64
}

// segwit are the coins that a channel may be funded from, large ones first.
func (w *Wallet) segwit(ctx context.Context) ([]unspent, error) {
	var all []unspent
	if err := w.call(ctx, &all, "listunspent", 0); err != nil {
		return nil, err
	}
	var some []unspent
	for _, c := range all {
		var pk hexBytes
		if err := pk.UnmarshalText([]byte(c.Script)); err != nil {
			return nil, fmt.Errorf("%w: %q is no script", ErrAnswer, c.Script)
		}
		sat, err := parseBTC(c.Amount)
		if err != nil {
			return nil, err
		}
		if _, err := chainhash.NewHashFromStr(c.Txid); err != nil {
			return nil, fmt.Errorf("%w: %q is no transaction", ErrAnswer, c.Txid)
		}
		if c.sat = sat; c.Spendable && c.Safe && txscript.IsWitnessProgram(pk) {
			some = append(some, c)
		}
	}
	slices.SortFunc(some, func(a, b unspent) int { return cmp.Compare(b.sat, a.sat) })
	return some, nil
}

// inputSize is above what a usual segwit input takes, in vB.
const inputSize = 105

// pick chooses native segwit coins that suffice.
func (w *Wallet) pick(ctx context.Context, outputs []*wire.TxOut, rate script.FeeRate) ([]outpoint, error) {
	coins, err := w.segwit(ctx)
	if err != nil {
		return nil, err
	}
	need, have := needed(outputs, rate), int64(0)
	var some []outpoint
	for _, c := range coins {
		if have >= need {
			break
		}
		some, have, need = append(some, c.outpoint), have+c.sat, need+rate.Fee(inputSize)
	}
	if have < need {
		return nil, &wallet.InsufficientError{Needed: need, Available: have}
	}
	return some, nil
}

// needed is what the outputs take with a fee for them and change, in sat.
func needed(outputs []*wire.TxOut, rate script.FeeRate) (sum int64) {
	size := int64(11 + 43)
	for _, out := range outputs {
		sum, size = sum+out.Value, size+int64(out.SerializeSize())
	}
	return sum + rate.Fee(size)
}

func (w *Wallet) insufficient(ctx context.Context, outputs []*wire.TxOut, rate script.FeeRate) error {
	coins, err := w.segwit(ctx)
	if err != nil {
		return err
	}
	have := int64(0)
	for _, c := range coins {
		have += c.sat
	}
	return &wallet.InsufficientError{Needed: needed(outputs, rate) + rate.Fee(inputSize), Available: have}
}
