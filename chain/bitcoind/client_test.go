package bitcoind_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/chain/bitcoind"
	"github.com/spillway/spillway/script"
)

// fake answers calls from a table: a result in JSON, or an error in JSON after "!".
type fake struct {
	mu      sync.Mutex
	answers map[string]string
	status  int // 0: 200
	calls   int
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	if f.status != 0 {
		w.WriteHeader(f.status)
		return
	}
	var ask struct{ Method string }
	if err := json.NewDecoder(r.Body).Decode(&ask); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	body, ok := f.answers[ask.Method]
	switch {
	case !ok:
		body = `{"id":0,"result":null,"error":{"code":-32601,"message":"Method not found"}}`
	case strings.HasPrefix(body, "!"):
		body = `{"id":0,"result":null,"error":` + body[1:] + `}`
	case strings.HasPrefix(body, "raw:"):
		body = body[4:]
	default:
		body = `{"id":0,"error":null,"result":` + body + `}`
	}
	if _, err := w.Write([]byte(body)); err != nil {
		return
	}
}

func against(t testing.TB, answers map[string]string, change ...func(*bitcoind.Config)) (*bitcoind.Client, *fake) {
	t.Helper()
	f := &fake{answers: answers}
	s := httptest.NewServer(f)
	t.Cleanup(s.Close)
	cfg := bitcoind.Config{URL: s.URL, User: "u", Password: "p"}
	for _, c := range change {
		c(&cfg)
	}
	c, err := bitcoind.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c, f
}

func TestFeeRates(t *testing.T) {
	pool := func(least string) string { return `{"mempoolminfee":` + least + `,"minrelaytxfee":0.00000100}` }
	for _, c := range []struct {
		estimate, floor string
		cfg             bitcoind.Config
		want            script.FeeRate // 0: no answer
	}{
		{`{"feerate":0.00012345,"blocks":3}`, "0.00001000", bitcoind.Config{}, 12_345},
		{`{"feerate":0.00001000,"blocks":3}`, "0.00020000", bitcoind.Config{}, 20_000},
		{`{"feerate":0.00000100,"blocks":3}`, "0.00000100", bitcoind.Config{}, chain.MinFeeRate},
		{`{"feerate":9.0,"blocks":3}`, "0.00001000", bitcoind.Config{}, chain.MaxFeeRate},
		{`{"feerate":1e300,"blocks":3}`, "0.00001000", bitcoind.Config{}, chain.MaxFeeRate},
		{`{"feerate":0.00012345,"blocks":3}`, "0.00001000", bitcoind.Config{MinFeeRate: 20_000}, 20_000},
		{`{"feerate":0.00012345,"blocks":3}`, "0.00001000", bitcoind.Config{MaxFeeRate: 5_000}, 5_000},
		{`{"errors":["Insufficient data"],"blocks":3}`, "0.00001000", bitcoind.Config{}, 0},
		{`{"errors":["Insufficient data"],"blocks":3}`, "0.00003000", bitcoind.Config{Network: &chaincfg.SigNetParams}, 3_000},
		{`{"feerate":-1}`, "0.00001000", bitcoind.Config{}, 0},
		{`{"feerate":"high"}`, "0.00001000", bitcoind.Config{}, 0},
		{`[]`, "0.00001000", bitcoind.Config{}, 0},
		{`{"feerate":0.0001}`, "null", bitcoind.Config{}, 0},
	} {
		b, _ := against(t, map[string]string{"estimatesmartfee": c.estimate, "getmempoolinfo": pool(c.floor),
			"getblockhash": `"` + chaincfg.SigNetParams.GenesisHash.String() + `"`},
			func(cfg *bitcoind.Config) {
				cfg.MinFeeRate, cfg.MaxFeeRate, cfg.Network = c.cfg.MinFeeRate, c.cfg.MaxFeeRate, c.cfg.Network
			})
		got, err := b.FeeRate(t.Context(), 3)
		if got != c.want || (err == nil) != (c.want != 0) || err != nil && !errors.Is(err, chain.ErrUnavailable) {
			t.Errorf("%+v: %d, %v", c, got, err)
		}
	}
}

