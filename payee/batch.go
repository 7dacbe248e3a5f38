package payee

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/store"
	"github.com/spillway/spillway/watch"
)

// DueTogether does what all channels need as the chain stands. It is Due for each of
// them, but for settlements: those that are due together are made in one transaction,
// by the rules of channel.Together. A failure in one channel keeps no other from its
// turn. Errors: joined.
func (p *Payee) DueTogether(ctx context.Context, seen []watch.Seen) error {
	var failed []error
	var seats []channel.Seat
	for _, s := range seen {
		seat, sits, err := p.dueOne(ctx, s)
		if err != nil {
			failed = append(failed, fmt.Errorf("channel %s: %w", s.ID, err))
		}
		if sits {
			seats = append(seats, seat)
		}
	}
	for _, b := range channel.Together(seats, p.cfg.Payout) {
		of := make([]channel.Seat, len(b.Seats))
		for i, at := range b.Seats {
			of[i] = seats[at]
		}
		if err := p.settleSeats(ctx, of, b.Rate); err != nil {
			failed = append(failed, fmt.Errorf("channel %s: %w", of[0].Record.Terms.ID(), err))
		}
	}
	return errors.Join(failed...)
}

// dueOne does what one channel needs but for its settlement; sits reports whether that
// is to be decided together with the others'.
func (p *Payee) dueOne(ctx context.Context, s watch.Seen) (seat channel.Seat, sits bool, err error) {
	if p.quiet(s.ID, s.View) {
		p.observe(s.ID, s.View)
		return seat, false, nil
	}
	h, err := p.lockDue(ctx, s.ID, s.View)
	if err != nil {
		return seat, false, err
	}
	defer h.unlock()
	actions, err := p.due(ctx, h, s.View, s.Funding)
	if err != nil {
		return seat, false, err
	}
	var failed []error
	r := h.record
	shared := r.Settlement != nil && len(r.Settlement.Batch) > 1
	for _, a := range actions {
		switch {
		case a.Kind == channel.MakeSettlement:
			seat.Rate, seat.Coins = a.Rate, a.Coins
		case a.Kind == channel.Send && shared && bytes.Equal(a.Tx, r.Settlement.Tx):
		default:
			failed = append(failed, p.act(ctx, h, a, s.View))
		}
	}
	seat.Record, seat.Script, seat.View = r, h.script, s.View
	sits = !r.Phase.Final() && (seat.Rate > 0 || shared || r.Phase == channel.Settling && r.Settlement == nil)
	return seat, sits, errors.Join(failed...)
}

// settleSeats makes a settlement of one channel or of several at a rate; at 0 what is
// saved is sent again. What a node refuses is settled alone, at once, unless it was to
// take the place of one that still waits.
func (p *Payee) settleSeats(ctx context.Context, seats []channel.Seat, rate script.FeeRate) (err error) {
	if len(seats) == 1 {
		return p.settleSeat(ctx, seats[0], rate)
	}
	raw := []byte(nil)
	if rate == 0 {
		raw = seats[0].Record.Settlement.Tx
	} else if raw, err = p.batch(ctx, seats, rate); errors.Is(err, errUnmade) {
		return errors.Join(err, p.without(ctx, seats, rate))
	} else if err != nil || raw == nil {
		return err
	}
	taken, err := p.offerTx(ctx, raw)
	if err != nil || taken || seats[0].View.Spend != nil {
		return err
	}
	var failed []error
	for _, s := range seats {
		if s.Record, err = p.Record(ctx, s.Record.Terms.ID()); err != nil {
			failed = append(failed, err)
		} else if own := s.Afresh(p.cfg.Payout); own > 0 {
			failed = append(failed, p.settleSeat(ctx, s, own))
		}
	}
	return errors.Join(failed...)
}

// errUnmade: what is saved of one of a batch's channels is good for no settlement.
var errUnmade = errors.New("a settlement of several channels could not be made")

// without settles the channels of a batch that could not be made: together those whose
// half-signature is good for what is saved, and each of the others alone, which names
// what is wrong with it, and stops it where that is an invariant. Where all are good
// each is settled alone.
func (p *Payee) without(ctx context.Context, seats []channel.Seat, rate script.FeeRate) error {
	var good, bad []channel.Seat
	for _, s := range seats {
		if p.completes(s) {
			good = append(good, s)
		} else {
			bad = append(bad, s)
		}
	}
	if len(bad) == 0 {
		good, bad = nil, seats
	}
	var failed []error
	if len(good) > 0 {
		failed = append(failed, p.settleSeats(ctx, good, rate))
	}
	for _, s := range bad {
		own := s.Rate
		if s.Record.Settlement != nil {
			own = s.Afresh(p.cfg.Payout)
		}
		if own > 0 {
			failed = append(failed, p.settleSeat(ctx, s, own))
		}
	}
	return errors.Join(failed...)
}

// completes reports whether what a record holds can be completed to a settlement.
func (p *Payee) completes(s channel.Seat) bool {
	c, err := s.Record.Claim(s.Script)
	return err == nil && s.Script.VerifyState(script.State{Sender: c.Sender, Lock: c.Lock, Rest: c.Rest}, c.HalfSig) == nil
}

// settleSeat settles one channel alone, unless it was settled otherwise meanwhile.
func (p *Payee) settleSeat(ctx context.Context, s channel.Seat, rate script.FeeRate) error {
	h, err := p.lock(ctx, s.Record.Terms.ID())
	if err != nil {
		return err
	}
	defer h.unlock()
	if !unchanged(h.record, s.Record) {
		return nil
	}
	_, err = p.settle(ctx, h, rate, s.Coins, s.View.Tip)
	return err
}

