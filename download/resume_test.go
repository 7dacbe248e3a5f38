package download_test

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/content"
	"github.com/spillway/spillway/download"
	"github.com/spillway/spillway/download/downloadtest"
	"github.com/spillway/spillway/paywall"
	"github.com/spillway/spillway/script"
)

// asked counts the slices that are delivered, by their range.
func (s *shop) asked() map[string]int {
	seen := map[string]int{}
	s.Wrap(downloadtest.Tamper(downloadtest.Slices, func(r *http.Request, a *downloadtest.Answer) {
		if a.Status == http.StatusOK {
			seen[r.URL.Query().Get("slice")]++
		}
	}))
	return seen
}

// stopAt runs a purchase that is interrupted once this many bytes are verified.
func (s *shop) stopAt(w download.Want, bytes uint64) error {
	s.t.Helper()
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	o := s.Open()
	p, err := o.Buyer.Plan(inner, w, nil)
	downloadtest.Must(s.t, err)
	_, err = o.Buyer.Run(inner, p, plenty, func(ev download.Event) {
		if ev.Phase == download.Buying && ev.Bytes >= bytes {
			cancel()
		}
	})
	return err
}

func TestInterruptedRunGoesOn(t *testing.T) {
	s := newShop(t, downloadtest.Config{Price: "30sat/1KiB"})
	seen := s.asked()
	if err := s.stopAt(s.want(), 150_000); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	p, r, err := s.get(s.want(), plenty)
	downloadtest.Must(t, err)
	s.same()
	if r.Paid != channel.CeilSat(p.Manifest.TotalMsat()) || r.Reused < 100_000 || r.Reused+r.Bought != 300_000 || p.Have != r.Reused {
		t.Fatalf("paid %d sat, reused %d and bought %d bytes, the plan had %d", r.Paid, r.Reused, r.Bought, p.Have)
	}
	if _, err := os.Lstat(content.PartPath(s.path, p.Manifest.Root)); !os.IsNotExist(err) {
		t.Fatalf("the part file: %v", err)
	}
	for slice, n := range seen {
		if n > 1 {
			t.Errorf("slice %s was fetched %d times", slice, n)
		}
	}
}

// A part file that is lost, cut, or changed is noticed, and what is missing is
// fetched again free. Pitfall 68.
func TestPitfall68_DamagedPartFile(t *testing.T) {
	for name, harm := range map[string]func(path string) error{
		"lost": os.Remove,
		"cut":  func(path string) error { return os.Truncate(path, 1000) },
		"changed": func(path string) error {
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteAt([]byte("harm"), 70_000)
			return errors.Join(err, f.Close())
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newShop(t, downloadtest.Config{Price: "30sat/1KiB"})
			if err := s.stopAt(s.want(), 200_000); !errors.Is(err, context.Canceled) {
				t.Fatalf("got %v", err)
			}
			before := s.signed()
			part, err := filepath.Glob(s.path + "*.part")
			downloadtest.Must(t, err)
			downloadtest.Must(t, harm(part[0]))
			p, r, err := s.get(s.want(), plenty)
			downloadtest.Must(t, err)
			s.same()
			if want := channel.CeilSat(p.Manifest.TotalMsat()); before == 0 || r.Paid != want || s.signed() != want {
				t.Fatalf("signed %d sat, then paid %d, in all %d of %d", before, r.Paid, s.signed(), want)
			}
			rec, err := s.Payee.Record(ctx, r.Channel)
			downloadtest.Must(t, err)
			if rec.Charged != p.Manifest.TotalMsat() {
				t.Fatalf("charged %d msat of %d", rec.Charged, p.Manifest.TotalMsat())
			}
		})
	}
}

