package channel

import (
	"errors"
	"testing"

	"pgregory.net/rapid"

	"github.com/spillway/spillway/script"
)

const smallestStep = margin

// duplexTerms is a duplex channel of 1,000 blocks.
func duplexTerms(change ...func(*Terms)) Terms {
	return terms(append([]func(*Terms){func(t *Terms) {
		t.Construction, t.Step, t.PayeeRest = script.Duplex, smallestStep, p2tr(0x55)
	}}, change...)...)
}

// both is a pair of records of one open duplex channel.
type both struct {
	t    *testing.T
	ch   *script.Channel
	side [2]Duplex
}

func newBoth(t *testing.T, change ...func(*Terms)) *both {
	t.Helper()
	terms := duplexTerms(change...)
	b := &both{t: t, ch: terms.built(t)}
	for s := range b.side {
		b.side[s] = Duplex{Terms: terms, Side: script.Side(s), Phase: Open}
	}
	return b
}

// goods moves the ledger on both sides: positive for the payee's, negative for the payer's.
func (b *both) goods(msat int64) {
	for s := range b.side {
		b.side[s].Ledger = uint64(int64(b.side[s].Ledger) + msat)
	}
}

// sign is what a driver does with what Pay decided.
func (b *both) sign(r Duplex) Duplex {
	b.t.Helper()
	state, err := r.Terms.State(r.Sent.Epoch, r.Sent.Amount)
	wantNil(b.t, err)
	key := priv(0x11)
	if r.Side == script.Payee {
		key = priv(0x22)
	}
	sig, err := b.ch.SignState(key, state)
	wantNil(b.t, err)
	return r.Signed(sig)
}

// take is what a driver does with an update that came.
func (b *both) take(r Duplex, u Update, tip uint32) (Duplex, bool, error) {
	b.t.Helper()
	if err := r.Terms.VerifyUpdate(b.ch, u); err != nil {
		return r, false, err
	}
	return r.Take(u, tip)
}

var anyAmount = DuplexLimits{Budget: MaxSat}

// pay lets a side pay what it owes; the other takes it.
func (b *both) pay(by script.Side, tip uint32, lim DuplexLimits) error {
	b.t.Helper()
	next, due, err := b.side[by].Pay(tip, lim)
	if err != nil || !due {
		return err
	}
	b.side[by] = b.sign(next)
	other := by.Other()
	took, changed, err := b.take(b.side[other], b.side[by].Sent, tip)
	if err == nil && !changed {
		b.t.Fatal("a newer state had no effect")
	}
	b.side[other] = took
	return err
}

// Money flows both ways: what is owed at the end is what the newest state gives.
func TestDuplexBothWays(t *testing.T) {
	b := newBoth(t)
	for i, move := range []struct {
		by   script.Side
		msat int64
	}{{script.Payer, 5_000_000}, {script.Payer, 7_000_500}, {script.Payee, -2_000_000}, {script.Payee, -1_000_000}, {script.Payer, 30_000_000}, {script.Payee, -9_999_500}} {
		b.goods(move.msat)
		wantNil(t, b.pay(move.by, 200, anyAmount))
		a, c := b.side[script.Payer], b.side[script.Payee]
		if a.Share() != c.Share() || a.Share() != a.Target() || a.Newest().Epoch != c.Newest().Epoch {
			t.Fatalf("move %d: the payer sees %d sat in epoch %d, the payee %d sat in epoch %d, owed are %d sat",
				i, a.Share(), a.Newest().Epoch, c.Share(), c.Newest().Epoch, a.Target())
		}
	}
	if e := b.side[script.Payer].Newest().Epoch; e != 4 {
		t.Errorf("after three reversals the epoch is %d", e)
	}
	back, err := b.side[script.Payee].PayBack(1000)
	wantNil(t, err)
	if back.Owes(script.Payee) != 1 || back.Owes(script.Payer) != 0 {
		t.Errorf("paid back 1 sat: %d and %d sat are owed", back.Owes(script.Payee), back.Owes(script.Payer))
	}
	_, err = back.PayBack(back.Ledger + 1)
	wantErr(t, err, ErrAmountExceeds)
	told := b.side[script.Payer].TakeBack(back.Back)
	if told.Ledger != back.Ledger || told.TakeBack(back.Back).Ledger != back.Ledger || told.TakeBack(MaxSat*1000).Ledger != 0 {
		t.Errorf("the payer was told: its ledger is %d msat, the payee's %d msat", told.Ledger, back.Ledger)
	}
}

