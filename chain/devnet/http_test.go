package devnet_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain/devnet"
)

// shape lists the paths of all fields of a JSON value, "[]" for the elements of an array.
func shape(v any, at string, into map[string]bool) {
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			shape(e, at+"."+k, into)
		}
	case []any:
		for _, e := range v {
			shape(e, at+"[]", into)
		}
	default:
		into[at] = true
	}
}

func wantShape(t *testing.T, h http.Handler, path string, want ...string) {
	t.Helper()
	var v any
	get(t, h, path, &v)
	got := map[string]bool{}
	shape(v, "", got)
	slices.Sort(want)
	if have := slices.Sorted(maps.Keys(got)); !slices.Equal(have, want) {
		t.Errorf("%s has the fields\n%q, want\n%q", path, have, want)
	}
}

func hexTx(t testing.TB, tx *wire.MsgTx) string {
	t.Helper()
	var buf bytes.Buffer
	if err := tx.Serialize(&buf); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(buf.Bytes())
}

var txFields = []string{
	".txid", ".version", ".locktime", ".size", ".weight", ".sigops", ".fee",
	".vin[].txid", ".vin[].vout", ".vin[].scriptsig", ".vin[].scriptsig_asm", ".vin[].witness[]", ".vin[].is_coinbase", ".vin[].sequence",
	".vin[].prevout.scriptpubkey", ".vin[].prevout.scriptpubkey_asm", ".vin[].prevout.scriptpubkey_type",
	".vin[].prevout.scriptpubkey_address", ".vin[].prevout.value",
	".vout[].scriptpubkey", ".vout[].scriptpubkey_asm", ".vout[].scriptpubkey_type", ".vout[].scriptpubkey_address", ".vout[].value",
	".status.confirmed",
}

var inBlock = []string{".status.block_height", ".status.block_hash", ".status.block_time"}

// under puts fields below another one.
func under(at string, fields ...string) (all []string) {
	for _, f := range fields {
		all = append(all, at+f)
	}
	return all
}

// TestEsploraShapes: the fields are those of a public Esplora, no more and no fewer.
func TestEsploraShapes(t *testing.T) {
	n := open(t, devnet.Config{})
	h := n.Handler()
	k, from := key(t, 1)
	op := fund(t, n, from, 100_000)
	mine(t, n, 1)
	tx := pay(t, op, 100_000, k, from, anyoneElse(), 500)
	if err := n.Broadcast(t.Context(), tx); err != nil {
		t.Fatal(err)
	}
	id := tx.TxHash().String()
	sum := sha256.Sum256(from)
	hash := hex.EncodeToString(sum[:])
	stats := []string{".funded_txo_count", ".funded_txo_sum", ".spent_txo_count", ".spent_txo_sum", ".tx_count"}
	blockFields := []string{".id", ".height", ".version", ".timestamp", ".tx_count", ".size", ".weight", ".merkle_root",
		".previousblockhash", ".mediantime", ".nonce", ".bits", ".difficulty"}

	wantShape(t, h, "/tx/"+id, txFields...)
	wantShape(t, h, "/tx/"+id+"/status", ".confirmed")
	wantShape(t, h, "/tx/"+op.Hash.String()+"/outspend/"+fmt.Sprint(op.Index), ".spent", ".txid", ".vin", ".status.confirmed")
	wantShape(t, h, "/tx/"+id+"/outspend/0", ".spent")
	wantShape(t, h, "/tx/"+id+"/outspends", "[].spent")
	wantShape(t, h, "/scripthash/"+hash, append(append(under(".chain_stats", stats...), under(".mempool_stats", stats...)...), ".scripthash")...)
	wantShape(t, h, "/scripthash/"+hash+"/txs/mempool", under("[]", txFields...)...)
	wantShape(t, h, "/mempool", ".count", ".vsize", ".total_fee", ".fee_histogram[][]")
	wantShape(t, h, "/mempool/txids", "[]")
	wantShape(t, h, "/mempool/recent", "[].txid", "[].fee", "[].vsize", "[].value")
	mine(t, n, 1)
	wantShape(t, h, "/tx/"+id, append(slices.Clone(txFields), inBlock...)...)
	wantShape(t, h, "/tx/"+id+"/status", ".confirmed", ".block_height", ".block_hash", ".block_time")
	wantShape(t, h, "/tx/"+id+"/merkle-proof", ".block_height", ".merkle[]", ".pos")
	wantShape(t, h, "/scripthash/"+hash+"/txs", under("[]", append(slices.Clone(txFields), inBlock...)...)...)
	wantShape(t, h, "/scripthash/"+hash+"/utxo")
	var coinbase string
	for _, c := range []string{"/blocks", "/blocks/17"} {
		wantShape(t, h, c, under("[]", blockFields...)...)
	}
	_, best := request(t, h, http.MethodGet, "/blocks/tip/hash", "")
	wantShape(t, h, "/block/"+best, blockFields...)
	wantShape(t, h, "/block/"+best+"/status", ".in_best_chain", ".height", ".next_best")
	wantShape(t, h, "/block/"+best+"/txids", "[]")
	if _, coinbase = request(t, h, http.MethodGet, "/block/"+best+"/txid/0", ""); len(coinbase) != 64 {
		t.Errorf("the coinbase is %q", coinbase)
	}
	wantShape(t, h, "/devnet", ".devnet", ".network", ".height")
}

