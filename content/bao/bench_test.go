package bao_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math"
	"testing"

	"github.com/spillway/spillway/content/bao"
	"lukechampine.com/blake3"
)

// discardAt takes bytes anywhere and forgets them.
type discardAt struct{}

func (discardAt) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }

// BenchmarkSlices sets each job beside a plain BLAKE3 of the same bytes in the
// same run.
func BenchmarkSlices(b *testing.B) {
	const size = 64 << 20
	data := fill(size, 1)
	ctx := context.Background()
	b.Run("plain", func(b *testing.B) {
		b.SetBytes(size)
		for b.Loop() {
			blake3.Sum256(data)
		}
	})
	for _, group := range []uint32{16 << 10, 8 << 10, 2 << 10, 1 << 10} {
		ob, _, root := build(b, data, group)
		s := bao.Slice{Root: root, Size: size, GroupBytes: group, Offset: 0, Length: size}
		slice := extract(b, data, ob, 0, size)
		run := func(name string, n int64, job func() error) {
			b.Run(fmt.Sprintf("%s/group%d", name, group), func(b *testing.B) {
				b.SetBytes(n)
				b.ReportAllocs()
				for b.Loop() {
					if err := job(); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
		for _, workers := range []int{1, 2} {
			run(fmt.Sprintf("build%d", workers), size, func() error {
				_, err := bao.Build(ctx, bytes.NewReader(data), size, group, discardAt{}, bao.BuildConfig{Workers: workers})
				return err
			})
		}
		run("holes", size, func() error {
			_, err := bao.Build(ctx, zeroSource{}, size, group, discardAt{}, bao.BuildConfig{})
			return err
		})
		run("extract", size, func() error {
			return bao.ExtractSlice(ctx, io.Discard, bytes.NewReader(data), ob, 0, size)
		})
		run("extract1MiB", 1<<20, func() error {
			return bao.ExtractSlice(ctx, io.Discard, bytes.NewReader(data), ob, 17<<20, 1<<20)
		})
		run("decode", size, func() error {
			return bao.DecodeSlice(ctx, discardAt{}, bytes.NewReader(slice), s, nil)
		})
	}
}

// zeroSource is a hole without an end.
type zeroSource struct{}

func (zeroSource) ReadAt(p []byte, _ int64) (int, error) { clear(p); return len(p), nil }

func (zeroSource) NextData(int64) (int64, error) { return math.MaxInt64, nil }
