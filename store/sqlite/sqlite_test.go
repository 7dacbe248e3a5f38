package sqlite

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spillway/spillway/store"
	"github.com/spillway/spillway/store/storetest"
)

var ctx = context.Background()

func open(t testing.TB, path string, o Options) *Store {
	t.Helper()
	s, err := Open(ctx, path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestSuite(t *testing.T) {
	n := 0
	dir := t.TempDir()
	storetest.Suite(t, func(t testing.TB) store.Store {
		n++
		return open(t, filepath.Join(dir, fmt.Sprint(n), "s.db"), Options{})
	})
}

// What the suite's stores saved is there after the file was closed and opened.
func TestReopen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.db")
	s := open(t, path, Options{})
	if err := s.Commit(ctx, store.Op{Bucket: "b", Key: "k", Value: []byte("v")}); err != nil {
		t.Fatal(err)
	}
	before, err := s.Get(ctx, "b", "k")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, path, Options{})
	if e, err := s.Get(ctx, "b", "k"); err != nil || string(e.Value) != "v" || e.Revision != before.Revision {
		t.Fatalf("%+v, %v", e, err)
	}
	for _, p := range []string{path, path + ".lock"} {
		if info, err := os.Stat(p); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, %v", p, info.Mode(), err)
		}
	}
}

func TestPitfall44_SecondProcessRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.db")
	open(t, path, Options{})
	for _, shared := range []bool{false, true} {
		if _, err := Open(ctx, path, Options{Shared: shared, Wait: 20 * time.Millisecond}); !errors.Is(err, store.ErrLocked) {
			t.Errorf("shared=%v: %v", shared, err)
		}
	}
}

// Payers share a folder: compare-and-swap holds across processes' connections.
func TestShared(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.db")
	a, b := open(t, path, Options{Shared: true}), open(t, path, Options{Shared: true})
	if err := a.Commit(ctx, store.Op{Bucket: "b", Key: "k", Value: []byte("a")}); err != nil {
		t.Fatal(err)
	}
	e, err := b.Get(ctx, "b", "k")
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Commit(ctx, store.Op{Bucket: "b", Key: "k", Value: []byte("b"), Expect: e.Revision}); err != nil {
		t.Fatal(err)
	}
	if err := a.Commit(ctx, store.Op{Bucket: "b", Key: "k", Value: []byte("x"), Expect: e.Revision}); !errors.Is(err, store.ErrConflict) {
		t.Fatalf("an old revision from the other side: %v", err)
	}
	if _, err := Open(ctx, path, Options{}); !errors.Is(err, store.ErrLocked) {
		t.Fatalf("a provider on a payers' folder: %v", err)
	}
}

