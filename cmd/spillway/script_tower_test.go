package main

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

type towerKey struct{}

// cmdTower: tower start ARGS… | tower await KIND FIELD=VALUE… | tower kill | tower
// stop. The URL is kept in $TOWER; a restart keeps the address.
func cmdTower(ts *testscript.TestScript, _ bool, args []string) {
	running := ts.Value(towerKey{}).(*process)
	switch args[0] {
	case "start":
		listen := "127.0.0.1:0"
		if url := ts.Getenv("TOWER"); url != "" {
			listen = strings.TrimPrefix(url, "http://")
		}
		p := launch(ts, append([]string{"tower", "--json", "--listen", listen}, args[1:]...))
		ts.Setenv("TOWER", fmt.Sprint(p.await(ts, "tower")["url"]))
		*running = *p
		ts.Defer(func() { p.end(os.Interrupt) })
	case "await":
		limit := time.Now().Add(time.Minute)
		for time.Now().Before(limit) {
			if line := running.await(ts, args[1]); matches(line, args[2:]) {
				return
			}
		}
		ts.Fatalf("no %v within a minute", args[1:])
	case "kill":
		running.end(syscall.SIGKILL)
	case "stop":
		running.end(os.Interrupt)
	default:
		ts.Fatalf("tower %s?", args[0])
	}
}

// matches reports whether a line has all these fields.
func matches(line map[string]any, fields []string) bool {
	for _, f := range fields {
		name, want, _ := strings.Cut(f, "=")
		if fmt.Sprint(line[name]) != want {
			return false
		}
	}
	return true
}
