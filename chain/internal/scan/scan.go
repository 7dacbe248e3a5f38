// Package scan finds transactions, spends and coins by script in a chain that can only be read block by block and by
// the committed filters of its blocks (BIP 157 and 158). A filter tells, with one error in 784,931 for each script,
// whether a block pays or spends a script; only such blocks are read. It is what the backends over nodes without an
// index by script share.
//
// It finds what it was told to look for: the scripts that were asked about, hinted at, or paid by a transaction that
// was found before. It believes a block only after checking it against its hash, and knows nothing of a mempool. It
// starts no goroutine; what it found is kept on disk only where a Keeper is given.
package scan

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/btcsuite/btcd/btcutil/v2/gcs"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
)

// Source is the chain as a node shows it. Errors of every method: chain.ErrUnavailable.
type Source interface {
	// Tip is the newest block.
	Tip(ctx context.Context) (chain.Tip, error)
	// BlockHashes are those of the best chain at consecutive heights, fewer where the tip comes first.
	BlockHashes(ctx context.Context, from uint32, count int) ([]chainhash.Hash, error)
	// Filters are the basic filters of blocks, in their order.
	Filters(ctx context.Context, blocks []chainhash.Hash) ([]*gcs.Filter, error)
	// Block is a whole block.
	Block(ctx context.Context, hash chainhash.Hash) (*wire.MsgBlock, error)
}

// errMoving says that the chain did not stand still for the length of a question.
var errMoving = errors.New("the tip kept moving")

// Limits.
const (
	remembered = 1008 // blocks whose hashes are kept: the deepest reorg that costs no new search
	batch      = 128  // filters that are asked for at once
	recent     = 4    // whole blocks that stay in memory
	tellAfter  = 2000 // blocks to look through from which on that is told
)

// Config is what a Scanner needs.
type Config struct {
	Source Source
	// Window is how many of the newest blocks are looked through for a script that is new here, unless Birthday is
	// set: the height before which nothing of interest is on the chain.
	Window, Birthday uint32
	// Keeper remembers what was found; nil: nothing does.
	Keeper Keeper
	Logger *slog.Logger // nil: nobody is told of long searches
}

// Scanner answers questions about the chain of a Source. It is safe for concurrent use; one question is answered at a
// time.
type Scanner struct {
	cfg  Config
	turn chan struct{}

	base    uint32           // height of hashes[0]
	hashes  []chainhash.Hash // the best chain from base to the tip, as far as remembered
	tracks  map[string]*track
	index   map[chainhash.Hash]Found // by txid; nil: to be made again
	blocks  []*wire.MsgBlock         // read last, newest last
	loaded  bool
	unsaved bool

	mu    sync.Mutex
	hints map[string]bool // scripts that the next question searches for too
}

// Found is a transaction in a block of the best chain.
type Found struct {
	Tx     *wire.MsgTx
	Height uint32
	Block  chainhash.Hash
}

// Info is the transaction as a backend tells of it.
func (f Found) Info() chain.TxInfo {
	return chain.TxInfo{Tx: f.Tx.Copy(), Confirmed: true, Height: f.Height, BlockHash: f.Block}
}

// New makes a scanner; it asks nothing yet.
func New(cfg Config) *Scanner {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Scanner{cfg: cfg, turn: make(chan struct{}, 1), tracks: map[string]*track{}, hints: map[string]bool{}}
	s.turn <- struct{}{}
	return s
}

// Hint names scripts that will be asked about, or paid by transactions that will be: the next question searches for
// them too. It costs nothing by itself.
func (s *Scanner) Hint(scripts ...[]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, pk := range scripts {
		s.hints[string(pk)] = true
	}
}

func (s *Scanner) hinted() (all [][]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for pk := range s.hints {
		all = append(all, []byte(pk))
	}
	s.hints = map[string]bool{}
	return all
}

// unavailable says that a question could not be answered.
func unavailable(what string, err error) error {
	if errors.Is(err, chain.ErrUnavailable) {
		return err
	}
	return fmt.Errorf("%w: %s: %w", chain.ErrUnavailable, what, err)
}

// View is the chain at one tip, all that is looked for found up to it. It is valid within the call that gives it.
type View struct {
	s *Scanner
	// Tip is the tip that the view is of.
	Tip chain.Tip
}

