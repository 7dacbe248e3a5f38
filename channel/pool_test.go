package channel

import (
	"errors"
	"fmt"
	"testing"

	"pgregory.net/rapid"
)

// newcomer is a fresh, confirmed channel whose chunks need a place.
func newcomer(n int, change ...func(*PayeeRecord)) PayeeRecord {
	r := record(func(r *PayeeRecord) {
		r.Terms.Outpoint.Index = uint32(n)
		r.NewcomerAbove = 43 * sat
	})
	for _, c := range change {
		c(&r)
	}
	return r
}

// opens reserves a place as the payee does when a channel opens.
func (p Pool) opens(r *PayeeRecord, tip uint32, now int64) Pool {
	p, r.Place = p.At(tip, now).Reserve(r.Terms.ID(), r.Terms.Credit, now)
	return p
}

// TestPitfall66_TwoThieves ◆: fresh channels that pay nothing get the pool and no
// more, however many there are and whatever they do.
func TestPitfall66_TwoThieves(t *testing.T) {
	pool := Pool{Size: 2 * chunk}
	stolen := uint64(0)
	for n := range 6 {
		r := newcomer(n)
		pool = pool.opens(&r, 200, clock)
		for range 3 {
			out := r.Pay(ask(chunk), at(200), pool)
			if out.Refusal == nil {
				stolen += chunk
			} else if !errors.Is(out.Refusal, ErrInsufficient) {
				t.Fatal(out.Refusal)
			}
			r, pool = out.Record, out.Pool
		}
	}
	if stolen != pool.Size {
		t.Fatalf("%d msat were taken from a pool of %d", stolen, pool.Size)
	}
}

// A newcomer without a place is told that every chunk is due one ahead, and gets
// it when it pays so.
func TestWithoutAPlaceChunksAreDueAhead(t *testing.T) {
	r := newcomer(1)
	out := r.Pay(ask(chunk), at(200), Pool{Size: chunk - 1})
	var e *InsufficientError
	if !errors.As(out.Refusal, &e) || !e.Ahead || e.Required != 1000 {
		t.Fatalf("%v", out.Refusal)
	}
	out = r.Pay(ask(chunk, e.Required), at(200), Pool{Size: chunk - 1})
	wantNil(t, out.Refusal)
	if out.Record.Charged != chunk || out.Pool.Taken() != 0 {
		t.Fatalf("charged %d, pool %d", out.Record.Charged, out.Pool.Taken())
	}
}

// TestPitfall66_PlaceIsKept: an honest newcomer's place is its own from the opening
// on; a thief that comes later does not take it.
func TestPitfall66_PlaceIsKept(t *testing.T) {
	pool := Pool{Size: chunk}
	honest, thief := newcomer(1), newcomer(2)
	pool = pool.opens(&honest, 200, clock)
	pool = pool.opens(&thief, 200, clock)
	if !honest.Place || thief.Place {
		t.Fatalf("places: honest %v, thief %v", honest.Place, thief.Place)
	}
	out := thief.Pay(ask(chunk), at(200), pool)
	wantErr(t, out.Refusal, ErrInsufficient)
	if out = honest.Pay(ask(chunk), at(200), out.Pool); out.Refusal != nil {
		t.Fatalf("the honest newcomer lost its place: %v", out.Refusal)
	}
	// One who pays as it goes never needs more than its place.
	for i := uint64(1); i < 8; i++ {
		next := out.Record.Pay(ask(chunk, i*1000), at(200), out.Pool)
		wantNil(t, next.Refusal)
		if next.Pool.Taken() > chunk {
			t.Fatalf("%d msat of the pool are taken", next.Pool.Taken())
		}
		out = next
	}
}

// TestPitfall66_GivenBackOnPayment: a confirmed payment gives back at once what it
// covers, in the commit of the payment.
func TestPitfall66_GivenBackOnPayment(t *testing.T) {
	pool := Pool{Size: chunk}
	r := newcomer(1)
	out := r.Pay(ask(chunk), at(200), pool)
	wantNil(t, out.Refusal)
	if got := out.Pool.Places[r.Terms.ID()].Owed; got != chunk {
		t.Fatalf("owed %d", got)
	}
	pay := Payment{Update: &Update{Amount: 400}, Now: clock}
	part := out.Record.Pay(pay, at(200), out.Pool)
	if got := part.Pool.Places[r.Terms.ID()].Owed; !part.PoolChanged || got != 600*sat {
		t.Fatalf("after 400 of 1000 sat %d msat are owed", got)
	}
	pay.Update.Amount = 1000
	if all := part.Record.Pay(pay, at(200), part.Pool); all.Pool.Places[r.Terms.ID()].Owed != 0 || !all.PoolChanged {
		t.Fatalf("%+v", all.Pool)
	}
	// Unconfirmed money gives nothing back.
	early := out.Record.Pay(pay, at(200, unconfirmed), out.Pool)
	if got := early.Pool.Places[r.Terms.ID()].Owed; got != chunk || early.PoolChanged {
		t.Fatalf("unconfirmed money freed the pool: %d msat owed", got)
	}
}

