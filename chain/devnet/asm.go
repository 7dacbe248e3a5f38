package devnet

import (
	"strconv"
	"strings"

	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"
)

// asm writes a script in the words of an Esplora: pushes named by their opcode, everything else by its own name.
func asm(script []byte) string {
	var words []string
	t := txscript.MakeScriptTokenizer(0, script)
	for t.Next() {
		op := t.Opcode()
		switch {
		case op == txscript.OP_0:
			words = append(words, "OP_0")
		case op <= txscript.OP_DATA_75:
			words = append(words, "OP_PUSHBYTES_"+strconv.Itoa(int(op)), hexOf(t.Data()))
		case op <= txscript.OP_PUSHDATA4:
			words = append(words, "OP_PUSHDATA"+strconv.Itoa(1<<(op-txscript.OP_PUSHDATA1)), hexOf(t.Data()))
		case op == txscript.OP_1NEGATE:
			words = append(words, "OP_PUSHNUM_NEG1")
		case op >= txscript.OP_1 && op <= txscript.OP_16:
			words = append(words, "OP_PUSHNUM_"+strconv.Itoa(int(op-txscript.OP_1)+1))
		case op == txscript.OP_CHECKLOCKTIMEVERIFY:
			words = append(words, "OP_CLTV")
		case op == txscript.OP_CHECKSEQUENCEVERIFY:
			words = append(words, "OP_CSV")
		default:
			name, err := txscript.DisasmString([]byte{op})
			if err != nil {
				name = "OP_RETURN_" + strconv.Itoa(int(op))
			}
			words = append(words, name)
		}
	}
	if t.Err() != nil {
		words = append(words, "<push past end>")
	}
	return strings.Join(words, " ")
}

// scriptType names the kind of an output script as an Esplora does.
func scriptType(script []byte) string {
	if len(script) == 0 {
		return "empty"
	}
	if txscript.IsPayToAnchorScript(script) {
		return "anchor"
	}
	if script[0] == txscript.OP_RETURN {
		return "op_return"
	}
	switch txscript.GetScriptClass(script) {
	case txscript.PubKeyTy:
		return "p2pk"
	case txscript.PubKeyHashTy:
		return "p2pkh"
	case txscript.ScriptHashTy:
		return "p2sh"
	case txscript.WitnessV0PubKeyHashTy:
		return "v0_p2wpkh"
	case txscript.WitnessV0ScriptHashTy:
		return "v0_p2wsh"
	case txscript.WitnessV1TaprootTy:
		return "v1_p2tr"
	case txscript.MultiSigTy:
		return "multisig"
	}
	return "unknown"
}

// innerScripts writes the scripts that an input reveals: the one that a P2SH output hashes, and the one that a
// P2WSH output hashes or that is a leaf of a P2TR output's tree. Empty where there is none.
func innerScripts(in *wire.TxIn, pkScript []byte) (redeem, witness string) {
	program := pkScript
	if txscript.IsPayToScriptHash(pkScript) {
		t := txscript.MakeScriptTokenizer(0, in.SignatureScript)
		for program = nil; t.Next(); {
			program = t.Data()
		}
		redeem = asm(program)
	}
	w := in.Witness
	switch {
	case txscript.IsPayToWitnessScriptHash(program) && len(w) > 0:
		witness = asm(w[len(w)-1])
	case txscript.IsPayToTaproot(pkScript):
		if n := len(w); n > 1 && len(w[n-1]) > 0 && w[n-1][0] == txscript.TaprootAnnexTag {
			w = w[:n-1]
		}
		if len(w) > 1 {
			witness = asm(w[len(w)-2])
		}
	}
	return redeem, witness
}
