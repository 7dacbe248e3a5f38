package sim

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/internal/towerhttp"
	"github.com/spillway/spillway/payee"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/store"
	"github.com/spillway/spillway/watch"
	"github.com/spillway/spillway/watch/tower"
)

// lighthouse is a watchtower that holds the payee's ladders, with a disk, a chain
// backend and a line of its own. While the payee is away for days it settles in its
// place. docs/protocol.md, section 19.
type lighthouse struct {
	*process
	tower   *tower.Tower
	handler http.Handler
	watch   *watch.Watch
	token   string

	keeper *towerhttp.Keeper
	of     *payee.Payee // whose keeper that is
	deaf   int          // event until which nothing of the payee's reaches it
	absent bool         // the payee is away for days
	days   int          // how often it was

	entries map[string]tower.Entry // as they are on its disk, by channel
	missed  map[string]uint64      // sat, what was held of the channels whose margin began while the payee was away
	rungs   map[string]bool        // txids of all rungs that were ever on its disk
}

const bucketTower = "tower/channel" // provider/txid:vout → tower.Entry

// highestRung is the payee's limit for what a rung may cost, sat/vB.
const highestRung = 400

func newLighthouse(w *world) *lighthouse {
	t := &lighthouse{process: newProcess(w, "the tower"), entries: map[string]tower.Entry{}, missed: map[string]uint64{}, rungs: map[string]bool{}}
	w.tower = t
	t.start()
	token, err := tower.AddProvider(w.ctx, t.disk, "seller", [32]byte{byte(w.seed), 7})
	w.must(err)
	t.token = token
	return t
}

func (t *lighthouse) has(p *process) bool { return t != nil && p == t.process }

func (t *lighthouse) start() {
	t.disk.opened()
	t.dead = false
	var err error
	t.tower, err = tower.New(tower.Config{Store: t.disk, Chain: t.link, Burial: t.w.pol.Burial})
	t.w.must(err)
	t.handler = towerhttp.Handler(t.tower, slog.New(slog.DiscardHandler))
	t.watch = &watch.Watch{Chain: t.link, Drivers: []watch.Driver{t.tower}}
}

// look is one step of the tower's watch.
func (t *lighthouse) look() {
	if t == nil || t.dead || t.away() {
		return
	}
	if err := t.watch.Step(t.w.ctx); err != nil {
		t.w.tell("  the tower's watch: %.300v", err)
	}
}

// keep is a step of the payee's keeper; all hands over whatever rose.
func (t *lighthouse) keep(all bool) error {
	s := t.w.seller
	if s.dead || s.away() || t.w.vanished {
		return errKilled
	}
	if t.of != s.payee {
		t.of = s.payee
		t.keeper = &towerhttp.Keeper{Payee: s.payee, HandOver: t.handOver, Held: t.held, Limit: script.FeeRatePerVB(highestRung)}
	}
	tip, err := s.link.Tip(t.w.ctx)
	if err == nil {
		err = t.keeper.Step(t.w.ctx, tip.Height, all)
	}
	if err != nil {
		t.w.tell("  the payee's ladders: %.200v", err)
	}
	return err
}

// handOver carries a ladder to the tower.
func (t *lighthouse) handOver(_ context.Context, h tower.Handoff) (taken tower.Taken, err error) {
	raw, err := json.Marshal(h)
	if err != nil {
		return taken, err
	}
	answer, err := t.ask(http.MethodPut, "/v1/ladder", raw)
	if err == nil {
		err = json.Unmarshal(answer, &taken)
	}
	t.w.tell("  a ladder of %.12s goes to the tower: %d sat, %d rungs, stored: %t, %v", h.Channel, taken.Amount, taken.Rungs, taken.Stored, err)
	if err == nil {
		t.w.fault("ladder")
	}
	return taken, err
}

// held asks what the tower holds.
func (t *lighthouse) held(context.Context) ([]towerhttp.Held, error) {
	raw, err := t.ask(http.MethodGet, "/v1/ladders", nil)
	if err != nil {
		return nil, err
	}
	var list struct{ Channels []towerhttp.Held }
	return list.Channels, json.Unmarshal(raw, &list)
}

