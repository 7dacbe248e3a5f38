package devnet_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/chain/devnet"
)

// child works on a chain until it is killed and says on stdout what it was answered, each line after the answer.
func child(dir string) error {
	n, err := devnet.New(devnet.Config{Dir: dir})
	if err != nil {
		return err
	}
	ctx := context.Background()
	script := make([]byte, 22)
	script[1] = 20
	for i := 0; ; i++ {
		script[2], script[3] = byte(i), byte(i>>8)
		switch i % 5 {
		case 3:
			_, err = n.Mine(1 + i%3)
		case 4:
			err = n.Reorg(1+i%4, 2+i%4)
		default:
			var id chainhash.Hash
			if id, err = n.Faucet(ctx, script, 10_000); err == nil {
				_, err = fmt.Println("tx", id)
			}
		}
		if err != nil {
			return err
		}
		tip, err := n.Tip(ctx)
		if err != nil {
			return err
		}
		if _, err := fmt.Println("tip", tip.Height, tip.Hash); err != nil {
			return err
		}
	}
}

// answered is all that the children of one folder have been answered.
type answered struct {
	txs    []chainhash.Hash
	height uint32
	tip    chainhash.Hash
}

// run starts a child on a folder, reads so many of its lines, kills it and takes in what it still had said.
func (a *answered) run(t *testing.T, dir string, lines int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(out)
	for i := 0; ; i++ {
		line, err := r.ReadString('\n')
		if err != nil {
			break // a line that was cut is no answer
		}
		a.take(t, strings.TrimSpace(line))
		if i == 0 {
			_, err := devnet.New(devnet.Config{Dir: dir})
			if !errors.Is(err, devnet.ErrLocked) {
				t.Errorf("a second process on the folder: %v", err)
			}
		}
		if i == lines {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); err == nil {
		t.Fatal("the child ended by itself")
	}
}

func (a *answered) take(t *testing.T, line string) {
	t.Helper()
	var hash string
	switch what, rest, _ := strings.Cut(line, " "); what {
	case "tx":
		hash = rest
	case "tip":
		if _, err := fmt.Sscanf(rest, "%d %s", &a.height, &hash); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
	default:
		t.Fatalf("the child says %q", line)
	}
	h, err := chainhash.NewHashFromStr(hash)
	if err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	if strings.HasPrefix(line, "tip") {
		a.tip = *h
	} else {
		a.txs = append(a.txs, *h)
	}
}

// check opens the folder and finds everything that was answered.
func (a *answered) check(t *testing.T, dir string) {
	t.Helper()
	n, err := devnet.New(devnet.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range a.txs {
		if _, err := n.Tx(t.Context(), id); err != nil {
			t.Errorf("an accepted transaction is forgotten: %v", err)
		}
	}
	tip, err := n.Tip(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if tip.Height < a.height {
		t.Errorf("the tip fell from %d to %d", a.height, tip.Height)
	}
	if !knowsBlock(t, n, a.tip) {
		t.Errorf("block %s at %d is forgotten", a.tip, a.height)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestPitfall74_Killed kills a process at random moments, again and again on one folder: nothing that it answered
// for is missing afterwards, also what was in the mempool and what a reorg had moved.
func TestPitfall74_Killed(t *testing.T) {
	dir := t.TempDir()
	var a answered
	for round := range 12 {
		began := time.Now()
		a.run(t, dir, 1+rand.IntN(40))
		a.check(t, dir)
		t.Logf("round %d: %d transactions, tip %d, %v", round, len(a.txs), a.height, time.Since(began))
		if t.Failed() {
			return
		}
	}
	n := open(t, devnet.Config{Dir: dir})
	if _, err := n.Mine(1); err != nil {
		t.Fatal(err)
	}
	for _, id := range a.txs {
		if info, err := n.Tx(t.Context(), id); err != nil || !info.Confirmed {
			t.Errorf("transaction %s is not mined in the end: %v", id, err)
		}
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Mine(1); !errors.Is(err, chain.ErrUnavailable) || !errors.Is(err, devnet.ErrClosed) {
		t.Errorf("mining after Close: %v", err)
	}
}

// TestPitfall74_KilledAtBoot kills a process while it makes its first blocks: the folder starts all the same.
func TestPitfall74_KilledAtBoot(t *testing.T) {
	for range 8 {
		dir := t.TempDir()
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), childEnv+"="+dir)
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		// The folder appears first; then up to some tens of milliseconds of work are cut at a random point.
		for begun := false; !begun; {
			_, err := os.Stat(dir + "/chain.log")
			begun = err == nil
		}
		for until := time.Now().Add(time.Duration(rand.IntN(30_000)) * time.Microsecond); time.Now().Before(until); {
			runtime.Gosched()
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err == nil {
			t.Fatal("the child ended by itself")
		}
		n := open(t, devnet.Config{Dir: dir})
		if h := height(t, n); h < 250 {
			t.Fatalf("the tip is %d", h)
		}
		mine(t, n, 1)
	}
}
