package download_test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/spillway/spillway/content"
	"github.com/spillway/spillway/download"
	"github.com/spillway/spillway/download/downloadtest"
)

// BenchmarkPurchase buys a file over loopback, chunk by chunk, with one chunk of
// credit and one connection. The channel is opened outside the clock, by a first
// small purchase.
func BenchmarkPurchase(b *testing.B) {
	const size = 32 << 20
	for _, chunk := range []uint64{64 << 10, 1 << 20, 16 << 20} {
		b.Run(content.FormatBytes(chunk), func(b *testing.B) {
			files := map[string][]byte{"a.bin": downloadtest.Pattern(1000, 1), "f.bin": downloadtest.Pattern(size, 2)}
			m := downloadtest.New(b, downloadtest.Config{Price: "1sat/64KiB", Chunk: content.ChunkSpec{Bytes: chunk}, Files: files})
			o := m.NewCustomer(50_000_000).Open()
			dir := b.TempDir()
			buy := func(name string, n int, reserve uint64) {
				path := filepath.Join(dir, fmt.Sprint(n))
				p, err := o.Buyer.Plan(ctx, download.Want{URL: m.URL(name), Path: path, Reserve: reserve}, nil)
				downloadtest.Must(b, err)
				_, err = o.Buyer.Run(ctx, p, download.Limits{Budget: 1 << 40, KeepChannel: true}, nil)
				downloadtest.Must(b, err)
				downloadtest.Must(b, os.Remove(path))
			}
			buy("a.bin", -1, 10_000_000_000)
			b.SetBytes(size)
			b.ResetTimer()
			for n := range b.N {
				b.StopTimer()
				m.Put("f.bin", downloadtest.Pattern(size, byte(n)))
				m.Reprice("1sat/64KiB")
				b.StartTimer()
				buy("f.bin", n, 0)
			}
		})
	}
}

// BenchmarkUnpaid is the same bytes from the same machine without a paywall,
// written to a file and synced.
func BenchmarkUnpaid(b *testing.B) {
	const size = 32 << 20
	dir := b.TempDir()
	m := downloadtest.New(b, downloadtest.Config{Files: map[string][]byte{"f.bin": downloadtest.Pattern(size, 2)}})
	m.Wrap(func(http.Handler) http.Handler { return http.FileServer(http.Dir(m.Dir)) })
	b.SetBytes(size)
	for b.Loop() {
		f, err := os.Create(filepath.Join(dir, "out"))
		downloadtest.Must(b, err)
		resp, err := http.Get(m.URL("f.bin"))
		downloadtest.Must(b, err)
		_, err = io.Copy(f, resp.Body)
		downloadtest.Must(b, err)
		downloadtest.Must(b, resp.Body.Close())
		downloadtest.Must(b, f.Sync())
		downloadtest.Must(b, f.Close())
	}
}
