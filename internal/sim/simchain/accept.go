package simchain

import (
	"fmt"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/script"
)

const (
	maxMoney     = 21_000_000 * 100_000_000 // sat
	relayFloor   = script.FeeRate(1_000)    // sat per 1000 vB
	lockTimeline = 500_000_000              // an nLockTime from here on is a time
	relativeOff  = 1 << 31                  // BIP68: this sequence is no lock
	relativeTime = 1 << 22                  // BIP68: it counts units of 512 seconds
)

// refuse is a node's refusal.
func refuse(format string, args ...any) error {
	return &chain.RejectError{Reason: fmt.Sprintf(format, args...)}
}

// origin is where a transaction comes from that the mempool is asked to take.
type origin int

const (
	fresh  origin = iota // from outside
	undone               // from an undone block: its fee and its scripts were judged before
	stayed               // from the mempool, while blocks were undone: its place there too
)

// judge tells whether the mempool takes a transaction, and which ones it takes the
// place of. Errors: *chain.RejectError.
func (c *Chain) judge(tx *wire.MsgTx, id chainhash.Hash, from origin) (*entry, map[chainhash.Hash]bool, error) {
	e := &entry{id: id, tx: tx}
	stripped := tx.SerializeSizeStripped()
	e.weight = int64(3*stripped + tx.SerializeSize())
	direct, err := c.check(e, stripped)
	if err != nil {
		return nil, nil, err
	}
	gone, err := c.policy(e, direct, from)
	if err != nil {
		return nil, nil, err
	}
	if from != fresh || c.SkipScripts {
		return e, gone, nil
	}
	return e, gone, execute(e)
}

// check asks everything but fees and scripts, in the order in which the node whose
// rules these are asks it, and finds the transactions in conflict.
func (c *Chain) check(e *entry, stripped int) (direct []*entry, err error) {
	small := func() error {
		if stripped < 65 {
			return refuse("tx-size-small")
		}
		return nil
	}
	finished := func() error {
		if !c.final(e.tx) {
			return refuse("non-final")
		}
		return nil
	}
	unlocked := func() error {
		if !c.unlocked(e.tx) {
			return refuse("non-BIP68-final")
		}
		return nil
	}
	conflicts := func() error {
		direct, err = c.conflicts(e.tx)
		return err
	}
	checks := []func() error{
		func() error { return sane(e) }, func() error { return version(e.tx) }, func() error { return form(e, c.Rules) }, small, finished, conflicts,
		func() error { return c.fetch(e) }, unlocked, func() error { return worth(e) }, func() error { return spends(e) },
		func() error { return ephemeral(e) },
	}
	if c.Rules == Embedded {
		checks = []func() error{
			small, func() error { return sane(e) }, conflicts, func() error { return c.fetch(e) }, func() error { return worth(e) },
			func() error { return version(e.tx) }, finished, func() error { return form(e, c.Rules) }, func() error { return spends(e) }, unlocked,
		}
	}
	for _, ask := range checks {
		if err := ask(); err != nil {
			return nil, err
		}
	}
	return direct, nil
}

// sane holds for every transaction, in a block too.
func sane(e *entry) error {
	tx := e.tx
	switch {
	case len(tx.TxIn) == 0:
		return refuse("bad-txns-vin-empty")
	case len(tx.TxOut) == 0:
		return refuse("bad-txns-vout-empty")
	case e.weight > 4_000_000:
		return refuse("bad-txns-oversize")
	}
	var total int64
	for _, out := range tx.TxOut {
		switch {
		case out.Value < 0:
			return refuse("bad-txns-vout-negative")
		case out.Value > maxMoney:
			return refuse("bad-txns-vout-toolarge")
		}
		if total += out.Value; total > maxMoney {
			return refuse("bad-txns-txouttotal-toolarge")
		}
	}
	for i, in := range tx.TxIn {
		if in.PreviousOutPoint.Index == wire.MaxPrevOutIndex && in.PreviousOutPoint.Hash == (chainhash.Hash{}) {
			return refuse("coinbase")
		}
		for _, other := range tx.TxIn[:i] {
			if other.PreviousOutPoint == in.PreviousOutPoint {
				return refuse("bad-txns-inputs-duplicate")
			}
		}
	}
	return nil
}

