package script

import (
	"fmt"
	"math"

	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"
)

// FeeRate is a fee rate in satoshi per 1000 vB.
type FeeRate int64

// FeeRatePerVB is a rate of so many satoshi per vB.
func FeeRatePerVB(sat int64) FeeRate { return FeeRate(sat * 1000) }

// Fee is the fee in satoshi for a size in vB, rounded up; at most all bitcoin.
func (r FeeRate) Fee(vsize int64) int64 {
	if r <= 0 || vsize <= 0 {
		return 0
	}
	if int64(r) > math.MaxInt64/vsize {
		return maxCapacity
	}
	return min(maxCapacity, (int64(r)*vsize+999)/1000)
}

// String writes the rate in sat/vB.
func (r FeeRate) String() string {
	return fmt.Sprintf("%d.%03d sat/vB", int64(r)/1000, int64(r)%1000)
}

// Dust is the least value in satoshi that is relayed to a script.
// docs/protocol.md, section 8. A script of no known kind has no such value:
// the answer is then more than there is.
func Dust(pkScript []byte) int64 {
	switch txscript.GetScriptClass(pkScript) {
	case txscript.WitnessV0PubKeyHashTy:
		return 294
	case txscript.WitnessV1TaprootTy, txscript.WitnessV0ScriptHashTy:
		return 330
	case txscript.ScriptHashTy:
		return 540
	case txscript.PubKeyHashTy:
		return 546
	default:
		return maxCapacity
	}
}

// CheckRestScript refuses every rest script but P2TR, P2WPKH and P2WSH: others
// could make a settlement unrelayable or pinnable. Errors: ErrRestScript.
func CheckRestScript(pkScript []byte) error {
	switch txscript.GetScriptClass(pkScript) {
	case txscript.WitnessV1TaprootTy, txscript.WitnessV0PubKeyHashTy, txscript.WitnessV0ScriptHashTy:
		return nil
	default:
		return fmt.Errorf("%w: %x", ErrRestScript, pkScript)
	}
}

// VSize is a transaction's virtual size in vB, rounded up. BIP141.
func VSize(tx *wire.MsgTx) int64 { return (Weight(tx) + 3) / 4 }

// Weight is a transaction's weight. BIP141.
func Weight(tx *wire.MsgTx) int64 {
	return int64(3*tx.SerializeSizeStripped() + tx.SerializeSize())
}

// CheckFundingInputs refuses a funding transaction with an input that is not
// segwit: its txid could be changed by others, and the refund would be void.
// Errors: ErrNotSegwit.
func CheckFundingInputs(tx *wire.MsgTx, prevouts map[wire.OutPoint]*wire.TxOut) error {
	if len(tx.TxIn) == 0 {
		return fmt.Errorf("%w: there is none", ErrNotSegwit)
	}
	for i, in := range tx.TxIn {
		prev := prevouts[in.PreviousOutPoint]
		if prev == nil || !txscript.IsWitnessProgram(prev.PkScript) || len(in.SignatureScript) > 0 {
			return fmt.Errorf("%w: input %d", ErrNotSegwit, i)
		}
	}
	return nil
}

// Execute runs every input of a transaction under the standard rules.
// Errors: ErrExecute.
func Execute(tx *wire.MsgTx, prevouts map[wire.OutPoint]*wire.TxOut) error {
	fetcher := txscript.NewMultiPrevOutFetcher(prevouts)
	for _, in := range tx.TxIn {
		if prevouts[in.PreviousOutPoint] == nil {
			return fmt.Errorf("%w: the output %s is not known", ErrExecute, in.PreviousOutPoint)
		}
	}
	hashes := txscript.NewTxSigHashes(tx, fetcher)
	for i, in := range tx.TxIn {
		prev := prevouts[in.PreviousOutPoint]
		vm, err := txscript.NewEngine(prev.PkScript, tx, i, txscript.StandardVerifyFlags, nil, hashes, prev.Value, fetcher)
		if err == nil {
			err = vm.Execute()
		}
		if err != nil {
			return fmt.Errorf("%w: input %d: %v", ErrExecute, i, err)
		}
	}
	return nil
}
