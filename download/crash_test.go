package download_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/download/downloadtest"
	"github.com/spillway/spillway/script"
)

// injector is one kind of effect that can fail at its n-th time.
type injector struct {
	name  string
	count func(*shop) int
	set   func(s *shop, n int)
}

var injectors = []injector{
	{"commit is not saved", func(s *shop) int { return s.Customer.Store.Count() },
		func(s *shop, n int) { s.Customer.Store.FailAt, s.Customer.Store.Persist = n, false }},
	{"commit is saved and fails", func(s *shop) int { return s.Customer.Store.Count() },
		func(s *shop, n int) { s.Customer.Store.FailAt, s.Customer.Store.Persist = n, true }},
	{"request is lost", func(s *shop) int { return s.Net.Count() },
		func(s *shop, n int) { s.Net.FailAt, s.Net.Arrives = n, false }},
	{"answer is lost", func(s *shop) int { return s.Net.Count() },
		func(s *shop, n int) { s.Net.FailAt, s.Net.Arrives = n, true }},
	{"disk fails", func(s *shop) int { return s.Disk.Count() },
		func(s *shop, n int) { s.Disk.FailAt = n }},
}

// A purchase that fails at any single effect, in every way that the effect can
// fail, is begun again with the same arguments until it is done: the file is
// right, and exactly the price is paid. Pitfalls 20, 22, 28.
func TestPitfall28_EveryEffectFailsOnce(t *testing.T) {
	for _, kind := range []script.Construction{script.Taproot, script.Multisig} {
		s := newShop(t, downloadtest.Config{Price: "30sat/1KiB", Files: map[string][]byte{"f.bin": downloadtest.Pattern(200_000, 3)}})
		for i, in := range injectors {
			t.Run(fmt.Sprintf("%s/%s", kind, in.name), func(t *testing.T) {
				total := s.effects(t, kind, in, 0)
				if total < 5 {
					t.Fatalf("only %d effects", total)
				}
				step := 1
				if testing.Short() {
					step = 4 // and others in the next kind of fault
				}
				for n := 1 + i%step; n <= total; n += step {
					s.effects(t, kind, in, n)
				}
			})
		}
	}
}

// effects buys with a fault at the n-th effect and returns how many there were.
func (s *shop) effects(t *testing.T, kind script.Construction, in injector, n int) int {
	t.Helper()
	c := *s
	c.t, c.path = t, fmt.Sprintf("%s/%d.bin", t.TempDir(), n)
	c.Customer = s.Market.NewCustomer(400_000)
	in.count(&c)
	in.set(&c, n)
	w := c.want()
	w.Construction = kind
	var last error
	for tries := 0; ; tries++ {
		_, r, err := c.get(w, plenty)
		if err == nil && r.Unsettled == nil {
			break
		}
		if err == nil {
			err = r.Unsettled
		}
		if last = err; tries == 5 {
			t.Fatalf("effect %d: still failing: %v", n, last)
		}
		if !errors.Is(err, downloadtest.ErrInjected) {
			t.Fatalf("effect %d: %v", n, err)
		}
	}
	c.same()
	c.check(n)
	return in.count(&c)
}

// check adds up what the buyer signed and the provider charged.
func (s *shop) check(n int) {
	s.t.Helper()
	o := s.Open()
	records, err := o.Payer.Records(ctx)
	downloadtest.Must(s.t, err)
	var signed, owed uint64
	locked := 0
	for _, r := range records {
		signed, owed = signed+r.Signed, owed+r.Owed
		if r.Phase != channel.Abandoned {
			locked++
			got, err := s.Payee.Record(ctx, r.Terms.ID())
			downloadtest.Must(s.t, err)
			if got.Paid != r.Signed || got.Charged != r.Owed {
				s.t.Fatalf("effect %d: signed %d sat, owed %d msat; the provider has %d sat and charged %d msat", n, r.Signed, r.Owed, got.Paid, got.Charged)
			}
		}
		if r.Phase != channel.Closing && r.Phase != channel.Settling && r.Phase != channel.Closed && r.Phase != channel.Abandoned {
			s.t.Errorf("effect %d: channel %s is left %s", n, r.Terms.ID(), r.Phase)
		}
	}
	m, err := s.Market.Catalogue.Lookup("f.bin")
	downloadtest.Must(s.t, err)
	manifest := m.Manifest()
	if want := channel.CeilSat(manifest.TotalMsat()); signed != want || owed != manifest.TotalMsat() || locked != 1 {
		s.t.Fatalf("effect %d: signed %d sat of %d, owed %d msat, %d channels", n, signed, want, owed, locked)
	}
}
