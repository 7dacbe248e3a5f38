package psbt

import (
	"bytes"
	"fmt"

	bip174 "github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/script"
)

// Signed reports whether a PSBT carries any signature.
func (p *Packet) Signed() bool {
	for _, in := range p.p.Inputs {
		if len(in.FinalScriptWitness) > 0 || len(in.PartialSigs) > 0 || len(in.TaprootKeySpendSig) > 0 || len(in.TaprootScriptSpendSig) > 0 {
			return true
		}
	}
	return false
}

// Finalize completes the transaction that was checked with the signatures of a PSBT, and
// executes it under the standard rules. Wallets that finalize themselves are fine too.
// Errors: ErrOther, ErrUnsigned, ErrSighash, ErrNotSegwit, ErrSignature.
func Finalize(p *Packet, tx *wire.MsgTx, prevouts map[wire.OutPoint]*wire.TxOut) (*wire.MsgTx, error) {
	if p.p.UnsignedTx.TxHash() != tx.TxHash() {
		return nil, fmt.Errorf("%w: %s, not %s", ErrOther, p.p.UnsignedTx.TxHash(), tx.TxHash())
	}
	raw, err := p.Bytes()
	if err != nil {
		return nil, err
	}
	own, err := bip174.NewFromRawBytes(bytes.NewReader(raw), false) // finalizing changes it
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	done := tx.Copy()
	for i, in := range done.TxIn {
		said := &own.Inputs[i]
		if len(said.FinalScriptSig) > 0 {
			return nil, fmt.Errorf("%w: input %d", ErrNotSegwit, i)
		}
		if err := checkPartial(said, i); err != nil {
			return nil, err
		}
		// many wallets leave out what was known before
		said.WitnessUtxo, said.NonWitnessUtxo = prevouts[in.PreviousOutPoint], nil
		if ok, err := bip174.MaybeFinalize(own, i); err != nil || !ok {
			return nil, fmt.Errorf("%w: input %d of %d", ErrUnsigned, i+1, len(done.TxIn))
		}
		if in.Witness, err = witnessOf(own.Inputs[i].FinalScriptWitness); err != nil {
			return nil, fmt.Errorf("input %d: %w", i, err)
		}
		if len(own.Inputs[i].FinalScriptSig) > 0 {
			return nil, fmt.Errorf("%w: input %d", ErrNotSegwit, i)
		}
	}
	return done, CheckSigned(done, prevouts)
}

// CheckSigned refuses a signed funding in which a signature is wrong, or leaves something
// of it open to others. Errors: ErrSighash, ErrSignature.
func CheckSigned(tx *wire.MsgTx, prevouts map[wire.OutPoint]*wire.TxOut) error {
	for i, in := range tx.TxIn {
		prev := prevouts[in.PreviousOutPoint]
		if prev == nil {
			return fmt.Errorf("%w: input %d", ErrNoUTXO, i)
		}
		if err := checkFlags(in.Witness, prev.PkScript); err != nil {
			return fmt.Errorf("input %d: %w", i, err)
		}
	}
	if err := script.Execute(tx, prevouts); err != nil {
		return fmt.Errorf("%w: %w", ErrSignature, err)
	}
	return nil
}

// checkPartial refuses signatures with other flags than ALL, and no flag at all.
func checkPartial(in *bip174.PInput, i int) error {
	for _, s := range in.PartialSigs {
		if n := len(s.Signature); n == 0 || s.Signature[n-1] != byte(txscript.SigHashAll) {
			return fmt.Errorf("%w: input %d", ErrSighash, i)
		}
	}
	for _, s := range in.TaprootScriptSpendSig {
		if s.SigHash != txscript.SigHashDefault && s.SigHash != txscript.SigHashAll {
			return fmt.Errorf("%w: input %d", ErrSighash, i)
		}
	}
	if in.SighashType != txscript.SigHashDefault && in.SighashType != txscript.SigHashAll {
		return fmt.Errorf("%w: input %d", ErrSighash, i)
	}
	return nil
}

// witnessOf reads a finished witness. Errors: ErrFormat.
func witnessOf(raw []byte) (wire.TxWitness, error) {
	r := bytes.NewReader(raw)
	n, err := wire.ReadVarInt(r, 0)
	if err != nil || n == 0 || n > 10_000 {
		return nil, fmt.Errorf("%w: a witness of %d elements", ErrFormat, n)
	}
	w := make(wire.TxWitness, 0, min(n, 16))
	for range n {
		e, err := wire.ReadVarBytes(r, 0, MaxBytes, "witness")
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrFormat, err)
		}
		w = append(w, e)
	}
	if r.Len() > 0 {
		return nil, fmt.Errorf("%w: %d bytes follow a witness", ErrFormat, r.Len())
	}
	return w, nil
}

// checkFlags looks at whatever is a signature in a witness: it has to sign everything,
// and there has to be one.
func checkFlags(w wire.TxWitness, pkScript []byte) error {
	stack, signatures := w, 0
	taproot := txscript.IsPayToTaproot(pkScript)
	switch n := len(w); {
	case taproot && n > 1 && len(w[n-1]) > 0 && w[n-1][0] == txscript.TaprootAnnexTag:
		return fmt.Errorf("%w: an annex", ErrSighash)
	case taproot && n > 1: // script and control block
		stack = w[:n-2]
	case txscript.IsPayToWitnessScriptHash(pkScript) && n > 0:
		stack = w[:n-1]
	}
	for _, e := range stack {
		flag := byte(txscript.SigHashAll)
		switch {
		case taproot && len(e) == 65, !taproot && isDER(e):
			flag = e[len(e)-1]
		case taproot && len(e) == 64:
		default:
			continue
		}
		if signatures++; flag != byte(txscript.SigHashAll) {
			return fmt.Errorf("%w: the flag is %#x", ErrSighash, flag)
		}
	}
	if signatures == 0 {
		return fmt.Errorf("%w: there is none", ErrSighash)
	}
	return nil
}

// isDER reports whether a stack element is an ECDSA signature with its flag.
func isDER(e []byte) bool {
	return len(e) >= 9 && len(e) <= 73 && e[0] == 0x30 && int(e[1]) == len(e)-3
}
