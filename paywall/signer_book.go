package paywall

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/mpp"
	"github.com/spillway/spillway/mpp/bitcoin"
	"github.com/spillway/spillway/payer"
	"github.com/spillway/spillway/store"
)

// bucketSigner keeps what a Signer agreed to, by channel.
const bucketSigner = "payer/signer"

// Bounds of what is remembered of a channel's requests.
const (
	maxWanted  = 64
	maxSettled = 256
)

// book is what was agreed on one channel for requests that others send: what they were
// charged, as far as that is known, and what was signed ahead for the others.
type book struct {
	Charged uint64   `json:"charged_msat"` // never more than was agreed
	Wanted  []wanted `json:"wanted"`       // requests of which it is not known whether they were charged
	Settled []string `json:"settled"`      // those whose receipt was seen, newest last

	rev uint64
}

// wanted is one request: its name and what was agreed for it.
type wanted struct {
	Name string `json:"name"`
	Msat uint64 `json:"msat"`
}

// name is what a request and all its repeats are called.
func (a SignRequest) name() string { return requestName(a.Key, a.Challenge.ID) }

func requestName(key, challenge string) string {
	if key == "" {
		return "challenge " + challenge
	}
	return "key " + key
}

// book reads a channel's book. What was bought on it otherwise counts as charged.
func (s *Signer) book(ctx context.Context, r channel.PayerRecord) (*book, error) {
	b := &book{}
	e, err := s.cfg.Store.Get(ctx, bucketSigner, r.Terms.ID())
	switch {
	case errors.Is(err, store.ErrNotFound):
	case err != nil:
		return nil, err
	default:
		if err := json.Unmarshal(e.Value, b); err != nil {
			return nil, fmt.Errorf("%w: %s %s: %v", store.ErrDamaged, bucketSigner, r.Terms.ID(), err)
		}
		b.rev = e.Revision
	}
	b.Charged = max(b.Charged, r.Owed)
	if len(b.Wanted) > 2*maxWanted || b.total() > channel.MaxSat*1000 {
		return nil, fmt.Errorf("%w: %s %s holds what was never signed", store.ErrDamaged, bucketSigner, r.Terms.ID())
	}
	return b, nil
}

// total is all that was agreed, in msat.
func (b *book) total() uint64 {
	sum := b.Charged
	for _, w := range b.Wanted {
		sum += min(w.Msat, channel.MaxSat*1000)
	}
	return sum
}

// plus is what one more request (msat) makes above the payer's ledger.
func (b *book) plus(owed, cost uint64) uint64 { return b.total() + cost - owed }

// knows reports whether something was agreed for a request before.
func (b *book) knows(name string) bool {
	return slices.Contains(b.Settled, name) || slices.ContainsFunc(b.Wanted, func(w wanted) bool { return w.Name == name })
}

// want agrees to a request, once.
func (b *book) want(name string, msat uint64) {
	if b.knows(name) {
		return
	}
	b.Wanted = append(b.Wanted, wanted{name, msat})
	for len(b.Wanted) > maxWanted { // nobody says what became of it: it counts as charged
		b.Charged += b.Wanted[0].Msat
		b.Wanted = b.Wanted[1:]
	}
}

// raise agrees to as much more for a request as makes a total (msat).
func (b *book) raise(name string, total uint64) {
	more := total - min(total, b.total())
	if more == 0 {
		return
	}
	at := slices.IndexFunc(b.Wanted, func(w wanted) bool { return w.Name == name })
	if at < 0 {
		b.Wanted = append(b.Wanted, wanted{Name: name})
		at = len(b.Wanted) - 1
	}
	b.Wanted[at].Msat += more
}

// learn takes the provider's word for what it has charged in all, as far as that was
// agreed; signed is what was signed, in sat.
func (b *book) learn(charged, signed uint64) {
	b.Charged = min(max(b.Charged, charged), max(b.total(), signed*1000))
}

