package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/watch"
)

const (
	few       = 10       // channels of the small store
	idleBytes = 2 << 10  // bytes that an idle channel may take
	readyTime = 10 * 1.0 // seconds that a start may take
	flat      = 1.3      // what a payment may cost more among many channels
)

// Memory measures what so many idle channels take in memory, how long a provider with
// them takes until it is ready after a restart, and what a payment costs among them
// beside what it costs among ten.
//
// Idle channels are measured when each was paid on once, with all that is remembered
// of them. Ready means: the store is open and looked through, the watch has looked at
// every channel, and a payment was taken.
func Memory(ctx context.Context, cfg Config, emit func(Figure) error) (err error) {
	cfg = cfg.defaults()
	dir, err := os.MkdirTemp(cfg.Dir, "spillway-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	cfg.say("memory: %d channels are made", cfg.Channels)
	many, err := newShop(ctx, dir, script.Taproot, cfg.Channels)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, many.Close()) }()
	cfg.say("memory: %d payments are signed", cfg.Channels)
	updates, err := many.sign(ctx, 0, 1)
	if err != nil {
		return err
	}
	if err := many.Close(); err != nil {
		return err
	}
	before := inUse()
	cfg.say("memory: the provider starts")
	ready, onCores, err := cost(func() error { return many.restart(ctx, &updates[0]) })
	if err != nil {
		return err
	}
	cfg.say("memory: %d payments are taken", cfg.Channels)
	if _, err := many.payRate(ctx, 512, updates); err != nil {
		return err
	}
	after := inUse()
	name := fmt.Sprintf("memory of an idle channel, %d channels", cfg.Channels)
	idle := compared(name, float64(after-min(after, before))/float64(cfg.Channels), "B", "what it may take", idleBytes)
	idle.Ceiling = 1
	start := compared(fmt.Sprintf("ready after a restart, %d channels", cfg.Channels), ready.Seconds(), "s", "what it may take", readyTime)
	start.Ceiling = 1
	cores := compared(start.Name+": cores", onCores.Seconds(), "s", "the time that it took", ready.Seconds())
	for _, f := range []Figure{idle, start, cores} {
		if err := emit(f); err != nil {
			return err
		}
	}
	runtime.KeepAlive(updates)
	return many.flat(ctx, cfg, dir, emit)
}

// inUse is what the heap holds, in bytes.
func inUse() uint64 {
	runtime.GC()
	runtime.GC() // what finalizers let go
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// restart opens a shop that was closed; when it returns it is ready.
func (s *shop) restart(ctx context.Context, first *channel.Update) error {
	if err := s.openStore(ctx); err != nil {
		return err
	}
	if err := s.open(); err != nil {
		return err
	}
	w := &watch.Watch{Chain: calm{}, Drivers: []watch.Driver{s.payee}}
	if err := w.Step(ctx); err != nil {
		return err
	}
	_, err := s.payRate(ctx, 1, []channel.Update{*first})
	return err
}

// flat compares what a payment costs among many channels with what it costs among few,
// in turns, with as many payers at once.
func (s *shop) flat(ctx context.Context, cfg Config, dir string, emit func(Figure) error) (err error) {
	dir, err = os.MkdirTemp(dir, "few-")
	if err != nil {
		return err
	}
	small, err := newShop(ctx, dir, script.Taproot, few)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, small.Close()) }()
	n := max(int(cfg.Time.Seconds()*expected)/cfg.Rounds/few, 1) * few
	dice := rand.New(rand.NewPCG(1, 2))
	var wall, cpu pairs
	for round := range cfg.Rounds {
		cfg.say("cost of a payment among %d channels and among %d, round %d", cfg.Channels, few, round+1)
		one, err := small.turn(ctx, dice.Perm(few), round*n/few, n)
		if err != nil {
			return err
		}
		other, err := s.turn(ctx, dice.Perm(cfg.Channels), round*n+1, n)
		if err != nil {
			return err
		}
		wall.add(other.wall, one.wall)
		cpu.add(other.cpu, one.cpu)
	}
	name := fmt.Sprintf("cost of a payment, %d channels", cfg.Channels)
	base := fmt.Sprintf("with %d channels", few)
	cores, took := cpu.figure(name+": cores", "µs", base), wall.figure(name+": time", "µs", base)
	cores.Ceiling, took.Ceiling = flat, flat
	return errors.Join(emit(cores), emit(took))
}

// paidCost is what a payment took, in microseconds.
type paidCost struct{ wall, cpu float64 }

// turn pays n times, on these channels one after the other, from paid sat on.
func (s *shop) turn(ctx context.Context, order []int, paid, n int) (c paidCost, err error) {
	rounds := (n + len(order) - 1) / len(order)
	order = order[:min(n, len(order))]
	part := &shop{payee: s.payee}
	for _, i := range order {
		part.records, part.keys = append(part.records, s.records[i]), append(part.keys, s.keys[i])
	}
	updates, err := part.sign(ctx, paid, rounds)
	if err != nil {
		return c, err
	}
	wall, cpu, err := cost(func() error { _, err := part.payRate(ctx, few, updates); return err })
	each := float64(len(updates)) * 1000
	return paidCost{float64(wall.Nanoseconds()) / each, float64(cpu.Nanoseconds()) / each}, err
}
