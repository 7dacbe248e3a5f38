package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/btcsuite/btcd/wire/v2"
	"github.com/spf13/cobra"

	"github.com/spillway/spillway/channel"
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
		a.walletAddressCommand(role, &provider),
		&cobra.Command{Use: "balance", Short: "What the wallet holds, and what is locked in channels", Args: cobra.NoArgs,
			RunE: a.orRunning(&provider, a.runningBalance, a.withRole(role, a.walletBalance))},
		&cobra.Command{Use: "history", Short: "What came in and went out", Args: cobra.NoArgs,
			RunE: a.withRole(role, a.walletHistory)},
		a.walletSend(role), a.walletBump(role), a.walletRestore(role),
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

func (a *app) runningAddress(ctx context.Context, print func(addr string) error) error {
	var got struct {
		Address string `json:"address"`
	}
	if err := a.askProvider(ctx, http.MethodPost, "/v1/wallet/address", &got); err != nil {
		return err
	}
	return print(got.Address)
}

func (a *app) runningBalance(ctx context.Context) error {
	var b balance
	if err := a.askProvider(ctx, http.MethodGet, "/v1/wallet/balance", &b); err != nil {
		return err
	}
	return a.printBalance("payee", holdings{Unsettled: b.Unsettled, Channels: b.Channels,
		Balance: wallet.Balance{Confirmed: b.Confirmed, Unconfirmed: b.Unconfirmed, Reserved: b.Reserved, Spendable: b.Spendable}})
}

func (a *app) walletCreate(ctx context.Context, name string) error {
	a.guardMemory()
	if err := a.checkSealing(); err != nil {
		return err
	}
	words, err := keys.NewMnemonic(rand.Reader)
	if err != nil {
		return err
	}
	if err := a.noSeed(a.folder(name)); err != nil {
		return err
	}
	a.out.say("A new wallet for %s. These words are the money: write them down, in this order.\nThey are shown this once; whoever has them can spend everything.", a.flags.network)
	a.out.print("%s", words)
	if err := a.askWords(words); err != nil {
		return err
	}
	if err := a.putSeed(ctx, name, words, nil); err != nil {
		return err
	}
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
	if err := a.checkSealing(); err != nil {
		return err
	}
	// keys are skipped before the seed is there: whatever fails after, no key serves twice
	if err := a.putSeed(ctx, name, words, skipKeys); err != nil {
		return err
	}
	r, err := a.openRole(ctx, name)
	if errors.Is(err, wallet.ErrOtherSeed) { // the words of another wallet than this folder's
		return errors.Join(err, dropSeed(a.folder(name)))
	} else if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if err := r.wallet.Rescan(ctx); err != nil {
		return err
	}
	return a.walletBalance(ctx, r)
}

// putSeed writes a seed into a role's folder that has none; first, where it is not nil,
// is done to a payer's store before.
func (a *app) putSeed(ctx context.Context, name, words string, first func(context.Context, payer.Store) error) (err error) {
	dir := a.folder(name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return localError(err)
	}
	s, err := sqlite.Open(ctx, filepath.Join(dir, "spillway.db"), sqlite.Options{Shared: name == "payer"})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if err := a.noSeed(dir); err != nil {
		return err
	}
	if first != nil && name == "payer" {
		if err := first(ctx, s); err != nil {
			return err
		}
	}
	return a.writeSeed(dir, words)
}

// noSeed refuses a folder that has a seed.
func (a *app) noSeed(dir string) error {
	_, err := a.readSeed(dir)
	if errors.Is(err, keys.ErrNoSeed) {
		return nil
	}
	if err != nil {
		return err
	}
	return &failure{exit: exitLocal, code: "wallet-exists", message: "there is a wallet in " + dir + " already",
		money: "It was not touched.", next: "Use it, or name another folder with --data."}
}

// addressFlags is how an address is shown.
type addressFlags struct {
	qr     bool
	amount string
}

func (a *app) walletAddressCommand(name func() string, provider *bool) *cobra.Command {
	var f addressFlags
	cmd := &cobra.Command{Use: "address", Short: "A fresh address to send coins to, with a QR code on a terminal", Args: cobra.NoArgs}
	cmd.Flags().BoolVar(&f.qr, "qr", false, "draw the QR code also where the output is no terminal")
	cmd.Flags().StringVar(&f.amount, "amount", "", "put the amount that is wished for, such as 100000sat, into the QR code (BIP21)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var sat int64
		if f.amount != "" {
			var err error
			if sat, err = parseSend(f.amount); err != nil || sat < 0 {
				return errors.Join(usagef("--amount %s: an amount of whole satoshi is wanted", f.amount), err)
			}
		}
		print := func(addr string) error { return a.printAddress(addr, sat, f.qr) }
		return a.orRunning(provider, func(ctx context.Context) error { return a.runningAddress(ctx, print) },
			a.withRole(name, func(ctx context.Context, r *role) error { return a.walletAddress(ctx, r, print) }))(cmd, args)
	}
	return cmd
}

