package script_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"testing"
	"testing/iotest"

	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/script"
)

// repeating is a source of randomness that gives one byte for ever.
type repeating byte

func (r repeating) Read(p []byte) (int, error) {
	copy(p, bytes.Repeat([]byte{byte(r)}, len(p)))
	return len(p), nil
}

// The key path is signed DEFAULT only: 64 bytes, all outputs, no other flag.
func TestPitfall17_KeyPathSignsEverything(t *testing.T) {
	c := open(t, script.Taproot, "key path")
	done := c.closeTogether(t, 400_000, 200)
	witness := done.TxIn[0].Witness
	if len(witness) != 1 || len(witness[0]) != 64 {
		t.Fatalf("the witness is %x", witness)
	}
	for name, change := range map[string]func(*wire.MsgTx){
		"the share taken":   func(tx *wire.MsgTx) { tx.TxOut[1].PkScript = p2tr("thief") },
		"the share lowered": func(tx *wire.MsgTx) { tx.TxOut[1].Value-- },
		"the rest taken":    func(tx *wire.MsgTx) { tx.TxOut[0].PkScript = p2tr("thief") },
		"the share removed": func(tx *wire.MsgTx) { tx.TxOut = tx.TxOut[:1] },
		"an output added":   func(tx *wire.MsgTx) { tx.AddTxOut(&wire.TxOut{PkScript: p2tr("thief")}) },
		"a lock":            func(tx *wire.MsgTx) { tx.LockTime = 1 },
	} {
		for _, flag := range []byte{0, 0x01, 0x02, 0x03, 0x81, 0x82, 0x83} {
			stolen := done.Copy()
			change(stolen)
			if flag != 0 {
				stolen.TxIn[0].Witness[0] = append(bytes.Clone(witness[0]), flag)
			}
			if err := script.Execute(stolen, prevouts(c)); !errors.Is(err, script.ErrExecute) {
				t.Errorf("%s, flag %#x: %v", name, flag, err)
			}
		}
	}
	if err := script.Execute(done, prevouts(c)); err != nil {
		t.Fatal(err)
	}
}

// A half-signature is for leaf U: it is no signature of the key path, and the
// digest of the one is never the digest of the other.
func TestPitfall17_HalfSignatureIsForItsLeafOnly(t *testing.T) {
	c := open(t, script.Taproot, "leaf only")
	for _, rest := range []int64{0, 500_000} {
		half := c.half(t, rest)
		tx := settle(t, 1000, c.claim(t, rest))
		tx.TxIn[0].Witness = wire.TxWitness{half}
		if err := script.Execute(tx, prevouts(c)); !errors.Is(err, script.ErrExecute) {
			t.Errorf("rest %d: %v", rest, err)
		}
		prev := txscript.NewMultiPrevOutFetcher(prevouts(c))
		flag := txscript.SigHashType(half[64])
		keyPath, err := txscript.CalcTaprootSignatureHash(txscript.NewTxSigHashes(tx, prev), flag, tx, 0, prev)
		if err != nil {
			t.Fatal(err)
		}
		if digest, err := c.HalfSighash(rest); err != nil || bytes.Equal(digest, keyPath) {
			t.Errorf("rest %d: the digests are the same (%v)", rest, err)
		}
	}
}

// PartialSign signs what CloseTx builds and nothing else.
func TestPitfall17_OnlyClosesAreSigned(t *testing.T) {
	c := open(t, script.Taproot, "only closes")
	good, err := c.CloseTx(400_000, p2tr("payout"), 200)
	if err != nil {
		t.Fatal(err)
	}
	other := nonce(t, c.payee).Public
	for name, change := range map[string]func(*wire.MsgTx){
		"no input":         func(tx *wire.MsgTx) { tx.TxIn = nil },
		"two inputs":       func(tx *wire.MsgTx) { tx.AddTxIn(&wire.TxIn{Sequence: script.Sequence}) },
		"another outpoint": func(tx *wire.MsgTx) { tx.TxIn[0].PreviousOutPoint.Index++ },
		"final":            func(tx *wire.MsgTx) { tx.TxIn[0].Sequence = math.MaxUint32 },
		"a lock":           func(tx *wire.MsgTx) { tx.LockTime = c.Expiry },
		"another version":  func(tx *wire.MsgTx) { tx.Version = 2 },
		"no output":        func(tx *wire.MsgTx) { tx.TxOut = nil },
		"three outputs": func(tx *wire.MsgTx) {
			tx.TxOut[0].Value -= 330
			tx.AddTxOut(&wire.TxOut{Value: 330, PkScript: p2tr("third")})
		},
		"a dust output": func(tx *wire.MsgTx) { tx.TxOut[0].Value = 329 },
		"OP_TRUE":       func(tx *wire.MsgTx) { tx.TxOut[1].PkScript = []byte{txscript.OP_TRUE} },
		"too much":      func(tx *wire.MsgTx) { tx.TxOut[1].Value += 201 },
		"overflow":      func(tx *wire.MsgTx) { tx.TxOut[1].Value = math.MaxInt64 },
	} {
		tx := good.Copy()
		change(tx)
		own := nonce(t, c.payer)
		if _, err := c.PartialSign(tx, c.payer, own, other); !errors.Is(err, script.ErrClose) {
			t.Errorf("%s: sign: %v", name, err)
		}
		if _, err := c.PartialSign(good, c.payer, own, other); err != nil {
			t.Errorf("%s: the refusal used the nonce up: %v", name, err)
		}
		if err := c.VerifyPartial(tx, make([]byte, 32), c.PayeeKey, other, own.Public); !errors.Is(err, script.ErrClose) {
			t.Errorf("%s: verify: %v", name, err)
		}
		if _, err := c.CombineClose(tx, make([]byte, 32), make([]byte, 32), [2][66]byte{own.Public, other}); !errors.Is(err, script.ErrClose) {
			t.Errorf("%s: combine: %v", name, err)
		}
	}
	if _, err := c.PartialSign(nil, c.payer, nonce(t, c.payer), other); !errors.Is(err, script.ErrClose) {
		t.Errorf("nothing: %v", err)
	}
}