func TestEsploraValues(t *testing.T) {
	n := open(t, devnet.Config{})
	h := n.Handler()
	k, from := key(t, 1)
	op := fund(t, n, from, 100_000)
	mine(t, n, 1)
	data, err := txscript.NullDataScript([]byte("hello"))
	if err != nil {
		t.Fatal(err)
	}
	tx := pay(t, op, 100_000, k, from, anyoneElse(), 1_000)
	tx.AddTxOut(wire.NewTxOut(0, data))
	sign(t, tx, k, from, 100_000)
	if status, body := request(t, h, http.MethodPost, "/tx", "\n"+hexTx(t, tx)+"\n"); status != 200 || body != tx.TxHash().String() {
		t.Fatalf("POST /tx: %d %s", status, body)
	}
	var j struct {
		Fee, Locktime, Sigops int64
		Weight, Size          int
		Vin                   []struct {
			Prevout  struct{ Value int64 }
			Sequence uint32
			Witness  []string
		}
		Vout []struct {
			Asm     string `json:"scriptpubkey_asm"`
			Type    string `json:"scriptpubkey_type"`
			Address string `json:"scriptpubkey_address"`
			Value   int64
		}
	}
	get(t, h, "/tx/"+tx.TxHash().String(), &j)
	if j.Fee != 1_000 || j.Vin[0].Prevout.Value != 100_000 || j.Vin[0].Sequence != 0xfffffffd || len(j.Vin[0].Witness[0]) != 128 ||
		j.Vout[0].Value != 99_000 || j.Vout[0].Type != "v0_p2wpkh" || j.Vout[0].Address != "bcrt1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqdku202" ||
		j.Vout[0].Asm != "OP_0 OP_PUSHBYTES_20 "+strings.Repeat("00", 20) ||
		j.Vout[1].Type != "op_return" || j.Vout[1].Asm != "OP_RETURN OP_PUSHBYTES_5 68656c6c6f" || j.Vout[1].Address != "" {
		t.Errorf("%+v", j)
	}
	if j.Weight != 4*tx.SerializeSizeStripped()+tx.SerializeSize()-tx.SerializeSizeStripped() || j.Size != tx.SerializeSize() {
		t.Errorf("weight %d, size %d", j.Weight, j.Size)
	}
	const addr = "bcrt1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqdku202"
	coin := fmt.Sprintf(`[{"txid":"%s","vout":0,"status":{"confirmed":false},"value":99000}]`, tx.TxHash())
	sum := sha256.Sum256(anyoneElse())
	for path, want := range map[string]string{
		"/address/" + addr + "/utxo":                          coin,
		"/scripthash/" + hex.EncodeToString(sum[:]) + "/utxo": coin,
		"/address/" + strings.ToUpper(addr) + "/txs/chain":    "[]",
		"/address/" + addr:                                    `{"address":"` + addr + `","chain_stats":{"funded_txo_count":0,"funded_txo_sum":0,"spent_txo_count":0,"spent_txo_sum":0,"tx_count":0},"mempool_stats":{"funded_txo_count":1,"funded_txo_sum":99000,"spent_txo_count":0,"spent_txo_sum":0,"tx_count":1}}`,
		"/tx/" + tx.TxHash().String() + "/hex":                hexTx(t, tx),
		"/blocks/tip/height":                                  "251",
		"/block-height/0":                                     devnet.Params().GenesisHash.String(),
		"/block/" + genesis() + "/status":                     `{"in_best_chain":true,"height":0,"next_best":"` + blockAt(t, h, 1) + `"}`,
		"/block/" + blockAt(t, h, 3) + "/header":              headerOf(t, h, blockAt(t, h, 3)),
	} {
		if status, body := request(t, h, http.MethodGet, path, ""); status != 200 || body != want {
			t.Errorf("%s: %d %s, want %s", path, status, body, want)
		}
	}
	if _, raw := request(t, h, http.MethodGet, "/tx/"+tx.TxHash().String()+"/raw", ""); hex.EncodeToString([]byte(raw)) != hexTx(t, tx) {
		t.Error("the raw transaction has other bytes")
	}
	undone := blockAt(t, h, 251)
	if err := n.Reorg(1, 2); err != nil {
		t.Fatal(err)
	}
	if _, body := request(t, h, http.MethodGet, "/block/"+undone+"/status", ""); body != `{"in_best_chain":false,"height":null,"next_best":null}` {
		t.Errorf("an undone block: %s", body)
	}
	wantShape(t, h, "/block/"+undone+"/txids", "[]")
	if status, body := request(t, h, http.MethodGet, "/block/"+undone+"/txs", ""); status != 200 {
		t.Errorf("transactions of an undone block: %d %s", status, body)
	}
}

