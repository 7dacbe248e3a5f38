package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/btcsuite/btcd/address/v2"
	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/download"
	"github.com/spillway/spillway/script"
)

func outpoint(t channel.Terms) wire.OutPoint { return wire.OutPoint(t.Outpoint) }

// demoTx is a transaction as the demo tells of it.
type demoTx struct {
	Role    string   `json:"role"`
	Txid    string   `json:"txid"`
	Hex     string   `json:"hex"`
	VSize   int64    `json:"vsize"`
	Fee     int64    `json:"fee_sat"`
	Height  *uint32  `json:"height"`
	outputs []string // for people
}

func describeTx(role string, tx *wire.MsgTx, fee int64, height *uint32) (demoTx, error) {
	raw, err := channel.EncodeTx(tx)
	if err != nil {
		return demoTx{}, err
	}
	d := demoTx{Role: role, Txid: tx.TxHash().String(), Hex: hex.EncodeToString(raw), VSize: script.VSize(tx), Fee: fee, Height: height}
	for _, out := range tx.TxOut {
		to := hex.EncodeToString(out.PkScript)
		if _, addrs, _, err := txscript.ExtractPkScriptAddrs(out.PkScript, &chaincfg.RegressionNetParams); err == nil && len(addrs) == 1 {
			to = shortAddress(addrs[0])
		}
		d.outputs = append(d.outputs, fmt.Sprintf("%s to %s", money(uint64(out.Value)*1000), to))
	}
	return d, nil
}

func shortAddress(a address.Address) string {
	text := a.EncodeAddress()
	if len(text) > 24 {
		return text[:14] + "…" + text[len(text)-6:]
	}
	return text
}

// channelOutput is what the refund and the settlement spend.
type channelOutput struct{ capacity int64 }

func (c *channelOutput) fee(tx *wire.MsgTx) int64 {
	fee := c.capacity
	for _, out := range tx.TxOut {
		fee -= out.Value
	}
	return fee
}

// picture draws the channel filling.
type picture struct {
	story *story
	shown uint64
	said  string
	drawn bool
	last  time.Time
}

// event draws, on a terminal in place, elsewhere at every tenth.
func (p *picture) event(ev download.Event) {
	out := p.story.app.out
	if ev.Phase != download.Buying || ev.Size == 0 || out.quiet {
		return
	}
	line := p.line(min(ev.Chunk, ev.Chunks), ev.Chunks, ev.Paid)
	if out.drawn() {
		if now := time.Now(); now.Sub(p.last) > 50*time.Millisecond || ev.Bytes == ev.Size {
			p.last, p.drawn = now, true
			out.redraw(line)
		}
		return
	}
	if tenth := ev.Bytes * 10 / ev.Size; line != p.said && (tenth > p.shown || p.said == "") {
		p.shown, p.said = tenth, line
		out.say("%s", line)
	}
}

// line is the channel: what is still the payer's to the left, what is the
// provider's to the right.
func (p *picture) line(chunks, all, paid uint64) string {
	capacity := p.story.plan.Capacity
	return fmt.Sprintf("   payer %11s│%s│%-11s provider   %d of %s verified and paid",
		money((capacity-paid)*1000), flipped(paid, capacity, 30), money(paid*1000), chunks, count(all, "chunk"))
}

// full draws the channel as it is at the end.
func (p *picture) full(chunks, paid uint64) {
	out := p.story.app.out
	line := p.line(chunks, chunks, paid)
	if out.drawn() {
		out.redraw(line)
		p.drawn = true
		p.done()
		return
	}
	out.say("%s", line)
}

// flipped is a bar that fills from the provider's end.
func flipped(part, whole uint64, width int) string {
	full := strings.Count(bar(part, whole, width), "█")
	return strings.Repeat("░", width-full) + strings.Repeat("█", full)
}

func (p *picture) done() {
	if p.drawn {
		p.story.app.out.say("")
	}
}

// transactions are the channel's, with what each cost.
func (s *story) transactions(ctx context.Context) ([]demoTx, channel.PayerRecord, error) {
	rec, err := s.buyer.payer.Record(ctx, s.result.Channel)
	if err != nil {
		return nil, rec, err
	}
	funding, err := s.lookup(ctx, "funding", rec.Terms.Outpoint.Hash)
	if err != nil {
		return nil, rec, err
	}
	spend, err := s.buyer.chain.Spend(ctx, outpoint(rec.Terms))
	if err != nil {
		return nil, rec, err
	}
	settlement, err := s.lookup(ctx, "settlement", spend.Txid)
	return []demoTx{funding, s.refund, settlement}, rec, err
}

