package script_test

import (
	"errors"
	"testing"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/script"
)

func TestPitfall01_FundingInputsAreSegwit(t *testing.T) {
	op := func(i uint32) wire.OutPoint { return wire.OutPoint{Index: i} }
	build := func(scripts ...[]byte) (*wire.MsgTx, map[wire.OutPoint]*wire.TxOut) {
		tx, outs := wire.NewMsgTx(2), map[wire.OutPoint]*wire.TxOut{}
		for i, s := range scripts {
			tx.AddTxIn(&wire.TxIn{PreviousOutPoint: op(uint32(i))})
			outs[op(uint32(i))] = &wire.TxOut{Value: 1000, PkScript: s}
		}
		return tx, outs
	}
	good, outs := build(p2tr("a"), p2wpkh("b"), p2wsh("c"))
	if err := script.CheckFundingInputs(good, outs); err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string][]byte{"P2PKH": p2pkh("a"), "P2SH": p2sh("a"), "OP_TRUE": {txscript.OP_TRUE}, "nothing": nil} {
		for _, scripts := range [][][]byte{{bad}, {bad, p2tr("b")}, {p2tr("b"), bad}} {
			tx, outs := build(scripts...)
			if err := script.CheckFundingInputs(tx, outs); !errors.Is(err, script.ErrNotSegwit) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	wrapped, outs := build(p2tr("a"))
	wrapped.TxIn[0].SignatureScript = []byte{0x51}
	if err := script.CheckFundingInputs(wrapped, outs); !errors.Is(err, script.ErrNotSegwit) {
		t.Errorf("an input script: %v", err)
	}
	wrapped.TxIn[0].SignatureScript = nil
	if err := script.CheckFundingInputs(wrapped, nil); !errors.Is(err, script.ErrNotSegwit) {
		t.Errorf("an unknown output: %v", err)
	}
	if err := script.CheckFundingInputs(wire.NewMsgTx(2), outs); !errors.Is(err, script.ErrNotSegwit) {
		t.Errorf("no inputs: %v", err)
	}
	if err := script.CheckFundingInputs(nil, outs); !errors.Is(err, script.ErrNotSegwit) {
		t.Errorf("no transaction: %v", err)
	}
}

// badRefunds are the ways in which a refund request may ask for something else.
// TestPitfall02 and TestPitfall52 share them.
var badRefunds = map[string]func(*wire.MsgTx){
	"no input":         func(tx *wire.MsgTx) { tx.TxIn = nil },
	"two inputs":       func(tx *wire.MsgTx) { tx.AddTxIn(&wire.TxIn{Sequence: script.Sequence}) },
	"another outpoint": func(tx *wire.MsgTx) { tx.TxIn[0].PreviousOutPoint.Index++ },
	"another txid":     func(tx *wire.MsgTx) { tx.TxIn[0].PreviousOutPoint.Hash[0] ^= 1 },
	"another version":  func(tx *wire.MsgTx) { tx.Version ^= 1 },
	"input script":     func(tx *wire.MsgTx) { tx.TxIn[0].SignatureScript = []byte{0} },
	"witness":          func(tx *wire.MsgTx) { tx.TxIn[0].Witness = wire.TxWitness{{1}} },
	"locktime 0":       func(tx *wire.MsgTx) { tx.LockTime = 0 },
	"a time":           func(tx *wire.MsgTx) { tx.LockTime = 500_000_000 },
	"a later time":     func(tx *wire.MsgTx) { tx.LockTime = 1_900_000_000 },
	"one block early":  func(tx *wire.MsgTx) { tx.LockTime-- },
	"one block late":   func(tx *wire.MsgTx) { tx.LockTime++ },
	"final":            func(tx *wire.MsgTx) { tx.TxIn[0].Sequence = wire.MaxTxInSequenceNum },
	"not replaceable":  func(tx *wire.MsgTx) { tx.TxIn[0].Sequence = wire.MaxTxInSequenceNum - 1 },
	"relative lock":    func(tx *wire.MsgTx) { tx.TxIn[0].Sequence = 10 },
}

func TestPitfall02_RefundRequest(t *testing.T) {
	for _, kind := range constructions[1:] {
		c := open(t, kind, "request")
		good, err := c.UnsignedRefund(p2tr("refund"), 1000)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.CheckRefundRequest(good); err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		for name, change := range badRefunds {
			tx := good.Copy()
			change(tx)
			if err := c.CheckRefundRequest(tx); !errors.Is(err, script.ErrRefund) {
				t.Errorf("%s, %s: %v", kind, name, err)
			}
		}
		if err := c.CheckRefundRequest(nil); !errors.Is(err, script.ErrRefund) {
			t.Errorf("%s, nothing: %v", kind, err)
		}
	}
}

// Taproot's refund is the payer's alone: no such signature is ever made.
func TestPitfall02_TaprootSignsNoRefund(t *testing.T) {
	c := open(t, script.Taproot, "request")
	if _, err := c.UnsignedRefund(p2tr("refund"), 1000); !errors.Is(err, script.ErrUnsupported) {
		t.Errorf("unsigned: %v", err)
	}
	if _, err := c.SignRefund(c.payee); !errors.Is(err, script.ErrUnsupported) {
		t.Errorf("sign: %v", err)
	}
	if err := c.VerifyRefundSig(make([]byte, 65)); !errors.Is(err, script.ErrUnsupported) {
		t.Errorf("verify: %v", err)
	}
	if err := c.CheckRefundRequest(wire.NewMsgTx(3)); !errors.Is(err, script.ErrUnsupported) {
		t.Errorf("check: %v", err)
	}
}

// The signature that the payee gives is for this lock only: a refund with
// another lock or a final sequence is refused by the script itself.
func TestPitfall52_RefundSignatureIsForOneLock(t *testing.T) {
	for _, kind := range constructions {
		c := open(t, kind, "lock")
		good := c.refund(t, 1000)
		if good.LockTime != c.Expiry || good.TxIn[0].Sequence != script.Sequence {
			t.Fatalf("%s: lock %d, sequence %x", kind, good.LockTime, good.TxIn[0].Sequence)
		}
		for name, change := range map[string]func(*wire.MsgTx){
			"locktime 0": badRefunds["locktime 0"], "a time": badRefunds["a time"], "final": badRefunds["final"],
			"one block early": badRefunds["one block early"], "another version": badRefunds["another version"],
		} {
			tx := good.Copy()
			change(tx)
			if err := script.Execute(tx, prevouts(c)); !errors.Is(err, script.ErrExecute) {
				t.Errorf("%s, %s: %v", kind, name, err)
			}
		}
	}
}

// Leaf R cannot be used before the expiry even by the payer's own signature.
func TestPitfall52_LeafRHoldsUntilTheExpiry(t *testing.T) {
	c := open(t, script.Taproot, "leaf")
	tx := c.refund(t, 1000)
	leaf := txscript.NewBaseTapLeaf(tx.TxIn[0].Witness[1])
	for _, row := range []struct {
		lock, sequence uint32
		ok             bool
	}{{c.Expiry, script.Sequence, true}, {c.Expiry + 1, script.Sequence, true}, {c.Expiry - 1, script.Sequence, false},
		{0, script.Sequence, false}, {500_000_000, script.Sequence, false}, {c.Expiry, wire.MaxTxInSequenceNum, false}} {
		tx.LockTime, tx.TxIn[0].Sequence = row.lock, row.sequence
		prev := txscript.NewMultiPrevOutFetcher(prevouts(c))
		sig, err := txscript.RawTxInTapscriptSignature(tx, txscript.NewTxSigHashes(tx, prev), 0, c.Capacity, c.OutputScript(), leaf, txscript.SigHashDefault, c.payer)
		if err != nil {
			t.Fatal(err)
		}
		tx.TxIn[0].Witness[0] = sig
		if err := script.Execute(tx, prevouts(c)); (err == nil) != row.ok {
			t.Errorf("lock %d, sequence %x: %v", row.lock, row.sequence, err)
		}
	}
}

// Expiries at the borders of script numbers, with and without a sign byte.
func TestPitfall11_ExpirySignByte(t *testing.T) {
	for _, expiry := range []uint32{1, 16, 17, 0x7f, 0x80, 0xff, 0x100, 0x7fff, 0x8000, 0xffff, 0x10000, 0x7fffff, 0x800000, 0x80ff80, 0xffffff, 0x1000000, 499_999_999} {
		for _, kind := range constructions {
			c := open(t, kind, "sign byte", func(f *script.Funding) { f.Expiry = expiry })
			tx := c.refund(t, 1000)
			if err := script.Execute(tx, prevouts(c)); err != nil {
				t.Errorf("%s, expiry %#x: %v", kind, expiry, err)
			}
			near(t, kind, c.RefundVSize(p2tr("refund")), longest(t, tx, c), tx)
		}
	}
}

// Everything that this package completes runs under the standard flags, which
// here means: is executed once more by a fresh engine.
func TestPitfall12_StandardFlags(t *testing.T) {
	for _, kind := range constructions {
		for _, version := range versions {
			c := open(t, kind, "standard", func(f *script.Funding) { f.TxVersion = version })
			txs := map[string]*wire.MsgTx{"settlement": settle(t, 1000, c.claim(t, 500_000)), "all": settle(t, 1000, c.claim(t, 0)), "refund": c.refund(t, 1000)}
			if kind == script.Taproot {
				txs["close"] = c.closeTogether(t, 500_000, 200)
			}
			for name, tx := range txs {
				if tx.Version != version {
					t.Errorf("%s, %s: version %d", kind, name, tx.Version)
				}
				if err := script.Execute(tx, prevouts(c)); err != nil {
					t.Errorf("%s, %s: %v", kind, name, err)
				}
				for i, in := range tx.TxIn {
					if in.Sequence != script.Sequence {
						t.Errorf("%s, %s: input %d has sequence %x", kind, name, i, in.Sequence)
					}
				}
			}
		}
	}
}

// otherFlags are all flags of one byte but one.
func otherFlags(but byte) (flags []byte) {
	for f := range 256 {
		if byte(f) != but {
			flags = append(flags, byte(f))
		}
	}
	return flags
}

// The right digest for another flag, signed by the right key, is refused: each
// amount has one flag.
func TestPitfall16_OnlyTheExpectedFlag(t *testing.T) {
	for _, kind := range constructions {
		c := open(t, kind, "flags")
		for rest, flag := range map[int64]byte{500_000: 0x83, 0: 0x82} {
			sig := c.half(t, rest)
			if sig[len(sig)-1] != flag {
				t.Fatalf("%s, rest %d: flag %#x", kind, rest, sig[len(sig)-1])
			}
			for _, other := range otherFlags(flag) {
				sig[len(sig)-1] = other
				if err := c.VerifyHalf(rest, sig); !errors.Is(err, script.ErrSighashFlag) {
					t.Errorf("%s, rest %d, flag %#x: %v", kind, rest, other, err)
				}
				claim := script.Claim{Channel: c.Channel, Rest: rest, HalfSig: sig, PayeeKey: c.payee}
				if _, _, err := script.Settle([]script.Claim{claim}, p2tr("payout"), 1000); !errors.Is(err, script.ErrSighashFlag) {
					t.Errorf("%s, rest %d, flag %#x: settled, %v", kind, rest, other, err)
				}
			}
			if err := c.VerifyHalf(rest, sig[:len(sig)-1]); err == nil {
				t.Errorf("%s, rest %d: taken without a flag", kind, rest)
			}
		}
		if kind == script.Taproot {
			continue
		}
		sig := c.refundSig(t)
		for _, other := range otherFlags(0x82) {
			sig[len(sig)-1] = other
			if err := c.VerifyRefundSig(sig); !errors.Is(err, script.ErrSighashFlag) {
				t.Errorf("%s, refund, flag %#x: %v", kind, other, err)
			}
		}
	}
}

// A half-signature that was really made with another flag, over what that flag
// covers, is refused as well.
func TestPitfall16_HonestSignatureOfAnotherFlag(t *testing.T) {
	c := open(t, script.Taproot, "other flag")
	tx := settle(t, 1000, c.claim(t, 500_000))
	leaf := txscript.NewBaseTapLeaf(tx.TxIn[0].Witness[2])
	prev := txscript.NewMultiPrevOutFetcher(prevouts(c))
	for _, flag := range []txscript.SigHashType{0x01, 0x02, 0x03, 0x81, 0x82} {
		sig, err := txscript.RawTxInTapscriptSignature(tx, txscript.NewTxSigHashes(tx, prev), 0, c.Capacity, c.OutputScript(), leaf, flag, c.payer)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.VerifyHalf(500_000, sig); !errors.Is(err, script.ErrSighashFlag) {
			t.Errorf("flag %#x: %v", uint32(flag), err)
		}
		sig[len(sig)-1] = 0x83
		if err := c.VerifyHalf(500_000, sig); !errors.Is(err, script.ErrSignature) {
			t.Errorf("flag %#x under another name: %v", uint32(flag), err)
		}
	}
}

// highS is the other signature of the same digest: n − S instead of S.
func highS(t testing.TB, sig []byte) []byte {
	t.Helper()
	r, s := derNumbers(t, sig)
	var n btcec.ModNScalar
	n.SetByteSlice(s)
	n.Negate()
	raw := n.Bytes()
	return derOf(r, append([]byte{0}, raw[:]...))
}

func derNumbers(t testing.TB, sig []byte) (r, s []byte) {
	t.Helper()
	if sig[0] != 0x30 || sig[2] != 2 {
		t.Fatalf("not DER: %x", sig)
	}
	r = sig[4 : 4+sig[3]]
	rest := sig[4+sig[3]:]
	return r, rest[2 : 2+rest[1]]
}

func derOf(r, s []byte) []byte {
	out := append([]byte{0x30, byte(4 + len(r) + len(s)), 2, byte(len(r))}, r...)
	return append(append(out, 2, byte(len(s))), s...)
}

func TestPitfall14_OneCanonicalSignature(t *testing.T) {
	for _, kind := range constructions[1:] {
		c := open(t, kind, "canonical")
		good := c.half(t, 500_000)
		flag, sig := good[len(good)-1], good[:len(good)-1]
		r, s := derNumbers(t, sig)
		if err := c.VerifyHalf(500_000, append(derOf(r, s), flag)); err != nil {
			t.Fatalf("%s: the same once more: %v", kind, err)
		}
		for name, bad := range map[string][]byte{
			"high S":        highS(t, sig),
			"zero before R": derOf(append([]byte{0}, r...), s),
			"zero before S": derOf(r, append([]byte{0}, s...)),
			"one byte more": append(derOf(r, s), 0),
			"one byte less": sig[:len(sig)-1],
			"long length":   append([]byte{0x30, 0x81}, sig[1:]...),
			"nothing":       {},
			"zeros":         derOf([]byte{0}, []byte{0}),
			"compact":       make([]byte, 64),
		} {
			bad = append(bad[:len(bad):len(bad)], flag)
			if err := c.VerifyHalf(500_000, bad); !errors.Is(err, script.ErrSignature) {
				t.Errorf("%s, %s: %v", kind, name, err)
			}
			claim := script.Claim{Channel: c.Channel, Rest: 500_000, HalfSig: bad, PayeeKey: c.payee}
			if _, _, err := script.Settle([]script.Claim{claim}, p2tr("payout"), 1000); !errors.Is(err, script.ErrSignature) {
				t.Errorf("%s, %s: settled, %v", kind, name, err)
			}
		}
		refund := c.refundSig(t)
		bad := append(highS(t, refund[:len(refund)-1]), refund[len(refund)-1])
		if err := c.VerifyRefundSig(bad); !errors.Is(err, script.ErrSignature) {
			t.Errorf("%s, refund with high S: %v", kind, err)
		}
	}
}

// Even if a high S came past VerifyHalf, the completed transaction is executed
// under flags that refuse it.
func TestPitfall14_ExecuteRefusesHighS(t *testing.T) {
	for _, kind := range constructions[1:] {
		c := open(t, kind, "execute high S")
		tx := settle(t, 1000, c.claim(t, 500_000))
		half := c.half(t, 500_000)
		bad := append(highS(t, half[:len(half)-1]), half[len(half)-1])
		if kind == script.Multisig {
			tx.TxIn[0].Witness[1] = bad
		} else {
			items, err := txscript.PushedData(tx.TxIn[0].SignatureScript)
			if err != nil {
				t.Fatal(err)
			}
			tx.TxIn[0].SignatureScript = pushes(t, nil, bad, items[len(items)-2], items[len(items)-1])
		}
		if err := script.Execute(tx, prevouts(c)); !errors.Is(err, script.ErrExecute) {
			t.Errorf("%s: %v", kind, err)
		}
	}
}
