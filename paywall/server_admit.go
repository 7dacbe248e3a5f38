package paywall

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/mpp"
	"github.com/spillway/spillway/mpp/bitcoin"
	"github.com/spillway/spillway/payee"
	"github.com/spillway/spillway/script"
)

// errExpired: a challenge whose time is over.
var errExpired = errors.New("the challenge has expired; repeat with the fresh one")

// Admit runs the payment protocol for one request. With (grant, true) the charge
// is saved, the receipt's header is set, and the handler may deliver. With
// (nil, false) the answer has been written: a refusal, or that of an action that
// came alone. docs/protocol.md, section 13.
func (s *Server) Admit(w http.ResponseWriter, r *http.Request, res Resource) (*Grant, bool) {
	fields := r.Header.Values(mpp.HeaderCredential)
	if len(fields) == 0 || len(fields) == 1 && !isPayment(fields[0]) {
		s.problem(w, r, res.Quote, nil, s.unpaid(r, res.Quote))
		return nil, false
	}
	v := &visit{s: s, w: w, r: r, res: res}
	if err := v.read(fields); err != nil {
		s.refuse(w, r, res.Quote, nil, err)
		return nil, false
	}
	grant, err := v.act(r.Context())
	if err != nil {
		s.refuse(w, r, res.Quote, v.on, err)
		return nil, false
	}
	return grant, grant != nil
}

func isPayment(field string) bool {
	return len(field) > len(mpp.Scheme) && http.CanonicalHeaderKey(field[:len(mpp.Scheme)]) == mpp.Scheme && field[len(mpp.Scheme)] == ' '
}

// unpaid is the problem of a request without a credential.
func (s *Server) unpaid(r *http.Request, q Quote) *mpp.Problem {
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	url := scheme + "://" + r.Host + r.URL.EscapedPath()
	p := mpp.NewProblem(mpp.ProblemPaymentRequired, fmt.Sprintf(
		"This costs %d msat a chunk, %d msat in all, paid over a bitcoin payment channel. To buy it: spillway get %s", q.ChunkMsat, q.TotalMsat, url))
	return p.With("chunkMsat", fmt.Sprint(q.ChunkMsat)).With("totalMsat", fmt.Sprint(q.TotalMsat)).With("command", "spillway get "+url)
}

// visit is one request with a credential.
type visit struct {
	s          *Server
	w          http.ResponseWriter
	r          *http.Request
	res        Resource
	credential mpp.Credential
	payload    bitcoin.Payload
	key        string         // Idempotency-Key
	on         *payee.Receipt // the channel, once the MAC has proved whose it is
}

// read parses the credential and checks that the challenge was made here.
func (v *visit) read(fields []string) (err error) {
	if v.credential, err = mpp.ParseCredentialMax(fields, v.s.cfg.MaxCredential); err != nil {
		return err
	}
	if err := v.s.own(v.credential.Challenge); err != nil {
		return err
	}
	if v.payload, err = bitcoin.ParsePayload(v.credential.Payload); err != nil {
		return err
	}
	v.key, err = mpp.IdempotencyKey(v.r.Header.Values(mpp.HeaderIdempotencyKey))
	return err
}

// own refuses a challenge that this server did not make.
func (s *Server) own(c mpp.Challenge) error {
	if err := c.Verify(s.cfg.Secret[:]); err != nil {
		return err
	}
	if c.Realm != s.cfg.Realm || c.Method != bitcoin.Method || c.Intent != bitcoin.Intent {
		return fmt.Errorf("%w: it is for another realm, method or intent", mpp.ErrInvalidChallenge)
	}
	return nil
}

// alone: the action is the whole request.
func (v *visit) alone() bool {
	return v.r.Method == http.MethodPost || v.r.Method == http.MethodHead
}

func (v *visit) act(ctx context.Context) (*Grant, error) {
	if v.r.Method == http.MethodPost && v.r.ContentLength != 0 {
		return nil, errAlone
	}
	switch p := v.payload.(type) {
	case bitcoin.Open:
		return v.open(ctx, p)
	case bitcoin.Voucher:
		return v.voucher(ctx, p)
	}
	if v.r.Method != http.MethodPost {
		return nil, errAlone
	}
	switch p := v.payload.(type) {
	case bitcoin.Prepare:
		return nil, v.prepare(ctx, p)
	case bitcoin.Resume:
		return nil, v.resume(ctx, p)
	case bitcoin.Close:
		return nil, v.close(ctx, p)
	default:
		return nil, fmt.Errorf("%w: %s", errAlone, v.payload.Action())
	}
}

