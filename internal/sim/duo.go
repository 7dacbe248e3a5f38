package sim

import (
	"encoding/json"
	"errors"
	"math"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/payee"
	"github.com/spillway/spillway/payer"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/store"
	"github.com/spillway/spillway/watch"
)

// duo is a pair with a duplex channel, beside all else that happens in a run: each
// sells to the other, on credit, and the payee pays back. They talk in messages
// that are lost, doubled, late and replayed, over drivers and disks like everybody
// else's. docs/protocol.md, section 18.
type duo struct {
	w   *world
	pol channel.Policy

	one    *process // the payer's
	coins  *buyer   // its coins
	keys   *keyCache
	payer  *payer.Payer
	onLook *watch.Watch

	other     *process // the payee's
	payee     *payee.Payee
	otherLook *watch.Watch

	price, sale     uint64 // msat, of the payee's goods and of the payer's
	credit, trusted uint64 // msat, what the payee gives, what the payer gives
	capacity        uint64 // sat

	id       string // of the channel; "": none yet
	offer    channel.Offer
	box      []letter // under way
	old      []letter // arrived before
	states   []settleable
	backs    []uint64 // msat, what is paid back
	gone     *process // the side that vanishes, at event goneAt
	goneAt   int
	together bool // they close together at the end, where both are there
	forgets  bool // the payee loses its disk
	restored bool // and came back from an old copy
	closing  *payer.Closing
	audit    *duoAudit
}

// letter is a message from one side to the other.
type letter struct {
	what string
	read func()
}

// settleable is a state that one side could once complete.
type settleable struct {
	by    script.Side
	claim script.Claim
	to    []byte
	lock  uint32
}

const (
	bucketDuo  = "sim/duo"
	bucketSold = "payer/charged" // channel/resource/page → bits of what the payer sold
)

// newDuo makes the pair and starts it.
func newDuo(w *world) *duo {
	d := &duo{w: w, pol: w.pol, capacity: 40_000 + w.rng.Uint64N(200_000), keys: newKeyCache(rings()[0], w.seed%8 == 0)}
	d.keys.offset = 9 << 20
	d.pol.Duration, d.pol.PoolChunks = 85+w.rng.Uint32N(150), 16
	d.price, d.sale = 1_000*(100+w.rng.Uint64N(2000))+w.rng.Uint64N(2)*w.rng.Uint64N(1000), 1_000*(100+w.rng.Uint64N(2000))
	d.credit, d.trusted = d.price, d.sale*(1+w.rng.Uint64N(2))
	d.together, d.forgets = w.rng.IntN(3) == 0, w.rng.IntN(4) == 0
	d.audit = newDuoAudit(d)
	w.duo = d
	d.one, d.other = newProcess(w, "the duplex payer"), newProcess(w, "the duplex payee")
	d.coins = &buyer{process: d.one, n: 100}
	if w.rng.IntN(3) == 0 {
		d.gone, d.goneAt = d.one, 100+w.rng.IntN(300)
		if w.rng.IntN(2) == 0 {
			d.gone = d.other
		}
	}
	d.startOne()
	d.startOther()
	return d
}

func (d *duo) has(p *process) bool { return d != nil && (p == d.one || p == d.other) }

// vanished reports whether a side is gone for good.
func (d *duo) vanished(p *process) bool {
	if p == d.gone && d.w.at >= d.goneAt && d.goneAt > 0 && d.id != "" {
		if !d.audit.vanished {
			d.audit.vanished = true
			d.w.fault("vanishes-" + p.name)
			d.w.tell("%s vanishes", p.name)
		}
		return true
	}
	return false
}

func (d *duo) startOne() {
	d.one.disk.opened()
	d.one.dead, d.closing = false, nil
	var err error
	d.payer, err = payer.New(payer.Config{
		Store: d.one.disk, Keys: d.keys, Wallet: d.coins, Chain: d.one.link, Network: "regtest", Policy: d.pol, Rand: dice{d.w},
	})
	d.w.must(err)
	d.onLook = &watch.Watch{Chain: d.one.link, Drivers: []watch.Driver{d.payer}}
}

func (d *duo) startOther() {
	d.other.disk.opened()
	d.other.dead = false
	var err error
	d.payee, err = payee.New(payee.Config{
		Store: d.other.disk, Keys: d.w.seller.keys, Chain: d.other.link, Network: "regtest", Payout: d.w.seller.payout, Policy: d.pol,
		Constructions: []script.Construction{script.Duplex}, Dearest: func() uint64 { return d.price }, Now: d.other.Now, Rand: dice{d.w}, Alone: true,
	})
	d.w.must(err)
	d.otherLook = &watch.Watch{Chain: d.other.link, Drivers: []watch.Driver{d.payee}}
}

// idle reports whether a side does nothing at present.
func (d *duo) idle(p *process) bool { return p.dead || p.away() || d.vanished(p) }

