package paywall

import (
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/internal/decoded"
	"github.com/spillway/spillway/mpp"
	"github.com/spillway/spillway/mpp/bitcoin"
	"github.com/spillway/spillway/payee"
	"github.com/spillway/spillway/payer"
)

// defaultTTL is how long a challenge lives.
const defaultTTL = 10 * time.Minute

// offerTTL is how long after its end a challenge still proves an offer: T1 may
// be under way when it expires.
const offerTTL = 24 * time.Hour

// maxDescription bounds what a challenge says to people, in bytes: challenges stay
// well under 8 KB.
const maxDescription = 1024

// maxKeys bounds how many channels' MAC keys are kept in memory.
const maxKeys = 4096

// maxRead bounds how many challenges' requests are kept in memory as they were read.
const maxRead = 256

// ErrQuote: a price that cannot be written in a challenge.
var ErrQuote = errors.New("the price cannot be quoted")

// Quote is the price of a resource.
type Quote struct {
	ChunkMsat   uint64 // msat of a chunk (or of Per other units), at least 1
	LastMsat    uint64 // msat of the last chunk
	TotalMsat   uint64 // msat of all of it
	CreditMsat  uint64 // msat that charged may exceed paid; 0: due one ahead
	UnitType    string // bitcoin.UnitChunk and its like; default chunk
	Description string // for people
	Size        uint64 // bytes of all of it; 0: not known
	ChunkBytes  uint64 // bytes of a chunk; 0: not known
	Per         uint64 // units that ChunkMsat is for; 0: one
	UnitBytes   uint64 // chunks of an answer: bytes of one; 0: said elsewhere
	Root        string // hex root of the content; "": not known, or it has none

	// Amount and Currency are the price in a currency, such as "0.05" and "EUR" for Per
	// units, where ChunkMsat was made of it; "": there is none.
	Amount, Currency string
}

// dearest and cheapest chunk of the quote, in msat.
func (q Quote) dearest() uint64  { return max(q.ChunkMsat, q.LastMsat) }
func (q Quote) cheapest() uint64 { return min(q.ChunkMsat, q.LastMsat) }

// unit is what the price counts.
func (q Quote) unit() string {
	if q.UnitType == "" {
		return bitcoin.UnitChunk
	}
	return q.UnitType
}

// describe is the description as far as it fits, cut between characters.
func (q Quote) describe() string {
	text := strings.ToValidUTF8(q.Description, "?")
	if len(text) <= maxDescription {
		return text
	}
	cut := maxDescription
	for cut > 0 && !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut]
}

// price is the quote as satoshi per units, in lowest terms.
func (q Quote) price() (amount, units uint64) {
	per := 1000 * max(q.Per, 1)
	a, b := q.ChunkMsat, per
	for b != 0 {
		a, b = b, a%b
	}
	return q.ChunkMsat / a, per / a
}

// last is the price of the last unit where it is another one, in msat, else 0.
func (q Quote) last() uint64 {
	if q.LastMsat == q.ChunkMsat {
		return 0
	}
	return q.LastMsat
}

// Resource is what a request asks for: its price, and the chunks that would be
// released.
type Resource struct {
	Quote Quote
	Items []payee.Item
	// Hold, where it is set, is asked once it is known whose channel the request is
	// on, before anything is charged. With false the request is refused as busy.
	Hold func(channel string) bool
	// Worth, where it is set, is told once that the request charged something or
	// raised what is paid: it was none that costs its sender nothing.
	Worth func()

	// metered is set where the answer is charged as it is handed over.
	metered *metering

	nothing bool // nothing is sold here: an update is held to no price
}

// ServerKeys is what a server derives from a provider's seed; keys.Keyring is one.
type ServerKeys interface {
	ChallengeSecret(epoch uint32) ([32]byte, error)
	Identity() (ed25519.PrivateKey, error)
}

// ServerConfig is what a Server needs. Payee, Network and Realm must be set, and Secret
// and Recipient, or Keys.
type ServerConfig struct {
	Payee *payee.Payee
	// Keys gives the Secret (of the first epoch) and the Recipient where they are not set.
	Keys ServerKeys
	// Peer, where it is set, is the payer whose duplex channels this provider sells in
	// too: those that it funded elsewhere. docs/protocol.md, "Trading".
	Peer    *payer.Payer
	Network string
	Secret  [32]byte // binds challenges
	// Before are the secrets of the epochs before restores: an opening on an offer of
	// theirs is taken for updates and settlement only.
	Before        [][32]byte
	Realm         string
	Recipient     string           // the provider's identity, hex
	Origin        string           // how clients reach this server, such as https://files.example; default: as the request says
	Now           func() time.Time // default time.Now
	TTL           time.Duration    // of challenges; default ten minutes
	MaxCredential int              // bytes; default mpp.DefaultMaxCredential
	// CredentialField is the header field that credentials come in: Authorization (the
	// default), or mpp.HeaderAlternateCredential where the service uses that itself. The
	// challenge names it.
	CredentialField string
	Log             *slog.Logger
}

