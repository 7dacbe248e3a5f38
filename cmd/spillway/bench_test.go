package main

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"
)

// bench prints a line a figure and a result, and leaves nothing behind; what it cannot
// measure is a usage error.
func TestBench(t *testing.T) {
	dir := t.TempDir()
	var out, said bytes.Buffer
	exit := runUntil(t.Context(), []string{"bench", "latency", "--json", "--seconds=0.01", "--dir", dir}, strings.NewReader(""), &out, &said)
	if exit != exitDone {
		t.Fatalf("exit %d: %s", exit, said.String())
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	for i, line := range lines {
		var got struct {
			Type, Name, Unit, Baseline string
			Value, Ratio               float64
			Figures                    int
		}
		if err := json.Unmarshal([]byte(line), &got); err != nil {
			t.Fatal(err)
		}
		last := i == len(lines)-1
		if !last && (got.Type != "figure" || got.Name == "" || got.Unit == "" || got.Baseline == "" || got.Value <= 0 || got.Ratio <= 0) ||
			last && (got.Type != "result" || got.Figures != i || i != 6) {
			t.Errorf("line %d: %s", i, line)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("%v was left behind, %v", left, err)
	}
	for _, bad := range []string{"luck", "--seconds=0", "--seconds=NaN", "--rounds=0", "--dir=" + dir + "/none"} {
		if exit := runUntil(t.Context(), []string{"bench", "latency", bad}, strings.NewReader(""), &out, &said); exit != exitUsage {
			t.Errorf("%s: exit %d", bad, exit)
		}
	}
}
