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
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"
)

// CloseTx is the cooperative close, unsigned: the payer's rest and the payee's
// share (sat, before the fee). The fee (sat) comes from the share, what the
// share lacks from the rest; outputs below dust are left out and go to the fee.
// Errors: ErrUnsupported, ErrAmount, ErrPayoutDust when nothing is left to pay.
// docs/protocol.md, section 4.4.
func (c *Channel) CloseTx(payeeShare int64, payeeScript []byte, fee int64) (*wire.MsgTx, error) {
	if c.Construction != Taproot {
		return nil, fmt.Errorf("%w: %s", ErrUnsupported, c.Construction)
	}
	if payeeShare < 0 || payeeShare > c.Capacity || fee < 0 || fee > c.Capacity {
		return nil, fmt.Errorf("%w: a share of %d sat and a fee of %d sat of %d sat", ErrAmount, payeeShare, fee, c.Capacity)
	}
	rest := c.Capacity - payeeShare
	share := payeeShare - fee
	if share < 0 {
		rest, share = rest+share, 0
	}
	tx := wire.NewMsgTx(c.TxVersion)
	tx.AddTxIn(c.input())
	if rest >= Dust(c.RestScript) {
		tx.AddTxOut(&wire.TxOut{Value: rest, PkScript: c.RestScript})
	}
	if share >= Dust(payeeScript) {
		tx.AddTxOut(&wire.TxOut{Value: share, PkScript: payeeScript})
	}
	if len(tx.TxOut) == 0 {
		return nil, fmt.Errorf("%w: %d sat less a fee of %d sat", ErrPayoutDust, c.Capacity, fee)
	}
	return tx, nil
}

// CloseVSize is the size in vB of the cooperative close at this share (sat).
func (c *Channel) CloseVSize(payeeShare int64, payeeScript []byte) int64 {
	tx := wire.NewMsgTx(c.TxVersion)
	tx.AddTxIn(c.input())
	if c.Capacity-payeeShare >= Dust(c.RestScript) {
		tx.AddTxOut(&wire.TxOut{PkScript: c.RestScript})
	}
	if payeeShare >= Dust(payeeScript) || len(tx.TxOut) == 0 {
		tx.AddTxOut(&wire.TxOut{PkScript: payeeScript})
	}
	tx.TxIn[0].Witness = wire.TxWitness{make([]byte, 64)}
	return VSize(tx)
}

// Nonce is a MuSig2 nonce. Its secret half signs once and is then gone; it is
// never stored. BIP327.
type Nonce struct {
	Public [66]byte
	mu     sync.Mutex
	secret *[musig2.SecNonceSize]byte
}

// NewNonce draws a nonce for a key.
func NewNonce(rand io.Reader, key *btcec.PrivateKey) (*Nonce, error) {
	n, err := musig2.GenNonces(musig2.WithPublicKey(key.PubKey()), musig2.WithNonceSecretKeyAux(key), musig2.WithCustomRand(rand))
	if err != nil {
		return nil, fmt.Errorf("no nonce: %w", err)
	}
	return &Nonce{Public: n.PubNonce, secret: &n.SecNonce}, nil
}

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

// keys is a fresh slice each time: the library sorts it in place.
func (c *Channel) keys() []*btcec.PublicKey { return []*btcec.PublicKey{c.k1, c.k2} }

// closeDigest is the sighash of the key path, DEFAULT. BIP341.
func (c *Channel) closeDigest(tx *wire.MsgTx) (t *taproot, digest [32]byte, err error) {
	t, ok := c.spender.(*taproot)
	if !ok {
		return nil, digest, fmt.Errorf("%w: %s", ErrUnsupported, c.Construction)
	}
	if len(tx.TxIn) != 1 || tx.TxIn[0].PreviousOutPoint != c.Outpoint {
		return nil, digest, fmt.Errorf("%w: the close spends something else", ErrAmount)
	}
	prev := c.fetcher()
	raw, err := txscript.CalcTaprootSignatureHash(txscript.NewTxSigHashes(tx, prev), txscript.SigHashDefault, tx, 0, prev)
	copy(digest[:], raw)
	return t, digest, err
}

