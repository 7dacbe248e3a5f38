package paywall

import (
	"crypto/sha256"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/spillway/spillway/payee"
)

const (
	// maxPasts bounds of how many streams it is remembered what was charged of them,
	// and maxEvents of how many events of each.
	maxPasts  = 1024
	maxEvents = 1024
)

// pasts remember where in a stream its newest events are, by their ids, so that what
// was charged of it can be had again free. They live in memory for as long as a line
// does: after a restart what is not paid for is taken not to have come.
// docs/protocol.md, section 13.
type pasts struct {
	ttl time.Duration
	now func() time.Time
	mu  sync.Mutex
	at  map[[32]byte]*past
}

// past is one stream's.
type past struct {
	used  time.Time
	at    map[[16]byte]uint64 // by the hash of an id: the position after the last event with it
	order [][16]byte          // oldest first
}

func idHash(id string) (h [16]byte) {
	sum := sha256.Sum256([]byte(id))
	copy(h[:], sum[:])
	return h
}

// of is a copy of what is remembered of a stream; nil: nothing is.
func (p *pasts) of(name [32]byte) map[[16]byte]uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	past := p.at[name]
	if past == nil || p.now().Sub(past.used) >= p.ttl {
		return nil
	}
	known := make(map[[16]byte]uint64, len(past.at))
	for id, at := range past.at {
		known[id] = at
	}
	return known
}

// mark is the position after an event.
type mark struct {
	id [16]byte
	at uint64
}

// add remembers events that were charged.
func (p *pasts) add(name [32]byte, marks []mark) {
	if len(marks) == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.at == nil {
		p.at = map[[32]byte]*past{}
	}
	one := p.at[name]
	if one == nil {
		p.room()
		one = &past{at: map[[16]byte]uint64{}}
		p.at[name] = one
	}
	one.used = p.now()
	for _, m := range marks {
		if _, ok := one.at[m.id]; ok {
			one.at[m.id] = max(one.at[m.id], m.at)
			continue
		}
		one.at[m.id] = m.at
		one.order = append(one.order, m.id)
	}
	for len(one.order) > maxEvents {
		delete(one.at, one.order[0])
		one.order = slices.Delete(one.order, 0, 1)
	}
}

// room forgets what is too old, and the least used where there is too much.
func (p *pasts) room() {
	var oldest [32]byte
	var since time.Time
	for name, past := range p.at {
		if p.now().Sub(past.used) >= p.ttl {
			delete(p.at, name)
		} else if since.IsZero() || past.used.Before(since) {
			oldest, since = name, past.used
		}
	}
	if len(p.at) >= maxPasts {
		delete(p.at, oldest)
	}
}

// begin is where a stream begins, as its line counts: in events, or in bytes. A request
// that names the event after which it goes on begins there; one that names none begins
// at the beginning. Where nothing is remembered (the provider was restarted) an honest
// payer has paid for all that came: what is not paid for is had again.
func (p Price) begin(r *http.Request, known map[[16]byte]uint64, rec payee.Receipt) uint64 {
	had := p.measure(rec.LineUnits)
	last := r.Header.Get(headerLastEvent)
	if last == "" {
		return 0
	}
	if at, ok := known[idHash(last)]; ok {
		return min(at, had)
	}
	if len(known) > 0 {
		return had
	}
	owed := rec.Charged - min(rec.Charged, rec.Paid*1000)
	units := min(p.buys(min(owed, p.credit())+999), rec.LineUnits)
	return min(had, p.measure(rec.LineUnits-units))
}

// measure is how far so many units of the line reach at the most: in bytes where the
// body is measured by them, else in units.
func (p Price) measure(units uint64) uint64 {
	if p.ChunkBytes > 0 {
		return units * min(p.ChunkBytes, 1<<40)
	}
	return units
}
