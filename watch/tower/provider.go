package tower

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/store"
)

// Provider is somebody that may hand over ladders, and what is stored of it.
type Provider struct {
	Name     string      `json:"name"`
	Secret   channel.Hex `json:"secret"` // SHA-256 of its token's secret
	Channels int         `json:"channels"`
	Bytes    int64       `json:"bytes"`
}

// attempts is how often a commit is tried again that met another one.
const attempts = 10

// CheckName refuses what is no provider's name. Errors: ErrName.
func CheckName(name string) error {
	if len(name) == 0 || len(name) > 64 || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
		return fmt.Errorf("%w: %.80q", ErrName, name)
	}
	return nil
}

// AddProvider adds a provider and returns its token, name.secret; the tower keeps
// only the secret's hash. secret must be random. Errors: ErrName, ErrKnown.
func AddProvider(ctx context.Context, s Store, name string, secret [32]byte) (token string, err error) {
	if err := CheckName(name); err != nil {
		return "", err
	}
	hash := sha256.Sum256(secret[:])
	op, err := providerOp(Provider{Name: name, Secret: hash[:]}, 0)
	if err != nil {
		return "", err
	}
	if err := s.Commit(ctx, op); errors.Is(err, store.ErrConflict) {
		return "", fmt.Errorf("%w: %s", ErrKnown, name)
	} else if err != nil {
		return "", err
	}
	return name + "." + hex.EncodeToString(secret[:]), nil
}

