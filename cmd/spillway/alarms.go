package main

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spillway/spillway/chain/several"
)

// Kinds of alarms beside those of backends that differ. docs/operations.md says of each
// what it means and what to do.
const (
	alarmStale       = "stale"       // the newest block is old
	alarmStopped     = "stopped"     // an invariant was violated, a channel is stopped
	alarmWatch       = "watch"       // channels were not looked at for long
	alarmDeadline    = "deadline"    // what is paid in a channel is not settled, and its expiry is near
	alarmDisk        = "disk"        // little space is left
	alarmStore       = "store"       // nothing can be saved
	alarmCertificate = "certificate" // the listener's certificate ends soon, or cannot be read again
	alarmWebhook     = "webhook"     // a webhook takes nothing
	alarmTower       = "tower"       // the tower was not told of what is paid
)

// alarmKinds are all kinds of alarms.
func alarmKinds() []string {
	return []string{alarmStale, alarmStopped, alarmWatch, alarmDeadline, alarmDisk, alarmStore, alarmCertificate, alarmWebhook, alarmTower,
		string(several.Unreachable), string(several.Lagging), string(several.Hasty), string(several.Split), string(several.Transaction),
		string(several.Spending), string(several.Coins), string(several.Refusal), string(several.Fees)}
}

// raised is an alarm that is not over.
type raised struct {
	Kind    string    `json:"kind"`
	Subject string    `json:"subject,omitempty"`
	Text    string    `json:"text"`
	Since   time.Time `json:"since"`
}

// alarms are those that are not over. What is raised again says nothing new. The zero
// value is ready; nil notes nothing.
type alarms struct {
	mu     sync.Mutex
	active map[[2]string]raised
	// told, where it is set, is told of each that begins, or is over.
	told func(a raised, over bool)
}

// raise notes an alarm, and reports whether it is new.
func (s *alarms) raise(kind, subject, text string) bool {
	if s == nil {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	key := [2]string{kind, subject}
	before, there := s.active[key]
	a := raised{Kind: kind, Subject: subject, Text: text, Since: time.Now().UTC()}
	if there {
		a.Since = before.Since
	}
	if s.active == nil {
		s.active = map[[2]string]raised{}
	}
	s.active[key] = a
	if !there && s.told != nil {
		s.told(a, false)
	}
	return !there
}

// over notes that an alarm is over, and reports whether there was one.
func (s *alarms) over(kind, subject string) bool {
	if s == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	key := [2]string{kind, subject}
	a, there := s.active[key]
	delete(s.active, key)
	if there && s.told != nil {
		s.told(a, true)
	}
	return there
}

// list are the alarms that are not over, the oldest first.
func (s *alarms) list() []raised {
	if s == nil {
		return []raised{}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]raised, 0, len(s.active))
	for _, a := range s.active {
		all = append(all, a)
	}
	slices.SortFunc(all, func(x, y raised) int {
		return cmp.Or(x.Since.Compare(y.Since), strings.Compare(x.Kind, y.Kind), strings.Compare(x.Subject, y.Subject))
	})
	return all
}

// counts are how many there are of each kind; of none, 0.
func (s *alarms) counts() map[string]int {
	n := map[string]int{}
	for _, kind := range alarmKinds() {
		n[kind] = 0
	}
	for _, a := range s.list() {
		n[a.Kind]++
	}
	return n
}

// raise is for alarms that nothing else tells a person of: it says so, also with --quiet,
// once, and when it is over.
func (a *app) raise(kind, subject, text string) {
	if a.alarms.raise(kind, subject, text) {
		a.out.alarm("ALARM: %s", text)
		a.alarmEvent(map[string]any{"kind": kind, "subject": subject, "text": text})
	}
}

// calm says that an alarm is over, where there was one.
func (a *app) calm(kind, subject, text string) {
	if a.alarms.over(kind, subject) {
		a.out.say("over: %s", text)
		a.alarmEvent(map[string]any{"kind": kind, "subject": subject, "text": text, "over": true})
	}
}

func (a *app) alarmEvent(v map[string]any) {
	if err := a.out.event("alarm", v); err != nil {
		a.out.say("the alarm was not written: %v", err)
	}
}
