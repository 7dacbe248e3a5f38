//go:build linux && amd64

package killtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
)

// Session is how often a calm session passes each named point, by "role name". It
// is what the rounds are laid out over.
type Session map[string]int

// Measure plays calm sessions and learns what the provider charges at the least.
func (s *Stand) Measure(ctx context.Context) (Session, error) {
	all := Session{}
	for i := range 2 {
		out := s.Play(ctx, Round{Number: -1 - i, Kind: Calm, Channel: "taproot"})
		if out.Error != "" {
			return nil, errors.New(out.Error)
		}
		for name, n := range out.Points {
			all[name] = max(all[name], n)
		}
	}
	for _, name := range []string{"payer sync wal", "payee sync wal", "payee send receipt", "payer send payment", "payer write file", "payer " + AnyDisk, "payee " + AnyDisk} {
		if all[name] == 0 {
			return nil, fmt.Errorf("a calm session never passes %q: the points are not seen", name)
		}
	}
	return all, nil
}

// askMinimum keeps the minimum charge of the provider that runs.
func (r *round) askMinimum(ctx context.Context) error {
	l, err := r.ask(ctx, "quote", "http://"+r.host+"/f.bin")
	if err != nil {
		return err
	}
	n, ok := l["minimum_charge_sat"].(json.Number)
	if !ok {
		return fmt.Errorf("a quote without a minimum charge: %v", l)
	}
	v, err := n.Int64()
	r.stand.minimum = uint64(v)
	return err
}

// sparse are points that only ask the chain: a session has hundreds of them, all
// alike, and one in some is enough.
const sparse = 12

// turns is the order in which kinds of rounds come, so that the first hundred have
// something of each. Kinds that are used up leave their turn to what is left.
var turns = []string{Point, DiskFull, Point, Moment, Point, FullOnce, Point, CallFail, Point, SyncFail, Point, Moment}

// layout names what Rounds makes of a session; it changes with every change there.
const layout = 3

// calls are kinds of points that change a name or a length.
var calls = []string{"truncate", "rename", "link", "unlink", "create", "make"}

// Rounds lays out n rounds over a session: every fault of the disk and every named
// point once, in an order that a seed shuffles, and random moments between them. If
// n is less than that, the kinds and points are drawn evenly.
func (s Session) Rounds(n int, seed uint64) []Round {
	rnd := rand.New(rand.NewPCG(seed, 0x706c616e))
	classes := map[string][][]Round{} // by kind; each of one role and point
	add := func(kind, role string, f Fault, most, every int) {
		c := each(kind, role, f, most, every)
		rnd.Shuffle(len(c), func(i, j int) { c[i], c[j] = c[j], c[i] })
		classes[kind] = append(classes[kind], c)
	}
	for _, name := range slices.Sorted(maps.Keys(s)) {
		role, point, _ := strings.Cut(name, " ")
		every := 1
		if strings.HasPrefix(point, "ask chain GET") {
			every = sparse
		}
		switch point {
		case AnyDisk:
			add(DiskFull, role, Fault{Point: point, Errno: syscall.ENOSPC, Lasting: true}, s[name], 1)
			add(FullOnce, role, Fault{Point: point, Errno: syscall.ENOSPC}, s[name], 1)
		case AnySync:
			add(SyncFail, role, Fault{Point: point, Errno: syscall.EIO}, s[name], 1)
		default:
			add(Point, role, Fault{Point: point}, s[name], every)
			if kind, _, _ := strings.Cut(point, " "); slices.Contains(calls, kind) {
				add(CallFail, role, Fault{Point: point, Errno: syscall.EIO}, s[name], 1)
			}
		}
	}
	for _, kind := range slices.Sorted(maps.Keys(classes)) { // the same order in every process
		c := classes[kind]
		rnd.Shuffle(len(c), func(i, j int) { c[i], c[j] = c[j], c[i] })
	}
	return lay(n, classes, rnd)
}

// each is a round for every number of one fault, up to most.
func each(kind, role string, f Fault, most, every int) (all []Round) {
	for n := 1; n <= most; n += every {
		f.N = n
		all = append(all, Round{Kind: kind, Role: role, Fault: f})
	}
	return all
}

// lay draws rounds, kind by kind in turn, and within a kind class by class. Where
// all fit, random moments get the room that is left.
func lay(n int, classes map[string][][]Round, rnd *rand.Rand) []Round {
	left := 0
	for _, of := range classes {
		for _, c := range of {
			left += len(c)
		}
	}
	sample := left > n
	all := make([]Round, 0, n)
	for len(all) < n {
		kind := turns[len(all)%len(turns)]
		r, ok := draw(classes, kind)
		for i := 0; !ok && (kind != Moment || !sample && n-len(all) <= left) && i < len(turns); i++ {
			r, ok = draw(classes, turns[i])
		}
		if ok {
			left--
		}
		if !ok {
			r = Round{Kind: Moment}
		}
		r.Number = len(all)
		r.Channel = []string{"taproot", "taproot", "multisig", "taproot", "multisig-p2sh"}[rnd.IntN(5)]
		r.Cheap = r.Channel == "taproot" && rnd.IntN(4) == 0
		all = append(all, r)
	}
	return all
}

// draw takes the next round of a kind; the class that it is of is the last to be
// drawn from again.
func draw(classes map[string][][]Round, kind string) (Round, bool) {
	of := classes[kind]
	if len(of) == 0 {
		return Round{}, false
	}
	r, rest := of[0][0], of[0][1:]
	if of = of[1:]; len(rest) > 0 {
		of = append(of, rest)
	}
	classes[kind] = of
	return r, true
}
