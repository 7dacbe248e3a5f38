package gateway

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/spillway/spillway/content"
	"github.com/spillway/spillway/internal/web"
	"github.com/spillway/spillway/mpp"
)

// listed is a file in the catalogue.
type listed struct {
	Name       string `json:"name"`
	Size       uint64 `json:"size"`
	Root       string `json:"root"`
	URL        string `json:"url"`
	ChunkBytes uint64 `json:"chunk_bytes"`
	Chunks     uint64 `json:"chunks"`
	ChunkMsat  uint64 `json:"chunk_msat"`
	LastMsat   uint64 `json:"last_chunk_msat"`
	TotalMsat  uint64 `json:"total_msat"`
	FreeBytes  uint64 `json:"free_bytes"` // at the beginning
	HumanSize  string `json:"-"`
	HumanPrice string `json:"-"`
	Detail     string `json:"-"`
	Command    string `json:"-"`
	Free       bool   `json:"-"`
}

// catalogue answers at the root and at folders: the files below; to a POST, what a
// channel needs that is bound to no file.
func (g *Gateway) catalogue(w http.ResponseWriter, r *http.Request, folder string) {
	if r.Method == http.MethodPost || r.Method == http.MethodHead && r.Header.Get(mpp.HeaderCredential) != "" {
		g.cfg.Paywall.AdmitAlone(w, r, worth(r))
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", allowed)
		fail(w, r, http.StatusMethodNotAllowed, "GET, HEAD or POST")
		return
	}
	w.Header().Set("Cache-Control", "no-cache")
	w.Header().Set("Vary", "Accept")
	if web.PrefersHTML(r) {
		g.page(w, r, folder)
		return
	}
	raw, err := g.lists.get(folder, g.cfg.Catalogue.Version(), func() ([]byte, error) { return g.list(folder) })
	if err != nil {
		fail(w, r, http.StatusInternalServerError, "the catalogue cannot be written")
		return
	} else if raw == nil {
		g.noFolder(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(raw)))
	if r.Method != http.MethodHead {
		write(w, raw)
	}
}

func (g *Gateway) noFolder(w http.ResponseWriter, r *http.Request) {
	g.absent(w, r, "no folder of this name is offered; the catalogue is at /")
}

// list is a folder's catalogue as JSON; nil where there is no such folder.
func (g *Gateway) list(folder string) ([]byte, error) {
	entries := g.cfg.Catalogue.List(folder)
	preparing := g.pending(folder)
	if folder != "" && len(entries) == 0 && len(preparing) == 0 {
		return nil, nil
	}
	return json.Marshal(map[string]any{"preparing": preparing, "provider": g.cfg.Provider, "network": g.cfg.Network, "channel_types": g.cfg.Constructions, "files": listing(entries), "complete": g.cfg.Catalogue.Complete()})
}

func listing(entries []*content.Entry) []listed {
	files := make([]listed, 0, len(entries))
	for _, e := range entries {
		m := e.Manifest()
		files = append(files, listed{
			Name: m.Name, Size: m.Size, Root: m.Root.String(), URL: escaped(m.Name),
			ChunkBytes: m.ChunkBytes, Chunks: m.Chunks(), ChunkMsat: m.ChunkMsat, LastMsat: m.LastChunkMsat, TotalMsat: m.TotalMsat(), FreeBytes: m.FreeBytes(),
			HumanSize: bytesFor(m.Size), HumanPrice: priceFor(m.TotalMsat()), Detail: detail(&m), Free: m.TotalMsat() == 0,
		})
	}
	return files
}

// maxLists bounds the catalogues that are kept written, in bytes.
const maxLists = 64 << 20

// lists keeps catalogues as they were written until the files change: a million
// files are written once, one list at a time, and not for every request.
type lists struct {
	mu      sync.Mutex
	version uint64
	bytes   int
	by      map[string][]byte // by folder
}

func (l *lists) get(folder string, version uint64, make func() ([]byte, error)) ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.by == nil || l.version != version || l.bytes > maxLists {
		l.by, l.version, l.bytes = map[string][]byte{}, version, 0
	}
	if raw, ok := l.by[folder]; ok {
		return raw, nil
	}
	raw, err := make()
	if err == nil && raw != nil {
		l.by[folder] = raw
		l.bytes += len(raw)
	}
	return raw, err
}

// detail says how a file's price is divided.
func detail(m *content.Manifest) string {
	if m.TotalMsat() == 0 || m.Chunks() == 1 {
		return ""
	}
	text := strconv.FormatUint(m.Chunks()-m.FreeChunks, 10) + " × " + priceFor(max(m.ChunkMsat, 1))
	if m.Chunks()-m.FreeChunks == 1 {
		text = ""
	}
	if m.FreeChunks > 0 {
		text = strings.TrimPrefix(text+", ", ", ") + "first " + bytesFor(m.FreeBytes()) + " free"
	}
	return text
}
