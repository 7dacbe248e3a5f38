package tower_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/internal/pairtest"
	"github.com/spillway/spillway/payee"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/watch/tower"
)

// newDuplex is a stand with a duplex channel of 400 blocks, in which n chunks were
// bought and paid: epoch 1.
func newDuplex(t *testing.T, n int) (*stand, string) {
	t.Helper()
	s := newStand(t)
	s.Kinds = []script.Construction{script.Taproot, script.Duplex}
	s.Policy.Duration = 400
	s.RestartPayee()
	id := s.Open(script.Duplex)
	s.buy(id, 0, n)
	return s, id
}

// duplex is what would be handed over of a duplex channel now.
func (s *stand) duplex(id string) tower.Handoff {
	s.t.Helper()
	h := s.ladder(id)
	h.Step = s.terms(id).Step
	return h
}

func (s *stand) take(h tower.Handoff) tower.Taken {
	s.t.Helper()
	taken, err := s.tower.Take(s.t.Context(), provider, h)
	must(s.t, err)
	return taken
}

// back lets the payee return so many chunks, by a state of its own, which the payer takes.
func (s *stand) back(id, key string, n int) payee.Returned {
	s.t.Helper()
	got, err := s.Payee.Refund(s.t.Context(), id, key, uint64(n)*pairtest.Price)
	must(s.t, err)
	must(s.t, s.Payer.TakeBack(s.t.Context(), id, got.Back, got.State))
	return got
}

// threeEpochs: 20 chunks were bought, 8 given back, 3 bought again. The tower holds the
// ladder of epoch 3, 15,000 sat, and the payer the state of epoch 2.
func threeEpochs(t *testing.T) (*stand, string) {
	t.Helper()
	s, id := newDuplex(t, 20)
	s.take(s.duplex(id))
	s.back(id, "eight", 8)
	s.buy(id, 100, 103)
	if taken := s.take(s.duplex(id)); !taken.Stored || taken.Epoch != 3 || taken.Amount != 15_000 {
		t.Fatalf("taken %+v", taken)
	}
	return s, id
}

func (s *stand) lock(id string, epoch uint32) uint32 {
	s.t.Helper()
	height, ok := s.terms(id).Lock(epoch)
	if !ok {
		s.t.Fatalf("no epoch %d", epoch)
	}
	return height
}

// payers is the settlement of what the payer holds, at a rate.
func (s *stand) payers(id string, rate script.FeeRate) *wire.MsgTx {
	s.t.Helper()
	r, err := s.Payer.Record(s.t.Context(), id)
	must(s.t, err)
	ch, err := r.Terms.Script()
	must(s.t, err)
	claim, err := r.Claim(ch)
	must(s.t, err)
	claim.PayeeKey, err = s.PayerKeys.PayerChannelKey(r.KeyIndex)
	must(s.t, err)
	tx, _, err := script.Settle([]script.Claim{claim}, r.RefundScript, rate)
	must(s.t, err)
	return tx
}

func (s *stand) inMempool(id string, tx *wire.MsgTx) bool {
	s.t.Helper()
	spend := s.spend(id)
	return spend != nil && !spend.Confirmed && spend.Txid == tx.TxHash()
}

func (s *stand) last() tower.Event {
	s.t.Helper()
	if len(s.events) == 0 {
		s.t.Fatal("the tower did nothing")
	}
	return s.events[len(s.events)-1]
}

// The provider is dead. The tower settles its newest state from the lock on, which is the
// deadline of its epoch, and not before; what is due follows epoch after epoch.
func TestDuplexDeadline(t *testing.T) {
	for _, epochs := range []uint32{1, 3} {
		t.Run(fmt.Sprint(epochs, " epochs"), func(t *testing.T) {
			s, id, amount := (*stand)(nil), "", int64(20_000)
			if epochs == 1 {
				s, id = newDuplex(t, 20)
				s.take(s.duplex(id))
			} else {
				s, id = threeEpochs(t)
				amount = 15_000
			}
			s.mineTo(s.lock(id, epochs) - 1)
			sent := len(s.Chain.Sent())
			s.step()
			if len(s.Chain.Sent()) != sent {
				t.Fatal("a rung was tried before its lock")
			}
			s.Mine(1)
			s.restart()
			s.step()
			s.step()
			if last := s.last(); last.Why != tower.AtMargin || last.Epoch != epochs {
				t.Fatalf("the tower did %+v", last)
			}
			s.Mine(1)
			s.settled(id, amount)
		})
	}
}

