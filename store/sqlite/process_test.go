package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/spillway/spillway/store"
)

func TestPitfall44_SecondProcessRefused(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s.db")
	s := open(t, path, Options{})
	for _, shared := range []bool{false, true} {
		if _, err := Open(t.Context(), path, Options{Shared: shared, Wait: 20 * time.Millisecond}); !errors.Is(err, store.ErrLocked) {
			t.Errorf("shared=%v, in this process: %v", shared, err)
		}
	}
	lines := start(t, "open", path).rest(t)
	if len(lines) != 1 || !strings.HasPrefix(lines[0], "true ") || !strings.Contains(lines[0], dir) || !strings.Contains(lines[0], "end the other process") {
		t.Fatalf("the second process should be refused and told what to do: %q", lines)
	}
	commit1(t, s, put("k", "1", 0))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	other := start(t, "open", path)
	if text, _ := other.line(); text != "opened" {
		t.Fatalf("once the first has ended: %q", text)
	}
	if _, err := Open(t.Context(), path, Options{}); !errors.Is(err, store.ErrLocked) {
		t.Fatalf("the other holds it: %v", err)
	}
	other.kill(t)
	if e, err := open(t, path, Options{}).Get(t.Context(), "b", "k"); err != nil || string(e.Value) != "1" {
		t.Fatalf("once the other was killed: %+v, %v", e, err)
	}
}

// Payers share a folder: compare-and-swap holds across processes, also where all
// of them find no store and make one.
func TestSharedByProcesses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "s.db")
	var all []*child
	for range 4 {
		all = append(all, start(t, "count", path))
	}
	for _, c := range all {
		if lines := c.rest(t); len(lines) > 0 {
			t.Errorf("a process says %q", lines)
		}
	}
	s := open(t, path, Options{Shared: true})
	if e, err := s.Get(t.Context(), "b", "counter"); err != nil || string(e.Value) != "400" || e.Revision != 400 {
		t.Errorf("4 processes made 100 steps each: %s at revision %d, %v", e.Value, e.Revision, err)
	}
	if _, err := Open(t.Context(), path, Options{}); !errors.Is(err, store.ErrLocked) {
		t.Errorf("alone on what others share: %v", err)
	}
	sharer := open(t, path, Options{Shared: true})
	commit1(t, sharer, put("counter", "401", 400))
	if err := s.Commit(t.Context(), put("counter", "lost", 400)); !errors.Is(err, store.ErrConflict) {
		t.Errorf("an old revision from the other side: %v", err)
	}
}