func (a *app) walletAddress(ctx context.Context, r *role, print func(addr string) error) error {
	addr, _, err := r.wallet.Address(ctx)
	if err != nil {
		return err
	}
	return print(addr)
}

// printAddress prints an address, and for phones its URI (BIP21) with the amount in
// sat that is wished for, if any.
func (a *app) printAddress(addr string, sat int64, qr bool) error {
	uri := "bitcoin:" + addr
	if sat > 0 {
		uri += fmt.Sprintf("?amount=%d.%08d", sat/1e8, sat%1e8)
	}
	a.out.print("%s", addr)
	if err := a.showQR(uri, qr); err != nil {
		return err
	}
	return a.out.result(map[string]any{"address": addr, "network": a.flags.network, "uri": uri})
}

// holdings are a wallet's coins, and what its owner has in channels, in sat.
type holdings struct {
	wallet.Balance
	Locked     uint64      // payer: in channels that are not over
	Refundable uint64      // payer: what of it is not paid
	Unsettled  uint64      // provider: paid in channels, and not on the chain yet
	Channels   uint64      // channels that these amounts are in
	Returns    []returning `json:",omitempty"` // payer: what comes back without anybody's help, and when
}

// returning is the unpaid rest of a channel: its refund is valid from a height on.
type returning struct {
	Channel string `json:"channel_id"`
	Sat     uint64 `json:"refundable_sat"`
	Height  uint32 `json:"expiry_height"`
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
			err := r.hold(ctx, &h, c.Terms.Outpoint, func() {
				h.Locked, h.Refundable = h.Locked+c.Terms.Capacity, h.Refundable+c.Refundable()
				h.Returns = append(h.Returns, returning{Channel: c.Terms.ID(), Sat: c.Refundable(), Height: c.Terms.Expiry})
			})
			if err != nil {
				return h, err
			}
		}
	}
	slices.SortFunc(h.Returns, func(a, b returning) int { return cmp.Compare(a.Height, b.Height) })
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
		for _, r := range h.Returns {
			a.out.print("  refundable %s from height %d on, at once by: spillway channels close %s", money(r.Sat*1000), r.Height, r.Channel)
		}
	}
	return a.out.result(map[string]any{
		"role": role, "confirmed_sat": h.Confirmed, "pending_sat": h.Unconfirmed, "spendable_sat": h.Spendable,
		"reserved_sat": h.Reserved, "locked_sat": h.Locked, "refundable_sat": h.Refundable, "unsettled_sat": h.Unsettled, "refundable": h.Returns,
	})
}

func (a *app) walletHistory(ctx context.Context, r *role) error {
	all, err := r.wallet.History(ctx)
	if err != nil {
		return err
	}
	known, err := r.purposes(ctx)
	if err != nil {
		return err
	}
	rows := make([]map[string]any, 0, len(all))
	for _, e := range all {
		where := "unconfirmed"
		if e.Confirmed {
			where = fmt.Sprintf("height %d", e.Height)
		}
		what := known[e.Txid.String()]
		a.out.print("%s  %+15d sat  %s", e.Txid, e.Net, strings.TrimSpace(where+"  "+what.text()))
		rows = append(rows, map[string]any{"txid": e.Txid.String(), "net_sat": e.Net, "fee_sat": e.Fee, "confirmed": e.Confirmed, "height": e.Height,
			"role": what.role, "channel_id": what.channel})
	}
	return a.out.result(map[string]any{"transactions": rows})
}

// purpose is what a transaction was to a channel.
type purpose struct{ role, channel string }

func (p purpose) text() string {
	if p.role == "" {
		return ""
	}
	return p.role + " of channel " + p.channel
}

// purposes are the transactions of this folder's channels, by their ids.
func (r *role) purposes(ctx context.Context) (map[string]purpose, error) {
	known := map[string]purpose{}
	add := func(id, funding, end string) {
		known[funding] = purpose{"funding", id}
		if end != "" {
			known[end] = purpose{"end", id}
		}
	}
	if r.name == "payee" {
		records, err := payee.List(ctx, r.store)
		for _, c := range records {
			add(c.Terms.ID(), c.Terms.Outpoint.Hash.String(), c.SpentBy)
		}
		return known, err
	}
	records, err := payer.List(ctx, r.store)
	for _, c := range records {
		add(c.Terms.ID(), c.Terms.Outpoint.Hash.String(), c.SpentBy)
	}
	return known, err
}
