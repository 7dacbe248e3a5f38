package bitcoin

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/btcsuite/btcd/btcec/v2"
	"pgregory.net/rapid"

	"github.com/spillway/spillway/mpp"
)

const (
	testID       = "f1f2f3f4f5f6f7f8f9fafbfcfdfeff000102030405060708090a0b0c0d0e0f10:1"
	testIdentity = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
)

// privateKey is a private key made of a small number.
func privateKey(n byte) *btcec.PrivateKey {
	key, _ := btcec.PrivKeyFromBytes([]byte{31: n})
	return key
}

func publicKey(n byte) [33]byte { return [33]byte(privateKey(n).PubKey().SerializeCompressed()) }

// testRequest is the request of the vectors in mpp/testdata.
func testRequest() Request {
	return Request{
		Amount: 1000, Recipient: testIdentity, UnitType: UnitByte, Description: "f.bin, 3 chunks", SuggestedDeposit: 4000,
		MethodDetails: MethodDetails{
			Version: 1, Network: "regtest", ChannelTypes: []string{Taproot, Multisig}, TxVersion: 3, PayeePubKey: publicKey(3),
			TipHeight: 250, ExpiryHeight: 1258, MarginBlocks: 36, MinDeposit: 1872, MaxDeposit: MaxSat,
			MinConfirmations: 1, UnitsPerAmount: 1_000_000, CreditMsat: 1_000_000, MinimumCharge: 535,
		},
	}
}

// TestRequestCrosschecked: the request encodes to what another implementation
// made of the same object, byte for byte, and reads back.
func TestRequestCrosschecked(t *testing.T) {
	raw, err := os.ReadFile("../testdata/crosschecked.json")
	if err != nil {
		t.Fatal(err)
	}
	var v struct {
		Challenges []struct{ Name, Header string }
	}
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	list, err := mpp.ParseChallenges([]string{v.Challenges[0].Header})
	if err != nil {
		t.Fatal(err)
	}
	got, err := testRequest().Encode()
	if err != nil || got != list[0].Request {
		t.Errorf("%v\n got %s\nwant %s", err, got, list[0].Request)
	}
	back, err := ParseRequest(got)
	if err != nil || !reflect.DeepEqual(back, testRequest()) {
		t.Errorf("%+v, %v", back, err)
	}
}

func drawRequest(t *rapid.T) Request {
	sat := rapid.Uint64Range(0, MaxSat)
	height := rapid.Uint32Range(0, maxHeight)
	r := Request{
		Amount: max(1, sat.Draw(t, "amount")), Recipient: hex.EncodeToString(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "recipient")),
		UnitType:         rapid.SampledFrom([]string{UnitChunk, UnitByte, UnitRequest, UnitSecond, UnitEvent}).Draw(t, "unit"),
		Description:      rapid.StringN(0, 40, 200).Draw(t, "description"),
		SuggestedDeposit: sat.Draw(t, "deposit"),
	}
	d := MethodDetails{
		Version: 1, Network: rapid.SampledFrom([]string{"regtest", "signet", "testnet4", "mainnet"}).Draw(t, "network"),
		ChannelTypes: rapid.SliceOfN(rapid.SampledFrom([]string{Taproot, Multisig, MultisigP2SH, Duplex, "later"}), 1, 4).Draw(t, "types"),
		TxVersion:    rapid.Int32Range(2, 3).Draw(t, "version"), PayeePubKey: publicKey(rapid.ByteRange(1, 255).Draw(t, "key")),
		TipHeight: height.Draw(t, "tip"), ExpiryHeight: max(2, height.Draw(t, "expiry")), MarginBlocks: 1,
		MaxDeposit: max(1, sat.Draw(t, "max")), MinConfirmations: height.Draw(t, "confirmations"), ZeroConfLimit: sat.Draw(t, "zero"),
		UnitsPerAmount: rapid.Uint64Range(1, maxCount).Draw(t, "units"), CreditMsat: rapid.Uint64Range(0, MaxMsat).Draw(t, "credit"),
		MinimumCharge: sat.Draw(t, "minimum"), RequiredCumulative: sat.Draw(t, "required"),
	}
	d.MinDeposit = rapid.Uint64Range(0, d.MaxDeposit).Draw(t, "min")
	if rapid.Bool().Draw(t, "named") {
		d.Channel = &ChannelState{testID, sat.Draw(t, "accepted"), rapid.Uint64Range(0, MaxMsat).Draw(t, "charged")}
	}
	if rapid.Bool().Draw(t, "duplex") {
		d.LastUnitMsat, d.Root = 999, strings.Repeat("ab", 32)
		d.PayeeRestScript, d.StepBlocks, d.Mode = append([]byte{0x51, 0x20}, make([]byte, 32)...), 36, ModeReversal
	}
	r.MethodDetails = d
	return r
}

func TestRequestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := drawRequest(t)
		encoded, err := r.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if len(encoded) > mpp.TargetChallenge/2 {
			t.Fatalf("%d bytes", len(encoded))
		}
		got, err := ParseRequest(encoded)
		if err != nil || !reflect.DeepEqual(got, r) {
			t.Fatalf("%v\n got %+v\nwant %+v", err, got, r)
		}
	})
}

// asObject is a value's JSON, to be changed by a test.
func asObject(t testing.TB, v json.Marshaler) map[string]any {
	t.Helper()
	raw, err := v.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	obj, err := mpp.ParseObject(raw)
	if err != nil {
		t.Fatal(err)
	}
	return obj
}

// change sets a field by its path; absent deletes it.
func change(obj map[string]any, path string, value any) {
	for {
		name, rest, deeper := strings.Cut(path, ".")
		if !deeper {
			break
		}
		obj, path = obj[name].(map[string]any), rest
	}
	if value == absent {
		delete(obj, path)
		return
	}
	obj[path] = value
}

type gone struct{}

var absent any = gone{}

// wantField checks that an error is of a kind and names a field.
func wantField(t *testing.T, err, kind error, field string) {
	t.Helper()
	var f *FieldError
	if !errors.As(err, &f) || !errors.Is(err, kind) || f.Field != field {
		t.Errorf("%s: got %v", field, err)
	}
}