// The payer broadcasts its older state as soon as it is valid; the provider is dead and the
// tower was away. The tower's state is valid since a step, and takes its place. So with
// the refund, against a ladder of epoch 1.
func TestDuplexOlderState(t *testing.T) {
	s, id := threeEpochs(t)
	s.mineTo(s.lock(id, 2))
	old := s.payers(id, script.FeeRatePerVB(3))
	if old.LockTime != s.lock(id, 2) {
		t.Fatalf("locked until %d", old.LockTime)
	}
	must(t, s.Chain.Broadcast(t.Context(), old))
	s.step()
	if last := s.last(); last.Why != tower.OlderState || s.inMempool(id, old) {
		t.Fatalf("the tower did %+v", last)
	}
	s.Mine(1)
	s.settled(id, 15_000)

	s, id = newDuplex(t, 20)
	s.take(s.duplex(id))
	s.mineTo(s.lock(id, 0))
	refund, err := s.Payer.Refund(t.Context(), id)
	must(t, err)
	s.step()
	if last := s.last(); last.Why != tower.RefundSeen || s.spend(id).Txid.String() == refund.Txid {
		t.Fatalf("the tower did %+v", last)
	}
	s.Mine(1)
	s.settled(id, 20_000)
}

// An older state of the payee's own, as a copy that was restored would broadcast it, does not
// stand against the newer one either: one of an older epoch, though of a higher
// amount, or of a lower amount in the same epoch.
func TestDuplexOlderStateOfTheProviders(t *testing.T) {
	rung := func(s *stand, id string) *wire.MsgTx {
		rungs, err := s.Payee.Rungs(t.Context(), id, script.FeeRatePerVB(2))
		must(t, err)
		tx, err := channel.DecodeTx(rungs[0].Tx)
		must(t, err)
		return tx
	}
	s, id := newDuplex(t, 20)
	old := rung(s, id)
	s.back(id, "eight", 8)
	s.buy(id, 100, 103)
	less := rung(s, id)
	s.buy(id, 103, 105)
	if taken := s.take(s.duplex(id)); taken.Amount != 17_000 || taken.Epoch != 3 {
		t.Fatalf("taken %+v", taken)
	}
	s.mineTo(s.lock(id, 3))
	must(t, s.Chain.Broadcast(t.Context(), less))
	s.step()
	if last := s.last(); last.Why != tower.OlderState || s.inMempool(id, less) {
		t.Fatalf("over less in one epoch the tower did %+v", last)
	}
	_, err := s.Chain.ReorgWith(reorg(1, s.spend(id).Txid))
	must(t, err)
	for s.blocksTo(s.lock(id, 1)) > 0 { // it is at the lock of epoch 1, and the rungs were kept out
		_, err := s.Chain.MineBlock()
		must(t, err)
	}
	if s.spend(id) != nil {
		t.Fatal("something is in the mempool")
	}
	must(t, s.Chain.Broadcast(t.Context(), old))
	s.step()
	if last := s.last(); last.Why != tower.OlderState || s.inMempool(id, old) {
		t.Fatalf("over an older epoch the tower did %+v", last)
	}
	s.Mine(1)
	s.settled(id, 17_000)
}

