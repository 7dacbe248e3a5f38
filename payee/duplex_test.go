package payee_test

import (
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/internal/pairtest"
	"github.com/spillway/spillway/payee"
	"github.com/spillway/spillway/payer"
	"github.com/spillway/spillway/script"
)

// openDuplex is a pair with an open duplex channel of 400 blocks.
func openDuplex(t *testing.T) (*pairtest.Pair, string) {
	t.Helper()
	p := pairtest.New(t)
	p.Kinds = []script.Construction{script.Taproot, script.Duplex}
	p.Policy.Duration = 400
	p.RestartPayee()
	return p, p.Open(script.Duplex)
}

// hand brings what the payee returned to the payer.
func hand(t *testing.T, p *pairtest.Pair, id string, got payee.Returned) {
	t.Helper()
	wantNil(t, p.Payer.TakeBack(t.Context(), id, got.Back, got.State))
}

// agree checks that both sides see one share and one ledger, in one epoch.
func agree(t *testing.T, p *pairtest.Pair, id string, share, ledger uint64, epoch uint32) {
	t.Helper()
	r, err := p.Payer.Record(t.Context(), id)
	wantNil(t, err)
	s, err := p.Payee.Record(t.Context(), id)
	wantNil(t, err)
	newest := max(r.Duplex.Held.Epoch, r.Duplex.Sent.Epoch)
	if r.Signed != share || s.Paid != share || r.Owed != ledger || s.Charged != ledger || newest != epoch {
		t.Fatalf("the payer: %d sat of %d msat in epoch %d; the payee: %d sat of %d msat; want %d sat of %d msat in epoch %d",
			r.Signed, r.Owed, newest, s.Paid, s.Charged, share, ledger, epoch)
	}
}

// A provider pays back for chunks that it over-charged: ten are bought, three are
// paid back, four more are bought, over restarts of both sides; it is closed at
// the ledger.
func TestDuplexPaysBack(t *testing.T) {
	p, id := openDuplex(t)
	ctx := t.Context()
	for i := range uint64(10) {
		_, err := p.Buy(id, i)
		wantNil(t, err)
	}
	_, err := p.Buy(id) // the last payment
	wantNil(t, err)
	agree(t, p, id, 10_000, 10*pairtest.Price, 1)
	got, err := p.Payee.Refund(ctx, id, "three", 3*pairtest.Price)
	wantNil(t, err)
	p.RestartPayee()
	again, err := p.Payee.Returned(ctx, id)
	wantNil(t, err)
	if again.Back != got.Back || string(again.State.Signature) != string(got.State.Signature) {
		t.Fatal("what is returned changed over a restart")
	}
	hand(t, p, id, again)
	p.RestartPayer()
	hand(t, p, id, again) // it came twice
	agree(t, p, id, 7_000, 7*pairtest.Price, 2)
	for i := range uint64(4) {
		_, err := p.Buy(id, 100+i)
		wantNil(t, err)
	}
	_, err = p.Buy(id)
	wantNil(t, err)
	agree(t, p, id, 11_000, 11*pairtest.Price, 3)
	small, err := p.Payee.Refund(ctx, id, "small", 50_000)
	wantNil(t, err)
	if small.State.Epoch != 2 {
		t.Fatalf("50 sat are not worth a reversal, and it is epoch %d", small.State.Epoch)
	}
	wantNil(t, p.Payer.TakeBack(ctx, id, small.Back, channel.Update{}))
	closed := closeTogether(t, p, id)
	var payout int64
	for _, out := range closed.TxOut {
		if string(out.PkScript) == string(p.Payout) {
			payout = out.Value
		}
	}
	if rest := closed.TxOut[0].Value; rest != pairtest.Capacity-10_950 || payout > 10_950 || payout < 10_700 {
		t.Fatalf("closed at %d and %d sat", rest, payout)
	}
}

// closeTogether closes a channel cooperatively and mines it.
func closeTogether(t *testing.T, p *pairtest.Pair, id string) *wire.MsgTx {
	t.Helper()
	ctx := t.Context()
	c, err := p.Payer.BeginClose(ctx, id)
	wantNil(t, err)
	answer, err := p.Payee.Close(ctx, id, channel.CloseRequest{Update: c.Update, PayerNonce: c.Nonce[:]})
	wantNil(t, err)
	final, err := p.Payer.FinishClose(ctx, id, c, answer.Tx, [66]byte(answer.PayeeNonce), answer.Partial)
	wantNil(t, err)
	wantNil(t, p.Payee.FinishClose(ctx, id, final))
	tx, err := channel.DecodeTx(final)
	wantNil(t, err)
	p.Mine(8)
	for _, step := range []func() error{p.StepPayer, p.StepPayee} {
		wantNil(t, step())
	}
	r, err := p.Payee.Record(ctx, id)
	wantNil(t, err)
	if r.Phase != channel.Closed {
		t.Fatalf("phase %s", r.Phase)
	}
	return tx
}

