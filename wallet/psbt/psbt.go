// Package psbt checks partially signed transactions (BIP174, BIP371) by which any wallet
// funds a channel, before that wallet signs them and after: every input is native segwit,
// so that the id is known before it is signed, exactly one output is the channel's, and
// nothing but these signatures can still change it.
//
// It asks no network, holds no key, signs nothing and never adds or moves an output.
package psbt

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	bip174 "github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/wire/v2"
)

// MaxBytes is the longest PSBT that is read, in any of its forms.
const MaxBytes = 4 << 20

// What can be wrong with a PSBT. Each is a sentinel for errors.Is.
var (
	// ErrFormat: no PSBT, or a damaged one.
	ErrFormat = errors.New("this is no PSBT, or it is damaged")
	// ErrTooLarge: longer than MaxBytes, or a transaction larger than nodes relay.
	ErrTooLarge = errors.New("the PSBT is too large")
	// ErrVersion: a version of the format that is not read here (BIP370).
	ErrVersion = errors.New("the PSBT is of another version of the format")
	// ErrNoInputs: it spends nothing.
	ErrNoInputs = errors.New("the PSBT has no inputs")
	// ErrNotSegwit: an input that is not native segwit: the id is not final before it is signed.
	ErrNotSegwit = errors.New("an input is not native segwit")
	// ErrNoUTXO: nobody says what an input spends.
	ErrNoUTXO = errors.New("the PSBT does not say what an input spends")
	// ErrUTXO: what an input is said to spend is not what the chain has there.
	ErrUTXO = errors.New("the PSBT says something else of an input than the chain")
	// ErrSpent: an input is spent already.
	ErrSpent = errors.New("an input is spent already")
	// ErrImmature: an input spends a block reward that is too young.
	ErrImmature = errors.New("an input spends a block reward that is not mature")
	// ErrDuplicate: an input is there twice.
	ErrDuplicate = errors.New("the PSBT spends an output twice")
	// ErrNoOutput: no output pays the channel.
	ErrNoOutput = errors.New("the PSBT has no output for the channel")
	// ErrAmount: the channel's output holds another amount.
	ErrAmount = errors.New("the PSBT pays another amount to the channel")
	// ErrTwice: more than one output pays the channel's script.
	ErrTwice = errors.New("the PSBT pays the channel more than once")
	// ErrOutput: another output that is not relayed: dust, or a script of no known kind.
	ErrOutput = errors.New("an output of the PSBT would not be relayed")
	// ErrLock: it is not final in the next block.
	ErrLock = errors.New("the transaction of the PSBT is locked to a later time")
	// ErrTxVersion: a transaction version that nodes do not relay.
	ErrTxVersion = errors.New("the transaction of the PSBT has an unknown version")
	// ErrFee: the outputs exceed the inputs, or the fee is far too high or too low.
	ErrFee = errors.New("the fee of the PSBT is out of range")
	// ErrSighash: a signature that lets others change the transaction.
	ErrSighash = errors.New("a signature of the PSBT does not sign all of it")
	// ErrOther: another transaction than the one that was checked before.
	ErrOther = errors.New("the signed PSBT is another transaction than the one that was checked")
	// ErrUnsigned: an input is not signed, or not by enough keys.
	ErrUnsigned = errors.New("the PSBT is not fully signed")
	// ErrSignature: a signature is wrong.
	ErrSignature = errors.New("a signature of the PSBT is wrong")
)

// magic begins every PSBT. BIP174.
var magic = []byte("psbt\xff")

// Packet is a PSBT.
type Packet struct{ p *bip174.Packet }