// lookup describes a mined transaction; its fee is what its inputs held more
// than its outputs.
func (s *story) lookup(ctx context.Context, role string, id chainhash.Hash) (demoTx, error) {
	info, err := s.buyer.chain.Tx(ctx, id)
	if err != nil {
		return demoTx{}, err
	}
	var fee int64
	for _, in := range info.Tx.TxIn {
		prev, err := s.buyer.chain.Tx(ctx, in.PreviousOutPoint.Hash)
		if err != nil {
			return demoTx{}, err
		}
		fee += prev.Tx.TxOut[in.PreviousOutPoint.Index].Value
	}
	for _, out := range info.Tx.TxOut {
		fee -= out.Value
	}
	height := info.Height
	return describeTx(role, info.Tx, fee, &height)
}

// tell ends the story: the transactions, who has what, and the file on both sides.
func (s *story) tell(ctx context.Context) error {
	txs, rec, err := s.transactions(ctx)
	if err != nil {
		return err
	}
	sold, err := fileHash(s.file)
	if err != nil {
		return err
	}
	bought, err := fileHash(s.result.Path)
	if err != nil {
		return err
	}
	if sold != bought {
		return fmt.Errorf("the file that was bought is not the one that was sold: %s and %s", bought, sold)
	}
	payer, err := s.buyer.wallet.Balance(ctx)
	if err != nil {
		return err
	}
	payee, err := s.provider.role.wallet.Balance(ctx)
	if err != nil {
		return err
	}
	kind := "unilateral"
	if rec.Terms.Construction == script.Taproot && rec.Phase == channel.Closing || rec.Close != nil && rec.Terms.Construction == script.Taproot {
		kind = "cooperative"
	}
	seconds := time.Since(s.begin).Seconds()
	s.table(txs)
	s.app.out.print("\nwho has what   payer %s, provider %s (was: all with the payer)", money(uint64(payer.Confirmed+payer.Unconfirmed)*1000), money(uint64(payee.Confirmed+payee.Unconfirmed)*1000))
	s.app.out.print("paid           %s in %s of one signature each; one took %.2f ms (median, verified and saved)", money(rec.Signed*1000), count(uint64(s.result.Payments), "payment"), s.payments.median())
	s.app.out.print("the file       %s\n  provider     sha256 %s\n  payer        sha256 %s", s.plan.Manifest.Name, sold, bought)
	s.app.out.print("in all         %.1f seconds, %d transactions on the chain", seconds, 2)
	return s.app.out.result(map[string]any{
		"file": s.file, "size": s.plan.Manifest.Size, "chunks": s.plan.Manifest.Chunks(), "payments": s.result.Payments,
		"channel": s.flags.channel, "capacity_sat": rec.Terms.Capacity, "paid_sat": rec.Signed,
		"funding_txid": txs[0].Txid, "refund_txid": txs[1].Txid, "settlement_txid": txs[2].Txid, "settlement_kind": kind,
		"confirmed": txs[0].Height != nil && txs[2].Height != nil, "refund_refused": s.refused,
		"payer_balance_sat": payer.Confirmed + payer.Unconfirmed, "payee_balance_sat": payee.Confirmed + payee.Unconfirmed,
		"sha256_provider": sold, "sha256_payer": bought, "root": s.plan.Manifest.Root.String(),
		"vsize_total": txs[0].VSize + txs[2].VSize, "fees_sat": txs[0].Fee + txs[2].Fee, "seconds": seconds,
		"payment_ms_p50": s.payments.median(), "transactions": txs,
	})
}

// table prints the transactions.
func (s *story) table(txs []demoTx) {
	s.app.out.print("\n%-11s %-64s %6s %8s  %s", "role", "txid", "vB", "fee sat", "outputs")
	for _, tx := range txs {
		where := "refused: too early"
		if tx.Height != nil {
			where = fmt.Sprintf("mined at height %d", *tx.Height)
		}
		s.app.out.print("%-11s %s %6d %8d  %s", tx.Role, tx.Txid, tx.VSize, tx.Fee, strings.Join(tx.outputs, ", "))
		s.app.out.print("%-11s %s", "", where)
	}
}
