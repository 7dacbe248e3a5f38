package channel

import (
	"errors"
	"testing"

	"pgregory.net/rapid"

	"github.com/spillway/spillway/script"
)

// world is both sides of one channel with an unreliable line between them. The
// payer is honest; messages are lost, repeated and late; the chain moves, and
// winds back.
type world struct {
	payee    PayeeRecord
	payer    PayerRecord
	pool     Pool
	view     View
	now      int64
	newest   uint64          // the highest amount that reached the payee
	late     []uint64        // amounts of updates that are still on their way
	released map[uint64]bool // chunks that were delivered
	prices   []uint64
}

func newWorld(t *rapid.T) *world {
	w := &world{view: at(150), now: clock, released: map[uint64]bool{}}
	terms := terms(func(tm *Terms) {
		tm.Capacity = rapid.Uint64Range(5000, 40_000).Draw(t, "capacity")
		tm.Confirmations = rapid.Uint32Range(1, 3).Draw(t, "confirmations")
		tm.Credit = rapid.SampledFrom([]uint64{0, chunk, 3 * chunk}).Draw(t, "credit")
		tm.ZeroConf = rapid.SampledFrom([]uint64{0, chunk}).Draw(t, "zero-conf")
	})
	w.payee = PayeeRecord{Terms: terms, Phase: Funding, NewcomerAbove: rapid.SampledFrom([]uint64{0, noPlaces}).Draw(t, "newcomer above")}
	w.payer = PayerRecord{Terms: terms, Phase: Funding, FundingSent: true, Signature: Hex{1}}
	w.pool = Pool{Size: rapid.Uint64Range(0, 3*chunk).Draw(t, "pool")}.opens(&w.payee, 150, w.now)
	for range 40 {
		w.prices = append(w.prices, rapid.Uint64Range(1, chunk).Draw(t, "price"))
	}
	return w
}

// pick is a chunk, wanted or delivered before.
func (w *world) pick(t *rapid.T) uint64 { return rapid.Uint64Range(0, 39).Draw(t, "chunk") }

// request asks for a chunk with the payer's newest update, or a late one.
func (w *world) request(t *rapid.T) {
	i := w.pick(t)
	price := w.prices[i]
	if w.released[i] {
		price = 0
	} else if w.payer.CanBuy(price) != nil {
		return // an honest payer asks for nothing that it could not pay
	}
	amount := w.payer.Signed
	if len(w.late) > 0 && rapid.Bool().Draw(t, "late") {
		amount = w.late[0]
	}
	p := ask(price, amount)
	p.Now = w.now
	before := w.payee
	out := w.pay(t, p)
	w.payee, w.pool = out.Record, out.Pool
	w.newest = max(w.newest, before.Paid)
	if before.Phase != Closing && !before.Phase.Final() {
		w.newest = max(w.newest, amount)
	}
	if out.Refusal != nil {
		if w.payee.Charged != before.Charged {
			t.Fatalf("refused (%v) and charged %d msat", out.Refusal, w.payee.Charged-before.Charged)
		}
		return
	}
	w.checkRelease(t, before, price)
	if rapid.IntRange(0, 3).Draw(t, "lost") == 0 {
		if price > 0 {
			w.released[i] = true // charged, never arrived; it is free from now on
		}
		return
	}
	w.arrived(t, i, price)
}

// pay applies the rule. Where it is said to need no pool it must do without one.
func (w *world) pay(t *rapid.T, p Payment) Outcome {
	out := w.payee.Pay(p, w.view, w.pool)
	if w.payee.UsesPool(p, w.view) {
		return out
	}
	alone := w.payee.Pay(p, w.view, Pool{})
	if out.PoolChanged || alone.PoolChanged || (alone.Refusal == nil) != (out.Refusal == nil) || alone.Record.Charged != out.Record.Charged {
		t.Fatalf("the pool mattered where it was not read: %v, %v", out.Refusal, alone.Refusal)
	}
	return out
}