// A sharer that ended while it made the store leaves its place to the next.
func TestSharedSetupBrokenOff(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.db")
	if err := errors.Join(os.WriteFile(path+".lock", nil, 0o600), os.WriteFile(path, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	commit1(t, open(t, path, Options{Shared: true}), put("k", "1", 0))
	over, cancel := context.WithCancel(t.Context())
	cancel()
	alone := open(t, filepath.Join(t.TempDir(), "s.db"), Options{})
	if _, err := Open(over, alone.path, Options{Shared: true}); !errors.Is(err, store.ErrLocked) || !errors.Is(err, context.Canceled) {
		t.Errorf("waiting with a context that is over: %v", err)
	}
}

// A process is killed at random moments, also while it opens the store: everything
// that it acknowledged is there, and every commit is there wholly or not at all.
func TestPitfall23_AcknowledgedSurvivesKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.db")
	acked := map[string]uint64{}
	note := func(text string) {
		counter, rev, ok := strings.Cut(text, " ")
		n, err := strconv.ParseUint(rev, 10, 64)
		if ok && err == nil {
			acked[counter] = max(acked[counter], n)
		} else if text != "opened" {
			t.Errorf("the process says %q", text)
		}
	}
	for range 6 {
		c := start(t, "write", path)
		for left := rand.IntN(400); left > 0; left-- {
			text, ok := c.line()
			if !ok {
				t.Fatal("the process ended by itself")
			}
			note(text)
		}
		if err := c.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for text, ok := c.line(); ok; text, ok = c.line() { // said before the kill
			note(text)
		}
		c.kill(t)
		verify(t, path, acked)
	}
	if len(acked) == 0 {
		t.Error("nothing was ever acknowledged")
	}
}

// A process is killed while it makes the store: the next one makes it.
func TestPitfall43_KilledWhileOpening(t *testing.T) {
	bytesIn := func(path string) int64 {
		info, err := os.Stat(path)
		if err != nil {
			return -1
		}
		return info.Size()
	}
	for name, reached := range map[string]func(path string) bool{
		"the lock":   func(path string) bool { return bytesIn(path+".lock") >= 0 },
		"the file":   func(path string) bool { return bytesIn(path) >= 0 },
		"its head":   func(path string) bool { return bytesIn(path) > 0 },
		"the log":    func(path string) bool { return bytesIn(path+"-wal") >= 0 },
		"the schema": func(path string) bool { return bytesIn(path+"-wal") > 20_000 },
		"the mark":   func(path string) bool { return bytesIn(path+".lock") > 0 },
	} {
		for range 3 {
			path := filepath.Join(t.TempDir(), "new", "s.db")
			c := start(t, "write", path)
			await(t, func() bool { return reached(path) })
			c.kill(t)
			s, err := Open(t.Context(), path, Options{})
			if err != nil {
				t.Fatalf("killed when it had come to %s: %v", name, err)
			}
			commit1(t, s, put("k", "1", 0))
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// verify opens a killed process's store and looks for what it acknowledged.
func verify(t *testing.T, path string, acked map[string]uint64) {
	t.Helper()
	s, err := Open(t.Context(), path, Options{})
	if err != nil {
		t.Fatalf("after a kill: %v", err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	counters, err := s.List(t.Context(), "b", "counter/")
	if err != nil {
		t.Fatal(err)
	}
	have, keys := map[string]uint64{}, uint64(0)
	for _, e := range counters {
		have[e.Key], keys = e.Revision, keys+e.Revision
		if string(e.Value) != strconv.FormatUint(e.Revision, 10) {
			t.Errorf("%s holds %s at revision %d", e.Key, e.Value, e.Revision)
		}
	}
	for counter, rev := range acked {
		if have[counter] < rev {
			t.Errorf("%s was acknowledged at %d, it is at %d", counter, rev, have[counter])
		}
	}
	beside, err := s.List(t.Context(), "b", "key/")
	if err != nil || uint64(len(beside)) != keys {
		t.Errorf("the counters say %d, %d keys are there, %v", keys, len(beside), err)
	}
}

// A user who may not write there is told so.
func TestReadOnly(t *testing.T) {
	dir, err := os.MkdirTemp("", "spillway-read-only-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(os.Chmod(dir, 0o700), os.RemoveAll(dir)); err != nil {
			t.Error(err)
		}
	})
	path := filepath.Join(dir, "s.db")
	s := open(t, path, Options{})
	commit1(t, s, put("k", "1", 0))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, mode := range []fs.FileMode{0o444, 0o600} { // of the files
		if err := errors.Join(os.Chmod(dir, 0o755), os.Chmod(path, mode), os.Chmod(path+".lock", mode)); err != nil {
			t.Fatal(err)
		}
		if os.Getuid() != 0 && mode == 0o600 {
			if err := errors.Join(os.Chmod(path, 0), os.Chmod(path+".lock", 0)); err != nil { // as for a stranger
				t.Fatal(err)
			}
		}
		if err := os.Chmod(dir, 0o555); err != nil {
			t.Fatal(err)
		}
		if lines := start(t, "nobody", path).rest(t); len(lines) != 1 || !strings.HasPrefix(lines[0], "true ") || !strings.Contains(lines[0], path) {
			t.Errorf("files of mode %v: %q", mode, lines)
		}
		if lines := start(t, "nobody", filepath.Join(dir, "new", "s.db")).rest(t); len(lines) != 1 || !strings.HasPrefix(lines[0], "true ") {
			t.Errorf("a new folder: %q", lines)
		}
	}
}

// A file grows no further in the middle of the work: the commit is refused, those
// before it are kept, and the store goes on in the same process once there is room.
func TestPitfall43_FilesCannotGrow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.db")
	lines := start(t, "full", path).rest(t)
	s := open(t, path, Options{})
	acked, refused := 0, false
	for _, text := range lines {
		what, key, _ := strings.Cut(text, " ")
		switch what {
		case "acknowledged":
			acked++
			if e, err := s.Get(t.Context(), "b", key); err != nil || string(e.Value) != strings.Repeat(key, 1000) {
				t.Errorf("%s was acknowledged: %v", key, err)
			}
		case "refused":
			refused = strings.Contains(key, path)
			t.Log(key)
		}
	}
	if acked < 2 || !refused {
		t.Fatalf("%d acknowledged, refused with the file's name: %v", acked, refused)
	}
	if all, err := s.List(t.Context(), "b", ""); err != nil || len(all) != acked {
		t.Errorf("%d were acknowledged, %d are there, %v", acked, len(all), err)
	}
}

// A full database refuses what needs more room, and only that; it keeps what it
// acknowledged and goes on once there is room.
func TestPitfall43_FullDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.db")
	s := open(t, path, Options{MaxPages: 64})
	acked := 0
	for i := range 1000 {
		err := s.Commit(t.Context(), put(fmt.Sprintf("%04d", i), strings.Repeat("x", 8000), 0))
		if errors.Is(err, store.ErrFull) && strings.Contains(err.Error(), path) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		acked++
	}
	if acked == 0 || acked == 1000 {
		t.Fatalf("%d commits fit", acked)
	}
	left := func(want int) {
		t.Helper()
		if all, err := s.List(t.Context(), "b", ""); err != nil || len(all) != want {
			t.Fatalf("%d entries of %d, %v", len(all), want, err)
		}
	}
	left(acked)
	commit1(t, s, store.Op{Bucket: "b", Key: "0000", Expect: 1}, store.Op{Bucket: "b", Key: "0001", Expect: 1})
	answers := batch(t, s, []store.Op{put("small 1", "x", 0)}, []store.Op{put("large", strings.Repeat("x", 200_000), 0)}, []store.Op{put("small 2", "x", 0)})
	if answers[0] != nil || !errors.Is(answers[1], store.ErrFull) || answers[2] != nil {
		t.Fatalf("one large commit among small ones: %v", answers)
	}
	left(acked)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, path, Options{})
	commit1(t, s, put("large", strings.Repeat("x", 200_000), 0))
	left(acked + 1)
}
