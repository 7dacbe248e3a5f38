package download

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/content"
	"github.com/spillway/spillway/content/bao"
	"github.com/spillway/spillway/payee"
	"github.com/spillway/spillway/paywall"
	"github.com/spillway/spillway/store"
)

// bucketTrade remembers what a payee buys from its peers: root and path → journal.
const bucketTrade = "payee/journal"

// TradeConfig is what Trades need. Trader, Payee and Store must be set.
type TradeConfig struct {
	Trader *paywall.Trader
	Payee  *payee.Payee
	Store  Store // the payee's: journals are saved in the same commits as what is owed
	// OpenSink, Sleep and Attempts are as in Config.
	OpenSink func(path string, size uint64, root content.Hash, verified *content.Ranges) (Sink, error)
	Sleep    func(ctx context.Context, d time.Duration) error
	Attempts int
	Log      *slog.Logger
}

// Trades buys files from the peer that funded a duplex channel here, over that
// channel: each chunk is verified before it is owed. docs/protocol.md, "Trading".
type Trades struct {
	cfg   TradeConfig
	locks MemoryLocks
}

// NewTrades checks the configuration.
func NewTrades(cfg TradeConfig) (*Trades, error) {
	if cfg.Trader == nil || cfg.Payee == nil || cfg.Store == nil {
		return nil, errors.New("download: a trader, its payee and the payee's store are needed")
	}
	if cfg.OpenSink == nil {
		cfg.OpenSink = func(path string, size uint64, root content.Hash, verified *content.Ranges) (Sink, error) {
			return content.OpenSink(path, size, root, verified)
		}
	}
	if cfg.Sleep == nil {
		cfg.Sleep = sleep
	}
	if cfg.Attempts <= 0 {
		cfg.Attempts = 6
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Trades{cfg: cfg}, nil
}

// Trade is a file that is to be bought from a peer.
type Trade struct {
	Channel string // id
	Want    Want   // Construction and Reserve are not looked at
	Budget  uint64 // sat, the most that this file may cost in all
}

// Traded is what a trade came to.
type Traded struct {
	Path     string
	Manifest content.Manifest
	Channel  string
	Bought   uint64 // bytes that came in, in this run
	Reused   uint64 // bytes that were there before
	Msat     uint64 // what the file cost, over all runs
	// Unsettled says why the newest state did not get to the peer. It goes with the
	// next request.
	Unsettled error
}

// trading is one run of a trade.
type trading struct {
	t      *Trades
	q      Trade
	p      Plan
	credit uint64 // msat, what the peer lends
	j      *held
	sink   Sink
}

// Run buys a file. It can be stopped anywhere; the same trade goes on from there.
// Errors: channel.ErrBudget before anything is owed, channel.ErrUnsupported in a
// one-way channel, payee.ErrUnknown, ErrWrongBytes, those of paywall.Trader.Fetch and
// of payee.Payee.Bought.
func (t *Trades) Run(ctx context.Context, q Trade) (_ *Traded, err error) {
	unlock, err := t.locks.Lock(ctx, q.Channel, nil)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	r := &trading{t: t, q: q, p: Plan{Want: q.Want}}
	if err := manifest(ctx, t.cfg.Trader, &r.p); err != nil {
		return nil, err
	}
	if err := r.p.place(); err != nil {
		return nil, err
	}
	if r.j, err = t.load(ctx, &r.p); err != nil {
		return nil, err
	}
	if r.p.Complete, err = complete(ctx, &r.p, nil); err != nil {
		return nil, err
	}
	res := &Traded{Path: r.p.Path, Manifest: r.p.Manifest, Channel: q.Channel, Reused: r.p.Manifest.Size}
	if !r.p.Complete {
		if err := r.fill(ctx, res); err != nil {
			return nil, err
		}
	}
	_, res.Unsettled = t.cfg.Trader.Pay(ctx, paywall.Paid{Channel: q.Channel, URL: r.p.URL, Expect: expect(&r.p.Manifest)})
	if u := r.j.use(q.Channel); u != nil {
		res.Msat = u.Msat
	}
	return res, nil
}

// load reads the journal of a trade; an empty one where there is none.
func (t *Trades) load(ctx context.Context, p *Plan) (*held, error) {
	h := &held{key: journalKey(p.Manifest.Root, p.Path)}
	e, err := t.cfg.Store.Get(ctx, bucketTrade, h.key)
	switch {
	case errors.Is(err, store.ErrNotFound):
		h.journal = journal{Version: journalVersion, Path: p.Path, Root: p.Manifest.Root.String(), Size: p.Manifest.Size}
	case err != nil:
		return nil, err
	default:
		h.rev = e.Revision
		if err := json.Unmarshal(e.Value, &h.journal); err != nil {
			return nil, fmt.Errorf("%w: the journal of %s: %v", store.ErrDamaged, p.Path, err)
		}
		if h.Version != journalVersion || h.Root != p.Manifest.Root.String() || h.Size != p.Manifest.Size || !h.sound() {
			return nil, fmt.Errorf("%w: the journal of %s is of another version or file", store.ErrDamaged, p.Path)
		}
	}
	if h.Verified == nil {
		h.Verified = &content.Ranges{}
	}
	h.URL = p.URL
	h.rechunk(&p.Manifest)
	return h, nil
}

// fill makes the file whole and gives it its name. What an earlier run left is read
// back at the end: it may have been touched since.
func (r *trading) fill(ctx context.Context, res *Traded) (err error) {
	m := &r.p.Manifest
	quote, err := r.t.cfg.Trader.Quote(ctx, r.p.URL, expect(m))
	if err != nil {
		return err
	}
	r.credit = quote.Offer.Credit
	if left := needOf(m, r.j.Verified, r.paid()); channel.CeilSat(r.owedHere()+left.msat) > r.q.Budget {
		return fmt.Errorf("%w: this costs %d sat, the budget is %d sat", channel.ErrBudget, channel.CeilSat(r.owedHere()+left.msat), r.q.Budget)
	}
	r.sink, err = r.t.cfg.OpenSink(r.p.Path, m.Size, m.Root, r.j.Verified)
	if errors.Is(err, content.ErrPartMissing) {
		r.j.Verified = &content.Ranges{} // what was charged is served again free
		r.sink, err = r.t.cfg.OpenSink(r.p.Path, m.Size, m.Root, nil)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.sink.Close()) }()
	res.Reused = r.sink.Verified().Total()
	res.Bought = m.Size - res.Reused
	for gaps := r.sink.Verified().Missing(0, m.Size); len(gaps) > 0; gaps = r.sink.Verified().Missing(0, m.Size) {
		if err := r.chunk(ctx, gaps[0].Start/m.ChunkBytes); err != nil {
			return err
		}
	}
	if res.Reused > 0 {
		if err := r.sink.CheckRoot(ctx, m.Root, nil); err != nil {
			return errors.Join(err, r.startOver(ctx))
		}
	}
	return r.sink.Finish(r.p.Want.Replace)
}

