package sim

import "math/rand/v2"

// play is what a seed adds to its day, in events of its own between those of every
// day.
type play int

// The plays.
const (
	plain      play = iota
	oldPayer        // payers lose their disks and come back from exports, or from old copies
	lyingChain      // backends lie
	duplex          // a pair with a duplex channel
	crowds          // a stranger opens channels without end
	towers          // the payee has a watchtower, and is away for days
	plays
)

var playNames = [plays]string{"plain", "old-payer", "lying-chain", "duplex", "crowds", "towers"}

func (p play) String() string { return playNames[p] }

// playOf draws a seed's play, apart from everything else that is drawn from it.
func playOf(seed uint64) play {
	rng := rand.New(rand.NewPCG(seed, 0x706c6179))
	if rng.IntN(10) < 4 {
		return plain
	}
	return 1 + play(rng.IntN(int(plays)-1))
}

// oneIn is how often an event of every day gives way to one of a play.
var oneIn = [plays]int{oldPayer: 20, lyingChain: 16, duplex: 3, crowds: 12, towers: 12}

// interleave puts the events of a seed's play in the place of some of its day.
func interleave(seed uint64, all []step) {
	p := playOf(seed)
	if p == plain {
		return
	}
	rng := rand.New(rand.NewPCG(seed, 0x7065))
	for i := range all {
		if rng.IntN(oneIn[p]) == 0 {
			all[i].kind = special
		}
	}
}

// special is an event of the run's play.
func (w *world) special() {
	switch w.story.play {
	case oldPayer:
		w.oldPayer()
	case lyingChain:
		w.lieOfChain()
	case duplex:
		w.duo.step()
	case crowds:
		w.crowd.step()
	case towers:
		w.tower.step()
	case plain, plays:
	}
}
