package paywall

import (
	"context"
	"errors"
	"net/http"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/mpp/bitcoin"
	"github.com/spillway/spillway/payee"
)

// Trader is a Client of a payee: it buys from the peer that funded a duplex channel
// here, over that channel. What is owed and signed is decided and saved by the payee's
// driver; the trader only carries it. docs/protocol.md, "Trading".
type Trader struct {
	client *Client
	payee  *payee.Payee
}

// NewTrader checks the configuration; its Payer is not looked at.
func NewTrader(p *payee.Payee, cfg ClientConfig) (*Trader, error) {
	if p == nil || cfg.Network == "" {
		return nil, errors.New("paywall: a trader needs a payee and a network")
	}
	cfg.Payer = nil
	return &Trader{client: newClient(cfg, p.MACKey), payee: p}, nil
}

// Get is Client.Get.
func (t *Trader) Get(ctx context.Context, target string, header http.Header, limit int64) (body []byte, at string, err error) {
	return t.client.Get(ctx, target, header, limit)
}

// NewKey is Client.NewKey.
func (t *Trader) NewKey() (string, error) { return t.client.NewKey() }

// Fetch gets a resource from the peer, with the newest state that this side signed.
// The answer is a success, and its body has to be closed; what is in it is for the
// caller to verify. p.Update is not looked at. Errors: as Client.Fetch;
// channel.ErrUnsupported where money flows one way, payee.ErrUnknown.
func (t *Trader) Fetch(ctx context.Context, p Paid) (*http.Response, bitcoin.Receipt, error) {
	a, err := t.ask(ctx, http.MethodGet, p)
	if err != nil {
		return nil, bitcoin.Receipt{}, err
	}
	resp, err := t.client.send(ctx, a)
	if err != nil {
		return nil, bitcoin.Receipt{}, err
	}
	receipt, err := tradeReceipt(a, resp)
	if err != nil {
		return nil, receipt, errors.Join(err, resp.Body.Close())
	}
	return resp, receipt, nil
}

// Pay brings the newest state to the peer by itself. Errors: as Fetch.
func (t *Trader) Pay(ctx context.Context, p Paid) (bitcoin.Receipt, error) {
	p.Expect = p.Expect.settled()
	a, err := t.ask(ctx, http.MethodPost, p)
	if err != nil {
		return bitcoin.Receipt{}, err
	}
	var receipt bitcoin.Receipt
	err = t.client.settling(p.URL, func(target string) error {
		a.target = target
		resp, err := t.client.send(ctx, a)
		if err != nil {
			return err
		}
		receipt, err = tradeReceipt(a, resp)
		return errors.Join(err, closeAnswer(resp.Body))
	})
	return receipt, err
}

// ask is a request with the newest state of this side.
func (t *Trader) ask(ctx context.Context, method string, p Paid) (ask, error) {
	r, err := t.payee.Record(ctx, p.Channel)
	if err != nil {
		return ask{}, err
	}
	if r.Duplex == nil {
		return ask{}, channel.ErrUnsupported
	}
	sent := r.Duplex.Sent
	v := bitcoin.Voucher{ChannelID: p.Channel, FromPayee: true, CumulativeAmount: sent.Amount, Signature: sent.Signature, Epoch: sent.Epoch}
	if v.Epoch > 0 {
		v.LockHeight, _ = r.Terms.Lock(v.Epoch)
	}
	return ask{method: method, id: p.Channel, target: p.URL, payload: v, header: p.Header, key: p.Key, expect: p.Expect}, nil
}

// tradeReceipt reads and checks the receipt of a success.
func tradeReceipt(a ask, resp *http.Response) (bitcoin.Receipt, error) {
	r, err := bitcoin.ParseReceipt(resp.Header.Values("Payment-Receipt"))
	switch {
	case err != nil:
		return r, misbehaved("%w", err)
	case r.ChannelID != a.id:
		return r, misbehaved("a receipt for channel %s, paid was on %s", r.ChannelID, a.id)
	}
	return r, nil
}

// Quote asks for the price of a resource without paying. Errors: as Client.Quote.
func (t *Trader) Quote(ctx context.Context, target string, e Expect) (*Quoted, error) {
	return t.client.Quote(ctx, target, e)
}
