// Package curve is where Spillway calls the curve secp256k1: signatures that are made
// and verified with arithmetic of its own, checked against the library's, the library's
// other functions, and a memory of what was answered for the simulator's keys.
//
// What its own arithmetic finds good satisfies the equation that the library checks;
// what it does not the library judges (docs/adr/0016-own-verification.md).
//
// The memory holds true answers only: a public key that was computed, a point that
// was decompressed, a signature that was made here with the key that checks it, a
// transaction whose scripts were executed. It is empty until a process calls Know, and
// concerns the keys named there alone. Only internal/sim calls it (internal/laws), and
// never with a key that holds money. It remembers nothing of other keys, stores
// nothing, and prints nothing.
package curve

import (
	"bytes"
	"crypto/sha256"
	"sync"
	"sync/atomic"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/btcec/v2/ecdsa"
	"github.com/btcsuite/btcd/btcec/v2/schnorr"
	"github.com/btcsuite/btcd/btcec/v2/schnorr/musig2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/txscript/v2"
)

// known is the memory; nil in every process but the simulator's.
var known atomic.Pointer[memory]

// limit bounds each kind of answer that is remembered: where there are more, all of
// that kind are forgotten.
const limit = 1 << 16

// memory is what is known of some keys.
type memory struct {
	mu     sync.Mutex
	public map[[32]byte]*btcec.PublicKey // by private key
	points map[[33]byte]*btcec.PublicKey // by their compressed form
	pairs  map[fact]*btcec.PublicKey
	checks *txscript.SigCache    // what scripts checked, of any key
	signed map[[32]byte]struct{} // hashes of key, digest and signature
	sums   map[[33]byte]struct{} // aggregates of known keys
	outs   map[[65]byte]*btcec.PublicKey
	schnor map[[32]byte]schnorr.Signature // by hashes of key and digest
	ecdsas map[[32]byte]ecdsa.Signature
	ran    map[[32]byte]struct{} // transactions, with what they spend, of any key
}

// Know begins to remember what concerns a key, for the whole process. For
// simulators: the key must not hold money.
func Know(key *btcec.PrivateKey) {
	if known.Load() == nil {
		known.CompareAndSwap(nil, newMemory())
	}
	m, pub := known.Load(), key.PubKey()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.public[key.Key.Bytes()] = pub
	m.points[compressed(pub)] = pub
}

func newMemory() *memory {
	return &memory{
		public: map[[32]byte]*btcec.PublicKey{}, points: map[[33]byte]*btcec.PublicKey{},
		pairs: map[fact]*btcec.PublicKey{}, checks: txscript.NewSigCache(limit / 4), signed: map[[32]byte]struct{}{},
		sums: map[[33]byte]struct{}{}, outs: map[[65]byte]*btcec.PublicKey{}, schnor: map[[32]byte]schnorr.Signature{},
		ecdsas: map[[32]byte]ecdsa.Signature{}, ran: map[[32]byte]struct{}{},
	}
}

func compressed(pub *btcec.PublicKey) [33]byte { return [33]byte(pub.SerializeCompressed()) }

