package payee_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/internal/pairtest"
	"github.com/spillway/spillway/payee"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/store"
)

// eye notes what an observer is told, and writes an entry beside each change.
type eye struct {
	checks, refused int
	changes         []string
	fail            error
}

func (e *eye) Verifying() func(error) {
	e.checks++
	return func(err error) {
		if err != nil {
			e.refused++
		}
	}
}

func (e *eye) Beside(before *channel.PayeeRecord, next channel.PayeeRecord) ([]store.Op, error) {
	if e.fail != nil {
		return nil, e.fail
	}
	return []store.Op{{Bucket: "eye", Key: next.Terms.ID() + fmt.Sprint(len(e.changes)), Value: []byte(next.Phase)}}, nil
}

func (e *eye) Saved(before *channel.PayeeRecord, next channel.PayeeRecord) {
	was := "-"
	if before != nil {
		was = fmt.Sprintf("%s %d", before.Phase, before.Paid)
	}
	e.changes = append(e.changes, fmt.Sprintf("%s > %s %d", was, next.Phase, next.Paid))
}

// An observer is told of each check and of each change, and what it adds is in the very
// commit of the change, or neither is saved.
func TestObserver(t *testing.T) {
	p := pairtest.New(t)
	e := &eye{}
	p.Observer = e
	p.RestartPayee()
	id := paid(t, p, script.Taproot)
	u := p.Update(id, 1200)
	u.Signature = slices.Clone(u.Signature)
	u.Signature[5] ^= 1
	if _, err := p.Payee.Pay(t.Context(), payee.Request{Channel: id, Update: &u}); err == nil {
		t.Fatal("a forged update was taken")
	}
	_, err := p.Payee.Settle(t.Context(), id, nil, false)
	wantNil(t, err)
	if e.checks < 3 || e.refused != 1 {
		t.Errorf("%d checks, %d refused", e.checks, e.refused)
	}
	told := strings.Join(e.changes, "; ")
	if !strings.HasPrefix(told, "- > ") || !strings.Contains(told, "open 0 > open 1000") || !strings.Contains(told, "open 1000 > settling 1000") {
		t.Errorf("told %s", told)
	}
	beside := 0
	for _, ops := range p.PayeeDisk.Commits() {
		record := slices.ContainsFunc(ops, func(op store.Op) bool { return op.Bucket == "payee/channel" })
		if slices.ContainsFunc(ops, func(op store.Op) bool { return op.Bucket == "eye" }) != record {
			t.Errorf("a change without its entry, or an entry alone: %v", ops)
		}
		if record {
			beside++
		}
	}
	if beside != len(e.changes) {
		t.Errorf("%d commits, told of %d", beside, len(e.changes))
	}
}

// What the observer cannot add keeps the change from being saved, and nothing is told.
func TestObserverFails(t *testing.T) {
	p := pairtest.New(t)
	e := &eye{}
	p.Observer = e
	p.RestartPayee()
	id := paid(t, p, script.Taproot)
	commits, changes := len(p.PayeeDisk.Commits()), len(e.changes)
	e.fail = errors.New("no room")
	u := p.Update(id, 1200)
	if _, err := p.Payee.Pay(t.Context(), payee.Request{Channel: id, Update: &u}); !errors.Is(err, e.fail) {
		t.Error(err)
	}
	if r, err := p.Payee.Record(t.Context(), id); err != nil || r.Paid != 1000 || len(p.PayeeDisk.Commits()) != commits || len(e.changes) != changes {
		t.Errorf("%d sat, %v, %d commits, %v", r.Paid, err, len(p.PayeeDisk.Commits())-commits, e.changes)
	}
	e.fail = nil
	_, err := p.Payee.Pay(t.Context(), payee.Request{Channel: id, Update: &u})
	wantNil(t, err)
}

// A settlement of several channels tells of each: as it is decided, and as it is made.
func TestObserverOfABatch(t *testing.T) {
	p := pairtest.New(t)
	e := &eye{}
	p.Observer = e
	p.RestartPayee()
	ids := due(t, p, 9_000, script.Taproot, script.Multisig, script.Taproot)
	wantNil(t, p.StepPayee())
	settling := 0
	for _, change := range e.changes {
		if change == "settling 9000 > settling 9000" {
			settling++
		}
	}
	for _, id := range ids {
		if r, err := p.Payee.Record(t.Context(), id); err != nil || r.Phase != channel.Settling || settling != 3 {
			t.Errorf("%s, %v, told of %d", r.Phase, err, settling)
		}
	}
}
