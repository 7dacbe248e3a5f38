package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/chain/bitcoind"
	"github.com/spillway/spillway/chain/btcd"
	"github.com/spillway/spillway/chain/neutrino"
)

// miner is a node that mines when it is told to.
type miner interface {
	chain.Backend
	Waiting(ctx context.Context) (int, error)
	Generate(ctx context.Context, blocks int, pkScript []byte) error
	String() string
	Close() error
}

// demoNode is a bitcoind or a btcd on regtest that the demo is played on instead of
// the embedded chain. The demo mines on it.
type demoNode struct {
	client miner
	script []byte // what mined blocks pay to: anybody
	stop   context.CancelFunc
	done   chan error
}

// ownNode reports whether --chain names a node of one's own.
func (a *app) ownNode() bool {
	urls, err := a.chainURLs()
	return err == nil && slices.ContainsFunc(urls, func(u string) bool {
		scheme, _, _ := strings.Cut(u, ":")
		return scheme == bitcoind.Scheme || scheme == btcd.Scheme || scheme == neutrino.Scheme
	})
}

// startNode connects to the node and mines a block whenever a transaction waits.
func (s *story) startNode(ctx context.Context) error {
	urls, err := s.app.chainURLs()
	if err != nil {
		return err
	}
	if len(urls) != 1 {
		return usagef("the demo is played on one node: give --chain once")
	}
	b, err := s.app.connect(ctx)
	if err != nil {
		return err
	}
	tip, err := b.Tip(ctx)
	if err != nil {
		return err
	}
	client, ok := b.(miner)
	if !ok {
		return errors.Join(usagef("the demo mines: it is played on a bitcoind or a btcd of your own, not on %s", shown(urls[0])), closeChain(b))
	}
	s.app.out.say("1. A chain. Your own node on regtest, %s, at height %d; this demo mines on it.", client, tip.Height)
	mining, stop := context.WithCancel(context.Background())
	s.node = &demoNode{client: client, script: []byte{0x51}, stop: stop, done: make(chan error, 1)}
	go func() { s.node.done <- s.node.mine(mining) }()
	return nil
}

// mine mines what waits, until the context ends.
func (n *demoNode) mine(ctx context.Context) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		waiting, err := n.client.Waiting(ctx)
		if err == nil && waiting > 0 {
			err = n.client.Generate(ctx, 1, n.script)
		}
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Close stops mining.
func (n *demoNode) Close() error {
	n.stop()
	return errors.Join(<-n.done, n.client.Close())
}

// mostRewards is how many block rewards the payer's coins may be.
const mostRewards = 50

// reward mines to a script until it holds an amount in sat, and what matures that.
func (n *demoNode) reward(ctx context.Context, pkScript []byte, need int64) error {
	held := int64(0)
	for blocks := 0; held < need; blocks++ {
		if blocks == mostRewards {
			return &failure{exit: exitCoins, code: "not-enough-coins", money: noMoney,
				message: fmt.Sprintf("%d blocks of this old regtest chain give %d sat, %d sat are needed", blocks, held, need),
				next:    "Name a smaller --capacity, or begin a new regtest chain."}
		}
		if err := n.client.Generate(ctx, 1, pkScript); err != nil {
			return err
		}
		coins, err := n.client.UTXOs(ctx, pkScript)
		if err != nil {
			return err
		}
		held = 0
		for _, c := range coins {
			held += c.Value
		}
	}
	return n.client.Generate(ctx, 100, n.script)
}
