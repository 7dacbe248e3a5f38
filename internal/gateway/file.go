package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"golang.org/x/time/rate"

	"github.com/spillway/spillway/content"
	"github.com/spillway/spillway/content/bao"
	"github.com/spillway/spillway/payee"
	"github.com/spillway/spillway/paywall"
)

// SliceType is the media type of a Bao slice.
const SliceType = "application/vnd.spillway.bao-slice"

// maxItems bounds how many chunks one slice may touch.
const maxItems = 4096

// Quote is a file's price.
func (g *Gateway) Quote(m *content.Manifest) paywall.Quote {
	return paywall.Quote{
		ChunkMsat: m.ChunkMsat, LastMsat: m.LastChunkMsat, TotalMsat: m.TotalMsat(),
		CreditMsat: g.cfg.CreditChunks * max(m.ChunkMsat, m.LastChunkMsat), Description: m.Name,
	}
}

func items(m *content.Manifest, first, last uint64) []payee.Item {
	list := make([]payee.Item, 0, last-first+1)
	for i := first; i <= last; i++ {
		list = append(list, payee.Item{Resource: m.Root, Chunk: i, Price: m.ChunkPrice(i)})
	}
	return list
}

func (g *Gateway) file(w http.ResponseWriter, r *http.Request, entry *content.Entry) {
	m := entry.Manifest()
	h := w.Header()
	h.Set("ETag", etag(&m))
	h.Set("Accept-Ranges", "bytes")
	h.Set("Link", fmt.Sprintf(`<%s?manifest>; rel="describedby"`, r.URL.EscapedPath()))
	query := r.URL.Query()
	switch {
	case r.Method == http.MethodPost || r.Method == http.MethodHead:
		g.alone(w, r, &m)
	case r.Method != http.MethodGet:
		h.Set("Allow", allowed)
		fail(w, r, http.StatusMethodNotAllowed, "GET, HEAD or POST")
	case query.Has("manifest"):
		g.manifest(w, r, &m)
	case query.Has("slice"):
		g.slice(w, r, entry, &m, query.Get("slice"))
	default:
		g.plain(w, r, entry, &m)
	}
}

func etag(m *content.Manifest) string { return `"b3-` + m.Root.String() + `"` }

// alone serves HEAD and POST: a payment by itself, or what a HEAD is for.
func (g *Gateway) alone(w http.ResponseWriter, r *http.Request, m *content.Manifest) {
	if r.Method == http.MethodHead && r.Header.Get("Authorization") == "" {
		// the length of what a paid GET would send; there is no body to contradict it
		w.Header().Set("Content-Length", strconv.FormatUint(m.Size, 10))
		if m.TotalMsat() == 0 {
			w.WriteHeader(http.StatusOK)
			return
		}
		g.cfg.Paywall.Head(w, r, g.Quote(m))
		return
	}
	if m.TotalMsat() == 0 {
		fail(w, r, http.StatusMethodNotAllowed, "this file is free")
		return
	}
	g.cfg.Paywall.Admit(w, r, paywall.Resource{Quote: g.Quote(m)})
}

