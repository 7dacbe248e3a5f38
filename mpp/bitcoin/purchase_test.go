package bitcoin_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/mpp"
	"github.com/spillway/spillway/mpp/bitcoin"
	"github.com/spillway/spillway/script"
)

var update = flag.Bool("update", false, "write testdata/purchase.json anew")

const purchaseFile = "testdata/purchase.json"

// purchase is a purchase of three chunks of 1 MB for 1,000 sat each at a credit
// of one chunk, as it travels: real keys, scripts, signatures and transactions.
type purchase struct {
	Comment    string     `json:"comment"`
	Secret     string     `json:"secret"`   // of the challenges, hex
	PayerKey   string     `json:"payerKey"` // K1's private key
	PayeeKey   string     `json:"payeeKey"` // K2's private key
	MACKey     string     `json:"macKey"`
	RestScript string     `json:"restScript"`
	Exchanges  []exchange `json:"exchanges"`
}

// exchange is a request and its answer.
type exchange struct {
	Request        string          `json:"request"`
	IdempotencyKey string          `json:"idempotencyKey,omitempty"`
	Authorization  string          `json:"authorization,omitempty"`
	Payload        json.RawMessage `json:"payload,omitempty"` // what is in Authorization
	Status         int             `json:"status"`
	Challenge      string          `json:"wwwAuthenticate,omitempty"`
	Receipt        string          `json:"paymentReceipt,omitempty"`
	Body           any             `json:"body,omitempty"`
}

// buyer plays both sides of the purchase.
type buyer struct {
	t            *testing.T
	secret       []byte
	payer, payee *btcec.PrivateKey
	mac          [32]byte
	rest         []byte
	payout       []byte
	offer        mpp.Challenge // A
	present      mpp.Challenge // what credentials echo, A and then B
	id           string
	funding      *wire.MsgTx
	channel      *script.Channel
	at           time.Time
	out          purchase
}

const (
	secondsPerStep = 5
	capacity       = 4_000
	feeRate        = 1_000 // sat per 1000 vB
)

func newBuyer(t *testing.T) *buyer {
	t.Helper()
	key := func(b byte) *btcec.PrivateKey {
		k, _ := btcec.PrivKeyFromBytes(bytes.Repeat([]byte{b}, 32))
		return k
	}
	b := &buyer{
		t: t, secret: bytes.Repeat([]byte{0x5e}, 32), payer: key(0x11), payee: key(0x22),
		at: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
	}
	b.rest, b.payout = p2tr(b, key(0x33)), p2tr(b, key(0x44))
	var err error
	if b.mac, err = bitcoin.MACKey(b.payer, pub(b.payee)); err != nil {
		t.Fatal(err)
	}
	b.out = purchase{
		Comment: "A purchase of three chunks at a credit of one, as it travels. Keys are for tests only.",
		Secret:  hex.EncodeToString(b.secret), PayerKey: hex.EncodeToString(b.payer.Serialize()),
		PayeeKey: hex.EncodeToString(b.payee.Serialize()), MACKey: hex.EncodeToString(b.mac[:]), RestScript: hex.EncodeToString(b.rest),
	}
	return b
}

func pub(k *btcec.PrivateKey) [33]byte { return [33]byte(k.PubKey().SerializeCompressed()) }

func p2tr(b *buyer, k *btcec.PrivateKey) []byte {
	pk, err := txscript.PayToTaprootScript(txscript.ComputeTaprootKeyNoScript(k.PubKey()))
	if err != nil {
		b.t.Fatal(err)
	}
	return pk
}

func (b *buyer) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

