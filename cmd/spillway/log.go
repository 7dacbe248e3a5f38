package main

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"time"
)

// Levels of the log by their names. levelOff is above all that is ever logged.
const levelOff = slog.Level(100)

func levelOf(name string) (slog.Level, error) {
	switch name {
	case "off":
		return levelOff, nil
	case "error":
		return slog.LevelError, nil
	case "warn":
		return slog.LevelWarn, nil
	case "info":
		return slog.LevelInfo, nil
	case "debug":
		return slog.LevelDebug, nil
	default:
		return 0, fmt.Errorf("--log-level %q: off, error, warn, info or debug", clipped(name))
	}
}

// setLog chooses the form and the level of the log. Errors: of usage.
func (o *output) setLog(format, level string) error {
	if format != "text" && format != "json" {
		return usagef("--log-format %q: text or json", clipped(format))
	}
	o.logJSON = format == "json"
	o.byDefault = "off"
	if o.verbose {
		o.byDefault = "debug"
	}
	if level == "" {
		level = o.byDefault
	}
	return o.setLevel(level)
}

// setLevel changes the log's level, also of loggers that are there. Errors: of usage.
func (o *output) setLevel(name string) error {
	level, err := levelOf(name)
	if err != nil {
		return usage(err)
	}
	o.level.Set(level)
	return nil
}

// logger is what the packages log to: stderr, in the chosen form. Until setLog was called
// it logs nothing.
func (o *output) logger() *slog.Logger {
	if o.byDefault == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(o.handler(&o.level))
}

func (o *output) handler(level slog.Leveler) slog.Handler {
	options := &slog.HandlerOptions{Level: level}
	if o.logJSON {
		return slog.NewJSONHandler(&lockedWriter{o}, options)
	}
	return slog.NewTextHandler(&lockedWriter{o}, options)
}

// record writes what a person is told as a line of the log, where that is JSON: stderr
// then holds nothing else. It reports whether it was written.
func (o *output) record(level slog.Level, text string, args ...any) bool {
	if !o.logJSON {
		return false
	}
	var pc [1]uintptr
	runtime.Callers(3, pc[:])
	r := slog.NewRecord(time.Now(), level, strings.TrimSpace(text), pc[0])
	r.Add(args...)
	if err := o.handler(slog.LevelDebug).Handle(context.Background(), r); err != nil {
		return false
	}
	return true
}

// alarm says what somebody has to look at, also with --quiet.
func (o *output) alarm(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if o.record(slog.LevelError, text) {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if head, rest, ok := strings.Cut(text, ":"); ok {
		text = o.paint("31", head+":") + rest
	}
	if o.live == "" {
		fmt.Fprintln(o.stderr, text)
		return
	}
	fmt.Fprintf(o.stderr, "\r\x1b[2K%s\n%s", text, o.live)
}
