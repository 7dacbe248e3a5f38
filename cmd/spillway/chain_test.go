package main

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/chain/devnet"
	"github.com/spillway/spillway/chain/several"
)

func testNode(t *testing.T) *devnet.Node {
	t.Helper()
	n, err := devnet.New(devnet.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

// TestPitfall39_AlarmsAreTold: where two blockchains differ a person and a script are told, and again when it is over.
func TestPitfall39_AlarmsAreTold(t *testing.T) {
	var stdout, stderr bytes.Buffer
	a := &app{out: &output{stdout: &stdout, stderr: &stderr, json: true}}
	a.flags.network = "regtest"
	one, two := testNode(t), testNode(t)
	if _, err := two.Mine(5); err != nil {
		t.Fatal(err)
	}
	b, err := several.New(several.Config{Members: []several.Member{{Name: "one", Backend: one}, {Name: "two", Backend: two}}, Grace: -1, OnAlarm: a.alarm})
	if err != nil {
		t.Fatal(err)
	}
	s := a.chainStateOf(t.Context(), b)
	// two chains that began in different seconds differ in their blocks as well
	others := slices.DeleteFunc(slices.Clone(s.Alarms), func(a several.Alarm) bool { return a.Kind == several.Split })
	if len(others) != 1 || others[0].Kind != several.Lagging || others[0].Backend != "one" || s.Stale != "" || s.Failure != "" || s.Health == nil {
		t.Fatalf("%+v", s)
	}
	if out := stdout.String(); !strings.Contains(out, `"type":"alarm"`) || !strings.Contains(out, `"kind":"lagging"`) || !strings.Contains(stderr.String(), "ALARM") {
		t.Fatalf("%s%s", out, stderr.String())
	}
	stdout.Reset()
	if _, err := one.Mine(5); err != nil {
		t.Fatal(err)
	}
	if s := a.chainStateOf(t.Context(), b); len(s.Alarms) > 1 || len(s.Alarms) == 1 && s.Alarms[0].Kind != several.Split {
		t.Fatalf("it has caught up: %+v", s)
	}
	if !strings.Contains(stdout.String(), `"over":true`) {
		t.Fatal(stdout.String())
	}
}

// TestPitfall37_StaleAlarm: a provider that runs tells once that its blockchain lags, and again when it lags again.
func TestPitfall37_StaleAlarm(t *testing.T) {
	var stdout, stderr bytes.Buffer
	a := &app{out: &output{stdout: &stdout, stderr: &stderr, json: true}}
	a.flags.network = "signet"
	old := oldTip{testNode(t)}
	look := a.staleAlarm(old)
	for range 3 {
		if err := look(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := strings.Count(stdout.String(), `"kind":"stale"`); n != 1 || strings.Count(stderr.String(), "ALARM") != 1 {
		t.Fatalf("told %d times: %s", n, stderr.String())
	}
	if s := a.chainStateOf(t.Context(), old); s.Stale == "" {
		t.Fatalf("%+v", s)
	}
	f := explain(chain.CheckStale(t.Context(), old, time.Now(), staleAfter))
	if f.exit != exitChain || f.code != "chain-stale" {
		t.Fatalf("%+v", f)
	}
}

// oldTip is a chain on which nobody has mined for a day.
type oldTip struct{ *devnet.Node }

func (o oldTip) Health(ctx context.Context) (chain.Health, error) {
	tip, err := o.Tip(ctx)
	tip.Time = time.Now().Add(-24 * time.Hour)
	return chain.Health{Tip: tip, Headers: tip.Height, Peers: 3}, err
}

// TestChainFlag: what --chain refuses before anything is asked.
func TestChainFlag(t *testing.T) {
	for text, want := range map[string]string{
		"bitcoind://u:secretword@h:1":  "SPILLWAY_CHAIN",
		"https://u:secretword@h/api":   "without a password",
		"btcd://u:secretword@h:1":      "SPILLWAY_CHAIN",
		"btcd://u@h:1?cert=x":          "password-file",
		"neutrino://h:port":            "HOST:PORT",
		"neutrino://":                  "a peer has to be named",
		"monero://h:1":                 "is not known",
		"bitcoind://u@h:1?wallet=some": "no option is called wallet",
		"h:1":                          "is not known",
	} {
		a := &app{out: &output{quiet: true}, chainTyped: true}
		a.flags.network, a.flags.chain = "regtest", []string{text}
		_, err := a.connect(t.Context())
		var f *failure
		if !errors.As(err, &f) || f.exit != exitUsage || !strings.Contains(f.message, want) || strings.Contains(f.message, "secretword") {
			t.Errorf("%s: %v", text, err)
		}
	}
}
