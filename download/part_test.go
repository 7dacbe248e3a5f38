package download_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/content"
	"github.com/spillway/spillway/download"
	"github.com/spillway/spillway/download/downloadtest"
)

// Of a part only the chunks that it touches are bought and paid, once, its own bytes go
// to the stream, and the file stays a part file.
func TestPartIsBoughtAlone(t *testing.T) {
	data := downloadtest.Pattern(10*64<<10+100, 5)
	s := newShop(t, downloadtest.Config{Price: "30sat/1KiB", Files: map[string][]byte{"f.bin": data}})
	o := s.Open()
	w := s.want()
	w.Path = filepath.Join(t.TempDir(), "f.bin")
	var plan *download.Plan
	buy := func(part content.Range) (bought uint64) {
		t.Helper()
		var out bytes.Buffer
		w := w
		w.Part, w.Stream = part, &out
		p, err := o.Buyer.Plan(ctx, w, nil)
		downloadtest.Must(t, err)
		plan = p
		lim := plenty
		lim.KeepChannel = true
		if p.Pay > 0 { // what is planned is what is paid
			lim.Budget = p.Spent + p.Pay
		}
		_, err = o.Buyer.Run(ctx, p, lim, nil)
		downloadtest.Must(t, err)
		if got := out.Bytes(); !bytes.HasPrefix(got, data[part.Start:part.End]) {
			t.Fatalf("%d bytes of %d to %d: they are others", len(got), part.Start, part.End)
		}
		records, err := o.Payer.Records(ctx)
		downloadtest.Must(t, err)
		var owed uint64
		for _, r := range records {
			owed += r.Owed
		}
		return owed
	}
	chunk := uint64(64 << 10)
	msat := uint64(64 * 30_000)
	if owed := buy(content.Range{Start: 3*chunk + 10, End: 4*chunk + 1}); owed != 2*msat {
		t.Fatalf("%d msat for two chunks of %d", owed, msat)
	}
	if owed := buy(content.Range{Start: 3 * chunk, End: 5 * chunk}); owed != 2*msat {
		t.Fatalf("%d msat: what is there is not bought again", owed)
	}
	if owed := buy(content.Range{Start: 4 * chunk, End: 6 * chunk}); owed != 3*msat {
		t.Fatalf("%d msat: one chunk more", owed)
	}
	if _, err := os.Lstat(w.Path); err == nil {
		t.Fatal("the file has its name, and is not whole")
	}
	whole := buy(content.Range{End: uint64(len(data))})
	if buy(content.Range{Start: 1, End: 2}) != whole {
		t.Fatal("a byte of what is there was bought again")
	}
	if _, err := os.Lstat(w.Path); err == nil {
		t.Fatal("a part file took the name")
	}
	// a flipped bit in what is there never comes out
	part := s.part(plan)
	raw, err := os.ReadFile(part)
	downloadtest.Must(t, err)
	raw[2*chunk+7] ^= 1
	downloadtest.Must(t, os.WriteFile(part, raw, 0o600))
	if owed := buy(content.Range{Start: chunk, End: 5 * chunk}); owed != whole {
		t.Fatalf("%d msat of %d: what was damaged here was paid again", owed, whole)
	}
	// the budget holds for a part too
	w.Part, w.Path = content.Range{End: chunk}, filepath.Join(t.TempDir(), "f.bin")
	p, err := o.Buyer.Plan(ctx, w, nil)
	downloadtest.Must(t, err)
	if _, err := o.Buyer.Run(ctx, p, download.Limits{Budget: 10}, nil); !errors.Is(err, channel.ErrBudget) {
		t.Fatalf("%v", err)
	}
}

// A run that is asked to stop pays for what is under way, brings that to the provider,
// and asks for nothing more; the next one goes on.
func TestStopPaysForWhatIsUnderWay(t *testing.T) {
	data := downloadtest.Pattern(40*64<<10, 6)
	for _, parallel := range []int{1, 4} {
		s := newShop(t, downloadtest.Config{Price: "30sat/1KiB", Files: map[string][]byte{"f.bin": data}})
		o := s.Open()
		w := s.want()
		w.Path = filepath.Join(t.TempDir(), "f.bin")
		p, err := o.Buyer.Plan(ctx, w, nil)
		downloadtest.Must(t, err)
		stop, closed := make(chan struct{}), false
		lim := plenty
		lim.Stop, lim.Parallel, lim.KeepChannel = stop, parallel, true
		_, err = o.Buyer.Run(ctx, p, lim, func(e download.Event) {
			if e.Chunk == 5 && !closed {
				closed = true
				close(stop)
			}
		})
		if !errors.Is(err, download.ErrStopped) {
			t.Fatalf("%v", err)
		}
		records, err := o.Payer.Records(ctx)
		downloadtest.Must(t, err)
		there, err := s.Payee.Records(ctx)
		downloadtest.Must(t, err)
		for i, r := range there {
			if r.Charged != r.Paid*1000 || r.Charged != records[i].Owed || r.Charged > 12*64*30_000 {
				t.Fatalf("charged %d msat, paid %d sat, in the ledger %d msat", r.Charged, r.Paid, records[i].Owed)
			}
		}
		lim.Stop = nil
		p, err = o.Buyer.Plan(ctx, w, nil)
		downloadtest.Must(t, err)
		_, err = o.Buyer.Run(ctx, p, lim, nil)
		downloadtest.Must(t, err)
		got, err := os.ReadFile(w.Path)
		downloadtest.Must(t, err)
		if !bytes.Equal(got, data) {
			t.Fatal("the file is another one")
		}
	}
}