// unchanged reports whether a channel is where it was when it was decided about; more
// may have been paid.
func unchanged(now, then channel.PayeeRecord) bool {
	if now.Settlement == nil || then.Settlement == nil {
		return now.Phase == then.Phase && now.Settlement == nil && then.Settlement == nil
	}
	return now.Phase == then.Phase && now.Settlement.Txid == then.Settlement.Txid
}

// batch completes one settlement of several channels and saves it with all of them in
// one commit. Where one has changed meanwhile nothing is made: the next step decides
// anew. Errors: errUnmade, of the store.
func (p *Payee) batch(ctx context.Context, seats []channel.Seat, rate script.FeeRate) (channel.Hex, error) {
	held, unlock, err := p.lockAll(ctx, seats)
	if err != nil || held == nil {
		return nil, err
	}
	defer unlock()
	claims, next := make([]script.Claim, len(held)), make([]channel.PayeeRecord, len(held))
	ids, records := make([]string, len(held)), make([]*channel.PayeeRecord, len(held))
	for i, h := range held {
		seats[i].Record, records[i], ids[i] = h.record, &h.record, h.id
		if claims[i], err = p.claim(h); err != nil {
			return nil, fmt.Errorf("%w: %s: %w", errUnmade, h.id, err)
		}
	}
	tx, fee, err := script.Settle(claims, p.cfg.Payout, rate)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUnmade, err)
	}
	if err := channel.BatchSound(records, tx, fee, p.cfg.Payout); err != nil {
		return nil, fmt.Errorf("%w: %w", errUnmade, err) // who is to blame shows alone
	}
	raw, err := channel.EncodeTx(tx)
	if err != nil {
		return nil, err
	}
	shares := channel.Shares(seats, fee, p.cfg.Payout)
	for i, h := range held {
		next[i] = h.record.Settles(channel.Broadcast{
			Tx: raw, Txid: tx.TxHash().String(), Rate: int64(rate), Fee: shares[i], Amount: h.record.Claimed(), Height: seats[i].View.Tip, Batch: ids,
		})
	}
	if err := p.saveAll(ctx, held, next); err != nil {
		return nil, err
	}
	p.cfg.Log.Info("settlement", "channels", len(held), "txid", tx.TxHash(), "fee_sat", fee)
	return raw, nil
}

// claim is a channel's newest update as part of a settlement, with the payee's key.
func (p *Payee) claim(h *held) (script.Claim, error) {
	c, err := h.record.Claim(h.script)
	if err != nil {
		return c, err
	}
	c.PayeeKey, err = p.cfg.Keys.PayeeChannelKey(h.record.Terms.Nonce)
	return c, err
}

// lockAll locks the seats' channels, in the order of their ids, so that two who do so
// never wait for each other. It sorts the seats. nil: one has changed meanwhile.
func (p *Payee) lockAll(ctx context.Context, seats []channel.Seat) (all []*held, unlock func(), err error) {
	unlock = func() {
		for _, h := range all {
			h.unlock()
		}
	}
	slices.SortFunc(seats, func(a, b channel.Seat) int {
		return bytes.Compare([]byte(a.Record.Terms.ID()), []byte(b.Record.Terms.ID()))
	})
	for _, s := range seats {
		h, err := p.lock(ctx, s.Record.Terms.ID())
		if err != nil {
			unlock()
			return nil, nil, err
		}
		if all = append(all, h); !unchanged(h.record, s.Record) {
			unlock()
			return nil, nil, nil
		}
	}
	return all, unlock, nil
}

// saveAll commits the records of several channels at once, where the invariants of each
// hold. Errors: channel.ErrStopped, of the store.
func (p *Payee) saveAll(ctx context.Context, held []*held, records []channel.PayeeRecord) error {
	ops := make([]store.Op, len(held))
	for i, h := range held {
		if err := p.holds(h, &records[i], &channel.Step{}); err != nil {
			return p.stop(ctx, h, err)
		}
		value, err := json.Marshal(records[i])
		if err != nil {
			return err
		}
		ops[i] = store.Op{Bucket: bucketChannel, Key: h.id, Value: value, Expect: h.rev}
	}
	for i, h := range held {
		events, err := p.beside(&h.record, records[i])
		if err != nil {
			return fmt.Errorf("a settlement of %d channels was not saved: %w", len(held), err)
		}
		ops = append(ops, events...)
	}
	if err := p.cfg.Store.Commit(ctx, ops...); err != nil {
		for _, h := range held {
			p.doubt(h.id)
		}
		return fmt.Errorf("a settlement of %d channels was not saved: %w", len(held), err)
	}
	for i, h := range held {
		p.saved(&h.record, records[i])
		h.record = records[i]
		h.rev++
		p.knows(h.id, h.rev, h.record)
	}
	return nil
}

// offerTx broadcasts a transaction and reports whether a node took it.
func (p *Payee) offerTx(ctx context.Context, raw []byte) (taken bool, err error) {
	tx, err := channel.DecodeTx(raw)
	if err != nil {
		return false, err
	}
	err = p.cfg.Chain.Broadcast(ctx, tx)
	if errors.Is(err, chain.ErrRejected) {
		p.cfg.Log.Warn("a broadcast was refused", "txid", tx.TxHash(), "reason", err)
		return false, nil
	}
	return err == nil, err
}
