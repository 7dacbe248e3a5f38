package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/spillway/spillway/internal/scenario"
)

// A story that did not end as it has to is told, and is exit code 1.
func TestScenarioThatEndsBadly(t *testing.T) {
	for _, asJSON := range []bool{false, true} {
		var stdout, stderr bytes.Buffer
		a := &app{out: newOutput(&stdout, &stderr)}
		a.out.configure(asJSON, false, false)
		r := &scenario.Result{Scenario: "payer-vanishes", Channel: "taproot", Honest: scenario.Payee,
			Owed: scenario.Amounts{Payer: 45_000, Payee: 5_000}, Got: scenario.Amounts{Payer: 49_800}, Failed: []string{"the provider got nothing"},
			Transactions: []scenario.Transaction{{Role: "settlement", By: scenario.Payee}, {Role: "refund", By: scenario.Payer, Refused: "non-final (locked)"}}}
		err := a.endScenario(r)
		var f *failure
		if !errors.As(err, &f) || f.exit != exitDefect || !strings.Contains(f.message, "the provider got nothing") {
			t.Fatalf("%v", err)
		}
		if code := a.out.fail(err); code != 1 {
			t.Errorf("exit code %d", code)
		}
		for _, want := range map[bool][]string{
			true:  {`"type":"result"`, `"ok":false`, `"failed":["the provider got nothing"]`, `"type":"error"`, `"exit":1`},
			false: {"5,000 sat short", "It did not end as it has to.", "refused: non-final\n"},
		}[asJSON] {
			if !strings.Contains(stdout.String(), want) {
				t.Errorf("%q is missing in %s", want, stdout.String())
			}
		}
	}
}

// cmdSums: sums NAME/KIND compares a story's result with the sums that are written
// down for it, to the satoshi.
func cmdSums(ts *testscript.TestScript, _ bool, args []string) {
	raw, err := os.ReadFile(filepath.Join(packageDir, "..", "..", "internal", "scenario", "testdata", "ends.txt"))
	ts.Check(err)
	paths := []string{"owed", "got", "fees", "wallets.had", "wallets.funding", "wallets.has"}
	for line := range strings.Lines(string(raw)) {
		fields := strings.Fields(line)
		if len(fields) == 0 || fields[0] != args[0] {
			continue
		}
		var want []string
		for i, sum := range fields[1:] {
			want = append(want, paths[i/2]+[]string{".payer_sat=", ".payee_sat="}[i%2]+sum)
		}
		cmdJSON(ts, false, want)
		return
	}
	ts.Fatalf("no sums are written down for %s", args[0])
}

// packageDir is where this package's files are; a script runs elsewhere.
var packageDir = func() string {
	dir, err := os.Getwd()
	if err != nil {
		panic(err)
	}
	return dir
}()

// The program that tells a story may be killed: its actors go with it.
func TestScenarioKilled(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(t.TempDir(), "spillway") // the test program is the command where it has its name
	if err := os.Symlink(exe, program); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, "demo", "--scenario", "newcomers-steal-credit")
	cmd.Env = append(os.Environ(), "TMPDIR="+t.TempDir())
	out, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var pids []int
	number := regexp.MustCompile(`process (\d+)`)
	for scan := bufio.NewScanner(out); len(pids) == 0 && scan.Scan(); {
		for _, m := range number.FindAllStringSubmatch(scan.Text(), -1) {
			pid := 0
			if _, err := fmt.Sscan(m[1], &pid); err != nil {
				t.Fatal(err)
			}
			pids = append(pids, pid)
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil || len(pids) != 3 {
		t.Fatalf("%d actors; the program ended with %v", len(pids), err)
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for _, pid := range pids {
		for syscall.Kill(pid, 0) == nil {
			select {
			case <-ctx.Done():
				t.Fatalf("process %d does not end", pid)
			case <-tick.C:
			}
		}
	}
}
