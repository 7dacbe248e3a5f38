package download_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/download"
	"github.com/spillway/spillway/download/downloadtest"
)

// wide is a market whose credit is four chunks, and limits that use it.
func wide(t *testing.T) (*shop, []byte, download.Limits) {
	credit, data := uint64(4), downloadtest.Pattern(1_000_000, 3)
	s := newShop(t, downloadtest.Config{Price: "30sat/1KiB", Credit: &credit, Files: map[string][]byte{"f.bin": data}})
	lim := plenty
	lim.Parallel = 8
	return s, data, lim
}

// abreast holds slices up until so many are there at once, and tells the most.
func (s *shop) abreast(want int64) *atomic.Int64 {
	var now, most atomic.Int64
	all := make(chan struct{})
	var once sync.Once
	s.Wrap(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !downloadtest.Slices(r) {
				next.ServeHTTP(w, r)
				return
			}
			n := now.Add(1)
			defer now.Add(-1)
			for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
				continue
			}
			if n >= want {
				once.Do(func() { close(all) })
			}
			select {
			case <-all:
			case <-time.After(10 * time.Second):
			}
			next.ServeHTTP(w, r)
		})
	})
	return &most
}

func TestChunksAreBoughtAbreastWithinTheCredit(t *testing.T) {
	s, data, lim := wide(t)
	most := s.abreast(4)
	p, r, err := s.get(s.want(), lim)
	downloadtest.Must(t, err)
	if got := most.Load(); got != 4 {
		t.Fatalf("%d at once, the credit is 4 chunks", got)
	}
	if r.Paid != channel.CeilSat(p.Manifest.TotalMsat()) || r.Bought != uint64(len(data)) || r.Unsettled != nil || r.Closing == "" {
		t.Fatalf("paid %d sat, bought %d bytes, %v", r.Paid, r.Bought, r.Unsettled)
	}
}

func TestOneChunkOfCreditIsOneConnection(t *testing.T) {
	s := newShop(t, downloadtest.Config{Price: "30sat/1KiB"})
	most := s.abreast(1)
	lim := plenty
	lim.Parallel = 8
	_, _, err := s.get(s.want(), lim)
	downloadtest.Must(t, err)
	s.same()
	if got := most.Load(); got != 1 {
		t.Fatalf("%d at once", got)
	}
}

// TestAbreastStoppedAnywhereGoesOn interrupts purchases of several chunks at once at
// many points; what was verified is kept and nothing is paid twice.
func TestAbreastStoppedAnywhereGoesOn(t *testing.T) {
	for stop := uint64(20_000); stop < 1_000_000; stop += 140_000 {
		s, data, lim := wide(t)
		inner, cancel := context.WithCancel(ctx)
		o := s.Open()
		p, err := o.Buyer.Plan(inner, s.want(), nil)
		downloadtest.Must(t, err)
		_, err = o.Buyer.Run(inner, p, lim, func(ev download.Event) {
			if ev.Phase == download.Buying && ev.Bytes >= stop {
				cancel()
			}
		})
		cancel()
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("stopped at %d: %v", stop, err)
		}
		w := s.want()
		var out bytes.Buffer
		w.Stream = &out
		p, r, err := s.get(w, lim)
		downloadtest.Must(t, err)
		if !bytes.Equal(out.Bytes(), data) || r.Paid != channel.CeilSat(p.Manifest.TotalMsat()) || r.Unsettled != nil || r.Closing == "" {
			t.Fatalf("stopped at %d: %d bytes came out, paid %d sat, %v", stop, out.Len(), r.Paid, r.Unsettled)
		}
	}
}

func TestAbreastWithBrokenAnswers(t *testing.T) {
	s, data, lim := wide(t)
	var n atomic.Int64
	s.Wrap(downloadtest.Tamper(downloadtest.Slices, func(_ *http.Request, a *downloadtest.Answer) {
		if n.Add(1)%5 == 0 && len(a.Body) > 20_000 {
			a.Body = a.Body[:20_000]
			a.Header.Del("Content-Length")
		}
	}))
	p, r, err := s.get(s.want(), lim)
	downloadtest.Must(t, err)
	if r.Paid != channel.CeilSat(p.Manifest.TotalMsat()) || r.Bought != uint64(len(data)) {
		t.Fatalf("paid %d sat, bought %d bytes", r.Paid, r.Bought)
	}
}

// TestAbreastFailedSavesGoOn lets a commit fail in the middle, made or not made; the
// next run pays exactly the rest.
func TestAbreastFailedSavesGoOn(t *testing.T) {
	for at := 6; at < 26; at += 3 {
		for _, persist := range []bool{false, true} {
			s, data, lim := wide(t)
			s.Customer.Store.Count()
			s.Customer.Store.FailAt, s.Customer.Store.Persist = at, persist
			_, _, err := s.get(s.want(), lim)
			s.Customer.Store.FailAt = 0
			if err == nil {
				continue // it was whole before
			}
			if !errors.Is(err, downloadtest.ErrInjected) {
				t.Fatalf("commit %d: %v", at, err)
			}
			p, r, err := s.get(s.want(), lim)
			downloadtest.Must(t, err)
			if total := channel.CeilSat(p.Manifest.TotalMsat()); r.Paid != total || r.Bought+r.Reused != uint64(len(data)) || r.Unsettled != nil {
				t.Fatalf("commit %d, made %v: paid %d of %d sat, %v", at, persist, r.Paid, total, r.Unsettled)
			}
		}
	}
}
