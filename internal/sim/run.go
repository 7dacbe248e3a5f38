package sim

import (
	"runtime/debug"
	"time"

	"github.com/spillway/spillway/script"
)

// runSteps is how many events are drawn for a seed; what it takes to come to an
// end comes on top, so that a run has at least leastEvents.
const (
	runSteps    = 400
	leastEvents = 500
)

// maxTail bounds the events that a run needs to come to its end.
const maxTail = 3_000

// Run plays one seed. trace may be nil; it is told the story line by line.
func Run(seed uint64, trace func(string, ...any)) Result { return RunPlan(seed, Plan{}, trace) }

// RunPlan plays those of a seed's events that are in the plan.
func RunPlan(seed uint64, p Plan, trace func(string, ...any)) Result {
	w := newWorld(seed, trace)
	w.guarded(p.of(steps(seed, runSteps)))
	return w.result
}

// guarded is run; code that panics violates every rule.
func (w *world) guarded(all []step) {
	defer func() {
		if p := recover(); p != nil {
			w.violate("panic: %v", p)
			w.tell("%s", debug.Stack())
		}
	}()
	w.run(all)
}

func (w *world) run(all []step) {
	for _, s := range all {
		if w.failed {
			return
		}
		w.at++
		w.result.Events++
		if w.trace != nil {
			w.tell("%d: %s, height %d", w.at, s.kind, w.chain.Height())
		}
		w.play(s)
		w.audit.check()
	}
	w.tail()
}

// tail lets everything come to its end: nothing fails any more.
func (w *world) tail() {
	w.last = true
	w.heal()
	for i := 0; i < maxTail && !w.failed && (!w.settled() || w.at < leastEvents); i++ {
		w.at++
		w.result.Events++
		w.begin(step{seed: uint64(i), calm: true})
		w.heal()
		w.duo.finish()
		if busy := w.busy(); busy == nil || i%8 == 7 {
			w.block(nil)
		} else {
			busy.step()
		}
		w.audit.check()
	}
	w.struckLies()
	if !w.failed {
		w.audit.end()
	}
}

// heal mends all that was broken.
func (w *world) heal() {
	w.calm = true
	w.cut = [maxBuyers + 1]int{}
	for _, p := range w.processes() {
		p.until, p.fuse = 0, 0
		p.link.honest()
		p.disk.mend()
		p.skew = time.Duration(0)
	}
	w.duo.heal()
	if c := w.crowd; c != nil {
		c.until, c.fuse = 0, 0
		c.link.honest()
		c.disk.mend()
		c.freeNever()
	}
	if t := w.tower; t != nil {
		t.until, t.fuse, t.deaf = 0, 0, 0
		t.link.honest()
		t.disk.mend()
	}
	w.chain.SetMinFee(0)
	w.chain.SetFeeRate(script.FeeRatePerVB(2))
	w.recover(true)
	for _, b := range w.buyers {
		b.freeAgain()
		b.freeUnseen()
	}
}

// busy is a buyer that has something to do.
func (w *world) busy() *buyer {
	n := w.rng.IntN(len(w.buyers))
	for i := range w.buyers {
		if b := w.buyers[(n+i)%len(w.buyers)]; !b.gone {
			return b
		}
	}
	return nil
}
