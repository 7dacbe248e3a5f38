package several_test

import (
	"context"
	"errors"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/chain/chaintest"
	"github.com/spillway/spillway/chain/devnet"
	"github.com/spillway/spillway/chain/esplora"
	"github.com/spillway/spillway/chain/several"
	"github.com/spillway/spillway/script"
)

func open(t testing.TB) *devnet.Node {
	t.Helper()
	n, err := devnet.New(devnet.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

// TestSuite: two honest backends on one chain are as good as one.
func TestSuite(t *testing.T) {
	chaintest.Suite(t, func(t *testing.T) chaintest.Fixture {
		n := open(t)
		s := httptest.NewServer(n.Handler())
		t.Cleanup(s.Close)
		c, err := esplora.New(esplora.Config{URL: s.URL, Network: devnet.Params()})
		if err != nil {
			t.Fatal(err)
		}
		b, err := several.New(several.Config{Members: []several.Member{{Name: "node", Backend: n}, {Name: "esplora", Backend: c}}, OnAlarm: func(a several.Alarm) { t.Errorf("alarm: %+v", a) }})
		if err != nil {
			t.Fatal(err)
		}
		return chaintest.Fixture{
			Backend: b, Params: devnet.Params(), Depths: []int{1, 2, 3, 20, 100},
			Mine: func(t testing.TB, blocks int) {
				if _, err := n.Mine(blocks); err != nil {
					t.Fatal(err)
				}
			},
			Fund: func(t testing.TB, pkScript []byte, sat int64) wire.OutPoint { return pay(t, n, pkScript, sat) },
			Reorg: func(t testing.TB, r chaintest.Reorg) {
				if _, err := n.ReorgWith(devnet.ReorgOptions{Depth: r.Depth, Length: r.Length, Drop: r.Drop, Mine: r.Mine}); err != nil {
					t.Fatal(err)
				}
			},
		}
	})
}

func pay(t testing.TB, n *devnet.Node, pkScript []byte, sat int64) wire.OutPoint {
	t.Helper()
	id, err := n.Faucet(t.Context(), pkScript, sat)
	if err != nil {
		t.Fatal(err)
	}
	info, err := n.Tx(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(info.Tx.TxOut, func(o *wire.TxOut) bool { return string(o.PkScript) == string(pkScript) })
	return wire.OutPoint{Hash: id, Index: uint32(i)}
}

// liar says what it is told to say, and the truth where it is told nothing.
type liar struct {
	chain.Backend
	down   error
	tip    func(chain.Tip) chain.Tip
	hash   func(uint32, chainhash.Hash) chainhash.Hash
	tx     func(chain.TxInfo, error) (chain.TxInfo, error)
	spend  func(*chain.Spend) *chain.Spend
	coins  func([]chain.UTXO) []chain.UTXO
	fee    script.FeeRate
	refuse error
}

func (l *liar) Tip(ctx context.Context) (chain.Tip, error) {
	if l.down != nil {
		return chain.Tip{}, l.down
	}
	tip, err := l.Backend.Tip(ctx)
	if err == nil && l.tip != nil {
		tip = l.tip(tip)
	}
	return tip, err
}

func (l *liar) BlockHash(ctx context.Context, h uint32) (chainhash.Hash, error) {
	hash, err := l.Backend.BlockHash(ctx, h)
	if err == nil && l.hash != nil {
		hash = l.hash(h, hash)
	}
	return hash, errors.Join(err, l.down)
}

func (l *liar) Tx(ctx context.Context, id chainhash.Hash) (chain.TxInfo, error) {
	if l.down != nil {
		return chain.TxInfo{}, l.down
	}
	info, err := l.Backend.Tx(ctx, id)
	if l.tx != nil {
		return l.tx(info, err)
	}
	return info, err
}

func (l *liar) Spend(ctx context.Context, op wire.OutPoint) (*chain.Spend, error) {
	s, err := l.Backend.Spend(ctx, op)
	if err == nil && l.spend != nil {
		s = l.spend(s)
	}
	return s, errors.Join(err, l.down)
}

func (l *liar) UTXOs(ctx context.Context, pk []byte) ([]chain.UTXO, error) {
	all, err := l.Backend.UTXOs(ctx, pk)
	if err == nil && l.coins != nil {
		all = l.coins(all)
	}
	return all, errors.Join(err, l.down)
}

func (l *liar) FeeRate(ctx context.Context, blocks int) (script.FeeRate, error) {
	rate, err := l.Backend.FeeRate(ctx, blocks)
	if l.fee != 0 {
		rate = l.fee
	}
	return rate, errors.Join(err, l.down)
}

func (l *liar) Broadcast(ctx context.Context, tx *wire.MsgTx) error {
	if l.down != nil || l.refuse != nil {
		return cmpErr(l.down, l.refuse)
	}
	return l.Backend.Broadcast(ctx, tx)
}

func cmpErr(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// pair is an honest backend and one that may lie, on one chain.
type pair struct {
	*several.Backend
	t    *testing.T
	node *devnet.Node
	liar *liar
	now  time.Time
	told []several.Alarm
}

func newPair(t *testing.T, liarFirst bool) *pair {
	t.Helper()
	p := &pair{t: t, node: open(t), now: time.Unix(1_800_000_000, 0)}
	p.liar = &liar{Backend: p.node}
	members := []several.Member{{Name: "honest", Backend: p.node}, {Name: "liar", Backend: p.liar}}
	if liarFirst {
		slices.Reverse(members)
	}
	var err error
	p.Backend, err = several.New(several.Config{Members: members, Grace: 10 * time.Second, Now: func() time.Time { return p.now },
		OnAlarm: func(a several.Alarm) { p.told = append(p.told, a) }})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *pair) mine(blocks int) {
	p.t.Helper()
	if _, err := p.node.Mine(blocks); err != nil {
		p.t.Fatal(err)
	}
}

// alarmed wants one alarm of a kind once the look has been wrong for longer than the grace, and its end when the lie ends.
func (p *pair) alarmed(kind several.Kind, look func()) {
	p.t.Helper()
	look()
	if a := p.Alarms(); len(a) != 0 {
		p.t.Fatalf("an alarm at once: %+v", a)
	}
	p.now = p.now.Add(11 * time.Second)
	look()
	if a := p.Alarms(); len(a) != 1 || a[0].Kind != kind || a[0].Text == "" || len(p.told) != 1 || p.told[0] != a[0] {
		p.t.Fatalf("alarms %+v, told %+v, want %s", a, p.told, kind)
	}
	*p.liar = liar{Backend: p.node}
	look()
	if a := p.Alarms(); len(a) != 0 || len(p.told) != 2 || !p.told[1].Over || p.told[1].Kind != kind {
		p.t.Fatalf("after the lie: %+v, told %+v", a, p.told)
	}
	p.told = nil
}

// each plays a story with the liar as first and as second backend: the order says nothing.
func each(t *testing.T, story func(t *testing.T, p *pair)) {
	t.Helper()
	for _, first := range []bool{false, true} {
		story(t, newPair(t, first))
	}
}

var script1 = append([]byte{0x51, 0x20}, chainhash.DoubleHashB([]byte("one"))...)

func must[T any](v T, err error) func(t *testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// TestPitfall39_Tip: time is the highest tip, and who is behind it is named.
func TestPitfall39_Tip(t *testing.T) {
	each(t, func(t *testing.T, p *pair) {
		p.mine(10)
		top := must(p.node.Tip(t.Context()))(t)
		for _, off := range []int{-3, -1, 0, 5} {
			p.liar.tip = func(tip chain.Tip) chain.Tip { tip.Height = uint32(int(tip.Height) + off); return tip }
			if got := must(p.Tip(t.Context()))(t); got.Height != top.Height+uint32(max(0, off)) {
				t.Fatalf("a liar %d off: %d of %d", off, got.Height, top.Height)
			}
			*p.liar = liar{Backend: p.node}
			must(p.Tip(t.Context()))(t)
		}
		p.liar.tip = func(tip chain.Tip) chain.Tip { tip.Height -= 5; return tip }
		p.alarmed(several.Lagging, func() { must(p.Tip(t.Context()))(t) })
		p.liar.tip = func(tip chain.Tip) chain.Tip { tip.Hash = chainhash.Hash{1}; return tip }
		p.liar.hash = func(_ uint32, h chainhash.Hash) chainhash.Hash { h[0] ^= 1; return h }
		p.alarmed(several.Split, func() { must(p.Tip(t.Context()))(t) })
	})
}

// TestPitfall39_Confirmation: what one alone says is confirmed is not; and it is as deep as the least says.
func TestPitfall39_Confirmation(t *testing.T) {
	each(t, func(t *testing.T, p *pair) {
		op := pay(t, p.node, script1, 10_000)
		tx := must(p.node.Tx(t.Context(), op.Hash))(t)
		look := func() chain.TxInfo { return must(p.Tx(t.Context(), op.Hash))(t) }
		p.liar.tx = func(i chain.TxInfo, err error) (chain.TxInfo, error) {
			if !i.Confirmed {
				i.Confirmed, i.Height, i.BlockHash = true, 7, chainhash.Hash{7}
			}
			return i, err
		}
		p.alarmed(several.Transaction, func() {
			if p.liar.tx != nil && look().Confirmed {
				t.Fatal("one confirmation of two counts")
			}
			look()
		})
		p.mine(4)
		top := must(p.node.Tip(t.Context()))(t)
		p.liar.tx = func(i chain.TxInfo, err error) (chain.TxInfo, error) { i.Height -= 50; return i, err }
		if got := look(); !got.Confirmed || got.Height != top.Height-3 {
			t.Fatalf("a liar deeper: %+v under %d", got, top.Height)
		}
		p.liar.tx = func(i chain.TxInfo, err error) (chain.TxInfo, error) { i.Height += 2; return i, err }
		if got := look(); !got.Confirmed || got.Height != top.Height-1 {
			t.Fatalf("a liar less deep: %+v under %d", got, top.Height)
		}
		p.liar.tx = nil
		p.liar.tip = func(tip chain.Tip) chain.Tip { tip.Height += 100; return tip } // its depth is 104, the other's 4
		high := must(p.Tip(t.Context()))(t)
		if got := look(); high.Height-got.Height+1 != 4 {
			t.Fatalf("a tip that lies makes it %d deep", high.Height-got.Height+1)
		}
		p.liar.tip = nil
		p.liar.tx = func(chain.TxInfo, error) (chain.TxInfo, error) { return chain.TxInfo{}, chain.ErrNotFound }
		if got := look(); got.Confirmed || got.Tx.TxHash() != tx.Tx.TxHash() {
			t.Fatalf("a liar that does not know it: %+v", got)
		}
	})
}

// TestPitfall39_Spend: a spend counts when one shows it, whoever hides it or invents it, and is final only for all.
func TestPitfall39_Spend(t *testing.T) {
	each(t, func(t *testing.T, p *pair) {
		op := pay(t, p.node, script1, 10_000)
		look := func() *chain.Spend { return must(p.Spend(t.Context(), op))(t) }
		if s := look(); s != nil {
			t.Fatalf("spent by %+v", s)
		}
		p.liar.spend = func(*chain.Spend) *chain.Spend {
			return &chain.Spend{Txid: chainhash.Hash{9}, Vin: 3, Confirmed: true, Height: 5}
		}
		p.alarmed(several.Spending, func() {
			if s := look(); p.liar.spend != nil && (s == nil || s.Confirmed || s.Height != 0 || s.Txid != (chainhash.Hash{9})) {
				t.Fatalf("an invented spend: %+v", s)
			}
		})
		// A true one, in a block: the faucet's own coin.
		funding := must(p.node.Tx(t.Context(), op.Hash))(t)
		op = funding.Tx.TxIn[0].PreviousOutPoint
		p.mine(1)
		if s := look(); s == nil || !s.Confirmed || s.Txid != funding.Tx.TxHash() {
			t.Fatalf("a spend that both show: %+v", s)
		}
		truth := look()
		p.liar.spend = func(*chain.Spend) *chain.Spend { return nil }
		if s := look(); s == nil || s.Confirmed || s.Txid != truth.Txid {
			t.Fatalf("a hidden spend: %+v", s)
		}
		p.liar.spend = func(s *chain.Spend) *chain.Spend { c := *s; c.Confirmed, c.Height = false, 0; return &c }
		if s := look(); s == nil || s.Confirmed || s.Height != 0 || s.Txid != truth.Txid {
			t.Fatalf("a spend that is in a block for one only: %+v", s)
		}
		p.liar.spend = func(s *chain.Spend) *chain.Spend { c := *s; c.Txid = chainhash.Hash{9}; return &c }
		if s := look(); s == nil || s.Confirmed {
			t.Fatalf("two spends of one output: %+v", s)
		}
		p.liar.spend = func(s *chain.Spend) *chain.Spend { return &chain.Spend{Txid: chainhash.Hash{9}} }
		if s := look(); s == nil || s.Confirmed || s.Txid != truth.Txid {
			t.Fatalf("one in a block and another in a mempool: %+v", s)
		}
		p.liar.spend = func(s *chain.Spend) *chain.Spend { c := *s; c.Height -= 90; return &c }
		if s := look(); s == nil || *s != *truth {
			t.Fatalf("a spend that is less deep than one says: %+v, want %+v", s, truth)
		}
	})
}

// TestPitfall39_Down: while one can't be asked, what both had confirmed stays so, and nothing new is.
func TestPitfall39_Down(t *testing.T) {
	each(t, func(t *testing.T, p *pair) {
		old := pay(t, p.node, script1, 10_000)
		p.mine(2)
		if got := must(p.Tx(t.Context(), old.Hash))(t); !got.Confirmed {
			t.Fatalf("%+v", got)
		}
		down := func() { p.liar.down = chain.ErrUnavailable }
		down()
		p.alarmed(several.Unreachable, func() { must(p.Tip(t.Context()))(t) })
		down()
		fresh := pay(t, p.node, script1, 20_000)
		p.mine(3)
		if got := must(p.Tx(t.Context(), old.Hash))(t); !got.Confirmed {
			t.Fatalf("what both had: %+v", got)
		}
		if got := must(p.Tx(t.Context(), fresh.Hash))(t); got.Confirmed {
			t.Fatalf("what one alone has: %+v", got)
		}
		spent := must(p.node.Tx(t.Context(), fresh.Hash))(t).Tx.TxIn[0].PreviousOutPoint
		if s := must(p.Spend(t.Context(), spent))(t); s == nil || s.Confirmed {
			t.Fatalf("a spend that one alone has: %+v", s)
		}
		tx := wire.NewMsgTx(2)
		if err := p.Broadcast(t.Context(), tx); !errors.Is(err, chain.ErrUnavailable) {
			t.Fatalf("refused by one, the other is away: %v", err)
		}
		p.liar.down = nil
		if got := must(p.Tx(t.Context(), fresh.Hash))(t); !got.Confirmed {
			t.Fatalf("both are back: %+v", got)
		}
		if err := p.node.Reorg(3, 4); err != nil {
			t.Fatal(err)
		}
		p.liar.down = chain.ErrUnavailable
		p.mine(1)
		if got := must(p.Tx(t.Context(), fresh.Hash))(t); got.Confirmed {
			t.Fatalf("in another block than both had it in: %+v", got)
		}
	})
}

func TestPitfall39_CoinsFeesRefusals(t *testing.T) {
	each(t, func(t *testing.T, p *pair) {
		op := pay(t, p.node, script1, 10_000)
		p.mine(1)
		look := func() []chain.UTXO { return must(p.UTXOs(t.Context(), script1))(t) }
		if got := look(); len(got) != 1 || !got[0].Confirmed {
			t.Fatalf("%+v", got)
		}
		p.liar.coins = func(all []chain.UTXO) []chain.UTXO {
			return append(all, chain.UTXO{Outpoint: wire.OutPoint{Index: 4}, Value: 1_000_000, PkScript: script1, Confirmed: true, Height: 3})
		}
		p.alarmed(several.Coins, func() {
			if got := look(); len(got) != 1 || got[0].Outpoint != op {
				t.Fatalf("an invented coin: %+v", got)
			}
		})
		p.liar.coins = func(all []chain.UTXO) []chain.UTXO { all[0].Value *= 2; return all }
		if got := look(); len(got) != 0 {
			t.Fatalf("two amounts of one coin: %+v", got)
		}
		*p.liar = liar{Backend: p.node}
		look()

		for lie, want := range map[script.FeeRate]script.FeeRate{chain.MaxFeeRate: 4 * chain.MinFeeRate, 3_000: 3_000, chain.MinFeeRate: chain.MinFeeRate} {
			p.liar.fee = lie
			if got := must(p.FeeRate(t.Context(), 3))(t); got != want {
				t.Fatalf("an estimate of %d: %d, want %d", lie, got, want)
			}
		}
		p.liar.fee = chain.MaxFeeRate
		p.alarmed(several.Fees, func() { must(p.FeeRate(t.Context(), 3))(t) })

		tx := must(p.node.Tx(t.Context(), op.Hash))(t).Tx
		p.liar.refuse = &chain.RejectError{Reason: "a whim"}
		p.alarmed(several.Refusal, func() {
			if err := p.Broadcast(t.Context(), tx); err != nil {
				t.Fatalf("one takes it: %v", err)
			}
		})
		bad := tx.Copy()
		bad.LockTime++
		var reject *chain.RejectError
		if err := p.Broadcast(t.Context(), bad); !errors.As(err, &reject) {
			t.Fatalf("both refuse: %v", err)
		}
	})
}

func TestAllDown(t *testing.T) {
	down := &liar{Backend: open(t), down: chain.ErrUnavailable}
	b, err := several.New(several.Config{Members: []several.Member{{Name: "a", Backend: down}, {Name: "b", Backend: down}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Tip(t.Context()); !errors.Is(err, chain.ErrUnavailable) || errors.Is(err, chain.ErrNotFound) {
		t.Errorf("tip: %v", err)
	}
	if _, err := b.Tx(t.Context(), chainhash.Hash{}); !errors.Is(err, chain.ErrUnavailable) {
		t.Errorf("transaction: %v", err)
	}
}

func TestConfig(t *testing.T) {
	n := open(t)
	for _, m := range [][]several.Member{nil, {{Name: "a", Backend: n}}, {{Name: "a", Backend: n}, {Name: "a", Backend: n}}, {{Name: "a", Backend: n}, {Name: "b"}}, {{Backend: n}, {Name: "b", Backend: n}}} {
		if _, err := several.New(several.Config{Members: m}); !errors.Is(err, several.ErrConfig) {
			t.Errorf("%+v: %v", m, err)
		}
	}
}
