package channel

import (
	"maps"
	"slices"
)

// poolBlocks is in how many blocks one whole pool of unpaid debts is forgotten.
const poolBlocks = 144

// idleSeconds is how long a place is kept without a debt and without a request.
const idleSeconds = 600

// maxPlaces bounds the pool's memory.
const maxPlaces = 4096

// Pool is what all newcomers together may owe, in msat. Every change of it is
// saved in the same commit as the charge that it allows.
// docs/protocol.md, "Newcomers".
type Pool struct {
	Size   uint64           `json:"size"`   // msat
	Height uint32           `json:"height"` // debts were reduced up to this height
	Places map[string]Place `json:"places"` // by channel id
}

// Place is one newcomer's part of the pool.
type Place struct {
	Reserved uint64 `json:"reserved"` // msat, one chunk
	Owed     uint64 `json:"owed"`     // msat that stands unpaid
	Active   int64  `json:"active"`   // unix seconds of the last request
	Ended    bool   `json:"ended"`    // the channel is over; what it owed only fades
}

func (p Place) taken() uint64 { return max(p.Reserved, p.Owed) }

// Taken is what newcomers owe plus the places that are not in use, in msat.
func (p Pool) Taken() uint64 {
	var sum uint64
	for _, place := range p.Places {
		sum += place.taken()
	}
	return sum
}

// At returns the pool as it stands at a height and a time: debts fade by one
// pool in 144 blocks, idle places that owe nothing are given up.
func (p Pool) At(height uint32, now int64) Pool {
	p.Places = maps.Clone(p.Places)
	if p.Places == nil {
		p.Places = map[string]Place{}
	}
	for id, place := range p.Places {
		if place.Owed == 0 && (place.Ended || now-place.Active >= idleSeconds) {
			delete(p.Places, id)
		}
	}
	if p.Height == 0 || height <= p.Height {
		p.Height = max(p.Height, height)
		return p
	}
	blocks := uint64(min(height-p.Height, poolBlocks))
	fade := p.Size / poolBlocks * blocks
	if blocks == poolBlocks {
		fade = p.Size
	}
	p.Height = height
	for _, id := range slices.Sorted(maps.Keys(p.Places)) {
		place := p.Places[id]
		if fade == 0 || place.Owed == 0 || !place.stale(now) {
			continue
		}
		off := min(fade, place.Owed)
		fade -= off
		place.Owed -= off
		place.Reserved = 0
		p.Places[id] = place
		if place.Owed == 0 {
			delete(p.Places, id)
		}
	}
	return p
}

// stale: the debt of a channel that is over or has been silent.
func (p Place) stale(now int64) bool { return p.Ended || now-p.Active >= idleSeconds }

// Room reports whether a place of this many msat could be reserved now.
func (p Pool) Room(msat uint64) bool {
	taken := p.Taken()
	return len(p.Places) < maxPlaces && taken <= p.Size && msat <= p.Size-taken
}

// Reserve gives a channel a place of this many msat, or keeps the one it has.
// It reports whether the channel has a place of that size afterwards.
func (p Pool) Reserve(id string, msat uint64, now int64) (Pool, bool) {
	place, has := p.Places[id]
	p.Places = maps.Clone(p.Places)
	if p.Places == nil {
		p.Places = map[string]Place{}
	}
	if !has && len(p.Places) >= maxPlaces {
		return p, false
	}
	rest := p
	rest.Places = maps.Clone(p.Places)
	delete(rest.Places, id)
	others := rest.Taken()
	want := max(msat, place.taken())
	if others > p.Size || want > p.Size-others {
		return p, has && place.Reserved >= msat
	}
	place.Reserved, place.Active, place.Ended = want, now, false
	p.Places[id] = place
	return p, true
}

// Owe records what a newcomer owes after a charge (msat). It reports whether
// the pool allows it: never more than its place, and never without one.
func (p Pool) Owe(id string, owed uint64, now int64) (Pool, bool) {
	place, has := p.Places[id]
	if owed > 0 && (!has || owed > place.Reserved) {
		return p, false
	}
	if !has {
		return p, true
	}
	p.Places = maps.Clone(p.Places)
	place.Owed, place.Active = owed, now
	p.Places[id] = place
	return p, true
}

// Paid gives back at once what a payment covered: owed is what still stands.
func (p Pool) Paid(id string, owed uint64) Pool {
	place, has := p.Places[id]
	if !has {
		return p
	}
	p.Places = maps.Clone(p.Places)
	place.Owed = min(place.Owed, owed)
	p.Places[id] = place
	return p
}

// Leave takes a graduated or ended channel out. What an ended one owes stays
// and fades.
func (p Pool) Leave(id string, ended bool) Pool {
	place, has := p.Places[id]
	if !has {
		return p
	}
	p.Places = maps.Clone(p.Places)
	if !ended || place.Owed == 0 {
		delete(p.Places, id)
		return p
	}
	place.Ended, place.Reserved = true, 0
	p.Places[id] = place
	return p
}
