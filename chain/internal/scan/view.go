package scan

import (
	"bytes"
	"cmp"
	"context"
	"slices"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
)

// Tx finds a transaction that pays, or spends from, a script that is looked for.
func (v View) Tx(txid chainhash.Hash) (f Found, ok bool) {
	s := v.s
	if s.index == nil {
		s.index = map[chainhash.Hash]Found{}
		for _, t := range s.tracks {
			for _, f := range t.hits {
				s.index[f.Tx.TxHash()] = f
			}
		}
	}
	f, ok = s.index[txid]
	return f, ok
}

// Search looks for a script from the usual height on, and from now on at every tip. Errors: chain.ErrUnavailable.
func (v View) Search(ctx context.Context, pkScript []byte) error {
	_, err := v.search(ctx, pkScript, v.s.start(v.Tip.Height))
	return err
}

func (v View) search(ctx context.Context, pkScript []byte, from uint32) (*track, error) {
	t := v.s.track(pkScript, from)
	return t, v.s.catchUp(ctx, v.Tip)
}

// Spend finds what spends an output; known says that the output's transaction, and so its script, is known. out is
// that transaction where the caller knows it and this package may not; nil otherwise.
func (v View) Spend(ctx context.Context, op wire.OutPoint, out *Found) (f Found, vin uint32, spent, known bool, err error) {
	parent, ok := v.Tx(op.Hash)
	if !ok && out != nil {
		parent, ok = *out, true
	}
	if !ok {
		return f, 0, false, false, nil
	}
	if int64(op.Index) >= int64(len(parent.Tx.TxOut)) {
		return f, 0, false, true, nil
	}
	t, err := v.search(ctx, parent.Tx.TxOut[op.Index].PkScript, parent.Height)
	if err != nil {
		return f, 0, false, true, err
	}
	f, vin, spent = t.spent(op)
	return f, vin, spent, true, nil
}

// Coins are the outputs in blocks that pay a script and that no block spends, by height. Errors:
// chain.ErrUnavailable.
func (v View) Coins(ctx context.Context, pkScript []byte) ([]chain.UTXO, error) {
	t, err := v.search(ctx, pkScript, v.s.start(v.Tip.Height))
	if err != nil {
		return nil, err
	}
	spent := map[wire.OutPoint]bool{}
	for _, f := range t.hits {
		for _, in := range f.Tx.TxIn {
			spent[in.PreviousOutPoint] = true
		}
	}
	all := []chain.UTXO{}
	for _, f := range t.hits {
		id := f.Tx.TxHash()
		for i, out := range f.Tx.TxOut {
			op := wire.OutPoint{Hash: id, Index: uint32(i)}
			if bytes.Equal(out.PkScript, pkScript) && !spent[op] {
				all = append(all, chain.UTXO{Outpoint: op, Value: out.Value, PkScript: bytes.Clone(pkScript), Confirmed: true, Height: f.Height})
			}
		}
	}
	slices.SortStableFunc(all, func(a, b chain.UTXO) int { return cmp.Compare(a.Height, b.Height) })
	return all, nil
}

// History are the transactions in blocks that pay a script, or spend what paid it, newest first. Errors:
// chain.ErrUnavailable.
func (v View) History(ctx context.Context, pkScript []byte) ([]Found, error) {
	t, err := v.search(ctx, pkScript, v.s.start(v.Tip.Height))
	if err != nil {
		return nil, err
	}
	all := slices.Clone(t.hits)
	slices.Reverse(all)
	return all, nil
}

// Block is a block of the chain, checked. Errors: chain.ErrUnavailable.
func (v View) Block(ctx context.Context, hash chainhash.Hash) (*wire.MsgBlock, error) {
	return v.s.block(ctx, hash)
}

// Last are the hashes of the newest blocks, oldest first, as far as they are remembered.
func (v View) Last(count int) []chainhash.Hash {
	return slices.Clone(v.s.hashes[max(0, len(v.s.hashes)-count):])
}
