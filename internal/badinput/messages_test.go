package badinput_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"flag"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/btcsuite/btcd/btcec/v2"

	"github.com/spillway/spillway/content"
	"github.com/spillway/spillway/internal/badinput"
	"github.com/spillway/spillway/internal/pairtest"
	"github.com/spillway/spillway/mpp"
	"github.com/spillway/spillway/mpp/bitcoin"
	"github.com/spillway/spillway/payer"
	"github.com/spillway/spillway/script"
)

var update = flag.Bool("update", false, "write the catalogues in testdata")

// message is a message of the protocol: a good one, how it is read, and what it may be
// refused with.
type message struct {
	name  string
	good  []byte
	cases []badinput.Case // nil: those of JSON
	read  func([]byte) error
	known []badinput.Named
}

var secret = []byte("secret")

const id = "f1f2f3f4f5f6f7f8f9fafbfcfdfeff000102030405060708090a0b0c0d0e0f10:1"

func public(n byte) [33]byte {
	key, _ := btcec.PrivKeyFromBytes([]byte{31: n})
	return [33]byte(key.PubKey().SerializeCompressed())
}

var (
	mppErrors = []badinput.Named{
		{"mpp.ErrNoChallenge", mpp.ErrNoChallenge}, {"mpp.ErrNoCredential", mpp.ErrNoCredential}, {"mpp.ErrTooLarge", mpp.ErrTooLarge}, {"mpp.ErrRepeated", mpp.ErrRepeated},
		{"mpp.ErrChallengeSyntax", mpp.ErrChallengeSyntax}, {"mpp.ErrMalformed", mpp.ErrMalformed}, {"mpp.ErrInvalidChallenge", mpp.ErrInvalidChallenge}, {"mpp.ErrJSON", mpp.ErrJSON}, {"mpp.ErrBase64", mpp.ErrBase64},
		{"mpp.ErrAccept", mpp.ErrAccept}, {"mpp.ErrIdempotencyKey", mpp.ErrIdempotencyKey},
	}
	bitcoinErrors = []badinput.Named{
		{"bitcoin.ErrTopUp", bitcoin.ErrTopUp}, {"bitcoin.ErrAction", bitcoin.ErrAction}, {"bitcoin.ErrRequest", bitcoin.ErrRequest}, {"bitcoin.ErrPayload", bitcoin.ErrPayload},
		{"bitcoin.ErrAnswer", bitcoin.ErrAnswer}, {"bitcoin.ErrReceipt", bitcoin.ErrReceipt}, {"bitcoin.ErrOpaque", bitcoin.ErrOpaque},
	}
	contentErrors = []badinput.Named{
		{"content.ErrManifestVersion", content.ErrManifestVersion}, {"content.ErrManifestSignature", content.ErrManifestSignature}, {"content.ErrManifest", content.ErrManifest}, {"content.ErrName", content.ErrName}, {"content.ErrPriceList", content.ErrPriceList},
		{"content.ErrUnit", content.ErrUnit}, {"content.ErrPrecision", content.ErrPrecision}, {"content.ErrTooLarge", content.ErrTooLarge}, {"content.ErrZero", content.ErrZero}, {"content.ErrSyntax", content.ErrSyntax},
	}
	exportErrors = []badinput.Named{
		{"payer.ErrExportNewer", payer.ErrExportNewer}, {"payer.ErrExportContent", payer.ErrExportContent}, {"payer.ErrExport", payer.ErrExport},
	}
)

func request() bitcoin.Request {
	return bitcoin.Request{
		Amount: 1000, Recipient: strings.Repeat("d7", 32), UnitType: bitcoin.UnitByte, Description: "f.bin", SuggestedDeposit: 4000,
		MethodDetails: bitcoin.MethodDetails{
			Version: 1, Network: "regtest", ChannelTypes: []string{bitcoin.Taproot, bitcoin.Duplex}, TxVersion: 3, PayeePubKey: public(3),
			TipHeight: 250, ExpiryHeight: 1258, MarginBlocks: 36, MinDeposit: 1872, MaxDeposit: bitcoin.MaxSat,
			MinConfirmations: 1, UnitsPerAmount: 1_000_000, CreditMsat: 1_000_000, MinimumCharge: 535, RequiredCumulative: 1000,
			StepBlocks: 36, PayeeRestScript: restScript, Mode: bitcoin.ModeReversal, Root: strings.Repeat("ab", 32),
		},
	}
}