func genesis() string { return devnet.Params().GenesisHash.String() }

func blockAt(t testing.TB, h http.Handler, height int) string {
	t.Helper()
	status, body := request(t, h, http.MethodGet, fmt.Sprintf("/block-height/%d", height), "")
	if status != 200 {
		t.Fatalf("block at %d: %d %s", height, status, body)
	}
	return body
}

// headerOf cuts the header out of a raw block, whose hash it must have.
func headerOf(t testing.TB, h http.Handler, hash string) string {
	t.Helper()
	_, raw := request(t, h, http.MethodGet, "/block/"+hash+"/raw", "")
	if len(raw) < 80 || chainhash.DoubleHashH([]byte(raw[:80])).String() != hash {
		t.Fatalf("block %s has other bytes", hash)
	}
	return hex.EncodeToString([]byte(raw[:80]))
}

func TestMerkleProof(t *testing.T) {
	n := open(t, devnet.Config{})
	h := n.Handler()
	for txs := 1; txs <= 9; txs++ {
		var last chainhash.Hash
		for range txs {
			last = fund(t, n, anyoneElse(), 10_000).Hash
		}
		mine(t, n, 1)
		var block struct {
			Root string `json:"merkle_root"`
		}
		get(t, h, "/block/"+blockAt(t, h, 250+txs), &block)
		var p struct {
			Height int `json:"block_height"`
			Merkle []string
			Pos    int
		}
		get(t, h, "/tx/"+last.String()+"/merkle-proof", &p)
		at, sum := p.Pos, last
		for _, m := range p.Merkle {
			other, err := chainhash.NewHashFromStr(m)
			if err != nil {
				t.Fatal(err)
			}
			if at%2 == 0 {
				sum = chainhash.DoubleHashH(append(sum[:], other[:]...))
			} else {
				sum = chainhash.DoubleHashH(append(other[:], sum[:]...))
			}
			at /= 2
		}
		if at != 0 || sum.String() != block.Root || p.Height != 250+txs {
			t.Errorf("%d transactions: the proof leads to %s at %d, the root is %s", txs, sum, p.Height, block.Root)
		}
	}
}

