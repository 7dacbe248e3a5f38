// Package devnet is a regtest node inside this process, for development and tests: btcd's own consensus,
// mempool and block templates, with an index by script, an Esplora HTTP API and a faucet. Standardness is on, as
// on the main network. It mines alone: on demand, for each transaction, or at a steady pace, and undoes blocks
// when asked.
//
// It never speaks to other nodes, never serves another network than regtest, and has no consensus rule of its
// own. TRUC rules, sibling eviction and packages are not part of it.
package devnet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/btcsuite/btcd/blockchain"
	"github.com/btcsuite/btcd/btcutil/v2"
	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/mempool"
	"github.com/btcsuite/btcd/mining"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/chain/devnet/internal/memdb"
	"github.com/spillway/spillway/script"
)

const (
	bootBlocks  = 250              // 150 of them mature: 7,500 BTC
	bootSpacing = 10 * time.Minute // between the timestamps of boot blocks, which end at the present
	maxMine     = 10_000           // blocks in one call
)

// Sentinels of this package.
var (
	// ErrLocked says that another process, or another Node of this one, has the folder open.
	ErrLocked = errors.New("devnet: the folder is in use by another process")
	// ErrDamaged says that the chain's log was changed after it was written.
	ErrDamaged = errors.New("devnet: the chain's log is damaged")
	// ErrRange says that a number of blocks, a depth or an amount is out of range.
	ErrRange = errors.New("devnet: out of range")
	// ErrFaucetEmpty says that the faucet's mature coins do not reach.
	ErrFaucetEmpty = errors.New("devnet: the faucet has not enough mature coins")
	// ErrBlock says that a block made from given transactions breaks a consensus rule.
	ErrBlock = errors.New("devnet: the block is invalid")
	// ErrClosed says that the node was closed; it comes wrapped in chain.ErrUnavailable.
	ErrClosed = errors.New("devnet: closed")
)

// Params are the consensus parameters of the devnet: regtest with standardness on. The caller owns the copy.
func Params() *chaincfg.Params {
	p := chaincfg.RegressionNetParams
	p.RelayNonStdTxs = false
	return &p
}

// Config says what a Node keeps and when it mines. The zero value is a chain in memory that mines on demand.
type Config struct {
	// Dir is where the chain is kept; empty: in memory.
	Dir string
	// MineEvery is the pace of blocks; 0: none by time.
	MineEvery time.Duration
	// MineOnTx mines a block for each accepted transaction, before it is answered.
	MineOnTx bool
	// Now is the clock of block timestamps; nil: time.Now.
	Now func() time.Time
	// Logger takes what happens; nil: nowhere.
	Logger *slog.Logger
}

// Node is the devnet. It is safe for concurrent use.
type Node struct {
	cfg    Config
	log    *slog.Logger
	params *chaincfg.Params
	clock  *clock
	db     *memdb.DB
	chain  *blockchain.BlockChain
	pool   *mempool.TxPool
	gen    *mining.BlkTmplGenerator
	faucet *faucet

	mu      sync.RWMutex // everything below; writers hold it until what they did is on disk
	idx     *index
	undone  undone
	journal *journal // nil in memory
	fee     script.FeeRate
	nonce   uint64
	failed  error

	stop chan struct{}
	done sync.WaitGroup
}

var _ chain.Backend = (*Node)(nil)

// New starts a node: it replays what Dir holds, or mines 250 blocks where there is nothing yet.
// Errors: ErrLocked, ErrDamaged, those of the file system.
func New(cfg Config) (*Node, error) {
	n := &Node{cfg: cfg, log: cfg.Logger, params: Params(), stop: make(chan struct{})}
	if n.log == nil {
		n.log = slog.New(slog.DiscardHandler)
	}
	if n.cfg.Now == nil {
		n.cfg.Now = time.Now
	}
	n.clock = &clock{now: n.cfg.Now}
	if err := n.build(); err != nil {
		return nil, err
	}
	if err := n.start(); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	if cfg.MineEvery > 0 {
		n.done.Add(1)
		go n.mineEvery(cfg.MineEvery)
	}
	return n, nil
}

// build makes an empty chain of btcd's parts.
func (n *Node) build() (err error) {
	sigs, hashes := txscript.NewSigCache(10_000), txscript.NewHashCache(1_000)
	n.db = memdb.New()
	n.chain, err = blockchain.New(&blockchain.Config{
		DB: n.db, UtxoCacheMaxSize: 64 << 20, ChainParams: n.params, TimeSource: n.clock,
		SigCache: sigs, HashCache: hashes,
	})
	if err != nil {
		return fmt.Errorf("devnet: start the chain: %w", err)
	}
	n.chain.Subscribe(n.follow)
	n.pool = mempool.New(&mempool.Config{
		Policy: mempool.Policy{
			MaxTxVersion: 3, DisableRelayPriority: true, AcceptNonStd: n.params.RelayNonStdTxs,
			MaxSigOpCostPerTx: blockchain.MaxBlockSigOpsCost / 4, MinRelayTxFee: btcutil.Amount(chain.MinFeeRate),
		},
		ChainParams:    n.params,
		FetchUtxoView:  n.chain.FetchUtxoView,
		BestHeight:     func() int32 { return n.chain.BestSnapshot().Height },
		MedianTimePast: func() time.Time { return n.chain.BestSnapshot().MedianTime },
		CalcSequenceLock: func(tx *btcutil.Tx, view *blockchain.UtxoViewpoint) (*blockchain.SequenceLock, error) {
			return n.chain.CalcSequenceLock(tx, view, true)
		},
		IsDeploymentActive: n.chain.IsDeploymentActive,
		SigCache:           sigs, HashCache: hashes,
	})
	n.gen = mining.NewBlkTmplGenerator(&mining.Policy{BlockMaxWeight: blockchain.MaxBlockWeight - 4_000},
		n.params, n.pool, n.chain, n.clock, sigs, hashes)
	n.idx = newIndex(n.params.GenesisBlock)
	n.faucet, err = newFaucet(n.params)
	return err
}

