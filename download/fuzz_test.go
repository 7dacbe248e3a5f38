package download

import (
	"context"
	"encoding/json"
	"errors"
	"testing"

	"github.com/spillway/spillway/content"
	"github.com/spillway/spillway/store"
	"github.com/spillway/spillway/store/memory"
)

// FuzzJournal: whatever is stored as a purchase's journal is damaged, or is one whose
// ranges lie in the file; with another chunk size nothing is held to be verified that
// was not, and a copy is the same.
func FuzzJournal(f *testing.F) {
	good := journal{
		Version: journalVersion, Path: "p", Root: content.Hash{7}.String(), Size: 5000, ChunkBytes: 1000, Verified: &content.Ranges{},
		Uses: []use{{Channel: "c", Base: 1, Msat: 2000, Chunks: &content.Ranges{}}},
	}
	good.Verified.Add(0, 2500)
	good.Uses[0].Chunks.Add(0, 2)
	raw, err := json.Marshal(good)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw, uint64(1000))
	f.Add(raw, uint64(700))
	root := content.Hash{7}.String()
	f.Add([]byte(`{"version":1,"root":"`+root+`","size":5000,"chunk_bytes":9,"uses":[{"channel":"x"}]}`), uint64(1))
	f.Add([]byte(`{"version":1,"root":"`+root+`","size":5000,"chunk_bytes":9,"verified":[[0,18446744073709551615]],"uses":[{"chunks":[[0,18446744073709551615]]}]}`), uint64(5000))
	f.Add([]byte(`null`), uint64(1))
	f.Fuzz(func(t *testing.T, raw []byte, chunk uint64) {
		m := &content.Manifest{Root: content.Hash{7}, Size: 5000, ChunkBytes: max(1, chunk%6000)}
		disk := memory.New()
		b := &Buyer{cfg: Config{Store: disk}}
		ctx := context.Background()
		if err := disk.Commit(ctx, store.Op{Bucket: bucketJournal, Key: journalKey(m.Root, "p"), Value: raw}); err != nil {
			t.Fatal(err)
		}
		var had journal
		if err := json.Unmarshal(raw, &had); err == nil && had.LastPaid && had.Acked {
			return // then its channels are looked at
		}
		h, err := b.load(ctx, m, "u", "p")
		if err != nil {
			if !errors.Is(err, store.ErrDamaged) {
				t.Fatalf("%q: %v", raw, err)
			}
			return
		}
		if h.Version != journalVersion || h.ChunkBytes != m.ChunkBytes || h.Verified.Within(m.Size, 1<<64-1) > 0 {
			t.Fatalf("%q was read as %+v with %v", raw, h.journal, h.Verified.List())
		}
		if had.Verified != nil {
			for _, r := range h.Verified.List() {
				if !had.Verified.Contains(r.Start, r.End) {
					t.Fatalf("%q: %v is verified of a sudden", raw, r)
				}
			}
		}
		for _, u := range h.Uses {
			if u.Chunks.Within(m.Chunks(), 1<<64-1) > 0 && had.ChunkBytes == m.ChunkBytes {
				t.Fatalf("%q: chunks %v of %d", raw, u.Chunks.List(), m.Chunks())
			}
		}
		if h.Uses == nil {
			h.Uses = []use{} // a copy has a list, if an empty one
		}
		copied := h.clone()
		one, err1 := json.Marshal(h.journal)
		two, err2 := json.Marshal(copied)
		if err1 != nil || err2 != nil || string(one) != string(two) {
			t.Fatalf("%s became %s", one, two)
		}
	})
}

// FuzzQuery: a URL that is taken for a file's goes to the same origin and path with
// another query.
func FuzzQuery(f *testing.F) {
	for _, s := range []string{"http://h/f.bin?x#y", "https://h:8/a%2fb", "http://u@h/", "ftp://h/", "//h/f", "http://[::1]:1/ü", "HTTP://H", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, target string) {
		got, err := withQuery(target, "manifest")
		if err != nil {
			return
		}
		again, err := withQuery(got, "manifest")
		plain, perr := withQuery(target, "")
		if err != nil || perr != nil || again != got || got != plain+"?manifest" {
			t.Fatalf("%q became %q, then %q (%v), without %q (%v)", target, got, again, err, plain, perr)
		}
	})
}