// A nonce signs once; what it signed, or whether that succeeded, is no matter.
func TestPitfall18_NonceSignsOnce(t *testing.T) {
	c := open(t, script.Taproot, "once")
	tx, err := c.CloseTx(400_000, p2tr("payout"), 200)
	if err != nil {
		t.Fatal(err)
	}
	dearer, err := c.CloseTx(400_000, p2tr("payout"), 300)
	if err != nil {
		t.Fatal(err)
	}
	own, other := nonce(t, c.payer), nonce(t, c.payee).Public
	if _, err := c.PartialSign(tx, c.payer, own, other); err != nil {
		t.Fatal(err)
	}
	for _, again := range []*wire.MsgTx{tx, dearer} {
		if part, err := c.PartialSign(again, c.payer, own, other); !errors.Is(err, script.ErrNonceReused) || part != nil {
			t.Errorf("signed again: %x, %v", part, err)
		}
	}
	if _, err := c.PartialSign(tx, c.payer, nil, other); !errors.Is(err, script.ErrNonceReused) {
		t.Errorf("no nonce: %v", err)
	}
	if _, err := c.PartialSign(tx, c.payer, &script.Nonce{Public: own.Public}, other); !errors.Is(err, script.ErrNonceReused) {
		t.Errorf("a nonce made of its public half: %v", err)
	}
	// Many at once: one of them signs.
	race := nonce(t, c.payer)
	results := make(chan error)
	for range 8 {
		go func() {
			_, err := c.PartialSign(tx, c.payer, race, other)
			results <- err
		}()
	}
	signed := 0
	for range 8 {
		if err := <-results; err == nil {
			signed++
		} else if !errors.Is(err, script.ErrNonceReused) {
			t.Errorf("at once: %v", err)
		}
	}
	if signed != 1 {
		t.Errorf("one nonce signed %d times at once", signed)
	}
}

