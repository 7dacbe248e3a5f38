package chaintest

import (
	"errors"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
)

// testCursor follows the chain with a cursor, through blocks and reorgs.
func testCursor(s *suite) {
	follow := func(from chain.Cursor, most int) (chain.Change, chain.Cursor) {
		s.Helper()
		change, next, err := chain.Updates(s.ctx, s.Backend, from, most)
		if err != nil {
			s.Fatalf("updates: %v", err)
		}
		return change, next
	}
	added := func(c chain.Change, from, to uint32) {
		s.Helper()
		if len(c.Added) != int(to-from+1) {
			s.Fatalf("%d new blocks, want %d to %d", len(c.Added), from, to)
		}
		for i, m := range c.Added {
			if m.Height != from+uint32(i) || m.Hash != s.blockHash(m.Height) {
				s.Fatalf("new block %d: %+v", i, m)
			}
		}
	}
	change, cursor := follow(nil, 0)
	if top := s.tip(); !change.Empty() || len(cursor) != 1 || cursor[0] != (chain.Mark{Height: top.Height, Hash: top.Hash}) {
		s.Fatalf("a new cursor: %+v, %+v", change, cursor)
	}
	if change, cursor = follow(cursor, 0); !change.Empty() {
		s.Fatalf("nothing happened: %+v", change)
	}
	start := s.tip().Height
	s.mine(5)
	part, middle := follow(cursor, 2)
	added(part, start+1, start+2)
	rest, _ := follow(middle, 0)
	added(rest, start+3, start+5)
	change, cursor = follow(cursor, 0)
	added(change, start+1, start+5)
	for _, depth := range []int{1, 2, 4} {
		old := append(chain.Cursor(nil), cursor...)
		top := s.tip().Height
		s.reorg(Reorg{Depth: depth, Length: depth + 2})
		change, cursor = follow(cursor, 0)
		added(change, top-uint32(depth)+1, top+2)
		if len(change.Undone) != depth {
			s.Fatalf("%d undone blocks, want %d", len(change.Undone), depth)
		}
		for i, m := range change.Undone {
			if m != old[len(old)-1-i] || m.Hash == s.blockHash(m.Height) {
				s.Fatalf("undone block %d: %+v", i, m)
			}
		}
	}
	s.mine(1)
	top := s.tip()
	lost := chain.Cursor{{Height: top.Height - 1, Hash: chainhash.Hash{1}}, {Height: 1 << 31, Hash: chainhash.Hash{2}}}
	_, next, err := chain.Updates(s.ctx, s.Backend, lost, 0)
	if !errors.Is(err, chain.ErrDeepReorg) || len(next) != 1 || next[0].Hash != top.Hash {
		s.Fatalf("a cursor of another chain: %v, %+v", err, next)
	}
}

// testPackages: a child pays for a parent that alone is below the relay floor.
func testPackages(s *suite) {
	b, ok := s.Backend.(chain.PackageSubmitter)
	if ok != s.Backend.Capabilities().Packages {
		s.Fatalf("submits packages: %v, says so: %v", ok, !ok)
	}
	if !ok {
		return // the suite knows no more about it
	}
	a, c := s.owner(), s.owner()
	coin := s.fund(a, 100_000)
	s.mine(1)
	parent := s.make(payment{from: a, spends: []wire.OutPoint{coin}, values: []int64{100_000}, to: c.script, version: 3})
	id := parent.TxHash()
	pay := payment{from: c, spends: []wire.OutPoint{{Hash: id}}, values: []int64{100_000}, to: a.script, fee: 2_000, version: 3}
	child := s.make(pay)
	s.refused("a parent without a fee", parent)
	pay.wrongSign = true
	var reject *chain.RejectError
	if err := b.SubmitPackage(s.ctx, parent, s.make(pay)); !errors.As(err, &reject) || reject.Reason == "" {
		s.Fatalf("a package with a wrong signature: %v", err)
	}
	s.settle()
	s.missing(id)
	for range 2 { // the second time both are known
		if err := b.SubmitPackage(s.ctx, parent, child); err != nil {
			s.Fatalf("package: %v", err)
		}
		s.settle()
		s.at(id, 0)
		s.spent(coin, id, 0, 0)
		s.spent(wire.OutPoint{Hash: id}, child.TxHash(), 0, 0)
	}
	s.mine(1)
	s.at(child.TxHash(), s.tip().Height)
	if err := b.SubmitPackage(s.ctx, parent, child); err != nil {
		s.Fatalf("a package that is in a block: %v", err)
	}
}

// testStale: a tip that does not move is noticed.
func testStale(s *suite) {
	tip := s.tip()
	const most = 2 * time.Hour
	if err := chain.CheckStale(s.ctx, s.Backend, tip.Time.Add(most), most); err != nil {
		s.Fatalf("a tip of two hours: %v", err)
	}
	err := chain.CheckStale(s.ctx, s.Backend, tip.Time.Add(most+time.Minute), most)
	var stale *chain.StaleError
	if !errors.As(err, &stale) || !errors.Is(err, chain.ErrStale) || stale.Tip.Height != tip.Height || stale.Age <= most {
		s.Fatalf("a tip of more than two hours: %v", err)
	}
	if err := chain.CheckStale(s.ctx, s.Backend, tip.Time.Add(1000*time.Hour), 0); err != nil {
		s.Fatalf("no limit: %v", err)
	}
}

// testFeeBounds: a floor and a cap of the operator's hold whatever is estimated.
func testFeeBounds(s *suite) {
	if s.Bounded == nil {
		return
	}
	for _, bounds := range [][2]int64{{50_000, 0}, {50_000, 60_000}, {0, 1_500}, {5_000_000, 0}} {
		rate, err := s.Bounded(s.T, bounds[0], bounds[1]).FeeRate(s.ctx, 2)
		if err != nil {
			s.Fatal(err)
		}
		least, most := max(bounds[0], int64(chain.MinFeeRate)), int64(chain.MaxFeeRate)
		if bounds[1] > 0 {
			most = bounds[1]
		}
		if int64(rate) < min(least, int64(chain.MaxFeeRate)) || int64(rate) > most {
			s.Fatalf("bounds %v: %d", bounds, rate)
		}
	}
}
