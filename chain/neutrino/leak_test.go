package neutrino_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/spillway/spillway/internal/btcdtest"
)

// TestCloseLeavesNothing runs alone: a closed light client has no goroutine left.
func TestCloseLeavesNothing(t *testing.T) {
	n := btcdtest.Start(t)
	n.MineCoins(1)
	before := goleak.IgnoreCurrent()
	c := open(t, n)
	settle(t, n, c)
	a := newHolder(t, 7)
	op := n.Pay(a.script, 70_000)
	if err := c.Broadcast(t.Context(), a.spend(t, op, 70_000, a.script)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.FeeRate(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	goleak.VerifyNone(t, before, goleak.IgnoreTopFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreTopFunction("net/http.(*persistConn).writeLoop"),
		goleak.IgnoreTopFunction("internal/poll.runtime_pollWait"))
}
