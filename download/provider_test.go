package download_test

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/content"
	"github.com/spillway/spillway/content/bao"
	"github.com/spillway/spillway/download"
	"github.com/spillway/spillway/download/downloadtest"
	"github.com/spillway/spillway/mpp"
	"github.com/spillway/spillway/paywall"
	"github.com/spillway/spillway/script"
)

// records are the buyer's channels.
func (s *shop) records() []channel.PayerRecord {
	s.t.Helper()
	all, err := s.Open().Payer.Records(ctx)
	downloadtest.Must(s.t, err)
	return all
}

// signed is the sum of what the buyer signed.
func (s *shop) signed() (sum uint64) {
	for _, r := range s.records() {
		sum += r.Signed
	}
	return sum
}

// recovers buys again from an honest provider: everything fits in the end.
func (s *shop) recovers() {
	s.t.Helper()
	s.Wrap(nil)
	p, r, err := s.get(s.want(), plenty)
	downloadtest.Must(s.t, err)
	s.same()
	if want := channel.CeilSat(p.Manifest.TotalMsat()); r.Paid != want || s.signed() != want || r.Unsettled != nil {
		s.t.Fatalf("paid %d sat and signed %d sat of %d, %v", r.Paid, s.signed(), want, r.Unsettled)
	}
}

// Wrong bytes, wherever they are, are noticed, not paid, and reported.
func TestWrongBytes(t *testing.T) {
	for name, change := range map[string]func([]byte){
		"length": func(b []byte) { b[0] ^= 1 },
		"proof":  func(b []byte) { b[20] ^= 1 },
		"bytes":  func(b []byte) { b[len(b)-5] ^= 1 },
	} {
		t.Run(name, func(t *testing.T) {
			s := newShop(t, downloadtest.Config{Price: "30sat/1KiB"})
			slices := 0
			s.Wrap(downloadtest.Tamper(downloadtest.Slices, func(_ *http.Request, a *downloadtest.Answer) {
				if a.Status != http.StatusOK {
					return
				}
				if slices++; slices == 3 {
					change(a.Body)
				}
			}))
			_, _, err := s.get(s.want(), plenty)
			var wrong *download.WrongBytesError
			if !errors.Is(err, download.ErrWrongBytes) || !errors.As(err, &wrong) || wrong.Chunk != 2 {
				t.Fatalf("got %v", err)
			}
			if got := s.signed(); got != 2*30*64 {
				t.Fatalf("%d sat are signed for two chunks", got)
			}
			raw, err := os.ReadFile(wrong.Report)
			downloadtest.Must(t, err)
			var rep download.Report
			downloadtest.Must(t, json.Unmarshal(raw, &rep))
			if rep.Chunk != 2 || rep.Provider != s.Identity.String() || rep.Want == rep.Got && name != "length" || rep.Bytes == "" {
				t.Fatalf("the report is %s", raw)
			}
			s.recovers()
		})
	}
}

// Where slices of another file come, by name or by the challenge, nothing of them
// is taken and nothing is paid.
func TestOtherFile(t *testing.T) {
	files := map[string][]byte{"f.bin": downloadtest.Pattern(300_000, 1), "g.bin": downloadtest.Pattern(300_000, 2)}
	reroute := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if downloadtest.Slices(r) {
				r.URL.Path = "/g.bin"
			}
			next.ServeHTTP(w, r)
		})
	}
	rename := downloadtest.Tamper(downloadtest.Slices, func(_ *http.Request, a *downloadtest.Answer) {
		if a.Status == http.StatusOK {
			a.Header.Set("ETag", `"b3-`+strings.Repeat("ab", 32)+`"`)
		}
	})
	for _, c := range []struct {
		wrap func(http.Handler) http.Handler
		want error
	}{{reroute, download.ErrChanged}, {rename, download.ErrOtherContent}} {
		s := newShop(t, downloadtest.Config{Price: "30sat/1KiB", Files: files})
		s.Wrap(c.wrap)
		_, _, err := s.get(s.want(), plenty)
		if !errors.Is(err, c.want) {
			t.Fatalf("got %v", err)
		}
		if s.signed() != 0 {
			t.Fatalf("%d sat are signed", s.signed())
		}
	}
}