func TestDamaged(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s.db")
	if err := os.WriteFile(path, []byte(strings.Repeat("no database ", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(ctx, path, Options{}); !errors.Is(err, store.ErrDamaged) || !strings.Contains(err.Error(), path) {
		t.Fatalf("want ErrDamaged naming the file, got %v", err)
	}
}

// A full database refuses the commit, keeps what it acknowledged, and works on
// once there is room.
func TestPitfall43_FullDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.db")
	s := open(t, path, Options{MaxPages: 64})
	acked := 0
	var err error
	for i := range 1000 {
		if err = s.Commit(ctx, store.Op{Bucket: "b", Key: fmt.Sprintf("%04d", i), Value: make([]byte, 8000)}); err != nil {
			break
		}
		acked++
	}
	if !errors.Is(err, store.ErrFull) || acked == 0 {
		t.Fatalf("after %d commits: %v", acked, err)
	}
	if all, err := s.List(ctx, "b", ""); err != nil || len(all) != acked {
		t.Fatalf("%d entries of %d acknowledged, %v", len(all), acked, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, path, Options{})
	if err := s.Commit(ctx, store.Op{Bucket: "b", Key: "more", Value: make([]byte, 8000)}); err != nil {
		t.Fatalf("with room again: %v", err)
	}
	if all, err := s.List(ctx, "b", ""); err != nil || len(all) != acked+1 {
		t.Fatalf("%d entries of %d, %v", len(all), acked+1, err)
	}
}

// A commit that conflicts does not disturb the ones that share its transaction.
func TestConflictInABatch(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "s.db"), Options{})
	batch := []*pending{
		{[]store.Op{{Bucket: "b", Key: "1", Value: []byte("x")}}, make(chan error, 1)},
		{[]store.Op{{Bucket: "b", Key: "2", Value: []byte("x"), Expect: 7}}, make(chan error, 1)},
		{[]store.Op{{Bucket: "b", Key: "1", Value: []byte("y")}}, make(chan error, 1)},
		{[]store.Op{{Bucket: "b", Key: "3", Value: []byte("x")}}, make(chan error, 1)},
	}
	s.commit(batch)
	for i, want := range []error{nil, store.ErrConflict, store.ErrConflict, nil} {
		if err := <-batch[i].answer; !errors.Is(err, want) || (want == nil) != (err == nil) {
			t.Errorf("commit %d: %v, want %v", i, err, want)
		}
	}
	if all, err := s.List(ctx, "b", ""); err != nil || len(all) != 2 || string(all[0].Value) != "x" {
		t.Errorf("%v, %v", all, err)
	}
}

// child is set in the process that TestPitfall23 kills.
const child = "SPILLWAY_TEST_STORE_CHILD"

func TestMain(m *testing.M) {
	if path := os.Getenv(child); path != "" {
		os.Exit(writeForever(path))
	}
	os.Exit(m.Run())
}

// writeForever commits from several goroutines and tells of each acknowledgement.
func writeForever(path string) int {
	s, err := Open(ctx, path, Options{})
	if err != nil {
		fmt.Println("open:", err)
		return 1
	}
	for w := range 4 {
		go func() {
			for i := 0; ; i++ {
				key := fmt.Sprintf("%d-%06d", w, i)
				if err := s.Commit(ctx, store.Op{Bucket: "b", Key: key, Value: []byte(key), Expect: store.Any}); err != nil {
					fmt.Println("commit:", err)
					os.Exit(1)
				}
				fmt.Println(key)
			}
		}()
	}
	select {}
}

func TestPitfall23_AcknowledgedSurvivesKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.db")
	acked := map[string]bool{}
	for range 5 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), child+"="+path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for limit := 1 + rand.IntN(200); limit > 0 && lines.Scan(); limit-- {
			if strings.Contains(lines.Text(), ":") {
				t.Error(lines.Text())
			}
			acked[lines.Text()] = true
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for lines.Scan() { // acknowledged before the kill, read after it
			acked[lines.Text()] = strings.Count(lines.Text(), "") == 9 || acked[lines.Text()]
		}
		_ = cmd.Wait() // killed, as it should be
		s, err := Open(ctx, path, Options{})
		if err != nil {
			t.Fatalf("after a kill: %v", err)
		}
		for key, whole := range acked {
			if e, err := s.Get(ctx, "b", key); whole && (err != nil || string(e.Value) != key) {
				t.Fatalf("%s was acknowledged and is lost: %v", key, err)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if len(acked) < 10 {
		t.Fatalf("only %d commits were acknowledged", len(acked))
	}
}

func BenchmarkCommit(b *testing.B) {
	for _, writers := range []int{1, 64, 1024} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			s := open(b, filepath.Join(b.TempDir(), "s.db"), Options{})
			b.SetParallelism(max(1, writers/2))
			value := make([]byte, 200)
			b.RunParallel(func(pb *testing.PB) {
				key := fmt.Sprint(rand.Uint64())
				for pb.Next() {
					if err := s.Commit(ctx, store.Op{Bucket: "b", Key: key, Value: value, Expect: store.Any}); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}
