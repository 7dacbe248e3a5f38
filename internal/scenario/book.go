package scenario

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/script"
)

// Roles of transactions.
const (
	roleFunding     = "funding"
	roleRefund      = "refund"
	roleSettlement  = "settlement"
	roleDoubleSpend = "double-spend"
	roleOldState    = "old-state"
)

// Amounts are both sides' parts of something.
type Amounts struct {
	Payer int64 `json:"payer_sat"`
	Payee int64 `json:"payee_sat"`
}

func (a *Amounts) add(to Side, v int64) {
	if to == Payee {
		a.Payee += v
	} else {
		a.Payer += v
	}
}

// Transaction is one that was sent, mined or not.
type Transaction struct {
	Role    string  `json:"role"`
	By      Side    `json:"by"` // who made it
	Txid    string  `json:"txid"`
	Hex     string  `json:"hex"`
	VSize   int64   `json:"vsize"`
	Fee     int64   `json:"fee_sat"`
	Height  *uint32 `json:"height"`            // of its block; null: it is in none
	Refused string  `json:"refused,omitempty"` // what the chain said to it, the first time
	Taken   bool    `json:"taken"`             // nodes took it, at some time; it may have been replaced since
}

// book is what the stage notes of all that was sent, and of who owns what.
type book struct {
	seen    []entry
	roles   map[chainhash.Hash]string // of what was sent without a driver
	had     Amounts                   // sat, of the wallets before the story
	owner   map[string]Side           // by output script
	highest uint64                    // msat, the most that was released and unpaid at once
}

type entry struct {
	tx      *wire.MsgTx
	by      Side
	role    string // empty: told from its form
	refused string // the first time
	taken   bool   // by nodes, at some time
}

func (b *book) owns(who Side, scripts ...[]byte) {
	if b.owner == nil {
		b.owner = map[string]Side{}
	}
	for _, pk := range scripts {
		b.owner[string(pk)] = who
	}
}

// heard takes down what was sent since the last time, and what became of it.
func (s *Stage) heard() error {
	var all []sending
	if err := s.node.order(s.ctx, "sent", nil, &all); err != nil {
		return err
	}
	for _, x := range all {
		tx, err := channel.DecodeTx(x.Tx)
		if err != nil {
			return err
		}
		s.book.note(entry{tx: tx, by: x.By, refused: x.Refused, taken: x.Taken})
	}
	return nil
}

// note notes a broadcast and what became of it.
func (b *book) note(n entry) {
	id := n.tx.TxHash()
	for i, e := range b.seen {
		if e.tx.TxHash() == id {
			b.seen[i].taken = e.taken || n.taken
			return
		}
	}
	n.role = b.roles[id]
	b.seen = append(b.seen, n)
}

// exposed notes what is released and unpaid now.
func (s *Stage) exposed() {
	var sum uint64
	for _, d := range s.channels {
		sum += d.unpaid()
	}
	s.book.highest = max(s.book.highest, sum)
}

// broadcast has a side send a transaction that it made without its driver.
func (s *Stage) broadcast(by Side, role string, tx *wire.MsgTx) error {
	raw, err := channel.EncodeTx(tx)
	if err != nil {
		return err
	}
	if s.book.roles == nil {
		s.book.roles = map[chainhash.Hash]string{}
	}
	s.book.roles[tx.TxHash()] = role
	h := &s.payer.hand
	if by == Payee {
		h = &s.payee.hand
	}
	sent := h.do("broadcast", raw, nil)
	if err := s.heard(); err != nil {
		return err
	}
	return sent
}

// roleOf tells what a transaction is for.
func (s *Stage) roleOf(e entry) string {
	if e.role != "" {
		return e.role
	}
	for _, d := range s.channels {
		switch {
		case e.tx.TxHash() == d.funding.TxHash():
			return roleFunding
		case e.tx.TxIn[0].PreviousOutPoint == wire.OutPoint(d.terms.Outpoint) && e.tx.LockTime == d.terms.Expiry:
			return roleRefund
		}
	}
	return roleSettlement
}

