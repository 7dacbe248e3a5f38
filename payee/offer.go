package payee

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/btcsuite/btcd/btcec/v2"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/internal/curve"
	"github.com/spillway/spillway/script"
)

// freshVSize is what a fresh channel costs its payer at the least, in vB. Where a
// chunk is worth more, a free first chunk would be a business.
// docs/protocol.md, "Newcomers".
const freshVSize = 43

// settleTarget is the confirmation target in blocks that fees are asked for.
const settleTarget = 3

// Price is what an offer is made for.
type Price struct {
	Chunk uint64 // msat, the dearest chunk of what is asked for
	Least uint64 // msat, the cheapest chunk of it
	Total uint64 // msat, all of it
	// Credit is how much charged may exceed paid, in msat.
	Credit uint64
}

// measure fixes the settlement's size of each construction on offer.
func (p *Payee) measure() error {
	var nonce [16]byte
	key, err := p.cfg.Keys.PayeeChannelKey(nonce)
	if err != nil {
		return err
	}
	other, _ := btcec.PrivKeyFromBytes([]byte{31: 2})
	rest := append([]byte{0x51, 0x20}, other.PubKey().SerializeCompressed()[1:]...)
	for _, c := range p.cfg.Constructions {
		ch, err := script.New(script.Funding{
			Construction: c, PayerKey: [33]byte(other.PubKey().SerializeCompressed()),
			PayeeKey: [33]byte(curve.Public(key).SerializeCompressed()), Expiry: 500_000, TxVersion: p.cfg.Policy.TxVersion,
			Capacity: channel.MaxSat, RestScript: rest, PayeeRestScript: p.restScript(c),
		})
		if err != nil {
			return fmt.Errorf("payee: %w", err)
		}
		p.size[c] = ch.SettlementVSize(channel.MaxSat/2, p.cfg.Payout)
	}
	return nil
}

// restScript is where the payee's rests go, in the one kind of channel that has any.
func (p *Payee) restScript(c script.Construction) []byte {
	if c == script.Duplex {
		return p.cfg.Payout
	}
	return nil
}

// minimum is F at a rate, for the largest settlement among the kinds on offer.
func (p *Payee) minimum(rate script.FeeRate) uint64 {
	var size int64
	for _, s := range p.size {
		size = max(size, s)
	}
	return channel.MinimumCharge(size, p.cfg.Payout, rate)
}

// Offer makes an offer with a fresh nonce, and so a fresh K2. Nothing is stored:
// an unpaid request leaves no state. Errors: of the chain and of the randomness.
func (p *Payee) Offer(ctx context.Context, price Price) (channel.Offer, error) {
	tip, rate, err := p.market(ctx)
	if err != nil {
		return channel.Offer{}, err
	}
	var nonce channel.Nonce
	if _, err := io.ReadFull(p.cfg.Rand, nonce[:]); err != nil {
		return channel.Offer{}, fmt.Errorf("no randomness: %w", err)
	}
	nonce[0] &= 0x0f
	return p.offer(ctx, price, nonce, tip, rate)
}

// freshMarket is how long one look at the tip and the fee rate serves offers: else
// every unpaid request would cost the backend two.
const freshMarket = 5 * time.Second

// look is the chain as an offer sees it.
type look struct {
	tip  uint32
	rate script.FeeRate
}

// market is the tip's height and the rate that settlements are offered at, at most
// freshMarket old; on regtest, where blocks come when somebody wants one, asked anew.
func (p *Payee) market(ctx context.Context) (tip uint32, rate script.FeeRate, err error) {
	now := p.cfg.Now()
	p.quoted.Lock()
	known, age := p.quoted.look, now.Sub(p.quoted.at)
	p.quoted.Unlock()
	if known.tip > 0 && age >= 0 && age < freshMarket && p.cfg.Network != "regtest" {
		return known.tip, known.rate, nil
	}
	t, err := p.cfg.Chain.Tip(ctx)
	if err != nil {
		return 0, 0, err
	}
	if rate, err = p.cfg.Chain.FeeRate(ctx, settleTarget); err != nil {
		return 0, 0, err
	}
	p.quoted.Lock()
	defer p.quoted.Unlock()
	p.quoted.look, p.quoted.at = look{t.Height, rate}, now
	return t.Height, rate, nil
}

func (p *Payee) offer(ctx context.Context, price Price, nonce channel.Nonce, tip uint32, rate script.FeeRate) (channel.Offer, error) {
	key, err := p.cfg.Keys.PayeeChannelKey(nonce)
	if err != nil {
		return channel.Offer{}, err
	}
	pol := p.cfg.Policy
	o := channel.Offer{
		Network: p.cfg.Network, Constructions: p.cfg.Constructions, TxVersion: pol.TxVersion,
		PayeeKey: channel.Key(curve.Public(key).SerializeCompressed()), Nonce: nonce, Tip: tip,
		Expiry: tip + pol.Duration, Margin: pol.Margin, MaxDeposit: pol.MaxDeposit,
		ZeroConf: pol.ZeroConf, Credit: price.Credit, MinimumCharge: p.minimum(rate),
	}
	if slices.Contains(o.Constructions, script.Duplex) {
		o.Step, o.PayeeRest = pol.Margin, p.cfg.Payout
	}
	o.MinDeposit = p.minDeposit(price, rate)
	o.Confirmations = pol.Confirmations(o.MinDeposit)
	if price.Chunk > freshAbove(rate) {
		pool, _, err := p.readPool(ctx)
		if err != nil {
			return channel.Offer{}, err
		}
		if !pool.At(tip, p.cfg.Now().Unix()).Room(price.Chunk) {
			o.Credit = 0
		}
	}
	return o, nil
}

// minDeposit is F at the stress rate, or at the going rate where that is higher, plus
// dust; or exactly the price where every chunk is worth at least dust and F. A channel
// that could not be closed at the rates of the day is never built up.
func (p *Payee) minDeposit(price Price, rate script.FeeRate) uint64 {
	stress := p.minimum(max(p.cfg.Policy.StressRate, rate))
	least := stress + uint64(script.Dust(p.cfg.Payout))
	if exact := channel.CeilSat(price.Total); exact > 0 && price.Least >= stress*1000 {
		least = min(least, exact)
	}
	return least
}

// freshAbove is the price in msat up to which a chunk is worth less than a fresh
// channel.
func freshAbove(rate script.FeeRate) uint64 { return uint64(rate.Fee(freshVSize)) * 1000 }
