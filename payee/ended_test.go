package payee_test

import (
	"encoding/json"
	"testing"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/internal/pairtest"
	"github.com/spillway/spillway/payee"
	"github.com/spillway/spillway/script"
)

// place is what the newcomers' pool on the disk holds for a channel.
func place(t *testing.T, p *pairtest.Pair, id string) (channel.Place, bool) {
	t.Helper()
	e, err := p.PayeeDisk.Get(t.Context(), "payee/pool", "pool")
	wantNil(t, err)
	var pool channel.Pool
	wantNil(t, json.Unmarshal(e.Value, &pool))
	got, ok := pool.Places[id]
	return got, ok
}

// settled settles a newcomer's channel that has paid its first chunk, and buries that
// without the watch having looked.
func settled(t *testing.T, p *pairtest.Pair) string {
	t.Helper()
	id := paid(t, p, script.Taproot)
	if _, ok := place(t, p, id); !ok {
		t.Fatal("the newcomer has no place")
	}
	_, err := p.Payee.Settle(t.Context(), id, nil, false)
	wantNil(t, err)
	p.Mine(7)
	return id
}

// TestPitfall66_SettleOfWhatIsBuried: a channel that is found closed when its operator
// asks for a settlement leaves the pool like one that the watch finds closed.
func TestPitfall66_SettleOfWhatIsBuried(t *testing.T) {
	p := pairtest.New(t)
	id := settled(t, p)
	b, err := p.Payee.Settle(t.Context(), id, nil, false)
	wantNil(t, err)
	if b == nil || b.Amount != 1000 {
		t.Fatalf("%+v", b)
	}
	if r, _ := p.Payee.Record(t.Context(), id); r.Phase != channel.Closed {
		t.Fatalf("phase %s", r.Phase)
	}
	if got, ok := place(t, p, id); ok {
		t.Fatalf("a closed channel that owes nothing holds the place %+v", got)
	}
}

// TestPitfall66_PaidWhileClosing: what is paid with a close, a settlement, or while the
// chain cannot be asked is no debt in the pool either.
func TestPitfall66_PaidWhileClosing(t *testing.T) {
	for name, pay := range map[string]func(*testing.T, *pairtest.Pair, string){
		"close": func(t *testing.T, p *pairtest.Pair, id string) {
			q := request(t, p, id)
			_, err := p.Payee.Close(t.Context(), id, q)
			wantNil(t, err)
		},
		"settlement": func(t *testing.T, p *pairtest.Pair, id string) {
			u := p.Update(id, 1000)
			_, err := p.Payee.Settle(t.Context(), id, &u, true)
			wantNil(t, err)
		},
		"chain down": func(t *testing.T, p *pairtest.Pair, id string) {
			p.RestartPayee() // nothing seen of the chain yet
			p.Chain.Down(true)
			u := p.Update(id, 1000)
			_, err := p.Payee.Pay(t.Context(), payee.Request{Channel: id, Update: &u})
			wantErr(t, err, payee.ErrStale)
			p.Chain.Down(false)
			_, err = p.Payee.Settle(t.Context(), id, nil, false)
			wantNil(t, err)
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := pairtest.New(t)
			id := p.Open(script.Taproot)
			_, err := p.Buy(id, 0)
			wantNil(t, err)
			if got, _ := place(t, p, id); got.Owed != price {
				t.Fatalf("owes %d msat", got.Owed)
			}
			pay(t, p, id)
			for range 4 { // unseen for a while: the payee settles
				p.Mine(1)
				wantNil(t, p.StepPayee())
			}
			p.Mine(7)
			wantNil(t, p.StepPayee())
			if r, _ := p.Payee.Record(t.Context(), id); r.Phase != channel.Closed || r.Paid != 1000 {
				t.Fatalf("%s, paid %d sat", r.Phase, r.Paid)
			}
			if got, ok := place(t, p, id); ok {
				t.Fatalf("a channel that paid everything leaves a debt behind: %+v", got)
			}
		})
	}
}

// TestPitfall66_RefundedOwes: where the payer's refund was buried what it owed stays in
// the pool and fades.
func TestPitfall66_RefundedOwes(t *testing.T) {
	p := pairtest.New(t)
	id := p.Open(script.Taproot)
	_, err := p.Buy(id, 0)
	wantNil(t, err)
	p.Mine(60)
	wantNil(t, p.StepPayer())
	p.Mine(7)
	wantNil(t, p.StepPayee())
	if r, _ := p.Payee.Record(t.Context(), id); r.Phase != channel.Refunded {
		t.Fatalf("phase %s", r.Phase)
	}
	if got, ok := place(t, p, id); !ok || got.Owed != price || !got.Ended {
		t.Fatalf("%+v %v", got, ok)
	}
}

// A settlement that has to wait for the funding is not called too small.
func TestSettleWaitsForTheFunding(t *testing.T) {
	p := pairtest.New(t)
	o := p.Offer()
	op, err := p.Payer.Opening(t.Context(), p.Prepare(o, script.Taproot).Terms.ID())
	wantNil(t, err)
	opened, err := p.Payee.Open(t.Context(), o, op)
	wantNil(t, err)
	id := opened.Record.Terms.ID()
	u := p.Update(id, 5000)
	_, err = p.Payee.Settle(t.Context(), id, &u, true)
	wantErr(t, err, channel.ErrUnconfirmed)
	p.Mine(1)
	b, err := p.Payee.Settle(t.Context(), id, nil, true)
	wantNil(t, err)
	if b.Amount != 5000 {
		t.Fatalf("%+v", b)
	}
}
