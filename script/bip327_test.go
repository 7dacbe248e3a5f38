package script

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"testing"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/btcec/v2/schnorr"
	"github.com/btcsuite/btcd/btcec/v2/schnorr/musig2"
)

func parseAll(t *testing.T, raw []hexBytes) (keys []*btcec.PublicKey) {
	t.Helper()
	for _, b := range raw {
		key, err := btcec.ParsePubKey(b)
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, key)
	}
	return keys
}

func tweakDescs(tweaks []hexBytes, indices []int, xonly []bool) (descs []musig2.KeyTweakDesc) {
	for i, at := range indices {
		descs = append(descs, musig2.KeyTweakDesc{Tweak: [32]byte(tweaks[at]), IsXOnly: xonly[i]})
	}
	return descs
}

// Keys sort as 33 bytes, and a channel's internal key is the aggregate of its
// keys in that order, whoever is the payer. BIP327.
func TestBIP327KeySort(t *testing.T) {
	var v struct {
		Pubkeys []hexBytes
		Sorted  []hexBytes `json:"sorted_pubkeys"`
	}
	official(t, &v, "bip327", "key_sort_vectors.json")
	sorted, _, _, err := musig2.AggregateKeys(parseAll(t, v.Sorted), false)
	if err != nil {
		t.Fatal(err)
	}
	got, _, _, err := musig2.AggregateKeys(parseAll(t, v.Pubkeys), true)
	if err != nil || !got.PreTweakedKey.IsEqual(sorted.PreTweakedKey) {
		t.Errorf("sorting gives another key: %v", err)
	}
	pairs := 0
	for i, a := range v.Sorted {
		for _, b := range v.Sorted[i+1:] {
			if bytes.Equal(a[1:], b[1:]) {
				continue // no channel has one key twice
			}
			low, high := parseAll(t, []hexBytes{a, b})[0], parseAll(t, []hexBytes{a, b})[1]
			want, _, _, err := musig2.AggregateKeys([]*btcec.PublicKey{low, high}, false)
			if err != nil {
				t.Fatal(err)
			}
			for _, keys := range [][2]*btcec.PublicKey{{low, high}, {high, low}} {
				tap, err := newTaproot(keys[0], keys[1], 100)
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(tap.internal[:], schnorr.SerializePubKey(want.PreTweakedKey)) {
					t.Errorf("the internal key of %x and %x is %x", a, b, tap.internal[:])
				}
			}
			pairs++
		}
	}
	if pairs == 0 {
		t.Fatal("no pair was checked")
	}
}

// Aggregate keys, and what is no key. BIP327.
func TestBIP327KeyAgg(t *testing.T) {
	var v struct {
		Pubkeys []hexBytes
		Valid   []struct {
			Keys     []int `json:"key_indices"`
			Expected hexBytes
		} `json:"valid_test_cases"`
		Wrong []struct {
			Keys  []int `json:"key_indices"`
			Error struct {
				Type   string
				Signer int
			}
		} `json:"error_test_cases"`
	}
	official(t, &v, "bip327", "key_agg_vectors.json")
	for i, c := range v.Valid {
		agg, _, _, err := musig2.AggregateKeys(parseAll(t, pick(v.Pubkeys, c.Keys)), false)
		if err != nil || !bytes.Equal(schnorr.SerializePubKey(agg.FinalKey), c.Expected) {
			t.Errorf("case %d: %v", i, err)
		}
	}
	refused := 0
	for i, c := range v.Wrong {
		if c.Error.Type != "invalid_contribution" {
			continue // about tweaks
		}
		var bad [33]byte
		copy(bad[:], v.Pubkeys[c.Keys[c.Error.Signer]])
		good := [33]byte(v.Pubkeys[0])
		if _, _, err := parseKeys(good, bad); err == nil {
			t.Errorf("case %d: %x was taken for a key", i, bad)
		}
		refused++
	}
	if len(v.Valid) == 0 || refused == 0 {
		t.Fatal("nothing was checked")
	}
}

// Combined nonces, and what is no nonce. BIP327.
func TestBIP327NonceAgg(t *testing.T) {
	var v struct {
		Pnonces []hexBytes
		Valid   []struct {
			Nonces   []int `json:"pnonce_indices"`
			Expected hexBytes
		} `json:"valid_test_cases"`
		Wrong []struct {
			Nonces []int `json:"pnonce_indices"`
		} `json:"error_test_cases"`
	}
	official(t, &v, "bip327", "nonce_agg_vectors.json")
	for i, c := range v.Valid {
		got, err := combineNonces([66]byte(v.Pnonces[c.Nonces[0]]), [66]byte(v.Pnonces[c.Nonces[1]]))
		if err != nil || !bytes.Equal(got[:], c.Expected) {
			t.Errorf("case %d: %x, %v", i, got, err)
		}
	}
	for i, c := range v.Wrong {
		if _, err := combineNonces([66]byte(v.Pnonces[c.Nonces[0]]), [66]byte(v.Pnonces[c.Nonces[1]])); err == nil {
			t.Errorf("error case %d: taken", i)
		}
	}
	if len(v.Valid) == 0 || len(v.Wrong) == 0 {
		t.Fatal("nothing was checked")
	}
}

