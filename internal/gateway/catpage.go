package gateway

import (
	"bytes"
	"html/template"
	"net/http"
	"strconv"
	"strings"

	"github.com/spillway/spillway/content"
	"github.com/spillway/spillway/internal/web"
)

// maxRows is how many files a page shows.
const maxRows = 1000

// pageStyle is the style of the catalogue's page. On a narrow screen each file is a
// block, on a wide one a row.
const pageStyle = `:root{color-scheme:light dark;--ink:#1d2129;--soft:#5a6372;--line:#d9dde4;--page:#fff;--card:#f5f6f8;--mark:#0b6b3a;--link:#0a58a8}
@media (prefers-color-scheme:dark){:root{--ink:#e4e7ec;--soft:#a3acb9;--line:#343a45;--page:#14171c;--card:#1e232b;--mark:#5fd394;--link:#7fb8ff}}
*{box-sizing:border-box}body{font:16px/1.55 system-ui,"DejaVu Sans",sans-serif;max-width:64rem;margin:0 auto;padding:1.5rem 1rem 3rem;color:var(--ink);background:var(--page)}
h1{font-size:1.6rem;line-height:1.2;margin:.2rem 0 .4rem;overflow-wrap:anywhere}h2{font-size:1.1rem;margin:2rem 0 .4rem}p{margin:.4rem 0}
a{color:var(--link)}nav,.soft,caption{color:var(--soft)}.skip{position:absolute;left:-99rem}.skip:focus{position:static}
code{font:.86em/1.5 ui-monospace,"DejaVu Sans Mono",monospace;background:var(--card);border:1px solid var(--line);border-radius:.3rem;padding:.1rem .35rem;overflow-wrap:anywhere}
pre{background:var(--card);border:1px solid var(--line);border-radius:.4rem;padding:.7rem .9rem;overflow-x:auto}pre code{border:0;padding:0;background:none}
table{border-collapse:collapse;width:100%;margin:1rem 0}caption{text-align:left;padding:.2rem 0}th,td{text-align:left;vertical-align:top;padding:.5rem .6rem;border-bottom:1px solid var(--line)}
th{font-size:.85rem;color:var(--soft);font-weight:600}td.n,th.n{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}td.name{overflow-wrap:anywhere;min-width:9rem}
.free{color:var(--mark);font-weight:600}dl{display:grid;grid-template-columns:max-content 1fr;gap:.2rem 1rem;margin:.4rem 0}dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}
@media (max-width:44rem){thead{position:absolute;left:-99rem}table,tbody,tr,td{display:block}tr{border-bottom:1px solid var(--line);padding:.6rem 0}td,td.n{border:0;padding:.1rem 0;text-align:left;white-space:normal}
td[data-label]::before{content:attr(data-label) " ";color:var(--soft);font-size:.85rem}td.name{font-weight:600}dl{grid-template-columns:1fr}}`

var pageTemplate = template.Must(template.New("page").Parse(`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>{{.Title}}</title>
<style>` + pageStyle + `</style></head>
<body><a class="skip" href="#files">To the files</a>
<header><nav aria-label="Folders">{{range .Path}}<a href="{{.URL}}">{{.Name}}</a> / {{end}}</nav>
<h1>{{.Title}}</h1>
<p>Paid chunk by chunk with bitcoin ({{.Network}}), each chunk after it has arrived and was verified. What is not spent comes back.</p></header>
<main>
<table id="files"><caption>{{.Sum}}</caption><thead><tr><th scope="col">Name</th><th scope="col" class="n">Size</th><th scope="col" class="n">Price</th><th scope="col">How to get it</th></tr></thead><tbody>
{{range .Folders}}<tr class="folder"><td class="name"><a href="{{.URL}}">{{.Name}}/</a> <span class="soft">{{.Count}}</span></td><td class="n" data-label="Size">{{.Size}}</td><td class="n{{if .Free}} free{{end}}" data-label="Price">{{.Price}}</td><td><code>{{.Command}}</code></td></tr>
{{end}}{{range .Files}}<tr class="file"><td class="name">{{if .Free}}<a href="{{.URL}}" download>{{.Name}}</a>{{else}}{{.Name}}{{end}}</td><td class="n" data-label="Size">{{.HumanSize}}</td><td class="n{{if .Free}} free{{end}}" data-label="Price">{{.HumanPrice}}{{with .Detail}}<br><span class="soft">{{.}}</span>{{end}}</td><td><code>{{.Command}}</code></td></tr>
{{end}}{{range .Preparing}}<tr class="preparing"><td class="name">{{.Name}}</td><td class="n" data-label="Size">{{.HumanSize}}</td><td class="n soft" data-label="Price">–</td><td class="soft">being prepared: {{.Progress}}</td></tr>
{{end}}{{if .Nothing}}<tr><td colspan="4">Nothing is offered yet.</td></tr>
{{end}}</tbody></table>
{{if or .Preparing (not .Complete)}}<p>The files are still being read: more may come.</p>
{{end}}{{with .More}}<p>And {{.}} more: all of them are listed by <code>{{$.List}}</code></p>
{{end}}<h2>How to buy</h2>
<p>With the <code>spillway</code> program, at a terminal. <code>quote</code> says what something costs in all, <code>get</code> buys it; a folder's address buys all that is in it.</p>
<pre><code>{{.List}}
{{.Get}}</code></pre>
<p>A deposit is locked in a channel of your own first, with a refund that you hold before anything is locked: it brings back what is not spent, also when this server disappears.</p>
<h2>Provider</h2>
<dl><dt>Identity</dt><dd><code id="provider">{{.Provider}}</code></dd><dt>Network</dt><dd>{{.Network}}</dd>{{with .Channels}}<dt>Channels</dt><dd id="channels">{{.}}</dd>{{end}}</dl>
<p class="soft">Every file's manifest is signed with this identity: name, size, BLAKE3 root, chunks and prices.</p>
</main></body></html>
`))