// A body that always breaks off ends in ErrUnreachable, with what came kept; one
// that never ends is cut where the slice is whole. Pitfall 41.
func TestPitfall41_BodiesWithoutAnEnd(t *testing.T) {
	t.Run("truncated", func(t *testing.T) {
		s := newShop(t, downloadtest.Config{Price: "30sat/1KiB"})
		s.Wrap(downloadtest.Tamper(downloadtest.Slices, func(_ *http.Request, a *downloadtest.Answer) {
			if a.Status == http.StatusOK {
				a.Body = a.Body[:100]
			}
		}))
		_, _, err := s.get(s.want(), plenty)
		if !errors.Is(err, paywall.ErrUnreachable) || !errors.Is(err, bao.ErrTruncated) || s.signed() != 0 {
			t.Fatalf("got %v, %d sat are signed", err, s.signed())
		}
		s.recovers()
	})
	t.Run("half each time", func(t *testing.T) {
		s := newShop(t, downloadtest.Config{Price: "30sat/1KiB"})
		s.Wrap(downloadtest.Tamper(downloadtest.Slices, func(_ *http.Request, a *downloadtest.Answer) {
			if a.Status == http.StatusOK && len(a.Body) > 20_000 {
				a.Body = a.Body[:len(a.Body)/2]
			}
		}))
		_, r, err := s.get(s.want(), plenty)
		downloadtest.Must(t, err)
		s.same()
		if r.Payments != r.Manifest.Chunks() {
			t.Fatalf("%d payments for %d chunks", r.Payments, r.Manifest.Chunks())
		}
	})
	t.Run("endless", func(t *testing.T) {
		s := newShop(t, downloadtest.Config{Price: "30sat/1KiB"})
		s.Wrap(func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if !downloadtest.Slices(r) {
					next.ServeHTTP(w, r)
					return
				}
				e := &endless{ResponseWriter: w}
				next.ServeHTTP(e, r)
				for e.status == http.StatusOK && r.Context().Err() == nil {
					if _, err := w.Write(make([]byte, 64<<10)); err != nil {
						return
					}
				}
			})
		})
		_, r, err := s.get(s.want(), plenty)
		downloadtest.Must(t, err)
		s.same()
		if r.Unsettled != nil {
			t.Fatal(r.Unsettled)
		}
	})
	t.Run("manifest", func(t *testing.T) {
		s := newShop(t, downloadtest.Config{})
		s.Wrap(func(http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				for r.Context().Err() == nil {
					if _, err := io.WriteString(w, strings.Repeat(" ", 4096)); err != nil {
						return
					}
				}
			})
		})
		if _, _, err := s.get(s.want(), plenty); !errors.Is(err, paywall.ErrMisbehaved) {
			t.Fatalf("got %v", err)
		}
	})
}

// endless hides the length of an answer.
type endless struct {
	http.ResponseWriter
	status int
}

func (e *endless) WriteHeader(status int) {
	e.status = status
	e.Header().Del("Content-Length")
	e.ResponseWriter.WriteHeader(status)
}

func (e *endless) Write(p []byte) (int, error) {
	if e.status == 0 {
		e.WriteHeader(http.StatusOK)
	}
	return e.ResponseWriter.Write(p)
}

func TestManifests(t *testing.T) {
	s := newShop(t, downloadtest.Config{})
	edit := func(change func(map[string]any)) {
		s.Wrap(downloadtest.Tamper(func(r *http.Request) bool { return r.URL.Query().Has("manifest") }, func(_ *http.Request, a *downloadtest.Answer) {
			var m map[string]any
			downloadtest.Must(t, json.Unmarshal(a.Body, &m))
			change(m)
			var err error
			a.Body, err = json.Marshal(m)
			downloadtest.Must(t, err)
		}))
	}
	edit(func(m map[string]any) { m["chunkMsat"] = "1" })
	if _, _, err := s.get(s.want(), plenty); !errors.Is(err, paywall.ErrMisbehaved) || !errors.Is(err, content.ErrManifestSignature) {
		t.Fatalf("a changed manifest: %v", err)
	}
	edit(func(m map[string]any) { delete(m, "root") })
	if _, _, err := s.get(s.want(), plenty); !errors.Is(err, paywall.ErrNotProvider) {
		t.Fatalf("no manifest: %v", err)
	}
	s.Wrap(nil)
	w := s.want()
	w.Root = &content.Hash{1}
	if _, _, err := s.get(w, plenty); !errors.Is(err, download.ErrOtherContent) {
		t.Fatalf("another root: %v", err)
	}
	w = s.want()
	w.Provider = &content.ProviderKey{1}
	if _, _, err := s.get(w, plenty); !errors.Is(err, download.ErrOtherProvider) {
		t.Fatalf("another provider: %v", err)
	}
	w.Provider, w.URL = nil, "ftp://x/y"
	if _, _, err := s.get(w, plenty); !errors.Is(err, paywall.ErrNotProvider) {
		t.Fatalf("no URL: %v", err)
	}
	s.nothing()
}

