// Package keys holds one seed and derives every key of Spillway from it, each
// purpose hardened apart from the others (coin is 0 on mainnet, 1 elsewhere):
//
//	m/86'/coin'/0'/{0,1}/i        wallet, BIP86: 0 external, 1 internal
//	m/5350'/coin'/1'/i'           K1, a payer's channel keys
//	m/5350'/coin'/2'/a'/b'/c'/d'  K2, a payee's channel keys; a to d are the 124-bit
//	                              nonce in four levels of 31 bits, highest first
//	m/5350'/coin'/3'              identity: the Ed25519 seed is
//	                              SHA256("spillway/identity" || private key)
//	m/5350'/coin'/4'/epoch'       challenges: the secret is
//	                              SHA256("spillway/challenge" || private key)
//
// Levels are those of BIP32, the words those of BIP39 without its passphrase.
// Payouts, refunds and rests go to fresh addresses of the wallet, so whoever has
// the words finds them with any wallet that knows BIP86; no other kind of key ever
// signs for them, and theirs never sign in a channel. The paths are frozen, with
// vectors in testdata: another key for the same words would lose money.
//
// It seals the seed at rest with age. It never prints or logs a secret, never
// takes one from the arguments, and never overwrites a seed.
package keys

import (
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/btcutil/v2/hdkeychain"
	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/tyler-smith/go-bip39"
)

// Errors, for errors.Is. None of them, and nothing wrapped in them, holds a secret.
var (
	ErrWords       = errors.New("these are not the words of a seed")
	ErrIndex       = errors.New("a key's index is below 2^31")
	ErrNonce       = errors.New("a nonce is below 2^124")
	ErrPassphrase  = errors.New("the passphrase does not open the seed")
	ErrNoSeed      = errors.New("there is no seed")
	ErrDamaged     = errors.New("the seed file is damaged")
	ErrPermissions = errors.New("the seed file can be read by others")
	ErrExists      = errors.New("there is a seed already")
)

// purpose is Spillway's own first level.
const purpose = 5350

// The level below coin.
const (
	payerKeys = 1 + iota
	payeeKeys
	identityKey
	challengeKeys
)

// Keyring derives keys. It is safe for concurrent use. Its zero value holds none:
// every method answers ErrNoSeed.
type Keyring struct {
	hidden func() nodes // behind a function no printer can walk to them
}

func (k Keyring) nodes() nodes {
	if k.hidden == nil {
		return nodes{}
	}
	return k.hidden()
}

// nodes are where the paths branch.
type nodes struct {
	payer, payee, identity, challenges *hdkeychain.ExtendedKey
	account, external, internal        *hdkeychain.ExtendedKey
}

// NewMnemonic draws a seed of 128 bits and returns its twelve words. BIP39.
func NewMnemonic(rand io.Reader) (string, error) {
	entropy := make([]byte, 16)
	if _, err := io.ReadFull(rand, entropy); err != nil {
		return "", fmt.Errorf("no randomness: %w", err)
	}
	return bip39.NewMnemonic(entropy)
}

// FromMnemonic opens the words of a seed, 12 to 24 of BIP39's English list, for a
// network. White space and upper case do not matter. Errors: ErrWords, which says
// what is wrong with them.
func FromMnemonic(words string, params *chaincfg.Params) (*Keyring, error) {
	words, err := checkWords(words)
	if err != nil {
		return nil, err
	}
	master, err := hdkeychain.NewMaster(bip39.NewSeed(words, ""), params)
	if err != nil {
		return nil, fmt.Errorf("%w: no key can be derived from them", ErrWords)
	}
	coin := uint32(1)
	if params.Net == chaincfg.MainNetParams.Net {
		coin = 0
	}
	own, err := hardened(master, purpose, coin)
	if err != nil {
		return nil, err
	}
	var n nodes
	for _, b := range []struct {
		to    **hdkeychain.ExtendedKey
		index uint32
	}{{&n.payer, payerKeys}, {&n.payee, payeeKeys}, {&n.identity, identityKey}, {&n.challenges, challengeKeys}} {
		if *b.to, err = hardened(own, b.index); err != nil {
			return nil, err
		}
	}
	if n.account, err = hardened(master, 86, coin, 0); err != nil {
		return nil, err
	}
	if n.external, err = child(n.account, 0); err != nil {
		return nil, err
	}
	if n.internal, err = child(n.account, 1); err != nil {
		return nil, err
	}
	if err := n.warm(); err != nil {
		return nil, err
	}
	return &Keyring{func() nodes { return n }}, nil
}

