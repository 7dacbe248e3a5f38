package download_test

import (
	"testing"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/download"
	"github.com/spillway/spillway/download/downloadtest"
	"github.com/spillway/spillway/payer"
)

// A chunk costs one read of the channel's record, that of its payment.
func TestOneReadOfTheRecordAChunk(t *testing.T) {
	s := newShop(t, downloadtest.Config{Price: "30sat/1KiB", Files: map[string][]byte{"f.bin": downloadtest.Pattern(40*64<<10, 3)}})
	o := s.Open()
	p, err := o.Buyer.Plan(ctx, s.want(), nil)
	downloadtest.Must(t, err)
	const bucket = "payer/channel"
	s.Customer.Store.Reads(bucket)
	_, err = o.Buyer.Run(ctx, p, plenty, nil)
	downloadtest.Must(t, err)
	s.same()
	if got, chunks := s.Customer.Store.Reads(bucket), int(p.Manifest.Chunks()); chunks < 40 || got > chunks+25 {
		t.Fatalf("%d reads for %d chunks and an opening", got, chunks)
	}
}

// What is remembered of a record decides nothing: where somebody else changed it in
// between, the next payment is decided by what is stored, and nothing is lost of either.
func TestARecordChangedMeanwhile(t *testing.T) {
	s := newShop(t, downloadtest.Config{Price: "30sat/1KiB", Files: map[string][]byte{"f.bin": downloadtest.Pattern(12*64<<10, 4)}})
	other, changed := s.Open().Payer, false
	o := s.Open()
	p, err := o.Buyer.Plan(ctx, s.want(), nil)
	downloadtest.Must(t, err)
	var extra uint64
	_, err = o.Buyer.Run(ctx, p, plenty, func(e download.Event) {
		if e.Chunk != 5 || changed || e.Channel == "" {
			return
		}
		changed = true
		u, err := other.Pay(ctx, e.Channel, payer.Payment{Verified: 7000}, channel.Limits{Budget: channel.MaxSat})
		downloadtest.Must(t, err)
		extra = u.Amount
	})
	downloadtest.Must(t, err)
	s.same()
	rec := s.records()[0]
	if !changed || extra == 0 || rec.Owed < p.Manifest.TotalMsat() || rec.Signed < channel.CeilSat(p.Manifest.TotalMsat()) {
		t.Fatalf("%d msat are owed, %d sat are signed, the file costs %d msat (changed: %v)", rec.Owed, rec.Signed, p.Manifest.TotalMsat(), changed)
	}
}
