package paywall_test

import (
	"errors"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/internal/gateway/edgetest"
	"github.com/spillway/spillway/mpp/bitcoin"
	"github.com/spillway/spillway/payee"
	"github.com/spillway/spillway/payer"
	"github.com/spillway/spillway/paywall"
	"github.com/spillway/spillway/script"
)

// A chunk that was charged, broke off, and is not on offer any more comes off the
// ledger when the payer says what arrived: once, over restarts, and only then. What
// was paid ahead for it comes back.
func TestDuplexWithdrawn(t *testing.T) {
	for name, ahead := range map[string]bool{"on credit": false, "paid ahead": true} {
		t.Run(name, func(t *testing.T) {
			var gone atomic.Bool
			kinds := allKinds(script.Duplex)
			s := edgetest.New(t, edgetest.Config{Payee: func(c *payee.Config) {
				kinds(c)
				c.Offered = func([32]byte) bool { return !gone.Load() }
			}})
			id := s.OpenChannel(script.Duplex)
			fetch := func(i uint64) {
				t.Helper()
				if ahead {
					_, err := s.Payer.Pay(ctx, id, payer.Payment{Ahead: 1_000_000}, channel.Limits{Budget: channel.MaxSat, Prepay: channel.MaxSat})
					must(t, err)
				}
				if r := s.Pay("GET", "/f.bin?slice="+sliceOf(i), s.VoucherOf(id)); r.Status != http.StatusOK {
					t.Fatalf("%d %v", r.Status, r.Problem)
				}
			}
			fetch(0)
			s.Verified(id, 1_000_000)
			fetch(1) // and it breaks off
			resume := func(charged uint64) {
				t.Helper()
				got, err := s.Client.Resume(ctx, id, "", paywall.Expect{})
				must(t, err)
				if got.ChargedMsat != charged {
					t.Fatalf("charged are %d msat, want %d", got.ChargedMsat, charged)
				}
			}
			resume(2_000_000) // it is on offer: it can be fetched again
			gone.Store(true)
			resume(1_000_000)
			s.Restart()
			resume(1_000_000)
			r, err := s.Payer.Record(ctx, id)
			must(t, err)
			if r.Signed != 1_000 || r.Owed != 1_000_000 || r.Duplex.Back != 0 {
				t.Fatalf("signed %d sat, owed %d msat, back %d msat", r.Signed, r.Owed, r.Duplex.Back)
			}
			gone.Store(false) // on offer again: charged again
			fetch(1)
			resume(2_000_000)
			earned, err := payee.Earnings(ctx, s.PayeeDisk, "")
			must(t, err)
			var sum, back uint64
			for _, e := range earned {
				sum, back = sum+e.Msat, back+e.Back
			}
			if sum != 3_000_000 || back != 1_000_000 {
				t.Errorf("%d msat earned and %d taken off, want three chunks and one", sum, back)
			}
			s.Verified(id, 1_000_000)
			if _, err := s.Client.Close(ctx, id, "", paywall.Expect{}); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// A payer that says it got less than it did gets back no more than its credit, and only
// of what was withdrawn.
func TestDuplexWithdrawnToALiar(t *testing.T) {
	var gone atomic.Bool
	kinds := allKinds(script.Duplex)
	s := edgetest.New(t, edgetest.Config{Payee: func(c *payee.Config) {
		kinds(c)
		c.Offered = func([32]byte) bool { return !gone.Load() }
	}})
	id := s.OpenChannel(script.Duplex)
	for i := range uint64(3) {
		if r := s.Pay("GET", "/f.bin?slice="+sliceOf(i), s.VoucherOf(id)); r.Status != http.StatusOK {
			t.Fatalf("%d %v", r.Status, r.Problem)
		}
		s.Verified(id, 1_000_000)
	}
	lie := func() uint64 {
		t.Helper()
		p := s.ResumeOf(id)
		p.ChargedMsat = 0
		r := s.Do(edgetest.Ask{Method: "POST", Path: "/f.bin", Credential: s.Seal(s.Quote("/f.bin").Challenge, p, "")})
		var a bitcoin.ResumeAnswer
		must(t, a.UnmarshalJSON(r.Body))
		return a.ChargedMsat
	}
	if got := lie(); got != 3_000_000 {
		t.Fatalf("%d msat are charged, and all of it is on offer", got)
	}
	gone.Store(true)
	for range 3 {
		if got := lie(); got != 2_000_000 {
			t.Fatalf("%d msat are charged after a lie on a credit of one chunk", got)
		}
	}
}

// A pay-back is told in every answer until the payer has it, and taken once, whoever
// is killed in between.
func TestDuplexPaysBackOnce(t *testing.T) {
	s, id, _ := twoWay(t) // 1,000 sat were paid back before, 2,000 are paid
	for range 3 {
		_, err := s.Payee.Refund(ctx, id, "order-2", 1_500_000)
		must(t, err)
		s.Restart()
	}
	if _, err := s.Payee.Refund(ctx, id, "order-2", 1_500_001); !errors.Is(err, channel.ErrConflict) {
		t.Fatalf("the key with another amount: %v", err)
	}
	for range 3 {
		_, err := s.Client.Voucher(ctx, paywall.Paid{Channel: id, URL: s.Server.URL + "/f.bin", Update: mustNewest(t, s, id)})
		must(t, err)
		s.RestartPayer()
		r, err := s.Payer.Record(ctx, id)
		must(t, err)
		if r.Signed != 500 || r.Owed != 500_000 || r.Duplex.Back != 2_500_000 || r.Duplex.Held.Epoch != 4 {
			t.Fatalf("signed %d sat, owed %d msat, back %d msat", r.Signed, r.Owed, r.Duplex.Back)
		}
		c, err := paywall.NewClient(paywall.ClientConfig{Payer: s.Payer, Network: "regtest", Now: s.Now})
		must(t, err)
		s.Client = c
	}
}

func mustNewest(t *testing.T, s *edgetest.Stand, id string) channel.Update {
	t.Helper()
	u, err := s.Payer.Newest(ctx, id)
	must(t, err)
	return u
}
