package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/wire/v2"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/spillway/spillway/chain/bitcoind"
	"github.com/spillway/spillway/chain/devnet"
	"github.com/spillway/spillway/chain/esplora"
	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/wallet"
)

// standIn is an Esplora that says that it is another network: the embedded chain's, with
// that network's genesis block and fees. No node here can serve mainnet, signet or
// testnet4; all rules of the program for them hold against this one.
func standIn(t testing.TB, from string, params *chaincfg.Params) string {
	t.Helper()
	target, err := url.Parse(from)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(target)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/block-height/0":
			fmt.Fprint(w, params.GenesisHash)
		case "/fee-estimates":
			fmt.Fprint(w, `{"1":9.5,"3":8,"6":7,"144":2}`)
		default:
			proxy.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// TestMainnetRules plays the commands on a stand-in for mainnet: nothing before consent,
// sealed seeds only, capped channels, mainnet's addresses, and a purchase by its rules.
func TestMainnetRules(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/mainnet",
		Setup: func(env *testscript.Env) error {
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("SPILLWAY_DATA", filepath.Join(env.WorkDir, "data"))
			if err := startChain(env); err != nil {
				return err
			}
			regtest := env.Getenv("SPILLWAY_CHAIN")
			env.Setenv("REGTEST", regtest)
			env.Setenv("SIGNET", standIn(t, regtest, &chaincfg.SigNetParams))
			env.Setenv("SPILLWAY_CHAIN", standIn(t, regtest, &chaincfg.MainNetParams))
			env.Setenv("SPILLWAY_NETWORK", "mainnet")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"json": cmdJSON, "random": cmdRandom, "provider": cmdProvider, "same": cmdSame, "exitcode": cmdExit, "await": cmdAwait, "mine": cmdMine, "words": cmdWords,
			"pay": func(ts *testscript.TestScript, _ bool, args []string) { // pay ADDRESS SAT
				pk, err := wallet.ParseAddress(args[0], &chaincfg.MainNetParams)
				ts.Check(err)
				sat, err := strconv.ParseInt(args[1], 10, 64)
				ts.Check(err)
				n := ts.Value(nodeKey{}).(*devnet.Node)
				_, err = n.Faucet(t.Context(), pk, sat)
				ts.Check(err)
			},
		},
	})
}

// networks and an address of each kind on each. Those of signet and testnet4 look the
// same: their genesis blocks tell them apart.
var networks = map[string]*chaincfg.Params{
	"regtest": &chaincfg.RegressionNetParams, "signet": &chaincfg.SigNetParams, "testnet4": &chaincfg.TestNet4Params, "mainnet": &chaincfg.MainNetParams,
}

func addressesOf(t *testing.T, params *chaincfg.Params) (all []string) {
	t.Helper()
	for _, pk := range [][]byte{
		append([]byte{0x51, 32}, bytes.Repeat([]byte{7}, 32)...), append([]byte{0, 32}, make([]byte, 32)...), append([]byte{0, 20}, make([]byte, 20)...),
		append(append([]byte{0xa9, 20}, make([]byte, 20)...), 0x87), append(append([]byte{0x76, 0xa9, 20}, make([]byte, 20)...), 0x88, 0xac),
	} {
		addr, err := addressOf(pk, params)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, addr)
	}
	return all
}

// An address is taken on its own network only, wherever one is typed.
func TestAddressesOfOtherNetworks(t *testing.T) {
	for at, params := range networks {
		for of, other := range networks {
			for i, addr := range addressesOf(t, other) {
				_, err := wallet.ParseAddress(addr, params)
				look := of == at || of != "mainnet" && at != "mainnet" && (i >= 3 || of != "regtest" && at != "regtest")
				if look != (err == nil) || err != nil && !errors.Is(err, wallet.ErrAddress) {
					t.Errorf("%s of %s on %s: %v", addr, of, at, err)
				}
				if look {
					continue
				}
				for _, args := range [][]string{{"wallet", "send", addr, "1000sat"}, {"open", "http://127.0.0.1:1/f", "--refund-to", addr}} {
					exit := runUntil(t.Context(), append(args, "--network", at, "--chain", "http://127.0.0.1:1", "--data", t.TempDir()), strings.NewReader(""), io.Discard, io.Discard)
					if exit != exitUsage {
						t.Errorf("%v on %s: exit %d", args, at, exit)
					}
				}
			}
		}
	}
}

// A backend of another network is refused by its genesis block before anything else is
// believed: Esplora and bitcoind, each network against each.
func TestBackendsOfOtherNetworks(t *testing.T) {
	for of, other := range networks {
		served := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost { // a bitcoind's answer to getblockhash 0
				fmt.Fprintf(w, `{"id":0,"result":"%s","error":null}`, other.GenesisHash)
				return
			}
			fmt.Fprint(w, other.GenesisHash)
		}))
		t.Cleanup(served.Close)
		for at, params := range networks {
			e, err := esplora.New(esplora.Config{URL: served.URL, Network: params})
			if err != nil {
				t.Fatal(err)
			}
			if err := e.CheckNetwork(t.Context()); (of == at) != (err == nil) || err != nil && !errors.Is(err, esplora.ErrNetwork) {
				t.Errorf("Esplora of %s on %s: %v", of, at, err)
			}
			b, err := bitcoind.New(bitcoind.Config{URL: served.URL, User: "u", Password: "p", Network: params})
			if err != nil {
				t.Fatal(err)
			}
			if err := b.CheckNetwork(t.Context()); (of == at) != (err == nil) || err != nil && !errors.Is(err, bitcoind.ErrNetwork) {
				t.Errorf("bitcoind of %s on %s: %v", of, at, err)
			}
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	magic := map[wire.BitcoinNet]string{}
	for name, params := range networks {
		if other := magic[params.Net]; other != "" {
			t.Errorf("%s and %s have one magic", name, other)
		}
		magic[params.Net] = name
	}
}

// The caps are read before anything is opened.
func TestCaps(t *testing.T) {
	for _, args := range [][]string{
		{"--max-capacity", "lots"}, {"--max-capacity", "0sat"}, {"--max-capacity", "1500msat"}, {"--max-capacity", "329sat"}, {"--max-capacity", "22000000btc"},
		{"--max-duration", "100"}, {"--max-duration", "52561"},
	} {
		dir := filepath.Join(t.TempDir(), "none")
		exit := runUntil(t.Context(), append([]string{"wallet", "balance", "--data", dir}, args...), strings.NewReader(""), io.Discard, io.Discard)
		if _, err := os.Stat(dir); exit != exitUsage || err == nil {
			t.Errorf("%v: exit %d, folder: %v", args, exit, err)
		}
	}
	c := caps{capacity: "0.5btc", duration: 400}
	p := c.apply(channel.DefaultPolicy("mainnet"))
	if p.MaxDeposit != 50_000_000 || p.MaxDuration != 400 || p.Duration != 400 {
		t.Errorf("%+v", p)
	}
	p = (&caps{}).apply(channel.DefaultPolicy("mainnet"))
	if p.MaxDeposit != 10_000_000 || p.MaxDuration != 1296 || p.Confirmations(999_999) != 1 || p.Confirmations(1_000_000) != 3 || p.Confirmations(100_000_000) != 6 {
		t.Errorf("%+v", p)
	}
}
