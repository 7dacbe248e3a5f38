package scenario

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/chain/devnet"
	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/script"
)

// actorVariable makes this test program an actor's process.
const actorVariable = "SPILLWAY_SCENARIO_ACTOR"

func TestMain(m *testing.M) {
	if os.Getenv(actorVariable) != "" {
		if err := Act(context.Background(), os.Stdin, os.Stdout); err != nil {
			os.Stderr.WriteString(err.Error() + "\n")
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// company are actors that this test program plays.
func company(t *testing.T) Company {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return Company{Path: exe, Args: []string{exe}, Env: append(os.Environ(), actorVariable+"=1"), Dir: t.TempDir()}
}

// all plays every story by processes in every kind of channel; else each is played in one.
var all = flag.Bool("all", false, "play every story by processes in every kind of channel")

// Every story, played by processes, ends with the sums that it ends with in one, to
// the satoshi, and leaves nothing behind.
func TestApart(t *testing.T) {
	sums := exactEnds(t)
	for i, sc := range List() {
		for k, kind := range sc.Channels {
			if !*all && k != i%len(sc.Channels) {
				continue
			}
			t.Run(sc.Name+"/"+string(kind), func(t *testing.T) {
				t.Parallel()
				apartly(t, sc, kind, sums)
			})
		}
	}
}

func apartly(t *testing.T, sc Scenario, kind script.Construction, sums map[string]exact) {
	c := company(t)
	r, err := sc.PlayApart(t.Context(), kind, func(line string) { t.Log(line) }, c)
	if err != nil {
		t.Fatal(err)
	}
	if !r.OK || len(r.Failed) > 0 {
		t.Fatalf("it did not end well: %q", r.Failed)
	}
	want := ends[sc.Name]
	if kind == Ladder {
		want = ladderEnd
	}
	want.check(t, r)
	checkExact(t, sums, r)
	if len(r.Processes) < 3 {
		t.Errorf("played by %+v", r.Processes)
	}
	for _, x := range r.Processes {
		if err := syscall.Kill(x.PID, 0); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("the %s's process %d is there still: %v", x.Role, x.PID, err)
		}
	}
	left, err := os.ReadDir(c.Dir)
	if err != nil || len(left) > 0 {
		t.Errorf("%d folders are left: %v", len(left), err)
	}
}

// An actor ends when whoever started it is gone, also in the middle of an order.
func TestActorsEndWithTheirStory(t *testing.T) {
	now := func() time.Time { return time.Unix(1_700_000_000, 0) }
	for name, order := range map[string]string{"idle": "", "at work": "mine"} {
		t.Run(name, func(t *testing.T) {
			x, err := company(t).start(t.Context(), part{Role: Node, Kind: script.Taproot, Duration: 60}, now)
			if err != nil {
				t.Fatal(err)
			}
			if order != "" {
				if err := x.encode.Encode(message{Now: now().Unix(), Do: order, Args: []byte("10000")}); err != nil {
					t.Fatal(err)
				}
			}
			if err := x.in.Close(); err != nil {
				t.Fatal(err)
			}
			if err := x.death(); errors.Is(err, errDead) || x.end != nil {
				t.Errorf("it did not end by itself: %v, %v", err, x.end)
			}
		})
	}
}

// What an actor is told that it does not understand is answered, and it goes on.
func TestActorsAnswer(t *testing.T) {
	now := func() time.Time { return time.Unix(1_700_000_000, 0) }
	x, err := company(t).start(t.Context(), part{Role: Node, Kind: script.Taproot, Duration: 60}, now)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := x.kill(); err != nil {
			t.Error(err)
		}
	}()
	ctx := t.Context()
	if err := x.order(ctx, "nonsense", nil, nil); err == nil || errors.Is(err, errDead) {
		t.Errorf("an unknown order: %v", err)
	}
	if err := x.order(ctx, "mine", "many", nil); err == nil || errors.Is(err, errDead) {
		t.Errorf("an order that is not understood: %v", err)
	}
	theft := wire.NewMsgTx(2)
	theft.AddTxIn(&wire.TxIn{PreviousOutPoint: wire.OutPoint{Index: 1}})
	theft.AddTxOut(wire.NewTxOut(1, []byte{0x51}))
	raw, err := channel.EncodeTx(theft)
	if err != nil {
		t.Fatal(err)
	}
	if err := x.order(ctx, "block", []channel.Hex{raw}, nil); !errors.Is(err, devnet.ErrBlock) {
		t.Errorf("a block that breaks the rules: %v", err)
	}
	var hashes []string
	if err := x.order(ctx, "mine", 2, &hashes); err != nil || len(hashes) != 2 {
		t.Errorf("%d blocks: %v", len(hashes), err)
	}
	if _, err := company(t).start(ctx, part{Role: "nobody"}, now); err == nil {
		t.Error("a part that is not in the story was taken")
	}
}

// Errors keep their identity between processes.
func TestFaults(t *testing.T) {
	for name, is := range known {
		f := &fault{}
		raw, err := json.Marshal(faultOf(fmt.Errorf("while it played: %w", is)))
		if err != nil || json.Unmarshal(raw, f) != nil {
			t.Fatal(err)
		}
		if !errors.Is(f, is) || f.Error() == "" {
			t.Errorf("%s is lost: %v", name, f)
		}
	}
	var reject *chain.RejectError
	if f := faultOf(&chain.RejectError{Reason: "non-final"}); !errors.As(f, &reject) || reject.Reason != "non-final" || !errors.Is(f, chain.ErrRejected) {
		t.Errorf("a refusal is lost: %v", f)
	}
	if faultOf(nil) != nil {
		t.Error("no error is one")
	}
}
