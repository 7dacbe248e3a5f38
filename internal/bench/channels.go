package bench

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"time"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/internal/spread"
	"github.com/spillway/spillway/keys"
	"github.com/spillway/spillway/payee"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/store"
	"github.com/spillway/spillway/store/sqlite"
)

const (
	tip      = 1000
	expiry   = 2000
	capacity = 100_000_000 // sat
	price    = 1000        // msat, of a chunk
	words    = "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon about"
)

// calm is a chain on which every funding is confirmed and nothing happens.
type calm struct{}

func (calm) Tip(context.Context) (chain.Tip, error) {
	return chain.Tip{Height: tip, Time: time.Now()}, nil
}

func (calm) Tx(context.Context, chainhash.Hash) (chain.TxInfo, error) {
	return chain.TxInfo{Tx: wire.NewMsgTx(2), Confirmed: true, Height: tip - 100}, nil
}
func (calm) Spend(context.Context, wire.OutPoint) (*chain.Spend, error) { return nil, nil }
func (calm) Broadcast(context.Context, *wire.MsgTx) error {
	return fmt.Errorf("%w: there is nothing to broadcast to", chain.ErrRejected)
}
func (calm) FeeRate(context.Context, int) (script.FeeRate, error) { return 1000, nil }

// shop is a payee with open channels in a store on disk, and their payers' keys.
type shop struct {
	dir     string
	credit  uint64 // msat, of each channel
	ring    *keys.Keyring
	store   *sqlite.Store
	payee   *payee.Payee
	records []channel.PayeeRecord
	keys    []*btcec.PrivateKey // K1 of each channel
	built   []*script.Channel   // where verification alone is measured
	payout  []byte
}

// newShop makes a store in dir with n open channels of one kind.
func newShop(ctx context.Context, dir string, kind script.Construction, n int) (*shop, error) {
	s, err := emptyShop(ctx, dir, n)
	if err != nil {
		return nil, err
	}
	if err := s.fill(ctx, kind); err != nil {
		return nil, errors.Join(err, s.store.Close())
	}
	return s, nil
}

// emptyShop is newShop without the channels, which have a place.
func emptyShop(ctx context.Context, dir string, n int) (*shop, error) {
	ring, err := keys.FromMnemonic(words, &chaincfg.RegressionNetParams)
	if err != nil {
		return nil, err
	}
	s := &shop{dir: dir, credit: price, ring: ring, records: make([]channel.PayeeRecord, n), keys: make([]*btcec.PrivateKey, n)}
	if _, s.payout, err = ring.WalletKey(false, 0); err != nil {
		return nil, err
	}
	if err := s.openStore(ctx); err != nil {
		return nil, err
	}
	if err := s.open(); err != nil {
		return nil, errors.Join(err, s.store.Close())
	}
	return s, nil
}

func (s *shop) openStore(ctx context.Context) (err error) {
	s.store, err = sqlite.Open(ctx, filepath.Join(s.dir, "bench.db"), sqlite.Options{})
	return err
}

// open makes the payee's driver anew, as after a restart.
func (s *shop) open() (err error) {
	s.payee, err = payee.New(payee.Config{
		Alone: true, Spread: spread.All,
		Store: s.store, Keys: s.ring, Chain: calm{}, Network: "regtest", Payout: s.payout,
		Policy: channel.DefaultPolicy("regtest"), Now: time.Now, Rand: rand.NewChaCha8([32]byte{1}),
	})
	return err
}

func (s *shop) Close() error { return s.store.Close() }

// fill writes the channels' records as openings would have left them.
func (s *shop) fill(ctx context.Context, kind script.Construction) error {
	_, err := rate(ctx, runtime.GOMAXPROCS(0), len(s.records), func(_ context.Context, i int) (err error) {
		s.records[i], s.keys[i], err = s.record(kind, uint32(i))
		return err
	})
	if err != nil {
		return err
	}
	return s.save(ctx)
}

// save writes the payee's records to its store.
func (s *shop) save(ctx context.Context) error {
	const batch = 1000
	var ops []store.Op
	for i, r := range s.records {
		raw, err := json.Marshal(r)
		if err != nil {
			return err
		}
		ops = append(ops, store.Op{Bucket: "payee/channel", Key: r.Terms.ID(), Value: raw})
		if len(ops) == batch || i == len(s.records)-1 {
			if err := s.store.Commit(ctx, ops...); err != nil {
				return err
			}
			ops = ops[:0]
		}
	}
	return nil
}

// record is the i-th channel, open and confirmed, with nothing paid.
func (s *shop) record(kind script.Construction, i uint32) (r channel.PayeeRecord, k1 *btcec.PrivateKey, err error) {
	sum := sha256.Sum256(binary.BigEndian.AppendUint32([]byte("bench payer "), i))
	k1, _ = btcec.PrivKeyFromBytes(sum[:])
	r, err = s.recordFor(kind, i, k1)
	return r, k1, err
}

// recordFor is record for a payer's key.
func (s *shop) recordFor(kind script.Construction, i uint32, k1 *btcec.PrivateKey) (r channel.PayeeRecord, err error) {
	var nonce channel.Nonce
	binary.BigEndian.PutUint32(nonce[12:], i)
	k2, err := s.ring.PayeeChannelKey(nonce)
	if err != nil {
		return r, err
	}
	txid := sha256.Sum256(nonce[:])
	funding, err := channel.EncodeTx(fundingTx(txid))
	if err != nil {
		return r, err
	}
	return channel.PayeeRecord{
		Phase: channel.Open,
		Terms: channel.Terms{
			Network: "regtest", Construction: kind, TxVersion: 3, Nonce: nonce,
			PayerKey: channel.Key(k1.PubKey().SerializeCompressed()), PayeeKey: channel.Key(k2.PubKey().SerializeCompressed()),
			Outpoint: channel.Outpoint{Hash: txid}, Capacity: capacity, RestScript: s.payout,
			Expiry: expiry, Margin: 36, Confirmations: 1, Credit: s.credit,
		},
		NewcomerAbove: channel.MaxSat, // msat: they have all paid for long
		FundingTx:     funding,
		Digest:        txid[:],
	}, nil
}

// fundingTx is a T1 of the usual size: one input that a wallet signed, the channel's
// output, and change.
func fundingTx(seed [32]byte) *wire.MsgTx {
	tx := wire.NewMsgTx(2)
	tx.AddTxIn(&wire.TxIn{PreviousOutPoint: wire.OutPoint{Hash: seed}, Witness: wire.TxWitness{make([]byte, 64)}})
	for range 2 {
		tx.AddTxOut(&wire.TxOut{Value: capacity, PkScript: append([]byte{0x51, 0x20}, seed[:]...)})
	}
	return tx
}

// sign makes updates that pay sat for each of the channels, n rounds long: the
// update of channel c in round k is at k*channels + c.
func (s *shop) sign(ctx context.Context, from, rounds int) ([]channel.Update, error) {
	all := make([]channel.Update, rounds*len(s.records))
	_, err := rate(ctx, runtime.GOMAXPROCS(0), len(s.records), func(_ context.Context, c int) error {
		ch, err := s.records[c].Terms.Script()
		if err != nil {
			return err
		}
		for k := range rounds {
			amount := uint64(from + k + 1)
			sig, err := ch.SignHalf(s.keys[c], int64(capacity-amount))
			if err != nil {
				return err
			}
			all[k*len(s.records)+c] = channel.Update{Amount: amount, Signature: sig}
		}
		return nil
	})
	return all, err
}
