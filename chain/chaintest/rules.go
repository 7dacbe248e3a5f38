package chaintest

import (
	"context"
	"errors"
	"sync"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
)

func testTip(s *suite) {
	if got := s.blockHash(0); got != *s.Params.GenesisHash {
		s.Fatalf("genesis is %s, want %s", got, s.Params.GenesisHash)
	}
	before := s.tip()
	if before.Hash != s.blockHash(before.Height) || before.Time.Unix() <= s.Params.GenesisBlock.Header.Timestamp.Unix() {
		s.Fatalf("tip %+v is not the block at its height, or has no time", before)
	}
	s.mine(3)
	after := s.tip()
	if after.Height != before.Height+3 || after.Hash == before.Hash || after.Hash != s.blockHash(after.Height) {
		s.Fatalf("three blocks lead from %+v to %+v", before, after)
	}
	if after.Time.Before(before.Time) {
		s.Fatalf("time went back from %v to %v", before.Time, after.Time)
	}
	for _, above := range []uint32{after.Height + 1, 1 << 31, 1<<32 - 1} {
		if _, err := s.Backend.BlockHash(s.ctx, above); !errors.Is(err, chain.ErrNotFound) {
			s.Fatalf("block hash at %d: want ErrNotFound, got %v", above, err)
		}
	}
}

func testUnknown(s *suite) {
	var nobody chainhash.Hash
	nobody[7] = 9
	s.missing(nobody)
	s.unspent(wire.OutPoint{Hash: nobody, Index: 3})
	o := s.owner()
	s.coins(o.script)
	s.history(o.script)
	op := s.fund(o, 10_000)
	s.unspent(wire.OutPoint{Hash: op.Hash, Index: 1 << 20})
}

func testLifecycle(s *suite) {
	a, b := s.owner(), s.owner()
	op := s.fund(a, 100_000)
	s.unspent(op)
	s.unconfirmed(func() {
		s.at(op.Hash, 0)
		s.coins(a.script, chain.UTXO{Outpoint: op, Value: 100_000})
	})
	s.mine(1)
	h := s.tip().Height
	s.at(op.Hash, h)
	s.unspent(op)
	s.coins(a.script, chain.UTXO{Outpoint: op, Value: 100_000, Height: h})

	id := s.send(s.make(payment{from: a, spends: []wire.OutPoint{op}, values: []int64{100_000}, to: b.script, fee: 500}))
	out := wire.OutPoint{Hash: id}
	s.unconfirmed(func() {
		s.at(id, 0)
		s.spent(op, id, 0, 0)
		s.coins(a.script)
		s.coins(b.script, chain.UTXO{Outpoint: out, Value: 99_500})
		s.history(a.script, id, op.Hash)
	})
	s.mine(1)
	s.at(id, h+1)
	s.at(op.Hash, h)
	s.spent(op, id, 0, h+1)
	s.coins(a.script)
	s.coins(b.script, chain.UTXO{Outpoint: out, Value: 99_500, Height: h + 1})
	s.history(a.script, id, op.Hash)
	s.history(b.script, id)
	s.mine(5)
	s.spent(op, id, 0, h+1)
}

// testChains spends unconfirmed outputs and several at once.
func testChains(s *suite) {
	a, b, c := s.owner(), s.owner(), s.owner()
	one, two := s.fund(a, 50_000), s.fund(a, 60_000)
	first := s.send(s.make(payment{from: a, spends: []wire.OutPoint{one, two}, values: []int64{50_000, 60_000}, to: b.script, fee: 1_000}))
	second := s.send(s.make(payment{from: b, spends: []wire.OutPoint{{Hash: first}}, values: []int64{109_000}, to: c.script, fee: 1_000}))
	s.unconfirmed(func() {
		s.spent(one, first, 0, 0)
		s.spent(two, first, 1, 0)
		s.spent(wire.OutPoint{Hash: first}, second, 0, 0)
		s.coins(b.script)
	})
	s.mine(1)
	h := s.tip().Height
	for _, id := range []chainhash.Hash{one.Hash, two.Hash, first, second} {
		s.at(id, h)
	}
	s.spent(two, first, 1, h)
	s.spent(wire.OutPoint{Hash: first}, second, 0, h)
	s.coins(c.script, chain.UTXO{Outpoint: wire.OutPoint{Hash: second}, Value: 108_000, Height: h})
}

