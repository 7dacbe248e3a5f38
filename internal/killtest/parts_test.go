//go:build linux && amd64

package killtest

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/btcsuite/btcd/wire/v2"
)

// shell runs a script under the trace.
func shell(t *testing.T, f Fault, script string) *process {
	t.Helper()
	p, err := spawn(&trace{fault: f}, []string{"/bin/sh", "-c", script}, environment(t.TempDir()), true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.kill(); err != nil {
			t.Error(err)
		}
	})
	if err := p.wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	return p
}

// A fault happens at the call that it names, before the call, and at no other.
func TestFaultsHappenWhereTheyAreNamed(t *testing.T) {
	const script = "cd %s; for i in 1 2 3 4; do echo $i > $i.bin || echo refused >&2; done; exec mv 1.bin one.bin"
	for name, c := range map[string]struct {
		fault  Fault
		end    int
		holds  string // what the files hold afterwards
		at     string
		refuse int
	}{
		"none":         {Fault{}, 0, "2 3 4 one=1", "", 0},
		"killed":       {Fault{Point: "write file", N: 3}, 128 + 9, "1=1 2=2 3=", "write file 3", 0},
		"fails once":   {Fault{Point: "write file", N: 2, Errno: syscall.ENOSPC}, 0, "2= 3 4 one=1", "write file 2", 1},
		"fails on":     {Fault{Point: "write file", N: 3, Errno: syscall.ENOSPC, Lasting: true}, 1, "1=1 2=2 3=", "write file 3", 2},
		"any disk":     {Fault{Point: AnyDisk, N: 3}, 128 + 9, "1=1", "create file 2", 0},
		"rename fails": {Fault{Point: "rename file", N: 1, Errno: syscall.EIO}, 1, "1=1 2 3 4", "rename file 1", 0},
		"not reached":  {Fault{Point: "write file", N: 5}, 0, "2 3 4 one=1", "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			p := shell(t, c.fault, strings.Replace(script, "%s", dir, 1))
			if got := p.code(); got != c.end {
				t.Errorf("ended with %d, want %d: %s", got, c.end, p.said())
			}
			if at, _ := p.fired(); at != c.at {
				t.Errorf("fired at %q, want %q", at, c.at)
			}
			if got := strings.Count(p.said(), "refused"); got != c.refuse {
				t.Errorf("%d writes were refused, want %d: %s", got, c.refuse, p.said())
			}
			if got := held(t, dir); !slices.Equal(got, want(c.holds)) {
				t.Errorf("the files hold %q, want %q", got, want(c.holds))
			}
		})
	}
}

// want spells out a short list of files: "2" is the file 2.bin that holds a 2.
func want(short string) (all []string) {
	for _, w := range strings.Fields(short) {
		if !strings.Contains(w, "=") {
			w += "=" + w
		}
		all = append(all, w)
	}
	return all
}

func held(t *testing.T, dir string) (all []string) {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		raw, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, strings.TrimSuffix(f.Name(), ".bin")+"="+strings.TrimSpace(string(raw)))
	}
	return all
}

// A long layout has every fault of every number once, also where it is laid out again.
func TestRoundsCoverASession(t *testing.T) {
	s := Session{"payer disk": 40, "payee disk": 30, "payer sync": 9, "payer write wal": 40, "payee rename outboard": 1, "payer create db": 1, "payee create db": 1, "payer ask chain GET tx": 25}
	all := s.Rounds(400, 7)
	seen := map[string]int{}
	for i, r := range all {
		if r.Number != i || r.Channel == "" || r.Kind != Moment && r.Fault.N == 0 {
			t.Fatalf("round %d is %+v", i, r)
		}
		seen[r.Kind+" "+r.Role]++
	}
	for kind, n := range map[string]int{"full payer": 40, "full payee": 30, "full-once payer": 40, "full-once payee": 30, "sync-fail payer": 9,
		"point payer": 44, "point payee": 2, "call-fail payee": 2, "call-fail payer": 1, "moment ": 202} {
		if seen[kind] != n {
			t.Errorf("%d rounds of %s, want %d", seen[kind], kind, n)
		}
	}
	for range 20 {
		if !slices.Equal(all, s.Rounds(400, 7)) {
			t.Fatal("the same seed gives other rounds")
		}
	}
	few := map[string]int{}
	for _, r := range s.Rounds(30, 7) {
		few[r.Kind]++
	}
	if len(few) != 6 {
		t.Errorf("the first rounds are not of all kinds: %v", few)
	}
}

// A run that was killed while it wrote goes on after the last whole line.
func TestProgressGoesOn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "p.jsonl")
	s := Session{"payer disk": 3}
	p, err := OpenProgress(path, 5)
	if err != nil {
		t.Fatal(err)
	}
	rounds := s.Rounds(10, 5)
	if err := p.Begin(s); err != nil {
		t.Fatal(err)
	}
	for i, why := range []string{"", "it failed", ""} {
		if err := p.Add(Outcome{Round: rounds[i], Error: why, Kills: 2, Whole: true}); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, raw[:len(raw)-20], 0o644); err != nil {
		t.Fatal(err)
	}
	if p, err = OpenProgress(path, 99); err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	left, failed := p.Left(rounds), p.Failed()
	if p.Seed != 5 || p.Session["payer disk"] != 3 || len(p.Done) != 2 || len(left) != 8 || left[0].Number != 2 || len(failed) != 1 || failed[0].Number != 1 {
		t.Fatalf("%+v, left %d, failed %v", p, len(left), failed)
	}
	if err := p.Add(Outcome{Round: rounds[1], Whole: true}); err != nil {
		t.Fatal(err)
	}
	if sum := Sum(p.Newest()); sum.Rounds != 2 || sum.Failed != 0 || sum.Whole != 2 || sum.Kills != 2 {
		t.Errorf("%+v", sum)
	}
}

func TestShares(t *testing.T) {
	pays := func(values ...int64) *wire.MsgTx {
		tx := wire.NewMsgTx(3)
		tx.AddTxIn(&wire.TxIn{})
		for _, v := range values {
			tx.AddTxOut(wire.NewTxOut(v, nil))
		}
		return tx
	}
	for _, c := range []struct {
		tx *wire.MsgTx
		ok bool
	}{
		{pays(700, 250), true}, // 300 paid of 1000, a fee of 50
		{pays(250, 700), true},
		{pays(699, 251), false}, // a satoshi of the payer's
		{pays(700, 300), false}, // no fee
		{pays(950), false},
		{pays(650, 300), false}, // the payer paid the fee
	} {
		if err := shares(c.tx, 1000, 300); (err == nil) != c.ok {
			t.Errorf("%v: %v", c.tx.TxOut, err)
		}
	}
}
