package sim

import (
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"

	"github.com/spillway/spillway/internal/sim/simchain"
)

// lies are what a backend may tell, each alone.
var lies = []struct {
	name string
	lie  simchain.Lie
}{
	{"hides-spends", simchain.HideSpend}, {"hides-transactions", simchain.HideTx}, {"confirms-falsely", simchain.FakeConfirmation},
	{"refuses-broadcasts", simchain.RefuseBroadcast}, {"drops-broadcasts", simchain.SwallowBroadcast}, {"loses-answers", simchain.LoseAnswer},
	{"names-other-tips", simchain.OtherTip}, {"names-no-fee", simchain.ZeroFee}, {"names-an-absurd-fee", simchain.AbsurdFee},
}

// lieOfChain lets the backend of one side lie for a while: of everything, or of half of all
// transactions. Within the bounds the payee's lies end before a margin that anything
// depends on (ready). What struck is counted, whatever was asked for.
func (w *world) lieOfChain() {
	p := w.either()
	w.struckLies()
	which := lies[w.rng.IntN(len(lies))]
	p.link.honest()
	p.link.bad = w.at + 1 + w.rng.IntN(25)
	f := p.link.inner
	f.Target = nil
	if w.rng.IntN(2) == 0 {
		f.Target = func(id chainhash.Hash) bool { return id[0]&1 == 0 }
	}
	said := which.lie
	if w.rng.IntN(4) == 0 {
		said |= lies[w.rng.IntN(len(lies))].lie
	}
	f.Lie(said)
	p.link.lying = true
	w.tell("the chain backend of %s %s", p.name, which.name)
}

// struckLies takes over how often backends' faults struck in this run.
func (w *world) struckLies() {
	for _, p := range w.processes() {
		for kind, n := range p.link.inner.Counts() {
			if more := n - p.link.struck[kind]; more > 0 {
				if p.link.struck == nil {
					p.link.struck = map[string]int{}
				}
				p.link.struck[kind] = n
				w.result.Faults["struck-"+kind] += more
			}
		}
	}
}

// misled reports whether what the payee was told lately may be false: answers are
// used for a while after they came.
func (a *audit) misled() bool {
	return a.w.seller.link.bad > 0 || a.w.now.Sub(a.w.seller.link.lied) <= fresh+time.Second
}
