package payer

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/store"
)

// bucketInvitation holds what other wallets were asked to fund: output script in hex →
// Invitation. An entry goes when the funding is known, in the commit that saves the
// channel; one that is never answered stays: somebody may yet pay to its script.
const bucketInvitation = "payer/invitation"

// What can be wrong with a funding by another wallet.
var (
	// ErrUnsigned: the funding is another wallet's, and its signatures are not here.
	ErrUnsigned = errors.New("the funding transaction is not signed yet")
	// ErrNoInvitation: nothing of this output script is known.
	ErrNoInvitation = errors.New("no other wallet was asked to fund this")
)

// Invitation is a channel that another wallet is asked to fund: all of it but the
// funding transaction. With the seed's words it holds what a payment to Script needs to
// be had back, so it is saved before the script is told to anybody.
type Invitation struct {
	Offer    channel.Offer       `json:"offer"`
	RawOffer string              `json:"raw_offer"`
	Kind     script.Construction `json:"construction"`
	Capacity uint64              `json:"capacity_sat"` // sat
	Origin   string              `json:"origin"`
	Payee    string              `json:"payee"`
	KeyIndex uint32              `json:"key_index"`
	PayerKey channel.Key         `json:"payer_key"`
	Back     channel.Hex         `json:"refund_script"`
	Script   channel.Hex         `json:"script"` // of the funding output
	Height   uint32              `json:"height"` // in blocks, of the tip when it was made
	rev      uint64
}

func (v Invitation) request() OpenRequest {
	return OpenRequest{Offer: v.Offer, RawOffer: v.RawOffer, Construction: v.Kind, Capacity: v.Capacity, Origin: v.Origin, Payee: v.Payee, Back: v.Back}
}

// Invite makes K1 and all of a channel but its funding, and saves it. Nothing has left
// when it returns. Errors: channel.ErrTerms, of the chain and the store.
func (p *Payer) Invite(ctx context.Context, q OpenRequest) (Invitation, error) {
	if q.Capacity > channel.MaxSat || q.Capacity < q.Offer.MinDeposit || q.Capacity > q.Offer.MaxDeposit {
		return Invitation{}, fmt.Errorf("%w: a capacity of %d sat is not within %d to %d sat", channel.ErrTerms, q.Capacity, q.Offer.MinDeposit, q.Offer.MaxDeposit)
	}
	if !slices.Contains(q.Offer.Constructions, q.Construction) {
		return Invitation{}, fmt.Errorf("%w: %q channels are not offered", channel.ErrTerms, q.Construction)
	}
	if len(q.Back) > 0 {
		if err := script.CheckRestScript(q.Back); err != nil {
			return Invitation{}, fmt.Errorf("%w: %w", channel.ErrTerms, err)
		}
	}
	r, op, pk, err := p.plan(ctx, q)
	if err != nil {
		return Invitation{}, err
	}
	tip, err := p.cfg.Chain.Tip(ctx)
	if err != nil {
		return Invitation{}, err
	}
	v := Invitation{
		Offer: q.Offer, RawOffer: q.RawOffer, Kind: q.Construction, Capacity: q.Capacity, Origin: q.Origin, Payee: q.Payee,
		KeyIndex: r.KeyIndex, PayerKey: op.PayerKey, Back: r.RefundScript, Script: pk, Height: tip.Height,
	}
	value, err := json.Marshal(v)
	if err != nil {
		return v, err
	}
	return v, p.cfg.Store.Commit(ctx, store.Op{Bucket: bucketInvitation, Key: hex.EncodeToString(pk), Value: value})
}

