package download

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/spillway/spillway/content/bao"
	"github.com/spillway/spillway/paywall"
)

// takeFree fetches what is missing of a chunk that costs nothing, without a channel,
// verified like every other. Errors: as buyChunk; paywall.ErrPriceChanged where the
// provider wants to be paid for it after all.
func (r *run) takeFree(ctx context.Context, n uint64) error {
	r.chunk, r.begun = n, true
	r.event(Event{Phase: Buying})
	off, length := r.p.Manifest.ChunkRange(n)
	for failures := 0; ; {
		gaps := r.verified().Missing(off, off+length)
		if len(gaps) == 0 {
			return r.saveFree(ctx, off+length)
		}
		target, err := withQuery(r.p.URL, fmt.Sprintf("slice=%d-%d", gaps[0].Start, gaps[0].End-1))
		if err != nil {
			return err
		}
		r.asked.target = target
		before := r.verified().Total()
		resp, err := r.b.cfg.Client.Free(ctx, target, http.Header{"If-Match": {tagOf(&r.p.Manifest)}})
		if err == nil {
			err = r.receive(ctx, gaps[0], resp)
		}
		if r.verified().Total() > before {
			failures = 0
			r.back()
		}
		if stop := ctx.Err(); err != nil && stop != nil {
			return stop
		}
		var refused *paywall.RefusedError
		switch {
		case errors.As(err, &refused) && refused.Status == http.StatusPaymentRequired:
			err = fmt.Errorf("%w: chunk %d costs nothing by the manifest, and a payment is asked", paywall.ErrPriceChanged, n)
		case errors.Is(err, ErrWrongBytes):
			err = r.wrong(n, gaps[0], err)
		case errors.Is(err, bao.ErrTruncated), errors.Is(err, paywall.ErrUnreachable):
			failures++
			err = r.again(ctx, failures, err)
		}
		if err != nil {
			return err
		}
	}
}

// saveFree remembers what is verified up to a byte, once that is worth a save: no
// payment saves it.
func (r *run) saveFree(ctx context.Context, upto uint64) error {
	if upto-min(upto, r.freeSaved) < r.b.cfg.SaveEvery {
		return nil
	}
	r.freeSaved = upto
	return r.saveVerified(ctx, r.verified())
}