func tagged(tag string, parts ...[]byte) []byte {
	tagHash := sha256.Sum256([]byte(tag))
	sum := sha256.Sum256(append(append(tagHash[:], tagHash[:]...), bytes.Join(parts, nil)...))
	return sum[:]
}

// nonceGen is BIP327's NonceGen, written from the text: 97 secret bytes.
func nonceGen(random, sk, pk, aggpk, msg, extra []byte) (secret []byte) {
	seed := bytes.Clone(random)
	if sk != nil {
		for i, b := range tagged("MuSig/aux", random) {
			seed[i] = sk[i] ^ b
		}
	}
	prefixed := []byte{0}
	if msg != nil {
		prefixed = append(binary.BigEndian.AppendUint64([]byte{1}, uint64(len(msg))), msg...)
	}
	for i := range byte(2) {
		var k btcec.ModNScalar
		k.SetByteSlice(tagged("MuSig/nonce", seed, []byte{byte(len(pk))}, pk, []byte{byte(len(aggpk))}, aggpk, prefixed,
			binary.BigEndian.AppendUint32(nil, uint32(len(extra))), extra, []byte{i}))
		b := k.Bytes()
		secret = append(secret, b[:]...)
	}
	return append(secret, pk...)
}

// The nonces drawn here are BIP327's for the key and 32 random bytes.
func TestBIP327NonceGen(t *testing.T) {
	var v struct {
		Cases []struct {
			Random             hexBytes `json:"rand_"`
			SK, PK, AggPK, Msg hexBytes
			Extra              hexBytes `json:"extra_in"`
			Secret             hexBytes `json:"expected_secnonce"`
		} `json:"test_cases"`
	}
	official(t, &v, "bip327", "nonce_gen_vectors.json")
	if len(v.Cases) == 0 {
		t.Fatal("nothing was checked")
	}
	for i, c := range v.Cases {
		if got := nonceGen(c.Random, c.SK, c.PK, c.AggPK, c.Msg, c.Extra); !bytes.Equal(got, c.Secret) {
			t.Fatalf("case %d: %x", i, got)
		}
	}
	random := v.Cases[0].Random
	key, pub := btcec.PrivKeyFromBytes(v.Cases[0].SK)
	n, err := NewNonce(bytes.NewReader(random), key)
	if err != nil {
		t.Fatal(err)
	}
	want := nonceGen(random, key.Serialize(), pub.SerializeCompressed(), nil, nil, nil)
	if !bytes.Equal(n.secret[:], want) {
		t.Errorf("the nonce is %x, want %x", *n.secret, want)
	}
}

// Partial signatures, among them one over an aggregate nonce at infinity, and
// those that do not verify. BIP327.
func TestBIP327SignVerify(t *testing.T) {
	type testCase struct {
		Sig      hexBytes
		Keys     []int `json:"key_indices"`
		Nonces   []int `json:"nonce_indices"`
		AggNonce int   `json:"aggnonce_index"`
		Msg      int   `json:"msg_index"`
		Signer   int   `json:"signer_index"`
		Expected hexBytes
	}
	var v struct {
		SK                                           hexBytes
		Pubkeys, SecNonces, Pnonces, AggNonces, Msgs []hexBytes
		Valid                                        []testCase `json:"valid_test_cases"`
		Fail                                         []testCase `json:"verify_fail_test_cases"`
	}
	official(t, &v, "bip327", "sign_verify_vectors.json")
	key, pub := btcec.PrivKeyFromBytes(v.SK)
	infinite := false
	for i, c := range v.Valid {
		if len(v.Msgs[c.Msg]) != 32 {
			continue // a digest is 32 bytes
		}
		keys, msg, combined := parseAll(t, pick(v.Pubkeys, c.Keys)), [32]byte(v.Msgs[c.Msg]), [66]byte(v.AggNonces[c.AggNonce])
		part, err := musig2.Sign([97]byte(v.SecNonces[0]), key, combined, keys, msg)
		if err != nil {
			t.Fatalf("case %d: %v", i, err)
		}
		if got := part.S.Bytes(); !bytes.Equal(got[:], c.Expected) {
			t.Errorf("case %d: %x", i, got)
		}
		agg, _, _, err := musig2.AggregateKeys(keys, false)
		if err != nil {
			t.Fatal(err)
		}
		r, err := sessionNonce(combined, agg.FinalKey, msg)
		if err != nil || !bytes.Equal(schnorr.SerializePubKey(r), schnorr.SerializePubKey(part.R)) {
			t.Errorf("case %d: the final nonce differs: %v", i, err)
		}
		infinite = infinite || combined == [66]byte{}
	}
	failed := 0
	for i, c := range v.Fail {
		part, err := decodePartial(c.Sig)
		if err == nil {
			nonces := pick(v.Pnonces, c.Nonces)
			all := make([][66]byte, len(nonces))
			for j, n := range nonces {
				all[j] = [66]byte(n)
			}
			combined, err := musig2.AggregateNonces(all)
			if err != nil {
				t.Fatal(err)
			}
			if part.Verify(all[c.Signer], combined, parseAll(t, pick(v.Pubkeys, c.Keys)), pub, [32]byte(v.Msgs[c.Msg])) {
				t.Errorf("fail case %d verifies", i)
			}
		}
		failed++
	}
	if !infinite || failed == 0 {
		t.Fatalf("a nonce at infinity: %t, failures: %d", infinite, failed)
	}
}

