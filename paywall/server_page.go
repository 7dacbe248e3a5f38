package paywall

import (
	"bytes"
	"fmt"
	"html/template"
	"net/http"
	"strings"

	"github.com/spillway/spillway/internal/web"
	"github.com/spillway/spillway/mpp"
	"github.com/spillway/spillway/mpp/bitcoin"
)

const pageStyle = `body{font:16px/1.5 system-ui,sans-serif;max-width:46rem;margin:2rem auto;padding:0 1rem;color:#222;background:#fff}
code{display:block;background:#f2f2f2;padding:.6rem .8rem;word-break:break-all}
@media (prefers-color-scheme:dark){body{color:#ddd;background:#181818}code{background:#2a2a2a}}`

// problemPage is a problem for a person with a browser.
var problemPage = template.Must(template.New("problem").Parse(`<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{{.Title}}</title>
<style>` + pageStyle + `</style>
<h1>{{.Title}}</h1>
<p>{{.Detail}}</p>
{{with .Command}}<p>To buy it, in a terminal:</p>
<code>{{.}}</code>
<p>A deposit is locked in a channel of your own first. What is not spent comes back to you, also when this server disappears.</p>
{{end}}</html>
`))

// pageOf renders a problem as a page and sets its headers.
func pageOf(h http.Header, p *mpp.Problem) ([]byte, error) {
	web.Headers(h, pageStyle)
	command := p.String("command")
	var b bytes.Buffer
	err := problemPage.Execute(&b, map[string]string{
		"Title": p.Title, "Detail": strings.TrimSuffix(p.Detail, buyWith+command), "Command": command,
	})
	return b.Bytes(), err
}

// buyWith goes before the command that buys a resource.
const buyWith = " To buy it: "

// Base is the origin under which clients reach this server: the configured one,
// or what the request was sent to.
func (s *Server) Base(r *http.Request) string {
	switch {
	case s.cfg.Origin != "":
		return strings.TrimSuffix(s.cfg.Origin, "/")
	case r.TLS != nil:
		return "https://" + r.Host
	default:
		return "http://" + r.Host
	}
}

// describe tells a person what is sold here and how to buy it.
func (s *Server) describe(v *visit, p *mpp.Problem) {
	q := v.res.Quote
	if v.res.metered != nil {
		p.Detail = fmt.Sprintf("%s, paid over a bitcoin payment channel (%s).", q.words(), s.cfg.Network)
		p.With("unitType", q.unit()).With("msat", decimal(q.ChunkMsat)).With("units", max(q.Per, 1))
		return
	}
	command := "spillway get " + web.ShellWord(s.Base(v.r)+v.r.URL.EscapedPath())
	p.Detail = fmt.Sprintf("%s, paid over a bitcoin payment channel (%s), each %s after it has arrived.", q.words(), s.cfg.Network, q.unit()) +
		buyWith + command
	p.With("chunkMsat", decimal(q.ChunkMsat)).With("lastChunkMsat", decimal(q.LastMsat)).With("totalMsat", decimal(q.TotalMsat)).
		With("command", command)
	if q.Size > 0 {
		p.With("size", q.Size).With("chunkBytes", q.ChunkBytes)
	}
}

// words says what is sold for how much, for a person.
func (q Quote) words() string {
	if q.Per > 1 || q.UnitType == bitcoin.UnitRequest || q.UnitBytes > 0 {
		return q.unitWords()
	}
	text := fmt.Sprintf("%s a %s, %s in all", msatWords(q.ChunkMsat), q.unit(), msatWords(q.TotalMsat))
	if q.Size > 0 && q.ChunkBytes > 0 {
		text = fmt.Sprintf("%d bytes in chunks of %d bytes: %s", q.Size, q.ChunkBytes, text)
	}
	if q.Description != "" {
		text = q.describe() + ", " + text
	}
	return text
}

// unitWords says what units of an answer cost.
func (q Quote) unitWords() string {
	text := fmt.Sprintf("%s a %s", msatWords(q.ChunkMsat), q.unit())
	switch {
	case q.Per > 1:
		text = fmt.Sprintf("%s for %d %ss", msatWords(q.ChunkMsat), q.Per, q.unit())
	case q.UnitBytes > 0:
		text += fmt.Sprintf(" of %d bytes", q.UnitBytes)
	}
	if q.Description != "" {
		text = q.describe() + ", " + text
	}
	return text
}

func msatWords(msat uint64) string {
	if msat%1000 == 0 {
		return decimal(msat/1000) + " sat"
	}
	return decimal(msat) + " msat"
}
