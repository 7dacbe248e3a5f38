package sqlite

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/spillway/spillway/store"
)

// bareSyncs is how often a second the disk takes 8 KiB and a fdatasync, written
// over a file that has its size.
func bareSyncs(b *testing.B) float64 {
	b.Helper()
	f, err := os.OpenFile(filepath.Join(b.TempDir(), "bare"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	page := make([]byte, 8<<10)
	const pages, rounds = 256, 400
	for i := range pages {
		if _, err := f.WriteAt(page, int64(i*len(page))); err != nil {
			b.Fatal(err)
		}
	}
	if err := f.Sync(); err != nil {
		b.Fatal(err)
	}
	start := time.Now()
	for i := range rounds {
		if _, err := f.WriteAt(page, int64(i%pages*len(page))); err != nil {
			b.Fatal(err)
		}
		if err := syscall.Fdatasync(int(f.Fd())); err != nil {
			b.Fatal(err)
		}
	}
	return rounds / time.Since(start).Seconds()
}

// BenchmarkCommit: 200 bytes a commit into 100,000 keys, compare-and-swap. The
// metric commits/sync is commits a second over bare fdatasyncs a second, measured
// in the same run before and after.
func BenchmarkCommit(b *testing.B) {
	for _, writers := range []int{1, 64, 1024} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			s := open(b, filepath.Join(b.TempDir(), "s.db"), Options{})
			fill(b, s)
			before := bareSyncs(b)
			b.ReportAllocs()
			b.ResetTimer()
			cpu := cpuTime(b)
			var group sync.WaitGroup
			for w := range writers {
				group.Go(func() { writeKeys(b, s, w, writers) })
			}
			group.Wait()
			b.StopTimer()
			rate := float64(b.N) / b.Elapsed().Seconds()
			b.ReportMetric(rate, "commits/s")
			b.ReportMetric(float64((cpuTime(b)-cpu).Nanoseconds())/float64(b.N), "cpu-ns/commit")
			b.ReportMetric(rate/((before+bareSyncs(b))/2), "commits/sync")
		})
	}
}

// cpuTime is what the process has used of the cores, on a busy machine the
// steadier figure.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

const benchKeys = 100_000

func benchKey(i int) string { return fmt.Sprintf("%064x", uint64(i)*0x9e3779b97f4a7c15) }

func fill(b *testing.B, s *Store) {
	b.Helper()
	for from := 0; from < benchKeys; from += 5000 {
		var ops []store.Op
		for i := range 5000 {
			ops = append(ops, store.Op{Bucket: "b", Key: benchKey(from + i), Value: make([]byte, 200)})
		}
		if err := s.Commit(b.Context(), ops...); err != nil {
			b.Fatal(err)
		}
	}
}

// writeKeys is one writer's share of b.N commits, round its own keys.
func writeKeys(b *testing.B, s *Store, w, writers int) {
	value, keys := make([]byte, 200), benchKeys/writers
	for i := 0; w+i*writers < b.N; i++ {
		op := store.Op{Bucket: "b", Key: benchKey(w + i%keys*writers), Value: value, Expect: uint64(1 + i/keys)}
		if err := s.Commit(b.Context(), op); err != nil {
			b.Error(err)
			return
		}
	}
}

// BenchmarkGet reads one of 100,000 entries.
func BenchmarkGet(b *testing.B) {
	s := open(b, filepath.Join(b.TempDir(), "s.db"), Options{})
	fill(b, s)
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		if _, err := s.Get(b.Context(), "b", benchKey(i%benchKeys)); err != nil {
			b.Fatal(err)
		}
	}
}
