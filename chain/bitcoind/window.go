package bitcoind

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/maphash"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/chain/internal/said"
)

// window is what is known of the newest blocks. Its holder has the turn.
type window struct {
	seed   maphash.Seed
	base   uint32           // height of hashes[0]
	hashes []chainhash.Hash // the best chain from base to the tip
	blocks map[chainhash.Hash]*summary
	recent []*wire.MsgBlock // the blocks that were read last, newest last
	pruned uint32           // height of the oldest block that the node still has
}

// keepRecent is how many whole blocks stay in memory.
const keepRecent = 3

func newWindow() window {
	return window{seed: maphash.MakeSeed(), blocks: map[chainhash.Hash]*summary{}}
}

func (w *window) tip() (uint32, chainhash.Hash) {
	return w.base + uint32(len(w.hashes)) - 1, w.hashes[len(w.hashes)-1]
}

// summary says what may be in a block, and what was found to be in it.
type summary struct {
	bloom []uint64
	found map[uint64][]*wire.MsgTx // by item, of items that were looked for and may be in it
}

// Items that are looked for: a txid, a spent outpoint, a script that is paid. Their hashes are seeded by the process,
// so that nobody can make blocks that look like everything.
func (w *window) txid(id chainhash.Hash) uint64 {
	return maphash.Bytes(w.seed, append([]byte{'t'}, id[:]...))
}

func (w *window) spent(op wire.OutPoint) uint64 {
	return maphash.Bytes(w.seed, fmt.Appendf(nil, "s%s%d", op.Hash[:], op.Index))
}

func (w *window) paid(pkScript []byte) uint64 {
	return maphash.Bytes(w.seed, append([]byte{'p'}, pkScript...))
}

// Every item takes 12 bits and sets 6 of them: one in 250 looks at a block that has nothing of it reads it in vain.
const (
	bitsPerItem = 12
	bitsSet     = 6
)

func (w *window) summarize(b *wire.MsgBlock) *summary {
	var items []uint64
	for _, tx := range b.Transactions {
		items = append(items, w.txid(tx.TxHash()))
		for _, in := range tx.TxIn {
			items = append(items, w.spent(in.PreviousOutPoint))
		}
		for _, out := range tx.TxOut {
			items = append(items, w.paid(out.PkScript))
		}
	}
	s := &summary{bloom: make([]uint64, (len(items)*bitsPerItem+63)/64), found: map[uint64][]*wire.MsgTx{}}
	for _, item := range items {
		s.each(item, func(word *uint64, bit uint64) bool {
			*word |= bit
			return true
		})
	}
	return s
}

// each visits an item's bits until do says false.
func (s *summary) each(item uint64, do func(word *uint64, bit uint64) bool) bool {
	n, step := uint64(len(s.bloom))*64, item>>32|1
	for i := range uint64(bitsSet) {
		at := (item + i*step + i*i*i) % n
		if !do(&s.bloom[at/64], 1<<(at%64)) {
			return false
		}
	}
	return true
}

func (s *summary) may(item uint64) bool {
	return s.each(item, func(word *uint64, bit uint64) bool { return *word&bit != 0 })
}

// sync brings the window's hashes to the node's best chain.
func (c *Client) sync(ctx context.Context) error {
	for range 5 {
		tip, err := c.Tip(ctx)
		if err != nil {
			return err
		}
		if n := len(c.win.hashes); n > 0 && c.win.hashes[n-1] == tip.Hash {
			return nil
		}
		if ok, err := c.follow(ctx, tip); ok || err != nil {
			return err
		}
	}
	return said.Unavailable("follow the chain", errMoving)
}

var errMoving = fmt.Errorf("the tip kept moving")

