package webhook

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// Doer sends a request.
type Doer interface {
	Do(*http.Request) (*http.Response, error)
}

// client follows no redirect: an answer with one is a refusal, and nothing is ever sent
// to where a receiver points.
func client(timeout time.Duration) *http.Client {
	return &http.Client{
		Timeout:       timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DialContext: (&net.Dialer{Timeout: timeout}).DialContext, TLSHandshakeTimeout: timeout, ResponseHeaderTimeout: timeout,
			MaxIdleConnsPerHost: 1, IdleConnTimeout: time.Minute, MaxResponseHeaderBytes: 16 << 10, ForceAttemptHTTP2: true,
		},
	}
}

// Run delivers until ctx is over. failed is told what keeps the outbox itself from being
// read or written.
func (o *Outbox) Run(ctx context.Context, failed func(error)) {
	var all sync.WaitGroup
	for _, t := range o.cfg.Targets {
		all.Go(func() {
			l := &line{o: o, t: t, entries: map[string]*retry{}, last: o.cfg.Now()}
			l.run(ctx, failed)
		})
	}
	all.Wait()
}

// retry is how often something failed, and when it is tried again.
type retry struct {
	times int
	next  time.Time
}

// again puts the next try off: twice as long each time, and a little at random, so that
// not all come back at once.
func (r *retry) again(now time.Time, first, most, least time.Duration) {
	wait := first << min(r.times, 20)
	if wait > most || wait <= 0 {
		wait = most
	}
	wait = max(wait/2+rand.N(wait/2+1), min(least, most))
	r.times++
	r.next = now.Add(wait)
}

// line delivers to one target, one event after the other.
type line struct {
	o       *Outbox
	t       Target
	all     retry             // the target as a whole: it cannot be reached, or wants to be left alone
	entries map[string]*retry // of what it refused, and of payments that were told of, by key
	last    time.Time         // when it took something, or had nothing to take
	stuck   bool
}

// idle is how long a line sleeps where nothing wakes it.
const idle = time.Minute

