package bitcoindtest

import (
	"bytes"
	"encoding/hex"
	"fmt"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"
)

// maturity is how many blocks deep a coinbase can be spent.
const maturity = 100

// fundingFee is what each funding transaction pays, in sat.
const fundingFee = 10_000

// purse is the output that Fund spends next, of a key of the tests.
type purse struct {
	key    *btcec.PrivateKey
	script []byte
	out    wire.OutPoint
	value  int64 // sat
}

// fillPurse mines a coinbase to the purse's key and makes it spendable.
func (n *Node) fillPurse() {
	n.t.Helper()
	n.purse.key, _ = btcec.PrivKeyFromBytes(bytes.Repeat([]byte{0x21}, 32))
	script, err := txscript.PayToTaprootScript(txscript.ComputeTaprootKeyNoScript(n.purse.key.PubKey()))
	if err != nil {
		n.t.Fatal(err)
	}
	n.purse.script = script
	n.Mine(1)
	var block struct {
		Tx []struct{ Hex string }
	}
	n.call(&block, "getblock", n.BlockHash(1), 2)
	coinbase := n.decode(block.Tx[0].Hex)
	n.purse.out, n.purse.value = wire.OutPoint{Hash: coinbase.TxHash()}, coinbase.TxOut[0].Value
	n.Mine(maturity)
}

// Mine mines blocks with what is in the mempool.
func (n *Node) Mine(blocks int) {
	n.t.Helper()
	n.call(nil, "generatetodescriptor", blocks, fmt.Sprintf("raw(%x)", n.purse.script))
}

// MineTo mines until the tip has this height. The test fails if it is higher.
func (n *Node) MineTo(height int64) {
	n.t.Helper()
	now := n.Height()
	if now > height {
		n.t.Fatalf("the tip is %d already, not %d", now, height)
	}
	n.Mine(int(height - now))
}

// Height is the tip's height.
func (n *Node) Height() int64 {
	n.t.Helper()
	var height int64
	n.call(&height, "getblockcount")
	return height
}

// BlockHash is the hash, in hex, of the block at a height.
func (n *Node) BlockHash(height int64) string {
	n.t.Helper()
	var hash string
	n.call(&hash, "getblockhash", height)
	return hash
}

// Tx is a transaction of the chain or the mempool, by its id in hex.
func (n *Node) Tx(txid string) *wire.MsgTx {
	n.t.Helper()
	var raw string
	n.call(&raw, "getrawtransaction", txid)
	b, err := hex.DecodeString(raw)
	if err != nil {
		n.t.Fatal(err)
	}
	tx := wire.NewMsgTx(0)
	if err := tx.Deserialize(bytes.NewReader(b)); err != nil {
		n.t.Fatal(err)
	}
	return tx
}

// MinedAt is the height of the block that a transaction is in, 0 while it is in
// the mempool. The test fails where the node does not know it.
func (n *Node) MinedAt(tx *wire.MsgTx) int64 {
	n.t.Helper()
	var info struct{ BlockHash string }
	n.call(&info, "getrawtransaction", tx.TxID(), 1)
	if info.BlockHash == "" {
		return 0
	}
	var header struct{ Height int64 }
	n.call(&header, "getblockheader", info.BlockHash)
	return header.Height
}

// Fund pays an amount (sat) to a script and mines it.
func (n *Node) Fund(pkScript []byte, sat int64) wire.OutPoint {
	n.t.Helper()
	return n.FundAll(&wire.TxOut{Value: sat, PkScript: pkScript})[0]
}

// FundAll makes outputs in one transaction of segwit inputs, and mines it.
func (n *Node) FundAll(outputs ...*wire.TxOut) []wire.OutPoint {
	n.t.Helper()
	tx := n.FundingTx(outputs...)
	if err := n.Send(tx); err != nil {
		n.t.Fatalf("funding: %v", err)
	}
	n.Mine(1)
	made := make([]wire.OutPoint, len(outputs))
	for i := range outputs {
		made[i] = wire.OutPoint{Hash: tx.TxHash(), Index: uint32(i)}
	}
	return made
}

// FundingTx makes and signs the transaction that FundAll sends, and sends
// nothing. It must be sent before the next one is made.
func (n *Node) FundingTx(outputs ...*wire.TxOut) *wire.MsgTx {
	n.t.Helper()
	p := &n.purse
	tx := wire.NewMsgTx(2)
	tx.AddTxIn(wire.NewTxIn(&p.out, nil, nil))
	change := p.value - fundingFee
	for _, out := range outputs {
		tx.AddTxOut(out)
		change -= out.Value
	}
	if change <= 0 {
		n.t.Fatalf("the purse holds %d sat only", p.value)
	}
	tx.AddTxOut(&wire.TxOut{Value: change, PkScript: p.script})
	hashes := txscript.NewTxSigHashes(tx, txscript.NewCannedPrevOutputFetcher(p.script, p.value))
	sig, err := txscript.RawTxInTaprootSignature(tx, hashes, 0, p.value, p.script, []byte{}, txscript.SigHashDefault, p.key)
	if err != nil {
		n.t.Fatal(err)
	}
	tx.TxIn[0].Witness = wire.TxWitness{sig}
	p.out, p.value = wire.OutPoint{Hash: tx.TxHash(), Index: uint32(len(outputs))}, change
	return tx
}

// encode is a transaction in hex, as the node takes it.
func (n *Node) encode(tx *wire.MsgTx) string {
	n.t.Helper()
	var b bytes.Buffer
	if err := tx.Serialize(&b); err != nil {
		n.t.Fatal(err)
	}
	return hex.EncodeToString(b.Bytes())
}

// TestAccept asks whether the node would take a transaction into its mempool,
// and if not, its reason, such as non-final or bip68-locked.
func (n *Node) TestAccept(tx *wire.MsgTx) (allowed bool, reason string) {
	n.t.Helper()
	var results []struct {
		Allowed bool
		Reason  string `json:"reject-reason"`
	}
	n.call(&results, "testmempoolaccept", []string{n.encode(tx)})
	if len(results) != 1 {
		n.t.Fatalf("testmempoolaccept: %d answers to one transaction", len(results))
	}
	return results[0].Allowed, results[0].Reason
}

// Send hands a transaction to the node's mempool. Errors: *Error.
func (n *Node) Send(tx *wire.MsgTx) error {
	n.t.Helper()
	return n.RPC(nil, "sendrawtransaction", n.encode(tx))
}

// InMempool reports whether a transaction is in the mempool.
func (n *Node) InMempool(tx *wire.MsgTx) bool {
	n.t.Helper()
	var ids []string
	n.call(&ids, "getrawmempool")
	for _, id := range ids {
		if id == tx.TxID() {
			return true
		}
	}
	return false
}
