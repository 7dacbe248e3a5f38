package paywall

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/mpp"
	"github.com/spillway/spillway/mpp/bitcoin"
	"github.com/spillway/spillway/payer"
	"github.com/spillway/spillway/script"
)

// ErrChallengeOver: a challenge that has ended already. Nothing is signed for it.
var ErrChallengeOver = errors.New("the challenge has ended; ask the server for a fresh one")

// What is locked by default: for so many units, but at most so much, in sat.
const (
	defaultUnits      = 1000
	maxDefaultDeposit = 1_000_000
)

// usefulLead is how many blocks before its margin a channel must have left for another
// request of a client that is not watched.
const usefulLead = 2

// SignerConfig is what a Signer needs. Client and Store must be set.
type SignerConfig struct {
	Client *Client
	// Store keeps what was asked for, beside the payer's channels: it must be the store
	// that the Client's payer saves in.
	Store payer.Store
	// Before, where it is set, is asked before a channel of this capacity (sat) is opened.
	Before func(ctx context.Context, q *Quoted, capacity uint64) error
	// Look has the payer look at the chain; it is asked until a new channel is deep
	// enough, and an error ends the wait. It must be set.
	Look func(ctx context.Context, r channel.PayerRecord) error
	// Avoid, where it is set, names channels that are not used any more.
	Avoid func(ctx context.Context, id string) (bool, error)
	// Progress, where it is set, is told of an opening and of the wait that follows.
	Progress func(OpenEvent)
}

// Signer makes credentials for other clients of the Payment scheme, which send them
// themselves: it opens a channel where none is there, and pays each request ahead. It
// keeps for each request, by its Idempotency-Key, what was agreed for it, so that a
// repeat adds nothing. One process at a time may use it for one provider.
type Signer struct {
	cfg SignerConfig
	c   *Client
}

// NewSigner checks the configuration.
func NewSigner(cfg SignerConfig) (*Signer, error) {
	if cfg.Client == nil || cfg.Client.cfg.Payer == nil || cfg.Store == nil || cfg.Look == nil {
		return nil, errors.New("paywall: a signer needs a client, its payer's store and a look at the chain")
	}
	return &Signer{cfg: cfg, c: cfg.Client}, nil
}

// SignRequest is what a credential is wanted for.
type SignRequest struct {
	Challenge mpp.Challenge
	// URL is what is asked for; "": it is not known. Without it the server learns of a new
	// channel by the credential itself, and only taproot channels can be opened.
	URL string
	// Key is the Idempotency-Key that the request is sent with; "": with none.
	Key string
	// Max is the most that this credential may add to what is signed, in sat.
	Max uint64
	// Total is the most that may be signed to the provider in all channels together, in
	// sat; 0: it is not limited.
	Total uint64
	// Required is the cumulative amount (sat) that the server asks for; 0: what one unit
	// costs is paid.
	Required uint64
	// Deposit is what is locked in a new channel, in sat; 0: what the provider suggests,
	// and at least what may be paid.
	Deposit uint64
	// Construction is the kind of a new channel; "": the provider's first.
	Construction script.Construction
}

// SignedCredential is a credential with what it means.
type SignedCredential struct {
	Field, Value string // the header of the request
	Action       string // bitcoin.ActionVoucher or ActionOpen
	Channel      string // id
	Opened       bool   // the channel was opened for it
	Amount       uint64 // sat, cumulative
	Added        uint64 // sat that this credential added to what was signed
	Price        uint64 // msat, what a unit costs
}

// Sign makes a credential. Errors: ErrChallengeOver, channel.ErrBudget, channel.ErrTerms,
// ErrDeposit, wallet.ErrInsufficient, ErrMisbehaved, those of an opening.
func (s *Signer) Sign(ctx context.Context, a SignRequest) (SignedCredential, error) {
	var out SignedCredential
	q, cost, err := s.quoted(a)
	if err != nil {
		return out, err
	}
	out.Price = cost
	id, err := s.choose(ctx, a, q, cost)
	if err != nil {
		return out, err
	}
	if id == "" {
		if id, err = s.open(ctx, a, q, cost); err != nil {
			return out, err
		}
		out.Opened = true
	}
	if err := s.confirmed(ctx, id); err != nil {
		return out, err
	}
	u, err := s.pay(ctx, id, a, q, cost, &out)
	if err != nil {
		return out, err
	}
	payload, err := s.payload(ctx, id, a, u)
	if err != nil {
		return out, err
	}
	header, err := s.c.credential(ctx, id, q, payload, a.Key, nil)
	if err != nil {
		return out, err
	}
	out.Field, out.Action, out.Channel = q.Challenge.Field(), payload.Action(), id
	out.Value = header.Get(out.Field)
	if out.Action == bitcoin.ActionOpen {
		u.Amount = 0 // what goes with an opening
	}
	out.Amount = u.Amount
	return out, nil
}

