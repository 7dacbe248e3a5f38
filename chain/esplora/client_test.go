package esplora_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/chain/devnet"
	"github.com/spillway/spillway/chain/esplora"
)

// answer is what a server of the tests says to one path.
type answer struct {
	status int
	body   string
	header http.Header
}

// scripted is a server with fixed answers, and those asked for.
type scripted struct {
	answers map[string]answer
	asked   []string
}

func (s *scripted) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.asked = append(s.asked, r.Method+" "+r.URL.Path)
	a, ok := s.answers[r.Method+" "+r.URL.Path]
	if !ok {
		a = answer{status: 404, body: "not found"}
	}
	for k, v := range a.header {
		w.Header()[k] = v
	}
	if a.status == 0 {
		a.status = 200
	}
	w.WriteHeader(a.status)
	if _, err := io.WriteString(w, a.body); err != nil {
		return // the client has gone
	}
}

// against starts a scripted server and a client of it that checks no network and never waits.
func against(t testing.TB, answers map[string]answer, change ...func(*esplora.Config)) (*esplora.Client, *scripted) {
	t.Helper()
	s := &scripted{answers: answers}
	srv := httptest.NewServer(s)
	t.Cleanup(srv.Close)
	cfg := esplora.Config{URL: srv.URL + "/api/", Sleep: func(context.Context, time.Duration) error { return nil }}
	for _, c := range change {
		c(&cfg)
	}
	c, err := esplora.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c, s
}

// sample is a transaction with one input and one output, and a script that the output pays to.
func sample(lock uint32) (tx *wire.MsgTx, script []byte) {
	script = append([]byte{0, 20}, make([]byte, 20)...)
	tx = wire.NewMsgTx(2)
	tx.LockTime = lock
	tx.AddTxIn(&wire.TxIn{PreviousOutPoint: wire.OutPoint{Hash: chainhash.Hash{7}, Index: 1}, Witness: wire.TxWitness{{1}}})
	tx.AddTxOut(wire.NewTxOut(5_000, script))
	return tx, script
}

func hexTx(t testing.TB, tx *wire.MsgTx) string {
	t.Helper()
	var buf bytes.Buffer
	if err := tx.Serialize(&buf); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(buf.Bytes())
}

const (
	unconfirmed = `{"confirmed":false}`
	someHash    = "00000000000000000001f1f2f3f4f5f6f7f8f9fafbfcfdfeff00010203040506"
)

var confirmed = `{"confirmed":true,"block_height":7,"block_hash":"` + someHash + `","block_time":1}`

func scriptURL(s []byte) string {
	return "GET /api/scripthash/" + fmt.Sprintf("%x", sha256.Sum256(s))
}

func TestNew(t *testing.T) {
	for _, cfg := range []esplora.Config{
		{}, {URL: "blockstream.info/api"}, {URL: "ftp://x"}, {URL: "http://"}, {URL: "http://x/?a=b"}, {URL: "http://x/#y"},
		{URL: "http://x\x00"}, {URL: "http://x", MinFeeRate: -1}, {URL: "http://x", MinFeeRate: 9, MaxFeeRate: 8},
		{URL: "http://x", Timeout: -1}, {URL: "http://x", Tries: -1},
	} {
		if _, err := esplora.New(cfg); !errors.Is(err, esplora.ErrConfig) {
			t.Errorf("%+v: %v", cfg, err)
		}
	}
	c, err := esplora.New(esplora.Config{URL: "https://example.com/api//"})
	if err != nil || c.URL() != "https://example.com/api" {
		t.Errorf("%v %v", c, err)
	}
}

