package payee

import (
	"context"
	"errors"
	"fmt"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/script"
)

// Close agrees to a cooperative close: the record is saved as closing, with the
// answer in it, before the answer is returned. The payee's nonce is new for
// every payer nonce; its secret half is gone when this returns.
// Errors: those of channel.PayeeRecord.BeginClose.
func (p *Payee) Close(ctx context.Context, id string, q channel.CloseRequest) (*channel.PayeeClose, error) {
	h, err := p.lockLive(ctx, id)
	if err != nil {
		return nil, err
	}
	defer h.unlock()
	if len(q.PayerNonce) != 66 {
		return nil, fmt.Errorf("%w: a public nonce is 66 bytes, not %d", channel.ErrTerms, len(q.PayerNonce))
	}
	if err := p.verify(h.record.Terms, h.script, q.Update); err != nil {
		return nil, err
	}
	view, _, err := p.look(ctx, h.record.Terms, h.record.FundingTx)
	if err != nil {
		return nil, err
	}
	next, answered, err := h.record.BeginClose(h.script, q, p.cfg.Payout, view)
	if err != nil && next.Paid > h.record.Paid {
		return nil, errors.Join(err, p.save(ctx, h, next)) // refused, but the update was taken
	} else if err != nil {
		return nil, err
	}
	if answered {
		return next.Close, nil
	}
	if next, err = p.answer(h, next, q.PayerNonce); err != nil {
		return nil, p.stop(ctx, h, err)
	}
	if err := p.save(ctx, h, next); err != nil {
		return nil, err
	}
	p.cfg.Log.Info("close agreed", "channel", id, "paid_sat", next.Paid, "txid", next.Close.Txid)
	return next.Close, nil
}

// answer signs the agreed close for the payer's nonce, where the invariants allow it.
// Errors: channel.ErrInvariant.
func (p *Payee) answer(h *held, r channel.PayeeRecord, payerNonce []byte) (channel.PayeeRecord, error) {
	if err := errors.Join(p.holds(h, &r, &channel.Step{}), r.CloseSound(p.cfg.Payout)); err != nil {
		return r, err
	}
	key, err := p.cfg.Keys.PayeeChannelKey(r.Terms.Nonce)
	if err != nil {
		return r, err
	}
	tx, err := channel.DecodeTx(r.Close.Tx)
	if err != nil {
		return r, err
	}
	nonce, err := script.NewNonce(p.cfg.Rand, key, r.Close.Tx, payerNonce)
	if err != nil {
		return r, err
	}
	public := nonce.Public
	partial, err := h.script.PartialSign(tx, key, nonce, [66]byte(payerNonce))
	if err != nil {
		return r, fmt.Errorf("%w: %w", channel.ErrTerms, err)
	}
	return r.SetAnswer(payerNonce, public[:], partial), nil
}

// FinishClose takes the completed close from the payer, saves and broadcasts it.
// Errors: channel.ErrConflict, channel.ErrStopped.
func (p *Payee) FinishClose(ctx context.Context, id string, final []byte) error {
	h, err := p.lockLive(ctx, id)
	if err != nil {
		return err
	}
	defer h.unlock()
	next, err := h.record.FinishClose(h.script, final)
	if err != nil {
		return err
	}
	if len(h.record.Close.FinalTx) == 0 {
		if err := p.save(ctx, h, next); err != nil {
			return err
		}
	}
	return p.send(ctx, final)
}

