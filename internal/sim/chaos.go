package sim

import (
	"time"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/script"
)

// play plays one event.
func (w *world) play(s step) {
	w.begin(s)
	switch s.kind {
	case buy:
		w.someone().step()
	case mine:
		w.block(nil)
	case look:
		w.lookOne()
	case kill:
		w.killOne()
	case fuse:
		w.fuseOne()
	case diskFail, diskFull, backup, restore:
		w.diskTrouble(s.kind)
	case fees, evict:
		w.mempoolTrouble(s.kind)
	case reorg:
		w.reorg()
	case censor:
		w.censor()
	case gap:
		w.now = w.now.Add(2 * time.Hour)
		w.fault("two-hours-without-a-block")
		w.looks()
	case cut, late, replay, tamper:
		w.lineTrouble(s.kind)
	case clock, pause, backend:
		w.machineTrouble(s.kind)
	case attack:
		w.attack()
	case special:
		w.special()
	}
	w.recover(w.calm || w.rng.IntN(3) > 0)
}

func (w *world) someone() *buyer { return w.buyers[w.rng.IntN(len(w.buyers))] }

// processes are all of them, the payee first.
func (w *world) processes() []*process {
	all := []*process{w.seller.process}
	for _, b := range w.buyers {
		all = append(all, b.process)
	}
	return all
}

// either draws a side.
func (w *world) either() *process {
	if w.rng.IntN(2) == 0 {
		return w.seller.process
	}
	return w.someone().process
}

// recover starts the processes that were killed, or whose disk failed; they look
// at the chain at once, and may be killed while they do.
func (w *world) recover(now bool) {
	if !now {
		return
	}
	if p := w.seller.process; p.dead || p.disk.failed {
		w.restart(p, w.seller.start, w.seller.look)
	}
	for _, b := range w.buyers {
		if b.dead || b.disk.failed {
			w.restart(b.process, b.start, b.look)
		}
	}
	if w.duo != nil {
		w.duo.recover()
	}
	if c := w.crowd; c != nil && (c.dead || c.disk.failed) {
		w.restart(c.process, c.start, c.look)
	}
	if t := w.tower; t != nil && (t.dead || t.disk.failed) {
		w.restart(t.process, t.start, t.look)
	}
}

func (w *world) restart(p *process, start, look func()) {
	for tries := 0; p.dead || p.disk.failed; tries++ {
		w.tell("  %s starts again", p.name)
		p.dead, p.fuse = false, 0
		if !w.calm && tries < 3 && w.rng.IntN(4) == 0 {
			p.fuse = 1 + w.rng.IntN(3)
		}
		start()
		armed := p.fuse > 0
		look()
		if armed && p.dead {
			w.fault("crash-while-recovering")
		}
		p.fuse = 0
	}
}

func (w *world) killOne() {
	p := w.either()
	if !p.dead {
		p.die("where it stands")
	}
}

// fuseOne lets one side die at one of its next effects.
func (w *world) fuseOne() {
	p := w.either()
	if p.dead {
		return
	}
	p.fuse = 1 + w.rng.IntN(9)
	for range 3 {
		if w.rng.IntN(4) > 0 {
			w.someone().step()
		} else {
			w.looks()
		}
	}
	p.fuse = 0
}

func (w *world) lookOne() {
	if w.rng.IntN(2) == 0 {
		w.seller.look()
		return
	}
	w.someone().look()
}

func (w *world) looks() {
	w.seller.look()
	for _, b := range w.buyers {
		b.look()
	}
	if w.duo != nil {
		w.duo.looks()
	}
	if w.crowd != nil {
		w.crowd.look()
	}
	w.tower.look()
}

// staked reports whether the margin of some channel is what protects its payee now.
func (w *world) staked() bool {
	tip := w.chain.Height()
	for _, r := range w.audit.payee {
		t := r.Terms
		if r.Paid > 0 && !r.Phase.Final() && tip+1 >= t.Expiry-t.Margin {
			return true
		}
	}
	return w.duo.staked()
}

