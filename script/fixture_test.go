package script_test

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"testing"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/btcec/v2/ecdsa"
	"github.com/btcsuite/btcd/btcec/v2/schnorr"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/script"
)

var constructions = []script.Construction{script.Taproot, script.Multisig, script.MultisigP2SH}

// testKey is a private key of the tests, the same for a name in every run.
func testKey(name string) *btcec.PrivateKey {
	seed := sha256.Sum256([]byte("spillway tests: " + name))
	key, _ := btcec.PrivKeyFromBytes(seed[:])
	return key
}

func pub(key *btcec.PrivateKey) [33]byte { return [33]byte(key.PubKey().SerializeCompressed()) }

// p2tr, p2wpkh and p2wsh are output scripts that the tests pay to.
func p2tr(name string) []byte {
	return append([]byte{0x51, 0x20}, schnorr.SerializePubKey(testKey(name).PubKey())...)
}

func p2wpkh(name string) []byte {
	hash := sha256.Sum256([]byte(name))
	return append([]byte{0x00, 0x14}, hash[:20]...)
}

func p2wsh(name string) []byte {
	hash := sha256.Sum256([]byte(name))
	return append([]byte{0x00, 0x20}, hash[:]...)
}

func p2sh(name string) []byte {
	hash := sha256.Sum256([]byte(name))
	return append(append([]byte{0xa9, 0x14}, hash[:20]...), 0x87)
}

func p2pkh(name string) []byte {
	hash := sha256.Sum256([]byte(name))
	return append(append([]byte{0x76, 0xa9, 0x14}, hash[:20]...), 0x88, 0xac)
}

// funding is a good Funding; its keys are named after the channel.
func funding(kind script.Construction, name string) script.Funding {
	return script.Funding{
		Construction: kind,
		PayerKey:     pub(testKey(name + " payer")),
		PayeeKey:     pub(testKey(name + " payee")),
		Expiry:       900_000,
		TxVersion:    3,
		Outpoint:     wire.OutPoint{Hash: chainhash.Hash(sha256.Sum256([]byte(name))), Index: 1},
		Capacity:     1_000_000,
		RestScript:   p2tr(name + " rest"),
	}
}

// party is a channel with both private keys.
type party struct {
	*script.Channel
	payer, payee *btcec.PrivateKey
}

// open builds the channel of a name; change may alter its Funding.
func open(t testing.TB, kind script.Construction, name string, change ...func(*script.Funding)) party {
	t.Helper()
	f := funding(kind, name)
	for _, c := range change {
		c(&f)
	}
	ch, err := script.New(f)
	if err != nil {
		t.Fatalf("%s: %v", kind, err)
	}
	return party{ch, testKey(name + " payer"), testKey(name + " payee")}
}

// half is the payer's half-signature for a rest.
func (p party) half(t testing.TB, rest int64) []byte {
	t.Helper()
	sig, err := p.SignHalf(p.payer, rest)
	if err != nil {
		t.Fatalf("%s, rest %d: %v", p.Construction, rest, err)
	}
	return sig
}

func (p party) claim(t testing.TB, rest int64) script.Claim {
	t.Helper()
	return script.Claim{Channel: p.Channel, Rest: rest, HalfSig: p.half(t, rest), PayeeKey: p.payee}
}

// settle completes claims; an error ends the test.
func settle(t testing.TB, rate script.FeeRate, claims ...script.Claim) *wire.MsgTx {
	t.Helper()
	tx, _, err := script.Settle(claims, p2tr("payout"), rate)
	if err != nil {
		t.Fatal(err)
	}
	return tx
}

// refund is T2, complete, with the payee's signature where that is needed.
func (p party) refund(t testing.TB, rate script.FeeRate) *wire.MsgTx {
	t.Helper()
	tx, _, err := p.Refund(p.payer, p.refundSig(t), p2tr("refund"), rate)
	if err != nil {
		t.Fatalf("%s: %v", p.Construction, err)
	}
	return tx
}

// refundSig is the payee's signature of the refund; nil on taproot.
func (p party) refundSig(t testing.TB) []byte {
	t.Helper()
	if p.Construction == script.Taproot {
		return nil
	}
	sig, err := p.SignRefund(p.payee)
	if err != nil {
		t.Fatal(err)
	}
	return sig
}

// nonce is a fresh nonce of a key.
func nonce(t testing.TB, key *btcec.PrivateKey) *script.Nonce {
	t.Helper()
	n, err := script.NewNonce(rand.Reader, key)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// closeTogether signs a cooperative close by both sides.
func (p party) closeTogether(t testing.TB, share, fee int64) *wire.MsgTx {
	t.Helper()
	tx, err := p.CloseTx(share, p2tr("payout"), fee)
	if err != nil {
		t.Fatal(err)
	}
	a, b := nonce(t, p.payer), nonce(t, p.payee)
	first, err := p.PartialSign(tx, p.payer, a, b.Public)
	if err != nil {
		t.Fatal(err)
	}
	second, err := p.PartialSign(tx, p.payee, b, a.Public)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.VerifyPartial(tx, first, p.PayerKey, a.Public, b.Public); err != nil {
		t.Fatal(err)
	}
	if err := p.VerifyPartial(tx, second, p.PayeeKey, b.Public, a.Public); err != nil {
		t.Fatal(err)
	}
	done, err := p.CombineClose(tx, first, second, [2][66]byte{a.Public, b.Public})
	if err != nil {
		t.Fatal(err)
	}
	return done
}

// prevouts is what transactions over these channels spend.
func prevouts(channels ...party) map[wire.OutPoint]*wire.TxOut {
	outs := map[wire.OutPoint]*wire.TxOut{}
	for _, c := range channels {
		outs[c.Outpoint] = c.Prevout()
	}
	return outs
}

// paid is the sum of a transaction's outputs, in sat.
func paid(tx *wire.MsgTx) (sum int64) {
	for _, out := range tx.TxOut {
		sum += out.Value
	}
	return sum
}

func rawTx(t testing.TB, tx *wire.MsgTx) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := tx.Serialize(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// der is an ECDSA signature without its flag.
func der(key *btcec.PrivateKey, digest []byte) []byte { return ecdsa.Sign(key, digest).Serialize() }

// pushes is an input script that pushes items; nil pushes OP_0.
func pushes(t testing.TB, items ...[]byte) []byte {
	t.Helper()
	b := txscript.NewScriptBuilder()
	for _, item := range items {
		b.AddData(item)
	}
	raw, err := b.Script()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// lastPush is the last item that an input script pushes.
func lastPush(t testing.TB, raw []byte) []byte {
	t.Helper()
	items, err := txscript.PushedData(raw)
	if err != nil || len(items) == 0 {
		t.Fatalf("%d items: %v", len(items), err)
	}
	return items[len(items)-1]
}