// warm computes the public keys that the library keeps in its keys, so that later
// derivations only read them: without it concurrent ones would race.
func (n nodes) warm() error {
	for _, key := range n.list() {
		if _, err := key.ECPubKey(); err != nil {
			return fmt.Errorf("a key cannot be derived: %w", err)
		}
	}
	return nil
}

func (n nodes) list() []*hdkeychain.ExtendedKey {
	return []*hdkeychain.ExtendedKey{n.payer, n.payee, n.identity, n.challenges, n.account, n.external, n.internal}
}

func child(key *hdkeychain.ExtendedKey, index uint32) (*hdkeychain.ExtendedKey, error) {
	if key == nil {
		return nil, ErrNoSeed
	}
	next, err := key.Derive(index)
	if err != nil {
		return nil, fmt.Errorf("a key cannot be derived: %w", err)
	}
	return next, nil
}

// hardened derives along hardened levels.
func hardened(key *hdkeychain.ExtendedKey, path ...uint32) (_ *hdkeychain.ExtendedKey, err error) {
	for _, i := range path {
		if i >= hdkeychain.HardenedKeyStart {
			return nil, fmt.Errorf("%w: %d", ErrIndex, i)
		}
		if key, err = child(key, hdkeychain.HardenedKeyStart+i); err != nil {
			return nil, err
		}
	}
	return key, nil
}

func private(key *hdkeychain.ExtendedKey, err error) (*btcec.PrivateKey, error) {
	if err != nil {
		return nil, err
	}
	if key == nil {
		return nil, ErrNoSeed
	}
	return key.ECPrivKey()
}

// PayerChannelKey is K1 of the payer's channel with this index. docs/protocol.md,
// section 2. Errors: ErrIndex.
func (k Keyring) PayerChannelKey(index uint32) (*btcec.PrivateKey, error) {
	return private(hardened(k.nodes().payer, index))
}

// PayeeChannelKey is K2 for a nonce whose four highest bits are zero.
// docs/protocol.md, section 2. Errors: ErrNonce.
func (k Keyring) PayeeChannelKey(nonce [16]byte) (*btcec.PrivateKey, error) {
	if nonce[0]>>4 != 0 {
		return nil, ErrNonce
	}
	return private(hardened(k.nodes().payee, levels(nonce)...))
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
func (k Keyring) Identity() (ed25519.PrivateKey, error) {
	seed, err := secret("spillway/identity", k.nodes().identity, nil)
	if err != nil {
		return nil, err
	}
	return ed25519.NewKeyFromSeed(seed[:]), nil
}

// ChallengeSecret binds the challenges of an epoch. Errors: ErrIndex.
func (k Keyring) ChallengeSecret(epoch uint32) ([32]byte, error) {
	key, err := hardened(k.nodes().challenges, epoch)
	return secret("spillway/challenge", key, err)
}

// secret is a secret that is no bitcoin key, apart from the key that it is made of.
func secret(tag string, from *hdkeychain.ExtendedKey, err error) ([32]byte, error) {
	key, err := private(from, err)
	if err != nil {
		return [32]byte{}, err
	}
	return sha256.Sum256(append([]byte(tag), key.Serialize()...)), nil
}

// Account is the wallet's extended private key m/86'/coin'/0', for whoever exports
// it; its Neuter is what a wallet that only watches needs. BIP86. It prints itself:
// take care of it.
func (k Keyring) Account() (*hdkeychain.ExtendedKey, error) {
	if k.nodes().account == nil {
		return nil, ErrNoSeed
	}
	return hdkeychain.NewKeyFromString(k.nodes().account.String())
}

// WalletKey is the wallet's key m/86'/coin'/0'/{0,1}/index, untweaked, and the
// P2TR output script that it spends through the key path. BIP86. Errors: ErrIndex.
func (k Keyring) WalletKey(change bool, index uint32) (*btcec.PrivateKey, []byte, error) {
	if index >= hdkeychain.HardenedKeyStart {
		return nil, nil, fmt.Errorf("%w: %d", ErrIndex, index)
	}
	branch := k.nodes().external
	if change {
		branch = k.nodes().internal
	}
	key, err := private(child(branch, index))
	if err != nil {
		return nil, nil, err
	}
	pk, err := txscript.PayToTaprootScript(txscript.ComputeTaprootKeyNoScript(key.PubKey()))
	return key, pk, err
}
