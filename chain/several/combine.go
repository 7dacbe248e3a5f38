package several

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
)

// seen is an answer together with the tip that it was given at.
type seen[T any] struct {
	tip   uint32
	value T
}

// at asks for a thing and the tip, so that depths of different backends can be compared. A tip that moves in between
// makes the depth one less or more for a moment; the lower tip counts, so it is never more.
func at[T any](q func(context.Context, chain.Backend) (T, error)) func(context.Context, chain.Backend) (seen[T], error) {
	return func(ctx context.Context, c chain.Backend) (s seen[T], err error) {
		tip, err := c.Tip(ctx)
		if err != nil {
			return s, err
		}
		s.tip = tip.Height
		s.value, err = q(ctx, c)
		return s, err
	}
}

// depth is how many blocks deep a height is, at least one.
func depth(tip, height uint32) uint32 {
	if height > tip {
		return 1
	}
	return tip - height + 1
}

// shifted is the height that gives a depth under the highest tip.
func shifted(top, depth uint32) uint32 {
	return top - min(depth, top) + 1
}

// maxAgreed is how many transactions are remembered that all had confirmed.
const maxAgreed = 8_192

// remember takes down that all have a transaction in one block, or that they have it no longer.
func (b *Backend) remember(id, block chainhash.Hash, all bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case !all:
		delete(b.agreed, id)
	case len(b.agreed) >= maxAgreed && b.agreed[id] == chainhash.Hash{}:
		for old := range b.agreed {
			delete(b.agreed, old)
			break
		}
		fallthrough
	default:
		b.agreed[id] = block
	}
}

func (b *Backend) agreedOn(id, block chainhash.Hash) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	had, ok := b.agreed[id]
	return ok && had == block
}

// Tx implements chain.Backend: seen when one shows it, confirmed when all do, as deep as the least says. While a
// backend can't be asked, what all had in a block before stays confirmed in it.
func (b *Backend) Tx(ctx context.Context, txid chainhash.Hash) (chain.TxInfo, error) {
	said, down, err := ask(ctx, b, "transaction", at(func(ctx context.Context, c chain.Backend) (chain.TxInfo, error) { return c.Tx(ctx, txid) }))
	if err != nil {
		return chain.TxInfo{}, err
	}
	if said, err = b.askByScript(ctx, txid, said); err != nil {
		return chain.TxInfo{}, err
	}
	info, ok := b.mergeTx(txid, said, down)
	if !ok {
		return chain.TxInfo{}, said[0].err
	}
	return info, nil
}

// askByScript asks those again who find transactions by their scripts alone, once another has shown what they are.
func (b *Backend) askByScript(ctx context.Context, txid chainhash.Hash, said []answer[seen[chain.TxInfo]]) ([]answer[seen[chain.TxInfo]], error) {
	var tx *wire.MsgTx
	missing := false
	for _, a := range said {
		if a.err == nil && a.value.value.Confirmed && a.value.value.Tx != nil && a.value.value.Tx.TxHash() == txid {
			tx = a.value.value.Tx
		}
		missing = missing || a.err != nil
	}
	if tx == nil || !missing {
		return said, nil
	}
	for i, a := range said {
		h, ok := b.member(a.name).(chain.ScriptHinter)
		if a.err == nil || !ok {
			continue
		}
		for _, out := range tx.TxOut[:min(len(tx.TxOut), mostHints)] {
			h.HintScripts(out.PkScript)
		}
		again, err := b.member(a.name).Tx(ctx, txid)
		switch {
		case err == nil:
			said[i].value.value, said[i].err = again, nil
		case ctx.Err() != nil:
			return nil, fmt.Errorf("%w: transaction: %w", chain.ErrUnavailable, ctx.Err())
		}
	}
	return said, nil
}

// mostHints is how many outputs of a transaction are searched for by their scripts.
const mostHints = 4

func (b *Backend) member(name string) chain.Backend {
	for _, m := range b.cfg.Members {
		if m.Name == name {
			return m.Backend
		}
	}
	return nil
}

