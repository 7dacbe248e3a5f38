package channel

import (
	"bytes"
	"encoding/json"
	"errors"
	"testing"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/btcec/v2/schnorr"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/script"
)

const (
	sat       = uint64(1000) // msat
	chunk     = 1000 * sat   // msat, the price of a chunk in these tests
	capacity  = uint64(100_000)
	fundedAt  = uint32(100)
	expiry    = uint32(1100)
	margin    = uint32(36)
	clock     = int64(1_700_000_000)
	noPlaces  = uint64(MaxSat) * 1000 // NewcomerAbove: no chunk needs a place
	perVB     = script.FeeRate(1000)
	dustP2TR  = uint64(330)
	dustWPKH  = uint64(294)
	lastBlock = expiry - margin - 1 // the last tip at which anything is delivered
)

func priv(n byte) *btcec.PrivateKey {
	k, _ := btcec.PrivKeyFromBytes(bytes.Repeat([]byte{n}, 32))
	return k
}

func pub(n byte) Key { return Key(priv(n).PubKey().SerializeCompressed()) }

// p2tr is a taproot output script nobody else uses.
func p2tr(n byte) Hex { return append(Hex{0x51, 0x20}, schnorr.SerializePubKey(priv(n).PubKey())...) }

var payout = p2tr(0x44)

func terms(change ...func(*Terms)) Terms {
	t := Terms{
		Network: "regtest", Construction: script.Taproot, TxVersion: 3,
		PayerKey: pub(0x11), PayeeKey: pub(0x22), Nonce: Nonce{15: 7},
		Outpoint: Outpoint{Hash: chainhash.Hash{1: 9}, Index: 1}, Capacity: capacity,
		RestScript: p2tr(0x33), Expiry: expiry, Margin: margin, Confirmations: 1,
		Credit: chunk, MinimumCharge: 2000,
	}
	for _, c := range change {
		c(&t)
	}
	return t
}

func (t Terms) built(tb testing.TB) *script.Channel {
	tb.Helper()
	ch, err := t.Script()
	if err != nil {
		tb.Fatalf("script: %v", err)
	}
	return ch
}

// record is an open channel of the payee whose chunks need no place.
func record(change ...func(*PayeeRecord)) PayeeRecord {
	r := PayeeRecord{Terms: terms(), Phase: Open, NewcomerAbove: noPlaces}
	for _, c := range change {
		c(&r)
	}
	return r
}

// bought is an open channel of the payer.
func bought(change ...func(*PayerRecord)) PayerRecord {
	r := PayerRecord{
		Terms: terms(), Phase: Open, RefundScript: p2tr(0x33), FundingTx: Hex{1}, FundingSent: true,
		Signature: Hex{1},
	}
	for _, c := range change {
		c(&r)
	}
	return r
}

var free = Limits{Budget: MaxSat}

// at is a view with T1 mined at height 100.
func at(tip uint32, change ...func(*View)) View {
	v := View{Tip: tip, Rate: perVB, Funding: FundingView{Seen: true, Height: fundedAt}}
	for _, c := range change {
		c(&v)
	}
	return v
}

func unconfirmed(v *View) { v.Funding.Height = 0 }

func spentBy(txid string, height uint32) func(*View) {
	return func(v *View) { v.Spend = &SpendView{Txid: txid, Height: height} }
}

// ask is a request for one chunk of a price, maybe with an update (sat).
func ask(price uint64, amount ...uint64) Payment {
	p := Payment{Price: price, Dearest: price, Deliver: true, Now: clock}
	if len(amount) > 0 {
		p.Update = &Update{Amount: amount[0], Signature: Hex{byte(amount[0])}}
	}
	return p
}

func wantErr(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error %v, want %v", err, want)
	}
}

func wantNil(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("unexpected refusal: %v", err)
	}
}

// same compares two records as they would be saved.
func same(t *testing.T, what string, got, want any) {
	t.Helper()
	a, errA := json.Marshal(got)
	b, errB := json.Marshal(want)
	if errA != nil || errB != nil || !bytes.Equal(a, b) {
		t.Fatalf("%s:\n got %s (%v)\nwant %s (%v)", what, a, errA, b, errB)
	}
}

// half signs an update of these terms as the payer does.
func half(tb testing.TB, t Terms, amount uint64) Update {
	tb.Helper()
	sig, err := t.built(tb).SignHalf(priv(0x11), int64(t.Capacity-amount))
	if err != nil {
		tb.Fatalf("half-signature: %v", err)
	}
	return Update{Amount: amount, Signature: sig}
}

func offer(change ...func(*Offer)) Offer {
	t := terms()
	o := Offer{
		Network: t.Network, Constructions: []script.Construction{script.Taproot, script.Multisig, script.MultisigP2SH},
		TxVersion: 3, PayeeKey: t.PayeeKey, Nonce: t.Nonce, Tip: fundedAt, Expiry: expiry, Margin: margin,
		MinDeposit: 10_000, MaxDeposit: MaxSat, Confirmations: 1, Credit: chunk, MinimumCharge: t.MinimumCharge,
	}
	for _, c := range change {
		c(&o)
	}
	return o
}

func policy() Policy { return DefaultPolicy("regtest") }

// opening is a valid opening on offer() with its output as the chain shows it.
func opening(tb testing.TB, change ...func(*Opening)) (Opening, *wire.TxOut) {
	tb.Helper()
	t := terms()
	op := Opening{
		Construction: script.Taproot, PayerKey: t.PayerKey, Outpoint: t.Outpoint, Capacity: t.Capacity,
		RestScript: t.RestScript, Update: half(tb, t, 0),
	}
	for _, c := range change {
		c(&op)
	}
	return op, t.built(tb).Prevout()
}

// saved makes of an action what the driver saves before it broadcasts.
func saved(a Action, amount uint64, tip uint32) *Broadcast {
	return &Broadcast{Tx: Hex{0xaa}, Txid: "settlement", Rate: int64(a.Rate), Amount: amount, Height: tip}
}
