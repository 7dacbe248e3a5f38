package neutrino_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/chain/neutrino"
	"github.com/spillway/spillway/internal/btcdtest"
)

// holder can spend from its own script.
type holder struct {
	key    *btcec.PrivateKey
	script []byte
}

func newHolder(t testing.TB, seed byte) holder {
	t.Helper()
	key, _ := btcec.PrivKeyFromBytes(bytes.Repeat([]byte{seed}, 32))
	script, err := txscript.PayToTaprootScript(txscript.ComputeTaprootKeyNoScript(key.PubKey()))
	if err != nil {
		t.Fatal(err)
	}
	return holder{key, script}
}

func (h holder) spend(t testing.TB, op wire.OutPoint, value int64, to []byte) *wire.MsgTx {
	t.Helper()
	return h.spendAs(t, 2, op, value, to)
}

// spendAs is spend in a version.
func (h holder) spendAs(t testing.TB, version int32, op wire.OutPoint, value int64, to []byte) *wire.MsgTx {
	t.Helper()
	tx := wire.NewMsgTx(version)
	tx.AddTxIn(&wire.TxIn{PreviousOutPoint: op, Sequence: 0xfffffffd})
	tx.AddTxOut(wire.NewTxOut(value-500, to))
	hashes := txscript.NewTxSigHashes(tx, txscript.NewCannedPrevOutputFetcher(h.script, value))
	w, err := txscript.TaprootWitnessSignature(tx, hashes, 0, value, h.script, txscript.SigHashDefault, h.key)
	if err != nil {
		t.Fatal(err)
	}
	tx.TxIn[0].Witness = w
	return tx
}

// eventually waits until a condition holds.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-ctx.Done():
			t.Fatalf("in vain: %s", what)
		case <-tick.C:
		}
	}
}

func coins(t testing.TB, c *neutrino.Client, pk []byte, want ...wire.OutPoint) {
	t.Helper()
	got, err := c.UTXOs(t.Context(), pk)
	if err != nil || len(got) != len(want) {
		t.Fatalf("%+v, %v, want %d coins", got, err, len(want))
	}
	for i, g := range got {
		if g.Outpoint != want[i] {
			t.Fatalf("coin %d is %v, want %v", i, g.Outpoint, want[i])
		}
	}
}

