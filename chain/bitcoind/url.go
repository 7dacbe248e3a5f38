package bitcoind

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/btcsuite/btcd/chaincfg/v2"

	"github.com/spillway/spillway/chain/internal/nodeurl"
)

// Scheme is that of the URLs that ParseURL reads.
const Scheme = "bitcoind"

// places are, by network, a node's RPC port and the folder of its cookie below its data folder.
var places = map[string]struct{ port, folder string }{
	chaincfg.MainNetParams.Name:       {"8332", ""},
	chaincfg.TestNet4Params.Name:      {"48332", "testnet4"},
	chaincfg.SigNetParams.Name:        {"38332", "signet"},
	chaincfg.RegressionNetParams.Name: {"18443", "regtest"},
}

// HasPassword reports whether a URL carries a password in its text, which must not be on a command line.
func HasPassword(text string) bool {
	u, err := url.Parse(text)
	if err != nil || u.User == nil {
		return err != nil && strings.Contains(text, "@")
	}
	_, has := u.User.Password()
	return has
}

// Redact is a URL without its credentials, fit for a message.
func Redact(text string) string { return nodeurl.Redact("", text) }

// reader reads URLs for this backend.
var reader = nodeurl.Reader{Scheme: Scheme, Form: "bitcoind://[USER@]HOST[:PORT][?cookie=PATH]", Err: ErrConfig}

// ParseURL reads bitcoind://[USER[:PASSWORD]@]HOST[:PORT][?OPTION=VALUE&…] for a network:
//
//	cookie=PATH         the node's .cookie file (default, without a user: that of the node's usual folder)
//	password-file=PATH  a file that holds the password of USER
//	birthday=HEIGHT     nothing of interest is on the chain before
//	window=BLOCKS       how many of the newest blocks are looked through
//	tls=1               https
//
// Errors: ErrConfig, never with a password in its text.
func ParseURL(text string, network *chaincfg.Params) (cfg Config, err error) {
	place, known := places[network.Name]
	n, err := reader.Parse(text, place.port)
	if err != nil {
		return cfg, err
	}
	cfg = Config{Network: network, User: n.User, Password: n.Password}
	secure := false
	err = reader.Take(n.Options, map[string]nodeurl.Option{
		"cookie": nodeurl.Text(&cfg.Cookie), "password-file": reader.PasswordFile(n.User, &cfg.Password),
		"birthday": reader.Number("birthday", 0, &cfg.Birthday), "window": reader.Number("window", 144, &cfg.Window),
		"tls": reader.Only("tls", "1", &secure),
	})
	if err != nil {
		return cfg, err
	}
	cfg.URL = "http://" + net.JoinHostPort(n.Host, n.Port)
	if secure {
		cfg.URL = "https://" + net.JoinHostPort(n.Host, n.Port)
	}
	if cfg.User == "" && cfg.Cookie == "" {
		home, err := os.UserHomeDir()
		if err != nil || !known {
			return cfg, fmt.Errorf("%w: %s names neither a user nor a cookie file", ErrConfig, Redact(text))
		}
		cfg.Cookie = filepath.Join(home, ".bitcoin", place.folder, ".cookie")
	}
	return cfg, nil
}
