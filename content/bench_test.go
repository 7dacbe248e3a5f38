package content_test

import (
	"context"
	"io"
	"path/filepath"
	"testing"

	"github.com/spillway/spillway/content"
	"lukechampine.com/blake3"
)

// BenchmarkServe sets what a provider does for each chunk of 1 MiB beside a
// plain BLAKE3 of the same bytes.
func BenchmarkServe(b *testing.B) {
	data := fill(64<<20, 1)
	cfg := config(b, tree(b, map[string]string{"f": string(data)}))
	cfg.Chunk = content.DefaultChunk
	c, _ := catalogue(b, cfg)
	e, err := c.Lookup("f")
	if err != nil {
		b.Fatal(err)
	}
	b.Run("plain", func(b *testing.B) {
		b.SetBytes(1 << 20)
		for b.Loop() {
			blake3.Sum256(data[:1<<20])
		}
	})
	b.Run("open", func(b *testing.B) {
		for b.Loop() {
			r, err := e.Open()
			if err != nil {
				b.Fatal(err)
			}
			if err := r.Close(); err != nil {
				b.Fatal(err)
			}
		}
	})
	serve := func(write func(*content.Reader, uint64) error) func(*testing.B) {
		return func(b *testing.B) {
			b.SetBytes(1 << 20)
			var i uint64
			for b.Loop() {
				r, err := e.Open()
				if err != nil {
					b.Fatal(err)
				}
				off, _ := e.Manifest().ChunkRange(i % 64)
				if err := write(r, off); err != nil {
					b.Fatal(err)
				}
				if err := r.Close(); err != nil {
					b.Fatal(err)
				}
				i++
			}
		}
	}
	ctx := context.Background()
	b.Run("slice", serve(func(r *content.Reader, off uint64) error { return r.WriteSlice(ctx, io.Discard, off, 1<<20) }))
	b.Run("range", serve(func(r *content.Reader, off uint64) error { return r.WriteRange(ctx, io.Discard, off, 1<<20) }))
}

// BenchmarkSink writes a file of 64 MiB in runs as they come out of a slice.
func BenchmarkSink(b *testing.B) {
	const run = 256 << 10
	path := filepath.Join(b.TempDir(), "f")
	for name, p := range map[string][]byte{"data": fill(run, 1), "zeros": make([]byte, run)} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(64 << 20)
			for b.Loop() {
				s, err := content.OpenSink(path, 64<<20, content.Hash{}, nil)
				if err != nil {
					b.Fatal(err)
				}
				for off := int64(0); off < 64<<20; off += run {
					if _, err := s.WriteAt(p, off); err != nil {
						b.Fatal(err)
					}
				}
				if err := s.Discard(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
