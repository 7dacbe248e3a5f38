package payee

import (
	"context"
	"errors"
	"fmt"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/script"
)

// minRungStep is the least by which rungs differ, 1 sat/vB: less replaces nothing.
const minRungStep = script.FeeRate(1000)

// Rung is a completed settlement at one fee rate, ready to be broadcast by anybody.
type Rung struct {
	Tx     channel.Hex
	Txid   string
	Rate   script.FeeRate
	Fee    int64  // sat
	Amount uint64 // sat, what it claims of the channel before the fee
}

// Rungs completes the settlement of a channel's newest update at the rates 1, 2, 4 …
// sat/vB up to limit, and at the last one that is possible: limit, or what is at
// stake. Nothing is saved and nothing is broadcast: the rungs are for a watchtower.
// They are as good as money spent: whoever has them can settle the channel, at the
// highest rung's fee at worst.
// In a duplex channel they are of the newest state that the payee can complete, and
// valid from its lock on.
// Errors: ErrUnknown, channel.ErrFinalized, channel.ErrNothingAtStake,
// channel.ErrTooSmall. docs/protocol.md, "Watchtower".
func (p *Payee) Rungs(ctx context.Context, id string, limit script.FeeRate) ([]Rung, error) {
	h, err := p.read(ctx, id)
	if err != nil {
		return nil, err
	}
	r := h.record
	if stop := r.Stop(); stop != nil {
		return nil, stop
	}
	if err := r.Sound(); err != nil {
		return nil, fmt.Errorf("channel %s: %w", id, err)
	}
	switch {
	case r.Phase.Final():
		return nil, fmt.Errorf("%w: phase %s", channel.ErrFinalized, r.Phase)
	case r.Claimed() == 0:
		return nil, channel.ErrNothingAtStake
	}
	claim, err := r.Claim(h.script)
	if err != nil {
		return nil, err
	}
	if claim.PayeeKey, err = p.cfg.Keys.PayeeChannelKey(r.Terms.Nonce); err != nil {
		return nil, err
	}
	size := h.script.StateVSize(script.State{Sender: claim.Sender, Lock: claim.Lock, Rest: claim.Rest}, p.cfg.Payout)
	stake := int64(r.Claimed()) - script.Dust(p.cfg.Payout)
	if top := script.FeeRate(max(stake, 0) * 1000 / size); limit > top {
		limit = top
	}
	var rungs []Rung
	for _, rate := range rungRates(limit) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		tx, fee, err := script.Settle([]script.Claim{claim}, p.cfg.Payout, rate)
		if errors.Is(err, script.ErrPayoutDust) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("channel %s: %w", id, err)
		}
		if err := r.SettlementSound(tx, fee, p.cfg.Payout); err != nil {
			return nil, fmt.Errorf("channel %s: %w", id, err)
		}
		raw, err := channel.EncodeTx(tx)
		if err != nil {
			return nil, err
		}
		rungs = append(rungs, Rung{Tx: raw, Txid: tx.TxHash().String(), Rate: rate, Fee: fee, Amount: r.Claimed()})
	}
	if len(rungs) == 0 {
		return nil, fmt.Errorf("%w: paid %d sat", channel.ErrTooSmall, r.Claimed())
	}
	return rungs, nil
}

// rungRates are 1, 2, 4 … sat/vB below limit, and limit itself.
func rungRates(limit script.FeeRate) (rates []script.FeeRate) {
	for rate := minRungStep; rate+minRungStep <= limit; rate *= 2 {
		rates = append(rates, rate)
	}
	if limit >= minRungStep {
		rates = append(rates, limit)
	}
	return rates
}
