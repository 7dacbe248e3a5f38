package gateway

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"

	"github.com/spillway/spillway/content"
	"github.com/spillway/spillway/content/bao"
	"github.com/spillway/spillway/mpp"
	"github.com/spillway/spillway/mpp/bitcoin"
	"github.com/spillway/spillway/payee"
	"github.com/spillway/spillway/paywall"
)

// SliceType is the media type of a Bao slice.
const SliceType = "application/vnd.spillway.bao-slice"

// maxItems bounds how many chunks one slice may touch.
const maxItems = 4096

// Quote is a file's price.
func (g *Gateway) Quote(m *content.Manifest) paywall.Quote {
	dearest := max(m.ChunkMsat, m.LastChunkMsat)
	credit := bitcoin.MaxMsat
	if n := max(g.cfg.CreditChunks, 1); dearest <= credit/n {
		credit = g.cfg.CreditChunks * dearest
	}
	return paywall.Quote{
		ChunkMsat: m.ChunkMsat, LastMsat: m.LastChunkMsat, TotalMsat: m.TotalMsat(), CreditMsat: credit,
		Description: m.Name, Size: m.Size, ChunkBytes: m.ChunkBytes, Root: m.Root.String(),
	}
}

// Resource is what chunks are charged for: the content as it is divided now. In
// other chunks it is another resource, else a small chunk that was charged would
// make a large one free.
func Resource(m *content.Manifest) [32]byte {
	return sha256.Sum256(binary.BigEndian.AppendUint64(append([]byte("spillway/chunks"), m.Root[:]...), m.ChunkBytes))
}

func items(m *content.Manifest, first, last uint64) []payee.Item {
	list := make([]payee.Item, 0, last-first+1)
	of := Resource(m)
	for i := first; i <= last; i++ {
		list = append(list, payee.Item{Resource: of, Chunk: i, Price: m.ChunkPrice(i)})
	}
	return list
}

// file answers a request for a file. fresh: it was just hashed for this request.
func (g *Gateway) file(w http.ResponseWriter, r *http.Request, entry *content.Entry, fresh bool) {
	m := entry.Manifest()
	query := r.URL.Query()
	reads := r.Method == http.MethodGet || r.Method == http.MethodHead
	if reads && query.Has("manifest") {
		g.manifest(w, r, &m)
		return
	}
	h := w.Header()
	h.Set("ETag", etag(&m))
	h.Set("Accept-Ranges", "bytes")
	h.Set("Link", fmt.Sprintf(`<%s?manifest>; rel="describedby"`, r.URL.EscapedPath()))
	switch {
	case r.Method == http.MethodPost && m.TotalMsat() == 0:
		g.cfg.Paywall.AdmitAlone(w, r, worth(r))
	case r.Method == http.MethodPost:
		g.cfg.Paywall.Admit(w, r, paywall.Resource{Quote: g.Quote(&m), Worth: worth(r)})
	case !reads:
		h.Set("Allow", allowed)
		fail(w, r, http.StatusMethodNotAllowed, "GET, HEAD or POST")
	case r.Method == http.MethodHead:
		g.head(w, r, &m)
	case g.precondition(w, r, &m):
	case query.Has("slice"):
		g.slice(w, r, offer{entry, &m, fresh}, strings.Join(query["slice"], "&")) // two are none
	default:
		g.plain(w, r, offer{entry, &m, fresh})
	}
}

// offer is a file as it is on sale now.
type offer struct {
	entry *content.Entry
	m     *content.Manifest
	fresh bool // it was just hashed for this request
}

func etag(m *content.Manifest) string { return `"b3-` + m.Root.String() + `"` }

// precondition answers a GET that the client's own copy or its knowledge of the
// file makes needless, before anything is charged. RFC 9110, section 13.
func (g *Gateway) precondition(w http.ResponseWriter, r *http.Request, m *content.Manifest) bool {
	if field := r.Header.Values("If-Match"); len(field) > 0 && !matches(field, etag(m)) {
		g.cfg.Paywall.Keep(r.Context(), r)
		fail(w, r, http.StatusPreconditionFailed, "the file is another one than you ask for; nothing was charged; ask for its manifest again")
		return true
	}
	if field := r.Header.Values("If-None-Match"); len(field) > 0 && matches(field, etag(m)) {
		g.cfg.Paywall.Keep(r.Context(), r)
		w.WriteHeader(http.StatusNotModified)
		return true
	}
	return false
}

// matches compares entity tags, strong or weak: this server's are all strong.
func matches(field []string, tag string) bool {
	for _, one := range strings.Split(strings.Join(field, ","), ",") {
		one = strings.TrimSpace(one)
		if one == "*" || strings.TrimPrefix(one, "W/") == tag {
			return true
		}
	}
	return false
}

