package scenario

import (
	"errors"
	"fmt"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/script"
)

// deal is one channel as the stage knows it: what was released, verified and paid,
// counted by the stage itself and not by either side.
type deal struct {
	id        string
	terms     channel.Terms
	funding   *wire.MsgTx
	chunks    uint64 // that were released; the next one's index
	delivered uint64 // msat, released by the provider
	verified  uint64 // msat, what the payer found to be right
	newest    channel.Update
	given     bool // its funding is the faucet's
	void      bool // its funding was spent elsewhere for good
}

// take notes that an update reached its receiver.
func (d *deal) take(u channel.Update) {
	if u.Newer(d.newest) {
		d.newest = u
	}
}

// paid is the payee's share, in sat, in the newest update that reached its receiver.
func (d *deal) paid() uint64 {
	switch {
	case d.void:
		return 0
	case d.newest.Epoch > 0 && channel.SenderOf(d.newest.Epoch) == script.Payee:
		return d.terms.Capacity - d.newest.Amount
	}
	return d.newest.Amount
}

// unpaid is what was released and not paid for, in msat.
func (d *deal) unpaid() uint64 { return d.delivered - min(d.delivered, d.paid()*1000) }

// open opens a channel; T1 waits in the mempool when it returns.
func (s *Stage) open() (*deal, error) {
	var id string
	if err := s.payer.do("open", nil, &id); err != nil {
		return nil, err
	}
	r, err := s.payer.Record(s.ctx, id)
	if err != nil {
		return nil, err
	}
	d := &deal{id: id, terms: r.Terms}
	if d.funding, err = channel.DecodeTx(r.FundingTx); err != nil {
		return nil, err
	}
	s.book.owns(Payer, r.Terms.RestScript, r.RefundScript)
	for i, out := range d.funding.TxOut { // the rest of its coins
		if uint32(i) != r.Terms.Outpoint.Index {
			s.book.owns(Payer, out.PkScript)
		}
	}
	s.channels = append(s.channels, d)
	return d, s.heard()
}

// opened opens a channel, has it mined, and tells of it.
func (s *Stage) opened() (*deal, error) {
	d, err := s.open()
	if err != nil {
		return nil, err
	}
	if err := s.pass(1, s.payer, s.payee); err != nil {
		return nil, err
	}
	s.tell("The payer locks %s in a %s channel until height %d, and holds its refund. The provider has to settle by %d: %d blocks before.",
		sat(d.terms.Capacity), s.kind, d.terms.Expiry, d.terms.Expiry-d.terms.Margin, d.terms.Margin)
	return d, nil
}

// ask sends the payer's newest update and asks for the next chunk, which has to be
// what was bought.
func (s *Stage) ask(d *deal) error {
	u, err := s.payer.Newest(s.ctx, d.id)
	if err != nil {
		return err
	}
	got, err := s.request(d, u)
	if err == nil && got.Wrong != "" {
		return errors.New(got.Wrong)
	}
	return err
}

// request sends an update and asks for the next chunk.
func (s *Stage) request(d *deal, u channel.Update) (got delivery, err error) {
	err = s.payer.do("chunk", askArgs{ID: d.id, Update: u, Chunk: d.chunks}, &got)
	if err == nil || errors.Is(err, channel.ErrInsufficient) || errors.Is(err, channel.ErrExpiring) || errors.Is(err, channel.ErrUnconfirmed) {
		d.take(u) // a refusal of the goods is none of the money
	}
	if err == nil {
		d.chunks++
		d.delivered += price
	}
	s.exposed()
	return got, err
}

// send sends an update alone.
func (s *Stage) send(d *deal, u channel.Update) error {
	err := s.payer.do("pay", askArgs{ID: d.id, Update: u}, nil)
	if err == nil {
		d.take(u)
	}
	return err
}

// pay sends the payer's newest update.
func (s *Stage) pay(d *deal) error {
	u, err := s.payer.Newest(s.ctx, d.id)
	if err != nil {
		return err
	}
	return s.send(d, u)
}

// sign is the payer's part after a chunk: it was verified, so it is paid.
func (s *Stage) sign(d *deal, msat uint64) error {
	d.verified += msat
	return s.payer.do("sign", idArgs{ID: d.id, Msat: msat}, nil)
}

// buy buys n chunks, one by one, each verified and then paid; the last update is
// sent as well.
func (s *Stage) buy(d *deal, n int) error {
	for range n {
		if err := s.ask(d); err != nil {
			return err
		}
		if err := s.sign(d, price); err != nil {
			return err
		}
	}
	return s.pay(d)
}

// close closes a channel as two honest sides do.
func (s *Stage) close(d *deal) error {
	if err := s.payer.do("close", d.id, nil); err != nil {
		return err
	}
	return s.heard()
}

// sat writes an amount for people.
func sat(n uint64) string { return digits(int64(n)) + " sat" }

// digits groups a number by thousands.
func digits(n int64) string {
	sign, text := "", fmt.Sprint(n)
	if n < 0 {
		sign, text = "-", text[1:]
	}
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return sign + text
}
