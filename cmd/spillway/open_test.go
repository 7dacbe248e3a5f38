package main

import (
	"bytes"
	"encoding/base32"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/btcsuite/btcd/address/v2"
	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	bip174 "github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/chain/devnet"
	"github.com/spillway/spillway/wallet"
)

// device is another wallet, as a hardware wallet is one: it makes PSBTs, and signs them.
type device struct {
	key   *btcec.PrivateKey
	coins map[wire.OutPoint]*wire.TxOut
}

func newDevice(ts *testscript.TestScript, n *devnet.Node) *device {
	d := &device{coins: map[wire.OutPoint]*wire.TxOut{}}
	d.key, _ = btcec.PrivKeyFromBytes(bytes.Repeat([]byte{0x33}, 32))
	tr, err := txscript.PayToTaprootScript(txscript.ComputeTaprootKeyNoScript(d.key.PubKey()))
	ts.Check(err)
	wpkh := append([]byte{0, 20}, address.Hash160(d.key.PubKey().SerializeCompressed())...)
	for range 4 {
		for _, pk := range [][]byte{tr, wpkh} {
			id, err := n.Faucet(ts.Value(contextKey{}).(*testing.T).Context(), pk, 100_000)
			ts.Check(err)
			info, err := n.Tx(ts.Value(contextKey{}).(*testing.T).Context(), id)
			ts.Check(err)
			for i, out := range info.Tx.TxOut {
				if bytes.Equal(out.PkScript, pk) {
					d.coins[wire.OutPoint{Hash: id, Index: uint32(i)}] = out
				}
			}
		}
	}
	return d
}

type (
	contextKey struct{}
	deviceKey  struct{}
)

// pay makes an unsigned PSBT: device pay FILE ADDRESS SAT
func (d *device) pay(ts *testscript.TestScript, file, addr, amount string) {
	pk, err := wallet.ParseAddress(addr, &chaincfg.RegressionNetParams)
	ts.Check(err)
	sat, err := strconv.ParseInt(amount, 10, 64)
	ts.Check(err)
	tx := wire.NewMsgTx(2)
	have := int64(0)
	spent := map[wire.OutPoint]*wire.TxOut{}
	var change []byte
	for at, out := range d.coins {
		if have > sat+2_000 {
			break
		}
		tx.AddTxIn(&wire.TxIn{PreviousOutPoint: at, Sequence: wire.MaxTxInSequenceNum - 2})
		have, spent[at], change = have+out.Value, out, out.PkScript
		delete(d.coins, at)
	}
	tx.AddTxOut(wire.NewTxOut(have-sat-1_000, change))
	tx.AddTxOut(wire.NewTxOut(sat, pk))
	p, err := bip174.NewFromUnsignedTx(tx)
	ts.Check(err)
	for i, in := range tx.TxIn {
		p.Inputs[i].WitnessUtxo = spent[in.PreviousOutPoint]
	}
	text, err := p.B64Encode()
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(file), []byte(text+"\n"), 0o600))
}

// sign signs a PSBT: device sign TO FROM [bad|half]
func (d *device) sign(ts *testscript.TestScript, to, from, how string) {
	p, err := bip174.NewFromRawBytes(strings.NewReader(strings.TrimSpace(ts.ReadFile(from))), true)
	ts.Check(err)
	prev := map[wire.OutPoint]*wire.TxOut{}
	for i, in := range p.UnsignedTx.TxIn {
		prev[in.PreviousOutPoint] = p.Inputs[i].WitnessUtxo
	}
	hashes := txscript.NewTxSigHashes(p.UnsignedTx, txscript.NewMultiPrevOutFetcher(prev))
	for i := range p.Inputs {
		out := p.Inputs[i].WitnessUtxo
		if how == "half" && i == 0 {
			continue
		}
		if txscript.IsPayToTaproot(out.PkScript) {
			sig, err := txscript.RawTxInTaprootSignature(p.UnsignedTx, hashes, i, out.Value, out.PkScript, []byte{}, txscript.SigHashDefault, d.key)
			ts.Check(err)
			if how == "bad" {
				sig[9] ^= 1
			}
			p.Inputs[i].TaprootKeySpendSig = sig
			continue
		}
		value := out.Value
		if how == "bad" {
			value--
		}
		sig, err := txscript.RawTxInWitnessSignature(p.UnsignedTx, hashes, i, value, out.PkScript, txscript.SigHashAll, d.key)
		ts.Check(err)
		p.Inputs[i].PartialSigs = []*bip174.PartialSig{{PubKey: d.key.PubKey().SerializeCompressed(), Signature: sig}}
	}
	text, err := p.B64Encode()
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(to), []byte(text+"\n"), 0o600))
}