func (w *world) arrived(t *rapid.T, i, price uint64) {
	if price > 0 {
		w.released[i] = true
	} else if w.payer.Owed >= w.payee.Charged {
		return
	}
	owed := min(w.payee.Charged, w.payer.Owed+w.prices[i])
	next, err := w.payer.Verified(owed - w.payer.Owed)
	if err != nil {
		t.Fatal(err)
	}
	next, amount, err := next.Pay(0, free)
	if err != nil {
		t.Fatalf("an honest payer can't pay what it was delivered: %v", err)
	}
	w.payer = next.SetSignature([]byte{1})
	w.late = append(w.late, amount)
}

// checkRelease: nothing is released beyond the credit, over money that does not
// count, or that could not be paid.
func (w *world) checkRelease(t *rapid.T, before PayeeRecord, price uint64) {
	r := w.payee
	if r.Charged != before.Charged+price {
		t.Fatalf("charged %d msat for %d", r.Charged-before.Charged, price)
	}
	if price == 0 {
		return
	}
	counted := r.Paid
	if !r.confirmed(w.view) {
		if counted = 0; r.Charged > r.Terms.ZeroConf {
			t.Fatalf("%d msat charged without confirmations, the limit is %d", r.Charged, r.Terms.ZeroConf)
		}
	}
	if r.Charged > counted*1000+r.Terms.Credit {
		t.Fatalf("charged %d msat, %d sat count, credit %d", r.Charged, counted, r.Terms.Credit)
	}
	if w.view.Tip >= r.Terms.Expiry-r.Terms.Margin {
		t.Fatalf("delivered at height %d", w.view.Tip)
	}
	if CeilSat(r.Charged) > r.Paid {
		if err := r.Terms.CheckAmount(CeilSat(r.Charged)); err != nil {
			t.Fatalf("delivered what can't be paid: %v", err)
		}
	}
}

// update brings an update alone, the newest or a late one, maybe again.
func (w *world) update(t *rapid.T) {
	amount := w.payer.Signed
	if n := len(w.late); n > 0 && rapid.Bool().Draw(t, "late") {
		amount = w.late[rapid.IntRange(0, n-1).Draw(t, "which")]
	}
	out := w.pay(t, Payment{Update: &Update{Amount: amount}, Now: w.now})
	over := w.payee.Phase == Closing || w.payee.Phase.Final()
	if (out.Refusal != nil) != over || over && !errors.Is(out.Refusal, ErrFinalized) {
		t.Fatalf("an update in phase %s at height %d: %v", w.payee.Phase, w.view.Tip, out.Refusal)
	}
	if !over {
		w.newest = max(w.newest, amount)
	}
	w.payee, w.pool = out.Record, out.Pool
}

func (w *world) chain(t *rapid.T) {
	w.now += rapid.Int64Range(0, 900).Draw(t, "seconds")
	switch rapid.IntRange(0, 5).Draw(t, "what") {
	case 0:
		w.view.Funding.Height = 0
	case 1:
		w.view.Funding.Height = w.view.Tip
	case 2:
		w.view.Tip += rapid.Uint32Range(0, 400).Draw(t, "many blocks")
	default:
		w.view.Tip += rapid.Uint32Range(0, 3).Draw(t, "blocks")
	}
}

func (w *world) due(ch *script.Channel, t *rapid.T) {
	before := w.payee
	next, actions := w.payee.Due(ch, payout, w.view, policy())
	for _, a := range actions {
		if a.Kind == MakeSettlement {
			next.Settlement = saved(a, next.Paid, w.view.Tip)
		}
	}
	if next.Paid != before.Paid || next.Charged != before.Charged {
		t.Fatal("the watch changed what is paid or charged")
	}
	w.payee = next
}

