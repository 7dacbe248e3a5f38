package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/spillway/spillway/internal/bitcoindtest"
)

// TestBitcoind plays the commands against a real bitcoind: buying, closing and
// refunding in each construction. Whatever a command sends is shown to the node's
// testmempoolaccept before.
func TestBitcoind(t *testing.T) {
	scripts, err := filepath.Glob("testdata/bitcoind/*.txtar")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, script := range scripts {
		t.Run(filepath.Base(script), func(t *testing.T) {
			t.Parallel()
			n := bitcoindtest.Start(t, "-txindex=0", "-disablewallet=0")
			n.MineCoins(3)
			ctx, stop := context.WithCancel(t.Context())
			mined := make(chan struct{})
			go func() {
				defer close(mined)
				mineWhatComes(ctx, t, n)
			}()
			t.Cleanup(func() {
				stop()
				<-mined
			})
			playOnBitcoind(t, n, script)
		})
	}
}

func playOnBitcoind(t *testing.T, n *bitcoindtest.Node, script string, more ...[2]string) {
	judge := newJudge(t, n)
	other, err := (&app{out: &output{stdout: io.Discard, stderr: io.Discard, quiet: true}}).startDevnet("", "127.0.0.1:0", 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := other.Close(); err != nil {
			t.Error(err)
		}
	})
	testscript.Run(t, testscript.Params{
		Files: []string{script},
		Setup: func(env *testscript.Env) error {
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("SPILLWAY_DATA", filepath.Join(env.WorkDir, "data"))
			env.Setenv("SPILLWAY_CHAIN", "bitcoind://"+judge.host+"?cookie="+n.CookieFile())
			env.Setenv("NODE", n.Host())
			env.Setenv("JUDGE", judge.host)
			env.Setenv("OTHER", other.url) // a regtest chain that has other blocks
			for _, v := range more {
				env.Setenv(v[0], v[1])
			}
			env.Setenv("COOKIE", n.CookieFile())
			p := &process{}
			env.Values[providerKey{}] = p
			env.Defer(func() {
				if p.cmd != nil {
					p.end(os.Interrupt)
				}
			})
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"json": cmdJSON, "random": cmdRandom, "provider": cmdProvider, "same": cmdSame, "exitcode": cmdExit, "await": cmdAwait,
			"pay": func(ts *testscript.TestScript, _ bool, args []string) { payAddress(ts, n, args[0], args[1]) },
			"mine": func(ts *testscript.TestScript, _ bool, args []string) {
				blocks, err := strconv.Atoi(args[0])
				ts.Check(err)
				ts.Check(n.RPC(nil, "generatetodescriptor", blocks, "raw(51)"))
			},
			"nodewallet": nodeWalletCommand(n),
			"accepted":   func(ts *testscript.TestScript, _ bool, args []string) { judge.accepted(ts, args[0]) },
		},
	})
}

// mineWhatComes mines a block whenever a transaction waits.
func mineWhatComes(ctx context.Context, t *testing.T, n *bitcoindtest.Node) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		var waiting []string
		if err := n.RPC(&waiting, "getrawmempool"); err != nil {
			t.Errorf("mempool: %v", err)
			return
		}
		if len(waiting) == 0 {
			continue
		}
		if err := n.RPC(nil, "generatetodescriptor", 1, "raw(51)"); err != nil {
			t.Errorf("mine: %v", err)
			return
		}
	}
}

// payAddress: pay ADDRESS SAT pays a wallet, as somebody who has coins does.
func payAddress(ts *testscript.TestScript, n *bitcoindtest.Node, address, amount string) {
	var valid struct {
		Script string `json:"scriptPubKey"`
	}
	ts.Check(n.RPC(&valid, "validateaddress", address))
	script, err := hex.DecodeString(valid.Script)
	ts.Check(err)
	sat, err := strconv.ParseInt(amount, 10, 64)
	ts.Check(err)
	n.Pay(script, sat)
}

// judge stands between the commands and the node, and asks testmempoolaccept
// about each transaction before it is passed on.
type judge struct {
	t    *testing.T
	node *bitcoindtest.Node
	host string

	mu       sync.Mutex
	allowed  int               // sent and mempool-acceptable
	refusals map[string]string // txid → reason, of what was sent and not acceptable
}

func newJudge(t *testing.T, n *bitcoindtest.Node) *judge {
	t.Helper()
	j := &judge{t: t, node: n, refusals: map[string]string{}}
	s := httptest.NewServer(http.HandlerFunc(j.pass))
	t.Cleanup(s.Close)
	j.host = s.Listener.Addr().String()
	return j
}

func (j *judge) pass(w http.ResponseWriter, r *http.Request) {
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		return // the command has ended
	}
	var ask struct {
		Method string
		Params []any
	}
	sent := json.Unmarshal(raw, &ask) == nil && ask.Method == "sendrawtransaction"
	verdict := verdict{}
	if sent {
		verdict = j.ask(ask.Params[0])
	}
	req, err := http.NewRequestWithContext(r.Context(), http.MethodPost, j.node.URL()+strings.TrimSuffix(r.URL.Path, "/"), bytes.NewReader(raw))
	if err != nil {
		j.t.Error(err)
		return
	}
	req.Header = r.Header
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		if r.Context().Err() == nil {
			j.t.Error(err)
		}
		return
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return
	}
	if sent {
		j.note(verdict, answer)
	}
	w.WriteHeader(resp.StatusCode)
	if _, err := w.Write(answer); err != nil {
		return
	}
}

type verdict struct {
	Txid    string
	Allowed bool
	Reason  string `json:"reject-reason"`
}

func (j *judge) ask(tx any) verdict {
	var all []verdict
	if err := j.node.RPC(&all, "testmempoolaccept", []any{tx}); err != nil || len(all) != 1 {
		j.t.Errorf("testmempoolaccept: %v, %v", all, err)
		return verdict{}
	}
	return all[0]
}

// note compares what was said of a transaction with what the node did.
func (j *judge) note(v verdict, answer []byte) {
	var done struct{ Error *struct{ Message string } }
	if err := json.Unmarshal(answer, &done); err != nil {
		j.t.Error(err)
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if v.Allowed {
		j.allowed++
		if done.Error != nil && !bytes.Contains(answer, []byte("already")) {
			j.t.Errorf("%s: acceptable, and then refused: %s", v.Txid, done.Error.Message)
		}
	} else {
		j.refusals[v.Txid] = v.Reason
	}
}

// accepted: accepted N wants at least so many acceptable transactions since the
// last time, and no refusal but of what the node had already, or has from the
// other side.
func (j *judge) accepted(ts *testscript.TestScript, least string) {
	want, err := strconv.Atoi(least)
	ts.Check(err)
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.allowed < want {
		ts.Fatalf("%d transactions were acceptable, want %d", j.allowed, want)
	}
	for txid, reason := range j.refusals {
		switch reason {
		case "txn-already-in-mempool", "txn-already-known", "txn-same-nonwitness-data-in-mempool":
		default:
			ts.Fatalf("%s was sent and is not acceptable: %s", txid, reason)
		}
	}
	j.allowed, j.refusals = 0, map[string]string{}
}
