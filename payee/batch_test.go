package payee_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/internal/pairtest"
	"github.com/spillway/spillway/payee"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/store"
)

// due opens channels of some kinds on one offer's expiry, each paid so many sat, and
// mines up to their margin.
func due(t *testing.T, p *pairtest.Pair, paid uint64, kinds ...script.Construction) (ids []string) {
	t.Helper()
	p.Coins(len(kinds))
	for _, kind := range kinds {
		id := p.Open(kind)
		u := p.Update(id, paid)
		_, err := p.Payee.Pay(t.Context(), payee.Request{Channel: id, Update: &u})
		wantNil(t, err)
		ids = append(ids, id)
	}
	toHeight(t, p, deadline(t, p, ids[len(ids)-1]))
	return ids
}

func deadline(t *testing.T, p *pairtest.Pair, id string) uint32 {
	t.Helper()
	r := recordOf(t, p, id)
	return r.Terms.Expiry - r.Terms.Margin
}

func recordOf(t *testing.T, p *pairtest.Pair, id string) channel.PayeeRecord {
	t.Helper()
	r, err := p.Payee.Record(t.Context(), id)
	wantNil(t, err)
	return r
}

func toHeight(t *testing.T, p *pairtest.Pair, height uint32) {
	t.Helper()
	tip, err := p.Chain.Tip(t.Context())
	wantNil(t, err)
	if tip.Height < height {
		p.Mine(int(height - tip.Height))
	}
}

// spender is what spends a channel now, in the mempool or in a block.
func spender(t *testing.T, p *pairtest.Pair, id string) *wire.MsgTx {
	t.Helper()
	s, err := p.Chain.Spend(t.Context(), wire.OutPoint(recordOf(t, p, id).Terms.Outpoint))
	wantNil(t, err)
	if s == nil {
		return nil
	}
	info, err := p.Chain.Tx(t.Context(), s.Txid)
	wantNil(t, err)
	return info.Tx
}

// refundAt is the payer's refund of a channel, at a rate.
func refundAt(t *testing.T, p *pairtest.Pair, id string, rate script.FeeRate) *wire.MsgTx {
	t.Helper()
	r, err := p.Payer.Record(t.Context(), id)
	wantNil(t, err)
	ch, err := r.Terms.Script()
	wantNil(t, err)
	key, err := p.PayerKeys.PayerChannelKey(r.KeyIndex)
	wantNil(t, err)
	tx, _, err := ch.Refund(key, r.RefundSig, r.RefundScript, rate)
	wantNil(t, err)
	return tx
}

// Channels that are due together are settled by one transaction with one payout: saved
// with all of them in one commit before it is sent, and the same again after a restart.
func TestSettledTogether(t *testing.T) {
	p := pairtest.New(t)
	ids := due(t, p, 9_000, script.Taproot, script.Multisig, script.MultisigP2SH)
	before := len(p.PayeeDisk.Commits())
	wantNil(t, p.StepPayee())
	tx := spender(t, p, ids[0])
	if tx == nil || len(tx.TxIn) != 3 || len(tx.TxOut) != 4 {
		t.Fatalf("%+v", tx)
	}
	var fee int64
	for _, id := range ids {
		r := recordOf(t, p, id)
		if r.Settlement.Txid != tx.TxID() || len(r.Settlement.Batch) != 3 || r.Settlement.Amount != 9_000 {
			t.Fatalf("%s: %+v", id, r.Settlement)
		}
		fee += r.Settlement.Fee
		for i, in := range tx.TxIn {
			if in.PreviousOutPoint == wire.OutPoint(r.Terms.Outpoint) && tx.TxOut[i].Value != int64(pairtest.Capacity-9_000) {
				t.Errorf("%s: a rest of %d sat", id, tx.TxOut[i].Value)
			}
		}
	}
	if got := tx.TxOut[3].Value; got != 27_000-fee || fee < script.VSize(tx) {
		t.Fatalf("a payout of %d sat with a fee of %d sat", got, fee)
	}
	together := 0
	for _, ops := range p.PayeeDisk.Commits()[before:] {
		if channels(ops) == 3 {
			together++
		}
	}
	if together != 1 {
		t.Fatalf("%d commits hold all three", together)
	}
	p.RestartPayee()
	sent := len(p.Chain.Sent())
	wantNil(t, p.StepPayee())
	if len(p.Chain.Sent()) != sent {
		t.Error("what waits in the mempool was sent again")
	}
	p.Mine(8)
	wantNil(t, p.StepPayee())
	for _, id := range ids {
		if r := recordOf(t, p, id); r.Phase != channel.Closed || !r.PaidBy(tx.TxID()) {
			t.Errorf("%s: phase %s by %s", id, r.Phase, r.SpentBy)
		}
	}
}

func channels(ops []store.Op) (n int) {
	for _, op := range ops {
		if op.Bucket == "payee/channel" {
			n++
		}
	}
	return n
}

