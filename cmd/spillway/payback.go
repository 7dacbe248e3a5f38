package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"github.com/spillway/spillway/content"
	"github.com/spillway/spillway/internal/gateway"
	"github.com/spillway/spillway/paywall"
	"github.com/spillway/spillway/script"
)

func (a *app) paybackCommand() *cobra.Command {
	var amount, key string
	cmd := &cobra.Command{
		Use: "payback ID", Short: "As the provider, pay a duplex channel's payer back", Args: cobra.ExactArgs(1),
		Long: `Pays the payer of a duplex channel back for what was over-charged. The provider
that runs on this data folder does it: what is returned is saved first, and the
payer has it with its next request. What is less than a settlement costs lowers
what the payer owes, and comes back when the channel is closed.

--key names the pay-back: the same key again returns nothing more. Without it one
is drawn and printed.`,
		RunE: func(cmd *cobra.Command, args []string) error { return a.payback(cmd.Context(), args[0], amount, key) },
	}
	cmd.Flags().StringVar(&amount, "amount", "", "what is returned, such as 5sat")
	cmd.Flags().StringVar(&key, "key", "", "a name for this pay-back, such as an order's number")
	return cmd
}

// payback has the running provider pay back.
func (a *app) payback(ctx context.Context, id, amount, key string) error {
	if amount == "" {
		return usagef("--amount is needed, such as --amount 5sat")
	}
	msat, err := content.ParseAmountMsat(amount)
	if err != nil {
		return usage(fmt.Errorf("--amount: %w", err))
	}
	if msat == 0 {
		return usagef("--amount is more than nothing")
	}
	found, err := a.findAsProvider(ctx, id)
	if err != nil {
		return err
	}
	if key == "" {
		var raw [8]byte
		if _, err := rand.Read(raw[:]); err != nil {
			return err
		}
		key = hex.EncodeToString(raw[:])
		a.out.say("The key of this pay-back is %s. Should this command fail: give it again with --key %s, and nothing is paid back twice.", key, key)
	}
	var got gateway.Returned
	err = a.tellProvider(ctx, http.MethodPost, channelPath(found.ID, "payback"), gateway.Payback{Msat: msat, Key: key}, &got)
	if errors.Is(err, errNoProvider) {
		return &failure{exit: exitUsage, code: "no-provider", message: err.Error(), money: "Nothing was paid back.",
			next: "Start the provider with: spillway serve PATH, then pay back."}
	} else if err != nil {
		return err
	}
	a.out.print("paid back as %s; %s in all on channel %s", key, money(got.Back), found.ID)
	return a.out.result(map[string]any{"channel_id": found.ID, "key": key, "amount_msat": msat, "returned_msat": got.Back, "epoch": got.Epoch, "state_sat": got.State})
}

// findAsProvider picks a channel in which this folder's provider is paid.
func (a *app) findAsProvider(ctx context.Context, id string) (row, error) {
	rows, err := a.channelRows(ctx)
	if err != nil {
		return row{}, err
	}
	var found []row
	for _, r := range rows {
		if r.Role == "payee" && (r.ID == id || len(id) >= 6 && strings.HasPrefix(r.ID, id)) {
			found = append(found, r)
		}
	}
	switch {
	case len(found) == 0:
		return row{}, &failure{exit: exitUsage, code: "unknown-channel", message: "the provider of this data folder has no channel " + id,
			money: noMoney, next: "List the channels with: spillway channels list"}
	case len(found) > 1:
		return row{}, usagef("%q begins the ids of %d channels", id, len(found))
	case found[0].Construction != string(script.Duplex):
		return row{}, &failure{exit: exitUsage, code: "one-way", message: "money flows one way in a " + found[0].Construction + " channel", money: noMoney,
			next: "Only duplex channels can be paid back in: spillway get --channel duplex URL"}
	}
	return found[0], nil
}

// channelResume asks the provider where a channel stands. What it shows is verified
// and saved: in a duplex channel also what it pays back.
func (a *app) channelResume(ctx context.Context, id string) (err error) {
	found, err := a.find(ctx, id)
	if err != nil {
		return err
	}
	b, rec, unlock, err := a.holdChannel(ctx, found)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock(), b.Close()) }()
	got, err := b.client.Resume(ctx, found.ID, "", paywall.Expect{})
	if err != nil {
		return b.stays(ctx, rec, nil, err)
	}
	if rec, err = b.payer.Record(ctx, found.ID); err != nil {
		return err
	}
	r := payerRow(rec)
	a.out.print("channel %s: %s, %d sat are signed to the provider, %d sat are unpaid; it charged %d msat and paid back %d msat", r.ID, got.Phase, r.Paid, r.Refundable, got.ChargedMsat, r.Returned)
	return a.out.result(r)
}
