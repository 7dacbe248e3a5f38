package script

import (
	"bytes"
	"fmt"
	"io"
	"sync"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/btcec/v2/schnorr"
	"github.com/btcsuite/btcd/btcec/v2/schnorr/musig2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/internal/curve"
)

// Nonce is a MuSig2 nonce. Its secret half signs once and is then gone; it is
// never stored, encoded or printed. BIP327.
type Nonce struct {
	Public [66]byte

	mu     sync.Mutex
	secret *[musig2.SecNonceSize]byte // nil once used
}

// NewNonce draws a nonce for a key. The key is mixed in, so that a weak source
// alone does not give the nonce away. So is the session, whatever is known of it
// already, such as the transaction and the other side's nonce: where the source
// repeats, other sessions still get other nonces. The source must never repeat
// where nothing is known. Errors: ErrWrongKey, ErrNonce (wrapping the source's).
// BIP327, NonceGen.
func NewNonce(rand io.Reader, key *btcec.PrivateKey, session ...[]byte) (*Nonce, error) {
	if key == nil {
		return nil, ErrWrongKey
	}
	if rand == nil {
		return nil, fmt.Errorf("%w: there is no source of randomness", ErrNonce)
	}
	var seed [32]byte // whole: the library would take a short read for a full one
	if _, err := io.ReadFull(rand, seed[:]); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNonce, err)
	}
	if seed == [32]byte{} {
		return nil, fmt.Errorf("%w: the source of randomness gives zeros", ErrNonce)
	}
	options := []musig2.NonceGenOption{musig2.WithPublicKey(curve.Public(key)), musig2.WithNonceSecretKeyAux(key),
		musig2.WithCustomRand(bytes.NewReader(seed[:]))}
	if len(session) > 0 {
		var parts []byte // each by its hash, so that none runs into the next
		for _, part := range session {
			parts = append(parts, chainhash.HashB(part)...)
		}
		options = append(options, musig2.WithNonceAuxInput(parts))
	}
	n, err := musig2.GenNonces(options...)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNonce, err)
	}
	return &Nonce{Public: n.PubNonce, secret: &n.SecNonce}, nil
}

// String shows the public half only.
func (n *Nonce) String() string { return fmt.Sprintf("nonce %x", n.Public[:8]) }

// GoString is String.
func (n *Nonce) GoString() string { return n.String() }

// use hands the secret out once.
func (n *Nonce) use() (secret [musig2.SecNonceSize]byte, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.secret == nil {
		return secret, ErrNonceReused
	}
	secret = *n.secret
	*n.secret = [musig2.SecNonceSize]byte{}
	n.secret = nil
	return secret, nil
}

// PartialSign is one side's part of the close's signature, 32 bytes. It signs
// what CloseTx can build and nothing else, and uses up the nonce.
// Errors: ErrUnsupported, ErrClose, ErrWrongKey, ErrNonceReused, ErrSignature
// (the other side's nonce is no nonce). BIP327.
func (c *Channel) PartialSign(tx *wire.MsgTx, key *btcec.PrivateKey, own *Nonce, other [66]byte) ([]byte, error) {
	root, digest, err := c.closeDigest(tx)
	if err != nil {
		return nil, err
	}
	if owns(key, c.k1) != nil && owns(key, c.k2) != nil {
		return nil, ErrWrongKey
	}
	if own == nil {
		return nil, ErrNonceReused
	}
	combined, err := combineNonces(own.Public, other)
	if err != nil {
		return nil, err
	}
	secret, err := own.use()
	if err != nil {
		return nil, err
	}
	options := append(curve.SignOptions(key), musig2.WithSortedKeys(), musig2.WithTaprootSignTweak(root))
	part, err := musig2.Sign(secret, key, combined, c.keys(), digest, options...)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrSignature, err)
	}
	raw := part.S.Bytes()
	return raw[:], nil
}

// VerifyPartial checks one side's part of the close's signature. It costs four
// times a signature's check. Errors: ErrUnsupported, ErrClose, ErrSignature,
// ErrWrongKey (the signer is neither payer nor payee). BIP327.
func (c *Channel) VerifyPartial(tx *wire.MsgTx, partial []byte, signerKey [33]byte, signerNonce, otherNonce [66]byte) error {
	root, digest, err := c.closeDigest(tx)
	if err != nil {
		return err
	}
	part, err := decodePartial(partial)
	if err != nil {
		return err
	}
	signer := c.k1
	switch signerKey {
	case c.PayerKey:
	case c.PayeeKey:
		signer = c.k2
	default:
		return fmt.Errorf("%w: %x", ErrWrongKey, signerKey)
	}
	combined, err := combineNonces(signerNonce, otherNonce)
	if err != nil {
		return err
	}
	if !part.Verify(signerNonce, combined, c.keys(), signer, digest, musig2.WithSortedKeys(), musig2.WithTaprootSignTweak(root)) {
		return fmt.Errorf("%w: the partial signature does not verify", ErrSignature)
	}
	return nil
}