// At runs a question against the chain as it is now, again where the tip moved meanwhile. A question may run more
// than once. Errors: those of the question, chain.ErrUnavailable.
func (s *Scanner) At(ctx context.Context, question func(View) error) error {
	select {
	case <-ctx.Done():
		return unavailable("wait", ctx.Err())
	case <-s.turn:
		defer func() { s.turn <- struct{}{} }()
	}
	if err := s.load(); err != nil {
		return err
	}
	var failed error
	for range 8 {
		tip, err := s.sync(ctx)
		if err != nil {
			return err
		}
		for _, pk := range s.hinted() {
			s.track(pk, s.start(tip.Height))
		}
		if err = s.catchUp(ctx, tip); err == nil {
			err = question(View{s, tip})
		}
		// What fails, or is not found, while the chain moves is asked again.
		now, moved := s.cfg.Source.Tip(ctx)
		if moved != nil {
			return moved
		}
		if now.Hash == tip.Hash && !errors.Is(err, errMoving) {
			return err
		}
		failed = err
	}
	return fmt.Errorf("%w: look through the chain: %w (%v)", chain.ErrUnavailable, errMoving, failed)
}

// start is the height from which on a script is looked for.
func (s *Scanner) start(tip uint32) uint32 {
	if s.cfg.Birthday > 0 {
		return min(s.cfg.Birthday, tip)
	}
	if s.cfg.Window > tip {
		return 0
	}
	return tip - s.cfg.Window + 1
}

// sync brings the remembered hashes to the best chain and undoes what was found in blocks that are not in it.
func (s *Scanner) sync(ctx context.Context) (chain.Tip, error) {
	for range 8 {
		tip, err := s.cfg.Source.Tip(ctx)
		if err != nil {
			return tip, err
		}
		if n := len(s.hashes); n > 0 && s.hashes[n-1] == tip.Hash {
			return tip, nil
		}
		ok, err := s.follow(ctx, tip)
		if err != nil || ok {
			return tip, err
		}
	}
	return chain.Tip{}, unavailable("follow the chain", errMoving)
}

// follow reads the hashes up to a tip; ok is false where the chain moved meanwhile.
func (s *Scanner) follow(ctx context.Context, tip chain.Tip) (ok bool, err error) {
	had := len(s.hashes) > 0
	if err := s.common(ctx, tip); err != nil {
		return false, err
	}
	if len(s.hashes) == 0 {
		if had {
			s.cfg.Logger.Warn("scan: a reorg undid every block that was remembered; all is searched again", "tip", tip.Height)
			s.cut(0)
		}
		s.base = tip.Height + 1 - min(remembered, tip.Height+1)
	}
	for {
		at := s.base + uint32(len(s.hashes))
		if at > tip.Height {
			break
		}
		more, err := s.cfg.Source.BlockHashes(ctx, at, int(min(tip.Height-at+1, 2000)))
		if err != nil {
			return false, err
		}
		if len(more) == 0 {
			return false, nil
		}
		s.hashes = append(s.hashes, more...)
	}
	if s.hashes[len(s.hashes)-1] != tip.Hash {
		return false, nil
	}
	if n := len(s.hashes); n > 2*remembered {
		s.base += uint32(n - remembered)
		s.hashes = append([]chainhash.Hash(nil), s.hashes[n-remembered:]...)
	}
	return true, nil
}

// common drops the remembered hashes that are not in the best chain any more, with what was found in their blocks.
func (s *Scanner) common(ctx context.Context, tip chain.Tip) error {
	for n := len(s.hashes); n > 0; n = len(s.hashes) {
		height := s.base + uint32(n) - 1
		if height <= tip.Height {
			now, err := s.cfg.Source.BlockHashes(ctx, height, 1)
			if err != nil {
				return err
			}
			if len(now) == 1 && now[0] == s.hashes[n-1] {
				return nil
			}
		}
		s.hashes = s.hashes[:n-1]
		s.cut(height)
	}
	return nil
}

// cut undoes what was found in blocks from a height on.
func (s *Scanner) cut(height uint32) {
	for _, t := range s.tracks {
		t.cut(height)
	}
	s.index, s.unsaved = nil, true
}
