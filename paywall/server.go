package paywall

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/mpp"
	"github.com/spillway/spillway/mpp/bitcoin"
	"github.com/spillway/spillway/payee"
)

// defaultTTL is how long a challenge lives.
const defaultTTL = 10 * time.Minute

// offerTTL is how long after its end a challenge still proves an offer: T1 may
// be under way when it expires.
const offerTTL = 24 * time.Hour

// Quote is the price of a resource.
type Quote struct {
	ChunkMsat   uint64 // msat of a chunk (or another unit)
	LastMsat    uint64 // msat of the last chunk
	TotalMsat   uint64 // msat of all of it
	CreditMsat  uint64 // msat that charged may exceed paid; 0: due one ahead
	UnitType    string // bitcoin.UnitChunk and its like; default chunk
	Description string // for people
}

// dearest and cheapest chunk of the quote, in msat.
func (q Quote) dearest() uint64  { return max(q.ChunkMsat, q.LastMsat) }
func (q Quote) cheapest() uint64 { return min(q.ChunkMsat, q.LastMsat) }

// price is the quote as satoshi per units, in lowest terms.
func (q Quote) price() (amount, units uint64) {
	a, b := q.ChunkMsat, uint64(1000)
	for b != 0 {
		a, b = b, a%b
	}
	return q.ChunkMsat / a, 1000 / a
}

// Resource is what a request asks for: its price, and the chunks that would be
// released.
type Resource struct {
	Quote Quote
	Items []payee.Item
}

// ServerConfig is what a Server needs. Payee, Secret, Realm and Recipient must be set.
type ServerConfig struct {
	Payee         *payee.Payee
	Network       string
	Secret        [32]byte // binds challenges
	Realm         string
	Recipient     string           // the provider's identity, hex
	Now           func() time.Time // default time.Now
	TTL           time.Duration    // of challenges; default ten minutes
	MaxCredential int              // bytes; default mpp.DefaultMaxCredential
	Log           *slog.Logger
}

// Server runs the payment protocol for HTTP requests.
type Server struct {
	cfg    ServerConfig
	mu     sync.Mutex
	raised map[string]chan struct{} // closed when a channel's paid amount rises
}

