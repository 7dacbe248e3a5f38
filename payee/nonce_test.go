package payee_test

import (
	"testing"

	"github.com/spillway/spillway/internal/pairtest"
	"github.com/spillway/spillway/payee"
	"github.com/spillway/spillway/script"
)

// stuck is a machine's randomness after its snapshot was started twice: the same again.
type stuck struct{}

func (stuck) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = 7
	}
	return len(b), nil
}

// TestPitfall18_RepeatedRandomness: where randomness repeats, another nonce of the payer's
// still gets another nonce. One secret nonce under two challenges would give K2 away.
func TestPitfall18_RepeatedRandomness(t *testing.T) {
	p := pairtest.New(t)
	id := paid(t, p, script.Taproot)
	seen := map[string]bool{}
	for range 3 {
		drv, err := payee.New(payee.Config{
			Store: p.PayeeDisk, Keys: p.PayeeKeys, Chain: p.Chain, Network: "regtest", Payout: p.Payout, Policy: p.Policy,
			Now: p.Now, Rand: stuck{},
		})
		wantNil(t, err)
		got, err := drv.Close(t.Context(), id, request(t, p, id))
		wantNil(t, err)
		if seen[got.PayeeNonce.String()] {
			t.Fatal("one nonce for two nonces of the payer's")
		}
		seen[got.PayeeNonce.String()] = true
	}
}
