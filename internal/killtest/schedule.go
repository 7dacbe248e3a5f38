//go:build linux && amd64

package killtest

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
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

// Rounds lays out n rounds over a session: every fault of the disk and every named
// point once, in an order that a seed shuffles, and random moments between them. If
// n is less than that, the kinds and points are drawn evenly.
func (s Session) Rounds(n int, seed uint64) []Round {
	rnd := rand.New(rand.NewPCG(seed, 0x706c616e))
	var classes [][]Round // each of one kind, role and point
	for _, name := range slices.Sorted(keys(s)) {
		role, point, _ := strings.Cut(name, " ")
		every := 1
		if strings.HasPrefix(point, "ask chain GET") {
			every = sparse
		}
		switch point {
		case AnyDisk:
			classes = append(classes, each(DiskFull, role, Fault{Point: point, Errno: syscall.ENOSPC, Lasting: true}, s[name], 1),
				each(FullOnce, role, Fault{Point: point, Errno: syscall.ENOSPC}, s[name], 1))
		case AnySync:
			classes = append(classes, each(SyncFail, role, Fault{Point: point, Errno: syscall.EIO}, s[name], 1))
		default:
			classes = append(classes, each(Point, role, Fault{Point: point}, s[name], every))
		}
	}
	for _, c := range classes {
		rnd.Shuffle(len(c), func(i, j int) { c[i], c[j] = c[j], c[i] })
	}
	return lay(n, classes, rnd)
}

func keys(s Session) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range s {
			if !yield(k) {
				return
			}
		}
	}
}

// each is a round for every number of one fault, up to most.
func each(kind, role string, f Fault, most, every int) (all []Round) {
	for n := 1; n <= most; n += every {
		f.N = n
		all = append(all, Round{Kind: kind, Role: role, Fault: f})
	}
	return all
}

// lay draws rounds from the classes: one in six is of random moments, and so are
// all that are left when the classes are used up. Each kind comes in turn, so that
// the first hundred have something of all.
func lay(n int, classes [][]Round, rnd *rand.Rand) []Round {
	all := make([]Round, 0, n)
	rnd.Shuffle(len(classes), func(i, j int) { classes[i], classes[j] = classes[j], classes[i] })
	slices.SortStableFunc(classes, func(a, b []Round) int { return cmp.Compare(len(a), len(b)) })
	left := 0
	for _, c := range classes {
		left += len(c)
	}
	next := 0
	for len(all) < n {
		r := Round{Kind: Moment}
		if len(all)%6 != 5 || n-len(all) <= left {
			for range classes {
				c := &classes[next%len(classes)]
				next++
				if len(*c) > 0 {
					r, *c = (*c)[0], (*c)[1:]
					left--
					break
				}
			}
		}
		r.Number = len(all)
		r.Channel = []string{"taproot", "taproot", "multisig", "taproot", "multisig-p2sh"}[rnd.IntN(5)]
		r.Cheap = r.Channel == "taproot" && rnd.IntN(4) == 0
		all = append(all, r)
	}
	return all
}
