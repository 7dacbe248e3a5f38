package scenario

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/chain/devnet"
	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/keys"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/watch"
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
	say    func(string)

	chain *devnet.Node
	now   time.Time
	dice  byte

	payer *buyer
	payee *seller

	steps    []string
	marks    []mark
	book     book
	channels []*deal
	foul     []string // what did not hold
}

func newStage(ctx context.Context, sc Scenario, kind script.Construction, u setup, say func(string)) (s *Stage, err error) {
	if say == nil {
		say = func(string) {}
	}
	s = &Stage{ctx: ctx, sc: sc, kind: kind, setup: u, say: say, now: time.Unix(1_700_000_000, 0), policy: channel.DefaultPolicy("regtest")}
	s.policy.Duration, s.policy.Useful = u.duration, 10
	if s.chain, err = devnet.New(devnet.Config{Now: func() time.Time { return s.now }}); err != nil {
		return nil, err
	}
	if err := s.enter(); err != nil {
		return nil, fmt.Errorf("%w; %w", err, s.chain.Close())
	}
	return s, nil
}

// enter brings both sides onto the stage, the payer with its coins.
func (s *Stage) enter() error {
	params := devnet.Params()
	k1, err := keys.FromMnemonic(payerWords, params)
	if err != nil {
		return err
	}
	k2, err := keys.FromMnemonic(payeeWords, params)
	if err != nil {
		return err
	}
	s.payer = &buyer{stage: s, keys: k1, disk: newDisk(), line: &line{Node: s.chain, stage: s, side: Payer}}
	s.payee = &seller{stage: s, keys: k2, disk: newDisk(), line: &line{Node: s.chain, stage: s, side: Payee}, credit: price}
	if err := s.payer.restart(); err != nil {
		return err
	}
	if err := s.payee.restart(); err != nil {
		return err
	}
	return s.coins(s.setup.coins)
}

// coins gives the payer confirmed coins.
func (s *Stage) coins(n int) error {
	for range n {
		pk, err := s.payer.wallet.ReceiveScript(s.ctx)
		if err != nil {
			return err
		}
		if _, err := s.chain.Faucet(s.ctx, pk, coinSize); err != nil {
			return err
		}
	}
	return s.mine(1)
}

// random differs for each start of a side, and is the same in every run.
func (s *Stage) random() *rand.ChaCha8 {
	s.dice++
	return rand.NewChaCha8([32]byte{s.dice})
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
		s.now = s.now.Add(blockGap)
		if _, err := s.chain.Mine(1); err != nil {
			return err
		}
	}
	return nil
}

// censor adds a block that holds exactly these transactions, whatever waits.
func (s *Stage) censor(txs ...*wire.MsgTx) error {
	s.now = s.now.Add(blockGap)
	_, err := s.chain.MineBlock(txs...)
	return err
}

// side is one that can be asked to look at the chain.
type side interface{ look() error }

// look lets sides look at the chain once.
func (s *Stage) look(sides ...side) error {
	for _, x := range sides {
		if err := x.look(); err != nil {
			return err
		}
	}
	return nil
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

// line is one side's connection to the chain: it keeps account of what goes out,
// and it can be cut.
type line struct {
	*devnet.Node
	stage *Stage
	side  Side
	down  bool
	// lax is what this side's own node took into its mempool though the rest of the
	// network refuses it: a node that relays what cannot be mined yet.
	lax map[wire.OutPoint]*wire.MsgTx
}

// Tip implements chain.Backend.
func (l *line) Tip(ctx context.Context) (chain.Tip, error) {
	if l.down {
		return chain.Tip{}, fmt.Errorf("%w: the %s is offline", chain.ErrUnavailable, l.side)
	}
	return l.Node.Tip(ctx)
}

// Broadcast implements chain.Backend.
func (l *line) Broadcast(ctx context.Context, tx *wire.MsgTx) error {
	if l.down {
		return fmt.Errorf("%w: the %s is offline", chain.ErrUnavailable, l.side)
	}
	err := l.Node.Broadcast(ctx, tx)
	l.stage.book.sent(l.side, "", tx, err)
	return err
}

// watch lets a driver look at the chain through this line.
func (l *line) watch(ctx context.Context, d watch.Driver) error {
	if l.down {
		return nil
	}
	return (&watch.Watch{Chain: l, Drivers: []watch.Driver{d}}).Step(ctx)
}
