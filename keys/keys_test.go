package keys

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/btcsuite/btcd/chaincfg/v2"
	"pgregory.net/rapid"
)

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
}

// What has no key is refused, never derived as something else.
func TestOutOfRange(t *testing.T) {
	k := ring(t, &chaincfg.RegressionNetParams)
	for _, nonce := range [][16]byte{{0x10}, {0xff}, {0x80, 1}} {
		if key, err := k.PayeeChannelKey(nonce); !errors.Is(err, ErrNonce) || key != nil {
			t.Errorf("nonce %x: %v", nonce, err)
		}
	}
	for _, i := range []uint32{1 << 31, 1<<32 - 1} {
		if key, err := k.PayerChannelKey(i); !errors.Is(err, ErrIndex) || key != nil {
			t.Errorf("payer %d: %v", i, err)
		}
		if key, _, err := k.WalletKey(false, i); !errors.Is(err, ErrIndex) || key != nil {
			t.Errorf("wallet %d: %v", i, err)
		}
		if secret, err := k.ChallengeSecret(i); !errors.Is(err, ErrIndex) || secret != [32]byte{} {
			t.Errorf("challenge %d: %v", i, err)
		}
	}
	var none Keyring
	_, err1 := none.PayerChannelKey(0)
	_, err2 := none.PayeeChannelKey([16]byte{})
	_, err3 := none.Identity()
	_, err4 := none.ChallengeSecret(0)
	_, _, err5 := none.WalletKey(true, 0)
	_, err6 := none.Account()
	for i, err := range []error{err1, err2, err3, err4, err5, err6} {
		if !errors.Is(err, ErrNoSeed) {
			t.Errorf("a keyring without a seed, %d: %v", i, err)
		}
	}
}

// Two purposes, two numbers of one purpose, or two networks never share a key.
func TestPitfall19_KeysApart(t *testing.T) {
	rings := []*Keyring{ring(t, &chaincfg.MainNetParams), ring(t, &chaincfg.RegressionNetParams)}
	rapid.Check(t, func(t *rapid.T) {
		seen := map[string]string{}
		put := func(name string, key []byte, err error) {
			if err != nil {
				t.Fatal(err)
			}
			if other, taken := seen[string(key)]; taken {
				t.Fatalf("%s and %s have one key", name, other)
			}
			seen[string(key)] = name
		}
		i := rapid.Uint32Range(0, 1<<31-2).Draw(t, "index")
		a := [16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "nonce"))
		a[0] &= 0x0f
		b := a
		b[rapid.IntRange(1, 15).Draw(t, "byte")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		for coin, k := range rings {
			for _, n := range []uint32{i, i + 1} {
				key, err := k.PayerChannelKey(n)
				put(fmt.Sprintf("%d payer %d", coin, n), key.Serialize(), err)
				for _, change := range []bool{false, true} {
					w, _, err := k.WalletKey(change, n)
					put(fmt.Sprintf("%d wallet %v %d", coin, change, n), w.Serialize(), err)
				}
				c, err := k.ChallengeSecret(n)
				put(fmt.Sprintf("%d challenge %d", coin, n), c[:], err)
			}
			for _, n := range [][16]byte{a, b} {
				key, err := k.PayeeChannelKey(n)
				put(fmt.Sprintf("%d payee %x", coin, n), key.Serialize(), err)
			}
			id, err := k.Identity()
			put(fmt.Sprintf("%d identity", coin), id.Seed(), err)
		}
	})
}

// One key given away, with all that is public of the wallet, gives no other: the
// levels of channels, identity and challenges are all hardened.
func TestPitfall19_HardenedLevels(t *testing.T) {
	for _, v := range frozen(t) {
		levels := strings.Split(v.Path, "/")[1:]
		plain := 0
		for _, level := range levels {
			if !strings.HasSuffix(level, "'") {
				plain++
			}
		}
		if wallet := strings.HasPrefix(v.Purpose, "WalletKey"); wallet && (plain != 2 || levels[0] != "86'") || !wallet && (plain != 0 || levels[0] != "5350'") {
			t.Errorf("%s is at %s", v.Purpose, v.Path)
		}
	}
}

