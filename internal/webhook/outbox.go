package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/payee"
	"github.com/spillway/spillway/store"
)

// bucketOutbox holds what was not taken yet, in a bucket for each target: the key of a
// payment is its channel's, so that the newest takes the place of the one before; any
// other event has a key of its own. It is bounded by the channels that were opened,
// each of which cost its payer a transaction, and the alarms there are.
const bucketOutbox = "webhook/"

func bucket(target string) string { return bucketOutbox + target }

// Outbox keeps events until they are taken.
type Outbox struct {
	cfg  Config
	bell map[string]chan struct{} // by target

	mu    sync.Mutex
	state map[string]*State
}

// State is how a target is.
type State struct {
	Name      string    `json:"name"`
	URL       string    `json:"url"` // without what may be secret in it
	Events    []string  `json:"events"`
	Pending   int       `json:"pending"`
	Delivered uint64    `json:"delivered"` // since the start
	Failed    uint64    `json:"failed"`    // attempts, since the start
	Oldest    time.Time `json:"oldest,omitzero"`
	LastError string    `json:"last_error,omitempty"`
	NextTry   time.Time `json:"next_try,omitzero"`
}

// New checks the configuration. Errors: ErrTarget.
func New(cfg Config) (*Outbox, error) {
	o := &Outbox{bell: map[string]chan struct{}{}, state: map[string]*State{}}
	for i, t := range cfg.Targets {
		if err := t.Check(); err != nil {
			return nil, err
		}
		if o.bell[t.Name] != nil {
			return nil, fmt.Errorf("%w: two are named %s", ErrTarget, t.Name)
		}
		if t.PaidEvery == 0 {
			cfg.Targets[i].PaidEvery = DefaultPaidEvery
		}
		o.bell[t.Name] = make(chan struct{}, 1)
		events := t.Events
		if len(events) == 0 {
			events = Types
		}
		o.state[t.Name] = &State{Name: t.Name, URL: t.Shown(), Events: events}
	}
	set := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	set(&cfg.StuckAfter, 10*time.Minute)
	set(&cfg.Backoff, time.Second)
	set(&cfg.MaxBackoff, time.Hour)
	set(&cfg.Timeout, 10*time.Second)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Client == nil {
		cfg.Client = client(cfg.Timeout)
	}
	o.cfg = cfg
	return o, nil
}

// event makes an event of a type.
func (o *Outbox) event(typ string) (Event, error) {
	id, err := newID(o.cfg.Rand)
	return Event{ID: id, Type: typ, Time: o.cfg.Now().UTC(), Network: o.cfg.Network, Provider: o.cfg.Provider}, err
}

// ops are what saves an event for each target that wants it. key is the place that it
// takes: where that is not the event's own, a newer one takes its place.
func (o *Outbox) ops(e Event, key string, only string) (ops []store.Op, err error) {
	var raw []byte
	for _, t := range o.cfg.Targets {
		if !t.wants(e.Type) || only != "" && t.Name != only {
			continue
		}
		if raw == nil {
			if raw, err = e.encode(); err != nil {
				return nil, err
			}
		}
		ops = append(ops, store.Op{Bucket: bucket(t.Name), Key: key, Value: raw, Expect: store.Any})
	}
	return ops, nil
}

// Verifying implements payee.Observer.
func (o *Outbox) Verifying() func(error) { return func(error) {} }

// Beside implements payee.Observer: the events of a change belong into its commit.
func (o *Outbox) Beside(before *channel.PayeeRecord, next channel.PayeeRecord) (all []store.Op, err error) {
	for _, typ := range Changed(before, next) {
		if !slices.ContainsFunc(o.cfg.Targets, func(t Target) bool { return t.wants(typ) }) {
			continue
		}
		e, err := o.event(typ)
		if err != nil {
			return nil, err
		}
		e.Channel = shown(next)
		key := e.ID
		if typ == Paid {
			key = "paid/" + e.Channel.ID
		}
		ops, err := o.ops(e, key, "")
		if err != nil {
			return nil, err
		}
		all = append(all, ops...)
	}
	return all, nil
}

// Saved implements payee.Observer.
func (o *Outbox) Saved(*channel.PayeeRecord, channel.PayeeRecord) { o.ring() }