// Server runs the payment protocol for HTTP requests. It keeps nothing that a
// restart would miss: what counts is in the payee's store.
type Server struct {
	cfg      ServerConfig
	bells    bells
	requests requests
	running  running
	wires    wires
	mu       sync.Mutex
	keys     map[string]known                // channels of this provider, and "peer "+id of its payer
	read     decoded.Values[bitcoin.Request] // the requests in challenges that were echoed of late
}

// known is what is kept in memory of a channel.
type known struct {
	mac  [32]byte // its MAC key
	paid uint64   // sat, the most that was seen paid since it is kept here
}

// NewServer checks the configuration.
func NewServer(cfg ServerConfig) (*Server, error) {
	if err := cfg.derive(); err != nil {
		return nil, err
	}
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
	if cfg.CredentialField == "" {
		cfg.CredentialField = mpp.HeaderCredential
	}
	if cfg.CredentialField != mpp.HeaderCredential && cfg.CredentialField != mpp.HeaderAlternateCredential {
		return nil, fmt.Errorf("paywall: no credential comes in the field %q", cfg.CredentialField)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Server{cfg: cfg, keys: map[string]known{}, read: decoded.Values[bitcoin.Request]{Limit: maxRead}}, nil
}

// derive takes from Keys what is not set.
func (cfg *ServerConfig) derive() (err error) {
	if cfg.Keys == nil {
		return nil
	}
	if cfg.Secret == [32]byte{} {
		if cfg.Secret, err = cfg.Keys.ChallengeSecret(0); err != nil {
			return err
		}
	}
	if cfg.Recipient == "" {
		key, err := cfg.Keys.Identity()
		if err != nil {
			return err
		}
		cfg.Recipient = hex.EncodeToString(key.Public().(ed25519.PublicKey))
	}
	return nil
}

// Challenge makes a challenge for a quote, with a fresh nonce. Nothing is stored.
// on is a channel that the client has proved to be its own, nil: none.
// Errors: ErrQuote, of the chain.
func (s *Server) Challenge(ctx context.Context, q Quote, on *payee.Receipt) (mpp.Challenge, error) {
	if q.ChunkMsat == 0 {
		return mpp.Challenge{}, fmt.Errorf("%w: a %s of less than one msat", ErrQuote, q.unit())
	}
	q.CreditMsat = min(q.CreditMsat, bitcoin.MaxMsat)
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
		Expires: mpp.FormatTime(s.cfg.Now().Add(s.cfg.TTL)), Header: s.alternate(),
	}), nil
}

// alternate is what a challenge says of the field that its credential comes in; "": it
// is Authorization.
func (s *Server) alternate() string {
	if s.cfg.CredentialField == mpp.HeaderCredential {
		return ""
	}
	return s.cfg.CredentialField
}

// Pays reports whether a request carries a credential of the Payment scheme, in the field
// that this server takes them in, well-formed or not.
func (s *Server) Pays(r *http.Request) bool {
	if compactOf(r) != nil {
		return true
	}
	_, err := mpp.ParseCredentialMax(r.Header.Values(s.cfg.CredentialField), 1<<20)
	return !errors.Is(err, mpp.ErrNoCredential)
}

// request writes an offer and a quote as a challenge's request.
func (s *Server) request(q Quote, o channel.Offer) bitcoin.Request {
	amount, units := q.price()
	var types []string
	for _, c := range o.Constructions {
		types = append(types, string(c))
	}
	req := bitcoin.Request{
		Amount: amount, Recipient: s.cfg.Recipient, UnitType: q.unit(), Description: q.describe(),
		SuggestedDeposit: min(max(channel.CeilSat(q.TotalMsat)+2*channel.MinimumPayout, o.MinDeposit), o.MaxDeposit),
		MethodDetails: bitcoin.MethodDetails{
			Version: bitcoin.Version, Network: o.Network, ChannelTypes: types, TxVersion: o.TxVersion,
			PayeePubKey: o.PayeeKey, TipHeight: o.Tip, ExpiryHeight: o.Expiry, MarginBlocks: o.Margin,
			MinDeposit: o.MinDeposit, MaxDeposit: o.MaxDeposit, MinConfirmations: o.Confirmations,
			ZeroConfLimit: o.ZeroConf / 1000, UnitsPerAmount: units, CreditMsat: o.Credit,
			MinimumCharge: o.MinimumCharge, RequiredCumulative: channel.CeilSat(q.ChunkMsat - min(q.ChunkMsat, o.Credit)),
			LastUnitMsat: q.last(), UnitBytes: q.UnitBytes, Root: q.Root, PriceAmount: q.Amount, PriceCurrency: q.Currency,
		},
	}
	if q.Amount != "" {
		req.MethodDetails.PriceUnits = max(q.Per, 1)
	}
	if o.Step > 0 {
		d := &req.MethodDetails
		d.StepBlocks, d.PayeeRestScript, d.Mode = o.Step, o.PayeeRest, bitcoin.ModeReversal
	}
	return req
}