// block mines one; both sides look before and after it. keep may hold something
// back.
func (w *world) block(keep func(*wire.MsgTx) bool) {
	w.now = w.now.Add(10 * time.Minute)
	w.ready()
	w.looks() // between two blocks there are many looks
	w.recover(true)
	w.chain.Mine(keep)
	w.audit.mined()
	if w.tower != nil {
		w.noteTower(w.tower.keep(false))
	}
	w.looks()
	w.recover(true)
	w.audit.resent()
	if !w.staked() {
		w.trouble = trouble{}
	}
}

// ready makes sure that within the bounds the payee reacts in the time that the
// margin gives it.
func (w *world) ready() {
	w.recover(true)
	w.tower.miss()
	if w.story.wild || !w.staked() {
		return
	}
	ready := []*process{w.seller.process}
	if t := w.tower; t != nil && t.absent {
		ready[0] = t.process
	}
	for _, p := range ready {
		p.until = 0
		p.link.honest()
		p.disk.mend()
	}
	w.duo.ready()
}

func nothing(*wire.MsgTx) bool { return false }

// censor is a stretch of blocks without anything of ours.
func (w *world) censor() {
	blocks := 1 + w.rng.IntN(int(w.pol.Censorship))
	if w.story.wild {
		blocks = 1 + w.rng.IntN(144)
	}
	w.tell("for up to %d blocks nothing of ours gets in", blocks)
	for range blocks {
		if w.failed {
			return
		}
		if w.staked() {
			if !w.story.wild && w.trouble.censored >= w.pol.Censorship {
				break
			}
			w.trouble.censored++
		}
		if len(w.chain.Mempool()) > 0 {
			w.fault("censored-block")
		}
		w.result.Events++
		w.block(nothing)
	}
	w.block(nil)
}

// reorg undoes some blocks: as many as the margin allows for, or many more beyond
// the bounds.
func (w *world) reorg() {
	depth := 1 + w.rng.IntN(int(w.pol.Reorg))
	if w.story.wild {
		depth = 1 + w.rng.IntN(100)
	}
	if !w.story.wild && w.staked() && w.trouble.reorged {
		return
	}
	w.trouble.reorged = true
	undone := w.chain.Reorg(depth)
	w.audit.undone(depth)
	w.result.Reorgs++
	if undone > 0 {
		w.fault("reorg-of-something")
	}
	if depth > int(w.pol.Reorg) {
		w.fault("deep-reorg")
	}
	w.tell("a reorg of %d blocks undoes %d transactions, tip %d", depth, undone, w.chain.Height())
	w.looks()
}

func (w *world) mempoolTrouble(k kind) {
	pool := w.chain.Mempool()
	if k == evict {
		if len(pool) > 0 {
			id := pool[w.rng.IntN(len(pool))].TxHash()
			w.chain.Evict(id)
			w.fault("eviction")
			w.tell("the mempool drops %.12s", id.String())
		}
		return
	}
	rates := []int64{1, 1, 2, 5, 20, 100}
	rate := rates[w.rng.IntN(len(rates))]
	w.chain.SetFeeRate(script.FeeRatePerVB(rate))
	w.fault("fee-change")
	if rate == 100 {
		w.fault("fee-spike")
	}
	least := int64(0)
	if w.rng.IntN(3) == 0 {
		least = 1 + w.rng.Int64N(rate)
	}
	gone := w.chain.SetMinFee(script.FeeRatePerVB(least))
	w.tell("fees are %d sat/vB, the mempool takes nothing below %d; %d transactions are dropped", rate, least, gone)
	if gone > 0 {
		w.fault("eviction")
	}
}

func (w *world) lineTrouble(k kind) {
	switch k {
	case cut:
		b := w.someone()
		w.cut[b.n] = w.at + 1 + w.rng.IntN(40)
		w.tell("the line of %s is cut", b.name)
	case late:
		if len(w.delayed) == 0 {
			return
		}
		i := w.rng.IntN(len(w.delayed))
		p := w.delayed[i]
		w.delayed = append(w.delayed[:i:i], w.delayed[i+1:]...)
		w.fault("late-request")
		w.tell("a request of %s arrives late", p.from.name)
		w.deliver(p)
	case replay:
		if len(w.history) == 0 {
			return
		}
		p := w.history[w.rng.IntN(len(w.history))]
		w.fault("replayed-request")
		w.tell("a request of %s arrives again", p.from.name)
		w.deliver(p)
	case tamper:
		w.tamper()
	}
}

