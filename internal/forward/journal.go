package forward

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/spillway/spillway/mpp"
	"github.com/spillway/spillway/paywall"
	"github.com/spillway/spillway/store"
)

const (
	// askedBucket keeps what is being paid for, until it has come.
	askedBucket = "pay-proxy/asked"
	// keyLife is how long a request that was cut by the end of this process is gone on with
	// under its key, and markLife how long it explains what a provider charged.
	keyLife, markLife = time.Hour, 24 * time.Hour
	// overWait is how long what has come stays noted: the next request's commit, or a
	// commit of its own then, ends it.
	overWait = 250 * time.Millisecond
)

// pending is a request that is paid and under way, as it is stored.
type pending struct {
	Version int       `json:"version"`
	Origin  string    `json:"origin"`
	Print   string    `json:"print,omitempty"` // of a request that can be repeated; "": it cannot
	Key     string    `json:"key,omitempty"`   // Idempotency-Key
	Lost    uint64    `json:"lost"`            // msat, may be charged though nothing comes
	File    bool      `json:"file,omitempty"`
	At      time.Time `json:"at"`
}

// journal remembers what is paid and under way over the end of this process: the same
// request then goes on under the same key, and has free what was charged already.
type journal struct {
	store store.Store // nil: nothing is remembered
	log   *slog.Logger

	mu    sync.Mutex
	left  map[string][]pending // by print: what an earlier process left
	lost  map[string]pending   // by origin
	gone  map[string]bool      // keys of marks that are over and stored still
	later *time.Timer
}

func newJournal(s store.Store, log *slog.Logger) *journal {
	return &journal{store: s, log: log, left: map[string][]pending{}, lost: map[string]pending{}, gone: map[string]bool{}}
}

// open reads what an earlier process left.
func (j *journal) open(ctx context.Context) error {
	if j.store == nil {
		return nil
	}
	entries, err := j.store.List(ctx, askedBucket, "")
	if err != nil {
		return err
	}
	for _, e := range entries {
		var m pending
		if err := json.Unmarshal(e.Value, &m); err != nil || m.Version != 1 {
			return fmt.Errorf("%w: a request that was under way: %v", store.ErrDamaged, err)
		}
		age := time.Since(m.At)
		if age > markLife {
			j.gone[e.Key] = true
			continue
		}
		if m.Print != "" && age < keyLife {
			j.left[m.Print] = append(j.left[m.Print], m)
		}
		known := j.lost[m.Origin]
		j.lost[m.Origin] = pending{Lost: max(known.Lost, m.Lost), File: known.File || m.File}
	}
	return nil
}

// printOf names what a request asks for; "": its repeat is another request.
func printOf(r *http.Request) string {
	if r.Method != http.MethodGet || r.ContentLength != 0 || r.Header.Get(mpp.HeaderIdempotencyKey) != "" {
		return ""
	}
	h := sha256.New()
	for _, text := range []string{r.Method, r.URL.String(), r.Header.Get("Range"), r.Header.Get("If-Range"), r.Header.Get("Accept"), r.Header.Get("Last-Event-ID"), r.Header.Get("Cookie"), r.Header.Get("Authorization")} {
		fmt.Fprintf(h, "%d %s", len(text), text)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// again is the key of a request that was cut off by the end of an earlier process.
func (j *journal) again(print string) string {
	j.mu.Lock()
	defer j.mu.Unlock()
	list := j.left[print]
	if print == "" || len(list) == 0 {
		return ""
	}
	if j.left[print] = list[1:]; len(list) == 1 {
		delete(j.left, print)
	}
	return list[0].Key
}

func markKey(m pending) string {
	sum := sha256.Sum256([]byte(m.Origin + " " + m.Key))
	return hex.EncodeToString(sum[:16])
}

// begin notes a request, durably, and what is over meanwhile. It returns what ends it.
func (j *journal) begin(ctx context.Context, m pending) (over func(), err error) {
	if j.store == nil {
		return func() {}, nil
	}
	m.Version, m.At = 1, time.Now().UTC()
	value, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	key := markKey(m)
	j.mu.Lock()
	delete(j.gone, key)
	j.mu.Unlock()
	ops, failed := j.ending()
	if err := j.store.Commit(ctx, append(ops, store.Op{Bucket: askedBucket, Key: key, Value: value, Expect: store.Any})...); err != nil {
		failed()
		return nil, err
	}
	return sync.OnceFunc(func() { j.over(key) }), nil
}

// ending are the writes that end what is over; failed puts them back.
func (j *journal) ending() (ops []store.Op, failed func()) {
	j.mu.Lock()
	defer j.mu.Unlock()
	keys := j.gone
	j.gone = map[string]bool{}
	for key := range keys {
		ops = append(ops, store.Op{Bucket: askedBucket, Key: key, Expect: store.Any})
	}
	return ops, func() {
		j.mu.Lock()
		defer j.mu.Unlock()
		for key := range keys {
			j.gone[key] = true
		}
	}
}

func (j *journal) over(key string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.gone[key] = true
	if j.later == nil {
		j.later = time.AfterFunc(overWait, j.sweep)
	}
}

// sweep ends what is over in a commit of its own.
func (j *journal) sweep() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	j.mu.Lock()
	j.later = nil
	j.mu.Unlock()
	if err := j.flush(ctx); err != nil {
		j.log.Warn("what has come stays noted as under way", "error", err)
	}
}

// flush ends what is over. Errors: of the store.
func (j *journal) flush(ctx context.Context) error {
	ops, failed := j.ending()
	if j.store == nil || len(ops) == 0 {
		return nil
	}
	err := j.store.Commit(ctx, ops...)
	if err != nil {
		failed()
	}
	return err
}

// askingKey is where a request's asking is kept in its context.
type askingKey struct{}

// asking is one request that may be paid, while it is under way.
type asking struct {
	origin, print string

	mu   sync.Mutex
	over []func()
}

// asked notes a request whose payment is about to leave.
func (p *Proxy) asked(ctx context.Context, a paywall.Asked) error {
	q, ok := ctx.Value(askingKey{}).(*asking)
	if !ok {
		return nil
	}
	over, err := p.journal.begin(ctx, pending{Origin: q.origin, Print: q.print, Key: a.Key, Lost: a.Lost})
	if err != nil {
		return err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.over = append(q.over, over)
	return nil
}

// ends says that all of it has come, or that nothing more will.
func (q *asking) ends() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, over := range q.over {
		over()
	}
	q.over = nil
}

// begins makes a request one that may be paid: where an earlier process was cut off in
// the same, it goes on under that one's key.
func (p *Proxy) begins(r *http.Request, origin string) (*http.Request, *asking) {
	q := &asking{origin: origin, print: printOf(r)}
	if key := p.journal.again(q.print); key != "" {
		r = r.Clone(r.Context())
		r.Header.Set(mpp.HeaderIdempotencyKey, key)
		p.cfg.Log.Info("a request goes on that was cut off", "url", strings.SplitN(r.URL.Redacted(), "?", 2)[0])
	}
	return r.WithContext(context.WithValue(r.Context(), askingKey{}, q)), q
}
