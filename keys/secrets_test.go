package keys

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/btcsuite/btcd/chaincfg/v2"
)

// secrets are what must not be found anywhere: the words, and every key that is
// derived from them, in hex, in decimal and as BIP32 writes them.
func secrets(t *testing.T, k *Keyring) (all []string) {
	t.Helper()
	payer, err := k.PayerChannelKey(0)
	if err != nil {
		t.Fatal(err)
	}
	id, err := k.Identity()
	if err != nil {
		t.Fatal(err)
	}
	secret, err := k.ChallengeSecret(0)
	if err != nil {
		t.Fatal(err)
	}
	all = append(all, "vessel", "ladder", "xprv", "tprv")
	for _, node := range k.nodes().list() {
		raw, err := node.ECPrivKey()
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, node.String(), hex.EncodeToString(raw.Serialize()), fmt.Sprint(raw.Serialize()), hex.EncodeToString(node.ChainCode()))
	}
	return append(all, hex.EncodeToString(payer.Serialize()), hex.EncodeToString(id.Seed()), hex.EncodeToString(secret[:]))
}

// A sentinel seed is looked for in everything that a keyring can be printed as.
func TestPitfall45_NothingIsPrinted(t *testing.T) {
	const sentinel = "vessel ladder alter error federal sibling chat ability sun glass valve picture"
	k, err := FromMnemonic(sentinel, &chaincfg.RegressionNetParams)
	if err != nil {
		t.Fatal(err)
	}
	type holder struct {
		Public  *Keyring
		Value   Keyring
		private *Keyring
		value   Keyring
		any     any
	}
	h := holder{k, *k, k, *k, k}
	var out bytes.Buffer
	for _, v := range []any{k, *k, h, &h, []*Keyring{k}, map[string]Keyring{"k": *k}, fmt.Errorf("wrapped %v", k)} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%b", "%p", "%T"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		if err := json.NewEncoder(&out).Encode(v); err != nil {
			t.Fatal(err)
		}
		for _, handler := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
			slog.New(handler).Info("a keyring", "k", v, slog.Group("g", "k", v))
		}
	}
	func() {
		defer func() { fmt.Fprint(&out, recover()) }()
		panic(k)
	}()
	for _, secret := range secrets(t, k) {
		if i := strings.Index(out.String(), secret); i >= 0 {
			t.Errorf("the output holds %q: %q", secret, out.String()[max(0, i-80):i])
		}
	}
	if n := strings.Count(out.String(), redacted); n < 50 {
		t.Errorf("only %d redacted forms: the test looks at nothing", n)
	}
}
