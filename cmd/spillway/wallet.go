package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/btcsuite/btcd/wire/v2"
	"github.com/spf13/cobra"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/content"
	"github.com/spillway/spillway/keys"
	"github.com/spillway/spillway/payee"
	"github.com/spillway/spillway/payer"
	"github.com/spillway/spillway/store/sqlite"
	"github.com/spillway/spillway/wallet"
)

func (a *app) walletCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "wallet",
		Short: "The wallet that funds channels: create, address, balance, send, history",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var provider bool
	cmd.PersistentFlags().BoolVar(&provider, "provider", false, "the provider's wallet, where its earnings arrive, instead of the payer's")
	role := func() string {
		if provider {
			return "payee"
		}
		return "payer"
	}
	cmd.AddCommand(
		&cobra.Command{Use: "create", Short: "Make a wallet and show its words once", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error { return a.walletCreate(cmd.Context(), role()) }},
		&cobra.Command{Use: "address", Short: "A fresh address to send coins to", Args: cobra.NoArgs,
			RunE: a.orRunning(&provider, a.runningAddress, a.withRole(role, a.walletAddress))},
		&cobra.Command{Use: "balance", Short: "What the wallet holds, and what is locked in channels", Args: cobra.NoArgs,
			RunE: a.orRunning(&provider, a.runningBalance, a.withRole(role, a.walletBalance))},
		&cobra.Command{Use: "history", Short: "What came in and went out", Args: cobra.NoArgs,
			RunE: a.withRole(role, a.walletHistory)},
		a.walletSend(role), a.walletRestore(role),
	)
	return cmd
}

// withRole opens a role's folder around a command.
func (a *app) withRole(role func() string, do func(context.Context, *role) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, _ []string) (err error) {
		r, err := a.openRole(cmd.Context(), role())
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, r.Close()) }()
		return do(cmd.Context(), r)
	}
}

// orRunning asks the provider that runs on this folder, where one does and the
// provider's wallet is meant; else the folder is opened.
func (a *app) orRunning(provider *bool, ask func(context.Context) error, open func(*cobra.Command, []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		if *provider {
			if err := ask(cmd.Context()); !errors.Is(err, errNoProvider) {
				return err
			}
		}
		return open(cmd, args)
	}
}

func (a *app) runningAddress(ctx context.Context) error {
	var addr string
	if err := a.askProvider(ctx, http.MethodPost, "/wallet/address", &addr); err != nil {
		return err
	}
	return a.printAddress(addr)
}

func (a *app) runningBalance(ctx context.Context) error {
	var h holdings
	if err := a.askProvider(ctx, http.MethodGet, "/wallet/balance", &h); err != nil {
		return err
	}
	return a.printBalance("payee", h)
}

func (a *app) walletCreate(ctx context.Context, name string) error {
	a.guardMemory()
	words, err := keys.NewMnemonic(rand.Reader)
	if err != nil {
		return err
	}
	if err := a.putSeed(ctx, name, words); err != nil {
		return err
	}
	a.out.say("A new wallet for %s. These words are the money: write them down, in this order.\nThey are shown this once; whoever has them can spend everything.", a.flags.network)
	a.out.print("%s", words)
	return a.out.result(map[string]any{"network": a.flags.network, "role": name, "words": words})
}

func (a *app) walletRestore(role func() string) *cobra.Command {
	return &cobra.Command{
		Use: "restore", Short: "Make a wallet from its words, read from standard input", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			raw, err := io.ReadAll(io.LimitReader(a.stdin, 4096))
			if err != nil {
				return err
			}
			return a.restore(cmd.Context(), role(), raw)
		},
	}
}

// restore makes a wallet from its words and looks for its coins.
func (a *app) restore(ctx context.Context, name string, text []byte) (err error) {
	a.guardMemory()
	words := strings.Join(strings.Fields(string(text)), " ")
	params, err := a.params()
	if err != nil {
		return err
	}
	if _, err := keys.FromMnemonic(words, params); err != nil {
		return err
	}
	if err := a.putSeed(ctx, name, words); err != nil {
		return err
	}
	r, err := a.openRole(ctx, name)
	if errors.Is(err, wallet.ErrOtherSeed) { // the words of another wallet than this folder's
		return errors.Join(err, dropSeed(a.folder(name)))
	} else if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if err := r.skipKeys(ctx); err != nil {
		return err
	}
	if err := r.wallet.Rescan(ctx); err != nil {
		return err
	}
	return a.walletBalance(ctx, r)
}

// putSeed writes a seed into a role's folder that has none.
func (a *app) putSeed(ctx context.Context, name, words string) (err error) {
	dir := a.folder(name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return localError(err)
	}
	s, err := sqlite.Open(ctx, filepath.Join(dir, "spillway.db"), sqlite.Options{Shared: name == "payer"})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if _, err := a.readSeed(dir); err == nil || !errors.Is(err, keys.ErrNoSeed) {
		if err != nil {
			return err
		}
		return &failure{exit: exitLocal, code: "wallet-exists", message: "there is a wallet in " + dir + " already",
			money: "It was not touched.", next: "Use it, or name another folder with --data."}
	}
	return a.writeSeed(dir, words)
}