// crumb is a folder on the way to the one that is shown.
type crumb struct{ Name, URL string }

// below is a folder as the page shows it.
type below struct {
	Name, URL, Count, Size, Price, Command string
	Free                                   bool
	files                                  int
	bytes, msat                            uint64
}

func (g *Gateway) page(w http.ResponseWriter, r *http.Request, folder string) {
	entries := g.cfg.Catalogue.List(folder)
	preparing := g.pending(folder)
	if folder != "" && len(entries) == 0 && len(preparing) == 0 {
		g.noFolder(w, r)
		return
	}
	base := g.cfg.Paywall.Base(r)
	v := arrange(entries, folder, base)
	here := base + "/"
	if folder != "" {
		here = base + escaped(folder) + "/"
	}
	v["Provider"], v["Network"], v["Complete"] = g.cfg.Provider, g.cfg.Network, g.cfg.Catalogue.Complete()
	for i, p := range preparing {
		preparing[i].Name = strings.TrimPrefix(p.Name, strings.TrimPrefix(folder+"/", "/"))
	}
	v["Preparing"] = preparing[:min(len(preparing), maxRows)]
	v["Channels"] = strings.Join(g.cfg.Constructions, ", ")
	v["List"], v["Get"] = "spillway ls "+web.ShellWord(here), "spillway get "+web.ShellWord(here)
	var b bytes.Buffer
	if err := pageTemplate.Execute(&b, v); err != nil {
		fail(w, r, http.StatusInternalServerError, "the page cannot be written")
		return
	}
	web.Headers(w.Header(), pageStyle)
	w.Header().Set("Content-Length", strconv.Itoa(b.Len()))
	if r.Method != http.MethodHead {
		write(w, b.Bytes())
	}
}

// arrange lays out a folder: the files in it, and a line for each folder below.
func arrange(entries []*content.Entry, folder, base string) map[string]any {
	prefix, title := "", "Files for sale"
	if folder != "" {
		prefix, title = folder+"/", folder
	}
	var files []listed
	var folders []*below
	by := map[string]*below{}
	count, size, msat := 0, uint64(0), uint64(0)
	for _, e := range entries {
		m := e.Manifest()
		count, size, msat = count+1, size+m.Size, min(msat+m.TotalMsat(), content.MaxMsat)
		name, _, inside := strings.Cut(strings.TrimPrefix(m.Name, prefix), "/")
		if !inside {
			if len(files) < maxRows {
				files = append(files, listing([]*content.Entry{e})...)
			}
			continue
		}
		d := by[name]
		if d == nil {
			d = &below{Name: name, URL: escaped(prefix+name) + "/"}
			by[name] = d
			folders = append(folders, d)
		}
		d.files, d.bytes, d.msat = d.files+1, d.bytes+m.Size, min(d.msat+m.TotalMsat(), content.MaxMsat)
	}
	shown := len(files)
	for _, d := range folders {
		shown += d.files
		d.Count, d.Size, d.Price, d.Free = number(d.files), bytesFor(d.bytes), priceFor(d.msat), d.msat == 0
		d.Command = "spillway get " + web.ShellWord(base+d.URL)
	}
	for i, f := range files {
		files[i].Command = "spillway get " + web.ShellWord(base+f.URL)
		files[i].Name = strings.TrimPrefix(f.Name, prefix)
	}
	folders = folders[:min(len(folders), maxRows)]
	return map[string]any{
		"Title": title, "Path": crumbs(folder), "Files": files, "Folders": folders, "More": count - shown, "Nothing": count == 0,
		"Sum": number(count) + ", " + bytesFor(size) + " in all, " + priceFor(msat) + " for everything",
	}
}

// crumbs are the folders above one.
func crumbs(folder string) []crumb {
	if folder == "" {
		return nil
	}
	all := []crumb{{"Files for sale", "/"}}
	elements := strings.Split(folder, "/")
	for i, name := range elements[:len(elements)-1] {
		all = append(all, crumb{name, escaped(strings.Join(elements[:i+1], "/")) + "/"})
	}
	return all
}

func number(files int) string {
	if files == 1 {
		return "1 file"
	}
	return strconv.Itoa(files) + " files"
}

// bytesFor writes a size for people.
func bytesFor(n uint64) string {
	units := []string{"bytes", "KiB", "MiB", "GiB", "TiB"}
	f, i := float64(n), 0
	for f >= 1024 && i < len(units)-1 {
		f, i = f/1024, i+1
	}
	if i == 0 {
		return strconv.FormatUint(n, 10) + " bytes"
	}
	return strconv.FormatFloat(f, 'f', 1, 64) + " " + units[i]
}

// priceFor writes a price for people: in sat, exactly.
func priceFor(msat uint64) string {
	if msat == 0 {
		return "free"
	}
	text := strconv.FormatUint(msat/1000, 10)
	if rest := msat % 1000; rest > 0 {
		text += strings.TrimRight("."+strconv.FormatUint(1000+rest, 10)[1:], "0")
	}
	return text + " sat"
}
