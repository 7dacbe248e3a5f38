package gateway

import (
	"bytes"
	"encoding/json"
	"html/template"
	"net/http"
	"strconv"

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
	TotalMsat  uint64 `json:"total_msat"`
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
	entries := g.cfg.Catalogue.List(folder)
	if folder != "" && len(entries) == 0 {
		fail(w, r, http.StatusNotFound, "no folder of this name is offered; the catalogue is at /")
		return
	}
	files := make([]listed, 0, len(entries))
	for _, e := range entries {
		m := e.Manifest()
		files = append(files, listed{
			Name: m.Name, Size: m.Size, Root: m.Root.String(), URL: escaped(m.Name),
			ChunkBytes: m.ChunkBytes, Chunks: m.Chunks(), ChunkMsat: m.ChunkMsat, TotalMsat: m.TotalMsat(),
			HumanSize: content.FormatBytes(m.Size), HumanPrice: content.FormatMsat(m.TotalMsat()),
		})
	}
	w.Header().Set("Cache-Control", "no-cache")
	w.Header().Set("Vary", "Accept")
	if web.PrefersHTML(r) {
		g.page(w, r, files)
		return
	}
	raw, err := json.Marshal(map[string]any{"provider": g.cfg.Provider, "network": g.cfg.Network, "files": files})
	if err != nil {
		fail(w, r, http.StatusInternalServerError, "the catalogue cannot be written")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(raw)))
	if r.Method != http.MethodHead {
		write(w, raw)
	}
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
<p>Provider <code>{{.Provider}}</code></p>
</html>
`))

func (g *Gateway) page(w http.ResponseWriter, r *http.Request, files []listed) {
	base := g.cfg.Paywall.Base(r)
	for i, f := range files {
		files[i].Command = "spillway get " + web.ShellWord(base+f.URL)
	}
	var b bytes.Buffer
	if err := pageTemplate.Execute(&b, map[string]any{"Files": files, "Provider": g.cfg.Provider, "Network": g.cfg.Network}); err != nil {
		fail(w, r, http.StatusInternalServerError, "the page cannot be written")
		return
	}
	web.Headers(w.Header(), pageStyle)
	w.Header().Set("Content-Length", strconv.Itoa(b.Len()))
	if r.Method != http.MethodHead {
		write(w, b.Bytes())
	}
}
