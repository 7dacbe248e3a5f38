package gateway

import (
	"net/http"

	"github.com/spillway/spillway/content"
	"github.com/spillway/spillway/mpp/bitcoin"
	"github.com/spillway/spillway/paywall"
)

// maxDescribed is how many files the description of the service names one by one.
const maxDescribed = 500

// describes answers for the documents that describe the service, where no file of that
// name is offered: a file that is for sale is not hidden by them. false: it is neither.
func (g *Gateway) describes(w http.ResponseWriter, r *http.Request) bool {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return false
	}
	kind, write := "application/json", paywall.Discovery.OpenAPI
	switch r.URL.Path {
	case paywall.OpenAPIPath:
	case paywall.LLMsPath:
		kind, write = "text/plain; charset=utf-8", paywall.Discovery.LLMs
	default:
		return false
	}
	// no folder begins with a slash: the documents are kept beside the catalogues
	raw, err := g.lists.get(r.URL.Path, g.cfg.Catalogue.Version(), func() ([]byte, error) { return write(g.discovery()) })
	if err != nil {
		g.cfg.Log.Error("the service cannot be described", "path", r.URL.Path, "error", err)
		fail(w, r, http.StatusInternalServerError, "the description cannot be written")
		return true
	}
	paywall.ServeDiscovery(w, r, kind, raw)
	return true
}

// discovery is what this provider sells.
func (g *Gateway) discovery() paywall.Discovery {
	d := paywall.Discovery{
		Title: "Files for bitcoin, chunk by chunk", Version: "1", Network: g.cfg.Network, Categories: []string{"data", "media"},
		Summary: "A provider of files. Each chunk is verified against the file's BLAKE3 root, and paid, on its own.",
		Notes: []string{
			"The catalogue is at /: JSON when asked for, a page for a browser.",
			"FILE?manifest is free: name, size, root, chunks and prices, signed by the provider " + g.cfg.Provider + ".",
			"FILE?slice=a-b is a verified slice (bytes, inclusive); Range: bytes=a-b the plain bytes; both cost the chunks that they touch, once per channel.",
		},
	}
	entries := g.cfg.Catalogue.List("")
	d.More = len(entries) - min(len(entries), maxDescribed)
	for _, e := range entries[:len(entries)-d.More] {
		m := e.Manifest()
		d.Operations = append(d.Operations, sold(&m))
	}
	return d
}

// sold is a file as an operation.
func sold(m *content.Manifest) paywall.Operation {
	op := paywall.Operation{
		Path: escaped(m.Name), Summary: bytesFor(m.Size) + ", " + priceFor(m.TotalMsat()) + " in all",
		Query: map[string]string{"manifest": "asks for the signed manifest, free", "slice": "a-b: a verified slice of these bytes, inclusive"},
	}
	if m.TotalMsat() > 0 {
		op.Price = paywall.Price{Msat: max(m.ChunkMsat, m.LastChunkMsat), Unit: bitcoin.UnitChunk, ChunkBytes: m.ChunkBytes}
	}
	return op
}
