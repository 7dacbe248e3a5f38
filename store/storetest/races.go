package storetest

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"

	"github.com/spillway/spillway/store"
)

// Many writers raise a few counters by compare-and-swap: no step is lost, none is
// counted twice, and a key's revision is the number of its writes.
func counters(t *testing.T, s store.Store) {
	const writers, keys, steps = 32, 3, 15
	var group sync.WaitGroup
	for w := range writers {
		group.Go(func() {
			for i := range steps {
				if err := raise(s, fmt.Sprint((w+i)%keys)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
	total := 0
	for key := range keys {
		e := get(t, s, "b", fmt.Sprint(key))
		n, err := strconv.Atoi(string(e.Value))
		if err != nil || e.Revision != uint64(n) {
			t.Errorf("key %d: %q at revision %d, %v", key, e.Value, e.Revision, err)
		}
		total += n
	}
	if total != writers*steps {
		t.Errorf("%d steps were acknowledged, %d are there", writers*steps, total)
	}
}

// raise adds one to a counter, again after each conflict.
func raise(s store.Store, key string) error {
	for {
		e, err := s.Get(ctx, "b", key)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		n := 0
		if err == nil {
			if n, err = strconv.Atoi(string(e.Value)); err != nil {
				return err
			}
		}
		err = s.Commit(ctx, put(key, strconv.Itoa(n+1), e.Revision))
		if !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
}

// Of many that create one key, one does, and what it saved is there.
func createOnce(t *testing.T, s store.Store) {
	for round := range 20 {
		key, won := fmt.Sprintf("key %d", round), make(chan string, 16)
		var group sync.WaitGroup
		for w := range cap(won) {
			group.Go(func() {
				name := fmt.Sprint(w)
				switch err := s.Commit(ctx, put(key, name, 0), put(key+"/"+name, name, 0)); {
				case err == nil:
					won <- name
				case !errors.Is(err, store.ErrConflict):
					t.Error(err)
				}
			})
		}
		group.Wait()
		close(won)
		var names []string
		for name := range won {
			names = append(names, name)
		}
		if len(names) != 1 {
			t.Fatalf("%v all created %s", names, key)
		}
		if e := get(t, s, "b", key); string(e.Value) != names[0] || e.Revision != 1 {
			t.Fatalf("%s created it, %s is there", names[0], e.Value)
		}
		if all, err := s.List(ctx, "b", key+"/"); err != nil || len(all) != 1 || string(all[0].Value) != names[0] {
			t.Fatalf("beside it: %v, %v", all, err)
		}
	}
}

// Money moves between accounts while others look: every look sees all of it, and a
// commit that was acknowledged is seen by the next look.
func snapshots(t *testing.T, s store.Store) {
	const accounts, each, moves = 4, 100, 60
	for i := range accounts {
		commit(t, s, put(fmt.Sprint(i), strconv.Itoa(each), 0))
	}
	var group sync.WaitGroup
	for w := range 4 {
		group.Go(func() {
			for i := range moves {
				if err := move(s, fmt.Sprint((w+i)%accounts), fmt.Sprint((w+i+1)%accounts)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 2 {
		group.Go(func() {
			for range moves {
				if n, err := total(s); err != nil || n != accounts*each {
					t.Errorf("a look sees %d of %d: %v", n, accounts*each, err)
					return
				}
			}
		})
	}
	group.Wait()
	if n, err := total(s); err != nil || n != accounts*each {
		t.Errorf("%d of %d are left: %v", n, accounts*each, err)
	}
}

func total(s store.Store) (sum int, err error) {
	all, err := s.List(ctx, "b", "")
	for _, e := range all {
		n, e := strconv.Atoi(string(e.Value))
		sum, err = sum+n, errors.Join(err, e)
	}
	return sum, err
}

// move moves one from an account to another, or gives up at a conflict.
func move(s store.Store, from, to string) error {
	a, err1 := s.Get(ctx, "b", from)
	b, err2 := s.Get(ctx, "b", to)
	x, err3 := strconv.Atoi(string(a.Value))
	y, err4 := strconv.Atoi(string(b.Value))
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return err
	}
	err := s.Commit(ctx, put(from, strconv.Itoa(x-1), a.Revision), put(to, strconv.Itoa(y+1), b.Revision))
	if err == nil {
		if e, err := s.Get(ctx, "b", from); err != nil || e.Revision <= a.Revision {
			return fmt.Errorf("after a commit on revision %d, %d is read: %w", a.Revision, e.Revision, err)
		}
	} else if errors.Is(err, store.ErrConflict) {
		return nil
	}
	return err
}

// A context that ends while a commit waits: the answer is the truth, whichever it
// is.
func cancelled(t *testing.T, s store.Store) {
	const writers = 200
	over, cancel := context.WithCancel(ctx)
	defer cancel()
	answers := make([]error, writers)
	var group sync.WaitGroup
	for w := range writers {
		group.Go(func() {
			if w == writers/2 {
				cancel()
			}
			answers[w] = s.Commit(over, put(fmt.Sprint(w), "x", 0))
		})
	}
	group.Wait()
	for w, answer := range answers {
		_, err := s.Get(ctx, "b", fmt.Sprint(w))
		switch {
		case answer == nil && err != nil:
			t.Errorf("commit %d was acknowledged: %v", w, err)
		case answer != nil && !errors.Is(answer, context.Canceled):
			t.Errorf("commit %d: %v", w, answer)
		case answer != nil && !errors.Is(err, store.ErrNotFound):
			t.Errorf("commit %d answered %v, but get says %v", w, answer, err)
		}
	}
}

// A store that is closed while commits come in: each is answered, and only with a
// success or ErrClosed.
func closedMeanwhile(t *testing.T, s store.Store) {
	const writers = 50
	var group sync.WaitGroup
	first := make(chan struct{}, writers)
	for w := range writers {
		group.Go(func() {
			for i := 0; ; i++ {
				err := s.Commit(ctx, put(fmt.Sprintf("%d/%d", w, i), "x", 0))
				if i == 0 {
					first <- struct{}{}
				}
				if err == nil {
					_, err = s.List(ctx, "b", fmt.Sprint(w))
				}
				if errors.Is(err, store.ErrClosed) {
					return
				} else if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	<-first
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	group.Wait()
}
