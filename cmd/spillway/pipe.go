package main

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"golang.org/x/term"

	"github.com/spillway/spillway/download"
)

// streamsFolder is where, in the payer's folder, files are kept that go to a pipe,
// until they are whole and paid.
const streamsFolder = "streams"

// toPipe has files written to the standard output, one after the other. What is said
// goes to stderr from here on. A reader that goes away is an error like others, not
// the end of the process: what came is kept.
func (a *app) toPipe(wants []download.Want) error {
	if file, ok := a.out.stdout.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		return usagef("-o - writes the file to the standard output, which is a terminal: send it to a pipe or a file")
	}
	for _, w := range wants {
		if isFolder(w.URL) {
			return usagef("-o - takes files, and %s is a folder", w.URL)
		}
	}
	signal.Ignore(syscall.SIGPIPE)
	to := a.out.stdout
	a.out.stdout = a.out.stderr
	for i := range wants {
		sum := sha256.Sum256([]byte(wants[i].URL))
		wants[i].Stream = to
		wants[i].Dir = filepath.Join(a.folder("payer"), streamsFolder)
		wants[i].Path = filepath.Join(wants[i].Dir, hex.EncodeToString(sum[:16]))
	}
	return nil
}

// shownPath is where a purchase's bytes are, for a person.
func shownPath(p *download.Plan, path string) string {
	if p.Want.Stream != nil {
		return "-"
	}
	return path
}
