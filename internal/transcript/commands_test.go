package transcript

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/chain/devnet"
	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/payee"
	"github.com/spillway/spillway/payer"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/store"
)

// args are a command's arguments, key=value or single words.
type args map[string]string

func (a args) num(key string, otherwise uint64) (uint64, error) {
	if a[key] == "" {
		return otherwise, nil
	}
	return strconv.ParseUint(a[key], 10, 64)
}

func (a args) has(word string) bool { _, ok := a[word]; return ok }

// command is one line of a transcript. It may be run again after a crash: what it
// did before must not count twice.
type command func(w *world, ctx context.Context, a args) (string, error)

var commands = map[string]command{
	"terms": (*world).cmdTerms, "coins": (*world).cmdCoins, "mine": (*world).cmdMine, "step": (*world).cmdStep,
	"prepare": (*world).cmdPrepare, "refund-signature": (*world).cmdRefundSignature, "open": (*world).cmdOpen,
	"publish": (*world).cmdPublish, "abandon": (*world).cmdAbandon, "buy": (*world).cmdBuy, "pay": (*world).cmdPay,
	"close": (*world).cmdClose, "settle": (*world).cmdSettle, "refund": (*world).cmdRefund, "reorg": (*world).cmdReorg,
	"restart": (*world).cmdRestart, "backup": (*world).cmdBackup, "restore": (*world).cmdRestore, "resume": (*world).cmdResume,
	"status": (*world).cmdStatus, "chain": (*world).cmdChain, "rate": (*world).cmdRate, "wallet": (*world).cmdWallet,
}

// terms construction=… credit=… price=…: what the next channel is about.
func (w *world) cmdTerms(_ context.Context, a args) (out string, err error) {
	if a["construction"] != "" {
		w.kind = script.Construction(a["construction"])
	}
	if w.credit, err = a.num("credit", w.credit); err != nil {
		return "", err
	}
	w.price, err = a.num("price", w.price)
	return "", err
}

// coins n=… sat=…: confirmed coins for the payer.
func (w *world) cmdCoins(ctx context.Context, a args) (string, error) {
	n, err1 := a.num("n", 1)
	sat, err2 := a.num("sat", 100_000)
	if err := errors.Join(err1, err2); err != nil {
		return "", err
	}
	for range n {
		pk, err := w.wallet.ReceiveScript(ctx)
		if err != nil {
			return "", err
		}
		if _, err := w.node.Faucet(ctx, pk, int64(sat)); err != nil {
			return "", err
		}
	}
	return "", w.mine(1)
}

// mine [n=…] [to=margin|expiry]: blocks. margin and expiry are the tips at which the payee's or the payer's turn comes.
func (w *world) cmdMine(ctx context.Context, a args) (string, error) {
	n, err := a.num("n", 1)
	if err != nil {
		return "", err
	}
	if a["to"] != "" {
		tip, err := w.node.Tip(ctx)
		if err != nil {
			return "", err
		}
		goal := w.offer.Expiry
		if a["to"] == "margin" {
			goal -= w.offer.Margin
		}
		back, err := a.num("before", 0)
		if err != nil {
			return "", err
		}
		n = uint64(goal) - uint64(tip.Height) - back
	}
	return "", w.mine(int(n))
}

// step [payer] [payee]: their watches look at the chain; both without a word.
func (w *world) cmdStep(_ context.Context, a args) (string, error) {
	if a.has("payer") == a.has("payee") {
		return "", errors.Join(w.step(w.payer), w.step(w.payee))
	} else if a.has("payer") {
		return "", w.step(w.payer)
	}
	return "", w.step(w.payee)
}