// of is a known key's public key.
func (m *memory) of(key *btcec.PrivateKey) *btcec.PublicKey {
	if m == nil {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.public[key.Key.Bytes()]
}

// point is a known key from its compressed form.
func (m *memory) point(raw []byte) *btcec.PublicKey {
	if m == nil || len(raw) != 33 {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.points[[33]byte(raw)]
}

// Public is a private key's public key.
func Public(key *btcec.PrivateKey) *btcec.PublicKey {
	if pub := known.Load().of(key); pub != nil {
		same := *pub
		return &same
	}
	return key.PubKey()
}

// Parse reads a public key. Errors: the library's.
func Parse(raw []byte) (*btcec.PublicKey, error) {
	if pub := known.Load().point(raw); pub != nil {
		same := *pub
		return &same, nil
	}
	return btcec.ParsePubKey(raw)
}

// SignSchnorr signs a digest with the nonce of RFC 6979, as the library does, with a
// key whose public key is known already. BIP340. What is returned was verified by that
// public key (docs/adr/0016); of known keys nobody does so. Errors: the library's.
func SignSchnorr(key *btcec.PrivateKey, public *btcec.PublicKey, digest []byte) (*schnorr.Signature, error) {
	m := known.Load()
	pub := m.of(key)
	if pub == nil {
		if sig, ok := sign(key, public, digest); ok && VerifySchnorr(sig, digest, public) {
			return sig, nil
		}
		return schnorr.Sign(key, digest) // it says what is wrong, and checks what it signed too
	}
	name := hash('s', pub, digest, nil)
	if sig, ok := recall(m, m.schnor, name); ok {
		return &sig, nil
	}
	sig, ok := sign(key, pub, digest)
	if !ok {
		return schnorr.Sign(key, digest)
	}
	m.sign('s', pub, digest, sig.Serialize())
	note(m, m.schnor, name, *sig)
	return sig, nil
}

// VerifySchnorr checks a signature. BIP340.
func VerifySchnorr(sig *schnorr.Signature, digest []byte, pub *btcec.PublicKey) bool {
	return known.Load().made('s', pub, digest, sig.Serialize) || goodSchnorr(sig, digest, pub) || sig.Verify(digest, pub)
}

// SignedECDSA tells that a signature was made with a key just now.
func SignedECDSA(key *btcec.PrivateKey, digest []byte, sig *ecdsa.Signature) {
	m := known.Load()
	if pub := m.of(key); pub != nil {
		m.sign('e', pub, digest, sig.Serialize())
		note(m, m.ecdsas, hash('e', pub, digest, nil), *sig)
	}
}

// MadeECDSA is the signature of a digest that was told to [SignedECDSA]; nil: none.
func MadeECDSA(key *btcec.PrivateKey, digest []byte) *ecdsa.Signature {
	m := known.Load()
	if pub := m.of(key); pub != nil {
		if sig, ok := recall(m, m.ecdsas, hash('e', pub, digest, nil)); ok {
			return &sig
		}
	}
	return nil
}

// Signed tells in which form a signature that was made just now stands in an input:
// what its script would find out.
func Signed(key *btcec.PrivateKey, digest, sig []byte, flag byte, multisig bool) {
	m := known.Load()
	pub := m.of(key)
	if pub == nil || len(digest) != chainhash.HashSize {
		return
	}
	if multisig {
		m.checks.Add(chainhash.Hash(digest), bytes.Clone(sig), pub.SerializeCompressed())
		return
	}
	full := bytes.Clone(sig)
	if flag != byte(txscript.SigHashDefault) {
		full = append(full, flag)
	}
	m.checks.Add(chainhash.Hash(digest), full, schnorr.SerializePubKey(pub))
}

// Scripts is what scripts have checked before; nil where nothing is remembered.
func Scripts() *txscript.SigCache {
	if m := known.Load(); m != nil {
		return m.checks
	}
	return nil
}

// VerifyECDSA checks a signature.
func VerifyECDSA(sig *ecdsa.Signature, digest []byte, pub *btcec.PublicKey) bool {
	return known.Load().made('e', pub, digest, sig.Serialize) || goodECDSA(sig, digest, pub) || sig.Verify(digest, pub)
}

// SignOptions are MuSig2's options beside those of the caller.
func SignOptions(key *btcec.PrivateKey) []musig2.SignOption {
	if known.Load().of(key) == nil {
		return nil
	}
	return []musig2.SignOption{musig2.WithFastSign()}
}

// hash names a signature.
func hash(kind byte, pub *btcec.PublicKey, digest, sig []byte) [32]byte {
	point := compressed(pub)
	if kind == 's' {
		point[0] = 2 // BIP340 knows keys by their x alone
	}
	raw := append([]byte{kind, byte(len(digest))}, point[:]...)
	return sha256.Sum256(append(append(raw, digest...), sig...))
}

func (m *memory) sign(kind byte, pub *btcec.PublicKey, digest, sig []byte) {
	name := hash(kind, pub, digest, sig)
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.signed) >= limit {
		clear(m.signed)
	}
	m.signed[name] = struct{}{}
}

func (m *memory) made(kind byte, pub *btcec.PublicKey, digest []byte, sig func() []byte) bool {
	if m == nil {
		return false
	}
	name := hash(kind, pub, digest, sig())
	m.mu.Lock()
	defer m.mu.Unlock()
	_, ok := m.signed[name]
	return ok
}

// pair names two keys that are both known, in the order of their compressed forms.
func (m *memory) pair(a, b *btcec.PublicKey) (name [66]byte, ok bool) {
	if m == nil || a == nil || b == nil {
		return name, false
	}
	one, two := a.SerializeCompressed(), b.SerializeCompressed()
	if bytes.Compare(one, two) > 0 {
		one, two = two, one
	}
	copy(name[:], one)
	copy(name[33:], two)
	return name, m.point(one) != nil && m.point(two) != nil
}
