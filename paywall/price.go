package paywall

import (
	"context"
	"fmt"
	"math/bits"
	"net/http"
	"slices"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/mpp/bitcoin"
)

const (
	// maxBlock is how many bytes of an answer are charged and handed over at once, at
	// the most.
	maxBlock = 32 << 10
	// maxByteBlock is the same where bytes are charged and cost next to nothing, maxTrifle
	// msat a block: each block is a durable commit.
	maxByteBlock = 128 << 10
	maxTrifle    = 10_000
	// defaultFlight is how many bytes may be under way unpaid by default, and
	// defaultEvents and defaultSeconds how many events and seconds.
	defaultFlight  = 256 << 10
	defaultEvents  = 8
	defaultSeconds = 10
)

// Price is what the answers of a handler cost. The zero value is free.
type Price struct {
	// Msat is the price of Per units, in msat.
	Msat uint64
	// Per is how many units Msat is for; 0: one.
	Per uint64
	// Unit is what is counted: bitcoin.UnitRequest (the default), bitcoin.UnitByte for
	// bytes of the answer's body, bitcoin.UnitChunk for begun chunks of it,
	// bitcoin.UnitEvent for events of a text/event-stream that have data (an answer of
	// another kind is one event), bitcoin.UnitSecond for begun seconds that an answer takes.
	Unit string
	// ChunkBytes is how long a chunk is, in bytes.
	ChunkBytes uint64
	// Credit is how much may be delivered before it is paid, in msat; 0: one request,
	// two chunks, eight events, ten seconds, or 256 KiB, but at least 1 sat.
	Credit uint64
	// Ahead asks for payment first: there is no credit.
	Ahead bool
	// Description says what is sold, for people and in the earnings.
	Description string
	// Limit is how often one payer may ask at this price; zero: as the middleware says.
	Limit Limit
	// For, where it is set, is the price in msat of one request, by what it asks for;
	// 0: it is free. Msat is not looked at.
	For func(*http.Request) uint64
	// After, where it is set, says in msat what an answer costs once it is known; it is
	// charged at most the request's price, which is what was agreed.
	After func(*http.Request, Answer) uint64

	fiat *fiat  // nil: Msat is the price
	rule string // that it was found under
}

// Answer is what is known of a handler's answer when its first byte is to be sent.
type Answer struct {
	Status int
	Header http.Header // not to be changed
	// Size is the body's length in bytes; -1: it is not known, for the answer streams.
	Size int64
}

// PerRequest charges msat for every request that succeeds (2xx).
func PerRequest(msat uint64) Price { return Price{Msat: msat} }

// PerByte charges msat for every `per` bytes of a body that are handed over, to the byte.
func PerByte(msat, per uint64) Price {
	return Price{Msat: msat, Per: per, Unit: bitcoin.UnitByte}
}

// PerChunk charges msat for every chunk of this many bytes of a body that is begun.
func PerChunk(msat, bytes uint64) Price {
	return Price{Msat: msat, Unit: bitcoin.UnitChunk, ChunkBytes: bytes}
}

// PerEvent charges msat for every event of a text/event-stream that has data.
func PerEvent(msat uint64) Price { return Price{Msat: msat, Unit: bitcoin.UnitEvent} }

// PerSecond charges msat for every second that an answer takes from its first byte to
// its last; a begun one is charged whole, and what it pauses for a payment is not charged.
func PerSecond(msat uint64) Price { return Price{Msat: msat, Unit: bitcoin.UnitSecond} }

// ByRequest charges what a function says for a request, in msat; 0: it is free.
func ByRequest(price func(*http.Request) uint64) Price { return Price{For: price} }

// ByAnswer charges what a function says once the answer is known, and at most the
// agreed price of the request (msat).
func ByAnswer(most uint64, price func(*http.Request, Answer) uint64) Price {
	return Price{Msat: most, After: price}
}

// of is the price for one request, with what depends on it filled in.
func (p Price) of(r *http.Request) Price {
	if p.For != nil {
		p.Msat, p.Per, p.Unit = p.For(r), 1, bitcoin.UnitRequest
	}
	p.Per = max(p.Per, 1)
	if p.Unit == "" {
		p.Unit = bitcoin.UnitRequest
	}
	if r == nil { // for a description: at the present rate, where there is one
		if now, err := p.fix(context.Background(), nil); err == nil {
			p = now
		}
	}
	return p
}

func (p Price) free() bool { return p.Msat == 0 && p.fiat == nil }

// units are what a handler can be charged by.
var units = []string{bitcoin.UnitRequest, bitcoin.UnitByte, bitcoin.UnitChunk, bitcoin.UnitEvent, bitcoin.UnitSecond}