func TestPitfall37_Stale(t *testing.T) {
	hash := strings.Repeat("ab", 32)
	now := time.Unix(1_800_000_000, 0)
	for _, c := range []struct {
		name            string
		syncing         bool
		blocks, headers int
		age             time.Duration
		stale           bool
	}{
		{"well", false, 900, 900, time.Hour, false},
		{"a block or two behind", false, 898, 900, time.Hour, false},
		{"catching up", true, 500, 900, time.Minute, true},
		{"behind its headers", false, 890, 900, time.Minute, true},
		{"an old tip", false, 900, 900, 4 * time.Hour, true},
	} {
		b, _ := against(t, map[string]string{
			"getblockchaininfo": fmt.Sprintf(`{"blocks":%d,"headers":%d,"bestblockhash":%q,"initialblockdownload":%v}`, c.blocks, c.headers, hash, c.syncing),
			"getblockheader":    fmt.Sprintf(`{"height":%d,"time":%d}`, c.blocks, now.Add(-c.age).Unix()),
			"getnetworkinfo":    `{"connections":8}`, "getindexinfo": `{}`,
		})
		err := chain.CheckStale(t.Context(), b, now, 3*time.Hour)
		if errors.Is(err, chain.ErrStale) != c.stale || !c.stale && err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestBusyAndAway(t *testing.T) {
	b, f := against(t, nil)
	f.status = http.StatusServiceUnavailable
	if _, err := b.Tip(t.Context()); !errors.Is(err, chain.ErrUnavailable) || f.calls < 3 {
		t.Errorf("busy: %v after %d calls", err, f.calls)
	}
	f.status, f.calls = http.StatusUnauthorized, 0
	if _, err := b.Tip(t.Context()); !errors.Is(err, bitcoind.ErrAuth) || f.calls != 1 {
		t.Errorf("unauthorized: %v after %d calls", err, f.calls)
	}
	f.status = http.StatusFound
	if _, err := b.Tip(t.Context()); !errors.Is(err, chain.ErrUnavailable) {
		t.Errorf("redirected: %v", err)
	}
	f.status, f.answers = 0, map[string]string{"getbestblockhash": `!{"code":-28,"message":"Loading block index…"}`}
	if _, err := b.Tip(t.Context()); !errors.Is(err, chain.ErrUnavailable) || !strings.Contains(err.Error(), "Loading") {
		t.Errorf("warming up: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.Tip(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// TestOtherBytes: bytes that do not hash to what was asked for are nonsense.
func TestOtherBytes(t *testing.T) {
	tx := wire.NewMsgTx(2)
	tx.AddTxIn(&wire.TxIn{})
	tx.AddTxOut(wire.NewTxOut(1, []byte{0x51}))
	var raw strings.Builder
	if err := tx.Serialize(hexWriter{&raw}); err != nil {
		t.Fatal(err)
	}
	b, _ := against(t, map[string]string{"getrawtransaction": `{"hex":"` + raw.String() + `"}`})
	if got, err := b.Tx(t.Context(), tx.TxHash()); err != nil || got.Confirmed || got.Tx.TxHash() != tx.TxHash() {
		t.Errorf("the right bytes: %+v, %v", got, err)
	}
	if _, err := b.Tx(t.Context(), chainhash.Hash{1}); !errors.Is(err, bitcoind.ErrNonsense) || !errors.Is(err, chain.ErrUnavailable) {
		t.Errorf("another transaction's bytes: %v", err)
	}
}

type hexWriter struct{ to *strings.Builder }

func (w hexWriter) Write(p []byte) (int, error) {
	_, err := fmt.Fprintf(w.to, "%x", p)
	return len(p), err
}

func TestParseURL(t *testing.T) {
	t.Setenv("HOME", "/home/alice")
	file := filepath.Join(t.TempDir(), "pw")
	if err := os.WriteFile(file, []byte("from a file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	main, reg := &chaincfg.MainNetParams, &chaincfg.RegressionNetParams
	for _, c := range []struct {
		text string
		net  *chaincfg.Params
		want bitcoind.Config
	}{
		{"bitcoind://127.0.0.1", main, bitcoind.Config{URL: "http://127.0.0.1:8332", Cookie: "/home/alice/.bitcoin/.cookie"}},
		{"bitcoind://localhost/", reg, bitcoind.Config{URL: "http://localhost:18443", Cookie: "/home/alice/.bitcoin/regtest/.cookie"}},
		{"bitcoind://[::1]:99?cookie=/a%20b/.cookie", &chaincfg.SigNetParams, bitcoind.Config{URL: "http://[::1]:99", Cookie: "/a b/.cookie"}},
		{"bitcoind://u:p%40w@h", &chaincfg.TestNet4Params, bitcoind.Config{URL: "http://h:48332", User: "u", Password: "p@w"}},
		{"bitcoind://u@h:1?password-file=" + file + "&birthday=800000&window=2000&tls=1", main,
			bitcoind.Config{URL: "https://h:1", User: "u", Password: "from a file", Birthday: 800_000, Window: 2_000}},
	} {
		got, err := bitcoind.ParseURL(c.text, c.net)
		c.want.Network = c.net
		if err != nil || fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", c.want) {
			t.Errorf("%s: %+v, %v", c.text, got, err)
		}
	}
	for _, text := range []string{"", "bitcoind:", "bitcoind://", "http://h:1", "bitcoind://h:x", "bitcoind://h/path", "bitcoind://h#f",
		"bitcoind://h?cookie=", "bitcoind://h?cookie=a&cookie=b", "bitcoind://h?window=7", "bitcoind://h?window=1e9", "bitcoind://h?birthday=-1",
		"bitcoind://h?tls=0", "bitcoind://h?wallet=w", "bitcoind://h?password-file=" + file, "bitcoind://u:secretword@h?password-file=" + file,
		"bitcoind://u@h?password-file=/nothing", "bitcoind://u:secretword@h:x", "bitcoind://u:secretword@h?what=1", "bitcoind://u:secretword%zz@h"} {
		_, err := bitcoind.ParseURL(text, main)
		if !errors.Is(err, bitcoind.ErrConfig) || strings.Contains(err.Error(), "secretword") {
			t.Errorf("%s: %v", text, err)
		}
	}
	for text, want := range map[string]bool{"bitcoind://u:p@h": true, "bitcoind://u@h": false, "bitcoind://h": false, "https://h/api": false, "bitcoind://u:p%zz@h": true} {
		if bitcoind.HasPassword(text) != want {
			t.Errorf("%s has a password: %v", text, !want)
		}
	}
}

func TestConfig(t *testing.T) {
	good := bitcoind.Config{URL: "http://h:1", Cookie: "c"}
	for name, change := range map[string]func(*bitcoind.Config){
		"no credentials": func(c *bitcoind.Config) { c.Cookie = "" },
		"both":           func(c *bitcoind.Config) { c.User = "u" },
		"scheme":         func(c *bitcoind.Config) { c.URL = "ftp://h" },
		"in the URL":     func(c *bitcoind.Config) { c.URL = "http://u:secretword@h" },
		"no URL":         func(c *bitcoind.Config) { c.URL = "http://h\x00:secretword" },
		"fees":           func(c *bitcoind.Config) { c.MinFeeRate, c.MaxFeeRate = 2, 1 },
		"time":           func(c *bitcoind.Config) { c.Timeout = -1 },
	} {
		cfg := good
		change(&cfg)
		if _, err := bitcoind.New(cfg); !errors.Is(err, bitcoind.ErrConfig) || strings.Contains(err.Error(), "secretword") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := bitcoind.New(good); err != nil {
		t.Error(err)
	}
}

// FuzzAnswers: whatever a node says, the client answers or fails with one of the errors of package chain.
func FuzzAnswers(f *testing.F) {
	hash := strings.Repeat("ab", 32)
	for _, s := range []string{`"` + hash + `"`, `null`, `[]`, `{}`, `[null]`, `7`, `"zz"`, `{"hex":"00","blockhash":"` + hash + `","confirmations":3}`,
		`{"height":-1}`, `{"height":5,"time":1}`, `!{"code":-5,"message":"x"}`, `!{"code":-25,"message":"bad-txns-inputs-missingorspent"}`,
		`!{"code":-26,"message":"dust"}`, `!{"code":-1,"message":"pruned"}`, `raw:`, `raw:[{"id":0,"result":null}]`, `raw:[{"id":9}]`,
		`[{"txid":"x","spendingtxid":"` + hash + `"}]`, `{"value":0.1,"confirmations":2,"bestblock":"` + hash + `"}`, `{"package_msg":"transaction failed"}`} {
		f.Add(s, s)
	}
	table := &fake{answers: map[string]string{}}
	s := httptest.NewServer(table)
	f.Cleanup(s.Close)
	f.Fuzz(func(t *testing.T, one, other string) {
		table.mu.Lock()
		for i, method := range []string{"getbestblockhash", "getblockheader", "getblockhash", "getrawtransaction", "gettxout", "gettxspendingprevout",
			"getblock", "getrawmempool", "getmempoolinfo", "estimatesmartfee", "sendrawtransaction", "submitpackage", "getblockchaininfo", "scantxoutset"} {
			table.answers[method] = one
			if i%2 == 0 {
				table.answers[method] = other
			}
		}
		table.mu.Unlock()
		c, err := bitcoind.New(bitcoind.Config{URL: s.URL, User: "u", HTTP: s.Client(), ScanTimeout: 100 * time.Millisecond, Window: 10})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		id := chainhash.Hash{7}
		errs := map[string]error{}
		_, errs["tip"] = c.Tip(ctx)
		_, errs["hash"] = c.BlockHash(ctx, 1)
		_, errs["tx"] = c.Tx(ctx, id)
		_, errs["spend"] = c.Spend(ctx, wire.OutPoint{Hash: id, Index: 1})
		_, errs["utxos"] = c.UTXOs(ctx, []byte{0x51})
		_, errs["history"] = c.History(ctx, []byte{0x51})
		_, errs["fee"] = c.FeeRate(ctx, 1)
		_, errs["health"] = c.Health(ctx)
		errs["send"] = c.Broadcast(ctx, wire.NewMsgTx(2))
		errs["package"] = c.SubmitPackage(ctx, wire.NewMsgTx(2))
		for what, err := range errs {
			if err != nil && !errors.Is(err, chain.ErrUnavailable) && !errors.Is(err, chain.ErrNotFound) && !errors.Is(err, chain.ErrRejected) {
				t.Errorf("%s: %v", what, err)
			}
		}
	})
}
