// Package scenario plays how somebody cheats or fails in a channel, as a story
// that teaches. The chain, the provider and the payer are each a process of their
// own: they run the drivers, the watch, the paywall and the gateway that ship, keep
// what they know in folders of their own, and talk over loopback. The story gives
// them orders, and the clock; at the end it counts what each side has on the chain
// against what it was owed. The same parts are played within one process, on stores
// in memory, where speed is wanted.
//
// A cheater is played by code of this package that holds the cheater's own keys;
// no rule of a driver is ever weakened for it. A story never reads or writes a
// side's folder but to copy it, and never decides by hand whether it ended well.
package scenario

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spillway/spillway/script"
)

// Ladder is the classic ladder on a duplex channel's output, played by the rules of
// package channel. docs/protocol.md, "The classic ladder".
const Ladder script.Construction = "ladder"

// Errors, for errors.Is.
var (
	// ErrUnknown: there is no scenario of this name.
	ErrUnknown = errors.New("there is no such scenario")
	// ErrChannel: the scenario is not played in this kind of channel.
	ErrChannel = errors.New("the scenario is not played in this kind of channel")
)

// Side names who a scenario shows to come to no harm.
type Side string

// The sides.
const (
	Payer Side = "payer"
	Payee Side = "payee"
	Both  Side = "both"
)

// Scenario is one story.
type Scenario struct {
	Name     string
	Title    string                // what is shown, in a line
	Honest   Side                  // who keeps to the protocol
	Forfeits Side                  // whose part the other side gets in the end; empty: both get what they are owed
	Channels []script.Construction // the kinds of channel that it is played in; the first is the default

	setup func(*setup)
	play  func(*Stage) error
}

// setup is what a scenario may choose before both sides start.
type setup struct {
	duration uint32 // blocks from the opening to the expiry
	coins    int    // of 100,000 sat, for the payer
	lead     uint64 // msat; not 0: the credit that is compared with the exposure, where it is not a chunk
}

var (
	oneWay   = []script.Construction{script.Taproot, script.Multisig, script.MultisigP2SH}
	everyWay = []script.Construction{script.Taproot, script.Multisig, script.MultisigP2SH, script.Duplex}
	bothWays = []script.Construction{script.Duplex}
)

// List is every scenario that there is, in the order in which they are told.
func List() []Scenario {
	return slices.Concat(vanishing(), refunds(), goods(), closes(), chains(), restarts(), batches(), duplexes())
}

// Find is the scenario of a name. Errors: ErrUnknown.
func Find(name string) (Scenario, error) {
	for _, s := range List() {
		if s.Name == name {
			return s, nil
		}
	}
	if s, ok := numbered(name); ok {
		return s, nil
	}
	return Scenario{}, fmt.Errorf("%w: %q", ErrUnknown, name)
}

// Play plays the scenario in a kind of channel; empty: in its first one. say gets
// every line of the story; nil: nobody listens. Whether the story ended as it has
// to is in Result.OK; an error is one of ours.
// Errors: ErrChannel; those of the chain, the stores and the drivers.
func (sc Scenario) Play(ctx context.Context, kind script.Construction, say func(line string)) (res *Result, err error) {
	return sc.perform(ctx, kind, say, nil)
}

// PlayApart is Play with a process for the chain and one for each side, which talk
// over loopback and keep what they know in folders of their own: crashes are kill -9,
// restarts are new processes on the same folder. Nothing of it is left when it returns.
func (sc Scenario) PlayApart(ctx context.Context, kind script.Construction, say func(line string), c Company) (*Result, error) {
	return sc.perform(ctx, kind, say, &c)
}

func (sc Scenario) perform(ctx context.Context, kind script.Construction, say func(line string), c *Company) (res *Result, err error) {
	if kind == "" {
		kind = sc.Channels[0]
	}
	if !slices.Contains(sc.Channels, kind) {
		return nil, fmt.Errorf("%w: %s is played in %s, not in %q", ErrChannel, sc.Name, join(sc.Channels), kind)
	}
	u := setup{duration: 60, coins: 3}
	if kind == script.Duplex {
		u.duration = 200
	}
	if sc.setup != nil {
		sc.setup(&u)
	}
	s, err := newStage(ctx, sc, kind, u, say, c)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.cast.close()) }()
	if err := sc.play(s); err != nil {
		return nil, fmt.Errorf("%s in a %s channel, after %q: %w", sc.Name, kind, s.last(), err)
	}
	return s.result()
}

func join(kinds []script.Construction) string {
	text := ""
	for i, k := range kinds {
		if i > 0 {
			text += ", "
		}
		text += string(k)
	}
	return text
}