// Locks fall by a step with every epoch; only so many epochs fit, and the last
// runs from the payer to the payee.
func TestDuplexEpochs(t *testing.T) {
	terms := duplexTerms(func(t *Terms) { t.Expiry = 1008 })
	if n := terms.Epochs(0); n != 27 {
		t.Errorf("%d epochs fit into 1,008 blocks", n)
	}
	for tip := uint32(0); tip < 1008; tip++ {
		n := terms.Epochs(tip)
		if n > 0 && (n%2 == 0 || !terms.takes(n, tip)) || terms.takes(n+2, tip) {
			t.Fatalf("at height %d %d epochs", tip, n)
		}
	}
	if _, ok := terms.Lock(28); ok {
		t.Error("epoch 28 has a lock at 0")
	}
	for _, change := range []func(*Terms){func(t *Terms) { t.Step = margin - 1 }, func(t *Terms) { t.Step = 0 }, func(t *Terms) { t.Step = expiry }} {
		wantErr(t, duplexTerms(change).CheckStep(), ErrTerms)
	}
	wantNil(t, duplexTerms().CheckStep())
	wantNil(t, terms.CheckStep())
	one := duplexTerms(func(t *Terms) { t.Construction, t.Step = script.Taproot, 0 })
	wantNil(t, one.CheckStep())
}

// Each condition under which a state is taken, at its boundary.
func TestDuplexTake(t *testing.T) {
	b := newBoth(t)
	b.goods(20_000_000)
	wantNil(t, b.pay(script.Payer, 200, anyAmount))
	b.goods(-5_000_000)
	wantNil(t, b.pay(script.Payee, 200, anyAmount)) // epoch 2, the payer holds 85,000 sat
	b.goods(1_000_000)
	next, due, err := b.side[script.Payer].Pay(200, anyAmount)
	if err != nil || !due {
		t.Fatal(due, err)
	}
	good := b.sign(next).Sent // epoch 3, 16,000 sat
	edge := expiry - 2*smallestStep - margin
	for name, c := range map[string]struct {
		change func(*Update, *Duplex)
		tip    uint32
		want   error
		stale  bool
	}{
		"as it is":                  {func(*Update, *Duplex) {}, edge - 1, nil, false},
		"at the edge of the epoch":  {func(*Update, *Duplex) {}, edge, ErrExpiring, false},
		"an epoch is left out":      {func(s *Update, _ *Duplex) { s.Epoch = 5 }, 200, ErrTerms, false},
		"our own epoch":             {func(s *Update, _ *Duplex) { s.Epoch = 2 }, 200, ErrTerms, false},
		"epoch 0":                   {func(s *Update, _ *Duplex) { s.Epoch = 0 }, 200, ErrTerms, false},
		"an epoch that is reversed": {func(s *Update, _ *Duplex) { s.Epoch, s.Amount = 1, 50_000 }, 200, nil, true},
		"it takes money back":       {func(s *Update, _ *Duplex) { s.Amount = 14_999 }, 200, ErrAmountExceeds, false},
		"above the capacity":        {func(s *Update, _ *Duplex) { s.Amount = capacity + 1 }, 200, ErrAmountExceeds, false},
		"a rest below dust":         {func(s *Update, _ *Duplex) { s.Amount = capacity - 1 }, 200, ErrAmountExceeds, false},
		"another amount":            {func(s *Update, _ *Duplex) { s.Amount++ }, 200, ErrSignature, false},
		"of another epoch":          {func(s *Update, r *Duplex) { r.Sent = Update{}; s.Epoch = 1; s.Amount = 30_000 }, 200, ErrSignature, false},
		"closing":                   {func(_ *Update, r *Duplex) { r.Phase = Closing }, 200, ErrFinalized, false},
		"settling":                  {func(_ *Update, r *Duplex) { r.Phase = Settling }, 200, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			s, r := good, b.side[script.Payee]
			c.change(&s, &r)
			rule := r.Take
			if name == "another amount" || name == "of another epoch" || name == "above the capacity" || name == "a rest below dust" {
				rule = func(u Update, tip uint32) (Duplex, bool, error) { return b.take(r, u, tip) }
			}
			next, changed, err := rule(s, c.tip)
			if !errors.Is(err, c.want) || changed != (c.want == nil && !c.stale) {
				t.Fatalf("changed %v, %v; want %v", changed, err, c.want)
			}
			if !changed {
				same(t, "record", next, r)
			} else if again, twice, err := b.take(next, s, c.tip); err != nil || twice {
				t.Fatal("a repeat had an effect", again, err)
			}
		})
	}
}

