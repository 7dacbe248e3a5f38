package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/chain/devnet"
)

// blindNode is a chain that can do what it is said to.
type blindNode struct {
	*devnet.Node
	can chain.Capabilities
}

func (b blindNode) Capabilities() chain.Capabilities { return b.can }

// TestLimitsAreTold: who sells without a mempool, without estimates or without version 3 is told so, offers accordingly,
// and watches for nobody.
func TestLimitsAreTold(t *testing.T) {
	node := chain.Capabilities{Mempool: true, FeeEstimates: true, RejectReasons: true}
	btcd, light := node, chain.Capabilities{}
	btcd.NoVersion3 = true
	for _, c := range []struct {
		what    string
		can     chain.Capabilities
		told    []string
		version int32
		tower   bool
	}{
		{"a bitcoind", node, nil, 3, true},
		{"a btcd", btcd, []string{"version 3"}, 2, true},
		{"a light client", light, []string{"Zero-conf and early warnings need", "guessed"}, 3, false},
	} {
		var said bytes.Buffer
		a := &app{out: &output{stdout: &bytes.Buffer{}, stderr: &said}}
		a.flags.network = "signet"
		b := blindNode{can: c.can}
		a.tellLimits(b)
		for _, want := range c.told {
			if !strings.Contains(said.String(), want) {
				t.Errorf("%s: %q does not say %q", c.what, said.String(), want)
			}
		}
		if len(c.told) == 0 && said.Len() > 0 {
			t.Errorf("%s: %q", c.what, said.String())
		}
		if p := a.policyOn(b); p.TxVersion != c.version || p.ZeroConf != 0 && !c.can.Mempool {
			t.Errorf("%s: version %d, %d msat before a confirmation", c.what, p.TxVersion, p.ZeroConf)
		}
		if err := checkTower(b); (err == nil) != c.tower {
			t.Errorf("%s as a tower's: %v", c.what, err)
		}
	}
}

// TestLightIsThePayersDefault: on a public network a payer needs no --chain, a seller does.
func TestLightIsThePayersDefault(t *testing.T) {
	for network, want := range map[string]string{"signet": lightDefault, "testnet4": lightDefault, "mainnet": lightDefault, "regtest": "http://" + devnetAddress} {
		a := &app{}
		a.flags.network = network
		urls, err := a.chainURLs()
		if err != nil || len(urls) != 1 || urls[0] != want {
			t.Errorf("%s: %v, %v", network, urls, err)
		}
		for _, role := range []string{"payer", "payee", "tower"} {
			if err := a.checkSeller(role); (err == nil) != (role == "payer" || network == "regtest") {
				t.Errorf("%s on %s: %v", role, network, err)
			}
		}
	}
}
