package payee_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/internal/pairtest"
	"github.com/spillway/spillway/payee"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/store"
)

// tamper changes a payee's stored record behind the driver's back.
func tamper(t *testing.T, p *pairtest.Pair, id string, change func(*channel.PayeeRecord)) {
	t.Helper()
	e, err := p.PayeeDisk.Get(t.Context(), "payee/channel", id)
	wantNil(t, err)
	var r channel.PayeeRecord
	wantNil(t, json.Unmarshal(e.Value, &r))
	change(&r)
	e.Value, err = json.Marshal(r)
	wantNil(t, err)
	wantNil(t, p.PayeeDisk.Commit(t.Context(), store.Op{Bucket: "payee/channel", Key: id, Value: e.Value, Expect: e.Revision}))
}

// refusesAll checks that every request on a stopped channel is refused with the typed
// error, and that nothing is saved or sent by any.
func refusesAll(t *testing.T, p *pairtest.Pair, id string) {
	t.Helper()
	ctx := t.Context()
	u := p.Update(id, 2000)
	commits, sent := len(p.PayeeDisk.Commits()), len(p.Chain.Sent())
	for what, ask := range map[string]func() error{
		"pay": func() error {
			_, err := p.Payee.Pay(ctx, payee.Request{Channel: id, Update: &u, Items: []payee.Item{pairtest.Item(9)}, Credit: p.Credit})
			return err
		},
		"resume": func() error { _, err := p.Payee.Resume(ctx, id); return err },
		"close": func() error {
			_, err := p.Payee.Close(ctx, id, channel.CloseRequest{Update: u, PayerNonce: make([]byte, 66)})
			return err
		},
		"the completed close": func() error { return p.Payee.FinishClose(ctx, id, []byte{1}) },
		"the payer's wish":    func() error { _, err := p.Payee.Settle(ctx, id, &u, true); return err },
		"a tower's rungs":     func() error { _, err := p.Payee.Rungs(ctx, id, 5000); return err },
	} {
		err := ask()
		var stop *channel.StoppedError
		if !errors.Is(err, channel.ErrStopped) || !errors.As(err, &stop) || stop.Channel != id {
			t.Errorf("%s: %v", what, err)
		}
	}
	if len(p.PayeeDisk.Commits()) != commits || len(p.Chain.Sent()) != sent {
		t.Error("something was saved or sent for a stopped channel")
	}
}

// Each record that cannot be stops its channel: durably, with an alarm, over a restart,
// and no other one.
func TestUnsoundRecordStopsTheChannel(t *testing.T) {
	for _, row := range []struct {
		name, rule string
		change     func(*channel.PayeeRecord)
	}{
		{"paid into the forbidden rest", "payable", func(r *channel.PayeeRecord) { r.Paid = pairtest.Capacity - 1 }},
		{"charged above the capacity", "payable", func(r *channel.PayeeRecord) { r.Charged = pairtest.Capacity*1000 + 1 }},
		{"paid without a half-signature", "signature", func(r *channel.PayeeRecord) { r.Signature = nil }},
		{"a close that nobody asked for", "close", func(r *channel.PayeeRecord) {
			r.Close = &channel.PayeeClose{Amount: 1000, Tx: channel.Hex{1}, Txid: "x"}
		}},
		{"no time", "time", func(r *channel.PayeeRecord) { r.Terms.Margin = r.Terms.Expiry }},
		{"states of another kind", "duplex", func(r *channel.PayeeRecord) { r.Duplex = &channel.Duplex{} }},
	} {
		t.Run(row.name, func(t *testing.T) {
			p := pairtest.New(t)
			id, other := paid(t, p, script.Taproot), paid(t, p, script.Taproot)
			tamper(t, p, id, row.change)
			p.RestartPayee()
			u := p.Update(id, 1500)
			_, err := p.Payee.Pay(t.Context(), payee.Request{Channel: id, Update: &u})
			wantErr(t, err, channel.ErrStopped)
			r, err := p.Payee.Record(t.Context(), id)
			wantNil(t, err)
			if !strings.HasPrefix(r.Stopped, row.rule+": ") || len(p.Alarms()) != 1 {
				t.Fatalf("stopped for %q, alarms %v", r.Stopped, p.Alarms())
			}
			p.RestartPayee()
			refusesAll(t, p, id)
			if len(p.Alarms()) != 1 {
				t.Fatalf("alarms %v", p.Alarms())
			}
			if _, err := p.Buy(other, 4); err != nil {
				t.Fatalf("the other channel: %v", err)
			}
		})
	}
}

// A step that breaks an invariant is not saved, and stops the channel: here a rise of
// what is paid on a half-signature that was there before, as after a torn record.
func TestViolatingStepIsNotSaved(t *testing.T) {
	p := pairtest.New(t)
	id := paid(t, p, script.Taproot)
	tamper(t, p, id, func(r *channel.PayeeRecord) { r.Paid = 500 })
	u := p.Update(id, 1000) // the half-signature that is held, for what it says
	got, err := p.Payee.Pay(t.Context(), payee.Request{Channel: id, Update: &u})
	wantErr(t, err, channel.ErrStopped)
	if r, _ := p.Payee.Record(t.Context(), id); r.Paid != 500 || got.Paid != 500 || !strings.HasPrefix(r.Stopped, "signature: ") {
		t.Fatalf("%d sat, %+v, stopped for %q", r.Paid, got, r.Stopped)
	}
	refusesAll(t, p, id)
}