func (w *world) machineTrouble(k kind) {
	p := w.either()
	switch k {
	case clock:
		jumps := []time.Duration{-5 * time.Hour, -time.Hour, -10 * time.Minute, -time.Second, time.Minute, 10 * time.Minute, 3 * time.Hour, 0, 0}
		p.skew = jumps[w.rng.IntN(len(jumps))]
		w.fault("clock-jump")
		w.tell("the clock of %s is %s off", p.name, p.skew)
	case pause:
		p.until = w.at + 1 + w.rng.IntN(30)
		w.fault("pause-" + p.name)
		w.tell("%s is suspended for a while", p.name)
		for range w.rng.IntN(8) {
			w.block(nil)
		}
	case backend:
		w.badBackend(p)
	}
}

// badBackend makes one side's backend lag, stand still, be unreachable, relay
// nothing, or, beyond the bounds, lie.
func (w *world) badBackend(p *process) {
	p.link.bad = w.at + 1 + w.rng.IntN(15)
	how := w.rng.IntN(5)
	switch how {
	case 0:
		p.link.inner.Down(true)
	case 1:
		p.link.inner.Lag(1 + w.rng.Uint32N(6))
	case 2:
		p.link.inner.Stale(true)
	case 3:
		p.link.inner.CutOff(true)
	case 4:
		p.link.inner.FailNext(1 + w.rng.IntN(5))
	}
	name := [...]string{"down", "behind", "standing-still", "cut-off", "failing"}[how]
	w.fault("backend-" + name)
	w.tell("the chain backend of %s is %s", p.name, name)
}

func (w *world) diskTrouble(k kind) {
	p := w.either()
	switch k {
	case diskFail:
		w.failNext(p)
	case diskFull:
		p.disk.full = w.at + 1 + w.rng.IntN(20)
		if w.rng.IntN(2) == 0 {
			p.disk.inner.Fill()
		} else {
			p.disk.inner.SetReadOnly(true)
		}
		w.tell("the disk of %s is full, or read-only", p.name)
	case backup:
		snap := p.disk.inner.Backup()
		p.disk.copy = &snap
		w.tell("the disk of %s is copied", p.name)
	case restore:
		if p == w.seller.process {
			w.restoreSeller()
		}
	}
}

// failNext lets a side's next save fail.
func (w *world) failNext(p *process) {
	switch w.rng.IntN(3) {
	case 0:
		p.disk.inner.FailNext(nil)
	case 1:
		p.disk.inner.FailButPersistNext(nil)
	case 2:
		p.disk.inner.FailUnknownNext()
	}
}

// restoreSeller puts an old copy in the place of the payee's disk, as its operator
// does: the store is marked and the challenges begin another epoch.
func (w *world) restoreSeller() {
	s := w.seller
	if s.disk.copy == nil || s.restored {
		return
	}
	w.tell("the payee loses its disk and restores an old copy")
	w.fault("restore-payee")
	s.die("with its disk")
	s.disk.inner.Restore(*s.disk.copy)
	s.disk.mend()
	s.link.honest()
	s.restored = true
	s.epoch++
	s.start()
	w.must(s.payee.MarkRestored(w.ctx))
	s.look()
}

// settled reports whether nothing more can happen to any channel.
func (w *world) settled() bool {
	for _, b := range w.buyers {
		if !b.gone {
			return false
		}
	}
	if !w.duo.over() {
		return false
	}
	for id, r := range w.audit.payer {
		if !r.Phase.Final() && r.Phase != channel.Prepared && !w.audit.owner[id].vanished() {
			return false
		}
	}
	for id, r := range w.audit.payee {
		if r.Phase.Final() || w.vanished {
			continue
		}
		// nobody is left to end it: the payer has gone, or a reorg beyond the bounds took its buried refund away
		left := w.audit.owner[id].vanished() || w.story.wild && w.audit.payer[id].Phase.Final()
		if !left || r.Paid >= r.Terms.MinimumCharge || w.chain.Height() <= r.Terms.Expiry {
			return false
		}
	}
	return true
}
