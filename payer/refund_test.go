package payer_test

import (
	"encoding/json"
	"testing"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/internal/pairtest"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/store"
)

// TestPitfall28_KilledBetweenRefunds: where a dearer refund was saved and never
// left, the one in the mempool is still known for our own: it is replaced, and the
// channel ends as refunded.
func TestPitfall28_KilledBetweenRefunds(t *testing.T) {
	p := pairtest.New(t)
	id := p.Open(script.Taproot)
	rec, err := p.Payer.Record(t.Context(), id)
	wantNil(t, err)
	for tip, err := p.Chain.Tip(t.Context()); tip.Height < rec.Terms.Expiry; tip, err = p.Chain.Tip(t.Context()) {
		wantNil(t, err)
		p.Mine(1)
	}
	wantNil(t, p.StepPayer())
	first, err := p.Payer.Record(t.Context(), id)
	wantNil(t, err)
	// A dearer one is saved, as at the next block, and the process ends before it
	// is sent: what is on the disk is all that is left of it.
	at := disk(t, p, id)
	killed := first
	killed.Refund = channel.Broadcast{Tx: first.Refund.Tx, Txid: "dearer", Rate: first.Refund.Rate + 1000, Height: first.Refund.Height}.Replaces(first.Refund)
	wantNil(t, p.PayerDisk.Commit(t.Context(), store.Op{Bucket: at.Bucket, Key: at.Key, Value: encoded(t, killed), Expect: at.Revision}))
	p.RestartPayer()
	if _, err := p.Payer.Refund(t.Context(), id); err != nil {
		t.Fatalf("our own refund was taken for the payee's: %v", err)
	}
	wantNil(t, p.StepPayer())
	p.Mine(7)
	wantNil(t, p.StepPayer())
	if rec, err = p.Payer.Record(t.Context(), id); err != nil || rec.Phase != channel.Refunded {
		t.Fatalf("phase %s, %v", rec.Phase, err)
	}
}

// disk is a channel as it is on the payer's disk.
func disk(t *testing.T, p *pairtest.Pair, id string) store.Entry {
	t.Helper()
	e, err := p.PayerDisk.Get(t.Context(), "payer/channel", id)
	wantNil(t, err)
	return e
}

func encoded(t *testing.T, v any) []byte {
	t.Helper()
	raw, err := json.Marshal(v)
	wantNil(t, err)
	return raw
}