// A stop whose mark cannot be saved still refuses, each time, and is marked once it can be.
func TestStopThatIsNotSaved(t *testing.T) {
	p := pairtest.New(t)
	id := paid(t, p, script.Taproot)
	tamper(t, p, id, func(r *channel.PayeeRecord) { r.Signature = nil })
	p.PayeeDisk.FailNext(store.ErrFull)
	_, err := p.Payee.Resume(t.Context(), id)
	wantErr(t, err, channel.ErrStopped)
	if r, _ := p.Payee.Record(t.Context(), id); r.Stopped != "" {
		t.Fatal("the mark was saved by a full disk")
	}
	_, err = p.Payee.Resume(t.Context(), id)
	wantErr(t, err, channel.ErrStopped)
	if r, _ := p.Payee.Record(t.Context(), id); r.Stopped == "" || len(p.Alarms()) != 2 {
		t.Fatalf("%q, %d alarms", r.Stopped, len(p.Alarms()))
	}
}

// A stopped channel is settled with what is held: when its operator asks, and at the
// margin, until it is buried.
func TestStoppedChannelIsSettled(t *testing.T) {
	for name, asked := range map[string]bool{"asked": true, "margin": false} {
		t.Run(name, func(t *testing.T) {
			p := pairtest.New(t)
			id := paid(t, p, script.Taproot)
			_, err := p.Buy(id, 1)
			wantNil(t, err)
			u := p.Update(id, 2000)
			_, err = p.Payee.Pay(t.Context(), payee.Request{Channel: id, Update: &u})
			wantNil(t, err)
			tamper(t, p, id, func(r *channel.PayeeRecord) { r.Stopped = "credit: as before a restart" })
			if asked {
				b, err := p.Payee.Settle(t.Context(), id, nil, false)
				wantNil(t, err)
				if b.Amount != 2000 {
					t.Fatalf("settled at %d sat", b.Amount)
				}
			}
			r, err := p.Payee.Record(t.Context(), id)
			wantNil(t, err)
			for range int(r.Terms.Expiry) + 10 {
				p.Mine(1)
				wantNil(t, p.StepPayee())
				if r, err = p.Payee.Record(t.Context(), id); r.Phase == channel.Closed {
					break
				}
				wantNil(t, err)
			}
			if r.Phase != channel.Closed || r.Settlement == nil || r.Settlement.Amount != 2000 || r.SpentBy != r.Settlement.Txid || r.Stopped == "" {
				t.Fatalf("phase %s, settlement %+v, spent by %s, stopped %q", r.Phase, r.Settlement, r.SpentBy, r.Stopped)
			}
		})
	}
}

// An amount that no half-signature is held for is never settled, and keeps no other
// channel from being: the chain would refuse it anyway.
func TestStoppedChannelSettlesNoInventedAmount(t *testing.T) {
	p := pairtest.New(t)
	id, other := paid(t, p, script.Taproot), paid(t, p, script.Taproot)
	tamper(t, p, id, func(r *channel.PayeeRecord) { r.Paid, r.Stopped = 9000, "paid: invented" })
	_, err := p.Payee.Settle(t.Context(), id, nil, false)
	wantErr(t, err, channel.ErrTooSmall)
	if r, _ := p.Payee.Record(t.Context(), id); r.Settlement != nil {
		t.Fatalf("%+v", r.Settlement)
	}
	b, err := p.Payee.Settle(t.Context(), other, nil, false)
	wantNil(t, err)
	if b.Amount != 1000 {
		t.Fatalf("the other channel: %+v", b)
	}
}

// A record that cannot be read is named and left as it is; the others have their turn.
func TestPitfall29_UnreadableRecord(t *testing.T) {
	p := pairtest.New(t)
	id, other := paid(t, p, script.Taproot), paid(t, p, script.Taproot)
	tamper(t, p, id, func(r *channel.PayeeRecord) { r.Paid = pairtest.Capacity + 1 })
	p.RestartPayee()
	_, err := p.Payee.Resume(t.Context(), id)
	wantErr(t, err, store.ErrDamaged)
	r, err := p.Payee.Record(t.Context(), other)
	wantNil(t, err)
	for r.Phase == channel.Open {
		p.Mine(1)
		wantErr(t, p.StepPayee(), store.ErrDamaged)
		r, err = p.Payee.Record(t.Context(), other)
		wantNil(t, err)
	}
	if r.Settlement == nil || r.Settlement.Amount != 1000 {
		t.Fatalf("phase %s, settlement %+v", r.Phase, r.Settlement)
	}
	if id := p.Open(script.Taproot); id == "" {
		t.Fatal("nothing is opened any more")
	}
}
