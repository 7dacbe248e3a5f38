package paywall

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/mpp"
	"github.com/spillway/spillway/mpp/bitcoin"
)

// ErrRate: what a currency is worth is not known, or too old. Nothing is sold at a guess.
var ErrRate = errors.New("there is no rate for this currency")

// Rates say what currencies are worth.
type Rates interface {
	// BTC is what one bitcoin costs in a currency such as "EUR", in millionths of it
	// (65,432.10 EUR are 65,432,100,000). Errors: ErrRate.
	BTC(ctx context.Context, currency string) (uint64, error)
}

// RateFunc is a function that is Rates.
type RateFunc func(ctx context.Context, currency string) (uint64, error)

// BTC implements Rates.
func (f RateFunc) BTC(ctx context.Context, currency string) (uint64, error) { return f(ctx, currency) }

// fiat is a price in a currency. The zero value is none.
type fiat struct {
	amount   uint64 // millionths of the currency, for Per units
	currency string
	rates    Rates
}

// In is the price with its amount in a currency instead of msat: amount is a decimal
// number such as "0.05" with at most six places, for Per units, converted when a
// challenge is made and rounded up to a msat. What a challenge quotes is what is charged
// on it, however the rate moves, until it expires. Msat becomes what is charged at most:
// nothing is sold where the amount is worth more; 0: no limit. What is wrong with it is
// said by NewMiddleware.
func (p Price) In(amount, currency string, rates Rates) Price {
	n, err := millionths(amount)
	if err != nil || rates == nil || !currencyName(currency) {
		n = 0
	}
	p.fiat = &fiat{amount: n, currency: currency, rates: rates}
	return p
}

// millionths reads a decimal number. Errors: ErrQuote.
func millionths(text string) (uint64, error) {
	whole, part, dot := strings.Cut(text, ".")
	if whole == "" || dot && part == "" || len(part) > 6 || len(whole) > 9 || strings.Trim(whole+part, "0123456789") != "" {
		return 0, fmt.Errorf("%w: %.40q is no amount", ErrQuote, text)
	}
	n := uint64(0)
	for _, c := range whole + (part + "000000")[:6] {
		n = n*10 + uint64(c-'0')
	}
	return n, nil
}

// decimalOf writes millionths as a decimal number in its one form.
func decimalOf(n uint64) string {
	text := fmt.Sprintf("%d.%06d", n/1e6, n%1e6)
	return strings.TrimSuffix(strings.TrimRight(text, "0"), ".")
}

func currencyName(s string) bool {
	return len(s) >= 3 && len(s) <= 8 && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") == "" && s != "BTC" && s != "SAT"
}

// msat is what the amount is worth, rounded up. Errors: ErrRate.
func (f *fiat) msat(ctx context.Context) (uint64, error) {
	rate, err := f.rates.BTC(ctx, f.currency)
	if err != nil {
		return 0, fmt.Errorf("%w: %s: %w", ErrRate, f.currency, err)
	}
	const btc = 100_000_000_000 // msat
	hi, lo := bits.Mul64(f.amount, btc)
	if rate == 0 || hi >= rate {
		return 0, fmt.Errorf("%w: %s: %s are worth more than there is", ErrRate, f.currency, decimalOf(f.amount))
	}
	n, rest := bits.Div64(hi, lo, rate)
	if rest > 0 {
		n++
	}
	if n > channel.MaxSat*1000 {
		return 0, fmt.Errorf("%w: %s: %s are worth more than there is", ErrRate, f.currency, decimalOf(f.amount))
	}
	return max(n, 1), nil
}

// fix is the price in msat for one request: what its credential's challenge quotes,
// where that is one of ours that has not expired and is for this price, else at the
// present rate. Errors: ErrRate, ErrQuote.
func (p Price) fix(ctx context.Context, quoted *bitcoin.Request) (Price, error) {
	if p.fiat == nil {
		return p, nil
	}
	if quoted != nil && p.quotedBy(*quoted) {
		p.Msat = quoted.Amount * (1000 * p.Per / quoted.MethodDetails.UnitsPerAmount)
		return p, nil
	}
	most := p.Msat
	msat, err := p.fiat.msat(ctx)
	if err != nil {
		return p, err
	}
	if most > 0 && msat > most {
		return p, fmt.Errorf("%w: %s %s are %d msat now, the most is %d", ErrRate, decimalOf(p.fiat.amount), p.fiat.currency, msat, most)
	}
	p.Msat = msat
	return p, nil
}