func TestBadRequests(t *testing.T) {
	for _, e := range []struct {
		field string
		value any
	}{
		{"amount", absent}, {"amount", "0"}, {"amount", "01"}, {"amount", "-1"}, {"amount", "1.5"}, {"amount", "1e3"}, {"amount", " 1"},
		{"amount", "+1"}, {"amount", ""}, {"amount", "0x10"}, {"amount", "2100000000000001"}, {"amount", "18446744073709551617"}, {"amount", 1000},
		{"amount", nil}, {"amount", "١"}, {"currency", "btc"}, {"currency", "SAT"}, {"currency", absent}, {"currency", 1},
		{"recipient", absent}, {"recipient", ""}, {"recipient", strings.ToUpper(testIdentity)}, {"recipient", testIdentity[2:]},
		{"recipient", "did:key:z"}, {"unitType", absent}, {"unitType", "Chunk"}, {"unitType", "gram"}, {"description", 1},
		{"description", strings.Repeat("x", maxText+1)}, {"suggestedDeposit", 4000}, {"suggestedDeposit", "2100000000000001"},
		{"methodDetails", absent}, {"methodDetails", "x"}, {"methodDetails", []any{}},
		{"methodDetails.version", 2}, {"methodDetails.version", "1"}, {"methodDetails.version", 1.5}, {"methodDetails.version", 0},
		{"methodDetails.network", absent}, {"methodDetails.network", ""}, {"methodDetails.network", "Main Net"}, {"methodDetails.network", strings.Repeat("a", 33)},
		{"methodDetails.channelTypes", absent}, {"methodDetails.channelTypes", []any{}}, {"methodDetails.channelTypes", "taproot"},
		{"methodDetails.channelTypes", []any{1}}, {"methodDetails.channelTypes", []any{""}}, {"methodDetails.channelTypes", make([]any, 17)},
		{"methodDetails.txVersion", absent}, {"methodDetails.txVersion", 1}, {"methodDetails.txVersion", 4}, {"methodDetails.txVersion", "3"},
		{"methodDetails.payeePubKey", absent}, {"methodDetails.payeePubKey", strings.Repeat("00", 33)}, {"methodDetails.payeePubKey", "02" + strings.Repeat("ff", 32)},
		{"methodDetails.payeePubKey", strings.ToUpper(hex.EncodeToString([]byte{0xab})) + strings.Repeat("00", 32)},
		{"methodDetails.payeePubKey", strings.Repeat("02", 32)}, {"methodDetails.tipHeight", absent}, {"methodDetails.tipHeight", -1}, {"methodDetails.tipHeight", 500_000_000},
		{"methodDetails.expiryHeight", absent}, {"methodDetails.expiryHeight", 0}, {"methodDetails.expiryHeight", 500_000_000}, {"methodDetails.expiryHeight", "1258"},
		{"methodDetails.marginBlocks", absent}, {"methodDetails.marginBlocks", 0}, {"methodDetails.marginBlocks", 1258},
		{"methodDetails.minDeposit", absent}, {"methodDetails.minDeposit", 1872}, {"methodDetails.minDeposit", "2100000000000000.0"},
		{"methodDetails.maxDeposit", absent}, {"methodDetails.maxDeposit", "0"}, {"methodDetails.minDeposit", "2100000000000001"},
		{"methodDetails.minConfirmations", absent}, {"methodDetails.minConfirmations", 1.5}, {"methodDetails.zeroConfLimit", 0},
		{"methodDetails.unitsPerAmount", 0}, {"methodDetails.unitsPerAmount", "1"}, {"methodDetails.unitsPerAmount", json.Number("9007199254740992")},
		{"methodDetails.creditMsat", 0}, {"methodDetails.creditMsat", "2100000000000000001"}, {"methodDetails.minimumCharge", "x"},
		{"methodDetails.requiredCumulative", "1,000"}, {"methodDetails.channelId", "x"}, {"methodDetails.channelId", ""}, {"methodDetails.mode", "sideways"},
		{"methodDetails.lastUnitMsat", "0.5"}, {"methodDetails.lastUnitMsat", 7}, {"methodDetails.lastUnitMsat", "2100000000000000001"},
		{"methodDetails.root", "AB"}, {"methodDetails.root", strings.Repeat("AB", 32)}, {"methodDetails.root", 5},
		{"methodDetails.payeeRestScript", "5"}, {"methodDetails.payeeRestScript", strings.Repeat("51", maxScript+1)}, {"methodDetails.stepBlocks", "36"},
	} {
		obj := asObject(t, testRequest())
		change(obj, e.field, e.value)
		raw, err := json.Marshal(obj)
		if err != nil {
			t.Fatal(err)
		}
		var r Request
		wantField(t, r.UnmarshalJSON(raw), ErrRequest, e.field)
		if !reflect.DeepEqual(r, Request{}) {
			t.Errorf("%s: a refused request left %+v", e.field, r)
		}
	}
	obj := asObject(t, testRequest())
	change(obj, "methodDetails.channelId", testID)
	raw, err := json.Marshal(obj)
	if err != nil {
		t.Fatal(err)
	}
	wantField(t, new(Request).UnmarshalJSON(raw), ErrRequest, "methodDetails.acceptedCumulative")
	for _, in := range []string{"", "e30=", "bnVsbA", "W10", "eyJhIjoxLCJhIjoxfQ", "e30"} {
		if _, err := ParseRequest(in); !errors.Is(err, ErrRequest) {
			t.Errorf("%q: %v", in, err)
		}
	}
}

// TestRequestIsLenientWhereItMayBe: unknown fields are ignored, what may be
// absent has its default, unknown channel types are kept.
func TestRequestIsLenientWhereItMayBe(t *testing.T) {
	obj := asObject(t, testRequest())
	for _, path := range []string{"description", "suggestedDeposit", "methodDetails.version", "methodDetails.zeroConfLimit",
		"methodDetails.unitsPerAmount", "methodDetails.creditMsat", "methodDetails.minimumCharge", "methodDetails.requiredCumulative"} {
		change(obj, path, absent)
	}
	change(obj, "shiny", map[string]any{"amount": 1})
	change(obj, "Amount", "7")
	change(obj, "methodDetails.chainId", 1)
	change(obj, "methodDetails.channelTypes", []any{"quantum", Taproot})
	raw, err := json.Marshal(obj)
	if err != nil {
		t.Fatal(err)
	}
	var r Request
	if err := json.Unmarshal(raw, &r); err != nil {
		t.Fatal(err)
	}
	d := r.MethodDetails
	if r.Amount != 1000 || d.Version != 1 || d.UnitsPerAmount != 1 || d.CreditMsat != 0 || d.ZeroConfLimit != 0 || d.ChannelTypes[0] != "quantum" {
		t.Errorf("%+v", r)
	}
}