// challenge makes a challenge; the nonce is the offer's.
func (b *buyer) challenge(tip uint32, on *bitcoin.ChannelState) mpp.Challenge {
	request, err := bitcoin.Request{
		Amount: 1000, Recipient: "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", UnitType: bitcoin.UnitByte,
		Description: "f.bin, 3 chunks of 1 MB", SuggestedDeposit: capacity,
		MethodDetails: bitcoin.MethodDetails{
			Version: bitcoin.Version, Network: "regtest", ChannelTypes: []string{bitcoin.Taproot, bitcoin.Multisig}, TxVersion: 3,
			PayeePubKey: pub(b.payee), TipHeight: tip, ExpiryHeight: 1258, MarginBlocks: 36, MinDeposit: 3330, MaxDeposit: bitcoin.MaxSat,
			MinConfirmations: 1, UnitsPerAmount: 1_000_000, CreditMsat: 1_000_000, MinimumCharge: 535, Channel: on,
		},
	}.Encode()
	b.must(err)
	opaque, err := bitcoin.Opaque{Nonce: [16]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}}.Encode()
	b.must(err)
	return mpp.NewChallenge(b.secret, mpp.Challenge{
		Realm: "data.example", Method: bitcoin.Method, Intent: bitcoin.Intent, Request: request, Opaque: opaque,
		Expires: mpp.FormatTime(b.at.Add(10 * time.Minute)),
	})
}

// fund builds T1 over a coin of the payer's wallet.
func (b *buyer) fund() {
	coin, _ := btcec.PrivKeyFromBytes(bytes.Repeat([]byte{0x55}, 32))
	prev := &wire.TxOut{Value: 100_000, PkScript: p2tr(b, coin)}
	output, err := script.OutputScript(script.Taproot, pub(b.payer), pub(b.payee), 1258)
	b.must(err)
	tx := wire.NewMsgTx(3)
	from := wire.OutPoint{Hash: chainhash.HashH([]byte("a coin")), Index: 7}
	tx.AddTxIn(&wire.TxIn{PreviousOutPoint: from, Sequence: 0xfffffffd})
	tx.AddTxOut(wire.NewTxOut(capacity, output))
	tx.AddTxOut(wire.NewTxOut(prev.Value-capacity-154, b.rest))
	fetcher := txscript.NewCannedPrevOutputFetcher(prev.PkScript, prev.Value)
	sig, err := txscript.RawTxInTaprootSignature(tx, txscript.NewTxSigHashes(tx, fetcher), 0, prev.Value, prev.PkScript, nil,
		txscript.SigHashDefault, coin)
	b.must(err)
	tx.TxIn[0].Witness = wire.TxWitness{sig}
	b.must(script.Execute(tx, map[wire.OutPoint]*wire.TxOut{from: prev}))
	b.funding, b.id = tx, wire.OutPoint{Hash: tx.TxHash()}.String()
	b.channel, err = script.New(script.Funding{
		Construction: script.Taproot, PayerKey: pub(b.payer), PayeeKey: pub(b.payee), Expiry: 1258, TxVersion: 3,
		Outpoint: wire.OutPoint{Hash: tx.TxHash()}, Capacity: capacity, RestScript: b.rest,
	})
	b.must(err)
}

func (b *buyer) half(amount uint64) []byte {
	sig, err := b.channel.SignHalf(b.payer, capacity-int64(amount))
	b.must(err)
	return sig
}

func (b *buyer) raw(tx *wire.MsgTx) []byte {
	var buf bytes.Buffer
	b.must(tx.Serialize(&buf))
	return buf.Bytes()
}

// ask sends a payload; the answer is added by the caller.
func (b *buyer) ask(request string, p bitcoin.Payload) *exchange {
	b.at = b.at.Add(secondsPerStep * time.Second)
	key := "purchase-" + string(rune('a'+len(b.out.Exchanges)))
	sealed, err := bitcoin.Seal(p, b.mac, b.present.ID, key)
	b.must(err)
	c := mpp.Credential{Challenge: b.present, Payload: sealed}
	b.out.Exchanges = append(b.out.Exchanges, exchange{
		Request: request, IdempotencyKey: key, Authorization: c.Encode(), Payload: sealed,
	})
	return &b.out.Exchanges[len(b.out.Exchanges)-1]
}

func (b *buyer) receipt(e *exchange, status int, paid, charged uint64, units uint64) {
	value, err := bitcoin.Receipt{
		Timestamp: b.at, ChallengeID: b.present.ID, ChannelID: b.id, AcceptedCumulative: paid,
		ChargedMsat: charged, RequiredCumulative: max(paid, charged/1000), Units: units,
	}.Encode()
	b.must(err)
	e.Status, e.Receipt = status, value
}

