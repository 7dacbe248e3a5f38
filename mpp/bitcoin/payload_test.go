package bitcoin

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/spillway/spillway/mpp"
)

var testScript = append([]byte{0x51, 0x20}, bytes.Repeat([]byte{7}, 32)...)

// samples has a payload for every action and form.
func samples() map[string]Payload {
	offer := mpp.NewChallenge([]byte("secret"), mpp.Challenge{Realm: "data.example", Method: Method, Intent: Intent, Request: "e30"})
	signature := bytes.Repeat([]byte{1}, 65)
	return map[string]Payload{
		"prepare": Prepare{ChannelType: Multisig, PayerPubKey: publicKey(5), ChannelID: testID, Capacity: 4000, RestScript: testScript, RefundTx: make([]byte, 94)},
		"open": Open{Offer: offer, ChannelType: Taproot, PayerPubKey: publicKey(5), ChannelID: testID, Capacity: 4000, RestScript: testScript,
			Signature: signature, FundingTx: make([]byte, 200)},
		"open by id":                       Open{Offer: offer, ChannelType: Duplex, PayerPubKey: publicKey(5), ChannelID: testID, Capacity: 4000, RestScript: testScript, CumulativeAmount: 4000, Signature: signature},
		"voucher":                          Voucher{ChannelID: testID, CumulativeAmount: 1000, Signature: signature},
		"voucher duplex":                   Voucher{ChannelID: testID, CumulativeAmount: 1000, Signature: signature, Epoch: 3, LockHeight: 1222},
		"voucher of the payee":             Voucher{ChannelID: testID, CumulativeAmount: 1000, Signature: signature, Epoch: 2, LockHeight: 1258, FromPayee: true},
		"voucher of the payee, before any": Voucher{ChannelID: testID, FromPayee: true},
		"resume duplex":                    Resume{ChannelID: testID, Epoch: 2, LockHeight: 1258, ChargedMsat: 7000},
		"close duplex":                     Close{ChannelID: testID, CumulativeAmount: 3000, Signature: signature, PayerNonce: make([]byte, 66), Epoch: 1, LockHeight: 1294, ChargedMsat: 2_999_500},
		"resume":                           Resume{ChannelID: testID},
		"close":                            Close{ChannelID: testID, CumulativeAmount: 3000, Signature: signature, PayerNonce: make([]byte, 66)},
		"close multisig":                   Close{ChannelID: testID, CumulativeAmount: 3000, Signature: signature},
		"close final":                      Close{ChannelID: testID, FinalTx: make([]byte, 120)},
		"close both":                       Close{ChannelID: testID, CumulativeAmount: 3000, Signature: signature, FinalTx: make([]byte, 120)},
	}
}

// withMAC is a payload as it reads back: with its MAC.
func withMAC(p Payload, mac string) Payload {
	switch p := p.(type) {
	case Prepare:
		p.MAC = mac
		return p
	case Open:
		p.MAC = mac
		return p
	case Voucher:
		p.MAC = mac
		return p
	case Resume:
		p.MAC = mac
		return p
	case Close:
		p.MAC = mac
		return p
	}
	return nil
}

func TestPayloadSamples(t *testing.T) {
	key := [32]byte{1}
	for name, p := range samples() {
		raw, err := Seal(p, key, "id", "idem")
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got, err := ParsePayload(raw)
		want := withMAC(p, MAC(key, "id", p.Action(), p.Cumulative(), "idem"))
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v\n got %+v\nwant %+v", name, err, got, want)
			continue
		}
		if err := Authenticate(got, key, "id", "idem"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got.Channel() != testID || !strings.HasPrefix(name, got.Action()) {
			t.Errorf("%s: channel %s, action %s", name, got.Channel(), got.Action())
		}
		var wire struct{ Action, CumulativeAmount string }
		if err := json.Unmarshal(raw, &wire); err != nil || wire.Action != got.Action() || wire.CumulativeAmount != amountOf(got) {
			t.Errorf("%s: the MAC covers %q, the wire says %+v (%v)", name, got.Cumulative(), wire, err)
		}
	}
}

// amountOf is the amount in what a MAC covers, by docs/protocol.md, section 13.
func amountOf(p Payload) string {
	text := strings.TrimPrefix(p.Cumulative(), "payee/")
	amount, _, _ := strings.Cut(text, "/")
	return amount
}

