package neutrino

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"
	"github.com/btcsuite/btcwallet/walletdb"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/chain/internal/scan"
)

// keeper keeps what the scanner found in the database of headers.
type keeper struct{ db walletdb.DB }

var (
	foundBucket = []byte("spillway-found")
	marksKey    = []byte("marks")
	trackKey    = []byte("script:")
)

// errDamaged says that what was kept cannot be read.
var errDamaged = errors.New("neutrino: what was found before cannot be read")

// keptTrack and keptTx are a script's findings as they are written.
type keptTrack struct {
	From  uint32   `json:"from"`
	Found []keptTx `json:"found,omitempty"`
}

type keptTx struct {
	Height uint32 `json:"height"`
	Block  string `json:"block"`
	Tx     string `json:"tx"`
}

// Load implements scan.Keeper.
func (k keeper) Load() (marks []chain.Mark, tracks []scan.Kept, err error) {
	err = walletdb.View(k.db, func(tx walletdb.ReadTx) error {
		b := tx.ReadBucket(foundBucket)
		if b == nil {
			return nil
		}
		if raw := b.Get(marksKey); raw != nil {
			if err := json.Unmarshal(raw, &marks); err != nil {
				return fmt.Errorf("%w: %w", errDamaged, err)
			}
		}
		return b.ForEach(func(key, raw []byte) error {
			pkScript, ok := strings.CutPrefix(string(key), string(trackKey))
			if !ok {
				return nil
			}
			t, err := readTrack(raw)
			t.Script = []byte(pkScript)
			tracks = append(tracks, t)
			return err
		})
	})
	return marks, tracks, err
}

func readTrack(raw []byte) (t scan.Kept, err error) {
	var k keptTrack
	if err := json.Unmarshal(raw, &k); err != nil {
		return t, fmt.Errorf("%w: %w", errDamaged, err)
	}
	t.From = k.From
	for _, f := range k.Found {
		block, err := chainhash.NewHashFromStr(f.Block)
		if err != nil {
			return t, fmt.Errorf("%w: %w", errDamaged, err)
		}
		tx := wire.NewMsgTx(0)
		if err := tx.Deserialize(hex.NewDecoder(strings.NewReader(f.Tx))); err != nil {
			return t, fmt.Errorf("%w: %w", errDamaged, err)
		}
		t.Found = append(t.Found, scan.Found{Tx: tx, Height: f.Height, Block: *block})
	}
	return t, nil
}

// Save implements scan.Keeper.
func (k keeper) Save(marks []chain.Mark, changed []scan.Kept) error {
	return walletdb.Update(k.db, func(tx walletdb.ReadWriteTx) error {
		b, err := tx.CreateTopLevelBucket(foundBucket)
		if err != nil {
			return err
		}
		raw, err := json.Marshal(marks)
		if err != nil {
			return err
		}
		if err := b.Put(marksKey, raw); err != nil {
			return err
		}
		for _, t := range changed {
			if raw, err = writeTrack(t); err != nil {
				return err
			}
			if err := b.Put(append(trackKey[:len(trackKey):len(trackKey)], t.Script...), raw); err != nil {
				return err
			}
		}
		return nil
	})
}

func writeTrack(t scan.Kept) ([]byte, error) {
	k := keptTrack{From: t.From}
	for _, f := range t.Found {
		var text strings.Builder
		if err := f.Tx.Serialize(hex.NewEncoder(&text)); err != nil {
			return nil, err
		}
		k.Found = append(k.Found, keptTx{f.Height, f.Block.String(), text.String()})
	}
	return json.Marshal(k)
}
