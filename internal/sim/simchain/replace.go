package simchain

import (
	"slices"

	"github.com/btcsuite/btcd/chainhash/v2"
)

// Limits of what hangs together in a mempool (a bitcoind's), of what one
// replacement evicts, and of TRUC transactions (BIP431), in vB.
const (
	maxFamily     = 25
	maxFamilySize = 101_000
	maxCarveOut   = 10_000
	maxEvictions  = 100
	maxTruc       = 10_000
	maxTrucChild  = 1_000
)

// relay is what a transaction pays at least to be relayed, in sat.
func (c *Chain) relay(vsize int64) int64 {
	if c.Relay > 0 {
		return c.Relay.Fee(vsize)
	}
	return relayFloor.Fee(vsize)
}

// policy judges fees, replacement and chains of unconfirmed transactions; it
// returns what is evicted.
func (c *Chain) policy(e *entry, direct []*entry, from origin) (map[chainhash.Hash]bool, error) {
	size := e.vsize()
	if from == fresh {
		switch {
		case c.least > 0 && e.fee < c.least.Fee(size):
			return nil, refuse("mempool min fee not met, %d < %d", e.fee, c.least.Fee(size))
		case e.fee < c.relay(size):
			return nil, refuse("min relay fee not met, %d < %d", e.fee, c.relay(size))
		}
	}
	if c.Rules == Embedded && len(direct) == 0 || len(c.pool) == 0 {
		return nil, trucSize(c.Rules, e, 0)
	}
	above := c.ancestors(e)
	if c.Rules == Bitcoind {
		sibling, err := c.chains(e, above, direct, from)
		if err != nil {
			return nil, err
		}
		if sibling != nil {
			direct = append(direct, sibling)
		}
	}
	if len(direct) == 0 {
		return nil, nil
	}
	return c.replace(e, direct, above)
}

// chains judges what a transaction hangs on and beside what, in a bitcoind; the
// sibling is what it may take the place of.
func (c *Chain) chains(e *entry, above map[chainhash.Hash]*entry, direct []*entry, from origin) (sibling *entry, err error) {
	if err := c.below(e, above); err != nil || from == stayed {
		return nil, err
	}
	if err := c.beside(e, above, direct); err != nil || from == undone {
		return nil, err
	}
	return c.truc(e, above, direct)
}

// ancestors are the transactions of the mempool that a transaction hangs on.
func (c *Chain) ancestors(e *entry) map[chainhash.Hash]*entry {
	var found map[chainhash.Hash]*entry
	for todo := []*entry{e}; len(todo) > 0; todo = todo[1:] {
		for _, in := range todo[0].tx.TxIn {
			p, ok := c.txs[in.PreviousOutPoint.Hash]
			if !ok || p.height > 0 || found[p.e.id] != nil {
				continue
			}
			if found == nil {
				found = map[chainhash.Hash]*entry{}
			}
			found[p.e.id] = p.e
			todo = append(todo, p.e)
		}
	}
	return found
}

// below holds what a transaction hangs on: a number and a size.
func (c *Chain) below(e *entry, above map[chainhash.Hash]*entry) error {
	size := e.vsize()
	for _, a := range above {
		size += a.vsize()
	}
	if len(above)+1 > maxFamily || size > maxFamilySize {
		return refuse("too-long-mempool-chain, too many unconfirmed ancestors")
	}
	return nil
}

// beside holds what hangs on each of a transaction's ancestors. There is one more
// place where it replaces one, and one for a small child of a single parent.
func (c *Chain) beside(e *entry, above map[chainhash.Hash]*entry, direct []*entry) error {
	places, room := maxFamily, int64(maxFamilySize)
	if len(direct) > 0 && !slices.ContainsFunc(direct, func(d *entry) bool { return d != direct[0] }) {
		places, room = places+1, room+direct[0].vsize()
	}
	if len(above) == 1 && e.vsize() <= maxCarveOut && e.tx.Version != 3 {
		places, room = places+1, room+maxCarveOut
	}
	for _, a := range above {
		family, size := c.family(a), e.vsize()
		for id := range family {
			size += c.txs[id].e.vsize()
		}
		if len(family)+1 > places || size > room {
			return refuse("too-long-mempool-chain, too many descendants")
		}
	}
	return nil
}