// Many ask at once; the race detector watches.
func TestConcurrent(t *testing.T) {
	k := ring(t, &chaincfg.RegressionNetParams)
	want := all(t, ring(t, &chaincfg.RegressionNetParams))
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			if got := all(t, k); got != want {
				t.Errorf("%s, want %s", got, want)
			}
		})
	}
	group.Wait()
}

// all is one key of each kind.
func all(t *testing.T, k *Keyring) string {
	payer, err1 := k.PayerChannelKey(1)
	payee, err2 := k.PayeeChannelKey([16]byte{1})
	id, err3 := k.Identity()
	secret, err4 := k.ChallengeSecret(1)
	wallet, pk, err5 := k.WalletKey(true, 1)
	account, err6 := k.Account()
	if err := errors.Join(err1, err2, err3, err4, err5, err6); err != nil {
		t.Error(err)
		return ""
	}
	return fmt.Sprintf("%x %x %x %x %x %x %s", payer.Serialize(), payee.Serialize(), id, secret, wallet.Serialize(), pk, account)
}

func TestWords(t *testing.T) {
	text, err := NewMnemonic(rand.Reader)
	if err != nil || len(strings.Fields(text)) != 12 {
		t.Fatalf("%q, %v", text, err)
	}
	if _, err := NewMnemonic(bytes.NewReader(make([]byte, 15))); err == nil {
		t.Error("words without enough randomness")
	}
	a, err := FromMnemonic(text, &chaincfg.RegressionNetParams)
	if err != nil {
		t.Fatal(err)
	}
	b, err := FromMnemonic("  "+strings.ToUpper(strings.ReplaceAll(text, " ", "\n\t "))+"\r\n", &chaincfg.RegressionNetParams)
	if err != nil || all(t, a) != all(t, b) {
		t.Errorf("white space or case matters: %v", err)
	}
	for bad, says := range map[string]string{
		"": "there are 0 of them", strings.Repeat("abandon ", 11): "there are 11 of them", strings.Repeat("abandon ", 27): "there are 27 of them",
		strings.Replace(words, "about", "abandon", 1):                              "checksum",
		strings.Replace(words, "about", "sentinel", 1):                             "word 12 is not on the list",
		"about " + strings.TrimSuffix(words, " about"):                             "checksum",
		strings.Replace(otherWords, "legal", "legale", 1):                          "word 1 is not on the list",
		strings.Replace(words, "abandon abandon", "abandon\x00abandon abandon", 1): "word 1 is not on the list",
	} {
		k, err := FromMnemonic(bad, &chaincfg.RegressionNetParams)
		if !errors.Is(err, ErrWords) || !strings.Contains(err.Error(), says) || k != nil {
			t.Errorf("%q: %v, want %q", bad, err, says)
		}
		if err != nil && (strings.Contains(err.Error(), "sentinel") || strings.Contains(err.Error(), "abandon")) {
			t.Errorf("the error repeats a word: %v", err)
		}
	}
}

// Words from anywhere are taken or refused, and an error repeats none of them.
func FuzzWords(f *testing.F) {
	for _, seed := range []string{words, otherWords, "", "zoo", strings.Repeat("zoo ", 12), words + " about", "\xff\x00", strings.ToUpper(words)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		k, err := FromMnemonic(text, &chaincfg.RegressionNetParams)
		switch {
		case err == nil:
			if _, err := k.PayerChannelKey(0); err != nil {
				t.Error(err)
			}
		case !errors.Is(err, ErrWords):
			t.Errorf("another error: %v", err)
		default:
			for _, word := range strings.Fields(text) {
				if len(word) > 9 && strings.Contains(err.Error(), word) {
					t.Errorf("the error repeats %q: %v", word, err)
				}
			}
		}
	})
}

func BenchmarkPayeeChannelKey(b *testing.B) {
	k := ring(b, &chaincfg.RegressionNetParams)
	for i := range b.N {
		if _, err := k.PayeeChannelKey([16]byte{12: byte(i >> 24), 13: byte(i >> 16), 14: byte(i >> 8), 15: byte(i)}); err != nil {
			b.Fatal(err)
		}
	}
}
