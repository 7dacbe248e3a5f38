package scenario

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/script"
)

// end is what a scenario has to end with, in every kind of channel: amounts in sat,
// exposure and delivered in msat.
type end struct {
	owed      Amounts
	total     Amounts // got and fees together
	bears     Side    // who pays what ending the channels cost
	exposure  uint64
	credit    uint64
	delivered uint64
}

// chunk is the price of a chunk in sat.
const chunk = price / 1000

// to is an end in which each side has, before fees, exactly what it is owed.
func to(channels, chunks int64, delivered uint64) end {
	a := Amounts{channels*capacity - chunks*chunk, chunks * chunk}
	return end{owed: a, total: a, bears: Payee, exposure: price, credit: price, delivered: delivered * price}
}

func (e end) with(change func(*end)) end {
	change(&e)
	return e
}

var ends = map[string]end{
	"provider-vanishes": to(1, 3, 3).with(func(e *end) {
		e.total, e.bears = Amounts{capacity, 0}, Payer
	}),
	"payer-vanishes":                to(1, 5, 5),
	"payer-broadcasts-refund-early": to(1, 4, 4),
	"payer-races-refund-at-expiry":  to(2, 10, 10),
	"provider-serves-garbage":       to(1, 2, 3),
	"payer-stops-paying":            to(1, 15, 16),
	"newcomers-steal-credit": to(thieves, 0, poolChunks).with(func(e *end) {
		e.bears, e.exposure, e.credit = Payer, poolChunks*price, poolChunks*price
	}),
	"provider-stalls-close": to(1, 4, 4),
	"payer-withholds-close": to(1, 6, 6),
	"double-spent-funding": to(1, 0, 0).with(func(e *end) {
		e.bears, e.exposure = Payer, 0
	}),
	"reorg-of-funding":                  to(1, 5, 5),
	"reorg-of-settlement":               to(1, 4, 4),
	"fee-spike-before-expiry":           to(1, 20, 20),
	"fee-spike-after-close":             to(1, 20, 20),
	"censored-for-N-blocks":             to(1, 20, 20),
	"both-restart-from-crash":           to(1, 5, 5),
	"provider-restored-from-old-backup": to(1, 6, 6),
	"one-payer-evicts-a-batch":          to(3, 15, 15),
	"payer-replays-old-state":           to(1, 11, 11),
	"idle-receiver": to(1, 6, 6).with(func(e *end) {
		e.bears = Payer
	}),
}

var ladderEnd = end{
	owed: Amounts{90 * ladderCoin, 10 * ladderCoin}, total: Amounts{90 * ladderCoin, 10 * ladderCoin},
	bears: Payee, delivered: 10 * ladderCoin * 1000,
}

// Every story, in every kind of channel, ends with the sums that it has to end with.
func TestScenarios(t *testing.T) {
	sums, found := exactEnds(t), map[string]exact{}
	for _, sc := range List() {
		for _, kind := range sc.Channels {
			t.Run(sc.Name+"/"+string(kind), func(t *testing.T) {
				want, ok := ends[sc.Name]
				if kind == Ladder {
					want = ladderEnd
				}
				if !ok {
					t.Fatal("no end is written down for this scenario")
				}
				r := play(t, sc, kind)
				if !r.OK || len(r.Failed) > 0 {
					t.Fatalf("it did not end well: %q", r.Failed)
				}
				want.check(t, r)
				if name, end := exactOf(r); *writeEnds {
					found[name] = end
				} else {
					checkExact(t, sums, r)
				}
			})
		}
	}
	if *writeEnds && !t.Failed() {
		write(t, found)
	}
}

func play(t *testing.T, sc Scenario, kind script.Construction) *Result {
	t.Helper()
	r, err := sc.Play(t.Context(), kind, func(line string) { t.Log(line) })
	if err != nil {
		t.Fatal(err)
	}
	t.Log("\n" + strings.Join(slices.Concat(r.Picture, r.Table()), "\n"))
	return r
}

func (e end) check(t *testing.T, r *Result) {
	t.Helper()
	total := Amounts{r.Got.Payer + r.Fees.Payer, r.Got.Payee + r.Fees.Payee}
	if r.Owed != e.owed || total != e.total {
		t.Errorf("owed %+v, got and fees %+v; want %+v and %+v", r.Owed, total, e.owed, e.total)
	}
	if r.Exposure != e.exposure || r.Credit != e.credit || r.Delivered != e.delivered {
		t.Errorf("exposure %d, credit %d, delivered %d; want %d, %d, %d", r.Exposure, r.Credit, r.Delivered, e.exposure, e.credit, e.delivered)
	}
	fees := r.Fees.Payee
	if e.bears == Payer {
		fees = r.Fees.Payer
	}
	if fees <= 0 || fees != r.Fees.Payer+r.Fees.Payee {
		t.Errorf("fees %+v, and the %s bears them", r.Fees, e.bears)
	}
	mined(t, r)
	if len(r.Steps) < 4 || len(r.Picture) < 2 || len(r.Table()) != 4 {
		t.Errorf("a story of %d steps, %d lines of picture, %d lines of table", len(r.Steps), len(r.Picture), len(r.Table()))
	}
}