// TestValidateBeforeItIsSent: a payee can't issue what a payer would refuse.
func TestValidateBeforeItIsSent(t *testing.T) {
	for field, f := range map[string]func(*Request){
		"amount":                        func(r *Request) { r.Amount = 0 },
		"recipient":                     func(r *Request) { r.Recipient = "" },
		"unitType":                      func(r *Request) { r.UnitType = "" },
		"suggestedDeposit":              func(r *Request) { r.SuggestedDeposit = MaxSat + 1 },
		"methodDetails.version":         func(r *Request) { r.MethodDetails.Version = 0 },
		"methodDetails.network":         func(r *Request) { r.MethodDetails.Network = "" },
		"methodDetails.channelTypes":    func(r *Request) { r.MethodDetails.ChannelTypes = nil },
		"methodDetails.txVersion":       func(r *Request) { r.MethodDetails.TxVersion = 0 },
		"methodDetails.payeePubKey":     func(r *Request) { r.MethodDetails.PayeePubKey = [33]byte{} },
		"methodDetails.expiryHeight":    func(r *Request) { r.MethodDetails.ExpiryHeight = 0 },
		"methodDetails.marginBlocks":    func(r *Request) { r.MethodDetails.MarginBlocks = 0 },
		"methodDetails.minDeposit":      func(r *Request) { r.MethodDetails.MaxDeposit = 1 },
		"methodDetails.unitsPerAmount":  func(r *Request) { r.MethodDetails.UnitsPerAmount = 0 },
		"methodDetails.channelId":       func(r *Request) { r.MethodDetails.Channel = &ChannelState{} },
		"methodDetails.chargedMsat":     func(r *Request) { r.MethodDetails.Channel = &ChannelState{testID, 0, MaxMsat + 1} },
		"methodDetails.mode":            func(r *Request) { r.MethodDetails.Mode = "x" },
		"methodDetails.lastUnitMsat":    func(r *Request) { r.MethodDetails.LastUnitMsat = MaxMsat + 1 },
		"methodDetails.root":            func(r *Request) { r.MethodDetails.Root = "ab" },
		"methodDetails.payeeRestScript": func(r *Request) { r.MethodDetails.PayeeRestScript = make([]byte, 35) },
	} {
		r := testRequest()
		f(&r)
		_, err := r.Encode()
		wantField(t, err, ErrRequest, field)
	}
}

func TestOpaque(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := Opaque{Nonce: [16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "nonce"))}
		o.Nonce[0] &= 0x0f
		if rapid.Bool().Draw(t, "more") {
			o.More = map[string]string{"epoch": rapid.String().Draw(t, "epoch")}
		}
		s, err := o.Encode()
		if err != nil {
			t.Fatal(err)
		}
		got, err := ParseOpaque(s)
		if err != nil || !reflect.DeepEqual(got, o) {
			t.Fatalf("%+v, %v", got, err)
		}
	})
	for _, o := range []Opaque{{Nonce: [16]byte{0x10}}, {Nonce: [16]byte{0xff}}, {More: map[string]string{"nonce": "0"}}} {
		if _, err := o.Encode(); !errors.Is(err, ErrOpaque) {
			t.Errorf("%+v: %v", o, err)
		}
	}
	good := "0123456789abcdef0123456789abcdef"
	for _, nonce := range []any{absent, "", good[1:], good + "00", "1" + good[1:], strings.ToUpper(good), strings.Replace(good, "a", "g", 1), 5, nil} {
		m := map[string]any{"nonce": nonce}
		if nonce == absent {
			delete(m, "nonce")
		}
		s, err := mpp.EncodeJSON(m)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseOpaque(s); !errors.Is(err, ErrOpaque) {
			t.Errorf("%v: %v", nonce, err)
		}
	}
	if _, err := ParseOpaque("e30="); !errors.Is(err, ErrOpaque) {
		t.Error(err)
	}
}
