package paywall_test

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/payer"
	"github.com/spillway/spillway/paywall"
	"github.com/spillway/spillway/script"
)

// A clock that is an hour ahead of the payee's makes every challenge look ended. Nothing
// new is begun then, and the message asks about the clock; in a channel that is there
// what is owed is paid, more is bought, and it is closed: the payee judges by its own.
func TestClocksThatDisagree(t *testing.T) {
	s := newStand(t)
	id := s.open(t, script.Taproot)
	s.buy(t, id, "0-65535", chunkMsat)
	ahead, err := paywall.NewClient(paywall.ClientConfig{
		HTTP: http.DefaultClient, Payer: s.Payer, Network: "regtest", Now: func() time.Time { return s.Now().Add(time.Hour) },
	})
	must(t, err)
	if _, err := ahead.Quote(ctx, s.url, paywall.Expect{}); !errors.Is(err, paywall.ErrMisbehaved) {
		t.Fatalf("a challenge that has ended was believed: %v", err)
	}
	resp, receipt, err := ahead.Fetch(ctx, s.paid(t, id, "65536-131071"))
	must(t, err)
	must(t, resp.Body.Close())
	if receipt.ChargedMsat != 2*chunkMsat || receipt.AcceptedCumulative != chunkMsat/1000 {
		t.Fatalf("%+v", receipt)
	}
	_, err = s.Payer.Pay(ctx, id, payer.Payment{Verified: chunkMsat}, channel.Limits{Budget: channel.MaxSat})
	must(t, err)
	receipt, err = ahead.Voucher(ctx, s.paid(t, id, ""))
	must(t, err)
	if receipt.AcceptedCumulative != 2*chunkMsat/1000 {
		t.Fatalf("%+v", receipt)
	}
	_, err = ahead.Resume(ctx, id, s.url, paywall.Expect{})
	must(t, err)
	if txid, err := ahead.Close(ctx, id, s.url, paywall.Expect{}); err != nil || txid == "" {
		t.Fatalf("%q, %v", txid, err)
	}
}
