package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/spillway/spillway/internal/sim"
)

// asProgram makes the test binary the program itself.
const asProgram = "SPILLWAY_SIM_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		os.Exit(run())
	}
	os.Exit(m.Run())
}

// program is a process of the simulator with these arguments.
func program(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, os.Args[0], args...)
	cmd.Env = append(os.Environ(), asProgram+"=1")
	return cmd
}

// total reads the last line that a run printed.
func total(t *testing.T, cmd *exec.Cmd) sim.Result {
	t.Helper()
	var failed bytes.Buffer
	cmd.Stderr = &failed
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s%s", err, out, failed.String())
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	var r sim.Result
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &r); err != nil {
		t.Fatalf("the last line is no result: %v\n%s", err, out)
	}
	return r
}

// saved is how far a state file says that a run has come; 0 where there is none yet.
func saved(t *testing.T, file string) uint64 {
	t.Helper()
	raw, err := os.ReadFile(file)
	if os.IsNotExist(err) {
		return 0
	}
	if err != nil {
		t.Fatal(err)
	}
	var p progress
	if err := json.Unmarshal(raw, &p); err != nil {
		t.Fatalf("the state file is torn: %v", err)
	}
	return p.Next
}

// killAt starts a run and kills it once its state file is past a seed.
func killAt(t *testing.T, file string, past uint64, args ...string) {
	t.Helper()
	cmd := program(t.Context(), args...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(2 * time.Minute); saved(t, file) <= past; <-tick.C {
		if time.Now().After(end) {
			t.Fatal("the run does not come forward")
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Log("it was over before it was killed")
	}
}

// A run that is killed again and again, and goes on where its state file says, comes
// to the same as one that was left alone.
func TestKilledRunGoesOn(t *testing.T) {
	file := filepath.Join(t.TempDir(), "state.json")
	args := []string{"-seeds", "40:56", "-workers", "1", "-every", "2", "-json", "-state", file}
	for _, past := range []uint64{40, 44, 48} {
		killAt(t, file, past, args...)
		if next := saved(t, file); next > 56 || next <= past {
			t.Fatalf("killed after seed %d the state says %d", past, next)
		}
	}
	broken := total(t, program(t.Context(), args...))
	whole := total(t, program(t.Context(), "-seeds", "40:56", "-workers", "2", "-json"))
	if !reflect.DeepEqual(broken, whole) {
		t.Errorf("killed three times: %+v\nleft alone: %+v", broken, whole)
	}
	if whole.Seeds != 16 || whole.Events < 16*500 {
		t.Errorf("%d seeds and %d events", whole.Seeds, whole.Events)
	}
	again := total(t, program(t.Context(), args...)) // it is over: nothing is run again
	if !reflect.DeepEqual(again, whole) {
		t.Errorf("asked again: %+v", again)
	}
	other := program(t.Context(), "-seeds", "40:57", "-state", file)
	if out, err := other.CombinedOutput(); err == nil || !strings.Contains(string(out), "40:56") {
		t.Errorf("the state of another range was taken: %v\n%s", err, out)
	}
}
