package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/download"
	"github.com/spillway/spillway/paywall"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/wallet"
	"github.com/spillway/spillway/wallet/psbt"
)

// openFlags are the flags of open.
type openFlags struct {
	psbt, qr, yes, noExport                         bool
	capacity, channel, refundTo, exports, fundsFrom string
	fee                                             feeChoice
	feeTyped                                        bool
}

func (a *app) openCommand() *cobra.Command {
	var f openFlags
	cmd := &cobra.Command{
		Use:   "open URL [FILE|-]",
		Short: "Open a channel with a provider ahead of any purchase, from any wallet",
		Long: `Opens a channel with the provider of a URL, without buying anything: the next get
from there uses it. It is funded by the built-in wallet, by the wallet of your own
node (--wallet bitcoind), or by any other wallet, a hardware wallet too (--psbt):

  1. spillway open URL --psbt                   says which address is to be paid, and how much
  2. make that payment in your wallet, do not sign it, and save the PSBT
  3. spillway open URL --psbt unsigned.psbt     checks it, and holds the refund
  4. sign it in your wallet, do not send it, and save the PSBT
  5. spillway open URL --psbt signed.psbt       completes it, opens the channel and sends it

A file of - is the standard input. Each step can be repeated, and goes on from where
the one before was interrupted; nothing is sent before the refund is held. Once the
channel is open never replace the transaction in your wallet ("bump fee"): its id
would be another, and the channel void. Spend its change instead.`,
		Example: `  spillway open https://HOST/FILE --psbt --capacity 100000sat
  bitcoin-cli walletcreatefundedpsbt '[]' '[{"ADDRESS":0.001}]' | jq -r .psbt > unsigned.psbt
  spillway open https://HOST/FILE --psbt unsigned.psbt
  bitcoin-cli walletprocesspsbt "$(cat unsigned.psbt)" | jq -r .psbt | spillway open https://HOST/FILE --psbt -`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			f.feeTyped = cmd.Flags().Changed("fee-rate") || cmd.Flags().Changed("blocks")
			return a.open(cmd.Context(), f, args)
		},
	}
	fl := cmd.Flags()
	fl.BoolVar(&f.psbt, "psbt", false, "another wallet pays: partially signed transactions (BIP174) go back and forth")
	fl.BoolVar(&f.qr, "qr", false, "draw what the other wallet needs as QR codes: the payment (BIP21), then the PSBT (BBQr where one code is too small)")
	fl.StringVar(&f.capacity, "capacity", "", "what is to be locked, such as 100000sat (default: what buying the file at URL takes)")
	fl.StringVar(&f.channel, "channel", "", "taproot, multisig, multisig-p2sh or duplex (default: taproot)")
	fl.StringVar(&f.refundTo, "refund-to", "", "address that what is unpaid goes back to, bc1… (default: the wallet that funds; with --psbt the built-in one)")
	fl.StringVar(&f.exports, "exports", "", "folder that the channel's export is kept in (default: in the data folder)")
	fl.BoolVar(&f.noExport, "no-export", false, "keep no export: without the data folder what is unpaid would be lost")
	fl.BoolVar(&f.yes, "yes", false, "do not ask")
	walletFlag(fl, &f.fundsFrom)
	f.fee.flags(cmd)
	return cmd
}

