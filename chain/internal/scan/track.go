package scan

import (
	"bytes"
	"context"
	"slices"

	"github.com/btcsuite/btcd/btcutil/v2/gcs/builder"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
)

// track is what is known of one script.
type track struct {
	script []byte
	from   uint32                     // height of the first block that was looked through
	next   uint32                     // height of the first one that was not
	hits   []Found                    // what pays it, or spends what paid it, in the chain's order
	outs   map[wire.OutPoint]struct{} // outputs that pay it, in hits
	dirty  bool                       // not kept as it is
}

// track gives a script's, made or made longer so that it reaches back to a height.
func (s *Scanner) track(pkScript []byte, from uint32) *track {
	t := s.tracks[string(pkScript)]
	if t == nil || t.from > from {
		t = &track{script: bytes.Clone(pkScript), from: from, next: from, outs: map[wire.OutPoint]struct{}{}, dirty: true}
		s.tracks[string(pkScript)] = t
		s.index = nil
	}
	return t
}

// cut undoes what was found from a height on.
func (t *track) cut(height uint32) {
	t.next = max(t.from, min(t.next, height))
	n := slices.IndexFunc(t.hits, func(f Found) bool { return f.Height >= height })
	if n < 0 {
		return
	}
	t.hits, t.dirty = t.hits[:n:n], true
	t.refresh()
}

// refresh makes outs from hits.
func (t *track) refresh() {
	t.outs = map[wire.OutPoint]struct{}{}
	for _, f := range t.hits {
		t.note(f.Tx)
	}
}

// note takes down the outputs of a transaction that pay the script.
func (t *track) note(tx *wire.MsgTx) (paid bool) {
	for i, out := range tx.TxOut {
		if bytes.Equal(out.PkScript, t.script) {
			t.outs[wire.OutPoint{Hash: tx.TxHash(), Index: uint32(i)}] = struct{}{}
			paid = true
		}
	}
	return paid
}

// take looks through a block.
func (t *track) take(block *wire.MsgBlock, height uint32, hash chainhash.Hash) (found bool) {
	for _, tx := range block.Transactions {
		spends := slices.ContainsFunc(tx.TxIn, func(in *wire.TxIn) bool {
			_, ours := t.outs[in.PreviousOutPoint]
			return ours
		})
		if t.note(tx) || spends {
			t.hits = append(t.hits, Found{tx.Copy(), height, hash})
			t.dirty, found = true, true
		}
	}
	return found
}

// spent is what was found to spend an output.
func (t *track) spent(op wire.OutPoint) (f Found, vin uint32, ok bool) {
	for _, f := range t.hits {
		for i, in := range f.Tx.TxIn {
			if in.PreviousOutPoint == op {
				return f, uint32(i), true
			}
		}
	}
	return f, 0, false
}

// catchUp looks through the blocks up to the tip for every script that was not looked for in them. What was done
// stays done when it is broken off. Errors: errMoving, chain.ErrUnavailable.
func (s *Scanner) catchUp(ctx context.Context, tip chain.Tip) error {
	told := false
	for {
		low := tip.Height + 1
		for _, t := range s.tracks {
			low = min(low, t.next)
		}
		if low > tip.Height {
			break
		}
		if left := tip.Height - low + 1; left >= tellAfter && !told {
			told = true
			s.cfg.Logger.Info("scan: looking through blocks", "from", low, "blocks", left, "scripts", len(s.tracks))
		}
		if err := s.step(ctx, low, min(tip.Height, low+batch-1)); err != nil {
			return err
		}
	}
	return s.save()
}

// step looks through the blocks from low to high for all scripts whose turn it is.
func (s *Scanner) step(ctx context.Context, low, high uint32) error {
	hashes, err := s.hashesAt(ctx, low, int(high-low+1))
	if err != nil {
		return err
	}
	filters, err := s.cfg.Source.Filters(ctx, hashes)
	if err != nil {
		return err
	}
	for i, hash := range hashes {
		height := low + uint32(i)
		var todo []*track
		var scripts [][]byte
		for _, t := range s.tracks {
			if t.next == height {
				todo, scripts = append(todo, t), append(scripts, t.script)
			}
		}
		if len(todo) == 0 {
			continue
		}
		may, err := filters[i].MatchAny(builder.DeriveKey(&hash), scripts)
		if err != nil {
			return unavailable("read a filter", err)
		}
		if may {
			block, err := s.block(ctx, hash)
			if err != nil {
				return err
			}
			for _, t := range todo {
				if t.take(block, height, hash) {
					s.index = nil
				}
			}
		}
		for _, t := range todo {
			t.next = height + 1
		}
		s.unsaved = true
	}
	return nil
}

// hashesAt are the best chain's, of which those that are remembered need no asking. Errors: errMoving.
func (s *Scanner) hashesAt(ctx context.Context, from uint32, count int) ([]chainhash.Hash, error) {
	if from >= s.base {
		at := int(from - s.base)
		return s.hashes[at : at+count], nil
	}
	hashes, err := s.cfg.Source.BlockHashes(ctx, from, count)
	if err != nil {
		return nil, err
	}
	if len(hashes) != count {
		return nil, errMoving
	}
	for i, hash := range hashes {
		if h := from + uint32(i); h >= s.base && s.hashes[h-s.base] != hash {
			return nil, errMoving
		}
	}
	return hashes, nil
}

// block is a block that was checked.
func (s *Scanner) block(ctx context.Context, hash chainhash.Hash) (*wire.MsgBlock, error) {
	for _, b := range s.blocks {
		if b.BlockHash() == hash {
			return b, nil
		}
	}
	b, err := s.cfg.Source.Block(ctx, hash)
	if err != nil {
		return nil, err
	}
	if err := CheckBlock(b, hash); err != nil {
		return nil, err
	}
	if s.blocks = append(s.blocks, b); len(s.blocks) > recent {
		s.blocks = s.blocks[1:]
	}
	return b, nil
}