// Nonces are fresh, differ by key where the source repeats, need a whole source
// and never show their secret half.
func TestPitfall18_NoncesAreFresh(t *testing.T) {
	key, other := testKey("fresh"), testKey("fresh too")
	seen := map[[66]byte]bool{}
	for range 100 {
		n := nonce(t, key)
		if seen[n.Public] {
			t.Fatal("a nonce was drawn twice")
		}
		seen[n.Public] = true
	}
	a, err := script.NewNonce(repeating(7), key)
	if err != nil {
		t.Fatal(err)
	}
	b, err := script.NewNonce(repeating(7), other)
	if err != nil || a.Public == b.Public {
		t.Errorf("two keys have one nonce: %v", err)
	}
	for name, source := range map[string]io.Reader{
		"none": nil, "an empty one": bytes.NewReader(nil), "a short one": bytes.NewReader(make([]byte, 31)),
		"zeros": repeating(0), "a broken one": iotest.ErrReader(errors.New("no entropy")),
	} {
		if n, err := script.NewNonce(source, key); !errors.Is(err, script.ErrNonce) || n != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := script.NewNonce(iotest.OneByteReader(bytes.NewReader(bytes.Repeat([]byte{9}, 32))), key); err != nil {
		t.Errorf("a slow source: %v", err)
	}
	if _, err := script.NewNonce(repeating(7), nil); !errors.Is(err, script.ErrWrongKey) {
		t.Errorf("no key: %v", err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		if got := fmt.Sprintf(verb, a); len(got) > 40 {
			t.Errorf("%s prints %s", verb, got)
		}
	}
}

// A close asked for again gets the same transaction with a new nonce; both
// attempts are valid, and parts of different attempts do not mix.
func TestPitfall73_CloseRepeatedWithAnotherNonce(t *testing.T) {
	c := open(t, script.Taproot, "repeated")
	tx, err := c.CloseTx(400_000, p2tr("payout"), 200)
	if err != nil {
		t.Fatal(err)
	}
	var parts [2][2][]byte
	var nonces [2][2][66]byte
	for try := range 2 {
		a, b := nonce(t, c.payer), nonce(t, c.payee)
		nonces[try] = [2][66]byte{a.Public, b.Public}
		if parts[try][0], err = c.PartialSign(tx, c.payer, a, b.Public); err != nil {
			t.Fatal(err)
		}
		if parts[try][1], err = c.PartialSign(tx, c.payee, b, a.Public); err != nil {
			t.Fatal(err)
		}
	}
	for try := range 2 {
		if _, err := c.CombineClose(tx, parts[try][0], parts[try][1], nonces[try]); err != nil {
			t.Errorf("attempt %d: %v", try, err)
		}
		if _, err := c.CombineClose(tx, parts[try][1], parts[try][0], [2][66]byte{nonces[try][1], nonces[try][0]}); err != nil {
			t.Errorf("attempt %d, seen from the other side: %v", try, err)
		}
		if _, err := c.CombineClose(tx, parts[try][0], parts[1-try][1], nonces[try]); !errors.Is(err, script.ErrExecute) {
			t.Errorf("attempt %d with a part of the other: %v", try, err)
		}
	}
	if bytes.Equal(parts[0][1], parts[1][1]) {
		t.Error("two attempts have one partial signature")
	}
}

// What VerifyPartial refuses.
func TestVerifyPartialRefuses(t *testing.T) {
	c, d := open(t, script.Taproot, "partial"), open(t, script.Taproot, "another")
	tx, err := c.CloseTx(400_000, p2tr("payout"), 200)
	if err != nil {
		t.Fatal(err)
	}
	dearer, err := c.CloseTx(400_000, p2tr("payout"), 201)
	if err != nil {
		t.Fatal(err)
	}
	a, b := nonce(t, c.payer), nonce(t, c.payee)
	part, err := c.PartialSign(tx, c.payee, b, a.Public)
	if err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(part)
	flipped[31] ^= 1
	bad := b.Public
	bad[0] = 4
	rows := []struct {
		name        string
		tx          *wire.MsgTx
		part        []byte
		key         [33]byte
		signer, own [66]byte
		want        error
	}{
		{"good", tx, part, c.PayeeKey, b.Public, a.Public, nil},
		{"another transaction", dearer, part, c.PayeeKey, b.Public, a.Public, script.ErrSignature},
		{"another signature", tx, flipped, c.PayeeKey, b.Public, a.Public, script.ErrSignature},
		{"31 bytes", tx, part[:31], c.PayeeKey, b.Public, a.Public, script.ErrSignature},
		{"33 bytes", tx, append(bytes.Clone(part), 0), c.PayeeKey, b.Public, a.Public, script.ErrSignature},
		{"above the order", tx, bytes.Repeat([]byte{0xff}, 32), c.PayeeKey, b.Public, a.Public, script.ErrSignature},
		{"the other signer", tx, part, c.PayerKey, b.Public, a.Public, script.ErrSignature},
		{"a stranger", tx, part, d.PayeeKey, b.Public, a.Public, script.ErrWrongKey},
		{"nonces swapped", tx, part, c.PayeeKey, a.Public, b.Public, script.ErrSignature},
		{"no nonce", tx, part, c.PayeeKey, bad, a.Public, script.ErrSignature},
		{"zero nonce", tx, part, c.PayeeKey, b.Public, [66]byte{}, script.ErrSignature},
	}
	for _, row := range rows {
		if err := c.VerifyPartial(row.tx, row.part, row.key, row.signer, row.own); !errors.Is(err, row.want) {
			t.Errorf("%s: %v, want %v", row.name, err, row.want)
		}
	}
	if _, err := c.PartialSign(tx, d.payer, nonce(t, d.payer), a.Public); !errors.Is(err, script.ErrWrongKey) {
		t.Errorf("signed by a stranger: %v", err)
	}
	if _, err := c.PartialSign(tx, c.payer, a, bad); !errors.Is(err, script.ErrSignature) {
		t.Errorf("signed with a bad nonce: %v", err)
	}
	if _, err := c.CombineClose(tx, part, part, [2][66]byte{a.Public, b.Public}); !errors.Is(err, script.ErrExecute) {
		t.Errorf("one part twice: %v", err)
	}
}

// Multisig channels have no cooperative close.
func TestCloseIsTaprootOnly(t *testing.T) {
	for _, kind := range constructions[1:] {
		c := open(t, kind, "no close")
		tx := wire.NewMsgTx(3)
		if _, err := c.CloseTx(400_000, p2tr("payout"), 200); !errors.Is(err, script.ErrUnsupported) {
			t.Errorf("%s: build: %v", kind, err)
		}
		if _, err := c.PartialSign(tx, c.payer, nonce(t, c.payer), [66]byte{}); !errors.Is(err, script.ErrUnsupported) {
			t.Errorf("%s: sign: %v", kind, err)
		}
		if err := c.VerifyPartial(tx, nil, c.PayeeKey, [66]byte{}, [66]byte{}); !errors.Is(err, script.ErrUnsupported) {
			t.Errorf("%s: verify: %v", kind, err)
		}
		if _, err := c.CombineClose(tx, nil, nil, [2][66]byte{}); !errors.Is(err, script.ErrUnsupported) {
			t.Errorf("%s: combine: %v", kind, err)
		}
	}
}