func (d *duo) lookOne() {
	if !d.idle(d.one) {
		if err := d.onLook.Step(d.w.ctx); err != nil {
			d.w.tell("  the duplex payer's watch: %.300v", err)
		}
	}
}

func (d *duo) lookOther() {
	if !d.idle(d.other) {
		if err := d.otherLook.Step(d.w.ctx); err != nil {
			d.w.tell("  the duplex payee's watch: %.300v", err)
		}
	}
}

func (d *duo) looks() {
	d.lookOne()
	d.lookOther()
}

// recover starts those that were killed.
func (d *duo) recover() {
	if d.one.dead || d.one.disk.failed {
		d.w.restart(d.one, d.startOne, d.lookOne)
	}
	if d.other.dead || d.other.disk.failed {
		d.w.restart(d.other, d.startOther, d.lookOther)
	}
}

// journal reads a number that a side keeps on its disk.
func (d *duo) journal(p *process, name string) (n uint64, ok bool) {
	e, err := p.disk.Get(d.w.ctx, bucketDuo, name)
	if errors.Is(err, store.ErrNotFound) {
		return 0, true
	}
	if err != nil {
		return 0, false
	}
	d.w.must(json.Unmarshal(e.Value, &n))
	return n, true
}

func note(name string, n uint64) store.Op {
	raw, err := json.Marshal(n)
	if err != nil {
		panic(err) // a number
	}
	return store.Op{Bucket: bucketDuo, Key: name, Value: raw, Expect: store.Any}
}

// send brings a message to the other side, or does not.
func (d *duo) send(from, to *process, what string, read func()) {
	w := d.w
	if d.idle(from) || from.point("before a message is sent") != nil {
		return
	}
	l := letter{what, func() {
		if !d.idle(to) && to.point("before a message is read") == nil {
			read()
		}
	}}
	if len(d.old) < maxHistory {
		d.old = append(d.old, l)
	} else {
		d.old[w.rng.IntN(maxHistory)] = l
	}
	if !w.calm {
		switch w.rng.IntN(24) {
		case 0, 1:
			w.fault("duplex-lost")
			w.tell("  %s is lost", what)
			return
		case 2, 3:
			w.fault("duplex-delayed")
			w.tell("  %s takes its time", what)
			d.box = append(d.box, l)
			return
		case 4:
			w.fault("duplex-doubled")
			l.read()
		}
	}
	l.read()
}

// step is an event of the pair.
func (d *duo) step() {
	w := d.w
	if d.id == "" || !d.accepted() {
		d.open()
		return
	}
	d.remember()
	switch n := w.rng.IntN(100); {
	case n < 40:
		d.buy()
	case n < 60:
		d.buyBack()
	case n < 66:
		d.refund()
	case n < 72:
		d.ask()
	case n < 80:
		d.post()
	case n < 88:
		d.trouble()
	case n < 93:
		d.cheat()
	default:
		d.copies()
	}
}

// post delivers something that was under way, or arrived before.
func (d *duo) post() {
	w := d.w
	if len(d.box) > 0 && w.rng.IntN(3) > 0 {
		i := w.rng.IntN(len(d.box))
		l := d.box[i]
		d.box = append(d.box[:i:i], d.box[i+1:]...)
		w.fault("duplex-late")
		w.tell("%s arrives late", l.what)
		l.read()
		return
	}
	if len(d.old) > 0 {
		l := d.old[w.rng.IntN(len(d.old))]
		w.fault("duplex-replayed")
		w.tell("%s arrives again", l.what)
		l.read()
	}
}

// trouble is what befalls one side's machine.
func (d *duo) trouble() {
	w := d.w
	p := d.one
	if w.rng.IntN(2) == 0 {
		p = d.other
	}
	switch w.rng.IntN(5) {
	case 0:
		if !p.dead {
			p.die("where it stands")
		}
	case 1:
		p.fuse = 1 + w.rng.IntN(8)
		for range 3 {
			d.buy()
			d.buyBack()
			d.looks()
		}
		p.fuse = 0
	case 2:
		w.failNext(p)
	case 3:
		w.badBackend(p)
	case 4:
		p.until = w.at + 1 + w.rng.IntN(20)
		w.tell("%s is suspended for a while", p.name)
	}
}

// copies copies the payee's disk, or puts the old copy in its place.
func (d *duo) copies() {
	if d.other.disk.copy == nil || d.w.rng.IntN(4) > 0 || d.restored || !d.forgets || d.vanished(d.other) {
		snap := d.other.disk.inner.Backup()
		d.other.disk.copy = &snap
		return
	}
	d.w.fault("restore-the duplex payee")
	d.w.tell("the duplex payee loses its disk and restores an old copy")
	d.other.die("with its disk")
	d.other.disk.inner.Restore(*d.other.disk.copy)
	d.other.disk.mend()
	d.other.link.honest()
	d.restored, d.audit.forgotten = true, true
	d.startOther()
	d.w.must(d.payee.MarkRestored(d.w.ctx))
	d.lookOther()
}

