package sim

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
)

// kind is what sort of thing an event is.
type kind int

// The kinds of events.
const (
	buy      kind = iota // a buyer does the next thing that it has to do
	mine                 // a block, with a look of both sides before and after it
	look                 // a look of one side at the chain, between two blocks
	kill                 // one side is killed where it stands, and starts again
	fuse                 // one side dies at one of its next effects
	diskFail             // the next save of one side fails, or fails and is there
	diskFull             // one side's disk is full, or read-only, for a while
	fees                 // the going rate changes, up to a hundredfold
	evict                // the mempool drops something
	reorg                // some blocks are undone
	censor               // a stretch of blocks without anything of ours
	gap                  // two hours without a block, both sides look on
	cut                  // the line between a buyer and the payee is cut for a while
	late                 // something that was delayed on the way arrives now
	replay               // something that was sent before arrives again
	tamper               // something that was sent before arrives changed
	clock                // one side's clock jumps
	pause                // one side sleeps through some blocks
	backend              // one side's backend lags, lies or is down
	backup               // one side's disk is copied
	restore              // one side's disk is replaced by an old copy
	attack               // a dishonest side does its worst
	special              // something of the seed's play
	kinds
)

var kindNames = [kinds]string{"buy", "mine", "look", "kill", "fuse", "disk-fail", "disk-full", "fees", "evict", "reorg", "censor", "gap",
	"cut", "late", "replay", "tamper", "clock", "pause", "backend", "backup", "restore", "attack", "special"}

func (k kind) String() string { return kindNames[k] }

// weights are how often each kind comes, in a thousand.
var weights = [kinds]int{
	buy: 500, mine: 150, look: 40, kill: 20, fuse: 45, diskFail: 25, diskFull: 8, fees: 15, evict: 10, reorg: 6, censor: 6, gap: 6,
	cut: 10, late: 25, replay: 30, tamper: 50, clock: 8, pause: 6, backend: 10, backup: 5, restore: 2, attack: 23,
}

// step is one event of a run: its kind and what everything in it is drawn from.
// Each has dice of its own, so that a run without some of its events is a run too.
type step struct {
	kind kind
	seed uint64
	calm bool // nothing goes wrong in it that is not its own kind
}

// steps draws the events of a seed.
func steps(seed uint64, n int) []step {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	copy(key[8:], "steps")
	rng := rand.New(rand.NewChaCha8(key))
	total := 0
	for _, w := range weights {
		total += w
	}
	all := make([]step, n)
	for i := range all {
		at := rng.IntN(total)
		k := kind(0)
		for at >= weights[k] {
			at -= weights[k]
			k++
		}
		all[i] = step{kind: k, seed: rng.Uint64()}
	}
	interleave(seed, all)
	return all
}

// Plan says which events of a seed are played, and which of them without faults
// of their own accord. The zero value plays all.
type Plan struct {
	Keep []int // indices of events, rising; nil: all
	Calm []int // of those, the ones in which nothing goes wrong by chance
}

// String is the plan as Run's command takes it: "0-4,7,9c".
func (p Plan) String() string {
	calm := map[int]bool{}
	for _, i := range p.Calm {
		calm[i] = true
	}
	var out []string
	for at := 0; at < len(p.Keep); {
		first, c := p.Keep[at], calm[p.Keep[at]]
		last := first
		for at++; at < len(p.Keep) && p.Keep[at] == last+1 && calm[p.Keep[at]] == c; at++ {
			last++
		}
		text := strconv.Itoa(first)
		if last > first {
			text += "-" + strconv.Itoa(last)
		}
		if c {
			text += "c"
		}
		out = append(out, text)
	}
	return strings.Join(out, ",")
}

// ParsePlan reads what Plan.String writes; "none" keeps no event.
func ParsePlan(s string) (p Plan, err error) {
	p.Keep = []int{}
	if s == "none" {
		return p, nil
	}
	for _, part := range strings.Split(s, ",") {
		text, calm := strings.CutSuffix(part, "c")
		from, to, ranged := strings.Cut(text, "-")
		first, err := strconv.Atoi(from)
		if err != nil {
			return p, fmt.Errorf("%q is no range of events", part)
		}
		last := first
		if ranged {
			if last, err = strconv.Atoi(to); err != nil || last < first {
				return p, fmt.Errorf("%q is no range of events", part)
			}
		}
		if n := len(p.Keep); first < 0 || last > 1_000_000 || n > 0 && first <= p.Keep[n-1] {
			return p, fmt.Errorf("%q does not follow what is before it", part)
		}
		for i := first; i <= last; i++ {
			p.Keep = append(p.Keep, i)
			if calm {
				p.Calm = append(p.Calm, i)
			}
		}
	}
	return p, nil
}

// of picks the plan's events.
func (p Plan) of(all []step) []step {
	if p.Keep == nil {
		return all
	}
	calm := map[int]bool{}
	for _, i := range p.Calm {
		calm[i] = true
	}
	var some []step
	for _, i := range p.Keep {
		if i < len(all) {
			s := all[i]
			s.calm = calm[i]
			some = append(some, s)
		}
	}
	return some
}