// transactions describes all that was sent.
func (s *Stage) transactions() ([]Transaction, error) {
	var all []Transaction
	for _, e := range s.book.seen {
		raw, err := channel.EncodeTx(e.tx)
		if err != nil {
			return nil, err
		}
		fee, err := s.fee(e.tx)
		if err != nil {
			return nil, err
		}
		t := Transaction{
			Role: s.roleOf(e), By: e.by, Txid: e.tx.TxHash().String(), Hex: hex.EncodeToString(raw),
			VSize: script.VSize(e.tx), Fee: fee, Refused: e.refused, Taken: e.taken,
		}
		if t.Role == roleFunding {
			t.By = Payer // whoever was the first to broadcast it
		}
		info, err := s.chain.Tx(s.ctx, e.tx.TxHash())
		switch {
		case errors.Is(err, chain.ErrNotFound):
		case err != nil:
			return nil, err
		case info.Confirmed:
			t.Height = &info.Height
		}
		all = append(all, t)
	}
	return all, nil
}

// fee is what a transaction's inputs hold more than its outputs, in sat.
func (s *Stage) fee(tx *wire.MsgTx) (int64, error) {
	var fee int64
	for _, in := range tx.TxIn {
		out, err := s.output(in.PreviousOutPoint)
		if err != nil {
			return 0, err
		}
		fee += out.Value
	}
	for _, out := range tx.TxOut {
		fee -= out.Value
	}
	return fee, nil
}

// output finds an output on the chain, or in a funding that is not there any more.
func (s *Stage) output(op wire.OutPoint) (*wire.TxOut, error) {
	for _, d := range s.channels {
		if d.funding.TxHash() == op.Hash {
			return d.funding.TxOut[op.Index], nil
		}
	}
	info, err := s.chain.Tx(s.ctx, op.Hash)
	if err != nil {
		return nil, fmt.Errorf("what %s spends: %w", op, err)
	}
	return info.Tx.TxOut[op.Index], nil
}

// ended is what took a channel's money: the mined transaction that spends its
// output, or that of its funding's inputs which was mined instead.
func (s *Stage) ended(d *deal) (*wire.MsgTx, error) {
	op := wire.OutPoint(d.terms.Outpoint)
	if d.void {
		op = d.funding.TxIn[0].PreviousOutPoint
	}
	spend, err := s.chain.Spend(s.ctx, op)
	if err != nil || spend == nil || !spend.Confirmed {
		return nil, err
	}
	info, err := s.chain.Tx(s.ctx, spend.Txid)
	return info.Tx, err
}

// bearer is who pays the fee of what ended a channel: whoever completed it, and the
// payee for a close that both signed.
func (s *Stage) bearer(d *deal, tx *wire.MsgTx) Side {
	if len(tx.TxIn[0].Witness) == 1 && !d.void {
		return Payee
	}
	for _, e := range s.book.seen {
		if e.tx.TxHash() == tx.TxHash() {
			return e.by
		}
	}
	return Payer
}

// settledBy are the channels whose outputs a transaction spends.
func (s *Stage) settledBy(tx *wire.MsgTx) (all []*deal) {
	for _, d := range s.channels {
		if slices.ContainsFunc(tx.TxIn, func(in *wire.TxIn) bool { return in.PreviousOutPoint == wire.OutPoint(d.terms.Outpoint) }) {
			all = append(all, d)
		}
	}
	return all
}

// count adds up what a channel left each side on the chain. An output of nobody's
// here, and a channel that has not ended, are faults.
func (s *Stage) count(d *deal, got, fees *Amounts) error {
	tx, err := s.ended(d)
	if err != nil {
		return err
	}
	if tx == nil {
		s.want(false, "the money of channel %s has not moved", d.id)
		return nil
	}
	outs, fee := tx.TxOut, int64(d.terms.Capacity)
	switch all := s.settledBy(tx); {
	case d.void:
		outs = outs[:1] // the capacity; what was change is change again
	case len(all) > 1 && all[0] != d:
		return nil // counted with the first of them
	case len(all) > 1:
		for _, other := range all[1:] {
			fee += int64(other.terms.Capacity)
		}
	}
	for _, out := range outs {
		who, ours := s.book.owner[string(out.PkScript)]
		s.want(ours, "%d sat of %s went to a stranger", out.Value, tx.TxHash())
		fee -= out.Value
		got.add(who, out.Value)
	}
	fees.add(s.bearer(d, tx), fee)
	return nil
}
