package payer_test

import (
	"errors"
	"testing"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/internal/pairtest"
	"github.com/spillway/spillway/payer"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/store"
)

// A store that is an old copy says that nothing of a channel has left: the export,
// which was made before anything did, knows more, and its money comes back. Where
// the record knows that something left, the export is refused.
func TestImportOverAnOldCopy(t *testing.T) {
	for _, kind := range []script.Construction{script.Taproot, script.Multisig} {
		t.Run(string(kind), func(t *testing.T) {
			p := pairtest.New(t)
			o := p.Offer()
			r := p.Prepare(o, kind)
			id := r.Terms.ID()
			old, err := p.PayerDisk.Get(t.Context(), "payer/channel", id)
			wantNil(t, err)
			if kind == script.Multisig {
				p.SignRefund(o, r)
			}
			op, err := p.Payer.Opening(t.Context(), id)
			wantNil(t, err)
			e, err := p.Payer.Export(t.Context(), id)
			wantNil(t, err)
			_, err = p.Payee.Open(t.Context(), o, op)
			wantNil(t, err)
			if _, err := p.Payer.Import(t.Context(), e); !errors.Is(err, payer.ErrExportKnown) {
				t.Fatalf("a channel that is here: %v", err)
			}
			wantNil(t, p.PayerDisk.Commit(t.Context(), store.Op{Bucket: "payer/channel", Key: id, Value: old.Value, Expect: store.Any}))
			p.RestartPayer()
			got, err := p.Payer.Import(t.Context(), again(t, e))
			wantNil(t, err)
			if got.Over || !got.Record.Imported {
				t.Fatalf("imported as %+v", got)
			}
			p.Mine(int(o.Expiry - o.Tip))
			wantNil(t, p.StepPayer())
			p.Mine(int(p.Policy.Burial))
			wantNil(t, p.StepPayer())
			if r, err = p.Payer.Record(t.Context(), id); err != nil || r.Phase != channel.Refunded {
				t.Errorf("phase %s, %v", r.Phase, err)
			}
		})
	}
}
