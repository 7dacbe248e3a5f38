package download_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/download"
	"github.com/spillway/spillway/download/downloadtest"
	"github.com/spillway/spillway/script"
)

var ctx = context.Background()

// shop is a market with one customer and a place for what it buys.
type shop struct {
	*downloadtest.Market
	*downloadtest.Customer
	t    *testing.T
	path string
}

func newShop(t *testing.T, cfg downloadtest.Config) *shop {
	t.Helper()
	m := downloadtest.New(t, cfg)
	return &shop{Market: m, Customer: m.NewCustomer(), t: t, path: filepath.Join(t.TempDir(), "got.bin")}
}

func (s *shop) want() download.Want {
	return download.Want{URL: s.URL("f.bin"), Path: s.path}
}

// get plans and runs as a new process does.
func (s *shop) get(w download.Want, lim download.Limits) (*download.Plan, *download.Result, error) {
	o := s.Open()
	p, err := o.Buyer.Plan(ctx, w, nil)
	if err != nil {
		return nil, nil, err
	}
	r, err := o.Buyer.Run(ctx, p, lim, nil)
	return p, r, err
}

func (s *shop) file(name string) []byte {
	s.t.Helper()
	b, err := os.ReadFile(filepath.Join(s.Market.Dir, name))
	downloadtest.Must(s.t, err)
	return b
}

func (s *shop) same() {
	s.t.Helper()
	got, err := os.ReadFile(s.path)
	downloadtest.Must(s.t, err)
	if !bytes.Equal(got, s.file("f.bin")) {
		s.t.Fatalf("the file differs")
	}
}

var plenty = download.Limits{Budget: channel.MaxSat}

func TestBuyInAllConstructions(t *testing.T) {
	for _, kind := range []script.Construction{script.Taproot, script.Multisig, script.MultisigP2SH} {
		t.Run(string(kind), func(t *testing.T) {
			s := newShop(t, downloadtest.Config{Price: "10sat/1KiB"})
			w := s.want()
			w.Construction = kind
			p, r, err := s.get(w, plenty)
			downloadtest.Must(t, err)
			s.same()
			want := channel.CeilSat(p.Manifest.TotalMsat())
			if r.Paid != want || r.Unsettled != nil || r.Closing == "" || r.Payments != p.Manifest.Chunks() {
				t.Fatalf("paid %d sat of %d in %d payments, closing %q, unsettled %v", r.Paid, want, r.Payments, r.Closing, r.Unsettled)
			}
			s.Mine(int(s.Policy.Burial))
			rec, err := s.Payee.Record(ctx, r.Channel)
			downloadtest.Must(t, err)
			if rec.Paid != want || rec.Charged != p.Manifest.TotalMsat() || rec.Phase != channel.Closed || rec.SpentBy != r.Closing {
				t.Fatalf("the provider has %d sat, charged %d msat, is %s by %s, not %s", rec.Paid, rec.Charged, rec.Phase, rec.SpentBy, r.Closing)
			}
		})
	}
}
