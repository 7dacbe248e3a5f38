package neutrino_test

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/chain/neutrino"
	"github.com/spillway/spillway/internal/btcdtest"
)

// liar is a peer that passes on what a node says, and alters some of it.
type liar struct {
	l     net.Listener
	node  string
	alter func(wire.Message)
	told  atomic.Int64 // messages that were altered
	work  sync.WaitGroup
	mu    sync.Mutex
	conns []net.Conn
}

// newLiar starts one; alter changes a message in place and reports it.
func newLiar(t *testing.T, n *btcdtest.Node, alter func(wire.Message) bool) *liar {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &liar{l: l, node: n.P2PAddress()}
	p.alter = func(m wire.Message) {
		if alter(m) {
			p.told.Add(1)
		}
	}
	p.work.Go(p.accept)
	t.Cleanup(func() {
		_ = l.Close() // accept ends by it
		p.mu.Lock()
		for _, c := range p.conns {
			_ = c.Close() // what passes messages on ends by it
		}
		p.mu.Unlock()
		p.work.Wait()
	})
	return p
}

func (p *liar) accept() {
	for {
		client, err := p.l.Accept()
		if err != nil {
			return
		}
		node, err := net.Dial("tcp", p.node)
		if err != nil {
			_ = client.Close()
			continue
		}
		p.mu.Lock()
		p.conns = append(p.conns, client, node)
		p.mu.Unlock()
		p.work.Go(func() { pass(client, node, func(wire.Message) {}) })
		p.work.Go(func() { pass(node, client, p.alter) })
	}
}

// pass hands messages on until a connection ends.
func pass(from, to net.Conn, alter func(wire.Message)) {
	defer from.Close()
	defer to.Close()
	const version = wire.AddrV2Version
	for {
		_, m, raw, err := wire.ReadMessageWithEncodingN(from, version, chaincfg.RegressionNetParams.Net, wire.WitnessEncoding)
		if m == nil && raw == nil && err != nil {
			var unknown *wire.MessageError
			if errors.As(err, &unknown) || errors.Is(err, wire.ErrUnknownMessage) {
				continue
			}
			return
		}
		if err != nil {
			continue
		}
		alter(m)
		if _, err := wire.WriteMessageWithEncodingN(to, m, version, chaincfg.RegressionNetParams.Net, wire.WitnessEncoding); err != nil {
			return
		}
	}
}

// TestPitfall40_Peer: a peer whose blocks hold a transaction twice (the root stays the same), too few, or another
// witness, or whose filter is not the one that it committed to, is believed nothing, and gets no second question; an
// honest peer beside it is.
func TestPitfall40_Peer(t *testing.T) {
	t.Parallel()
	n := btcdtest.Start(t)
	n.MineCoins(4)
	a := newHolder(t, 7)
	op := n.Pay(a.script, 70_000)
	n.Mine(1)
	block := func(change func(*wire.MsgBlock)) func(wire.Message) bool {
		return func(m wire.Message) bool {
			b, ok := m.(*wire.MsgBlock)
			if ok = ok && len(b.Transactions) == 2; ok {
				change(b)
			}
			return ok
		}
	}
	for what, alter := range map[string]func(wire.Message) bool{
		"a transaction twice": block(func(b *wire.MsgBlock) { b.Transactions = append(b.Transactions, b.Transactions[1], b.Transactions[1]) }),
		"one left out":        block(func(b *wire.MsgBlock) { b.Transactions = b.Transactions[:1] }),
		"another witness":     block(func(b *wire.MsgBlock) { b.Transactions[1].TxIn[0].Witness[0][5] ^= 1 }),
		"another filter": func(m wire.Message) bool {
			f, ok := m.(*wire.MsgCFilter)
			if ok {
				f.Data = []byte{0}
			}
			return ok
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			p := newLiar(t, n, alter)
			c := open(t, n, func(cfg *neutrino.Config) { cfg.Peers, cfg.Timeout = []string{p.l.Addr().String()}, 2*time.Second })
			settle(t, n, c)
			if got, err := c.UTXOs(t.Context(), a.script); !errors.Is(err, chain.ErrUnavailable) {
				t.Errorf("%+v, %v", got, err)
			}
			if p.told.Load() == 0 {
				t.Error("nothing was altered")
			}
		})
	}
	fair := open(t, n)
	settle(t, n, fair)
	coins(t, fair, a.script, op)
}
