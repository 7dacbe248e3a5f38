package download_test

import (
	"errors"
	"net/http"
	"os"
	"testing"

	"github.com/btcsuite/btcd/chainhash/v2"

	"github.com/spillway/spillway/chain/devnet"
	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/content"
	"github.com/spillway/spillway/download"
	"github.com/spillway/spillway/download/downloadtest"
	"github.com/spillway/spillway/mpp"
	"github.com/spillway/spillway/paywall"
)

// A funding that falls out of the chain in the middle of a purchase stops the
// deliveries until it is back; nothing is paid twice. Pitfall 38.
func TestPitfall38_FundingIsReorganised(t *testing.T) {
	s := newShop(t, downloadtest.Config{Price: "30sat/1KiB"})
	o := s.Open()
	p, err := o.Buyer.Plan(ctx, s.want(), nil)
	downloadtest.Must(t, err)
	done, waited := false, 0
	r, err := o.Buyer.Run(ctx, p, plenty, func(ev download.Event) {
		switch {
		case ev.Phase == download.Buying && ev.Bytes >= 128<<10 && !done:
			done = true
			op, err := channel.ParseOutpoint(ev.Channel)
			downloadtest.Must(t, err)
			info, err := s.Market.Node.Tx(ctx, op.Hash)
			downloadtest.Must(t, err)
			tip, err := s.Market.Node.Tip(ctx)
			downloadtest.Must(t, err)
			depth := int(tip.Height-info.Height) + 1
			downloadtest.Must(t, s.reorg(depth, op.Hash))
			s.Advance(60e9) // what the provider saw of the chain is stale
		case ev.Phase == download.Confirming && done:
			waited++
		}
	})
	downloadtest.Must(t, err)
	s.same()
	if waited == 0 || r.Unsettled != nil || r.Paid != channel.CeilSat(p.Manifest.TotalMsat()) {
		t.Fatalf("waited %d times, paid %d sat, %v", waited, r.Paid, r.Unsettled)
	}
}

// reorg undoes blocks, and this transaction with them.
func (s *shop) reorg(depth int, drop chainhash.Hash) error {
	_, err := s.Market.Node.ReorgWith(devnet.ReorgOptions{Depth: depth, Length: depth + 1, Drop: []chainhash.Hash{drop}})
	return err
}

// A channel that is close to its expiry is not used for another purchase, and one
// that gets there in the middle is replaced.
func TestExpiringChannels(t *testing.T) {
	files := map[string][]byte{"f.bin": downloadtest.Pattern(100_000, 1), "g.bin": downloadtest.Pattern(200_000, 2)}
	s := newShop(t, downloadtest.Config{Price: "30sat/1KiB", Files: files})
	w := s.want()
	w.Reserve = 20_000_000
	_, r, err := s.get(w, download.Limits{Budget: 20_000, KeepChannel: true})
	downloadtest.Must(t, err)
	first := s.records()[0].Terms
	tip, err := s.Market.Node.Tip(ctx)
	downloadtest.Must(t, err)
	_, err = s.Market.Node.Mine(int(first.Expiry - first.Margin - tip.Height - 10))
	downloadtest.Must(t, err)

	g := download.Want{URL: s.URL("g.bin"), Path: s.path + ".g"}
	o := s.Open()
	p, err := o.Buyer.Plan(ctx, g, nil)
	downloadtest.Must(t, err)
	if p.Channel != r.Channel {
		t.Fatalf("the plan uses %q, not %q", p.Channel, r.Channel)
	}
	done := false
	res, err := o.Buyer.Run(ctx, p, download.Limits{Budget: 20_000}, func(ev download.Event) {
		if ev.Phase == download.Buying && ev.Bytes >= 64<<10 && !done {
			done = true
			_, err := s.Market.Node.Mine(20)
			downloadtest.Must(t, err)
			s.Advance(60e9)
		}
	})
	downloadtest.Must(t, err)
	if all := s.records(); len(all) != 2 || res.Channel == r.Channel || res.Unsettled != nil {
		t.Fatalf("%d channels, %v", len(all), res.Unsettled)
	}
	// every chunk was charged in one of the two channels, one of them maybe in both
	if least, most := channel.CeilSat(p.TotalMsat), channel.CeilSat(p.TotalMsat)+1920; res.Paid < least || res.Paid > most {
		t.Fatalf("paid %d sat of %d", res.Paid, least)
	}
}

// A provider that goes on waiting for a funding that is deep is not believed for ever.
func TestConfirmationsThatNeverCount(t *testing.T) {
	s := newShop(t, downloadtest.Config{Price: "30sat/1KiB"})
	s.Wrap(downloadtest.Tamper(downloadtest.Slices, func(_ *http.Request, a *downloadtest.Answer) {
		if a.Status != http.StatusOK {
			return
		}
		a.Status = http.StatusServiceUnavailable
	}))
	if _, _, err := s.get(s.want(), plenty); !errors.Is(err, paywall.ErrUnreachable) {
		t.Fatalf("got %v", err)
	}
	quote := unpaid(t, s)
	s.Wrap(downloadtest.Tamper(downloadtest.Slices, func(_ *http.Request, a *downloadtest.Answer) {
		a.Status, a.Header = http.StatusPaymentRequired, quote
		var err error
		a.Body, err = mpp.NewProblem(mpp.ProblemChannelUnconfirmed, "not yet").MarshalJSON()
		downloadtest.Must(t, err)
	}))
	if _, _, err := s.get(s.want(), plenty); !errors.Is(err, paywall.ErrMisbehaved) {
		t.Fatalf("got %v", err)
	}
	s.recovers()
}