// Settle settles a channel now: its operator asks, or the payer of a multisig
// channel. update may be nil. It returns the settlement that was broadcast.
// Errors: channel.ErrNothingAtStake, channel.ErrTooSmall, channel.ErrFinalized,
// channel.ErrNotYet in a duplex channel before the lock of what is held,
// channel.ErrUnconfirmed where it is made once the funding is in a block, and
// channel.ErrOwes when a payer asks that has not paid what it was charged.
func (p *Payee) Settle(ctx context.Context, id string, update *channel.Update, payerAsks bool) (*channel.Broadcast, error) {
	h, err := p.lock(ctx, id)
	if err != nil {
		return nil, err
	}
	defer h.unlock()
	next := h.record
	if stop := next.Stop(); stop != nil && (update != nil || payerAsks) {
		return nil, stop // its operator may settle it
	}
	if update != nil && next.Duplex != nil {
		return nil, fmt.Errorf("%w: a duplex channel takes its states as payments", channel.ErrUnsupported)
	}
	if update != nil {
		if err := p.verify(next.Terms, h.script, *update); err != nil {
			return nil, err
		}
		raised := false
		if next, raised, err = next.Update(*update); err != nil {
			return h.record.Settlement, err
		}
		if raised { // it is money, whatever becomes of the rest
			if err := p.save(ctx, h, next); err != nil {
				return nil, err
			}
		}
	}
	if payerAsks && next.Owed() > 0 {
		return nil, fmt.Errorf("%w: charged %d msat, paid %d sat", channel.ErrOwes, next.Charged, next.Paid)
	}
	if next, err = next.AskSettle(channel.WhenAsked); err != nil {
		return nil, err
	}
	view, _, err := p.look(ctx, next.Terms, next.FundingTx)
	if err != nil {
		return nil, err
	}
	if payerAsks && next.Shared(view) {
		return nil, fmt.Errorf("%w: %s settles it together with others", channel.ErrFinalized, view.Spend.Txid)
	}
	if lock, locked := next.LockedUntil(view.Tip); locked {
		return nil, fmt.Errorf("%w: what this duplex channel pays is valid from height %d on; before that its payer closes it together with the payee", channel.ErrNotYet, lock)
	}
	next, actions := next.Due(h.script, p.cfg.Payout, view, p.cfg.Policy)
	if err := p.saveDue(ctx, h, next); err != nil {
		return nil, err
	}
	for _, a := range actions {
		if err := p.act(ctx, h, a, view); err != nil {
			return h.record.Settlement, err
		}
	}
	switch {
	case h.record.Settlement != nil:
		return h.record.Settlement, nil
	case next.Phase.Final():
		return nil, fmt.Errorf("%w: phase %s", channel.ErrFinalized, next.Phase)
	case view.Funding.Height == 0: // a version 3 settlement has to wait; the watch sends it then
		return nil, &channel.UnconfirmedError{Want: 1}
	}
	return nil, fmt.Errorf("%w: paid %d sat", channel.ErrTooSmall, next.Paid)
}

// settle builds the settlement of the newest update at a rate, saves it, and
// broadcasts it.
func (p *Payee) settle(ctx context.Context, h *held, rate script.FeeRate, coins bool, tip uint32) (*wire.MsgTx, error) {
	claim, err := p.claim(h)
	if err != nil {
		return nil, err
	}
	extra, err := p.coins(ctx, h, coins, &rate)
	if err != nil || rate == 0 {
		return nil, err
	}
	tx, fee, err := script.SettleWith([]script.Claim{claim}, p.cfg.Payout, rate, extra)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", channel.ErrTooSmall, err)
	}
	if err := p.settlementSound(h, tx, fee, extra); err != nil {
		return nil, p.stop(ctx, h, err)
	}
	raw, err := channel.EncodeTx(tx)
	if err != nil {
		return nil, err
	}
	next := h.record.Settles(channel.Broadcast{
		Tx: raw, Txid: tx.TxHash().String(), Rate: int64(rate), Fee: fee, Amount: h.record.Claimed(), Height: tip, Coins: worth(extra),
	})
	if err := p.save(ctx, h, next); err != nil {
		return nil, err
	}
	p.cfg.Log.Info("settlement", "channel", h.id, "txid", tx.TxHash(), "paid_sat", next.Paid, "fee_sat", fee)
	return tx, p.send(ctx, raw)
}
