package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"

	"golang.org/x/term"
)

// output is where an invocation writes: results to stdout, everything that
// happens on the way to stderr.
type output struct {
	mu       sync.Mutex
	stdout   io.Writer
	stderr   io.Writer
	json     bool
	quiet    bool
	verbose  bool
	terminal bool // stderr is one: bars may be drawn
	color    bool
	hints    *hints // nil: commands that are named stay as they are
	live     string // the line below everything that is said; "": none

	level     slog.LevelVar
	logJSON   bool   // the log is JSON, and everything on stderr is a line of it
	byDefault string // the log's level where nothing is said; "": the log is not set up
}

func newOutput(stdout, stderr io.Writer) *output {
	o := &output{stdout: stdout, stderr: stderr}
	if f, ok := stderr.(*os.File); ok {
		o.terminal = term.IsTerminal(int(f.Fd()))
	}
	o.color = o.terminal && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	return o
}

func (o *output) configure(json, quiet, verbose bool) {
	o.json, o.quiet, o.verbose = json, quiet, verbose
}

// say tells a person what happens.
func (o *output) say(format string, args ...any) {
	text := o.hints.runnable(fmt.Sprintf(format, args...))
	if o.quiet || o.logJSON && o.record(slog.LevelInfo, text) {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.live == "" {
		fmt.Fprintln(o.stderr, grouped(text))
		return
	}
	fmt.Fprintf(o.stderr, "\r\x1b[2K%s\n%s", grouped(text), o.live)
}

// setLive draws a line below everything that is said, on a terminal only; "" takes
// it away.
func (o *output) setLive(line string) {
	if !o.drawn() {
		return
	}
	if f, ok := o.stderr.(*os.File); ok {
		if columns, _, err := term.GetSize(int(f.Fd())); err == nil && !o.color {
			line = clip(line, columns-1)
		} else if err == nil {
			line = clip(line, columns+7) // the colour takes no column
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.live = line
	fmt.Fprintf(o.stderr, "\r\x1b[2K%s", line)
}

// print writes a result for a person; with --json it is left out, the line of
// type result carries the same.
func (o *output) print(format string, args ...any) {
	if o.json {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	fmt.Fprintln(o.stdout, grouped(o.hints.runnable(fmt.Sprintf(format, args...))))
}

// event writes one JSON line where --json is set. v is a struct or a map; typ
// becomes its "type".
func (o *output) event(typ string, v any) error {
	if !o.json {
		return nil
	}
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	head, err := json.Marshal(typ)
	if err != nil {
		return err
	}
	line := append([]byte(`{"type":`), head...)
	if len(raw) > 2 {
		line = append(append(line, ','), raw[1:]...)
	} else {
		line = append(line, '}')
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	_, err = fmt.Fprintf(o.stdout, "%s\n", line)
	return err
}

// result writes the last line of a command that worked.
func (o *output) result(v any) error { return o.event("result", v) }

// fail writes an error in three parts and returns the exit code.
func (o *output) fail(err error) int {
	f := *explain(err)
	f.next = o.hints.runnable(f.next)
	for _, part := range []*string{&f.message, &f.money, &f.next} {
		*part = clip(printable(strings.ReplaceAll(*part, "\n", "; ")), maxSentence)
	}
	if o.json {
		line := map[string]any{"code": f.code, "exit": f.exit, "message": f.message, "money": f.money, "next": f.next}
		if err := o.event("error", line); err != nil {
			return exitDefect
		}
		return f.exit
	}
	if o.record(slog.LevelError, f.message, "code", f.code, "exit", f.exit, "money", f.money, "next", f.next) {
		return f.exit
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	fmt.Fprintf(o.stderr, "%s %s\n", o.paint("31", "spillway:"), grouped(f.message))
	fmt.Fprintf(o.stderr, "  money: %s\n  next:  %s\n", grouped(f.money), f.next)
	return f.exit
}

// drawn reports whether lines may be drawn over on this terminal.
func (o *output) drawn() bool { return o.terminal && !o.quiet && !o.json && !o.logJSON }

// redraw draws a line over the one that was drawn before, cut to the terminal's
// width: a line that wraps could not be drawn over.
func (o *output) redraw(line string) {
	if f, ok := o.stderr.(*os.File); ok {
		if columns, _, err := term.GetSize(int(f.Fd())); err == nil {
			line = clip(line, columns-1)
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	fmt.Fprintf(o.stderr, "\r\x1b[2K%s", line)
}

// paint colours a text where that is wanted.
func (o *output) paint(code, text string) string {
	if !o.color {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

type lockedWriter struct{ o *output }

func (w *lockedWriter) Write(p []byte) (int, error) {
	w.o.mu.Lock()
	defer w.o.mu.Unlock()
	return w.o.stderr.Write(p)
}
