package scan

import (
	"fmt"

	"github.com/btcsuite/btcd/chainhash/v2"

	"github.com/spillway/spillway/chain"
)

// Kept is what a Keeper remembers of one script: what was found of it from a height up to the newest of the marks.
type Kept struct {
	Script []byte
	From   uint32
	Found  []Found
}

// Keeper remembers what was found, so that it is not searched for again after a restart, and is still known when it
// is older than the window.
type Keeper interface {
	// Load gives what was saved last; nothing where nothing was.
	Load() (marks []chain.Mark, tracks []Kept, err error)
	// Save replaces the marks, the newest blocks that were looked through at consecutive heights and oldest first,
	// and the tracks of these scripts, all or nothing.
	Save(marks []chain.Mark, changed []Kept) error
}

// load reads what was kept, once.
func (s *Scanner) load() error {
	if s.loaded || s.cfg.Keeper == nil {
		return nil
	}
	marks, tracks, err := s.cfg.Keeper.Load()
	if err != nil {
		return fmt.Errorf("%w: what was found before: %w", chain.ErrUnavailable, err)
	}
	if len(marks) > 0 {
		s.base = marks[0].Height
		for _, m := range marks {
			s.hashes = append(s.hashes, m.Hash)
		}
		next := marks[len(marks)-1].Height + 1
		for _, k := range tracks {
			t := &track{script: k.Script, from: k.From, next: max(k.From, next), hits: k.Found}
			t.refresh()
			s.tracks[string(k.Script)] = t
		}
	}
	s.loaded = true
	return nil
}

// save keeps what was found. All scripts have been looked for up to the tip.
func (s *Scanner) save() error {
	if s.cfg.Keeper == nil || !s.unsaved {
		return nil
	}
	from := max(0, len(s.hashes)-remembered)
	marks := make([]chain.Mark, 0, len(s.hashes)-from)
	for i, hash := range s.hashes[from:] {
		marks = append(marks, chain.Mark{Height: s.base + uint32(from+i), Hash: chainhash.Hash(hash)})
	}
	var changed []Kept
	for _, t := range s.tracks {
		if t.dirty {
			changed = append(changed, Kept{t.script, t.from, t.hits})
		}
	}
	if err := s.cfg.Keeper.Save(marks, changed); err != nil {
		return fmt.Errorf("%w: keep what was found: %w", chain.ErrUnavailable, err)
	}
	for _, t := range s.tracks {
		t.dirty = false
	}
	s.unsaved = false
	return nil
}
