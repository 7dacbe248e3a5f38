package wallet

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/btcsuite/btcd/address/v2"
	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/store"
)

// FuzzParseAddress: what is taken is an address of the wallet's network whose script
// has just this address, and of no other network.
func FuzzParseAddress(f *testing.F) {
	for _, s := range []string{
		"bcrt1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqdku202", "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4", "2N3oefVeg6stiTb5Kh3ozCSkaqmx91FDbsm",
		"mipcBbFg9gMiCh81Kj8tqqdgoZub1ZJRfn", "BCRT1QQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQDKU202", "", "02" + strings.Repeat("11", 32), "bcrt1p", "1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2",
	} {
		f.Add(s)
	}
	params := &chaincfg.RegressionNetParams
	w := &Wallet{cfg: Config{Params: params}}
	main := &Wallet{cfg: Config{Params: &chaincfg.MainNetParams}}
	f.Fuzz(func(t *testing.T, text string) {
		pk, err := w.ParseAddress(text)
		if err != nil {
			if !errors.Is(err, ErrAddress) || pk != nil {
				t.Fatalf("%q: %x, %v", text, pk, err)
			}
			return
		}
		if other, err := main.ParseAddress(text); err == nil {
			t.Fatalf("%q is also an address of the main network: %x", text, other)
		}
		_, addrs, _, err := txscript.ExtractPkScriptAddrs(pk, params)
		if err != nil || len(addrs) != 1 || txscript.IsUnspendable(pk) {
			t.Fatalf("%q: %x pays to %v, %v", text, pk, addrs, err)
		}
		again, err := address.DecodeAddress(addrs[0].EncodeAddress(), params)
		if err != nil || again.EncodeAddress() != addrs[0].EncodeAddress() {
			t.Fatal(err)
		}
		if got := addrs[0].EncodeAddress(); got != text && !strings.EqualFold(got, text) {
			t.Fatalf("%q was read as %q", text, got)
		}
	})
}

// FuzzOutpointKey: the key of a reserved coin has one form.
func FuzzOutpointKey(f *testing.F) {
	for _, s := range []string{strings.Repeat("ab", 32) + ":1", "ab:1", strings.Repeat("AB", 32) + ":1", ":", "x:-1", strings.Repeat("00", 32) + ":01", strings.Repeat("00", 32) + ":4294967296"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, key string) {
		op, err := parseOutpoint(key)
		if err != nil {
			if !errors.Is(err, store.ErrDamaged) {
				t.Fatal(err)
			}
			return
		}
		if op.String() != key {
			t.Fatalf("%q was read as %s", key, op)
		}
	})
}

// FuzzSavedTx: a saved transaction is damaged, or it is the one that its bytes say,
// whole.
func FuzzSavedTx(f *testing.F) {
	tx := wire.NewMsgTx(2)
	tx.AddTxIn(&wire.TxIn{Witness: wire.TxWitness{{1}}})
	tx.AddTxOut(wire.NewTxOut(1, []byte{0x51}))
	var b bytes.Buffer
	if err := tx.Serialize(&b); err != nil {
		f.Fatal(err)
	}
	for _, raw := range []string{hex.EncodeToString(b.Bytes()), hex.EncodeToString(b.Bytes()) + "00", "00", "zz", ""} {
		value, err := json.Marshal(savedTx{Kind: kindSend, Tx: raw})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(value)
	}
	f.Add([]byte("null"))
	f.Fuzz(func(t *testing.T, value []byte) {
		s, tx, err := decodeSaved(store.Entry{Bucket: bucketTx, Key: "k", Value: value})
		if err != nil {
			if !errors.Is(err, store.ErrDamaged) || tx != nil {
				t.Fatalf("%+v and %v", tx, err)
			}
			return
		}
		var b bytes.Buffer
		if err := tx.Serialize(&b); err != nil || len(b.Bytes())*2 != len(s.Tx) && tx.HasWitness() {
			t.Fatalf("%s was read as %x, %v", s.Tx, b.Bytes(), err)
		}
	})
}
