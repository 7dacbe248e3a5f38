//go:build linux && amd64

package killtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
)

// entry is a channel as `channels list` tells of it.
type entry struct {
	ID       string `json:"id"`
	Role     string `json:"role"`
	Phase    string `json:"phase"`
	Capacity uint64 `json:"capacity_sat"`
	Paid     uint64 `json:"paid_sat"`
	Charged  uint64 `json:"charged_msat"`
	Funding  string `json:"funding_txid"`
	Closing  string `json:"closing_txid"`
}

// ledger is both sides' channels.
type ledger struct {
	payer, payee map[string]entry
}

func (r *round) list(ctx context.Context) (ledger, error) {
	g := ledger{map[string]entry{}, map[string]entry{}}
	l, err := r.ask(ctx, "channels", "list")
	if err != nil && r.payee != nil && r.dying() { // it was asked while it went away
		l, err = r.ask(ctx, "channels", "list")
	}
	if err != nil {
		return g, err
	}
	raw, err := json.Marshal(l["channels"])
	if err != nil {
		return g, err
	}
	var all []entry
	if err := json.Unmarshal(raw, &all); err != nil {
		return g, err
	}
	for _, e := range all {
		if e.Role == Payer {
			g.payer[e.ID] = e
		} else {
			g.payee[e.ID] = e
		}
	}
	return g, nil
}

// dying reports whether the provider has ended, or ends within a moment.
func (r *round) dying() bool {
	select {
	case <-r.payee.ended:
		return true
	case <-after(quitGrace):
		return false
	}
}

// due is what a channel is worth to the provider in the end, in sat: the price, or
// the minimum charge.
func (r *round) due() uint64 {
	return max(r.price(), r.stand.minimum)
}

// look compares what both sides hold with what was acknowledged, at any time.
func (r *round) look(ctx context.Context) error {
	r.mu.Lock()
	paid, charged := map[string]uint64{}, map[string]uint64{}
	for id := range r.paid { // as it is before the books are read
		paid[id], charged[id] = r.paid[id], r.charged[id]
	}
	r.mu.Unlock()
	g, err := r.list(ctx)
	if err != nil {
		return err
	}
	var failed []error
	for id := range paid {
		if !holds(g.payee, id, paid[id], charged[id]) || !holds(g.payer, id, paid[id], 0) {
			r.out.Lost++
			failed = append(failed, fmt.Errorf("channel %s: acknowledged were %d sat and %d msat charged, the provider holds %d and %d, the payer %d",
				id, paid[id], charged[id], g.payee[id].Paid, g.payee[id].Charged, g.payer[id].Paid))
		}
	}
	for _, side := range []map[string]entry{g.payer, g.payee} {
		for id, e := range side {
			if e.Charged > r.price()*1000 || e.Paid > r.due() {
				r.out.Double++
				failed = append(failed, fmt.Errorf("channel %s: the %s has %d msat charged and %d sat paid of %d sat", id, e.Role, e.Charged, e.Paid, r.due()))
			}
		}
	}
	return errors.Join(failed...)
}

// books checks the end: one channel, its price paid once, two transactions, and
// both sides' books as the chain has it.
func (r *round) books(ctx context.Context) error {
	if err := r.mendPayee(ctx); err != nil {
		return err
	}
	if err := r.look(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, booksLimit)
	defer cancel()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		settled, err := r.compare(ctx)
		if err != nil || settled {
			return err
		}
		if err := r.mendPayee(ctx); err != nil { // its fault was due only now
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			g, err := r.list(context.WithoutCancel(ctx))
			return errors.Join(fmt.Errorf("the channel does not end: %+v", g), err)
		}
	}
}

// compare reports whether the channel's end is in a block and in the provider's
// books; an error is a difference that no time mends.
func (r *round) compare(ctx context.Context) (settled bool, err error) {
	g, err := r.list(ctx)
	if err != nil {
		return false, err
	}
	if len(g.payer) != 1 || len(g.payee) != 1 {
		return false, fmt.Errorf("one channel is enough for one file, there are %+v", g)
	}
	for id, payee := range g.payee {
		payer := g.payer[id]
		if payer.Paid != r.due() || payee.Paid != r.due() || payee.Charged != r.price()*1000 || payer.Charged != r.price()*1000 {
			r.out.Double++
			return false, fmt.Errorf("%d sat are due and %d msat are to be charged; the payer has %d and %d, the provider %d and %d",
				r.due(), r.price()*1000, payer.Paid, payer.Charged, payee.Paid, payee.Charged)
		}
		return r.onChain(ctx, payer, payee)
	}
	return false, nil
}

// onChain compares a channel's books with its two transactions.
func (r *round) onChain(ctx context.Context, payer, payee entry) (settled bool, err error) {
	id, err := chainhash.NewHashFromStr(payee.Funding)
	if err != nil {
		return false, err
	}
	funding, err := r.stand.chain.Tx(ctx, *id)
	if err != nil {
		return false, fmt.Errorf("the funding: %w", err)
	}
	var index uint32
	if _, err := fmt.Sscanf(payee.ID[len(payee.Funding):], ":%d", &index); err != nil || int(index) >= len(funding.Tx.TxOut) {
		return false, fmt.Errorf("channel id %q: %w", payee.ID, errors.Join(err, chain.ErrNotFound))
	}
	if got := uint64(funding.Tx.TxOut[index].Value); got != payee.Capacity || got != payer.Capacity {
		return false, fmt.Errorf("the funding holds %d sat, the books say %d and %d", got, payer.Capacity, payee.Capacity)
	}
	spend, err := r.stand.chain.Spend(ctx, wire.OutPoint{Hash: *id, Index: index})
	if err != nil {
		return false, err
	}
	if spend == nil {
		return false, nil
	}
	end, err := r.stand.chain.Tx(ctx, spend.Txid)
	if err != nil {
		return false, err
	}
	if !funding.Confirmed || !end.Confirmed || payee.Closing == "" {
		return false, nil
	}
	if txid := spend.Txid.String(); payee.Closing != txid || payer.Closing != "" && payer.Closing != txid {
		return false, fmt.Errorf("%s ended the channel; the payer says %q, the provider %q", txid, payer.Closing, payee.Closing)
	}
	return true, shares(end.Tx, payee.Capacity, payee.Paid)
}

// shares checks what a settlement gives each side: the rest to the payer, what was
// paid less the fee to the provider.
func shares(tx *wire.MsgTx, capacity, paid uint64) error {
	var got []int64
	fee := int64(capacity)
	for _, out := range tx.TxOut {
		got, fee = append(got, out.Value), fee-out.Value
	}
	want := []int64{int64(capacity - paid), int64(paid) - fee}
	slices.Sort(got)
	slices.Sort(want)
	if len(tx.TxIn) != 1 || fee <= 0 || !slices.Equal(got, want) {
		return fmt.Errorf("the settlement pays %v where %d of %d sat were paid and the fee is %d", got, paid, capacity, fee)
	}
	return nil
}
