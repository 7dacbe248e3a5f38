package paywall

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/mpp"
	"github.com/spillway/spillway/mpp/bitcoin"
	"github.com/spillway/spillway/payee"
)

// Admit runs the payment protocol for one request. With (grant, true) the charge
// is saved, the receipt's header is set, and the handler may deliver. With
// (nil, false) the answer has been written: a refusal, or that of an action that
// came alone (HEAD, or POST with an empty body). To an unpaid HEAD it writes a 402
// with the headers that the handler has set, such as Content-Length.
// docs/protocol.md, section 13.
func (s *Server) Admit(w http.ResponseWriter, r *http.Request, res Resource) (*Grant, bool) {
	v := &visit{s: s, w: w, r: r, res: res}
	grant, err := v.run(r.Context())
	if err != nil {
		s.refuse(v, err)
		return nil, false
	}
	return grant, grant != nil
}

// visit is one request.
type visit struct {
	s          *Server
	w          http.ResponseWriter
	r          *http.Request
	res        Resource
	credential mpp.Credential
	payload    bitcoin.Payload
	key        string         // Idempotency-Key
	proved     string         // the channel, once the MAC has proved whose it is
	on         *payee.Receipt // where that channel stands
	order      *order         // what a peer buys; nil: this provider is the payee
}

// run goes through a request in this order: form, our challenge, whose channel it
// is (the MAC), its expiry, and only then what it asks for.
func (v *visit) run(ctx context.Context) (*Grant, error) {
	if err := v.read(); err != nil {
		return nil, err
	}
	if err := v.fits(); err != nil {
		return nil, err
	}
	switch p := v.payload.(type) {
	case bitcoin.Open:
		return v.open(ctx, p)
	case bitcoin.Voucher:
		if p.FromPayee {
			return v.trade(ctx, p)
		}
		return v.voucher(ctx, p)
	case bitcoin.Prepare:
		return nil, v.prepare(ctx, p)
	case bitcoin.Resume:
		return nil, v.resume(ctx, p)
	case bitcoin.Close:
		return nil, v.close(ctx, p)
	}
	return nil, fmt.Errorf("%w: %s", bitcoin.ErrAction, v.payload.Action())
}

// read parses the credential and checks that the challenge was made here.
// Errors: mpp.ErrNoCredential where the request is unpaid.
func (v *visit) read() (err error) {
	if p := compactOf(v.r); p != nil { // proved by its connection
		v.credential.Challenge, v.payload = p.challenge, p.voucher
		v.key, err = mpp.IdempotencyKey(v.r.Header.Values(mpp.HeaderIdempotencyKey))
		return err
	}
	if v.key, err = mpp.IdempotencyKey(v.r.Header.Values(mpp.HeaderIdempotencyKey)); err == nil && strings.HasPrefix(v.key, compactKeys) {
		err = errors.New("such an Idempotency-Key binds a connection")
	}
	wrong := err
	if err := v.readAs(v.key); err != nil {
		return err
	}
	if wrong != nil {
		return fmt.Errorf("%w: %w", errRequest, wrong)
	}
	return nil
}

// readAs reads a credential that was sealed under a key.
func (v *visit) readAs(key string) (err error) {
	v.key = key
	if v.credential, err = mpp.ParseCredentialMax(v.r.Header.Values(v.s.cfg.CredentialField), v.s.cfg.MaxCredential); err != nil {
		return err
	}
	if err := v.s.own(v.credential.Challenge); err != nil {
		return err
	}
	if field := v.credential.Challenge.Field(); field != v.s.cfg.CredentialField {
		return fmt.Errorf("%w: it names the field %s for its credential", mpp.ErrInvalidChallenge, field)
	}
	v.payload, err = bitcoin.ParsePayload(v.credential.Payload)
	return err
}

// own refuses a challenge that this server did not make.
func (s *Server) own(c mpp.Challenge) error { return s.ownBy(c, s.cfg.Secret) }

// ownBy is own for the secret of some epoch.
func (s *Server) ownBy(c mpp.Challenge, secret [32]byte) error {
	if err := c.Verify(secret[:]); err != nil {
		return err
	}
	if c.Realm != s.cfg.Realm || c.Method != bitcoin.Method || c.Intent != bitcoin.Intent {
		return fmt.Errorf("%w: it is for another realm, method or intent", mpp.ErrInvalidChallenge)
	}
	return nil
}

// alone: the action is the whole request.
func (v *visit) alone() bool {
	return v.r.Method == http.MethodHead || v.r.Method == http.MethodPost && v.r.ContentLength == 0
}

