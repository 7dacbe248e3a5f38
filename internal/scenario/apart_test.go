package scenario

import (
	"context"
	"flag"
	"os"
	"testing"

	"github.com/spillway/spillway/script"
)

// actorVariable makes this test program an actor's process.
const actorVariable = "SPILLWAY_SCENARIO_ACTOR"

func TestMain(m *testing.M) {
	if os.Getenv(actorVariable) != "" {
		if err := Act(context.Background(), os.Stdin, os.Stdout); err != nil {
			os.Stderr.WriteString(err.Error() + "\n")
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// company are actors that this test program plays.
func company(t *testing.T) Company {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return Company{Path: exe, Args: []string{exe}, Env: append(os.Environ(), actorVariable+"=1"), Dir: t.TempDir()}
}

// all plays every story by processes in every kind of channel; else each is played in one.
var all = flag.Bool("all", false, "play every story by processes in every kind of channel")

// Every story, played by processes, ends with the sums that it ends with in one, to
// the satoshi, and leaves nothing behind.
func TestApart(t *testing.T) {
	sums := exactEnds(t)
	for i, sc := range List() {
		for k, kind := range sc.Channels {
			if !*all && k != i%len(sc.Channels) {
				continue
			}
			t.Run(sc.Name+"/"+string(kind), func(t *testing.T) {
				t.Parallel()
				apartly(t, sc, kind, sums)
			})
		}
	}
}

func apartly(t *testing.T, sc Scenario, kind script.Construction, sums map[string]exact) {
	c := company(t)
	r, err := sc.PlayApart(t.Context(), kind, func(line string) { t.Log(line) }, c)
	if err != nil {
		t.Fatal(err)
	}
	if !r.OK || len(r.Failed) > 0 {
		t.Fatalf("it did not end well: %q", r.Failed)
	}
	want := ends[sc.Name]
	if kind == Ladder {
		want = ladderEnd
	}
	want.check(t, r)
	checkExact(t, sums, r)
	left, err := os.ReadDir(c.Dir)
	if err != nil || len(left) > 0 {
		t.Errorf("%d folders are left: %v", len(left), err)
	}
}
