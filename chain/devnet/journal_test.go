package devnet

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/btcsuite/btcd/chainhash/v2"

	"github.com/spillway/spillway/chain"
)

// grown is a folder with a boot, a payment, a block and a reorg in its journal, and what the node said after each.
type grown struct {
	dir   string
	raw   []byte
	ends  []int // of the journal after each frame
	snaps [][32]byte
}

func grow(t testing.TB) grown {
	t.Helper()
	g := grown{dir: t.TempDir()}
	n, err := New(Config{Dir: g.dir})
	if err != nil {
		t.Fatal(err)
	}
	note := func() {
		raw, err := os.ReadFile(filepath.Join(g.dir, journalName))
		if err != nil {
			t.Fatal(err)
		}
		g.raw, g.ends, g.snaps = raw, append(g.ends, len(raw)), append(g.snaps, snapshot(n))
	}
	note()
	if _, err := n.Faucet(t.Context(), n.faucet.script, 100_000); err != nil {
		t.Fatal(err)
	}
	note()
	if _, err := n.Mine(2); err != nil {
		t.Fatal(err)
	}
	note()
	if _, err := n.ReorgWith(ReorgOptions{Depth: 2, Length: 3, Drop: []chainhash.Hash{{1}}}); err != nil {
		t.Fatal(err)
	}
	note()
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	return g
}

// reopen puts bytes in the place of a journal and opens a node on them.
func reopen(t testing.TB, raw []byte) (*Node, string, error) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, journalName), raw, 0o600); err != nil {
		t.Fatal(err)
	}
	n, err := New(Config{Dir: dir})
	return n, dir, err
}

