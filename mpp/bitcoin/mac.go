package bitcoin

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/chainhash/v2"

	"github.com/spillway/spillway/internal/curve"
)

// macTag separates the channel's MAC key from every other hash (BIP340 style).
const macTag = "spillway/mac"

// MACKey is the key that both ends of a channel share: the tagged hash
// "spillway/mac" of the compressed point that is one's own channel key times the
// other's. K1's private key with K2 and K2's with K1 make the same.
// Errors: ErrKey. docs/protocol.md, "Identity".
func MACKey(own *btcec.PrivateKey, other [33]byte) ([32]byte, error) {
	pub, err := curve.Parse(other[:])
	if err != nil || own == nil || own.Key.IsZero() {
		return [32]byte{}, fmt.Errorf("%w: %x", ErrKey, other)
	}
	return *chainhash.TaggedHash([]byte(macTag), curve.Shared(own, pub).SerializeCompressed()), nil
}

// checkKey checks that a key is a point in compressed form. Errors: ErrKey.
func checkKey(key [33]byte) error {
	if _, err := curve.Parse(key[:]); err != nil {
		return fmt.Errorf("%w: %w", ErrKey, err)
	}
	return nil
}

// MAC is the proof, in hex, that a request comes from the channel's payer:
// HMAC-SHA256 over "challenge id|action|cumulativeAmount|Idempotency-Key". Absent
// parts are empty. The challenge is the one that the credential echoes, the
// amount is in its decimal form, the key as it stands in the header.
func MAC(key [32]byte, challengeID, action, cumulativeAmount, idempotencyKey string) string {
	return hex.EncodeToString(mac(key, challengeID, action, cumulativeAmount, idempotencyKey))
}

func mac(key [32]byte, challengeID, action, cumulativeAmount, idempotencyKey string) []byte {
	h := hmac.New(sha256.New, key[:])
	h.Write([]byte(challengeID + "|" + action + "|" + cumulativeAmount + "|" + idempotencyKey))
	return h.Sum(nil)
}

// CheckMAC compares a MAC in constant time. Errors: ErrMAC.
func CheckMAC(key [32]byte, got, challengeID, action, cumulativeAmount, idempotencyKey string) error {
	raw, err := hex.DecodeString(got)
	if err != nil || !hmac.Equal(raw, mac(key, challengeID, action, cumulativeAmount, idempotencyKey)) {
		return ErrMAC
	}
	return nil
}

// Seal encodes a payload with its MAC for a credential that echoes the challenge
// of that id. The payload's own MAC field is not looked at.
// Errors: *FieldError (ErrPayload) where the payload would be refused.
func Seal(p Payload, key [32]byte, challengeID, idempotencyKey string) (json.RawMessage, error) {
	return encode(p, MAC(key, challengeID, p.Action(), p.Cumulative(), idempotencyKey))
}

// Authenticate checks the MAC of a payload that came in a credential. Only then
// may anything be charged, taken or told. Errors: ErrMAC.
func Authenticate(p Payload, key [32]byte, challengeID, idempotencyKey string) error {
	return CheckMAC(key, p.Proof(), challengeID, p.Action(), p.Cumulative(), idempotencyKey)
}
