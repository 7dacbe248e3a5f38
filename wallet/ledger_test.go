package wallet

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/script"
)

// ledger is a chain in a test's hands: it takes what is valid under standard
// flags, pays 1 sat/vB at least and conflicts with nothing that pays as much, and
// it mines and forgets when told to.
type ledger struct {
	mu     sync.Mutex
	height uint32
	txs    map[chainhash.Hash]chain.TxInfo
	spends map[wire.OutPoint]chainhash.Hash
	seq    int64
	down   bool  // ErrUnavailable for every question
	lossy  bool  // a broadcast arrives, its answer does not
	refuse error // the answer to the next broadcast
}

func newLedger() *ledger {
	return &ledger{height: 200, txs: map[chainhash.Hash]chain.TxInfo{}, spends: map[wire.OutPoint]chainhash.Hash{}}
}

// pays creates coins: a transaction from nowhere, confirmed or not.
func (l *ledger) pays(pk []byte, sat int64, confirmed bool) wire.OutPoint {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seq++
	tx := wire.NewMsgTx(2)
	tx.AddTxIn(&wire.TxIn{PreviousOutPoint: wire.OutPoint{Hash: chainhash.Hash{0xee}, Index: uint32(l.seq)}})
	tx.AddTxOut(wire.NewTxOut(sat, pk))
	info := chain.TxInfo{Tx: tx, Confirmed: confirmed}
	if confirmed {
		info.Height = l.height
	}
	l.txs[tx.TxHash()] = info
	return wire.OutPoint{Hash: tx.TxHash()}
}

// mints creates a block reward in the newest block.
func (l *ledger) mints(pk []byte, sat int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seq++
	tx := wire.NewMsgTx(2)
	tx.AddTxIn(&wire.TxIn{PreviousOutPoint: wire.OutPoint{Index: wire.MaxPrevOutIndex}, SignatureScript: []byte{1, byte(l.seq)}})
	tx.AddTxOut(wire.NewTxOut(sat, pk))
	l.txs[tx.TxHash()] = chain.TxInfo{Tx: tx, Confirmed: true, Height: l.height}
}

// mine puts the mempool into the next block and adds blocks behind it.
func (l *ledger) mine(blocks uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for txid, info := range l.txs {
		if !info.Confirmed {
			info.Confirmed, info.Height = true, l.height+1
			l.txs[txid] = info
		}
	}
	l.height += blocks
}

// reorg takes blocks away; what they held is in the mempool again.
func (l *ledger) reorg(blocks uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.height -= blocks
	for txid, info := range l.txs {
		if info.Height > l.height {
			info.Confirmed, info.Height = false, 0
			l.txs[txid] = info
		}
	}
}

// drop takes a transaction out of the mempool.
func (l *ledger) drop(txid chainhash.Hash) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.forget(txid)
}

func (l *ledger) forget(txid chainhash.Hash) {
	info, ok := l.txs[txid]
	if !ok {
		return
	}
	delete(l.txs, txid)
	for _, in := range info.Tx.TxIn {
		delete(l.spends, in.PreviousOutPoint)
	}
	for i := range info.Tx.TxOut {
		if child, ok := l.spends[wire.OutPoint{Hash: txid, Index: uint32(i)}]; ok {
			l.forget(child)
		}
	}
}

func (l *ledger) ask() error {
	if l.down {
		return fmt.Errorf("%w: switched off", chain.ErrUnavailable)
	}
	return nil
}

func (l *ledger) Tip(context.Context) (chain.Tip, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return chain.Tip{Height: l.height}, l.ask()
}

func (l *ledger) Tx(_ context.Context, txid chainhash.Hash) (chain.TxInfo, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	info, ok := l.txs[txid]
	if err := l.ask(); err != nil || !ok {
		return info, cmpErr(err, chain.ErrNotFound)
	}
	return info, nil
}

func cmpErr(err, other error) error {
	if err != nil {
		return err
	}
	return other
}