// A whole file is not bought again; another file of the name is not overwritten
// unasked.
func TestExistingFiles(t *testing.T) {
	s := newShop(t, downloadtest.Config{})
	downloadtest.Must(t, os.WriteFile(s.path, s.file("f.bin"), 0o600))
	p, r, err := s.get(s.want(), download.Limits{})
	downloadtest.Must(t, err)
	if !p.Complete || r.Paid != 0 || r.Reused != 300_000 || r.Bought != 0 {
		t.Fatalf("complete %v, paid %d, reused %d", p.Complete, r.Paid, r.Reused)
	}
	downloadtest.Must(t, os.WriteFile(s.path, []byte("mine"), 0o600))
	if _, _, err := s.get(s.want(), plenty); !errors.Is(err, download.ErrExists) {
		t.Fatalf("got %v", err)
	}
	s.nothing()
	w := s.want()
	w.Replace = true
	_, _, err = s.get(w, plenty)
	downloadtest.Must(t, err)
	s.same()
}

// The budget and the prepayment are asked for before anything is locked.
// Pitfalls 32, 59.
func TestPitfall59_Consent(t *testing.T) {
	s := newShop(t, downloadtest.Config{Price: "30sat/1KiB"}) // 8,790 sat
	if _, _, err := s.get(s.want(), download.Limits{Budget: 8_000}); !errors.Is(err, channel.ErrBudget) {
		t.Fatalf("got %v", err)
	}
	s.nothing()
	none := uint64(0)
	s = newShop(t, downloadtest.Config{Price: "30sat/1KiB", Credit: &none})
	p, _, err := func() (*download.Plan, *download.Result, error) {
		o := s.Open()
		p, err := o.Buyer.Plan(ctx, s.want(), nil)
		downloadtest.Must(t, err)
		_, err = o.Buyer.Run(ctx, p, download.Limits{Budget: 10_000, MaxPrepay: 1919}, nil)
		return p, nil, err
	}()
	if !errors.Is(err, channel.ErrPrepay) || p.Prepay != 1920 {
		t.Fatalf("%d sat ahead: %v", p.Prepay, err)
	}
	s.nothing()
	_, r, err := s.get(s.want(), download.Limits{Budget: 10_000, MaxPrepay: 1920})
	downloadtest.Must(t, err)
	s.same()
	if want := channel.CeilSat(r.Manifest.TotalMsat()); r.Paid != want || r.Unsettled != nil || r.Payments != r.Manifest.Chunks() {
		t.Fatalf("paid %d sat in %d payments, %v", r.Paid, r.Payments, r.Unsettled)
	}
}

// A minimum charge above the price is paid at the end, and later purchases in the
// channel use it up. Pitfalls 32, 67.
func TestPitfall67_MinimumChargeIsUsedUp(t *testing.T) {
	files := map[string][]byte{"f.bin": downloadtest.Pattern(10_000, 1), "g.bin": downloadtest.Pattern(10_000, 2)}
	s := newShop(t, downloadtest.Config{Price: "10sat/1KiB", Files: files, Chunk: content.ChunkSpec{Bytes: 4096}})
	keep := download.Limits{Budget: 5000, KeepChannel: true}
	p, r, err := s.get(s.want(), keep)
	downloadtest.Must(t, err)
	if p.MinimumCharge <= 98 || r.Paid != p.MinimumCharge || p.Pay != r.Paid || r.Closing != "" || r.Unsettled != nil {
		t.Fatalf("planned %d sat, paid %d, the minimum charge is %d", p.Pay, r.Paid, p.MinimumCharge)
	}
	w := s.want()
	w.URL, w.Path = s.URL("g.bin"), s.path+".2"
	p2, r2, err := s.get(w, download.Limits{Budget: 5000})
	downloadtest.Must(t, err)
	if p2.Channel != r.Channel || p2.Pay != 0 || r2.Channel != r.Channel || r2.Paid != 0 || r2.Closing == "" {
		t.Fatalf("the second file costs %d sat in channel %s, paid %d", p2.Pay, p2.Channel, r2.Paid)
	}
	if rec := s.records(); len(rec) != 1 || rec[0].Signed != p.MinimumCharge || rec[0].Owed != 2*p2.TotalMsat {
		t.Fatalf("signed %d sat, owed %d msat", rec[0].Signed, rec[0].Owed)
	}
}