// A newer ladder is one of a later epoch, whatever its amount, then one of a higher
// amount; an older one that comes again changes nothing.
func TestDuplexNewer(t *testing.T) {
	s, id := newDuplex(t, 20)
	first := s.duplex(id)
	s.take(first)
	s.back(id, "eight", 8)
	s.buy(id, 100, 103)
	third := s.duplex(id)
	s.buy(id, 103, 104)
	for i, c := range []struct {
		h      tower.Handoff
		stored bool
		epoch  uint32
		amount int64
	}{
		{first, false, 1, 20_000}, {third, true, 3, 15_000}, {first, false, 3, 15_000}, {s.duplex(id), true, 3, 16_000},
		{third, false, 3, 16_000}, {first, false, 3, 16_000},
	} {
		if got := s.take(c.h); got.Stored != c.stored || got.Epoch != c.epoch || got.Amount != c.amount {
			t.Errorf("hand-off %d: %+v", i, got)
		}
	}
	held, err := s.tower.Entries(t.Context(), provider)
	must(t, err)
	if e := held[0]; e.Lock != s.lock(id, 3) || e.Until() != s.lock(id, 2) || e.Deadline() != s.lock(id, 2)-s.terms(id).Margin {
		t.Errorf("lock %d, until %d, deadline %d", e.Lock, e.Until(), e.Deadline())
	}
}

// reversed: the payee has returned 8 of 20 chunks. The tower holds its state of epoch 1, the
// payer the newer one of epoch 2.
func reversed(t *testing.T) (*stand, string) {
	t.Helper()
	s, id := newDuplex(t, 20)
	s.take(s.duplex(id))
	s.back(id, "eight", 8)
	return s, id
}

// A newer state of the payer's is left alone, also from the tower's deadline on, as long as
// it pays what is usual; a cooperative close is as well.
func TestDuplexNewerStateIsLeftAlone(t *testing.T) {
	s, id := reversed(t)
	s.mineTo(s.lock(id, 2))
	newer := s.payers(id, script.FeeRatePerVB(5))
	must(t, s.Chain.Broadcast(t.Context(), newer))
	s.Chain.SetFeeRate(script.FeeRatePerVB(5))
	for s.blocksTo(s.lock(id, 0)-12) > 0 {
		s.step()
		if !s.inMempool(id, newer) {
			t.Fatalf("%d blocks before the expiry the tower did %+v", s.blocksTo(s.lock(id, 0)), s.last())
		}
		_, err := s.Chain.MineBlock()
		must(t, err)
	}

	s, id = reversed(t)
	begun, err := s.Payer.BeginClose(t.Context(), id)
	must(t, err)
	answer, err := s.Payee.Close(t.Context(), id, channel.CloseRequest{Update: begun.Update, PayerNonce: begun.Nonce[:], Ledger: &begun.Ledger})
	must(t, err)
	_, err = s.Payer.FinishClose(t.Context(), id, begun, answer.Tx, [66]byte(answer.PayeeNonce), answer.Partial)
	must(t, err)
	for s.blocksTo(s.lock(id, 1)-1) > 0 {
		_, err := s.Chain.MineBlock()
		must(t, err)
	}
	s.step()
	if spend := s.spend(id); spend == nil || spend.Txid.String() != answer.Txid {
		t.Fatalf("in the mempool is %v, not the close %s", spend, answer.Txid)
	}
}

// A payer that puts its newer state in the way, at a fee that no miner takes, to replace it by
// something older once that is valid, gains nothing: from its deadline on the tower takes
// the place of what pays less than is usual.
func TestDuplexParkedState(t *testing.T) {
	s, id := reversed(t)
	s.Chain.SetFeeRate(script.FeeRatePerVB(9))
	s.mineTo(s.lock(id, 1) - 1) // the tower's deadline is the next block
	parked := s.payers(id, script.FeeRatePerVB(1))
	must(t, s.Chain.Broadcast(t.Context(), parked))
	s.step()
	if !s.inMempool(id, parked) {
		t.Fatal("before its deadline the tower replaced a newer state")
	}
	_, err := s.Chain.MineBlock()
	must(t, err)
	s.step()
	if last := s.last(); last.Why != tower.Stuck || s.inMempool(id, parked) {
		t.Fatalf("the tower did %+v", last)
	}
	s.Mine(1)
	s.settled(id, 20_000)
}