func (b *buyer) voucher(amount uint64) bitcoin.Voucher {
	return bitcoin.Voucher{ChannelID: b.id, CumulativeAmount: amount, Signature: b.half(amount)}
}

// run plays the purchase as the protocol's example tells it.
func (b *buyer) run() purchase {
	b.offer = b.challenge(250, nil)
	b.present = b.offer
	b.out.Exchanges = append(b.out.Exchanges, exchange{
		Request: "GET /f.bin?slice=0-999999", Status: 402, Challenge: b.offer.String(),
		Body: mpp.NewProblem(mpp.ProblemPaymentRequired, "f.bin costs 3000 sat, 1000 sat for each of 3 chunks").With("challengeId", b.offer.ID),
	})
	b.fund()
	open := b.ask("POST /f.bin", bitcoin.Open{
		Offer: b.offer, ChannelType: bitcoin.Taproot, PayerPubKey: pub(b.payer), ChannelID: b.id, Capacity: capacity,
		RestScript: b.rest, Signature: b.half(0), FundingTx: b.raw(b.funding),
	})
	b.receipt(open, 200, 0, 0, 0)
	open.Body = bitcoin.OpenAnswer{Phase: "funding", Confirmations: 1}
	early := b.ask("GET /f.bin?slice=0-999999", b.voucher(0))
	b.present = b.challenge(250, &bitcoin.ChannelState{ChannelID: b.id})
	early.Status, early.Challenge = 402, b.present.String()
	early.Body = mpp.NewProblem(mpp.ProblemChannelUnconfirmed, "the funding transaction has 0 of 1 confirmations")
	for i, slice := range []string{"0-999999", "1000000-1999999", "2000000-2999999"} {
		n := uint64(i)
		b.receipt(b.ask("GET /f.bin?slice="+slice, b.voucher(1000*n)), 200, 1000*n, 1_000_000*(n+1), 1_000_000)
	}
	b.receipt(b.ask("HEAD /f.bin", b.voucher(3000)), 204, 3000, 3_000_000, 0)
	b.close()
	return b.out
}

// nonce makes a nonce from a fixed source: fit for a vector and nothing else.
func (b *buyer) nonce(key *btcec.PrivateKey, seed byte) *script.Nonce {
	n, err := script.NewNonce(bytes.NewReader(bytes.Repeat([]byte{seed}, 32)), key)
	b.must(err)
	return n
}

func (b *buyer) close() {
	payer, payee := b.nonce(b.payer, 0x66), b.nonce(b.payee, 0x77)
	fee := script.FeeRate(feeRate).Fee(b.channel.CloseVSize(3000, b.payout))
	tx, err := b.channel.CloseTx(3000, b.payout, fee)
	b.must(err)
	first := b.ask("POST /f.bin", bitcoin.Close{
		ChannelID: b.id, CumulativeAmount: 3000, Signature: b.half(3000), PayerNonce: payer.Public[:],
	})
	b.receipt(first, 200, 3000, 3_000_000, 0)
	theirs, err := b.channel.PartialSign(tx, b.payee, payee, payer.Public)
	b.must(err)
	first.Body = bitcoin.CloseAnswer{Tx: b.raw(tx), PayeeNonce: payee.Public[:], PayeePartial: theirs}
	ours, err := b.channel.PartialSign(tx, b.payer, payer, payee.Public)
	b.must(err)
	done, err := b.channel.CombineClose(tx, ours, theirs, [2][66]byte{payer.Public, payee.Public})
	b.must(err)
	b.receipt(b.ask("POST /f.bin", bitcoin.Close{ChannelID: b.id, FinalTx: b.raw(done)}), 200, 3000, 3_000_000, 0)
}