// check reads the flags, before anything is opened.
func (f *openFlags) check(a *app, args []string) (capacity uint64, kind script.Construction, back []byte, err error) {
	if err := checkURL(args[0]); err != nil {
		return 0, "", nil, err
	}
	if isFolder(args[0]) && f.capacity == "" {
		return 0, "", nil, usagef("%s is a folder: name one of its files, or a --capacity too", clipped(args[0]))
	}
	if len(args) > 1 && !f.psbt {
		return 0, "", nil, usagef("a file goes with --psbt")
	}
	if f.psbt && (f.fundsFrom != "" || f.feeTyped) {
		return 0, "", nil, usagef("with --psbt the other wallet has the coins and chooses the fee: --wallet, --fee-rate and --blocks do not go with it")
	}
	if f.qr && !f.psbt {
		return 0, "", nil, usagef("--qr goes with --psbt")
	}
	if _, err := (getFlags{exports: f.exports, noExport: f.noExport, parallel: 1, prepay: "0sat"}).limits(); err != nil {
		return 0, "", nil, err
	}
	if f.capacity != "" {
		if capacity, err = sat("capacity", f.capacity); err != nil {
			return 0, "", nil, err
		}
		if capacity == 0 {
			return 0, "", nil, usagef("--capacity is more than nothing")
		}
	}
	if kind, err = construction(f.channel); err != nil {
		return 0, "", nil, err
	}
	if err := f.fee.check(); err != nil {
		return 0, "", nil, err
	}
	if _, err := a.nodeWalletName(f.fundsFrom); err != nil {
		return 0, "", nil, err
	}
	if f.refundTo == "" {
		return capacity, kind, nil, nil
	}
	params, err := a.params()
	if err != nil {
		return 0, "", nil, err
	}
	if back, err = wallet.ParseAddress(f.refundTo, params); err != nil {
		return 0, "", nil, err
	}
	if err := script.CheckRestScript(back); err != nil {
		return 0, "", nil, usagef("--refund-to is a native segwit address (P2WPKH, P2WSH or P2TR), not %s", f.refundTo)
	}
	return capacity, kind, back, nil
}

func (a *app) open(ctx context.Context, f openFlags, args []string) (err error) {
	capacity, kind, back, err := f.check(a, args)
	if err != nil {
		return err
	}
	var p *psbt.Packet // read before anything is opened
	if len(args) > 1 {
		if p, err = a.readPSBT(args[1]); err != nil {
			return err
		}
	}
	b, err := a.openBuyerFrom(ctx, f.fundsFrom)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	b.keepIn(getFlags{exports: f.exports, noExport: f.noExport})
	b.watch()
	o := opener{buyer: b, flags: f, url: args[0], capacity: capacity, kind: kind, back: back}
	if !f.psbt {
		return o.funded(ctx)
	}
	return o.outside(ctx, p)
}

// opener is one run of open.
type opener struct {
	*buyer
	flags    openFlags
	url      string
	capacity uint64 // sat; 0: what the file takes
	kind     script.Construction
	back     []byte // where the rest goes; nil: to the wallet
}

// begun is a channel at this origin that an earlier run has not finished opening; nil:
// there is none. Those that wait for another wallet are none of them.
func (o *opener) begun(ctx context.Context) (*channel.PayerRecord, error) {
	records, err := o.payer.Records(ctx)
	if err != nil {
		return nil, err
	}
	for i := range records {
		r := &records[i]
		if o.here(*r) && !r.Unsigned && !r.Accepted && !r.Void() && (r.Phase == channel.Prepared || r.Phase == channel.Funding) {
			return r, nil
		}
	}
	return nil, nil
}

// here reports whether a channel is one with this provider, of the kind that is wanted.
func (o *opener) here(r channel.PayerRecord) bool {
	return paywall.Origin(r.Origin) == paywall.Origin(o.url) && (o.kind == "" || o.kind == r.Terms.Construction)
}

// funded opens a channel from the built-in wallet, or from the node's.
func (o *opener) funded(ctx context.Context) (err error) {
	r, err := o.begun(ctx)
	if err != nil {
		return err
	}
	if r != nil {
		o.app.out.say("Goes on with channel %s, whose opening was interrupted.", r.Terms.ID())
		return o.finish(ctx, r.Terms.ID())
	}
	p, err := o.buy.PlanChannel(ctx, download.Want{URL: o.url, Construction: o.kind}, o.capacity)
	if err != nil {
		return err
	}
	o.describe(p)
	if err := o.app.capAllows(p.Capacity); err != nil {
		return err
	}
	if err := o.consent(p); err != nil {
		return err
	}
	if o.node == nil {
		if err := o.fillFromFaucet(ctx, int64(p.Capacity)+4*p.FundingFee+1000); err != nil {
			return err
		}
	}
	as := paywall.Opening{Construction: p.Construction, Capacity: p.Capacity, Back: o.back}
	if o.flags.feeTyped {
		if as.Rate, err = o.flags.fee.choose(ctx, o.role); err != nil {
			return err
		}
	}
	unlock, err := o.buy.Hold(ctx, p.URL, p.Quote.Request.Recipient, o.busy)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	id, err := o.client.OpenAs(ctx, p.Quote, as, paywall.Expect{}, o.told)
	if err != nil {
		return err
	}
	return o.opened(ctx, id)
}

