package esplora

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/btcsuite/btcd/chainhash/v2"

	"github.com/spillway/spillway/chain"
)

// historyTx is what is read of a transaction in a history: the rest comes from its bytes.
type historyTx struct {
	Txid   string  `json:"txid"`
	Status *status `json:"status"`
}

// History implements chain.Backend. Of the mempool an Esplora lists the newest fifty. Errors: chain.ErrUnavailable
// also for a history of more than 2,000 transactions.
func (c *Client) History(ctx context.Context, pkScript []byte) ([]chain.TxInfo, error) {
	if err := c.CheckNetwork(ctx); err != nil {
		return nil, err
	}
	var all []chain.TxInfo
	seen := map[chainhash.Hash]bool{}
	path := scriptPath(pkScript) + "/txs"
	for {
		page, err := c.historyPage(ctx, path)
		if err != nil {
			return nil, err
		}
		var last chainhash.Hash
		fresh, confirmed := 0, 0
		for _, i := range page {
			if id := i.Tx.TxHash(); !seen[id] {
				seen[id] = true
				all = append(all, i)
				fresh++
			}
			if i.Confirmed {
				confirmed++
				last = i.Tx.TxHash()
			}
		}
		switch {
		case confirmed < smallestPage || fresh == 0:
			sortHistory(all)
			return all, nil
		case len(all) > longest:
			return nil, nonsense("the history of a script is longer than %d transactions", longest)
		}
		path = scriptPath(pkScript) + "/txs/chain/" + last.String()
	}
}

func (c *Client) historyPage(ctx context.Context, path string) ([]chain.TxInfo, error) {
	body, err := c.get(ctx, path, maxPage)
	if err != nil {
		return nil, unlessNotFound(err, "it lists no history by script hash")
	}
	var list []historyTx
	if err := parseJSON(body, &list); err != nil {
		return nil, err
	}
	page := make([]chain.TxInfo, 0, len(list))
	for _, l := range list {
		txid, err := parseHash(l.Txid)
		if err != nil {
			return nil, err
		}
		var i chain.TxInfo
		if i.Confirmed, i.Height, i.BlockHash, err = l.Status.parse(); err != nil {
			return nil, err
		}
		tx, err := c.known(ctx, txid)
		if errors.Is(err, chain.ErrNotFound) && !i.Confirmed {
			continue // it left the mempool meanwhile
		}
		if err != nil {
			return nil, unlessNotFound(err, "it does not know a transaction of its own history")
		}
		i.Tx = tx.Copy()
		page = append(page, i)
	}
	return page, nil
}

// sortHistory puts unconfirmed transactions first and then the newest blocks; within a block the server's order
// stays.
func sortHistory(all []chain.TxInfo) {
	slices.SortStableFunc(all, func(a, b chain.TxInfo) int {
		if a.Confirmed != b.Confirmed {
			if a.Confirmed {
				return 1
			}
			return -1
		}
		return cmp.Compare(b.Height, a.Height)
	})
}

// sortCoins puts confirmed coins first, by height.
func sortCoins(all []chain.UTXO) {
	slices.SortStableFunc(all, func(a, b chain.UTXO) int {
		if a.Confirmed != b.Confirmed {
			if a.Confirmed {
				return -1
			}
			return 1
		}
		return cmp.Compare(a.Height, b.Height)
	})
}