// TestPurchaseTranscript: a purchase made anew is the frozen one, byte for byte.
func TestPurchaseTranscript(t *testing.T) {
	raw, err := json.MarshalIndent(newBuyer(t).run(), "", " ")
	if err != nil {
		t.Fatal(err)
	}
	raw = append(raw, '\n')
	if *update {
		if err := os.WriteFile(purchaseFile, raw, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(purchaseFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(raw, want) {
		t.Errorf("the purchase is no longer what %s has", purchaseFile)
	}
}

// TestPurchaseAsThePayeeSeesIt reads the frozen purchase knowing only the
// payee's secrets: every challenge is its own, every payload is the payer's,
// every half-signature holds.
func TestPurchaseAsThePayeeSeesIt(t *testing.T) {
	raw, err := os.ReadFile(purchaseFile)
	if err != nil {
		t.Fatal(err)
	}
	var p purchase
	if err := json.Unmarshal(raw, &p); err != nil {
		t.Fatal(err)
	}
	b := newBuyer(t)
	b.fund()
	key, err := bitcoin.MACKey(b.payee, pub(b.payer))
	b.must(err)
	actions := ""
	for i, e := range p.Exchanges {
		if e.Authorization == "" {
			continue
		}
		if n := len(e.Authorization); n > 8<<10 {
			t.Errorf("%d: the credential has %d bytes", i, n)
		}
		c, err := mpp.ParseCredential([]string{e.Authorization})
		b.must(err)
		b.must(c.Challenge.Verify(b.secret))
		payload, err := bitcoin.ParsePayload(c.Payload)
		b.must(err)
		b.must(bitcoin.Authenticate(payload, key, c.Challenge.ID, e.IdempotencyKey))
		actions += payload.Action() + " " + payload.Cumulative() + "; "
		switch payload := payload.(type) {
		case bitcoin.Open:
			b.must(payload.Offer.Verify(b.secret))
			b.must(b.channel.VerifyHalf(capacity-int64(payload.CumulativeAmount), payload.Signature))
			if !bytes.Equal(payload.FundingTx, b.raw(b.funding)) {
				t.Error("another funding transaction")
			}
		case bitcoin.Voucher:
			b.must(b.channel.VerifyHalf(capacity-int64(payload.CumulativeAmount), payload.Signature))
		case bitcoin.Close:
			if len(payload.FinalTx) == 0 {
				b.must(b.channel.VerifyHalf(capacity-int64(payload.CumulativeAmount), payload.Signature))
				break
			}
			tx := wire.NewMsgTx(0)
			b.must(tx.Deserialize(bytes.NewReader(payload.FinalTx)))
			b.must(script.Execute(tx, map[wire.OutPoint]*wire.TxOut{tx.TxIn[0].PreviousOutPoint: b.channel.Prevout()}))
		}
	}
	if want := "open 0; voucher 0; voucher 0; voucher 1000; voucher 2000; voucher 3000; close 3000; close ; "; actions != want {
		t.Errorf("got  %s\nwant %s", actions, want)
	}
	if p.MACKey != hex.EncodeToString(key[:]) {
		t.Error("another MAC key")
	}
}

// TestPurchaseAsThePayerSeesIt reads the challenges and receipts.
func TestPurchaseAsThePayerSeesIt(t *testing.T) {
	raw, err := os.ReadFile(purchaseFile)
	if err != nil {
		t.Fatal(err)
	}
	var p purchase
	if err := json.Unmarshal(raw, &p); err != nil {
		t.Fatal(err)
	}
	required, challenges := []uint64{}, 0
	for i, e := range p.Exchanges {
		if (e.Status == 402) != (e.Challenge != "") || (e.Status/100 == 2) != (e.Receipt != "") {
			t.Errorf("%d: status %d with challenge %t and receipt %t", i, e.Status, e.Challenge != "", e.Receipt != "")
		}
		if e.Challenge != "" {
			challenges++
			list, err := mpp.ParseChallenges([]string{e.Challenge})
			if err != nil || len(e.Challenge) > mpp.TargetChallenge {
				t.Fatal(len(e.Challenge), err)
			}
			r, err := bitcoin.ParseRequest(list[0].Request)
			if err != nil || (r.MethodDetails.Channel != nil) != (challenges == 2) {
				t.Errorf("%d: %+v, %v", i, r, err)
			}
		}
		if e.Receipt != "" {
			r, err := bitcoin.ParseReceipt([]string{e.Receipt})
			if err != nil {
				t.Fatal(err)
			}
			required = append(required, r.RequiredCumulative)
		}
	}
	if got, want := required, []uint64{0, 1000, 2000, 3000, 3000, 3000, 3000}; !slices.Equal(got, want) || challenges != 2 {
		t.Errorf("required %v, %d challenges", got, challenges)
	}
}
