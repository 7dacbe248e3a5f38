package script

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/btcsuite/btcd/btcec/v2/schnorr"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"
)

// Outputs, tree roots and control blocks of one and two leaves. BIP341.
func TestBIP341Outputs(t *testing.T) {
	var vectors struct {
		ScriptPubKey []struct {
			Given struct {
				InternalPubkey hexBytes
				ScriptTree     json.RawMessage
			}
			Intermediary struct{ MerkleRoot hexBytes }
			Expected     struct {
				ScriptPubKey            hexBytes
				ScriptPathControlBlocks []hexBytes
			}
		}
	}
	official(t, &vectors, "bip341_wallet_vectors.json")
	type leaf struct {
		Script      hexBytes
		LeafVersion byte
	}
	checked := 0
	for i, v := range vectors.ScriptPubKey {
		var one leaf
		var two []leaf
		if json.Unmarshal(v.Given.ScriptTree, &one) == nil {
			two = []leaf{one}
		} else if json.Unmarshal(v.Given.ScriptTree, &two) != nil {
			continue // a deeper tree: none is built here
		}
		if len(two) == 0 || two[0].Script == nil {
			continue // no tree
		}
		var leaves []txscript.TapLeaf
		for _, l := range two {
			leaves = append(leaves, txscript.NewTapLeaf(txscript.TapscriptLeafVersion(l.LeafVersion), l.Script))
		}
		internal, err := schnorr.ParsePubKey(v.Given.InternalPubkey)
		if err != nil {
			t.Fatal(err)
		}
		got, err := newTree(internal, leaves...)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.script, v.Expected.ScriptPubKey) || !bytes.Equal(got.root[:], v.Intermediary.MerkleRoot) {
			t.Errorf("vector %d: script %x, root %x", i, got.script, got.root)
		}
		for j, want := range v.Expected.ScriptPathControlBlocks {
			if !bytes.Equal(got.controls[j], want) {
				t.Errorf("vector %d: control block %d is %x", i, j, got.controls[j])
			}
		}
		checked++
	}
	if checked != 4 {
		t.Fatalf("%d vectors were checked, want 4", checked)
	}
}

// Key path digests for every flag that is used here, and the others. BIP341.
func TestBIP341KeyPathDigests(t *testing.T) {
	var vectors struct {
		KeyPathSpending []struct {
			Given struct {
				RawUnsignedTx hexBytes
				UtxosSpent    []struct {
					ScriptPubKey hexBytes
					AmountSats   int64
				}
			}
			InputSpending []struct {
				Given struct {
					TxinIndex int
					HashType  uint32
				}
				Intermediary struct{ SigHash hexBytes }
			}
		}
	}
	official(t, &vectors, "bip341_wallet_vectors.json")
	checked := 0
	for _, v := range vectors.KeyPathSpending {
		tx := wire.NewMsgTx(0)
		if err := tx.Deserialize(bytes.NewReader(v.Given.RawUnsignedTx)); err != nil {
			t.Fatal(err)
		}
		prevouts := map[wire.OutPoint]*wire.TxOut{}
		for i, spent := range v.Given.UtxosSpent {
			prevouts[tx.TxIn[i].PreviousOutPoint] = &wire.TxOut{Value: spent.AmountSats, PkScript: spent.ScriptPubKey}
		}
		fetcher := txscript.NewMultiPrevOutFetcher(prevouts)
		for _, in := range v.InputSpending {
			got, err := txscript.CalcTaprootSignatureHash(txscript.NewTxSigHashes(tx, fetcher),
				txscript.SigHashType(in.Given.HashType), tx, in.Given.TxinIndex, fetcher)
			if err != nil || !bytes.Equal(got, in.Intermediary.SigHash) {
				t.Errorf("input %d: %x, %v", in.Given.TxinIndex, got, err)
			}
			checked++
		}
	}
	if checked != 7 {
		t.Fatalf("%d digests were checked, want 7", checked)
	}
}
