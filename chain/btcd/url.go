package btcd

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/btcsuite/btcd/chaincfg/v2"
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
	u, err := url.Parse(text)
	if err != nil || u.Scheme != Scheme || u.Hostname() == "" || u.Path != "" && u.Path != "/" || u.Fragment != "" {
		return cfg, fmt.Errorf("%w: %s is not btcd://USER@HOST[:PORT][?password-file=PATH&cert=PATH]", ErrConfig, redact(text))
	}
	port := u.Port()
	if port == "" {
		port = ports[network.Name]
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return cfg, fmt.Errorf("%w: the port of %s is 1 to 65535", ErrConfig, redact(text))
	}
	cfg = Config{Network: network, Address: net.JoinHostPort(u.Hostname(), port)}
	if u.User != nil {
		cfg.User = u.User.Username()
		cfg.Password, _ = u.User.Password()
	}
	q, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return cfg, fmt.Errorf("%w: the options of %s cannot be read", ErrConfig, redact(text))
	}
	if err := cfg.options(q); err != nil {
		return cfg, err
	}
	here := loopback(u.Hostname())
	switch {
	case cfg.User == "":
		return cfg, fmt.Errorf("%w: %s names no user: btcd://USER@HOST?password-file=PATH", ErrConfig, redact(text))
	case cfg.Password == "":
		return cfg, fmt.Errorf("%w: %s has no password: give ?password-file=PATH", ErrConfig, redact(text))
	case cfg.Plain && !here:
		return cfg, fmt.Errorf("%w: without TLS the password of %s would be read on the way: tls=0 is for a node on this machine", ErrConfig, redact(text))
	}
	if home, err := os.UserHomeDir(); err == nil && here && !cfg.Plain && cfg.CertFile == "" {
		usual := filepath.Join(home, ".btcd", "rpc.cert")
		if _, err := os.Stat(usual); err == nil {
			cfg.CertFile = usual
		}
	}
	return cfg, nil
}

// loopback reports whether a host is this machine.
func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// redact is a URL without its credentials.
func redact(text string) string {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return Scheme + "://…"
	}
	return clip(u.Scheme + "://" + u.Host)
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
		case "cert":
			cfg.CertFile = v
		case "password-file":
			err = cfg.readPassword(v)
		case "birthday":
			cfg.Birthday, err = number(name, v, 1)
		case "window":
			cfg.Window, err = number(name, v, 144)
		case "tls":
			if cfg.Plain = v == "0"; !cfg.Plain {
				return fmt.Errorf("%w: tls is 0 or left out", ErrConfig)
			}
		case "version3":
			if cfg.Version3 = v == "1"; !cfg.Version3 {
				return fmt.Errorf("%w: version3 is 1 or left out", ErrConfig)
			}
		default:
			return fmt.Errorf("%w: no option is called %s: password-file, cert, tls, version3, birthday or window", ErrConfig, clip(name))
		}
		if err != nil {
			return err
		}
	}
	if cfg.Plain && cfg.CertFile != "" {
		return fmt.Errorf("%w: cert does not go with tls=0", ErrConfig)
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
	if cfg.Password = strings.TrimRight(string(raw), "\r\n"); cfg.Password == "" {
		return fmt.Errorf("%w: %s is empty", ErrConfig, path)
	}
	return nil
}

func number(name, text string, least uint64) (uint32, error) {
	n, err := strconv.ParseUint(text, 10, 31)
	if err != nil || n < least {
		return 0, fmt.Errorf("%w: %s is a number of at least %d, not %q", ErrConfig, name, least, clip(text))
	}
	return uint32(n), nil
}
