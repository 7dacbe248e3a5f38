package transcript

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/payee"
	"github.com/spillway/spillway/script"
)

// status: what both sides have saved.
func (w *world) cmdStatus(ctx context.Context, _ args) (string, error) {
	b, err := w.payer.Record(ctx, w.id)
	if err != nil {
		return "", err
	}
	out := fmt.Sprintf("payer: %s, owes %d msat, signed %d sat\n", b.Phase, b.Owed, b.Signed)
	r, err := w.payee.Record(ctx, w.id)
	if errors.Is(err, payee.ErrUnknown) {
		return out + "payee: nothing", nil
	} else if err != nil {
		return "", err
	}
	out += fmt.Sprintf("payee: %s, charged %d msat, paid %d sat", r.Phase, r.Charged, r.Paid)
	if r.Reason != "" {
		out += ", reason " + string(r.Reason)
	}
	return out, nil
}

// wallet: the payer's coins.
func (w *world) cmdWallet(ctx context.Context, _ args) (string, error) {
	b, err := w.wallet.Balance(ctx)
	return fmt.Sprintf("confirmed %d, unconfirmed %d, reserved %d", b.Confirmed, b.Unconfirmed, b.Reserved), err
}

// chain: where T1 is, and what spends it.
func (w *world) cmdChain(ctx context.Context, _ args) (string, error) {
	b, err := w.payer.Record(ctx, w.id)
	if err != nil {
		return "", err
	}
	op := wire.OutPoint(b.Terms.Outpoint)
	info, err := w.node.Tx(ctx, op.Hash)
	switch {
	case errors.Is(err, chain.ErrNotFound):
		return "funding: unseen", nil
	case err != nil:
		return "", err
	}
	out := "funding: " + where(info.Confirmed)
	spend, err := w.node.Spend(ctx, op)
	if err != nil || spend == nil {
		return out, err
	}
	tx, err := w.node.Tx(ctx, spend.Txid)
	if err != nil {
		return "", err
	}
	kind, err := w.kindOf(ctx, b, spend.Txid.String())
	if err != nil {
		return "", err
	}
	out += fmt.Sprintf("\n%s: %s", kind, where(spend.Confirmed))
	fee := int64(b.Terms.Capacity)
	for _, o := range tx.Tx.TxOut {
		fee -= o.Value
		switch {
		case same(o.PkScript, w.payout):
			out += fmt.Sprintf(", payee %d", o.Value)
		case same(o.PkScript, b.Terms.RestScript) || same(o.PkScript, b.RefundScript):
			out += fmt.Sprintf(", payer %d", o.Value)
		default:
			out += fmt.Sprintf(", somebody %d", o.Value)
		}
	}
	return out + fmt.Sprintf(", fee %d", fee), nil
}

func where(confirmed bool) string {
	if confirmed {
		return "mined"
	}
	return "in the mempool"
}

func (w *world) kindOf(ctx context.Context, b channel.PayerRecord, txid string) (string, error) {
	r, err := w.payee.Record(ctx, w.id)
	if err != nil && !errors.Is(err, payee.ErrUnknown) {
		return "", err
	}
	switch {
	case r.Settlement != nil && r.Settlement.Txid == txid:
		return "settlement", nil
	case r.Close != nil && r.Close.Txid == txid:
		return "close", nil
	case b.Refund != nil && b.Refund.Txid == txid:
		return "refund", nil
	}
	return "an unknown spend", nil
}

// resume: the payee shows the newest update that it holds, the payer takes it and sends its own.
func (w *world) cmdResume(ctx context.Context, _ args) (string, error) {
	got, err := w.payee.Resume(ctx, w.id)
	if err != nil {
		return "", err
	}
	if err := w.payer.Resumed(ctx, w.id, channel.Update{Amount: got.Record.Paid, Signature: got.Record.Signature}); err != nil {
		return "", err
	}
	return w.cmdPay(ctx, args{})
}

// rate sat=…: the going rate, in sat/vB.
func (w *world) cmdRate(_ context.Context, a args) (string, error) {
	sat, err := a.num("sat", 1)
	w.node.SetFeeRate(script.FeeRatePerVB(int64(sat)))
	return "", err
}

// parse reads a command line.
func parse(line string) (string, args) {
	words := strings.Fields(line)
	a := args{}
	for _, word := range words[1:] {
		key, value, _ := strings.Cut(word, "=")
		a[key] = value
	}
	return words[0], a
}