// ask brings a request to the tower and its answer back, or does not.
func (t *lighthouse) ask(method, path string, body []byte) ([]byte, error) {
	w, lost := t.w, fmt.Errorf("%w: %w", towerhttp.ErrUnreachable, errLine)
	if err := w.seller.point("before a ladder leaves"); err != nil {
		return nil, fmt.Errorf("%w: %w", towerhttp.ErrUnreachable, err)
	}
	fate := 99
	if !w.calm {
		fate = w.rng.IntN(20)
	}
	if t.deaf > w.at || fate == 0 {
		w.fault("ladder-lost")
		return nil, lost
	}
	a := t.serve(method, path, body)
	if fate == 1 {
		w.fault("ladder-doubled")
		a = t.serve(method, path, body)
	}
	if a == nil || fate == 2 {
		w.fault("ladder-answer-lost")
		return nil, lost
	}
	if a.status == http.StatusOK {
		return a.body.Bytes(), nil
	}
	var p towerhttp.Problem
	if err := json.Unmarshal(a.body.Bytes(), &p); err != nil || a.status == http.StatusServiceUnavailable {
		return nil, lost
	}
	p.Status = a.status
	w.fault("ladder-refused-" + p.Code)
	return nil, &towerhttp.RefusedError{Problem: p}
}

// serve lets the tower take a request; nil: it is not there, or died.
func (t *lighthouse) serve(method, path string, body []byte) *answer {
	if t.dead || t.away() || t.point("before the tower reads a request") != nil {
		return nil
	}
	req, err := http.NewRequest(method, "http://tower.example"+path, io.NopCloser(bytes.NewReader(body)))
	t.w.must(err)
	req.Header.Set("Authorization", "Bearer "+t.token)
	a := &answer{header: http.Header{}}
	t.handler.ServeHTTP(a, req)
	if t.point("before the tower answers") != nil {
		return nil
	}
	return a
}

// step is an event of a day with a tower.
func (t *lighthouse) step() {
	w := t.w
	switch w.rng.IntN(9) {
	case 0:
		if !t.dead {
			t.die("where it stands")
		}
	case 1:
		t.fuse = 1 + w.rng.IntN(5)
		for range 4 {
			w.someone().step()
			w.noteTower(t.keep(true))
			t.look()
		}
		t.fuse = 0
	case 2:
		w.failNext(t.process)
	case 3:
		w.badBackend(t.process)
	case 4:
		t.deaf = w.at + 1 + w.rng.IntN(30)
		w.fault("tower-cut-off")
		w.tell("nothing of the payee's reaches the tower for a while")
	case 5:
		t.until = w.at + 1 + w.rng.IntN(20)
		w.fault("tower-pause")
	case 6, 7:
		t.absence()
	case 8:
		w.noteTower(t.keep(false))
	}
}

// noteTower takes note of a step of the keeper's that failed.
func (w *world) noteTower(err error) {
	if err != nil && !errors.Is(err, errKilled) {
		w.fault("keeper-fails")
	}
}

// maxAbsences is how often the payee is away for days in one run.
const maxAbsences = 2

// absence: the payee is away for days, stopped in an orderly way or not, and the
// tower is all that it has. Its buyers find nobody.
func (t *lighthouse) absence() {
	w := t.w
	if t.days >= maxAbsences || w.story.payee != "honest" || w.seller.dead {
		return
	}
	t.days++
	if w.rng.IntN(2) == 0 {
		t.orderly()
	}
	blocks := 30 + w.rng.IntN(170)
	w.fault("payee-away-for-days")
	w.tell("the payee is away for %d blocks", blocks)
	t.absent, w.seller.until = true, 1<<40
	for range blocks {
		if w.failed {
			break
		}
		w.result.Events++
		switch w.rng.IntN(50) {
		case 0:
			w.reorg()
		case 1:
			w.censor()
		case 2, 3, 4, 5:
			w.someone().step()
		}
		w.block(nil)
		w.audit.check()
	}
	t.absent, w.seller.until = false, 0
	w.tell("the payee is back")
}

// orderly is how a payee stops: everything that rose is handed over. What the tower
// then says that it holds, it holds.
func (t *lighthouse) orderly() {
	if t.keep(true) != nil {
		return
	}
	t.w.fault("payee-stops-in-order")
	for id, r := range t.w.audit.payee {
		if r.Phase.Final() || !t.w.audit.worthSettling(r) || r.SpentBy != "" || t.w.seller.restored {
			continue
		}
		if e := t.entries[id]; uint64(e.Amount) < r.Paid && !t.refusedLately(id) {
			t.w.violate("the payee stopped in order with %d sat paid on %.12s, its tower holds %d sat", r.Paid, id, e.Amount)
		}
	}
}

