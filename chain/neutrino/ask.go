package neutrino

import (
	"context"
	"fmt"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/chain/internal/scan"
)

// Tx implements chain.Backend: of what is in a block and pays or spends a script that was asked about or hinted at.
func (c *Client) Tx(ctx context.Context, txid chainhash.Hash) (info chain.TxInfo, err error) {
	err = c.scan.At(ctx, func(v scan.View) error {
		f, ok := v.Tx(txid)
		if !ok {
			return fmt.Errorf("%w: transaction %s", chain.ErrNotFound, txid)
		}
		info = f.Info()
		return nil
	})
	return info, err
}

// Spend implements chain.Backend: what in a block spends an output of a transaction that Tx finds.
func (c *Client) Spend(ctx context.Context, op wire.OutPoint) (spend *chain.Spend, err error) {
	err = c.scan.At(ctx, func(v scan.View) error {
		spend = nil
		f, vin, spent, _, err := v.Spend(ctx, op, nil)
		if err == nil && spent {
			spend = &chain.Spend{Txid: f.Tx.TxHash(), Vin: vin, Confirmed: true, Height: f.Height}
		}
		return err
	})
	return spend, err
}

// UTXOs implements chain.Backend.
func (c *Client) UTXOs(ctx context.Context, pkScript []byte) (all []chain.UTXO, err error) {
	err = c.scan.At(ctx, func(v scan.View) error {
		all, err = v.Coins(ctx, pkScript)
		return err
	})
	return all, err
}

// History implements chain.Backend.
func (c *Client) History(ctx context.Context, pkScript []byte) (all []chain.TxInfo, err error) {
	err = c.scan.At(ctx, func(v scan.View) error {
		found, err := v.History(ctx, pkScript)
		all = make([]chain.TxInfo, len(found))
		for i, f := range found {
			all[i] = f.Info()
		}
		return err
	})
	return all, err
}