func TestHTTPErrors(t *testing.T) {
	n := open(t, devnet.Config{})
	h := n.Handler()
	nobody := strings.Repeat("ab", 32)
	for _, c := range []struct {
		method, path, body string
		status             int
		text               string
	}{
		{"GET", "/tx/" + nobody, "", 404, "Transaction not found"},
		{"GET", "/tx/" + nobody + "/hex", "", 404, "Transaction not found"},
		{"GET", "/tx/" + nobody + "/status", "", 200, `{"confirmed":false}`},
		{"GET", "/tx/" + nobody + "/outspend/0", "", 200, `{"spent":false}`},
		{"GET", "/tx/" + nobody + "/outspend/-1", "", 400, "Invalid number"},
		{"GET", "/tx/zz", "", 400, "Invalid hex string"},
		{"GET", "/tx/" + nobody[1:], "", 400, "Invalid hex string"},
		{"GET", "/block/" + nobody, "", 404, "Block not found"},
		{"GET", "/block-height/251", "", 404, "Block not found"},
		{"GET", "/block-height/x", "", 400, "Invalid number"},
		{"GET", "/block-height/4294967296", "", 400, "Invalid number"},
		{"GET", "/blocks/x", "", 400, "Invalid number"},
		{"GET", "/block/" + genesis() + "/txs/7", "", 400, "start index must be a multipication of 25"},
		{"GET", "/block/" + genesis() + "/txs/25", "", 400, "start index out of range"},
		{"GET", "/block/" + genesis() + "/txid/1", "", 404, "tx not found"},
		{"GET", "/address/bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq", "", 400, "Invalid Bitcoin address"},
		{"GET", "/address/nonsense/utxo", "", 400, "Invalid Bitcoin address"},
		{"GET", "/scripthash/00", "", 400, "Invalid hex string"},
		{"GET", "/scripthash/" + nobody + "/utxo", "", 200, "[]"},
		{"GET", "/scripthash/" + nobody + "/txs/chain/" + nobody, "", 422, "last_seen_txid not found"},
		{"GET", "/nothing", "", 404, "404 page not found"},
		{"DELETE", "/tx/" + nobody, "", 405, "Method Not Allowed"},
		{"POST", "/tx", "", 400, `sendrawtransaction RPC error: {"code":-22,"message":"TX decode failed. Make sure the tx has at least one input."}`},
		{"POST", "/tx", "nonsense", 400, `sendrawtransaction RPC error: {"code":-22,"message":"TX decode failed. Make sure the tx has at least one input."}`},
		{"POST", "/tx", "0200", 400, `sendrawtransaction RPC error: {"code":-22,"message":"TX decode failed. Make sure the tx has at least one input."}`},
		{"POST", "/tx", strings.Repeat("00", 1<<20) + "0", 413, "The body is larger than 2097152 bytes"},
		{"POST", "/mine", `{"blocks":0}`, 400, "devnet: out of range: 0 blocks, at least 1 and at most 10000 can be mined at once"},
		{"POST", "/mine", `{"block":1}`, 400, `Invalid JSON: json: unknown field "block"`},
		{"POST", "/mine", `{}{}`, 400, "Invalid JSON: more than one value"},
		{"POST", "/mine", strings.Repeat(" ", 65<<10), 413, "The body is larger than 65536 bytes"},
		{"POST", "/reorg", `{"depth":0}`, 400, "devnet: out of range: 0 blocks can't be undone at height 250"},
		{"POST", "/reorg", `{"depth":1,"drop":["x"]}`, 400, `Invalid txid "x"`},
		{"POST", "/reorg", `{"depth":1,"mine":["x"]}`, 400, "Invalid transaction hex"},
		{"POST", "/faucet", `{"sat":1000}`, 400, "Either an address or a script is needed"},
		{"POST", "/faucet", `{"sat":1000,"script":"0","address":""}`, 400, "Invalid address or script: encoding/hex: odd length hex string"},
		{"POST", "/faucet", `{"sat":1,"script":"0014` + strings.Repeat("00", 20) + `"}`, 400, "devnet: out of range: 1 sat, the faucet pays at least 330"},
		{"POST", "/faucet", `{"sat":2100000000000000,"script":"0014` + strings.Repeat("00", 20) + `"}`, 400, ""},
	} {
		status, body := request(t, h, c.method, c.path, c.body)
		if status != c.status || c.text != "" && strings.TrimSpace(body) != c.text {
			t.Errorf("%s %s: %d %q, want %d %q", c.method, c.path, status, body, c.status, c.text)
		}
	}
}

