package keys

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/btcsuite/btcd/address/v2"
	"github.com/btcsuite/btcd/btcec/v2/schnorr"
	"github.com/btcsuite/btcd/chaincfg/v2"
	"pgregory.net/rapid"
)

const words = "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon about"

func ring(t *testing.T, params *chaincfg.Params) *Keyring {
	t.Helper()
	k, err := FromMnemonic(words, params)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// The vectors of BIP86 for the words of all zeros, mainnet.
func TestBIP86Vectors(t *testing.T) {
	k := ring(t, &chaincfg.MainNetParams)
	for _, v := range []struct {
		change        bool
		index         uint32
		output, paper string
	}{
		{false, 0, "a60869f0dbcf1dc659c9cecbaf8050135ea9e8cdc487053f1dc6880949dc684c", "bc1p5cyxnuxmeuwuvkwfem96lqzszd02n6xdcjrs20cac6yqjjwudpxqkedrcr"},
		{false, 1, "a82f29944d65b86ae6b5e5cc75e294ead6c59391a1edc5e016e3498c67fc7bbb", "bc1p4qhjn9zdvkux4e44uhx8tc55attvtyu358kutcqkudyccelu0was9fqzwh"},
		{true, 0, "882d74e5d0572d5a816cef0041a96b6c1de832f6f9676d9605c44d5e9a97d3dc", "bc1p3qkhfews2uk44qtvauqyr2ttdsw7svhkl9nkm9s9c3x4ax5h60wqwruhk7"},
	} {
		_, pk, err := k.WalletKey(v.change, v.index)
		if err != nil {
			t.Fatal(err)
		}
		if got := hex.EncodeToString(pk); got != "5120"+v.output {
			t.Errorf("m/86'/0'/0'/%v/%d: %s", v.change, v.index, got)
		}
		a, err := address.NewAddressTaproot(pk[2:], &chaincfg.MainNetParams)
		if err != nil || a.EncodeAddress() != v.paper {
			t.Errorf("address %v, %v; want %s", a, err, v.paper)
		}
	}
}

// Our own paths are frozen: another key for the same words would lose money.
func TestFrozenPaths(t *testing.T) {
	k := ring(t, &chaincfg.RegressionNetParams)
	nonce := [16]byte{0x0f, 0xee, 0xdd, 0xcc, 0xbb, 0xaa, 0x99, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0x00}
	payer, err := k.PayerChannelKey(7)
	if err != nil {
		t.Fatal(err)
	}
	payee, err := k.PayeeChannelKey(nonce)
	if err != nil {
		t.Fatal(err)
	}
	id, err := k.Identity()
	if err != nil {
		t.Fatal(err)
	}
	secret, err := k.ChallengeSecret(3)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{
		"payer": hex.EncodeToString(schnorr.SerializePubKey(payer.PubKey())), "payee": hex.EncodeToString(schnorr.SerializePubKey(payee.PubKey())),
		"identity": hex.EncodeToString(id[32:]), "challenge": hex.EncodeToString(secret[:]),
	}
	raw, err := os.ReadFile(filepath.Join("testdata", "paths.json"))
	if err != nil {
		t.Fatal(err)
	}
	var want map[string]string
	if err := json.Unmarshal(raw, &want); err != nil {
		t.Fatal(err)
	}
	for name, key := range got {
		if want[name] != key {
			t.Errorf("%s: %s, frozen is %s", name, key, want[name])
		}
	}
}

func TestLevels(t *testing.T) {
	for text, want := range map[string]string{
		"00000000000000000000000000000000": "[0 0 0 0]",
		"0fffffffffffffffffffffffffffffff": "[2147483647 2147483647 2147483647 2147483647]",
		"00000000000000000000000000000001": "[0 0 0 1]",
		"00000000000000000000000080000000": "[0 0 1 0]",
		"08000000000000000000000000000000": "[1073741824 0 0 0]",
	} {
		raw, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(levels([16]byte(raw))); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
	k := ring(t, &chaincfg.RegressionNetParams)
	if _, err := k.PayeeChannelKey([16]byte{0x10}); !errors.Is(err, ErrNonce) {
		t.Errorf("a nonce of 125 bits: %v", err)
	}
	if _, err := k.PayerChannelKey(1 << 31); err == nil {
		t.Error("an index above 2^31 was taken")
	}
}

// Two purposes, or two numbers of one purpose, never share a key.
func TestPitfall19_KeysApart(t *testing.T) {
	k := ring(t, &chaincfg.RegressionNetParams)
	rapid.Check(t, func(t *rapid.T) {
		seen := map[string]string{}
		put := func(name string, key []byte, err error) {
			if err != nil {
				t.Fatal(err)
			}
			if other, taken := seen[string(key)]; taken && other != name {
				t.Fatalf("%s and %s have one key", name, other)
			}
			seen[string(key)] = name
		}
		i := rapid.Uint32Range(0, 1<<31-2).Draw(t, "index")
		for _, n := range []uint32{i, i + 1} {
			key, err := k.PayerChannelKey(n)
			put(fmt.Sprintf("payer %d", n), key.Serialize(), err)
			w, _, err := k.WalletKey(n%2 == 0, n)
			put(fmt.Sprintf("wallet %v %d", n%2 == 0, n), w.Serialize(), err)
			c, err := k.ChallengeSecret(n)
			put(fmt.Sprintf("challenge %d", n), c[:], err)
		}
		a := [16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "nonce"))
		a[0] &= 0x0f
		b := a
		b[rapid.IntRange(1, 15).Draw(t, "byte")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		for _, n := range [][16]byte{a, b} {
			key, err := k.PayeeChannelKey(n)
			put(fmt.Sprintf("payee %x", n), key.Serialize(), err)
		}
		id, err := k.Identity()
		put("identity", id.Seed(), err)
	})
}

// A sentinel seed is looked for in everything that a keyring can be printed as.
func TestPitfall45_NothingIsPrinted(t *testing.T) {
	k := ring(t, &chaincfg.RegressionNetParams)
	asJSON, err := json.Marshal(map[string]any{"k": k})
	if err != nil {
		t.Fatal(err)
	}
	all := fmt.Sprintf("%v %+v %#v %s %q %x %d", k, k, k, k, k, k, k) + string(asJSON)
	private := k.master.String()
	for _, secret := range []string{"abandon", private, private[4:20]} {
		if strings.Contains(all, secret) {
			t.Errorf("the output holds %q: %s", secret, all)
		}
	}
	if _, err := FromMnemonic(words+" sentinel", &chaincfg.RegressionNetParams); !errors.Is(err, ErrWords) || strings.Contains(err.Error(), "sentinel") {
		t.Errorf("the error of wrong words: %v", err)
	}
}

func TestWords(t *testing.T) {
	text, err := NewMnemonic(rand.Reader)
	if err != nil || len(strings.Fields(text)) != 12 {
		t.Fatalf("%q, %v", text, err)
	}
	if _, err := NewMnemonic(bytes.NewReader(nil)); err == nil {
		t.Error("words without randomness")
	}
	spaced := "  " + strings.ReplaceAll(text, " ", "\n\t ")
	a, err := FromMnemonic(text, &chaincfg.RegressionNetParams)
	if err != nil {
		t.Fatal(err)
	}
	b, err := FromMnemonic(spaced, &chaincfg.RegressionNetParams)
	if err != nil || a.master.String() != b.master.String() {
		t.Errorf("white space matters: %v", err)
	}
	if _, err := FromMnemonic(strings.Replace(words, "about", "abandon", 1), &chaincfg.RegressionNetParams); !errors.Is(err, ErrWords) {
		t.Errorf("a wrong checksum: %v", err)
	}
}

func TestSeal(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "seed.age")
	if _, err := Open(path, "x"); !errors.Is(err, ErrNoSeed) {
		t.Errorf("nothing there: %v", err)
	}
	if err := seal(path, words, "", 10); !errors.Is(err, ErrPassphrase) {
		t.Errorf("an empty passphrase: %v", err)
	}
	if err := seal(path, words, "correct horse", 10); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(path)
	if err != nil || bytes.Contains(raw, []byte("abandon")) {
		t.Fatalf("the file shows the words (%v)", err)
	}
	if got, err := Open(path, "correct horse"); err != nil || got != words {
		t.Errorf("%q, %v", got, err)
	}
	for _, wrong := range []string{"", "correct", "correct horse "} {
		if _, err := Open(path, wrong); !errors.Is(err, ErrPassphrase) {
			t.Errorf("passphrase %q: %v", wrong, err)
		}
	}
	if err := seal(path, "others", "other", 10); !errors.Is(err, ErrExists) {
		t.Errorf("a second seed over the first: %v", err)
	}
	if err := os.WriteFile(path, raw[:len(raw)-5], 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, "correct horse"); !errors.Is(err, ErrDamaged) {
		t.Errorf("a truncated file: %v", err)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 {
		t.Errorf("files left over: %v, %v", left, err)
	}
}

func TestPlain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "seed")
	if err := WritePlain(path, words); err != nil {
		t.Fatal(err)
	}
	if got, err := ReadPlain(path); err != nil || got != words {
		t.Errorf("%q, %v", got, err)
	}
	if err := WritePlain(path, words); !errors.Is(err, ErrExists) {
		t.Errorf("over a seed: %v", err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadPlain(path); !errors.Is(err, ErrPermissions) {
		t.Errorf("readable by others: %v", err)
	}
}

func TestPassphrase(t *testing.T) {
	file := filepath.Join(t.TempDir(), "p")
	if err := os.WriteFile(file, []byte("from a file \r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SPILLWAY_TEST_PASS", "from the environment")
	if got, err := Passphrase(file, 0, "SPILLWAY_TEST_PASS"); err != nil || got != "from a file " {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := Passphrase("", 0, "SPILLWAY_TEST_PASS"); err != nil || got != "from the environment" {
		t.Errorf("%q, %v", got, err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.WriteString("from a descriptor\n"); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := Passphrase("", int(r.Fd()), ""); err != nil || got != "from a descriptor" {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := Passphrase("", 0, ""); err != nil || got != "" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := Passphrase(file+"x", 0, ""); err == nil {
		t.Error("a file that is not there")
	}
}
