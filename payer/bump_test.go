package payer_test

import (
	"errors"
	"testing"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/internal/pairtest"
	"github.com/spillway/spillway/payee"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/wallet"
)

// A payer that waits for its rest hangs a child on it: both together pay the rate that
// it asks for, in the version of what it is a child of; a dearer one takes its place;
// none pays more than the rest holds; once the settlement is mined there is no more to do.
func TestBump(t *testing.T) {
	for _, version := range []int32{2, 3} {
		p := pairtest.New(t)
		p.Policy.TxVersion = version
		p.RestartPayee()
		p.RestartPayer()
		id := p.Open(script.Taproot)
		_, err := p.Payer.Bump(t.Context(), id, script.FeeRatePerVB(9), 0)
		wantErr(t, err, channel.ErrNotYet)
		u := p.Update(id, 9_000)
		_, err = p.Payee.Pay(t.Context(), payee.Request{Channel: id, Update: &u})
		wantNil(t, err)
		_, err = p.Payee.Settle(t.Context(), id, nil, false)
		wantNil(t, err)
		op, err := channel.ParseOutpoint(id)
		wantNil(t, err)
		spend, err := p.Chain.Spend(t.Context(), wire.OutPoint(op))
		wantNil(t, err)
		parent, err := p.Chain.Tx(t.Context(), spend.Txid)
		wantNil(t, err)
		fee := int64(pairtest.Capacity) - parent.Tx.TxOut[0].Value - parent.Tx.TxOut[1].Value
		older := ""
		for _, rate := range []int64{9, 9, 20} {
			f, err := p.Payer.Bump(t.Context(), id, script.FeeRatePerVB(rate), 0)
			wantNil(t, err)
			size := script.VSize(f.Tx) + script.VSize(parent.Tx)
			if got := fee + f.Fee; got < rate*size || got > rate*size+2*script.VSize(f.Tx) {
				t.Errorf("version %d: %d sat for %d vB at %d sat/vB", version, got, size, rate)
			}
			if f.Tx.Version != version || script.VSize(f.Tx) > 1_000 || f.Tx.TxID() == older {
				t.Errorf("version %d: %+v", version, f.Tx)
			}
			if held, err := p.Wallet.Reservations(t.Context()); err != nil || held[len(held)-1].Txid == older {
				t.Errorf("reserved: %+v, %v", held, err)
			}
			older = f.Tx.TxID()
		}
		var dear *wallet.DearError
		before, err := p.Wallet.Reservations(t.Context())
		wantNil(t, err)
		if _, err := p.Payer.Bump(t.Context(), id, script.FeeRatePerVB(40), 1_000); !errors.As(err, &dear) || dear.Most != 1_000 || dear.Fee < 5_000 {
			t.Errorf("more than was allowed: %v", err)
		}
		if held, err := p.Wallet.Reservations(t.Context()); err != nil || len(held) != len(before) || held[len(held)-1].Txid != older {
			t.Errorf("what was not sent is reserved: %+v, %v", held, err)
		}
		if dear != nil {
			if f, err := p.Payer.Bump(t.Context(), id, script.FeeRatePerVB(40), dear.Fee); err != nil || f.Fee != dear.Fee {
				t.Errorf("what was said to be needed: %v", err)
			}
		}
		_, err = p.Payer.Bump(t.Context(), id, script.FeeRatePerVB(5_000), 0)
		if !errors.Is(err, wallet.ErrInsufficient) {
			t.Errorf("more than the rest holds: %v", err)
		}
		p.Mine(1)
		if info, err := p.Chain.Tx(t.Context(), spend.Txid); err != nil || !info.Confirmed {
			t.Errorf("the settlement is not mined: %v", err)
		}
		_, err = p.Payer.Bump(t.Context(), id, script.FeeRatePerVB(9), 0)
		wantErr(t, err, channel.ErrFinalized)
	}
}
