package keys

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/btcsuite/btcd/address/v2"
	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/tyler-smith/go-bip39"
)

var update = flag.Bool("update", false, "write testdata/paths.json anew; what it froze is then lost")

const words = "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon about"

func ring(t testing.TB, params *chaincfg.Params) *Keyring {
	t.Helper()
	k, err := FromMnemonic(words, params)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// The vectors of BIP39 for 128 bits: what NewMnemonic makes of a given randomness.
func TestBIP39Vectors(t *testing.T) {
	for entropy, want := range map[string]string{
		"00000000000000000000000000000000": words,
		"7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f": "legal winner thank year wave sausage worth useful legal winner thank yellow",
		"80808080808080808080808080808080": "letter advice cage absurd amount doctor acoustic avoid letter advice cage above",
		"ffffffffffffffffffffffffffffffff": "zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo wrong",
		"9e885d952ad362caeb4efe34a8e91bd2": "ozone drill grab fiber curtain grace pudding thank cruise elder eight picnic",
		"c0ba5a8e914111210f2bd131f3d5e08d": "scheme spot photo card baby mountain device kick cradle pact join borrow",
		"23db8160a31d3e0dca3688ed941adbf3": "cat swing flag economy stadium alone churn speed unique patch report train",
		"f30f8c1da665478f49b001d94c5fc452": "vessel ladder alter error federal sibling chat ability sun glass valve picture",
	} {
		raw, err := hex.DecodeString(entropy)
		if err != nil {
			t.Fatal(err)
		}
		got, err := NewMnemonic(bytes.NewReader(raw))
		if err != nil || got != want {
			t.Errorf("%s: %q, %v; want %q", entropy, got, err, want)
		}
		if _, err := FromMnemonic(got, &chaincfg.MainNetParams); err != nil {
			t.Errorf("%q: %v", got, err)
		}
	}
	seed := hex.EncodeToString(bip39.NewSeed(words, "TREZOR"))
	if want := "c55257c360c07c72029aebc1b53c05ed0362ada38ead3e3e9efa3708e53495531f09a6987599d18264c1e1c92f2cf141630c7a3c4ab7c81b2f001698e7463b04"; seed != want {
		t.Errorf("the seed of the zeros is %s", seed)
	}
}

// The vectors of BIP86 for the words of all zeros, mainnet.
func TestBIP86Vectors(t *testing.T) {
	k := ring(t, &chaincfg.MainNetParams)
	account, err := k.Account()
	if err != nil {
		t.Fatal(err)
	}
	if want := "xprv9xgqHN7yz9MwCkxsBPN5qetuNdQSUttZNKw1dcYTV4mkaAFiBVGQziHs3NRSWMkCzvgjEe3n9xV8oYywvM8at9yRqyaZVz6TYYhX98VjsUk"; account.String() != want {
		t.Errorf("the account is %s", account)
	}
	if public, err := account.Neuter(); err != nil ||
		public.String() != "xpub6BgBgsespWvERF3LHQu6CnqdvfEvtMcQjYrcRzx53QJjSxarj2afYWcLteoGVky7D3UKDP9QyrLprQ3VCECoY49yfdDEHGCtMMj92pReUsQ" {
		t.Errorf("its public form is %s, %v", public, err)
	}
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

// vector is a frozen key.
type vector struct {
	Words   string `json:"words"`
	Network string `json:"network"`
	Purpose string `json:"purpose"` // the method
	Input   string `json:"input"`   // what it is given, in hex
	Path    string `json:"path"`
	Private string `json:"private"` // the key or secret, in hex
	Public  string `json:"public"`  // compressed, an Ed25519 key, or empty
}

const otherWords = "legal winner thank year wave sausage worth useful legal winner thank year wave sausage worth useful legal winner thank year wave sausage worth title"

// Our own paths are frozen: another key for the same words would lose money.
func TestFrozenPaths(t *testing.T) {
	file := filepath.Join("testdata", "paths.json")
	got := frozen(t)
	if *update {
		raw, err := json.MarshalIndent(got, "", "\t")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, append(raw, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var want []vector
	if err := json.Unmarshal(raw, &want); err != nil {
		t.Fatal(err)
	}
	if len(got) != len(want) || len(want) < 30 {
		t.Fatalf("%d keys, %d are frozen", len(got), len(want))
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("%+v\nfrozen is %+v", got[i], want[i])
		}
	}
}

// frozen derives the keys that are frozen.
func frozen(t *testing.T) (all []vector) {
	t.Helper()
	for _, w := range []string{words, otherWords} {
		for _, params := range []*chaincfg.Params{&chaincfg.MainNetParams, &chaincfg.RegressionNetParams} {
			k, err := FromMnemonic(w, params)
			if err != nil {
				t.Fatal(err)
			}
			for _, v := range inputs(map[bool]int{true: 0, false: 1}[params.Net == chaincfg.MainNetParams.Net]) {
				v.Words, v.Network = w, params.Name
				v.Private, v.Public, err = derive(k, v)
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, v)
			}
		}
	}
	return all
}

// inputs are what each purpose is asked for, with the path that it documents.
func inputs(coin int) (all []vector) {
	for _, i := range []uint32{0, 7, 1<<31 - 1} {
		hexed := fmt.Sprintf("%08x", i)
		all = append(all,
			vector{Purpose: "PayerChannelKey", Input: hexed, Path: fmt.Sprintf("m/5350'/%d'/1'/%d'", coin, i)},
			vector{Purpose: "ChallengeSecret", Input: hexed, Path: fmt.Sprintf("m/5350'/%d'/4'/%d'", coin, i)},
			vector{Purpose: "WalletKey external", Input: hexed, Path: fmt.Sprintf("m/86'/%d'/0'/0/%d", coin, i)},
			vector{Purpose: "WalletKey internal", Input: hexed, Path: fmt.Sprintf("m/86'/%d'/0'/1/%d", coin, i)})
	}
	for nonce, levels := range map[string]string{
		"00000000000000000000000000000000": "0'/0'/0'/0'",
		"0fffffffffffffffffffffffffffffff": "2147483647'/2147483647'/2147483647'/2147483647'",
		"0feeddccbbaa99887766554433221100": "2138500709'/1856661025'/1858906760'/857870592'",
	} {
		all = append(all, vector{Purpose: "PayeeChannelKey", Input: nonce, Path: fmt.Sprintf("m/5350'/%d'/2'/%s", coin, levels)})
	}
	all = append(all, vector{Purpose: "Identity", Path: fmt.Sprintf("m/5350'/%d'/3'", coin)})
	sortVectors(all)
	return all
}

func sortVectors(all []vector) {
	for i := range all {
		for j := i; j > 0 && all[j].Purpose+all[j].Input < all[j-1].Purpose+all[j-1].Input; j-- {
			all[j], all[j-1] = all[j-1], all[j]
		}
	}
}

// derive asks a keyring for a vector's key.
func derive(k *Keyring, v vector) (private, public string, err error) {
	raw, err := hex.DecodeString(v.Input)
	if err != nil {
		return "", "", err
	}
	var key *btcec.PrivateKey
	switch v.Purpose {
	case "PayerChannelKey":
		key, err = k.PayerChannelKey(binary.BigEndian.Uint32(raw))
	case "PayeeChannelKey":
		key, err = k.PayeeChannelKey([16]byte(raw))
	case "WalletKey external", "WalletKey internal":
		key, _, err = k.WalletKey(v.Purpose == "WalletKey internal", binary.BigEndian.Uint32(raw))
	case "ChallengeSecret":
		secret, err := k.ChallengeSecret(binary.BigEndian.Uint32(raw))
		return hex.EncodeToString(secret[:]), "", err
	case "Identity":
		id, err := k.Identity()
		if err != nil {
			return "", "", err
		}
		return hex.EncodeToString(id.Seed()), hex.EncodeToString(id[32:]), nil
	}
	if err != nil {
		return "", "", err
	}
	return hex.EncodeToString(key.Serialize()), hex.EncodeToString(key.PubKey().SerializeCompressed()), nil
}

// The frozen keys are those of the paths that are documented, derived here once
// more from nothing but BIP32's text.
func TestPathsAreAsDocumented(t *testing.T) {
	for _, v := range frozen(t) {
		key := bip32(t, bip39.NewSeed(v.Words, ""), v.Path)
		want, public := hex.EncodeToString(key), ""
		switch v.Purpose {
		case "Identity":
			seed := sha256.Sum256(append([]byte("spillway/identity"), key...))
			want, public = hex.EncodeToString(seed[:]), hex.EncodeToString(ed25519.NewKeyFromSeed(seed[:])[32:])
		case "ChallengeSecret":
			secret := sha256.Sum256(append([]byte("spillway/challenge"), key...))
			want = hex.EncodeToString(secret[:])
		default:
			_, pub := btcec.PrivKeyFromBytes(key)
			public = hex.EncodeToString(pub.SerializeCompressed())
		}
		if v.Private != want || v.Public != public {
			t.Errorf("%s of %s is not at %s", v.Purpose, v.Input, v.Path)
		}
	}
}

// bip32 derives a private key along a path.
func bip32(t *testing.T, seed []byte, path string) []byte {
	t.Helper()
	mac := func(key, data []byte) ([]byte, []byte) {
		h := hmac.New(sha512.New, key)
		h.Write(data)
		sum := h.Sum(nil)
		return sum[:32], sum[32:]
	}
	key, chain := mac([]byte("Bitcoin seed"), seed)
	for _, level := range strings.Split(path, "/")[1:] {
		number, hard := strings.CutSuffix(level, "'")
		i, err := strconv.ParseUint(number, 10, 31)
		if err != nil {
			t.Fatal(err)
		}
		data := append([]byte{0}, key...)
		if hard {
			i |= 1 << 31
		} else {
			_, pub := btcec.PrivKeyFromBytes(key)
			data = pub.SerializeCompressed()
		}
		tweak, next := mac(chain, binary.BigEndian.AppendUint32(data, uint32(i)))
		sum := new(big.Int).Add(new(big.Int).SetBytes(tweak), new(big.Int).SetBytes(key))
		key, chain = sum.Mod(sum, btcec.S256().N).FillBytes(make([]byte, 32)), next
	}
	return key
}