// TestPitfall74_TornTail cuts the journal everywhere in its last frames: a node starts with the frames that are
// whole, the torn rest is cut off, and what comes after is kept.
func TestPitfall74_TornTail(t *testing.T) {
	g := grow(t)
	for frame := 1; frame < len(g.ends); frame++ {
		from, to := g.ends[frame-1], g.ends[frame]
		for _, cut := range []int{from, from + 1, from + 4, from + frameHeader - 1, from + frameHeader, from + frameHeader + 3, (from + to) / 2, to - 1, to} {
			for what, tail := range map[string][]byte{"nothing": nil, "zeros": make([]byte, 600), "noise": bytes.Repeat([]byte{0xa5, 7}, 200)} {
				raw, want := append(bytes.Clone(g.raw[:cut]), tail...), frame-1
				if bytes.HasPrefix(raw, g.raw[:to]) {
					want = frame // what was cut off is what follows
				}
				n, dir, err := reopen(t, raw)
				if err != nil {
					t.Fatalf("cut at %d of %d…%d, then %s: %v", cut, from, to, what, err)
				}
				if snapshot(n) != g.snaps[want] {
					t.Fatalf("cut at %d of %d…%d, then %s: another chain", cut, from, to, what)
				}
				if _, err := n.Mine(1); err != nil {
					t.Fatal(err)
				}
				after := snapshot(n)
				if err := n.Close(); err != nil {
					t.Fatal(err)
				}
				if n, err = New(Config{Dir: dir}); err != nil {
					t.Fatal(err)
				}
				if snapshot(n) != after {
					t.Fatalf("cut at %d, then %s: a block after the cut is forgotten", cut, what)
				}
				if err := n.Close(); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

// TestPitfall43_DamagedLog: what was synced once and then changed is no torn tail; the node says so and changes
// nothing.
func TestPitfall43_DamagedLog(t *testing.T) {
	g := grow(t)
	flip := func(at int) []byte {
		raw := bytes.Clone(g.raw)
		raw[at] ^= 0x40
		return raw
	}
	for what, raw := range map[string][]byte{
		"the head":                     flip(2),
		"another file":                 []byte(strings.Repeat("[section]\n", 100)),
		"a short other file":           []byte("hello"),
		"the length of the first":      flip(len(journalMagic) + 1),
		"a header checksum":            flip(g.ends[0] + 5),
		"a payload":                    flip(g.ends[1] + frameHeader + 40),
		"the first frame is not there": append([]byte(journalMagic), g.raw[g.ends[0]:]...),
		"the second frame is twice":    append(bytes.Clone(g.raw[:g.ends[1]]), g.raw[g.ends[0]:]...),
	} {
		n, dir, err := reopen(t, raw)
		if !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", what, err)
		}
		if n != nil {
			t.Fatalf("%s: a node", what)
		}
		if now, err := os.ReadFile(filepath.Join(dir, journalName)); err != nil || !bytes.Equal(now, raw) {
			t.Errorf("%s: the file was changed: %v", what, err)
		}
		j, _, err := openJournal(dir, slog.New(slog.DiscardHandler)) // the lock is free again
		if errors.Is(err, ErrLocked) {
			t.Errorf("%s: %v", what, err)
		}
		if err == nil {
			err = j.Close()
			if err != nil {
				t.Error(err)
			}
		}
	}
}

func TestJournalHeadTorn(t *testing.T) {
	for _, raw := range []string{"", journalMagic[:1], journalMagic[:len(journalMagic)-1], "\x00\x00\x00", journalMagic} {
		n, _, err := reopen(t, []byte(raw))
		if err != nil {
			t.Fatalf("%q: %v", raw, err)
		}
		if n.idx.tip().height != bootBlocks {
			t.Errorf("%q: the tip is %d", raw, n.idx.tip().height)
		}
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestPitfall44_TwoNodes: the second on a folder is refused until the first is closed.
func TestPitfall44_TwoNodes(t *testing.T) {
	dir := t.TempDir()
	n, err := New(Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New(Config{Dir: dir}); !errors.Is(err, ErrLocked) {
		t.Fatalf("a second node: %v", err)
	}
	if _, err := n.Mine(1); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if n, err = New(Config{Dir: dir}); err != nil {
		t.Fatal(err)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestPitfall43_DiskFull: what can't be written is not answered, and the node stops answering at all.
func TestPitfall43_DiskFull(t *testing.T) {
	dir := t.TempDir()
	n, err := New(Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	before := snapshot(n)
	good := n.journal.file
	if n.journal.file, err = os.OpenFile("/dev/full", os.O_WRONLY, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Mine(1); !errors.Is(err, chain.ErrUnavailable) {
		t.Fatalf("a block on a full disk: %v", err)
	}
	if _, err := n.Tip(t.Context()); !errors.Is(err, chain.ErrUnavailable) {
		t.Fatalf("a tip that is not on disk: %v", err)
	}
	if _, err := n.Faucet(t.Context(), n.faucet.script, 1_000); !errors.Is(err, chain.ErrUnavailable) {
		t.Fatalf("a payment after that: %v", err)
	}
	if err := errors.Join(n.Close(), good.Close()); err != nil {
		t.Fatal(err)
	}
	if n, err = New(Config{Dir: dir}); err != nil {
		t.Fatal(err)
	}
	if snapshot(n) != before {
		t.Fatal("another chain after the disk was full")
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestFolderPermissions(t *testing.T) {
	g := grow(t)
	for _, name := range []string{journalName, lockName} {
		info, err := os.Stat(filepath.Join(g.dir, name))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
	if _, err := New(Config{Dir: filepath.Join(g.dir, journalName, "below")}); err == nil {
		t.Error("a folder below a file")
	}
}

// FuzzJournal: no bytes make the parser panic, and what it calls good parses again to the same frames.
func FuzzJournal(f *testing.F) {
	frame := func(records ...record) []byte {
		file, err := os.CreateTemp(f.TempDir(), "")
		if err != nil {
			f.Fatal(err)
		}
		j := &journal{file: file}
		if err := j.append(records); err != nil {
			f.Fatal(err)
		}
		raw, err := os.ReadFile(file.Name())
		if err != nil {
			f.Fatal(err)
		}
		if err := j.Close(); err != nil {
			f.Fatal(err)
		}
		return raw
	}
	one, two := frame(record{kindTx, []byte("abc")}), frame(record{kindDrop, nil}, record{kindBlock, []byte{1}})
	whole := append(append([]byte(journalMagic), one...), two...)
	f.Add(whole)
	f.Add(whole[:len(whole)-1])
	f.Add(append([]byte(journalMagic), two[3:]...))
	f.Add([]byte(journalMagic))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, raw []byte) {
		frames, good, err := parseJournal(raw)
		if err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Fatalf("an error of another kind: %v", err)
			}
			return
		}
		again, end, err := parseJournal(raw[:good])
		if err != nil || end != good || len(again) != len(frames) {
			t.Fatalf("the good part of %d bytes parses to %d frames up to %d, first to %d: %v", good, len(again), end, len(frames), err)
		}
	})
}
