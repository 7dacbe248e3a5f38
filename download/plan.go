package download

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/content"
	"github.com/spillway/spillway/content/bao"
	"github.com/spillway/spillway/paywall"
	"github.com/spillway/spillway/script"
)

// Plan is what a purchase will do and cost, before anything is paid or locked.
type Plan struct {
	Want     Want
	URL      string // the file, after redirects within its origin
	Path     string // absolute
	Manifest content.Manifest
	Quote    *paywall.Quoted // nil where nothing is left to buy

	Complete bool   // the file is there and verified; at most a payment is to be settled
	Have     uint64 // bytes that are there and verified
	From     string // the name under which an earlier run began this purchase; "": this one
	Missing  uint64 // bytes that will be fetched

	TotalMsat     uint64 // price of the whole file
	LeftMsat      uint64 // price of the chunks that are not paid for
	MinimumCharge uint64 // sat, F: the least that the channel will have paid at the end
	Pay           uint64 // sat that will be signed to the provider from here on, at most
	Spent         uint64 // sat that earlier runs of this purchase signed
	Prepay        uint64 // sat that the provider wants ahead of each chunk; 0: none

	Channel      string              // id of the channel that is used on; "": a new one
	Construction script.Construction // of the channel
	Capacity     uint64              // sat of the channel
	Expiry       uint32              // height at which the rest can be taken back
	Tip          uint32
	FundingFee   int64 // sat, for a new channel, with the wallet's coins as they are
	FundingMost  int64 // sat, above which Run opens no channel
	RefundFee    int64 // sat, estimate, paid only if the provider vanishes
}

// Check refuses a plan that these limits do not allow.
// Errors: channel.ErrBudget, channel.ErrPrepay.
func (p *Plan) Check(lim Limits) error {
	if need := p.Spent + p.Pay; p.Pay > 0 && need > lim.Budget {
		return fmt.Errorf("%w: this costs %d sat (the minimum charge is %d sat), the budget is %d sat",
			channel.ErrBudget, need, p.MinimumCharge, lim.Budget)
	}
	if p.Prepay > lim.MaxPrepay {
		return fmt.Errorf("%w: the provider wants %d sat ahead of each chunk, %d sat are allowed", channel.ErrPrepay, p.Prepay, lim.MaxPrepay)
	}
	return nil
}

// Look fetches and verifies the manifest and works out the file's name here: a Plan
// with nothing else in it. Errors: ErrOtherContent, ErrOtherProvider, those of
// content.Manifest.Verify and paywall.Client.Get.
func (b *Buyer) Look(ctx context.Context, w Want) (*Plan, error) {
	p := &Plan{Want: w}
	if err := b.manifest(ctx, p); err != nil {
		return nil, err
	}
	p.TotalMsat = p.Manifest.TotalMsat()
	return p, p.place()
}

// Plan fetches and verifies the manifest and the quote, looks at what is there
// already, and works out what will be paid and locked. It signs and locks nothing.
// Errors: ErrOtherContent, ErrOtherProvider, ErrExists, ErrQuote, ErrDeposit,
// channel.ErrTerms, content.ErrManifest…, those of paywall.Client.Quote.
func (b *Buyer) Plan(ctx context.Context, w Want, progress func(Event)) (*Plan, error) {
	p, err := b.Look(ctx, w)
	if err != nil {
		return nil, err
	}
	h, err := b.loadFor(ctx, p)
	if err != nil {
		return nil, err
	}
	if p.Complete, err = complete(ctx, p, progress); err != nil {
		return nil, err
	}
	if p.Complete {
		p.Have = p.Manifest.Size
		p.Spent, err = b.spent(ctx, &h.journal, "")
		return p, err
	}
	if h.partOf(p.Manifest.Root) == "" {
		h.Verified = &content.Ranges{}
	}
	p.From = h.oldPath
	return p, b.cost(ctx, p, &h.journal)
}

// getter fetches what is free.
type getter interface {
	Get(ctx context.Context, target string, header http.Header, limit int64) (body []byte, at string, err error)
}

// manifest fetches, verifies and compares the manifest.
func (b *Buyer) manifest(ctx context.Context, p *Plan) error { return manifest(ctx, b.cfg.Client, p) }