// follow reads the hashes up to a tip; ok is false where the chain moved meanwhile.
func (c *Client) follow(ctx context.Context, tip chain.Tip) (ok bool, err error) {
	w := &c.win
	if len(w.hashes) == 0 {
		if err := c.begin(ctx, tip); err != nil {
			return false, err
		}
	}
	hashes, err := c.common(ctx, tip)
	if err != nil {
		return false, err
	}
	if len(hashes) == 0 && w.base > tip.Height {
		w.hashes = nil
		return false, nil // a reorg undid the whole window, or a node was put in its place
	}
	var asks [][]any
	for h := w.base + uint32(len(hashes)); h <= tip.Height; h++ {
		asks = append(asks, []any{h})
	}
	more := make([]chainhash.Hash, len(asks))
	err = c.rpc.batch(ctx, "getblockhash", asks, func(i int, a response) error {
		var text string
		if err := a.read("getblockhash", &text); isCode(err, codeParameter) {
			return nil // the hash stays zero
		} else if err != nil {
			return said.Failed(err)
		}
		var err error
		more[i], err = parseHash(text)
		return err
	})
	if err != nil {
		return false, err
	}
	hashes = append(hashes, more...)
	if len(hashes) == 0 || hashes[len(hashes)-1] != tip.Hash {
		return false, nil
	}
	for _, gone := range w.hashes[min(len(w.hashes), len(hashes)-len(more)):] {
		delete(w.blocks, gone)
	}
	w.hashes = hashes
	w.trim(c.cfg.Window)
	return true, nil
}

// begin places an empty window.
func (c *Client) begin(ctx context.Context, tip chain.Tip) error {
	info, err := c.info(ctx)
	if err != nil {
		return err
	}
	w := &c.win
	w.pruned = info.PruneHeight
	w.base = max(c.cfg.Birthday, info.PruneHeight)
	if tip.Height >= c.cfg.Window {
		w.base = max(w.base, tip.Height-c.cfg.Window+1)
	}
	w.base = min(w.base, tip.Height)
	return nil
}

// common is how much of the window is still in the best chain.
func (c *Client) common(ctx context.Context, tip chain.Tip) ([]chainhash.Hash, error) {
	w := &c.win
	for n := len(w.hashes); n > 0; n-- {
		height := w.base + uint32(n) - 1
		if height > tip.Height {
			continue
		}
		var text string
		err := c.rpc.call(ctx, &text, "getblockhash", height)
		if isCode(err, codeParameter) {
			continue
		}
		if err != nil {
			return nil, said.Failed(err)
		}
		if text == w.hashes[n-1].String() {
			return append([]chainhash.Hash(nil), w.hashes[:n]...), nil
		}
	}
	return nil, nil
}

// trim forgets what has left the window, a good deal at a time.
func (w *window) trim(most uint32) {
	n := uint32(len(w.hashes))
	if n <= most || n-most < most/8+1 {
		return
	}
	for _, h := range w.hashes[:n-most] {
		delete(w.blocks, h)
	}
	w.base += n - most
	w.hashes = append([]chainhash.Hash(nil), w.hashes[n-most:]...)
}

// place is a transaction in a block of the window.
type place struct {
	tx     *wire.MsgTx
	height uint32
	hash   chainhash.Hash
}

func (p place) info() chain.TxInfo {
	return chain.TxInfo{Tx: p.tx.Copy(), Confirmed: true, Height: p.height, BlockHash: p.hash}
}

// search looks through the window, newest block first and down to a height, for transactions that match an item,
// until do says that it is enough. Its caller has the turn and has synced.
func (c *Client) search(ctx context.Context, item uint64, from uint32, match func(*wire.MsgTx) bool, do func(place) (more bool)) error {
	w := &c.win
	height, _ := w.tip()
	for n := len(w.hashes); n > 0 && height >= from; n, height = n-1, height-1 {
		hash := w.hashes[n-1]
		txs, err := c.inBlock(ctx, hash, height, item, match)
		if err != nil {
			return err
		}
		for i := len(txs) - 1; i >= 0; i-- {
			if !do(place{txs[i], height, hash}) {
				return nil
			}
		}
		if height == 0 {
			break
		}
	}
	return nil
}