// Read decodes a PSBT as wallets hand it out: binary, or base64 or hex with white space
// around and in it. Errors: ErrFormat, ErrTooLarge, ErrVersion.
func Read(raw []byte) (*Packet, error) {
	if len(raw) > MaxBytes {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrTooLarge, MaxBytes)
	}
	bin, err := binaryOf(raw)
	if err != nil {
		return nil, err
	}
	r := bytes.NewReader(bin)
	p, err := bip174.NewFromRawBytes(r, false)
	if err != nil {
		if version(bin) > 0 {
			return nil, fmt.Errorf("%w: version %d, version 0 is wanted", ErrVersion, version(bin))
		}
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if r.Len() > 0 {
		return nil, fmt.Errorf("%w: %d bytes follow it", ErrFormat, r.Len())
	}
	for i := range p.UnsignedTx.TxIn {
		if prev := p.Inputs[i].NonWitnessUtxo; prev != nil && prev.TxHash() != p.UnsignedTx.TxIn[i].PreviousOutPoint.Hash {
			return nil, fmt.Errorf("%w: input %d comes with another transaction", ErrUTXO, i)
		}
	}
	return &Packet{p}, nil
}

// binaryOf undoes base64 and hex.
func binaryOf(raw []byte) ([]byte, error) {
	if bytes.HasPrefix(raw, magic) {
		return raw, nil
	}
	text := strings.Join(strings.Fields(string(raw)), "")
	if text == "" {
		return nil, fmt.Errorf("%w: it is empty", ErrFormat)
	}
	if b, err := hex.DecodeString(text); err == nil && bytes.HasPrefix(b, magic) {
		return b, nil
	}
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		b, err = base64.RawStdEncoding.DecodeString(text)
	}
	if err != nil || !bytes.HasPrefix(b, magic) {
		return nil, fmt.Errorf("%w: it does not begin like one", ErrFormat)
	}
	return b, nil
}

// version is what a PSBT's first map says of its version; 0 where it says nothing.
// BIP370.
func version(bin []byte) uint32 {
	r := bytes.NewReader(bin[len(magic):])
	for {
		key, err := wire.ReadVarBytes(r, 0, MaxBytes, "key")
		if err != nil || len(key) == 0 {
			return 0
		}
		value, err := wire.ReadVarBytes(r, 0, MaxBytes, "value")
		if err != nil {
			return 0
		}
		if len(key) == 1 && key[0] == byte(bip174.VersionType) && len(value) == 4 {
			return binary.LittleEndian.Uint32(value)
		}
	}
}

// Base64 is the PSBT as text. Errors: of a packet that can't be written, which Read does
// not make.
func (p *Packet) Base64() (string, error) { return p.p.B64Encode() }

// Bytes is the PSBT in its binary form. Errors: as Base64.
func (p *Packet) Bytes() ([]byte, error) {
	var b bytes.Buffer
	err := p.p.Serialize(&b)
	return b.Bytes(), err
}

// Tx is a copy of the transaction, without signatures.
func (p *Packet) Tx() *wire.MsgTx { return p.p.UnsignedTx.Copy() }

// Said is what the PSBT says that an input spends, and whether that is proved by the
// whole transaction (its hash is the outpoint's); nil: it says nothing.
func (p *Packet) Said(i int) (out *wire.TxOut, proved bool) {
	if i < 0 || i >= len(p.p.Inputs) {
		return nil, false
	}
	in := p.p.Inputs[i]
	if prev, at := in.NonWitnessUtxo, p.p.UnsignedTx.TxIn[i].PreviousOutPoint; prev != nil && int64(at.Index) < int64(len(prev.TxOut)) {
		return prev.TxOut[at.Index], true
	}
	return in.WitnessUtxo, false
}

// New makes a PSBT of a transaction that is not signed, with what its inputs spend: what
// a wallet hands out. Errors: ErrFormat where the transaction is signed already.
func New(tx *wire.MsgTx, prevouts map[wire.OutPoint]*wire.TxOut) (*Packet, error) {
	p, err := bip174.NewFromUnsignedTx(tx.Copy())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	for i, in := range tx.TxIn {
		p.Inputs[i].WitnessUtxo = prevouts[in.PreviousOutPoint]
	}
	return &Packet{p}, nil
}
