package curve

import (
	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/btcec/v2/schnorr/musig2"
)

// What is remembered of two keys.
const (
	sharedPoint = iota
	aggregate
)

// Shared is the point that is one's own private key times the other's public key;
// both sides of a pair get the same.
func Shared(own *btcec.PrivateKey, other *btcec.PublicKey) *btcec.PublicKey {
	m := known.Load()
	name, remember := m.pair(m.of(own), other)
	if remember {
		if p := m.recallPair(name, sharedPoint); p != nil {
			return p
		}
	}
	var point, shared btcec.JacobianPoint
	other.AsJacobian(&point)
	btcec.ScalarMultNonConst(&own.Key, &point, &shared)
	shared.ToAffine()
	p := btcec.NewPublicKey(&shared.X, &shared.Y)
	if remember {
		m.notePair(name, sharedPoint, p)
	}
	return p
}

// Aggregate is the MuSig2 aggregate of two keys, sorted. BIP327. Errors: the
// library's.
func Aggregate(a, b *btcec.PublicKey) (*btcec.PublicKey, error) {
	m := known.Load()
	name, remember := m.pair(a, b)
	if remember {
		if p := m.recallPair(name, aggregate); p != nil {
			return p, nil
		}
	}
	agg, _, _, err := musig2.AggregateKeys([]*btcec.PublicKey{a, b}, true)
	if err != nil {
		return nil, err
	}
	if remember {
		m.notePair(name, aggregate, agg.PreTweakedKey)
	}
	return agg.PreTweakedKey, nil
}

// fact is something about two keys.
type fact struct {
	pair [66]byte
	what int
}

func (m *memory) recallPair(pair [66]byte, what int) *btcec.PublicKey {
	m.mu.Lock()
	defer m.mu.Unlock()
	if p := m.pairs[fact{pair, what}]; p != nil {
		same := *p
		return &same
	}
	return nil
}

func (m *memory) notePair(pair [66]byte, what int, p *btcec.PublicKey) {
	same := *p
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.pairs) >= limit {
		clear(m.pairs)
		clear(m.sums)
	}
	if what == aggregate {
		m.sums[compressed(p)] = struct{}{}
	}
	m.pairs[fact{pair, what}] = &same
}