// mergeTx makes one answer of several about a transaction; ok is false where nobody shows it.
func (b *Backend) mergeTx(txid chainhash.Hash, said []answer[seen[chain.TxInfo]], down int) (info chain.TxInfo, ok bool) {
	var shown, confirmed []answer[seen[chain.TxInfo]]
	top := uint32(0)
	for _, a := range said {
		top = max(top, b.plausible(a.value.tip))
		if a.err != nil || a.value.value.Tx == nil || a.value.value.Tx.TxHash() != txid {
			continue
		}
		shown = append(shown, a)
		if a.value.value.Confirmed {
			confirmed = append(confirmed, a)
		}
	}
	sameBlock := true
	for _, a := range confirmed {
		sameBlock = sameBlock && a.value.value.BlockHash == confirmed[0].value.value.BlockHash
	}
	could := len(said) // who could show it
	if len(confirmed) == 0 {
		could = len(those(said, seesMempool))
	}
	differ := len(shown) != 0 && len(shown) != could || len(confirmed) != 0 && len(confirmed) != len(said) || !sameBlock
	b.note(subject{Transaction, "", txid.String()}, differ, func() string { return tellTx(said) })
	if len(shown) == 0 {
		return info, false
	}
	info = chain.TxInfo{Tx: shown[0].value.value.Tx.Copy()}
	all := len(confirmed) == len(said) && len(confirmed) > 0
	if down == 0 {
		b.remember(txid, first(confirmed).BlockHash, all && sameBlock)
	} else if all {
		all = sameBlock && b.agreedOn(txid, first(confirmed).BlockHash)
	}
	if !all {
		return info, true
	}
	shallow := slices.MinFunc(confirmed, func(x, y answer[seen[chain.TxInfo]]) int {
		return cmp.Compare(depth(x.value.tip, x.value.value.Height), depth(y.value.tip, y.value.value.Height))
	})
	info.Confirmed, info.BlockHash = true, shallow.value.value.BlockHash
	info.Height = shifted(top, depth(shallow.value.tip, shallow.value.value.Height))
	return info, true
}

func first(confirmed []answer[seen[chain.TxInfo]]) chain.TxInfo {
	if len(confirmed) == 0 {
		return chain.TxInfo{}
	}
	return confirmed[0].value.value
}

func tellTx(said []answer[seen[chain.TxInfo]]) string {
	text := ""
	for _, a := range said {
		where := "in the mempool"
		switch {
		case a.err != nil:
			where = "not there"
		case a.value.value.Confirmed:
			where = fmt.Sprintf("in block %d", a.value.value.Height)
		}
		text += fmt.Sprintf("; %s: %s", a.name, where)
	}
	return text[2:]
}

// Spend implements chain.Backend: a spend counts when one shows it, and is confirmed when all show the same one
// confirmed. Where they show different ones, that which somebody has in a block counts, unconfirmed.
func (b *Backend) Spend(ctx context.Context, op wire.OutPoint) (*chain.Spend, error) {
	said, down, err := ask(ctx, b, "spend", at(func(ctx context.Context, c chain.Backend) (*chain.Spend, error) { return c.Spend(ctx, op) }))
	if err != nil {
		return nil, err
	}
	var best *chain.Spend
	top, least, confirmed := uint32(0), ^uint32(0), 0
	for _, a := range said {
		s := a.value.value
		top = max(top, b.plausible(a.value.tip))
		if s == nil {
			continue
		}
		if s.Confirmed {
			confirmed++
			least = min(least, depth(a.value.tip, s.Height))
		}
		if best == nil || s.Confirmed && !best.Confirmed {
			best = s
		}
	}
	could := said // who could show it
	if confirmed == 0 {
		could = those(said, seesMempool)
	}
	b.note(subject{Spending, "", op.String()}, !sameSpend(could), func() string { return tellSpend(said) })
	if best == nil {
		return nil, nil
	}
	one := *best
	oneSpender := !slices.ContainsFunc(said, func(a answer[seen[*chain.Spend]]) bool {
		return a.value.value == nil || a.value.value.Txid != one.Txid || a.value.value.Vin != one.Vin
	})
	all := confirmed == len(said) && oneSpender
	if all && down > 0 { // the missing one may have agreed to it before
		info, err := b.Tx(ctx, one.Txid)
		if err != nil && !errors.Is(err, chain.ErrNotFound) {
			return nil, err
		}
		all = err == nil && info.Confirmed
	} else if all {
		if _, err := b.Tx(ctx, one.Txid); err != nil { // so that it is remembered
			return nil, err
		}
	}
	if one.Confirmed = all; all {
		one.Height = shifted(top, least)
	} else {
		one.Height = 0
	}
	return &one, nil
}

// sameSpend reports whether all say the same of an output.
func sameSpend(said []answer[seen[*chain.Spend]]) bool {
	for _, a := range said {
		s, first := a.value.value, said[0].value.value
		if (s == nil) != (first == nil) || s != nil && *s != *first {
			return false
		}
	}
	return true
}