// Invitations are those that no funding is known for, newest first.
// Errors: store.ErrDamaged, of the store.
func (p *Payer) Invitations(ctx context.Context) ([]Invitation, error) {
	entries, err := p.cfg.Store.List(ctx, bucketInvitation, "")
	if err != nil {
		return nil, err
	}
	all := make([]Invitation, len(entries))
	for i, e := range entries {
		if all[i], err = decodeInvitation(e); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(all, func(a, b Invitation) int { return int(int64(b.KeyIndex) - int64(a.KeyIndex)) })
	return all, nil
}

func decodeInvitation(e store.Entry) (v Invitation, err error) {
	if err := json.Unmarshal(e.Value, &v); err != nil || v.Script.String() != strings.ToLower(e.Key) {
		return v, fmt.Errorf("%w: invitation %s: %v", store.ErrDamaged, e.Key, err)
	}
	v.rev = e.Revision
	return v, nil
}

// Bind makes an invitation a channel: its funding is the transaction of another wallet,
// which need not be signed. prevouts is what its inputs spend; nil for one that is in a
// block already, whose id nobody changes any more. Nothing has left; the refund is held
// after Secure only. Where capacity is not the invitation's somebody paid another amount
// (sat) to its script: the channel is of that size, if the payee takes it, and what is in
// it comes back with the refund in any case.
// Errors: ErrNoInvitation, channel.ErrTerms, of the store.
func (p *Payer) Bind(ctx context.Context, pkScript []byte, capacity uint64, tx *wire.MsgTx, prevouts map[wire.OutPoint]*wire.TxOut) (channel.PayerRecord, error) {
	e, err := p.cfg.Store.Get(ctx, bucketInvitation, hex.EncodeToString(pkScript))
	if errors.Is(err, store.ErrNotFound) {
		return channel.PayerRecord{}, fmt.Errorf("%w: %x", ErrNoInvitation, pkScript)
	} else if err != nil {
		return channel.PayerRecord{}, err
	}
	v, err := decodeInvitation(e)
	if err != nil {
		return channel.PayerRecord{}, err
	}
	q := v.request()
	if q.Capacity != capacity {
		q.Capacity, q.Offer.MinDeposit, q.Offer.MaxDeposit = capacity, 0, channel.MaxSat
	}
	r := channel.PayerRecord{
		Phase: channel.Prepared, KeyIndex: v.KeyIndex, Origin: v.Origin, Payee: v.Payee, RefundScript: v.Back, Offer: v.RawOffer, Unsigned: true,
	}
	op := channel.Opening{Construction: v.Kind, PayerKey: v.PayerKey, Capacity: capacity, RestScript: v.Back}
	bare := tx.Copy()
	for _, in := range bare.TxIn {
		in.Witness = nil
	}
	if r, err = p.bindFunding(q, r, op, v.Script, bare, prevouts); err != nil {
		return r, err
	}
	return r, p.begin(ctx, r, 0, store.Op{Bucket: bucketInvitation, Key: e.Key, Expect: e.Revision})
}

// Secure holds a channel's refund before anything of it leaves: the export is kept, the
// half-signature of the first update is saved, and the channel is watched from here on.
// It may be repeated. Errors: channel.ErrTerms where a multisig refund is not signed by
// the payee yet, channel.ErrFinalized, those of Config.Keep.
func (p *Payer) Secure(ctx context.Context, id string) error {
	_, err := p.open(ctx, id)
	return err
}

// TakeFunding saves the signed funding of another wallet. It sends nothing; Opening and
// Publish do. Errors: channel.ErrFinalized where the refund is not held (Secure) or the
// channel was given up, channel.ErrTerms for another transaction.
func (p *Payer) TakeFunding(ctx context.Context, id string, tx *wire.MsgTx) error {
	raw, err := channel.EncodeTx(tx)
	if err != nil {
		return err
	}
	_, err = p.change(ctx, id, func(h *held) (channel.PayerRecord, []store.Op, error) {
		if err := live(h.record); err != nil {
			return h.record, nil, err
		}
		if !h.record.Unsigned && h.record.FundingTx.String() == hex.EncodeToString(raw) {
			return h.record, nil, nil
		}
		next, err := h.record.SignedFunding(raw)
		return next, nil, err
	})
	return err
}
