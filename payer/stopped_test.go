package payer_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/internal/pairtest"
	"github.com/spillway/spillway/payer"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/store"
)

// tamper changes a payer's stored record behind the driver's back.
func tamper(t *testing.T, p *pairtest.Pair, id string, change func(*channel.PayerRecord)) {
	t.Helper()
	e, err := p.PayerDisk.Get(t.Context(), "payer/channel", id)
	wantNil(t, err)
	var r channel.PayerRecord
	wantNil(t, json.Unmarshal(e.Value, &r))
	change(&r)
	e.Value, err = json.Marshal(r)
	wantNil(t, err)
	wantNil(t, p.PayerDisk.Commit(t.Context(), store.Op{Bucket: "payer/channel", Key: id, Value: e.Value, Expect: e.Revision}))
}

// bought opens a channel in which a chunk is bought and signed for.
func bought(t *testing.T, p *pairtest.Pair, kind script.Construction) string {
	t.Helper()
	id := p.Open(kind)
	_, err := p.Buy(id, 0)
	wantNil(t, err)
	return id
}

// signsNothing checks that every request on a stopped channel is refused with the typed
// error, and that nothing is saved or sent by any.
func signsNothing(t *testing.T, p *pairtest.Pair, id string) {
	t.Helper()
	ctx := t.Context()
	commits, sent := len(p.PayerDisk.Commits()), len(p.Chain.Sent())
	for what, ask := range map[string]func() error{
		"pay": func() error {
			_, err := p.Payer.Pay(ctx, id, payer.Payment{Verified: pairtest.Price}, channel.Limits{Budget: channel.MaxSat})
			return err
		},
		"newest":         func() error { _, err := p.Payer.Newest(ctx, id); return err },
		"opening":        func() error { _, err := p.Payer.Opening(ctx, id); return err },
		"accepted":       func() error { return p.Payer.Accepted(ctx, id) },
		"publish":        func() error { return p.Payer.Publish(ctx, id) },
		"close":          func() error { _, err := p.Payer.BeginClose(ctx, id); return err },
		"resumed":        func() error { return p.Payer.Resumed(ctx, id, channel.Update{Amount: 5000}) },
		"what came back": func() error { return p.Payer.TakeBack(ctx, id, 5, channel.Update{}) },
	} {
		err := ask()
		var stop *channel.StoppedError
		if !errors.Is(err, channel.ErrStopped) || !errors.As(err, &stop) || stop.Channel != id || stop.Side != script.Payer {
			t.Errorf("%s: %v", what, err)
		}
	}
	if len(p.PayerDisk.Commits()) != commits || len(p.Chain.Sent()) != sent {
		t.Error("something was saved or sent for a stopped channel")
	}
}

// Each record that cannot be stops its channel: durably, with an alarm, over a restart,
// and no other one; what is unpaid comes back by the refund.
func TestUnsoundRecordStopsTheChannel(t *testing.T) {
	for _, row := range []struct {
		name, rule string
		change     func(*channel.PayerRecord)
	}{
		{"signed into the forbidden rest", "dust", func(r *channel.PayerRecord) { r.Signed = pairtest.Capacity - 1 }},
		{"signed without a half-signature", "signature", func(r *channel.PayerRecord) { r.Signature = nil }},
		{"closing without a close", "close", func(r *channel.PayerRecord) { r.Phase = channel.Closing }},
		{"prepared, and sent", "phase", func(r *channel.PayerRecord) { r.Phase = channel.Prepared }},
	} {
		t.Run(row.name, func(t *testing.T) {
			p := pairtest.New(t)
			id, other := bought(t, p, script.Taproot), bought(t, p, script.Taproot)
			tamper(t, p, id, row.change)
			p.RestartPayer()
			_, err := p.Payer.Pay(t.Context(), id, payer.Payment{}, channel.Limits{Budget: channel.MaxSat})
			wantErr(t, err, channel.ErrStopped)
			r, err := p.Payer.Record(t.Context(), id)
			wantNil(t, err)
			if !strings.HasPrefix(r.Stopped, row.rule+": ") || len(p.Alarms()) != 1 {
				t.Fatalf("stopped for %q, alarms %v", r.Stopped, p.Alarms())
			}
			p.RestartPayer()
			signsNothing(t, p, id)
			_, err = p.Buy(other, 4)
			wantNil(t, err)
		})
	}
}

