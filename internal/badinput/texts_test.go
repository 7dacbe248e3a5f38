package badinput_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"

	"github.com/btcsuite/btcd/chaincfg/v2"

	"github.com/spillway/spillway/chain/bitcoind"
	"github.com/spillway/spillway/chain/esplora"
	"github.com/spillway/spillway/content"
	"github.com/spillway/spillway/internal/badinput"
	"github.com/spillway/spillway/keys"
	"github.com/spillway/spillway/mpp"
)

// optional are the inputs that are good: fields that may be left out or say nothing,
// names that nobody reads, free text, bytes whose sense only a channel's terms give,
// and what RFC 9457 asks to take.
var optional = regexp.MustCompile(`^(` + strings.Join([]string{
	`challenge: (expires|opaque) (missing|empty|without a value)`,
	`request: (description|suggestedDeposit|methodDetails\.(creditMsat|minimumCharge|mode|payeeRestScript|requiredCumulative|root|stepBlocks|unitsPerAmount|version|zeroConfLimit)) (missing|in capitals)`,
	`request: (description|methodDetails\.(mode|root)) empty`,
	`request: description (with NUL|a word|with a space)`,
	`request: methodDetails\.network a word`,
	`[^m][^:]*: ((|payload\.|update\.)signature|refundSignature|restScript|refundTx|fundingTx|finalTx|tx|methodDetails\.payeeRestScript) cut`,
	`.*: (refundTx|fundingTx|finalTx|tx) (endless|longer)`,
	`close.*: payerNonce (missing|in capitals)`,
	`credential: (source|challenge\.description) (missing|in capitals|empty|with NUL|a word|with a space)`,
	`answer to open: depth (missing|in capitals)`,
	`answer to open: phase a word`,
	`answer to resume: (phase a word|(backMsat|update) (missing|in capitals))`,
	`receipt: (backMsat|units|update) (missing|in capitals)`,
	`receipt: (challengeId|reference) (endless|with NUL|a word|with a space)`,
	`problem( an empty object|: (detail|requiredCumulative|title|type|status) (missing|null|in capitals|a number|a string|an object|a list|true|empty|with NUL|a word|with a space|negative|a fraction|above .*)|: requiredCumulative (with a plus|with an exponent|with a leading zero|in hex))`,
}, "|") + `)$`)

func good(name string) bool { return optional.MatchString(name) }

// checksummed is an export's file around a text that may be bad, with the checksum
// that belongs to it.
func checksummed(inner []byte) []byte {
	var compact bytes.Buffer
	if json.Compact(&compact, inner) != nil {
		compact.Reset()
		compact.Write(inner)
	}
	sum := sha256.Sum256(compact.Bytes())
	return fmt.Appendf(nil, `{"format":"spillway channel export","version":1,"sha256":"%s","channel":%s}`, hex.EncodeToString(sum[:]), compact.Bytes())
}

// list are the bad forms of a text that a person writes.
func list(name string, bad ...string) (cases []badinput.Case) {
	for _, s := range bad {
		what := fmt.Sprintf("%.60q", s)
		if len(s) > 60 {
			what += fmt.Sprintf(" and so on, %d bytes", len(s))
		}
		cases = append(cases, badinput.Case{Group: name, What: what, Input: []byte(s)})
	}
	return cases
}