// NewServer checks the configuration.
func NewServer(cfg ServerConfig) (*Server, error) {
	if cfg.Payee == nil || cfg.Secret == [32]byte{} || cfg.Realm == "" || cfg.Recipient == "" || cfg.Network == "" {
		return nil, errors.New("paywall: payee, network, secret, realm and recipient are needed")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.TTL <= 0 {
		cfg.TTL = defaultTTL
	}
	if cfg.MaxCredential <= 0 {
		cfg.MaxCredential = mpp.DefaultMaxCredential
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Server{cfg: cfg, raised: map[string]chan struct{}{}}, nil
}

// Challenge makes a challenge for a quote, with a fresh nonce. Nothing is stored.
// on is a channel that the client has proved to be its own, nil: none.
func (s *Server) Challenge(ctx context.Context, q Quote, on *payee.Receipt) (mpp.Challenge, error) {
	o, err := s.cfg.Payee.Offer(ctx, payee.Price{Chunk: q.dearest(), Least: q.cheapest(), Total: q.TotalMsat, Credit: q.CreditMsat})
	if err != nil {
		return mpp.Challenge{}, err
	}
	req := s.request(q, o)
	if on != nil {
		req.MethodDetails.Channel = &bitcoin.ChannelState{ChannelID: on.Channel, AcceptedCumulative: on.Paid, ChargedMsat: on.Charged}
		req.MethodDetails.RequiredCumulative = on.Required
	}
	encoded, err := req.Encode()
	if err != nil {
		return mpp.Challenge{}, err
	}
	opaque, err := bitcoin.Opaque{Nonce: o.Nonce}.Encode()
	if err != nil {
		return mpp.Challenge{}, err
	}
	return mpp.NewChallenge(s.cfg.Secret[:], mpp.Challenge{
		Realm: s.cfg.Realm, Method: bitcoin.Method, Intent: bitcoin.Intent, Request: encoded, Opaque: opaque,
		Expires: mpp.FormatTime(s.cfg.Now().Add(s.cfg.TTL)),
	}), nil
}

// request writes an offer and a quote as a challenge's request.
func (s *Server) request(q Quote, o channel.Offer) bitcoin.Request {
	amount, units := q.price()
	unit := q.UnitType
	if unit == "" {
		unit = bitcoin.UnitChunk
	}
	var types []string
	for _, c := range o.Constructions {
		types = append(types, string(c))
	}
	return bitcoin.Request{
		Amount: amount, Recipient: s.cfg.Recipient, UnitType: unit, Description: q.Description,
		SuggestedDeposit: min(max(channel.CeilSat(q.TotalMsat)+2*channel.MinimumPayout, o.MinDeposit), o.MaxDeposit),
		MethodDetails: bitcoin.MethodDetails{
			Version: bitcoin.Version, Network: o.Network, ChannelTypes: types, TxVersion: o.TxVersion,
			PayeePubKey: o.PayeeKey, TipHeight: o.Tip, ExpiryHeight: o.Expiry, MarginBlocks: o.Margin,
			MinDeposit: o.MinDeposit, MaxDeposit: o.MaxDeposit, MinConfirmations: o.Confirmations,
			ZeroConfLimit: o.ZeroConf / 1000, UnitsPerAmount: units, CreditMsat: o.Credit,
			MinimumCharge: o.MinimumCharge, RequiredCumulative: channel.CeilSat(q.ChunkMsat - min(q.ChunkMsat, o.Credit)),
		},
	}
}

// ownOffer reads the offer back out of a challenge of this server.
func ownOffer(c mpp.Challenge) (channel.Offer, error) {
	req, err := bitcoin.ParseRequest(c.Request)
	if err != nil {
		return channel.Offer{}, err
	}
	opaque, err := bitcoin.ParseOpaque(c.Opaque)
	if err != nil {
		return channel.Offer{}, err
	}
	return offerOf(req, opaque.Nonce), nil
}

// wait returns a channel that is closed when the paid amount of this one rises.
func (s *Server) wait(id string) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	ch := s.raised[id]
	if ch == nil {
		ch = make(chan struct{})
		s.raised[id] = ch
	}
	return ch
}

func (s *Server) wake(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ch := s.raised[id]; ch != nil {
		close(ch)
		delete(s.raised, id)
	}
}

// Grant is a request whose charge is saved: the handler may deliver.
type Grant struct {
	Receipt   payee.Receipt
	Challenge string // id of the challenge that was echoed
	server    *Server
	quote     Quote
}

// Charge charges further chunks of the same resource on the same channel, and
// waits for an update (of this or another connection) while the credit does not
// cover them. The context bounds the wait. Errors: as payee.Payee.Pay.
func (g *Grant) Charge(ctx context.Context, items []payee.Item) error {
	for {
		raised := g.server.wait(g.Receipt.Channel)
		rec, err := g.server.cfg.Payee.Pay(ctx, payee.Request{Channel: g.Receipt.Channel, Items: items, Credit: g.quote.CreditMsat})
		if err == nil {
			g.Receipt = rec
			return nil
		}
		if !errors.Is(err, channel.ErrInsufficient) {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		case <-raised:
		}
	}
}

// header sets a success's receipt.
func (s *Server) header(w http.ResponseWriter, challengeID string, r payee.Receipt, units int) error {
	text, err := bitcoin.Receipt{
		Timestamp: s.cfg.Now(), ChallengeID: challengeID, ChannelID: r.Channel, AcceptedCumulative: r.Paid,
		ChargedMsat: r.Charged, RequiredCumulative: r.Required, Units: uint64(units),
	}.Encode()
	if err != nil {
		return fmt.Errorf("receipt: %w", err)
	}
	w.Header().Set(mpp.HeaderReceipt, text)
	w.Header().Set("Cache-Control", "private")
	return nil
}

// answer writes the JSON of an action that came alone.
func answer(w http.ResponseWriter, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(raw)))
	_, err = w.Write(raw)
	return err
}

// Head answers an unpaid HEAD: 402 with a challenge, and no body, so that the
// handler's Content-Length stands.
func (s *Server) Head(w http.ResponseWriter, r *http.Request, q Quote) {
	c, err := s.Challenge(r.Context(), q, nil)
	if err != nil {
		s.unavailable(w, r, err)
		return
	}
	w.Header().Set(mpp.HeaderChallenge, c.String())
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusPaymentRequired)
}
