package script_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/script"
)

// update writes the vectors anew instead of checking them. They are frozen: a
// difference means that two versions would not understand each other.
var update = flag.Bool("update", false, "write docs/vectors anew")

var vectorDir = filepath.Join("..", "docs", "vectors")

// The vectors of one construction. Byte strings are hex in the order of the
// wire, txids in the order in which people write them, amounts in satoshi, fee
// rates in satoshi per 1000 vB.
type vectorFile struct {
	Comment  string          `json:"comment"`
	Channels []channelVector `json:"channels,omitempty"`
	Batches  []batchVector   `json:"batches,omitempty"`
}

// channelVector has inputs first, then what follows from them.
type channelVector struct {
	Name         string              `json:"name"`
	Construction script.Construction `json:"construction"`
	PayerSecret  string              `json:"payerPrivateKey"`
	PayeeSecret  string              `json:"payeePrivateKey"`
	Expiry       uint32              `json:"expiry"`
	TxVersion    int32               `json:"txVersion"`
	Txid         string              `json:"fundingTxid"`
	Index        uint32              `json:"fundingIndex"`
	Capacity     int64               `json:"capacity"`
	RestScript   string              `json:"restScript"`

	PayerKey     string             `json:"payerKey"`
	PayeeKey     string             `json:"payeeKey"`
	Scripts      scriptsVector      `json:"scripts"`
	OutputScript string             `json:"outputScript"`
	Settlements  []settlementVector `json:"settlements"`
	Refund       refundVector       `json:"refund"`
	Closes       []closeVector      `json:"closes,omitempty"`
}

// scriptsVector is what the output script is made of.
type scriptsVector struct {
	InternalKey  string `json:"internalKey,omitempty"` // x-only, of both keys
	LeafU        string `json:"leafU,omitempty"`
	LeafR        string `json:"leafR,omitempty"`
	RedeemScript string `json:"redeemScript,omitempty"`
}

type settlementVector struct {
	Rest    int64  `json:"rest"`
	Payout  string `json:"payoutScript"`
	FeeRate int64  `json:"feeRate"`

	Sighash string   `json:"halfSighash"`
	HalfSig string   `json:"halfSignature"`
	Result  txVector `json:"settlement"`
}

type refundVector struct {
	Payout  string `json:"payoutScript"`
	FeeRate int64  `json:"feeRate"`

	PayeeSig string   `json:"payeeSignature,omitempty"`
	Result   txVector `json:"refund"`
}

type closeVector struct {
	Share       int64  `json:"payeeShare"`
	Payout      string `json:"payeeScript"`
	Fee         int64  `json:"askedFee"`
	PayerRandom string `json:"payerRandom"` // 32 bytes that the payer's nonce is drawn from
	PayeeRandom string `json:"payeeRandom"`

	PayerNonce   string   `json:"payerNonce"`
	PayeeNonce   string   `json:"payeeNonce"`
	PayerPartial string   `json:"payerPartial"`
	PayeePartial string   `json:"payeePartial"`
	Result       txVector `json:"close"`
}

type batchVector struct {
	Name    string   `json:"name"`
	Claims  []claim  `json:"claims"`
	Payout  string   `json:"payoutScript"`
	FeeRate int64    `json:"feeRate"`
	Result  txVector `json:"settlement"`
}

// claim names a channel of the other files, and a rest.
type claim struct {
	Channel string `json:"channel"`
	Rest    int64  `json:"rest"`
}

