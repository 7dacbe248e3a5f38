package script

import (
	"fmt"
	"math"

	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/internal/curve"
)

// FeeRate is a fee rate in satoshi per 1000 vB.
type FeeRate int64

// FeeRatePerVB is a rate of so many satoshi per vB.
// It is at most the highest rate that there can be.
func FeeRatePerVB(sat int64) FeeRate {
	if sat > math.MaxInt64/1000 {
		return math.MaxInt64
	}
	return FeeRate(max(sat, 0) * 1000)
}

// Fee is the fee in satoshi for a size in vB, rounded up: nothing for a rate or
// a size that is not above zero, and at most all bitcoin.
func (r FeeRate) Fee(vsize int64) int64 {
	if r <= 0 || vsize <= 0 {
		return 0
	}
	if int64(r) > maxMoney*1000/vsize {
		return maxMoney
	}
	return (int64(r)*vsize + 999) / 1000
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
		return maxMoney
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

// checkPayout refuses a payout to a script that is not relayed.
func checkPayout(pkScript []byte) error {
	if Dust(pkScript) == maxMoney {
		return fmt.Errorf("%w: %x", ErrPayoutScript, pkScript)
	}
	return nil
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
	if tx == nil || len(tx.TxIn) == 0 {
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

// Execute runs every input of a transaction under the standard rules, stricter
// than consensus: low S, DER, minimal pushes, clean stack (txscript's standard
// flags). It checks signatures and locks of the scripts, and that no more is
// paid out than goes in; not whether the transaction is final yet.
// Errors: ErrExecute, ErrAmount.
func Execute(tx *wire.MsgTx, prevouts map[wire.OutPoint]*wire.TxOut) error {
	if tx == nil || len(tx.TxIn) == 0 {
		return fmt.Errorf("%w: it has no inputs", ErrExecute)
	}
	if err := checkAmounts(tx, prevouts); err != nil {
		return err
	}
	name := curve.Execution(tx, prevouts)
	if curve.Executed(name) {
		return nil
	}
	fetcher := txscript.NewMultiPrevOutFetcher(prevouts)
	hashes := txscript.NewTxSigHashes(tx, fetcher)
	for i := range tx.TxIn {
		if err := executeInput(tx, i, fetcher, hashes); err != nil {
			return err
		}
	}
	curve.Ran(name)
	return nil
}

// ExecuteInput is Execute for one input alone: whether who may spend it has signed what
// it signs of this transaction. prevouts holds what every input spends.
// Errors: ErrExecute, ErrAmount.
func ExecuteInput(tx *wire.MsgTx, i int, prevouts map[wire.OutPoint]*wire.TxOut) error {
	if tx == nil || i < 0 || i >= len(tx.TxIn) {
		return fmt.Errorf("%w: it has no input %d", ErrExecute, i)
	}
	if err := checkAmounts(tx, prevouts); err != nil {
		return err
	}
	name := curve.Execution(tx, prevouts)
	if curve.Executed(name) {
		return nil
	}
	fetcher := txscript.NewMultiPrevOutFetcher(prevouts)
	err := executeInput(tx, i, fetcher, txscript.NewTxSigHashes(tx, fetcher))
	if err == nil && len(tx.TxIn) == 1 {
		curve.Ran(name)
	}
	return err
}

func executeInput(tx *wire.MsgTx, i int, fetcher txscript.PrevOutputFetcher, hashes *txscript.TxSigHashes) error {
	prev := fetcher.FetchPrevOutput(tx.TxIn[i].PreviousOutPoint)
	vm, err := txscript.NewEngine(prev.PkScript, tx, i, txscript.StandardVerifyFlags, curve.Scripts(), hashes, prev.Value, fetcher)
	if err == nil {
		err = vm.Execute()
	}
	if err != nil {
		return fmt.Errorf("%w: input %d: %v", ErrExecute, i, err)
	}
	return nil
}

// checkAmounts checks that every output spent is known and spent once, and that
// amounts in and out are amounts of bitcoin, no more out than in.
func checkAmounts(tx *wire.MsgTx, prevouts map[wire.OutPoint]*wire.TxOut) error {
	seen := make(map[wire.OutPoint]bool, len(tx.TxIn))
	var in, out int64
	for _, txIn := range tx.TxIn {
		op := txIn.PreviousOutPoint
		prev := prevouts[op]
		switch {
		case prev == nil:
			return fmt.Errorf("%w: the output %s is not known", ErrExecute, op)
		case seen[op]:
			return fmt.Errorf("%w: the output %s is spent twice", ErrExecute, op)
		case !addMoney(&in, prev.Value):
			return fmt.Errorf("%w: %d sat in %s", ErrAmount, prev.Value, op)
		}
		seen[op] = true
	}
	for i, txOut := range tx.TxOut {
		if !addMoney(&out, txOut.Value) {
			return fmt.Errorf("%w: %d sat in output %d", ErrAmount, txOut.Value, i)
		}
	}
	if out > in {
		return fmt.Errorf("%w: %d sat are paid out of %d", ErrAmount, out, in)
	}
	return nil
}

// addMoney adds to a sum unless what is added or the sum is no amount of bitcoin.
func addMoney(sum *int64, sat int64) bool {
	if sat < 0 || sat > maxMoney || *sum > maxMoney-sat {
		return false
	}
	*sum += sat
	return true
}