// Each condition under which a state is made.
func TestDuplexPay(t *testing.T) {
	b := newBoth(t)
	b.goods(20_000_000)
	wantNil(t, b.pay(script.Payer, 200, anyAmount))
	b.goods(-5_000_000)
	r := b.side[script.Payee] // owes 5,000 sat, by a reversal to epoch 2
	edge := expiry - 2*smallestStep - margin
	for name, c := range map[string]struct {
		change func(*Duplex)
		tip    uint32
		lim    DuplexLimits
		due    bool
		want   error
	}{
		"a reversal":                       {func(*Duplex) {}, edge - 1, anyAmount, true, nil},
		"none that cannot be reversed":     {func(*Duplex) {}, edge, anyAmount, false, ErrExpiring},
		"not worth it":                     {func(*Duplex) {}, 200, DuplexLimits{Budget: MaxSat, Least: 5001}, false, nil},
		"worth it":                         {func(*Duplex) {}, 200, DuplexLimits{Budget: MaxSat, Least: 5000}, true, nil},
		"small, but the other is stuck":    {func(*Duplex) {}, 200, DuplexLimits{Budget: MaxSat, Least: 5001, Blocked: true}, true, nil},
		"the budget":                       {func(*Duplex) {}, 200, DuplexLimits{Budget: 84_999}, false, ErrBudget},
		"just the budget":                  {func(*Duplex) {}, 200, DuplexLimits{Budget: 85_000}, true, nil},
		"settling":                         {func(r *Duplex) { r.Phase = Settling }, 200, anyAmount, false, ErrFinalized},
		"from before a restore":            {func(r *Duplex) { r.Restored = true }, 200, anyAmount, false, ErrExpiring},
		"nothing is owed":                  {func(r *Duplex) { r.Ledger = 20_000_000 }, 200, anyAmount, false, nil},
		"less than a satoshi":              {func(r *Duplex) { r.Ledger = 19_999_001 }, 200, anyAmount, false, nil},
		"the payee's rest would be dust":   {func(r *Duplex) { r.Ledger = 100_000 }, 200, anyAmount, false, ErrAmountExceeds},
		"the payee pays everything back":   {func(r *Duplex) { r.Ledger = 0 }, 200, anyAmount, true, nil},
		"the payee cannot begin a channel": {func(r *Duplex) { r.Held = Update{} }, 200, anyAmount, false, nil},
	} {
		t.Run(name, func(t *testing.T) {
			r := r
			c.change(&r)
			next, due, err := r.Pay(c.tip, c.lim)
			if !errors.Is(err, c.want) || due != c.due {
				t.Fatalf("due %v, %v; want %v, %v", due, err, c.due, c.want)
			}
			if !due {
				same(t, "record", next, r)
			}
		})
	}
}

