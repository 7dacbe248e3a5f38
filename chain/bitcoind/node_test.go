package bitcoind_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/chain/bitcoind"
	"github.com/spillway/spillway/internal/bitcoindtest"
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

// TestWindow looks through the newest 20 blocks only: what is older is found while it is unspent, and is never told as
// unspent when it was spent.
func TestWindow(t *testing.T) {
	for _, index := range []bool{true, false} {
		arg := "-txindex=0"
		if index {
			arg = "-txindex=1"
		}
		n := bitcoindtest.Start(t, arg)
		n.MineCoins(10)
		a, b := newHolder(t, 7), newHolder(t, 8)
		old, gone := n.Pay(a.script, 70_000), n.Pay(a.script, 60_000)
		n.Mine(1)
		at := uint32(n.Height())
		spent := a.spend(t, gone, 60_000, b.script)
		if err := n.Send(spent); err != nil {
			t.Fatal(err)
		}
		n.Mine(40)
		young := n.Pay(a.script, 50_000)
		n.Mine(1)
		c := client(t, n, func(cfg *bitcoind.Config) { cfg.Window = 20 })
		coin := func(op wire.OutPoint, value int64, height uint32) chain.UTXO {
			return chain.UTXO{Outpoint: op, Value: value, PkScript: a.script, Confirmed: true, Height: height}
		}
		want := []chain.UTXO{coin(old, 70_000, at), coin(young, 50_000, at+41)}
		same := func(what string, c *bitcoind.Client, want []chain.UTXO) {
			t.Helper()
			got, err := c.UTXOs(t.Context(), a.script)
			if err != nil || len(got) != len(want) {
				t.Fatalf("index %v, %s: %+v, %v", index, what, got, err)
			}
			for i := range got {
				if got[i].Outpoint != want[i].Outpoint || got[i].Value != want[i].Value || got[i].Height != want[i].Height {
					t.Fatalf("index %v, %s: coin %d is %+v, want %+v", index, what, i, got[i], want[i])
				}
			}
		}
		if err := c.WatchScripts(t.Context(), a.script, b.script); err != nil {
			t.Fatal(err)
		}
		same("coins before and in the window", c, want)
		same("without a search before the birthday", client(t, n, func(cfg *bitcoind.Config) { cfg.Window, cfg.Birthday = 20, at+30 }), want[1:])
		if info, err := c.Tx(t.Context(), old.Hash); err != nil || info.Height != at {
			t.Fatalf("index %v: an old transaction with a coin: %+v, %v", index, info, err)
		}
		hist, err := c.History(t.Context(), a.script)
		if err != nil || len(hist) != 2 || hist[0].Height != at+41 || hist[1].Height != at {
			t.Fatalf("index %v: history %+v, %v", index, hist, err)
		}
		s, err := c.Spend(t.Context(), gone)
		if !errors.Is(err, bitcoind.ErrBeyond) || !errors.Is(err, chain.ErrUnavailable) {
			t.Fatalf("index %v: a spend before the window: %+v, %v", index, s, err)
		}
		if info, err := c.Tx(t.Context(), gone.Hash); err != nil || info.Height != at { // its change is unspent
			t.Fatalf("index %v: an old transaction with change: %+v, %v", index, info, err)
		}
		// The window moves on: what was in it stays known.
		n.Mine(60)
		same("after 60 blocks", c, want)
		n.Reorg(70, 71, nil, nil) // deeper than the window
		n.Mine(1)
		if got, err := c.UTXOs(t.Context(), a.script); err != nil || len(got) != 2 {
			t.Fatalf("index %v: after a deep reorg: %+v, %v", index, got, err)
		}
	}
}

