package main

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"
	"github.com/spf13/cobra"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/internal/gateway"
	"github.com/spillway/spillway/payee"
	"github.com/spillway/spillway/payer"
	"github.com/spillway/spillway/paywall"
	"github.com/spillway/spillway/watch"
)

func (a *app) channelsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "channels", Short: "List, show, close, hurry and refund channels", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.channelsList(cmd.Context()) },
	}
	one := func(use, short string, do func(context.Context, string) error) *cobra.Command {
		return &cobra.Command{Use: use + " ID", Short: short, Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error { return do(cmd.Context(), args[0]) }}
	}
	cmd.AddCommand(
		&cobra.Command{Use: "list", Short: "All channels of this data folder", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error { return a.channelsList(cmd.Context()) }},
		one("show", "One channel, with what its state means", a.channelShow),
		a.closeCommand(),
		one("refund", "Take back what was not paid, once the expiry has come", a.channelRefund),
		one("resume", "Ask the provider where a channel stands, and take what it pays back", a.channelResume),
		a.paybackCommand(), a.bumpCommand(), a.exportCommand(), a.importCommand(),
	)
	return cmd
}

// row is a channel as list and show print it.
type row struct {
	ID            string `json:"id"`
	Role          string `json:"role"`
	Peer          string `json:"peer"`
	Construction  string `json:"construction"`
	Network       string `json:"network"`
	Phase         string `json:"phase"`
	Capacity      uint64 `json:"capacity_sat"`
	Paid          uint64 `json:"paid_sat"`
	Charged       uint64 `json:"charged_msat"`
	Refundable    uint64 `json:"refundable_sat"`
	Expiry        uint32 `json:"expiry_height"`
	Funding       string `json:"funding_txid"`
	Closing       string `json:"closing_txid"`
	Confirmations uint32 `json:"confirmations"`
	// Settled is what the transaction that ended the channel left to the provider before
	// its fee, where that is buried and known.
	Settled  *uint64 `json:"settled_sat,omitempty"`
	Returned uint64  `json:"returned_msat,omitempty"` // duplex: what the payee paid back in all
	Epoch    uint32  `json:"epoch,omitempty"`         // duplex: of the newest state
	Until    uint32  `json:"until_height,omitempty"`  // payee of a duplex channel: from here on an older state competes, before the expiry
	Imported bool    `json:"imported,omitempty"`      // payer: read back from an export, only refunded
	Restored bool    `json:"restored,omitempty"`      // payee: from before a restore, only settled
	Unsigned bool    `json:"unsigned,omitempty"`      // payer: its funding is another wallet's, not signed here
	Stopped  string  `json:"stopped,omitempty"`       // why: an invariant was violated
	Sentence string  `json:"sentence,omitempty"`      // admin API: what the state means
	Owed     uint64  `json:"owed_msat,omitempty"`     // admin API: charged and not paid
}

func payerRow(r channel.PayerRecord) row {
	return twoWay(row{
		ID: r.Terms.ID(), Role: "payer", Peer: paywall.Origin(r.Origin), Construction: string(r.Terms.Construction), Network: r.Terms.Network,
		Phase: string(r.Phase), Capacity: r.Terms.Capacity, Paid: r.Signed, Charged: r.Owed, Refundable: r.Refundable(),
		Expiry: r.Terms.Expiry, Funding: r.Terms.Outpoint.Hash.String(), Closing: r.SpentBy,
		Imported: r.Imported, Unsigned: r.Unsigned && !r.FundingSent, Stopped: stoppedFor(r.Stopped, r.Sound()),
	}.ended(r.Got), r.Duplex)
}

// twoWay adds what a duplex channel has beside the others.
func twoWay(r row, d *channel.Duplex) row {
	if d != nil {
		r.Returned, r.Epoch = d.Back, max(d.Sent.Epoch, d.Held.Epoch)
	}
	return r
}