// settle ends a request: it was charged, with all before it, what the receipt says.
func (b *book) settle(name string, charged, signed uint64) {
	b.learn(charged, signed)
	b.Wanted = slices.DeleteFunc(b.Wanted, func(w wanted) bool { return w.Name == name })
	if !slices.Contains(b.Settled, name) {
		b.Settled = append(b.Settled, name)
	}
	b.Settled = b.Settled[len(b.Settled)-min(len(b.Settled), maxSettled):]
}

// only forgets all requests but one: the provider says where the channel stands, and what
// it did not charge by now it refused.
func (b *book) only(name string, charged, signed uint64) {
	b.learn(charged, signed)
	b.Wanted = slices.DeleteFunc(b.Wanted, func(w wanted) bool { return w.Name != name })
}

func (b *book) op(id string) (store.Op, error) {
	raw, err := json.Marshal(b)
	return store.Op{Bucket: bucketSigner, Key: id, Value: raw, Expect: b.rev}, err
}

// pay agrees to the request, signs what that makes in all, and saves both in one commit.
func (s *Signer) pay(ctx context.Context, id string, a SignRequest, q *Quoted, cost uint64, out *SignedCredential) (channel.Update, error) {
	var none channel.Update
	p := s.c.cfg.Payer
	if state := q.Request.MethodDetails.Channel; state != nil && state.ChannelID == id {
		if err := p.Accepted(ctx, id); err != nil { // it can only know it from its opening
			return none, err
		}
	}
	r, err := p.Record(ctx, id)
	if err != nil {
		return none, err
	}
	b, err := s.book(ctx, r)
	if err != nil {
		return none, err
	}
	if state := q.Request.MethodDetails.Channel; state != nil && state.ChannelID == id {
		b.only(a.name(), state.ChargedMsat, r.Signed)
	}
	switch {
	case a.Required > channel.MaxSat:
		return none, misbehaved("it wants %d sat", a.Required)
	case a.Required > 0:
		b.want(a.name(), 0)
		b.raise(a.name(), a.Required*1000)
	default:
		b.want(a.name(), cost)
	}
	left, err := s.left(ctx, a, q)
	if err != nil {
		return none, err
	}
	op, err := b.op(id)
	if err != nil {
		return none, err
	}
	u, err := p.Pay(ctx, id, payer.Payment{Verified: b.Charged - r.Owed, Ahead: b.total() - b.Charged, Ops: []store.Op{op}},
		channel.Limits{Budget: r.Signed + left, Prepay: channel.MaxSat})
	if err != nil {
		return none, err
	}
	out.Added = u.Amount - r.Signed
	return u, nil
}

// TakeReceipt enters a receipt that came for a request which was sent with a credential
// of Sign: its key, or, without one, its challenge, names it. More than was agreed is
// not believed. It signs nothing. Errors: ErrMisbehaved for a receipt that is none,
// payer.ErrUnknown for one of another channel.
func (s *Signer) TakeReceipt(ctx context.Context, header, key string) (bitcoin.Receipt, error) {
	got, err := bitcoin.ParseReceipt([]string{header})
	if err != nil {
		return got, misbehaved("%w", err)
	}
	p := s.c.cfg.Payer
	r, err := p.Record(ctx, got.ChannelID)
	if err != nil {
		return got, err
	}
	if !r.Accepted {
		if err := p.Accepted(ctx, got.ChannelID); err != nil {
			return got, err
		}
	}
	b, err := s.book(ctx, r)
	if err != nil {
		return got, err
	}
	b.settle(requestName(key, got.ChallengeID), got.ChargedMsat, r.Signed)
	op, err := b.op(got.ChannelID)
	if err != nil {
		return got, err
	}
	_, err = p.Pay(ctx, got.ChannelID, payer.Payment{Verified: b.Charged - r.Owed, Ops: []store.Op{op}}, channel.Limits{Budget: r.Signed})
	return got, err
}

// savedChallenge is the challenge that a channel's terms came from.
func savedChallenge(r channel.PayerRecord) (ch mpp.Challenge, err error) {
	return ch, json.Unmarshal([]byte(r.Offer), &ch)
}
