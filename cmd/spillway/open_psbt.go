package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/download"
	"github.com/spillway/spillway/payer"
	"github.com/spillway/spillway/paywall"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/wallet/psbt"
)

// outside opens a channel that another wallet funds, as far as what is there allows.
// The order never changes: invitation saved, address told; PSBT checked, channel saved,
// refund held and exported; signatures taken; opening and funding sent. p is what that
// wallet gave; nil: nothing.
func (o *opener) outside(ctx context.Context, p *psbt.Packet) error {
	if done, err := o.arrived(ctx); done || err != nil {
		return err
	}
	if p != nil {
		return o.take(ctx, p)
	}
	if r, err := o.begun(ctx); err != nil {
		return err
	} else if r != nil {
		return o.finish(ctx, r.Terms.ID())
	}
	if r, err := o.waiting(ctx, wire.OutPoint{}); err != nil {
		return err
	} else if r != nil {
		return o.tellSign(ctx, *r, nil)
	}
	v, err := o.invitation(ctx)
	if err != nil {
		return err
	}
	return o.tellPay(v)
}

// cosigned reports whether the payee signs the refund of such a channel.
func cosigned(kind script.Construction) bool {
	return kind == script.Multisig || kind == script.MultisigP2SH
}

// readPSBT reads a PSBT from a file, or, where that is -, from the standard input.
func (a *app) readPSBT(file string) (p *psbt.Packet, err error) {
	in := a.stdin
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		in = f
	}
	raw, err := io.ReadAll(io.LimitReader(in, psbt.MaxBytes+1))
	if err != nil {
		return nil, err
	}
	return psbt.Read(raw)
}

// invitation is the one that is not answered yet, or a new one.
func (o *opener) invitation(ctx context.Context) (payer.Invitation, error) {
	all, err := o.payer.Invitations(ctx)
	if err != nil {
		return payer.Invitation{}, err
	}
	for _, v := range all {
		fits := paywall.Origin(v.Origin) == paywall.Origin(o.url) && (o.kind == "" || o.kind == v.Kind) && (o.capacity == 0 || o.capacity == v.Capacity) &&
			(o.back == nil || string(o.back) == string(v.Back))
		if fits && o.client.Alive(v.RawOffer, cosigned(v.Kind)) == nil {
			return v, nil
		}
	}
	p, err := o.buy.PlanChannel(ctx, download.Want{URL: o.url, Construction: o.kind}, o.capacity)
	if err != nil {
		return payer.Invitation{}, err
	}
	o.describe(p)
	if err := o.app.capAllows(p.Capacity); err != nil {
		return payer.Invitation{}, err
	}
	return o.client.Invite(ctx, p.Quote, paywall.Opening{Construction: p.Construction, Capacity: p.Capacity, Back: o.back})
}

// tellPay says what the other wallet is to pay.
func (o *opener) tellPay(v payer.Invitation) error {
	a := o.app
	addr, err := addressOf(v.Script, o.params)
	if err != nil {
		return err
	}
	result := map[string]any{"step": "pay", "address": addr, "amount_sat": v.Capacity, "script": v.Script.String(),
		"construction": v.Kind, "capacity_sat": v.Capacity, "expiry_height": v.Offer.Expiry}
	a.out.say("Make this payment in your wallet, from native segwit coins (bc1…, tb1…). Do not sign it and do not send it: save it as a PSBT.")
	if v.Kind != script.Taproot && v.Kind != script.Duplex {
		// nothing that a camera or a click would pay: the provider has to sign the refund first
		a.out.say("Sent as it is, the money could only be moved together with the provider: its signature under the refund is had with the PSBT.")
		a.out.print("pay      %s\nto       %s", money(v.Capacity*1000), addr)
	} else {
		uri := bip21(addr, v.Capacity, "Spillway channel")
		result["uri"] = uri
		a.out.print("pay      %s\nto       %s\nURI      %s", money(v.Capacity*1000), addr, uri)
		if err := a.showQR(uri, o.flags.qr); err != nil {
			return err
		}
	}
	a.out.say("Then: spillway open %s --psbt unsigned.psbt", o.url)
	return a.out.result(result)
}