// What the rules would never ask for is not signed: the ledger says less than what was
// signed before, as after a torn record.
func TestViolatingStepIsNotSigned(t *testing.T) {
	p := pairtest.New(t)
	id := bought(t, p, script.Taproot)
	old := channel.Hex(p.Update(id, 2000).Signature)
	tamper(t, p, id, func(r *channel.PayerRecord) { r.Signed, r.Signature = 500, old })
	_, err := p.Payer.Pay(t.Context(), id, payer.Payment{Verified: pairtest.Price}, channel.Limits{Budget: channel.MaxSat})
	wantErr(t, err, channel.ErrStopped) // the half-signature for 2,000 sat is there already, and says 500
	if r, _ := p.Payer.Record(t.Context(), id); r.Signed != 500 || !strings.HasPrefix(r.Stopped, "signature: ") {
		t.Fatalf("%d sat, stopped for %q", r.Signed, r.Stopped)
	}
	signsNothing(t, p, id)
}

// A stopped channel comes back by its refund, which is watched until it is buried; an
// export of it may still be made.
func TestStoppedChannelIsRefunded(t *testing.T) {
	for _, kind := range []script.Construction{script.Taproot, script.Multisig} {
		t.Run(string(kind), func(t *testing.T) {
			p := pairtest.New(t)
			id := p.Open(kind)
			wantNil(t, p.StepPayer())
			tamper(t, p, id, func(r *channel.PayerRecord) { r.Stopped = "budget: as before a restart" })
			p.RestartPayer()
			_, err := p.Payer.Export(t.Context(), id)
			wantNil(t, err)
			r, err := p.Payer.Record(t.Context(), id)
			wantNil(t, err)
			for range int(r.Terms.Expiry) + 10 {
				p.Mine(1)
				wantNil(t, p.StepPayer())
				if r, err = p.Payer.Record(t.Context(), id); r.Phase.Final() {
					break
				}
				wantNil(t, err)
			}
			if r.Phase != channel.Refunded || r.Stopped == "" {
				t.Fatalf("phase %s, stopped %q", r.Phase, r.Stopped)
			}
		})
	}
}

// A channel that is stopped before its opening left gives its coins back.
func TestStoppedBeforeItLeft(t *testing.T) {
	p := pairtest.New(t)
	r := p.Prepare(p.Offer(), script.Taproot)
	tamper(t, p, r.Terms.ID(), func(r *channel.PayerRecord) { r.Stopped = "terms: as before a restart" })
	p.RestartPayer()
	_, err := p.Payer.Opening(t.Context(), r.Terms.ID())
	wantErr(t, err, channel.ErrStopped)
	wantNil(t, p.Payer.Abandon(t.Context(), r.Terms.ID()))
}

// A stop whose mark cannot be saved refuses all the same.
func TestStopThatIsNotSaved(t *testing.T) {
	p := pairtest.New(t)
	id := bought(t, p, script.Taproot)
	tamper(t, p, id, func(r *channel.PayerRecord) { r.Signature = nil })
	p.PayerDisk.FailNext(store.ErrFull)
	_, err := p.Payer.BeginClose(t.Context(), id)
	wantErr(t, err, channel.ErrStopped)
	if r, _ := p.Payer.Record(t.Context(), id); r.Stopped != "" {
		t.Fatal("the mark was saved by a full disk")
	}
	_, err = p.Payer.BeginClose(t.Context(), id)
	wantErr(t, err, channel.ErrStopped)
	if r, _ := p.Payer.Record(t.Context(), id); r.Stopped == "" {
		t.Fatal("the mark was not saved")
	}
}

// Once the refund is on its way a close that was asked for before changes nothing.
func TestLateCloseDoesNotUndoTheRefund(t *testing.T) {
	p := pairtest.New(t)
	id := p.Open(script.Taproot)
	c, err := p.Payer.BeginClose(t.Context(), id)
	wantNil(t, err)
	q := channel.CloseRequest{Update: c.Update, PayerNonce: c.Nonce[:]}
	got, err := p.Payee.Close(t.Context(), id, q)
	wantNil(t, err)
	r, err := p.Payer.Record(t.Context(), id)
	wantNil(t, err)
	for r.Phase != channel.Refunding {
		p.Mine(1)
		wantNil(t, p.StepPayer())
		r, err = p.Payer.Record(t.Context(), id)
		wantNil(t, err)
	}
	_, err = p.Payer.FinishClose(t.Context(), id, c, got.Tx, [66]byte(got.PayeeNonce), got.Partial)
	wantErr(t, err, channel.ErrFinalized)
	if errors.Is(err, channel.ErrStopped) || len(p.Alarms()) != 0 {
		t.Fatalf("%v, alarms %v", err, p.Alarms())
	}
}
