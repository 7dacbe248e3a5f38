package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// result is what came of a target's runs without a finding.
type result struct {
	Seconds float64 `json:"seconds"`
	Execs   uint64  `json:"execs"`
	Seeds   int     `json:"seeds"` // inputs that plain go test replays
	When    string  `json:"when"`  // day of the last run
}

// plus adds an earlier result.
func (r result) plus(old result) result {
	r.Seconds += old.Seconds
	r.Execs += old.Execs
	return r
}

// name is an input's file name, after its content.
func name(raw []byte) string {
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:8])
}

// readRecord reads all results; none where there is no file yet.
func readRecord(path string) (map[string]result, error) {
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return map[string]result{}, nil
	} else if err != nil {
		return nil, err
	}
	var all map[string]result
	if err := json.Unmarshal(raw, &all); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return all, nil
}

// saveResult adds one result to the record.
func saveResult(path, id string, r result) error {
	all, err := readRecord(path)
	if err != nil {
		return err
	}
	all[id] = r
	raw, err := json.MarshalIndent(all, "", "\t")
	if err != nil {
		return err
	}
	return replace(path, append(raw, '\n'))
}

// replace writes a file in one step.
func replace(path string, raw []byte) error {
	if err := os.WriteFile(path+".new", raw, 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// Marks between which the table stands.
const (
	tableBegin = "<!-- table: go run ./tools/fuzz -table -->\n"
	tableEnd   = "<!-- end of the table -->\n"
)

// writeTable writes the table of all targets into the document.
func writeTable(o options, targets []target) error {
	results, err := readRecord(o.record)
	if err != nil {
		return err
	}
	raw, err := os.ReadFile(o.doc)
	if err != nil {
		return err
	}
	before, rest, ok1 := strings.Cut(string(raw), tableBegin)
	_, after, ok2 := strings.Cut(rest, tableEnd)
	if !ok1 || !ok2 {
		return fmt.Errorf("%s has no place for the table", o.doc)
	}
	var b strings.Builder
	b.WriteString("\n| target | what it holds | inputs replayed | committed | time | executions |\n|---|---|--:|--:|--:|--:|\n")
	var seconds float64
	var execs uint64
	for _, t := range targets {
		r, ok := results[t.id()]
		size, err := t.committed()
		if err != nil {
			return err
		}
		row := []string{"–", "–", "–"}
		if ok {
			row = []string{fmt.Sprint(r.Seeds), fmt.Sprintf("%.0f s", r.Seconds), fmt.Sprint(r.Execs)}
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %.1f KiB | %s | %s |\n", t.id(), strings.ReplaceAll(t.holds, "|", "\\|"), row[0], float64(size)/1024, row[1], row[2])
		seconds, execs = seconds+r.Seconds, execs+r.Execs
	}
	fmt.Fprintf(&b, "\n%d targets, %.0f minutes, %d executions.\n\n", len(targets), seconds/60, execs)
	return replace(o.doc, []byte(before+tableBegin+b.String()+tableEnd+after))
}

// committed is the size of the target's committed corpus, in bytes.
func (t target) committed() (size int64, err error) {
	entries, err := os.ReadDir(t.corpus())
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	} else if err != nil {
		return 0, err
	}
	for _, e := range entries {
		info, err := os.Stat(filepath.Join(t.corpus(), e.Name()))
		if err != nil {
			return 0, err
		}
		size += info.Size()
	}
	return size, nil
}