// payerRowNow is a payer's channel as the chain stands: where it is over, the next
// command that opens the wallet will save that.
func (a *app) payerRowNow(ctx context.Context, c watch.Chain, r channel.PayerRecord) (row, error) {
	ch, err := r.Terms.Script()
	if err != nil {
		return row{}, err
	}
	v, _, err := watch.Look(ctx, c, wire.OutPoint(r.Terms.Outpoint), r.FundingTx)
	if err != nil {
		return row{}, err
	}
	if next, _ := r.Due(ch, v, a.policy()); next.Phase.Final() || next.Phase == channel.Open || next.SpentBy != "" {
		return payerRow(next), nil
	}
	return payerRow(r), nil
}

func payeeRow(r channel.PayeeRecord) row {
	until := r.Until()
	if until == r.Terms.Expiry {
		until = 0
	}
	return twoWay(row{
		ID: r.Terms.ID(), Role: "payee", Peer: r.Terms.PayerKey.String(), Construction: string(r.Terms.Construction), Network: r.Terms.Network,
		Phase: string(r.Phase), Capacity: r.Terms.Capacity, Paid: r.Paid, Charged: r.Charged, Refundable: r.Terms.Capacity - r.Paid,
		Expiry: r.Terms.Expiry, Funding: r.Terms.Outpoint.Hash.String(), Closing: r.SpentBy,
		Restored: r.Restored, Stopped: stoppedFor(r.Stopped, r.Sound()), Until: until,
	}.ended(r.Got), r.Duplex)
}

// before is the height by which what is paid has to be in a block.
func (r row) before() uint32 {
	if r.Until > 0 {
		return r.Until
	}
	return r.Expiry
}

// channelRows are the channels of both roles in this data folder.
func (a *app) channelRows(ctx context.Context) ([]row, error) {
	var rows []row
	records := map[string]channel.PayerRecord{}
	for _, name := range []string{"payer", "payee"} {
		if !a.exists(name) {
			continue
		}
		err := a.withStore(ctx, name, func(r *role) error {
			all, err := payer.List(ctx, r.store)
			for _, rec := range all {
				rows = append(rows, payerRow(rec))
				records[rec.Terms.ID()] = rec
			}
			return err
		}, func(all []row) { rows = append(rows, all...) })
		if err != nil {
			return nil, err
		}
	}
	return rows, a.depths(ctx, rows, records)
}

