package download

import (
	"fmt"
	"math/bits"

	"github.com/spillway/spillway/content"
	"github.com/spillway/spillway/mpp/bitcoin"
	"github.com/spillway/spillway/paywall"
)

// checkPrice compares a challenge's price with the manifest's: satoshi for a
// number of chunks, or for a number of bytes; and its content, where it names any.
// Errors: paywall.ErrPriceChanged, ErrChanged.
func checkPrice(m *content.Manifest, q *paywall.Quoted) error {
	if now := q.Request.MethodDetails.Root; now != "" && now != m.Root.String() {
		return fmt.Errorf("%w: its root is %s now, not %s", ErrChanged, now, m.Root)
	}
	if last := q.Request.MethodDetails.LastUnitMsat; last != 0 && last != m.LastChunkMsat {
		return fmt.Errorf("%w: %d msat is asked for the last chunk, the manifest says %d msat", paywall.ErrPriceChanged, last, m.LastChunkMsat)
	}
	amount, per := q.Request.Amount, q.Request.MethodDetails.UnitsPerAmount
	var same bool
	switch q.Request.UnitType {
	case bitcoin.UnitChunk:
		// amount sat for per chunks: amount·1000 = price·per
		ahi, alo := bits.Mul64(amount, 1000)
		bhi, blo := bits.Mul64(m.ChunkMsat, per)
		same = ahi == bhi && alo == blo
	case bitcoin.UnitByte:
		hi, lo := bits.Mul64(amount*1000, m.ChunkBytes)
		first := min(m.ChunkBytes, m.Size)
		if m.Chunks() == 1 {
			hi, lo = bits.Mul64(amount*1000, first)
		}
		if hi < per {
			quo, rem := bits.Div64(hi, lo, per)
			same = quo+min(rem, 1) == m.ChunkMsat
		}
	}
	if !same {
		return fmt.Errorf("%w: %d sat for %d %ss is asked, the manifest says %d msat for a chunk of %d bytes",
			paywall.ErrPriceChanged, amount, per, q.Request.UnitType, m.ChunkMsat, m.ChunkBytes)
	}
	return nil
}
