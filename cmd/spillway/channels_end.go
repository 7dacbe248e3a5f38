package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/spf13/cobra"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/payer"
	"github.com/spillway/spillway/paywall"
	"github.com/spillway/spillway/store"
)

func (a *app) closeCommand() *cobra.Command {
	var prepay string
	cmd := &cobra.Command{
		Use: "close ID", Short: "Close a channel: together with the provider, or, as the provider, by settling it", Args: cobra.ExactArgs(1),
		Long: `Closes a channel together with its provider: what is signed goes there, the rest
comes back at once. A provider closes nothing while something that it charged is
not signed for. Where that never arrived and cannot be fetched again, it can be
signed for unseen, with --max-prepay; else the rest comes back with the refund.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			most, err := sat("max-prepay", prepay)
			if err != nil {
				return err
			}
			return a.channelClose(cmd.Context(), args[0], most)
		},
	}
	cmd.Flags().StringVar(&prepay, "max-prepay", "0sat", "most that may be signed for what was charged and never arrived")
	return cmd
}

// channelClose closes a channel, signing at most this much (sat) unseen.
func (a *app) channelClose(ctx context.Context, id string, most uint64) (err error) {
	found, err := a.find(ctx, id)
	if err != nil {
		return err
	}
	if found.Role == "payee" {
		return a.settleAsProvider(ctx, found.ID)
	}
	b, rec, unlock, err := a.holdChannel(ctx, found)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock(), b.Close()) }()
	if rec.Phase == channel.Prepared {
		return a.giveUpPrepared(ctx, b, found.ID)
	}
	a.out.say("Closing channel %s: %d sat go to the provider, %d sat come back%s.", found.ID, rec.Signed, rec.Refundable(), unseenText(rec, most))
	txid, err := b.closeWith(ctx, rec)
	var short *paywall.InsufficientError
	if errors.As(err, &short) && short.Required > rec.Signed {
		if unseen := short.Required - min(short.Required, channel.CeilSat(rec.Owed)); unseen <= most && short.Required <= rec.Terms.Capacity {
			a.out.say("The provider charged %d sat in all, of which %d sat never arrived here: signing for them, so %d sat go to the provider, %d sat come back.",
				short.Required, unseen, short.Required, rec.Terms.Capacity-short.Required)
		}
		if rec, err = b.signUnseen(ctx, rec, short.Required, most); err == nil {
			txid, err = b.closeWith(ctx, rec)
		}
	}
	if err != nil {
		return b.stays(ctx, rec, short, err)
	}
	if err := b.look(ctx); err != nil { // it is done; the next command looks again
		a.out.say("The chain could not be asked at the end: %v", err)
	}
	a.out.print("closed by %s", txid)
	return a.out.result(map[string]any{"channel_id": found.ID, "closing_txid": txid, "paid_sat": rec.Signed, "refundable_sat": rec.Refundable()})
}

// unseenText says what a close may sign for besides.
func unseenText(rec channel.PayerRecord, most uint64) string {
	if most = min(most, rec.Refundable()); most == 0 {
		return ""
	}
	return fmt.Sprintf("; of these up to %d sat may go to the provider too, for what it charged and never arrived (--max-prepay)", most)
}

// holdChannel opens the payer's folder and takes a channel for this process: a
// purchase in it ends first.
func (a *app) holdChannel(ctx context.Context, found row) (b *buyer, rec channel.PayerRecord, unlock func() error, err error) {
	if found.Role != "payer" {
		return nil, rec, nil, usagef("channel %s is one that you are paid in; only its payer can do that", found.ID)
	}
	if b, err = a.openBuyer(ctx); err != nil {
		return nil, rec, nil, err
	}
	if rec, err = b.payer.Record(ctx, found.ID); err == nil {
		unlock, err = b.buy.Hold(ctx, rec.Origin, rec.Payee, func() { a.out.say("A purchase from this provider is running; waiting for it.") })
	}
	if err == nil {
		if rec, err = b.payer.Record(ctx, found.ID); err != nil { // it may be another one after the wait
			err = errors.Join(err, unlock())
		}
	}
	if err != nil {
		return nil, rec, nil, errors.Join(err, b.Close())
	}
	return b, rec, unlock, nil
}

// closeWith closes a channel together with its provider.
func (b *buyer) closeWith(ctx context.Context, rec channel.PayerRecord) (txid string, err error) {
	return b.client.Close(ctx, rec.Terms.ID(), "", paywall.Expect{})
}

// signUnseen signs up to a cumulative amount (sat) for what was charged and never
// arrived, where that is no more than is allowed. Errors: channel.ErrPrepay.
func (b *buyer) signUnseen(ctx context.Context, rec channel.PayerRecord, required, most uint64) (channel.PayerRecord, error) {
	if required > channel.MaxSat {
		return rec, fmt.Errorf("%w: it wants %d sat", paywall.ErrMisbehaved, required)
	}
	ahead := required*1000 - min(required*1000, rec.Owed)
	if _, err := b.payer.Pay(ctx, rec.Terms.ID(), payer.Payment{Ahead: ahead}, channel.Limits{Budget: channel.MaxSat, Prepay: most}); err != nil {
		return rec, err
	}
	return b.payer.Record(ctx, rec.Terms.ID())
}

// stays says, where a provider does not close, when and how the money comes back.
func (b *buyer) stays(ctx context.Context, rec channel.PayerRecord, short *paywall.InsufficientError, err error) error {
	f := *explain(err)
	remote := f.exit == exitConsent || f.exit == exitMisbehaved || f.exit == exitUnreachable || f.exit == exitRefused
	if !remote || rec.Phase.Final() || ctx.Err() != nil {
		return err
	}
	id, from := rec.Terms.ID(), rec.Terms.Expiry
	f.money = fmt.Sprintf("%d sat are signed to the provider. The other %d sat stay yours and come back with the refund from height %d on%s, whether it helps or not.",
		rec.Signed, rec.Refundable(), from, b.fromNow(ctx, from))
	f.next = fmt.Sprintf("Try again later; or, from height %d on: spillway channels refund %s", from, id)
	if short != nil && errors.Is(err, channel.ErrPrepay) {
		f.message = fmt.Sprintf("the provider charged %d sat in all, %d sat are signed: something that it charged never arrived here whole", short.Required, rec.Signed)
		f.next = fmt.Sprintf("Where the file is still offered get it again: what was charged comes free, and the channel closes. Or sign for it unseen: spillway channels close %s --max-prepay %dsat. Or wait until height %d: spillway channels refund %s",
			id, short.Required-min(short.Required, channel.CeilSat(rec.Owed)), from, id)
	}
	return &f
}

// fromNow says how far away a height is, where the chain can be asked.
func (b *buyer) fromNow(ctx context.Context, height uint32) string {
	tip, err := b.chain.Tip(ctx)
	if err != nil {
		return ""
	}
	blocks := height - min(height, tip.Height)
	if b.app.regtest() {
		return fmt.Sprintf(" (%d blocks from now)", blocks)
	}
	wait := time.Duration(blocks) * 10 * time.Minute
	return fmt.Sprintf(" (%d blocks from now, about %.1f days)", blocks, wait.Hours()/24)
}

func (a *app) channelRefund(ctx context.Context, id string) (err error) {
	found, err := a.find(ctx, id)
	if err != nil {
		return err
	}
	b, rec, unlock, err := a.holdChannel(ctx, found)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock(), b.Close()) }()
	if rec.Phase == channel.Prepared {
		return a.giveUpPrepared(ctx, b, found.ID)
	}
	unseen, err := b.neverLeft(ctx, rec)
	if err != nil {
		return err
	}
	if unseen {
		return a.cancelOpening(ctx, b, rec)
	}
	refund, err := b.payer.Refund(ctx, found.ID)
	if errors.Is(err, channel.ErrNotYet) {
		return b.tooEarly(ctx, rec, err)
	} else if err != nil && !errors.Is(err, channel.ErrFinalized) {
		return err
	}
	return b.tellRefund(ctx, rec, refund, err)
}

// tellRefund says how far a refund is: on its way, in a block, or final, also where
// another machine made it. failed is why none was made here.
func (b *buyer) tellRefund(ctx context.Context, rec channel.PayerRecord, refund *channel.Broadcast, failed error) error {
	a, id := b.app, rec.Terms.ID()
	if err := b.look(ctx); err != nil {
		a.out.say("The chain could not be asked at the end: %v", err)
	}
	now, err := b.payer.Record(ctx, id)
	if err != nil {
		return err
	}
	if failed != nil && now.Phase != channel.Refunded {
		return failed
	}
	txid, result := now.SpentBy, map[string]any{"channel_id": id, "refundable_sat": rec.Terms.Capacity, "phase": string(now.Phase)}
	fee := ""
	if refund != nil {
		if txid == "" {
			txid = refund.Txid
		}
		result["fees_sat"], fee = refund.Fee, fmt.Sprintf(" of %d sat", refund.Fee)
	}
	result["refund_txid"] = txid
	height, depth := b.mined(ctx, txid)
	if height > 0 {
		result["height"], result["confirmations"] = height, depth
	}
	switch {
	case now.Phase == channel.Refunded && height > 0:
		a.out.print("refund %s is final: in the block at height %d, with %d confirmations; %d sat came back, less its fee%s", txid, height, depth, rec.Terms.Capacity, fee)
	case now.Phase == channel.Refunded:
		a.out.print("refund %s is final; %d sat came back, less its fee%s", txid, rec.Terms.Capacity, fee)
	case height > 0:
		a.out.print("refund %s is in the block at height %d, with %d of %d confirmations: %d sat less a fee%s", txid, height, depth, a.policy().Burial, rec.Terms.Capacity, fee)
	default:
		a.out.print("refund %s is on its way: %d sat less a fee%s", txid, rec.Terms.Capacity, fee)
	}
	return a.out.result(result)
}

// mined is the block that a transaction is in, and how deep; 0: in none, or nobody can say.
func (b *buyer) mined(ctx context.Context, txid string) (height, depth uint32) {
	id, err := chainhash.NewHashFromStr(txid)
	if err != nil {
		return 0, 0
	}
	info, err := b.chain.Tx(ctx, *id)
	if err != nil || !info.Confirmed {
		return 0, 0
	}
	tip, err := b.chain.Tip(ctx)
	if err != nil || tip.Height < info.Height {
		return 0, 0
	}
	return info.Height, tip.Height - info.Height + 1
}

// tooEarly says when a refund is possible, and what brings the money back before.
func (b *buyer) tooEarly(ctx context.Context, rec channel.PayerRecord, err error) error {
	f := *explain(err)
	from := rec.Terms.Expiry
	f.money = fmt.Sprintf("%d sat are signed to the provider. The other %d sat stay yours.", rec.Signed, rec.Refundable())
	f.next = fmt.Sprintf("Have the rest back now with: spillway channels close %s; or run this command again at height %d%s.", rec.Terms.ID(), from, b.fromNow(ctx, from))
	if !rec.Accepted {
		f.next = fmt.Sprintf("Run this command again at height %d%s: the provider never confirmed this channel.", from, b.fromNow(ctx, from))
	}
	return &f
}

// giveUpPrepared frees the coins of a channel of which nothing has left. One that
// another wallet was to fund is watched on, with its refund, as far as that can be had:
// that wallet may send it yet.
func (a *app) giveUpPrepared(ctx context.Context, b *buyer, id string) error {
	rec, err := b.payer.Record(ctx, id)
	if err != nil {
		return err
	}
	if rec.Unsigned && b.payer.Secure(ctx, id) == nil {
		return a.cancelOpening(ctx, b, rec)
	}
	if err := b.payer.Abandon(ctx, id); err != nil {
		return err
	}
	a.out.print("given up: nothing had left this machine, the coins are free again")
	return a.out.result(map[string]any{"channel_id": id, "phase": string(channel.Abandoned)})
}

// neverLeft reports whether a channel's opening was never accepted and its funding
// never broadcast from here, and the chain does not show it: its coins can be
// spent elsewhere.
func (b *buyer) neverLeft(ctx context.Context, rec channel.PayerRecord) (bool, error) {
	if rec.Phase != channel.Funding || rec.Accepted || rec.FundingSent {
		return false, nil
	}
	_, err := b.chain.Tx(ctx, rec.Terms.Outpoint.Hash)
	if errors.Is(err, chain.ErrNotFound) {
		return true, nil
	}
	return false, err
}

// cancelOpening spends the coins of an opening that was never accepted back to the
// wallet. The provider may hold the funding: only the other spend's confirmation
// makes the channel void. That it is not used any more is saved before.
func (a *app) cancelOpening(ctx context.Context, b *buyer, rec channel.PayerRecord) error {
	id := rec.Terms.ID()
	if err := b.buy.GiveUp(ctx, id, errors.New("the opening was cancelled")); err != nil {
		return err
	}
	if _, err := b.payer.Cancel(ctx, id); err != nil {
		return err
	}
	if built, err := b.wallet.Built(ctx, rec.Terms.Outpoint.Hash); err != nil {
		return err
	} else if !built {
		return a.tellCancelled(rec)
	}
	rate, err := b.chain.FeeRate(ctx, 3)
	if err != nil {
		return err
	}
	tx, err := b.wallet.Cancel(ctx, rec.Terms.Outpoint.Hash, rate)
	if errors.Is(err, store.ErrNotFound) {
		if err := b.look(ctx); err != nil {
			return err
		}
		return &failure{exit: exitRefused, code: "too-early", message: "the coins of this opening are on their way back already",
			money: "Nothing of it is locked.", next: "Wait for the confirmations; spillway wallet history shows the transaction.", err: err}
	} else if err != nil {
		return err
	}
	if err := b.look(ctx); err != nil {
		a.out.say("The chain could not be asked at the end: %v", err)
	}
	a.out.print("the provider never accepted this channel and its funding is not on the network:\n%d sat come back with %s, less its fee of %d sat",
		rec.Terms.Capacity, tx.Tx.TxHash(), tx.Fee)
	return a.out.result(map[string]any{"channel_id": id, "cancel_txid": tx.Tx.TxHash().String(), "fees_sat": tx.Fee, "refundable_sat": rec.Terms.Capacity})
}

// tellCancelled says what is to be done about a funding of another wallet.
func (a *app) tellCancelled(rec channel.PayerRecord) error {
	t := rec.Terms
	a.out.print("given up: nothing of it is sent from here. Throw transaction %s away in the wallet that made it, or spend one of its inputs elsewhere;\nshould it be sent all the same its %d sat come back with the refund from height %d on",
		t.Outpoint.Hash, t.Capacity, t.Expiry)
	return a.out.result(map[string]any{"channel_id": t.ID(), "phase": string(channel.Funding), "given_up": true, "refundable_sat": t.Capacity})
}