// Quotes that a buyer must not accept: nothing is signed, nothing is locked.
// Pitfalls 36, 46.
func TestPitfall46_QuotesThatAreRefused(t *testing.T) {
	s := newShop(t, downloadtest.Config{})
	k1, err := s.Customer.Keys.PayerChannelKey(0)
	downloadtest.Must(t, err)
	tip, err := s.Market.Node.Tip(ctx)
	downloadtest.Must(t, err)
	details := func(r map[string]any) map[string]any { return r["methodDetails"].(map[string]any) }
	for name, c := range map[string]struct {
		change func(*mpp.Challenge, map[string]any)
		want   error
	}{
		"network":   {func(_ *mpp.Challenge, r map[string]any) { details(r)["network"] = "mainnet" }, channel.ErrTerms},
		"currency":  {func(_ *mpp.Challenge, r map[string]any) { r["currency"] = "usd" }, paywall.ErrMisbehaved},
		"recipient": {func(_ *mpp.Challenge, r map[string]any) { r["recipient"] = strings.Repeat("ab", 32) }, paywall.ErrMisbehaved},
		"amount":    {func(_ *mpp.Challenge, r map[string]any) { r["amount"] = "65" }, paywall.ErrPriceChanged},
		"unit":      {func(_ *mpp.Challenge, r map[string]any) { r["unitType"] = "second" }, paywall.ErrPriceChanged},
		"expiry":    {func(_ *mpp.Challenge, r map[string]any) { details(r)["expiryHeight"] = tip.Height + 2017 }, channel.ErrTerms},
		"too soon":  {func(_ *mpp.Challenge, r map[string]any) { details(r)["expiryHeight"] = tip.Height + 36 }, channel.ErrTerms},
		"minimum":   {func(_ *mpp.Challenge, r map[string]any) { details(r)["minimumCharge"] = "50000" }, download.ErrQuote},
		"deposit": {func(_ *mpp.Challenge, r map[string]any) {
			details(r)["maxDeposit"] = "2500"
			details(r)["minDeposit"] = "1000"
		}, download.ErrDeposit},
		"same key": {func(_ *mpp.Challenge, r map[string]any) {
			details(r)["payeePubKey"] = hex.EncodeToString(k1.PubKey().SerializeCompressed())
		}, channel.ErrTerms},
		"over":        {func(c *mpp.Challenge, _ map[string]any) { c.Expires = "2020-01-01T00:00:00Z" }, paywall.ErrMisbehaved},
		"digest":      {func(c *mpp.Challenge, _ map[string]any) { c.Digest = "sha-256=:AAAA:" }, paywall.ErrMisbehaved},
		"method":      {func(c *mpp.Challenge, _ map[string]any) { c.Method = "tempo" }, paywall.ErrNotProvider},
		"opaque":      {func(c *mpp.Challenge, _ map[string]any) { c.Opaque = "e30" }, paywall.ErrMisbehaved},
		"kinds":       {func(_ *mpp.Challenge, r map[string]any) { details(r)["channelTypes"] = []any{"duplex"} }, channel.ErrTerms},
		"tip":         {func(_ *mpp.Challenge, r map[string]any) { details(r)["tipHeight"] = tip.Height + 500 }, channel.ErrTerms},
		"transaction": {func(_ *mpp.Challenge, r map[string]any) { details(r)["txVersion"] = 1 }, paywall.ErrMisbehaved},
	} {
		t.Run(name, func(t *testing.T) {
			s.Wrap(downloadtest.Challenges(c.change))
			if _, _, err := s.get(s.want(), plenty); !errors.Is(err, c.want) {
				t.Fatalf("got %v", err)
			}
			s.nothing()
		})
	}
}

// A refund that is not signed rightly: T1 stays here, its coins are free again.
// Pitfalls 8, 51.
func TestPitfall08_BadRefundSignature(t *testing.T) {
	s := newShop(t, downloadtest.Config{})
	s.Wrap(downloadtest.Tamper(downloadtest.Action("prepare"), func(_ *http.Request, a *downloadtest.Answer) {
		text := string(a.Body)
		at := strings.Index(text, `"refundSignature":"`) + 40
		digit := "0"
		if text[at] == '0' {
			digit = "1"
		}
		a.Body = []byte(text[:at] + digit + text[at+1:])
	}))
	w := s.want()
	w.Construction = script.Multisig
	_, _, err := s.get(w, plenty)
	if !errors.Is(err, paywall.ErrMisbehaved) || !errors.Is(err, channel.ErrSignature) {
		t.Fatalf("got %v", err)
	}
	all := s.records()
	if len(all) != 1 || all[0].Phase != channel.Abandoned || all[0].FundingSent {
		t.Fatalf("the channel is %+v", all)
	}
	have, err := s.Open().Wallet.Balance(ctx)
	downloadtest.Must(t, err)
	if have.Spendable != 5_000_000 {
		t.Fatalf("%d sat can be spent", have.Spendable)
	}
	if _, err := s.Market.Node.Tx(ctx, all[0].Terms.Outpoint.Hash); err == nil {
		t.Fatal("T1 has left")
	}
}

