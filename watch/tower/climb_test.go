package tower_test

import (
	"errors"
	"testing"

	"github.com/btcsuite/btcd/chainhash/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/chain/devnet"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/watch/tower"
)

func reorg(depth int, drop ...chainhash.Hash) devnet.ReorgOptions {
	return devnet.ReorgOptions{Depth: depth, Length: depth + 1, Drop: drop}
}

func TestClimbs(t *testing.T) {
	s := newStand(t)
	id := s.bought(script.Taproot, 40)
	s.mineTo(s.terms(id).Expiry - s.terms(id).Margin)
	s.step()
	held, err := s.tower.Entries(t.Context(), provider)
	must(t, err)
	for range s.blocksTo(s.terms(id).Expiry - 6 - uint32(len(held[0].Rungs)-1)) {
		if spend := s.spend(id); spend == nil || spend.Txid.String() != held[0].Rungs[0].Txid {
			t.Fatalf("%v is in the mempool, not the lowest rung", spend)
		}
		_, err := s.Chain.MineBlock() // an empty block: censored
		must(t, err)
		s.step()
	}
	for i := range held[0].Rungs {
		if spend := s.spend(id); spend == nil || spend.Txid.String() != held[0].Rungs[i].Txid {
			t.Fatalf("after %d blocks %v is in the mempool, not rung %d", i, spend, i)
		}
		_, err := s.Chain.MineBlock()
		must(t, err)
		s.restart()
		s.step()
		s.step()
	}
	s.Mine(1)
	s.settled(id, 40_000)
}

func TestProviderGetsStuck(t *testing.T) {
	s := newStand(t)
	id := s.bought(script.Taproot, 10)
	s.mineTo(s.terms(id).Expiry - s.terms(id).Margin)
	s.Chain.SetFeeRate(script.FeeRatePerVB(3)) // at 1 or 2 its settlement would be a rung
	must(t, s.StepPayee())
	own := s.spend(id)
	held, err := s.tower.Entries(t.Context(), provider)
	must(t, err)
	for range s.blocksTo(s.terms(id).Expiry - 6 - uint32(len(held[0].Rungs)-1) + 2) { // until 4 sat/vB are due
		s.step()
		if spend := s.spend(id); spend == nil || spend.Txid != own.Txid {
			t.Fatalf("the provider's %s was replaced by %v", own.Txid, spend)
		}
		_, err := s.Chain.MineBlock()
		must(t, err)
	}
	s.step()
	if last := s.events[len(s.events)-1]; last.Why != tower.Stuck {
		t.Fatalf("the tower did not take over: %+v", last)
	}
	s.Mine(1)
	s.settled(id, 10_000)
}

func TestTowerAndProviderDoNotRace(t *testing.T) {
	rates := func(rate script.FeeRate, before, after bool) (all []int64) {
		s := newStand(t)
		id := s.bought(script.Taproot, 40)
		s.mineTo(s.terms(id).Expiry - s.terms(id).Margin)
		s.Chain.SetFeeRate(rate)
		for range s.terms(id).Margin {
			if before {
				s.step()
			}
			must(t, s.StepPayee())
			if after {
				s.step()
			}
			info, err := s.Chain.Tx(t.Context(), s.spend(id).Txid)
			must(t, err)
			outs := info.Tx.TxOut
			all = append(all, (40_000-outs[len(outs)-1].Value)*1000/script.VSize(info.Tx))
			_, err = s.Chain.MineBlock()
			must(t, err)
		}
		return all
	}
	alone := rates(3_300, false, false)
	for _, first := range []bool{true, false} {
		for i, got := range rates(3_300, first, true) {
			if got < alone[i]*9/10 || got > alone[i]+alone[i]/2+2_000 {
				t.Errorf("tower first %v, block %d: %d, alone %d", first, i, got, alone[i])
			}
		}
	}
}

func TestReorg(t *testing.T) {
	s := newStand(t)
	id := s.bought(script.Multisig, 5)
	s.mineTo(s.terms(id).Expiry - s.terms(id).Margin)
	s.step()
	s.Mine(1)
	spend := s.spend(id)
	_, err := s.Chain.ReorgWith(reorg(2, spend.Txid))
	must(t, err)
	s.step()
	if again := s.spend(id); again == nil {
		t.Fatal("the rung is not back")
	}
	s.Mine(1)
	s.settled(id, 5_000)
}

func TestEvicted(t *testing.T) {
	s := newStand(t)
	id := s.bought(script.Taproot, 20)
	s.mineTo(s.terms(id).Expiry - 10) // rungs are due, one more with each block
	s.step()
	for range 3 {
		before := s.spend(id)
		_, err := s.Chain.ReorgWith(reorg(1, before.Txid))
		must(t, err)
		if left := s.spend(id); left != nil {
			t.Fatalf("%s was not evicted", left.Txid)
		}
		s.restart()
		s.step()
		if again := s.spend(id); again == nil || again.Txid == before.Txid {
			t.Fatalf("a block later %v is in the mempool, where %s was evicted", again, before.Txid)
		}
	}
	s.Mine(1)
	s.settled(id, 20_000)
}

func TestRefundRaces(t *testing.T) {
	s := newStand(t)
	id := s.bought(script.Taproot, 40)
	s.mineTo(s.terms(id).Expiry - s.terms(id).Margin)
	s.step()
	for range s.terms(id).Margin {
		_, err := s.Chain.MineBlock() // the tower is away, and miners leave its rung out
		must(t, err)
	}
	r, err := s.Payer.Record(t.Context(), id)
	must(t, err)
	key, err := s.PayerKeys.PayerChannelKey(r.KeyIndex)
	must(t, err)
	ch, err := r.Terms.Script()
	must(t, err)
	raced := 0
	for _, rate := range []int64{3, 9, 100} {
		refund, _, err := ch.Refund(key, nil, s.Payout, script.FeeRatePerVB(rate))
		must(t, err)
		if err := s.Chain.Broadcast(t.Context(), refund); errors.Is(err, chain.ErrRejected) {
			continue // the tower's rung is dearer by now
		} else {
			must(t, err)
		}
		raced++
		s.step()
		if last := s.events[len(s.events)-1]; last.Why != tower.RefundSeen || s.spend(id).Txid.String() != last.Txid {
			t.Fatalf("against a refund at %d sat/vB: %+v", rate, last)
		}
	}
	if raced == 0 {
		t.Fatal("no refund was taken by the node")
	}
	s.Mine(1)
	s.settled(id, 40_000)
}
