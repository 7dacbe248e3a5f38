package payee

import (
	"sync"
	"time"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/script"
)

// maxKept is how many channels are kept in memory, as far as they were used: of those
// that were not used for longest a payment reads and builds anew what it needs. A
// channel takes less than 2 KiB.
const maxKept = 1 << 17

// kept is what is remembered of one channel beside what is stored, so that a payment
// decodes, builds and derives nothing that it has had before.
type kept struct {
	mu       sync.Mutex
	revision uint64 // of record; 0: it is not known
	record   channel.PayeeRecord
	script   *script.Channel // nil: not built yet
	mac      [32]byte
	macKnown bool
	seen     seen
}

// about is what is remembered of a channel; nil: nothing is.
func (p *Payee) about(id string) *kept {
	k, _ := p.kept.Get(id, 0)
	return k
}

// remember changes what is remembered of a channel that is stored.
func (p *Payee) remember(id string, change func(*kept)) {
	k := p.about(id)
	if k == nil {
		k = &kept{}
	}
	k.mu.Lock()
	change(k)
	k.mu.Unlock()
	p.kept.Put(id, 0, k)
}

// knows remembers a record as it is stored at a revision.
func (p *Payee) knows(id string, revision uint64, r channel.PayeeRecord) {
	r = p.compact(r)
	p.remember(id, func(k *kept) {
		if revision > k.revision {
			k.revision, k.record = revision, r
		}
	})
}

// recordAt is a channel's record at a revision, where that is remembered.
func (p *Payee) recordAt(id string, revision uint64) (r channel.PayeeRecord, ok bool) {
	k := p.about(id)
	if k == nil {
		return r, false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.revision != revision || revision == 0 {
		return r, false
	}
	return k.record, true
}

// newest is a channel's record as it was last read or saved, where that is remembered.
func (p *Payee) newest(id string) (r channel.PayeeRecord, revision uint64, ok bool) {
	k := p.about(id)
	if k == nil {
		return r, 0, false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.record, k.revision, k.revision > 0
}

// doubt forgets a channel's record: a save of it failed, and the store is asked what
// is there.
func (p *Payee) doubt(id string) {
	if k := p.about(id); k != nil {
		k.mu.Lock()
		k.revision, k.record = 0, channel.PayeeRecord{}
		k.mu.Unlock()
	}
}

// quiet reports whether a channel needs nothing in this view, by its record as it was
// last read: most are idle at most times, and cost the store no question then.
func (p *Payee) quiet(id string, v channel.View) bool {
	r, _, known := p.newest(id)
	if !known || r.Stopped != "" || !r.Idle(v) || len(r.FundingTx) == 0 || r.Sound() != nil {
		return false
	}
	next, actions := r.Due(nil, p.cfg.Payout, v, p.cfg.Policy)
	return len(actions) == 0 && next.Phase == r.Phase && next.SpentBy == r.SpentBy && next.Reason == r.Reason
}

// compact lets the words of a record be the ones that all records share.
func (p *Payee) compact(r channel.PayeeRecord) channel.PayeeRecord {
	if r.Terms.Network == p.cfg.Network {
		r.Terms.Network = p.cfg.Network
	}
	for _, c := range []script.Construction{script.Taproot, script.Multisig, script.MultisigP2SH, script.Duplex} {
		if r.Terms.Construction == c {
			r.Terms.Construction = c
		}
	}
	for _, phase := range []channel.Phase{channel.Funding, channel.Open, channel.Settling, channel.Closing, channel.Closed, channel.Refunded, channel.Abandoned} {
		if r.Phase == phase {
			r.Phase = phase
		}
	}
	return r
}

// scripts returns the scripts of a channel that is stored, built once: its terms
// never change.
func (p *Payee) scripts(t channel.Terms) (*script.Channel, error) {
	id := t.ID()
	if k := p.about(id); k != nil {
		k.mu.Lock()
		ch := k.script
		k.mu.Unlock()
		if ch != nil {
			return ch, nil
		}
	}
	ch, err := t.Script()
	if err != nil {
		return nil, err
	}
	p.remember(id, func(k *kept) { k.script = ch })
	return ch, nil
}

// seen is what the chain said of a channel, and when.
type seen struct {
	view channel.View
	at   time.Time // zero: never
}

// observed is what was last seen of a channel.
func (p *Payee) observed(id string) (s seen, ok bool) {
	k := p.about(id)
	if k == nil {
		return s, false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.seen, !k.seen.at.IsZero()
}

// observe remembers what the chain says of a channel.
func (p *Payee) observe(id string, v channel.View) {
	now := p.cfg.Now()
	p.remember(id, func(k *kept) { k.seen = seen{v, now} })
}

// Remembered is how many entries are kept in memory of channels and offers, beside
// what is stored: for tests of what a peer can make of them. Each kind is bounded, and
// an unpaid request adds none.
func (p *Payee) Remembered() int {
	p.pending.mu.Lock()
	defer p.pending.mu.Unlock()
	return len(p.pending.ids) + p.kept.Len()
}