// testHistory is longer than a page of any server.
func testHistory(s *suite) {
	a := s.owner()
	var want []chainhash.Hash
	for range 40 {
		op := s.fund(a, 1_000)
		s.mine(1)
		want = append([]chainhash.Hash{op.Hash}, want...)
	}
	mempool := s.Backend.Capabilities().Mempool
	if last := s.fund(a, 1_000).Hash; mempool {
		want = append([]chainhash.Hash{last}, want...)
	}
	s.history(a.script, want...)
	got, err := s.Backend.UTXOs(s.ctx, a.script)
	if err != nil || len(got) != len(want) {
		s.Fatalf("%d coins and %v, want %d", len(got), err, len(want))
	}
	for i, u := range got {
		if u.Confirmed == (mempool && i == len(got)-1) {
			s.Fatalf("coin %d: the unconfirmed one comes last", i)
		}
		if u.Confirmed && u.Outpoint.Hash != want[len(want)-1-i] {
			s.Fatalf("coin %d is out of order", i)
		}
	}
}

func testKnown(s *suite) {
	a, b := s.owner(), s.owner()
	op := s.fund(a, 100_000)
	tx := s.make(payment{from: a, spends: []wire.OutPoint{op}, values: []int64{100_000}, to: b.script, fee: 500})
	s.send(tx)
	s.send(tx)
	s.mine(1)
	s.send(tx) // in a block, its output unspent
	next := s.make(payment{from: b, spends: []wire.OutPoint{{Hash: tx.TxHash()}}, values: []int64{99_500}, to: a.script, fee: 500})
	s.send(next)
	s.send(tx) // its output spent in the mempool
	s.mine(1)
	s.send(tx) // its output spent in a block
	s.at(tx.TxHash(), s.tip().Height-1)
}

func testRejected(s *suite) {
	a, b := s.owner(), s.owner()
	op := s.fund(a, 100_000)
	s.mine(1)
	ok := payment{from: a, spends: []wire.OutPoint{op}, values: []int64{100_000}, to: b.script, fee: 500}
	for _, c := range []struct {
		name   string
		change func(*payment)
		tx     func(*wire.MsgTx)
	}{
		{"a wrong signature", func(p *payment) { p.wrongSign = true }, nil},
		{"no fee", func(p *payment) { p.fee = 0 }, nil},
		{"a fee below the relay floor", func(p *payment) { p.fee = 5 }, nil},
		{"more out than in", func(p *payment) { p.fee = -1 }, nil},
		{"dust", func(p *payment) { p.fee = 100_000 - 329 }, nil},
		{"a version that is not relayed", func(p *payment) { p.version = 4 }, nil},
		{"an output of an unknown form", func(p *payment) { p.to = []byte{0x51, 0x51, 0x93, 0x61, 0x61, 0x61} }, nil},
		{"an output that is spent by anyone", func(p *payment) { p.to = []byte{0x61, 0x61, 0x61, 0x61, 0x61, 0x51} }, nil},
		{"an unknown input", func(p *payment) { p.spends = []wire.OutPoint{{Hash: chainhash.Hash{1}}} }, nil},
		{"an output that does not exist", func(p *payment) { p.spends = []wire.OutPoint{{Hash: op.Hash, Index: 1 << 20}} }, nil},
		{"no inputs", nil, func(tx *wire.MsgTx) { tx.TxIn = nil }},
		{"no outputs", nil, func(tx *wire.MsgTx) { tx.TxOut = nil }},
		{"an input twice", nil, func(tx *wire.MsgTx) { tx.TxIn = append(tx.TxIn, tx.TxIn[0]) }},
		{"no witness", nil, func(tx *wire.MsgTx) { tx.TxIn[0].Witness = nil }},
		{"an annex", nil, func(tx *wire.MsgTx) { tx.TxIn[0].Witness = append(tx.TxIn[0].Witness, []byte{0x50, 1}) }},
	} {
		p := ok
		if c.change != nil {
			c.change(&p)
		}
		tx := s.make(p)
		if c.tx != nil {
			c.tx(tx)
		}
		s.refused(c.name, tx)
		s.unspent(op)
	}
	ok.fee = 501 // another one than those: a peer may remember by its txid what it refused
	id := s.send(s.make(ok))
	s.mine(1)
	s.spent(op, id, 0, s.tip().Height)
	ok.fee = 50_000
	s.refused("an output that a block has spent", s.make(ok))
}

