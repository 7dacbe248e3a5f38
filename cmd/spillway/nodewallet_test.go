package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/spillway/spillway/internal/bitcoindtest"
)

// nodeWalletCommand: what somebody does with the wallet of a node, by hand.
//
//	nodewallet create NAME | pay KIND SAT | psbt FILE ADDRESS SAT [legacy]
//	nodewallet sign TO FROM | send SIGNED | absent TXID | knows TXID
func nodeWalletCommand(n *bitcoindtest.Node) func(*testscript.TestScript, bool, []string) {
	ask := func(ts *testscript.TestScript, into any, method string, params ...any) {
		if err := n.RPC(into, method, params...); err != nil {
			ts.Fatalf("%s: %v", method, err)
		}
	}
	return func(ts *testscript.TestScript, _ bool, args []string) {
		switch args[0] {
		case "create":
			ask(ts, nil, "createwallet", args[1])
		case "pay":
			var addr string
			ask(ts, &addr, "getnewaddress", "", args[1])
			payAddress(ts, n, addr, args[2])
			ask(ts, nil, "generatetodescriptor", 1, "raw(51)")
		case "psbt":
			ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(fundedPSBT(ts, n, args[2], args[3], len(args) > 4)+"\n"), 0o600))
		case "sign":
			var out struct{ PSBT string }
			ask(ts, &out, "walletprocesspsbt", ts.ReadFile(args[2])[:len(ts.ReadFile(args[2]))-1])
			ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(out.PSBT+"\n"), 0o600))
		case "send":
			var out struct{ Hex string }
			ask(ts, &out, "finalizepsbt", ts.ReadFile(args[1])[:len(ts.ReadFile(args[1]))-1])
			ask(ts, nil, "sendrawtransaction", out.Hex)
		case "absent":
			if err := n.RPC(nil, "getmempoolentry", args[1]); err == nil {
				ts.Fatalf("%s was sent", args[1])
			}
		case "knows":
			ask(ts, nil, "gettransaction", args[1])
		default:
			ts.Fatalf("nodewallet %s?", args[0])
		}
	}
}

// fundedPSBT has the node's wallet build a payment, from segwit coins or from a legacy one.
func fundedPSBT(ts *testscript.TestScript, n *bitcoindtest.Node, addr, sat string, legacy bool) string {
	value, err := strconv.ParseInt(sat, 10, 64)
	ts.Check(err)
	var all []struct {
		Txid string `json:"txid"`
		Vout uint32 `json:"vout"`
		Desc string `json:"desc"`
	}
	ts.Check(n.RPC(&all, "listunspent", 0))
	inputs := []map[string]any{}
	for _, c := range all {
		if (len(c.Desc) > 4 && c.Desc[:4] == "pkh(") == legacy {
			inputs = append(inputs, map[string]any{"txid": c.Txid, "vout": c.Vout})
		}
	}
	var out struct{ PSBT string }
	btc := json.Number(fmt.Sprintf("%d.%08d", value/1e8, value%1e8))
	ts.Check(n.RPC(&out, "walletcreatefundedpsbt", inputs, []map[string]any{{addr: btc}}, 0, map[string]any{"add_inputs": false, "fee_rate": 3, "change_type": "bech32m"}))
	return out.PSBT
}
