package download_test

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"path/filepath"
	"testing"

	"pgregory.net/rapid"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/content"
	"github.com/spillway/spillway/download"
	"github.com/spillway/spillway/download/downloadtest"
	"github.com/spillway/spillway/store"
)

// For any size, chunk and price the payer signs the satoshi that its verified
// ledger rounds up to, or the minimum charge at the end, and never more than the
// budget. Whatever a run is stopped by, the next goes on. Pitfalls 60, 67.
func TestPropertyPaysExactlyWhatItVerified(t *testing.T) {
	node := downloadtest.NewNode(t)
	if checks := flag.Lookup("rapid.checks"); testing.Short() && checks.Value.String() == checks.DefValue {
		downloadtest.Must(t, checks.Value.Set("25"))
		defer func() { downloadtest.Must(t, checks.Value.Set(checks.DefValue)) }()
	}
	rapid.Check(t, func(r *rapid.T) {
		size := rapid.OneOf(rapid.IntRange(1, 3000), rapid.IntRange(1, 200_000)).Draw(r, "size")
		chunks := rapid.IntRange(1, min(size, 40)).Draw(r, "chunks")
		price := rapid.OneOf(rapid.Uint64Range(uint64(chunks), 5_000), rapid.Uint64Range(1_000_000, 90_000_000)).Draw(r, "price msat")
		m := downloadtest.New(t, downloadtest.Config{
			Node: node, Files: map[string][]byte{"f.bin": downloadtest.Pattern(size, byte(price))},
			Price: fmt.Sprintf("%dmsat/file", price), Chunk: content.ChunkSpec{Count: uint64(chunks)},
		})
		defer m.Close()
		s := &shop{Market: m, Customer: m.NewCustomer(), t: t, path: filepath.Join(t.TempDir(), "got.bin")}
		s.Customer.Store.Count()
		s.Net.Count()
		kind := rapid.SampledFrom(injectors).Draw(r, "fault")
		kind.set(s, rapid.IntRange(1, 30).Draw(r, "at"))
		budget := rapid.SampledFrom([]uint64{1, 2000, 5000, 50_000, channel.MaxSat}).Draw(r, "budget")
		s.obeys(budget)

		for {
			_, res, err := s.get(s.want(), download.Limits{Budget: budget})
			switch {
			case errors.Is(err, channel.ErrBudget):
				s.nothing()
				return
			case errors.Is(err, downloadtest.ErrInjected):
				continue
			case err != nil:
				r.Fatal(err)
			}
			if errors.Is(res.Unsettled, downloadtest.ErrInjected) {
				continue
			} else if res.Unsettled != nil {
				r.Fatal(res.Unsettled)
			}
			s.same()
			s.exactly(price)
			return
		}
	})
}

// obeys checks every commit of the buyer's: nothing is signed above what was
// verified but the minimum charge, nothing above the budget.
func (s *shop) obeys(budget uint64) {
	s.Customer.Store.Watch = func(ops []store.Op) error {
		for _, op := range ops {
			if op.Bucket != "payer/channel" {
				continue
			}
			var rec channel.PayerRecord
			downloadtest.Must(s.t, json.Unmarshal(op.Value, &rec))
			owed := channel.CeilSat(rec.Owed)
			least := min(rec.Terms.MinimumCharge, rec.Terms.Capacity-rec.Terms.Dust())
			if rec.Signed > owed && rec.Signed != least || rec.Signed < owed || rec.Signed > budget {
				s.t.Errorf("%d sat are signed, %d msat were verified, the minimum charge is %d sat, the budget %d sat",
					rec.Signed, rec.Owed, rec.Terms.MinimumCharge, budget)
			}
		}
		return nil
	}
}

func (s *shop) nothing() {
	s.t.Helper()
	records, err := s.Open().Payer.Records(ctx)
	downloadtest.Must(s.t, err)
	if len(records) != 0 {
		s.t.Fatalf("%d channels were made", len(records))
	}
}

func (s *shop) exactly(price uint64) {
	s.t.Helper()
	records, err := s.Open().Payer.Records(ctx)
	downloadtest.Must(s.t, err)
	used := 0
	for _, r := range records {
		if r.Phase == channel.Abandoned {
			continue
		}
		used++
		if want := max(channel.CeilSat(price), r.Terms.MinimumCharge); r.Signed != want || r.Owed != price {
			s.t.Fatalf("signed %d sat, owed %d msat; the price is %d msat, the minimum charge %d sat", r.Signed, r.Owed, price, r.Terms.MinimumCharge)
		}
	}
	if used != 1 {
		s.t.Fatalf("%d channels", used)
	}
}
