package main

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/spf13/cobra"

	"github.com/spillway/spillway/content"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/wallet"
)

// feeChoice is how a person says what a transaction may cost: a rate, or in how
// many blocks it should be mined.
type feeChoice struct {
	rate   string
	blocks int
}

func (f *feeChoice) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.rate, "fee-rate", "", "fee rate in sat/vB, such as 12 or 1.5 (default: the going rate)")
	cmd.Flags().IntVar(&f.blocks, "blocks", 3, "take the going rate of a transaction that is mined within so many blocks")
	cmd.MarkFlagsMutuallyExclusive("fee-rate", "blocks")
}

// choose is the rate that was asked for. Without a role, which has a chain to ask,
// errAskChain stands for the going rate.
func (f *feeChoice) choose(ctx context.Context, r *role) (script.FeeRate, error) {
	if f.rate != "" {
		return parseFeeRate(f.rate)
	}
	if f.blocks < 1 || f.blocks > 1008 {
		return 0, usagef("--blocks is 1 to 1008, not %d", f.blocks)
	}
	if r == nil {
		return 0, errAskChain
	}
	return r.chain.FeeRate(ctx, f.blocks)
}

// maxFeeRate is the most that a person may ask for, in sat/vB: a hundred times what was
// ever needed.
const maxFeeRate = 100_000

// parseFeeRate reads sat/vB with at most three decimals; no float is involved.
func parseFeeRate(text string) (script.FeeRate, error) {
	whole, part, dotted := strings.Cut(strings.TrimSuffix(text, "sat/vB"), ".")
	n, err := strconv.ParseUint(whole, 10, 31)
	if err != nil || dotted && (part == "" || len(part) > 3) {
		return 0, usagef("%q is no fee rate: sat/vB with at most three decimals, such as 12 or 1.5", text)
	}
	milli, err := strconv.ParseUint((part + "000")[:3], 10, 31)
	if err != nil || n == 0 && milli == 0 {
		return 0, usagef("%q is no fee rate: sat/vB with at most three decimals, such as 12 or 1.5", text)
	}
	if n > maxFeeRate {
		return 0, usagef("a fee rate of %s sat/vB is a mistake: at most %d", clipped(text), maxFeeRate)
	}
	return script.FeeRatePerVB(int64(n)) + script.FeeRate(milli), nil
}

func (a *app) walletSend(role func() string) *cobra.Command {
	var fee feeChoice
	cmd := &cobra.Command{
		Use: "send ADDRESS AMOUNT", Short: "Send coins, such as 50000sat, 0.1btc or all", Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			amount, err := parseSend(args[1])
			if err != nil {
				return err
			}
			params, err := a.params()
			if err != nil {
				return err
			}
			pk, err := wallet.ParseAddress(args[0], params)
			if err != nil {
				return err
			}
			if err := fee.check(); err != nil {
				return err
			}
			r, err := a.openRole(cmd.Context(), role())
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, r.Close()) }()
			rate, err := fee.choose(cmd.Context(), r)
			if err != nil {
				return err
			}
			sent, err := r.wallet.Send(cmd.Context(), pk, amount, rate)
			if err != nil {
				return err
			}
			sat := uint64(sent.Tx.TxOut[0].Value)
			a.out.print("sent %s for a fee of %d sat (%v): %s", money(sat*1000), sent.Fee, rate, sent.Tx.TxHash())
			return a.out.result(map[string]any{"txid": sent.Tx.TxHash().String(), "amount_sat": sat, "fee_sat": sent.Fee})
		},
	}
	fee.flags(cmd)
	return cmd
}

// parseSend reads an amount in whole satoshi, or all.
func parseSend(text string) (int64, error) {
	if text == "all" {
		return wallet.All, nil
	}
	msat, err := content.ParseAmountMsat(text)
	if err != nil {
		return 0, usage(err)
	}
	if msat%1000 != 0 || msat == 0 {
		return 0, usagef("an amount on the chain is whole satoshi, not %s", text)
	}
	return int64(msat / 1000), nil
}

func (a *app) walletBump(role func() string) *cobra.Command {
	var fee feeChoice
	cmd := &cobra.Command{
		Use: "bump TXID", Short: "Hurry an unconfirmed transaction of this wallet, such as a channel's funding",
		Long: `Hurries an unconfirmed transaction that this wallet built, such as the funding of
a channel: its change is spent back to the wallet at a fee that brings both to
the wanted rate. The transaction itself stays as it is, with the refund that
hangs on it.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			txid, err := chainhash.NewHashFromStr(args[0])
			if err != nil || len(args[0]) != 2*chainhash.HashSize {
				return usagef("%q is no transaction's id: 64 hex digits", clipped(args[0]))
			}
			if err := fee.check(); err != nil {
				return err
			}
			r, err := a.openRole(cmd.Context(), role())
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, r.Close()) }()
			rate, err := fee.choose(cmd.Context(), r)
			if err != nil {
				return err
			}
			child, err := r.wallet.RaiseFee(cmd.Context(), *txid, rate)
			if err != nil {
				return err
			}
			a.out.print("a child of %d vB pays %d sat more, both together %v: %s", script.VSize(child.Tx), child.Fee, rate, child.Tx.TxHash())
			return a.out.result(map[string]any{"txid": child.Tx.TxHash().String(), "parent_txid": txid.String(),
				"fee_sat": child.Fee, "vsize": script.VSize(child.Tx)})
		},
	}
	fee.flags(cmd)
	return cmd
}
