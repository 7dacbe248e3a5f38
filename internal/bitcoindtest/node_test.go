package bitcoindtest

import (
	"errors"
	"path/filepath"
	"sync"
	"testing"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/internal/programs"
)

func TestNodeFundsMinesAndAnswers(t *testing.T) {
	n := Start(t)
	before := n.Height()
	out := n.Fund(n.purse.script, 123_456)
	if got := n.Height(); got != before+1 {
		t.Fatalf("the tip is %d after funding at %d", got, before)
	}
	funding := n.Tx(out.Hash.String())
	if got := funding.TxOut[out.Index].Value; got != 123_456 {
		t.Fatalf("funded with %d sat", got)
	}
	if got := n.MinedAt(funding); got != before+1 {
		t.Fatalf("mined at %d", got)
	}
	next := n.FundingTx()
	if ok, reason := n.TestAccept(next); !ok {
		t.Fatalf("refused: %s", reason)
	}
	if err := n.Send(next); err != nil {
		t.Fatal(err)
	}
	if !n.InMempool(next) || n.InMempool(funding) {
		t.Fatal("the mempool holds something else")
	}
	next.LockTime, next.TxIn[0].Sequence = uint32(before+100), 0
	if ok, reason := n.TestAccept(next); ok || reason != "non-final" {
		t.Fatalf("accepted: %v, %q", ok, reason)
	}
}

func TestRefusalsAreErrors(t *testing.T) {
	n := Start(t)
	var refused *Error
	if err := n.RPC(nil, "nosuchmethod"); !errors.As(err, &refused) || refused.Code != -32601 {
		t.Fatalf("an unknown method: %v", err)
	}
	tx := n.FundingTx()
	tx.TxIn[0].Witness[0][0] ^= 1
	if err := n.Send(tx); !errors.As(err, &refused) {
		t.Fatalf("a wrong signature: %v", err)
	}
}

// The relay rules are the field's: bare OP_TRUE outputs are not relayed.
func TestNodeIsStandard(t *testing.T) {
	n := Start(t)
	tx := n.FundingTx(&wire.TxOut{Value: 5000, PkScript: []byte{0x51}})
	if ok, reason := n.TestAccept(tx); ok || reason != "scriptpubkey" {
		t.Fatalf("accepted: %v, %q", ok, reason)
	}
}

func TestFetchIsSharedAndReportsItsFailure(t *testing.T) {
	want := filepath.Dir(filepath.Dir(Program(t)))
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if got, err := programs.Get("bitcoind", "get-bitcoind"); err != nil || got != want {
				t.Errorf("%s, %v", got, err)
			}
		})
	}
	wg.Wait()
	if err := programs.Once("/dev/null/bitcoind", func() error { return nil }); err == nil {
		t.Fatal("fetched into a folder that cannot be")
	}
}