// Two peers sell to each other over one channel: each on credit, each pays.
func TestDuplexPeersSellToEachOther(t *testing.T) {
	p, id := openDuplex(t)
	ctx := t.Context()
	for i := range uint64(6) {
		_, err := p.Buy(id, i)
		wantNil(t, err)
	}
	_, err := p.Buy(id)
	wantNil(t, err)
	var state channel.Update
	for range 4 { // the payer's goods: charged, got and verified, paid
		_, err := p.Payer.Sell(ctx, id, payer.Sale{Update: state, Price: pairtest.Price, Credit: pairtest.Price})
		wantNil(t, err)
		if _, err := p.Payer.Sell(ctx, id, payer.Sale{Price: pairtest.Price, Credit: pairtest.Price}); !errors.Is(err, channel.ErrInsufficient) {
			t.Fatalf("a second one on a credit of one: %v", err)
		}
		got, err := p.Payee.Bought(ctx, id, payee.Purchase{Price: pairtest.Price, Blocked: true})
		wantNil(t, err)
		state = got.State
	}
	wantNil(t, p.Payer.TakeBack(ctx, id, 0, state))
	agree(t, p, id, 2_000, 2*pairtest.Price, 2)
	_, err = p.Buy(id, 50)
	wantNil(t, err)
	_, err = p.Buy(id)
	wantNil(t, err)
	agree(t, p, id, 3_000, 3*pairtest.Price, 3)
}

// Its operator cannot settle a duplex channel before the lock; nothing changes then.
func TestDuplexSettledNotBeforeTheLock(t *testing.T) {
	p, id := openDuplex(t)
	ctx := t.Context()
	for i := range uint64(6) {
		_, err := p.Buy(id, i)
		wantNil(t, err)
	}
	_, err := p.Buy(id)
	wantNil(t, err)
	if _, err := p.Payee.Settle(ctx, id, nil, false); !errors.Is(err, channel.ErrNotYet) {
		t.Fatalf("before the lock: %v", err)
	}
	_, err = p.Buy(id, 50)
	wantNil(t, err)
	r, err := p.Payee.Record(ctx, id)
	wantNil(t, err)
	lock, _ := r.Terms.Lock(1)
	tip, err := p.Chain.Tip(ctx)
	wantNil(t, err)
	p.Mine(int(lock - tip.Height))
	b, err := p.Payee.Settle(ctx, id, nil, false)
	wantNil(t, err)
	if b.Amount != 6_000 {
		t.Fatalf("settled at %d sat", b.Amount)
	}
}