// written are the forms of what people write.
func written() []message {
	long := strings.Repeat("9", 5000)
	text := func(read func(string) error) func([]byte) error {
		return func(raw []byte) error { return read(string(raw)) }
	}
	input := append([]badinput.Named{{Name: "content.ErrName", Err: content.ErrName}}, contentErrors...)
	return []message{
		{name: "amount", good: []byte("1000sat"), known: input, read: text(func(s string) error { _, err := content.ParseAmountMsat(s); return err }),
			cases: list("amount", "", " ", "sat", "1", "-1sat", "+1sat", "1e3sat", "1,000sat", "0x1sat", "1.sat", ".5sat", "1..5sat", "1.5.5sat", "0.5msat", "0.0000000000001btc", "1SAT", "1Sat", "1satoshi",
				"1 sat sat", "1  sat", "sat1", " 1sat", "1sat ", "1sat\n", "1\x00sat", "21000001btc", long+"sat", "1."+long+"btc", "½sat", "１sat", "NaNsat", "∞btc")},
		{name: "size", good: []byte("1MiB"), known: input, read: text(func(s string) error { _, err := content.ParseBytes(s); return err }),
			cases: list("size", "", "-1", "+1", "1e6", "1.5", "0.5B", "MiB", "1mib", "1Mib", "1 M", "1XB", "1..5KiB", "0x10", "9007199254740992", "9PiB ", "8193PiB", long, "1MiB\n", "1,5MiB")},
		{name: "price", good: []byte("1sat/64KiB"), known: input, read: text(func(s string) error { _, err := content.ParsePrice(s); return err }),
			cases: list("price", "", "1", "1sat", "/", "1sat/", "/64KiB", "1sat/64KiB/2", "-1sat/MiB", "1sat/-1", "0sat/0", "1sat/0", "0sat/MiB", "1sat/MB MB", "1sat per MiB", "1usd/MiB", "sat/MiB", "1sat/File", "1sat/folder",
				"FREE", "gratis", long+"sat/MiB", "1sat/"+long, "21000001btc/file", "0.5msat/MiB", "1sat\\MiB", "1sat/MiB\x00")},
		{name: "root", good: []byte(strings.Repeat("ab", 32)), known: input, read: text(func(s string) error { _, err := content.ParseHash(s); return err }),
			cases: list("root", "", "ab", strings.Repeat("ab", 31), strings.Repeat("ab", 33), strings.Repeat("AB", 32), strings.Repeat("zz", 32), "0x"+strings.Repeat("ab", 31), " "+strings.Repeat("ab", 32), "b3-"+strings.Repeat("ab", 32))},
		{name: "name", good: []byte("a/b.bin"), known: input, read: text(content.CheckName),
			cases: list("name", "", ".", "..", "/", "/a", "a/", "a//b", "a/../b", "../a", "./a", "a/.", ".hidden", "a/.hidden", "a\\b", "a\x00b", "a\nb", "a\x1bb", "\xff", strings.Repeat("a", 5000), strings.Repeat("a/", 2000)+"a")},
		{name: "price list", good: []byte("*.iso 1sat/MiB chunk 1MiB preview 1MiB # it\n"), known: input, read: text(func(s string) error { _, err := content.ParsePriceList(strings.NewReader(s)); return err }),
			cases: list("price list", "*", "*.iso", "*.iso 1sat", "1sat/MiB *.iso", "*.iso 1sat/MiB chunk", "*.iso 1sat/MiB chunk 0", "*.iso 1sat/MiB chunk -1", "*.iso 1sat/MiB chunk x", "*.iso 1sat/MiB chunks 0", "*.iso 1sat/MiB chunks -1",
				"*.iso 1sat/MiB chunks 1.5", "*.iso 1sat/MiB chunks 1MiB", "*.iso 1sat/MiB chunk 1MiB chunks 3", "*.iso 1sat/MiB preview", "*.iso 1sat/MiB preview x", "*.iso free preview 1MiB", "*.iso 1sat/MiB preview 1MiB preview 1MiB",
				"*.iso 1sat/MiB colour red", "[a 1sat/MiB", "a//b 1sat/MiB", "/ 1sat/MiB", `"a b 1sat/MiB`, `"a\q" 1sat/MiB`, "a 1sat/MiB\nb", "\x00\xff", "a\x00 1sat/MiB", strings.Repeat("a 1sat/MiB\n", 10_001), strings.Repeat("x", 2<<20), strings.Repeat("#\n", 1<<20))},
		{name: "bitcoind URL", good: []byte("bitcoind://me:it@127.0.0.1:18443"), known: []badinput.Named{{Name: "bitcoind.ErrConfig", Err: bitcoind.ErrConfig}}, read: text(bitcoindURL), cases: list("bitcoind URL", nodes...)},
		{name: "Esplora URL", good: []byte("http://127.0.0.1:3002"), known: []badinput.Named{{Name: "esplora.ErrConfig", Err: esplora.ErrConfig}}, read: text(esploraURL),
			cases: list("Esplora URL", "", "x", "http://", "http:///x", "ftp://h", "http://h:99999", "http://h:x", "http://h h", "http://[::1", "http://h?q=1", "http://h#f", "://", "http://%zz")},
		{name: "words", good: []byte(strings.Repeat("abandon ", 11) + "about"), known: []badinput.Named{{Name: "keys.ErrWords", Err: keys.ErrWords}}, read: text(func(s string) error { _, err := keys.FromMnemonic(s, &chaincfg.RegressionNetParams); return err }),
			cases: list("words", "", "abandon", strings.Repeat("abandon ", 12), strings.Repeat("abandon ", 10)+"about", strings.Repeat("abandon ", 11)+"abut", strings.Repeat("Abandon ", 11)+"About!", strings.Repeat("abandon,", 11)+"about", strings.Repeat("abandon ", 24),
				strings.Repeat("abandon ", 500), "\x00", strings.Repeat("über ", 12))},
		{name: "Idempotency-Key", good: []byte("order-7"), known: mppErrors, read: text(func(s string) error { _, err := mpp.IdempotencyKey([]string{s}); return err }),
			cases: list("Idempotency-Key", strings.Repeat("k", 256), "a\x00", "a\nb", "ü", "a\x7f")},
		{name: "Accept-Payment", good: []byte("bitcoin/session;q=0.5"), known: mppErrors, read: text(func(s string) error { _, err := mpp.ParseAccept([]string{s}); return err }),
			cases: list("Accept-Payment", "bitcoin", "/", "bitcoin/", "/session", "a/b/c", "a/b;q=2", "a/b;q=-1", "a/b;q=0.0001", "a/b;q=x", "a/b;q", "a/b;x=1;", "a b/c", "A/b", strings.Repeat("a/b,", 20_000))},
	}
}

func bitcoindURL(s string) error {
	_, err := bitcoind.ParseURL(s, &chaincfg.RegressionNetParams)
	return err
}

func esploraURL(s string) error {
	_, err := esplora.New(esplora.Config{URL: s, Network: &chaincfg.RegressionNetParams})
	return err
}

// nodes are URLs of a bitcoind that are none.
var nodes = []string{
	"", "x", "bitcoind:", "bitcoind://", "bitcoind:///", "http://h", "bitcoind://h:99999", "bitcoind://h:x", "bitcoind://h:-1", "bitcoind://h/path", "bitcoind://h#f", "bitcoind://u@h?password-file=/nonexistent",
	"bitcoind://h?password-file=/etc/hostname", "bitcoind://u:p@h?password-file=/etc/hostname", "bitcoind://h?cookie=", "bitcoind://h?cookie=a&cookie=b", "bitcoind://h?colour=red", "bitcoind://h?birthday=x", "bitcoind://h?birthday=-1",
	"bitcoind://h?birthday=4294967296", "bitcoind://h?window=1", "bitcoind://h?window=x", "bitcoind://h?tls=yes", "bitcoind://h?tls=0", "bitcoind://h?%zz", "bitcoind://h?a;b", "bitcoind://[::1", "bitcoind://h h", "bitcoind://%zz",
}