// TestOpenPSBT plays open with another wallet on the embedded chain, interrupted at each
// step: it goes on from its record, and nothing is sent before the refund is held.
func TestOpenPSBT(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/psbt",
		Setup: func(env *testscript.Env) error {
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("SPILLWAY_DATA", filepath.Join(env.WorkDir, "data"))
			env.Values[contextKey{}], env.Values[deviceKey{}] = t, new(*device)
			return startChain(env)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"json": cmdJSON, "random": cmdRandom, "provider": cmdProvider, "same": cmdSame, "exitcode": cmdExit, "await": cmdAwait, "mine": cmdMine,
			"device": func(ts *testscript.TestScript, _ bool, args []string) {
				made := ts.Value(deviceKey{}).(**device)
				if *made == nil {
					*made = newDevice(ts, ts.Value(nodeKey{}).(*devnet.Node))
				}
				d := *made
				switch args[0] {
				case "pay":
					d.pay(ts, args[1], args[2], args[3])
				case "sign":
					d.sign(ts, args[1], args[2], strings.Join(args[3:], ""))
				}
			},
			"unsent": func(ts *testscript.TestScript, _ bool, args []string) { // unsent TXID
				n := ts.Value(nodeKey{}).(*devnet.Node)
				id, err := chainhash.NewHashFromStr(args[0])
				ts.Check(err)
				if _, err := n.Tx(t.Context(), *id); !errors.Is(err, chain.ErrNotFound) {
					ts.Fatalf("%s was sent: %v", args[0], err)
				}
			},
		},
	})
}

// A PSBT goes into one QR code, or into several that a wallet puts together again.
func TestPSBTCodes(t *testing.T) {
	small := bytes.Repeat([]byte{7}, 300)
	codes := qrPSBT(small)
	if got, err := base64.StdEncoding.DecodeString(codes[0]); len(codes) != 1 || err != nil || !bytes.Equal(got, small) {
		t.Fatalf("%v, %v", codes, err)
	}
	large := make([]byte, 20_000)
	for i := range large {
		large[i] = byte(i * i)
	}
	codes = qrPSBT(large)
	var got []byte
	for i, code := range codes {
		head, part := code[:8], code[8:]
		if want := "B$2P" + base36(len(codes)) + base36(i); head != want {
			t.Fatalf("part %d begins %q, want %q", i, head, want)
		}
		b, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(part)
		if err != nil {
			t.Fatal(err)
		}
		if i < len(codes)-1 && len(part)%8 != 0 {
			t.Fatalf("part %d has %d characters: they are to end at a whole byte", i, len(part))
		}
		got = append(got, b...)
		if _, err := qrTextAt(code, 0); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(got, large) {
		t.Fatal("the parts are something else")
	}
	if base36(35) != "0Z" || base36(1295) != "ZZ" {
		t.Fatalf("%s %s", base36(35), base36(1295))
	}
}

// A payment's URI says what wallets read. BIP21.
func TestBIP21(t *testing.T) {
	for want, got := range map[string]string{
		"bitcoin:bc1qx":                                      bip21("bc1qx", 0, ""),
		"bitcoin:bc1qx?amount=0.00100000":                    bip21("bc1qx", 100_000, ""),
		"bitcoin:bc1qx?amount=21.00000001&label=a%20channel": bip21("bc1qx", 2_100_000_001, "a channel"),
		"bitcoin:bc1qx?label=a":                              bip21("bc1qx", 0, "a"),
	} {
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
