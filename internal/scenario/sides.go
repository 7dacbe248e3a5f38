package scenario

import (
	"errors"
	"fmt"
	"time"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain/devnet"
	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/keys"
	"github.com/spillway/spillway/payee"
	"github.com/spillway/spillway/payer"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/wallet"
)

// buyer is the payer: its disk outlives its process.
type buyer struct {
	stage  *Stage
	keys   *keys.Keyring
	disk   *disk
	line   *line
	wallet *wallet.Wallet
	*payer.Payer
}

// restart makes the payer's process anew; only its disk is as it was.
func (b *buyer) restart() (err error) {
	s := b.stage
	b.wallet, err = wallet.New(s.ctx, wallet.Config{Keys: b.keys, Chain: b.line, Store: b.disk, Params: devnet.Params()})
	if err != nil {
		return err
	}
	b.Payer, err = payer.New(payer.Config{
		Store: b.disk, Keys: b.keys, Wallet: b.wallet, Chain: b.line, Network: "regtest", Policy: s.policy, Rand: s.random(),
	})
	return err
}

func (b *buyer) look() error { return b.line.watch(b.stage.ctx, b.Payer) }

// seller is the payee, whom people know as the provider.
type seller struct {
	stage  *Stage
	keys   *keys.Keyring
	disk   *disk
	line   *line
	payout []byte
	credit uint64 // msat
	*payee.Payee
}

// restart makes the provider's process anew; only its disk is as it was.
func (p *seller) restart() (err error) {
	s := p.stage
	if _, p.payout, err = p.keys.WalletKey(false, 0); err != nil {
		return err
	}
	s.book.owns(Payee, p.payout)
	kinds := oneWay
	if s.kind == script.Duplex {
		kinds = everyWay
	}
	p.Payee, err = payee.New(payee.Config{
		Store: p.disk, Keys: p.keys, Chain: p.line, Network: "regtest", Payout: p.payout, Policy: s.policy, Constructions: kinds,
		Dearest: func() uint64 { return price }, Now: func() time.Time { return s.now }, Rand: s.random(),
	})
	return err
}

func (p *seller) look() error { return p.line.watch(p.stage.ctx, p.Payee) }

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

// offer asks the provider for terms.
func (s *Stage) offer() (channel.Offer, error) {
	return s.payee.Offer(s.ctx, payee.Price{Chunk: price, Least: price, Total: 10 * price, Credit: s.payee.credit})
}

// prepare goes through the steps of opening up to the point where T1 may leave.
func (s *Stage) prepare() (channel.Offer, *deal, error) {
	o, err := s.offer()
	if err != nil {
		return o, nil, err
	}
	r, err := s.payer.Prepare(s.ctx, payer.OpenRequest{Offer: o, Construction: s.kind, Capacity: capacity, Origin: "scenario"})
	if err != nil {
		return o, nil, err
	}
	d := &deal{id: r.Terms.ID(), terms: r.Terms}
	if d.funding, err = channel.DecodeTx(r.FundingTx); err != nil {
		return o, nil, err
	}
	s.book.owns(Payer, r.Terms.RestScript, r.RefundScript)
	if !r.Terms.Cosigned() {
		return o, d, nil
	}
	tx, err := s.payer.RefundRequest(s.ctx, d.id)
	if err != nil {
		return o, nil, err
	}
	t := r.Terms
	sig, err := s.payee.Prepare(s.ctx, o, channel.Opening{
		Construction: t.Construction, PayerKey: t.PayerKey, Outpoint: t.Outpoint, Capacity: t.Capacity, RestScript: t.RestScript,
	}, tx)
	if err != nil {
		return o, nil, err
	}
	return o, d, s.payer.TakeRefundSignature(s.ctx, d.id, sig)
}

// open opens a channel; T1 waits in the mempool when it returns.
func (s *Stage) open() (*deal, error) {
	o, d, err := s.prepare()
	if err != nil {
		return nil, err
	}
	op, err := s.payer.Opening(s.ctx, d.id)
	if err != nil {
		return nil, err
	}
	if _, err := s.payee.Open(s.ctx, o, op); err != nil {
		return nil, err
	}
	s.channels = append(s.channels, d)
	return d, s.payer.Accepted(s.ctx, d.id)
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

// ask sends the payer's newest update and asks for so many new chunks.
func (s *Stage) ask(d *deal, n uint64) (payee.Receipt, error) {
	u, err := s.payer.Newest(s.ctx, d.id)
	if err != nil {
		return payee.Receipt{}, err
	}
	return s.request(d, u, n)
}

// request sends an update and asks for so many new chunks.
func (s *Stage) request(d *deal, u channel.Update, n uint64) (payee.Receipt, error) {
	q := payee.Request{Channel: d.id, Update: &u, Credit: s.payee.credit}
	for i := range n {
		q.Items = append(q.Items, item(d.chunks+i))
	}
	got, err := s.payee.Pay(s.ctx, q)
	if err == nil || errors.Is(err, channel.ErrInsufficient) || errors.Is(err, channel.ErrExpiring) || errors.Is(err, channel.ErrUnconfirmed) {
		d.take(u) // a refusal of the goods is none of the money
	}
	if err == nil {
		d.chunks += n
		d.delivered += n * price
	}
	s.exposed()
	return got, err
}

// item is a chunk of the file that everybody buys.
func item(i uint64) payee.Item { return payee.Item{Resource: [32]byte{7}, Chunk: i, Price: price} }

// sign is the payer's part after a chunk: it was verified, so it is paid.
func (s *Stage) sign(d *deal, msat uint64) error {
	d.verified += msat
	_, err := s.payer.Pay(s.ctx, d.id, payer.Payment{Verified: msat}, channel.Limits{Budget: channel.MaxSat})
	return err
}

// buy buys n chunks, one by one, each verified and then paid; the last update is
// sent as well.
func (s *Stage) buy(d *deal, n int) error {
	for range n {
		if _, err := s.ask(d, 1); err != nil {
			return err
		}
		if err := s.sign(d, price); err != nil {
			return err
		}
	}
	_, err := s.ask(d, 0)
	return err
}

// close closes a channel as two honest sides do.
func (s *Stage) close(d *deal) error {
	c, err := s.payer.BeginClose(s.ctx, d.id)
	if err != nil {
		return err
	}
	if d.terms.Cosigned() {
		b, err := s.payee.Settle(s.ctx, d.id, &c.Update, true)
		if err != nil {
			return err
		}
		_, err = s.payer.TakeSettlement(s.ctx, d.id, b.Tx)
		return err
	}
	answer, err := s.payee.Close(s.ctx, d.id, channel.CloseRequest{Update: c.Update, PayerNonce: c.Nonce[:]})
	if err != nil {
		return err
	}
	final, err := s.payer.FinishClose(s.ctx, d.id, c, answer.Tx, [66]byte(answer.PayeeNonce), answer.Partial)
	if err != nil {
		return err
	}
	return s.payee.FinishClose(s.ctx, d.id, final)
}

// sat writes an amount for people.
func sat(n uint64) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text + " sat"
}
