package scenario

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"sync"

	"github.com/spillway/spillway/chain/devnet"
	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/content/bao"
	"github.com/spillway/spillway/keys"
	"github.com/spillway/spillway/payee"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/watch"
)

// seller is the payee, whom people know as the provider: the driver that ships, what
// it sells, and the ways in which it can be made to cheat.
type seller struct {
	gear
	*payee.Payee
	keys   *keys.Keyring
	payout []byte
	file   *file

	mu     sync.Mutex
	offers map[channel.Nonce]channel.Offer // that were made since the start
	damage bool                            // the next chunk is sent wrong
	lie    int64                           // sat that the next close takes too much
	mute   bool                            // nothing is answered
}

func newSeller(_ context.Context, g gear) (s *seller, err error) {
	s = &seller{gear: g, offers: map[channel.Nonce]channel.Offer{}}
	if s.keys, err = keys.FromMnemonic(payeeWords, devnet.Params()); err != nil {
		return nil, err
	}
	if _, s.payout, err = s.keys.WalletKey(false, 0); err != nil {
		return nil, err
	}
	s.Payee, err = payee.New(payee.Config{
		Store: g.store, Keys: s.keys, Chain: g.chain, Network: "regtest", Payout: s.payout, Policy: g.policy(), Constructions: g.kinds(),
		Dearest: func() uint64 { return price }, Now: g.now, Rand: g.rand,
	})
	return s, err
}

// orders are what the story can ask of a provider.
func (s *seller) orders() handlers {
	return handlers{
		"look": on(func(ctx context.Context, _ struct{}) (any, error) {
			return nil, (&watch.Watch{Chain: s.chain, Drivers: []watch.Driver{s.Payee}}).Step(ctx)
		}),
		"record":    on(func(ctx context.Context, id string) (any, error) { return s.Record(ctx, id) }),
		"pay-back":  on(s.payBack),
		"restored":  on(func(ctx context.Context, _ struct{}) (any, error) { return nil, s.MarkRestored(ctx) }),
		"broadcast": on(s.chain.send), "cut": on(s.chain.setCut),
		"doomed": on(s.store.doomed), "doomed-before": on(s.store.doomedBefore),
		"damage":   on(func(_ context.Context, _ struct{}) (any, error) { return s.cheat(func() { s.damage = true }) }),
		"mute":     on(func(_ context.Context, _ struct{}) (any, error) { return s.cheat(func() { s.mute = true }) }),
		"lie":      on(func(_ context.Context, more int64) (any, error) { return s.cheat(func() { s.lie = more }) }),
		"complete": on(s.complete),
		"ladder":   on(s.ladder),
	}
}

func (s *seller) cheat(change func()) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
	return nil, nil
}

func (s *seller) is(what *bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return *what
}

type payBackArgs struct {
	ID   string `json:"id"`
	Msat uint64 `json:"msat"`
}

func (s *seller) payBack(ctx context.Context, a payBackArgs) (any, error) {
	return s.Refund(ctx, a.ID, "scenario", a.Msat)
}

// Arguments of what a payer asks for without HTTP 402: everything where both sides
// are in one process, and else a close in which one side cheats.
type (
	openArgs struct {
		Offer   channel.Offer   `json:"offer"`
		Opening channel.Opening `json:"opening"`
		Refund  channel.Hex     `json:"refund,omitempty"`
	}
	closeArgs struct {
		ID      string               `json:"id"`
		Update  *channel.Update      `json:"update,omitempty"`
		Request channel.CloseRequest `json:"request"`
		Final   channel.Hex          `json:"final,omitempty"`
	}
	payAnswer struct {
		Receipt payee.Receipt `json:"receipt"`
		Slice   []byte        `json:"slice,omitempty"`
	}
)

// errNoOffer: an opening on terms that this provider did not offer.
var errNoOffer = errors.New("this was never offered")

// wire are the driver's methods as the payer reaches them without HTTP 402.
func (s *seller) wire() handlers {
	h := handlers{
		"offer": on(func(ctx context.Context, _ struct{}) (any, error) {
			o, err := s.Offer(ctx, payee.Price{Chunk: price, Least: price, Total: 10 * price, Credit: price})
			if err == nil {
				_, err = s.cheat(func() { s.offers[o.Nonce] = o })
			}
			return o, err
		}),
		"prepare": on(func(ctx context.Context, a openArgs) (any, error) {
			o, err := s.own(a.Offer)
			if err != nil {
				return nil, err
			}
			return s.Prepare(ctx, o, a.Opening, a.Refund)
		}),
		"open": on(func(ctx context.Context, a openArgs) (any, error) {
			o, err := s.own(a.Offer)
			if err != nil {
				return nil, err
			}
			opened, err := s.Open(ctx, o, a.Opening)
			return opened.Repeat, err
		}),
		"pay":    on(s.pay),
		"settle": on(func(ctx context.Context, a closeArgs) (any, error) { return s.Settle(ctx, a.ID, a.Update, true) }),
		"close":  on(s.close),
		"final":  on(func(ctx context.Context, a closeArgs) (any, error) { return nil, s.FinishClose(ctx, a.ID, a.Final) }),
		"returned": on(func(ctx context.Context, id string) (any, error) {
			return s.Returned(ctx, id)
		}),
	}
	for name, f := range h {
		h[name] = func(ctx context.Context, raw json.RawMessage) (any, error) {
			if s.is(&s.mute) {
				return nil, errSilent
			}
			return f(ctx, raw)
		}
	}
	return h
}

