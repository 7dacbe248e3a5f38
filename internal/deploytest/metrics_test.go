package deploytest

import (
	"context"
	"encoding/json"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/internal/metrics"
)

// measured are the metrics of a provider in which everything has happened once.
func measured(t *testing.T) *metrics.Metrics {
	t.Helper()
	s := metrics.StandingOf([]channel.PayeeRecord{{Phase: channel.Open, Paid: 5, Terms: channel.Terms{Expiry: 200, Capacity: 10, Credit: 3000}}}, 100)
	m := metrics.New(metrics.Build{Version: "v", Revision: "r", Go: "g"}, func(context.Context) metrics.Now {
		return metrics.Now{Standing: &s, TipHeight: 100, TipTime: time.Now(), LastLook: time.Now(), Ready: true, DiskFree: 1, Certificate: time.Now(),
			Alarms: map[string]int{"stale": 1}, Pending: map[string]int{"books": 1}}
	})
	m.Raised("stale")
	m.Hooked("books", "failed")
	m.Verifying()(nil)
	h := m.HTTP(m.Handler())
	h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/metrics", nil))
	c := m.Chain(deadChain{})
	if _, err := c.Tip(t.Context()); err == nil {
		t.Fatal("a dead chain answers")
	}
	return m
}

func scrape(t *testing.T, m *metrics.Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != 200 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	return w.Body.String()
}

var metricName = regexp.MustCompile(`\b(spillway|go|process)_[a-z0-9_]+`)

// there reports whether a name in an expression is a metric's; of a histogram or a
// summary also with what is put behind it.
func there(names []string, name string) bool {
	base := name
	for _, end := range []string{"_bucket", "_sum", "_count"} {
		base = strings.TrimSuffix(base, end)
	}
	return slices.Contains(names, name) || slices.Contains(names, base)
}

// TestEveryMetricIsThere: what alert rules, the dashboard and the page for operators name
// is measured, and what is measured is on the dashboard and the page.
func TestEveryMetricIsThere(t *testing.T) {
	names, err := measured(t).Names()
	if err != nil {
		t.Fatal(err)
	}
	alerts, dashboard, page := read(t, "deploy/prometheus/alerts.yml"), read(t, "deploy/grafana/spillway.json"), read(t, "docs/operations.md")
	for file, text := range map[string]string{"alerts.yml": alerts, "spillway.json": dashboard, "operations.md": page} {
		found := metricName.FindAllString(text, -1)
		if len(found) < 10 {
			t.Errorf("%s names %d metrics", file, len(found))
		}
		for _, name := range found {
			if !there(names, name) {
				t.Errorf("%s names %s, which is not measured", file, name)
			}
		}
	}
	for _, name := range names {
		if !strings.HasPrefix(name, "spillway_") {
			continue
		}
		if !strings.Contains(dashboard, name) {
			t.Errorf("%s is not on the dashboard", name)
		}
		if !strings.Contains(page, name) {
			t.Errorf("%s is not in docs/operations.md", name)
		}
	}
}

// TestDashboard: the dashboard is JSON, its panels have numbers of their own, places
// that do not overlap, and a question each.
func TestDashboard(t *testing.T) {
	var d struct {
		Title  string
		UID    string
		Panels []struct {
			ID      int
			Type    string
			Title   string
			GridPos struct{ X, Y, W, H int }
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal([]byte(read(t, "deploy/grafana/spillway.json")), &d); err != nil {
		t.Fatal(err)
	}
	ids, places := map[int]bool{}, map[[2]int]string{}
	for _, p := range d.Panels {
		if ids[p.ID] || p.Title == "" || p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("panel %d %q", p.ID, p.Title)
		}
		ids[p.ID] = true
		for _, target := range p.Targets {
			if strings.Count(target.Expr, "(") != strings.Count(target.Expr, ")") || target.Expr == "" {
				t.Errorf("%s: %q", p.Title, target.Expr)
			}
		}
		for x := range p.GridPos.W {
			for y := range p.GridPos.H {
				at := [2]int{p.GridPos.X + x, p.GridPos.Y + y}
				if other := places[at]; other != "" || at[0] >= 24 {
					t.Fatalf("%q lies on %q", p.Title, other)
				}
				places[at] = p.Title
			}
		}
	}
	if len(d.Panels) < 20 || d.UID == "" {
		t.Errorf("%d panels", len(d.Panels))
	}
}

// TestPromtool: Prometheus itself takes the rules, their tests, the configuration, and
// the form of the metrics.
func TestPromtool(t *testing.T) {
	promtool := tool(t, "promtool")
	dir := filepath.Join(root, "deploy", "prometheus")
	run(t, "", promtool, "check", "config", filepath.Join(dir, "prometheus.yml"))
	run(t, "", promtool, "test", "rules", filepath.Join(dir, "alerts_test.yml"))
	if out := run(t, scrape(t, measured(t)), promtool, "check", "metrics"); strings.TrimSpace(out) != "" {
		t.Errorf("promtool finds fault with the metrics: %s", out)
	}
}
