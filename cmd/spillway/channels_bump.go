package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/content"
)

// bumpCommand is `channels bump`: a child of the payer's rest hurries a close.
func (a *app) bumpCommand() *cobra.Command {
	var fee feeChoice
	var most string
	cmd := &cobra.Command{
		Use: "bump ID", Short: "Hurry a close that is not mined", Args: cobra.ExactArgs(1),
		Long: `A close or a settlement that waits in the mempool at too low a fee is hurried by a
second transaction, which spends what it leaves to this wallet: miners take both
for the sake of the second one's fee. It is paid from that rest alone. Where many
channels are settled together it pays for all of them: see --max-fee.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.channelBump(cmd.Context(), args[0], &fee, most)
		},
	}
	fee.flags(cmd)
	cmd.Flags().StringVar(&most, "max-fee", "", "pay at most so much for the second transaction, such as 5000sat (default: what the rest holds)")
	return cmd
}

func (a *app) channelBump(ctx context.Context, id string, fee *feeChoice, most string) (err error) {
	if err := fee.check(); err != nil {
		return err
	}
	limit, err := parseMaxFee(most)
	if err != nil {
		return err
	}
	found, err := a.find(ctx, id)
	if err != nil {
		return err
	}
	b, _, unlock, err := a.holdChannel(ctx, found)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock(), b.Close()) }()
	rate, err := fee.choose(ctx, b.role)
	if err != nil {
		return err
	}
	child, err := b.payer.Bump(ctx, found.ID, rate, limit)
	if err != nil {
		return err
	}
	a.out.print("%s spends this wallet's part of the close for a fee of %d sat: both pay %s together", child.Tx.TxHash(), child.Fee, rate)
	return a.out.result(map[string]any{"channel_id": found.ID, "child_txid": child.Tx.TxHash().String(), "fees_sat": child.Fee})
}

// parseMaxFee reads --max-fee, in sat; 0: none was given. Errors: of usage.
func parseMaxFee(text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	msat, err := content.ParseAmountMsat(text)
	if err != nil {
		return 0, usage(fmt.Errorf("--max-fee: %w", err))
	}
	if msat == 0 || msat%1000 != 0 || msat/1000 > channel.MaxSat {
		return 0, usagef("--max-fee is whole satoshi and more than none, not %s", clipped(text))
	}
	return int64(msat / 1000), nil
}