// TestPitfall39_LyingServer: what a server can't prove by the bytes of transactions it may say; what these bytes
// refute is nonsense.
func TestPitfall39_LyingServer(t *testing.T) {
	tx, script := sample(0)
	other, _ := sample(1)
	id, op := tx.TxHash(), tx.TxIn[0].PreviousOutPoint
	at := "GET /api/tx/" + id.String()
	spend := fmt.Sprintf("GET /api/tx/%s/outspend/%d", op.Hash, op.Index)
	good := map[string]answer{
		at + "/hex": {body: hexTx(t, tx)}, at + "/status": {body: confirmed},
		spend:                       {body: `{"spent":true,"txid":"` + id.String() + `","vin":0,"status":` + confirmed + `}`},
		scriptURL(script) + "/utxo": {body: `[{"txid":"` + id.String() + `","vout":0,"value":5000,"status":` + confirmed + `}]`},
		scriptURL(script) + "/txs":  {body: `[{"txid":"` + id.String() + `","status":` + confirmed + `}]`},
		"GET /api/blocks/tip/hash":  {body: someHash}, "GET /api/block/" + someHash: {body: `{"id":"` + someHash + `","height":7,"timestamp":1700000000}`},
		"GET /api/fee-estimates": {body: `{"1":12.5,"6":3,"144":0.2}`}, "GET /api/block-height/7": {body: someHash},
		"POST /api/tx": {body: id.String()},
	}
	ask := func(c *esplora.Client) map[string]error {
		ctx := t.Context()
		errs := map[string]error{}
		_, errs["tip"] = c.Tip(ctx)
		_, errs["hash"] = c.BlockHash(ctx, 7)
		_, errs["tx"] = c.Tx(ctx, id)
		_, errs["spend"] = c.Spend(ctx, op)
		_, errs["utxos"] = c.UTXOs(ctx, script)
		_, errs["history"] = c.History(ctx, script)
		_, errs["fee"] = c.FeeRate(ctx, 2)
		errs["send"] = c.Broadcast(ctx, tx)
		return errs
	}
	c, _ := against(t, good)
	for what, err := range ask(c) {
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	replace := func(s string, to ...string) func(string) string {
		return func(body string) string { return strings.NewReplacer(append([]string{s}, to...)...).Replace(body) }
	}
	for _, lie := range []struct {
		name, path string
		change     func(string) string
		hit        string // the calls that must notice, by comma
	}{
		{"another transaction", at + "/hex", func(string) string { return hexTx(t, other) }, "tx,spend,utxos,history"},
		{"a longer transaction", at + "/hex", func(s string) string { return s + "00" }, "tx,spend,utxos,history"},
		{"a shorter transaction", at + "/hex", func(s string) string { return s[:len(s)-2] }, "tx,spend,utxos,history"},
		{"no hex", at + "/hex", func(s string) string { return "<html>" }, "tx,spend,utxos,history"},
		{"confirmed nowhere", at + "/status", replace(`"block_height":7,`, ``), "tx"},
		{"confirmed in no block", at + "/status", replace(someHash, ``), "tx"},
		{"no status", at + "/status", func(string) string { return "{}" }, "tx"},
		{"a null status", at + "/status", func(string) string { return "null" }, "tx"},
		{"a height below zero", at + "/status", replace(`:7`, `:-7`), "tx"},
		{"a height above all", at + "/status", replace(`:7`, `:4294967296`), "tx"},
		{"two values", at + "/status", func(s string) string { return s + s }, "tx"},
		{"spent by another input", spend, replace(`"vin":0`, `"vin":1`), "spend"},
		{"spent by no input", spend, replace(`"vin":0,`, ``), "spend"},
		{"spent by nobody", spend, replace(id.String(), ``), "spend"},
		{"spent or not", spend, func(string) string { return "{}" }, "spend"},
		{"a spend without status", spend, replace(`"status"`, `"state"`), "spend"},
		{"a larger coin", scriptURL(script) + "/utxo", replace(`5000`, `5001`), "utxos"},
		{"a coin of another output", scriptURL(script) + "/utxo", replace(`"vout":0`, `"vout":1`), "utxos"},
		{"a coin without value", scriptURL(script) + "/utxo", replace(`"value":5000,`, ``), "utxos"},
		{"coins as an object", scriptURL(script) + "/utxo", func(string) string { return "{}" }, "utxos"},
		{"a history of nothing", scriptURL(script) + "/txs", replace(id.String(), `xyz`), "history"},
		{"another block", "GET /api/block/" + someHash, replace(someHash, strings.Repeat("1", 64)), "tip"},
		{"a block without height", "GET /api/block/" + someHash, replace(`"height":7,`, ``), "tip"},
		{"a block before time", "GET /api/block/" + someHash, replace(`1700000000`, `-1`), "tip"},
		{"a tip of words", "GET /api/blocks/tip/hash", func(string) string { return "<html>moved</html>" }, "tip"},
		{"a block of words", "GET /api/block-height/7", func(string) string { return strings.Repeat("z", 64) }, "hash"},
		{"fees as a list", "GET /api/fee-estimates", func(string) string { return "[1]" }, "fee"},
		{"a fee for no block", "GET /api/fee-estimates", replace(`"1"`, `"0"`), "fee"},
		{"a fee for a word", "GET /api/fee-estimates", replace(`"1"`, `"soon"`), "fee"},
		{"a fee below zero", "GET /api/fee-estimates", replace(`12.5`, `-12.5`), "fee"},
		{"another txid", "POST /api/tx", func(string) string { return other.TxHash().String() }, "send"},
		{"no txid", "POST /api/tx", func(string) string { return "ok" }, "send"},
	} {
		answers := map[string]answer{}
		for k, v := range good {
			answers[k] = v
		}
		answers[lie.path] = answer{body: lie.change(good[lie.path].body)}
		if answers[lie.path].body == good[lie.path].body {
			t.Fatalf("%s changes nothing", lie.name)
		}
		c, _ := against(t, answers)
		for what, err := range ask(c) {
			hit := strings.Contains(","+lie.hit+",", ","+what+",")
			if hit && !(errors.Is(err, esplora.ErrNonsense) && errors.Is(err, chain.ErrUnavailable)) {
				t.Errorf("%s: %s: %v", lie.name, what, err)
			}
			if !hit && err != nil {
				t.Errorf("%s: %s fails too: %v", lie.name, what, err)
			}
		}
	}
}

// TestPitfall40_SixtyFourBytes: bytes that hash to the txid and may be an inner node of a Merkle tree are refused.
func TestPitfall40_SixtyFourBytes(t *testing.T) {
	tx, _ := sample(0)
	tx.TxOut[0].PkScript = []byte{0x51, 2, 0x4e, 0x73}
	if tx.SerializeSizeStripped() != 64 {
		t.Fatalf("%d bytes", tx.SerializeSizeStripped())
	}
	at := "GET /api/tx/" + tx.TxHash().String()
	c, _ := against(t, map[string]answer{at + "/hex": {body: hexTx(t, tx)}, at + "/status": {body: unconfirmed}})
	if _, err := c.Tx(t.Context(), tx.TxHash()); !errors.Is(err, esplora.ErrNonsense) {
		t.Fatal(err)
	}
}

// TestPitfall41_EndlessBodies: an answer is read up to its limit and no further.
func TestPitfall41_EndlessBodies(t *testing.T) {
	endless := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		block := bytes.Repeat([]byte("0"), 1<<16)
		for {
			if _, err := w.Write(block); err != nil {
				return
			}
		}
	}))
	defer endless.Close()
	c, err := esplora.New(esplora.Config{URL: endless.URL})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}()
	_, script := sample(0)
	ctx := t.Context()
	_, tip := c.Tip(ctx)
	_, hash := c.BlockHash(ctx, 1)
	_, tx := c.Tx(ctx, chainhash.Hash{1})
	_, utxos := c.UTXOs(ctx, script)
	_, fee := c.FeeRate(ctx, 1)
	for i, err := range []error{tip, hash, tx, utxos, fee} {
		if !errors.Is(err, esplora.ErrNonsense) {
			t.Errorf("call %d: %v", i, err)
		}
	}
	if is, err := c.IsDevnet(ctx); is || err != nil {
		t.Errorf("an endless page is a devnet: %v %v", is, err)
	}
}