type txVector struct {
	Raw    string `json:"raw"`
	Txid   string `json:"txid"`
	Fee    int64  `json:"fee"`
	Weight int64  `json:"weight"`
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// party rebuilds a vector's channel from its inputs.
func (v channelVector) party(t testing.TB) party {
	t.Helper()
	payer, _ := btcec.PrivKeyFromBytes(unhex(t, v.PayerSecret))
	payee, _ := btcec.PrivKeyFromBytes(unhex(t, v.PayeeSecret))
	txid, err := chainhash.NewHashFromStr(v.Txid)
	if err != nil {
		t.Fatal(err)
	}
	ch, err := script.New(script.Funding{
		Construction: v.Construction, PayerKey: pub(payer), PayeeKey: pub(payee), Expiry: v.Expiry, TxVersion: v.TxVersion,
		Outpoint: wire.OutPoint{Hash: *txid, Index: v.Index}, Capacity: v.Capacity, RestScript: unhex(t, v.RestScript),
	})
	if err != nil {
		t.Fatalf("%s: %v", v.Name, err)
	}
	return party{ch, payer, payee}
}

// describe checks a transaction in the engine and writes it down.
func describe(t testing.TB, tx *wire.MsgTx, fee int64, channels ...party) txVector {
	t.Helper()
	if err := script.Execute(tx, prevouts(channels...)); err != nil {
		t.Fatal(err)
	}
	in := int64(0)
	for _, c := range channels {
		in += c.Capacity
	}
	if in != paid(tx)+fee {
		t.Fatalf("%d sat in, %d out, a fee of %d", in, paid(tx), fee)
	}
	return txVector{hex.EncodeToString(rawTx(t, tx)), tx.TxHash().String(), fee, script.Weight(tx)}
}

// follow computes everything that follows from a vector's inputs.
func (v channelVector) follow(t testing.TB) channelVector {
	t.Helper()
	p := v.party(t)
	v.PayerKey, v.PayeeKey = hex.EncodeToString(p.PayerKey[:]), hex.EncodeToString(p.PayeeKey[:])
	v.OutputScript = hex.EncodeToString(p.OutputScript())
	settlements, closes := v.Settlements, v.Closes
	v.Settlements, v.Closes = nil, nil
	for _, s := range settlements {
		digest, err := p.HalfSighash(s.Rest)
		if err != nil {
			t.Fatal(err)
		}
		s.Sighash, s.HalfSig = hex.EncodeToString(digest), hex.EncodeToString(p.half(t, s.Rest))
		tx, fee, err := script.Settle([]script.Claim{p.claim(t, s.Rest)}, unhex(t, s.Payout), script.FeeRate(s.FeeRate))
		if err != nil {
			t.Fatal(err)
		}
		s.Result = describe(t, tx, fee, p)
		v.Settlements = append(v.Settlements, s)
	}
	sig := p.refundSig(t)
	tx, fee, err := p.Refund(p.payer, sig, unhex(t, v.Refund.Payout), script.FeeRate(v.Refund.FeeRate))
	if err != nil {
		t.Fatal(err)
	}
	v.Scripts = scripts(t, v.Construction, settle(t, 1000, p.claim(t, 0)).TxIn[0], tx.TxIn[0])
	v.Refund.PayeeSig, v.Refund.Result = hex.EncodeToString(sig), describe(t, tx, fee, p)
	for _, c := range closes {
		v.Closes = append(v.Closes, c.follow(t, p))
	}
	return v
}

// scripts takes a construction's scripts out of a settlement and a refund.
func scripts(t testing.TB, kind script.Construction, settlement, refund *wire.TxIn) scriptsVector {
	t.Helper()
	switch kind {
	case script.Taproot:
		w := settlement.Witness
		return scriptsVector{
			InternalKey: hex.EncodeToString(w[3][1:33]), LeafU: hex.EncodeToString(w[2]), LeafR: hex.EncodeToString(refund.Witness[1]),
		}
	case script.Multisig:
		return scriptsVector{RedeemScript: hex.EncodeToString(settlement.Witness[3])}
	default:
		return scriptsVector{RedeemScript: hex.EncodeToString(lastPush(t, settlement.SignatureScript))}
	}
}

func (c closeVector) follow(t testing.TB, p party) closeVector {
	t.Helper()
	tx, err := p.CloseTx(c.Share, unhex(t, c.Payout), c.Fee)
	if err != nil {
		t.Fatal(err)
	}
	draw := func(random string, key *btcec.PrivateKey) *script.Nonce {
		n, err := script.NewNonce(bytes.NewReader(unhex(t, random)), key)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	sign := func(key *btcec.PrivateKey, own, other *script.Nonce) []byte {
		part, err := p.PartialSign(tx, key, own, other.Public)
		if err != nil {
			t.Fatal(err)
		}
		return part
	}
	a, b := draw(c.PayerRandom, p.payer), draw(c.PayeeRandom, p.payee)
	first, second := sign(p.payer, a, b), sign(p.payee, b, a)
	done, err := p.CombineClose(tx, first, second, [2][66]byte{a.Public, b.Public})
	if err != nil {
		t.Fatal(err)
	}
	c.PayerNonce, c.PayeeNonce = hex.EncodeToString(a.Public[:]), hex.EncodeToString(b.Public[:])
	c.PayerPartial, c.PayeePartial = hex.EncodeToString(first), hex.EncodeToString(second)
	c.Result = describe(t, done, p.Capacity-paid(done), p)
	return c
}

func (b batchVector) follow(t testing.TB, channels map[string]party) batchVector {
	t.Helper()
	var claims []script.Claim
	var parties []party
	for _, c := range b.Claims {
		p, ok := channels[c.Channel]
		if !ok {
			t.Fatalf("%s: no channel %q", b.Name, c.Channel)
		}
		claims, parties = append(claims, p.claim(t, c.Rest)), append(parties, p)
	}
	tx, fee, err := script.Settle(claims, unhex(t, b.Payout), script.FeeRate(b.FeeRate))
	if err != nil {
		t.Fatalf("%s: %v", b.Name, err)
	}
	b.Result = describe(t, tx, fee, parties...)
	return b
}

// vectorInputs are the inputs of a construction's vectors: both versions, each
// kind of rest script, and expiries whose script number needs a sign byte.
func vectorInputs(t testing.TB, kind script.Construction) vectorFile {
	t.Helper()
	secret := func(name string) string { return hex.EncodeToString(testKey(name).Serialize()) }
	random := func(name string) string {
		sum := sha256.Sum256([]byte(name))
		return hex.EncodeToString(sum[:])
	}
	payout := hex.EncodeToString(p2tr("payout"))
	file := vectorFile{Comment: "Channels of the construction " + string(kind) + ". docs/protocol.md, sections 3 and 4."}
	for i, x := range []struct {
		expiry  uint32
		version int32
		rest    []byte
		dust    int64
	}{{900_000, 3, p2tr("rest"), 330}, {0x8000, 2, p2wpkh("rest"), 294}, {0x80, 3, p2wsh("rest"), 330}, {16, 2, p2tr("rest"), 330}} {
		name := string(kind) + " " + string(rune('a'+i))
		v := channelVector{
			Name: name, Construction: kind, PayerSecret: secret(name + " payer"), PayeeSecret: secret(name + " payee"),
			Expiry: x.expiry, TxVersion: x.version, Txid: random(name + " T1"), Index: uint32(i), Capacity: 1_000_000 + int64(i),
			RestScript: hex.EncodeToString(x.rest),
			Refund:     refundVector{Payout: hex.EncodeToString(p2wpkh("refund")), FeeRate: 3000},
		}
		for _, rest := range []int64{600_000, x.dust, 0} {
			v.Settlements = append(v.Settlements, settlementVector{Rest: rest, Payout: payout, FeeRate: 1000})
		}
		if kind == script.Taproot {
			for _, share := range []int64{400_000, 200, v.Capacity} {
				at := random(name + " close " + string(rune('0'+len(v.Closes))))
				v.Closes = append(v.Closes, closeVector{
					Share: share, Payout: payout, Fee: 308, PayerRandom: at, PayeeRandom: random(at),
				})
			}
		}
		file.Channels = append(file.Channels, v)
	}
	return file
}

// batchInputs are settlements of channels of all constructions together.
func batchInputs() vectorFile {
	payout := hex.EncodeToString(p2tr("payout"))
	return vectorFile{
		Comment: "Settlements of channels of the other files. docs/protocol.md, section 4.2.",
		Batches: []batchVector{
			{Name: "one version 3 channel of each construction, the P2SH rest first", Payout: payout, FeeRate: 5000, Claims: []claim{
				{"taproot a", 600_000}, {"multisig a", 330}, {"multisig-p2sh a", 500_000},
			}},
			{Name: "version 2, rests of zero last", Payout: payout, FeeRate: 1000, Claims: []claim{
				{"taproot b", 0}, {"multisig-p2sh b", 0}, {"multisig b", 999_000}, {"taproot d", 294_000}, {"multisig-p2sh d", 0},
			}},
		},
	}
}

// strip is a vector's inputs alone, so that nothing is compared with itself.
func (v channelVector) strip() channelVector {
	v.PayerKey, v.PayeeKey, v.OutputScript, v.Scripts = "", "", "", scriptsVector{}
	v.Refund.PayeeSig, v.Refund.Result = "", txVector{}
	settlements, closes := v.Settlements, v.Closes
	v.Settlements, v.Closes = nil, nil
	for _, s := range settlements {
		v.Settlements = append(v.Settlements, settlementVector{Rest: s.Rest, Payout: s.Payout, FeeRate: s.FeeRate})
	}
	for _, c := range closes {
		v.Closes = append(v.Closes, closeVector{
			Share: c.Share, Payout: c.Payout, Fee: c.Fee, PayerRandom: c.PayerRandom, PayeeRandom: c.PayeeRandom,
		})
	}
	return v
}

func readVectors(t testing.TB, name string) (file vectorFile) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(vectorDir, name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&file); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return file
}

func writeVectors(t testing.TB, name string, file vectorFile) {
	t.Helper()
	raw, err := json.MarshalIndent(file, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(vectorDir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(vectorDir, name+".json"), append(raw, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}

// vectorChannels computes a construction's vectors from the inputs on file.
func vectorChannels(t *testing.T, kind script.Construction) (channels map[string]party) {
	t.Helper()
	if *update {
		file := vectorInputs(t, kind)
		for i, v := range file.Channels {
			file.Channels[i] = v.follow(t)
		}
		writeVectors(t, string(kind), file)
	}
	file := readVectors(t, string(kind))
	if len(file.Channels) < 4 {
		t.Fatalf("%d channels on file", len(file.Channels))
	}
	channels = map[string]party{}
	for _, want := range file.Channels {
		if got := want.strip().follow(t); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: the vector on file is\n%+v\nbut this code makes\n%+v", want.Name, want, got)
		}
		channels[want.Name] = want.party(t)
	}
	return channels
}

// TestVectors freezes what goes on the chain and over the wire. Run it with
// -update to write new vectors beside a new version of the protocol.
func TestVectors(t *testing.T) {
	channels := map[string]party{}
	for _, kind := range constructions {
		for name, p := range vectorChannels(t, kind) {
			channels[name] = p
		}
	}
	if *update {
		file := batchInputs()
		for i, b := range file.Batches {
			file.Batches[i] = b.follow(t, channels)
		}
		writeVectors(t, "batch", file)
	}
	file := readVectors(t, "batch")
	if len(file.Batches) < 2 {
		t.Fatalf("%d batches on file", len(file.Batches))
	}
	for _, want := range file.Batches {
		stripped := want
		stripped.Result = txVector{}
		if got := stripped.follow(t, channels); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: the vector on file is\n%+v\nbut this code makes\n%+v", want.Name, want, got)
		}
	}
}