// What the MAC of a duplex channel's actions covers, word for word.
func TestDuplexMACText(t *testing.T) {
	for name, want := range map[string]string{
		"voucher": "1000", "voucher duplex": "1000/3", "voucher of the payee": "payee/1000/2", "voucher of the payee, before any": "payee/0/0",
		"resume": "", "resume duplex": "/2/7000", "close": "3000", "close duplex": "3000/1/2999500", "close final": "",
	} {
		if got := samples()[name].Cumulative(); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

// The bytes of a duplex channel's actions as they travel, frozen.
func TestDuplexWire(t *testing.T) {
	sig := strings.Repeat("01", 65)
	for name, want := range map[string]string{
		"voucher duplex":                   `{"action":"voucher","channelId":"` + testID + `","cumulativeAmount":"1000","epoch":3,"lockHeight":1222,"mac":"MAC","signature":"` + sig + `"}`,
		"voucher of the payee":             `{"action":"voucher","channelId":"` + testID + `","cumulativeAmount":"1000","epoch":2,"from":"payee","lockHeight":1258,"mac":"MAC","signature":"` + sig + `"}`,
		"voucher of the payee, before any": `{"action":"voucher","channelId":"` + testID + `","cumulativeAmount":"0","from":"payee","mac":"MAC"}`,
		"resume duplex":                    `{"action":"resume","channelId":"` + testID + `","chargedMsat":"7000","epoch":2,"lockHeight":1258,"mac":"MAC"}`,
		"close duplex": `{"action":"close","channelId":"` + testID + `","chargedMsat":"2999500","cumulativeAmount":"3000","epoch":1,"lockHeight":1294,"mac":"MAC","payerNonce":"` +
			strings.Repeat("00", 66) + `","signature":"` + sig + `"}`,
	} {
		p := samples()[name]
		raw, err := Seal(p, [32]byte{1}, "id", "idem")
		if err != nil {
			t.Fatal(err)
		}
		mac := MAC([32]byte{1}, "id", p.Action(), p.Cumulative(), "idem")
		if got := strings.Replace(string(raw), mac, "MAC", 1); got != want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, want)
		}
	}
	if got := MAC([32]byte{1}, "id", ActionVoucher, "payee/1000/2", "idem"); got != "56cbe268ca7dac2ed212de08420dd3716dee1cdb1c155fa8e6c48942692a45f4" {
		t.Errorf("the MAC of a payee's voucher is %s", got)
	}
}

// A state without its epoch, or an epoch without its lock, is no voucher.
func TestDuplexHalfAnEpoch(t *testing.T) {
	for _, c := range []struct {
		sample, field string
		value         any
	}{
		{"voucher", "epoch", 1}, {"voucher", "lockHeight", 9}, {"voucher of the payee, before any", "cumulativeAmount", "1"},
		{"voucher of the payee, before any", "signature", strings.Repeat("01", 65)}, {"resume", "epoch", 1}, {"close", "lockHeight", 9},
	} {
		obj := sealed(t, c.sample)
		change(obj, c.field, c.value)
		raw, err := json.Marshal(obj)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParsePayload(raw); !errors.Is(err, ErrPayload) {
			t.Errorf("%s with %s %v: %v", c.sample, c.field, c.value, err)
		}
	}
}

// Whatever is changed in a sealed action of a duplex channel, its MAC or its form
// says so.
func TestDuplexMACCoversWhatDecides(t *testing.T) {
	key := [32]byte{1}
	for _, c := range []struct {
		sample, field string
		value         any
	}{
		{"voucher duplex", "cumulativeAmount", "1001"}, {"voucher duplex", "epoch", 5}, {"voucher duplex", "epoch", 1},
		{"voucher duplex", "from", "payee"}, {"voucher of the payee", "from", absent}, {"voucher of the payee", "epoch", 4},
		{"voucher of the payee", "cumulativeAmount", "999"}, {"voucher", "from", "payee"}, {"resume duplex", "chargedMsat", "6999"},
		{"resume duplex", "epoch", 3}, {"close duplex", "chargedMsat", "2999501"}, {"close duplex", "epoch", 3}, {"close duplex", "cumulativeAmount", "3001"},
	} {
		obj := sealed(t, c.sample)
		change(obj, c.field, c.value)
		raw, err := json.Marshal(obj)
		if err != nil {
			t.Fatal(err)
		}
		if p, err := ParsePayload(raw); err == nil && Authenticate(p, key, "id", "") == nil {
			t.Errorf("%s with %s %v is authentic", c.sample, c.field, c.value)
		}
	}
}

func TestVoucherRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key := [32]byte(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "key"))
		v := Voucher{
			ChannelID:        hex.EncodeToString(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "txid")) + ":" + dec(uint64(rapid.Uint32().Draw(t, "vout"))),
			CumulativeAmount: rapid.Uint64Range(0, MaxSat).Draw(t, "amount"),
			Signature:        rapid.SliceOfN(rapid.Byte(), minSig, maxSig).Draw(t, "signature"),
		}
		if rapid.Bool().Draw(t, "duplex") {
			v.Epoch, v.LockHeight = rapid.Uint32Range(1, maxHeight).Draw(t, "epoch"), rapid.Uint32Range(1, maxHeight).Draw(t, "lock")
			v.FromPayee = v.Epoch%2 == 0
		}
		raw, err := Seal(v, key, "id", "")
		if err != nil {
			t.Fatal(err)
		}
		got, err := ParsePayload(raw)
		if err != nil || Authenticate(got, key, "id", "") != nil {
			t.Fatal(err)
		}
		v.MAC = got.Proof()
		if !reflect.DeepEqual(got, Payload(v)) {
			t.Fatalf("\n got %+v\nwant %+v", got, v)
		}
	})
}

func sealed(t testing.TB, name string) map[string]any {
	t.Helper()
	raw, err := Seal(samples()[name], [32]byte{1}, "id", "")
	if err != nil {
		t.Fatal(err)
	}
	obj, err := mpp.ParseObject(raw)
	if err != nil {
		t.Fatal(err)
	}
	return obj
}

func TestBadPayloads(t *testing.T) {
	upper := strings.ToUpper(testID)
	for _, e := range []struct {
		sample, field string
		value         any
	}{
		{"voucher", "action", absent}, {"voucher", "action", 1}, {"voucher", "action", nil}, {"voucher", "action", ""},
		{"voucher", "mac", absent}, {"voucher", "mac", ""}, {"voucher", "mac", strings.Repeat("AB", 32)}, {"voucher", "mac", strings.Repeat("ab", 31)},
		{"voucher", "mac", strings.Repeat("ab", 33)}, {"voucher", "mac", strings.Repeat("zz", 32)}, {"voucher", "mac", 1},
		{"voucher", "channelId", absent}, {"voucher", "channelId", upper}, {"voucher", "channelId", testID[:64]}, {"voucher", "channelId", testID[2:]},
		{"voucher", "channelId", testID[:65]}, {"voucher", "channelId", testID[:65] + "01"}, {"voucher", "channelId", testID[:65] + "+1"},
		{"voucher", "channelId", testID[:65] + "4294967296"}, {"voucher", "channelId", testID + ":1"}, {"voucher", "channelId", " " + testID}, {"voucher", "channelId", []any{testID}},
		{"voucher", "cumulativeAmount", absent}, {"voucher", "cumulativeAmount", 1000}, {"voucher", "cumulativeAmount", "1e3"},
		{"voucher", "cumulativeAmount", "01"}, {"voucher", "cumulativeAmount", "-0"}, {"voucher", "cumulativeAmount", "2100000000000001"},
		{"voucher", "cumulativeAmount", "99999999999999999999999"}, {"voucher", "cumulativeAmount", nil},
		{"voucher", "signature", absent}, {"voucher", "signature", ""}, {"voucher", "signature", strings.Repeat("01", 8)}, {"voucher", "signature", strings.Repeat("01", 74)},
		{"voucher", "signature", "0x" + strings.Repeat("01", 64)}, {"voucher", "signature", strings.Repeat("0A", 65)}, {"voucher", "signature", strings.Repeat("1", 129)},
		{"voucher", "epoch", "1"}, {"voucher", "epoch", -1}, {"voucher", "lockHeight", 500_000_000},
		{"voucher duplex", "epoch", 0}, {"voucher duplex", "epoch", 2}, {"voucher duplex", "lockHeight", 0}, {"voucher duplex", "lockHeight", absent}, {"voucher duplex", "epoch", absent},
		{"voucher duplex", "signature", absent}, {"voucher of the payee", "from", "payer"}, {"voucher of the payee", "from", ""}, {"voucher of the payee", "from", 1},
		{"voucher of the payee", "signature", absent}, {"voucher of the payee", "epoch", 3}, {"resume duplex", "chargedMsat", absent}, {"resume duplex", "chargedMsat", 7},
		{"close duplex", "chargedMsat", absent}, {"close duplex", "epoch", 2}, {"close duplex", "lockHeight", absent}, {"resume", "channelId", absent}, {"resume", "mac", absent},
		{"close", "signature", absent}, {"close", "cumulativeAmount", absent}, {"close", "payerNonce", strings.Repeat("02", 65)}, {"close", "payerNonce", ""},
		{"close final", "finalTx", ""}, {"close final", "finalTx", "00"}, {"close final", "finalTx", absent}, {"close final", "finalTx", strings.Repeat("00", maxTx+1)},
		{"close final", "signature", "00"}, {"prepare", "channelType", Taproot}, {"prepare", "channelType", Duplex}, {"prepare", "channelType", absent},
		{"prepare", "refundTx", absent}, {"prepare", "refundTx", "0200"}, {"prepare", "capacity", "0"}, {"prepare", "capacity", absent}, {"prepare", "restScript", absent},
		{"prepare", "restScript", ""}, {"prepare", "restScript", strings.Repeat("51", 35)}, {"prepare", "payerPubKey", absent},
		{"prepare", "payerPubKey", "04" + strings.Repeat("00", 64)}, {"prepare", "payerPubKey", "05" + strings.Repeat("11", 32)},
		{"open", "offer", absent}, {"open", "offer", "x"}, {"open", "offer", nil}, {"open", "offer.id", absent}, {"open", "offer.request", map[string]any{}},
		{"open", "channelType", "lightning"}, {"open", "channelType", "TAPROOT"}, {"open", "payerPubKey", strings.Repeat("00", 33)}, {"open", "capacity", "2100000000000001"},
		{"open", "cumulativeAmount", "4001"}, {"open", "cumulativeAmount", absent}, {"open", "signature", absent}, {"open", "restScript", absent},
		{"open", "fundingTx", absent}, {"open", "fundingTx", strings.Repeat("00", 32)}, {"open", "fundingTx", "00"}, {"open", "fundingTx", strings.Repeat("zz", 100)},
		{"open", "fundingTx", strings.Repeat("0", 201)}, {"open", "fundingTx", nil},
	} {
		obj := sealed(t, e.sample)
		change(obj, e.field, e.value)
		raw, err := json.Marshal(obj)
		if err != nil {
			t.Fatal(err)
		}
		field, _, inside := strings.Cut(e.field, ".")
		switch {
		case e.sample == "close final" && e.value == absent:
			field = "cumulativeAmount" // it is the first close then
		case e.sample == "close final" && e.field == "signature":
			field = "cumulativeAmount" // both or none
		case inside:
			field = "offer"
		}
		p, err := ParsePayload(raw)
		if p != nil {
			t.Errorf("%s %s=%v: %+v", e.sample, e.field, e.value, p)
		}
		wantField(t, err, ErrPayload, field)
	}
}