// waiting is the channel at this origin that waits for the signatures of the other
// wallet; at, where it is set, names its funding, wherever it is.
func (o *opener) waiting(ctx context.Context, at wire.OutPoint) (*channel.PayerRecord, error) {
	records, err := o.payer.Records(ctx)
	if err != nil {
		return nil, err
	}
	for i := range records {
		r := &records[i]
		if at.Hash != (wire.OutPoint{}).Hash {
			if r.Terms.Outpoint.Hash == at.Hash {
				return r, nil
			}
		} else if o.here(*r) && r.Unsigned && !r.Void() && o.client.Alive(r.Offer, false) == nil {
			return r, nil
		}
	}
	return nil, nil
}

// take takes a PSBT: of a channel that is known already, or of an invitation.
func (o *opener) take(ctx context.Context, p *psbt.Packet) error {
	r, err := o.waiting(ctx, wire.OutPoint{Hash: p.Tx().TxHash()})
	if err != nil {
		return err
	}
	if r == nil {
		if r, err = o.bind(ctx, p); err != nil {
			return err
		}
	}
	id := r.Terms.ID()
	if !r.Unsigned {
		return o.finish(ctx, id)
	}
	if err := o.alive(ctx, *r); err != nil {
		return err
	}
	// again: coins may be spent meanwhile, and a run may have stopped before
	f, err := o.checked(ctx, p, r.Terms.Outpoint, int64(r.Terms.Capacity))
	if err != nil {
		return err
	}
	if err := o.client.Secure(ctx, id, paywall.Expect{}); err != nil {
		return err
	}
	if !p.Signed() {
		return o.tellSign(ctx, *r, p)
	}
	tx, err := psbt.Finalize(p, f.Tx, f.Prevouts)
	if err != nil {
		return err
	}
	if err := o.payer.TakeFunding(ctx, id, tx); err != nil {
		return err
	}
	o.app.out.say("The signatures are right. Opening channel %s.", id)
	return o.finish(ctx, id)
}

// alive refuses to go on on an offer that the provider may have forgotten. Nothing was
// sent; the channel is given up and watched, should the other wallet send it yet.
func (o *opener) alive(ctx context.Context, r channel.PayerRecord) error {
	signs := r.Terms.Cosigned() && len(r.RefundSig) == 0
	err := o.client.Alive(r.Offer, signs)
	if err == nil {
		return nil
	}
	f := *explain(err)
	f.money, f.next = "Nothing was sent and nothing is locked.", "Throw this transaction away in your wallet, and begin again: spillway open "+o.url+" --psbt"
	if _, cancelled := o.payer.Cancel(ctx, r.Terms.ID()); cancelled != nil && !errors.Is(cancelled, channel.ErrFinalized) {
		return errors.Join(&f, cancelled)
	}
	return &f
}