// fits refuses an action that cannot come with this kind of request.
func (v *visit) fits() error {
	switch v.payload.Action() {
	case bitcoin.ActionVoucher:
		if v.alone() || v.res.sells() {
			return nil
		}
	case bitcoin.ActionOpen:
		if v.r.Method != http.MethodHead && (v.alone() || v.res.sells()) {
			return nil
		}
	default:
		if v.r.Method == http.MethodPost && v.alone() {
			return nil
		}
	}
	return fmt.Errorf("%w: %s", errRequest, "this action comes alone, with POST and an empty body")
}

// authenticate checks the MAC of an action on a channel that is known. Nothing
// is charged, taken or told before. Errors: payee.ErrUnknown, bitcoin.ErrMAC.
func (v *visit) authenticate(ctx context.Context) error {
	id := v.payload.Channel()
	if v.r != nil && compactOf(v.r) != nil {
		v.proved = id
		return nil
	}
	key, err := v.s.macKey(id, func() ([32]byte, error) { return v.s.cfg.Payee.MACKey(ctx, id) })
	if err != nil {
		return err
	}
	if err := bitcoin.Authenticate(v.payload, key, v.credential.Challenge.ID, v.key); err != nil {
		return err
	}
	v.proved = id
	return nil
}

// macKey is a known channel's MAC key, derived once: neither end's key ever changes.
func (s *Server) macKey(id string, derive func() ([32]byte, error)) ([32]byte, error) {
	s.mu.Lock()
	k, ok := s.keys[id]
	s.mu.Unlock()
	if ok {
		return k.mac, nil
	}
	key, err := derive()
	if err != nil {
		return key, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.keys) >= maxKeys {
		clear(s.keys)
	}
	s.keys[id] = known{mac: key}
	return key, nil
}

// rose reports whether a channel's paid amount (sat) is more than was seen before.
func (s *Server) rose(id string, paid uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	k, ok := s.keys[id]
	if !ok || paid <= k.paid {
		return false
	}
	k.paid = paid
	s.keys[id] = k
	return true
}

// standing is where the proved channel stands; nil where none was proved, or it is
// not known (any more).
func (v *visit) standing(ctx context.Context) *payee.Receipt {
	if v.order != nil {
		return v.order.at
	}
	if v.on == nil && v.proved != "" {
		if rec, err := v.s.cfg.Payee.Status(ctx, v.proved); err == nil {
			v.on = &rec
		}
	}
	return v.on
}

// unexpired refuses a challenge that is over, and a credential that was made for
// another request.
func (v *visit) unexpired() error {
	if v.credential.Challenge.Expired(v.s.cfg.Now()) {
		return fmt.Errorf("%w at %s", errExpired, v.credential.Challenge.Expires)
	}
	return v.s.requests.bind(v.payload.Channel(), v.key, v.r, v.res.body(), v.s.cfg.Now(), v.s.cfg.TTL)
}

// present refuses a challenge that is over, that quotes another price than the
// resource has now, or other content under its name.
func (v *visit) present() error {
	if err := v.unexpired(); err != nil {
		return err
	}
	req, err := v.s.requestIn(v.credential.Challenge)
	if err != nil {
		return err
	}
	if v.res.nothing {
		return nil
	}
	q, d := v.res.Quote, req.MethodDetails
	if !v.alone() && d.Root != q.Root && d.Root != "" && req.Description == q.describe() {
		return fmt.Errorf("%w: its root is %s, not %s; ask for its manifest again", errContent, q.Root, d.Root)
	}
	amount, units := q.price()
	if req.Amount != amount || d.UnitsPerAmount != units || req.UnitType != q.unit() {
		return fmt.Errorf("%w: %d sat for %d %ss, not %d sat for %d %ss", errPrice, amount, units, q.unit(),
			req.Amount, d.UnitsPerAmount, req.UnitType)
	}
	if d.UnitBytes != q.UnitBytes {
		return fmt.Errorf("%w: a %s is %d bytes, not %d", errPrice, q.unit(), q.UnitBytes, d.UnitBytes)
	}
	if d.LastUnitMsat != q.last() {
		return fmt.Errorf("%w: the last %s costs %d msat, which the challenge does not say", errPrice, q.unit(), q.LastMsat)
	}
	return nil
}

// voucher takes an update, and releases what is asked for with it. An update that
// comes with a request that is refused is taken all the same: it is money.
func (v *visit) voucher(ctx context.Context, p bitcoin.Voucher) (*Grant, error) {
	if err := v.authenticate(ctx); err != nil {
		return nil, err
	}
	u, err := v.update(ctx, p)
	if err != nil {
		return nil, err
	}
	if err := v.present(); err != nil {
		_, kept := v.take(ctx, u, nil)
		return nil, errors.Join(err, kept)
	}
	return v.pay(ctx, u)
}

