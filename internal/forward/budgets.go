package forward

import (
	"fmt"
	"path"
	"strings"
	"sync"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/paywall"
)

// Allow lets a host be paid.
type Allow struct {
	// Host is a host name, with a port where it is not the scheme's own ("api.example",
	// "127.0.0.1:4402"), or a pattern of path.Match such as "*.example".
	Host string
	// Budget is the most that is signed to all hosts of this entry together, in sat;
	// 0: only the total counts.
	Budget uint64
}

// Budgets are what may be paid: a total, and a part of it for each entry of the
// allow-list. They count what was signed, which is spent whatever became of it, from
// what the payer's records say: nothing is forgotten by a restart. Their methods may be
// called from many goroutines.
type Budgets struct {
	total  uint64
	allows []Allow

	mu       sync.Mutex
	channels map[string]spent // by id
}

// spent is one channel's part.
type spent struct {
	origin string
	base   uint64 // sat that were signed before the budget began
	signed uint64 // sat
}

func (s spent) sat() uint64 { return s.signed - min(s.signed, s.base) }

// NewBudgets counts from what the records say. base is what had been signed in each
// channel when the budget began, in sat. Errors: for a pattern that is none.
func NewBudgets(total uint64, allows []Allow, records []channel.PayerRecord, base map[string]uint64) (*Budgets, error) {
	for _, a := range allows {
		if _, err := path.Match(a.Host, ""); err != nil || a.Host == "" || strings.Contains(a.Host, "/") {
			return nil, fmt.Errorf("%q is no host and no pattern of hosts", a.Host)
		}
	}
	b := &Budgets{total: total, allows: allows, channels: map[string]spent{}}
	for _, r := range records {
		id := r.Terms.ID()
		b.channels[id] = spent{origin: paywall.Origin(r.Origin), base: base[id], signed: r.Signed}
	}
	return b, nil
}

// hostOf is an origin's host as an entry names it: without the scheme's own port.
func hostOf(origin string) string {
	if host, ok := strings.CutPrefix(origin, "https://"); ok {
		return strings.TrimSuffix(host, ":443")
	}
	return strings.TrimSuffix(strings.TrimPrefix(origin, "http://"), ":80")
}

// entry is the first entry that an origin is allowed by; -1: none.
func (b *Budgets) entry(origin string) int {
	host := hostOf(origin)
	for i, a := range b.allows {
		if ok, err := path.Match(strings.ToLower(a.Host), host); ok && err == nil && host != "" {
			return i
		}
	}
	return -1
}

// Allowed reports whether an origin may be paid at all.
func (b *Budgets) Allowed(origin string) bool { return b.entry(origin) >= 0 }

// Left is what may still be signed to an origin, in sat.
func (b *Budgets) Left(origin string) uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	left, _ := b.left(origin)
	return left
}

// left is what may still be signed to an origin, and which budget that is; b.mu is held.
func (b *Budgets) left(origin string) (left uint64, of string) {
	at := b.entry(origin)
	if at < 0 {
		return 0, ""
	}
	var all, here uint64
	for _, s := range b.channels {
		all += s.sat()
		if b.entry(s.origin) == at {
			here += s.sat()
		}
	}
	left, of = b.total-min(b.total, all), "in all"
	if most := b.allows[at].Budget; most > 0 && most-min(most, here) < left {
		left, of = most-min(most, here), "for "+b.allows[at].Host
	}
	return left, of
}

// Spend is payer.Config.Spend: it refuses a payment that no budget allows, and counts
// one that it does. Errors: paywall.ErrNotAllowed, channel.ErrBudget.
func (b *Budgets) Spend(r channel.PayerRecord, more uint64) error {
	origin, id := paywall.Origin(r.Origin), r.Terms.ID()
	b.mu.Lock()
	defer b.mu.Unlock()
	left, of := b.left(origin)
	switch s := b.channels[id]; {
	case of == "":
		return fmt.Errorf("%w: %s", paywall.ErrNotAllowed, hostOf(origin))
	case r.Signed <= s.signed:
		return nil // it was counted when it was not saved
	case r.Signed-s.signed > left:
		return fmt.Errorf("%w: %d sat more are wanted, %d sat are left %s", channel.ErrBudget, more, left, of)
	default:
		b.channels[id] = spent{origin: origin, base: s.base, signed: r.Signed}
	}
	return nil
}

// Line is what was spent by one entry of the allow-list.
type Line struct {
	Host   string `json:"host"`
	Budget uint64 `json:"budget_sat"` // 0: only the total counts
	Spent  uint64 `json:"spent_sat"`
}

// Status is what was spent, in all and by entry.
type Status struct {
	Budget uint64 `json:"budget_sat"`
	Spent  uint64 `json:"spent_sat"`
	Lines  []Line `json:"hosts"`
}

// Status sums up what was spent since the budget began.
func (b *Budgets) Status() Status {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := Status{Budget: b.total, Lines: make([]Line, len(b.allows))}
	for i, a := range b.allows {
		s.Lines[i] = Line{Host: a.Host, Budget: a.Budget}
	}
	for _, c := range b.channels {
		s.Spent += c.sat()
		if at := b.entry(c.origin); at >= 0 {
			s.Lines[at].Spent += c.sat()
		}
	}
	return s
}