// bind checks the PSBT of an invitation and makes it a channel.
func (o *opener) bind(ctx context.Context, p *psbt.Packet) (*channel.PayerRecord, error) {
	all, err := o.payer.Invitations(ctx)
	if err != nil {
		return nil, err
	}
	for _, v := range all {
		for _, out := range p.Tx().TxOut {
			if string(out.PkScript) != string(v.Script) {
				continue
			}
			if err := o.client.Alive(v.RawOffer, cosigned(v.Kind)); err != nil {
				f := *explain(err)
				f.money, f.next = noMoney, "Throw this transaction away in your wallet, and begin again: spillway open "+o.url+" --psbt"
				return nil, &f
			}
			f, err := o.check(ctx, p, psbt.Want{Script: v.Script, Amount: int64(v.Capacity)})
			if err != nil {
				return nil, err
			}
			r, err := o.payer.Bind(ctx, v.Script, v.Capacity, f.Tx, f.Prevouts)
			return &r, err
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%w: nobody was asked to fund one: spillway open %s --psbt", psbt.ErrNoOutput, o.url)
	}
	addr, err := addressOf(all[0].Script, o.params)
	if err != nil {
		return nil, err
	}
	return nil, fmt.Errorf("%w: it has to pay %d sat to %s", psbt.ErrNoOutput, all[0].Capacity, addr)
}

// checked checks a PSBT whose channel is known.
func (o *opener) checked(ctx context.Context, p *psbt.Packet, at channel.Outpoint, amount int64) (*psbt.Funding, error) {
	tx := p.Tx()
	if int64(at.Index) >= int64(len(tx.TxOut)) {
		return nil, psbt.ErrNoOutput
	}
	return o.check(ctx, p, psbt.Want{Script: tx.TxOut[at.Index].PkScript, Amount: amount})
}

// check completes what is wanted with what the chain says, and checks.
func (o *opener) check(ctx context.Context, p *psbt.Packet, w psbt.Want) (*psbt.Funding, error) {
	tip, err := o.chain.Tip(ctx)
	if err != nil {
		return nil, err
	}
	if w.Rate, err = o.chain.FeeRate(ctx, 3); err != nil {
		return nil, err
	}
	w.Height, w.Spent = tip.Height, map[wire.OutPoint]psbt.Spent{}
	tx := p.Tx()
	for _, in := range tx.TxIn {
		s, err := o.spent(ctx, in.PreviousOutPoint, tx, tip.Height)
		if err != nil {
			return nil, err
		}
		w.Spent[in.PreviousOutPoint] = s
	}
	f, err := w.Check(p)
	if err == nil && f.Believed > 0 {
		o.app.out.say("This blockchain does not know what %s spend; the PSBT's word counts, and its signatures will show.", count(uint64(f.Believed), "input"))
	}
	return f, err
}

// spent is what the chain says of an output.
func (o *opener) spent(ctx context.Context, at wire.OutPoint, by *wire.MsgTx, height uint32) (s psbt.Spent, err error) {
	info, err := o.chain.Tx(ctx, at.Hash)
	if errors.Is(err, chain.ErrNotFound) {
		return s, nil
	} else if err != nil {
		return s, err
	}
	if int64(at.Index) >= int64(len(info.Tx.TxOut)) {
		return s, fmt.Errorf("%w: %s has no such output", psbt.ErrUTXO, at)
	}
	s.Out = info.Tx.TxOut[at.Index]
	if in := info.Tx.TxIn; len(in) == 1 && in[0].PreviousOutPoint == (wire.OutPoint{Index: wire.MaxPrevOutIndex}) {
		s.Immature = !info.Confirmed || height+1 < info.Height+100
	}
	spend, err := o.chain.Spend(ctx, at)
	if err != nil {
		return s, err
	}
	s.Taken = spend != nil && spend.Txid != by.TxHash()
	return s, nil
}

// tellSign says that the PSBT was checked and may be signed.
func (o *opener) tellSign(ctx context.Context, r channel.PayerRecord, p *psbt.Packet) error {
	a, t := o.app, r.Terms
	a.out.say("Checked, and the refund is held: what is unpaid comes back from height %d on in any case. Now sign it in your wallet, without sending it.", t.Expiry)
	a.out.print("channel  %s\nlocks    %s\nrefund   from height %d on", t.ID(), money(t.Capacity*1000), t.Expiry)
	result := map[string]any{"step": "sign", "channel_id": t.ID(), "capacity_sat": t.Capacity, "funding_txid": t.Outpoint.Hash.String(),
		"expiry_height": t.Expiry, "export_file": o.exported(t.ID())}
	if p != nil {
		text, err := p.Base64()
		if err != nil {
			return err
		}
		result["psbt"] = text
		raw, err := p.Bytes()
		if err != nil {
			return err
		}
		if err := a.showPSBT(raw, o.flags.qr); err != nil {
			return err
		}
	}
	a.out.say("Then: spillway open %s --psbt signed.psbt", o.url)
	return a.out.result(result)
}