// Partial signatures with tweaked keys, and their checks. BIP327.
func TestBIP327Tweaks(t *testing.T) {
	var v struct {
		SK, SecNonce, AggNonce, Msg hexBytes
		Pubkeys, Pnonces, Tweaks    []hexBytes
		Valid                       []struct {
			Keys     []int  `json:"key_indices"`
			Nonces   []int  `json:"nonce_indices"`
			Tweaks   []int  `json:"tweak_indices"`
			XOnly    []bool `json:"is_xonly"`
			Signer   int    `json:"signer_index"`
			Expected hexBytes
		} `json:"valid_test_cases"`
	}
	official(t, &v, "bip327", "tweak_vectors.json")
	key, pub := btcec.PrivKeyFromBytes(v.SK)
	for i, c := range v.Valid {
		tweak := musig2.WithTweaks(tweakDescs(v.Tweaks, c.Tweaks, c.XOnly)...)
		keys := parseAll(t, pick(v.Pubkeys, c.Keys))
		part, err := musig2.Sign([97]byte(v.SecNonce), key, [66]byte(v.AggNonce), keys, [32]byte(v.Msg), tweak)
		if err != nil {
			t.Fatalf("case %d: %v", i, err)
		}
		if got := part.S.Bytes(); !bytes.Equal(got[:], c.Expected) {
			t.Errorf("case %d: %x", i, got)
		}
		read, err := decodePartial(c.Expected)
		if err != nil {
			t.Fatalf("case %d: %v", i, err)
		}
		if !read.Verify([66]byte(v.Pnonces[c.Nonces[c.Signer]]), [66]byte(v.AggNonce), keys, pub, [32]byte(v.Msg), tweak) {
			t.Errorf("case %d does not verify", i)
		}
	}
	if len(v.Valid) == 0 {
		t.Fatal("nothing was checked")
	}
}

// Signatures from partial ones, through this package's final nonce. BIP327.
func TestBIP327SigAgg(t *testing.T) {
	type testCase struct {
		AggNonce hexBytes
		Keys     []int  `json:"key_indices"`
		Tweaks   []int  `json:"tweak_indices"`
		XOnly    []bool `json:"is_xonly"`
		Parts    []int  `json:"psig_indices"`
		Expected hexBytes
	}
	var v struct {
		Pubkeys, Tweaks, Psigs []hexBytes
		Msg                    hexBytes
		Valid                  []testCase `json:"valid_test_cases"`
		Wrong                  []testCase `json:"error_test_cases"`
	}
	official(t, &v, "bip327", "sig_agg_vectors.json")
	for i, c := range v.Valid {
		raw, descs := pick(v.Pubkeys, c.Keys), tweakDescs(v.Tweaks, c.Tweaks, c.XOnly)
		agg, _, _, err := musig2.AggregateKeys(parseAll(t, raw), false, musig2.WithKeyTweaks(descs...))
		if err != nil {
			t.Fatal(err)
		}
		r, err := sessionNonce([66]byte(c.AggNonce), agg.FinalKey, [32]byte(v.Msg))
		if err != nil {
			t.Fatal(err)
		}
		var parts []*musig2.PartialSignature
		for _, p := range pick(v.Psigs, c.Parts) {
			part, err := decodePartial(p)
			if err != nil {
				t.Fatal(err)
			}
			parts = append(parts, part)
		}
		sig := musig2.CombineSigs(r, parts, musig2.WithTweakedCombine([32]byte(v.Msg), parseAll(t, raw), descs, false))
		if got := sig.Serialize(); !bytes.Equal(got, c.Expected) {
			t.Errorf("case %d: %x", i, got)
		}
		if !sig.Verify(v.Msg, agg.FinalKey) {
			t.Errorf("case %d: the signature does not verify", i)
		}
	}
	for i, c := range v.Wrong {
		var refused bool
		for _, p := range pick(v.Psigs, c.Parts) {
			_, err := decodePartial(p)
			refused = refused || err != nil
		}
		if !refused {
			t.Errorf("error case %d: taken", i)
		}
	}
	if len(v.Valid) == 0 || len(v.Wrong) == 0 {
		t.Fatal("nothing was checked")
	}
}