// startOver forgets a part file that was damaged behind our back; the next run
// fetches it again, free.
func (r *trading) startOver(ctx context.Context) error {
	next := r.j.clone()
	next.Verified = &content.Ranges{}
	op, err := r.op(next)
	if err != nil {
		return err
	}
	if err := r.t.cfg.Store.Commit(ctx, op); err != nil {
		return err
	}
	return r.sink.Discard()
}

func (r *trading) paid() *content.Ranges { return paidIn(&r.j.journal, r.q.Channel) }

// owedHere is what of the channel's ledger is this file's, in msat.
func (r *trading) owedHere() uint64 {
	if u := r.j.use(r.q.Channel); u != nil {
		return u.Msat
	}
	return 0
}

func (r *trading) op(next journal) (store.Op, error) {
	value, err := json.Marshal(next)
	return store.Op{Bucket: bucketTrade, Key: r.j.key, Value: value, Expect: r.j.rev}, err
}

// chunk fetches what is missing of a chunk until it is whole, and owes it then.
func (r *trading) chunk(ctx context.Context, n uint64) error {
	off, length := r.p.Manifest.ChunkRange(n)
	key, err := r.t.cfg.Trader.NewKey()
	if err != nil {
		return err
	}
	failures, asked := 0, false
	charged := uint64(0) // msat, what the peer's newest receipt says is left to this side
	for last := (content.Range{}); ; {
		gaps := r.sink.Verified().Missing(off, off+length)
		if len(gaps) == 0 {
			return r.owe(ctx, n, charged)
		}
		if gaps[0] != last { // a repeat has the same key
			if key, err = r.t.cfg.Trader.NewKey(); err != nil {
				return err
			}
			last = gaps[0]
		}
		before := r.sink.Verified().Total()
		charged, err = r.fetch(ctx, gaps[0], key)
		if r.sink.Verified().Total() > before {
			failures = 0
		}
		var unconfirmed *paywall.UnconfirmedError
		switch {
		case err == nil:
			continue
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, channel.ErrInsufficient) && !asked:
			asked = true
			err = r.payUp(ctx)
		case errors.As(err, &unconfirmed):
			err = r.t.cfg.Sleep(ctx, unconfirmed.RetryAfter)
		case (errors.Is(err, bao.ErrTruncated) || errors.Is(err, paywall.ErrUnreachable)) && failures < r.t.cfg.Attempts:
			failures++
			err = r.t.cfg.Sleep(ctx, paywall.Patience(failures-1, err))
		}
		if err != nil {
			return err
		}
	}
}

