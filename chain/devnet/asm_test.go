package devnet

import (
	"encoding/hex"
	"testing"

	"github.com/btcsuite/btcd/wire/v2"
)

func TestAsm(t *testing.T) {
	for script, want := range map[string][2]string{
		"":                                   {"empty", ""},
		"51024e73":                           {"anchor", "OP_PUSHNUM_1 OP_PUSHBYTES_2 4e73"},
		"6a":                                 {"op_return", "OP_RETURN"},
		"4c0101":                             {"unknown", "OP_PUSHDATA1 01"},
		"4d010001":                           {"unknown", "OP_PUSHDATA2 01"},
		"4e0100000001":                       {"unknown", "OP_PUSHDATA4 01"},
		"4f60":                               {"unknown", "OP_PUSHNUM_NEG1 OP_PUSHNUM_16"},
		"02":                                 {"unknown", "<push past end>"},
		"03e80300b1b2ac":                     {"unknown", "OP_PUSHBYTES_3 e80300 OP_CLTV OP_CSV OP_CHECKSIG"},
		"51ae":                               {"unknown", "OP_PUSHNUM_1 OP_CHECKMULTISIG"},
		"a914" + repeat("11", 20) + "87":     {"p2sh", "OP_HASH160 OP_PUSHBYTES_20 " + repeat("11", 20) + " OP_EQUAL"},
		"76a914" + repeat("11", 20) + "88ac": {"p2pkh", "OP_DUP OP_HASH160 OP_PUSHBYTES_20 " + repeat("11", 20) + " OP_EQUALVERIFY OP_CHECKSIG"},
		"0020" + repeat("22", 32):            {"v0_p2wsh", "OP_0 OP_PUSHBYTES_32 " + repeat("22", 32)},
		"5120" + repeat("33", 32):            {"v1_p2tr", "OP_PUSHNUM_1 OP_PUSHBYTES_32 " + repeat("33", 32)},
	} {
		raw := unhex(t, script)
		if kind, words := scriptType(raw), asm(raw); kind != want[0] || words != want[1] {
			t.Errorf("%s: %s, %q, want %s, %q", script, kind, words, want[0], want[1])
		}
	}
}

func TestInnerScripts(t *testing.T) {
	wsh, tr := unhex(t, "0020"+repeat("22", 32)), unhex(t, "5120"+repeat("33", 32))
	sh := unhex(t, "a914"+repeat("11", 20)+"87")
	for what, c := range map[string]struct {
		out              []byte
		sig              string
		witness          wire.TxWitness
		redeem, revealed string
	}{
		"a witness script":         {out: wsh, witness: wire.TxWitness{{1}, {0x51, 0xac}}, revealed: "OP_PUSHNUM_1 OP_CHECKSIG"},
		"a redeem script":          {out: sh, sig: "000151" + "0251ae", redeem: "OP_PUSHNUM_1 OP_CHECKMULTISIG"},
		"a wrapped witness script": {out: sh, sig: "220020" + repeat("22", 32), witness: wire.TxWitness{{0xac}}, redeem: "OP_0 OP_PUSHBYTES_32 " + repeat("22", 32), revealed: "OP_CHECKSIG"},
		"a key path":               {out: tr, witness: wire.TxWitness{make([]byte, 64)}},
		"a key path and an annex":  {out: tr, witness: wire.TxWitness{make([]byte, 64), {0x50}}},
		"a leaf":                   {out: tr, witness: wire.TxWitness{{1}, {0xac}, {0xc0}}, revealed: "OP_CHECKSIG"},
		"a leaf and an annex":      {out: tr, witness: wire.TxWitness{{1}, {0xac}, {0xc0}, {0x50, 1}}, revealed: "OP_CHECKSIG"},
		"no witness":               {out: tr},
		"nothing":                  {out: wsh},
	} {
		in := &wire.TxIn{SignatureScript: unhex(t, c.sig), Witness: c.witness}
		if redeem, revealed := innerScripts(in, c.out); redeem != c.redeem || revealed != c.revealed {
			t.Errorf("%s: %q and %q", what, redeem, revealed)
		}
	}
}

func repeat(s string, n int) (all string) {
	for range n {
		all += s
	}
	return all
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	raw, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}
