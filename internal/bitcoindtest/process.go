package bitcoindtest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/spillway/spillway/internal/programs"
)

// process is a node's program and how it was started.
type process struct {
	path, dir string
	args      []string
	kill      func() // kills it and waits
	wait      func() // waits until it has ended by itself
}

// launch starts the program and waits until it answers.
func (n *Node) launch() error {
	cmd := exec.Command(n.proc.path, n.proc.args...)
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := os.Remove(n.CookieFile()); err != nil && !os.IsNotExist(err) { // that of an earlier run
		return err
	}
	exited, err := programs.Start(cmd)
	if err != nil {
		return err
	}
	n.proc.kill = func() {
		_ = cmd.Process.Kill() // it may have exited by itself
		<-exited
	}
	n.proc.wait = func() { <-exited }
	if err := n.await(n.CookieFile(), exited); err != nil {
		n.proc.kill()
		return fmt.Errorf("%w\n%s", err, log.String())
	}
	return nil
}

func (n *Node) kill() { n.proc.kill() }

// CookieFile is the path of the file that holds the node's credentials, new at
// each start.
func (n *Node) CookieFile() string { return filepath.Join(n.proc.dir, "regtest", ".cookie") }

// URL is the node's RPC endpoint, without credentials.
func (n *Node) URL() string { return n.url }

// Host is the host and port of the RPC endpoint.
func (n *Node) Host() string { return strings.TrimPrefix(n.url, "http://") }

// Restart stops the node in an orderly way and starts it again with the same
// folder and address: its mempool is then empty, its cookie another.
func (n *Node) Restart() {
	n.t.Helper()
	n.call(nil, "stop")
	n.proc.wait()
	if err := n.launch(); err != nil {
		n.t.Fatalf("bitcoind does not start again: %v", err)
	}
}
