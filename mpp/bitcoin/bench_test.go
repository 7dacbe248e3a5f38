package bitcoin

import (
	"encoding/json"
	"testing"

	"github.com/spillway/spillway/mpp"
)

// BenchmarkVoucher is what a payee does for the wire of each voucher, before it
// looks at the half-signature.
func BenchmarkVoucher(b *testing.B) {
	secret, key := []byte("secret"), [32]byte{1}
	request, err := testRequest().Encode()
	if err != nil {
		b.Fatal(err)
	}
	c := mpp.NewChallenge(secret, mpp.Challenge{Realm: "r", Method: Method, Intent: Intent, Request: request})
	raw, err := Seal(samples()["voucher"], key, c.ID, "idem")
	if err != nil {
		b.Fatal(err)
	}
	header := []string{mpp.Credential{Challenge: c, Payload: json.RawMessage(raw)}.Encode()}
	b.ReportAllocs()
	for b.Loop() {
		got, err := mpp.ParseCredential(header)
		if err != nil || got.Challenge.Verify(secret) != nil {
			b.Fatal(err)
		}
		p, err := ParsePayload(got.Payload)
		if err != nil || Authenticate(p, key, got.Challenge.ID, "idem") != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkMACKey is what the shared key costs where it is not kept.
func BenchmarkMACKey(b *testing.B) {
	own, other := privateKey(3), publicKey(5)
	for b.Loop() {
		if _, err := MACKey(own, other); err != nil {
			b.Fatal(err)
		}
	}
}
