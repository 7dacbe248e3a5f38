package watch_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/chain/devnet"
	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/internal/pairtest"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/watch"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// bought opens a channel and buys n chunks that are all paid.
func bought(t *testing.T, p *pairtest.Pair, kind script.Construction, n int) string {
	t.Helper()
	id := p.Open(kind)
	for i := range n {
		_, err := p.Buy(id, uint64(i))
		must(t, err)
	}
	_, err := p.Buy(id) // the last payment
	must(t, err)
	return id
}

// toMargin mines until the payee has to settle.
func toMargin(t *testing.T, p *pairtest.Pair, id string) channel.PayeeRecord {
	t.Helper()
	r, err := p.Payee.Record(t.Context(), id)
	must(t, err)
	tip, err := p.Chain.Tip(t.Context())
	must(t, err)
	p.Mine(int(r.Terms.Expiry - r.Terms.Margin - tip.Height))
	return r
}

func spendOf(t *testing.T, p *pairtest.Pair, id string) *chain.Spend {
	t.Helper()
	at, err := channel.ParseOutpoint(id)
	must(t, err)
	s, err := p.Chain.Spend(t.Context(), wire.OutPoint(at))
	must(t, err)
	return s
}

// A settlement that falls out of the mempool is broadcast again with every look,
// until it is buried; also by a payee that was started anew.
func TestPitfall27_RebroadcastUntilBuried(t *testing.T) {
	for _, kind := range []script.Construction{script.Taproot, script.Multisig, script.MultisigP2SH} {
		t.Run(string(kind), func(t *testing.T) {
			p := pairtest.New(t)
			id := bought(t, p, kind, 3)
			toMargin(t, p, id)
			must(t, p.StepPayee())
			for range 3 {
				s := spendOf(t, p, id)
				if s == nil {
					t.Fatal("the settlement was not broadcast")
				}
				_, err := p.Chain.ReorgWith(devnet.ReorgOptions{Depth: 1, Length: 2, Drop: []chainhash.Hash{s.Txid}})
				must(t, err)
				if again := spendOf(t, p, id); again != nil {
					t.Fatalf("%s is still there", again.Txid)
				}
				p.RestartPayee()
				must(t, p.StepPayee())
			}
			p.Mine(1)
			must(t, p.StepPayee())
			if r, err := p.Payee.Record(t.Context(), id); err != nil || r.Phase != channel.Settling {
				t.Fatalf("mined, not buried: phase %s, %v", r.Phase, err)
			}
			p.Mine(int(p.Policy.Burial))
			must(t, p.StepPayee())
			if r, err := p.Payee.Record(t.Context(), id); err != nil || r.Phase != channel.Closed {
				t.Fatalf("buried: phase %s, %v", r.Phase, err)
			}
		})
	}
}

// The payee sets the fee when it broadcasts, at the rate of that day, and raises
// it with each block as the expiry comes near; the rate never falls.
func TestPitfall30_FeeSetAtBroadcast(t *testing.T) {
	p := pairtest.New(t)
	id := bought(t, p, script.Taproot, 10)
	toMargin(t, p, id)
	p.Chain.SetFeeRate(script.FeeRatePerVB(7))
	must(t, p.StepPayee())
	last, err := p.Payee.Record(t.Context(), id)
	must(t, err)
	if last.Settlement == nil || last.Settlement.Rate < 7000 {
		t.Fatalf("settlement %+v at a going rate of 7 sat/vB", last.Settlement)
	}
	p.Chain.SetFeeRate(script.FeeRatePerVB(1))
	raised := 0
	for range 26 {
		_, err := p.Chain.MineBlock() // an empty block: censored
		must(t, err)
		must(t, p.StepPayee())
		r, err := p.Payee.Record(t.Context(), id)
		must(t, err)
		switch {
		case r.Settlement.Rate < last.Settlement.Rate, raised > 0 && r.Settlement.Rate == last.Settlement.Rate:
			t.Fatalf("the rate went from %d to %d although a block passed it over", last.Settlement.Rate, r.Settlement.Rate)
		case r.Settlement.Rate > last.Settlement.Rate:
			raised++
		}
		if s := spendOf(t, p, id); s == nil || s.Txid.String() != r.Settlement.Txid {
			t.Fatalf("in the mempool is %v, not the newest settlement %s", s, r.Settlement.Txid)
		}
		last = r
	}
	if raised < 4 || raised > 22 {
		t.Fatalf("the rate was raised %d times in 26 blocks", raised)
	}
}