// Providers are those that a tower's store knows, sorted by name.
func Providers(ctx context.Context, s Store) ([]Provider, error) {
	entries, err := s.List(ctx, bucketProvider, "")
	if err != nil {
		return nil, err
	}
	all := make([]Provider, len(entries))
	for i, e := range entries {
		if all[i], err = readProvider(e); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func readProvider(e store.Entry) (p Provider, err error) {
	if err := json.Unmarshal(e.Value, &p); err != nil || p.Name != e.Key {
		return p, fmt.Errorf("%w: provider %s: %v", store.ErrDamaged, e.Key, err)
	}
	return p, nil
}

func providerOp(p Provider, revision uint64) (store.Op, error) {
	value, err := json.Marshal(p)
	return store.Op{Bucket: bucketProvider, Key: p.Name, Value: value, Expect: revision}, err
}

// Authenticate returns whose token this is. The secret is compared in constant time,
// also for a name that nobody has. Errors: ErrToken.
func (t *Tower) Authenticate(ctx context.Context, token string) (provider string, err error) {
	name, text, _ := strings.Cut(token, ".")
	secret, err := hex.DecodeString(text)
	if err != nil || len(secret) != 32 || CheckName(name) != nil {
		return "", ErrToken
	}
	var p Provider
	e, err := t.cfg.Store.Get(ctx, bucketProvider, name)
	if err == nil {
		p, err = readProvider(e)
	}
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return "", err
	}
	want := make([]byte, sha256.Size)
	copy(want, p.Secret)
	have := sha256.Sum256(secret)
	if subtle.ConstantTimeCompare(have[:], want) != 1 || p.Name == "" {
		return "", ErrToken
	}
	return name, nil
}

// Taken is a tower's answer to a hand-off.
type Taken struct {
	Channel string `json:"channel"`
	Amount  int64  `json:"amount_sat"`      // sat that the ladder that is held claims, before its fee
	Epoch   uint32 `json:"epoch,omitempty"` // of the ladder that is held; duplex only
	Rungs   int    `json:"rungs"`
	Stored  bool   `json:"stored"` // false: this one, or a newer one, was held already
}

// Take takes a ladder from a provider. It is checked against the output that the
// chain shows, and saved before the answer. One that is not newer than the one that is
// held, by epoch and then by amount, is a success without effect, so that a repeated message does no harm.
// Errors: those of Check, ErrUnseen, ErrSpent, ErrFull, of the chain and the store.
func (t *Tower) Take(ctx context.Context, provider string, h Handoff) (Taken, error) {
	e, err := t.judge(ctx, h)
	if err != nil {
		return Taken{}, err
	}
	e.Provider = provider
	for range attempts {
		var held Entry
		var stored bool
		if held, stored, err = t.put(ctx, e); err == nil {
			return Taken{Channel: held.Channel.String(), Amount: held.Amount, Epoch: held.Epoch(), Rungs: len(held.Rungs), Stored: stored}, nil
		} else if !errors.Is(err, store.ErrConflict) {
			break
		}
	}
	return Taken{}, err
}

// judge checks a ladder against the chain.
func (t *Tower) judge(ctx context.Context, h Handoff) (Entry, error) {
	tip, err := t.cfg.Chain.Tip(ctx)
	if err != nil {
		return Entry{}, err
	}
	if h.Expiry > tip.Height && h.Expiry-tip.Height > t.cfg.MaxAhead {
		return Entry{}, refuse(ErrTime, "an expiry at %d, at height %d it is at most %d blocks away", h.Expiry, tip.Height, t.cfg.MaxAhead)
	}
	info, err := t.cfg.Chain.Tx(ctx, h.Channel.Hash)
	if errors.Is(err, chain.ErrNotFound) {
		return Entry{}, refuse(ErrUnseen, "%s", h.Channel)
	} else if err != nil {
		return Entry{}, err
	}
	if uint64(h.Channel.Index) >= uint64(len(info.Tx.TxOut)) {
		return Entry{}, refuse(ErrOutpoint, "%s has %d outputs", h.Channel.Hash, len(info.Tx.TxOut))
	}
	spend, err := t.cfg.Chain.Spend(ctx, wire.OutPoint(h.Channel))
	if err != nil {
		return Entry{}, err
	}
	if spend != nil && spend.Confirmed && spend.Height <= tip.Height && tip.Height-spend.Height+1 >= t.cfg.Burial {
		return Entry{}, refuse(ErrSpent, "by %s", spend.Txid)
	}
	e, err := Check(h, info.Tx.TxOut[h.Channel.Index])
	if err != nil {
		return e, err
	}
	e.Funding, err = channel.EncodeTx(info.Tx)
	return e, err
}

// put saves an entry and what its provider has stored, in one commit, and returns
// what is held then, and whether that is e. Errors: ErrFull, store.ErrConflict.
func (t *Tower) put(ctx context.Context, e Entry) (now Entry, stored bool, err error) {
	held, revision, size, err := t.get(ctx, e.id())
	if err == nil && !e.newer(held) {
		return held, false, nil
	} else if err != nil && !errors.Is(err, store.ErrNotFound) {
		return e, false, err
	}
	value, err := json.Marshal(e)
	if err != nil {
		return e, false, err
	}
	count := 0
	if revision == 0 {
		count = 1
	}
	usage, err := t.account(ctx, e.Provider, count, len(value)-size)
	if err != nil {
		return e, false, err
	}
	if err := t.cfg.Store.Commit(ctx, usage, store.Op{Bucket: bucketChannel, Key: e.id(), Value: value, Expect: revision}); err != nil {
		return e, false, err
	}
	t.cfg.Log.Info("ladder", "provider", e.Provider, "channel", e.Channel, "amount_sat", e.Amount, "epoch", e.Epoch(), "rungs", len(e.Rungs),
		"lowest", e.Rungs[0].rate(), "highest", e.Rungs[len(e.Rungs)-1].rate())
	t.cfg.Notify(Event{Kind: "ladder", Provider: e.Provider, Channel: e.Channel.String(), Amount: e.Amount, Epoch: e.Epoch(), Rungs: len(e.Rungs)})
	return e, true, nil
}

// account is the write by which a provider stores so many channels and bytes more.
// Errors: ErrFull.
func (t *Tower) account(ctx context.Context, name string, channels, bytes int) (store.Op, error) {
	s, err := t.cfg.Store.Get(ctx, bucketProvider, name)
	if err != nil {
		return store.Op{}, err
	}
	p, err := readProvider(s)
	if err != nil {
		return store.Op{}, err
	}
	p.Channels, p.Bytes = p.Channels+channels, p.Bytes+int64(bytes)
	if channels > 0 && p.Channels > t.cfg.MaxChannels || bytes > 0 && p.Bytes > t.cfg.MaxBytes {
		return store.Op{}, refuse(ErrFull, "%d channels and %d bytes, at most %d and %d", p.Channels, p.Bytes, t.cfg.MaxChannels, t.cfg.MaxBytes)
	}
	return providerOp(p, s.Revision)
}

// forget drops an entry that is over.
func (t *Tower) forget(ctx context.Context, e Entry, v channel.View) error {
	var err error
	for range attempts {
		if err = t.drop(ctx, e.id()); !errors.Is(err, store.ErrConflict) {
			break
		}
	}
	if err != nil {
		return err
	}
	t.note(t.told, e.id(), "")
	t.note(t.tried, e.id(), "")
	by := ""
	if v.Spend != nil {
		by = v.Spend.Txid
	}
	t.cfg.Log.Info("done", "provider", e.Provider, "channel", e.Channel, "by", by, "a_rung", e.rung(by) >= 0)
	t.cfg.Notify(Event{Kind: "done", Provider: e.Provider, Channel: e.Channel.String(), Amount: e.Amount, Epoch: e.Epoch(), Rungs: len(e.Rungs), Txid: by, Height: v.Tip})
	return nil
}

func (t *Tower) drop(ctx context.Context, id string) error {
	e, revision, size, err := t.get(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	} else if err != nil {
		return err
	}
	usage, err := t.account(ctx, e.Provider, -1, -size)
	if err != nil {
		return err
	}
	return t.cfg.Store.Commit(ctx, usage, store.Op{Bucket: bucketChannel, Key: id, Expect: revision})
}