// quoted reads the challenge, and what one unit of it costs (msat).
func (s *Signer) quoted(a SignRequest) (*Quoted, uint64, error) {
	if a.Challenge.Method != bitcoin.Method || a.Challenge.Intent != bitcoin.Intent {
		return nil, 0, fmt.Errorf("%w: its challenge is of %s/%s", ErrNotProvider, a.Challenge.Method, a.Challenge.Intent)
	}
	if a.Challenge.Expired(s.c.cfg.Now()) {
		return nil, 0, fmt.Errorf("%w: %s", ErrChallengeOver, a.Challenge.Expires)
	}
	at := a.URL
	if at == "" {
		at = "https://" + a.Challenge.Realm + "/"
	}
	if _, err := resourceOf(at); err != nil {
		return nil, 0, err
	}
	q, err := s.c.read(a.Challenge, at)
	if err != nil {
		return nil, 0, err
	}
	d := q.Request.MethodDetails
	t := tariff{msat: q.Request.Amount * 1000, per: d.UnitsPerAmount, unit: q.Request.UnitType}
	if q.Request.Amount > channel.MaxSat || t.per == 0 {
		return nil, 0, misbehaved("its price is out of range")
	}
	if a.URL != "" {
		s.c.remember(q)
	}
	if t.unit == bitcoin.UnitByte { // nobody asks for one
		return q, t.cost(t.per), nil
	}
	return q, t.cost(1), nil
}

// choose is the channel that a credential is for: the one that a repeat was paid on, the
// one that the server names, or another one of this provider with enough left; "": none.
func (s *Signer) choose(ctx context.Context, a SignRequest, q *Quoted, cost uint64) (string, error) {
	records, err := s.c.cfg.Payer.Records(ctx)
	if err != nil {
		return "", err
	}
	best, rank := "", 0
	var refund uint64
	for _, r := range records {
		id := r.Terms.ID()
		if !s.usable(r, a, q) {
			continue
		}
		if s.cfg.Avoid != nil {
			if skip, err := s.cfg.Avoid(ctx, id); err != nil || skip {
				if err != nil {
					return "", err
				}
				continue
			}
		}
		b, err := s.book(ctx, r)
		if err != nil {
			return "", err
		}
		if r.Phase == channel.Prepared {
			r.Phase = channel.Funding
		}
		state := q.Request.MethodDetails.Channel
		now := 1
		switch known := b.knows(a.name()); {
		case known:
			now = 4
		case r.CanBuy(b.plus(r.Owed, cost)) != nil:
			continue
		case state != nil && state.ChannelID == id:
			now = 3
		case r.Accepted:
			now = 2
		}
		if now > rank || now == rank && r.Refundable() > refund {
			best, rank, refund = id, now, r.Refundable()
		}
	}
	return best, nil
}

// usable reports whether a channel that is there can be paid on.
func (s *Signer) usable(r channel.PayerRecord, a SignRequest, q *Quoted) bool {
	switch {
	case r.Payee != q.Request.Recipient || a.URL != "" && Origin(r.Origin) != Origin(a.URL):
		return false
	case r.Duplex != nil || r.Close != nil || r.SpentBy != "" || r.Void() || r.Unsigned:
		return false
	case r.Phase != channel.Prepared && r.Phase != channel.Funding && r.Phase != channel.Open:
		return false
	case uint64(q.Offer.Tip)+uint64(r.Terms.Confirmations)+uint64(r.Terms.Margin)+usefulLead > uint64(r.Terms.Expiry):
		return false
	}
	return true
}

// open opens a channel within what may be paid.
func (s *Signer) open(ctx context.Context, a SignRequest, q *Quoted, cost uint64) (string, error) {
	o := q.Offer
	kind := a.Construction
	for _, c := range o.Constructions {
		if kind == "" && c != script.Duplex {
			kind = c
		}
	}
	if !slices.Contains(o.Constructions, kind) || kind == script.Duplex || a.URL == "" && kind != script.Taproot {
		return "", fmt.Errorf("%w: it offers no %s channels that could be opened so", channel.ErrTerms, kind)
	}
	left, err := s.left(ctx, a, q)
	if err != nil {
		return "", err
	}
	if need := max(channel.CeilSat(cost), a.Required); need > left {
		return "", fmt.Errorf("%w: this costs %d sat, %d sat are allowed", channel.ErrBudget, need, left)
	}
	// what a channel costs at least is due with its last update
	if total, err := s.totalLeft(ctx, a, q); err != nil {
		return "", err
	} else if total < o.MinimumCharge {
		return "", fmt.Errorf("%w: a channel costs at least %d sat, %d sat are allowed in all", channel.ErrBudget, o.MinimumCharge, total)
	}
	deposit := a.Deposit
	if deposit == 0 {
		units := min(defaultUnits*channel.CeilSat(cost), maxDefaultDeposit)
		if a.Total > 0 {
			units = min(units, a.Total)
		}
		deposit = min(max(q.Request.SuggestedDeposit, units+2*channel.MinimumPayout, o.MinDeposit), o.MaxDeposit)
	}
	if deposit < o.MinDeposit || deposit > o.MaxDeposit {
		return "", fmt.Errorf("%w: %d sat to %d sat, not %d sat", ErrDeposit, o.MinDeposit, o.MaxDeposit, deposit)
	}
	if s.cfg.Before != nil {
		if err := s.cfg.Before(ctx, q, deposit); err != nil {
			return "", err
		}
	}
	if a.URL != "" {
		return s.c.Open(ctx, q, kind, deposit, Expect{Recipient: q.Request.Recipient}, s.cfg.Progress)
	}
	return s.publish(ctx, q, kind, deposit)
}

