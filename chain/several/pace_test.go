package several_test

import (
	"testing"
	"time"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/chain/several"
)

// higher adds blocks to a tip.
func higher(blocks *int) func(chain.Tip) chain.Tip {
	return func(t chain.Tip) chain.Tip {
		t.Height = uint32(int(t.Height) + *blocks)
		return t
	}
}

// TestHastyTip: a backend that names ever higher tips hurries nothing beyond what the clock allows, and one that
// names low ones delays nothing.
func TestHastyTip(t *testing.T) {
	n := open(t)
	start, err := n.Tip(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	now, first, second := time.Unix(1_800_000_000, 0), 0, 0
	var raised []several.Alarm
	b, err := several.New(several.Config{
		Members: []several.Member{{Name: "first", Backend: &liar{Backend: n, tip: higher(&first)}}, {Name: "second", Backend: &liar{Backend: n, tip: higher(&second)}}},
		Pace:    10 * time.Minute, Grace: -1, Now: func() time.Time { return now },
		OnAlarm: func(a several.Alarm) { raised = append(raised, a) },
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		what          string
		after         time.Duration
		first, second int
		want          int // above the real tip
		hasty         bool
	}{
		{"before they ever agreed the highest counts", 0, 0, 500, 500, false},
		{"agreed", 0, 0, 0, 0, false},
		{"two blocks are no disagreement, and the lower one is agreed on", 0, 0, 2, 2, false},
		{"eight more are chance", 0, 0, 8, 8, false},
		{"more is not", 0, 0, 9, 8, true},
		{"nor is a million", 0, 0, 1_000_000, 8, true},
		{"an hour is six blocks and a quarter", time.Hour, 0, 1_000_000, 15, true},
		{"a day", 23 * time.Hour, 0, 1_000_000, 188, true},
		{"the clock went back: nothing is taken back but time", -48 * time.Hour, 0, 1_000_000, 8, true},
		{"the one that was right is believed", 48 * time.Hour, 0, 150, 150, false},
		{"agreed again", 0, 150, 151, 151, false},
		{"a low one delays nothing", 2 * time.Hour, -200, 163, 163, false},
		{"for however long", 100 * time.Hour, -200, 163 + 720, 163 + 720, false},
	} {
		now, first, second = now.Add(step.after), step.first, step.second
		raised = nil
		tip, err := b.Tip(t.Context())
		if err != nil || tip.Height != start.Height+uint32(step.want) {
			t.Errorf("%s: %d above the real tip, %v; want %d", step.what, tip.Height-start.Height, err, step.want)
		}
		hasty := false
		for _, a := range b.Alarms() {
			hasty = hasty || a.Kind == several.Hasty && a.Backend == "second"
		}
		if hasty != step.hasty {
			t.Errorf("%s: alarms %v", step.what, b.Alarms())
		}
	}
}

// TestHastyTipAddsNoDepth: heights that are told beside a hasty tip are as deep as the other backend says under the tip that counts.
func TestHastyTipAddsNoDepth(t *testing.T) {
	n := open(t)
	pk := append([]byte{0x00, 0x14}, make([]byte, 20)...)
	op := pay(t, n, pk, 50_000)
	if _, err := n.Mine(3); err != nil {
		t.Fatal(err)
	}
	none, many := 0, 0
	now := time.Unix(1_800_000_000, 0)
	b, err := several.New(several.Config{
		Members: []several.Member{{Name: "first", Backend: &liar{Backend: n, tip: higher(&none)}}, {Name: "second", Backend: &liar{Backend: n, tip: higher(&many)}}},
		Pace:    10 * time.Minute, Now: func() time.Time { return now },
	})
	if err != nil {
		t.Fatal(err)
	}
	deep := func() uint32 {
		t.Helper()
		tip, err := b.Tip(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		info, err := b.Tx(t.Context(), op.Hash)
		if err != nil || !info.Confirmed {
			t.Fatalf("%+v, %v", info, err)
		}
		coins, err := b.UTXOs(t.Context(), pk)
		if err != nil || len(coins) != 1 || coins[0].Height != info.Height {
			t.Fatalf("%+v, %v; the transaction is at %d", coins, err, info.Height)
		}
		return tip.Height - info.Height + 1
	}
	was := deep()
	many = 1000
	if is := deep(); is != was {
		t.Errorf("%d blocks deep, with a hasty tip %d", was, is)
	}
}

// TestNoPace: where blocks are made at will, the highest tip counts, however high.
func TestNoPace(t *testing.T) {
	n := open(t)
	none, many := 0, 0
	b, err := several.New(several.Config{Members: []several.Member{{Name: "first", Backend: &liar{Backend: n, tip: higher(&none)}}, {Name: "second", Backend: &liar{Backend: n, tip: higher(&many)}}}})
	if err != nil {
		t.Fatal(err)
	}
	before, err := b.Tip(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	many = 1000
	if after, err := b.Tip(t.Context()); err != nil || after.Height != before.Height+1000 {
		t.Errorf("%d, then %d, %v", before.Height, after.Height, err)
	}
}
