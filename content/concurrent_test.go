package content_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/spillway/spillway/content"
	"github.com/spillway/spillway/content/bao"
	"lukechampine.com/blake3"
)

func openFiles(t testing.TB) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// Files stay open between slices, but not too many, and none after Close.
func TestOpenFilesAreBounded(t *testing.T) {
	files := map[string]string{}
	for i := range 200 {
		files[fmt.Sprintf("f%03d", i)] = fmt.Sprint("data ", i)
	}
	before := openFiles(t)
	c, _ := catalogue(t, config(t, tree(t, files)))
	var readers []*content.Reader
	for _, e := range c.List("") {
		r, err := e.Open()
		if err != nil {
			t.Fatal(err)
		}
		readers = append(readers, r)
	}
	for i, r := range readers {
		var out bytes.Buffer
		want := files[r.Manifest().Name]
		if err := r.WriteRange(context.Background(), &out, 0, r.Manifest().Size); err != nil || out.String() != want {
			t.Fatalf("%q, %v", out.String(), err)
		}
		if err := errors.Join(r.Close(), r.Close()); err != nil {
			t.Fatalf("close %d: %v", i, err)
		}
	}
	if n := openFiles(t) - before; n < 64 || n > 150 {
		t.Errorf("%d files are open", n)
	}
	last := c.List("")[199]
	r, err := last.Open()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if err := r.WriteRange(context.Background(), io.Discard, 0, r.Manifest().Size); err != nil {
		t.Errorf("a reader from before Close: %v", err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if n := openFiles(t) - before; n > 0 {
		t.Errorf("%d files are open after Close", n)
	}
}

// Buyers are served right bytes, or told of the change, while files change and
// the catalogue follows.
func TestServingWhileFilesChange(t *testing.T) {
	const size, rounds, buyers = 300_000, 4, 4
	versions := map[content.Hash][]byte{}
	for i := range rounds + 1 {
		p := fill(size, byte(i))
		versions[blake3.Sum256(p)] = p
	}
	dir := tree(t, map[string]string{"f": string(fill(size, 0))})
	c, _ := catalogue(t, config(t, dir))
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var wg sync.WaitGroup
	for range buyers {
		wg.Go(func() {
			for ctx.Err() == nil {
				if err := buyOnce(ctx, c, versions); err != nil && ctx.Err() == nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for i := range rounds {
		name := filepath.Join(dir, "f")
		if i%2 == 0 {
			if err := os.WriteFile(name+"~", fill(size, byte(i+1)), 0o644); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(name+"~", name); err != nil {
				t.Fatal(err)
			}
		} else if err := os.WriteFile(name, fill(size, byte(i+1)), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Refresh(ctx); err != nil {
			t.Fatal(err)
		}
		e, err := c.Lookup("f")
		if err != nil || e.Manifest().Root != blake3.Sum256(fill(size, byte(i+1))) {
			t.Fatalf("round %d: %v", i, err)
		}
	}
	cancel()
	wg.Wait()
}

// buyOnce buys the file once, and returns what must never happen.
func buyOnce(ctx context.Context, c *content.Catalogue, versions map[content.Hash][]byte) error {
	e, err := c.Lookup("f")
	if err != nil {
		return err
	}
	r, err := e.Open()
	if errors.Is(err, content.ErrChanged) {
		_, err = c.Update(ctx, "f")
		return err
	} else if err != nil {
		return err
	}
	m := r.Manifest()
	var slice bytes.Buffer
	err = r.WriteSlice(ctx, &slice, 0, m.Size)
	if err = errors.Join(err, r.Close()); errors.Is(err, content.ErrChanged) {
		return nil
	} else if err != nil {
		return err
	}
	out := make([]byte, m.Size)
	if err := bao.DecodeSlice(ctx, writerAt(out), &slice, m.Slice(0, m.Size), nil); err != nil {
		return err
	}
	if !bytes.Equal(out, versions[m.Root]) {
		return errors.New("bytes of no version were served and verified")
	}
	return nil
}
