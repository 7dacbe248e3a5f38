package neutrino

import (
	"encoding/hex"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"

	"github.com/btcsuite/btcd/chaincfg/v2"

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
	q, err := url.ParseQuery(options)
	if err != nil {
		return cfg, fmt.Errorf("%w: the options cannot be read", ErrConfig)
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

// options reads what follows the question mark.
func (cfg *Config) options(q url.Values) (err error) {
	for name, values := range q {
		if len(values) != 1 || values[0] == "" {
			return fmt.Errorf("%w: %s is given once and with a value", ErrConfig, clip(name))
		}
		v := values[0]
		switch name {
		case "birthday":
			cfg.Birthday, err = number(name, v, 1)
		case "window":
			cfg.Window, err = number(name, v, 144)
		case "version3":
			if cfg.NoVersion3 = v == "0"; !cfg.NoVersion3 {
				return fmt.Errorf("%w: version3 is 0 or left out", ErrConfig)
			}
		case "min-fee", "max-fee":
			var n uint32
			if n, err = number(name, v, 1); err == nil && n > 2_000 {
				err = fmt.Errorf("%w: %s is 1 to 2000 sat/vB", ErrConfig, name)
			}
			if name == "min-fee" {
				cfg.MinFeeRate = script.FeeRatePerVB(int64(n))
			} else {
				cfg.MaxFeeRate = script.FeeRatePerVB(int64(n))
			}
		case "challenge":
			cfg.Network, err = signetOf(cfg.Network, v)
		default:
			return fmt.Errorf("%w: no option is called %s: birthday, window, version3, min-fee, max-fee or challenge", ErrConfig, clip(name))
		}
		if err != nil {
			return err
		}
	}
	return nil
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

func number(name, text string, least uint64) (uint32, error) {
	n, err := strconv.ParseUint(text, 10, 31)
	if err != nil || n < least {
		return 0, fmt.Errorf("%w: %s is a number of at least %d, not %q", ErrConfig, name, least, clip(text))
	}
	return uint32(n), nil
}
