package neutrino_test

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/btcsuite/btcd/chaincfg/v2"

	"github.com/spillway/spillway/chain/neutrino"
)

func TestParseURL(t *testing.T) {
	for text, want := range map[string]neutrino.Config{
		"neutrino://":                          {},
		"neutrino:///?birthday=7":              {Birthday: 7},
		"neutrino://a,b:7,[::1]:8":             {Peers: []string{"a", "b:7", "[::1]:8"}},
		"neutrino://a?window=200&version3=0":   {Peers: []string{"a"}, Window: 200, NoVersion3: true},
		"neutrino://a/?min-fee=3&max-fee=2000": {Peers: []string{"a"}, MinFeeRate: 3_000, MaxFeeRate: 2_000_000},
		"neutrino://example.org:38333":         {Peers: []string{"example.org:38333"}},
	} {
		want.Network = &chaincfg.SigNetParams
		if got, err := neutrino.ParseURL(text, &chaincfg.SigNetParams); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{
		"", "neutrino:", "btcd://a", "neutrino://a,", "neutrino://,a", "neutrino://a:0", "neutrino://a:x", "neutrino://a:99999", "neutrino://u@a",
		"neutrino://a/b", "neutrino://a?birthday=0", "neutrino://a?window=1", "neutrino://a?version3=1", "neutrino://a?min-fee=0", "neutrino://a?max-fee=2001",
		"neutrino://a?colour=red", "neutrino://a?window=200&window=300", "neutrino://a?%zz", "neutrino://::1", "neutrino://[::1]",
	} {
		if _, err := neutrino.ParseURL(text, &chaincfg.SigNetParams); !errors.Is(err, neutrino.ErrConfig) {
			t.Errorf("%s: %v", text, err)
		}
	}
	own, err := neutrino.ParseURL("neutrino://a?challenge=51", &chaincfg.SigNetParams)
	if err != nil || own.Network.Net != 0xbd6fd254 || own.Network.GenesisHash.String() != chaincfg.SigNetParams.GenesisHash.String() {
		t.Errorf("a signet of one's own: %+v, %v", own.Network, err)
	}
	for _, text := range []string{"neutrino://?challenge=51", "neutrino://a?challenge=5", "neutrino://a?challenge=xy", "neutrino://a?challenge=" + strings.Repeat("51", 253)} {
		if _, err := neutrino.ParseURL(text, &chaincfg.SigNetParams); !errors.Is(err, neutrino.ErrConfig) {
			t.Errorf("%s: %v", text, err)
		}
	}
	if _, err := neutrino.ParseURL("neutrino://a?challenge=51", &chaincfg.MainNetParams); !errors.Is(err, neutrino.ErrConfig) {
		t.Errorf("a challenge on mainnet: %v", err)
	}
	if _, err := neutrino.ParseURL("neutrino://", &chaincfg.RegressionNetParams); !errors.Is(err, neutrino.ErrConfig) {
		t.Errorf("regtest without a peer: %v", err)
	}
}

func FuzzParseURL(f *testing.F) {
	f.Add("neutrino://a,b:7,[::1]:8?window=200&max-fee=9")
	f.Fuzz(func(t *testing.T, text string) {
		if _, err := neutrino.ParseURL(text, &chaincfg.MainNetParams); err != nil && !errors.Is(err, neutrino.ErrConfig) {
			t.Fatal(err)
		}
	})
}
