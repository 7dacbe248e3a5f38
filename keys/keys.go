// Package keys holds one seed and derives every key of Spillway from it, each
// purpose hardened apart from the others:
//
//	m/86'/coin'/0'/{0,1}/i     wallet (BIP86), coin 0 on mainnet, 1 elsewhere
//	m/5350'/coin'/1'/i'        K1, a payer's channel keys
//	m/5350'/coin'/2'/a'/b'/c'/d'  K2, a payee's channel keys; a…d are the 124-bit
//	                           nonce in four levels of 31 bits, highest first
//	m/5350'/coin'/3'           identity (Ed25519 seed)
//	m/5350'/coin'/4'/epoch'    secret of challenges
//
// It seals the seed at rest with age, and never prints or logs a secret.
package keys

import (
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/btcutil/v2/hdkeychain"
	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/tyler-smith/go-bip39"
)

// Errors, for errors.Is.
var (
	ErrWords       = errors.New("these are not the words of a seed")
	ErrNonce       = errors.New("a nonce is below 2^124")
	ErrPassphrase  = errors.New("the passphrase does not open the seed")
	ErrNoSeed      = errors.New("there is no seed")
	ErrDamaged     = errors.New("the seed file is damaged")
	ErrPermissions = errors.New("the seed file can be read by others")
	ErrExists      = errors.New("there is a seed already")
)

// purpose is Spillway's own first level.
const purpose = 5350

// The second level below coin.
const (
	payerKeys = 1 + iota
	payeeKeys
	identityKey
	challengeKeys
)

// Keyring derives keys. It is safe for concurrent use.
type Keyring struct {
	params *chaincfg.Params
	master *hdkeychain.ExtendedKey
	own    *hdkeychain.ExtendedKey // m/5350'/coin'
	wallet *hdkeychain.ExtendedKey // m/86'/coin'/0'
}

// NewMnemonic draws a seed of 128 bits and returns its twelve words. BIP39.
func NewMnemonic(rand io.Reader) (string, error) {
	entropy := make([]byte, 16)
	if _, err := io.ReadFull(rand, entropy); err != nil {
		return "", fmt.Errorf("no randomness: %w", err)
	}
	return bip39.NewMnemonic(entropy)
}

// FromMnemonic opens the words of a seed for a network. Errors: ErrWords.
func FromMnemonic(words string, params *chaincfg.Params) (*Keyring, error) {
	words = strings.Join(strings.Fields(words), " ")
	seed, err := bip39.NewSeedWithErrorChecking(words, "")
	if err != nil {
		return nil, ErrWords // the library's error could repeat them
	}
	master, err := hdkeychain.NewMaster(seed, params)
	if err != nil {
		return nil, ErrWords
	}
	k := &Keyring{params: params, master: master}
	if k.own, err = hardened(master, purpose, k.coin()); err != nil {
		return nil, err
	}
	k.wallet, err = hardened(master, 86, k.coin(), 0)
	return k, err
}

func (k *Keyring) coin() uint32 {
	if k.params.Net == chaincfg.MainNetParams.Net {
		return 0
	}
	return 1
}

func hardened(key *hdkeychain.ExtendedKey, path ...uint32) (_ *hdkeychain.ExtendedKey, err error) {
	for _, i := range path {
		if key, err = key.Derive(hdkeychain.HardenedKeyStart + i); err != nil {
			return nil, fmt.Errorf("a key cannot be derived: %w", err)
		}
	}
	return key, nil
}

func private(key *hdkeychain.ExtendedKey, err error) (*btcec.PrivateKey, error) {
	if err != nil {
		return nil, err
	}
	return key.ECPrivKey()
}

// PayerChannelKey is K1 of the payer's channel with this index, below 2^31.
func (k *Keyring) PayerChannelKey(index uint32) (*btcec.PrivateKey, error) {
	if index >= hdkeychain.HardenedKeyStart {
		return nil, fmt.Errorf("the key index %d is out of range", index)
	}
	return private(hardened(k.own, payerKeys, index))
}

// PayeeChannelKey is K2 for a nonce below 2^124. Errors: ErrNonce.
// docs/protocol.md, section 2.
func (k *Keyring) PayeeChannelKey(nonce [16]byte) (*btcec.PrivateKey, error) {
	if nonce[0]>>4 != 0 {
		return nil, ErrNonce
	}
	return private(hardened(k.own, append([]uint32{payeeKeys}, levels(nonce)...)...))
}

// levels cuts the 124 bits into four numbers of 31 bits, highest first.
func levels(nonce [16]byte) []uint32 {
	out := make([]uint32, 4)
	for bit := range 124 {
		at := bit + 4
		if nonce[at/8]&(0x80>>(at%8)) != 0 {
			out[bit/31] |= 1 << (30 - bit%31)
		}
	}
	return out
}

// Identity signs manifests.
func (k *Keyring) Identity() (ed25519.PrivateKey, error) {
	key, err := private(hardened(k.own, identityKey))
	if err != nil {
		return nil, err
	}
	seed := sha256.Sum256(append([]byte("spillway/identity"), key.Serialize()...))
	return ed25519.NewKeyFromSeed(seed[:]), nil
}

// ChallengeSecret binds the challenges of an epoch.
func (k *Keyring) ChallengeSecret(epoch uint32) ([32]byte, error) {
	key, err := private(hardened(k.own, challengeKeys, epoch&(hdkeychain.HardenedKeyStart-1)))
	if err != nil {
		return [32]byte{}, err
	}
	return sha256.Sum256(append([]byte("spillway/challenge"), key.Serialize()...)), nil
}

// WalletKey is the wallet's key m/86'/coin'/0'/{0,1}/index, untweaked, and the
// P2TR output script that it spends through the key path. BIP86.
func (k *Keyring) WalletKey(change bool, index uint32) (*btcec.PrivateKey, []byte, error) {
	branch := uint32(0)
	if change {
		branch = 1
	}
	chain, err := k.wallet.Derive(branch)
	if err != nil {
		return nil, nil, err
	}
	leaf, err := chain.Derive(index)
	if err != nil {
		return nil, nil, err
	}
	key, err := leaf.ECPrivKey()
	if err != nil {
		return nil, nil, err
	}
	pk, err := txscript.PayToTaprootScript(txscript.ComputeTaprootKeyNoScript(key.PubKey()))
	return key, pk, err
}

// Redacted forms: a keyring never shows what it holds.
const redacted = "keys.Keyring(secret)"

// String implements fmt.Stringer.
func (k *Keyring) String() string { return redacted }

// GoString implements fmt.GoStringer.
func (k *Keyring) GoString() string { return redacted }

// Format implements fmt.Formatter.
func (k *Keyring) Format(s fmt.State, _ rune) { io.WriteString(s, redacted) }

// MarshalText implements encoding.TextMarshaler.
func (k *Keyring) MarshalText() ([]byte, error) { return []byte(redacted), nil }
