package download_test

import (
	"errors"
	"net/http"
	"sync"
	"testing"

	"github.com/spillway/spillway/download"
	"github.com/spillway/spillway/download/downloadtest"
	"github.com/spillway/spillway/mpp"
)

// paths counts what goes which way.
type paths struct {
	mu             sync.Mutex
	upgrades, paid int
}

func (p *paths) watch(r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if r.Header.Get("Upgrade") != "" {
		p.upgrades++
	} else if r.Method != http.MethodPost && r.Header.Get(mpp.HeaderCredential) != "" {
		p.paid++
	}
}

// A purchase over the compact transport is one like every other, chunk by chunk and with
// several abreast, and goes on where the provider's connections end.
func TestBuyOverCompact(t *testing.T) {
	for name, parallel := range map[string]int{"one by one": 1, "abreast": 4} {
		t.Run(name, func(t *testing.T) {
			credit, data := uint64(4), downloadtest.Pattern(1_000_000, 3)
			s := newShop(t, downloadtest.Config{Price: "30sat/1KiB", Credit: &credit, Files: map[string][]byte{"f.bin": data}})
			s.Compact = true
			var went paths
			s.Net.Watch = went.watch
			lim := plenty
			lim.Parallel = parallel
			_, r, err := s.get(s.want(), lim)
			downloadtest.Must(t, err)
			downloadtest.Must(t, r.Unsettled)
			s.same()
			if r.Bought != uint64(len(data)) || r.Payments == 0 {
				t.Errorf("%+v", r)
			}
			if went.upgrades == 0 || went.upgrades > 2*parallel || went.paid > 1 { // the first answer on a new channel may be a refusal
				t.Errorf("%d connections, %d payments over HTTP", went.upgrades, went.paid)
			}
			s.exact(r)
		})
	}
}

// exact holds what was paid against the price, on both sides.
func (s *shop) exact(r *download.Result) {
	s.t.Helper()
	rec, err := s.Payee.Record(ctx, r.Channel)
	downloadtest.Must(s.t, err)
	if want := r.Manifest.TotalMsat(); rec.Charged != want || rec.Paid != r.Paid || rec.Paid*1000 < want {
		s.t.Errorf("charged %d msat of %d, paid %d sat, %d by the payer", rec.Charged, want, rec.Paid, r.Paid)
	}
}

// Every save of a purchase over the compact transport fails once: it goes on, and pays
// nothing twice.
func TestCompactPurchaseSurvivesFailedSaves(t *testing.T) {
	for at := 8; at < 20; at++ {
		s := newShop(t, downloadtest.Config{Files: map[string][]byte{"f.bin": downloadtest.Pattern(300_000, 3)}})
		s.Compact = true
		s.Customer.Store.FailAt, s.Customer.Store.Persist = at, at%2 == 0
		_, r, err := s.get(s.want(), plenty)
		if err != nil && !errors.Is(err, downloadtest.ErrInjected) {
			t.Fatalf("save %d: %v", at, err)
		}
		s.Customer.Store.FailAt = 0
		if err != nil || r.Unsettled != nil {
			_, r, err = s.get(s.want(), plenty)
			downloadtest.Must(t, err)
			downloadtest.Must(t, r.Unsettled)
		}
		s.same()
		if r.Channel != "" {
			s.exact(r)
		}
	}
}