// testNonFinal: an nLockTime of H enters the mempool at tip = H, not before, and is mined in H+1.
func testNonFinal(s *suite) {
	a, b := s.owner(), s.owner()
	op := s.fund(a, 100_000)
	s.mine(1)
	lock := s.tip().Height + 3
	tx := s.make(payment{from: a, spends: []wire.OutPoint{op}, values: []int64{100_000}, to: b.script, fee: 500, lock: lock})
	for s.tip().Height < lock {
		s.refused("a transaction that is not final", tx)
		s.mine(1)
	}
	id := s.send(tx)
	s.mine(1)
	s.at(id, lock+1)
}

// testRelativeLock: a relative lock of three blocks (BIP68).
func testRelativeLock(s *suite) {
	a, b := s.owner(), s.owner()
	op := s.fund(a, 100_000)
	s.mine(1)
	h := s.tip().Height
	p := payment{from: a, spends: []wire.OutPoint{op}, values: []int64{100_000}, to: b.script, fee: 500, sequence: 3}
	s.refused("a relative lock that is not over", s.make(p))
	s.mine(1)
	s.refused("a relative lock that is not over", s.make(p))
	s.mine(1)
	if !s.Backend.Capabilities().RejectReasons {
		p.fee++ // a peer may remember by its txid what it refused
	}
	id := s.send(s.make(p))
	s.mine(1)
	s.at(id, h+3)
}

func testVersions(s *suite) {
	for version := int32(1); version <= 3; version++ {
		a, b := s.owner(), s.owner()
		op := s.fund(a, 100_000)
		s.mine(1)
		tx := s.make(payment{from: a, spends: []wire.OutPoint{op}, values: []int64{100_000}, to: b.script, fee: 500, version: version})
		if version == 3 && s.Backend.Capabilities().NoVersion3 {
			s.refused("a version that the node does not relay", tx)
			continue
		}
		id := s.send(tx)
		s.mine(1)
		s.at(id, s.tip().Height)
	}
}

func testReplacement(s *suite) {
	a, b, c := s.owner(), s.owner(), s.owner()
	op := s.fund(a, 100_000)
	s.mine(1)
	p := payment{from: a, spends: []wire.OutPoint{op}, values: []int64{100_000}, to: b.script, fee: 500}
	old := s.send(s.make(p))
	child := s.send(s.make(payment{from: b, spends: []wire.OutPoint{{Hash: old}}, values: []int64{99_500}, to: c.script, fee: 500}))
	s.unconfirmed(func() {
		s.coins(c.script, chain.UTXO{Outpoint: wire.OutPoint{Hash: child}, Value: 99_000})
	})
	p.to = c.script
	s.refused("a replacement at the same fee", s.make(p))
	p.fee = 600
	s.refused("a replacement that pays less than what it evicts", s.make(p))
	p.fee = 2_000
	id := s.send(s.make(p))
	s.missing(old)
	s.missing(child)
	s.unspent(wire.OutPoint{Hash: old})
	s.coins(b.script)
	s.unconfirmed(func() {
		s.spent(op, id, 0, 0)
		s.coins(c.script, chain.UTXO{Outpoint: wire.OutPoint{Hash: id}, Value: 98_000})
	})
	s.history(b.script)
	s.mine(1)
	s.at(id, s.tip().Height)
	s.missing(old)
}

