package scenario

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spillway/spillway/chain"
)

// pictureWidth is how many columns the chain is drawn in.
const pictureWidth = 68

// mark is something that happened, or will, at a height.
type mark struct {
	sign   string // one column
	name   string
	height uint32
}

// event marks the block at the tip.
func (s *Stage) event(sign, name string) error {
	tip, err := s.height()
	s.marks = append(s.marks, mark{sign, name, tip})
	return err
}

// draw shows the chain as it is.
func (s *Stage) draw() error {
	lines, err := s.picture()
	for _, l := range lines {
		s.say("    " + l)
	}
	return err
}

// picture is the chain with the first channel's heights on it.
func (s *Stage) picture() ([]string, error) {
	tip, err := s.height()
	if err != nil {
		return nil, err
	}
	marks := slices.Clone(s.marks)
	if len(s.channels) > 0 {
		own, err := s.heights(s.channels[0])
		if err != nil {
			return nil, err
		}
		marks = append(own, marks...)
	}
	slices.SortStableFunc(marks, func(a, b mark) int { return int(a.height) - int(b.height) })
	return timeline(marks, tip, pictureWidth), nil
}

// heights are a channel's marks: where its funding is, what ended it, and its time.
func (s *Stage) heights(d *deal) ([]mark, error) {
	marks := []mark{{"E", "expiry", d.terms.Expiry}}
	if s.kind != Ladder { // the locks of its states are its margins
		marks = append(marks, mark{"M", "margin", d.margin()})
	}
	info, err := s.chain.Tx(s.ctx, d.funding.TxHash())
	if err != nil && !errors.Is(err, chain.ErrNotFound) {
		return nil, err
	}
	if err == nil && info.Confirmed {
		marks = append(marks, mark{"F", "funding", info.Height})
	}
	tx, err := s.ended(d)
	if err != nil || tx == nil {
		return marks, err
	}
	if info, err = s.chain.Tx(s.ctx, tx.TxHash()); err != nil {
		return nil, err
	}
	sign, name := "S", roleSettlement
	for _, e := range s.book.seen {
		if e.tx.TxHash() == tx.TxHash() {
			name = s.roleOf(e)
			sign = strings.ToUpper(name[:1])
		}
	}
	return append(marks, mark{sign, name + " mined", info.Height}), nil
}

// timeline draws marks in the order of their heights: mined blocks as a line, blocks
// to come as dots, and below them what each sign means.
func timeline(marks []mark, tip uint32, width int) []string {
	low, high := tip, tip
	for _, m := range marks {
		low, high = min(low, m.height), max(high, m.height)
	}
	at := func(h uint32) int {
		if high == low {
			return 0
		}
		return int(uint64(h-low) * uint64(width-1) / uint64(high-low))
	}
	row := make([]string, width)
	for i := range row {
		if row[i] = "─"; i > at(tip) {
			row[i] = "·"
		}
	}
	taken := map[int]bool{}
	var names []string
	for _, m := range marks {
		col := at(m.height)
		for taken[col] && col < len(row) { // several in one column stand side by side
			col++
		}
		if col == len(row) {
			row = append(row, "")
		}
		row[col], taken[col] = m.sign, true
		names = append(names, fmt.Sprintf("%s %s %d", m.sign, m.name, m.height))
	}
	lines := []string{fmt.Sprintf("%d ├%s┤ %d", low, strings.Join(row, ""), high)}
	names = append(names, fmt.Sprintf("the tip is %d", tip))
	for line := ""; len(names) > 0; line = "" {
		for len(names) > 0 && (line == "" || len(line)+len(names[0]) < width+8) {
			if line != "" {
				line += "   "
			}
			line, names = line+names[0], names[1:]
		}
		lines = append(lines, "     "+line)
	}
	return lines
}
