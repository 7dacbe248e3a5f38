package scenario

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/chain/devnet"
	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/content/bao"
	"github.com/spillway/spillway/keys"
	"github.com/spillway/spillway/payer"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/wallet"
	"github.com/spillway/spillway/watch"
)

// buyer is the payer: the drivers that ship, its way to the provider, and what it
// does beside the protocol when it cheats.
type buyer struct {
	gear
	*payer.Payer
	keys   *keys.Keyring
	wallet *wallet.Wallet
	shop   shop
}

// shop is a payer's way to the provider.
type shop interface {
	// quote is the credit (msat) that a newcomer is offered.
	quote(ctx context.Context) (uint64, error)
	// open opens a channel and returns its id; T1 waits in the mempool then.
	open(ctx context.Context, b *buyer) (id string, err error)
	// pay sends an update alone, chunk asks for a chunk with it.
	pay(ctx context.Context, id string, u channel.Update) error
	chunk(ctx context.Context, id string, u channel.Update, chunk uint64) (slice, error)
	// close closes a channel as an honest payer does.
	close(ctx context.Context, b *buyer, id string) error
	// back takes what the provider pays back.
	back(ctx context.Context, b *buyer, id string) error
	// ask does one thing of the driver's without HTTP 402. See seller.wire.
	ask(ctx context.Context, do string, args, result any) error
}

// slice is a chunk as it came, and what it has to hash to.
type slice struct {
	bytes []byte
	of    bao.Slice
}

func newBuyer(ctx context.Context, g gear) (b *buyer, err error) {
	b = &buyer{gear: g}
	if b.keys, err = keys.FromMnemonic(payerWords, devnet.Params()); err != nil {
		return nil, err
	}
	b.wallet, err = wallet.New(ctx, wallet.Config{Keys: b.keys, Chain: g.chain, Store: g.store, Params: devnet.Params()})
	if err != nil {
		return nil, err
	}
	b.Payer, err = payer.New(payer.Config{
		Store: g.store, Keys: b.keys, Wallet: b.wallet, Chain: g.chain, Network: "regtest", Policy: g.policy(), Rand: g.rand,
	})
	return b, err
}

// orders are what the story can ask of a payer.
func (b *buyer) orders() handlers {
	return handlers{
		"look": on(func(ctx context.Context, _ struct{}) (any, error) {
			return nil, (&watch.Watch{Chain: b.chain, Drivers: []watch.Driver{b.Payer}}).Step(ctx)
		}),
		"record": on(func(ctx context.Context, id string) (any, error) { return b.Record(ctx, id) }),
		"newest": on(func(ctx context.Context, id string) (any, error) { return b.Newest(ctx, id) }),
		"address": on(func(ctx context.Context, _ struct{}) (any, error) {
			pk, err := b.wallet.ReceiveScript(ctx)
			return channel.Hex(pk), err
		}),
		"balance": on(func(ctx context.Context, _ struct{}) (any, error) { return b.wallet.Balance(ctx) }),
		"quote":   on(func(ctx context.Context, _ struct{}) (any, error) { return b.shop.quote(ctx) }),
		"open":    on(func(ctx context.Context, _ struct{}) (any, error) { return b.shop.open(ctx, b) }),
		"pay":     on(func(ctx context.Context, a askArgs) (any, error) { return nil, b.shop.pay(ctx, a.ID, a.Update) }),
		"chunk":   on(b.chunk), "sign": on(b.sign),
		"close":     on(func(ctx context.Context, id string) (any, error) { return nil, b.shop.close(ctx, b, id) }),
		"try-close": on(b.tryClose), "keep-close": on(b.keepClose), "take-back": on(b.takeBack),
		"broadcast": on(b.chain.send), "cut": on(b.chain.setCut),
		"doomed": on(b.store.doomed), "doomed-before": on(b.store.doomedBefore),
		"refund": on(b.refund), "update": on(b.update), "double-spend": on(b.doubleSpend), "complete": on(b.complete),
		"ladder": on(b.ladder),
	}
}