func testFeeRate(s *suite) {
	last := chain.MaxFeeRate
	for _, blocks := range []int{-5, 0, 1, 2, 6, 25, 144, 1008, 1 << 30} {
		rate, err := s.Backend.FeeRate(s.ctx, blocks)
		if err != nil {
			s.Fatalf("fee rate for %d blocks: %v", blocks, err)
		}
		if rate < chain.MinFeeRate || rate > chain.MaxFeeRate {
			s.Fatalf("fee rate for %d blocks: %d", blocks, rate)
		}
		if rate > last {
			s.Fatalf("fee rate for %d blocks: %d, more than for fewer blocks", blocks, rate)
		}
		last = rate
	}
}

func testContext(s *suite) {
	ctx, cancel := context.WithCancel(s.ctx)
	cancel()
	o := s.owner()
	_, tip := s.Backend.Tip(ctx)
	_, hash := s.Backend.BlockHash(ctx, 1)
	_, tx := s.Backend.Tx(ctx, chainhash.Hash{1})
	_, spend := s.Backend.Spend(ctx, wire.OutPoint{Hash: chainhash.Hash{1}})
	_, coins := s.Backend.UTXOs(ctx, o.script)
	_, history := s.Backend.History(ctx, o.script)
	_, fee := s.Backend.FeeRate(ctx, 1)
	send := s.Backend.Broadcast(ctx, s.make(payment{from: o, spends: []wire.OutPoint{{Hash: chainhash.Hash{1}}}, values: []int64{9_000}, to: o.script, fee: 500}))
	for i, err := range []error{tip, hash, tx, spend, coins, history, fee, send} {
		if !errors.Is(err, chain.ErrUnavailable) || !errors.Is(err, context.Canceled) {
			s.Errorf("call %d with a cancelled context: %v", i, err)
		}
	}
}

// testConcurrent reads from several sides while blocks and transactions come: every answer is one that was true.
func testConcurrent(s *suite) {
	a, b, mempool := s.owner(), s.owner(), s.Backend.Capabilities().Mempool
	var all []*wire.MsgTx
	for range 8 {
		op := s.fund(a, 10_000)
		all = append(all, s.make(payment{from: a, spends: []wire.OutPoint{op}, values: []int64{10_000}, to: b.script, fee: 500}))
	}
	errs := make(chan error, 64)
	var wg sync.WaitGroup
	for _, tx := range all {
		wg.Go(func() {
			errs <- s.Backend.Broadcast(s.ctx, tx)
			_, err := s.Backend.Tx(s.ctx, tx.TxHash())
			if !mempool && errors.Is(err, chain.ErrNotFound) {
				err = nil // not in a block yet
			}
			errs <- err
			spend, err := s.Backend.Spend(s.ctx, tx.TxIn[0].PreviousOutPoint)
			if err == nil && (mempool && spend == nil || spend != nil && spend.Txid != tx.TxHash()) {
				err = errors.New("a spend is missing")
			}
			errs <- err
			_, err = s.Backend.UTXOs(s.ctx, b.script)
			errs <- err
		})
	}
	for range 4 {
		s.Mine(s.T, 1)
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			s.Error(err)
		}
	}
	s.mine(1)
	got, err := s.Backend.UTXOs(s.ctx, b.script)
	if err != nil || len(got) != len(all) {
		s.Fatalf("%d coins and %v, want %d", len(got), err, len(all))
	}
}