// TestPitfall48_OnePayerEvictsABatch: at the expiry one payer's refund takes the place of
// the settlement of all. The others are settled alone with the next look, before a block,
// at no lower rate; the one that was evicted races for its own.
func TestPitfall48_OnePayerEvictsABatch(t *testing.T) {
	for _, kind := range []script.Construction{script.Taproot, script.Multisig, script.MultisigP2SH} {
		t.Run(string(kind), func(t *testing.T) {
			p := pairtest.New(t)
			kinds := []script.Construction{kind, kind, kind}
			if kind == script.MultisigP2SH {
				kinds = []script.Construction{kind, script.Taproot, script.Taproot}
			}
			ids := due(t, p, 9_000, kinds...)
			wantNil(t, p.StepPayee())
			all := spender(t, p, ids[0])
			if len(all.TxIn) != 3 {
				t.Fatalf("a settlement of %d channels", len(all.TxIn))
			}
			first := recordOf(t, p, ids[0])
			tip, err := p.Chain.Tip(t.Context())
			wantNil(t, err)
			for range first.Terms.Expiry - tip.Height { // nobody looks, and miners leave it out
				_, err := p.Chain.MineBlock()
				wantNil(t, err)
			}
			wantNil(t, p.Chain.Broadcast(t.Context(), refundAt(t, p, ids[0], script.FeeRatePerVB(20))))
			if spender(t, p, ids[1]) != nil {
				t.Fatal("the refund did not evict the batch")
			}
			wantNil(t, p.StepPayee())
			for i, id := range ids {
				tx, r := spender(t, p, id), recordOf(t, p, id)
				if tx == nil || len(tx.TxIn) != 1 || tx.LockTime != 0 || r.Settlement.Txid != tx.TxID() || len(r.Settlement.Batch) > 0 {
					t.Fatalf("channel %d: %+v by %+v", i, r.Settlement, tx)
				}
				if r.Settlement.Rate < first.Settlement.Rate {
					t.Errorf("channel %d: the rate fell to %d from %d", i, r.Settlement.Rate, first.Settlement.Rate)
				}
			}
			p.Mine(8)
			wantNil(t, p.StepPayee())
			for _, id := range ids {
				if r := recordOf(t, p, id); r.Phase != channel.Closed || !r.PaidBy(r.SpentBy) {
					t.Errorf("%s: phase %s", id, r.Phase)
				}
			}
		})
	}
}

// A batch that no node takes, because one of its channels is spent where nobody sees it,
// is settled one by one in the same look.
func TestRefusedBatchIsSettledOneByOne(t *testing.T) {
	p := pairtest.New(t)
	ids := due(t, p, 9_000, script.Taproot, script.Taproot, script.Taproot)
	blind := &refusing{Chain: p.Chain}
	drv, err := payee.New(payee.Config{
		Store: p.PayeeDisk, Keys: p.PayeeKeys, Chain: blind, Network: "regtest", Payout: p.Payout, Policy: p.Policy, Now: p.Now, Rand: bytes.NewReader(make([]byte, 1000)),
	})
	wantNil(t, err)
	p.Payee = drv
	wantNil(t, p.StepPayee())
	if blind.refused != 1 {
		t.Fatalf("%d batches were offered", blind.refused)
	}
	for _, id := range ids {
		if tx := spender(t, p, id); tx == nil || len(tx.TxIn) != 1 {
			t.Errorf("%s is spent by %+v", id, tx)
		}
	}
}

// A settlement of several channels that fell out of the mempool, with nobody's output
// spent elsewhere, is sent again as it is.
func TestLostBatchIsSentAgain(t *testing.T) {
	p := pairtest.New(t)
	ids := due(t, p, 9_000, script.Taproot, script.Multisig)
	p.Chain.Down(false)
	wantNil(t, p.StepPayee())
	txid := recordOf(t, p, ids[0]).Settlement.Txid
	hash := spender(t, p, ids[0]).TxHash()
	_, err := p.Chain.ReorgWith(dropping(1, hash))
	wantNil(t, err)
	if spender(t, p, ids[0]) != nil {
		t.Fatal("it is still there")
	}
	p.RestartPayee()
	wantNil(t, p.StepPayee())
	for _, id := range ids {
		if tx := spender(t, p, id); tx == nil || tx.TxID() != txid || recordOf(t, p, id).Settlement.Txid != txid {
			t.Fatalf("%s is spent by %v", id, tx)
		}
	}
}

// A batch is raised as a whole, by one payment that is worth it, and its rate never falls.
func TestBatchIsRaisedAsAWhole(t *testing.T) {
	p := pairtest.New(t)
	ids := due(t, p, 9_000, script.Taproot, script.Multisig, script.Taproot)
	wantNil(t, p.StepPayee())
	was := recordOf(t, p, ids[0]).Settlement
	pay := func(amount uint64) {
		t.Helper()
		u := p.Update(ids[1], amount)
		_, err := p.Payee.Pay(t.Context(), payee.Request{Channel: ids[1], Update: &u})
		if err != nil && !errors.Is(err, channel.ErrExpiring) {
			t.Fatal(err)
		}
		wantNil(t, p.StepPayee())
	}
	pay(9_100)
	if now := recordOf(t, p, ids[0]).Settlement; now.Txid != was.Txid {
		t.Fatal("100 sat are worth no replacement of three")
	}
	pay(12_000)
	for _, id := range ids {
		now := recordOf(t, p, id).Settlement
		if now.Txid == was.Txid || now.Rate < was.Rate+1000 || len(now.Batch) != 3 || spender(t, p, id).TxID() != now.Txid {
			t.Fatalf("%s: %+v after %+v", id, now, was)
		}
	}
	if got := recordOf(t, p, ids[1]).Settlement.Amount; got != 12_000 {
		t.Fatalf("%d sat are settled", got)
	}
	// A payer that asks for its settlement now is told that it is on its way.
	u := p.Update(ids[1], 12_000)
	_, err := p.Payee.Settle(t.Context(), ids[1], &u, true)
	wantErr(t, err, channel.ErrFinalized)
}