// conflicts are the transactions of the mempool that spend the same outputs.
func (c *Chain) conflicts(tx *wire.MsgTx) (found []*entry, err error) {
	for _, in := range tx.TxIn {
		s, ok := c.spends[in.PreviousOutPoint]
		if !ok || c.txs[s.e.id].height > 0 {
			continue
		}
		if c.Rules == Embedded && !c.signals(s.e) {
			return nil, refuse("txn-mempool-conflict")
		}
		found = append(found, s.e)
	}
	return found, nil
}

// signals tells whether a transaction of the mempool, or one that it hangs on, asks
// to be replaceable. BIP125.
func (c *Chain) signals(e *entry) bool {
	for _, in := range e.tx.TxIn {
		if in.Sequence <= 0xfffffffd {
			return true
		}
		if p, ok := c.txs[in.PreviousOutPoint.Hash]; ok && p.height == 0 && c.signals(p.e) {
			return true
		}
	}
	return false
}

// output is an output that blocks or the mempool have made and no block has spent,
// and its height, 0 in the mempool; nil where there is none.
func (c *Chain) output(op wire.OutPoint) (*wire.TxOut, uint32) {
	if s, ok := c.spends[op]; ok && c.txs[s.e.id].height > 0 {
		return nil, 0
	}
	if out := c.coins[op]; out != nil {
		return out, c.first
	}
	p, ok := c.txs[op.Hash]
	if !ok || uint64(op.Index) >= uint64(len(p.e.tx.TxOut)) {
		return nil, 0
	}
	out := p.e.tx.TxOut[op.Index]
	if txscript.IsUnspendable(out.PkScript) {
		return nil, 0
	}
	return out, p.height
}

// fetch finds what a transaction spends.
func (c *Chain) fetch(e *entry) error {
	e.prev = make([]*wire.TxOut, len(e.tx.TxIn))
	for i, in := range e.tx.TxIn {
		out, _ := c.output(in.PreviousOutPoint)
		if out == nil {
			return refuse("bad-txns-inputs-missingorspent")
		}
		e.prev[i] = out
	}
	return nil
}

// worth finds the fee.
func worth(e *entry) error {
	e.fee = 0
	for _, out := range e.prev {
		if e.fee += out.Value; out.Value < 0 || e.fee > maxMoney {
			return refuse("bad-txns-inputvalues-outofrange")
		}
	}
	for _, out := range e.tx.TxOut {
		e.fee -= out.Value
	}
	if e.fee < 0 {
		return refuse("bad-txns-in-belowout")
	}
	return nil
}

// final tells whether a transaction may be in the next block. BIP113.
func (c *Chain) final(tx *wire.MsgTx) bool { return final(tx, c.tip()) }

// final tells whether a transaction's own lock lets it into the block after another.
func final(tx *wire.MsgTx, last *block) bool {
	limit := int64(last.height) + 1
	if tx.LockTime >= lockTimeline {
		limit = last.median
	}
	if tx.LockTime == 0 || int64(tx.LockTime) < limit {
		return true
	}
	for _, in := range tx.TxIn {
		if in.Sequence != wire.MaxTxInSequenceNum {
			return false
		}
	}
	return true
}

// unlocked tells whether all relative locks are over in the next block. BIP68.
func (c *Chain) unlocked(tx *wire.MsgTx) bool {
	if uint32(tx.Version) < 2 {
		return true
	}
	next := c.tip().height + 1
	for _, in := range tx.TxIn {
		if in.Sequence&relativeOff != 0 {
			continue
		}
		_, height := c.output(in.PreviousOutPoint)
		if height == 0 {
			height = next
		}
		blocks := in.Sequence & 0xffff
		if in.Sequence&relativeTime == 0 {
			if height+blocks > next {
				return false
			}
			continue
		}
		before := c.at(max(height-1, c.first))
		if before.median+int64(blocks)<<9 > c.tip().median {
			return false
		}
	}
	return true
}

// execute runs every input's script.
func execute(e *entry) error {
	prevouts := make(map[wire.OutPoint]*wire.TxOut, len(e.prev))
	for i, in := range e.tx.TxIn {
		prevouts[in.PreviousOutPoint] = e.prev[i]
	}
	if err := script.Execute(e.tx, prevouts); err != nil {
		return refuse("mempool-script-verify-flag-failed (%v)", err)
	}
	return nil
}
