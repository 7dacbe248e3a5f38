package bitcoind

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/btcsuite/btcd/chaincfg/v2"
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
func Redact(text string) string {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		scheme, _, _ := strings.Cut(text, ":")
		return scheme + "://…"
	}
	return u.Scheme + "://" + u.Host
}

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
	u, err := url.Parse(text)
	if err != nil || u.Scheme != Scheme || u.Hostname() == "" || u.Path != "" && u.Path != "/" || u.Fragment != "" {
		return cfg, fmt.Errorf("%w: %s is not bitcoind://[USER@]HOST[:PORT][?cookie=PATH]", ErrConfig, Redact(text))
	}
	place, known := places[network.Name]
	port := u.Port()
	if port == "" {
		port = place.port
	}
	if port == "" {
		return cfg, fmt.Errorf("%w: %s names no port", ErrConfig, Redact(text))
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return cfg, fmt.Errorf("%w: the port of %s is 1 to 65535", ErrConfig, Redact(text))
	}
	cfg = Config{Network: network, URL: "http://" + net.JoinHostPort(u.Hostname(), port)}
	if u.User != nil {
		cfg.User = u.User.Username()
		cfg.Password, _ = u.User.Password()
	}
	q, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return cfg, fmt.Errorf("%w: the options of %s cannot be read", ErrConfig, Redact(text))
	}
	if err := cfg.options(q); err != nil {
		return cfg, err
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

// options reads what follows the question mark.
func (cfg *Config) options(q url.Values) error {
	for name, values := range q {
		if len(values) != 1 || values[0] == "" {
			return fmt.Errorf("%w: %s is given once and with a value", ErrConfig, clip(name))
		}
		v := values[0]
		var err error
		switch name {
		case "cookie":
			cfg.Cookie = v
		case "password-file":
			err = cfg.readPassword(v)
		case "birthday":
			cfg.Birthday, err = number(name, v, 0)
		case "window":
			cfg.Window, err = number(name, v, 144)
		case "tls":
			if v != "1" {
				return fmt.Errorf("%w: tls is 1 or left out", ErrConfig)
			}
			cfg.URL = "https" + strings.TrimPrefix(cfg.URL, "http")
		default:
			return fmt.Errorf("%w: no option is called %s: cookie, password-file, birthday, window or tls", ErrConfig, clip(name))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (cfg *Config) readPassword(path string) error {
	if cfg.User == "" || cfg.Password != "" {
		return fmt.Errorf("%w: password-file goes with a user and without another password", ErrConfig)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrConfig, err)
	}
	cfg.Password = strings.TrimRight(string(raw), "\r\n")
	return nil
}

func number(name, text string, least uint64) (uint32, error) {
	n, err := strconv.ParseUint(text, 10, 31)
	if err != nil || n < least {
		return 0, fmt.Errorf("%w: %s is a number of at least %d, not %q", ErrConfig, name, least, clip(text))
	}
	return uint32(n), nil
}
