package payee

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/watch"
)

// freshView is how long what was seen of the chain serves requests.
const freshView = 20 * time.Second

// look asks the chain for a channel's view and for its funding output.
func (p *Payee) look(ctx context.Context, t channel.Terms, funding []byte) (channel.View, *wire.TxOut, error) {
	view, tx, err := watch.LookAt(ctx, p.cfg.Chain, p.target(t, funding))
	if err != nil {
		return view, nil, fmt.Errorf("%w: %w", ErrStale, err)
	}
	if tx == nil || int(t.Outpoint.Index) >= len(tx.TxOut) {
		return view, nil, nil
	}
	return view, tx.TxOut[t.Outpoint.Index], nil
}

// freshWaiting is the same while the funding is not deep enough: short, so that a block
// counts soon, and long enough that requests do not become questions to the backend.
const freshWaiting = time.Second

// fresh is how long what was seen of a channel serves requests.
func (p *Payee) fresh(v channel.View, t channel.Terms) time.Duration {
	switch {
	case v.Depth() >= t.Confirmations:
		return freshView
	case p.cfg.Network == "regtest":
		return 0 // blocks come when somebody wants one
	}
	return freshWaiting
}

// view is what the chain says of a channel, at most freshView old where the funding is
// deep enough, freshWaiting where it is not.
func (p *Payee) view(ctx context.Context, h *held) (channel.View, error) {
	s, ok := p.observed(h.id)
	age := p.cfg.Now().Sub(s.at)
	if ok && age >= 0 && age < p.fresh(s.view, h.record.Terms) {
		return s.view, nil
	}
	v, _, err := p.look(ctx, h.record.Terms, h.record.FundingTx)
	if err != nil {
		return v, err
	}
	if err := p.moving(ctx); err != nil {
		return v, err
	}
	p.observe(h.id, v)
	return v, nil
}

// moving refuses a chain whose newest block is too old: the backend stands still,
// and with it every margin. Settlements go on. Errors: ErrStale.
func (p *Payee) moving(ctx context.Context) error {
	if p.cfg.StaleTip <= 0 {
		return nil
	}
	tip, err := p.cfg.Chain.Tip(ctx)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrStale, err)
	}
	if age := p.cfg.Now().Sub(tip.Time); age > p.cfg.StaleTip {
		return fmt.Errorf("%w: the newest block, %d, is %s old; nothing is delivered until the backend catches up",
			ErrStale, tip.Height, age.Round(time.Minute))
	}
	return nil
}

// Watched returns the channels that still need the chain, for package watch. Records
// that cannot be read are an error beside the others: each channel fails alone.
func (p *Payee) Watched(ctx context.Context) ([]watch.Target, error) {
	records, err := p.readable(ctx)
	var targets []watch.Target
	for _, r := range records {
		if !r.Phase.Final() {
			targets = append(targets, p.target(r.Terms, r.FundingTx))
		}
	}
	return targets, err
}

// target is a channel as the watch looks at it.
func (p *Payee) target(t channel.Terms, funding []byte) watch.Target {
	return watch.Target{ID: t.ID(), Outpoint: wire.OutPoint(t.Outpoint), FundingTx: funding, Rest: t.RestScript}
}

// Due does what a channel needs as the chain stands: rules, save, broadcast.
// funding is T1 where the chain showed it; it is saved the first time.
func (p *Payee) Due(ctx context.Context, id string, v channel.View, funding []byte) error {
	h, err := p.lockDue(ctx, id, v)
	if err != nil {
		return err
	}
	defer h.unlock()
	actions, err := p.due(ctx, h, v, funding)
	if err != nil {
		return err
	}
	var failed []error
	for _, a := range actions {
		failed = append(failed, p.act(ctx, h, a, v))
	}
	return errors.Join(failed...)
}

// lockDue is lock for what the rule Due decides: an idle channel needs no scripts.
func (p *Payee) lockDue(ctx context.Context, id string, v channel.View) (*held, error) {
	h, err := p.lockBare(ctx, id)
	if err != nil || h.record.Idle(v) {
		return h, err
	}
	if h.script, err = p.scripts(h.record.Terms); err != nil {
		h.unlock()
		return nil, err
	}
	return h, nil
}

// due asks the rule what a channel needs, and saves what it decided.
func (p *Payee) due(ctx context.Context, h *held, v channel.View, funding []byte) ([]channel.Action, error) {
	p.observe(h.id, v)
	if h.record.Phase.Final() {
		return nil, nil
	}
	before := h.record
	next, actions := before.Due(h.script, p.cfg.Payout, v, p.cfg.Policy)
	if len(next.FundingTx) == 0 {
		next.FundingTx = funding
	}
	if err := p.saveDue(ctx, h, next); err != nil {
		return nil, err
	}
	if next.Phase != before.Phase {
		p.cfg.Log.Info("channel", "channel", h.id, "phase", next.Phase, "was", before.Phase, "reason", next.Reason)
	}
	return actions, nil
}

func (p *Payee) saveDue(ctx context.Context, h *held, next channel.PayeeRecord) error {
	if next.Phase == h.record.Phase && next.SpentBy == h.record.SpentBy && next.Reason == h.record.Reason &&
		len(next.FundingTx) == len(h.record.FundingTx) {
		return nil
	}
	if !next.Phase.Final() {
		return p.save(ctx, h, next)
	}
	return p.saveEnd(ctx, h, next)
}

// saveEnd saves a channel that is over, and takes it out of the pool, in one commit.
func (p *Payee) saveEnd(ctx context.Context, h *held, next channel.PayeeRecord) error {
	p.pool.Lock()
	defer p.pool.Unlock()
	ops, err := p.leavePool(ctx, h, next)
	if err != nil {
		return err
	}
	if err := p.giveBack(ctx, h); err != nil {
		return err
	}
	return p.save(ctx, h, next, ops...)
}

func (p *Payee) act(ctx context.Context, h *held, a channel.Action, v channel.View) error {
	switch a.Kind {
	case channel.SendFunding, channel.Send:
		return p.send(ctx, a.Tx)
	case channel.MakeSettlement:
		if h.record.Shared(v) {
			return nil // together with the others in it: DueTogether
		}
		_, err := p.settle(ctx, h, a.Rate, a.Coins, v.Tip)
		return err
	default:
		return fmt.Errorf("payee: no action %q", a.Kind)
	}
}

func (p *Payee) send(ctx context.Context, raw []byte) error {
	tx, err := channel.DecodeTx(raw)
	if err != nil {
		return err
	}
	if err := p.cfg.Chain.Broadcast(ctx, tx); err != nil && !errors.Is(err, chain.ErrRejected) {
		return err
	} else if err != nil {
		p.cfg.Log.Warn("a broadcast was refused, it is repeated with the next block", "txid", tx.TxHash(), "reason", err)
	}
	return nil
}