func (a *app) walletAddress(ctx context.Context, r *role) error {
	addr, _, err := r.wallet.Address(ctx)
	if err != nil {
		return err
	}
	return a.printAddress(addr)
}

func (a *app) printAddress(addr string) error {
	a.out.print("%s", addr)
	return a.out.result(map[string]any{"address": addr, "network": a.flags.network})
}

// holdings are a wallet's coins, and what its owner has in channels, in sat.
type holdings struct {
	wallet.Balance
	Locked     uint64 // payer: in channels that are not over
	Refundable uint64 // payer: what of it is not paid
	Unsettled  uint64 // provider: paid in channels, and not on the chain yet
	Channels   uint64 // channels that these amounts are in
}

func (a *app) walletBalance(ctx context.Context, r *role) error {
	h, err := r.holdings(ctx)
	if err != nil {
		return err
	}
	return a.printBalance(r.name, h)
}

// holdings looks up what a role has. What spends a channel, be it unconfirmed,
// counts in the wallet and not in the channel.
func (r *role) holdings(ctx context.Context) (h holdings, err error) {
	if h.Balance, err = r.wallet.Balance(ctx); err != nil {
		return h, err
	}
	if r.name == "payee" {
		records, err := payee.List(ctx, r.store)
		if err != nil {
			return h, err
		}
		for _, c := range records {
			if c.Paid > 0 && !c.Phase.Final() {
				if err := r.hold(ctx, &h, c.Terms.Outpoint, func() { h.Unsettled += c.Paid }); err != nil {
					return h, err
				}
			}
		}
		return h, nil
	}
	records, err := payer.List(ctx, r.store)
	if err != nil {
		return h, err
	}
	for _, c := range records {
		if !c.Phase.Final() && c.FundingSent { // before that the coins are the wallet's
			err := r.hold(ctx, &h, c.Terms.Outpoint, func() { h.Locked, h.Refundable = h.Locked+c.Terms.Capacity, h.Refundable+c.Refundable() })
			if err != nil {
				return h, err
			}
		}
	}
	return h, nil
}

// hold counts a channel that nothing spends.
func (r *role) hold(ctx context.Context, h *holdings, at channel.Outpoint, add func()) error {
	spend, err := r.chain.Spend(ctx, wire.OutPoint(at))
	if err != nil || spend != nil {
		return err
	}
	h.Channels++
	add()
	return nil
}

// printBalance prints what is held, and what is locked or paid in channels.
func (a *app) printBalance(role string, h holdings) error {
	a.out.print("confirmed    %s\npending      %s\nspendable    %s",
		money(uint64(h.Confirmed)*1000), money(uint64(h.Unconfirmed)*1000), money(uint64(h.Spendable)*1000))
	if role == "payee" {
		where := ""
		if h.Unsettled > 0 {
			where = fmt.Sprintf(" (paid in %s, before the settlement's fee; it comes with the close or before the expiry)", count(h.Channels, "open channel"))
		}
		a.out.print("unsettled    %s%s", money(h.Unsettled*1000), where)
	} else {
		a.out.print("in channels  %s (unpaid: %s)", money(h.Locked*1000), money(h.Refundable*1000))
	}
	return a.out.result(map[string]any{
		"role": role, "confirmed_sat": h.Confirmed, "pending_sat": h.Unconfirmed, "spendable_sat": h.Spendable,
		"reserved_sat": h.Reserved, "locked_sat": h.Locked, "refundable_sat": h.Refundable, "unsettled_sat": h.Unsettled,
	})
}

func (a *app) walletHistory(ctx context.Context, r *role) error {
	all, err := r.wallet.History(ctx)
	if err != nil {
		return err
	}
	rows := make([]map[string]any, 0, len(all))
	for _, e := range all {
		where := "unconfirmed"
		if e.Confirmed {
			where = fmt.Sprintf("height %d", e.Height)
		}
		a.out.print("%s  %+15d sat  %s", e.Txid, e.Net, where)
		rows = append(rows, map[string]any{"txid": e.Txid.String(), "net_sat": e.Net, "fee_sat": e.Fee, "confirmed": e.Confirmed, "height": e.Height})
	}
	return a.out.result(map[string]any{"transactions": rows})
}

func (a *app) walletSend(role func() string) *cobra.Command {
	return &cobra.Command{
		Use: "send ADDRESS AMOUNT", Short: "Send coins, such as 50000sat or 0.1btc", Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			msat, err := content.ParseAmountMsat(args[1])
			if err != nil {
				return usage(err)
			}
			if msat%1000 != 0 || msat == 0 {
				return usagef("an amount on the chain is whole satoshi, not %s", args[1])
			}
			r, err := a.openRole(cmd.Context(), role())
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, r.Close()) }()
			pk, err := r.wallet.ParseAddress(args[0])
			if err != nil {
				return usage(err)
			}
			rate, err := r.chain.FeeRate(cmd.Context(), 3)
			if err != nil {
				return err
			}
			sent, err := r.wallet.Send(cmd.Context(), pk, int64(msat/1000), rate)
			if err != nil {
				return err
			}
			a.out.print("sent %s for a fee of %d sat: %s", money(msat), sent.Fee, sent.Tx.TxHash())
			return a.out.result(map[string]any{"txid": sent.Tx.TxHash().String(), "amount_sat": msat / 1000, "fee_sat": sent.Fee})
		},
	}
}
