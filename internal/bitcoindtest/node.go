// Package bitcoindtest runs a real bitcoind on regtest for tests: what the
// network relays and mines is asked of it, not of our own code. It fetches the
// program where it is missing and fails where it cannot; it never skips. It is
// for tests only and never talks to another node.
package bitcoindtest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// startLimit bounds the wait for a node to answer.
const startLimit = 60 * time.Second

// rpcLimit bounds one call.
const rpcLimit = 60 * time.Second

// Node is a running bitcoind of one test. Its calls are not safe for concurrent
// use, except RPC.
type Node struct {
	t      testing.TB
	url    string
	user   string
	pass   string
	client http.Client
	purse  purse
	proc   process
	coins  []coin
	branch uint32 // counts the blocks of branches
}

// Error is an error that the node answered with.
type Error struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
}

// Error is the node's message with its code.
func (e *Error) Error() string { return fmt.Sprintf("bitcoind: %s (%d)", e.Message, e.Code) }

// Start runs a bitcoind of its own in a folder of the test, with Bitcoin Core's
// relay rules, no peers and no wallet, and mines until Fund has money. It is
// killed when the test ends. Where there is no bitcoind the test fails. Further
// arguments come last and win, such as -txindex=0.
func Start(t testing.TB, args ...string) *Node {
	t.Helper()
	path := Program(t)
	var err error
	for range 3 { // the free port may be taken before bitcoind binds it
		var n *Node
		if n, err = start(t, path, args); err == nil {
			n.fillPurse()
			return n
		}
	}
	t.Fatalf("bitcoind does not start: %v", err)
	return nil
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	port := l.Addr().(*net.TCPAddr).Port
	return port, l.Close()
}

func start(t testing.TB, path string, args []string) (*Node, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	dir := t.TempDir()
	n := &Node{t: t, url: fmt.Sprintf("http://127.0.0.1:%d", port), client: http.Client{Timeout: rpcLimit}}
	n.proc = process{path: path, dir: dir, args: append([]string{"-regtest", "-corepolicy=1", "-acceptnonstdtxn=0", "-server=1", "-txindex=1",
		"-listen=0", "-connect=0", "-dnsseed=0", "-rpcbind=127.0.0.1", "-rpcallowip=127.0.0.1", "-rpcport=" + strconv.Itoa(port),
		"-fallbackfee=0.00001", "-disablewallet=1", "-persistmempool=0", "-datadir=" + dir}, args...)}
	if err := n.launch(); err != nil {
		return nil, err
	}
	t.Cleanup(func() {
		n.kill()
		n.client.CloseIdleConnections()
	})
	return n, nil
}

// await reads the cookie and waits until the node answers.
func (n *Node) await(cookie string, exited <-chan error) error {
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		var height int64
		raw, err := os.ReadFile(cookie)
		if err == nil {
			n.user, n.pass, _ = strings.Cut(string(raw), ":")
			if err = n.RPC(&height, "getblockcount"); err == nil {
				return nil
			}
		}
		select {
		case <-tick.C:
		case exit := <-exited:
			return fmt.Errorf("it exited: %w", errors.Join(exit, err))
		case <-ctx.Done():
			return fmt.Errorf("no answer within %s: %w", startLimit, err)
		}
	}
}

// RPC calls a method and decodes its answer into result, unless that is nil.
// Errors: *Error for a refusal by the node, or those of the transport.
func (n *Node) RPC(result any, method string, params ...any) error {
	if params == nil {
		params = []any{}
	}
	body, err := json.Marshal(map[string]any{"jsonrpc": "1.0", "id": 1, "method": method, "params": params})
	if err != nil {
		return err
	}
	req, err := http.NewRequest(http.MethodPost, n.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.SetBasicAuth(n.user, n.pass)
	resp, err := n.client.Do(req)
	if err != nil {
		return err
	}
	var answer struct {
		Result json.RawMessage
		Error  *Error
	}
	if err := errors.Join(json.NewDecoder(resp.Body).Decode(&answer), resp.Body.Close()); err != nil {
		return fmt.Errorf("%s: %s: %w", method, resp.Status, err)
	}
	if answer.Error != nil {
		return answer.Error
	}
	if result == nil {
		return nil
	}
	return json.Unmarshal(answer.Result, result)
}

// call is RPC where a refusal ends the test.
func (n *Node) call(result any, method string, params ...any) {
	n.t.Helper()
	if err := n.RPC(result, method, params...); err != nil {
		n.t.Fatalf("%s: %v", method, err)
	}
}
