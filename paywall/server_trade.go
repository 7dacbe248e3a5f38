package paywall

import (
	"context"
	"errors"
	"fmt"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/internal/charged"
	"github.com/spillway/spillway/mpp/bitcoin"
	"github.com/spillway/spillway/payee"
	"github.com/spillway/spillway/payer"
)

// peerOf names, among what is kept in memory of channels, one that this provider's
// payer funded.
func peerOf(id string) string { return "peer " + id }

// trade takes an update of a peer that buys here over a channel that this provider's
// payer funded, and releases what is asked for with it. docs/protocol.md, "Trading".
func (v *visit) trade(ctx context.Context, p bitcoin.Voucher) (*Grant, error) {
	u, err := v.peer(ctx, p)
	if err != nil {
		return nil, err
	}
	o := v.order
	if err := v.present(); err != nil {
		_, kept := o.take(ctx, u, nil)
		return nil, errors.Join(err, kept)
	}
	if v.alone() {
		rec, err := o.take(ctx, u, nil)
		if err != nil {
			return nil, err
		}
		return nil, v.paid(rec)
	}
	if v.res.metered != nil { // a peer buys what has chunks
		_, kept := o.take(ctx, u, nil)
		return nil, errors.Join(errRequest, kept)
	}
	if v.res.Hold != nil && !v.res.Hold(peerOf(p.ChannelID)) {
		_, kept := o.take(ctx, u, nil)
		return nil, errors.Join(errBusy, kept)
	}
	rec, err := o.take(ctx, u, v.res.Items)
	if err != nil {
		return nil, err
	}
	if err := v.s.header(v.w, v.credential.Challenge.ID, rec); err != nil {
		return nil, err
	}
	return &Grant{Receipt: rec, Challenge: v.credential.Challenge.ID, server: v.s, quote: v.res.Quote, order: o}, nil
}

// peer checks whose channel a voucher of a payee's is on, before anything is taken
// or told, and reads its update. Errors: payee.ErrUnknown, bitcoin.ErrMAC,
// channel.ErrSignature.
func (v *visit) peer(ctx context.Context, p bitcoin.Voucher) (channel.Update, error) {
	payer := v.s.cfg.Peer
	if payer == nil || !payer.Trades(ctx, p.ChannelID) {
		return channel.Update{}, fmt.Errorf("%w: %s, as one that was funded here", payee.ErrUnknown, p.ChannelID)
	}
	key, err := v.s.macKey(peerOf(p.ChannelID), func() ([32]byte, error) { return payer.MACKey(ctx, p.ChannelID) })
	if err != nil {
		return channel.Update{}, err
	}
	if err := bitcoin.Authenticate(v.payload, key, v.credential.Challenge.ID, v.key); err != nil {
		return channel.Update{}, err
	}
	u, err := v.state(ctx, p)
	if err != nil {
		return u, err
	}
	v.order = &order{s: v.s, id: p.ChannelID, worth: v.res.Worth, credit: v.res.Quote.CreditMsat}
	return u, nil
}

// keepTrade is Keep for a peer.
func (s *Server) keepTrade(ctx context.Context, v *visit, p bitcoin.Voucher) {
	u, err := v.peer(ctx, p)
	if err == nil {
		_, err = v.order.take(ctx, u, nil)
	}
	if err != nil && refusalOf(err) == nil {
		s.cfg.Log.Warn("an update of a refused request was not kept", "channel", p.ChannelID, "error", err)
	}
}

// state reads the update of a voucher of the payee's; before its first there is none.
func (v *visit) state(ctx context.Context, p bitcoin.Voucher) (channel.Update, error) {
	u := channel.Update{Amount: p.CumulativeAmount, Signature: p.Signature, Epoch: p.Epoch}
	if p.Epoch == 0 {
		return u, nil
	}
	r, err := v.s.cfg.Peer.Record(ctx, p.ChannelID)
	if err != nil {
		return u, err
	}
	return u, r.Terms.CheckLock(p.Epoch, p.LockHeight)
}

// order is what a peer buys over a channel that was funded here.
type order struct {
	s      *Server
	id     string
	worth  func()
	credit uint64 // msat
	at     *payee.Receipt
}

// take is the one way in which a peer pays and is charged, and wakes the streams
// that wait for it.
func (o *order) take(ctx context.Context, u channel.Update, items []charged.Item) (payee.Receipt, error) {
	got, err := o.s.cfg.Peer.SellItems(ctx, o.id, payer.Order{Update: u, Items: items, Credit: o.credit})
	if got.Channel == "" {
		return payee.Receipt{}, err
	}
	rec := payee.Receipt{Channel: o.id, Paid: got.Held, Charged: got.Ledger, Required: got.Required, Fresh: got.Fresh, Units: got.Units}
	o.at = &rec
	if rose := o.s.rose(peerOf(o.id), rec.Paid); o.worth != nil && (rose || rec.Units > 0) {
		o.worth()
	}
	o.s.bells.rang(peerOf(o.id), rec.Paid)
	return rec, err
}
