package paywall

import (
	"context"
	"net/http"
	"sync"
	"time"
)

// maxClients bounds of how many clients the free quota keeps count.
const maxClients = 1 << 16

// quota counts the unpaid requests that are answered, by client. It lives in memory: a
// restart begins a new day.
type quota struct {
	most  int
	now   func() time.Time
	mu    sync.Mutex
	since time.Time
	used  map[string]int
}

// take uses one request of a client's quota, where there is one left.
func (q *quota) take(client string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.most <= 0 || client == "" {
		return false
	}
	now := q.now()
	if q.used == nil || now.Sub(q.since) >= 24*time.Hour {
		q.used, q.since = map[string]int{}, now
	}
	used, known := q.used[client]
	if used >= q.most || !known && len(q.used) >= maxClients {
		return false
	}
	q.used[client] = used + 1
	return true
}

// answer is a whole answer, kept for repeats of its request.
type answer struct {
	status  int
	header  http.Header
	body    []byte
	trailer http.Header
	units   uint64 // of its line
}

func (a *answer) size() int64 {
	n := int64(len(a.body)) + 256
	for _, h := range []http.Header{a.header, a.trailer} {
		for name, values := range h {
			for _, v := range values {
				n += int64(len(name) + len(v))
			}
		}
	}
	return n
}

// kept holds the answers that were bought, for as long as a challenge lives, and sees
// that none is made twice at once.
type kept struct {
	most, each int64 // bytes
	repeats    int
	ttl        time.Duration
	now        func() time.Time
	mu         sync.Mutex
	all        int64
	at         map[[32]byte]*entry
	order      [][32]byte // oldest first
}

// entry is one delivery.
type entry struct {
	answer *answer
	begun  time.Time
	runs   int           // how often it was made since something was charged
	done   chan struct{} // closed when nobody makes it
	end    func()        // ends its making; nil: who asks again waits for it
}

// enter waits until nobody makes a delivery and returns what was kept of it, or nil: it
// is to be made now, and leave has to be called. One that cannot be shared is ended. ok is
// false where it was made too often; waited: somebody else made it meanwhile. Errors: the context's, errBusy after most.
func (k *kept) enter(ctx context.Context, name [32]byte, most time.Duration) (a *answer, ok, waited bool, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, most, errBusy)
	defer cancel()
	for {
		k.mu.Lock()
		k.expire()
		e := k.at[name]
		if e == nil {
			e = &entry{begun: k.now()}
			if k.at == nil {
				k.at = map[[32]byte]*entry{}
			}
			k.at[name] = e
			k.order = append(k.order, name)
		}
		if e.answer != nil || e.done == nil {
			if a = e.answer; a == nil {
				if ok = e.runs <= k.repeats; ok {
					e.done = make(chan struct{})
				}
			}
			k.mu.Unlock()
			return a, ok || a != nil, waited, nil
		}
		busy, end := e.done, e.end
		waited = true
		k.mu.Unlock()
		if end != nil {
			end()
		}
		select {
		case <-ctx.Done():
			return nil, false, waited, context.Cause(ctx)
		case <-busy:
		}
	}
}

// unshared says that a delivery which is being made cannot be shared: end ends it where
// it is asked for again.
func (k *kept) unshared(name [32]byte, end func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if e := k.at[name]; e != nil && e.done != nil {
		e.end = end
	}
}

// leave ends the making of a delivery; made says whether something of it was charged,
// more whether that was more than before, and a is the whole answer, nil: it is not to
// be kept.
func (k *kept) leave(name [32]byte, made, more bool, a *answer) {
	k.mu.Lock()
	defer k.mu.Unlock()
	e := k.at[name]
	if e == nil {
		return
	}
	if more {
		e.runs = 0 // it has come further: a bad line is no abuse
	}
	if made {
		e.runs++
	}
	if a != nil && a.size() <= k.each && e.answer == nil {
		e.answer = a
		k.all += a.size()
	}
	close(e.done)
	e.done, e.end = nil, nil
	k.expire()
}

// expire forgets what is older than a challenge lives, and the oldest answers where
// there are too many. What is being made now stays.
func (k *kept) expire() {
	now := k.now()
	var busy [][32]byte
	for i, name := range k.order {
		e := k.at[name]
		old := now.Sub(e.begun) >= k.ttl
		if full := k.all > k.most || len(k.at) > maxBound; !old && !full {
			k.order = append(busy, k.order[i:]...)
			return
		}
		if e.done != nil {
			busy = append(busy, name)
			continue
		}
		if e.answer != nil {
			k.all -= e.answer.size()
		}
		delete(k.at, name)
	}
	k.order = busy
}