func manifest(ctx context.Context, from getter, p *Plan) error {
	target, err := withQuery(p.Want.URL, "manifest")
	if err != nil {
		return err
	}
	raw, at, err := from.Get(ctx, target, nil, content.MaxManifestBytes)
	if err != nil {
		return err
	}
	if err := p.Manifest.UnmarshalJSON(raw); err != nil {
		return fmt.Errorf("%w: %w", paywall.ErrNotProvider, err)
	}
	if err := p.Manifest.Verify(); err != nil {
		return fmt.Errorf("%w: %w", paywall.ErrMisbehaved, err)
	}
	if p.URL, err = withQuery(at, ""); err != nil {
		return err
	}
	if pin := p.Want.Provider; pin != nil && *pin != p.Manifest.Provider {
		return fmt.Errorf("%w: %s, not %s", ErrOtherProvider, p.Manifest.Provider, *pin)
	}
	if pin := p.Want.Root; pin != nil && *pin != p.Manifest.Root {
		return fmt.Errorf("%w: root %s, not %s", ErrOtherContent, p.Manifest.Root, *pin)
	}
	return nil
}

// withQuery is a URL with another query. Errors: paywall.ErrNotProvider where it
// is none that a file can be bought at.
func withQuery(target, query string) (string, error) {
	u, err := url.Parse(target)
	if err != nil || paywall.Origin(target) == "" || u.User != nil {
		return "", fmt.Errorf("%w: %q is no http or https URL", paywall.ErrNotProvider, target)
	}
	u.RawQuery, u.Fragment, u.RawFragment = query, "", ""
	return u.String(), nil
}

// place works out the file's name here.
func (p *Plan) place() (err error) {
	name := p.Want.Path
	if name == "" {
		name = filepath.Join(p.Want.Dir, path.Base(p.Manifest.Name))
	}
	p.Path, err = filepath.Abs(name)
	return err
}