// describe says what is locked, before it is.
func (o *opener) describe(p *download.Plan) {
	o.app.out.say("Locks %s in a %s channel with %s until it is closed; if the provider vanishes all that is unpaid comes back from height %d on (%d blocks).",
		money(p.Capacity*1000), p.Construction, paywall.Origin(p.URL), p.Quote.Offer.Expiry, p.Quote.Offer.Expiry-min(p.Quote.Offer.Expiry, p.Tip))
	if o.flags.psbt {
		o.app.out.say("The fee of the funding is what the other wallet chooses; a refund, if ever needed, costs about %d sat.", p.RefundFee)
		return
	}
	if !o.flags.feeTyped {
		o.app.out.say("Fees on the chain: about %d sat for the funding; a refund, if ever needed, about %d sat.", p.FundingFee, p.RefundFee)
	}
}

// consent asks where nobody has said how much may be locked.
func (o *opener) consent(p *download.Plan) error {
	if o.flags.yes || o.flags.capacity != "" || o.app.regtest() {
		return nil
	}
	file, ok := o.app.stdin.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return &failure{exit: exitConsent, code: "no-capacity", message: fmt.Sprintf("this locks %d sat, and neither --capacity nor --yes was given", p.Capacity),
			money: noMoney, next: fmt.Sprintf("Give --capacity %dsat if that is what you want to lock.", p.Capacity)}
	}
	return o.app.ask(p.Capacity, &download.Limits{})
}

// finish takes a channel from wherever it stopped to where the provider has stored it.
func (o *opener) finish(ctx context.Context, id string) (err error) {
	r, err := o.payer.Record(ctx, id)
	if err != nil {
		return err
	}
	unlock, err := o.buy.Hold(ctx, r.Origin, r.Payee, o.busy)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if err := o.client.Reopen(ctx, id, "", paywall.Expect{}, o.told); err != nil {
		return err
	}
	return o.opened(ctx, id)
}

func (o *opener) busy() {
	o.app.out.say("A purchase from this provider is running; waiting for it.")
}

func (o *opener) told(ev paywall.OpenEvent) {
	if ev.Stage == paywall.StageWaiting {
		o.app.out.say("The provider does not see the funding yet; trying again in %s.", ev.Wait)
	}
}

// opened says what was opened.
func (o *opener) opened(ctx context.Context, id string) error {
	if err := o.look(ctx); err != nil {
		o.app.out.say("The chain could not be asked at the end: %v", err)
	}
	r, err := o.payer.Record(ctx, id)
	if err != nil {
		return err
	}
	t := r.Terms
	o.app.out.print("channel   %s\nlocked    %s, unpaid as yet; back at once with: spillway channels close %s\nrefund    from height %d on, in any case\nfunding   %s (%s)",
		id, money(t.Capacity*1000), id, t.Expiry, t.Outpoint.Hash, count(uint64(t.Confirmations), "confirmation")+" wanted")
	return o.app.out.result(map[string]any{"step": "open", "channel_id": id, "phase": r.Phase, "construction": t.Construction, "capacity_sat": t.Capacity,
		"funding_txid": t.Outpoint.Hash.String(), "expiry_height": t.Expiry, "export_file": o.exported(id)})
}

// addressOf is the address of an output script.
func addressOf(pkScript []byte, params *chaincfg.Params) (string, error) {
	_, addrs, _, err := txscript.ExtractPkScriptAddrs(pkScript, params)
	if err != nil || len(addrs) != 1 {
		return "", errors.Join(fmt.Errorf("a script without an address: %x", pkScript), err)
	}
	return addrs[0].EncodeAddress(), nil
}

// bip21 is the URI that wallets read a payment from, amount in sat. BIP21.
func bip21(addr string, amount uint64, label string) string {
	uri := "bitcoin:" + addr
	sep := "?"
	if amount > 0 {
		uri, sep = uri+fmt.Sprintf("?amount=%d.%08d", amount/1e8, amount%1e8), "&"
	}
	if label != "" {
		uri += sep + "label=" + strings.ReplaceAll(label, " ", "%20")
	}
	return uri
}