// A close that is not what was agreed is not signed; the file is whole, and the
// next run closes.
func TestBadClose(t *testing.T) {
	for name, change := range map[string]func(map[string]any){
		"partial": func(m map[string]any) { m["payeePartial"] = strings.Repeat("11", 32) },
		"nonce":   func(m map[string]any) { delete(m, "payeeNonce"); delete(m, "payeePartial") },
		"theft": func(m map[string]any) {
			raw, err := hex.DecodeString(m["tx"].(string))
			downloadtest.Must(t, err)
			tx, err := channel.DecodeTx(raw)
			downloadtest.Must(t, err)
			tx.TxOut[0].Value -= 1000
			out, err := channel.EncodeTx(tx)
			downloadtest.Must(t, err)
			m["tx"] = out.String()
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newShop(t, downloadtest.Config{Price: "30sat/1KiB"})
			s.Wrap(downloadtest.Tamper(downloadtest.Action("close"), func(_ *http.Request, a *downloadtest.Answer) {
				var m map[string]any
				downloadtest.Must(t, json.Unmarshal(a.Body, &m))
				change(m)
				var err error
				a.Body, err = json.Marshal(m)
				downloadtest.Must(t, err)
			}))
			_, r, err := s.get(s.want(), plenty)
			downloadtest.Must(t, err)
			s.same()
			if !errors.Is(r.Unsettled, paywall.ErrMisbehaved) || r.Closing != "" {
				t.Fatalf("unsettled %v, closing %q", r.Unsettled, r.Closing)
			}
			s.recovers()
			if rec := s.records()[0]; rec.Close == nil {
				t.Fatal("not closed")
			}
		})
	}
}

// Another price in the middle stops the purchase; what was bought is kept, and
// the rest is bought at the new price once the buyer asks again.
func TestPriceChangesInTheMiddle(t *testing.T) {
	s := newShop(t, downloadtest.Config{Price: "30sat/1KiB"})
	slices := 0
	s.Wrap(downloadtest.Tamper(downloadtest.Slices, func(_ *http.Request, a *downloadtest.Answer) {
		if a.Status == http.StatusOK {
			if slices++; slices == 2 {
				s.Reprice("50sat/1KiB")
			}
		}
	}))
	if _, _, err := s.get(s.want(), plenty); !errors.Is(err, paywall.ErrPriceChanged) {
		t.Fatalf("got %v", err)
	}
	before := s.signed()
	s.Wrap(nil)
	if before != 2*30*64 {
		t.Fatalf("%d sat are signed for two chunks", before)
	}
	p, r, err := s.get(s.want(), plenty)
	downloadtest.Must(t, err)
	s.same()
	left, err := p.Manifest.RangeMsat(2, p.Manifest.Chunks()-1)
	downloadtest.Must(t, err)
	if want := before + channel.CeilSat(left); s.signed() != want || r.Paid != want {
		t.Fatalf("signed %d sat, paid %d, want %d", s.signed(), r.Paid, want)
	}
}

// The file changes or goes away in the middle: that is what is said, whatever the
// provider answers then; what was verified is paid, and the rest comes back.
func TestFileChangesInTheMiddle(t *testing.T) {
	becomes := map[string]func(*shop){
		"changed":  func(s *shop) { s.Put("f.bin", downloadtest.Pattern(200_000, 7)) },
		"one byte": func(s *shop) { s.Put("f.bin", append([]byte{1}, downloadtest.Pattern(300_000, 1)[1:]...)) },
		"emptied":  func(s *shop) { s.Put("f.bin", nil) },
		"gone":     func(s *shop) { downloadtest.Must(t, os.Remove(filepath.Join(s.Market.Dir, "f.bin"))) },
	}
	for name, change := range becomes {
		for _, looked := range []bool{false, true} { // whether the provider has noticed before it is asked
			t.Run(fmt.Sprintf("%s %v", name, looked), func(t *testing.T) {
				s := newShop(t, downloadtest.Config{Price: "30sat/1KiB"})
				slices := 0
				s.Wrap(downloadtest.Tamper(downloadtest.Slices, func(_ *http.Request, a *downloadtest.Answer) {
					if a.Status != http.StatusOK {
						return
					}
					if slices++; slices == 2 {
						change(s)
						if looked {
							_, err := s.Catalogue.Refresh(ctx)
							downloadtest.Must(t, err)
						}
					}
				}))
				if _, _, err := s.get(s.want(), plenty); !errors.Is(err, download.ErrChanged) {
					t.Fatalf("got %v", err)
				}
				if s.signed() != 2*30*64 {
					t.Fatalf("%d sat are signed for two chunks", s.signed())
				}
				open := s.records()[0]
				txid, err := s.Open().Client.Close(ctx, open.Terms.ID(), "", paywall.Expect{})
				downloadtest.Must(t, err)
				if txid == "" {
					t.Fatal("it was not closed")
				}
			})
		}
	}
}
