package sim

import (
	"crypto/sha256"
	"encoding/binary"
	"sync"

	"github.com/btcsuite/btcd/btcec/v2"

	"github.com/spillway/spillway/internal/curve"
	"github.com/spillway/spillway/keys"
)

// keyCache remembers derived keys: deriving is not what runs are about.
type keyCache struct {
	ring   *keys.Keyring
	offset uint32 // of the payer's indices: each buyer has a seed of its own
	real   bool   // derived as the program does, and nothing about them is remembered
	payer  map[uint32]*btcec.PrivateKey
	payee  map[[16]byte]*btcec.PrivateKey
}

func newKeyCache(ring *keys.Keyring, real bool) *keyCache {
	return &keyCache{ring: ring, real: real, payer: map[uint32]*btcec.PrivateKey{}, payee: map[[16]byte]*btcec.PrivateKey{}}
}

// PayerChannelKey implements the payer's keys.
func (k *keyCache) PayerChannelKey(index uint32) (key *btcec.PrivateKey, err error) {
	if key = k.payer[index]; key == nil {
		if key, err = k.derivePayer(k.offset + index); err == nil {
			k.payer[index] = key
		}
	}
	return key, err
}

func (k *keyCache) derivePayer(index uint32) (*btcec.PrivateKey, error) {
	if k.real {
		return k.ring.PayerChannelKey(index)
	}
	return stock.key('1', index), nil
}

// PayeeChannelKey implements the payee's keys.
func (k *keyCache) PayeeChannelKey(nonce [16]byte) (key *btcec.PrivateKey, err error) {
	if key = k.payee[nonce]; key == nil {
		if key, err = k.derivePayee(nonce); err == nil {
			k.payee[nonce] = key
		}
	}
	return key, err
}

// derivePayee gives each nonce of a run the next key.
func (k *keyCache) derivePayee(nonce [16]byte) (*btcec.PrivateKey, error) {
	if k.real {
		return k.ring.PayeeChannelKey(nonce)
	}
	return stock.key('2', uint32(len(k.payee))), nil
}

// stock are the keys of the runs that are not about derivation, the same ones in
// all of them, made when they are first wanted. What the curve answered for them is
// remembered by the process.
var stock keyStock

type keyStock struct {
	mu  sync.Mutex
	all map[name]*btcec.PrivateKey
}

// name is a side and the number of a key of it.
type name struct {
	side  byte
	index uint32
}

func (s *keyStock) key(side byte, index uint32) *btcec.PrivateKey {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := s.all[name{side, index}]
	if key == nil {
		sum := sha256.Sum256(binary.BigEndian.AppendUint32([]byte{side}, index))
		key, _ = btcec.PrivKeyFromBytes(sum[:])
		curve.Know(key)
		if s.all == nil {
			s.all = map[name]*btcec.PrivateKey{}
		}
		s.all[name{side, index}] = key
	}
	return key
}