// inBlock are a block's transactions that match, in its order.
func (c *Client) inBlock(ctx context.Context, hash chainhash.Hash, height uint32, item uint64, match func(*wire.MsgTx) bool) ([]*wire.MsgTx, error) {
	w := &c.win
	s, ok := w.blocks[hash]
	var block *wire.MsgBlock
	if !ok {
		var err error
		if block, err = c.block(ctx, hash, height); err != nil {
			return nil, err
		}
		s = w.summarize(block)
		w.blocks[hash] = s
	}
	if !s.may(item) {
		return nil, nil
	}
	if txs, ok := s.found[item]; ok {
		return txs, nil
	}
	if block == nil {
		var err error
		if block, err = c.block(ctx, hash, height); err != nil {
			return nil, err
		}
	}
	var txs []*wire.MsgTx
	for _, tx := range block.Transactions {
		if match(tx) {
			txs = append(txs, tx.Copy())
		}
	}
	s.found[item] = txs
	return txs, nil
}

// block reads a block. Errors: ErrBeyond where the node has pruned it.
func (c *Client) block(ctx context.Context, hash chainhash.Hash, height uint32) (*wire.MsgBlock, error) {
	w := &c.win
	for _, b := range w.recent {
		if b.BlockHash() == hash {
			return b, nil
		}
	}
	var text string
	if err := c.rpc.call(ctx, &text, "getblock", hash.String(), 0); err != nil {
		if isCode(err, codeMisc) {
			return nil, fmt.Errorf("%w: %w: block %d: %w", chain.ErrUnavailable, ErrBeyond, height, err)
		}
		return nil, said.Failed(err)
	}
	raw, err := hex.DecodeString(text)
	if err != nil {
		return nil, nonsense("block %s is not in hex", hash)
	}
	b := &wire.MsgBlock{}
	if err := b.Deserialize(bytes.NewReader(raw)); err != nil {
		return nil, nonsense("block %s: %v", hash, err)
	}
	if b.BlockHash() != hash {
		return nil, nonsense("block %s was asked for, the bytes are those of %s", hash, b.BlockHash())
	}
	if w.recent = append(w.recent, b); len(w.recent) > keepRecent {
		w.recent = append([]*wire.MsgBlock(nil), w.recent[1:]...)
	}
	return b, nil
}

// codeMisc is the node's word for a block that it does not have (any more).
const codeMisc = -1

// chainInfo is what is asked of getblockchaininfo.
type chainInfo struct {
	Blocks      uint32 `json:"blocks"`
	Headers     uint32 `json:"headers"`
	Best        string `json:"bestblockhash"`
	Time        int64  `json:"time"`
	Syncing     bool   `json:"initialblockdownload"`
	Pruned      bool   `json:"pruned"`
	PruneHeight uint32 `json:"pruneheight"`
}

func (c *Client) info(ctx context.Context) (i chainInfo, err error) {
	err = c.rpc.call(ctx, &i, "getblockchaininfo")
	return i, said.Failed(err)
}

// decode reads a transaction in hex that must have this txid.
func decode(text string, txid chainhash.Hash) (*wire.MsgTx, error) {
	raw, err := hex.DecodeString(text)
	if err != nil {
		return nil, nonsense("transaction %s is not in hex", txid)
	}
	tx := &wire.MsgTx{}
	r := bytes.NewReader(raw)
	if err := tx.Deserialize(r); err != nil || r.Len() > 0 {
		return nil, nonsense("transaction %s cannot be read", txid)
	}
	if tx.TxHash() != txid {
		return nil, nonsense("transaction %s was asked for, the bytes are those of %s", txid, tx.TxHash())
	}
	return tx, nil
}

// sat reads an amount in bitcoin exactly.
func sat(n json.Number) (int64, error) {
	v, ok := parseFixed(string(n))
	if !ok || v < 0 || v > maxSat {
		return 0, nonsense("%q is no amount", clip(string(n)))
	}
	return v, nil
}
