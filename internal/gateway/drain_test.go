package gateway_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/spillway/spillway/content"
	"github.com/spillway/spillway/internal/gateway"
	"github.com/spillway/spillway/internal/gateway/edgetest"
)

// A provider that stops finishes the slice that it is sending, and begins no other;
// its catalogue and what pays a channel are answered still.
func TestDrain(t *testing.T) {
	const size = 64 << 20 // more than the buffers of a connection hold
	s := edgetest.New(t, edgetest.Config{})
	s.Put("big", edgetest.Pattern(size, 1))
	identity, err := s.PayeeKeys.Identity()
	s.Must(err)
	files, err := content.NewCatalogue(content.CatalogueConfig{
		Paths: []string{s.Dir}, CacheDir: t.TempDir(), Identity: identity, Price: content.Free, Chunk: content.DefaultChunk,
	})
	s.Must(err)
	t.Cleanup(func() { s.Must(files.Close()) })
	_, err = files.Refresh(t.Context())
	s.Must(err)
	g, err := gateway.New(gateway.Config{Catalogue: files, Paywall: s.Wall, Provider: "p", Network: "regtest", CreditChunks: 1})
	s.Must(err)
	server := httptest.NewServer(g)
	t.Cleanup(server.Close)
	resp := get(t, server.URL+"/big?slice=0-67108863")
	first := make([]byte, 1000)
	_, err = io.ReadFull(resp.Body, first)
	s.Must(err)

	drained := make(chan error, 1)
	go func() { drained <- g.Drain(t.Context()) }()
	refused := func() bool {
		again := get(t, server.URL+"/big?slice=0-10")
		s.Must(again.Body.Close())
		return again.StatusCode == http.StatusServiceUnavailable && again.Header.Get("Retry-After") == "5"
	}
	for limit := time.Now().Add(20 * time.Second); !refused(); {
		if time.Now().After(limit) {
			t.Fatal("a provider that stops begins a delivery")
		}
	}
	if resp := get(t, server.URL+"/"); resp.StatusCode != http.StatusOK {
		t.Errorf("the catalogue: %s", resp.Status)
	}
	select {
	case err := <-drained:
		t.Fatalf("it stopped before the slice was sent: %v", err)
	default:
	}
	rest, err := io.Copy(io.Discard, resp.Body)
	if err != nil || rest+1000 != resp.ContentLength {
		t.Errorf("%d of %d bytes of the slice: %v", rest+1000, resp.ContentLength, err)
	}
	select {
	case err := <-drained:
		s.Must(err)
	case <-time.After(20 * time.Second):
		t.Error("it does not stop")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s.Must(g.Drain(ctx)) // nothing runs: there is nothing to wait for
}