// TestOpenChannelReadsNoBlocks: what an open channel asks at every look is known at once, also without an index.
func TestOpenChannelReadsNoBlocks(t *testing.T) {
	n := bitcoindtest.Start(t, "-txindex=0")
	n.MineCoins(3)
	a := newHolder(t, 7)
	op := n.Pay(a.script, 70_000)
	n.Mine(30)
	read := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		if bytes.Contains(raw, []byte(`"getblock"`)) {
			read++
		}
		r2, err := http.NewRequestWithContext(r.Context(), http.MethodPost, n.URL(), bytes.NewReader(raw))
		if err != nil {
			t.Error(err)
			return
		}
		r2.Header = r.Header
		resp, err := http.DefaultTransport.RoundTrip(r2)
		if err != nil {
			t.Error(err)
			return
		}
		defer resp.Body.Close()
		w.WriteHeader(resp.StatusCode)
		if _, err := io.Copy(w, resp.Body); err != nil {
			t.Error(err)
		}
	}))
	defer http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	defer s.Close()
	c := client(t, n, func(cfg *bitcoind.Config) { cfg.URL = s.URL })
	look := func(confirmed bool, spends bool) {
		t.Helper()
		info, err := c.Tx(t.Context(), op.Hash)
		if err != nil || info.Confirmed != confirmed {
			t.Fatalf("%+v, %v", info, err)
		}
		if s, err := c.Spend(t.Context(), op); err != nil || (s != nil) != spends {
			t.Fatalf("%+v, %v", s, err)
		}
	}
	look(true, false)
	if err := n.Send(a.spend(t, op, 70_000, a.script)); err != nil {
		t.Fatal(err)
	}
	look(true, true)
	if read > 0 {
		t.Fatalf("%d blocks were read", read)
	}
	n.Mine(1)
	look(true, true)
	if read == 0 || read > 2 { // the newest block has the spend
		t.Fatalf("%d blocks were read for a spend in the newest", read)
	}
}

// TestMempoolIsLookedAtAfterSending: what a client sent itself it lists at once, whatever the pause between two looks;
// what others sent comes after the pause.
func TestMempoolIsLookedAtAfterSending(t *testing.T) {
	n := bitcoindtest.Start(t)
	n.MineCoins(3)
	a, b, now := newHolder(t, 7), newHolder(t, 8), time.Unix(1_800_000_000, 0)
	op := n.Pay(a.script, 70_000)
	n.Mine(1)
	c := client(t, n, func(cfg *bitcoind.Config) { cfg.MempoolEvery, cfg.Now = time.Hour, func() time.Time { return now } })
	coins := func(want int) {
		t.Helper()
		if got, err := c.UTXOs(t.Context(), b.script); err != nil || len(got) != want {
			t.Fatalf("%d coins, want %d: %v", len(got), want, err)
		}
	}
	coins(0)
	if err := c.Broadcast(t.Context(), a.spend(t, op, 70_000, b.script)); err != nil {
		t.Fatal(err)
	}
	coins(1)
	n.Pay(b.script, 10_000)
	coins(1)
	now = now.Add(time.Hour)
	coins(2)
}

// TestRestart: a node that starts again has another cookie.
func TestRestart(t *testing.T) {
	n := bitcoindtest.Start(t)
	c := client(t, n)
	before, err := c.Tip(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	n.Restart()
	after, err := c.Tip(t.Context())
	if err != nil || after.Hash != before.Hash {
		t.Fatalf("%+v, %v", after, err)
	}
	h, err := c.Health(t.Context())
	if err != nil || h.Tip.Hash != before.Hash || h.Syncing || h.Peers != 0 || !h.Index || h.Oldest != 0 {
		t.Fatalf("health %+v, %v", h, err)
	}
}

func TestOtherNetworkAndCredentials(t *testing.T) {
	mac := hmac.New(sha256.New, []byte("salt"))
	mac.Write([]byte("secret word"))
	n := bitcoindtest.Start(t, fmt.Sprintf("-rpcauth=alice:salt$%x", mac.Sum(nil)))
	other := client(t, n, func(cfg *bitcoind.Config) {
		cfg.Network = &chaincfg.MainNetParams
		cfg.User, cfg.Password, cfg.Cookie = "alice", "secret word", ""
	})
	if _, err := other.Tip(t.Context()); !errors.Is(err, bitcoind.ErrNetwork) || !errors.Is(err, chain.ErrUnavailable) {
		t.Errorf("another network: %v", err)
	}
	right := client(t, n, func(cfg *bitcoind.Config) { cfg.User, cfg.Password, cfg.Cookie = "alice", "secret word", "" })
	if _, err := right.Tip(t.Context()); err != nil {
		t.Errorf("user and password: %v", err)
	}
	wrong := client(t, n, func(cfg *bitcoind.Config) { cfg.User, cfg.Password, cfg.Cookie = "alice", "another", "" })
	if _, err := wrong.Tip(t.Context()); !errors.Is(err, bitcoind.ErrAuth) || !errors.Is(err, chain.ErrUnavailable) {
		t.Errorf("a wrong password: %v", err)
	}
	none := client(t, n, func(cfg *bitcoind.Config) { cfg.Cookie = t.TempDir() + "/none" })
	if _, err := none.Tip(t.Context()); !errors.Is(err, bitcoind.ErrAuth) {
		t.Errorf("no cookie file: %v", err)
	}
}