// TestPostKnown: a transaction of the mempool is accepted again, one of a block is not, as on a bitcoind.
func TestPostKnown(t *testing.T) {
	n := open(t, devnet.Config{})
	h := n.Handler()
	k, from := key(t, 1)
	op := fund(t, n, from, 100_000)
	mine(t, n, 1)
	raw := hexTx(t, pay(t, op, 100_000, k, from, anyoneElse(), 500))
	for range 2 {
		if status, body := request(t, h, http.MethodPost, "/tx", raw); status != 200 {
			t.Fatalf("%d %s", status, body)
		}
	}
	mine(t, n, 1)
	const known = `sendrawtransaction RPC error: {"code":-27,"message":"Transaction outputs already in utxo set"}`
	if status, body := request(t, h, http.MethodPost, "/tx", raw); status != 400 || strings.TrimSpace(body) != known {
		t.Fatalf("%d %s", status, body)
	}
	other := hexTx(t, pay(t, op, 100_000, k, from, anyoneElse(), 600))
	if status, body := request(t, h, http.MethodPost, "/tx", other); status != 400 ||
		!strings.HasPrefix(body, `sendrawtransaction RPC error: {"code":-25,"message":"bad-txns-inputs-missingorspent`) {
		t.Fatalf("%d %s", status, body)
	}
}

func TestDevnetRequests(t *testing.T) {
	n := open(t, devnet.Config{})
	h := n.Handler()
	_, script := key(t, 1)
	status, body := request(t, h, http.MethodPost, "/faucet", fmt.Sprintf(`{"script":"%x","sat":15000000000}`, script))
	var paid struct {
		Txid string
		Sat  int64
	}
	if err := json.Unmarshal([]byte(body), &paid); status != 200 || err != nil || paid.Sat != 15_000_000_000 {
		t.Fatalf("%d %s %v", status, body, err)
	}
	status, body = request(t, h, http.MethodPost, "/faucet", `{"address":"bcrt1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqdku202","sat":1000}`)
	if status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	var moved struct {
		Hashes []string
		Height int
		Hash   string
	}
	status, body = request(t, h, http.MethodPost, "/mine", `{"blocks":2}`)
	if err := json.Unmarshal([]byte(body), &moved); status != 200 || err != nil || moved.Height != 252 || len(moved.Hashes) != 2 || moved.Hash != moved.Hashes[1] {
		t.Fatalf("%d %s %v", status, body, err)
	}
	status, body = request(t, h, http.MethodPost, "/reorg", `{"depth":2,"drop":["`+paid.Txid+`"]}`)
	if err := json.Unmarshal([]byte(body), &moved); status != 200 || err != nil || moved.Height != 253 || len(moved.Hashes) != 3 {
		t.Fatalf("%d %s %v", status, body, err)
	}
	if status, _ := request(t, h, http.MethodGet, "/tx/"+paid.Txid, ""); status != 404 {
		t.Errorf("a transaction that was dropped: %d", status)
	}
	k, from := key(t, 3)
	op := fund(t, n, from, 100_000)
	mine(t, n, 1)
	theft := pay(t, op, 100_000, k, from, anyoneElse(), 500)
	status, body = request(t, h, http.MethodPost, "/reorg", `{"depth":1,"length":2,"mine":["`+hexTx(t, pay(t, op, 99_999, k, from, anyoneElse(), 500))+`"]}`)
	if status != 400 || !strings.HasPrefix(body, "devnet: the block is invalid") {
		t.Errorf("a branch with an invalid block: %d %s", status, body)
	}
	mine(t, n, 1)
	status, body = request(t, h, http.MethodPost, "/reorg", `{"depth":1,"length":2,"mine":["`+hexTx(t, theft)+`"]}`)
	if status != 200 {
		t.Errorf("a branch with a transaction: %d %s", status, body)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if status, _ := request(t, h, http.MethodGet, "/blocks/tip/height", ""); status != 503 {
		t.Errorf("a closed node answers %d", status)
	}
}