// quotedBy reports whether a challenge quotes this very price in its currency. What it
// is in satoshi was right when the challenge was made.
func (p Price) quotedBy(q bitcoin.Request) bool {
	d := q.MethodDetails
	if d.PriceCurrency != p.fiat.currency || d.PriceAmount != decimalOf(p.fiat.amount) || d.PriceUnits != p.Per ||
		q.UnitType != p.Unit || d.UnitBytes != p.ChunkBytes || d.UnitsPerAmount == 0 || 1000*p.Per%d.UnitsPerAmount != 0 {
		return false
	}
	over, msat := bits.Mul64(q.Amount, 1000*p.Per/d.UnitsPerAmount)
	return over == 0 && msat <= channel.MaxSat*1000
}

// quoted is what a request's credential says that it was quoted; nil: it says nothing
// that this server has said, or that still holds.
func (s *Server) quoted(r *http.Request) *bitcoin.Request {
	var challenge mpp.Challenge
	if p := compactOf(r); p != nil {
		challenge = p.challenge
	} else if c, err := mpp.ParseCredentialMax(r.Header.Values(s.cfg.CredentialField), s.cfg.MaxCredential); err == nil {
		challenge = c.Challenge
	}
	if s.own(challenge) != nil || challenge.Expired(s.cfg.Now()) {
		return nil
	}
	req, err := bitcoin.ParseRequest(challenge.Request)
	if err != nil {
		return nil
	}
	return &req
}

// fixed is a price as it is for a request. Errors: ErrRate.
func (s *Server) fixed(r *http.Request, p Price) (Price, error) {
	if p.fiat == nil {
		return p, nil
	}
	return p.fix(r.Context(), s.quoted(r))
}

// RateFile is Rates from a file that something else keeps up to date: a line for each
// currency, such as "EUR 65432.10" for the price of one bitcoin; what follows "#" is a
// remark. It is read again when it changes, and counts no more when it was not written
// for maxAge (0: a day).
type RateFile struct {
	path   string
	maxAge time.Duration
	now    func() time.Time

	mu    sync.Mutex
	read  time.Time // its time when it was read
	rates map[string]uint64
}

// NewRateFile reads the file once. Errors: of the file, ErrRate with the line.
func NewRateFile(path string, maxAge time.Duration) (*RateFile, error) {
	if maxAge <= 0 {
		maxAge = 24 * time.Hour
	}
	f := &RateFile{path: path, maxAge: maxAge, now: time.Now}
	if _, err := f.load(); err != nil {
		return nil, err
	}
	return f, nil
}

// BTC implements Rates.
func (f *RateFile) BTC(_ context.Context, currency string) (uint64, error) {
	rates, err := f.load()
	if err != nil {
		return 0, err
	}
	rate, ok := rates[currency]
	if !ok {
		return 0, fmt.Errorf("%w: it is not in %s", ErrRate, f.path)
	}
	return rate, nil
}

// load reads the file where it has changed.
func (f *RateFile) load() (map[string]uint64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	info, err := os.Stat(f.path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRate, err)
	}
	if age := f.now().Sub(info.ModTime()); age > f.maxAge {
		return nil, fmt.Errorf("%w: %s was written %s ago", ErrRate, f.path, age.Round(time.Minute))
	}
	if f.rates != nil && info.ModTime().Equal(f.read) {
		return f.rates, nil
	}
	file, err := os.Open(f.path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRate, err)
	}
	rates, err := parseRates(io.LimitReader(file, 1<<20))
	if err = errors.Join(err, file.Close()); err != nil {
		return nil, fmt.Errorf("%s: %w", f.path, err)
	}
	f.rates, f.read = rates, info.ModTime()
	return rates, nil
}

// parseRates reads lines of a currency and a price. Errors: ErrRate with the line.
func parseRates(r io.Reader) (map[string]uint64, error) {
	rates := map[string]uint64{}
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		text, _, _ := strings.Cut(lines.Text(), "#")
		fields := strings.Fields(text)
		if len(fields) == 0 {
			continue
		}
		if len(fields) != 2 || !currencyName(fields[0]) {
			return nil, fmt.Errorf("%w: line %d is not a currency and the price of a bitcoin in it", ErrRate, n)
		}
		rate, err := millionths(fields[1])
		if err != nil || rate == 0 {
			return nil, fmt.Errorf("%w: line %d: %.40q is no price", ErrRate, n, fields[1])
		}
		if _, twice := rates[fields[0]]; twice {
			return nil, fmt.Errorf("%w: line %d: %s is there twice", ErrRate, n, fields[0])
		}
		rates[fields[0]] = rate
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRate, err)
	}
	return rates, nil
}
