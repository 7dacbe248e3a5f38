package script

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"
)

// Construction is a kind of channel.
type Construction string

// The constructions. docs/protocol.md, section 3.
const (
	Taproot      Construction = "taproot"
	Multisig     Construction = "multisig"
	MultisigP2SH Construction = "multisig-p2sh"
)

// Sequence is the nSequence of every input: replaceable, and locktimes hold.
const Sequence = 0xfffffffd

// maxCapacity is all the bitcoin there can be, in satoshi.
const maxCapacity = 21_000_000 * 100_000_000

// maxExpiry is where a locktime stops being a height. BIP65.
const maxExpiry = 500_000_000

// Errors, for errors.Is.
var (
	ErrConstruction = errors.New("unknown construction")
	ErrBadKey       = errors.New("not a valid public key")
	ErrSameKeys     = errors.New("payer and payee have the same key")
	ErrExpiry       = errors.New("the expiry is not a block height")
	ErrTxVersion    = errors.New("the transaction version is neither 2 nor 3")
	ErrRestScript   = errors.New("the rest must go to P2TR, P2WPKH or P2WSH")
	ErrCapacity     = errors.New("the capacity is out of range")
	ErrAmount       = errors.New("the amount is out of range")
	ErrDust         = errors.New("an output would be below dust")
	ErrPayoutDust   = errors.New("the payout would be below dust")
	ErrSignature    = errors.New("the signature is not valid")
	ErrSighashFlag  = errors.New("the signature has another sighash flag than this amount demands")
	ErrUnsupported  = errors.New("this construction has no such step")
	ErrRefund       = errors.New("this is not the channel's refund")
	ErrWrongKey     = errors.New("the private key is not the channel's")
	ErrNonceReused  = errors.New("a MuSig2 nonce is used once only")
	ErrBatch        = errors.New("these channels cannot be settled together")
	ErrExecute      = errors.New("the script refuses the transaction")
	ErrNotSegwit    = errors.New("an input of the funding transaction is not segwit")
)

// Funding is everything that fixes a channel's output and what may spend it.
type Funding struct {
	Construction Construction
	PayerKey     [33]byte // K1, compressed
	PayeeKey     [33]byte // K2, compressed
	Expiry       uint32   // height
	TxVersion    int32    // of the commitment: 2 or 3
	Outpoint     wire.OutPoint
	Capacity     int64  // sat
	RestScript   []byte // where a commitment's rest goes
}

// Validate checks what docs/protocol.md, sections 2 and 3, demand of a channel.
func (f Funding) Validate() error {
	if _, _, err := parseKeys(f.PayerKey, f.PayeeKey); err != nil {
		return err
	}
	switch {
	case f.Construction != Taproot && f.Construction != Multisig && f.Construction != MultisigP2SH:
		return fmt.Errorf("%w: %q", ErrConstruction, f.Construction)
	case f.Expiry == 0 || f.Expiry >= maxExpiry:
		return fmt.Errorf("%w: %d", ErrExpiry, f.Expiry)
	case f.TxVersion != 2 && f.TxVersion != 3:
		return fmt.Errorf("%w: %d", ErrTxVersion, f.TxVersion)
	case f.Capacity <= 0 || f.Capacity > maxCapacity:
		return fmt.Errorf("%w: %d sat", ErrCapacity, f.Capacity)
	}
	return CheckRestScript(f.RestScript)
}

func parseKeys(payer, payee [33]byte) (k1, k2 *btcec.PublicKey, err error) {
	if k1, err = btcec.ParsePubKey(payer[:]); err != nil {
		return nil, nil, fmt.Errorf("%w: the payer's: %v", ErrBadKey, err)
	}
	if k2, err = btcec.ParsePubKey(payee[:]); err != nil {
		return nil, nil, fmt.Errorf("%w: the payee's: %v", ErrBadKey, err)
	}
	if bytes.Equal(payer[1:], payee[1:]) {
		return nil, nil, ErrSameKeys
	}
	return k1, k2, nil
}

// spender is what differs between the constructions.
type spender interface {
	// outputScript is T1's output script.
	outputScript() []byte
	// sighash is what a signature of input i commits to when it settles or,
	// for multisig, refunds.
	sighash(c *Channel, tx *wire.MsgTx, i int, prev txscript.PrevOutputFetcher, flag txscript.SigHashType) ([]byte, error)
	// sign and verify are the signature scheme; sig is without the flag.
	sign(key *btcec.PrivateKey, digest []byte) ([]byte, error)
	verify(key *btcec.PublicKey, digest, sig []byte) error
	// complete puts both signatures (in wire form) into input i.
	complete(in *wire.TxIn, payerSig, payeeSig []byte) error
	// placeholder is a signature of the greatest length with its flag.
	placeholder(flag txscript.SigHashType) []byte
	// closing is the flag of the signature that completes a transaction.
	closing() txscript.SigHashType
}

// Channel is a Funding with its scripts built. It is safe for concurrent use.
type Channel struct {
	Funding
	k1, k2 *btcec.PublicKey
	spender
}

// New builds the channel's scripts. Errors: those of Funding.Validate.
func New(f Funding) (*Channel, error) {
	if err := f.Validate(); err != nil {
		return nil, err
	}
	f.RestScript = bytes.Clone(f.RestScript)
	k1, k2, err := parseKeys(f.PayerKey, f.PayeeKey)
	if err != nil {
		return nil, err
	}
	s, err := newSpender(f.Construction, k1, k2, f.Expiry)
	if err != nil {
		return nil, err
	}
	return &Channel{Funding: f, k1: k1, k2: k2, spender: s}, nil
}

func newSpender(c Construction, k1, k2 *btcec.PublicKey, expiry uint32) (spender, error) {
	switch c {
	case Taproot:
		return newTaproot(k1, k2, expiry)
	case Multisig, MultisigP2SH:
		return newMultisig(k1, k2, c == MultisigP2SH)
	default:
		return nil, fmt.Errorf("%w: %q", ErrConstruction, c)
	}
}

// OutputScript is the script of T1's output for these keys.
func OutputScript(c Construction, payer, payee [33]byte, expiry uint32) ([]byte, error) {
	k1, k2, err := parseKeys(payer, payee)
	if err != nil {
		return nil, err
	}
	if expiry == 0 || expiry >= maxExpiry {
		return nil, fmt.Errorf("%w: %d", ErrExpiry, expiry)
	}
	s, err := newSpender(c, k1, k2, expiry)
	if err != nil {
		return nil, err
	}
	return s.outputScript(), nil
}

// OutputScript is the script of the funding output.
func (c *Channel) OutputScript() []byte { return c.outputScript() }

// Prevout is the funding output.
func (c *Channel) Prevout() *wire.TxOut {
	return &wire.TxOut{Value: c.Capacity, PkScript: c.outputScript()}
}

func (c *Channel) fetcher() *txscript.CannedPrevOutputFetcher {
	return txscript.NewCannedPrevOutputFetcher(c.outputScript(), c.Capacity)
}

func (c *Channel) input() *wire.TxIn {
	return &wire.TxIn{PreviousOutPoint: c.Outpoint, Sequence: Sequence}
}

// owns refuses a private key that is not the one of this public key.
func owns(key *btcec.PrivateKey, pub *btcec.PublicKey) error {
	if key == nil || !key.PubKey().IsEqual(pub) {
		return ErrWrongKey
	}
	return nil
}
