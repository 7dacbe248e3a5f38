package download

import (
	"context"
	"errors"
	"fmt"

	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/content"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/wallet"
)

// Sizes in vB. docs/protocol.md, "Sizes".
const (
	feeTarget  = 3   // blocks, for estimates
	maxDust    = 546 // sat, of the dearest kind of output
	largestEnd = 400 // vB, above the settlement of every construction
)

// sizes of a construction's transactions in vB, with one wallet input and change.
type sizes struct{ open, settle, refund int64 }

func sizesOf(c script.Construction) sizes {
	switch c {
	case script.Multisig:
		return sizes{154, 193, 150}
	case script.MultisigP2SH:
		return sizes{143, 356, 313}
	default:
		return sizes{154, 205, 138}
	}
}

// checkMinimum refuses a minimum charge that no settlement of the provider's
// could cost, even if its own estimate is twice this side's. Errors: ErrQuote.
func checkMinimum(minimum uint64, rate script.FeeRate, p channel.Policy) error {
	most := uint64(maxDust + max(2*rate, p.StressRate).Fee(largestEnd))
	if minimum > most {
		return fmt.Errorf("%w: a minimum charge of %d sat; a settlement costs at most %d sat now", ErrQuote, minimum, most)
	}
	return nil
}

// capacityFor is what a new channel has to hold, in sat: the price or the
// minimum charge at the stress rate, and dust; or exactly the price where every
// chunk is worth at least dust and the minimum charge; and what a refund at the
// going rate takes in any case. Errors: ErrDeposit. docs/protocol.md, "Opening".
func capacityFor(o channel.Offer, c script.Construction, price, reserve, least uint64, rate script.FeeRate, p channel.Policy) (uint64, error) {
	exact := channel.CeilSat(price)
	stress := channel.MinimumPayout + uint64(p.StressRate.Fee(sizesOf(c).settle))
	refund := channel.MinimumPayout + uint64(rate.Fee(sizesOf(c).refund))
	floor := max(channel.MinimumPayout, o.MinimumCharge, stress)
	if reserve == 0 && least >= floor*1000 && exact >= max(o.MinDeposit, refund) && exact <= o.MaxDeposit {
		return exact, nil
	}
	total, err := channel.AddMsat(price, reserve)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrDeposit, err)
	}
	capacity := max(max(channel.CeilSat(total), o.MinimumCharge, stress)+channel.MinimumPayout, o.MinDeposit, refund)
	if capacity > o.MaxDeposit {
		return 0, fmt.Errorf("%w: %d sat are needed, it takes %d sat", ErrDeposit, capacity, o.MaxDeposit)
	}
	return capacity, nil
}

// need is what is left to be bought of a file.
type need struct {
	msat  uint64 // price of the chunks that were not paid for
	bytes uint64 // missing bytes
	least uint64 // msat of the cheapest chunk of the file
	most  uint64 // msat of the dearest of those that are left
	any   bool   // bytes are missing
	paid  bool   // some of them in chunks that have a price
}

// needOf works out what is left, where a channel's paid chunks are free. A chunk
// is left where any byte of it is missing.
func needOf(m *content.Manifest, verified, paid *content.Ranges) need {
	return needIn(m, content.Range{End: m.Size}, verified, paid)
}

// needIn is needOf of whole chunks that are wanted.
func needIn(m *content.Manifest, within content.Range, verified, paid *content.Ranges) need {
	n := need{least: m.LastChunkMsat}
	if m.Chunks() > 1 {
		n.least = min(n.least, m.ChunkMsat)
	}
	next := uint64(0) // the first chunk that was not counted yet
	for _, gap := range verified.Missing(within.Start, within.End) {
		n.any = true
		n.bytes += gap.Len()
		first, last, err := m.ChunksTouched(gap.Start, gap.End-1)
		if err != nil {
			continue // gaps lie within the file
		}
		n.paid = n.paid || m.ChunkPrice(last) > 0
		first = max(first, next)
		next = last + 1
		if paid == nil {
			paid = &content.Ranges{}
		}
		for _, r := range paid.Missing(first, last+1) {
			price, err := m.RangeMsat(r.Start, r.End-1)
			if err != nil {
				continue
			}
			n.msat += price
			n.most = max(n.most, m.ChunkPrice(min(max(r.Start, m.FreeChunks), r.End-1)), m.ChunkPrice(r.End-1))
		}
	}
	return n
}

// fundingLeeway is how many times the fee that a plan names a funding may cost: the
// going rate and the coins may change until it is opened.
const fundingLeeway = 2

// fundingEstimate is what T1 will cost in sat: with the wallet's coins, or with a
// single one where those do not suffice yet.
func (b *Buyer) fundingEstimate(ctx context.Context, c script.Construction, capacity uint64, rate script.FeeRate) (int64, error) {
	single := rate.Fee(sizesOf(c).open)
	if b.cfg.Wallet == nil || capacity > channel.MaxSat {
		return single, nil
	}
	var key [33]byte
	pk := append([]byte{txscript.OP_1, 32}, key[:32]...)
	if c == script.MultisigP2SH {
		pk = append(append([]byte{txscript.OP_HASH160, 20}, key[:20]...), txscript.OP_EQUAL)
	}
	fee, err := b.cfg.Wallet.FundingFee(ctx, []*wire.TxOut{wire.NewTxOut(int64(capacity), pk)}, rate)
	if errors.Is(err, wallet.ErrInsufficient) {
		return single, nil // opening will say what is missing
	}
	return fee, err
}

// feesPaid is what this side paid on the chain for a channel, as far as the
// chain tells: T1's fee where it was opened here, and what the close took from
// the rest. In sat.
func (b *Buyer) feesPaid(ctx context.Context, r channel.PayerRecord, opened bool) int64 {
	var fees int64
	if opened {
		fees += b.fundingFee(ctx, r)
	}
	if r.Close == nil {
		return fees
	}
	tx, err := channel.DecodeTx(r.Close.Tx)
	if err != nil {
		return fees
	}
	rest := int64(r.Terms.Capacity - r.Signed)
	for _, out := range tx.TxOut {
		if string(out.PkScript) == string(r.Terms.RestScript) {
			rest -= out.Value
			break
		}
	}
	return fees + max(0, rest)
}

func (b *Buyer) fundingFee(ctx context.Context, r channel.PayerRecord) (fee int64) {
	tx, err := channel.DecodeTx(r.FundingTx)
	if err != nil {
		return 0
	}
	for _, in := range tx.TxIn {
		prev, err := b.cfg.Chain.Tx(ctx, in.PreviousOutPoint.Hash)
		if err != nil || int(in.PreviousOutPoint.Index) >= len(prev.Tx.TxOut) {
			b.cfg.Log.Info("the funding's fee is not known", "channel", r.Terms.ID(), "reason", err)
			return 0
		}
		fee += prev.Tx.TxOut[in.PreviousOutPoint.Index].Value
	}
	for _, out := range tx.TxOut {
		fee -= out.Value
	}
	return fee
}