// trucSize holds the size of a version 3 transaction with so many ancestors.
func trucSize(rules Rules, e *entry, ancestors int) error {
	if rules != Bitcoind || e.tx.Version != 3 {
		return nil
	}
	switch size := e.vsize(); {
	case size > maxTruc:
		return refuse("TRUC-violation, a version 3 transaction of %d vB", size)
	case ancestors > 0 && size > maxTrucChild:
		return refuse("TRUC-violation, a version 3 child of %d vB", size)
	}
	return nil
}

// truc holds BIP431: one unconfirmed parent, of version 3 too, one child each. The
// sibling is the child that the new one may take the place of.
func (c *Chain) truc(e *entry, above map[chainhash.Hash]*entry, direct []*entry) (sibling *entry, err error) {
	for _, a := range above {
		if (a.tx.Version == 3) != (e.tx.Version == 3) {
			return nil, refuse("TRUC-violation, version %d spends from unconfirmed version %d", e.tx.Version, a.tx.Version)
		}
	}
	if err := trucSize(c.Rules, e, len(above)); err != nil || e.tx.Version != 3 {
		return nil, err
	}
	if len(above) > 1 {
		return nil, refuse("TRUC-violation, too many unconfirmed ancestors")
	}
	for _, parent := range above {
		family := c.family(parent)
		delete(family, parent.id)
		for _, d := range direct {
			delete(family, d.id)
		}
		if len(family) > 1 {
			return nil, refuse("TRUC-violation, the parent has %d children", len(family))
		}
		for id := range family {
			sibling = c.txs[id].e
			if len(c.ancestors(sibling)) != 1 {
				return nil, refuse("TRUC-violation, the parent has a child already")
			}
		}
	}
	return sibling, nil
}

// replace holds the rules of replacement: at most a hundred are evicted, none of
// which the new one spends from; it pays a higher rate, all their fees and its own
// relay on top, and spends no other unconfirmed outputs than they did.
func (c *Chain) replace(e *entry, direct []*entry, above map[chainhash.Hash]*entry) (map[chainhash.Hash]bool, error) {
	gone := map[chainhash.Hash]bool{}
	parents := map[chainhash.Hash]bool{}
	for _, d := range direct {
		for id := range c.family(d) {
			gone[id] = true
		}
	}
	if len(gone) > maxEvictions {
		return nil, refuse("too many potential replacements, rejecting replacement %s; %d > %d", e.id, len(gone), maxEvictions)
	}
	var fees, dearest int64
	for id := range gone {
		old := c.txs[id].e
		if fees += old.fee; c.Rules == Embedded {
			dearest = max(dearest, old.perKvB())
		}
		if above[id] != nil {
			return nil, refuse("bad-txns-spends-conflicting-tx, %s spends what it replaces", e.id)
		}
	}
	for _, d := range direct {
		dearest = max(dearest, d.perKvB())
	}
	if rate := e.perKvB(); rate <= dearest {
		return nil, refuse("insufficient fee, rejecting replacement %s; new feerate %d <= old feerate %d", e.id, rate, dearest)
	}
	if least := fees + c.relay(e.vsize()); e.fee < least {
		return nil, refuse("insufficient fee, rejecting replacement %s; %d < %d", e.id, e.fee, least)
	}
	from := direct
	if c.Rules == Embedded {
		for id := range gone {
			from = append(from[:len(from):len(from)], c.txs[id].e)
		}
	}
	for _, d := range from {
		for _, in := range d.tx.TxIn {
			parents[in.PreviousOutPoint.Hash] = true
		}
	}
	for _, in := range e.tx.TxIn {
		if p, ok := c.txs[in.PreviousOutPoint.Hash]; ok && p.height == 0 && !parents[in.PreviousOutPoint.Hash] {
			return nil, refuse("replacement-adds-unconfirmed, replacement %s adds unconfirmed input", e.id)
		}
	}
	return gone, nil
}