// mined adds up what the mined transactions say by themselves.
func mined(t *testing.T, r *Result) {
	t.Helper()
	var out, fees int64
	fundings, ending := 0, 0
	for _, x := range r.Transactions {
		raw, err := hex.DecodeString(x.Hex)
		if err != nil {
			t.Fatal(err)
		}
		tx := wire.NewMsgTx(2)
		if err := tx.Deserialize(bytes.NewReader(raw)); err != nil {
			t.Fatal(err)
		}
		if tx.TxHash().String() != x.Txid || script.VSize(tx) != x.VSize || x.Fee <= 0 || x.Role == "" || x.By == "" {
			t.Errorf("%+v", x)
		}
		switch {
		case x.Height == nil:
			continue
		case x.Role == roleFunding:
			fundings++
			continue
		case x.Role == roleDoubleSpend:
			out, fees, ending = out+tx.TxOut[0].Value, fees+capacity-tx.TxOut[0].Value, ending+1
			continue
		}
		ending++
		fees += x.Fee
		for _, o := range tx.TxOut {
			out += o.Value
		}
	}
	if out != r.Got.Payer+r.Got.Payee || fees != r.Fees.Payer+r.Fees.Payee {
		t.Errorf("what is mined pays %d sat and %d sat of fees, the table says %+v and %+v", out, fees, r.Got, r.Fees)
	}
	if ending == 0 || fundings > ending {
		t.Errorf("%d fundings and %d ends are mined", fundings, ending)
	}
}

// Stories that end badly, for TestJudge.

// loses: the provider sleeps through everything.
func loses(s *Stage) error {
	d, err := s.opened()
	if err != nil {
		return err
	}
	if err := s.buy(d, 5); err != nil {
		return err
	}
	if err := s.payee.fall(); err != nil {
		return err
	}
	if err := s.until(d.terms.Expiry, s.payer); err != nil {
		return err
	}
	if err := s.bury(s.payer); err != nil {
		return err
	}
	return s.payee.start()
}

// two chunks are bought, something happens, and the channel is closed.
func two(change func(*Stage, *deal)) func(*Stage) error {
	return func(s *Stage) error {
		d, err := s.opened()
		if err != nil {
			return err
		}
		if err := s.buy(d, 2); err != nil {
			return err
		}
		change(s, d)
		if err := s.end(d); err != nil {
			return err
		}
		return s.bury(s.payer, s.payee)
	}
}

// A story that ends badly is seen to: nothing is decided by hand.
func TestJudge(t *testing.T) {
	unfinished := func(s *Stage) error {
		_, err := s.opened()
		return err
	}
	overpays := two(func(_ *Stage, d *deal) { d.verified -= price }) // the payer signed what it did not verify
	stranger := two(func(s *Stage, d *deal) { delete(s.book.owner, string(d.terms.RestScript)) })
	poorer := two(func(s *Stage, d *deal) { s.book.had.Payer++ })
	for name, c := range map[string]struct {
		honest Side
		lead   uint64
		play   func(*Stage) error
		want   string
	}{
		"the provider loses what it is owed": {Payee, 0, loses, "the provider got 0 sat of 5000 sat"},
		"it is over for the provider":        {Payee, 0, loses, "the provider's channel stays"},
		"the payer gets more than its own":   {Payer, 0, loses, "the payer got 49862 sat of 45000 sat"},
		"a satoshi is missing":               {Both, 0, poorer, "by the channels they should hold 297847 sat"},
		"more is out than the credit":        {Both, price - 1, overpays, "were released unpaid"},
		"the payer pays ahead":               {Both, 0, overpays, "that it had verified"},
		"nothing ends the channel":           {Both, 0, unfinished, "has not moved"},
		"money goes to a stranger":           {Both, 0, stranger, "went to a stranger"},
	} {
		t.Run(name, func(t *testing.T) {
			sc := Scenario{Name: "test", Honest: c.honest, Channels: oneWay, setup: func(u *setup) { u.lead = c.lead }, play: c.play}
			r := play(t, sc, script.Taproot)
			if r.OK != (c.want == "") || !strings.Contains(strings.Join(r.Failed, "\n"), c.want) {
				t.Fatalf("ok %v, %q; want %q", r.OK, r.Failed, c.want)
			}
		})
	}
}

func TestFind(t *testing.T) {
	names := map[string]bool{}
	for _, sc := range List() {
		if names[sc.Name] || sc.Title == "" || sc.Honest == "" || len(sc.Channels) == 0 {
			t.Errorf("%+v", sc)
		}
		names[sc.Name] = true
		if got, err := Find(sc.Name); err != nil || got.Name != sc.Name {
			t.Errorf("%s is not found: %v", sc.Name, err)
		}
	}
	for _, name := range []string{"", "nothing", "censored-for-0-blocks", "censored-for-28-blocks", "censored-for-007-blocks", "censored-for--1-blocks"} {
		if _, err := Find(name); !errors.Is(err, ErrUnknown) {
			t.Errorf("%q: %v", name, err)
		}
	}
	sc, err := Find("censored-for-5-blocks")
	if err != nil {
		t.Fatal(err)
	}
	if r := play(t, sc, script.Multisig); !r.OK || r.Scenario != "censored-for-5-blocks" {
		t.Errorf("%s: %q", r.Scenario, r.Failed)
	}
	if _, err := sc.Play(t.Context(), Ladder, nil); !errors.Is(err, ErrChannel) {
		t.Errorf("in a ladder: %v", err)
	}
}

