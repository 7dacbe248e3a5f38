package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spillway/spillway/channel"
)

// constantsOf are the string constants of a file whose names begin with prefix, or whose
// type is that.
func constantsOf(t *testing.T, path, prefix, typ string) (values []string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Values) != 1 {
			return true
		}
		id, _ := spec.Type.(*ast.Ident)
		lit, ok := spec.Values[0].(*ast.BasicLit)
		if ok && lit.Kind == token.STRING && (prefix != "" && strings.HasPrefix(spec.Names[0].Name, prefix) || id != nil && id.Name == typ) {
			values = append(values, strings.Trim(lit.Value, `"`))
		}
		return true
	})
	return values
}

// TestEveryAlarmIsExplained: each kind of alarm that the code can raise is in the list of
// kinds, and docs/operations.md says what it means and what to do.
func TestEveryAlarmIsExplained(t *testing.T) {
	kinds := append(constantsOf(t, "alarms.go", "alarm", ""), constantsOf(t, filepath.Join("..", "..", "chain", "several", "alarm.go"), "", "Kind")...)
	listed := alarmKinds()
	slices.Sort(kinds)
	slices.Sort(listed)
	if len(kinds) < 15 || !slices.Equal(kinds, listed) {
		t.Errorf("in the code %q, listed %q", kinds, listed)
	}
	raw, err := os.ReadFile(filepath.Join("..", "..", "docs", "operations.md"))
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]string{} // of tables whose first column names alarms
	for line := range strings.Lines(string(raw)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if len(cells) != 3 {
			continue
		}
		for _, name := range regexp.MustCompile("`([a-z]+)`").FindAllStringSubmatch(cells[0], -1) {
			rows[name[1]] += cells[1] + cells[2]
		}
	}
	for _, kind := range kinds {
		if len(rows[kind]) < 60 {
			t.Errorf("docs/operations.md does not say what the alarm %s means and what to do: %q", kind, rows[kind])
		}
	}
	for _, file := range parseHere(t) {
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || len(call.Args) < 2 {
				return true
			}
			f, ok := call.Fun.(*ast.SelectorExpr)
			if !ok || f.Sel.Name != "raise" && f.Sel.Name != "calm" && f.Sel.Name != "over" {
				return true
			}
			switch kind := call.Args[0].(type) {
			case *ast.Ident:
				if !strings.HasPrefix(kind.Name, "alarm") && kind.Name != "kind" {
					t.Errorf("an alarm of kind %s", kind.Name)
				}
			case *ast.CallExpr: // string(al.Kind) of backends that differ
			default:
				t.Errorf("an alarm whose kind is no constant: %T", kind)
			}
			return true
		})
	}
}

// TestAlarmsAreToldOnce: what is raised again says nothing new, and what is over can come
// again.
func TestAlarmsAreToldOnce(t *testing.T) {
	var told []string
	s := &alarms{told: func(a raised, over bool) { told = append(told, a.Kind+a.Subject+map[bool]string{true: " over"}[over]) }}
	if !s.raise(alarmDisk, "", "a") || s.raise(alarmDisk, "", "b") || !s.raise(alarmDeadline, "x", "c") || !s.raise(alarmDeadline, "y", "c") {
		t.Error("raised")
	}
	since := s.list()[0].Since
	if s.raise(alarmDisk, "", "newer"); s.list()[0].Text != "newer" || s.list()[0].Since != since || s.counts()[alarmDeadline] != 2 || s.counts()[alarmStale] != 0 {
		t.Errorf("%+v", s.list())
	}
	if !s.over(alarmDisk, "") || s.over(alarmDisk, "") || !s.raise(alarmDisk, "", "again") {
		t.Error("over")
	}
	if want := "disk;deadlinex;deadliney;disk over;disk"; strings.Join(told, ";") != want {
		t.Errorf("told %q", told)
	}
	var none *alarms
	if !none.raise(alarmDisk, "", "a") || none.over(alarmDisk, "") || len(none.list()) != 0 {
		t.Error("nil")
	}
}

// TestStoppedChannelIsAnAlarm: a stop is said, and stays an alarm.
func TestStoppedChannelIsAnAlarm(t *testing.T) {
	a := &app{out: &output{stdout: &said{}, stderr: &said{}}, alarms: &alarms{}}
	a.stopAlarm(&channel.StoppedError{Channel: "c:0", Reason: "why"})
	if all := a.alarms.list(); len(all) != 1 || all[0].Kind != alarmStopped || all[0].Subject != "c:0" || !strings.Contains(a.out.stderr.(*said).String(), "ALARM: ") {
		t.Errorf("%+v", all)
	}
}

// TestLate: a settlement is late some blocks after its margin began; in a duplex channel
// that ends where the state before the held one is valid, long before the expiry.
func TestLate(t *testing.T) {
	terms := channel.Terms{Expiry: 1000, Margin: 36, Step: 80, Capacity: 50}
	one := channel.PayeeRecord{Phase: channel.Open, Paid: 9, Terms: terms}
	two := channel.PayeeRecord{Phase: channel.Open, Paid: 9, Terms: terms, Duplex: &channel.Duplex{Held: channel.Update{Epoch: 3, Amount: 7}}}
	over := two
	over.Phase = channel.Closed
	none := channel.PayeeRecord{Phase: channel.Open, Terms: terms, Duplex: &channel.Duplex{}}
	for _, c := range []struct {
		what string
		r    channel.PayeeRecord
		from uint32 // 0: never
	}{{"one way", one, 976}, {"duplex", two, 816}, {"over", over, 0}, {"nothing held", none, 0}} {
		for _, tip := range []uint32{700, 815, 816, 975, 976, 1000, 1200} {
			if got, want := late(c.r, tip), c.from > 0 && tip >= c.from; got != want {
				t.Errorf("%s at %d: late %v", c.what, tip, got)
			}
		}
	}
	if text := overdue(two, 820); !strings.Contains(text, "7 sat") || !strings.Contains(text, "an older state is valid from height 840") {
		t.Error(text)
	}
	if text := overdue(one, 990); !strings.Contains(text, "9 sat") || !strings.Contains(text, "refund is valid from height 1000") {
		t.Error(text)
	}
	if said := (row{Role: "payee", Phase: "open", Paid: 9, Expiry: 1000, Until: two.Until()}).sentence(); !strings.Contains(said, "before height 840") {
		t.Error(said)
	}
}
