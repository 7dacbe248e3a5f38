package edgetest

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/mpp"
	"github.com/spillway/spillway/mpp/bitcoin"
	"github.com/spillway/spillway/payer"
	"github.com/spillway/spillway/paywall"
	"github.com/spillway/spillway/script"
)

// Ask is one request. Body "" is an empty one.
type Ask struct {
	Method, Path string
	Credential   string // value of Authorization, "": none
	Key          string // Idempotency-Key, "": none
	Header       http.Header
	Body         string
}

// Reply is an answer, with what of the protocol is in it.
type Reply struct {
	Status    int
	Header    http.Header
	Body      []byte
	Problem   *mpp.Problem     // nil: the body is none
	Receipt   *bitcoin.Receipt // nil: there is none
	Challenge *mpp.Challenge   // nil: there is none
	Request   bitcoin.Request  // of the challenge
	Broken    error            // the body ended early
}

// Request makes an HTTP request.
func (s *Stand) Request(ctx context.Context, a Ask) *http.Request {
	s.T.Helper()
	var body io.Reader
	if a.Body != "" {
		body = strings.NewReader(a.Body)
	}
	req, err := http.NewRequestWithContext(ctx, a.Method, s.Server.URL+a.Path, body)
	s.Must(err)
	for name, values := range a.Header {
		req.Header[http.CanonicalHeaderKey(name)] = values
	}
	if a.Credential != "" {
		req.Header.Set(mpp.HeaderCredential, a.Credential)
	}
	if a.Key != "" {
		req.Header.Set(mpp.HeaderIdempotencyKey, a.Key)
	}
	return req
}

// Do sends a request and checks what holds for every answer.
func (s *Stand) Do(a Ask) *Reply {
	s.T.Helper()
	resp, err := s.Server.Client().Do(s.Request(context.Background(), a))
	s.Must(err)
	return s.Read(resp)
}

// Read reads an answer and closes it. The rules of http-402 that hold for every
// answer are checked here: a 402 has a challenge and is not stored, a receipt comes
// with a success only, and is private.
func (s *Stand) Read(resp *http.Response) *Reply {
	s.T.Helper()
	r := &Reply{Status: resp.StatusCode, Header: resp.Header}
	r.Body, r.Broken = io.ReadAll(resp.Body)
	s.Must(resp.Body.Close())
	if p, err := mpp.ParseProblem(r.Body); err == nil && strings.HasPrefix(resp.Header.Get("Content-Type"), mpp.ContentTypeProblem) {
		r.Problem = p
	}
	s.readChallenge(r)
	fields := resp.Header.Values(mpp.HeaderReceipt)
	switch cache := resp.Header.Get("Cache-Control"); {
	case len(fields) > 0 && (r.Status < 200 || r.Status > 299):
		s.T.Errorf("a receipt with status %d", r.Status)
	case len(fields) > 0 && cache != "private":
		s.T.Errorf("a receipt with Cache-Control %q", cache)
	case r.Status == http.StatusPaymentRequired && cache != "no-store":
		s.T.Errorf("a 402 with Cache-Control %q", cache)
	}
	if len(fields) > 0 {
		receipt, err := bitcoin.ParseReceipt(fields)
		s.Must(err)
		r.Receipt = &receipt
	}
	return r
}

func (s *Stand) readChallenge(r *Reply) {
	s.T.Helper()
	list, err := mpp.ParseChallenges(r.Header.Values(mpp.HeaderChallenge))
	if r.Status != http.StatusPaymentRequired {
		if !errors.Is(err, mpp.ErrNoChallenge) {
			s.T.Errorf("a challenge with status %d", r.Status)
		}
		return
	}
	if err != nil || len(list) != 1 {
		s.T.Errorf("a 402 with %d challenges: %v", len(list), err)
		return
	}
	if n := len(r.Header.Get(mpp.HeaderChallenge)); n > 8<<10 {
		s.T.Errorf("a challenge of %d bytes", n)
	}
	r.Challenge = &list[0]
	r.Request, err = bitcoin.ParseRequest(list[0].Request)
	s.Must(err)
}

// Quote asks for a resource unpaid.
func (s *Stand) Quote(path string) *paywall.Quoted {
	s.T.Helper()
	q, err := s.Client.Quote(s.T.Context(), s.Server.URL+path, paywall.Expect{})
	s.Must(err)
	return q
}

// Seal is the credential of an action on a challenge, with the MAC that belongs to it.
func (s *Stand) Seal(c mpp.Challenge, p bitcoin.Payload, key string) string {
	s.T.Helper()
	mac, err := s.Payer.MACKey(s.T.Context(), p.Channel())
	s.Must(err)
	raw, err := bitcoin.Seal(p, mac, c.ID, key)
	s.Must(err)
	return mpp.Credential{Challenge: c, Payload: raw}.Encode()
}

// Forge is a credential with a changed payload: edit gets its JSON object. The MAC
// stays as it was.
func (s *Stand) Forge(c mpp.Challenge, p bitcoin.Payload, edit func(map[string]any)) string {
	s.T.Helper()
	cred, err := mpp.ParseCredential([]string{s.Seal(c, p, "")})
	s.Must(err)
	var obj map[string]any
	s.Must(json.Unmarshal(cred.Payload, &obj))
	edit(obj)
	raw, err := json.Marshal(obj)
	s.Must(err)
	return mpp.Credential{Challenge: c, Payload: raw}.Encode()
}

