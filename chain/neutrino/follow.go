package neutrino

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/btcsuite/btcd/btcutil/v2/gcs"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"
	"github.com/lightninglabs/neutrino"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/chain/internal/scan"
)

func unavailable(what string, err error) error {
	if errors.Is(err, chain.ErrUnavailable) {
		return err
	}
	return fmt.Errorf("%w: %s: %w", chain.ErrUnavailable, what, err)
}

// patiently asks the network something that knows no context, and stops waiting when ctx ends or it takes too long.
func patiently[T any](ctx context.Context, c *Client, what string, ask func() (T, error)) (v T, err error) {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return v, unavailable(what, ErrClosed)
	}
	c.busy.Add(1)
	c.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	type answer struct {
		v   T
		err error
	}
	got := make(chan answer, 1)
	go func() {
		defer c.busy.Done()
		v, err := ask()
		got <- answer{v, err}
	}()
	select {
	case a := <-got:
		if a.err != nil {
			return v, unavailable(what, a.err)
		}
		return a.v, nil
	case <-ctx.Done():
		return v, unavailable(what, ctx.Err())
	}
}

// look is how often a state that is waited for is looked at.
const look = 20 * time.Millisecond

// ready makes sure that somebody is connected who can be asked: a tip that nobody confirms may be long past. The
// first connection is waited for.
func (c *Client) ready(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return unavailable("begin", err)
	}
	c.mu.Lock()
	met, closed := c.met, c.closed
	c.mu.Unlock()
	if closed {
		return unavailable("begin", ErrClosed)
	}
	if c.svc.ConnectedCount() > 0 {
		if !met {
			c.mu.Lock()
			c.met = true
			c.mu.Unlock()
		}
		return nil
	}
	if met {
		return c.nobody()
	}
	limit, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	tick := time.NewTicker(look)
	defer tick.Stop()
	for c.svc.ConnectedCount() == 0 {
		select {
		case <-limit.Done():
			if err := ctx.Err(); err != nil {
				return unavailable("wait for a peer", err)
			}
			return c.nobody()
		case <-tick.C:
		}
	}
	return nil
}

// nobody says that no peer is connected, and why that may be.
func (c *Client) nobody() error {
	if len(c.cfg.Peers) == 0 {
		return unavailable("ask the network", fmt.Errorf("%w: none that the DNS seeds of %s name", ErrNoPeers, c.cfg.Network.Name))
	}
	for _, p := range c.cfg.Peers {
		if c.svc.IsBanned(p) {
			return unavailable("ask the network", fmt.Errorf("%w: %s serves no committed filters or blocks, or said what is not true", ErrNoPeers, p))
		}
	}
	return unavailable("ask the network", fmt.Errorf("%w of %v", ErrNoPeers, c.cfg.Peers))
}

// Tip implements chain.Backend: the newest block whose filter is known. Errors: ErrNoPeers within
// chain.ErrUnavailable.
func (c *Client) Tip(ctx context.Context) (tip chain.Tip, err error) {
	if err := c.ready(ctx); err != nil {
		return tip, err
	}
	best, err := c.svc.BestBlock()
	if err != nil {
		return tip, unavailable("tip", err)
	}
	return chain.Tip{Height: uint32(best.Height), Hash: best.Hash, Time: best.Timestamp}, nil
}

// BlockHash implements chain.Backend.
func (c *Client) BlockHash(ctx context.Context, height uint32) (hash chainhash.Hash, err error) {
	tip, err := c.Tip(ctx)
	if err != nil {
		return hash, err
	}
	if height > tip.Height {
		return hash, fmt.Errorf("%w: no block at height %d", chain.ErrNotFound, height)
	}
	header, err := c.svc.BlockHeaders.FetchHeaderByHeight(height)
	if err != nil {
		return hash, unavailable("block hash", err)
	}
	return header.BlockHash(), nil
}

// source shows the light client to the scanner.
type source struct{ c *Client }

// Tip implements scan.Source.
func (s source) Tip(ctx context.Context) (chain.Tip, error) { return s.c.Tip(ctx) }

