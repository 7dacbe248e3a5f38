package script

import (
	"bytes"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/internal/curve"
)

// Construction is a kind of channel.
type Construction string

// The constructions. docs/protocol.md, section 3.
const (
	Taproot      Construction = "taproot"
	Multisig     Construction = "multisig"
	MultisigP2SH Construction = "multisig-p2sh"
	Duplex       Construction = "duplex" // taproot's output, money both ways
)

// Sequence is the nSequence of every input: replaceable, and locktimes hold.
const Sequence = 0xfffffffd

// maxMoney is all the bitcoin there can be, in satoshi.
const maxMoney = 21_000_000 * 100_000_000

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
	ErrPayoutScript = errors.New("a payout goes to P2TR, P2WPKH, P2WSH, P2SH or P2PKH")
	ErrSignature    = errors.New("the signature is not valid")
	ErrSighashFlag  = errors.New("the signature has another sighash flag than this amount demands")
	ErrUnsupported  = errors.New("this construction has no such step")
	ErrRefund       = errors.New("this is not the channel's refund")
	ErrClose        = errors.New("this is not a cooperative close of the channel")
	ErrWrongKey     = errors.New("the private key is not the channel's")
	ErrNonce        = errors.New("no nonce could be drawn")
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
	// PayeeRestScript is where the rest of a payee's commitment goes; duplex only.
	PayeeRestScript []byte
}

// Validate checks what docs/protocol.md, sections 2 and 3, demand of a channel.
// Errors: ErrBadKey, ErrSameKeys, ErrExpiry, ErrConstruction, ErrTxVersion,
// ErrCapacity (below the output's dust or above all bitcoin), ErrRestScript.
func (f Funding) Validate() error {
	_, _, _, err := f.build()
	return err
}

func parseKeys(payer, payee [33]byte) (k1, k2 *btcec.PublicKey, err error) {
	if k1, err = curve.Parse(payer[:]); err != nil {
		return nil, nil, fmt.Errorf("%w: the payer's: %v", ErrBadKey, err)
	}
	if k2, err = curve.Parse(payee[:]); err != nil {
		return nil, nil, fmt.Errorf("%w: the payee's: %v", ErrBadKey, err)
	}
	if bytes.Equal(payer[1:], payee[1:]) {
		return nil, nil, ErrSameKeys
	}
	return k1, k2, nil
}

// path is a way out of the funding output that takes signatures of the
// transaction at hand; the key path of the cooperative close is neither.
type path int

const (
	settling  path = iota // both keys, at any time
	refunding             // the payer, from the expiry on
)

// signer is who makes a signature: this package, or whatever program the other
// side runs.
type signer int

const (
	ourselves signer = iota
	otherSide
)

// construction is what differs between the three kinds of channel.
type construction interface {
	// outputScript is T1's output script.
	outputScript() []byte
	// digest is what a signature of input i commits to.
	digest(tx *wire.MsgTx, i int, prev txscript.PrevOutputFetcher, p path, flag txscript.SigHashType) ([]byte, error)
	// sign and verify are the signature scheme; signatures are without the flag.
	sign(key *btcec.PrivateKey, pub *btcec.PublicKey, digest []byte) ([]byte, error)
	verify(key *btcec.PublicKey, digest, sig []byte) error
	// complete puts signatures, in wire form, into an input.
	complete(in *wire.TxIn, p path, payerSig, payeeSig []byte) error
	// longest is a stand-in for a signature at its longest, in wire form.
	longest(by signer, flag txscript.SigHashType) []byte
	// whole is the flag of a signature over the whole transaction.
	whole() txscript.SigHashType
	// cosigned reports whether the refund needs the payee's signature too.
	cosigned() bool
	// treeRoot is what the key of both sides is tweaked with for the
	// cooperative close. Errors: ErrUnsupported.
	treeRoot() ([]byte, error)
}

// Channel is a Funding with its scripts built. It is safe for concurrent use.
type Channel struct {
	Funding
	k1, k2 *btcec.PublicKey
	kind   construction
	// checked are the private keys that were found to be the channel's: a public
	// key is not computed again for every payment.
	checked [2]atomic.Pointer[btcec.PrivateKey]
}

// New builds the channel's scripts. Errors: those of Funding.Validate.
func New(f Funding) (*Channel, error) {
	k1, k2, kind, err := f.build()
	if err != nil {
		return nil, err
	}
	f.RestScript, f.PayeeRestScript = bytes.Clone(f.RestScript), bytes.Clone(f.PayeeRestScript)
	return &Channel{Funding: f, k1: k1, k2: k2, kind: kind}, nil
}