// Build prepares a channel of 50,000 sat on a quote: T1 is built and saved.
func (s *Stand) Build(q *paywall.Quoted, kind script.Construction) string {
	s.T.Helper()
	raw, err := q.Raw()
	s.Must(err)
	r, err := s.Payer.Prepare(s.T.Context(), payer.OpenRequest{
		Offer: q.Offer, RawOffer: raw, Construction: kind, Capacity: 50_000, Origin: q.URL, Payee: q.Request.Recipient,
	})
	s.Must(err)
	return r.Terms.ID()
}

// PrepareOf is the prepare of a channel.
func (s *Stand) PrepareOf(id string) bitcoin.Prepare {
	s.T.Helper()
	r, err := s.Payer.Record(s.T.Context(), id)
	s.Must(err)
	refund, err := s.Payer.RefundRequest(s.T.Context(), id)
	s.Must(err)
	return bitcoin.Prepare{
		ChannelType: string(r.Terms.Construction), PayerPubKey: r.Terms.PayerKey, ChannelID: id,
		Capacity: r.Terms.Capacity, RestScript: r.Terms.RestScript, RefundTx: refund,
	}
}

// OpenOf is the opening of a channel, with T1 in it.
func (s *Stand) OpenOf(id string) bitcoin.Open {
	s.T.Helper()
	r, err := s.Payer.Record(s.T.Context(), id)
	s.Must(err)
	op, err := s.Payer.Opening(s.T.Context(), id)
	s.Must(err)
	var offer mpp.Challenge
	s.Must(json.Unmarshal([]byte(r.Offer), &offer))
	return bitcoin.Open{
		Offer: offer, ChannelType: string(op.Construction), PayerPubKey: op.PayerKey, ChannelID: id, Capacity: op.Capacity,
		RestScript: op.RestScript, CumulativeAmount: op.Update.Amount, Signature: op.Update.Signature, FundingTx: op.FundingTx,
	}
}

// VoucherOf is the voucher with the payer's newest update.
func (s *Stand) VoucherOf(id string) bitcoin.Voucher {
	s.T.Helper()
	u, err := s.Payer.Newest(s.T.Context(), id)
	s.Must(err)
	return s.Voucher(id, u)
}

// Voucher is an update as it travels.
func (s *Stand) Voucher(id string, u channel.Update) bitcoin.Voucher {
	s.T.Helper()
	r, err := s.Payer.Record(s.T.Context(), id)
	s.Must(err)
	v := bitcoin.Voucher{ChannelID: id, CumulativeAmount: u.Amount, Signature: u.Signature, Epoch: u.Epoch}
	if u.Epoch > 0 {
		v.LockHeight, _ = r.Terms.Lock(u.Epoch)
	}
	return v
}

// ResumeOf is the question where a channel stands.
func (s *Stand) ResumeOf(id string) bitcoin.Resume {
	s.T.Helper()
	r, err := s.Payer.Record(s.T.Context(), id)
	s.Must(err)
	p := bitcoin.Resume{ChannelID: id}
	if r.Duplex != nil {
		p.Epoch, p.ChargedMsat = max(r.Duplex.Sent.Epoch, r.Duplex.Held.Epoch), r.Owed
		p.LockHeight, _ = r.Terms.Lock(p.Epoch)
	}
	return p
}

// VoucherFor is a voucher of any amount (sat), signed as the payer would.
func (s *Stand) VoucherFor(id string, amount uint64) bitcoin.Voucher {
	s.T.Helper()
	u := s.Update(id, amount)
	return bitcoin.Voucher{ChannelID: id, CumulativeAmount: amount, Signature: u.Signature}
}

// OpenChannel opens a channel over the wire and mines a block.
func (s *Stand) OpenChannel(kind script.Construction) string {
	s.T.Helper()
	q := s.Quote("/f.bin")
	id := s.Build(q, kind)
	if (channel.Terms{Construction: kind}).Cosigned() {
		s.SignRefundOf(q, id)
	}
	r := s.Do(Ask{Method: "POST", Path: "/f.bin", Credential: s.Seal(q.Challenge, s.OpenOf(id), "")})
	if r.Status != http.StatusOK {
		s.T.Fatalf("open: %d %v", r.Status, r.Problem)
	}
	s.Must(s.Payer.Accepted(s.T.Context(), id))
	s.Mine(1)
	return id
}

// SignRefundOf is steps 3 to 5 of opening a multisig channel.
func (s *Stand) SignRefundOf(q *paywall.Quoted, id string) *Reply {
	s.T.Helper()
	r := s.Do(Ask{Method: "POST", Path: "/f.bin", Credential: s.Seal(q.Challenge, s.PrepareOf(id), "")})
	var answer bitcoin.PrepareAnswer
	s.Must(answer.UnmarshalJSON(r.Body))
	s.Must(s.Payer.TakeRefundSignature(s.T.Context(), id, answer.RefundSignature))
	return r
}

// Pay sends a voucher with a request, on a fresh challenge.
func (s *Stand) Pay(method, path string, v bitcoin.Voucher) *Reply {
	s.T.Helper()
	name, _, _ := strings.Cut(path, "?")
	return s.Do(Ask{Method: method, Path: path, Credential: s.Seal(s.Quote(name).Challenge, v, "")})
}

// Verified adds msat to the payer's ledger and signs for them.
func (s *Stand) Verified(id string, msat uint64) {
	s.T.Helper()
	_, err := s.Payer.Pay(s.T.Context(), id, payer.Payment{Verified: msat}, channel.Limits{Budget: channel.MaxSat})
	s.Must(err)
}

// OutPoint is a channel's outpoint as the chain takes it.
func OutPoint(o channel.Outpoint) wire.OutPoint { return wire.OutPoint(o) }
