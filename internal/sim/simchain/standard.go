package simchain

import (
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"
)

// version tells whether nodes relay transactions of this version.
func version(tx *wire.MsgTx) error {
	if tx.Version < 1 || tx.Version > 3 {
		return refuse("version")
	}
	return nil
}

// form tells whether nodes relay a transaction of this weight, with these outputs.
func form(e *entry, rules Rules) error {
	tx := e.tx
	if e.weight > 400_000 {
		return refuse("tx-size")
	}
	for _, in := range tx.TxIn {
		switch {
		case len(in.SignatureScript) > 1650:
			return refuse("scriptsig-size")
		case !txscript.IsPushOnlyScript(in.SignatureScript):
			return refuse("scriptsig-not-pushonly")
		}
	}
	data, small := 0, 0
	for _, out := range tx.TxOut {
		class := txscript.GetScriptClass(out.PkScript)
		switch {
		case class == txscript.NonStandardTy && rules == Bitcoind && future(out.PkScript):
			small += below(out)
		case class == txscript.NonStandardTy || class == txscript.MultiSigTy && !plainMultisig(out.PkScript):
			return refuse("scriptpubkey")
		case class == txscript.NullDataTy:
			data++
		default:
			small += below(out)
		}
		if small > 1 || small > 0 && rules == Embedded {
			return refuse("dust")
		}
	}
	if data > 1 {
		return refuse("multi-op-return")
	}
	return nil
}

// below is 1 for an output of too little, else 0.
func below(out *wire.TxOut) int {
	if out.Value < dust(out.PkScript) {
		return 1
	}
	return 0
}

// ephemeral refuses dust: a bitcoind takes one such output where there is no fee, and
// only in a package with what spends it, which is no part of the model.
func ephemeral(e *entry) error {
	for _, out := range e.tx.TxOut {
		if e.fee > 0 && below(out) > 0 && txscript.GetScriptClass(out.PkScript) != txscript.NullDataTy {
			return refuse("dust, tx with dust output must be 0-fee")
		}
	}
	return nil
}

// future tells whether a script is a witness program of a version that means nothing
// yet: a bitcoind relays payments to it, and no spends.
func future(pkScript []byte) bool {
	version, _, err := txscript.ExtractWitnessProgramInfo(pkScript)
	return err == nil && version > 0
}

// spends tells whether nodes relay a transaction that spends this, in this way.
func spends(e *entry) error {
	for i, prev := range e.prev {
		if err := spendable(e.tx.TxIn[i], prev.PkScript); err != nil {
			return err
		}
	}
	return nil
}

// plainMultisig tells whether a bare multisig script has at most three keys.
func plainMultisig(pkScript []byte) bool {
	keys, sigs, err := txscript.CalcMultiSigStats(pkScript)
	return err == nil && keys >= 1 && keys <= 3 && sigs >= 1 && sigs <= keys
}

// dust is the least value in satoshi that is relayed to a script: what it costs to
// spend it at 3 sat/vB.
func dust(pkScript []byte) int64 {
	size := 8 + wire.VarIntSerializeSize(uint64(len(pkScript))) + len(pkScript) + 41 + 107
	if txscript.IsWitnessProgram(pkScript) {
		size -= 107 - 107/4
	}
	return 3 * int64(size)
}

// spendable tells whether an input spends a script of a known form as it should.
func spendable(in *wire.TxIn, pkScript []byte) error {
	if txscript.IsPayToAnchorScript(pkScript) {
		if len(in.SignatureScript) > 0 || len(in.Witness) > 0 {
			return refuse("bad-witness-nonstandard")
		}
		return nil
	}
	w := in.Witness
	switch txscript.GetScriptClass(pkScript) {
	case txscript.NonStandardTy:
		return refuse("bad-txns-nonstandard-inputs")
	case txscript.ScriptHashTy:
		if txscript.GetPreciseSigOpCount(in.SignatureScript, pkScript, true) > 15 {
			return refuse("bad-txns-nonstandard-inputs")
		}
	case txscript.WitnessV0ScriptHashTy:
		if len(w) > 101 || len(w) > 0 && len(w[len(w)-1]) > 3600 || longest(w, 1) > 80 {
			return refuse("bad-witness-nonstandard")
		}
	case txscript.WitnessV1TaprootTy:
		annex := len(w) > 1 && len(w[len(w)-1]) > 0 && w[len(w)-1][0] == txscript.TaprootAnnexTag
		if annex || len(w) > 2 && longest(w, 2) > 80 {
			return refuse("bad-witness-nonstandard")
		}
	}
	return nil
}

// longest is the length of the longest element of a witness but the last few.
func longest(w wire.TxWitness, but int) (n int) {
	for i := 0; i < len(w)-but; i++ {
		n = max(n, len(w[i]))
	}
	return n
}