// TestPitfall66_IdlePlace ◆: a place that owes nothing is given up after ten idle
// minutes, not before; one that owes is not given up for being idle.
func TestPitfall66_IdlePlace(t *testing.T) {
	quiet, owing := newcomer(1), newcomer(2)
	pool := Pool{Size: 2 * chunk}.opens(&quiet, 200, clock).opens(&owing, 200, clock)
	out := owing.Pay(ask(chunk), at(200), pool)
	wantNil(t, out.Refusal)
	pool = out.Pool
	if p := pool.At(200, clock+idleSeconds-1); len(p.Places) != 2 || p.Room(1) {
		t.Fatalf("given up too early: %+v", p)
	}
	p := pool.At(200, clock+idleSeconds)
	if _, kept := p.Places[quiet.Terms.ID()]; kept {
		t.Fatal("an idle place is kept for good: honest buyers starve")
	}
	if got := p.Places[owing.Terms.ID()].Owed; got != chunk {
		t.Fatalf("idling erased a debt: %d msat are owed", got)
	}
	if !p.Room(chunk) || p.Room(chunk+1) {
		t.Fatalf("taken %d of %d", p.Taken(), p.Size)
	}
}

// TestPitfall66_Fading ◆: what stays unpaid leaves the pool at one pool per 144
// blocks, spread over the blocks: not at once, and not never.
func TestPitfall66_Fading(t *testing.T) {
	const size = 16 * chunk
	pool := Pool{Size: size}
	for n := range 16 {
		r := newcomer(n)
		out := r.Pay(ask(chunk), at(1000), pool.opens(&r, 1000, clock))
		wantNil(t, out.Refusal)
		pool = out.Pool
	}
	later := clock + idleSeconds
	for _, c := range []struct {
		blocks uint32
		left   uint64
	}{{0, size}, {1, size - size/144}, {72, size - size/144*72}, {143, size - size/144*143}, {144, 0}, {1000, 0}} {
		if got := pool.At(1000+c.blocks, later).Taken(); got != c.left {
			t.Errorf("after %d blocks %d msat are taken, want %d", c.blocks, got, c.left)
		}
	}
	// Asked block by block the pace is the same, and a reorg gives nothing away.
	walk := pool
	for b := uint32(1); b <= 72; b++ {
		walk = walk.At(1000+b, later).At(1000+b-1, later).At(1000+b, later)
	}
	if got := walk.Taken(); got != size-size/144*72 {
		t.Errorf("block by block %d msat are taken after 72 blocks", got)
	}
	// A channel that is still at it does not fade.
	if got := pool.At(1072, clock+1).Taken(); got != size {
		t.Errorf("the debt of a live channel faded to %d", got)
	}
}

// TestPitfall66_ThievesForever: over any stretch of time newcomers that never pay
// get one pool and then one pool per 144 blocks.
func TestPitfall66_ThievesForever(t *testing.T) {
	pool, stolen, n := Pool{Size: 4 * chunk}, uint64(0), 0
	now := clock
	for tip := uint32(200); tip < 200+3*144; tip++ {
		now += 600
		for range 3 {
			n++
			r := newcomer(n, func(r *PayeeRecord) { r.Terms.Expiry = 10_000 })
			out := r.Pay(Payment{Price: chunk, Dearest: chunk, Deliver: true, Now: now}, at(tip), pool.opens(&r, tip, now))
			if out.Refusal == nil {
				stolen += chunk
			}
			pool = out.Pool.Leave(r.Terms.ID(), true)
		}
	}
	if most := uint64(4 * chunk * 4); stolen > most || stolen < most/2 {
		t.Fatalf("%d chunks in three days, the pool allows 16", stolen/chunk)
	}
}

// TestPitfall66_Graduation ◆: a channel leaves the pool when it has paid, in confirmed
// money, F and ten times its dearest chunk; not by small change, and a dearer
// chunk makes it a newcomer again.
func TestPitfall66_Graduation(t *testing.T) {
	full := Pool{Size: 0} // no room for anybody
	at9 := newcomer(1, func(r *PayeeRecord) {
		r.Paid, r.Charged, r.MaxPrice = 2000+10*1000-1, (2000+10*1000-1)*sat, chunk
	})
	wantErr(t, at9.Pay(ask(chunk), at(200), full).Refusal, ErrInsufficient)
	at10 := newcomer(1, func(r *PayeeRecord) { r.Paid, r.Charged, r.MaxPrice = 2000+10*1000, (2000+10*1000)*sat, chunk })
	wantNil(t, at10.Pay(ask(chunk), at(200), full).Refusal)
	wantErr(t, at10.Pay(ask(chunk), at(200, unconfirmed), full).Refusal, ErrUnconfirmed)

	if at10.graduated(chunk, at(200, unconfirmed)) || !at10.graduated(chunk, at(200)) {
		t.Fatal("unconfirmed money makes a graduate")
	}

	cheap := newcomer(1, func(r *PayeeRecord) { // small change: chunks of 50 sat
		r.Paid, r.Charged, r.MaxPrice, r.Terms.Credit = 2000+500, 2500*sat, 50*sat, 20_000*sat
	})
	wantNil(t, cheap.Pay(ask(50*sat), at(200), full).Refusal)
	out := cheap.Pay(ask(20_000*sat), at(200), full)
	wantErr(t, out.Refusal, ErrInsufficient)
	same(t, "record", out.Record, cheap)

	// A graduate gives its place back.
	grad := newcomer(1)
	pool := Pool{Size: chunk}.opens(&grad, 200, clock)
	paid := grad.Pay(Payment{Update: &Update{Amount: 12_000}, Now: clock}, at(200), pool)
	if len(paid.Pool.Places) != 0 || !paid.PoolChanged || paid.Record.Place || !paid.RecordChanged {
		t.Fatalf("%+v, place %v", paid.Pool, paid.Record.Place)
	}
}