// build is Validate, with what it parses on the way.
func (f Funding) build() (k1, k2 *btcec.PublicKey, kind construction, err error) {
	if k1, k2, err = parseKeys(f.PayerKey, f.PayeeKey); err != nil {
		return nil, nil, nil, err
	}
	if kind, err = newConstruction(f.Construction, k1, k2, f.Expiry); err != nil {
		return nil, nil, nil, err
	}
	switch least := Dust(kind.outputScript()); {
	case f.TxVersion != 2 && f.TxVersion != 3:
		return nil, nil, nil, fmt.Errorf("%w: %d", ErrTxVersion, f.TxVersion)
	case f.Capacity < least || f.Capacity > maxMoney:
		return nil, nil, nil, fmt.Errorf("%w: %d sat is not from %d to %d", ErrCapacity, f.Capacity, least, int64(maxMoney))
	}
	if err := CheckRestScript(f.RestScript); err != nil {
		return nil, nil, nil, err
	}
	return k1, k2, kind, f.checkPayeeRest()
}

// checkPayeeRest: a duplex channel has a rest script for either side, others have one.
func (f Funding) checkPayeeRest() error {
	if f.Construction == Duplex {
		return CheckRestScript(f.PayeeRestScript)
	}
	if len(f.PayeeRestScript) > 0 {
		return fmt.Errorf("%w: the payee of a %s channel has no rest", ErrRestScript, f.Construction)
	}
	return nil
}

func newConstruction(c Construction, k1, k2 *btcec.PublicKey, expiry uint32) (construction, error) {
	if expiry == 0 || expiry >= maxExpiry {
		return nil, fmt.Errorf("%w: %d", ErrExpiry, expiry)
	}
	switch c {
	case Taproot, Duplex:
		return newTaproot(k1, k2, expiry)
	case Multisig:
		return newP2WSH(k1, k2)
	case MultisigP2SH:
		return newP2SH(k1, k2)
	default:
		return nil, fmt.Errorf("%w: %q", ErrConstruction, c)
	}
}

// OutputScript is the script of T1's output for these keys and this expiry
// (height). Errors: ErrBadKey, ErrSameKeys, ErrExpiry, ErrConstruction.
func OutputScript(c Construction, payer, payee [33]byte, expiry uint32) ([]byte, error) {
	k1, k2, err := parseKeys(payer, payee)
	if err != nil {
		return nil, err
	}
	kind, err := newConstruction(c, k1, k2, expiry)
	if err != nil {
		return nil, err
	}
	return kind.outputScript(), nil
}

// OutputScript is the script of the funding output.
func (c *Channel) OutputScript() []byte { return bytes.Clone(c.kind.outputScript()) }

// Prevout is the funding output.
func (c *Channel) Prevout() *wire.TxOut {
	return &wire.TxOut{Value: c.Capacity, PkScript: c.OutputScript()}
}

// prevouts is what a transaction that spends this channel alone spends.
func (c *Channel) prevouts() map[wire.OutPoint]*wire.TxOut {
	return map[wire.OutPoint]*wire.TxOut{c.Outpoint: c.Prevout()}
}

func (c *Channel) fetcher() txscript.PrevOutputFetcher {
	return txscript.NewCannedPrevOutputFetcher(c.kind.outputScript(), c.Capacity)
}

func (c *Channel) input() *wire.TxIn {
	return &wire.TxIn{PreviousOutPoint: c.Outpoint, Sequence: Sequence}
}

// restOutput is the payer's output of a commitment or a close.
func (c *Channel) restOutput(rest int64) *wire.TxOut {
	return &wire.TxOut{Value: rest, PkScript: bytes.Clone(c.RestScript)}
}

// owns refuses a private key that is not a side's.
func (c *Channel) owns(key *btcec.PrivateKey, by Side) error {
	if key != nil && c.checked[by].Load() == key {
		return nil
	}
	if err := owns(key, c.senderKey(by)); err != nil {
		return err
	}
	c.checked[by].Store(key)
	return nil
}

// owns refuses a private key that is not the one of this public key.
func owns(key *btcec.PrivateKey, pub *btcec.PublicKey) error {
	if key == nil || !curve.Public(key).IsEqual(pub) {
		return ErrWrongKey
	}
	return nil
}
