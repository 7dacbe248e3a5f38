package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"

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
			false: {"5000 sat short", "It did not end as it has to.", "refused: non-final\n"},
		}[asJSON] {
			if !strings.Contains(stdout.String(), want) {
				t.Errorf("%q is missing in %s", want, stdout.String())
			}
		}
	}
}