// payUp pays what is owed though it is not worth a reversal: the credit is used up.
func (r *trading) payUp(ctx context.Context) error {
	_, err := r.t.cfg.Payee.Bought(ctx, r.q.Channel, payee.Purchase{Blocked: true})
	return err
}

// fetch gets one slice, verifies it as it comes, and writes it. It returns the
// ledger by the peer's receipt, in msat.
func (r *trading) fetch(ctx context.Context, gap content.Range, key string) (ledger uint64, err error) {
	m := &r.p.Manifest
	target, err := withQuery(r.p.URL, fmt.Sprintf("slice=%d-%d", gap.Start, gap.End-1))
	if err != nil {
		return 0, err
	}
	resp, receipt, err := r.t.cfg.Trader.Fetch(ctx, paywall.Paid{
		Channel: r.q.Channel, URL: target, Key: key, Expect: expect(m), Header: http.Header{"If-Match": {tagOf(m)}},
	})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	err = bao.DecodeSlice(ctx, r.sink, resp.Body, m.Slice(gap.Start, gap.Len()), func(uint64) {})
	if errors.Is(err, bao.ErrTrailing) {
		err = nil // what was asked for is verified
	}
	return receipt.ChargedMsat, err
}

// owe saves, in one commit, that a chunk is verified and durable and that so much
// more is owed for it, with the state that pays it where that is due. It is never
// more than the peer's receipt says: what it had charged before is not owed again.
func (r *trading) owe(ctx context.Context, n, charged uint64) error {
	rec, err := r.t.cfg.Payee.Record(ctx, r.q.Channel)
	if err != nil {
		return err
	}
	if err := r.sink.Sync(); err != nil {
		return err
	}
	next := r.j.clone()
	next.Verified = r.sink.Verified()
	next.begin(r.q.Channel, 0)
	u := next.use(r.q.Channel)
	price := uint64(0)
	if !u.Chunks.Contains(n, n+1) {
		price = min(r.p.Manifest.ChunkPrice(n), rec.Charged-min(rec.Charged, charged))
	}
	u.Chunks.Add(n, n+1)
	u.Msat += price
	if channel.CeilSat(u.Msat) > r.q.Budget {
		return fmt.Errorf("%w: this costs %d sat, the budget is %d sat", channel.ErrBudget, channel.CeilSat(u.Msat), r.q.Budget)
	}
	op, err := r.op(next)
	if err != nil {
		return err
	}
	owed := rec.Paid*1000 - min(rec.Paid*1000, rec.Charged-min(rec.Charged, price))
	if _, err := r.t.cfg.Payee.Bought(ctx, r.q.Channel, payee.Purchase{Price: price, Blocked: owed >= r.credit, Ops: []store.Op{op}}); err != nil {
		return err
	}
	e, err := r.t.cfg.Store.Get(ctx, bucketTrade, r.j.key)
	if err != nil {
		return err
	}
	r.j.journal, r.j.rev = next, e.Revision
	return nil
}