// update reads a voucher's update; its epoch must be one of the channel's, with the
// lock that it has there. Errors: channel.ErrSignature.
func (v *visit) update(ctx context.Context, p bitcoin.Voucher) (channel.Update, error) {
	u := channel.Update{Amount: p.CumulativeAmount, Signature: p.Signature, Epoch: p.Epoch}
	if p.FromPayee {
		return u, fmt.Errorf("%w: the payee of channel %s is this provider", channel.ErrTerms, p.ChannelID)
	}
	r, err := v.s.cfg.Payee.Record(ctx, p.ChannelID)
	if err != nil {
		return u, err
	}
	return u, r.Terms.CheckLock(p.Epoch, p.LockHeight)
}

// pay hands an update and what is to be released to the payee's driver.
func (v *visit) pay(ctx context.Context, u channel.Update) (*Grant, error) {
	if v.alone() {
		rec, err := v.take(ctx, u, nil)
		if err != nil {
			return nil, err
		}
		return nil, v.paid(rec)
	}
	if v.res.Hold != nil && !v.res.Hold(v.proved) {
		_, kept := v.take(ctx, u, nil)
		return nil, errors.Join(errBusy, kept)
	}
	if v.res.metered != nil {
		return v.meter(ctx, u)
	}
	rec, err := v.take(ctx, u, v.res.Items)
	if err != nil {
		return nil, err
	}
	if err := v.s.header(v.w, v.credential.Challenge.ID, rec); err != nil {
		return nil, err
	}
	return &Grant{Receipt: rec, Challenge: v.credential.Challenge.ID, server: v.s, quote: v.res.Quote}, nil
}

// take is the one way in which a request pays and is charged, and wakes the streams
// that wait for it.
func (v *visit) take(ctx context.Context, u channel.Update, items []payee.Item) (payee.Receipt, error) {
	rec, err := v.s.cfg.Payee.Pay(ctx, payee.Request{Channel: v.proved, Update: &u, Items: items, Credit: v.res.Quote.CreditMsat, Name: v.res.Quote.describe()})
	if rec.Channel != "" {
		v.on = &rec
		if rose := v.s.rose(rec.Channel, rec.Paid); v.res.Worth != nil && (rose || rec.Units > 0) {
			v.res.Worth()
		}
		v.s.bells.rang(rec.Channel, rec.Paid)
	}
	return rec, err
}

// paid answers a payment that came alone.
func (v *visit) paid(rec payee.Receipt) error {
	if v.r.Method == http.MethodHead {
		if err := v.s.header(v.w, v.credential.Challenge.ID, rec); err != nil {
			return err
		}
		v.w.Header().Del("Content-Length")
		v.w.Header().Del("Content-Type")
		v.w.WriteHeader(http.StatusNoContent)
		return nil
	}
	return v.answer(rec, map[string]string{
		"acceptedCumulative": decimal(rec.Paid), "chargedMsat": decimal(rec.Charged), "requiredCumulative": decimal(rec.Required),
	})
}

func decimal(n uint64) string { return strconv.FormatUint(n, 10) }

// header sets a success's receipt.
func (s *Server) header(w http.ResponseWriter, challengeID string, r payee.Receipt) error {
	if a, ok := w.(*compactAnswer); ok {
		a.receipt(r)
		a.header.Set("Cache-Control", "private")
		return nil
	}
	text, err := s.receiptOf(challengeID, r).Encode()
	if err != nil {
		return fmt.Errorf("receipt: %w", err)
	}
	w.Header().Set(mpp.HeaderReceipt, text)
	w.Header().Set("Cache-Control", "private")
	return nil
}

// wireState is the payee's state as it travels; nil: it has signed none.
func wireState(u channel.Update, lock uint32) *bitcoin.Update {
	if u.Epoch == 0 {
		return nil
	}
	return &bitcoin.Update{CumulativeAmount: u.Amount, Signature: u.Signature, Epoch: u.Epoch, LockHeight: lock}
}

// answer writes the receipt and the JSON of an action that came alone.
func (v *visit) answer(rec payee.Receipt, out any) error {
	raw, err := json.Marshal(out)
	if err != nil {
		return err
	}
	if err := v.s.header(v.w, v.credential.Challenge.ID, rec); err != nil {
		return err
	}
	h := v.w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(raw)))
	v.w.WriteHeader(http.StatusOK)
	if _, err := v.w.Write(raw); err != nil {
		v.s.cfg.Log.Debug("an answer was not taken", "channel", rec.Channel, "error", err)
	}
	return nil
}