// complete reports whether the file is there already and whole: its bytes are
// read and compared with the root. Errors: ErrExists where another file has the
// name and may not be replaced.
func complete(ctx context.Context, p *Plan, progress func(Event)) (whole bool, err error) {
	if p.Want.Stream != nil || p.isPart() {
		return false, nil
	}
	info, err := os.Lstat(p.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	if info.Mode().IsRegular() && uint64(info.Size()) == p.Manifest.Size {
		f, err := os.Open(p.Path)
		if err != nil {
			return false, err
		}
		root, err := bao.Root(ctx, f, p.Manifest.Size, bao.BuildConfig{Progress: func(done uint64) {
			report(progress, Event{Phase: Hashing, Bytes: done, Size: p.Manifest.Size, Chunks: p.Manifest.Chunks()})
		}})
		if err = errors.Join(err, f.Close()); err != nil {
			return false, err
		}
		if root == p.Manifest.Root {
			return true, nil
		}
	}
	if info.IsDir() || !p.Want.Replace {
		return false, fmt.Errorf("%w: %s, and it is not the file that is offered", ErrExists, p.Path)
	}
	return false, nil
}

func report(progress func(Event), ev Event) {
	if progress != nil {
		progress(ev)
	}
}

// expect is what every challenge of a file is held against: the provider that
// signed the manifest, and the manifest's price.
func expect(m *content.Manifest) paywall.Expect {
	return paywall.Expect{Recipient: m.Provider.String(), Check: func(q *paywall.Quoted) error {
		return checkPrice(m, q)
	}}
}

// cost fills in what is left to buy, in which channel, and what that costs.
func (b *Buyer) cost(ctx context.Context, p *Plan, j *journal) error {
	p.Have = j.Verified.Total()
	tip, err := b.cfg.Chain.Tip(ctx)
	if err != nil {
		return err
	}
	rate, err := b.cfg.Chain.FeeRate(ctx, feeTarget)
	if err != nil {
		return err
	}
	p.Tip = tip.Height
	if free := needIn(&p.Manifest, p.wanted(), j.Verified, nil); !free.paid && (free.any || p.TotalMsat == 0) { // no channel is needed
		p.Missing = free.bytes
		p.Spent, err = b.spent(ctx, j, "")
		return err
	}
	r, err := b.chooseUnblocked(ctx, p, j)
	if err != nil {
		return err
	}
	if r != nil {
		return b.costHere(ctx, p, j, *r)
	}
	left := needIn(&p.Manifest, p.wanted(), j.Verified, nil)
	p.Missing, p.LeftMsat = left.bytes, left.msat
	if p.Spent, err = b.spent(ctx, j, ""); err != nil {
		return err
	}
	if left.msat == 0 {
		return nil // an empty file, or one that is given away
	}
	if p.Quote, err = b.cfg.Client.Quote(ctx, p.URL, expect(&p.Manifest)); err != nil {
		return err
	}
	return b.costNew(ctx, p, left, rate)
}

// costNew is the cost with a new channel on the quote.
func (b *Buyer) costNew(ctx context.Context, p *Plan, left need, rate script.FeeRate) (err error) {
	o := p.Quote.Offer
	if err := o.CheckOffer(b.cfg.Network, p.Tip, b.cfg.Policy); err != nil {
		return err
	}
	if err := checkMinimum(o.MinimumCharge, rate, b.cfg.Policy); err != nil {
		return err
	}
	if p.Construction, err = pick(o, p.Want.Construction); err != nil {
		return err
	}
	if p.Capacity, err = capacityFor(o, p.Construction, left.msat, p.Want.Reserve, left.least, rate, b.cfg.Policy); err != nil {
		return err
	}
	p.MinimumCharge, p.Expiry = o.MinimumCharge, o.Expiry
	if p.Construction == script.Duplex {
		p.MinimumCharge = 0 // it is closed at the ledger
	}
	p.Pay = max(channel.CeilSat(left.msat), min(p.MinimumCharge, p.Capacity-min(p.Capacity, channel.MinimumPayout)))
	p.Prepay = channel.CeilSat(left.most - min(left.most, o.Credit))
	p.RefundFee = rate.Fee(sizesOf(p.Construction).refund)
	p.FundingFee, err = b.fundingEstimate(ctx, p.Construction, p.Capacity, rate)
	p.FundingMost = fundingLeeway * p.FundingFee
	return err
}

// pick chooses the kind of channel. Errors: channel.ErrTerms.
func pick(o channel.Offer, want script.Construction) (script.Construction, error) {
	for _, c := range o.Constructions {
		if c == want || want == "" && c == script.Taproot {
			return c, nil
		}
	}
	if want == "" && len(o.Constructions) > 0 {
		return o.Constructions[0], nil
	}
	return "", fmt.Errorf("%w: the provider offers %v channels, not %q", channel.ErrTerms, o.Constructions, want)
}

// costHere is the cost with a channel that is open already.
func (b *Buyer) costHere(ctx context.Context, p *Plan, j *journal, r channel.PayerRecord) (err error) {
	left := needIn(&p.Manifest, p.wanted(), j.Verified, paidIn(j, r.Terms.ID()))
	p.Missing, p.LeftMsat = left.bytes, left.msat
	p.Channel, p.Construction, p.Capacity = r.Terms.ID(), r.Terms.Construction, r.Terms.Capacity
	p.Expiry, p.MinimumCharge = r.Terms.Expiry, r.Terms.MinimumCharge
	owed, err := channel.AddMsat(r.Owed, left.msat)
	if err != nil {
		return err
	}
	if r.Duplex != nil {
		p.MinimumCharge = 0
	}
	last := max(r.Signed, channel.CeilSat(owed), min(p.MinimumCharge, r.Terms.Capacity-min(r.Terms.Capacity, r.Terms.Dust())))
	p.Pay = last - r.Signed
	if p.Spent, err = b.spent(ctx, j, ""); err != nil || !left.any {
		return err
	}
	p.Quote, err = b.cfg.Client.Quote(ctx, p.URL, expect(&p.Manifest))
	p.Prepay = channel.CeilSat(left.most - min(left.most, credit(r, p.Quote)))
	return err
}

func paidIn(j *journal, id string) *content.Ranges {
	if u := j.use(id); u != nil {
		return u.Chunks
	}
	return nil
}
