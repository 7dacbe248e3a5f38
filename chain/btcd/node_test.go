package btcd_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/chain/btcd"
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
	tx := wire.NewMsgTx(2)
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

// TestWindow looks through the newest 150 blocks only, or from a birthday on: what is older is found where its
// transaction still is, and a spend is never overlooked.
func TestWindow(t *testing.T) {
	t.Parallel()
	n := btcdtest.Start(t)
	n.MineCoins(5)
	a, b := newHolder(t, 7), newHolder(t, 8)
	old, gone := n.Pay(a.script, 70_000), n.Pay(a.script, 60_000)
	n.Mine(1)
	at := uint32(n.Height())
	spent := a.spend(t, gone, 60_000, b.script)
	if err := n.Send(spent); err != nil {
		t.Fatal(err)
	}
	n.Mine(200)
	young := n.Pay(a.script, 50_000)
	n.Mine(1)
	coins := func(c *btcd.Client, want ...wire.OutPoint) {
		t.Helper()
		got, err := c.UTXOs(t.Context(), a.script)
		if err != nil || len(got) != len(want) {
			t.Fatalf("%+v, %v, want %d", got, err, len(want))
		}
		for i, g := range got {
			if g.Outpoint != want[i] {
				t.Fatalf("coin %d is %v", i, g.Outpoint)
			}
		}
	}
	c := client(t, n, func(cfg *btcd.Config) { cfg.Window = 150 })
	coins(c, young)
	if info, err := c.Tx(t.Context(), old.Hash); err != nil || info.Height != at {
		t.Fatalf("an old transaction with a coin: %+v, %v", info, err)
	}
	s, err := c.Spend(t.Context(), gone) // its change is unspent, so it is found, and what spends it from there on
	if err != nil || s == nil || s.Txid != spent.TxHash() || s.Height != at+1 {
		t.Fatalf("an old spend: %+v, %v", s, err)
	}
	h, err := c.Health(t.Context())
	if err != nil || h.Oldest != uint32(n.Height())-149 || h.Index || h.Syncing {
		t.Fatalf("health %+v, %v", h, err)
	}
	early := client(t, n, func(cfg *btcd.Config) { cfg.Window, cfg.Birthday = 150, at })
	coins(early, old, young)
	if hist, err := early.History(t.Context(), a.script); err != nil || len(hist) != 4 {
		t.Fatalf("history %+v, %v", hist, err)
	}
	n.Reorg(160, 161, nil, nil) // deeper than the window
	n.Mine(1)
	coins(c, old, young) // the script was followed from the old coin on, for its spend
	if err := early.WatchScripts(t.Context(), b.script); err != nil {
		t.Fatal(err)
	}
	if info, err := early.Tx(t.Context(), spent.TxHash()); err != nil || info.Height != at+1 {
		t.Fatalf("%+v, %v", info, err)
	}
}

// TestLostConnection: a node that is away is unavailable, at once; when it is back the same client goes on, and has
// forgotten nothing that is still true.
func TestLostConnection(t *testing.T) {
	t.Parallel()
	n := btcdtest.Start(t)
	n.MineCoins(2)
	a := newHolder(t, 7)
	op := n.Pay(a.script, 70_000)
	n.Mine(1)
	c := client(t, n)
	look := func() error {
		got, err := c.UTXOs(t.Context(), a.script)
		if err == nil && (len(got) != 1 || got[0].Outpoint != op) {
			t.Fatalf("%+v", got)
		}
		return err
	}
	if err := look(); err != nil {
		t.Fatal(err)
	}
	n.Kill()
	begin := time.Now()
	for range 3 {
		if _, err := c.Tip(t.Context()); !errors.Is(err, chain.ErrUnavailable) {
			t.Fatalf("a node that is away: %v", err)
		}
	}
	if err := c.Broadcast(t.Context(), a.spend(t, op, 70_000, a.script)); !errors.Is(err, chain.ErrUnavailable) || errors.Is(err, chain.ErrRejected) {
		t.Fatalf("sent to a node that is away: %v", err)
	}
	if took := time.Since(begin); took > 10*time.Second {
		t.Fatalf("that took %s", took)
	}
	n.Again()
	if err := look(); err != nil {
		t.Fatal(err)
	}
	if err := c.Broadcast(t.Context(), a.spend(t, op, 70_000, a.script)); err != nil {
		t.Fatal(err)
	}
}

