package several_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/chain/chaintest"
	"github.com/spillway/spillway/chain/devnet"
	"github.com/spillway/spillway/chain/several"
	"github.com/spillway/spillway/script"
)

// light sees blocks alone, finds transactions by scripts that it was told, and says nothing of what it sends.
type light struct {
	*devnet.Node
	mu    sync.Mutex
	known map[string]bool
}

func (l *light) Capabilities() chain.Capabilities { return chain.Capabilities{} }

func (l *light) HintScripts(scripts ...[]byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, pk := range scripts {
		l.known[string(pk)] = true
	}
}

func (l *light) Tx(ctx context.Context, id chainhash.Hash) (chain.TxInfo, error) {
	info, err := l.Node.Tx(ctx, id)
	if err != nil {
		return info, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, out := range info.Tx.TxOut {
		if info.Confirmed && l.known[string(out.PkScript)] {
			return info, nil
		}
	}
	return chain.TxInfo{}, fmt.Errorf("%w: %s", chain.ErrNotFound, id)
}

func (l *light) Spend(ctx context.Context, op wire.OutPoint) (*chain.Spend, error) {
	s, err := l.Node.Spend(ctx, op)
	if s != nil && !s.Confirmed {
		s = nil
	}
	return s, err
}

func (l *light) History(ctx context.Context, pk []byte) (all []chain.TxInfo, err error) {
	infos, err := l.Node.History(ctx, pk)
	for _, i := range infos {
		if i.Confirmed {
			all = append(all, i)
		}
	}
	return all, err
}

func (l *light) UTXOs(ctx context.Context, pk []byte) (all []chain.UTXO, err error) {
	infos, err := l.History(ctx, pk)
	for _, f := range infos {
		for i, out := range f.Tx.TxOut {
			op := wire.OutPoint{Hash: f.Tx.TxHash(), Index: uint32(i)}
			if !bytes.Equal(out.PkScript, pk) {
				continue
			}
			s, serr := l.Spend(ctx, op)
			if err = errors.Join(err, serr); s == nil {
				all = append(all, chain.UTXO{Outpoint: op, Value: out.Value, PkScript: pk, Confirmed: true, Height: f.Height})
			}
		}
	}
	return all, err
}

func (l *light) Broadcast(ctx context.Context, tx *wire.MsgTx) error {
	if err := l.Node.Broadcast(ctx, tx); !errors.Is(err, chain.ErrRejected) {
		return err
	}
	return nil
}

func (l *light) FeeRate(ctx context.Context, _ int) (script.FeeRate, error) {
	return chain.MinFeeRate, l.CheckContext(ctx)
}

// CheckContext is the error of a context that is over.
func (l *light) CheckContext(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%w: %w", chain.ErrUnavailable, err)
	}
	return nil
}

// TestLightBesideNode: a light client beside a node is no worse than the node, and that it sees no mempool, and gives no
// reasons, is no difference that anybody has to hear of.
func TestLightBesideNode(t *testing.T) {
	chaintest.Suite(t, func(t *testing.T) chaintest.Fixture {
		n := open(t)
		members := []several.Member{{Name: "light", Backend: &light{Node: n, known: map[string]bool{}}}, {Name: "node", Backend: n}}
		concurrent := t.Name() == "TestLightBesideNode/Concurrent" // blocks come between two questions there
		b, err := several.New(several.Config{Members: members, Grace: -1, OnAlarm: func(a several.Alarm) {
			if !concurrent {
				t.Errorf("alarm: %+v", a)
			}
		}})
		if err != nil {
			t.Fatal(err)
		}
		if c := b.Capabilities(); !c.Mempool || !c.FeeEstimates || c.NoVersion3 {
			t.Fatalf("%+v", c)
		}
		return chaintest.Fixture{
			Backend: b, Params: devnet.Params(), Depths: []int{1, 2, 20},
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
