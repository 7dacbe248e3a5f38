package several

import (
	"cmp"
	"slices"
	"time"
)

// Kind is what is wrong between backends.
type Kind string

// Kinds of alarms.
const (
	Unreachable Kind = "unreachable" // a backend can't be asked
	Lagging     Kind = "lagging"     // a backend is behind another
	Hasty       Kind = "hasty"       // a backend names a tip that the chain can't have reached
	Split       Kind = "split"       // backends have different blocks at one height
	Transaction Kind = "transaction" // one shows a transaction, or a confirmation, and another does not
	Spending    Kind = "spend"       // one shows a spend, or another spend, and another does not
	Coins       Kind = "coins"       // backends list different coins of a script
	Refusal     Kind = "refusal"     // one takes a transaction, another refuses it
	Fees        Kind = "fees"        // estimates are more than four times apart
)

// Alarm says that backends differ, and since when.
type Alarm struct {
	Kind    Kind      `json:"kind"`
	Backend string    `json:"backend,omitempty"` // the one that is wrong, where that can be told
	Subject string    `json:"subject,omitempty"` // the txid, outpoint or script that it is about
	Text    string    `json:"text"`
	Since   time.Time `json:"since"`
	Over    bool      `json:"over,omitempty"` // only to OnAlarm: it is over
}

// subject is what a doubt is about.
type subject struct {
	kind    Kind
	backend string
	about   string
}

// doubt is a difference that may become an alarm.
type doubt struct {
	text   string
	since  time.Time
	seen   time.Time
	raised bool
}

// most is how many doubts are remembered; the oldest unraised ones go first.
const most = 4_096

// forgotten is how long a doubt lasts that nobody has looked at again.
const forgotten = 2 * time.Hour

// note takes down whether something is wrong now. A difference that outlasts the grace is an alarm.
func (b *Backend) note(s subject, wrong bool, text func() string) {
	now := b.cfg.Now()
	b.mu.Lock()
	d := b.doubts[s]
	var tell *Alarm
	switch {
	case !wrong && d != nil:
		delete(b.doubts, s)
		if d.raised {
			tell = s.alarm(d)
			tell.Over = true
		}
	case wrong:
		if d == nil {
			b.makeRoom(now)
			d = &doubt{since: now}
			b.doubts[s] = d
		}
		d.text, d.seen = text(), now
		if !d.raised && now.Sub(d.since) >= max(0, b.cfg.Grace) {
			d.raised = true
			tell = s.alarm(d)
		}
	}
	b.mu.Unlock()
	if tell != nil {
		b.tell(*tell)
	}
}

// makeRoom forgets what is long gone, and where nothing is, what is not raised.
func (b *Backend) makeRoom(now time.Time) {
	if len(b.doubts) < most {
		return
	}
	for s, d := range b.doubts {
		if now.Sub(d.seen) > forgotten {
			delete(b.doubts, s)
		}
	}
	for s, d := range b.doubts {
		if len(b.doubts) < most {
			return
		}
		if !d.raised {
			delete(b.doubts, s)
		}
	}
}

func (s subject) alarm(d *doubt) *Alarm {
	return &Alarm{Kind: s.kind, Backend: s.backend, Subject: s.about, Text: d.text, Since: d.since}
}

func (b *Backend) tell(a Alarm) {
	if a.Over {
		b.cfg.Logger.Info("several: an alarm is over", "kind", a.Kind, "backend", a.Backend, "subject", a.Subject)
	} else {
		b.cfg.Logger.Error("several: the backends differ", "kind", a.Kind, "backend", a.Backend, "subject", a.Subject, "text", a.Text)
	}
	if b.cfg.OnAlarm != nil {
		b.cfg.OnAlarm(a)
	}
}

// Alarms are those that are raised now, oldest first.
func (b *Backend) Alarms() []Alarm {
	now := b.cfg.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []Alarm
	for s, d := range b.doubts {
		if d.raised && now.Sub(d.seen) <= forgotten {
			all = append(all, *s.alarm(d))
		}
	}
	slices.SortFunc(all, func(x, y Alarm) int {
		return cmp.Or(x.Since.Compare(y.Since), cmp.Compare(x.Kind, y.Kind), cmp.Compare(x.Backend, y.Backend), cmp.Compare(x.Subject, y.Subject))
	})
	return all
}