// TestKept: what was found is still known after a restart, also when it is older than the window by then, and what a
// reorg undid meanwhile is not.
func TestKept(t *testing.T) {
	t.Parallel()
	n := btcdtest.Start(t)
	n.MineCoins(4)
	a, dir := newHolder(t, 7), t.TempDir()
	in := func(cfg *neutrino.Config) { cfg.Dir, cfg.Window = dir, 150 }
	old := n.Pay(a.script, 70_000)
	n.Mine(1)
	c := open(t, n, in)
	settle(t, n, c)
	coins(t, c, a.script, old)
	young := n.Pay(a.script, 60_000)
	n.Mine(1)
	settle(t, n, c)
	coins(t, c, a.script, old, young)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Tip(t.Context()); !errors.Is(err, neutrino.ErrClosed) || !errors.Is(err, chain.ErrUnavailable) {
		t.Fatalf("a closed client: %v", err)
	}

	n.Reorg(1, 3, nil, nil) // undoes the younger one
	n.Mine(200)
	c = open(t, n, in)
	settle(t, n, c)
	if err := c.Sync(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	coins(t, c, a.script, old, young) // mined again
	if info, err := c.Tx(t.Context(), old.Hash); err != nil || info.Height != uint32(n.Height())-203 {
		t.Fatalf("%+v, %v, the tip is %d", info, err, n.Height())
	}
	fresh := open(t, n, func(cfg *neutrino.Config) { cfg.Window = 150 })
	settle(t, n, fresh)
	coins(t, fresh, a.script) // never looked when they were young
	born := open(t, n, func(cfg *neutrino.Config) { cfg.Window, cfg.Birthday = 150, 100 })
	settle(t, n, born)
	coins(t, born, a.script, old, young)
	h, err := born.Health(t.Context())
	if err != nil || h.Peers != 1 || h.Syncing || h.Oldest != 100 || h.Headers != uint32(n.Height()) {
		t.Fatalf("%+v, %v", h, err)
	}
}

// TestLostConnection: without a peer nothing is told, as nobody says whether it is still true; with one again the
// client goes on.
func TestLostConnection(t *testing.T) {
	t.Parallel()
	n := btcdtest.Start(t)
	n.MineCoins(2)
	a := newHolder(t, 7)
	op := n.Pay(a.script, 70_000)
	n.Mine(1)
	c := open(t, n)
	settle(t, n, c)
	coins(t, c, a.script, op)
	n.Kill()
	eventually(t, "the client notices", func() bool {
		_, err := c.Tip(t.Context())
		return errors.Is(err, neutrino.ErrNoPeers) && errors.Is(err, chain.ErrUnavailable)
	})
	if _, err := c.UTXOs(t.Context(), a.script); !errors.Is(err, neutrino.ErrNoPeers) {
		t.Fatalf("%v", err)
	}
	spend := a.spend(t, op, 70_000, a.script)
	if err := c.Broadcast(t.Context(), spend); !errors.Is(err, neutrino.ErrNoPeers) || errors.Is(err, chain.ErrRejected) {
		t.Fatalf("%v", err)
	}
	n.Again()
	n.Mine(1)
	settle(t, n, c)
	coins(t, c, a.script, op)
	if err := c.Broadcast(t.Context(), spend); err != nil {
		t.Fatal(err)
	}
	n.Mine(1)
	settle(t, n, c)
	if s, err := c.Spend(t.Context(), op); err != nil || s == nil || s.Txid != spend.TxHash() {
		t.Fatalf("%+v, %v", s, err)
	}
}

// TestOneFolder: several processes may use a folder, each at a place of its own.
func TestOneFolder(t *testing.T) {
	t.Parallel()
	n := btcdtest.Start(t)
	dir := t.TempDir()
	in := func(cfg *neutrino.Config) { cfg.Dir = dir }
	first, second := open(t, n, in), open(t, n, in)
	settle(t, n, first)
	settle(t, n, second)
	for range 6 {
		open(t, n, in)
	}
	cfg := neutrino.Config{Dir: dir, Network: &chaincfg.RegressionNetParams, Peers: []string{n.P2PAddress()}}
	if _, err := neutrino.Open(t.Context(), cfg); !errors.Is(err, neutrino.ErrInUse) {
		t.Fatalf("a ninth: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, n, in)
}

// TestPitfall45_LightFiles: nobody else of the machine may read what a light client keeps, while it runs and after.
func TestPitfall45_LightFiles(t *testing.T) {
	t.Parallel()
	n := btcdtest.Start(t)
	dir := t.TempDir()
	c := open(t, n, func(cfg *neutrino.Config) { cfg.Dir = dir })
	settle(t, n, c)
	private := func() {
		t.Helper()
		files, err := os.ReadDir(filepath.Join(dir, "0"))
		if err != nil || len(files) < 4 {
			t.Fatalf("%d files, %v", len(files), err)
		}
		for _, f := range files {
			if info, err := f.Info(); err != nil || info.Mode().Perm()&0o077 != 0 {
				t.Errorf("%s: %v, %v", f.Name(), info.Mode(), err)
			}
		}
	}
	private()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	private()
}

// TestNoFilters: a peer without committed filters is of no use, and it is said why. Named again, it gets another
// chance.
func TestNoFilters(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	in := func(cfg *neutrino.Config) { cfg.Dir, cfg.Timeout = dir, time.Second }
	bare := btcdtest.Start(t, "--nocfilters")
	c := open(t, bare, in)
	_, err := c.Tip(t.Context())
	if !errors.Is(err, neutrino.ErrNoPeers) || !errors.Is(err, chain.ErrUnavailable) || !strings.Contains(err.Error(), "committed filters") {
		t.Fatalf("%v", err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	full := btcdtest.Start(t) // on the address that was banned
	settle(t, full, open(t, full, in, func(cfg *neutrino.Config) { cfg.Timeout = 30 * time.Second }))
}

// TestSane: what no node could take is refused without being sent.
func TestSane(t *testing.T) {
	t.Parallel()
	n := btcdtest.Start(t)
	n.MineCoins(1)
	c, a := open(t, n), newHolder(t, 7)
	settle(t, n, c)
	op := n.Pay(a.script, 70_000)
	late := a.spend(t, op, 70_000, a.script)
	late.LockTime = uint32(n.Height()) + 1
	for what, tx := range map[string]*wire.MsgTx{"nothing": wire.NewMsgTx(2), "not final": late} {
		err := c.Broadcast(t.Context(), tx)
		var r *chain.RejectError
		if !errors.As(err, &r) || r.Reason == "" {
			t.Errorf("%s: %v", what, err)
		}
	}
	if n.InMempool(late.TxHash()) {
		t.Fatal("it was sent all the same")
	}
}

func TestConfig(t *testing.T) {
	good := neutrino.Config{Dir: t.TempDir(), Network: &chaincfg.RegressionNetParams, Peers: []string{"127.0.0.1:1"}}
	for what, change := range map[string]func(*neutrino.Config){
		"no network":       func(c *neutrino.Config) { c.Network = nil },
		"no folder":        func(c *neutrino.Config) { c.Dir = "" },
		"no peers":         func(c *neutrino.Config) { c.Peers = nil },
		"fee rates":        func(c *neutrino.Config) { c.MinFeeRate, c.MaxFeeRate = 2, 1 },
		"a negative time":  func(c *neutrino.Config) { c.Patience = -1 },
		"a negative limit": func(c *neutrino.Config) { c.Timeout = -1 },
	} {
		cfg := good
		change(&cfg)
		if _, err := neutrino.Open(t.Context(), cfg); !errors.Is(err, neutrino.ErrConfig) {
			t.Errorf("%s: %v", what, err)
		}
	}
	file := t.TempDir() + "/file"
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	good.Dir = file
	if _, err := neutrino.Open(t.Context(), good); err == nil {
		t.Error("a file is no folder")
	}
}
