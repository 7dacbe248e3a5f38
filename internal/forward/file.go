package forward

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"mime"
	"net/http"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/content"
	"github.com/spillway/spillway/download"
	"github.com/spillway/spillway/paywall"
)

const (
	// blockBytes is how much of a file is bought before others at the same provider get a
	// turn; at least a chunk.
	blockBytes = 16 << 20
	// spoolBytes is how much of it waits in memory for the client; what is more is read
	// back from the cache, and verified once more.
	spoolBytes = 2 << 20
)

// maxEmpty is how many blocks in a row may end with nothing to read.
const maxEmpty = 3

// file answers a request for a file with bytes that were verified. ok is false where it
// is no file (any more); then nothing was written. What is bought is what is asked for:
// the chunks that a range touches.
func (p *Proxy) file(w http.ResponseWriter, r *http.Request, q *wanted) (ok bool) {
	name := sha256.Sum256([]byte(q.url.String()))
	at := filepath.Join(p.cfg.Cache, hex.EncodeToString(name[:cacheName/2]))
	leave, err := p.cache.enter(filepath.Base(at))
	if err != nil {
		p.refuse(w, r, err)
		return true
	}
	defer leave()
	f := &fileReader{p: p, ctx: r.Context(), origin: q.origin, want: download.Want{URL: q.url.String(), Path: at}}
	plan, err := p.cfg.Buyer.Look(r.Context(), f.want)
	if errors.Is(err, paywall.ErrNotProvider) {
		return false
	} else if err != nil {
		p.refuse(w, r, err)
		return true
	}
	f.m = plan.Manifest
	tag := `"b3-` + f.m.Root.String() + `"`
	h := w.Header()
	h.Set("ETag", tag)
	h.Set("Cache-Control", "no-cache") // may be kept, and is asked for again by its tag
	h.Set("Via", "1.1 "+p.name)
	kind := mime.TypeByExtension(path.Ext(f.m.Name))
	if kind == "" || !strings.HasPrefix(kind, "text/plain") && strings.HasPrefix(kind, "text/") {
		kind = "application/octet-stream" // never a page of this address
	}
	h.Set("Content-Type", kind)
	h.Set("X-Content-Type-Options", "nosniff")
	if q.plain {
		seclude(h) // a picture may be a program, too
	}
	f.from, f.end = span(r, f.m.Size, tag)
	if r.Method == http.MethodGet && f.end > f.from && needed(r, tag) {
		if err := f.first(); err != nil {
			clear(h)
			p.refuse(w, r, err)
			return true
		}
	}
	http.ServeContent(w, r, "", time.Time{}, f)
	f.close()
	if f.failed != nil {
		panic(http.ErrAbortHandler) // so that the client sees that something is missing
	}
	return true
}

// needed reports whether a GET gets bytes: one that the client's own copy makes
// needless does not. RFC 9110, section 13.2.2.
func needed(r *http.Request, tag string) bool {
	if match := r.Header.Get("If-Match"); match != "" && match != "*" && !strings.Contains(match, tag) {
		return false
	}
	none := r.Header.Get("If-None-Match")
	return none != "*" && !strings.Contains(none, tag)
}

// span is what of a file a request asks for, as far as it matters for what is bought
// ahead: where it cannot be said, it is what is read that is bought.
func span(r *http.Request, size uint64, tag string) (from, end uint64) {
	if held := r.Header.Get("If-Range"); held != "" && held != tag {
		return 0, size
	}
	field := r.Header.Get("Range")
	if field == "" {
		return 0, size
	}
	text, bytes := strings.CutPrefix(field, "bytes=")
	first, last, dash := strings.Cut(strings.TrimSpace(text), "-")
	if !bytes || !dash || strings.Contains(text, ",") {
		return 0, 0
	}
	a, errA := strconv.ParseUint(first, 10, 63)
	b, errB := strconv.ParseUint(last, 10, 63)
	switch {
	case first == "" && errB == nil: // the last b bytes
		return size - min(size, b), size
	case errA == nil && last == "":
		return min(a, size), size
	case errA == nil && errB == nil && a <= b:
		return min(a, size), min(b, size-min(size, 1)) + 1
	}
	return 0, 0
}

// fileReader is a file that is bought as it is read. It is http.ServeContent's.
type fileReader struct {
	p      *Proxy
	ctx    context.Context
	origin string
	want   download.Want
	m      content.Manifest

	from, end uint64 // what is asked for; beyond it chunk by chunk
	pos       uint64
	spool     *spool // of the block that is bought; nil: none is
	failed    error
}

// Seek implements io.Seeker.
func (f *fileReader) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += int64(f.pos)
	case io.SeekEnd:
		offset += int64(f.m.Size)
	}
	if offset < 0 {
		return 0, errors.New("before the beginning")
	}
	f.pos = uint64(offset)
	return offset, nil
}