// publish opens a channel that the server learns of by a credential: T1 goes out from
// here. The refund needs no signature of the payee's.
func (s *Signer) publish(ctx context.Context, q *Quoted, kind script.Construction, deposit uint64) (string, error) {
	raw, err := q.Raw()
	if err != nil {
		return "", err
	}
	r, err := s.c.cfg.Payer.Prepare(ctx, payer.OpenRequest{
		Offer: q.Offer, RawOffer: raw, Construction: kind, Capacity: deposit, Origin: q.URL, Payee: q.Request.Recipient,
	})
	if err != nil {
		return "", err
	}
	tell(s.cfg.Progress, OpenEvent{Stage: StagePrepared, Channel: r.Terms.ID()})
	return r.Terms.ID(), s.send(ctx, r)
}

// send saves a channel's opening and broadcasts its T1.
func (s *Signer) send(ctx context.Context, r channel.PayerRecord) error {
	if err := s.c.freshEnough(r); err != nil {
		return err
	}
	if _, err := s.c.cfg.Payer.Opening(ctx, r.Terms.ID()); err != nil {
		return err
	}
	return s.c.cfg.Payer.Publish(ctx, r.Terms.ID())
}

// confirmed waits until a channel's funding is as deep as its provider wants it, and goes
// on with an opening that an earlier run began.
func (s *Signer) confirmed(ctx context.Context, id string) error {
	for {
		r, err := s.c.cfg.Payer.Record(ctx, id)
		if err != nil {
			return err
		}
		switch {
		case r.Accepted:
		case s.hasURL(r):
			if err := s.c.Reopen(ctx, id, "", Expect{Recipient: r.Payee}, s.cfg.Progress); err != nil {
				return err
			}
		case r.Phase == channel.Prepared || !r.FundingSent:
			if err := s.send(ctx, r); err != nil {
				return err
			}
		}
		if err := s.cfg.Look(ctx, r); err != nil {
			return err
		}
		if r, err = s.c.cfg.Payer.Record(ctx, id); err != nil || r.Phase != channel.Funding && r.Phase != channel.Prepared {
			return err
		}
		tell(s.cfg.Progress, OpenEvent{Stage: StageWaiting, Channel: id, Wait: confirmPoll})
		if err := s.c.cfg.Sleep(ctx, confirmPoll); err != nil {
			return err
		}
	}
}

// confirmPoll is how often the chain is asked for a funding.
const confirmPoll = time.Second

// hasURL reports whether a channel's record says where its provider is reached, and not
// only its realm.
func (s *Signer) hasURL(r channel.PayerRecord) bool {
	ch, err := savedChallenge(r)
	return err != nil || r.Origin != "https://"+ch.Realm+"/"
}

// payload is what the credential carries: the update, or, where the server cannot know
// the channel yet, its opening.
func (s *Signer) payload(ctx context.Context, id string, a SignRequest, u channel.Update) (bitcoin.Payload, error) {
	r, err := s.c.cfg.Payer.Record(ctx, id)
	if err != nil {
		return nil, err
	}
	if r.Accepted {
		return bitcoin.Voucher{ChannelID: id, CumulativeAmount: u.Amount, Signature: u.Signature}, nil
	}
	p, err := s.c.opening(ctx, r)
	p.FundingTx = nil // it is on the network
	return p, err
}

// left is what this credential may add, in sat.
func (s *Signer) left(ctx context.Context, a SignRequest, q *Quoted) (uint64, error) {
	total, err := s.totalLeft(ctx, a, q)
	return min(a.Max, total), err
}

// totalLeft is what may still be signed to the provider in all, in sat.
func (s *Signer) totalLeft(ctx context.Context, a SignRequest, q *Quoted) (uint64, error) {
	if a.Total == 0 {
		return channel.MaxSat, nil
	}
	records, err := s.c.cfg.Payer.Records(ctx)
	if err != nil {
		return 0, err
	}
	total := min(a.Total, channel.MaxSat)
	for _, r := range records {
		if r.Payee == q.Request.Recipient {
			total -= min(total, r.Signed)
		}
	}
	return total, nil
}
