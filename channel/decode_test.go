package channel

import (
	"bytes"
	"encoding/hex"
	"runtime"
	"testing"

	"github.com/btcsuite/btcd/wire/v2"
)

// TestPitfall41_CountsWithoutBytes: a few bytes that announce millions of inputs,
// outputs or witness items are refused before room is made for them.
func TestPitfall41_CountsWithoutBytes(t *testing.T) {
	in := "00000000000000000000000000000000000000000000000000000000000000000000000000fdffffff"
	for name, raw := range map[string]string{
		"inputs":          "02000000" + "fe507a0c00",
		"segwit inputs":   "02000000" + "0001" + "fe507a0c00",
		"outputs":         "02000000" + "01" + in + "fe507a3800",
		"witness items":   "02000000" + "0001" + "01" + in + "01" + "0000000000000000" + "00" + "fe00093d00",
		"a long script":   "02000000" + "01" + in[:72] + "fe00093d00",
		"a long pkScript": "02000000" + "01" + in + "01" + "0000000000000000" + "fe00093d00",
		"a long item":     "02000000" + "0001" + "01" + in + "01" + "0000000000000000" + "00" + "01" + "fe00093d00",
		"a huge count":    "02000000" + "ffffffffffffffffff",
	} {
		b, err := hex.DecodeString(raw)
		wantNil(t, err)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err = DecodeTx(b)
		runtime.ReadMemStats(&after)
		wantErr(t, err, ErrTerms)
		if got := after.TotalAlloc - before.TotalAlloc; got > 1<<20 {
			t.Errorf("%s: %d bytes made %d bytes of room", name, len(b), got)
		}
	}
}

// FuzzTxCounts: what is refused the library refuses too, and what it takes passes.
func FuzzTxCounts(f *testing.F) {
	tx := wire.NewMsgTx(3)
	f.Add([]byte{})
	for _, witness := range []wire.TxWitness{nil, {{1, 2, 3}, {}, bytes.Repeat([]byte{9}, 300)}} {
		tx.AddTxIn(&wire.TxIn{Sequence: 0xfffffffd, Witness: witness, SignatureScript: []byte{0x51}})
		tx.AddTxOut(&wire.TxOut{Value: 1000, PkScript: payout})
		raw, err := encodeTx(tx)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
		f.Add(raw[:len(raw)-5])
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if len(raw) > 4096 {
			return
		}
		rd := bytes.NewReader(raw)
		err := wire.NewMsgTx(2).Deserialize(rd)
		valid := err == nil && rd.Len() == 0
		got, err := DecodeTx(raw)
		if (err == nil) != valid {
			t.Fatalf("decoded: %v; valid: %v", err, valid)
		}
		if err != nil {
			return
		}
		again, err := encodeTx(got)
		wantNil(t, err)
		if back, err := DecodeTx(again); err != nil || back.WitnessHash() != got.WitnessHash() {
			t.Fatalf("%v", err)
		}
	})
}
