package download

import (
	"context"
	"errors"

	"github.com/spillway/spillway/content"
	"github.com/spillway/spillway/paywall"
)

// loadFor reads the journal of a plan's purchase. A part is no reason to take over a
// purchase that goes to another name.
func (b *Buyer) loadFor(ctx context.Context, p *Plan) (*held, error) {
	h, err := b.load(ctx, &p.Manifest, p.URL, p.Path)
	if err != nil || !p.isPart() || h.from == nil {
		return h, err
	}
	h.from, h.oldPath = nil, ""
	h.journal = journal{Version: journalVersion, Path: p.Path, Root: p.Manifest.Root.String(), Size: p.Manifest.Size, URL: p.URL, Verified: &content.Ranges{}}
	h.rechunk(&p.Manifest)
	return h, nil
}

// isPart reports whether a part of the file is wanted.
func (p *Plan) isPart() bool { return p.Want.Part.End > p.Want.Part.Start }

// end is the end of what is wanted, in bytes.
func (p *Plan) end() uint64 {
	if p.isPart() {
		return min(p.Want.Part.End, p.Manifest.Size)
	}
	return p.Manifest.Size
}

// wanted are the bytes of the chunks that are wanted: chunks are bought whole.
func (p *Plan) wanted() content.Range {
	m := &p.Manifest
	if !p.isPart() || p.Want.Part.Start >= m.Size {
		return content.Range{End: m.Size}
	}
	first, last, err := m.ChunksTouched(p.Want.Part.Start, p.end()-1)
	if err != nil {
		return content.Range{End: m.Size}
	}
	from, _ := m.ChunkRange(first)
	off, length := m.ChunkRange(last)
	return content.Range{Start: from, End: off + length}
}

// missing are the gaps in what is wanted.
func (r *run) missing() []content.Range {
	within := r.p.wanted()
	return r.verified().Missing(within.Start, within.End)
}

// stopped reports whether nothing more is to be asked for.
func (r *run) stopped() bool {
	select {
	case <-r.lim.Stop:
		return true
	default:
		return false
	}
}

// sendStopped brings what was signed to the provider where a run was stopped. That it
// fails changes nothing here: it goes with the next request.
func (r *run) sendStopped(ctx context.Context, why error) error {
	if !errors.Is(why, ErrStopped) || r.id == "" {
		return why
	}
	key, err := r.b.cfg.Client.NewKey()
	if err != nil {
		return why
	}
	rec, err := r.b.cfg.Payer.Record(ctx, r.id)
	if err == nil && rec.Signed > 0 && !over(rec) {
		_, err = r.b.cfg.Client.Voucher(ctx, paywall.Paid{Channel: r.id, URL: r.p.URL, Update: rec.Newest(), Key: key, Expect: r.expect})
	}
	if err != nil {
		r.b.cfg.Log.Info("a payment goes with the next request", "channel", r.id, "reason", err)
	}
	return why
}