// PartialSign is one side's part of the close's signature, 32 bytes. It uses up
// the nonce. Errors: ErrNonceReused, ErrWrongKey, ErrSignature, ErrUnsupported.
func (c *Channel) PartialSign(tx *wire.MsgTx, key *btcec.PrivateKey, own *Nonce, other [66]byte) ([]byte, error) {
	t, digest, err := c.closeDigest(tx)
	if err != nil {
		return nil, err
	}
	if owns(key, c.k1) != nil && owns(key, c.k2) != nil {
		return nil, ErrWrongKey
	}
	combined, err := musig2.AggregateNonces([][66]byte{own.Public, other})
	if err != nil {
		return nil, fmt.Errorf("%w: nonce: %v", ErrSignature, err)
	}
	secret, err := own.use()
	if err != nil {
		return nil, err
	}
	part, err := musig2.Sign(secret, key, combined, c.keys(), digest, musig2.WithSortedKeys(), musig2.WithTaprootSignTweak(t.root[:]))
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrSignature, err)
	}
	var b bytes.Buffer
	if err := part.Encode(&b); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrSignature, err)
	}
	return b.Bytes(), nil
}

func decodePartial(raw []byte) (*musig2.PartialSignature, error) {
	if len(raw) != 32 {
		return nil, fmt.Errorf("%w: a partial signature of %d bytes", ErrSignature, len(raw))
	}
	var part musig2.PartialSignature
	if err := part.Decode(bytes.NewReader(raw)); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrSignature, err)
	}
	return &part, nil
}

// VerifyPartial checks the other side's part. Errors: ErrSignature, ErrBadKey.
func (c *Channel) VerifyPartial(tx *wire.MsgTx, partial []byte, signerKey [33]byte, signerNonce, otherNonce [66]byte) error {
	t, digest, err := c.closeDigest(tx)
	if err != nil {
		return err
	}
	part, err := decodePartial(partial)
	if err != nil {
		return err
	}
	signer, err := btcec.ParsePubKey(signerKey[:])
	if err != nil {
		return fmt.Errorf("%w: %v", ErrBadKey, err)
	}
	combined, err := musig2.AggregateNonces([][66]byte{signerNonce, otherNonce})
	if err != nil {
		return fmt.Errorf("%w: nonce: %v", ErrSignature, err)
	}
	if !part.Verify(signerNonce, combined, c.keys(), signer, digest, musig2.WithSortedKeys(), musig2.WithTaprootSignTweak(t.root[:])) {
		return fmt.Errorf("%w: the partial signature does not verify", ErrSignature)
	}
	return nil
}

// CombineClose makes the close's signature of both parts, adds it, and executes
// the result. Errors: ErrSignature, ErrExecute.
func (c *Channel) CombineClose(tx *wire.MsgTx, ownPartial, otherPartial []byte, nonces [2][66]byte) (*wire.MsgTx, error) {
	t, digest, err := c.closeDigest(tx)
	if err != nil {
		return nil, err
	}
	parts := make([]*musig2.PartialSignature, 2)
	for i, raw := range [][]byte{ownPartial, otherPartial} {
		if parts[i], err = decodePartial(raw); err != nil {
			return nil, err
		}
	}
	combined, err := musig2.AggregateNonces(nonces[:])
	if err != nil {
		return nil, fmt.Errorf("%w: nonce: %v", ErrSignature, err)
	}
	r, err := c.finalNonce(combined, t.root[:], digest)
	if err != nil {
		return nil, err
	}
	sig := musig2.CombineSigs(r, parts, musig2.WithTaprootTweakedCombine(digest, c.keys(), t.root[:], true))
	done := tx.Copy()
	done.TxIn[0].Witness = wire.TxWitness{sig.Serialize()}
	if err := Execute(done, map[wire.OutPoint]*wire.TxOut{c.Outpoint: c.Prevout()}); err != nil {
		return nil, err
	}
	return done, nil
}

// finalNonce is R = R1 + b·R2 with b the nonce coefficient. BIP327, GetSessionValues.
func (c *Channel) finalNonce(combined [66]byte, root []byte, digest [32]byte) (*btcec.PublicKey, error) {
	agg, _, _, err := musig2.AggregateKeys(c.keys(), true, musig2.WithTaprootKeyTweak(root))
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrBadKey, err)
	}
	coefficient := chainhash.TaggedHash([]byte("MuSig/noncecoef"), combined[:], schnorr.SerializePubKey(agg.FinalKey), digest[:])
	var b btcec.ModNScalar
	b.SetByteSlice(coefficient[:])
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