func tellSpend(said []answer[seen[*chain.Spend]]) string {
	text := ""
	for _, a := range said {
		what := "unspent"
		if s := a.value.value; s != nil {
			what = "spent by " + s.Txid.String() + " in the mempool"
			if s.Confirmed {
				what = fmt.Sprintf("spent by %s in block %d", s.Txid, s.Height)
			}
		}
		text += fmt.Sprintf("; %s: %s", a.name, what)
	}
	return text[2:]
}

// UTXOs implements chain.Backend: the coins that all list, confirmed when all say so. One that can't be asked is left
// out here: who spends a coin that is none has a transaction that is refused, and no loss.
func (b *Backend) UTXOs(ctx context.Context, pkScript []byte) ([]chain.UTXO, error) {
	said, _, err := ask(ctx, b, "coins", at(func(ctx context.Context, c chain.Backend) ([]chain.UTXO, error) { return c.UTXOs(ctx, pkScript) }))
	if err != nil {
		return nil, err
	}
	type tally struct {
		coin      chain.UTXO
		listed    int
		mempool   int // of those that see the mempool
		confirmed int
		depth     uint32
	}
	watchers := len(those(said, seesMempool))
	coins, top := map[wire.OutPoint]*tally{}, uint32(0)
	for _, a := range said {
		top = max(top, b.plausible(a.value.tip))
		for _, u := range a.value.value {
			t := coins[u.Outpoint]
			if t == nil {
				t = &tally{coin: u, depth: ^uint32(0)}
				coins[u.Outpoint] = t
			}
			if u.Value != t.coin.Value {
				continue // it is not the same coin, so not all list it
			}
			t.listed++
			if a.can.Mempool || watchers == len(said) {
				t.mempool++
			}
			if u.Confirmed {
				t.confirmed++
				t.depth = min(t.depth, depth(a.value.tip, u.Height))
			}
		}
	}
	var all []chain.UTXO
	differ := 0
	for _, t := range coins {
		// Those that see no mempool do not list what is not in a block yet, and still list what is spent in none.
		need := len(said)
		if t.confirmed == 0 {
			need = watchers
		}
		if t.mempool != 0 && t.listed != need || t.confirmed != 0 && t.confirmed != t.listed {
			differ++
		}
		if t.listed != need {
			continue
		}
		u := t.coin
		u.Confirmed, u.Height = t.confirmed == len(said), 0
		if u.Confirmed {
			u.Height = shifted(top, t.depth)
		}
		all = append(all, u)
	}
	b.note(subject{Coins, "", fmt.Sprintf("%x", pkScript)}, differ > 0, func() string {
		return fmt.Sprintf("%d of %d coins are not the same for all", differ, len(coins))
	})
	slices.SortFunc(all, func(x, y chain.UTXO) int {
		if x.Confirmed != y.Confirmed {
			if x.Confirmed {
				return -1
			}
			return 1
		}
		return cmp.Or(cmp.Compare(x.Height, y.Height), cmp.Compare(x.Outpoint.String(), y.Outpoint.String()))
	})
	return all, nil
}

// History implements chain.Backend: what one lists, confirmed when all say so.
func (b *Backend) History(ctx context.Context, pkScript []byte) ([]chain.TxInfo, error) {
	said, _, err := ask(ctx, b, "history", func(ctx context.Context, c chain.Backend) ([]chain.TxInfo, error) { return c.History(ctx, pkScript) })
	if err != nil {
		return nil, err
	}
	asked := map[chainhash.Hash]bool{}
	var order []chainhash.Hash
	for _, a := range said {
		for _, i := range a.value {
			if id := i.Tx.TxHash(); !asked[id] {
				asked[id] = true
				order = append(order, id)
			}
		}
	}
	var all []chain.TxInfo
	for _, id := range order {
		// Backends that know no old history are no reason to doubt a transaction: all are asked for it by its txid.
		info, err := b.Tx(ctx, id)
		if errors.Is(err, chain.ErrNotFound) {
			continue // gone meanwhile
		}
		if err != nil {
			return nil, err
		}
		all = append(all, info)
	}
	slices.SortStableFunc(all, func(x, y chain.TxInfo) int {
		if x.Confirmed != y.Confirmed {
			if x.Confirmed {
				return 1
			}
			return -1
		}
		return cmp.Compare(y.Height, x.Height)
	})
	return all, nil
}