func (l *ledger) Spend(_ context.Context, op wire.OutPoint) (*chain.Spend, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	txid, ok := l.spends[op]
	if err := l.ask(); err != nil || !ok {
		return nil, err
	}
	info := l.txs[txid]
	return &chain.Spend{Txid: txid, Confirmed: info.Confirmed, Height: info.Height}, nil
}

func (l *ledger) UTXOs(_ context.Context, pk []byte) ([]chain.UTXO, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var outs []chain.UTXO
	for txid, info := range l.txs {
		for i, out := range info.Tx.TxOut {
			op := wire.OutPoint{Hash: txid, Index: uint32(i)}
			if _, spent := l.spends[op]; !spent && bytes.Equal(out.PkScript, pk) {
				outs = append(outs, chain.UTXO{Outpoint: op, Value: out.Value, PkScript: out.PkScript, Confirmed: info.Confirmed, Height: info.Height})
			}
		}
	}
	return outs, l.ask()
}

func (l *ledger) History(_ context.Context, pk []byte) ([]chain.TxInfo, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	found := map[chainhash.Hash]chain.TxInfo{}
	for txid, info := range l.txs {
		for _, out := range info.Tx.TxOut {
			if bytes.Equal(out.PkScript, pk) {
				found[txid] = info
			}
		}
		for _, in := range info.Tx.TxIn {
			parent, ok := l.txs[in.PreviousOutPoint.Hash]
			if ok && bytes.Equal(parent.Tx.TxOut[in.PreviousOutPoint.Index].PkScript, pk) {
				found[txid] = info
			}
		}
	}
	return slices.Collect(maps.Values(found)), l.ask()
}

func reject(format string, args ...any) error {
	return &chain.RejectError{Reason: fmt.Sprintf(format, args...)}
}

func (l *ledger) Broadcast(_ context.Context, tx *wire.MsgTx) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.ask(); err != nil {
		return err
	}
	if l.refuse != nil {
		err := l.refuse
		l.refuse = nil
		return err
	}
	if _, known := l.txs[tx.TxHash()]; known {
		return nil
	}
	if err := l.accept(tx); err != nil {
		return err
	}
	if l.lossy {
		return fmt.Errorf("%w: the answer was lost", chain.ErrUnavailable)
	}
	return nil
}

func (l *ledger) accept(tx *wire.MsgTx) error {
	prevouts := map[wire.OutPoint]*wire.TxOut{}
	fee := int64(0)
	var evict []chainhash.Hash
	for _, in := range tx.TxIn {
		parent, ok := l.txs[in.PreviousOutPoint.Hash]
		if !ok || int(in.PreviousOutPoint.Index) >= len(parent.Tx.TxOut) {
			return reject("missing input %v", in.PreviousOutPoint)
		}
		out := parent.Tx.TxOut[in.PreviousOutPoint.Index]
		prevouts[in.PreviousOutPoint] = out
		fee += out.Value
		if other, spent := l.spends[in.PreviousOutPoint]; spent {
			if l.txs[other].Confirmed {
				return reject("%v is spent", in.PreviousOutPoint)
			}
			evict = append(evict, other)
		}
	}
	if err := script.Execute(tx, prevouts); err != nil {
		return reject("%v", err)
	}
	for _, out := range tx.TxOut {
		if fee -= out.Value; out.Value < script.Dust(out.PkScript) {
			return reject("dust")
		}
	}
	size := script.VSize(tx)
	if fee < size || len(evict) > 0 && fee < l.feeOf(evict[0])+size {
		return reject("a fee of %d sat for %d vB", fee, size)
	}
	for _, txid := range evict {
		l.forget(txid)
	}
	l.txs[tx.TxHash()] = chain.TxInfo{Tx: tx.Copy()}
	for _, in := range tx.TxIn {
		l.spends[in.PreviousOutPoint] = tx.TxHash()
	}
	return nil
}

func (l *ledger) feeOf(txid chainhash.Hash) (fee int64) {
	tx := l.txs[txid].Tx
	for _, in := range tx.TxIn {
		fee += l.txs[in.PreviousOutPoint.Hash].Tx.TxOut[in.PreviousOutPoint.Index].Value
	}
	for _, out := range tx.TxOut {
		fee -= out.Value
	}
	return fee
}
