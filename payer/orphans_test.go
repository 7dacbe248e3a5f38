package payer_test

import (
	"testing"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/internal/pairtest"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/store"
)

// TestPitfall28_NoCoinIsReservedForEver: a process that was killed before its
// channel was saved, or while it gave one up, leaves no coin reserved; the coins of
// channels that live are not touched.
func TestPitfall28_NoCoinIsReservedForEver(t *testing.T) {
	p := pairtest.New(t)
	lives := p.Prepare(p.Offer(), script.Taproot).Terms.Outpoint.Hash.String()
	dropped := p.Prepare(p.Offer(), script.Taproot)
	killed := &between{Disk: p.PayerDisk, then: func() { p.PayerDisk.FailNext(store.ErrFull) }}
	wantErr(t, on(t, p, killed).Abandon(t.Context(), dropped.Terms.ID()), store.ErrFull)
	// coins that were reserved for a channel that was never saved
	_, err := p.Wallet.Fund(t.Context(), []*wire.TxOut{{Value: 20_000, PkScript: p.Payout}}, 1000)
	wantNil(t, err)
	p.RestartPayer()
	p.Mine(6)
	known, err := p.Payer.Fundings(t.Context())
	wantNil(t, err)
	_, err = p.Wallet.ReleaseOrphans(t.Context(), 6, known)
	wantNil(t, err)
	held, err := p.Wallet.Reservations(t.Context())
	wantNil(t, err)
	if len(held) != 1 || held[0].Txid != lives {
		t.Fatalf("reserved: %+v", held)
	}
}
