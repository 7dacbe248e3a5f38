package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/download"
	"github.com/spillway/spillway/mpp"
	"github.com/spillway/spillway/mpp/bitcoin"
	"github.com/spillway/spillway/payer"
	"github.com/spillway/spillway/paywall"
)

// maxChallengeText bounds what is read as a challenge, in bytes.
const maxChallengeText = mpp.MaxChallengeHeader

// credentialFlags are the flags of credential.
type credentialFlags struct {
	challenge, url, key     string
	max, total, deposit     string
	require, channel        string
	receipt                 string
	avoid                   []string
	wait                    time.Duration
	yes, noExport, endIt    bool
	exports                 string
	most, all, lock, needed uint64 // sat, of the texts
	offer                   mpp.Challenge
}

func (a *app) credentialCommand() *cobra.Command {
	var f credentialFlags
	cmd := &cobra.Command{
		Use:   "credential --challenge CHALLENGE --max SAT",
		Short: "Pay for another program's request: print the header that it sends",
		Long: `Makes the credential for a challenge of the Payment scheme that another program
got with a 402, for scripts and clients of any kind. It opens a channel with the
provider if there is none, waits until its funding is confirmed, pays one unit
ahead and prints the value of the Authorization header:

  curl -H "Authorization: $(spillway credential --challenge "$C" --url "$U" --max 100sat)" "$U"

--url says where the challenge came from. Without it the new channel's opening
travels in the credential. A repeat of a request with the same --key, or without
one with the same challenge, adds nothing to what is signed. --receipt enters the
Payment-Receipt that came back, so that what was not charged is not paid again.
--close closes the channels with the provider of --url or --challenge, and what
was not spent comes back.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.credential(cmd.Context(), f) },
	}
	fl := cmd.Flags()
	fl.StringVar(&f.challenge, "challenge", "", "value of WWW-Authenticate, or its one challenge; -: standard input")
	fl.StringVar(&f.url, "url", "", "URL that the challenge came from")
	fl.StringVar(&f.key, "key", "", "Idempotency-Key that the request is sent with")
	fl.StringVar(&f.max, "max", "", "most that this credential may add to what is signed, such as 100sat")
	fl.StringVar(&f.total, "total", "", "most that may be signed to this provider in all channels together")
	fl.StringVar(&f.require, "require", "", "pay up to this cumulative amount: what the provider of a stream asks for (default: one unit)")
	fl.StringVar(&f.deposit, "deposit", "", "what is locked in a new channel (default: what the provider suggests, and enough for --max)")
	fl.StringVar(&f.channel, "channel", "", "taproot, multisig or multisig-p2sh (default: the provider's first)")
	fl.StringVar(&f.receipt, "receipt", "", "Payment-Receipt that came for --key, or for the challenge that it names")
	fl.StringArrayVar(&f.avoid, "avoid", nil, "channel that the provider takes nothing more on: it is not used again")
	fl.DurationVar(&f.wait, "wait", time.Hour, "how long to wait for the funding's confirmations")
	fl.BoolVar(&f.endIt, "close", false, "close the channels with this provider")
	fl.StringVar(&f.exports, "exports", "", "folder that a new channel's export is kept in (default: in the data folder)")
	fl.BoolVar(&f.noExport, "no-export", false, "keep no export: without the data folder what is unpaid would be lost")
	fl.BoolVar(&f.yes, "yes", false, "do not ask")
	return cmd
}

// check reads the flags.
func (f *credentialFlags) check(stdin io.Reader) (err error) {
	if f.challenge == "" && f.receipt == "" && len(f.avoid) == 0 && !(f.endIt && f.url != "") {
		return usagef("name what is to be paid with --challenge, what came back with --receipt, or --close with --url")
	}
	if f.url != "" {
		if err := checkURL(f.url); err != nil {
			return err
		}
	}
	if f.challenge != "" {
		if f.offer, err = readChallenge(f.challenge, stdin); err != nil {
			return err
		}
	}
	if f.key != "" { // as the server will read it
		if f.key, err = mpp.IdempotencyKey([]string{f.key}); err != nil {
			return usage(fmt.Errorf("--key: %w", err))
		}
	}
	if f.receipt != "" {
		if _, err := bitcoin.ParseReceipt([]string{f.receipt}); err != nil {
			return usage(fmt.Errorf("--receipt: %w", err))
		}
	}
	for _, id := range f.avoid {
		if _, err := channel.ParseOutpoint(id); err != nil {
			return usagef("--avoid names a channel, txid:vout, not %q", clipped(id))
		}
	}
	c, err := construction(f.channel)
	if err != nil {
		return err
	}
	if c == "duplex" {
		return usagef("--channel is taproot, multisig or multisig-p2sh here")
	}
	if f.wait < 0 {
		return usagef("--wait is a time such as 10m, not %v", f.wait)
	}
	if _, err := (getFlags{parallel: 1, prepay: "0sat", exports: f.exports, noExport: f.noExport}).limits(); err != nil {
		return err
	}
	for _, v := range []struct {
		name, text string
		to         *uint64
	}{{"max", f.max, &f.most}, {"total", f.total, &f.all}, {"deposit", f.deposit, &f.lock}, {"require", f.require, &f.needed}} {
		if v.text == "" {
			continue
		}
		if *v.to, err = sat(v.name, v.text); err != nil {
			return err
		}
		if *v.to == 0 || *v.to > channel.MaxSat {
			return usagef("--%s is more than nothing and at most 21,000,000 BTC", v.name)
		}
	}
	return nil
}

// readChallenge takes our method's challenge out of a value of WWW-Authenticate.
func readChallenge(text string, stdin io.Reader) (mpp.Challenge, error) {
	if text == "-" {
		raw, err := io.ReadAll(io.LimitReader(stdin, maxChallengeText+1))
		if err != nil {
			return mpp.Challenge{}, localError(err)
		}
		text = strings.TrimSpace(string(raw))
	}
	list, err := mpp.ParseChallenges([]string{text})
	if err != nil {
		return mpp.Challenge{}, usage(fmt.Errorf("--challenge: %w", err))
	}
	for _, c := range list {
		if c.Method == bitcoin.Method && c.Intent == bitcoin.Intent {
			return c, nil
		}
	}
	return mpp.Challenge{}, &failure{exit: exitRefused, code: "not-a-provider", message: fmt.Sprintf("none of %d challenges is paid over bitcoin channels: the first is of %s/%s", len(list), list[0].Method, list[0].Intent),
		money: noMoney, next: "Use a client of that method."}
}

func (a *app) credential(ctx context.Context, f credentialFlags) (err error) {
	if err := f.check(a.stdin); err != nil {
		return err
	}
	var req bitcoin.Request
	if f.challenge != "" {
		if req, err = bitcoin.ParseRequest(f.offer.Request); err != nil {
			return usage(fmt.Errorf("--challenge: %w", err))
		}
		if f.most == 0 && !f.endIt {
			if err := a.askCredential(req, &f); err != nil {
				return err
			}
		}
	}
	if (f.receipt != "" || len(f.avoid) > 0) && !a.exists("payer") {
		return fmt.Errorf("%w: no channel was ever opened here", payer.ErrUnknown)
	}
	if f.endIt && !a.exists("payer") {
		a.out.say("No channel with this provider is open.")
		return a.out.result(map[string]any{"closed": []map[string]any{}})
	}
	b, err := a.openBuyer(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	b.keepIn(getFlags{exports: f.exports, noExport: f.noExport})
	if f.challenge != "" {
		unlock, err := b.buy.Hold(ctx, f.holds(), req.Recipient, func() { a.out.say("Another program pays this provider; waiting for it.") })
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, unlock()) }()
	}
	s, err := b.signer(f)
	if err != nil {
		return err
	}
	for _, id := range f.avoid {
		if err := b.avoid(ctx, id); err != nil {
			return err
		}
	}
	out := map[string]any{}
	if f.receipt != "" {
		got, err := s.TakeReceipt(ctx, f.receipt, f.key)
		if err != nil {
			return err
		}
		out["channel_id"], out["charged_msat"] = got.ChannelID, got.ChargedMsat
	}
	switch {
	case f.endIt:
		return b.endAll(ctx, f, req)
	case f.challenge == "":
		return a.out.result(out)
	}
	return b.credential(ctx, s, f, out)
}

// holds is the origin whose purchases wait meanwhile.
func (f credentialFlags) holds() string {
	if f.url != "" {
		return f.url
	}
	return "https://" + f.offer.Realm + "/"
}

// askCredential has a person agree to what a credential may cost, where no --max was
// given. Without a terminal it is not signed; on regtest nothing is asked.
func (a *app) askCredential(req bitcoin.Request, f *credentialFlags) error {
	unit := max(channel.CeilSat(req.Amount*1000/max(req.MethodDetails.UnitsPerAmount, 1)), 1, f.needed)
	if req.UnitType == bitcoin.UnitByte {
		unit = max(req.Amount, f.needed)
	}
	if a.regtest() || f.yes {
		f.most = channel.MaxSat
		return nil
	}
	var lim download.Limits
	if err := a.ask(unit, &lim); err != nil {
		var asked *failure
		if errors.As(err, &asked) && asked.code == "no-budget" {
			asked.next = "Give --max: the most that this credential may add to what is signed."
		}
		return err
	}
	f.most = lim.Budget
	return nil
}

// signer makes credentials with this payer.
func (b *buyer) signer(f credentialFlags) (*paywall.Signer, error) {
	until := time.Now().Add(f.wait)
	return paywall.NewSigner(paywall.SignerConfig{
		Client: b.client, Store: b.store, Avoid: b.buy.Evicted,
		Before: func(ctx context.Context, q *paywall.Quoted, capacity uint64) error {
			b.app.out.say("Locks %s in a channel with provider %s until the close; if the provider vanishes all that is unpaid comes back from height %d on.",
				money(capacity*1000), q.Request.Recipient, q.Offer.Expiry)
			return b.fillFromFaucet(ctx, int64(capacity)+20_000)
		},
		Look: func(ctx context.Context, r channel.PayerRecord) error {
			if r.Phase == channel.Open {
				return nil
			}
			if time.Now().After(until) {
				return fmt.Errorf("%w: channel %s waits for %d confirmations", channel.ErrUnconfirmed, r.Terms.ID(), r.Terms.Confirmations)
			}
			return b.step(ctx)
		},
		Progress: func(ev paywall.OpenEvent) {
			switch ev.Stage {
			case paywall.StagePrepared:
				b.app.out.say("Channel %s is made; its refund is saved.", ev.Channel)
			case paywall.StageAccepted:
				b.app.out.say("The provider has the channel.")
			}
		},
	})
}

// avoid gives a channel up for purchases.
func (b *buyer) avoid(ctx context.Context, id string) error {
	if _, err := b.payer.Record(ctx, id); err != nil {
		return err
	}
	return b.buy.GiveUp(ctx, id, errors.New("its provider takes nothing more on it, a client says"))
}

// credential signs and prints.
func (b *buyer) credential(ctx context.Context, s *paywall.Signer, f credentialFlags, out map[string]any) error {
	kind, err := construction(f.channel)
	if err != nil {
		return err
	}
	got, err := s.Sign(ctx, paywall.SignRequest{
		Challenge: f.offer, URL: f.url, Key: f.key, Max: f.most, Total: f.all, Required: f.needed, Deposit: f.lock, Construction: kind,
	})
	if err != nil {
		return tellLimits(err)
	}
	if !b.app.out.json { // as it is: a person's separators would make another value of it
		if _, err := fmt.Fprintln(b.app.out.stdout, got.Value); err != nil {
			return err
		}
	}
	out["authorization"], out["header"], out["action"] = got.Value, got.Field, got.Action
	out["channel_id"], out["opened"] = got.Channel, got.Opened
	out["cumulative_sat"], out["added_sat"], out["price_msat"] = got.Amount, got.Added, got.Price
	out["idempotency_key"], out["expires"] = f.key, f.offer.Expires
	return b.app.out.result(out)
}

// tellLimits says which of this command's flags a limit is.
func tellLimits(err error) error {
	f := *explain(err)
	switch {
	case errors.Is(err, channel.ErrBudget):
		f.next = "Raise --max, or --total, if it is worth more to you."
	case errors.Is(err, paywall.ErrDeposit):
		f.next = "Name a --deposit that this provider takes."
	case errors.Is(err, paywall.ErrChallengeOver):
		f.exit, f.code, f.money, f.next = exitRefused, "challenge-over", noMoney, "Send the request again without a credential, and use the challenge that comes."
	default:
		return err
	}
	return &f
}

// endAll closes the channels with a provider: what was charged is paid, as far as it was
// agreed, and the rest comes back.
func (b *buyer) endAll(ctx context.Context, f credentialFlags, req bitcoin.Request) error {
	records, err := b.payer.Records(ctx)
	if err != nil {
		return err
	}
	closed, failed := []map[string]any{}, []error(nil)
	for _, r := range records {
		same := req.Recipient != "" && r.Payee == req.Recipient || req.Recipient == "" && paywall.Origin(r.Origin) == paywall.Origin(f.url)
		if !same || r.Phase != channel.Funding && r.Phase != channel.Open || r.Close != nil || r.SpentBy != "" || r.Void() || r.Duplex != nil || !r.Accepted {
			continue
		}
		id := r.Terms.ID()
		txid, err := b.endOne(ctx, r, f)
		if err != nil {
			failed = append(failed, err)
			continue
		}
		if r, err = b.payer.Record(ctx, id); err != nil {
			return err
		}
		b.app.out.print("channel %s is closed by %s: %d sat are paid, %d sat come back", id, txid, r.Signed, r.Refundable())
		closed = append(closed, map[string]any{"channel_id": id, "closing_txid": txid, "paid_sat": r.Signed, "refundable_sat": r.Refundable()})
	}
	if len(failed) > 0 {
		return errors.Join(failed...)
	}
	if len(closed) == 0 {
		b.app.out.say("No channel with this provider is open.")
	}
	if err := b.look(ctx); err != nil { // it is done; the next command looks again
		b.app.out.say("The chain could not be asked at the end: %v", err)
	}
	return b.app.out.result(map[string]any{"closed": closed})
}

// endOne closes one channel. What is signed beyond the payer's ledger was agreed to, so
// an update that the provider asks for within it is there already.
func (b *buyer) endOne(ctx context.Context, r channel.PayerRecord, f credentialFlags) (string, error) {
	target := r.Origin
	if f.url != "" {
		target = f.url
	}
	if free := f.yes || b.app.regtest(); r.Owed > 0 && (f.most > 0 || free) {
		// the minimum charge is a floor, paid with the last update where that is allowed
		floor := channel.Limits{Budget: r.Signed + f.most}
		if f.most == 0 {
			floor.Budget = max(r.Signed, r.Terms.MinimumCharge)
		}
		if _, err := b.payer.Pay(ctx, r.Terms.ID(), payer.Payment{Last: true}, floor); err != nil && !errors.Is(err, channel.ErrBudget) {
			return "", err
		}
	}
	txid, err := b.client.Close(ctx, r.Terms.ID(), target, paywall.Expect{Recipient: r.Payee})
	var short *paywall.InsufficientError
	if !errors.As(err, &short) || short.Required <= r.Signed || short.Required-r.Signed > f.most {
		return txid, err
	}
	// it was delivered on credit, and --max allows to pay it
	if _, err := b.signUnseen(ctx, r, short.Required, f.most); err != nil {
		return "", err
	}
	return b.client.Close(ctx, r.Terms.ID(), target, paywall.Expect{Recipient: r.Payee})
}