// own is an offer of this provider's, as it was made.
func (s *seller) own(o channel.Offer) (channel.Offer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	mine, ok := s.offers[o.Nonce]
	if !ok {
		return o, errNoOffer
	}
	return mine, nil
}

// pay charges a chunk, or takes a payment alone, and delivers.
func (s *seller) pay(ctx context.Context, q payee.Request) (any, error) {
	q.Credit = price
	got, err := s.Pay(ctx, q)
	if err != nil || len(q.Items) == 0 {
		return payAnswer{Receipt: got}, err
	}
	slice, err := s.slice(ctx, q.Items[0].Chunk)
	return payAnswer{got, slice}, err
}

// slice is a chunk as it travels; a cheater turns one bit of it over.
func (s *seller) slice(ctx context.Context, chunk uint64) ([]byte, error) {
	var wire bytes.Buffer
	if err := bao.ExtractSlice(ctx, &wire, bytes.NewReader(s.file.data), s.file.ob, chunk*chunkBytes, chunkBytes); err != nil {
		return nil, err
	}
	if s.is(&s.damage) {
		spoil(wire.Bytes())
	}
	return wire.Bytes(), nil
}

// spoil turns one bit over in the last group of a slice.
func spoil(slice []byte) { slice[len(slice)-groupBytes/2] ^= 1 }

// close answers a payer that wants to close; a cheater answers with a transaction
// that pays it more, signed by its own key.
func (s *seller) close(ctx context.Context, a closeArgs) (any, error) {
	s.mu.Lock()
	more := s.lie
	s.mu.Unlock()
	if more == 0 {
		return s.Close(ctx, a.ID, a.Request)
	}
	r, err := s.Record(ctx, a.ID)
	if err != nil {
		return nil, err
	}
	ch, err := r.Terms.Script()
	if err != nil {
		return nil, err
	}
	key, err := s.keys.PayeeChannelKey(r.Terms.Nonce)
	if err != nil {
		return nil, err
	}
	tx, err := ch.CloseTx(int64(r.Paid)+more, s.payout, 200)
	if err != nil {
		return nil, err
	}
	nonce, err := script.NewNonce(s.rand, key)
	if err != nil {
		return nil, err
	}
	public := nonce.Public
	partial, err := ch.PartialSign(tx, key, nonce, [66]byte(a.Request.PayerNonce))
	if err != nil {
		return nil, err
	}
	raw, err := channel.EncodeTx(tx)
	return &channel.PayeeClose{Tx: raw, PayeeNonce: public[:], Partial: partial}, err
}

// complete is the settlement of an older state, made without the driver.
func (s *seller) complete(_ context.Context, a completeArgs) (any, error) {
	ch, err := a.Payee.Terms.Script()
	if err != nil {
		return nil, err
	}
	claim, err := a.Payee.Claim(ch)
	if err != nil {
		return nil, err
	}
	if claim.PayeeKey, err = s.keys.PayeeChannelKey(a.Payee.Terms.Nonce); err != nil {
		return nil, err
	}
	tx, _, err := script.Settle([]script.Claim{claim}, s.payout, a.Rate)
	if err != nil {
		return nil, err
	}
	return channel.EncodeTx(tx)
}

// What is sold: a file of so many chunks.
const (
	chunkBytes = 32 << 10
	groupBytes = 1 << 10
	fileChunks = 60
)

// file is what the provider has.
type file struct {
	data []byte
	ob   *bao.Outboard
}

// buffer is memory that can be written at offsets.
type buffer []byte

// WriteAt implements io.WriterAt.
func (b buffer) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 || off+int64(len(p)) > int64(len(b)) {
		return 0, io.ErrShortWrite
	}
	return copy(b[off:], p), nil
}

// goodsSeed makes the file the same for every start.
const goodsSeed = 99

func newFile(ctx context.Context) (*file, error) {
	f := &file{data: make([]byte, fileChunks*chunkBytes)}
	if _, err := io.ReadFull(rand.NewChaCha8([32]byte{goodsSeed}), f.data); err != nil {
		return nil, err
	}
	size := uint64(len(f.data))
	n, err := bao.OutboardSize(size, groupBytes)
	if err != nil {
		return nil, err
	}
	tree := make(buffer, n)
	root, err := bao.Build(ctx, bytes.NewReader(f.data), size, groupBytes, tree, bao.BuildConfig{})
	if err != nil {
		return nil, err
	}
	f.ob, err = bao.NewOutboard(bytes.NewReader(tree), root, size, groupBytes)
	return f, err
}