func TestUnknownActions(t *testing.T) {
	for action, want := range map[string]error{
		"topUp": ErrTopUp, "Open": ErrAction, "pay": ErrAction, strings.Repeat("x", 10_000): ErrAction, "open ": ErrAction,
	} {
		raw, err := json.Marshal(map[string]string{"action": action})
		if err != nil {
			t.Fatal(err)
		}
		_, err = ParsePayload(raw)
		if !errors.Is(err, want) || len(err.Error()) > 200 {
			t.Errorf("%.20s: %v", action, err)
		}
	}
	for _, raw := range []string{"", "null", "[]", `"open"`, "{", `{"action":"open","action":"close"}`, `{"Action":"resume"}`} {
		if _, err := ParsePayload(json.RawMessage(raw)); !errors.Is(err, ErrPayload) {
			t.Errorf("%q: %v", raw, err)
		}
	}
}

// TestUnknownFieldsAreIgnored: also those that differ only in case, which
// encoding/json would take for the known ones.
func TestUnknownFieldsAreIgnored(t *testing.T) {
	obj := sealed(t, "voucher")
	change(obj, "CumulativeAmount", "999999")
	change(obj, "channelID", "x")
	change(obj, "finalTx", 7)
	raw, err := json.Marshal(obj)
	if err != nil {
		t.Fatal(err)
	}
	p, err := ParsePayload(raw)
	if err != nil || p.Cumulative() != "1000" || p.Channel() != testID {
		t.Errorf("%+v, %v", p, err)
	}
}

func TestSealRefusesWhatWouldBeRefused(t *testing.T) {
	for field, p := range map[string]Payload{
		"channelId":        Resume{ChannelID: "x"},
		"signature":        Voucher{ChannelID: testID},
		"cumulativeAmount": Voucher{ChannelID: testID, CumulativeAmount: MaxSat + 1, Signature: make([]byte, 65)},
		"payerNonce":       Close{ChannelID: testID, Signature: make([]byte, 65), PayerNonce: make([]byte, 65)},
	} {
		_, err := Seal(p, [32]byte{}, "id", "")
		wantField(t, err, ErrPayload, field)
	}
}

