package bitcoin

import (
	"encoding/json"
	"errors"
	"testing"
)

// edited is a sample with fields set, or (nil) taken away.
func edited(t *testing.T, name string, set map[string]any) []byte {
	t.Helper()
	raw, err := Seal(samples()[name], [32]byte{1}, "c", "k")
	if err != nil {
		t.Fatal(err)
	}
	var o map[string]any
	if err := json.Unmarshal(raw, &o); err != nil {
		t.Fatal(err)
	}
	for k, v := range set {
		if o[k] = v; v == nil {
			delete(o, k)
		}
	}
	if raw, err = json.Marshal(o); err != nil {
		t.Fatal(err)
	}
	return raw
}

// What the MAC does not cover is not read: a ledger beside a one-way message is ignored, and
// half an epoch, or one that runs the other way, is refused.
func TestUnprovedFieldsAreNotRead(t *testing.T) {
	for _, name := range []string{"resume", "close"} {
		p, err := ParsePayload(edited(t, name, map[string]any{"chargedMsat": "7"}))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		switch p := p.(type) {
		case Resume:
			if p.ChargedMsat != 0 {
				t.Errorf("a one-way resume at %d msat", p.ChargedMsat)
			}
		case Close:
			if p.ChargedMsat != 0 {
				t.Errorf("a one-way close at %d msat", p.ChargedMsat)
			}
		}
	}
	if _, err := ParsePayload(edited(t, "prepare", map[string]any{"channelType": MultisigP2SH})); err != nil {
		t.Errorf("a prepare of a P2SH channel: %v", err)
	}
	for name, set := range map[string]map[string]any{
		"voucher duplex":                   {"lockHeight": nil},
		"resume duplex":                    {"epoch": nil},
		"close duplex":                     {"epoch": 2},
		"voucher":                          {"epoch": 2, "lockHeight": 1258},
		"voucher of the payee":             {"epoch": 3, "lockHeight": 1222},
		"voucher of the payee, before any": {"cumulativeAmount": "1"},
		"prepare":                          {"channelType": Taproot},
		"close":                            {"payerNonce": "00"},
	} {
		if _, err := ParsePayload(edited(t, name, set)); !errors.Is(err, ErrPayload) {
			t.Errorf("%s with %v: %v", name, set, err)
		}
	}
}

// A proof of one action, amount, epoch, ledger or direction is none of another.
func TestNoProofOfAnother(t *testing.T) {
	key := [32]byte{9}
	all := samples()
	for a, p := range all {
		for b, q := range all {
			same := p.Action() == q.Action() && p.Cumulative() == q.Cumulative()
			proof := withMAC(q, MAC(key, "c", p.Action(), p.Cumulative(), "k"))
			if err := Authenticate(proof, key, "c", "k"); (err == nil) != same {
				t.Errorf("the proof of %q for %q: %v", a, b, err)
			}
		}
	}
}
