package devnet

import (
	"bytes"
	"net/http"
	"strconv"

	"github.com/btcsuite/btcd/blockchain"
)

// blocksPage is how many blocks and transactions an Esplora gives at once.
const (
	blocksPage    = 10
	txsPage       = 25
	mempoolPage   = 50
	recentMempool = 10
)

type blockJSON struct {
	ID                string  `json:"id"`
	Height            uint32  `json:"height"`
	Version           int32   `json:"version"`
	Timestamp         int64   `json:"timestamp"`
	TxCount           int     `json:"tx_count"`
	Size              int     `json:"size"`
	Weight            int64   `json:"weight"`
	MerkleRoot        string  `json:"merkle_root"`
	PreviousBlockHash *string `json:"previousblockhash"`
	MedianTime        int64   `json:"mediantime"`
	Nonce             uint32  `json:"nonce"`
	Bits              uint32  `json:"bits"`
	Difficulty        float64 `json:"difficulty"`
}

func (b *block) json() blockJSON {
	h := &b.msg.Header
	j := blockJSON{
		ID: b.hash.String(), Height: b.height, Version: h.Version, Timestamp: h.Timestamp.Unix(),
		TxCount: len(b.msg.Transactions), Size: b.size, Weight: b.weight, MerkleRoot: h.MerkleRoot.String(),
		MedianTime: b.median, Nonce: h.Nonce, Bits: h.Bits, Difficulty: difficulty(h.Bits),
	}
	if b.height > 0 {
		prev := h.PrevBlock.String()
		j.PreviousBlockHash = &prev
	}
	return j
}

// difficulty is how much harder a target is than the easiest one of the main network.
func difficulty(bits uint32) float64 {
	easiest, _ := blockchain.CompactToBig(0x1d00ffff).Float64()
	target, _ := blockchain.CompactToBig(bits).Float64()
	return easiest / target
}

func (n *Node) getTipHeight(r *http.Request) (any, error) {
	return n.view(r, func(x *index) (any, error) { return strconv.Itoa(len(x.main) - 1), nil })
}

func (n *Node) getTipHash(r *http.Request) (any, error) {
	return n.view(r, func(x *index) (any, error) { return x.tip().hash.String(), nil })
}

func (n *Node) getBlocks(r *http.Request) (any, error) {
	return n.view(r, func(x *index) (any, error) {
		start := x.tip().height
		if r.PathValue("start") != "" {
			s, err := pathNumber(r, "start")
			if err != nil {
				return nil, err
			}
			start = min(start, s)
		}
		all := []blockJSON{}
		for h := int(start); h >= 0 && len(all) < blocksPage; h-- {
			all = append(all, x.main[h].json())
		}
		return all, nil
	})
}

func (n *Node) getBlockHeight(r *http.Request) (any, error) {
	height, err := pathNumber(r, "height")
	if err != nil {
		return nil, err
	}
	return n.view(r, func(x *index) (any, error) {
		if uint64(height) >= uint64(len(x.main)) {
			return nil, httpErrorf(http.StatusNotFound, "Block not found")
		}
		return x.main[height].hash.String(), nil
	})
}

// viewBlock answers about one block, of the best chain or of an undone branch.
func (n *Node) viewBlock(r *http.Request, fn func(*index, *block) (any, error)) (any, error) {
	h, err := pathHash(r, "hash")
	if err != nil {
		return nil, err
	}
	return n.view(r, func(x *index) (any, error) {
		b, ok := x.blocks[h]
		if !ok {
			return nil, httpErrorf(http.StatusNotFound, "Block not found")
		}
		return fn(x, b)
	})
}

func (n *Node) getBlock(r *http.Request) (any, error) {
	return n.viewBlock(r, func(_ *index, b *block) (any, error) { return b.json(), nil })
}

func (n *Node) getBlockHeader(r *http.Request) (any, error) {
	return n.viewBlock(r, func(_ *index, b *block) (any, error) {
		var buf bytes.Buffer
		err := b.msg.Header.Serialize(&buf)
		return hexOf(buf.Bytes()), err
	})
}

func (n *Node) getBlockRaw(r *http.Request) (any, error) {
	return n.viewBlock(r, func(_ *index, b *block) (any, error) {
		var buf bytes.Buffer
		err := b.msg.Serialize(&buf)
		return buf.Bytes(), err
	})
}

type blockStatusJSON struct {
	InBestChain bool    `json:"in_best_chain"`
	Height      *uint32 `json:"height"`
	NextBest    *string `json:"next_best"`
}

func (n *Node) getBlockStatus(r *http.Request) (any, error) {
	return n.viewBlock(r, func(x *index, b *block) (any, error) {
		if uint64(b.height) >= uint64(len(x.main)) || x.main[b.height] != b {
			return blockStatusJSON{}, nil
		}
		s := blockStatusJSON{InBestChain: true, Height: &b.height}
		if int(b.height)+1 < len(x.main) {
			next := x.main[b.height+1].hash.String()
			s.NextBest = &next
		}
		return s, nil
	})
}

func (n *Node) getBlockTxids(r *http.Request) (any, error) {
	return n.viewBlock(r, func(_ *index, b *block) (any, error) {
		ids := make([]string, len(b.msg.Transactions))
		for i, tx := range b.msg.Transactions {
			ids[i] = tx.TxHash().String()
		}
		return ids, nil
	})
}

func (n *Node) getBlockTxid(r *http.Request) (any, error) {
	i, err := pathNumber(r, "index")
	if err != nil {
		return nil, err
	}
	return n.viewBlock(r, func(_ *index, b *block) (any, error) {
		if uint64(i) >= uint64(len(b.msg.Transactions)) {
			return nil, httpErrorf(http.StatusNotFound, "tx not found")
		}
		return b.msg.Transactions[i].TxHash().String(), nil
	})
}

func (n *Node) getBlockTxs(r *http.Request) (any, error) {
	var start uint32
	if r.PathValue("start") != "" {
		var err error
		if start, err = pathNumber(r, "start"); err != nil {
			return nil, err
		}
	}
	if start%txsPage != 0 {
		return nil, httpErrorf(http.StatusBadRequest, "start index must be a multipication of %d", txsPage)
	}
	return n.viewBlock(r, func(x *index, b *block) (any, error) {
		if uint64(start) >= uint64(len(b.msg.Transactions)) {
			return nil, httpErrorf(http.StatusBadRequest, "start index out of range")
		}
		all := []txJSON{}
		for _, tx := range b.msg.Transactions[start:] {
			e, ok := x.txs[tx.TxHash()]
			if !ok || e.block != b { // of an undone branch, or the genesis coinbase
				e = &entry{id: tx.TxHash(), tx: tx, prev: x.prevouts(tx)}
			}
			if all = append(all, e.json(n.params)); len(all) == txsPage {
				break
			}
		}
		return all, nil
	})
}