// authenticate checks the MAC of an action on a channel that is known. Nothing
// is charged, taken or told before.
func (v *visit) authenticate(ctx context.Context) error {
	key, err := v.s.cfg.Payee.MACKey(ctx, v.payload.Channel())
	if err != nil {
		return err
	}
	if err := bitcoin.Authenticate(v.payload, key, v.credential.Challenge.ID, v.key); err != nil {
		return err
	}
	rec, err := v.s.cfg.Payee.Status(ctx, v.payload.Channel())
	if err != nil {
		return err
	}
	v.on = &rec
	return nil
}

// present refuses a challenge that is over, or that quotes another price than
// the resource has now.
func (v *visit) present() error {
	if v.credential.Challenge.Expired(v.s.cfg.Now()) {
		return errExpired
	}
	req, err := bitcoin.ParseRequest(v.credential.Challenge.Request)
	if err != nil {
		return err
	}
	amount, units := v.res.Quote.price()
	unit := v.res.Quote.UnitType
	if unit == "" {
		unit = bitcoin.UnitChunk
	}
	if req.Amount != amount || req.MethodDetails.UnitsPerAmount != units || req.UnitType != unit {
		return errPrice
	}
	return nil
}

// voucher takes an update, and releases what is asked for with it.
func (v *visit) voucher(ctx context.Context, p bitcoin.Voucher) (*Grant, error) {
	if err := v.authenticate(ctx); err != nil {
		return nil, err
	}
	if err := v.present(); err != nil {
		return nil, err
	}
	return v.pay(ctx, p.ChannelID, channel.Update{Amount: p.CumulativeAmount, Signature: p.Signature})
}

// pay hands an update and what is to be released to the payee's driver.
func (v *visit) pay(ctx context.Context, id string, u channel.Update) (*Grant, error) {
	q := payee.Request{Channel: id, Update: &u, Credit: v.res.Quote.CreditMsat}
	if !v.alone() {
		q.Items = v.res.Items
	}
	before := uint64(0)
	if v.on != nil {
		before = v.on.Paid
	}
	rec, err := v.s.cfg.Payee.Pay(ctx, q)
	if rec.Channel != "" {
		v.on = &rec
	}
	if rec.Paid > before {
		v.s.wake(id)
	}
	if err != nil {
		return nil, err
	}
	if err := v.s.header(v.w, v.credential.Challenge.ID, rec, len(q.Items)); err != nil {
		return nil, err
	}
	if !v.alone() {
		return &Grant{Receipt: rec, Challenge: v.credential.Challenge.ID, server: v.s, quote: v.res.Quote}, nil
	}
	if v.r.Method == http.MethodHead {
		v.w.WriteHeader(http.StatusNoContent)
		return nil, nil
	}
	return nil, answer(v.w, map[string]any{"acceptedCumulative": fmt.Sprint(rec.Paid), "chargedMsat": fmt.Sprint(rec.Charged), "requiredCumulative": fmt.Sprint(rec.Required)})
}

// open takes an opening; with a GET the resource is released in the same turn.
func (v *visit) open(ctx context.Context, p bitcoin.Open) (*Grant, error) {
	if v.r.Method == http.MethodHead {
		return nil, errAlone
	}
	offer, err := v.offer(p.Offer)
	if err != nil {
		return nil, err
	}
	op, err := opening(p.ChannelType, p.PayerPubKey, p.ChannelID, p.Capacity, p.RestScript)
	if err != nil {
		return nil, err
	}
	op.Update = channel.Update{Amount: p.CumulativeAmount, Signature: p.Signature}
	op.FundingTx = p.FundingTx
	if err := v.authenticateFresh(offer, p.PayerPubKey); err != nil {
		return nil, err
	}
	opened, err := v.s.cfg.Payee.Open(ctx, offer, op)
	if err != nil {
		return nil, err
	}
	rec, err := v.s.cfg.Payee.Status(ctx, p.ChannelID)
	if err != nil {
		return nil, err
	}
	v.on = &rec
	if !v.alone() {
		if err := v.present(); err != nil {
			return nil, err
		}
		return v.pay(ctx, p.ChannelID, op.Update)
	}
	if err := v.s.header(v.w, v.credential.Challenge.ID, rec, 0); err != nil {
		return nil, err
	}
	return nil, answer(v.w, bitcoin.OpenAnswer{
		Phase: string(opened.Record.Phase), Confirmations: opened.Record.Terms.Confirmations, Depth: opened.Depth,
	})
}