// prepare capacity=…: the payee's offer, the payer's T1.
func (w *world) cmdPrepare(ctx context.Context, a args) (string, error) {
	capacity, err := a.num("capacity", 50_000)
	if err != nil {
		return "", err
	}
	if err := w.leftovers(ctx); err != nil {
		return "", err
	}
	if w.offer, err = w.payee.Offer(ctx, payee.Price{Chunk: w.price, Least: w.price, Total: 10 * w.price, Credit: w.credit}); err != nil {
		return "", err
	}
	r, err := w.payer.Prepare(ctx, payer.OpenRequest{Offer: w.offer, Construction: w.kind, Capacity: capacity, Origin: "here"})
	if err != nil {
		return "", err
	}
	w.id = r.Terms.ID()
	return fmt.Sprintf("%s, minimum charge %d sat, credit %d msat", r.Phase, r.Terms.MinimumCharge, r.Terms.Credit), nil
}

// leftovers gives up what a killed process had prepared and nobody goes on with.
func (w *world) leftovers(ctx context.Context) error {
	records, err := w.payer.Records(ctx)
	if err != nil {
		return err
	}
	for _, r := range records {
		if r.Phase == channel.Prepared && r.Terms.ID() != w.id {
			if err := w.payer.Abandon(ctx, r.Terms.ID()); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *world) terms(ctx context.Context) (channel.PayerRecord, channel.Opening, error) {
	r, err := w.payer.Record(ctx, w.id)
	t := r.Terms
	return r, channel.Opening{Construction: t.Construction, PayerKey: t.PayerKey, Outpoint: t.Outpoint, Capacity: t.Capacity, RestScript: t.RestScript}, err
}

// refund-signature [forged]: steps 3 to 5 of opening a multisig channel.
func (w *world) cmdRefundSignature(ctx context.Context, a args) (string, error) {
	_, op, err := w.terms(ctx)
	if err != nil {
		return "", err
	}
	tx, err := w.payer.RefundRequest(ctx, w.id)
	if err != nil {
		return "", err
	}
	sig, err := w.payee.Prepare(ctx, w.offer, op, tx)
	if err != nil {
		return "", err
	}
	again, err := w.payee.Prepare(ctx, w.offer, op, tx)
	if err != nil || !same(sig, again) {
		return "", fmt.Errorf("a retry got another signature: %w", err)
	}
	if a.has("forged") {
		sig[10] ^= 1
	}
	if err := w.payer.TakeRefundSignature(ctx, w.id, sig); err != nil {
		return "", err
	}
	return "the refund is signed", nil
}

// open [with=tx] [capacity=…]: the opening goes to the payee; T1 with it, or not.
func (w *world) cmdOpen(ctx context.Context, a args) (string, error) {
	op, err := w.payer.Opening(ctx, w.id)
	if err != nil {
		return "", err
	}
	if a["with"] != "tx" {
		op.FundingTx = nil
	}
	if op.Capacity, err = a.num("capacity", op.Capacity); err != nil {
		return "", err
	}
	got, err := w.payee.Open(ctx, w.offer, op)
	if err != nil {
		return "", err
	}
	if err := w.payer.Accepted(ctx, w.id); err != nil {
		return "", err
	}
	return fmt.Sprintf("%s, %d of %d confirmations", got.Record.Phase, got.Depth, got.Record.Terms.Confirmations), nil
}

func (w *world) cmdPublish(ctx context.Context, _ args) (string, error) {
	return "", w.payer.Publish(ctx, w.id)
}

func (w *world) cmdAbandon(ctx context.Context, _ args) (string, error) {
	return "", w.payer.Abandon(ctx, w.id)
}

var resource = [32]byte{7}

// buy chunk=… [again] [lose=request|answer] [ahead=…]: a chunk for the payer's newest
// update. What is in the journal is not asked for, but for the word again.
func (w *world) cmdBuy(ctx context.Context, a args) (string, error) {
	i, err := a.num("chunk", 0)
	if err != nil {
		return "", err
	}
	ahead, err := a.num("ahead", 0)
	if err != nil {
		return "", err
	}
	if have, err := w.journalled(ctx, i); err != nil || have && !a.has("again") {
		return "has it", err
	}
	u, err := w.payer.Newest(ctx, w.id)
	if ahead > 0 {
		u, err = w.payer.Pay(ctx, w.id, payer.Payment{Ahead: w.price}, channel.Limits{Budget: channel.MaxSat, Prepay: ahead})
	}
	if err != nil {
		return "", err
	}
	if a["lose"] == "request" {
		return "lost", nil
	}
	item := payee.Item{Resource: resource, Chunk: i, Price: w.price}
	got, err := w.payee.Pay(ctx, payee.Request{Channel: w.id, Update: &u, Items: []payee.Item{item}, Credit: w.credit})
	if err != nil {
		return "", err
	}
	if a["lose"] == "answer" {
		return fmt.Sprintf("lost; charged %d msat, paid %d sat", got.Charged, got.Paid), nil
	}
	next, err := w.verified(ctx, i)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("charged %d msat, paid %d sat, signed %d sat", got.Charged, got.Paid, next.Amount), nil
}

// verified books a chunk that arrived, once, with the journal in the same commit.
func (w *world) verified(ctx context.Context, i uint64) (channel.Update, error) {
	free := channel.Limits{Budget: channel.MaxSat}
	have, err := w.journalled(ctx, i)
	if err != nil {
		return channel.Update{}, err
	}
	if have {
		return w.payer.Pay(ctx, w.id, payer.Payment{}, free)
	}
	return w.payer.Pay(ctx, w.id, payer.Payment{Verified: w.price, Ops: []store.Op{{Bucket: journal, Key: w.entry(i), Value: []byte{1}}}}, free)
}

func (w *world) entry(chunk uint64) string { return fmt.Sprintf("%s/%d", w.id, chunk) }

func (w *world) journalled(ctx context.Context, chunk uint64) (bool, error) {
	_, err := w.payerDisk.Get(ctx, journal, w.entry(chunk))
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// pay [last] [amount=…]: the payer's newest update alone, or a forged one.
func (w *world) cmdPay(ctx context.Context, a args) (string, error) {
	u, err := w.payer.Pay(ctx, w.id, payer.Payment{Last: a.has("last")}, channel.Limits{Budget: channel.MaxSat})
	if err != nil && !errors.Is(err, channel.ErrFinalized) {
		return "", err
	} else if err != nil {
		if u, err = w.payer.Newest(ctx, w.id); err != nil {
			return "", err
		}
	}
	if u.Amount, err = a.num("amount", u.Amount); err != nil {
		return "", err
	}
	got, err := w.payee.Pay(ctx, payee.Request{Channel: w.id, Update: &u})
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("paid %d sat, charged %d msat", got.Paid, got.Charged), nil
}

// close [lose=answer|final]: the cooperative close; in multisig the payee settles.
func (w *world) cmdClose(ctx context.Context, a args) (string, error) {
	c, err := w.payer.BeginClose(ctx, w.id)
	if err != nil {
		return "", err
	}
	if w.kind != script.Taproot {
		s, err := w.payee.Settle(ctx, w.id, &c.Update, true)
		if err != nil {
			return "", err
		}
		_, err = w.payer.TakeSettlement(ctx, w.id, s.Tx)
		return "settled", err
	}
	got, err := w.payee.Close(ctx, w.id, channel.CloseRequest{Update: c.Update, PayerNonce: c.Nonce[:]})
	if err != nil {
		return "", err
	}
	if a["lose"] == "answer" {
		return "lost", nil
	}
	final, err := w.payer.FinishClose(ctx, w.id, c, got.Tx, [66]byte(got.PayeeNonce), got.Partial)
	if err != nil {
		return "", err
	}
	if a["lose"] == "final" {
		return "the payer has it", nil
	}
	return "closed", w.payee.FinishClose(ctx, w.id, final)
}

// settle: the payee's operator wants its money.
func (w *world) cmdSettle(ctx context.Context, _ args) (string, error) {
	s, err := w.payee.Settle(ctx, w.id, nil, false)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%d sat, fee %d sat", s.Amount, s.Fee), nil
}

// refund [early]: the payer takes the channel back; early: what the chain says before its time.
func (w *world) cmdRefund(ctx context.Context, a args) (string, error) {
	if !a.has("early") {
		_, err := w.payer.Refund(ctx, w.id)
		return "", err
	}
	tx, err := w.payer.EarlyRefund(ctx, w.id)
	if err != nil {
		return "", err
	}
	if err := w.node.Broadcast(ctx, tx); !errors.Is(err, chain.ErrRejected) {
		return "", fmt.Errorf("the chain took a refund before its time: %w", err)
	}
	return "the chain refuses it", nil
}

// reorg depth=… [drop] [conflict]: blocks are undone. drop: T1 is forgotten; conflict: one of its inputs is spent elsewhere.
func (w *world) cmdReorg(ctx context.Context, a args) (string, error) {
	depth, err := a.num("depth", 1)
	if err != nil {
		return "", err
	}
	r, err := w.payer.Record(ctx, w.id)
	if err != nil {
		return "", err
	}
	o := devnet.ReorgOptions{Depth: int(depth), Length: int(depth) + 1}
	t1, err := channel.DecodeTx(r.FundingTx)
	if err != nil {
		return "", err
	}
	if a.has("drop") || a.has("conflict") {
		o.Drop = append(o.Drop, t1.TxHash())
	}
	if a.has("conflict") {
		tx, err := w.elsewhere(ctx, t1)
		if err != nil {
			return "", err
		}
		o.Mine = append(o.Mine, tx)
	}
	w.now = w.now.Add(time.Hour)
	_, err = w.node.ReorgWith(o)
	return "", err
}

// elsewhere spends T1's inputs back to the payer: a thief's double spend.
func (w *world) elsewhere(ctx context.Context, t1 *wire.MsgTx) (*wire.MsgTx, error) {
	tx, prevouts := wire.NewMsgTx(2), map[wire.OutPoint]*wire.TxOut{}
	var total int64
	for _, in := range t1.TxIn {
		parent, err := w.node.Tx(ctx, in.PreviousOutPoint.Hash)
		if err != nil {
			return nil, err
		}
		prevouts[in.PreviousOutPoint] = parent.Tx.TxOut[in.PreviousOutPoint.Index]
		total += prevouts[in.PreviousOutPoint].Value
		tx.AddTxIn(wire.NewTxIn(&in.PreviousOutPoint, nil, nil))
	}
	pk, err := w.wallet.ReceiveScript(ctx)
	if err != nil {
		return nil, err
	}
	tx.AddTxOut(wire.NewTxOut(total-1000, pk))
	_, err = w.wallet.Sign(ctx, tx, prevouts)
	return tx, err
}

// restart payer|payee: the process is killed and started again.
func (w *world) cmdRestart(_ context.Context, a args) (string, error) {
	if a.has("payer") {
		return "", w.startPayer()
	}
	return "", w.startPayee()
}

// backup payer|payee: a copy of all that the side has saved.
func (w *world) cmdBackup(ctx context.Context, a args) (string, error) {
	side, d := "payee", w.payeeDisk
	if a.has("payer") {
		side, d = "payer", w.payerDisk
	}
	entries, err := copyOf(ctx, d)
	w.backups[side] = entries
	return "", err
}

// restore payer|payee: the side goes on from its backup; a payee marks its channels.
func (w *world) cmdRestore(ctx context.Context, a args) (out string, err error) {
	if a.has("payer") {
		if w.payerDisk, err = restored(ctx, w.backups["payer"]); err != nil {
			return "", err
		}
		return "", w.startPayer()
	}
	if w.payeeDisk, err = restored(ctx, w.backups["payee"]); err != nil {
		return "", err
	}
	if err := w.startPayee(); err != nil {
		return "", err
	}
	return "", w.payee.MarkRestored(ctx)
}
