package payer

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/internal/curve"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/store"
	"github.com/spillway/spillway/watch"
)

// Imported is what became of an export.
type Imported struct {
	Record channel.PayerRecord
	View   channel.View // the chain when it was read
	// Over: the channel has ended, or can never begin; nothing was saved but that its
	// key is used.
	Over bool
}

// Import saves a channel from its export, on a machine that has the seed and nothing
// else: as one that is only refunded, because what was signed after the export is not
// known. The refund goes to a fresh script of this wallet, whatever the export says.
// Package watch takes it from there. A channel that has ended is not saved.
// Errors: ErrExportContent, ErrExportNetwork, ErrExportSeed, ErrExportKnown, those of
// the chain and the store. docs/protocol.md, section 12.
func (p *Payer) Import(ctx context.Context, e Export) (Imported, error) {
	var none Imported
	if e.Terms.Network != p.cfg.Network {
		return none, fmt.Errorf("%w: %q, not %q", ErrExportNetwork, e.Terms.Network, p.cfg.Network)
	}
	ch, err := e.check()
	if err != nil {
		return none, err
	}
	key, err := p.cfg.Keys.PayerChannelKey(e.KeyIndex)
	if err != nil {
		return none, err
	}
	if channel.Key(curve.Public(key).SerializeCompressed()) != e.Terms.PayerKey {
		return none, fmt.Errorf("%w: key %d of this wallet is not the key of channel %s", ErrExportSeed, e.KeyIndex, e.Terms.ID())
	}
	defer p.locks.Lock(e.Terms.ID())()
	return p.take(ctx, e, ch)
}

// take looks at the chain and saves an export that was checked.
func (p *Payer) take(ctx context.Context, e Export, ch *script.Channel) (none Imported, err error) {
	rev, err := p.unknown(ctx, e)
	if err != nil {
		return none, err
	}
	v, _, err := watch.Look(ctx, p.cfg.Chain, wire.OutPoint(e.Terms.Outpoint), e.FundingTx)
	if err != nil {
		return none, err
	}
	if err := SkipKeys(ctx, p.cfg.Store, e.KeyIndex); err != nil {
		return none, err // of one that is over, too: its key was used
	}
	next, _ := e.record().Due(ch, v, p.cfg.Policy)
	if next.Phase.Final() {
		return Imported{Record: next, View: v, Over: true}, nil
	}
	if next.Phase == channel.Refunding {
		next.Phase = channel.Open // it begins with the refund that is saved; see due
	}
	if next.RefundScript, err = p.cfg.Wallet.ReceiveScript(ctx); err != nil {
		return none, err
	}
	err = p.begin(ctx, next, rev)
	if errors.Is(err, store.ErrConflict) {
		return none, fmt.Errorf("%w: %s: %w", ErrExportKnown, e.Terms.ID(), err)
	}
	return Imported{Record: next, View: v}, err
}

// unknown refuses an export of a channel that is here already. One of which nothing
// had left, by the record, is as good as unknown: exports are made before anything
// leaves, so the record is from an old copy of this store. rev is its revision; 0:
// there is none. Errors: ErrExportKnown, of the store.
func (p *Payer) unknown(ctx context.Context, e Export) (rev uint64, err error) {
	h, err := p.read(ctx, e.Terms.ID())
	switch {
	case errors.Is(err, ErrUnknown):
		return 0, nil
	case err != nil:
		return 0, err
	case h.record.Phase == channel.Prepared || h.record.Phase == channel.Abandoned && !h.record.FundingSent && len(h.record.Signature) == 0:
		return h.rev, nil
	}
	return 0, fmt.Errorf("%w: %s", ErrExportKnown, e.Terms.ID())
}

// record is the record of an exported channel, before the chain was asked. Where T1
// is not seen it is one that was given up: nothing of it leaves, and it is refunded
// should the payee broadcast T1 yet.
func (e Export) record() channel.PayerRecord {
	r := channel.PayerRecord{
		Terms: e.Terms, Phase: channel.Funding, KeyIndex: e.KeyIndex, Origin: e.Origin, Payee: e.Payee,
		FundingTx: e.FundingTx, RefundScript: e.RefundScript, RefundSig: e.RefundSig,
		Accepted: true, GivenUp: true, Imported: true,
	}
	return r.Holding(e.Newest, e.Held)
}

// SkipKeys makes sure that no key index up to this one (below 2^31) is handed out in a
// payer's store any more: K1 is fresh for every channel, also for those that a
// restored wallet does not know of. Errors: of the store.
func SkipKeys(ctx context.Context, s Store, index uint32) error {
	for {
		var next uint64
		e, err := s.Get(ctx, bucketMeta, "next-key")
		if err == nil {
			if next, err = strconv.ParseUint(string(e.Value), 10, 31); err != nil {
				return fmt.Errorf("%w: next-key: %v", store.ErrDamaged, err)
			}
		} else if !errors.Is(err, store.ErrNotFound) {
			return err
		}
		if next > uint64(index) {
			return nil
		}
		value := []byte(strconv.FormatUint(uint64(index)+1, 10))
		err = s.Commit(ctx, store.Op{Bucket: bucketMeta, Key: "next-key", Value: value, Expect: e.Revision})
		if !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
}