// What is handed over of a duplex channel is checked: its lock is that of an epoch in which
// the payee receives.
func TestDuplexRefusals(t *testing.T) {
	s, id := newDuplex(t, 20)
	terms := s.terms(id)
	for name, c := range map[string]struct {
		change func(h *tower.Handoff)
		want   error
	}{
		"without its step":        {func(h *tower.Handoff) { h.Step = 0 }, tower.ErrLocked},
		"a step below the margin": {func(h *tower.Handoff) { h.Step = h.Margin - 1 }, tower.ErrTime},
		"a step to the expiry":    {func(h *tower.Handoff) { h.Step = h.Expiry }, tower.ErrTime},
		"another step":            {func(h *tower.Handoff) { h.Step++ }, tower.ErrLocked},
		"between two locks":       {func(h *tower.Handoff) { h.Expiry++ }, tower.ErrLocked},
		"an even epoch":           {func(h *tower.Handoff) { h.Expiry += h.Step }, tower.ErrLocked},
		"no epoch, after it":      {func(h *tower.Handoff) { h.Expiry -= h.Step }, tower.ErrLocked},
		"a lock after the expiry": {func(h *tower.Handoff) { h.Expiry = h.Step*2 + h.Margin }, tower.ErrLocked},
		"a lock of its own":       {func(h *tower.Handoff) { change(t, h, func(tx *wire.MsgTx, _ int) { tx.LockTime -= 2 * terms.Step }) }, tower.ErrExecute},
		"no lock":                 {func(h *tower.Handoff) { change(t, h, func(tx *wire.MsgTx, _ int) { tx.LockTime = 0 }) }, tower.ErrLocked},
	} {
		h := s.duplex(id)
		c.change(&h)
		if _, err := s.tower.Take(t.Context(), provider, h); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	rungs, err := s.duplex(id).Unpack()
	must(t, err)
	for i, tx := range rungs {
		tx.LockTime += uint32(i)
	}
	if _, err := tower.Pack(rungs); !errors.Is(err, tower.ErrMalformed) {
		t.Errorf("rungs of different locks: %v", err)
	}
	s.take(s.duplex(id))
	one := s.Open(script.Taproot)
	s.buy(one, 200, 210)
	h := s.ladder(one)
	h.Step = 36
	if _, err := s.tower.Take(t.Context(), provider, h); !errors.Is(err, tower.ErrLocked) {
		t.Errorf("a channel that goes one way with a step: %v", err)
	}
}

// change changes each rung of a hand-off.
func change(t *testing.T, h *tower.Handoff, f func(tx *wire.MsgTx, i int)) {
	t.Helper()
	*h = repack(t, *h, func(rungs []*wire.MsgTx) []*wire.MsgTx {
		for i, tx := range rungs {
			f(tx, i)
		}
		return rungs
	})
}

// Every rung pays both sides what the state says; changed, it is invalid.
func TestDuplexDishonestTower(t *testing.T) {
	s, id := threeEpochs(t)
	held, err := s.tower.Entries(t.Context(), provider)
	must(t, err)
	e := held[0]
	rungs, err := e.Ladder.Unpack()
	must(t, err)
	t1, err := channel.DecodeTx(e.Funding)
	must(t, err)
	at := wire.OutPoint(e.Channel)
	prev := map[wire.OutPoint]*wire.TxOut{at: t1.TxOut[at.Index]}
	for i, tx := range rungs {
		must(t, script.Execute(tx, prev))
		if tx.TxOut[0].Value != 35_000 || tx.TxOut[1].Value != 15_000-e.Rungs[i].Fee {
			t.Errorf("rung %d pays %d and %d sat", i, tx.TxOut[0].Value, tx.TxOut[1].Value)
		}
		sooner := tx.Copy()
		sooner.LockTime -= 2 * s.terms(id).Step
		if err := script.Execute(sooner, prev); !errors.Is(err, script.ErrExecute) {
			t.Errorf("rung %d with another lock: %v", i, err)
		}
		if err := s.Chain.Broadcast(t.Context(), tx); err == nil {
			t.Errorf("rung %d is taken before its lock", i)
		}
	}
	if spend := s.spend(id); spend != nil {
		t.Errorf("spent by %v", spend)
	}
}