func (w *world) closes(ch *script.Channel, t *rapid.T) {
	if w.payer.Unpaid() > 0 {
		return
	}
	next, _, err := w.payee.BeginClose(ch, CloseRequest{Update: Update{Amount: w.payer.Signed}, PayerNonce: Hex{1}}, payout, w.view)
	if before := w.payee; before.Phase != Closing && !before.Phase.Final() && before.Terms.Construction == script.Taproot {
		w.newest = max(w.newest, w.payer.Signed)
	}
	if err == nil && next.Owed() > 0 {
		t.Fatalf("closed with %d msat owed", next.Owed())
	}
	w.payee = next
}

// TestModel plays payer and payee against each other and checks the protocol's
// promises after every step.
func TestModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(rt)
		ch := w.payee.Terms.built(t)
		for range rapid.IntRange(5, 60).Draw(rt, "steps") {
			before := w.payee
			switch rapid.IntRange(0, 9).Draw(rt, "step") {
			case 0, 1, 2, 3, 4:
				w.request(rt)
			case 5:
				w.update(rt)
			case 6, 7:
				w.chain(rt)
			case 8:
				w.due(ch, rt)
			case 9:
				if rapid.IntRange(0, 5).Draw(rt, "close") == 0 {
					w.closes(ch, rt)
				}
			}
			w.check(rt, before)
		}
	})
}

func (w *world) check(t *rapid.T, before PayeeRecord) {
	r := w.payee
	switch {
	case r.Paid < before.Paid || r.Charged < before.Charged:
		t.Fatalf("paid %d after %d, charged %d after %d", r.Paid, before.Paid, r.Charged, before.Charged)
	case r.Paid != w.newest:
		t.Fatalf("holds %d sat, %d were received", r.Paid, w.newest)
	case r.Paid > w.payer.Signed:
		t.Fatalf("holds %d sat, %d were signed", r.Paid, w.payer.Signed)
	case w.payer.Owed > r.Charged:
		t.Fatalf("the payer owes %d msat, %d were charged", w.payer.Owed, r.Charged)
	case w.pool.Taken() > w.pool.Size:
		t.Fatalf("%d msat of a pool of %d", w.pool.Taken(), w.pool.Size)
	case before.Phase == Closing && r.Phase != Closing && r.Phase != Closed:
		t.Fatalf("closing became %s", r.Phase)
	case before.Phase.Final() && r.Phase != before.Phase:
		t.Fatalf("%s became %s", before.Phase, r.Phase)
	}
	if err := w.payer.Terms.CheckAmount(w.payer.Signed); err != nil {
		t.Fatalf("signed %d sat: %v", w.payer.Signed, err)
	}
}

// TestPitfall70_SmallDebts: a debt however small can be paid, as long as the
// channel lives: deliveries never end for a debt that no update may settle.
func TestPitfall70_SmallDebts(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		r := record(func(r *PayeeRecord) { r.Terms.Credit = 1 }) // one msat
		b := bought(func(b *PayerRecord) { b.Terms = r.Terms })
		for range 50 {
			price := rapid.Uint64Range(1, 3000).Draw(rt, "price")
			out := r.Pay(ask(price, b.Signed), at(200), Pool{})
			if out.Refusal != nil {
				var e *InsufficientError
				if !errors.As(out.Refusal, &e) {
					rt.Fatal(out.Refusal)
				}
				next, amount, err := b.Pay(price, Limits{Budget: MaxSat, Prepay: 3})
				if err != nil {
					rt.Fatal(err)
				}
				if amount < e.Required {
					rt.Fatalf("the payer signs %d, %d are wanted", amount, e.Required)
				}
				b = next
				if out = out.Record.Pay(ask(price, amount), at(200), Pool{}); out.Refusal != nil {
					rt.Fatalf("paid what was asked and refused: %v", out.Refusal)
				}
			}
			r = out.Record
			var err error
			if b, err = b.Verified(price); err != nil {
				rt.Fatal(err)
			}
		}
	})
}