// BlockHashes implements scan.Source.
func (s source) BlockHashes(ctx context.Context, from uint32, count int) ([]chainhash.Hash, error) {
	tip, err := s.c.Tip(ctx)
	if err != nil {
		return nil, err
	}
	var all []chainhash.Hash
	for h := from; h <= tip.Height && len(all) < count; h++ {
		header, err := s.c.svc.BlockHeaders.FetchHeaderByHeight(h)
		if err != nil {
			return nil, unavailable("block hashes", err)
		}
		all = append(all, header.BlockHash())
	}
	return all, nil
}

// Filters implements scan.Source.
func (s source) Filters(ctx context.Context, blocks []chainhash.Hash) ([]*gcs.Filter, error) {
	all := make([]*gcs.Filter, len(blocks))
	for i, hash := range blocks {
		// The first question brings those after it too.
		options := []neutrino.QueryOption{neutrino.OptimisticBatch(), neutrino.MaxBatchSize(int64(len(blocks) - i))}
		f, err := patiently(ctx, s.c, "filter", func() (*gcs.Filter, error) {
			return s.c.svc.GetCFilter(hash, wire.GCSFilterRegular, options...)
		})
		if err != nil {
			return nil, err
		}
		all[i] = f
	}
	return all, nil
}

// Block implements scan.Source.
func (s source) Block(ctx context.Context, hash chainhash.Hash) (*wire.MsgBlock, error) {
	return patiently(ctx, s.c, "block", func() (*wire.MsgBlock, error) {
		b, err := s.c.svc.GetBlock(hash)
		if err != nil {
			return nil, err
		}
		return b.MsgBlock(), nil
	})
}

// behind is how many blocks the client may lag behind what its peers say.
const behind = 3

// Health implements chain.HealthChecker.
func (c *Client) Health(ctx context.Context) (h chain.Health, err error) {
	if h.Tip, err = c.Tip(ctx); err != nil {
		return h, err
	}
	h.Headers = h.Tip.Height
	if _, top, err := c.svc.BlockHeaders.ChainTip(); err == nil {
		h.Headers = max(h.Headers, top)
	}
	h.Peers = int(c.svc.ConnectedCount())
	h.Headers = max(h.Headers, c.peersHeight())
	h.Syncing = h.Headers > h.Tip.Height+behind
	if h.Oldest = c.cfg.Birthday; h.Oldest == 0 && h.Tip.Height >= c.cfg.Window {
		h.Oldest = h.Tip.Height - c.cfg.Window + 1
	}
	return h, nil
}

// peersHeight is the height that the peers say they are at: the middle one, as a peer may say anything.
func (c *Client) peersHeight() uint32 {
	var tops []int32
	for _, p := range c.svc.Peers() {
		tops = append(tops, max(0, p.LastBlock()))
	}
	if len(tops) == 0 {
		return 0
	}
	slices.Sort(tops)
	return uint32(tops[(len(tops)-1)/2])
}

// Sync waits until the client has caught up with its peers: minutes the first time on a public network. tell is told
// from time to time how far it is, and may be nil. Errors: those of ctx, ErrNoPeers.
func (c *Client) Sync(ctx context.Context, tell func(at, of uint32)) error {
	tick := time.NewTicker(look)
	defer tick.Stop()
	last := time.Now()
	for {
		h, err := c.Health(ctx)
		if err != nil {
			return err
		}
		if h.Tip.Height >= h.Headers {
			return nil
		}
		if tell != nil && time.Since(last) >= time.Second {
			last = time.Now()
			tell(h.Tip.Height, h.Headers)
		}
		select {
		case <-ctx.Done():
			return unavailable("catch up", ctx.Err())
		case <-tick.C:
		}
	}
}

// HintScripts implements chain.ScriptHinter.
func (c *Client) HintScripts(scripts ...[]byte) { c.scan.Hint(scripts...) }

// WatchScripts implements chain.ScriptWatcher: all scripts are looked for at once.
func (c *Client) WatchScripts(ctx context.Context, scripts ...[]byte) error {
	c.scan.Hint(scripts...)
	return c.scan.At(ctx, func(scan.View) error { return nil })
}