// The credit is the file's, also in a channel that was opened for a cheaper one.
func TestCreditIsTheFiles(t *testing.T) {
	files := map[string][]byte{"f.bin": downloadtest.Pattern(200_000, 1), "a.bin": downloadtest.Pattern(100, 2)}
	s := newShop(t, downloadtest.Config{Price: "30sat/1KiB", Files: files})
	_, first, err := s.get(download.Want{URL: s.URL("a.bin"), Path: s.path + ".a", Reserve: 10_000_000}, download.Limits{Budget: 5000, KeepChannel: true})
	downloadtest.Must(t, err)
	p, r, err := s.get(s.want(), download.Limits{Budget: 9000})
	downloadtest.Must(t, err)
	if p.Prepay != 0 || r.Channel != first.Channel || r.Unsettled != nil {
		t.Fatalf("%d sat ahead, channel %s after %s, %v", p.Prepay, r.Channel, first.Channel, r.Unsettled)
	}
}

// A channel that the provider takes nothing more on is given up, and another one
// opened, within the budget.
func TestGoneChannelIsReplaced(t *testing.T) {
	s := newShop(t, downloadtest.Config{Price: "30sat/1KiB"})
	if err := s.stopAt(s.want(), 150_000); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	id := s.records()[0].Terms.ID()
	_, err := s.Payee.Settle(ctx, id, nil, false)
	downloadtest.Must(t, err)
	s.Mine(int(s.Policy.Burial))
	if _, _, err := s.get(s.want(), download.Limits{Budget: 7_000}); !errors.Is(err, channel.ErrBudget) {
		t.Fatalf("got %v", err)
	}
	p, r, err := s.get(s.want(), download.Limits{Budget: 12_000})
	downloadtest.Must(t, err)
	s.same()
	all := s.records()
	if len(all) != 2 || r.Channel == id || r.Paid < channel.CeilSat(p.Manifest.TotalMsat()) || r.Paid > 12_000 || r.Paid != s.signed() {
		t.Fatalf("%d channels, paid %d sat, signed %d", len(all), r.Paid, s.signed())
	}
}

// A chunk of a quarter of a gibibyte is verified group by group and written as it comes:
// memory stays flat, zeros become holes, and a crash loses little of it.
func TestLargeChunkStaysFlat(t *testing.T) {
	const size = 256 << 20
	s := newShop(t, downloadtest.Config{Price: "100000sat/file", Chunk: content.ChunkSpec{Count: 1}, Files: map[string][]byte{}})
	f, err := os.Create(filepath.Join(s.Market.Dir, "f.bin"))
	downloadtest.Must(t, err)
	downloadtest.Must(t, f.Truncate(size))
	_, err = f.WriteAt(downloadtest.Pattern(100_000, 9), size/2)
	downloadtest.Must(t, errors.Join(err, f.Close()))
	s.Reprice("100000sat/file")
	s.SaveEvery = 32 << 20

	w := s.want()
	w.Construction = script.Taproot
	if err := s.stopAt(w, 96<<20); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	if s.signed() != 0 {
		t.Fatalf("%d sat are signed for a part of a chunk", s.signed())
	}
	o := s.Open()
	p, err := o.Buyer.Plan(ctx, w, nil)
	downloadtest.Must(t, err)
	if p.Have < 96<<20 {
		t.Fatalf("only %d bytes are kept", p.Have)
	}
	var peak uint64
	var next uint64
	r, err := o.Buyer.Run(ctx, p, plenty, func(ev download.Event) {
		if ev.Bytes >= next {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			peak, next = max(peak, m.HeapAlloc), ev.Bytes+64<<20
		}
	})
	downloadtest.Must(t, err)
	if peak > size/2 {
		t.Errorf("%d MiB of heap", peak>>20)
	}
	if r.Paid != 100_000 || r.Payments != 1 {
		t.Errorf("paid %d sat in %d payments", r.Paid, r.Payments)
	}
	info, err := os.Stat(s.path)
	downloadtest.Must(t, err)
	if st := info.Sys().(*syscall.Stat_t); info.Size() != size || st.Blocks*512 > 4<<20 {
		t.Errorf("%d bytes take %d on the disk", info.Size(), st.Blocks*512)
	}
}

