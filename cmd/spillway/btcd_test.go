package main

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/btcsuite/btcd/address/v2"
	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/spillway/spillway/internal/btcdtest"
)

// ownBtcd is a btcd that mines what comes.
type ownBtcd struct {
	*btcdtest.Node
	mu sync.Mutex
}

// TestBtcd plays the commands against a real btcd, by its RPC and by its peer-to-peer port
// with a light client.
func TestBtcd(t *testing.T) {
	scripts, err := filepath.Glob("testdata/btcd/*.txtar")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, script := range scripts {
		t.Run(filepath.Base(script), func(t *testing.T) {
			t.Parallel()
			n := &ownBtcd{Node: btcdtest.Start(t)}
			n.MineCoins(5)
			ctx, stop := context.WithCancel(t.Context())
			mined := make(chan struct{})
			go func() {
				defer close(mined)
				n.mineWhatComes(ctx, t)
			}()
			t.Cleanup(func() {
				stop()
				<-mined
			})
			playOnBtcd(t, n, script)
		})
	}
}

func (n *ownBtcd) mineWhatComes(ctx context.Context, t *testing.T) {
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
		if len(waiting) > 0 {
			n.mine(1)
		}
	}
}

func (n *ownBtcd) mine(blocks int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.Mine(blocks)
}

// pay: pay ADDRESS SAT pays a wallet, as somebody who has coins does.
func (n *ownBtcd) pay(ts *testscript.TestScript, to, amount string) {
	a, err := address.DecodeAddress(to, &chaincfg.RegressionNetParams)
	ts.Check(err)
	pkScript, err := txscript.PayToAddrScript(a)
	ts.Check(err)
	sat, err := strconv.ParseInt(amount, 10, 64)
	ts.Check(err)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.Pay(pkScript, sat)
}

func playOnBtcd(t *testing.T, n *ownBtcd, script string) {
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
			node := "btcd://" + btcdtest.User + "@" + n.RPCAddress() + "?password-file=" + n.PasswordFile() + "&cert=" + n.CertFile()
			env.Setenv("SPILLWAY_CHAIN", node)
			env.Setenv("BTCD", node)
			env.Setenv("LIGHT", "neutrino://"+n.P2PAddress()+"?version3=0")
			env.Setenv("NODE", n.RPCAddress())
			env.Setenv("CERT", n.CertFile())
			env.Setenv("PASSWORD_FILE", n.PasswordFile())
			env.Setenv("OTHER", other.url) // a regtest chain that has other blocks
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
			"pay": func(ts *testscript.TestScript, _ bool, args []string) { n.pay(ts, args[0], args[1]) },
			"mine": func(ts *testscript.TestScript, _ bool, args []string) {
				blocks, err := strconv.Atoi(args[0])
				ts.Check(err)
				n.mine(blocks)
			},
		},
	})
}
