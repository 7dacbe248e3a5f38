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
