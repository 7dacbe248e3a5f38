package node_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"testing"

	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain/bitcoind"
	"github.com/spillway/spillway/internal/bitcoindtest"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/wallet"
	"github.com/spillway/spillway/wallet/node"
	"github.com/spillway/spillway/wallet/psbt"
)

func client(t *testing.T, n *bitcoindtest.Node) *bitcoind.Client {
	t.Helper()
	c, err := bitcoind.New(bitcoind.Config{URL: n.URL(), Cookie: n.CookieFile(), Network: &chaincfg.RegressionNetParams})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func open(t *testing.T, from node.Caller) *node.Wallet {
	t.Helper()
	w, err := node.New(node.Config{Node: from, Params: &chaincfg.RegressionNetParams})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func ask(t *testing.T, from node.Caller, into any, method string, params ...any) {
	t.Helper()
	if err := from.Call(t.Context(), into, method, params...); err != nil {
		t.Fatalf("%s: %v", method, err)
	}
}

// pay gives a wallet of the node a confirmed coin of a kind.
func pay(t *testing.T, n *bitcoindtest.Node, from node.Caller, kind string, sat int64) {
	t.Helper()
	var addr string
	ask(t, from, &addr, "getnewaddress", "", kind)
	pk, err := wallet.ParseAddress(addr, &chaincfg.RegressionNetParams)
	if err != nil {
		t.Fatal(err)
	}
	n.Fund(pk, sat)
}

var channelScript = append([]byte{0x51, 32}, bytes.Repeat([]byte{7}, 32)...)

func output(sat int64) []*wire.TxOut { return []*wire.TxOut{wire.NewTxOut(sat, channelScript)} }

// A real bitcoind's wallet funds a channel: its coins are locked until they are released,
// its fee is the one that was asked for, and the node accepts and mines it.
func TestFundOnBitcoind(t *testing.T) {
	n := bitcoindtest.Start(t, "-disablewallet=0")
	c := client(t, n)
	none := open(t, c.Wallet(""))
	if _, err := none.ReceiveScript(t.Context()); !errors.Is(err, node.ErrNoWallet) {
		t.Fatalf("no wallet is loaded: %v", err)
	}
	ask(t, c.Wallet(""), nil, "createwallet", "coins")
	at := c.Wallet("")
	w := open(t, at)
	var short *wallet.InsufficientError
	if _, err := w.Fund(t.Context(), output(50_000), 2_000); !errors.As(err, &short) || short.Available != 0 || short.Needed <= 50_000 {
		t.Fatalf("%v", err)
	}
	for kind, sat := range map[string]int64{"bech32m": 60_000, "bech32": 50_000} {
		pay(t, n, at, kind, sat)
	}
	fee, err := w.FundingFee(t.Context(), output(90_000), 3_500)
	if err != nil {
		t.Fatal(err)
	}
	f, err := w.Fund(t.Context(), output(90_000), 3_500)
	if err != nil {
		t.Fatal(err)
	}
	if got := script.FeeRate(f.Fee * 1000 / script.VSize(f.Tx)); got < 3_400 || got > 3_700 || fee != f.Fee || len(f.Tx.TxIn) != 2 || f.ChangeIndex != 1 {
		t.Fatalf("%d sat for %d vB, estimate %d, %d inputs, change at %d", f.Fee, script.VSize(f.Tx), fee, len(f.Tx.TxIn), f.ChangeIndex)
	}
	if err := script.CheckFundingInputs(f.Tx, f.Prevouts); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Fund(t.Context(), output(30_000), 2_000); !errors.As(err, &short) || short.Available != 0 {
		t.Fatalf("its coins are not locked: %v", err)
	}
	if n.InMempool(f.Tx) {
		t.Fatal("it was broadcast")
	}
	for range 2 {
		if err := w.Release(t.Context(), f.Tx); err != nil {
			t.Fatal(err)
		}
	}
	f, err = w.Fund(t.Context(), output(90_000), 2_000)
	if err != nil {
		t.Fatal(err)
	}
	if ok, why := n.TestAccept(f.Tx); !ok {
		t.Fatal(why)
	}
	if err := n.Send(f.Tx); err != nil {
		t.Fatal(err)
	}
	n.Mine(1)
	if n.MinedAt(f.Tx) == 0 {
		t.Fatal("not mined")
	}
	if _, err := w.Fund(t.Context(), output(10_000), 0); !errors.Is(err, wallet.ErrRate) {
		t.Fatal(err)
	}
}

// Coins of the old kinds are left alone: what they fund has no final id.
func TestLegacyCoinsAreLeftAlone(t *testing.T) {
	n := bitcoindtest.Start(t, "-disablewallet=0")
	c := client(t, n)
	ask(t, c.Wallet(""), nil, "createwallet", "old")
	at := c.Wallet("old")
	w := open(t, at)
	pay(t, n, at, "legacy", 100_000)
	pay(t, n, at, "p2sh-segwit", 100_000)
	var short *wallet.InsufficientError
	if _, err := w.Fund(t.Context(), output(50_000), 2_000); !errors.As(err, &short) || short.Available != 0 {
		t.Fatalf("%v", err)
	}
	for range 3 {
		pay(t, n, at, "bech32", 30_000)
	}
	f, err := w.Fund(t.Context(), output(50_000), 2_000)
	if err != nil {
		t.Fatal(err)
	}
	if ok, why := n.TestAccept(f.Tx); !ok {
		t.Fatal(why)
	}
	var locked []any
	if ask(t, at, &locked, "listlockunspent"); len(locked) != len(f.Tx.TxIn) {
		t.Fatalf("%d coins are locked, %d are used", len(locked), len(f.Tx.TxIn))
	}
}

// What a node's wallet can lack has errors of its own: the money stays where it is, and
// no coin stays locked.
func TestWalletsThatCannot(t *testing.T) {
	n := bitcoindtest.Start(t, "-disablewallet=0")
	c := client(t, n)
	ask(t, c.Wallet(""), nil, "createwallet", "one")
	ask(t, c.Wallet(""), nil, "createwallet", "sealed", false, false, "open sesame")
	ask(t, c.Wallet(""), nil, "createwallet", "watching", true)
	if _, err := open(t, c.Wallet("")).ReceiveScript(t.Context()); !errors.Is(err, node.ErrWhich) {
		t.Fatalf("of several wallets: %v", err)
	}
	if _, err := open(t, c.Wallet("another")).ReceiveScript(t.Context()); !errors.Is(err, node.ErrNoWallet) {
		t.Fatalf("an unknown wallet: %v", err)
	}
	sealed := c.Wallet("sealed")
	pay(t, n, sealed, "bech32m", 100_000)
	if _, err := open(t, sealed).Fund(t.Context(), output(50_000), 2_000); !errors.Is(err, node.ErrLocked) {
		t.Fatalf("a locked wallet: %v", err)
	}
	var locked []any
	if ask(t, sealed, &locked, "listlockunspent"); len(locked) > 0 {
		t.Fatalf("%d coins stay locked", len(locked))
	}
	one := c.Wallet("one")
	var listed struct {
		Descriptors []struct {
			Desc     string `json:"desc"`
			Internal bool   `json:"internal"`
		} `json:"descriptors"`
	}
	ask(t, one, &listed, "listdescriptors")
	var imports []map[string]any
	for _, d := range listed.Descriptors {
		imports = append(imports, map[string]any{"desc": d.Desc, "internal": d.Internal, "active": true, "timestamp": "now"})
	}
	watching := c.Wallet("watching")
	ask(t, watching, nil, "importdescriptors", imports)
	pay(t, n, watching, "bech32m", 100_000)
	if _, err := open(t, watching).Fund(t.Context(), output(50_000), 2_000); !errors.Is(err, node.ErrCannotSign) {
		t.Fatalf("a watching wallet: %v", err)
	}
	if ask(t, watching, &locked, "listlockunspent"); len(locked) > 0 {
		t.Fatalf("%d coins stay locked", len(locked))
	}
	off := client(t, bitcoindtest.Start(t))
	if _, err := open(t, off.Wallet("")).ReceiveScript(t.Context()); !errors.Is(err, node.ErrNoWallet) {
		t.Fatalf("a node without wallets: %v", err)
	}
}

// lying is a node whose answers are made up.
type lying map[string]string

func (l lying) Call(_ context.Context, into any, method string, _ ...any) error {
	if into == nil || l[method] == "" {
		return nil
	}
	return json.Unmarshal([]byte(l[method]), into)
}

// A node that answers nonsense, or builds another transaction, gets nothing signed.
func TestNonsense(t *testing.T) {
	other := wire.NewMsgTx(2)
	at := wire.OutPoint{Index: 1}
	other.AddTxIn(wire.NewTxIn(&at, nil, nil))
	other.AddTxOut(wire.NewTxOut(1_000, channelScript))
	p, err := psbt.New(other, map[wire.OutPoint]*wire.TxOut{at: wire.NewTxOut(2_000, channelScript)})
	if err != nil {
		t.Fatal(err)
	}
	text, err := p.Base64()
	if err != nil {
		t.Fatal(err)
	}
	for name, l := range map[string]lying{
		"nothing":       {},
		"no PSBT":       {"walletcreatefundedpsbt": `{"psbt":"hello"}`},
		"another":       {"walletcreatefundedpsbt": `{"psbt":"` + text + `"}`},
		"an address":    {"getnewaddress": `"tb1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq"`},
		"no address":    {"getnewaddress": `""`},
		"coins of none": {"listunspent": `[{"txid":"zz","amount":"1"}]`},
	} {
		w := open(t, l)
		_, err := w.Fund(t.Context(), output(5_000), 2_000)
		if name == "an address" || name == "no address" {
			_, err = w.ReceiveScript(t.Context())
		}
		if !errors.Is(err, node.ErrAnswer) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := node.New(node.Config{}); err == nil {
		t.Error("without a node")
	}
}