// refusedLately reports whether a tower may refuse the ladder of a channel: its T1 is
// not seen, or its output is spent for good.
func (t *lighthouse) refusedLately(id string) bool {
	op := t.w.audit.payee[id].Terms.Outpoint
	if _, err := t.w.chain.Tx(t.w.ctx, op.Hash); err != nil || t.link.bad > 0 || t.w.seller.link.bad > 0 {
		return true
	}
	_, height, spent := t.w.chain.Spender(wire.OutPoint(op))
	return spent && height > 0
}

// miss marks the channels whose margin the payee is not there for.
func (t *lighthouse) miss() {
	if t == nil || !t.absent {
		return
	}
	tip := t.w.chain.Height()
	for id, r := range t.w.audit.payee {
		if _, known := t.missed[id]; !known && !r.Phase.Final() && tip+1 >= r.Terms.Expiry-r.Terms.Margin {
			t.missed[id] = uint64(t.entries[id].Amount)
		}
	}
}

// promised is the amount (sat) that is to be settled of a channel: what the payee
// holds, or where it was not there, what its tower held when the margin began: what a
// payee hands over that comes back later may come too late.
func (t *lighthouse) promised(id string, paid uint64) uint64 {
	if t == nil {
		return paid
	}
	if held, missed := t.missed[id]; missed {
		return min(paid, held)
	}
	return paid
}

// saved is told what the tower has committed: what it holds of a channel never falls,
// and can be settled as it is.
func (t *lighthouse) saved(ops []store.Op) {
	w := t.w
	for _, op := range ops {
		if op.Bucket != bucketTower {
			continue
		}
		if op.Value == nil {
			t.forgot(op.Key)
			continue
		}
		var e tower.Entry
		w.must(json.Unmarshal(op.Value, &e))
		id := e.Channel.String()
		if was, held := t.entries[id]; held && e.Amount < was.Amount {
			w.violate("the tower held %d sat of %.12s, and now %d sat", was.Amount, id, e.Amount)
		}
		t.entries[id] = e
		r := w.audit.payee[id]
		if uint64(e.Amount) > max(r.Paid, w.audit.payer[id].Signed, w.audit.back.peak[id]) {
			w.violate("the tower holds %d sat of %.12s, paid are %d sat", e.Amount, id, r.Paid)
		}
		rungs, err := e.Ladder.Unpack()
		w.must(err)
		for i, tx := range rungs {
			t.rungs[tx.TxHash().String()] = true
			w.audit.outputs("rung", tx, e.Capacity, e.Rungs[i].Fee, w.seller.payout, e.Rest)
		}
	}
}

// forgot: an entry is dropped only when its channel is over.
func (t *lighthouse) forgot(key string) {
	for id, e := range t.entries {
		if e.Provider+"/"+id != key {
			continue
		}
		delete(t.entries, id)
		tip := t.w.chain.Height()
		_, height, spent := t.w.chain.Spender(wire.OutPoint(e.Channel))
		if t.w.story.wild || t.link.bad > 0 || spent && height > 0 && tip+1 >= height+t.w.pol.Burial || tip >= e.Expiry+2016 {
			return
		}
		if _, err := t.w.chain.Tx(t.w.ctx, e.Channel.Hash); err == nil {
			t.w.violate("the tower forgets %.12s at height %d, it is not over", id, tip)
		}
	}
}

// reread takes over what is on the tower's disk.
func (t *lighthouse) reread(open store.Store) {
	entries, err := open.List(t.w.ctx, bucketTower, "")
	t.w.must(err)
	there := map[string]bool{}
	for _, e := range entries {
		t.saved([]store.Op{{Bucket: bucketTower, Key: e.Key, Value: e.Value}})
		there[e.Key] = true
	}
	for id, e := range t.entries {
		if !there[e.Provider+"/"+id] {
			t.forgot(e.Provider + "/" + id)
		}
	}
}

// broadcast: the tower sends rungs and T1s that it holds, and nothing else.
func (t *lighthouse) broadcast(tx *wire.MsgTx) {
	id := tx.TxHash()
	if t.rungs[id.String()] {
		t.w.fault("rung-sent")
		return
	}
	for _, e := range t.entries {
		if e.Channel.Hash == id {
			return
		}
	}
	t.w.violate("the tower broadcasts %s, which it does not hold", id)
}
