package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/spillway/spillway/content"
	"github.com/spillway/spillway/payee"
	"github.com/spillway/spillway/paywall"
)

// span is what a request asks for: the bytes from a to b and the chunks from first
// to last, all inclusive.
type span struct{ a, b, first, last uint64 }

// delivery is one paid answer.
type delivery struct {
	g      *Gateway
	m      *content.Manifest
	reader *content.Reader
	span   span
	stream *stream
	grant  *paywall.Grant // nil: it is given away
	to     string         // the channel that it is on, or the address that it is given to
}

// admit runs the payment for the chunks of a delivery that are charged before its
// first byte. false: the answer has been written.
func (d *delivery) admit(w http.ResponseWriter, r *http.Request, items []payee.Item, cancel context.CancelCauseFunc) bool {
	if isFree(d.m, d.span.first, d.span.last) {
		return d.giveAway(w, r, cancel)
	}
	grant, ok := d.g.cfg.Paywall.Admit(w, r, paywall.Resource{
		Quote: d.g.Quote(d.m), Items: items, Worth: worth(r),
		Hold: func(channel string) bool {
			d.stream = d.g.streams.enter(channel, cancel)
			return d.stream != nil
		},
	})
	if d.grant = grant; ok {
		d.to = grant.Receipt.Channel
	}
	return ok
}

// deliver opens the file, has the first items paid, and lets send write the answer.
// An answer that cannot be finished is broken off, so that the client sees it.
func (g *Gateway) deliver(w http.ResponseWriter, r *http.Request, o offer, s span, first []payee.Item, send func(context.Context, *delivery) error) {
	if g.stopping(w, r) {
		return
	}
	reader, err := o.entry.Open()
	if err != nil {
		g.changed(w, r, o, err)
		return
	}
	defer g.closeReader(reader)
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	d := &delivery{g: g, m: o.m, reader: reader, span: s}
	defer func() {
		if d.stream != nil {
			d.stream.leave()
		}
	}()
	if !d.admit(w, r, first, cancel) {
		return
	}
	if err := send(ctx, d); err != nil {
		g.cfg.Log.Debug("a delivery broke off", "channel", d.to, "path", r.URL.Path, "error", err)
		panic(http.ErrAbortHandler)
	}
}

// chunks sends plain bytes, chunk after chunk, each charged before its first byte,
// and pauses while the credit is used up.
func (d *delivery) chunks(ctx context.Context, w http.ResponseWriter) error {
	out, charged := d.sender(ctx, w, d.span.b-d.span.a+1), firstPaid(d.m, d.span.first, d.span.last)
	for i := d.span.first; i <= d.span.last; i++ {
		if i > d.span.first && d.g.draining.Load() {
			return errStopping
		}
		if i > charged {
			if err := d.charge(ctx, i); err != nil {
				return err
			}
		}
		off, length := d.m.ChunkRange(i)
		from, to := max(off, d.span.a), min(off+length, d.span.b+1)
		if err := d.reader.WriteRange(ctx, out, from, to-from); err != nil {
			return err
		}
		if err := out.flush(); err != nil {
			return err
		}
	}
	return nil
}

// charge has one more chunk paid; the wait for it is bounded.
func (d *delivery) charge(ctx context.Context, chunk uint64) error {
	ctx, cancel := context.WithTimeoutCause(ctx, d.g.cfg.MaxWait, errors.New("no payment came in time"))
	defer cancel()
	return d.grant.Charge(ctx, items(d.m, chunk, chunk), d.stream.pause)
}

// sender writes an answer's body: it counts what is sent of each chunk, slows what
// was sent three times already, and ends where the client takes nothing.
type sender struct {
	d       *delivery
	ctx     context.Context
	w       http.ResponseWriter
	conn    *http.ResponseController
	total   uint64 // bytes of the body
	written uint64
}

func (d *delivery) sender(ctx context.Context, w http.ResponseWriter, total uint64) *sender {
	return &sender{d: d, ctx: ctx, w: w, conn: http.NewResponseController(w), total: max(total, 1)}
}

// at is the chunk that the next byte belongs to. In a slice nodes of the tree lie
// between the bytes; they count for the chunk that they lie in.
func (s *sender) at() (key sentKey, length uint64) {
	bytes := s.d.span.b - s.d.span.a + 1
	pos := s.d.span.a + min(uint64(float64(s.written)/float64(s.total)*float64(bytes)), bytes-1)
	chunk := pos / s.d.m.ChunkBytes
	_, length = s.d.m.ChunkRange(chunk)
	return sentKey{s.d.to, s.d.m.Root, chunk}, length
}

// Write implements io.Writer.
func (s *sender) Write(p []byte) (done int, err error) {
	for len(p) > 0 {
		n := len(p)
		key, length := s.at()
		if s.d.g.sent.of(key) >= 3*length {
			if n, err = s.wait(n); err != nil {
				return done, err
			}
		}
		if err := s.deadline(); err != nil {
			return done, err
		}
		n, err = s.w.Write(p[:n])
		s.d.g.sent.add(key, uint64(n))
		s.d.g.bytes.Add(uint64(n))
		s.d.stream.took(uint64(n))
		s.written += uint64(n)
		if done += n; err != nil {
			return done, err
		}
		p = p[n:]
	}
	return done, nil
}

// wait waits for a part of n bytes at the slow rate and returns its length.
func (s *sender) wait(n int) (int, error) {
	slow := s.d.g.sent.limit(s.d.to)
	n = min(n, slow.Burst())
	if err := slow.WaitN(s.ctx, n); err != nil {
		return 0, fmt.Errorf("sent slowly: %w", err)
	}
	return n, nil
}

// deadline gives the client so long to take the next part.
func (s *sender) deadline() error {
	if err := s.conn.SetWriteDeadline(time.Now().Add(s.d.g.cfg.Stall)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}

func (s *sender) flush() error {
	if err := s.deadline(); err != nil {
		return err
	}
	if err := s.conn.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}

func (g *Gateway) closeReader(r *content.Reader) {
	if err := r.Close(); err != nil {
		g.cfg.Log.Warn("a file did not close", "error", err)
	}
}

// rehash bounds how long a request waits for a changed file to be hashed.
const rehash = 20 * time.Second

// changed answers a request for a file that is not what its manifest says: it is
// hashed again, and the request is answered as the file is now. Nothing was charged.
func (g *Gateway) changed(w http.ResponseWriter, r *http.Request, o offer, err error) {
	g.cfg.Log.Warn("a file has changed", "path", r.URL.Path, "error", err)
	if errors.Is(err, content.ErrChanged) && !o.fresh {
		ctx, cancel := context.WithTimeout(r.Context(), rehash)
		entry, again := g.cfg.Catalogue.Update(ctx, o.m.Name)
		cancel()
		switch {
		case again == nil:
			g.file(w, r, entry, true)
			return
		case errors.Is(again, content.ErrNotFound):
			g.unknown(w, r)
			return
		}
	}
	w.Header().Del("ETag")
	w.Header().Set("Retry-After", "1")
	g.cfg.Paywall.Keep(r.Context(), r)
	fail(w, r, http.StatusServiceUnavailable, "the file is being changed; nothing was charged; ask for its manifest again")
}