// Updates that cross on the wire lose nothing: the older epoch counts for
// nothing, and what it carried is owed still.
func TestDuplexCrossing(t *testing.T) {
	b := newBoth(t)
	b.goods(20_000_000)
	wantNil(t, b.pay(script.Payer, 200, anyAmount))
	b.goods(-8_000_000) // the payee is to pay back
	reversal, due, err := b.side[script.Payee].Pay(200, anyAmount)
	if err != nil || !due {
		t.Fatal(due, err)
	}
	reversal = b.sign(reversal)
	b.side[script.Payer].Ledger += 12_000_000 // meanwhile the payer got goods, before it knew of the reversal
	late, due, err := b.side[script.Payer].Pay(200, anyAmount)
	if err != nil || !due {
		t.Fatal(due, err)
	}
	late = b.sign(late)
	b.side = [2]Duplex{late, reversal}
	b.side[script.Payee].Ledger += 12_000_000
	if next, changed, err := b.take(b.side[script.Payee], late.Sent, 200); err != nil || changed {
		t.Fatalf("a state of a reversed epoch: %v, %v, %+v", changed, err, next.Held)
	}
	next, changed, err := b.take(b.side[script.Payer], reversal.Sent, 200)
	if err != nil || !changed {
		t.Fatalf("the reversal: %v %v", changed, err)
	}
	b.side[script.Payer] = next
	if owes := next.Owes(script.Payer); owes != 12_000 {
		t.Fatalf("the payer owes %d sat of 12,000 sat", owes)
	}
	wantNil(t, b.pay(script.Payer, 200, anyAmount))
	for _, r := range b.side {
		if r.Share() != r.Target() || r.Newest().Epoch != 3 {
			t.Fatalf("%s: %d of %d sat in epoch %d", r.Side, r.Share(), r.Target(), r.Newest().Epoch)
		}
	}
}

// What is sold on credit, by either side, stays within it and can be paid.
func TestDuplexCharge(t *testing.T) {
	b := newBoth(t)
	b.goods(20_000_000)
	wantNil(t, b.pay(script.Payer, 200, anyAmount))
	edge := expiry - margin
	for name, c := range map[string]struct {
		seller script.Side
		price  uint64
		v      View
		change func(*Duplex)
		want   error
	}{
		"the payee sells":                  {script.Payee, chunk, at(edge - 1), nil, nil},
		"above the credit":                 {script.Payee, chunk + 1, at(200), nil, ErrInsufficient},
		"no payment would be taken":        {script.Payee, chunk, at(edge), nil, ErrExpiring},
		"the payer sells":                  {script.Payer, chunk, at(edge - smallestStep - 1), nil, nil},
		"the payer, above the credit":      {script.Payer, chunk + 1000, at(200), nil, ErrInsufficient},
		"less than a satoshi is not owed":  {script.Payer, chunk + 999, at(200), nil, nil},
		"the payer, too late to reverse":   {script.Payer, chunk, at(edge - smallestStep), nil, ErrExpiring},
		"the payer, more than there is":    {script.Payer, 20_000_001, at(200), nil, ErrAmountExceeds},
		"a spend is in sight":              {script.Payee, chunk, at(200, spentBy("x", 0)), nil, ErrExpiring},
		"unconfirmed":                      {script.Payee, chunk, at(200, unconfirmed), nil, ErrUnconfirmed},
		"settling":                         {script.Payee, chunk, at(200), func(r *Duplex) { r.Phase = Settling }, ErrExpiring},
		"closed":                           {script.Payee, chunk, at(200), func(r *Duplex) { r.Phase = Closed }, ErrFinalized},
		"from before a restore":            {script.Payee, chunk, at(200), func(r *Duplex) { r.Restored = true }, ErrExpiring},
		"the payer sells in a new channel": {script.Payer, chunk, at(200), func(r *Duplex) { r.Held, r.Sent = Update{}, Update{} }, ErrTerms},
		"it could not be paid": {script.Payee, chunk, at(200), func(r *Duplex) {
			r.Ledger, r.Held.Amount, r.Sent.Amount = 99_000_500, 99_000, 99_000
		}, ErrAmountExceeds},
	} {
		t.Run(name, func(t *testing.T) {
			r := b.side[c.seller]
			if c.change != nil {
				c.change(&r)
			}
			next, err := r.Charge(c.seller, c.price, chunk, c.v)
			if !errors.Is(err, c.want) {
				t.Fatalf("%v, want %v", err, c.want)
			}
			if err != nil {
				return
			}
			if want := int64(r.Ledger) + map[script.Side]int64{script.Payee: 1, script.Payer: -1}[c.seller]*int64(c.price); int64(next.Ledger) != want {
				t.Fatalf("the ledger became %d msat, want %d", next.Ledger, want)
			}
		})
	}
}