// A pay-back has a key: whatever fails, and however often it is given again, it is
// paid back once. The key and what it did are one commit.
func TestDuplexPayBackOnce(t *testing.T) {
	p, id := openDuplex(t)
	ctx := t.Context()
	for i := range uint64(6) {
		_, err := p.Buy(id, i)
		wantNil(t, err)
	}
	_, err := p.Buy(id)
	wantNil(t, err)
	before := len(p.PayeeDisk.Commits())
	first, err := p.Payee.Refund(ctx, id, "order", 2*pairtest.Price)
	wantNil(t, err)
	if n := len(p.PayeeDisk.Commits()); n != before+1 || len(p.PayeeDisk.Commits()[before]) != 3 {
		t.Fatalf("%d commits, the key, the record and the day's entry belong in one", n-before)
	}
	for range 3 {
		p.RestartPayee()
		again, err := p.Payee.Refund(ctx, id, "order", 2*pairtest.Price)
		wantNil(t, err)
		if again.Back != first.Back || again.State.Amount != first.State.Amount || len(p.PayeeDisk.Commits()) != before+1 {
			t.Fatalf("again: %+v after %+v", again, first)
		}
	}
	for name, c := range map[string]struct {
		key  string
		msat uint64
		want error
	}{
		"another amount":     {"order", pairtest.Price, channel.ErrConflict},
		"no key":             {"", pairtest.Price, channel.ErrTerms},
		"a long key":         {string(make([]byte, 129)), pairtest.Price, channel.ErrTerms},
		"nothing":            {"x", 0, channel.ErrTerms},
		"more than there is": {"x", 5 * pairtest.Price, channel.ErrAmountExceeds},
	} {
		if _, err := p.Payee.Refund(ctx, id, c.key, c.msat); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	got, err := p.Payee.Refund(ctx, id, "order-2", pairtest.Price)
	wantNil(t, err)
	hand(t, p, id, first) // late, and then the newer one
	hand(t, p, id, got)
	hand(t, p, id, first)
	agree(t, p, id, 3_000, 3*pairtest.Price, 2)
	entries, err := payee.Earnings(ctx, p.PayeeDisk, "")
	wantNil(t, err)
	var earned, back uint64
	for _, e := range entries {
		earned, back = earned+e.Msat, back+e.Back
	}
	if earned != 6*pairtest.Price || back != 3*pairtest.Price {
		t.Errorf("%d msat earned and %d paid back, of 6 chunks and 3", earned, back)
	}
}

// The payer's chunks are charged once each, and no more than the credit is lent.
func TestDuplexPayerChargesOnce(t *testing.T) {
	p, id := openDuplex(t)
	ctx := t.Context()
	for i := range uint64(6) {
		_, err := p.Buy(id, i)
		wantNil(t, err)
	}
	_, err := p.Buy(id)
	wantNil(t, err)
	order := func(n uint64, u channel.Update) (payer.Sold, error) {
		return p.Payer.SellItems(ctx, id, payer.Order{Update: u, Items: []payee.Item{{Chunk: n, Price: pairtest.Price}}, Credit: pairtest.Price})
	}
	var state channel.Update
	for i := range uint64(4) {
		sold, err := order(i, state)
		wantNil(t, err)
		p.RestartPayer()
		again, err := order(i, state)
		wantNil(t, err)
		if sold.Fresh != pairtest.Price || sold.Units != 1 || again.Units != 0 || again.Ledger != sold.Ledger {
			t.Fatalf("charged %+v, and again %+v", sold, again)
		}
		if _, err := order(100, channel.Update{}); !errors.Is(err, channel.ErrInsufficient) {
			t.Fatalf("a second one on a credit of one: %v", err)
		}
		got, err := p.Payee.Bought(ctx, id, payee.Purchase{Price: pairtest.Price, Blocked: true})
		wantNil(t, err)
		state = got.State
	}
	sold, err := p.Payer.SellItems(ctx, id, payer.Order{Update: state})
	wantNil(t, err)
	if sold.Held != pairtest.Capacity-2_000 || sold.Required != sold.Held {
		t.Fatalf("the payer holds %d sat of %d sat", sold.Held, sold.Required)
	}
	agree(t, p, id, 2_000, 2*pairtest.Price, 2)
	old := state
	old.Amount++
	if _, err := order(200, old); !errors.Is(err, channel.ErrSignature) {
		t.Fatalf("a state of the payee's that it did not sign: %v", err)
	}
	if _, err := order(200, channel.Update{Epoch: 3, Amount: 1, Signature: state.Signature}); err == nil {
		t.Fatal("a state of the other direction was taken")
	}
}

// step lets both sides look at the chain after each of n blocks.
func step(t *testing.T, p *pairtest.Pair, n int, sides ...func() error) {
	t.Helper()
	for range n {
		p.Mine(1)
		for _, s := range sides {
			wantNil(t, s())
		}
	}
}

// TestPitfall55_Duplex: whatever the other side does, or does not, the newest
// state is mined: by a receiver that heard of nothing else, at its deadline; and
// an old state that is broadcast is replaced.
func TestPitfall55_Duplex(t *testing.T) {
	buy := func(t *testing.T, p *pairtest.Pair, id string, n uint64) {
		t.Helper()
		for i := range n {
			_, err := p.Buy(id, i)
			wantNil(t, err)
		}
		_, err := p.Buy(id)
		wantNil(t, err)
	}
	spender := func(t *testing.T, p *pairtest.Pair, id string) *wire.MsgTx {
		t.Helper()
		op, err := channel.ParseOutpoint(id)
		wantNil(t, err)
		s, err := p.Chain.Spend(t.Context(), wire.OutPoint(op))
		wantNil(t, err)
		if s == nil || !s.Confirmed {
			t.Fatal("the channel is not settled")
		}
		info, err := p.Chain.Tx(t.Context(), s.Txid)
		wantNil(t, err)
		return info.Tx
	}
	t.Run("idle receiver", func(t *testing.T) { // the payee closes, though the payer says nothing
		p, id := openDuplex(t)
		buy(t, p, id, 10)
		step(t, p, 400, p.StepPayee)
		if tx := spender(t, p, id); tx.TxOut[0].Value != pairtest.Capacity-10_000 {
			t.Fatalf("the payer's rest is %d sat", tx.TxOut[0].Value)
		}
	})
	t.Run("paid back, and the payee says nothing", func(t *testing.T) { // the payer closes with epoch 2
		p, id := openDuplex(t)
		buy(t, p, id, 10)
		got, err := p.Payee.Refund(t.Context(), id, "four", 4*pairtest.Price)
		wantNil(t, err)
		hand(t, p, id, got)
		step(t, p, 400, p.StepPayer)
		if tx := spender(t, p, id); tx.TxOut[0].Value != 6_000 {
			t.Fatalf("the payee's rest is %d sat", tx.TxOut[0].Value)
		}
	})
	t.Run("an old state is broadcast", func(t *testing.T) { // epoch 1, by a payee that had paid back
		p, id := openDuplex(t)
		buy(t, p, id, 10)
		before, err := p.Payee.Record(t.Context(), id)
		wantNil(t, err)
		got, err := p.Payee.Refund(t.Context(), id, "four", 4*pairtest.Price)
		wantNil(t, err)
		hand(t, p, id, got)
		lock, _ := before.Terms.Lock(1)
		tip, err := p.Chain.Tip(t.Context())
		wantNil(t, err)
		p.Mine(int(lock - tip.Height))
		old := completeOld(t, p, before)
		wantNil(t, p.Chain.Broadcast(t.Context(), old))
		wantNil(t, p.StepPayer()) // it sees the old state on its way, and outbids it
		p.Mine(1)
		if tx := spender(t, p, id); tx.TxHash() == old.TxHash() || tx.TxOut[0].Value != 6_000 {
			t.Fatalf("the old state was mined: the payee has %d sat", tx.TxOut[0].Value)
		}
	})
	t.Run("both act in time", func(t *testing.T) {
		p, id := openDuplex(t)
		buy(t, p, id, 10)
		got, err := p.Payee.Refund(t.Context(), id, "four", 4*pairtest.Price)
		wantNil(t, err)
		hand(t, p, id, got)
		step(t, p, 400, p.StepPayer, p.StepPayee)
		if tx := spender(t, p, id); tx.TxOut[0].Value != 6_000 || tx.LockTime == 0 {
			t.Fatalf("%d sat at %d", tx.TxOut[0].Value, tx.LockTime)
		}
		for _, phase := range phases(t, p, id) {
			if phase != channel.Closed {
				t.Errorf("phase %s", phase)
			}
		}
	})
}

// completeOld is the settlement of what a payee held before.
func completeOld(t *testing.T, p *pairtest.Pair, r channel.PayeeRecord) *wire.MsgTx {
	t.Helper()
	ch, err := r.Terms.Script()
	wantNil(t, err)
	claim, err := r.Claim(ch)
	wantNil(t, err)
	claim.PayeeKey, err = p.PayeeKeys.PayeeChannelKey(r.Terms.Nonce)
	wantNil(t, err)
	tx, _, err := script.Settle([]script.Claim{claim}, p.Payout, 1000)
	wantNil(t, err)
	return tx
}

func phases(t *testing.T, p *pairtest.Pair, id string) [2]channel.Phase {
	t.Helper()
	r, err := p.Payer.Record(t.Context(), id)
	wantNil(t, err)
	s, err := p.Payee.Record(t.Context(), id)
	wantNil(t, err)
	return [2]channel.Phase{r.Phase, s.Phase}
}

// TestOrdersDoNotAskTheChain: a peer that orders again and again has the payer ask the
// chain once in a while, not for each order; a block that the watch saw counts at once.
func TestOrdersDoNotAskTheChain(t *testing.T) {
	p, id := openDuplex(t)
	ctx := t.Context()
	for i := range uint64(3) {
		_, err := p.Buy(id, i)
		wantNil(t, err)
	}
	_, err := p.Buy(id)
	wantNil(t, err)
	now := p.Now()
	peer, err := payer.New(payer.Config{Store: p.PayerDisk, Keys: p.PayerKeys, Wallet: p.Wallet, Chain: p.Chain, Network: "regtest", Policy: p.Policy,
		Rand: rand.NewChaCha8([32]byte{9}), Now: func() time.Time { return now }})
	wantNil(t, err)
	order := func(n uint64) error {
		_, err := peer.SellItems(ctx, id, payer.Order{Items: []payee.Item{{Chunk: n, Price: 1}}, Credit: 1_000})
		return err
	}
	asked := p.Chain.Asked()
	for n := range uint64(50) {
		wantNil(t, order(n))
	}
	if n := p.Chain.Asked() - asked; n < 1 || n > 2 {
		t.Errorf("the tip was asked for %d times in 50 orders", n)
	}
	now, asked = now.Add(20*time.Second), p.Chain.Asked()
	wantNil(t, order(50))
	if n := p.Chain.Asked() - asked; n < 1 {
		t.Error("what is 20 seconds old serves on")
	}
	r, err := peer.Record(ctx, id)
	wantNil(t, err)
	wantNil(t, peer.Due(ctx, id, channel.View{Tip: r.Terms.Expiry, Funding: channel.FundingView{Seen: true, Height: 1}}, nil))
	if err := order(51); err == nil {
		t.Error("sold after the expiry that the watch saw")
	}
}