func (g *Gateway) manifest(w http.ResponseWriter, r *http.Request, m *content.Manifest) {
	raw, err := json.Marshal(m)
	if err != nil {
		fail(w, r, http.StatusInternalServerError, "the manifest cannot be written")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-cache")
	w.Header().Set("Content-Length", strconv.Itoa(len(raw)))
	write(w, raw)
}

// slice serves the verified slice of the bytes a to b, inclusive.
func (g *Gateway) slice(w http.ResponseWriter, r *http.Request, entry *content.Entry, m *content.Manifest, text string) {
	a, b, err := parseSpan(text)
	if err != nil || b >= m.Size {
		fail(w, r, http.StatusRequestedRangeNotSatisfiable, fmt.Sprintf("slice=a-b are bytes of the file, inclusive, below %d", m.Size))
		return
	}
	first, last, err := m.ChunksTouched(a, b)
	if err != nil || last-first >= maxItems {
		fail(w, r, http.StatusRequestedRangeNotSatisfiable, fmt.Sprintf("a slice touches at most %d chunks", maxItems))
		return
	}
	size, err := bao.SliceSize(m.Size, m.GroupBytes, a, b-a+1)
	if err != nil {
		fail(w, r, http.StatusRequestedRangeNotSatisfiable, err.Error())
		return
	}
	reader, err := g.open(r.Context(), entry)
	if err != nil {
		g.changed(w, r, err)
		return
	}
	defer g.closeReader(reader)
	grant, ok := g.cfg.Paywall.Admit(w, r, paywall.Resource{Quote: g.Quote(m), Items: items(m, first, last)})
	if !ok {
		return
	}
	w.Header().Set("Content-Type", SliceType)
	w.Header().Set("Content-Length", strconv.FormatUint(size, 10))
	out := g.paced(r.Context(), w, grant, m, first, b-a+1)
	if err := reader.WriteSlice(r.Context(), out, a, b-a+1); err != nil {
		g.broken(r, err)
	}
}

// plain serves the file's bytes, whole or a range, chunk by chunk as they are
// paid.
func (g *Gateway) plain(w http.ResponseWriter, r *http.Request, entry *content.Entry, m *content.Manifest) {
	a, b, partial, err := wanted(r, m)
	if err != nil {
		w.Header().Set("Content-Range", fmt.Sprintf("bytes */%d", m.Size))
		fail(w, r, http.StatusRequestedRangeNotSatisfiable, err.Error())
		return
	}
	reader, err := g.open(r.Context(), entry)
	if err != nil {
		g.changed(w, r, err)
		return
	}
	defer g.closeReader(reader)
	h := w.Header()
	h.Set("Content-Disposition", "attachment")
	h.Set("Content-Type", "application/octet-stream")
	if m.Size == 0 {
		h.Set("Content-Length", "0")
		return
	}
	first, last, err := m.ChunksTouched(a, b)
	if err != nil {
		fail(w, r, http.StatusRequestedRangeNotSatisfiable, err.Error())
		return
	}
	grant, ok := g.cfg.Paywall.Admit(w, r, paywall.Resource{Quote: g.Quote(m), Items: items(m, first, first)})
	if !ok {
		return
	}
	h.Set("Content-Length", strconv.FormatUint(b-a+1, 10))
	if partial {
		h.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", a, b, m.Size))
		w.WriteHeader(http.StatusPartialContent)
	}
	g.stream(w, r, reader, grant, m, span{a, b, first, last})
}

type span struct{ a, b, first, last uint64 }

// stream sends chunk after chunk, each charged before its first byte, and
// pauses while the credit is used up.
func (g *Gateway) stream(w http.ResponseWriter, r *http.Request, reader *content.Reader, grant *paywall.Grant, m *content.Manifest, s span) {
	for i := s.first; i <= s.last; i++ {
		if i > s.first {
			ctx, cancel := context.WithTimeout(r.Context(), g.cfg.MaxWait)
			err := grant.Charge(ctx, items(m, i, i))
			cancel()
			if err != nil {
				g.broken(r, err)
			}
		}
		off, length := m.ChunkRange(i)
		from, to := max(off, s.a), min(off+length, s.b+1)
		out := g.paced(r.Context(), w, grant, m, i, to-from)
		if err := reader.WriteRange(r.Context(), out, from, to-from); err != nil {
			g.broken(r, err)
		}
		if f, ok := w.(http.Flusher); ok {
			f.Flush()
		}
	}
}

// open opens an entry's file; one that has changed is hashed again for the next
// request.
func (g *Gateway) open(ctx context.Context, entry *content.Entry) (*content.Reader, error) {
	reader, err := entry.Open()
	if errors.Is(err, content.ErrChanged) {
		m := entry.Manifest()
		if _, again := g.cfg.Catalogue.Update(ctx, m.Name); again != nil {
			return nil, errors.Join(err, again)
		}
	}
	return reader, err
}

func (g *Gateway) closeReader(r *content.Reader) {
	if err := r.Close(); err != nil {
		g.cfg.Log.Warn("a file did not close", "error", err)
	}
}

// changed answers a request for a file that is not what its manifest says:
// nothing was charged.
func (g *Gateway) changed(w http.ResponseWriter, r *http.Request, err error) {
	g.cfg.Log.Warn("a file has changed", "path", r.URL.Path, "error", err)
	w.Header().Set("Retry-After", "1")
	fail(w, r, http.StatusServiceUnavailable, "the file has changed; nothing was charged; ask for its manifest again")
}

// broken ends an answer that is under way so that the client sees it is not whole.
func (g *Gateway) broken(r *http.Request, err error) {
	g.cfg.Log.Debug("a delivery broke off", "path", r.URL.Path, "error", err)
	panic(http.ErrAbortHandler)
}

// paced slows what has been sent three times already.
func (g *Gateway) paced(ctx context.Context, w io.Writer, grant *paywall.Grant, m *content.Manifest, chunk, bytes uint64) io.Writer {
	_, length := m.ChunkRange(chunk)
	if !g.again(sentKey{grant.Receipt.Channel, m.Root, chunk}, bytes, length) {
		return w
	}
	return &slowWriter{ctx: ctx, w: w, limit: rate.NewLimiter(rate.Limit(g.cfg.Slow), g.cfg.Slow)}
}

type slowWriter struct {
	ctx   context.Context
	w     io.Writer
	limit *rate.Limiter
}

func (s *slowWriter) Write(p []byte) (done int, err error) {
	for len(p) > 0 {
		n := min(len(p), s.limit.Burst())
		if err := s.limit.WaitN(s.ctx, n); err != nil {
			return done, err
		}
		n, err = s.w.Write(p[:n])
		if done += n; err != nil {
			return done, err
		}
		p = p[n:]
	}
	return done, nil
}

// parseSpan reads "a-b", both inclusive.
func parseSpan(text string) (a, b uint64, err error) {
	from, to, ok := strings.Cut(text, "-")
	if !ok {
		return 0, 0, errors.New("not a-b")
	}
	if a, err = strconv.ParseUint(from, 10, 63); err != nil {
		return 0, 0, err
	}
	if b, err = strconv.ParseUint(to, 10, 63); err != nil {
		return 0, 0, err
	}
	if a > b {
		return 0, 0, errors.New("a is above b")
	}
	return a, b, nil
}

// wanted is the range of bytes that a request asks for: all, or one range.
// RFC 9110, section 14.
func wanted(r *http.Request, m *content.Manifest) (a, b uint64, partial bool, err error) {
	b = m.Size - min(m.Size, 1)
	field := r.Header.Get("Range")
	if tag := r.Header.Get("If-Range"); tag != "" && tag != etag(m) {
		field = ""
	}
	unit, text, ok := strings.Cut(field, "=")
	if field == "" || !ok || strings.TrimSpace(unit) != "bytes" {
		return 0, b, false, nil
	}
	text = strings.TrimSpace(text)
	if strings.Contains(text, ",") {
		return 0, 0, false, errors.New("one range at a time")
	}
	from, to, _ := strings.Cut(text, "-")
	switch {
	case from == "":
		n, err := strconv.ParseUint(to, 10, 63)
		if err != nil || n == 0 || m.Size == 0 {
			return 0, 0, false, errors.New("not a range of this file")
		}
		return m.Size - min(n, m.Size), b, true, nil
	case to == "":
		a, err = strconv.ParseUint(from, 10, 63)
	default:
		var end uint64
		if a, end, err = parseSpan(text); err == nil {
			b = min(b, end)
		}
	}
	if err != nil || a >= m.Size {
		return 0, 0, false, errors.New("not a range of this file")
	}
	return a, b, true, nil
}