// A refund with nLockTime H is refused at a tip below H, taken at tip = H, and
// mined in H+1.
func TestPitfall09_RefundAtItsHeight(t *testing.T) {
	for _, kind := range []script.Construction{script.Taproot, script.Multisig, script.MultisigP2SH} {
		t.Run(string(kind), func(t *testing.T) {
			p := pairtest.New(t)
			id := p.Open(kind)
			r, err := p.Payer.Record(t.Context(), id)
			must(t, err)
			tip, err := p.Chain.Tip(t.Context())
			must(t, err)
			p.Mine(int(r.Terms.Expiry - 1 - tip.Height))
			if _, err := p.Payer.Refund(t.Context(), id); !errors.Is(err, channel.ErrNotYet) {
				t.Fatalf("at expiry − 1: %v", err)
			}
			early, err := p.Payer.EarlyRefund(t.Context(), id)
			must(t, err)
			if err := p.Chain.Broadcast(t.Context(), early); !errors.Is(err, chain.ErrRejected) {
				t.Fatalf("the chain took a refund at expiry − 1: %v", err)
			}
			must(t, p.StepPayer())
			p.Mine(1)
			must(t, p.StepPayer())
			p.Mine(1)
			s := spendOf(t, p, id)
			if s == nil || !s.Confirmed || s.Height != r.Terms.Expiry+1 {
				t.Fatalf("refund %+v, want it mined at %d", s, r.Terms.Expiry+1)
			}
			p.Mine(int(p.Policy.Burial))
			must(t, p.StepPayer())
			if r, err = p.Payer.Record(t.Context(), id); err != nil || r.Phase != channel.Refunded {
				t.Fatalf("phase %s, %v", r.Phase, err)
			}
		})
	}
}

// driver fails for some channels and counts the others' turns.
type driver struct {
	targets []watch.Target
	bad     string
	turns   []string
}

func (d *driver) Watched(context.Context) ([]watch.Target, error) { return d.targets, nil }

func (d *driver) Due(_ context.Context, id string, _ channel.View, _ []byte) error {
	if id == d.bad {
		return errors.New("boom")
	}
	d.turns = append(d.turns, id)
	return nil
}

// A failure in one channel, or in one driver, keeps no other from its turn.
func TestOneFailureStopsNothing(t *testing.T) {
	p := pairtest.New(t)
	a, b := &driver{bad: "2"}, &driver{}
	for _, id := range []string{"1", "2", "3"} {
		a.targets = append(a.targets, watch.Target{ID: id})
	}
	b.targets = []watch.Target{{ID: "4"}}
	err := (&watch.Watch{Chain: p.Chain, Drivers: []watch.Driver{a, b}}).Step(t.Context())
	if err == nil || !strings.Contains(err.Error(), "channel 2") || !strings.Contains(err.Error(), "boom") {
		t.Errorf("the failure is told as %v", err)
	}
	if got := strings.Join(append(a.turns, b.turns...), " "); got != "1 3 4" {
		t.Errorf("turns %q", got)
	}
}

// moving is a chain whose tip moves with every question.
type moving struct {
	*pairtest.Chain
	n uint32
}

func (m *moving) Tip(ctx context.Context) (chain.Tip, error) {
	tip, err := m.Chain.Tip(ctx)
	m.n++
	tip.Hash[0], tip.Height = byte(m.n), tip.Height+m.n
	return tip, err
}

// A view never mixes two tips: where the tip keeps moving there is none.
func TestLookNeverMixesTips(t *testing.T) {
	p := pairtest.New(t)
	_, _, err := watch.Look(t.Context(), &moving{Chain: p.Chain}, wire.OutPoint{}, nil)
	if !errors.Is(err, chain.ErrUnavailable) {
		t.Errorf("a view although the tip kept moving: %v", err)
	}
}

// A funding that is undone by a reorg counts for nothing until it is back; one
// whose coins are spent elsewhere, R deep, is given up by both sides.
func TestFundingUndoneAndDoubleSpent(t *testing.T) {
	p := pairtest.New(t)
	id := bought(t, p, script.Taproot, 2)
	r, err := p.Payer.Record(t.Context(), id)
	must(t, err)
	must(t, p.StepPayee())
	t1, err := channel.DecodeTx(r.FundingTx)
	must(t, err)
	_, err = p.Chain.ReorgWith(devnet.ReorgOptions{Depth: 3, Length: 4, Drop: []chainhash.Hash{t1.TxHash()}})
	must(t, err)
	must(t, p.StepPayee()) // sees that it is gone, and broadcasts it again
	if _, err := p.Chain.Tx(t.Context(), t1.TxHash()); err != nil {
		t.Fatalf("the payee did not bring T1 back: %v", err)
	}
	if _, err := p.Buy(id, 7); !errors.Is(err, channel.ErrUnconfirmed) {
		t.Fatalf("delivered over an unconfirmed funding: %v", err)
	}
	p.Mine(1)
	must(t, p.StepPayee())
	if _, err := p.Buy(id, 7); err != nil {
		t.Fatalf("back at its depth: %v", err)
	}
	// now its coins go elsewhere
	must(t, p.StepPayer())
	double, err := p.Wallet.Cancel(t.Context(), t1.TxHash(), script.FeeRatePerVB(20))
	if err == nil {
		t.Fatalf("a mined funding was cancelled by %s", double.Tx.TxHash())
	}
}
