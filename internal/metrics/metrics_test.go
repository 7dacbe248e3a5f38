package metrics_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/internal/metrics"
	"github.com/spillway/spillway/store"
	"github.com/spillway/spillway/store/memory"
)

func record(phase channel.Phase, paid, charged uint64, expiry uint32) channel.PayeeRecord {
	return channel.PayeeRecord{Phase: phase, Paid: paid, Charged: charged, Terms: channel.Terms{Expiry: expiry, Capacity: 1000, Credit: 5000}}
}

func scrape(t *testing.T, m *metrics.Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	return w.Body.String()
}

func want(t *testing.T, text string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if !strings.Contains(text, "\n"+line+"\n") {
			t.Errorf("no line %q", line)
		}
	}
}

// TestStanding: what is at risk is what is paid and not over, by the blocks to the expiry.
func TestStanding(t *testing.T) {
	s := metrics.StandingOf([]channel.PayeeRecord{
		record(channel.Open, 100, 103_000, 110), record(channel.Open, 0, 2_000, 200), record(channel.Settling, 50, 50_000, 99), record(channel.Closed, 70, 70_000, 101),
		record(channel.Refunded, 9, 9_000, 101), record(channel.Abandoned, 5, 5_000, 101), record(channel.Open, 7, 7_000, 2000),
	}, 100)
	if s.Capacity != 4000 || s.Paid != 157 || s.Owed != 5_000 || s.Exposure != 15_000 || s.Settled != 70 || s.Earned != 241_000 || s.Nearest != 0 || s.Phases[channel.Open] != 3 {
		t.Errorf("%+v", s)
	}
	for i, within := range metrics.Within {
		risk := uint64(50)
		if within >= 10 {
			risk += 100
		}
		if within >= 1900 {
			risk += 7
		}
		if s.AtRisk[i] != risk {
			t.Errorf("within %d blocks: %d, want %d", within, s.AtRisk[i], risk)
		}
	}
	duplex := record(channel.Open, 30, 30_000, 1000)
	duplex.Terms.Step, duplex.Duplex = 80, &channel.Duplex{Held: channel.Update{Epoch: 5, Amount: 20}}
	if two := metrics.StandingOf([]channel.PayeeRecord{duplex}, 674); two.Nearest != 6 || two.AtRisk[0] != 20 {
		t.Errorf("an older state is valid at 680: %+v", two)
	}
	if empty := metrics.StandingOf(nil, 100); empty.Nearest != -1 {
		t.Errorf("%+v", empty)
	}
	m := metrics.New(metrics.Build{Version: "1"}, func(context.Context) metrics.Now {
		return metrics.Now{Standing: &s, TipHeight: 100, TipTime: time.Now().Add(-time.Minute), Ready: true, Alarms: map[string]int{"disk": 2}}
	})
	want(t, scrape(t, m), "spillway_paid_sat 157", "spillway_exposure_msat 15000", `spillway_value_at_risk_sat{blocks="6"} 50`, `spillway_value_at_risk_sat{blocks="2016"} 157`, "spillway_next_expiry_blocks 0",
		`spillway_channels{phase="open"} 3`, `spillway_alarms{kind="disk"} 2`, "spillway_ready 1", "spillway_chain_tip_height 100")
}

// TestCounts: payments, checks, commits and answers are counted as they were.
func TestCounts(t *testing.T) {
	m := metrics.New(metrics.Build{}, nil)
	before := record(channel.Open, 10, 0, 1)
	m.Saved(nil, record(channel.Funding, 0, 0, 1))
	m.Saved(&before, record(channel.Open, 15, 0, 1))
	m.Saved(&before, record(channel.Open, 10, 0, 1))
	m.Saved(&before, record(channel.Closed, 10, 0, 1))
	m.Verifying()(nil)
	m.Verifying()(errors.New("forged"))
	s := m.Store(memory.New())
	for i, expect := range []uint64{0, 9} { // the second one conflicts
		err := s.Commit(t.Context(), store.Op{Bucket: "b", Key: "k", Value: []byte("v"), Expect: expect})
		if (err == nil) != (i == 0) {
			t.Error(err)
		}
	}
	if err := s.Commit(t.Context(), store.Op{Bucket: "", Key: "k"}); !errors.Is(err, store.ErrInvalid) {
		t.Error(err)
	}
	step := m.Step(func(context.Context) error { return errors.New("no") })
	if step(t.Context()) == nil {
		t.Error("the error is lost")
	}
	want(t, scrape(t, m), "spillway_payments_total 1", "spillway_payments_sat_total 5", "spillway_channels_opened_total 1", "spillway_channels_ended_total 1", "spillway_updates_refused_total 1",
		"spillway_verification_seconds_count 2", "spillway_commit_seconds_count 3", "spillway_commit_errors_total 1", "spillway_watch_errors_total 1", "spillway_watch_seconds_count 1")
}

// TestHTTP: answers are counted by status, and a handler can do with the writer what it
// could without.
func TestHTTP(t *testing.T) {
	m := metrics.New(metrics.Build{}, nil)
	srv := httptest.NewServer(m.HTTP(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/flush":
			if _, err := io.WriteString(w, "a"); err != nil {
				t.Error(err)
			}
			w.(http.Flusher).Flush()
			if err := http.NewResponseController(w).SetWriteDeadline(time.Now().Add(time.Minute)); err != nil {
				t.Error(err)
			}
		case "/402":
			w.WriteHeader(http.StatusEarlyHints)
			w.WriteHeader(http.StatusPaymentRequired)
		case "/upgrade":
			w.Header().Set("Connection", "Upgrade")
			w.Header().Set("Upgrade", "x")
			w.WriteHeader(http.StatusSwitchingProtocols)
			c, rw, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := rw.WriteString("over"); err != nil || rw.Flush() != nil {
				t.Error(err)
			}
			_ = c.Close()
		}
	})))
	t.Cleanup(srv.Close)
	for path, status := range map[string]int{"/flush": 200, "/402": 402, "/": 200, "/upgrade": 101} {
		resp, err := http.Get(srv.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		if path == "/upgrade" {
			if text, err := bufio.NewReader(resp.Body).ReadString('r'); err != nil || text != "over" {
				t.Errorf("%q, %v", text, err)
			}
		}
		_ = resp.Body.Close()
		if resp.StatusCode != status {
			t.Errorf("%s: %d", path, resp.StatusCode)
		}
	}
	srv.Close()
	want(t, scrape(t, m), `spillway_http_requests_total{code="200"} 2`, `spillway_http_requests_total{code="402"} 1`, `spillway_http_requests_total{code="101"} 1`)
}