// Arguments of a payer's orders.
type (
	askArgs struct {
		ID     string         `json:"id"`
		Update channel.Update `json:"update"`
		Chunk  uint64         `json:"chunk"`
	}
	idArgs struct {
		ID     string         `json:"id"`
		Msat   uint64         `json:"msat,omitempty"`
		Sat    uint64         `json:"sat,omitempty"`
		Rate   script.FeeRate `json:"rate,omitempty"`
		Inputs []channel.Hex  `json:"inputs,omitempty"` // the transactions that a double spend's inputs come from
	}
	completeArgs struct {
		Payer channel.PayerRecord `json:"payer,omitzero"`
		Payee channel.PayeeRecord `json:"payee,omitzero"`
		Rate  script.FeeRate      `json:"rate"`
	}
	// delivery is what became of a chunk that was asked for; Wrong: it is not what
	// the root says.
	delivery struct {
		Wrong string `json:"wrong,omitempty"`
	}
)

// chunk asks for a chunk, and verifies what comes against the file's root.
func (b *buyer) chunk(ctx context.Context, a askArgs) (any, error) {
	got, err := b.shop.chunk(ctx, a.ID, a.Update, a.Chunk)
	if err != nil {
		return nil, err
	}
	err = bao.DecodeSlice(ctx, make(buffer, got.of.Size), bytes.NewReader(got.bytes), got.of, nil)
	var wrong *bao.WrongBytesError
	if errors.As(err, &wrong) {
		return delivery{Wrong: wrong.Error()}, nil
	}
	return delivery{}, err
}

func (b *buyer) sign(ctx context.Context, a idArgs) (any, error) {
	return b.Pay(ctx, a.ID, payer.Payment{Verified: a.Msat}, channel.Limits{Budget: channel.MaxSat})
}

// tryClose begins a close and takes the answer, whatever it is.
func (b *buyer) tryClose(ctx context.Context, id string) (any, error) {
	r, err := b.Record(ctx, id)
	if err != nil {
		return nil, err
	}
	c, err := b.BeginClose(ctx, id)
	if err != nil {
		return nil, err
	}
	if r.Terms.Cosigned() {
		var tx channel.Broadcast
		if err := b.shop.ask(ctx, "settle", closeArgs{ID: id, Update: &c.Update}, &tx); err != nil {
			return nil, err
		}
		_, err = b.TakeSettlement(ctx, id, tx.Tx)
		return nil, err
	}
	q := channel.CloseRequest{Update: c.Update, PayerNonce: c.Nonce[:]}
	if r.Duplex != nil {
		q.Ledger = &c.Ledger
	}
	var answer channel.PayeeClose
	if err := b.shop.ask(ctx, "close", closeArgs{ID: id, Request: q}, &answer); err != nil {
		return nil, err
	}
	if len(answer.PayeeNonce) != len(c.Nonce) {
		return nil, fmt.Errorf("%w: an answer without a nonce", channel.ErrTerms)
	}
	return b.FinishClose(ctx, id, c, answer.Tx, [66]byte(answer.PayeeNonce), answer.Partial)
}

// keepClose has the provider sign a close and keeps it back: it goes to nobody.
func (b *buyer) keepClose(ctx context.Context, id string) (any, error) {
	if _, err := b.chain.setCut(ctx, true); err != nil {
		return nil, err
	}
	if _, err := b.tryClose(ctx, id); !errors.Is(err, chain.ErrUnavailable) {
		return nil, errors.Join(errors.New("the close left"), err)
	}
	if _, err := b.chain.setCut(ctx, false); err != nil {
		return nil, err
	}
	r, err := b.Record(ctx, id)
	if err != nil {
		return nil, err
	}
	return r.Close.Tx, nil
}

// takeBack takes what the provider of a duplex channel pays back.
func (b *buyer) takeBack(ctx context.Context, id string) (any, error) {
	if err := b.shop.back(ctx, b, id); err != nil {
		return nil, err
	}
	r, err := b.Record(ctx, id)
	if err != nil {
		return nil, err
	}
	if r.Duplex == nil {
		return nil, channel.ErrUnsupported
	}
	return r.Duplex.Held, nil
}

