package psbt

import (
	"bytes"
	"fmt"

	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/script"
)

// Spent is what an input spends, as the chain has it.
type Spent struct {
	Out      *wire.TxOut // nil: the chain does not know it, and the PSBT's word counts
	Taken    bool        // another transaction spends it already
	Immature bool        // a block reward that is too young
}

// Want is what a channel's funding has to be.
type Want struct {
	Script []byte         // of the channel's output
	Amount int64          // sat; 0: whatever is paid
	Height uint32         // of the tip: the transaction has to be final in the next block
	Rate   script.FeeRate // the going one; 0: only the least and the most that make sense
	// Spent is what each input spends by the chain; an absent one is not known there.
	Spent map[wire.OutPoint]Spent
}

// Funding is a PSBT that may be signed.
type Funding struct {
	Tx       *wire.MsgTx // without signatures
	Index    uint32      // of the channel's output
	Amount   int64       // sat, of that output
	Fee      int64       // sat
	Prevouts map[wire.OutPoint]*wire.TxOut
	Believed int // inputs of which nobody but the PSBT says what they spend; the signatures show
}

// Bounds of a funding's fee.
const (
	leastRate = script.FeeRate(1_000)     // sat per 1000 vB: less is not relayed
	mostRate  = script.FeeRate(2_000_000) // more is a mistake
	mostTimes = 20                        // so many times the going rate is one, too
	anyFee    = 20_000                    // sat; up to this a fee is never too high
)

const (
	allMoney = int64(21e14)   // sat: more than that there is not, in one place or in all
	mostSize = int64(100_000) // vB: what is larger is not relayed
)

// Check refuses a PSBT by which a channel must not be funded. Nothing of it needs to be
// signed. Errors: those of this package, but for ErrOther, ErrUnsigned, ErrSignature.
func (w Want) Check(p *Packet) (*Funding, error) {
	tx := p.Tx()
	f := &Funding{Tx: tx, Prevouts: map[wire.OutPoint]*wire.TxOut{}}
	if len(tx.TxIn) == 0 {
		return nil, ErrNoInputs
	}
	if tx.Version < 1 || tx.Version > 3 {
		return nil, fmt.Errorf("%w: %d", ErrTxVersion, tx.Version)
	}
	if err := w.outputs(f); err != nil {
		return nil, err
	}
	for i := range tx.TxIn {
		if err := w.input(p, f, i); err != nil {
			return nil, err
		}
	}
	if err := checkLock(tx, w.Height); err != nil {
		return nil, err
	}
	return f, w.fee(f)
}

// outputs finds the channel's, and refuses others that nodes would not relay.
func (w Want) outputs(f *Funding) error {
	found := 0
	for i, out := range f.Tx.TxOut {
		if out.Value < 0 || out.Value > allMoney {
			return fmt.Errorf("%w: output %d of %d sat", ErrOutput, i, out.Value)
		}
		if bytes.Equal(out.PkScript, w.Script) {
			found++
			f.Index, f.Amount = uint32(i), out.Value
			continue
		}
		class := txscript.GetScriptClass(out.PkScript)
		if class == txscript.NonStandardTy {
			return fmt.Errorf("%w: output %d pays a script of no known kind", ErrOutput, i)
		}
		if dust := script.Dust(out.PkScript); class != txscript.NullDataTy && dust < allMoney && out.Value < dust {
			return fmt.Errorf("%w: output %d of %d sat is below the dust limit of %d sat", ErrOutput, i, out.Value, dust)
		}
	}
	switch {
	case found == 0:
		return ErrNoOutput
	case found > 1:
		return fmt.Errorf("%w: %d outputs have its script; change must go elsewhere", ErrTwice, found)
	case w.Amount > 0 && f.Amount != w.Amount:
		return fmt.Errorf("%w: %d sat, %d sat are wanted", ErrAmount, f.Amount, w.Amount)
	}
	return nil
}

