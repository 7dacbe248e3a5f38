package scenario

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/chain/devnet"
	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/keys"
	"github.com/spillway/spillway/script"
)

// What everything costs here.
const (
	price    = 1_000_000 // msat, a chunk
	capacity = 50_000    // sat, a channel
	coinSize = 100_000   // sat, a coin of the payer's
	blockGap = 10 * time.Minute

	storyWidth = 92 // columns of the story, beside its numbers
)

// Both seeds are public: the coins of this chain are worth nothing.
const (
	payerWords = "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon about"
	payeeWords = "legal winner thank year wave sausage worth useful legal winner thank yellow"
)

// Stage is the chain, the clock, both sides, and the book that is kept of them.
type Stage struct {
	ctx    context.Context
	sc     Scenario
	kind   script.Construction
	setup  setup
	policy channel.Policy
	payout []byte // the provider's
	say    func(string)

	cast  cast
	chain chain.Backend // as the story sees it
	node  actor
	now   time.Time
	dice  byte

	payer *buyerHand
	payee *sellerHand

	steps     []string
	processes []Process
	marks     []mark
	book      book
	channels  []*deal
	foul      []string // what did not hold
}

// newStage sets the chain up and brings both sides onto the stage, the payer with its
// coins. company: nil for a cast in this process.
func newStage(ctx context.Context, sc Scenario, kind script.Construction, u setup, say func(string), company *Company) (s *Stage, err error) {
	if say == nil {
		say = func(string) {}
	}
	s = &Stage{ctx: ctx, sc: sc, kind: kind, setup: u, say: say, now: time.Unix(1_700_000_000, 0)}
	s.policy = s.part().policy()
	clock := func() time.Time { return s.now }
	if s.cast = (&inside{now: clock}); company != nil {
		s.cast = &apart{Company: *company, now: clock}
	}
	if err := s.enter(); err != nil {
		return nil, errors.Join(err, s.cast.close())
	}
	return s, nil
}

// part is what every actor is told at its start; each start throws other dice.
func (s *Stage) part() part {
	s.dice++
	return part{Kind: s.kind, Duration: s.setup.duration, Seed: s.dice, Now: s.now.Unix()}
}

func (s *Stage) enter() (err error) {
	if s.node, s.chain, err = s.cast.open(s.ctx, s.part()); err != nil {
		return err
	}
	s.began(Node, s.node)
	s.payee = &sellerHand{hand{stage: s, side: Payee}}
	s.payer = &buyerHand{hand{stage: s, side: Payer}}
	for _, h := range s.hands() {
		if err := h.start(); err != nil {
			return err
		}
	}
	k, err := keys.FromMnemonic(payeeWords, devnet.Params())
	if err != nil {
		return err
	}
	if _, s.payout, err = k.WalletKey(false, 0); err != nil {
		return err
	}
	s.book.owns(Payee, s.payout)
	if len(s.processes) > 0 {
		s.say(fmt.Sprintf("    The chain is process %d, the provider process %d, the payer process %d. Each has a", s.node.pid(), s.payee.actor.pid(), s.payer.actor.pid()))
		s.say("    folder of its own; they talk over HTTP, and are told from here what to do.")
	}
	return s.coins(s.setup.coins)
}

// began notes a process that plays a part.
func (s *Stage) began(role Side, a actor) {
	if a.pid() != 0 {
		s.processes = append(s.processes, Process{role, a.pid()})
	}
}

// hands are those on both sides.
func (s *Stage) hands() []*hand { return []*hand{&s.payee.hand, &s.payer.hand} }

// coins gives the payer confirmed coins.
func (s *Stage) coins(n int) error {
	for range n {
		pk, err := s.payer.address()
		if err != nil {
			return err
		}
		if err := s.node.order(s.ctx, "faucet", faucetArgs{pk, coinSize}, nil); err != nil {
			return err
		}
	}
	s.book.had.Payer += int64(n) * coinSize
	return s.mine(1)
}

