package paywall_test

import (
	"errors"
	"io"
	"net/http"
	"testing"

	"pgregory.net/rapid"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/mpp"
	"github.com/spillway/spillway/mpp/bitcoin"
	"github.com/spillway/spillway/paywall"
)

// lying puts something else into receipts.
type lying struct {
	http.ResponseWriter
	lie func(*bitcoin.Receipt)
}

func (l *lying) WriteHeader(status int) {
	if r, err := bitcoin.ParseReceipt(l.Header().Values(mpp.HeaderReceipt)); err == nil {
		l.lie(&r)
		if text, err := r.Encode(); err == nil {
			l.Header().Set(mpp.HeaderReceipt, text)
		}
	}
	l.ResponseWriter.WriteHeader(status)
}

func (l *lying) Unwrap() http.ResponseWriter { return l.ResponseWriter }

// Whatever a provider's receipts say, a request costs at most what its challenge said,
// and a body what came of it.
func TestTransportBelievesNoReceiptBeyondThePrice(t *testing.T) {
	m := newMallWith(t, paywall.MiddlewareConfig{
		Price: paywall.PerRequest(10_000), Rules: map[string]paywall.Price{"/bytes": paywall.PerByte(1000, 10)},
	}, func(w http.ResponseWriter, r *http.Request) {
		_, err := io.WriteString(w, "ten bytes.")
		must(t, err)
	})
	honest := m.handler
	rapid.Check(t, func(r *rapid.T) {
		before := uint64(0)
		if all, err := m.Payer.Records(ctx); err == nil && len(all) > 0 {
			before = all[0].Owed
		}
		lie := bitcoin.Receipt{
			ChargedMsat: rapid.Uint64Range(0, 1e12).Draw(r, "charged"), RequestMsat: rapid.Uint64Range(0, 1e12).Draw(r, "request"),
			RequiredCumulative: rapid.Uint64Range(0, 1e9).Draw(r, "required"), Units: rapid.Uint64Range(0, 1e6).Draw(r, "units"),
		}
		m.mu.Lock()
		m.handler = http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			honest.ServeHTTP(&lying{w, func(got *bitcoin.Receipt) {
				got.ChargedMsat, got.RequestMsat, got.RequiredCumulative, got.Units = lie.ChargedMsat, lie.RequestMsat, lie.RequiredCumulative, lie.Units
			}}, req)
		})
		m.mu.Unlock()
		path, most := "/", uint64(10_000)
		if rapid.Bool().Draw(r, "bytes") {
			path, most = "/bytes", 1000
		}
		resp, err := m.http().Get(m.web.URL + path)
		if err == nil {
			_, err = io.ReadAll(resp.Body)
			err = errors.Join(err, resp.Body.Close())
		}
		if err != nil && !errors.Is(err, channel.ErrPrepay) && !errors.Is(err, channel.ErrBudget) && !errors.Is(err, paywall.ErrMisbehaved) {
			r.Fatal(err)
		}
		mine, err := m.Payer.Records(ctx)
		if err != nil || len(mine) != 1 {
			r.Fatalf("%d channels, %v", len(mine), err)
		}
		if mine[0].Owed > before+most || mine[0].Signed > channel.CeilSat(before+most) {
			r.Fatalf("the ledger rose from %d to %d msat, signed %d sat", before, mine[0].Owed, mine[0].Signed)
		}
	})
}

// A provider that wants more and more before it delivers gets no more than was allowed.
func TestTransportPaysNoRansom(t *testing.T) {
	m := newMall(t, paywall.PerRequest(1000), echo)
	m.get("/a")
	honest := m.handler
	m.mu.Lock()
	m.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get(mpp.HeaderCredential) == "" {
			honest.ServeHTTP(w, r)
			return
		}
		ch, err := m.wall.Challenge(r.Context(), paywall.Quote{ChunkMsat: 1000, LastMsat: 1000, UnitType: bitcoin.UnitRequest, CreditMsat: 1000}, nil)
		if err != nil {
			t.Error(err)
		}
		w.Header().Set(mpp.HeaderChallenge, ch.String())
		w.Header().Set("Content-Type", mpp.ContentTypeProblem)
		w.WriteHeader(http.StatusPaymentRequired)
		raw, err := mpp.NewProblem(mpp.ProblemInsufficientBalance, "more").With("requiredCumulative", "40000").MarshalJSON()
		if err == nil {
			_, err = w.Write(raw)
		}
		if err != nil {
			t.Error(err)
		}
	})
	m.mu.Unlock()
	if _, err := m.http().Get(m.web.URL + "/b"); !errors.Is(err, channel.ErrPrepay) {
		t.Fatalf("got %v", err)
	}
	if mine, _ := m.records(); mine.Signed > 2 {
		t.Errorf("%d sat are signed", mine.Signed)
	}
}
