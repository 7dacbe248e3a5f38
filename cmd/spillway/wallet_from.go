package main

import (
	"context"
	"errors"
	"strings"

	"github.com/btcsuite/btcd/wire/v2"
	"github.com/spf13/pflag"

	"github.com/spillway/spillway/chain/bitcoind"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/wallet"
	"github.com/spillway/spillway/wallet/node"
)

// purse is a wallet that funds channels: the built-in one, or the node's.
type purse interface {
	Fund(ctx context.Context, outputs []*wire.TxOut, rate script.FeeRate) (*wallet.Funded, error)
	FundingFee(ctx context.Context, outputs []*wire.TxOut, rate script.FeeRate) (int64, error)
	Release(ctx context.Context, tx *wire.MsgTx) error
	ReceiveScript(ctx context.Context) ([]byte, error)
}

func walletFlag(fl *pflag.FlagSet, from *string) {
	fl.StringVar(from, "wallet", "", "fund from the wallet of your own node: bitcoind, or bitcoind:NAME where it has several loaded (default: the built-in wallet)")
}

// nodeWallet names a wallet of the node.
type nodeWallet struct{ name string }

// nodeWalletName reads --wallet; nil: the built-in one.
func (a *app) nodeWalletName(from string) (*nodeWallet, error) {
	if from == "" || from == "builtin" {
		return nil, nil
	}
	kind, name, named := strings.Cut(from, ":")
	if kind != "bitcoind" || named && name == "" {
		return nil, usagef("--wallet is builtin, bitcoind or bitcoind:NAME, not %q", clipped(from))
	}
	urls, err := a.chainURLs()
	if err != nil {
		return nil, err
	}
	for _, text := range urls {
		if scheme, _, _ := strings.Cut(text, ":"); strings.EqualFold(scheme, bitcoind.Scheme) {
			return &nodeWallet{name}, nil
		}
	}
	return nil, usagef("--wallet bitcoind asks the node at --chain bitcoind://…, and there is none")
}

// openNodeWallet connects to the wallet of the node at --chain. It is closed with the role.
func (a *app) openNodeWallet(ctx context.Context, r *role, from nodeWallet) (purse, error) {
	urls, err := a.chainURLs()
	if err != nil {
		return nil, err
	}
	for _, text := range urls {
		if scheme, _, _ := strings.Cut(text, ":"); !strings.EqualFold(scheme, bitcoind.Scheme) {
			continue
		}
		b, err := a.backend(text, r.params)
		if err != nil {
			return nil, err
		}
		c, ok := b.(*bitcoind.Client)
		if !ok {
			return nil, usagef("--wallet bitcoind asks a bitcoind, not %s", bitcoind.Redact(text))
		}
		r.close = append(r.close, c.Close)
		if err := c.CheckNetwork(ctx); err != nil {
			return nil, err
		}
		return node.New(node.Config{Node: c.Wallet(from.name), Params: r.params, Logger: a.out.logger()})
	}
	return nil, errors.New("no node is configured")
}