// tick moves the clock of everybody.
func (s *Stage) tick(by time.Duration) error {
	s.now = s.now.Add(by)
	for _, h := range s.hands() {
		if h.actor == nil {
			continue
		}
		if err := h.do("clock", nil, nil); err != nil {
			return err
		}
	}
	return nil
}

// tell adds a step to the story.
func (s *Stage) tell(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	s.steps = append(s.steps, text)
	for i, l := range wrap(text, storyWidth) {
		if i == 0 {
			s.say(fmt.Sprintf("%2d. %s", len(s.steps), l))
		} else {
			s.say("    " + l)
		}
	}
}

// wrap breaks a text at its spaces into lines of at most this many characters; a
// longer word has a line of its own.
func wrap(text string, width int) []string {
	var lines []string
	line, used := "", 0
	for _, word := range strings.Fields(text) {
		n := utf8.RuneCountInString(word)
		if line != "" && used+1+n > width {
			lines, line, used = append(lines, line), "", 0
		}
		if line != "" {
			line, used = line+" ", used+1
		}
		line, used = line+word, used+n
	}
	return append(lines, line)
}

// last is where the story is.
func (s *Stage) last() string {
	if len(s.steps) == 0 {
		return "the beginning"
	}
	return s.steps[len(s.steps)-1]
}

// want notes what has to hold for the story to have ended well.
func (s *Stage) want(holds bool, format string, args ...any) {
	if !holds {
		s.foul = append(s.foul, fmt.Sprintf(format, args...))
	}
}

// height is that of the tip.
func (s *Stage) height() (uint32, error) {
	tip, err := s.chain.Tip(s.ctx)
	return tip.Height, err
}

// mine adds blocks with all that waits; nobody looks.
func (s *Stage) mine(n int) error {
	for range n {
		if err := s.tick(blockGap); err != nil {
			return err
		}
		if err := s.node.order(s.ctx, "mine", 1, nil); err != nil {
			return err
		}
	}
	return nil
}

// censor adds a block that holds exactly these transactions, whatever waits.
func (s *Stage) censor(txs ...*wire.MsgTx) error {
	if err := s.tick(blockGap); err != nil {
		return err
	}
	raw := make([]channel.Hex, len(txs))
	for i, tx := range txs {
		var err error
		if raw[i], err = channel.EncodeTx(tx); err != nil {
			return err
		}
	}
	return s.node.order(s.ctx, "block", raw, nil)
}

// reorg undoes blocks for a branch that is one longer, and no node remembers a
// transaction.
func (s *Stage) reorg(depth int, drop chainhash.Hash) error {
	return s.node.order(s.ctx, "reorg", reorgArgs{depth, drop}, nil)
}

// rate sets what every node estimates; 0: what the mempool says.
func (s *Stage) rate(r script.FeeRate) error { return s.node.order(s.ctx, "rate", r, nil) }

// side is one that can be asked to look at the chain.
type side interface{ look() error }

// look lets sides look at the chain once.
func (s *Stage) look(sides ...side) error {
	for _, x := range sides {
		if err := x.look(); err != nil {
			return err
		}
	}
	return s.heard()
}

// pass adds n blocks; after each of them the given sides look at the chain.
func (s *Stage) pass(n int, sides ...side) error {
	for range n {
		if err := s.mine(1); err != nil {
			return err
		}
		if err := s.look(sides...); err != nil {
			return err
		}
	}
	return nil
}

// until passes blocks up to a height.
func (s *Stage) until(height uint32, sides ...side) error {
	tip, err := s.height()
	if err != nil || tip >= height {
		return err
	}
	return s.pass(int(height-tip), sides...)
}

// bury passes as many blocks as make the end final, with both sides looking.
func (s *Stage) bury(sides ...side) error { return s.pass(int(s.policy.Burial)+1, sides...) }
