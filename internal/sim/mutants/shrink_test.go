package mutants

import (
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/spillway/spillway/internal/sim"
)

// most is how many events a failure of these breakages needs at most.
const most = 60

// A failing run is reduced, and the one command that is printed replays it: with the
// breakage it fails in the same words, without it nothing is wrong.
func TestShrinkAndReplay(t *testing.T) {
	root, err := Root(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"charge-not-saved", "signed-not-saved"} {
		t.Run(name, func(t *testing.T) {
			m, err := ByName(name)
			if err != nil {
				t.Fatal(err)
			}
			program, err := m.Build(t.Context(), root, t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			said := fails(t, exec.CommandContext(t.Context(), program, "-first", "-seeds", "0:200", "-workers", "1"))
			var seed uint64
			if _, err := fmt.Sscanf(said, "seed %d", &seed); err != nil {
				t.Fatalf("%v: %s", err, said)
			}
			told := fails(t, exec.CommandContext(t.Context(), program, "-seed", fmt.Sprint(seed), "-shrink", "-tries", "400"))
			replay := regexp.MustCompile(`replay: go run ./internal/sim/cmd/sim (.*)\n`).FindStringSubmatch(told)
			if replay == nil {
				t.Fatalf("no command is printed:\n%s", told)
			}
			args := strings.Fields(replay[1])
			plan, err := sim.ParsePlan(args[3])
			if err != nil || len(plan.Keep) > most {
				t.Fatalf("%d events are left, %v: %s", len(plan.Keep), err, args[3])
			}
			again := fails(t, exec.CommandContext(t.Context(), program, args...))
			if violation(again) != violation(told) || violation(told) == "" {
				t.Errorf("it was %q, and replays as %q", violation(told), violation(again))
			}
			if right := sim.RunPlan(seed, plan, nil); len(right.Violations) > 0 {
				t.Errorf("without the breakage: %v", right.Violations)
			}
			t.Logf("seed %d, %d events: %s", seed, len(plan.Keep), violation(told))
		})
	}
}

// fails runs a program that reports violations and returns what it printed.
func fails(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	out, err := cmd.Output()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
	}
	return string(out)
}

// violation is the first violation of a story.
func violation(story string) string {
	_, rest, _ := strings.Cut(story, "VIOLATION ")
	line, _, _ := strings.Cut(rest, "\n")
	return line
}