// TestSilentNode: a node that takes the connection and never answers.
func TestSilentNode(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var taken []net.Conn
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			taken = append(taken, conn)
		}
	}()
	defer func() {
		_ = l.Close() // the goroutine ends by it
		<-done
		for _, conn := range taken {
			_ = conn.Close() // the client's attempt ends by it
		}
	}()
	c, err := btcd.New(btcd.Config{Address: l.Addr().String(), User: "u", Password: "p", Plain: true, Timeout: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := c.Tip(t.Context()); !errors.Is(err, chain.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("%v", err)
		}
	}
	_ = l.Close()
	<-done
	for _, conn := range taken {
		_ = conn.Close()
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Tip(t.Context()); !errors.Is(err, chain.ErrUnavailable) {
		t.Fatalf("a closed client: %v", err)
	}
}

func TestWhoIsAsked(t *testing.T) {
	t.Parallel()
	n := btcdtest.Start(t, "--nocfilters")
	fails := func(what string, want error, change func(*btcd.Config)) {
		t.Helper()
		if _, err := client(t, n, change).Tip(t.Context()); !errors.Is(err, want) || !errors.Is(err, chain.ErrUnavailable) {
			t.Errorf("%s: %v", what, err)
		}
	}
	fails("another network", btcd.ErrNetwork, func(cfg *btcd.Config) { cfg.Network = &chaincfg.MainNetParams })
	fails("a wrong password", btcd.ErrAuth, func(cfg *btcd.Config) { cfg.Password = "another" })
	fails("no certificate", btcd.ErrCertificate, func(cfg *btcd.Config) { cfg.CertFile = "" })
	fails("no such certificate", os.ErrNotExist, func(cfg *btcd.Config) { cfg.CertFile = filepath.Join(t.TempDir(), "none") })
	garbage := filepath.Join(t.TempDir(), "garbage")
	if err := os.WriteFile(garbage, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	fails("a certificate that is none", chain.ErrUnavailable, func(cfg *btcd.Config) { cfg.CertFile = garbage })
	fails("no TLS where there is some", chain.ErrUnavailable, func(cfg *btcd.Config) { cfg.CertFile, cfg.Plain = "", true })
	c := client(t, n)
	if _, err := c.Tip(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := c.UTXOs(t.Context(), newHolder(t, 7).script); !errors.Is(err, btcd.ErrNoFilters) || !errors.Is(err, chain.ErrUnavailable) {
		t.Errorf("a node without filters: %v", err)
	}
}

// TestGenerate: the client mines what waits, on regtest alone.
func TestGenerate(t *testing.T) {
	t.Parallel()
	n := btcdtest.Start(t)
	n.MineCoins(1)
	a, c := newHolder(t, 7), client(t, n)
	op := n.Pay(a.script, 70_000)
	child := a.spend(t, op, 70_000, a.script)
	if err := n.Send(child); err != nil {
		t.Fatal(err)
	}
	before, err := c.Tip(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if waiting, err := c.Waiting(t.Context()); err != nil || waiting != 2 {
		t.Fatalf("%d wait, %v", waiting, err)
	}
	if err := c.Generate(t.Context(), 2, a.script); err != nil {
		t.Fatal(err)
	}
	after, err := c.Tip(t.Context())
	if err != nil || after.Height != before.Height+2 {
		t.Fatalf("%+v, %v", after, err)
	}
	coins, err := c.UTXOs(t.Context(), a.script)
	if err != nil || len(coins) != 3 {
		t.Fatalf("%+v, %v", coins, err)
	}
	main := client(t, n, func(cfg *btcd.Config) { cfg.Network = &chaincfg.SigNetParams })
	if err := main.Generate(t.Context(), 1, a.script); !errors.Is(err, btcd.ErrConfig) {
		t.Fatalf("%v", err)
	}
}
