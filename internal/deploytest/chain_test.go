package deploytest

import (
	"context"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/script"
)

// deadChain answers nothing.
type deadChain struct{}

func (deadChain) Tip(context.Context) (chain.Tip, error) { return chain.Tip{}, chain.ErrUnavailable }
func (deadChain) Tx(context.Context, chainhash.Hash) (chain.TxInfo, error) {
	return chain.TxInfo{}, chain.ErrUnavailable
}
func (deadChain) Spend(context.Context, wire.OutPoint) (*chain.Spend, error) {
	return nil, chain.ErrUnavailable
}
func (deadChain) Broadcast(context.Context, *wire.MsgTx) error { return chain.ErrUnavailable }
func (deadChain) FeeRate(context.Context, int) (script.FeeRate, error) {
	return 0, chain.ErrUnavailable
}
