package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"
)

// bumpCommand is `channels bump`: a child of the payer's rest hurries a close.
func (a *app) bumpCommand() *cobra.Command {
	var fee feeChoice
	cmd := &cobra.Command{
		Use: "bump ID", Short: "Hurry a close that is not mined", Args: cobra.ExactArgs(1),
		Long: `A close or a settlement that waits in the mempool at too low a fee is hurried by a
second transaction, which spends what it leaves to this wallet: miners take both
for the sake of the second one's fee. It is paid from that rest alone.`,
		RunE: func(cmd *cobra.Command, args []string) error { return a.channelBump(cmd.Context(), args[0], &fee) },
	}
	fee.flags(cmd)
	return cmd
}

func (a *app) channelBump(ctx context.Context, id string, fee *feeChoice) (err error) {
	if err := fee.check(); err != nil {
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
	child, err := b.payer.Bump(ctx, found.ID, rate)
	if err != nil {
		return err
	}
	a.out.print("%s spends this wallet's part of the close for a fee of %d sat: both pay %s together", child.Tx.TxHash(), child.Fee, rate)
	return a.out.result(map[string]any{"channel_id": found.ID, "child_txid": child.Tx.TxHash().String(), "fees_sat": child.Fee})
}