var _ payee.Observer = (*Outbox)(nil)

// Raise saves an alarm, or that it is over. One that was not told of yet gives its place
// to what is true now. Errors: of the store.
func (o *Outbox) Raise(ctx context.Context, a Alarmed) error {
	e, err := o.event(Alarm)
	if err != nil {
		return err
	}
	e.Alarm = &a
	return o.post(ctx, e, "alarm/"+clip(a.Kind+"/"+a.Subject), "")
}

// Try saves an event of type test for one target. Errors: ErrTarget, of the store.
func (o *Outbox) Try(ctx context.Context, target string) (id string, err error) {
	if o.bell[target] == nil {
		return "", fmt.Errorf("%w: there is none named %.64q", ErrTarget, target)
	}
	e, err := o.event(Test)
	if err != nil {
		return "", err
	}
	return e.ID, o.post(ctx, e, "test", target)
}

func (o *Outbox) post(ctx context.Context, e Event, key, only string) error {
	ops, err := o.ops(e, key, only)
	if err != nil || len(ops) == 0 {
		return err
	}
	if err := o.cfg.Store.Commit(ctx, ops...); err != nil {
		return fmt.Errorf("the event was not saved: %w", err)
	}
	o.ring()
	return nil
}

// clip makes a key of a text that somebody else may have chosen.
func clip(s string) string {
	s = strings.ToValidUTF8(strings.ReplaceAll(s, "\x00", ""), "")
	for len(s) > 512 {
		s = strings.ToValidUTF8(s[:512], "")
	}
	return s
}

// ring has every target look at its outbox.
func (o *Outbox) ring() {
	for _, bell := range o.bell {
		select {
		case bell <- struct{}{}:
		default: // it rings already
		}
	}
}

// States are how the targets are.
func (o *Outbox) States() (all []State) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, t := range o.cfg.Targets {
		all = append(all, *o.state[t.Name])
	}
	return all
}

func (o *Outbox) note(target string, change func(*State)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	change(o.state[target])
}

// Drop deletes what is kept for targets that are not there any more, by their names:
// nobody would ever take it. Errors: of the store.
func (o *Outbox) Drop(ctx context.Context, names ...string) (dropped int, err error) {
	for _, name := range names {
		if o.bell[name] != nil {
			continue
		}
		entries, err := o.cfg.Store.List(ctx, bucket(name), "")
		if err != nil {
			return dropped, err
		}
		for _, e := range entries {
			if err := o.cfg.Store.Commit(ctx, store.Op{Bucket: e.Bucket, Key: e.Key, Expect: e.Revision}); err != nil {
				return dropped, err
			}
			dropped++
		}
	}
	return dropped, nil
}

// kept is an event in the outbox.
type kept struct {
	Event
	raw   []byte
	entry store.Entry
}

// pending are the events that a target has not taken, the oldest first. What cannot be
// read is deleted: nobody could.
func (o *Outbox) pending(ctx context.Context, target string) (all []kept, err error) {
	entries, err := o.cfg.Store.List(ctx, bucket(target), "")
	if err != nil {
		return nil, err
	}
	for _, entry := range entries {
		k := kept{raw: entry.Value, entry: entry}
		if err := json.Unmarshal(entry.Value, &k.Event); err != nil || k.ID == "" {
			if err := o.taken(ctx, entry); err != nil {
				return nil, err
			}
			continue
		}
		all = append(all, k)
	}
	slices.SortStableFunc(all, func(a, b kept) int { return a.Time.Compare(b.Time) })
	o.note(target, func(s *State) {
		s.Pending, s.Oldest = len(all), time.Time{}
		if len(all) > 0 {
			s.Oldest = all[0].Time
		}
	})
	return all, nil
}

// taken deletes an event that was taken, unless a newer one has its place.
func (o *Outbox) taken(ctx context.Context, e store.Entry) error {
	err := o.cfg.Store.Commit(ctx, store.Op{Bucket: e.Bucket, Key: e.Key, Expect: e.Revision})
	if errors.Is(err, store.ErrConflict) {
		return nil // the newer one is sent too
	}
	return err
}
