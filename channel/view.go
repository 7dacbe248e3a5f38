package channel

import (
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/script"
)

// View is what the chain says of one channel at one tip. It is asked for anew
// each time: a reorg is nothing but another view.
type View struct {
	Tip     uint32
	Rate    script.FeeRate // going rate, sat per 1000 vB
	Funding FundingView
	Spend   *SpendView // what spends the funding output; nil: unspent
}

// FundingView is where T1 stands.
type FundingView struct {
	Seen   bool   // in the mempool or in a block
	Height uint32 // 0: not in a block
	// ConflictDepth is how many blocks lie on top of (and with) a transaction
	// that spends an input of T1 elsewhere; 0: none is known.
	ConflictDepth uint32
}

// SpendView is what spends the funding output.
type SpendView struct {
	Txid   string
	Height uint32 // 0: in the mempool
	Lock   uint32 // its nLockTime; the highest where nobody knows who signed it
	// Tx is the transaction itself, and Vin the input of it that spends the output, where
	// it is in a block and could be had; nil else.
	Tx  *wire.MsgTx
	Vin uint32
	// Fee (sat) and VSize (vB) of a spend in the mempool, where they are known:
	// what replaces it has to pay more.
	Fee, VSize int64
	// Leaves is what it leaves to the payee before its fee: the capacity less what goes
	// to the payer's rest script (sat), where the payee signed the whole of it; of a refund
	// it means nothing. 0: it is not known.
	Leaves int64
	// ChildFee (sat) and ChildVSize (vB) are those of the unconfirmed transactions that
	// spend its outputs: what replaces it evicts them as well.
	ChildFee, ChildVSize int64
}

// rate is a spend's own fee rate in the mempool, 0 where it is not known.
func (s *SpendView) rate() script.FeeRate {
	if s.VSize <= 0 || s.Fee < 0 || s.Fee > MaxSat {
		return 0
	}
	return script.FeeRate(s.Fee * 1000 / s.VSize)
}

// outbid is the least rate at which a transaction of this size (vB) replaces
// what spends the output in the mempool: a higher rate, and a fee that pays for
// all that is evicted, what hangs on it too, and for itself (BIP125). 0 where there is nothing to replace.
func (v View) outbid(size int64) script.FeeRate {
	if v.Spend == nil || v.Spend.Height > 0 || v.Spend.VSize <= 0 || v.Spend.Fee < 0 || v.Spend.Fee > MaxSat || size <= 0 {
		return 0
	}
	both := (v.Spend.Fee+min(max(v.Spend.ChildFee, 0), MaxSat)+size-1)*1000/size + 1
	above := v.Spend.Fee*1000/v.Spend.VSize + 1
	return script.FeeRate(max(both, above))
}

// Depth is the number of confirmations of T1, 0 while it is in no block.
func (v View) Depth() uint32 { return depth(v.Tip, v.Funding.Height) }

// SpendDepth is the number of confirmations of the spend, 0 while unconfirmed.
func (v View) SpendDepth() uint32 {
	if v.Spend == nil {
		return 0
	}
	return depth(v.Tip, v.Spend.Height)
}

func depth(tip, height uint32) uint32 {
	if height == 0 || height > tip {
		return 0
	}
	return tip - height + 1
}
