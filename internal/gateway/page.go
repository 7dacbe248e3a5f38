package gateway

import (
	"bytes"
	"encoding/json"
	"html/template"
	"net/http"
	"strconv"
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
	Command    string `json:"-"`
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
	if folder != "" && len(entries) == 0 {
		return nil, nil
	}
	return json.Marshal(map[string]any{"provider": g.cfg.Provider, "network": g.cfg.Network, "files": listing(entries), "complete": g.cfg.Catalogue.Complete()})
}

func listing(entries []*content.Entry) []listed {
	files := make([]listed, 0, len(entries))
	for _, e := range entries {
		m := e.Manifest()
		files = append(files, listed{
			Name: m.Name, Size: m.Size, Root: m.Root.String(), URL: escaped(m.Name),
			ChunkBytes: m.ChunkBytes, Chunks: m.Chunks(), ChunkMsat: m.ChunkMsat, LastMsat: m.LastChunkMsat, TotalMsat: m.TotalMsat(), FreeBytes: m.FreeBytes(),
			HumanSize: content.FormatBytes(m.Size), HumanPrice: content.FormatMsat(m.TotalMsat()),
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

// pageStyle is the style of the catalogue's page.
const pageStyle = `body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222;background:#fff}
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.4rem .6rem;border-bottom:1px solid #ddd}
td.n,th.n{text-align:right;white-space:nowrap}code{background:#f2f2f2;padding:.1rem .3rem;word-break:break-all}
@media (prefers-color-scheme:dark){body{color:#ddd;background:#181818}code{background:#2a2a2a}th,td{border-color:#333}}`

var pageTemplate = template.Must(template.New("page").Parse(`<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Files for sale</title>
<style>` + pageStyle + `</style>
<h1>Files for sale</h1>
<p>Paid chunk by chunk with bitcoin ({{.Network}}), each chunk after it has arrived and was verified. What is not spent comes back.</p>
<table><thead><tr><th>File<th class="n">Size<th class="n">Price<th>Buy</thead><tbody>
{{range .Files}}<tr><td>{{.Name}}<td class="n">{{.HumanSize}}<td class="n">{{.HumanPrice}}<td><code>{{.Command}}</code>
{{else}}<tr><td colspan="4">Nothing is offered yet.
{{end}}</tbody></table>
{{if not .Complete}}<p>The files are still being read: more may come.</p>
{{end}}{{with .More}}<p>And {{.}} more: all of them are listed by <code>spillway ls</code>.</p>
{{end}}<p>Provider <code>{{.Provider}}</code></p>
</html>
`))

// maxRows is how many files a page shows.
const maxRows = 1000

func (g *Gateway) page(w http.ResponseWriter, r *http.Request, folder string) {
	entries := g.cfg.Catalogue.List(folder)
	if folder != "" && len(entries) == 0 {
		g.noFolder(w, r)
		return
	}
	files := listing(entries[:min(len(entries), maxRows)])
	base := g.cfg.Paywall.Base(r)
	for i, f := range files {
		files[i].Command = "spillway get " + web.ShellWord(base+f.URL)
	}
	var b bytes.Buffer
	if err := pageTemplate.Execute(&b, map[string]any{
		"Files": files, "More": len(entries) - len(files), "Complete": g.cfg.Catalogue.Complete(), "Provider": g.cfg.Provider, "Network": g.cfg.Network,
	}); err != nil {
		fail(w, r, http.StatusInternalServerError, "the page cannot be written")
		return
	}
	web.Headers(w.Header(), pageStyle)
	w.Header().Set("Content-Length", strconv.Itoa(b.Len()))
	if r.Method != http.MethodHead {
		write(w, b.Bytes())
	}
}