// input checks one input: what it spends, and that only its owner's signature over all
// of the transaction can complete it.
func (w Want) input(p *Packet, f *Funding, i int) error {
	in, said := f.Tx.TxIn[i], p.p.Inputs[i]
	at := in.PreviousOutPoint
	if f.Prevouts[at] != nil {
		return fmt.Errorf("%w: %s", ErrDuplicate, at)
	}
	out, proved := p.Said(i)
	if proved && said.WitnessUtxo != nil && !same(out, said.WitnessUtxo) {
		return fmt.Errorf("%w: input %d: its two descriptions differ", ErrUTXO, i)
	}
	if known := w.Spent[at]; known.Out != nil {
		if out != nil && !same(out, known.Out) {
			return fmt.Errorf("%w: input %d is said to hold %d sat, it holds %d sat", ErrUTXO, i, out.Value, known.Out.Value)
		}
		if out = known.Out; known.Taken {
			return fmt.Errorf("%w: input %d, %s", ErrSpent, i, at)
		}
		if known.Immature {
			return fmt.Errorf("%w: input %d, %s", ErrImmature, i, at)
		}
	} else if !proved {
		f.Believed++
	}
	switch {
	case out == nil:
		return fmt.Errorf("%w: input %d, %s", ErrNoUTXO, i, at)
	case out.Value < 0 || out.Value > allMoney:
		return fmt.Errorf("%w: input %d of %d sat", ErrUTXO, i, out.Value)
	case !txscript.IsWitnessProgram(out.PkScript), len(in.SignatureScript) > 0, len(said.FinalScriptSig) > 0, len(said.RedeemScript) > 0:
		return fmt.Errorf("%w: input %d is %s", ErrNotSegwit, i, kindOf(out.PkScript))
	case said.SighashType != txscript.SigHashDefault && said.SighashType != txscript.SigHashAll:
		return fmt.Errorf("%w: input %d asks for the flag %#x", ErrSighash, i, uint32(said.SighashType))
	}
	f.Prevouts[at] = out
	return nil
}

func kindOf(pkScript []byte) string {
	switch class := txscript.GetScriptClass(pkScript); class {
	case txscript.ScriptHashTy:
		return "P2SH (nested segwit counts as that)"
	case txscript.PubKeyHashTy:
		return "P2PKH"
	default:
		return class.String()
	}
}

func same(a, b *wire.TxOut) bool { return a.Value == b.Value && bytes.Equal(a.PkScript, b.PkScript) }

// checkLock refuses what is not final in the next block. Heights that are reached are
// what wallets write against fee sniping.
func checkLock(tx *wire.MsgTx, height uint32) error {
	final := true
	for i, in := range tx.TxIn {
		final = final && in.Sequence == wire.MaxTxInSequenceNum
		if tx.Version >= 2 && in.Sequence&wire.SequenceLockTimeDisabled == 0 && in.Sequence&wire.SequenceLockTimeMask > 0 {
			return fmt.Errorf("%w: input %d waits for %d more", ErrLock, i, in.Sequence&wire.SequenceLockTimeMask)
		}
	}
	if !final && tx.LockTime > height { // a time, from 500,000,000 on, is above every height
		return fmt.Errorf("%w: %d, the chain is at %d", ErrLock, tx.LockTime, height)
	}
	return nil
}

// fee works the fee out and refuses one that makes no sense, and sums that do not.
func (w Want) fee(f *Funding) error {
	var in, out int64
	for _, prev := range f.Prevouts {
		if in += prev.Value; in > allMoney {
			return fmt.Errorf("%w: its inputs hold more than there is", ErrUTXO)
		}
	}
	for i, o := range f.Tx.TxOut {
		if out += o.Value; out > allMoney {
			return fmt.Errorf("%w: up to output %d they hold more than there is", ErrOutput, i)
		}
	}
	f.Fee = in - out
	if f.Fee < 0 {
		return fmt.Errorf("%w: the outputs hold %d sat more than the inputs", ErrFee, -f.Fee)
	}
	size := leastSize(f)
	if size > mostSize {
		return fmt.Errorf("%w: the transaction is of at least %d vB, %d vB are relayed", ErrTooLarge, size, mostSize)
	}
	if least := leastRate.Fee(size); f.Fee < least {
		return fmt.Errorf("%w: %d sat for at least %d vB; below 1 sat/vB it is not relayed", ErrFee, f.Fee, size)
	}
	most := mostRate
	if w.Rate > 0 {
		most = min(most, mostTimes*w.Rate)
	}
	// half as large again is what the largest usual inputs may add
	if limit := max(most.Fee(size+size/2), anyFee); f.Fee > limit {
		return fmt.Errorf("%w: %d sat for about %d vB is more than %d sat", ErrFee, f.Fee, size, limit)
	}
	return nil
}

// leastSize is what the signed transaction takes at least, in vB.
func leastSize(f *Funding) int64 {
	weight := 4*int64(f.Tx.SerializeSizeStripped()) + 2
	for _, out := range f.Prevouts {
		switch {
		case txscript.IsPayToTaproot(out.PkScript):
			weight += 66
		case txscript.IsPayToWitnessPubKeyHash(out.PkScript):
			weight += 1 + 1 + 71 + 1 + 33
		default:
			weight += 70
		}
	}
	return (weight + 3) / 4
}
