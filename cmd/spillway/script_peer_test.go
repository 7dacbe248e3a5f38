package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/rogpeppe/go-internal/testscript"
)

// peerKey is where a script keeps the providers that run beside each other, by name;
// each has its own folders.
type peerKey struct{}

func peersOf(ts *testscript.TestScript) map[string]*process {
	return ts.Value(peerKey{}).(map[string]*process)
}

// cmdPeer: peer NAME start FILES ARGS… | peer NAME kill | peer NAME stop. FILES is how
// many files to wait for. The URL is kept in $NAME_URL; a restart keeps the address.
func cmdPeer(ts *testscript.TestScript, _ bool, args []string) {
	name, what := args[0], args[1]
	switch what {
	case "start":
		files, err := strconv.Atoi(args[2])
		ts.Check(err)
		listen := "127.0.0.1:0"
		if url := ts.Getenv(name + "_URL"); url != "" {
			listen = strings.TrimPrefix(url, "http://")
		}
		p := launch(ts, append([]string{"serve", "--json", "--data", ts.MkAbs(name), "--listen", listen}, args[3:]...))
		ts.Setenv(name+"_URL", fmt.Sprint(p.await(ts, "serving")["url"]))
		for range files {
			p.await(ts, "file")
		}
		peersOf(ts)[name] = p
		ts.Defer(func() { p.end(os.Interrupt) })
	case "kill":
		peersOf(ts)[name].end(syscall.SIGKILL)
	case "stop":
		peersOf(ts)[name].end(os.Interrupt)
	default:
		ts.Fatalf("peer %s %s?", name, what)
	}
}