// start replays the journal, or mines the first blocks.
func (n *Node) start() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cfg.Dir != "" {
		j, frames, err := openJournal(n.cfg.Dir, n.log)
		if err != nil {
			return err
		}
		n.journal = j
		for i, f := range frames {
			if err := n.apply(f); err != nil {
				return fmt.Errorf("%w: frame %d does not apply: %w", ErrDamaged, i, err)
			}
		}
	}
	if len(n.idx.main) > 1 {
		return nil
	}
	defer n.clock.release()
	began := n.cfg.Now().Add(-bootBlocks * bootSpacing)
	frame := make([]record, 0, bootBlocks)
	for i := range bootBlocks {
		n.clock.fix(began.Add(time.Duration(i+1) * bootSpacing))
		r, err := n.mineOne()
		if err != nil {
			return err
		}
		frame = append(frame, r)
	}
	return n.commit(frame)
}

// apply does what the records of one frame say. The node's lock is held.
func (n *Node) apply(frame []record) error {
	drop := map[chainhash.Hash]bool{}
	for _, r := range frame {
		switch r.kind {
		case kindDrop:
			h, err := chainhash.NewHash(r.data)
			if err != nil {
				return err
			}
			drop[*h] = true
		case kindTx:
			tx, err := decodeTx(r.data)
			if err != nil {
				return err
			}
			if err := n.accept(tx); err != nil {
				return err
			}
		case kindBlock:
			b, err := btcutil.NewBlockFromBytes(r.data)
			if err != nil {
				return err
			}
			if err := n.connect(b.MsgBlock()); err != nil {
				return err
			}
		default:
			return fmt.Errorf("unknown record kind %q", r.kind)
		}
	}
	n.refill(drop)
	return nil
}

// commit makes what was just applied durable; nothing may be answered before. If it can't be, the node stops
// answering, since it would forget what it says. The node's lock is held.
func (n *Node) commit(frame []record) error {
	if n.journal == nil || len(frame) == 0 {
		return nil
	}
	if err := n.journal.append(frame); err != nil {
		n.fail(err)
		return n.failed
	}
	return nil
}

// fail stops the node from answering. The node's lock is held.
func (n *Node) fail(err error) {
	if n.failed == nil {
		n.failed = fmt.Errorf("%w: %w", chain.ErrUnavailable, err)
		n.log.Error("devnet: stopped answering", "err", err)
	}
}

// read runs fn with the node's state at rest.
func (n *Node) read(ctx context.Context, fn func() error) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%w: %w", chain.ErrUnavailable, err)
	}
	n.mu.RLock()
	defer n.mu.RUnlock()
	if n.failed != nil {
		return n.failed
	}
	return fn()
}

// write runs fn, which may change the state and gives the records to make durable, also beside an error.
func (n *Node) write(ctx context.Context, fn func() ([]record, error)) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%w: %w", chain.ErrUnavailable, err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.failed != nil {
		return n.failed
	}
	frame, err := fn()
	if cerr := n.commit(frame); cerr != nil {
		return cerr
	}
	return err
}

func (n *Node) mineEvery(every time.Duration) {
	defer n.done.Done()
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-n.stop:
			return
		case <-t.C:
			if _, err := n.Mine(1); err != nil && !errors.Is(err, ErrClosed) {
				n.log.Error("devnet: no block was mined", "err", err)
			}
		}
	}
}

// Close stops mining and gives the folder free. Whatever was answered is on disk already. It may be called more
// than once.
func (n *Node) Close() error {
	n.mu.Lock()
	if n.failed != nil && errors.Is(n.failed, ErrClosed) {
		n.mu.Unlock()
		return nil
	}
	n.failed = fmt.Errorf("%w: %w", chain.ErrUnavailable, ErrClosed)
	j := n.journal
	n.mu.Unlock()
	close(n.stop)
	n.done.Wait()
	var err error
	if j != nil {
		err = j.Close()
	}
	return errors.Join(err, n.db.Close())
}

func blockRecord(b *wire.MsgBlock) (record, error) {
	raw, err := btcutil.NewBlock(b).Bytes()
	if err != nil {
		return record{}, fmt.Errorf("devnet: serialize a block: %w", err)
	}
	return record{kindBlock, raw}, nil
}