// Chunks up to what a fresh channel costs need no place.
func TestCheapChunksNeedNoPlace(t *testing.T) {
	r := newcomer(1)
	wantNil(t, r.Pay(ask(43*sat), at(200), Pool{}).Refusal)
	wantErr(t, r.Pay(ask(43*sat+1), at(200), Pool{}).Refusal, ErrInsufficient)
}

// A channel that is over leaves; what it owes stays and fades.
func TestLeave(t *testing.T) {
	r := newcomer(1)
	out := r.Pay(ask(chunk), at(200), Pool{Size: 4 * chunk})
	wantNil(t, out.Refusal)
	gone := out.Pool.Leave(r.Terms.ID(), true)
	if gone.Taken() != chunk {
		t.Fatalf("a thief's debt left with its channel: %d msat taken", gone.Taken())
	}
	if got := gone.At(200+144, clock).Taken(); got != 0 {
		t.Fatalf("%d msat after 144 blocks", got)
	}
	if got := out.Pool.Leave(r.Terms.ID(), false).Taken(); got != 0 {
		t.Fatalf("a graduate left %d msat", got)
	}
	if got := (Pool{Size: chunk}).Leave("nobody", true); got.Taken() != 0 {
		t.Fatal("somebody unknown left something")
	}
}

// The pool's memory is bounded.
func TestPlacesAreBounded(t *testing.T) {
	pool := Pool{Size: MaxSat}
	var ok bool
	for n := range maxPlaces {
		if pool, ok = pool.Reserve(fmt.Sprint(n), 1, clock); !ok {
			t.Fatalf("no place for %d", n)
		}
		if n == 64 { // reserving copies the map: fill the rest at once
			break
		}
	}
	for n := len(pool.Places); n < maxPlaces; n++ {
		pool.Places[fmt.Sprint(n)] = Place{Reserved: 1, Active: clock}
	}
	if _, ok := pool.Reserve("one more", 1, clock); ok || pool.Room(1) {
		t.Fatal("more places than there are")
	}
	if _, ok := pool.Reserve("7", 1, clock); !ok {
		t.Fatal("one that has a place lost it")
	}
}

// Whatever newcomers do, what they owe plus the places not in use never exceeds
// the pool, no rule changes its argument, and what was delivered and is unpaid is
// in the pool as long as it has not faded.
func TestPoolProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pool := Pool{Size: rapid.Uint64Range(0, 5*chunk).Draw(t, "size")}
		channels := make([]PayeeRecord, 4)
		for i := range channels {
			channels[i] = newcomer(i)
		}
		tip, now := uint32(200), clock
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			i := rapid.IntRange(0, 3).Draw(t, "channel")
			r := channels[i]
			before := pool.Taken()
			switch rapid.IntRange(0, 5).Draw(t, "what") {
			case 0:
				pool = pool.opens(&channels[i], tip, now)
			case 1, 2:
				p := ask(rapid.Uint64Range(44*sat, 2*chunk).Draw(t, "price"))
				p.Now = now
				if rapid.Bool().Draw(t, "pays") {
					p.Update = &Update{Amount: min(capacity/2, r.Paid+rapid.Uint64Range(0, 3000).Draw(t, "pay"))}
				}
				out := r.Pay(p, at(tip), pool)
				if pool.Taken() != before {
					t.Fatal("the rule changed its argument")
				}
				if out.Refusal == nil && out.Record.Owed() > out.Record.Terms.Credit {
					t.Fatalf("owes %d msat", out.Record.Owed())
				}
				channels[i], pool = out.Record, out.Pool
			case 3:
				tip += rapid.Uint32Range(0, 30).Draw(t, "blocks")
			case 4:
				now += rapid.Int64Range(0, 900).Draw(t, "seconds")
			case 5:
				pool = pool.Leave(r.Terms.ID(), true)
			}
			if pool.Taken() > pool.Size {
				t.Fatalf("%d msat of a pool of %d: %+v", pool.Taken(), pool.Size, pool.Places)
			}
		}
	})
}