// Two purchases from one provider take turns in one channel.
func TestPurchasesTakeTurns(t *testing.T) {
	files := map[string][]byte{"f.bin": downloadtest.Pattern(100_000, 1), "g.bin": downloadtest.Pattern(100_000, 2)}
	s := newShop(t, downloadtest.Config{Price: "30sat/1KiB", Files: files})
	o := s.Open()
	type out struct {
		res *download.Result
		err error
	}
	done := make(chan out, 2)
	waited := make(chan bool, 10)
	for _, name := range []string{"f.bin", "g.bin"} {
		go func() {
			p, err := o.Buyer.Plan(ctx, download.Want{URL: s.URL(name), Path: s.path + name, Reserve: 20_000_000}, nil)
			if err != nil {
				done <- out{nil, err}
				return
			}
			r, err := o.Buyer.Run(ctx, p, download.Limits{Budget: 20_000, KeepChannel: true}, func(ev download.Event) {
				if ev.Phase == download.Waiting {
					waited <- true
				}
			})
			done <- out{r, err}
		}()
	}
	first, second := <-done, <-done
	downloadtest.Must(t, errors.Join(first.err, second.err))
	if first.res.Channel != second.res.Channel || len(s.records()) != 1 {
		t.Fatalf("%d channels: %s and %s", len(s.records()), first.res.Channel, second.res.Channel)
	}
	if sum := channel.CeilSat(first.res.Manifest.TotalMsat() * 2); s.signed() != sum {
		t.Fatalf("signed %d sat of %d", s.signed(), sum)
	}
}

func TestFileLocks(t *testing.T) {
	a, b := &download.FileLocks{Dir: t.TempDir(), Poll: 1}, &download.FileLocks{Poll: 1}
	b.Dir = a.Dir
	unlock, err := a.Lock(ctx, "x", nil)
	downloadtest.Must(t, err)
	inner, cancel := context.WithCancel(ctx)
	if _, err := b.Lock(inner, "x", cancel); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	other, err := b.Lock(ctx, "y", nil)
	downloadtest.Must(t, err)
	downloadtest.Must(t, other())
	downloadtest.Must(t, unlock())
	unlock, err = b.Lock(ctx, "x", nil)
	downloadtest.Must(t, err)
	downloadtest.Must(t, unlock())
}

// A silent provider does not hold the buyer up for ever.
func TestSilentProvider(t *testing.T) {
	s := newShop(t, downloadtest.Config{})
	s.Stall = 20_000_000 // 20 ms
	s.Wrap(func(http.Handler) http.Handler {
		return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	})
	if _, _, err := s.get(s.want(), plenty); !errors.Is(err, paywall.ErrUnreachable) || !strings.Contains(err.Error(), "too long") {
		t.Fatalf("got %v", err)
	}
}

// A channel that is funded from many small coins costs what the plan says, and one
// that would cost more than twice that is not opened.
func TestFundingFeeIsToldWithTheWalletsCoins(t *testing.T) {
	s := newShop(t, downloadtest.Config{Price: "1sat/1KiB"})
	small := make([]int64, 12)
	for i := range small {
		small[i] = 500
	}
	s.Customer = s.NewCustomer(small...)
	p, r, err := s.get(s.want(), download.Limits{Budget: channel.MaxSat})
	downloadtest.Must(t, err)
	if r.Fees != p.FundingFee || p.FundingFee < 500 || p.FundingMost != 2*p.FundingFee {
		t.Fatalf("the plan said %d sat, at most %d; it cost %d sat", p.FundingFee, p.FundingMost, r.Fees)
	}
	s.Customer = s.NewCustomer(100_000)
	o := s.Open()
	p, err = o.Buyer.Plan(ctx, s.other(), nil)
	downloadtest.Must(t, err)
	p.FundingMost = p.FundingFee - 1
	if _, err := o.Buyer.Run(ctx, p, plenty, nil); !errors.Is(err, download.ErrFees) {
		t.Fatalf("got %v", err)
	}
	if len(s.records()) != 0 {
		t.Fatal("a channel was opened")
	}
	p.FundingMost = p.FundingFee
	_, err = o.Buyer.Run(ctx, p, plenty, nil)
	downloadtest.Must(t, err)
}

// other is the same file under another name here.
func (s *shop) other() download.Want {
	w := s.want()
	w.Path += ".other"
	return w
}