// CombineClose makes the close's signature of both parts, in any order, adds it
// to a copy, and executes that. Errors: ErrUnsupported, ErrClose, ErrSignature,
// ErrExecute (the parts do not fit the transaction). BIP327.
func (c *Channel) CombineClose(tx *wire.MsgTx, ownPartial, otherPartial []byte, nonces [2][66]byte) (*wire.MsgTx, error) {
	root, digest, err := c.closeDigest(tx)
	if err != nil {
		return nil, err
	}
	parts := make([]*musig2.PartialSignature, 2)
	for i, raw := range [][]byte{ownPartial, otherPartial} {
		if parts[i], err = decodePartial(raw); err != nil {
			return nil, err
		}
	}
	combined, err := combineNonces(nonces[0], nonces[1])
	if err != nil {
		return nil, err
	}
	agg, _, _, err := musig2.AggregateKeys(c.keys(), true, musig2.WithTaprootKeyTweak(root))
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrBadKey, err)
	}
	r, err := sessionNonce(combined, agg.FinalKey, digest)
	if err != nil {
		return nil, err
	}
	sig := musig2.CombineSigs(r, parts, musig2.WithTaprootTweakedCombine(digest, c.keys(), root, true))
	done := tx.Copy()
	done.TxIn[0].Witness = wire.TxWitness{sig.Serialize()}
	if err := Execute(done, c.prevouts()); err != nil {
		return nil, err
	}
	return done, nil
}

// decodePartial reads a scalar below the curve's order. BIP327, PartialSigAgg.
func decodePartial(raw []byte) (*musig2.PartialSignature, error) {
	if len(raw) != 32 {
		return nil, fmt.Errorf("%w: a partial signature of %d bytes", ErrSignature, len(raw))
	}
	s := new(btcec.ModNScalar)
	if s.SetByteSlice(raw) {
		return nil, fmt.Errorf("%w: a partial signature above the curve's order", ErrSignature)
	}
	return &musig2.PartialSignature{S: s}, nil
}

// combineNonces is the sum of both sides' nonces. Each must be two points; the
// sum may be infinity. BIP327, NonceAgg.
func combineNonces(a, b [66]byte) (combined [66]byte, err error) {
	for _, n := range [][66]byte{a, b} {
		for _, half := range [][]byte{n[:33], n[33:]} {
			if _, err := btcec.ParsePubKey(half); err != nil {
				return combined, fmt.Errorf("%w: nonce: %v", ErrSignature, err)
			}
		}
	}
	if combined, err = musig2.AggregateNonces([][66]byte{a, b}); err != nil {
		return combined, fmt.Errorf("%w: nonce: %v", ErrSignature, err)
	}
	return combined, nil
}

// sessionNonce is R = R1 + b·R2 with b the nonce coefficient, and the generator
// where that is infinity. BIP327, GetSessionValues.
func sessionNonce(combined [66]byte, key *btcec.PublicKey, digest [32]byte) (*btcec.PublicKey, error) {
	hash := chainhash.TaggedHash(musig2.NonceBlindTag, combined[:], schnorr.SerializePubKey(key), digest[:])
	var b btcec.ModNScalar
	b.SetByteSlice(hash[:])
	r1, err := btcec.ParseJacobian(combined[:33])
	if err != nil {
		return nil, fmt.Errorf("%w: nonce: %v", ErrSignature, err)
	}
	r2, err := btcec.ParseJacobian(combined[33:])
	if err != nil {
		return nil, fmt.Errorf("%w: nonce: %v", ErrSignature, err)
	}
	var scaled, sum btcec.JacobianPoint
	btcec.ScalarMultNonConst(&b, &r2, &scaled)
	btcec.AddNonConst(&r1, &scaled, &sum)
	if (sum.X.IsZero() && sum.Y.IsZero()) || sum.Z.IsZero() {
		btcec.GeneratorJacobian(&sum)
	}
	sum.ToAffine()
	return btcec.NewPublicKey(&sum.X, &sum.Y), nil
}