// withStore reads the payer's store, or the provider's channels: from the
// provider that runs, else from its folder.
func (a *app) withStore(ctx context.Context, name string, asPayer func(*role) error, asPayee func([]row)) (err error) {
	if name == "payee" {
		all, err := a.listChannels(ctx)
		if err == nil {
			for i := range all {
				all[i].Sentence, all[i].Owed = "", 0
			}
			asPayee(all)
			return nil
		} else if !errors.Is(err, errNoProvider) {
			return err
		}
	}
	r, err := a.openFolder(ctx, name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if name == "payer" {
		return asPayer(r)
	}
	all, err := payee.List(ctx, r.store)
	if err != nil {
		return err
	}
	rows := make([]row, len(all))
	for i, rec := range all {
		rows[i] = payeeRow(rec)
	}
	asPayee(rows)
	return nil
}

// depths adds how deep each funding is, where the chain can be asked, and what a
// payer's channel has become since a command last looked.
func (a *app) depths(ctx context.Context, rows []row, records map[string]channel.PayerRecord) (err error) {
	live := false
	for _, r := range rows {
		live = live || !channel.Phase(r.Phase).Final()
	}
	if !live {
		return nil
	}
	c, err := a.connect(ctx)
	if err != nil {
		a.out.say("confirmations are not known: %v", err)
		return nil
	}
	defer func() { err = errors.Join(err, closeChain(c)) }()
	tip, err := c.Tip(ctx)
	if err != nil {
		a.out.say("confirmations are not known: %v", err)
		return nil
	}
	for i := range rows {
		if rec, ok := records[rows[i].ID]; ok && rows[i].Role == "payer" && !rec.Phase.Final() {
			if rows[i], err = a.payerRowNow(ctx, c, rec); err != nil {
				return err
			}
		}
		id, err := chainhash.NewHashFromStr(rows[i].Funding)
		if err != nil {
			return err
		}
		info, err := c.Tx(ctx, *id)
		if errors.Is(err, chain.ErrNotFound) {
			continue
		} else if err != nil {
			return err
		}
		if info.Confirmed && info.Height <= tip.Height {
			rows[i].Confirmations = tip.Height - info.Height + 1
		}
	}
	return nil
}

func (a *app) channelsList(ctx context.Context) error {
	rows, err := a.channelRows(ctx)
	if err != nil {
		return err
	}
	if len(rows) == 0 {
		a.out.say("There are no channels in %s on %s.", a.flags.data, a.flags.network)
	}
	for _, r := range rows {
		a.out.print("%s  %-5s  %-10s  paid %s of %s  %s", r.ID, r.Role, r.Phase,
			money(r.Paid*1000), money(r.Capacity*1000), r.Peer)
		a.out.print("    %s", r.sentence())
		if r.Returned > 0 {
			a.out.print("    %s of what was charged were paid back", money(r.Returned))
		}
	}
	if rows == nil {
		rows = []row{}
	}
	result := map[string]any{"channels": rows}
	if alarms := a.tellChain(ctx); len(alarms) > 0 {
		result["chain_alarms"] = alarms
	}
	return a.out.result(result)
}

// find picks one channel by its id or the beginning of it.
func (a *app) find(ctx context.Context, id string) (row, error) {
	rows, err := a.channelRows(ctx)
	if err != nil {
		return row{}, err
	}
	var found []row
	for _, r := range rows {
		if r.ID == id || len(id) >= 6 && strings.HasPrefix(r.ID, id) {
			found = append(found, r)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return row{}, &failure{exit: exitUsage, code: "unknown-channel", message: "no channel " + id + " in this data folder",
			money: noMoney, next: "List the channels with: spillway channels list"}
	}
	if found[0].ID == found[1].ID { // both ends are on this machine: the payer's is meant
		return found[0], nil
	}
	return row{}, usagef("%q begins the ids of %d channels", id, len(found))
}

func (a *app) channelShow(ctx context.Context, id string) error {
	r, err := a.find(ctx, id)
	if err != nil {
		return err
	}
	a.out.print("channel       %s\nrole          %s\npeer          %s\nconstruction  %s on %s\nphase         %s\ncapacity      %d sat\npaid          %d sat\ncharged       %d msat\nunpaid        %d sat\nexpiry        height %d\nfunding       %s (%d confirmations)\nclosing       %s\n\n%s",
		r.ID, r.Role, r.Peer, r.Construction, r.Network, r.Phase, r.Capacity, r.Paid, r.Charged, r.Refundable, r.Expiry, r.Funding, r.Confirmations, orNone(r.Closing), r.sentence())
	return a.out.result(r)
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

func (a *app) settleAsProvider(ctx context.Context, id string) error {
	var b gateway.Settled
	err := a.askProvider(ctx, http.MethodPost, channelPath(id, "settle"), &b)
	if errors.Is(err, errNoProvider) {
		return &failure{exit: exitUsage, code: "no-provider", message: err.Error(), money: "The channel stays as it is.",
			next: "Start the provider with: spillway serve PATH, then close the channel; it also settles by itself before the expiry."}
	} else if err != nil {
		return err
	}
	a.out.print("settled by %s: %d sat less a fee of %d sat", b.Txid, b.Amount, b.Fee)
	return a.out.result(map[string]any{"channel_id": id, "closing_txid": b.Txid, "paid_sat": b.Amount, "fees_sat": b.Fee})
}