// refund is T2, completed by the payer's own key whatever the height is.
func (b *buyer) refund(ctx context.Context, a idArgs) (any, error) {
	r, err := b.Record(ctx, a.ID)
	if err != nil {
		return nil, err
	}
	ch, err := r.Terms.Script()
	if err != nil {
		return nil, err
	}
	key, err := b.keys.PayerChannelKey(r.KeyIndex)
	if err != nil {
		return nil, err
	}
	tx, _, err := ch.Refund(key, r.RefundSig, r.RefundScript, a.Rate)
	if err != nil {
		return nil, err
	}
	return channel.EncodeTx(tx)
}

// update is the payer's half-signature of an amount (sat), made without its driver:
// nothing was verified, and nothing is saved.
func (b *buyer) update(ctx context.Context, a idArgs) (any, error) {
	r, err := b.Record(ctx, a.ID)
	if err != nil {
		return nil, err
	}
	ch, err := r.Terms.Script()
	if err != nil {
		return nil, err
	}
	key, err := b.keys.PayerChannelKey(r.KeyIndex)
	if err != nil {
		return nil, err
	}
	u := r.Terms.First(nil)
	u.Amount = a.Sat
	state, err := r.Terms.Commitment(u)
	if err != nil {
		return nil, err
	}
	u.Signature, err = ch.SignState(key, state)
	return u, err
}

// doubleSpend spends the coins of a funding again, to the payer itself, with a fee
// that is higher by so many sat. Its first output stands for the capacity, what was
// change is change again.
func (b *buyer) doubleSpend(ctx context.Context, a idArgs) (any, error) {
	r, err := b.Record(ctx, a.ID)
	if err != nil {
		return nil, err
	}
	tx, err := channel.DecodeTx(r.FundingTx)
	if err != nil {
		return nil, err
	}
	home, err := b.wallet.ReceiveScript(ctx)
	if err != nil {
		return nil, err
	}
	tx.TxOut[r.Terms.Outpoint.Index] = wire.NewTxOut(int64(r.Terms.Capacity-a.Sat), home)
	prevouts := txscript.NewMultiPrevOutFetcher(nil)
	for _, in := range tx.TxIn {
		info, err := b.chain.Tx(ctx, in.PreviousOutPoint.Hash)
		if err != nil {
			return nil, err
		}
		prevouts.AddPrevOut(in.PreviousOutPoint, info.Tx.TxOut[in.PreviousOutPoint.Index])
	}
	hashes := txscript.NewTxSigHashes(tx, prevouts)
	for i, in := range tx.TxIn {
		if in.Witness, err = b.signCoin(tx, i, hashes, prevouts.FetchPrevOutput(in.PreviousOutPoint)); err != nil {
			return nil, err
		}
	}
	return channel.EncodeTx(tx)
}

// signCoin signs for one of the payer's own coins.
func (b *buyer) signCoin(tx *wire.MsgTx, i int, hashes *txscript.TxSigHashes, out *wire.TxOut) (wire.TxWitness, error) {
	for _, change := range []bool{false, true} {
		for index := range uint32(100) {
			key, pk, err := b.keys.WalletKey(change, index)
			if err != nil {
				return nil, err
			}
			if bytes.Equal(pk, out.PkScript) {
				return txscript.TaprootWitnessSignature(tx, hashes, i, out.Value, pk, txscript.SigHashDefault, key)
			}
		}
	}
	return nil, fmt.Errorf("no key of the payer's owns %x", out.PkScript)
}

// complete is the settlement of what the payer of a duplex channel held at some
// time, made with its own key.
func (b *buyer) complete(_ context.Context, a completeArgs) (any, error) {
	ch, err := a.Payer.Terms.Script()
	if err != nil {
		return nil, err
	}
	claim, err := a.Payer.Claim(ch)
	if err != nil {
		return nil, err
	}
	if claim.PayeeKey, err = b.keys.PayerChannelKey(a.Payer.KeyIndex); err != nil {
		return nil, err
	}
	tx, _, err := script.Settle([]script.Claim{claim}, a.Payer.RefundScript, a.Rate)
	if err != nil {
		return nil, err
	}
	return channel.EncodeTx(tx)
}

// send broadcasts a transaction that a side made without its driver.
func (l *line) send(ctx context.Context, raw channel.Hex) (any, error) {
	tx, err := channel.DecodeTx(raw)
	if err != nil {
		return nil, err
	}
	return nil, l.Broadcast(ctx, tx)
}
