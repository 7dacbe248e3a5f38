package neutrino

import (
	"encoding/hex"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"

	"github.com/btcsuite/btcd/chaincfg/v2"

	"github.com/spillway/spillway/chain/internal/nodeurl"
	"github.com/spillway/spillway/script"
)

// Scheme is that of the URLs that ParseURL reads.
const Scheme = "neutrino"

// ParseURL reads neutrino://[PEER[:PORT][,PEER[:PORT]…]][?OPTION=VALUE&…] for a network; Config.Dir is left to be
// filled in:
//
//	birthday=HEIGHT  nothing of interest is on the chain before: blocks are looked through from there on
//	window=BLOCKS    how many of the newest blocks are looked through otherwise
//	version3=0       the peers relay no transactions of version 3 (a btcd does not)
//	min-fee=RATE     the least fee rate that is guessed, in sat/vB
//	max-fee=RATE     the highest one
//	challenge=HEX    a signet of one's own with this challenge; its peers have to be named
//
// Errors: ErrConfig.
func ParseURL(text string, network *chaincfg.Params) (cfg Config, err error) {
	rest, ok := strings.CutPrefix(text, Scheme+"://")
	if !ok {
		return cfg, fmt.Errorf("%w: it begins with neutrino://", ErrConfig)
	}
	hosts, options, _ := strings.Cut(rest, "?")
	hosts = strings.TrimSuffix(hosts, "/")
	cfg = Config{Network: network}
	if hosts != "" {
		for peer := range strings.SplitSeq(hosts, ",") {
			if err := checkPeer(peer); err != nil {
				return cfg, err
			}
			cfg.Peers = append(cfg.Peers, peer)
		}
	}
	q, err := reader.Query(options)
	if err != nil {
		return cfg, err
	}
	if err := cfg.options(q); err != nil {
		return cfg, err
	}
	if (cfg.private() || cfg.Network != network) && len(cfg.Peers) == 0 {
		return cfg, fmt.Errorf("%w: on %s a peer has to be named: neutrino://HOST:PORT", ErrConfig, network.Name)
	}
	return cfg, nil
}

// checkPeer takes HOST, HOST:PORT and [IPV6]:PORT.
func checkPeer(peer string) error {
	bad := fmt.Errorf("%w: %q is no HOST or HOST:PORT", ErrConfig, clip(peer))
	host, port := peer, ""
	if strings.Contains(peer, ":") {
		var err error
		if host, port, err = net.SplitHostPort(peer); err != nil {
			return bad
		}
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return bad
		}
	}
	if host == "" || strings.ContainsAny(host, "@/ ?#[]") {
		return bad
	}
	return nil
}

// reader reads URLs for this backend.
var reader = nodeurl.Reader{Scheme: Scheme, Form: "neutrino://[HOST[:PORT],…]", Err: ErrConfig}

// options reads what follows the question mark.
func (cfg *Config) options(q url.Values) error {
	return reader.Take(q, map[string]nodeurl.Option{
		"birthday": reader.Number("birthday", 1, &cfg.Birthday), "window": reader.Number("window", 144, &cfg.Window),
		"version3": reader.Only("version3", "0", &cfg.NoVersion3),
		"min-fee":  rate("min-fee", &cfg.MinFeeRate), "max-fee": rate("max-fee", &cfg.MaxFeeRate),
		"challenge": func(v string) (err error) {
			cfg.Network, err = signetOf(cfg.Network, v)
			return err
		},
	})
}

// rate is an option that is a fee rate in sat/vB.
func rate(name string, into *script.FeeRate) nodeurl.Option {
	return func(text string) error {
		var n uint32
		if err := reader.Number(name, 1, &n)(text); err != nil {
			return err
		}
		if n > 2_000 {
			return fmt.Errorf("%w: %s is 1 to 2000 sat/vB", ErrConfig, name)
		}
		*into = script.FeeRatePerVB(int64(n))
		return nil
	}
}

// signetOf is the signet of a challenge (BIP 325): its messages begin with other bytes, all
// else is as on the signet. Errors: ErrConfig.
func signetOf(network *chaincfg.Params, text string) (*chaincfg.Params, error) {
	if network.Name != chaincfg.SigNetParams.Name {
		return nil, fmt.Errorf("%w: a challenge is a signet's, not %s's", ErrConfig, network.Name)
	}
	challenge, err := hex.DecodeString(text)
	if err != nil || len(challenge) == 0 || len(challenge) > 252 {
		return nil, fmt.Errorf("%w: challenge is 1 to 252 bytes in hex, not %q", ErrConfig, clip(text))
	}
	own := chaincfg.CustomSignetParams(challenge, nil)
	return &own, nil
}
