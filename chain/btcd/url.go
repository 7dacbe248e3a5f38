package btcd

import (
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/btcsuite/btcd/chaincfg/v2"

	"github.com/spillway/spillway/chain/internal/nodeurl"
)

// Scheme is that of the URLs that ParseURL reads.
const Scheme = "btcd"

// ports are, by network, those of the node's RPC.
var ports = map[string]string{
	chaincfg.MainNetParams.Name:       "8334",
	chaincfg.TestNet4Params.Name:      "48334",
	chaincfg.SigNetParams.Name:        "38332",
	chaincfg.RegressionNetParams.Name: "18334",
	chaincfg.SimNetParams.Name:        "18556",
}

// ParseURL reads btcd://USER[:PASSWORD]@HOST[:PORT][?OPTION=VALUE&…] for a network:
//
//	password-file=PATH  a file that holds the password of USER
//	cert=PATH           the node's rpc.cert (default for a node on this machine: ~/.btcd/rpc.cert where there is one)
//	tls=0               no TLS, to a node on this machine that was started with --notls
//	version3=1          the node relays transactions of version 3 (--relaynonstd)
//	birthday=HEIGHT     nothing of interest is on the chain before: blocks are looked through from there on
//	window=BLOCKS       how many of the newest blocks are looked through otherwise
//
// Errors: ErrConfig, never with a password in its text.
func ParseURL(text string, network *chaincfg.Params) (cfg Config, err error) {
	n, err := reader.Parse(text, ports[network.Name])
	if err != nil {
		return cfg, err
	}
	cfg = Config{Network: network, Address: net.JoinHostPort(n.Host, n.Port), User: n.User, Password: n.Password}
	err = reader.Take(n.Options, map[string]nodeurl.Option{
		"password-file": reader.PasswordFile(n.User, &cfg.Password), "cert": nodeurl.Text(&cfg.CertFile), "tls": reader.Only("tls", "0", &cfg.Plain),
		"version3": reader.Only("version3", "1", &cfg.Version3),
		"birthday": reader.Number("birthday", 1, &cfg.Birthday), "window": reader.Number("window", 144, &cfg.Window),
	})
	if err != nil {
		return cfg, err
	}
	here := nodeurl.Loopback(n.Host)
	shown := nodeurl.Redact(Scheme, text)
	switch {
	case cfg.User == "":
		return cfg, fmt.Errorf("%w: %s names no user: btcd://USER@HOST?password-file=PATH", ErrConfig, shown)
	case cfg.Password == "":
		return cfg, fmt.Errorf("%w: %s has no password: give ?password-file=PATH", ErrConfig, shown)
	case cfg.Plain && !here:
		return cfg, fmt.Errorf("%w: without TLS the password of %s would be read on the way: tls=0 is for a node on this machine", ErrConfig, shown)
	case cfg.Plain && cfg.CertFile != "":
		return cfg, fmt.Errorf("%w: cert does not go with tls=0", ErrConfig)
	}
	if home, err := os.UserHomeDir(); err == nil && here && !cfg.Plain && cfg.CertFile == "" {
		usual := filepath.Join(home, ".btcd", "rpc.cert")
		if _, err := os.Stat(usual); err == nil {
			cfg.CertFile = usual
		}
	}
	return cfg, nil
}

// reader reads URLs for this backend.
var reader = nodeurl.Reader{Scheme: Scheme, Form: "btcd://USER@HOST[:PORT][?password-file=PATH&cert=PATH]", Err: ErrConfig}
