package sim

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/btcsuite/btcd/chaincfg/v2"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/internal/sim/simchain"
	"github.com/spillway/spillway/keys"
	"github.com/spillway/spillway/script"
)

// world is one run.
type world struct {
	ctx    context.Context
	seed   uint64
	pcg    *rand.PCG
	rng    *rand.Rand
	result Result
	trace  func(string, ...any)
	chain  *simchain.Chain
	now    time.Time
	pol    channel.Policy
	story  story

	seller *seller
	buyers []*buyer
	audit  *audit
	duo    *duo        // with a duplex channel; nil: none
	tower  *lighthouse // of the payee's; nil: none
	crowd  *crowd      // a stranger; nil: none

	at       int  // event
	calm     bool // nothing goes wrong by chance in this event
	last     bool // the events are over, all come to an end
	vanished bool // the payee vanished
	failed   bool

	cut      [maxBuyers + 1]int // event until which a buyer's line is cut
	delayed  []packet
	history  []packet
	trouble  trouble
	progress map[string]int
}

const maxBuyers = 3

// trouble is what the margin has to survive while anything depends on it.
type trouble struct {
	censored uint32
	reorged  bool
}

// story is what kind of day it is.
type story struct {
	kind   script.Construction
	buyers int
	files  int    // that each buyer wants
	chunks uint64 // of the longest file
	price  uint64 // msat
	credit uint64 // msat
	spare  uint64 // sat that capacities are above what is needed
	prepay uint64 // sat that buyers sign ahead
	payer  string // the first buyer: honest, stops, vanishes, cheats
	payee  string // honest, vanishes, lies
	at     uint64 // when somebody misbehaves: files·100 + chunk
	keep   bool   // channels serve several files
	wild   bool   // beyond what the margin is made for
	play   play
}

// strict reports whether the guarantees of an honest payee hold.
func (w *world) strict() bool {
	return !w.story.wild && w.story.payee == "honest" && !w.seller.restored
}

// rings are the two keyrings, derived once.
var rings = sync.OnceValue(func() [2]*keys.Keyring {
	return [2]*keys.Keyring{
		ring("abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon about"),
		ring("legal winner thank year wave sausage worth useful legal winner thank yellow"),
	}
})

func ring(words string) *keys.Keyring {
	k, err := keys.FromMnemonic(words, &chaincfg.RegressionNetParams)
	if err != nil {
		panic(err) // fixed words
	}
	return k
}

func newWorld(seed uint64, trace func(string, ...any)) *world {
	pcg := rand.NewPCG(seed, 0x73746f7279)
	w := &world{
		ctx: context.Background(), seed: seed, pcg: pcg, rng: rand.New(pcg), trace: trace, chain: simchain.New(),
		now: time.Unix(simchain.StartTime, 0), pol: channel.DefaultPolicy("regtest"),
		result: Result{Seeds: 1, Faults: map[string]int{}, Violations: []string{}}, progress: map[string]int{},
	}
	w.audit = newAudit(w)
	w.pol.Duration, w.pol.Useful = 80+w.rng.Uint32N(120), 10
	w.story = drawStory(w.rng)
	w.story.play = playOf(seed)
	s := w.story
	if s.buyers > 1 && w.rng.IntN(2) == 0 {
		w.pol.PoolChunks = 1 + w.rng.Uint64N(3)
	}
	if s.play == crowds {
		w.pol.PoolChunks = 1 + seed%4
		w.story.credit *= 1 + seed/4%3 // of several chunks: a newcomer's place is for one
		s = w.story
	}
	w.tell("%d buyers over %s channels that last %d blocks; %d msat a chunk, %d msat on credit, a pool of %d chunks; the first payer is %s, the payee %s; channels are kept: %t, beyond the bounds: %t; play: %s",
		s.buyers, s.kind, w.pol.Duration, s.price, s.credit, w.pol.PoolChunks, s.payer, s.payee, s.keep, s.wild, s.play)
	w.chain.SkipScripts = seed%8 != 0 // the drivers execute what they send
	w.chain.SetTime(func() time.Time { return w.now })
	w.people()
	return w
}

// people makes the processes of the run and starts them.
func (w *world) people() {
	r := rings()
	w.seller = &seller{process: newProcess(w, "the payee"), keys: newKeyCache(r[1], w.seed%8 == 0)}
	_, w.seller.payout, _ = r[1].WalletKey(false, 0)
	for i := range 2 {
		chunks := 2 + w.rng.Uint64N(w.story.chunks)
		w.seller.files = append(w.seller.files, newFile(w, fmt.Sprintf("file%d", i), chunks, w.story.price))
	}
	w.seller.start()
	for i := range w.story.buyers {
		b := &buyer{process: newProcess(w, fmt.Sprintf("payer %d", i)), n: i, keys: newKeyCache(r[0], w.seed%8 == 0), parts: map[int][]byte{}}
		b.keys.offset = uint32(i) << 20
		w.buyers = append(w.buyers, b)
		b.start()
	}
	switch w.story.play {
	case duplex:
		newDuo(w)
	case towers:
		newLighthouse(w)
	case crowds:
		newCrowd(w)
	}
}

// drawStory draws the day.
func drawStory(rng *rand.Rand) story {
	kinds := []script.Construction{script.Taproot, script.Taproot, script.Multisig, script.MultisigP2SH}
	s := story{
		kind: kinds[rng.IntN(len(kinds))], buyers: 1 + rng.IntN(maxBuyers), files: 2 + rng.IntN(8), chunks: 24,
		price: 1_000 * (200 + rng.Uint64N(5000)), spare: 1 + rng.Uint64N(60_000), payer: "honest", payee: "honest", keep: rng.IntN(2) == 0,
	}
	if rng.IntN(4) == 0 {
		s.price += rng.Uint64N(1000) // not whole satoshi
	}
	s.credit = s.price
	if rng.IntN(8) == 0 {
		s.credit = 0
	}
	s.prepay = channel.CeilSat(s.price) + 1
	s.at = rng.Uint64N(uint64(s.files))*100 + rng.Uint64N(s.chunks)
	switch rng.IntN(10) {
	case 0:
		s.payer = "stops"
	case 1:
		s.payer = "vanishes"
	case 2, 3:
		s.payer = "cheats"
	case 4:
		s.payee = "vanishes"
	case 5:
		s.payee = "lies"
	}
	s.wild = rng.IntN(8) == 0
	return s
}

func (w *world) must(err error) {
	if err != nil {
		w.violate("what cannot fail failed: %v", err)
	}
}

// tell adds a line to the story.
func (w *world) tell(format string, args ...any) {
	if w.trace != nil {
		w.trace(format, args...)
	}
}

func (w *world) violate(format string, args ...any) {
	w.failed = true
	text := fmt.Sprintf("seed %d, event %d: ", w.seed, w.at) + fmt.Sprintf(format, args...)
	w.result.Violations = append(w.result.Violations, text)
	w.tell("VIOLATION %s", text)
}

func (w *world) fault(kind string) { w.result.Faults[kind]++ }

func (w *world) done(what string) { w.progress[what]++ }

// begin sets the dice of an event.
func (w *world) begin(s step) {
	w.pcg.Seed(w.seed, s.seed)
	w.calm = s.calm
	w.now = w.now.Add(time.Duration(w.rng.IntN(30)) * time.Second)
}