func TestPitfall41_SilentServer(t *testing.T) {
	quiet := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { <-quiet }))
	defer s.Close()
	defer close(quiet)
	c, err := esplora.New(esplora.Config{URL: s.URL, Timeout: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Tip(t.Context()); !errors.Is(err, chain.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestPitfall42_Redirect: a redirect to another host is not followed, least of all with a transaction.
func TestPitfall42_Redirect(t *testing.T) {
	reached := false
	thief := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached = true }))
	defer thief.Close()
	to := http.Header{"Location": {thief.URL + "/tx"}}
	tx, _ := sample(0)
	c, _ := against(t, map[string]answer{
		"POST /api/tx":             {status: 307, header: to},
		"GET /api/blocks/tip/hash": {status: 302, header: to},
	})
	if err := c.Broadcast(t.Context(), tx); !errors.Is(err, chain.ErrUnavailable) {
		t.Error(err)
	}
	if _, err := c.Tip(t.Context()); !errors.Is(err, chain.ErrUnavailable) {
		t.Error(err)
	}
	if reached {
		t.Error("the other host was asked")
	}
}

func TestNetwork(t *testing.T) {
	_, s := serve(t, devnet.Config{})
	c, err := esplora.New(esplora.Config{URL: s.URL, Network: &chaincfg.MainNetParams})
	if err != nil {
		t.Fatal(err)
	}
	tx, script := sample(0)
	ctx := t.Context()
	_, tip := c.Tip(ctx)
	_, coins := c.UTXOs(ctx, script)
	_, paid := c.Faucet(ctx, script, 1_000)
	for i, err := range []error{tip, coins, paid, c.Broadcast(ctx, tx), c.Mine(ctx, 1), c.CheckNetwork(ctx)} {
		if !errors.Is(err, esplora.ErrNetwork) || !errors.Is(err, chain.ErrUnavailable) {
			t.Errorf("call %d to another network: %v", i, err)
		}
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestDevnet(t *testing.T) {
	n, s := serve(t, devnet.Config{})
	c := client(t, s.URL)
	ctx := t.Context()
	if is, err := c.IsDevnet(ctx); !is || err != nil {
		t.Fatalf("%v %v", is, err)
	}
	_, script := sample(0)
	id, err := c.Faucet(ctx, script, 150_000_000_00)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := n.Tx(ctx, id); err != nil || info.Confirmed {
		t.Fatalf("%+v %v", info, err)
	}
	if _, err := c.Faucet(ctx, script, 1); !errors.Is(err, chain.ErrRejected) {
		t.Errorf("dust: %v", err)
	}
	if err := c.Mine(ctx, 0); !errors.Is(err, chain.ErrRejected) {
		t.Errorf("no blocks: %v", err)
	}
	if _, err := c.Faucet(ctx, script, 21_000_000*100_000_000); !errors.Is(err, chain.ErrRejected) {
		t.Errorf("more than there is: %v", err)
	}
	plain, _ := against(t, nil)
	if is, err := plain.IsDevnet(ctx); is || err != nil {
		t.Errorf("another server: %v %v", is, err)
	}
	if _, err := plain.Faucet(ctx, script, 1_000); !errors.Is(err, chain.ErrNotFound) {
		t.Errorf("a faucet elsewhere: %v", err)
	}
	s.Close()
	if _, err := client(t, s.URL).IsDevnet(ctx); !errors.Is(err, chain.ErrUnavailable) {
		t.Errorf("a server that is gone: %v", err)
	}
}

func TestBusyServer(t *testing.T) {
	for status, tries := range map[int]int{429: 3, 502: 3, 503: 3, 504: 3, 500: 1, 400: 1, 403: 1, 404: 1} {
		var pauses []time.Duration
		c, s := against(t, map[string]answer{"GET /api/block-height/9": {status: status, header: http.Header{"Retry-After": {"3600"}}}},
			func(cfg *esplora.Config) {
				cfg.Sleep = func(_ context.Context, d time.Duration) error {
					pauses = append(pauses, d)
					return nil
				}
			})
		_, err := c.BlockHash(t.Context(), 9)
		want := chain.ErrUnavailable
		if status == 404 {
			want = chain.ErrNotFound
		}
		if !errors.Is(err, want) || len(s.asked) != tries || len(pauses) != tries-1 {
			t.Errorf("%d: %v after %d tries and %v", status, err, len(s.asked), pauses)
		}
		for _, p := range pauses {
			if p > 5*time.Second {
				t.Errorf("%d: a pause of %v", status, p)
			}
		}
	}
}

// TestRejectWords: the node's message is found in what different servers wrap around it.
func TestRejectWords(t *testing.T) {
	tx, _ := sample(0)
	for body, want := range map[string]string{
		`sendrawtransaction RPC error: {"code":-26,"message":"non-final"}`:                          "non-final",
		`sendrawtransaction RPC error -26: min relay fee not met, 10 < 111`:                         "min relay fee not met, 10 < 111",
		`sendrawtransaction RPC error: -25: bad-txns-inputs-missingorspent`:                         "bad-txns-inputs-missingorspent",
		`sendrawtransaction RPC error: something else`:                                              "something else",
		"Transaction\nis\x1b[31m bad":                                                               "Transaction is [31m bad",
		`sendrawtransaction RPC error: {"code":-26,"message":"mempool-script-verify-flag-failed"}x`: `{"code":-26,"message":"mempool-script-verify-flag-failed"}x`,
	} {
		c, _ := against(t, map[string]answer{"POST /api/tx": {status: 400, body: body}})
		var r *chain.RejectError
		if err := c.Broadcast(t.Context(), tx); !errors.As(err, &r) || r.Reason != want {
			t.Errorf("%q: %v", body, err)
		}
	}
	// A refusal of what is known after all is none; one that can't be looked into is no refusal either.
	known := map[string]answer{
		"POST /api/tx": {status: 400, body: `sendrawtransaction RPC error: {"code":-27,"message":"Transaction outputs already in utxo set"}`},
		"GET /api/tx/" + tx.TxHash().String() + "/hex": {body: hexTx(t, tx)},
	}
	c, _ := against(t, known)
	if err := c.Broadcast(t.Context(), tx); err != nil {
		t.Errorf("a transaction of a block: %v", err)
	}
	known["GET /api/tx/"+tx.TxHash().String()+"/hex"] = answer{status: 500}
	if err := c.Broadcast(t.Context(), tx); !errors.Is(err, chain.ErrUnavailable) || errors.Is(err, chain.ErrRejected) {
		t.Errorf("a refusal by a server that then fails: %v", err)
	}
}