// The proof of docs/protocol.md, played: whatever the two sides do, whenever they
// do it, the one that holds the newest state can always have it mined before an
// older one is valid, with C censored blocks, a reorg of R and a reaction of r.
func TestPitfall55_NewestWins(t *testing.T) {
	p := DefaultPolicy("mainnet")
	late := p.Reaction + p.Censorship + p.Reorg + 2
	rapid.Check(t, func(rt *rapid.T) {
		b := newBoth(t, func(t *Terms) { t.Step = margin + rapid.Uint32Range(0, 40).Draw(rt, "step") })
		tip := fundedAt
		for range rapid.IntRange(1, 40).Draw(rt, "moves") {
			tip += rapid.Uint32Range(0, 30).Draw(rt, "blocks")
			if tip > expiry+10 {
				break
			}
			if rapid.Bool().Draw(rt, "back") {
				b.goods(-int64(min(b.side[0].Ledger, rapid.Uint64Range(0, 3_000_000).Draw(rt, "msat"))))
			} else if b.side[0].Ledger < 80_000_000 {
				b.goods(int64(rapid.Uint64Range(0, 3_000_000).Draw(rt, "msat")))
			}
			by := script.Side(rapid.IntRange(0, 1).Draw(rt, "by"))
			before := b.side
			if err := b.pay(by, tip, anyAmount); err != nil && !errors.Is(err, ErrExpiring) && !errors.Is(err, ErrAmountExceeds) && !errors.Is(err, ErrTerms) {
				rt.Fatal(err)
			} else if err == nil && before[by].Sent.Newer(b.side[by].Sent) {
				rt.Fatal("a state fell")
			}
			b.checkDeadlines(rt, tip, late, before)
		}
	})
}

// checkDeadlines: a state taken at a tip leaves the receiver its full margin
// before the newest state of the other side is valid, and the lock of its own is
// reached by then.
func (b *both) checkDeadlines(rt *rapid.T, tip, late uint32, before [2]Duplex) {
	for s, r := range b.side {
		deadline, ok := r.Deadline()
		if !ok {
			continue
		}
		lock, _ := r.Terms.Lock(r.Held.Epoch)
		older := uint32(expiry)
		if sent := b.side[1-s].Held; sent.Epoch > 0 && sent.Epoch < r.Held.Epoch {
			older, _ = r.Terms.Lock(sent.Epoch)
		}
		if lock > deadline || deadline+late > older {
			rt.Fatalf("%s holds epoch %d (lock %d) and settles from %d on, at the latest mined at %d; epoch %d is valid from %d on",
				r.Side, r.Held.Epoch, lock, deadline, deadline+late, r.Held.Epoch-1, older)
		}
		if r.Held.Newer(before[s].Held) && tip >= deadline {
			rt.Fatalf("%s took epoch %d at height %d, its deadline is %d", r.Side, r.Held.Epoch, tip, deadline)
		}
	}
}

// A payee restored from before two reversals takes what an honest payer sends again,
// and nothing that is older than what it knows.
func TestDuplexRestoredTakesWhatIsNewer(t *testing.T) {
	b := newBoth(t)
	b.goods(10_000_000)
	wantNil(t, b.pay(script.Payer, 200, anyAmount))
	old := b.side[script.Payee]
	b.goods(-4_000_000)
	wantNil(t, b.pay(script.Payee, 200, anyAmount))
	b.goods(5_000_000)
	wantNil(t, b.pay(script.Payer, 200, anyAmount))
	newest := b.side[script.Payer].Sent
	if _, _, err := b.take(old, newest, 200); !errors.Is(err, ErrTerms) {
		t.Fatalf("epoch 3 after epoch 1, by a payee that was not restored: %v", err)
	}
	old.Restored = true
	next, changed, err := b.take(old, newest, 200)
	if err != nil || !changed || next.Held.Epoch != 3 || next.Held.Amount != 11_000 {
		t.Fatalf("%v, %v, %+v", changed, err, next.Held)
	}
	if _, changed, err = b.take(next, old.Held, 200); err != nil || changed {
		t.Fatalf("an older state was taken: %v", err)
	}
	wrong := newest
	wrong.Amount++
	if _, _, err := b.take(old, wrong, 200); !errors.Is(err, ErrSignature) {
		t.Fatalf("another amount: %v", err)
	}
}
