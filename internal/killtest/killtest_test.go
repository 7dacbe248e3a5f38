//go:build linux && amd64

package killtest

import (
	"encoding/json"
	"os"
	"testing"
)

func TestMain(m *testing.M) {
	Shim()
	os.Exit(m.Run())
}

// disk is a folder on a real disk: the tests' own, or, where that is memory, one in
// the user's cache.
func disk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if OnDisk(dir) == nil {
		return dir
	}
	cache, err := os.UserCacheDir()
	if err == nil {
		err = os.MkdirAll(cache, 0o700)
	}
	if err == nil {
		dir, err = os.MkdirTemp(cache, "spillway-killtest-")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// A hundred sessions with kills and refusing disks, drawn evenly over everything
// that can happen: no payment is lost, nothing is paid twice, every file is whole.
func TestHundredRounds(t *testing.T) {
	s, err := NewStand(t.Context(), disk(t), os.Getenv("KILLTEST_BINARY"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	session, err := s.Measure(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("a session passes %v", session)
	var all []Outcome
	err = s.Run(t.Context(), session.Rounds(100, 1), 3, func(o Outcome) error {
		raw, err := json.Marshal(o)
		t.Logf("%s", raw)
		all = append(all, o)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	sum := Sum(all)
	for _, failure := range sum.Failures {
		t.Error(failure)
	}
	if sum.Failures = nil; sum.Rounds != 100 || sum.Lost != 0 || sum.Double != 0 || sum.Whole != 100 || sum.Books != 100 {
		t.Errorf("not everything was kept: %+v", sum)
	}
	if sum.Missed > 25 || sum.Acked < 800 || sum.Kills < 40 || len(sum.Faults) < 6 || len(sum.KillsAt) < 20 {
		t.Errorf("too little happened to prove anything: %+v", sum)
	}
	t.Logf("%+v", sum)
}
