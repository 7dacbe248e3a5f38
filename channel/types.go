package channel

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"
)

// Phase is where a channel stands. docs/protocol.md, "Phases".
type Phase string

// The phases. Depth is not among them: it is derived from the chain.
const (
	Prepared  Phase = "prepared"  // payer: T1 is built and saved, nothing was sent
	Funding   Phase = "funding"   // open is saved, T1 is not deep enough for the first time
	Open      Phase = "open"      // T1 was deep enough once
	Settling  Phase = "settling"  // no delivery, updates are still taken
	Closing   Phase = "closing"   // cooperative and final
	Refunding Phase = "refunding" // payer: the refund is on its way
	Closed    Phase = "closed"    // the output is spent and buried
	Refunded  Phase = "refunded"  // the payer's refund is buried
	Abandoned Phase = "abandoned" // T1 can never confirm
)

// Final reports whether the channel needs no watching any more.
func (p Phase) Final() bool { return p == Closed || p == Refunded || p == Abandoned }

// Hex is a byte string that reads and writes as lower-case hex.
type Hex []byte

// MarshalText implements encoding.TextMarshaler.
func (h Hex) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(h)), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (h *Hex) UnmarshalText(b []byte) error {
	raw, err := hex.DecodeString(string(b))
	if err != nil {
		return err
	}
	*h = raw
	return nil
}

func (h Hex) String() string { return hex.EncodeToString(h) }

// Key is a compressed public key, 33 bytes.
type Key [33]byte

// MarshalText implements encoding.TextMarshaler.
func (k Key) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(k[:])), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (k *Key) UnmarshalText(b []byte) error {
	raw, err := hex.DecodeString(string(b))
	if err != nil || len(raw) != len(k) {
		return fmt.Errorf("a key is 33 bytes of hex, not %.80q", b)
	}
	copy(k[:], raw)
	return nil
}

func (k Key) String() string { return hex.EncodeToString(k[:]) }

// Nonce is the 124-bit number that the payee derives K2 from. The four highest
// bits are zero.
type Nonce [16]byte

// MarshalText implements encoding.TextMarshaler.
func (n Nonce) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(n[:])), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (n *Nonce) UnmarshalText(b []byte) error {
	raw, err := hex.DecodeString(string(b))
	if err != nil || len(raw) != len(n) || raw[0]>>4 != 0 {
		return fmt.Errorf("a nonce is 16 bytes of hex below 2^124, not %.80q", b)
	}
	copy(n[:], raw)
	return nil
}

// Outpoint names an output as txid:vout and reads and writes as such.
type Outpoint wire.OutPoint

// ParseOutpoint reads "txid:vout" in its one canonical form.
func ParseOutpoint(s string) (Outpoint, error) {
	id, index, ok := strings.Cut(s, ":")
	if !ok || len(id) != 64 || strings.ToLower(id) != id {
		return Outpoint{}, fmt.Errorf("%.80q is no channel id (txid:vout)", s)
	}
	hash, err := chainhash.NewHashFromStr(id)
	if err != nil {
		return Outpoint{}, fmt.Errorf("%.80q is no channel id (txid:vout): %w", s, err)
	}
	vout, err := strconv.ParseUint(index, 10, 32)
	if err != nil || strconv.FormatUint(vout, 10) != index {
		return Outpoint{}, fmt.Errorf("%.80q is no channel id (txid:vout)", s)
	}
	return Outpoint{Hash: *hash, Index: uint32(vout)}, nil
}

// MarshalText implements encoding.TextMarshaler.
func (o Outpoint) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (o *Outpoint) UnmarshalText(b []byte) (err error) {
	*o, err = ParseOutpoint(string(b))
	return err
}

func (o Outpoint) String() string { return wire.OutPoint(o).String() }

// Update is what raises the amount that the receiver is owed: the payee, but for
// even epochs of a duplex channel.
type Update struct {
	Amount    uint64 `json:"amount"` // sat, cumulative: what the receiver holds in all
	Signature Hex    `json:"signature"`
	Epoch     uint32 `json:"epoch,omitempty"` // duplex channels only
}

// Newer reports whether an update supersedes another: by epoch, then by amount.
func (u Update) Newer(o Update) bool {
	return u.Epoch > o.Epoch || u.Epoch == o.Epoch && u.Amount > o.Amount
}

// Broadcast is a transaction that was saved before it was sent, so that it can
// be sent again and its fee rate never falls.
type Broadcast struct {
	Tx     Hex    `json:"tx"`
	Txid   string `json:"txid"`
	Rate   int64  `json:"rate"`   // sat per 1000 vB
	Fee    int64  `json:"fee"`    // sat
	Amount uint64 `json:"amount"` // sat, the cumulative amount that it pays
	Height uint32 `json:"height"` // tip when it was made
	// Earlier are the ids of those that this one replaces: one of them may still
	// be what nodes hold, or what is mined.
	Earlier []string `json:"earlier,omitempty"`
	// Batch are the ids of all channels that this transaction settles, where it settles
	// several; Fee is then this channel's share.
	Batch []string `json:"batch,omitempty"`
	// Coins is what fee inputs of the payee's own hold, in sat: they went to its payout.
	Coins int64 `json:"coins,omitempty"`
}

// Is reports whether a transaction is this broadcast or one that it replaces.
// Nothing is none of them.
func (b *Broadcast) Is(txid string) bool {
	return b != nil && (b.Txid == txid || slices.Contains(b.Earlier, txid))
}

// Replaces returns the broadcast as one that takes the place of old; nil: of none.
func (b Broadcast) Replaces(old *Broadcast) *Broadcast {
	if b.Earlier = nil; old != nil {
		b.Earlier = append(slices.Clone(old.Earlier), old.Txid)
	}
	return &b
}