func (l *line) run(ctx context.Context, failed func(error)) {
	said := ""
	for ctx.Err() == nil {
		next, err := l.round(ctx)
		text := fmt.Sprint(err)
		if err != nil && ctx.Err() == nil && text != said {
			failed(fmt.Errorf("webhook %s: %w", l.t.Name, err))
		}
		said = text
		timer := time.NewTimer(max(next, 10*time.Millisecond))
		select {
		case <-ctx.Done():
		case <-l.o.bell[l.t.Name]:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// round tries what is due, and returns how long nothing is.
func (l *line) round(ctx context.Context) (time.Duration, error) {
	all, err := l.o.pending(ctx, l.t.Name)
	if err != nil {
		return l.o.cfg.Backoff, err
	}
	now := l.o.cfg.Now()
	if len(all) == 0 {
		l.moved(now)
	}
	l.forget(all, now)
	wait := idle
	for _, k := range all {
		now = l.o.cfg.Now()
		if until := l.all.next.Sub(now); until > 0 {
			wait = min(wait, until)
			break
		}
		if r := l.entries[k.entry.Key]; r != nil && r.next.After(now) {
			wait = min(wait, r.next.Sub(now))
			continue
		}
		if err := l.one(ctx, k); err != nil {
			return l.o.cfg.Backoff, err
		}
		if ctx.Err() != nil {
			return 0, nil
		}
		if r := l.entries[k.entry.Key]; r != nil {
			wait = min(wait, max(r.next.Sub(l.o.cfg.Now()), 0))
		}
	}
	if until := l.all.next.Sub(l.o.cfg.Now()); len(all) > 0 && until > 0 {
		wait = min(wait, until)
	}
	l.check()
	return wait, nil
}

// forget drops what was noted of events that are gone.
func (l *line) forget(all []kept, now time.Time) {
	there := map[string]bool{}
	for _, k := range all {
		there[k.entry.Key] = true
	}
	for key, r := range l.entries {
		if !there[key] && !r.next.After(now) {
			delete(l.entries, key)
		}
	}
}

// one makes one attempt.
func (l *line) one(ctx context.Context, k kept) error {
	status, after, err := l.send(ctx, k)
	if ctx.Err() != nil && err != nil {
		return nil // it is sent again at the next start
	}
	now, result := l.o.cfg.Now(), "delivered"
	switch {
	case err != nil:
		result = "failed"
		l.all.again(now, l.o.cfg.Backoff, l.o.cfg.MaxBackoff, 0)
	case status >= 200 && status < 300:
		l.all = retry{}
		delete(l.entries, k.entry.Key)
		if k.Type == Paid {
			l.entries[k.entry.Key] = &retry{next: now.Add(l.t.PaidEvery)}
		}
		l.moved(now)
		if err := l.o.taken(ctx, k.entry); err != nil {
			return err
		}
	default:
		result, err = "refused", fmt.Errorf("it answered %d", status)
		if status >= 500 || status == http.StatusTooManyRequests || status == http.StatusRequestTimeout {
			l.all.again(now, l.o.cfg.Backoff, l.o.cfg.MaxBackoff, after)
			break
		}
		r := l.entries[k.entry.Key]
		if r == nil {
			r = &retry{}
			l.entries[k.entry.Key] = r
		}
		r.again(now, l.o.cfg.Backoff, l.o.cfg.MaxBackoff, after)
	}
	l.tell(result, err, l.next(k))
	return nil
}

// next is when an event is tried again.
func (l *line) next(k kept) time.Time {
	if r := l.entries[k.entry.Key]; r != nil && r.next.After(l.all.next) {
		return r.next
	}
	return l.all.next
}

func (l *line) tell(result string, err error, next time.Time) {
	if l.o.cfg.Attempted != nil {
		l.o.cfg.Attempted(l.t.Name, result)
	}
	l.o.note(l.t.Name, func(s *State) {
		if err == nil {
			s.Delivered++
			s.Pending = max(s.Pending-1, 0)
			s.LastError, s.NextTry = "", time.Time{}
			return
		}
		s.Failed++
		s.LastError, s.NextTry = plain(err), next
	})
}

// moved notes that the target took something, or has nothing to take.
func (l *line) moved(now time.Time) {
	l.last = now
	if l.stuck {
		l.stuck = false
		l.o.cfg.Stuck(l.t.Name, "")
	}
}

// check tells of a target that has taken nothing for long.
func (l *line) check() {
	if l.o.cfg.Stuck == nil || l.stuck || l.o.cfg.Now().Sub(l.last) < l.o.cfg.StuckAfter {
		return
	}
	why := ""
	l.o.note(l.t.Name, func(s *State) {
		if s.Pending > 0 {
			why = fmt.Sprintf("the webhook %s has taken nothing since %s, %d events wait: %s", s.Name, l.last.UTC().Format(time.RFC3339), s.Pending, s.LastError)
		}
	})
	if why != "" {
		l.stuck = true
		l.o.cfg.Stuck(l.t.Name, why)
	}
}

// plain is an error without the address: a URL may hold a secret.
func plain(err error) string {
	for {
		u, ok := err.(interface{ Unwrap() error })
		if !ok || u.Unwrap() == nil {
			break
		}
		err = u.Unwrap()
	}
	text := err.Error()
	return text[:min(len(text), 200)]
}

// send makes the request. after is how long the answer asks to be left alone.
func (l *line) send(ctx context.Context, k kept) (status int, after time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, l.o.cfg.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, l.t.URL, bytes.NewReader(k.raw))
	if err != nil {
		return 0, 0, err
	}
	at := l.o.cfg.Now()
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "spillway-webhook")
	req.Header.Set("webhook-id", k.ID)
	req.Header.Set("webhook-timestamp", strconv.FormatInt(at.Unix(), 10))
	req.Header.Set("webhook-signature", Sign(l.t.Secrets, k.ID, at, k.raw))
	resp, err := l.o.cfg.Client.Do(req)
	if err != nil {
		return 0, 0, err
	}
	defer resp.Body.Close()
	if _, err := io.CopyN(io.Discard, resp.Body, 64<<10); err != nil && err != io.EOF {
		return 0, 0, err // it did not answer to the end: it may not have taken it
	}
	if seconds, err := strconv.ParseUint(resp.Header.Get("Retry-After"), 10, 20); err == nil {
		after = min(time.Duration(seconds)*time.Second, l.o.cfg.MaxBackoff)
	}
	return resp.StatusCode, after, nil
}
