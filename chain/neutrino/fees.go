package neutrino

import (
	"context"
	"sync"

	"github.com/btcsuite/btcd/blockchain"
	"github.com/btcsuite/btcd/btcutil/v2"
	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/chain/internal/scan"
	"github.com/spillway/spillway/script"
)

// feeBlocks is how many of the newest blocks the guess is made from.
const feeBlocks = 3

// fees remembers what the guess at a tip was made of.
type fees struct {
	mu   sync.Mutex
	tip  chainhash.Hash
	paid script.FeeRate // of the newest blocks together
	of   map[chainhash.Hash]blockFees
}

// blockFees are what a block's transactions paid for their size.
type blockFees struct{ sat, vsize int64 }

// fullBlock is from how many vB on a block leaves nobody any choice but to pay as much as the others.
const fullBlock = 900_000

// FeeRate implements chain.Backend. It is no estimate but a guess from what the transactions of the newest three
// blocks paid on average, as if every block had been full: where there is room, the floor will do, whatever some
// paid. Half as much again is named for the next two blocks, a quarter more for the next six, a quarter less
// for more than a day. A miner could pay itself any fee: Config.MaxFeeRate caps the guess.
func (c *Client) FeeRate(ctx context.Context, blocks int) (script.FeeRate, error) {
	var paid script.FeeRate
	err := c.scan.At(ctx, func(v scan.View) (err error) {
		paid, err = c.paidLast(ctx, v)
		return err
	})
	if err != nil {
		return 0, err
	}
	switch blocks = chain.ClampTarget(blocks); {
	case blocks <= 2:
		paid = paid * 3 / 2
	case blocks <= 6:
		paid = paid * 5 / 4
	case blocks > 144:
		paid = paid * 3 / 4
	}
	return chain.ClampFeeRate(min(max(paid, c.cfg.MinFeeRate), c.cfg.MaxFeeRate)), nil
}

// paidLast is what the newest blocks' transactions paid on average, as if the blocks had been full.
func (c *Client) paidLast(ctx context.Context, v scan.View) (script.FeeRate, error) {
	c.fees.mu.Lock()
	defer c.fees.mu.Unlock()
	if c.fees.tip == v.Tip.Hash {
		return c.fees.paid, nil
	}
	now, all := map[chainhash.Hash]blockFees{}, []blockFees{}
	last := v.Last(feeBlocks)
	for i, hash := range last {
		f, known := c.fees.of[hash]
		if !known {
			b, err := v.Block(ctx, hash)
			if err != nil {
				return 0, err
			}
			f = feesOf(b, v.Tip.Height-uint32(len(last)-1-i), c.cfg.Network)
		}
		now[hash] = f
		all = append(all, f)
	}
	c.fees.of, c.fees.tip, c.fees.paid = now, v.Tip.Hash, average(all)
	return c.fees.paid, nil
}

// average is what blocks paid together.
func average(all []blockFees) script.FeeRate {
	var sat, vsize int64
	for _, f := range all {
		if f.vsize > 0 { // an empty block was found too soon to say anything
			sat, vsize = sat+min(f.sat, mostFees), vsize+max(f.vsize, fullBlock)
		}
	}
	if vsize == 0 {
		return chain.MinFeeRate
	}
	return chain.ClampFeeRate(script.FeeRate(sat * 1000 / vsize))
}

// mostFees (sat) is more than a block pays at the highest rate that is ever named.
const mostFees = 21_000_000_000

// feesOf is what a block's transactions paid: what its reward takes beyond the subsidy.
func feesOf(b *wire.MsgBlock, height uint32, params *chaincfg.Params) (f blockFees) {
	if len(b.Transactions) < 2 {
		return f
	}
	for _, out := range b.Transactions[0].TxOut {
		f.sat += out.Value
	}
	f.sat = max(0, f.sat-blockchain.CalcBlockSubsidy(int32(height), params))
	for _, tx := range b.Transactions[1:] {
		f.vsize += (blockchain.GetTransactionWeight(btcutil.NewTx(tx)) + 3) / 4
	}
	return f
}
