package paywall_test

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/download/downloadtest"
	"github.com/spillway/spillway/payer"
	"github.com/spillway/spillway/paywall"
	"github.com/spillway/spillway/script"
)

// What a channel was opened for is gone, is another file, or has another price:
// what settles the channel is taken all the same.
func TestSettlesWhateverBecameOfTheFile(t *testing.T) {
	becomes := map[string]func(*stand){
		"gone": func(s *stand) {
			must(t, os.Remove(filepath.Join(s.Dir, "f.bin")))
			s.refresh(t)
		},
		"changed": func(s *stand) {
			s.Put("f.bin", downloadtest.Pattern(123_456, 9))
			s.refresh(t)
		},
		"dearer": func(s *stand) { s.Reprice("60sat/1KiB") },
		"moved": func(s *stand) {
			s.Wrap(func(next http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.URL.Path == "/f.bin" {
						http.Redirect(w, r, "/elsewhere", http.StatusFound)
						return
					}
					next.ServeHTTP(w, r)
				})
			})
		},
	}
	for name, change := range becomes {
		for _, kind := range []script.Construction{script.Taproot, script.Multisig} {
			t.Run(name+" "+string(kind), func(t *testing.T) {
				s := newStand(t)
				id := s.open(t, kind)
				s.buy(t, id, "0-65535", chunkMsat)
				newest := s.paid(t, id, "")
				change(s)
				s.restart()
				newest.Expect.Check = func(*paywall.Quoted) error { return paywall.ErrPriceChanged }
				r, err := s.Client.Voucher(ctx, newest)
				must(t, err)
				if r.AcceptedCumulative != chunkMsat/1000 {
					t.Fatalf("the provider has %d sat", r.AcceptedCumulative)
				}
				got, err := s.Client.Resume(ctx, id, "", paywall.Expect{})
				must(t, err)
				if got.CumulativeAmount != chunkMsat/1000 {
					t.Fatalf("it shows %d sat", got.CumulativeAmount)
				}
				txid, err := s.Client.Close(ctx, id, "", paywall.Expect{})
				must(t, err)
				again, err := s.Client.Close(ctx, id, "", paywall.Expect{})
				must(t, err)
				rec, err := s.Payer.Record(ctx, id)
				must(t, err)
				if txid != again || rec.Close == nil || rec.Close.Txid != txid {
					t.Fatalf("closed by %q, then %q: %+v", txid, again, rec.Close)
				}
			})
		}
	}
}

// A chunk that was charged and never came: the close is refused with what is
// wanted, also at the root, and works once that was signed for with consent.
func TestCloseNamesWhatIsChargedAndMissing(t *testing.T) {
	s := newStand(t)
	id := s.open(t, script.Taproot)
	s.buy(t, id, "0-65535", chunkMsat)
	resp, _, err := s.Client.Fetch(ctx, s.paid(t, id, "65536-131071"))
	must(t, err)
	must(t, resp.Body.Close()) // nothing of it was verified
	must(t, os.Remove(filepath.Join(s.Dir, "f.bin")))
	s.refresh(t)
	s.restart()
	_, err = s.Client.Close(ctx, id, "", paywall.Expect{})
	var short *paywall.InsufficientError
	if !errors.As(err, &short) || short.Required != 2*chunkMsat/1000 {
		t.Fatalf("got %v", err)
	}
	_, err = s.Payer.Pay(ctx, id, payer.Payment{Ahead: chunkMsat}, channel.Limits{Budget: channel.MaxSat, Prepay: chunkMsat / 1000})
	must(t, err)
	_, err = s.Client.Close(ctx, id, "", paywall.Expect{})
	must(t, err)
}

// A provider that takes nothing at its root says why at the address of the file.
func TestCloseTellsTheFirstReason(t *testing.T) {
	s := newStand(t)
	id := s.open(t, script.Taproot)
	s.Wrap(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/" {
				http.Error(w, "nothing here", http.StatusMethodNotAllowed)
				return
			}
			next.ServeHTTP(w, r)
		})
	})
	must(t, os.Remove(filepath.Join(s.Dir, "f.bin")))
	s.refresh(t)
	s.restart()
	_, err := s.Client.Close(ctx, id, "", paywall.Expect{})
	if !errors.Is(err, paywall.ErrRefused) || !strings.Contains(err.Error(), "no file of this name") {
		t.Fatalf("got %v", err)
	}
}

func (s *stand) refresh(t *testing.T) {
	t.Helper()
	_, err := s.Catalogue.Refresh(ctx)
	must(t, err)
}

// restart forgets every challenge, as another process would.
func (s *stand) restart() { s.Opened = s.Customer.Open() }
