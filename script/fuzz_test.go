package script_test

import (
	"bytes"
	"testing"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/script"
)

// FuzzVerifyHalf: no bytes but the payer's own are a half-signature.
func FuzzVerifyHalf(f *testing.F) {
	for i, kind := range constructions {
		p := open(f, kind, "fuzz")
		for _, rest := range []int64{0, 330, p.Capacity} {
			f.Add(byte(i), rest, p.half(f, rest))
		}
		f.Add(byte(i), int64(-1), []byte{})
		f.Add(byte(i), int64(1), []byte{0x83})
	}
	parties := []party{open(f, script.Taproot, "fuzz"), open(f, script.Multisig, "fuzz"), open(f, script.MultisigP2SH, "fuzz")}
	f.Fuzz(func(t *testing.T, kind byte, rest int64, sig []byte) {
		p := parties[int(kind)%len(parties)]
		if p.VerifyHalf(rest, sig) == nil && !bytes.Equal(sig, p.half(t, rest)) {
			t.Fatalf("a second signature for %d sat: %x", rest, sig)
		}
	})
}

// FuzzCheckRefundRequest: what is taken for an unsigned refund is one, and the
// payee's signature for it is good in the payer's complete refund.
func FuzzCheckRefundRequest(f *testing.F) {
	p := open(f, script.Multisig, "fuzz refund")
	good, err := p.UnsignedRefund(p2tr("refund"), 1000)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(rawTx(f, good))
	good.TxIn = append(good.TxIn, good.TxIn[0])
	f.Add(rawTx(f, good))
	f.Add([]byte{})
	sig := p.refundSig(f)
	if err := engine(p.refund(f, 1000), p); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		tx := wire.NewMsgTx(0)
		if tx.Deserialize(bytes.NewReader(raw)) != nil {
			return
		}
		if p.CheckRefundRequest(tx) != nil {
			return
		}
		if len(tx.TxIn) != 1 || tx.TxIn[0].PreviousOutPoint != p.Outpoint || tx.LockTime != p.Expiry || tx.TxIn[0].Sequence != script.Sequence ||
			tx.Version != p.TxVersion || len(tx.TxIn[0].SignatureScript)+len(tx.TxIn[0].Witness) > 0 {
			t.Fatalf("taken for a refund: %x", raw)
		}
		if again, err := p.SignRefund(p.payee); err != nil || !bytes.Equal(again, sig) {
			t.Fatalf("signed as %x, then as %x: %v", sig, again, err)
		}
	})
}

// FuzzCombineClose: a part of the other side that does not verify never completes a
// close, one that verifies does.
func FuzzCombineClose(f *testing.F) {
	p := open(f, script.Taproot, "fuzz close")
	tx, err := p.CloseTx(400_000, p2tr("payout"), 300)
	if err != nil {
		f.Fatal(err)
	}
	b := nonce(f, p.payee)
	f.Add(make([]byte, 32), b.Public[:])
	f.Add(bytes.Repeat([]byte{0xff}, 32), make([]byte, 66))
	f.Add([]byte{1}, []byte{2})
	f.Fuzz(func(t *testing.T, partial, theirNonce []byte) {
		var theirs [66]byte
		copy(theirs[:], theirNonce)
		a := nonce(t, p.payer)
		verified := p.VerifyPartial(tx, partial, p.PayeeKey, theirs, a.Public) == nil
		own, err := p.PartialSign(tx, p.payer, a, theirs)
		if err != nil {
			if verified {
				t.Fatalf("a part over a bad nonce verifies: %v", err)
			}
			return
		}
		_, err = p.CombineClose(tx, own, partial, [2][66]byte{a.Public, theirs})
		if verified != (err == nil) {
			t.Fatalf("verified: %t, combined: %v", verified, err)
		}
	})
}
