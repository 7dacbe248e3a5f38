package bench

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/spillway/spillway/script"
)

// small is a run that takes moments.
func small(t *testing.T) Config {
	return Config{Dir: t.TempDir(), Time: 10 * time.Millisecond, Rounds: 2, Channels: 200, File: 256 << 10, Payers: []int{2}}
}

// sound collects figures that are more than nothing.
func sound(t *testing.T, into *[]Figure) func(Figure) error {
	return func(f Figure) error {
		t.Helper()
		if f.Note == "" && (f.Value <= 0 || f.Bound <= 0 || f.Ratio <= 0 || f.Name == "" || f.Unit == "") {
			t.Errorf("%+v", f)
		}
		t.Log(f)
		*into = append(*into, f)
		return nil
	}
}

// Every kind of channel can be measured; what comes out is more than nothing.
func TestPayments(t *testing.T) {
	for _, kind := range []script.Construction{script.Taproot, script.Multisig} {
		for _, channels := range []int{1, 4} {
			var got []Figure
			if err := Payments(t.Context(), small(t), kind, channels, 2, sound(t, &got)); err != nil {
				t.Fatal(err)
			}
			if want := map[int]int{1: 6, 4: 5}[channels]; len(got) != want {
				t.Errorf("%d figures of %d channels", len(got), channels)
			}
		}
	}
}

func TestMemory(t *testing.T) {
	var got []Figure
	if err := Memory(t.Context(), small(t), sound(t, &got)); err != nil {
		t.Fatal(err)
	}
	if len(got) != 5 {
		t.Errorf("%d figures", len(got))
	}
}

// Every kind of download can be measured; where nginx is not installed it says so.
func TestDownload(t *testing.T) {
	var got []Figure
	if err := Download(t.Context(), small(t), sound(t, &got)); err != nil {
		t.Fatal(err)
	}
	if len(got) != 12 {
		t.Errorf("%d figures", len(got))
	}
}

func TestLatency(t *testing.T) {
	var got []Figure
	if err := Latency(t.Context(), small(t), sound(t, &got)); err != nil {
		t.Fatal(err)
	}
	if len(got) != 6 {
		t.Errorf("%d figures", len(got))
	}
}

// Parts can be chosen, others are refused, and nothing is left behind.
func TestRun(t *testing.T) {
	cfg, said := small(t), 0
	cfg.Say = func(string) { said++ }
	var got []Figure
	if err := Run(t.Context(), cfg, []string{"latency"}, sound(t, &got)); err != nil {
		t.Fatal(err)
	}
	if len(got) != 6 || said == 0 {
		t.Errorf("%d figures, %d words", len(got), said)
	}
	if err := Run(t.Context(), cfg, []string{"latency", "luck"}, sound(t, &got)); err == nil || len(got) != 6 {
		t.Errorf("%d figures, %v", len(got), err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Run(ctx, cfg, nil, sound(t, &got)); err == nil {
		t.Error("it went on")
	}
	left, err := os.ReadDir(cfg.Dir)
	if err != nil || len(left) != 0 {
		t.Errorf("%v was left behind, %v", left, err)
	}
}