// The same story is the same to the byte, and needs nobody who listens.
func TestDeterministic(t *testing.T) {
	sc, err := Find("both-restart-from-crash")
	if err != nil {
		t.Fatal(err)
	}
	first, second := play(t, sc, ""), play(t, sc, "")
	if len(first.Transactions) != len(second.Transactions) {
		t.Fatal("another number of transactions")
	}
	for i := range first.Transactions {
		if first.Transactions[i].Hex != second.Transactions[i].Hex {
			t.Errorf("transaction %d differs", i)
		}
	}
	if _, err := sc.Play(t.Context(), script.Taproot, nil); err != nil {
		t.Error(err)
	}
}

func TestTimeline(t *testing.T) {
	for name, c := range map[string]struct {
		marks []mark
		tip   uint32
		want  string
	}{
		"half of it is mined":    {[]mark{{"F", "funding", 10}, {"E", "expiry", 19}}, 14, "10 ├F────····E┤ 19"},
		"all of it is":           {[]mark{{"F", "funding", 10}, {"E", "expiry", 15}}, 19, "10 ├F────E────┤ 19"},
		"two in one block":       {[]mark{{"F", "funding", 10}, {"x", "gone", 10}, {"E", "expiry", 19}}, 10, "10 ├Fx·······E┤ 19"},
		"more than it has space": {[]mark{{"E", "expiry", 19}, {"x", "a", 19}, {"y", "b", 19}, {"F", "f", 10}}, 10, "10 ├F········Exy┤ 19"},
		"nothing":                {nil, 7, "7 ├─·········┤ 7"},
	} {
		t.Run(name, func(t *testing.T) {
			lines := timeline(c.marks, c.tip, 10)
			if strings.ReplaceAll(lines[0], " ", "") != strings.ReplaceAll(c.want, " ", "") {
				t.Errorf("%s, want %s", lines[0], c.want)
			}
			all := strings.Join(lines, " ")
			for _, m := range c.marks {
				if !strings.Contains(all, m.name) {
					t.Errorf("%s is not named", m.name)
				}
			}
		})
	}
}

func TestWrap(t *testing.T) {
	for text, want := range map[string][]string{
		"":                        {""},
		"one":                     {"one"},
		"one two three":           {"one two", "three"},
		"a-word-that-is-too-long": {"a-word-that-is-too-long"},
		"ä ö ü ß … €":             {"ä ö ü ß", "… €"},
	} {
		if got := wrap(text, 7); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// Whatever was bought, down to one chunk and up to the whole capacity, and whenever
// the other side vanishes: what is left is exact.
func TestVanishingAtAnyAmount(t *testing.T) {
	for _, c := range []struct {
		chunks int
		height int // blocks after the funding
	}{{1, 0}, {2, 11}, {30, 22}, {49, 1}, {50, 5}} {
		for _, kind := range everyWay {
			for _, honest := range []Side{Payer, Payee} {
				t.Run(fmt.Sprintf("%d/%s/%s", c.chunks, kind, honest), func(t *testing.T) {
					forfeits := map[Side]Side{Payer: Payee}[honest]
					sc := Scenario{Name: "test", Honest: honest, Forfeits: forfeits, Channels: everyWay, play: func(s *Stage) error {
						return vanish(s, c.chunks, c.height, honest)
					}}
					r := play(t, sc, kind)
					paid := int64(c.chunks) * chunk
					e := to(1, int64(c.chunks), uint64(c.chunks))
					if honest == Payer {
						e.total, e.bears = Amounts{capacity, 0}, Payer
					}
					if !r.OK || r.Owed.Payee != paid {
						t.Fatalf("owed %+v: %q", r.Owed, r.Failed)
					}
					e.check(t, r)
				})
			}
		}
	}
}

// vanish buys chunks, block after block, and leaves one side alone.
func vanish(s *Stage, chunks, blocks int, honest Side) error {
	d, err := s.opened()
	if err != nil {
		return err
	}
	if err := s.pass(blocks, s.payee, s.payer); err != nil {
		return err
	}
	if err := s.wait(); err != nil {
		return err
	}
	if err := s.buy(d, chunks); err != nil {
		return err
	}
	s.tell("%d chunks are bought.", chunks)
	if honest == Payer {
		if err := s.until(d.terms.Expiry, s.payer); err != nil {
			return err
		}
		s.tell("The refund is due.")
		return s.bury(s.payer)
	}
	if err := s.until(d.margin(), s.payee); err != nil {
		return err
	}
	s.tell("The settlement is due.")
	return s.bury(s.payee)
}