// unpaid is the header of a 402.
func unpaid(t *testing.T, s *shop) http.Header {
	t.Helper()
	resp, err := http.Get(s.URL("f.bin"))
	downloadtest.Must(t, err)
	downloadtest.Must(t, resp.Body.Close())
	return http.Header{mpp.HeaderChallenge: resp.Header.Values(mpp.HeaderChallenge)}
}

// A provider that wants more than one chunk ahead, or what it has, gets nothing.
func TestUnreasonableDemands(t *testing.T) {
	for required, want := range map[string]error{"1921": channel.ErrPrepay, "0": paywall.ErrMisbehaved, "1920": channel.ErrPrepay} {
		s := newShop(t, downloadtest.Config{Price: "30sat/1KiB"})
		quote := unpaid(t, s)
		s.Wrap(downloadtest.Tamper(downloadtest.Slices, func(_ *http.Request, a *downloadtest.Answer) {
			a.Status, a.Header = http.StatusPaymentRequired, quote
			var err error
			a.Body, err = mpp.NewProblem(mpp.ProblemInsufficientBalance, "more").With("requiredCumulative", required).MarshalJSON()
			downloadtest.Must(t, err)
		}))
		if _, _, err := s.get(s.want(), plenty); !errors.Is(err, want) {
			t.Errorf("%s sat: %v", required, err)
		}
		if s.signed() != 0 {
			t.Errorf("%s sat: %d sat are signed", required, s.signed())
		}
	}
}

// An opening that the provider refuses for good does not stand in the way of the
// next; its money comes back by the refund.
func TestRefusedOpening(t *testing.T) {
	s := newShop(t, downloadtest.Config{Price: "30sat/1KiB"})
	quote := unpaid(t, s)
	s.Wrap(downloadtest.Tamper(downloadtest.Action("open"), func(_ *http.Request, a *downloadtest.Answer) {
		a.Status, a.Header = http.StatusPaymentRequired, quote
		var err error
		a.Body, err = mpp.NewProblem(mpp.ProblemVerificationFailed, "no").MarshalJSON()
		downloadtest.Must(t, err)
	}))
	if _, _, err := s.get(s.want(), plenty); !errors.Is(err, paywall.ErrRefused) {
		t.Fatalf("got %v", err)
	}
	s.Mine(1)
	s.Wrap(nil)
	// taken all the same by now: the same channel is used
	_, r, err := s.get(s.want(), plenty)
	downloadtest.Must(t, err)
	if len(s.records()) != 1 || r.Unsettled != nil {
		t.Fatalf("%d channels, %v", len(s.records()), r.Unsettled)
	}

	s = newShop(t, downloadtest.Config{Price: "30sat/1KiB"})
	s.Customer = s.Market.NewCustomer(100_000, 100_000, 100_000)
	s.Wrap(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			if downloadtest.ActionOf(req) == "open" {
				w.WriteHeader(http.StatusForbidden)
				return
			}
			next.ServeHTTP(w, req)
		})
	})
	for range 2 {
		if _, _, err := s.get(s.want(), plenty); !errors.Is(err, paywall.ErrRefused) {
			t.Fatalf("got %v", err)
		}
	}
	s.Wrap(nil)
	_, r, err = s.get(s.want(), plenty)
	downloadtest.Must(t, err)
	s.same()
	if all := s.records(); len(all) > 3 || r.Unsettled != nil || s.signed() != r.Paid {
		t.Fatalf("%d channels, signed %d sat, paid %d, %v", len(all), s.signed(), r.Paid, r.Unsettled)
	}
}

// What costs nothing locks nothing.
func TestEmptyFile(t *testing.T) {
	s := newShop(t, downloadtest.Config{Files: map[string][]byte{"f.bin": {}}})
	p, r, err := s.get(s.want(), download.Limits{})
	downloadtest.Must(t, err)
	s.same()
	if p.Pay != 0 || p.Capacity != 0 || r.Paid != 0 || r.Channel != "" {
		t.Fatalf("planned %d sat in %d, paid %d in %q", p.Pay, p.Capacity, r.Paid, r.Channel)
	}
	s.nothing()
}

// Where every chunk is worth a settlement the channel holds exactly the price.
func TestExactCapacity(t *testing.T) {
	s := newShop(t, downloadtest.Config{Price: "30000sat/file", Chunk: content.ChunkSpec{Count: 4}})
	p, r, err := s.get(s.want(), download.Limits{Budget: 30_000})
	downloadtest.Must(t, err)
	if p.Capacity != 30_000 || r.Paid != 30_000 || r.Unsettled != nil {
		t.Fatalf("capacity %d, paid %d, %v", p.Capacity, r.Paid, r.Unsettled)
	}
	s.same()
}

// Whoever bought a file and lost it gets it again free while the channel is open,
// and buys it again after that.
func TestBoughtTwice(t *testing.T) {
	s := newShop(t, downloadtest.Config{Price: "30sat/1KiB"})
	keep := download.Limits{Budget: 9000, KeepChannel: true}
	_, first, err := s.get(s.want(), keep)
	downloadtest.Must(t, err)
	w := s.want()
	downloadtest.Must(t, os.Remove(s.path))
	p, second, err := s.get(w, download.Limits{Budget: 9000})
	downloadtest.Must(t, err)
	s.same()
	if p.Pay != 0 || second.Channel != first.Channel || second.Paid != first.Paid || s.signed() != first.Paid || second.Unsettled != nil {
		t.Fatalf("costs %d sat again, paid %d then %d", p.Pay, first.Paid, second.Paid)
	}
	downloadtest.Must(t, os.Remove(s.path))
	_, third, err := s.get(w, download.Limits{Budget: 9000})
	downloadtest.Must(t, err)
	if third.Paid != first.Paid || third.Channel == first.Channel {
		t.Fatalf("paid %d sat in %s", third.Paid, third.Channel)
	}
}