// check refuses a price that means nothing. Errors: ErrQuote.
func (p Price) check() error {
	switch {
	case p.fiat != nil && (p.fiat.amount == 0 || p.For != nil):
		return fmt.Errorf("%w: a price in a currency needs an amount with at most six decimal places, the name of the currency, and rates", ErrQuote)
	case p.Limit.PerSecond < 0 || p.Limit.Burst < 0:
		return fmt.Errorf("%w: a limit below nothing", ErrQuote)
	case p.Unit != "" && !slices.Contains(units, p.Unit):
		return fmt.Errorf("%w: a handler cannot be charged by the %s", ErrQuote, p.Unit)
	case p.Unit == bitcoin.UnitChunk && p.ChunkBytes == 0:
		return fmt.Errorf("%w: chunks of no bytes", ErrQuote)
	case p.After != nil && p.Unit != "" && p.Unit != bitcoin.UnitRequest:
		return fmt.Errorf("%w: what depends on the answer is charged by the request", ErrQuote)
	case p.Msat > channel.MaxSat*1000 || p.Credit > bitcoin.MaxMsat || p.Per > 1<<40:
		return fmt.Errorf("%w: it is out of range", ErrQuote)
	}
	return nil
}

// cost is what so many units cost, in msat, rounded up; the most there is where that
// cannot be said.
func (p Price) cost(units uint64) uint64 {
	hi, lo := bits.Mul64(units, p.Msat)
	if hi >= p.Per {
		return bitcoin.MaxMsat
	}
	msat, rest := bits.Div64(hi, lo, p.Per)
	if rest > 0 {
		msat++
	}
	return min(msat, bitcoin.MaxMsat)
}

// units is how many units a body of so many bytes has.
func (p Price) units(bytes uint64) uint64 {
	switch p.Unit {
	case bitcoin.UnitByte:
		return bytes
	case bitcoin.UnitChunk:
		return (bytes + p.ChunkBytes - 1) / p.ChunkBytes
	}
	return 1
}

func (p Price) credit() uint64 {
	switch {
	case p.Ahead:
		return 0
	case p.Credit > 0:
		return p.Credit
	case p.Unit == bitcoin.UnitByte:
		return max(p.cost(defaultFlight), 1000)
	case p.Unit == bitcoin.UnitChunk:
		return max(2*p.Msat, 1000)
	case p.Unit == bitcoin.UnitEvent:
		return max(p.cost(defaultEvents), 1000)
	case p.Unit == bitcoin.UnitSecond:
		return max(p.cost(defaultSeconds), 1000)
	}
	return max(p.Msat, 1000)
}

// block is how many bytes are charged and handed over at once: what costs no more than
// a quarter of the credit.
func (p Price) block() uint64 {
	if p.Unit != bitcoin.UnitByte || p.Ahead {
		return maxBlock
	}
	return blockOf(p.buys(p.credit()/4), p.buys(maxTrifle))
}

// blockOf is how many bytes are charged at once where a quarter of the credit pays for
// quarter of them, and a trifle for so many.
func blockOf(quarter, trifle uint64) uint64 {
	return max(min(quarter, max(maxBlock, min(trifle, maxByteBlock))), 1)
}

// buys is how many units an amount (msat) pays for.
func (p Price) buys(msat uint64) uint64 {
	hi, lo := bits.Mul64(msat, p.Per)
	if hi >= p.Msat {
		return 1 << 53
	}
	n, _ := bits.Div64(hi, lo, p.Msat)
	return min(n, 1<<53)
}

// quote is the price as a challenge says it.
func (p Price) quote() Quote {
	q := Quote{
		ChunkMsat: p.Msat, LastMsat: p.Msat, TotalMsat: p.cost(p.Per), CreditMsat: p.credit(), UnitType: p.Unit, Per: p.Per,
		UnitBytes: p.ChunkBytes, Description: p.Description,
	}
	if p.fiat != nil {
		q.Amount, q.Currency = decimalOf(p.fiat.amount), p.fiat.currency
	}
	return q
}

// metering is how the answer to a request is charged.
func (p Price) metering(body string) *metering {
	m := &metering{price: p.Msat, per: p.Per, least: 1, body: body}
	switch {
	case p.After != nil: // what it costs is only known later: the line counts msat
		m.price, m.per, m.least, m.first = 1, 1, p.Msat, p.Msat
	case p.Unit == bitcoin.UnitByte:
		m.first = p.cost(p.block())
	case p.Unit == bitcoin.UnitEvent || p.Unit == bitcoin.UnitSecond:
		m.first = p.cost(1)
	default:
		m.first = p.Msat
	}
	return m
}
