package paywall

import (
	"crypto/sha256"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"
)

// errReused: an Idempotency-Key that was first seen with another request.
var errReused = errors.New("this Idempotency-Key belongs to another request")

// maxBound bounds how many keys one generation of requests keeps in memory.
const maxBound = 1 << 15

// requests binds each Idempotency-Key of a channel to the first request that came
// with it: whoever has seen a credential can only repeat what it was made for. A key
// is remembered for as long as the challenge in its credential can live; what a
// restart forgets is bound anew. What was charged is never charged again either way.
type requests struct {
	mu        sync.Mutex
	now, past map[[32]byte][32]byte // two generations, by channel and key
	since     time.Time             // when the newer one began
}

// bind reports errReused where the key was bound to another request before.
func (b *requests) bind(channel, key string, r *http.Request, body string, at time.Time, ttl time.Duration) error {
	if key == "" {
		return nil
	}
	name := sha256.Sum256([]byte(channel + "\n" + key))
	what := sha256.Sum256([]byte(strings.Join([]string{
		r.Method, r.URL.EscapedPath(), r.URL.RawQuery, strings.Join(r.Header.Values("Range"), ","), body,
	}, "\n")))
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.now == nil || len(b.now) >= maxBound || at.Sub(b.since) >= ttl {
		b.past, b.now, b.since = b.now, map[[32]byte][32]byte{}, at
	}
	first, ok := b.now[name]
	if !ok {
		first, ok = b.past[name]
	}
	if !ok {
		first = what
	}
	if first != what {
		return errReused
	}
	b.now[name] = first
	return nil
}