// head answers a HEAD: a payment by itself, or, unpaid, what a GET would send.
func (g *Gateway) head(w http.ResponseWriter, r *http.Request, m *content.Manifest) {
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Length", strconv.FormatUint(m.Size, 10))
	if m.TotalMsat() == 0 && r.Header.Get(mpp.HeaderCredential) == "" {
		w.WriteHeader(http.StatusOK)
		return
	}
	if m.TotalMsat() == 0 {
		g.cfg.Paywall.AdmitAlone(w, r, worth(r))
		return
	}
	g.cfg.Paywall.Admit(w, r, paywall.Resource{Quote: g.Quote(m), Worth: worth(r)})
}

func (g *Gateway) manifest(w http.ResponseWriter, r *http.Request, m *content.Manifest) {
	raw, err := json.Marshal(m)
	if err != nil {
		fail(w, r, http.StatusInternalServerError, "the manifest cannot be written")
		return
	}
	sum := sha256.Sum256(raw)
	tag := `"m-` + hex.EncodeToString(sum[:16]) + `"`
	h := w.Header()
	h.Set("ETag", tag)
	h.Set("Cache-Control", "no-cache")
	if field := r.Header.Values("If-None-Match"); len(field) > 0 && matches(field, tag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(raw)))
	if r.Method != http.MethodHead {
		write(w, raw)
	}
}

// slice serves the verified slice of the bytes a to b, inclusive.
func (g *Gateway) slice(w http.ResponseWriter, r *http.Request, o offer, text string) {
	m := o.m
	var s span
	var size uint64
	var err error
	s.a, s.b, err = parseSpan(text)
	if err == nil && s.b >= m.Size {
		err = fmt.Errorf("the file has %d bytes", m.Size)
	}
	if err == nil {
		s.first, s.last, err = m.ChunksTouched(s.a, s.b)
	}
	if err == nil && s.last-s.first >= maxItems {
		err = fmt.Errorf("a slice touches at most %d chunks", maxItems)
	}
	if err == nil {
		size, err = bao.SliceSize(m.Size, m.GroupBytes, s.a, s.b-s.a+1)
	}
	if err != nil {
		g.unsatisfiable(w, r, m, "slice=a-b are bytes of the file, inclusive: "+err.Error())
		return
	}
	g.deliver(w, r, o, s, paid(items(m, s.first, s.last)), func(ctx context.Context, d *delivery) error {
		w.Header().Set("Content-Type", SliceType)
		w.Header().Set("Content-Length", strconv.FormatUint(size, 10))
		return d.reader.WriteSlice(ctx, d.sender(ctx, w, size), s.a, s.b-s.a+1)
	})
}

// plain serves the file's bytes, whole or a range, chunk by chunk as they are
// paid.
func (g *Gateway) plain(w http.ResponseWriter, r *http.Request, o offer) {
	m := o.m
	a, b, partial, err := wanted(r, m)
	if err != nil {
		g.unsatisfiable(w, r, m, err.Error())
		return
	}
	if m.Size == 0 {
		attachment(w.Header(), m)
		w.Header().Set("Content-Length", "0")
		return
	}
	s := span{a: a, b: b}
	if s.first, s.last, err = m.ChunksTouched(a, b); err != nil {
		g.unsatisfiable(w, r, m, err.Error())
		return
	}
	first := firstPaid(m, s.first, s.last)
	g.deliver(w, r, o, s, items(m, first, first), func(ctx context.Context, d *delivery) error {
		h := w.Header()
		attachment(h, m)
		h.Set("Content-Length", strconv.FormatUint(b-a+1, 10))
		if partial {
			h.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", a, b, m.Size))
			w.WriteHeader(http.StatusPartialContent)
		}
		return d.chunks(ctx, w)
	})
}

// attachment names the file; what is in it is the provider's, and is never shown
// as a page of this origin.
func attachment(h http.Header, m *content.Manifest) {
	h.Set("Content-Type", "application/octet-stream")
	disposition := mime.FormatMediaType("attachment", map[string]string{"filename": path.Base(m.Name)})
	if disposition == "" {
		disposition = "attachment"
	}
	h.Set("Content-Disposition", disposition)
}

func (g *Gateway) unsatisfiable(w http.ResponseWriter, r *http.Request, m *content.Manifest, why string) {
	g.cfg.Paywall.Keep(r.Context(), r)
	w.Header().Set("Content-Range", fmt.Sprintf("bytes */%d", m.Size))
	fail(w, r, http.StatusRequestedRangeNotSatisfiable, why)
}

// escaped is a file's path in a URL.
func escaped(name string) string { return (&url.URL{Path: "/" + name}).EscapedPath() }