// offer reads the offer of a challenge that was made here, at most a day ago.
func (v *visit) offer(c mpp.Challenge) (channel.Offer, error) {
	if err := v.s.own(c); err != nil {
		return channel.Offer{}, err
	}
	if c.Expired(v.s.cfg.Now().Add(-offerTTL)) {
		return channel.Offer{}, errExpired
	}
	return ownOffer(c)
}

// authenticateFresh checks the MAC of an action on a channel that is not known yet.
func (v *visit) authenticateFresh(o channel.Offer, payer [33]byte) error {
	key, err := v.s.cfg.Payee.MACKeyFor(o.Nonce, payer)
	if err != nil {
		return err
	}
	return bitcoin.Authenticate(v.payload, key, v.credential.Challenge.ID, v.key)
}

func opening(kind string, payer [33]byte, id string, capacity uint64, rest []byte) (channel.Opening, error) {
	at, err := channel.ParseOutpoint(id)
	if err != nil {
		return channel.Opening{}, fmt.Errorf("%w: %w", bitcoin.ErrPayload, err)
	}
	return channel.Opening{
		Construction: script.Construction(kind), PayerKey: payer, Outpoint: at, Capacity: capacity, RestScript: rest,
	}, nil
}

// prepare signs the refund of a multisig channel; the offer is the challenge
// that the credential echoes.
func (v *visit) prepare(ctx context.Context, p bitcoin.Prepare) error {
	offer, err := v.offer(v.credential.Challenge)
	if err != nil {
		return err
	}
	op, err := opening(p.ChannelType, p.PayerPubKey, p.ChannelID, p.Capacity, p.RestScript)
	if err != nil {
		return err
	}
	if err := v.authenticateFresh(offer, p.PayerPubKey); err != nil {
		return err
	}
	sig, err := v.s.cfg.Payee.Prepare(ctx, offer, op, p.RefundTx)
	if err != nil {
		return err
	}
	v.w.Header().Set("Cache-Control", "private")
	return answer(v.w, bitcoin.PrepareAnswer{RefundSignature: sig})
}

// resume tells the channel's payer where it stands.
func (v *visit) resume(ctx context.Context, p bitcoin.Resume) error {
	if err := v.authenticate(ctx); err != nil {
		return err
	}
	got, err := v.s.cfg.Payee.Resume(ctx, p.ChannelID)
	if err != nil {
		return err
	}
	if err := v.s.header(v.w, v.credential.Challenge.ID, *v.on, 0); err != nil {
		return err
	}
	rec := got.Record
	return answer(v.w, bitcoin.ResumeAnswer{
		ChannelID: p.ChannelID, Phase: string(rec.Phase), CumulativeAmount: rec.Paid, Signature: rec.Signature,
		ChargedMsat: rec.Charged, OwedMsat: rec.Owed(), RequiredCumulative: v.on.Required,
	})
}

// close agrees to a cooperative close, takes its end, or settles a multisig channel.
func (v *visit) close(ctx context.Context, p bitcoin.Close) error {
	if err := v.authenticate(ctx); err != nil {
		return err
	}
	out, err := v.closing(ctx, p)
	if err != nil {
		return err
	}
	if rec, err := v.s.cfg.Payee.Status(ctx, p.ChannelID); err == nil {
		v.on = &rec
	}
	v.s.wake(p.ChannelID)
	if err := v.s.header(v.w, v.credential.Challenge.ID, *v.on, 0); err != nil {
		return err
	}
	return answer(v.w, out)
}

func (v *visit) closing(ctx context.Context, p bitcoin.Close) (bitcoin.CloseAnswer, error) {
	var out bitcoin.CloseAnswer
	if len(p.FinalTx) > 0 {
		out.Tx = p.FinalTx
		return out, v.s.cfg.Payee.FinishClose(ctx, p.ChannelID, p.FinalTx)
	}
	u := channel.Update{Amount: p.CumulativeAmount, Signature: p.Signature}
	rec, err := v.s.cfg.Payee.Record(ctx, p.ChannelID)
	if err != nil {
		return out, err
	}
	if rec.Terms.Construction != script.Taproot {
		b, err := v.s.cfg.Payee.Settle(ctx, p.ChannelID, &u, true)
		if err != nil {
			return out, err
		}
		out.Tx = b.Tx
		return out, nil
	}
	c, err := v.s.cfg.Payee.Close(ctx, p.ChannelID, channel.CloseRequest{Update: u, PayerNonce: p.PayerNonce})
	if err != nil {
		return out, err
	}
	out.Tx, out.PayeeNonce, out.PayeePartial = c.Tx, c.PayeeNonce, c.Partial
	return out, nil
}