// Read implements io.Reader. Errors: what kept the next bytes from being bought.
func (f *fileReader) Read(b []byte) (int, error) {
	for empty := 0; ; empty++ {
		if f.failed != nil {
			return 0, f.failed
		}
		if f.pos >= f.m.Size {
			return 0, io.EOF
		}
		if empty > maxEmpty {
			f.failed = fmt.Errorf("%w: nothing comes at byte %d", paywall.ErrMisbehaved, f.pos)
			continue
		}
		if f.spool == nil || f.spool.at() != f.pos {
			f.close()
			f.begin()
		}
		n, err := f.spool.read(f.ctx, b)
		f.pos += uint64(n)
		if n > 0 {
			return n, nil
		}
		f.close() // the block is over, or it was more than waits in memory
		if err != nil && !errors.Is(err, errBlock) {
			f.failed = err
		}
	}
}

// first makes sure that the first bytes that are asked for can be had, and that what is
// asked for is within the budget, before anything is answered.
func (f *fileReader) first() error {
	if err := f.afford(); err != nil {
		return err
	}
	f.pos = f.from
	f.begin()
	if err := f.spool.ready(f.ctx); err != nil {
		f.close()
		return err
	}
	f.pos = 0 // where ServeContent begins; the block stays
	return nil
}

// afford refuses what is asked for where it could not be paid to the end.
func (f *fileReader) afford() error {
	plan, left, err := f.plan(content.Range{Start: f.from, End: f.end})
	if err != nil {
		return err
	}
	if plan.Pay > left {
		return fmt.Errorf("%w: what is asked for costs %d sat, %d sat are left", channel.ErrBudget, plan.Pay, left)
	}
	return nil
}

// plan is what a part will cost, and what may be spent.
func (f *fileReader) plan(part content.Range) (*download.Plan, uint64, error) {
	w := f.want
	w.Part = part
	left := f.p.cfg.Budgets.Left(f.origin)
	// one channel for all that may be bought here, as far as the budget goes
	rest := f.m.TotalMsat()
	if most := min(left, f.p.cfg.MaxDeposit) * 1000; rest > most {
		rest = most
	}
	price, err := f.m.RangeMsat(f.chunksOf(part))
	if err == nil && rest > price {
		w.Reserve = rest - price
	}
	plan, err := f.p.cfg.Buyer.Plan(f.ctx, w, nil)
	if err == nil && plan.Manifest.Root != f.m.Root {
		err = download.ErrChanged
	}
	if err == nil && plan.Channel == "" && plan.Capacity > f.p.cfg.MaxDeposit {
		err = fmt.Errorf("%w: %d sat, %d sat are allowed", paywall.ErrDeposit, plan.Capacity, f.p.cfg.MaxDeposit)
	}
	return plan, left, err
}

func (f *fileReader) chunksOf(part content.Range) (first, last uint64) {
	first, last, err := f.m.ChunksTouched(part.Start, part.End-1)
	if err != nil {
		return 0, 0
	}
	return first, last
}

// begin begins to buy the block at the present offset: to the end of what is asked for,
// or of the chunk, and not so much that others would wait for long.
func (f *fileReader) begin() {
	end := f.end
	if f.pos < f.from || f.pos >= end {
		end = f.pos + 1
		_, last := f.chunksOf(content.Range{Start: f.pos, End: end})
		if off, length := f.m.ChunkRange(last); length > 0 {
			end = off + length
		}
	}
	part := content.Range{Start: f.pos, End: min(end, f.pos+blockBytes, f.m.Size)}
	// what is under way is paid, also when the client is gone the moment it has it all
	ctx, cancel := context.WithCancel(context.WithoutCancel(f.ctx))
	s := newSpool(part.Start, part.End, cancel)
	f.spool = s
	f.p.buying.Go(func() {
		err := f.buy(ctx, part, s)
		cancel()
		s.over(err)
	})
}

// buy buys a part.
func (f *fileReader) buy(ctx context.Context, part content.Range, s *spool) error {
	in := *f
	in.ctx = ctx
	in.want.Stream = s
	plan, left, err := in.plan(part)
	if err != nil {
		return err
	}
	lim := download.Limits{
		Budget: min(plan.Spent+left, math.MaxInt64), MaxPrepay: f.p.cfg.MaxPrepay, KeepChannel: true, Parallel: f.p.cfg.Parallel, Stop: s.stop,
	}
	g := f.p.gate(f.origin)
	if err := g.enter(ctx, true); err != nil {
		return err
	}
	defer g.leave(true)
	over, err := f.p.journal.begin(ctx, pending{Origin: f.origin, Key: rand.Text(), File: true})
	if err != nil {
		return err
	}
	defer over()
	res, err := f.p.cfg.Buyer.Run(ctx, plan, lim, nil)
	if lacksCoins(err) && f.p.cfg.Fund != nil && f.p.cfg.Fund(ctx) {
		res, err = f.p.cfg.Buyer.Run(ctx, plan, lim, nil)
	}
	if res != nil && res.Channel != "" {
		f.p.uses(res.Channel, f.want.URL, f.m.Provider.String())
	}
	return err
}

// close ends what is being bought, and waits for it.
func (f *fileReader) close() {
	if f.spool != nil {
		f.spool.leave(f.ctx.Err() != nil)
		f.spool = nil
	}
}