func TestAnswers(t *testing.T) {
	signature := bytes.Repeat([]byte{1}, 65)
	for name, e := range map[string]struct {
		in, out any
		bad     map[string]any
	}{
		"prepare": {PrepareAnswer{signature}, &PrepareAnswer{}, map[string]any{"refundSignature": absent}},
		"open":    {OpenAnswer{"funding", 1, 0}, &OpenAnswer{}, map[string]any{"phase": "", "confirmations": "1", "depth": -1}},
		"resume": {ResumeAnswer{ChannelID: testID, Phase: "open", CumulativeAmount: 1000, Signature: signature, ChargedMsat: 2_000_000, OwedMsat: 1_000_000,
			RequiredCumulative: 2000, Epoch: 1, LockHeight: 5}, &ResumeAnswer{},
			map[string]any{"channelId": "x", "phase": 1, "cumulativeAmount": 1, "signature": "", "chargedMsat": absent, "owedMsat": "x", "requiredCumulative": nil}},
		"close":        {CloseAnswer{make([]byte, 120), make([]byte, 66), make([]byte, 32)}, &CloseAnswer{}, map[string]any{"tx": "", "payeeNonce": absent, "payeePartial": "00"}},
		"close signed": {CloseAnswer{Tx: make([]byte, 120)}, &CloseAnswer{}, map[string]any{"payeeNonce": strings.Repeat("00", 66)}},
	} {
		raw, err := json.Marshal(e.in)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(raw, e.out); err != nil || !reflect.DeepEqual(reflect.ValueOf(e.out).Elem().Interface(), e.in) {
			t.Errorf("%s: %v\n got %+v\nwant %+v", name, err, e.out, e.in)
		}
		for field, value := range e.bad {
			obj, err := mpp.ParseObject(raw)
			if err != nil {
				t.Fatal(err)
			}
			change(obj, field, value)
			text, err := json.Marshal(obj)
			if err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(text, e.out); !errors.Is(err, ErrAnswer) {
				t.Errorf("%s: %s=%v: %v", name, field, value, err)
			}
		}
	}
}

func testReceipt() Receipt {
	return Receipt{
		Timestamp: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Reference: testID, ChallengeID: "abc", ChannelID: testID,
		AcceptedCumulative: 1000, ChargedMsat: 2_000_000, RequiredCumulative: 2000, Units: 1,
	}
}

func TestReceiptRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := testReceipt()
		r.Timestamp = time.Unix(rapid.Int64Range(0, 1<<33).Draw(t, "at"), 0).UTC()
		r.AcceptedCumulative = rapid.Uint64Range(0, MaxSat).Draw(t, "accepted")
		r.ChargedMsat = rapid.Uint64Range(0, MaxMsat).Draw(t, "charged")
		r.Units = rapid.Uint64Range(0, maxCount).Draw(t, "units")
		if rapid.Bool().Draw(t, "update") {
			r.Update = &Update{7, bytes.Repeat([]byte{2}, 65), 2, 1222}
		}
		value, err := r.Encode()
		if err != nil {
			t.Fatal(err)
		}
		got, err := ParseReceipt([]string{value})
		if err != nil || !reflect.DeepEqual(got, r) {
			t.Fatalf("%v\n got %+v\nwant %+v", err, got, r)
		}
	})
	r := testReceipt()
	r.Reference = ""
	if value, err := r.Encode(); err != nil {
		t.Error(err)
	} else if got, err := ParseReceipt([]string{value}); err != nil || got.Reference != testID {
		t.Error(got, err)
	}
}

func TestBadReceipts(t *testing.T) {
	for _, e := range []struct {
		field string
		value any
	}{
		{"method", "tempo"}, {"intent", "charge"}, {"intent", absent}, {"status", "failure"}, {"timestamp", "now"}, {"challengeId", absent}, {"channelId", "x"},
		{"acceptedCumulative", 1000}, {"chargedMsat", "-1"}, {"requiredCumulative", absent}, {"units", "1"}, {"update", 1}, {"update", map[string]any{}},
	} {
		obj := asObject(t, testReceipt())
		change(obj, e.field, e.value)
		value, err := mpp.EncodeJSON(obj)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := ParseReceipt([]string{value}); !errors.Is(err, ErrReceipt) || !reflect.DeepEqual(got, Receipt{}) {
			t.Errorf("%s=%v: %+v, %v", e.field, e.value, got, err)
		}
	}
	if _, err := ParseReceipt(nil); !errors.Is(err, ErrReceipt) {
		t.Error(err)
	}
	bad := testReceipt()
	bad.ChannelID = ""
	if _, err := bad.Encode(); !errors.Is(err, ErrReceipt) {
		t.Error(err)
	}
}
