package chaintest

import (
	"context"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
)

// channel is a funding and its spend in two blocks of their own.
type channel struct {
	a, b    *owner
	funding wire.OutPoint
	spend   *wire.MsgTx
	first   uint32 // height of the funding; the spend is one above
}

func (s *suite) channel() channel {
	s.Helper()
	c := channel{a: s.owner(), b: s.owner()}
	c.funding = s.fund(c.a, 100_000)
	s.mine(1)
	c.first = s.tip().Height
	c.spend = s.make(payment{from: c.a, spends: []wire.OutPoint{c.funding}, values: []int64{100_000}, to: c.b.script, fee: 500})
	s.send(c.spend)
	s.mine(1)
	return c
}

// testReorg undoes the spend alone at depth 1, spend and funding from depth 2 on; both are found unconfirmed, and
// again in the new branch's blocks.
func testReorg(s *suite) {
	depths := s.Depths
	if depths == nil {
		for d := range 100 {
			depths = append(depths, d+1)
		}
	}
	for _, depth := range depths {
		each := *s
		ctx, cancel := context.WithTimeout(s.Context(), limit) // each depth has its time
		each.ctx = ctx
		each.reorgOf(depth)
		cancel()
		s.owners = each.owners
	}
}

// reorgOf is testReorg at one depth.
func (s *suite) reorgOf(depth int) {
	c := s.channel()
	id := c.spend.TxHash()
	if depth > 2 {
		s.mine(depth - 2)
	}
	before := s.tip()
	undone := s.blockHash(before.Height)
	s.reorg(Reorg{Depth: depth, Length: depth + 1})
	after := s.tip()
	if after.Height != before.Height+1 || after.Hash != s.blockHash(after.Height) || s.blockHash(before.Height) == undone {
		s.Fatalf("depth %d: from %+v to %+v", depth, before, after)
	}
	if kept := before.Height - uint32(depth); kept > 0 && s.blockHash(kept) == s.blockHash(kept+1) {
		s.Fatalf("depth %d: two heights with one hash", depth)
	}
	fundedAt := uint32(0)
	if depth == 1 {
		fundedAt = c.first
	}
	s.undone(c, fundedAt)
	s.mine(1)
	h := s.tip().Height
	if depth > 1 {
		fundedAt = h
	}
	s.at(c.funding.Hash, fundedAt)
	s.at(id, h)
	s.spent(c.funding, id, 0, h)
	s.coins(c.b.script, chain.UTXO{Outpoint: wire.OutPoint{Hash: id}, Value: 99_500, Height: h})
}

// undone wants a channel's spend out of every block, and its funding at a height, or out of every block for 0.
func (s *suite) undone(c channel, fundedAt uint32) {
	s.Helper()
	id := c.spend.TxHash()
	if !s.Backend.Capabilities().Mempool {
		s.missing(id)
		s.unspent(c.funding)
		s.coins(c.b.script)
		s.history(c.b.script)
		if fundedAt == 0 {
			s.missing(c.funding.Hash)
			s.coins(c.a.script)
		} else {
			s.at(c.funding.Hash, fundedAt)
			s.coins(c.a.script, chain.UTXO{Outpoint: c.funding, Value: 100_000, Height: fundedAt})
		}
		return
	}
	s.at(c.funding.Hash, fundedAt)
	s.at(id, 0)
	s.spent(c.funding, id, 0, 0)
	s.coins(c.a.script)
	s.coins(c.b.script, chain.UTXO{Outpoint: wire.OutPoint{Hash: id}, Value: 99_500})
	s.history(c.b.script, id)
}

// testReorgDrops: what nobody sends again after a reorg is gone, and what spends from it too.
func testReorgDrops(s *suite) {
	for _, depth := range []int{2, 5} {
		c := s.channel()
		if depth > 2 {
			s.mine(depth - 2)
		}
		s.reorg(Reorg{Depth: depth, Length: depth + 2, Drop: []chainhash.Hash{c.funding.Hash}})
		s.missing(c.funding.Hash)
		s.missing(c.spend.TxHash())
		s.unspent(c.funding)
		s.coins(c.a.script)
		s.coins(c.b.script)
		s.history(c.a.script)
		s.mine(1)
		s.missing(c.funding.Hash)
	}
	c := s.channel()
	s.reorg(Reorg{Depth: 1, Length: 2, Drop: []chainhash.Hash{c.spend.TxHash()}})
	s.at(c.funding.Hash, c.first)
	s.unspent(c.funding)
	s.coins(c.a.script, chain.UTXO{Outpoint: c.funding, Value: 100_000, Height: c.first})
	s.send(c.spend) // sent again, it comes back
	s.mine(1)
	s.spent(c.funding, c.spend.TxHash(), 0, s.tip().Height)
}

// testDoubleSpend: the new branch holds another spend of the same output, first of an unconfirmed funding's input
// and then of a confirmed one's.
func testDoubleSpend(s *suite) {
	a, b, thief := s.owner(), s.owner(), s.owner()
	coin := s.fund(a, 100_000)
	s.mine(1)
	p := payment{from: a, spends: []wire.OutPoint{coin}, values: []int64{100_000}, to: b.script, fee: 500}
	funding := s.make(p)
	p.to, p.fee = thief.script, 400
	theft := s.make(p)
	id, stolen := funding.TxHash(), theft.TxHash()

	s.send(funding)
	child := s.send(s.make(payment{from: b, spends: []wire.OutPoint{{Hash: id}}, values: []int64{99_500}, to: a.script, fee: 500}))
	s.mine(1)
	s.at(id, s.tip().Height)
	s.reorg(Reorg{Depth: 1, Length: 2, Mine: []*wire.MsgTx{theft}})
	h := s.tip().Height - 1
	s.at(stolen, h)
	s.spent(coin, stolen, 0, h)
	s.missing(id)
	s.missing(child)
	s.coins(b.script)
	s.coins(thief.script, chain.UTXO{Outpoint: wire.OutPoint{Hash: stolen}, Value: 99_600, Height: h})
	s.refused("a funding whose input a block has spent", funding)

	// Undone once more, without the theft: the first funding can be sent again.
	s.reorg(Reorg{Depth: 2, Length: 3, Drop: []chainhash.Hash{stolen}})
	s.missing(stolen)
	s.send(funding)
	s.mine(1)
	s.spent(coin, id, 0, s.tip().Height)
}
