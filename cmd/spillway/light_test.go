package main

import (
	"context"
	"net"
	"testing"

	"github.com/spillway/spillway/internal/bitcoindtest"
)

// TestLightAtBitcoind plays a payer with a light client whose only peer is a bitcoind; the provider asks that node.
func TestLightAtBitcoind(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	peer := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	n := bitcoindtest.Start(t, "-txindex=0", "-listen=1", "-bind="+peer, "-blockfilterindex=1", "-peerblockfilters=1")
	n.MineCoins(3)
	ctx, stop := context.WithCancel(t.Context())
	mined := make(chan struct{})
	go func() {
		defer close(mined)
		mineWhatComes(ctx, t, n)
	}()
	t.Cleanup(func() {
		stop()
		<-mined
	})
	playOnBitcoind(t, n, "testdata/light/get.txtar", [2]string{"LIGHT", "neutrino://" + peer})
}