var restScript = append([]byte{0x51, 0x20}, bytes.Repeat([]byte{7}, 32)...)

// payloads has one of every action and form.
func payloads(t *testing.T) map[string]bitcoin.Payload {
	t.Helper()
	encoded, err := request().Encode()
	must(t, err)
	offer := mpp.NewChallenge(secret, mpp.Challenge{Realm: "r", Method: bitcoin.Method, Intent: bitcoin.Intent, Request: encoded, Expires: "2026-01-02T03:04:05Z"})
	sig := bytes.Repeat([]byte{1}, 65)
	return map[string]bitcoin.Payload{
		"prepare":              bitcoin.Prepare{ChannelType: bitcoin.Multisig, PayerPubKey: public(5), ChannelID: id, Capacity: 4000, RestScript: restScript, RefundTx: bytes.Repeat([]byte{2}, 94)},
		"open":                 bitcoin.Open{Offer: offer, ChannelType: bitcoin.Taproot, PayerPubKey: public(5), ChannelID: id, Capacity: 4000, RestScript: restScript, CumulativeAmount: 7, Signature: sig, FundingTx: bytes.Repeat([]byte{2}, 200)},
		"voucher":              bitcoin.Voucher{ChannelID: id, CumulativeAmount: 1000, Signature: sig},
		"voucher, duplex":      bitcoin.Voucher{ChannelID: id, CumulativeAmount: 1000, Signature: sig, Epoch: 3, LockHeight: 1222},
		"voucher of the payee": bitcoin.Voucher{ChannelID: id, CumulativeAmount: 1000, Signature: sig, Epoch: 2, LockHeight: 1258, FromPayee: true},
		"resume":               bitcoin.Resume{ChannelID: id},
		"resume, duplex":       bitcoin.Resume{ChannelID: id, Epoch: 2, LockHeight: 1258, ChargedMsat: 7000},
		"close":                bitcoin.Close{ChannelID: id, CumulativeAmount: 3000, Signature: sig, PayerNonce: bytes.Repeat([]byte{2}, 66)},
		"close, duplex":        bitcoin.Close{ChannelID: id, CumulativeAmount: 3000, Signature: sig, PayerNonce: bytes.Repeat([]byte{2}, 66), Epoch: 1, LockHeight: 1294, ChargedMsat: 2_999_500},
		"close, final":         bitcoin.Close{ChannelID: id, FinalTx: bytes.Repeat([]byte{2}, 120)},
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wireMessages are the challenge, the credential, the payloads and the answers.
func wireMessages(t *testing.T) (list []message) {
	add := func(name string, good []byte, err error, read func([]byte) error, known []badinput.Named) {
		t.Helper()
		must(t, err)
		list = append(list, message{name: name, good: good, read: read, known: known})
	}
	encoded, err := request().Encode()
	must(t, err)
	opaque, err := bitcoin.Opaque{Nonce: [16]byte{1}}.Encode()
	must(t, err)
	c := mpp.NewChallenge(secret, mpp.Challenge{Realm: "r", Method: bitcoin.Method, Intent: bitcoin.Intent, Request: encoded, Opaque: opaque, Expires: "2026-01-02T03:04:05Z", Description: "f.bin"})
	list = append(list, message{
		name: "challenge", good: []byte(c.String()), known: mppErrors,
		cases: badinput.Header("challenge", "Payment", [][2]string{{"id", c.ID}, {"realm", c.Realm}, {"method", c.Method}, {"intent", c.Intent}, {"request", c.Request}, {"expires", c.Expires}, {"opaque", c.Opaque}}),
		read:  func(raw []byte) error { _, err := mpp.ParseChallenges([]string{string(raw)}); return err },
	})
	raw, err := json.Marshal(request())
	add("request", raw, err, func(raw []byte) error { return new(bitcoin.Request).UnmarshalJSON(raw) }, bitcoinErrors)
	add("opaque", []byte(`{"nonce":"`+strings.Repeat("01", 16)+`"}`), nil, func(raw []byte) error {
		_, err := bitcoin.ParseOpaque(mpp.EncodeBase64(raw))
		return err
	}, bitcoinErrors)
	for name, p := range payloads(t) {
		raw, err := bitcoin.Seal(p, [32]byte{1}, "id", "")
		add(name, raw, err, readPayload, append(bitcoinErrors, mppErrors...))
	}
	voucher, err := bitcoin.Seal(payloads(t)["voucher"], [32]byte{1}, "id", "")
	must(t, err)
	cred, err := json.Marshal(map[string]any{"challenge": c, "payload": voucher, "source": "did:key:x"})
	add("credential", cred, err, func(raw []byte) error {
		c, err := mpp.ParseCredential([]string{"Payment " + mpp.EncodeBase64(raw)})
		if err == nil {
			err = c.Challenge.Verify(secret)
		}
		if err == nil {
			err = readPayload(c.Payload)
		}
		return err
	}, append(mppErrors, bitcoinErrors...))
	return append(list, answers(t)...)
}

// readPayload reads a payload; the offer that an opening carries must be the server's
// own, as it was.
func readPayload(raw []byte) error {
	p, err := bitcoin.ParsePayload(raw)
	if open, ok := p.(bitcoin.Open); ok && err == nil {
		err = open.Offer.Verify(secret)
	}
	return err
}

// answers are what a payee sends, problems and manifests included.
func answers(t *testing.T) (list []message) {
	sig := bytes.Repeat([]byte{1}, 65)
	add := func(name string, v any, into func() json.Unmarshaler, known []badinput.Named) {
		t.Helper()
		raw, err := json.Marshal(v)
		must(t, err)
		list = append(list, message{name: name, good: raw, read: func(raw []byte) error { return into().UnmarshalJSON(raw) }, known: known})
	}
	newest := &bitcoin.Update{CumulativeAmount: 4, Signature: sig, Epoch: 2, LockHeight: 8}
	add("answer to prepare", bitcoin.PrepareAnswer{RefundSignature: sig}, func() json.Unmarshaler { return new(bitcoin.PrepareAnswer) }, bitcoinErrors)
	add("answer to open", bitcoin.OpenAnswer{Phase: "funding", Confirmations: 1}, func() json.Unmarshaler { return new(bitcoin.OpenAnswer) }, bitcoinErrors)
	add("answer to resume", bitcoin.ResumeAnswer{ChannelID: id, Phase: "open", CumulativeAmount: 3, Signature: sig, ChargedMsat: 3000, Epoch: 1, LockHeight: 9, BackMsat: 5, Update: newest},
		func() json.Unmarshaler { return new(bitcoin.ResumeAnswer) }, bitcoinErrors)
	add("answer to close", bitcoin.CloseAnswer{Tx: bytes.Repeat([]byte{2}, 120), PayeeNonce: bytes.Repeat([]byte{2}, 66), PayeePartial: bytes.Repeat([]byte{2}, 32)},
		func() json.Unmarshaler { return new(bitcoin.CloseAnswer) }, bitcoinErrors)
	receipt := bitcoin.Receipt{Timestamp: time.Unix(1767323045, 0).UTC(), Reference: id, ChallengeID: "c", ChannelID: id, AcceptedCumulative: 3, ChargedMsat: 3000, RequiredCumulative: 4, Units: 1, BackMsat: 5, Update: newest}
	add("receipt", receipt, func() json.Unmarshaler { return new(bitcoin.Receipt) }, bitcoinErrors)

	problem, err := json.Marshal(mpp.NewProblem(mpp.ProblemInsufficientBalance, "x").With("requiredCumulative", "7"))
	must(t, err)
	list = append(list, message{name: "problem", good: problem, known: mppErrors, read: func(raw []byte) error { _, err := mpp.ParseProblem(raw); return err }})

	m := content.Manifest{Version: content.VersionFree, Name: "f.bin", Size: 3_000_000, ChunkBytes: 1_000_000, GroupBytes: 16 << 10, ChunkMsat: 1_000_000, LastChunkMsat: 1_000_000, FreeChunks: 1}
	must(t, m.Sign(ed25519.NewKeyFromSeed(make([]byte, 32))))
	manifest, err := json.Marshal(m)
	must(t, err)
	list = append(list, message{name: "manifest", good: manifest, known: contentErrors, read: func(raw []byte) error {
		var m content.Manifest
		if err := m.UnmarshalJSON(raw); err != nil {
			return err
		}
		return m.Verify()
	}})
	return list
}

// exports are the exports of a taproot, a multisig and a duplex channel.
func exports(t *testing.T) (list []message) {
	for _, kind := range []script.Construction{script.Taproot, script.Multisig, script.Duplex} {
		p := pairtest.New(t)
		p.Kinds = []script.Construction{kind}
		p.RestartPayee()
		e, err := p.Payer.Export(t.Context(), p.Open(kind))
		must(t, err)
		raw, err := e.Encode()
		must(t, err)
		name := fmt.Sprintf("export of a %s channel", kind)
		list = append(list, message{name: name, good: raw, read: readExport, known: exportErrors})
		inner, err := json.Marshal(e)
		must(t, err)
		cases, err := badinput.JSON(name+", with the right checksum", inner)
		must(t, err)
		for i, c := range cases {
			cases[i].Input = checksummed(c.Input)
		}
		list = append(list, message{name: name + ", with the right checksum", good: checksummed(inner), cases: cases, read: readExport, known: exportErrors})
	}
	return list
}

func readExport(raw []byte) error { _, err := payer.DecodeExport(raw); return err }

// TestMessages: every bad message is refused with a typed error, and nothing panics
// or hangs on it.
func TestMessages(t *testing.T) {
	for _, set := range []struct {
		file, title string
		list        []message
	}{
		{"testdata/messages.txt", "Messages of the protocol that are refused.", wireMessages(t)},
		{"testdata/exports.txt", "Exports of channels that are refused.", exports(t)},
		{"testdata/texts.txt", "Amounts, sizes, prices, price lists and addresses that are refused.", written()},
	} {
		catalogue := badinput.NewCatalogue(set.title)
		for _, m := range set.list {
			m.try(t, catalogue)
		}
		if catalogue.Len() < 60 {
			t.Errorf("%s: %d inputs", set.file, catalogue.Len())
		}
		catalogue.Check(t, set.file, *update)
	}
}

// try reads every bad form of a message.
func (m message) try(t *testing.T, catalogue *badinput.Catalogue) {
	t.Helper()
	if err := m.read(m.good); err != nil {
		t.Errorf("%s: the good one: %v", m.name, err)
	}
	cases, err := m.cases, error(nil)
	if cases == nil {
		cases, err = badinput.JSON(m.name, m.good)
		must(t, err)
	}
	for _, c := range cases {
		badinput.Guard(t, c.Name(), func() { err = m.read(c.Input) })
		name := badinput.Sentinel(err, m.known)
		switch {
		case err == nil && good(c.Name()):
			continue
		case err == nil:
			t.Errorf("%s: taken", c.Name())
		case good(c.Name()):
			t.Errorf("%s: it is good, and refused: %v", c.Name(), err)
		case name == "":
			t.Errorf("%s: an error that is not typed: %v", c.Name(), err)
		case len(err.Error()) > 600 || strings.ContainsAny(err.Error(), "\x00\x1b"):
			t.Errorf("%s: a message of %d bytes, or not fit for a terminal: %.100q", c.Name(), len(err.Error()), err)
		}
		catalogue.Put(t, c, name)
	}
}
