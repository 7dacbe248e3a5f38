package devnet_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain/devnet"
)

// request asks a node's handler.
func request(t testing.TB, h http.Handler, method, path, body string) (status int, answer string) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader(body)))
	raw, err := io.ReadAll(w.Result().Body)
	if err != nil {
		t.Fatal(err)
	}
	return w.Code, string(raw)
}

// get asks for JSON and wants it.
func get(t testing.TB, h http.Handler, path string, into any) {
	t.Helper()
	status, body := request(t, h, http.MethodGet, path, "")
	if status != http.StatusOK {
		t.Fatalf("GET %s: %d %s", path, status, body)
	}
	if err := json.Unmarshal([]byte(body), into); err != nil {
		t.Fatalf("GET %s: %v in %s", path, err, body)
	}
}

// knowsBlock says whether a node knows a block, of the best chain or of an undone branch.
func knowsBlock(t testing.TB, n *devnet.Node, hash chainhash.Hash) bool {
	t.Helper()
	status, _ := request(t, n.Handler(), http.MethodGet, "/block/"+hash.String(), "")
	return status == http.StatusOK
}

// key is a key of the tests and its P2TR script.
func key(t testing.TB, b byte) (*btcec.PrivateKey, []byte) {
	t.Helper()
	k, _ := btcec.PrivKeyFromBytes([]byte{31: b})
	script, err := txscript.PayToTaprootScript(txscript.ComputeTaprootKeyNoScript(k.PubKey()))
	if err != nil {
		t.Fatal(err)
	}
	return k, script
}

// sign completes the one input of a transaction, which spends from key's script.
func sign(t testing.TB, tx *wire.MsgTx, k *btcec.PrivateKey, script []byte, value int64) *wire.MsgTx {
	t.Helper()
	hashes := txscript.NewTxSigHashes(tx, txscript.NewCannedPrevOutputFetcher(script, value))
	w, err := txscript.TaprootWitnessSignature(tx, hashes, 0, value, script, txscript.SigHashDefault, k)
	if err != nil {
		t.Fatal(err)
	}
	tx.TxIn[0].Witness = w
	return tx
}

// pay spends an output of a P2TR key to a script, replaceable.
func pay(t testing.TB, op wire.OutPoint, value int64, k *btcec.PrivateKey, from, to []byte, fee int64) *wire.MsgTx {
	t.Helper()
	tx := wire.NewMsgTx(2)
	tx.AddTxIn(&wire.TxIn{PreviousOutPoint: op, Sequence: 0xfffffffd})
	tx.AddTxOut(wire.NewTxOut(value-fee, to))
	return sign(t, tx, k, from, value)
}

// mine mines and wants it to succeed.
func mine(t testing.TB, n *devnet.Node, blocks int) {
	t.Helper()
	if _, err := n.Mine(blocks); err != nil {
		t.Fatal(err)
	}
}

// height is the tip's.
func height(t testing.TB, n *devnet.Node) uint32 {
	t.Helper()
	tip, err := n.Tip(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return tip.Height
}

// anyoneElse is a script that tests pay to and never spend from.
func anyoneElse() []byte { return append([]byte{txscript.OP_0, 20}, make([]byte, 20)...) }

// anyoneCanSpend is a script that is valid and not standard, long enough for its transaction to be relayed.
func anyoneCanSpend() []byte {
	return []byte{txscript.OP_NOP, txscript.OP_NOP, txscript.OP_NOP, txscript.OP_NOP, txscript.OP_NOP, txscript.OP_TRUE}
}
