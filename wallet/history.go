package wallet

import (
	"cmp"
	"context"
	"slices"

	"github.com/btcsuite/btcd/chainhash/v2"

	"github.com/spillway/spillway/chain"
)

// HistoryEntry is one transaction of the wallet.
type HistoryEntry struct {
	Txid      chainhash.Hash
	Net       int64 // sat; negative where more went out than came in
	Fee       int64 // sat; 0 unless every input is the wallet's
	Confirmed bool
	Height    uint32 // 0 while unconfirmed
}

// History lists what touched the wallet: unconfirmed first, then the newest.
// Errors: of the chain and the store.
func (w *Wallet) History(ctx context.Context) ([]HistoryEntry, error) {
	own, err := w.owned(ctx)
	if err != nil {
		return nil, err
	}
	infos := map[chainhash.Hash]chain.TxInfo{}
	for pk := range own {
		txs, err := w.cfg.Chain.History(ctx, []byte(pk))
		if err != nil {
			return nil, err
		}
		for _, info := range txs {
			infos[info.Tx.TxHash()] = info
		}
	}
	list := make([]HistoryEntry, 0, len(infos))
	for txid, info := range infos {
		list = append(list, entry(txid, info, infos, own))
	}
	slices.SortFunc(list, func(a, b HistoryEntry) int {
		if a.Confirmed != b.Confirmed {
			if b.Confirmed {
				return -1
			}
			return 1
		}
		return cmp.Or(cmp.Compare(b.Height, a.Height), cmp.Compare(a.Txid.String(), b.Txid.String()))
	})
	return list, nil
}

func entry(txid chainhash.Hash, info chain.TxInfo, infos map[chainhash.Hash]chain.TxInfo, own map[string]path) HistoryEntry {
	e := HistoryEntry{Txid: txid, Confirmed: info.Confirmed}
	if info.Confirmed {
		e.Height = info.Height
	}
	var in, out int64
	all := true
	for _, txin := range info.Tx.TxIn {
		op := txin.PreviousOutPoint
		parent, ok := infos[op.Hash]
		if !ok || int(op.Index) >= len(parent.Tx.TxOut) {
			all = false
			continue
		}
		prev := parent.Tx.TxOut[op.Index]
		if _, mine := own[string(prev.PkScript)]; !mine {
			all = false
			continue
		}
		in += prev.Value
	}
	for _, o := range info.Tx.TxOut {
		out += o.Value
		if _, mine := own[string(o.PkScript)]; mine {
			e.Net += o.Value
		}
	}
	e.Net -= in
	if all {
		e.Fee = in - out
	}
	return e
}