// remember keeps what each side could complete now, for a day on which it is old.
func (d *duo) remember() {
	if len(d.states) > 40 {
		return
	}
	r, s := d.audit.payer, d.audit.payee
	if s.Duplex != nil && s.Duplex.Held.Epoch > 0 {
		d.keepState(script.Payee, s.Duplex.Held, s.Terms, s.Claim)
	}
	if r.Duplex != nil && r.Duplex.Held.Epoch > 0 {
		d.keepState(script.Payer, r.Duplex.Held, r.Terms, r.Claim)
	}
}

func (d *duo) keepState(by script.Side, u channel.Update, t channel.Terms, claim func(*script.Channel) (script.Claim, error)) {
	ch, err := t.Script()
	d.w.must(err)
	c, err := claim(ch)
	d.w.must(err)
	lock, _ := t.Lock(u.Epoch)
	to := d.w.seller.payout
	if by == script.Payer {
		to = d.audit.payer.RefundScript
		c.PayeeKey, err = d.keys.PayerChannelKey(d.audit.payer.KeyIndex)
	} else {
		c.PayeeKey, err = d.w.seller.keys.PayeeChannelKey(t.Nonce)
	}
	d.w.must(err)
	d.states = append(d.states, settleable{by, c, to, lock})
}

// cheat lets a side broadcast a state that it once held: whatever is newer wins.
func (d *duo) cheat() {
	w := d.w
	var ripe []settleable
	for _, s := range d.states {
		if s.lock <= w.chain.Height() && d.gains(s) {
			ripe = append(ripe, s)
		}
	}
	if len(ripe) == 0 {
		return
	}
	s := ripe[w.rng.IntN(len(ripe))]
	tx, _, err := script.Settle([]script.Claim{s.claim}, s.to, script.FeeRatePerVB(1+w.rng.Int64N(20)))
	if err != nil {
		return // too small
	}
	err = w.chain.Broadcast(w.ctx, tx)
	w.tell("the %s sends an old state, locked to %d, at height %d: %v", s.by, s.lock, w.chain.Height(), err)
	w.fault("duplex-old-state")
	if err == nil {
		w.fault("duplex-old-state-relayed")
		d.looks()
	}
}

// gains reports whether a state is of an epoch that the other side has reversed: with
// an older amount of its newest epoch a side would but harm itself.
func (d *duo) gains(s settleable) bool {
	other := d.audit.payee.Duplex
	if s.by == script.Payee {
		other = d.audit.payer.Duplex
	}
	if other == nil || d.audit.vanished {
		return false
	}
	lock, _ := d.audit.payer.Terms.Lock(other.Held.Epoch)
	return other.Held.Epoch > 0 && s.lock > lock
}

// limits is what the payer allows itself to sign.
func (d *duo) limits() channel.Limits { return channel.Limits{Budget: math.MaxUint64, Blocked: true} }

// staked reports whether a deadline of the pair is what protects one of them now.
func (d *duo) staked() bool {
	if d == nil || d.id == "" {
		return false
	}
	tip := d.w.chain.Height()
	at := wire.OutPoint(d.audit.payer.Terms.Outpoint)
	if _, height, ok := d.w.chain.Spender(at); ok && height > 0 && tip >= height+d.pol.Burial {
		return false
	}
	for _, h := range d.audit.held() {
		if before, ok := d.audit.payer.Terms.Lock(h.Epoch - 1); ok && tip+1+d.pol.Margin >= before {
			return true
		}
	}
	return false
}

// ready makes sure that within the bounds both sides that are there react in time.
func (d *duo) ready() {
	if d == nil || d.w.story.wild || !d.staked() {
		return
	}
	for _, p := range []*process{d.one, d.other} {
		p.until = 0
		p.link.honest()
		p.disk.mend()
	}
}

// heal mends all that was broken.
func (d *duo) heal() {
	if d == nil {
		return
	}
	for _, p := range []*process{d.one, d.other} {
		p.until, p.fuse, p.skew = 0, 0, 0
		p.link.honest()
		p.disk.mend()
	}
	d.recover()
}

// over reports whether nothing more can happen to the channel.
func (d *duo) over() bool {
	if d == nil || d.id == "" {
		return true
	}
	r, s := d.audit.payer, d.audit.payee
	one := r.Phase.Final() || r.Phase == channel.Prepared || d.vanished(d.one)
	other := s.Terms.Capacity == 0 || s.Phase.Final() || d.vanished(d.other) || s.Duplex.Held.Epoch == 0 && r.Phase.Final()
	if s.Duplex != nil && d.vanished(d.one) && d.w.chain.Height() > s.Terms.Expiry && !d.w.audit.affordable(int64(s.Duplex.Held.Amount)) {
		other = true // nobody is there to end it, and nothing is worth a settlement
	}
	return one && other
}
