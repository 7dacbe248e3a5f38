package sqlite

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"github.com/spillway/spillway/store"
)

// roleOf and pathOf tell this test's program, started again, what to do.
const (
	roleOf = "SPILLWAY_TEST_STORE_ROLE"
	pathOf = "SPILLWAY_TEST_STORE_PATH"
)

func TestMain(m *testing.M) {
	roles := map[string]func(ctx context.Context, path string) error{
		"write": childWrites, "open": childOpens, "count": childCounts, "full": childFillsUp, "nobody": childIsNobody,
		"backup": childBacksUp, "restore": childRestores,
	}
	if run := roles[os.Getenv(roleOf)]; run != nil {
		if err := run(context.Background(), os.Getenv(pathOf)); err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// child is another process with the store at path.
type child struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func start(t *testing.T, role, path string) *child {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), roleOf+"="+role, pathOf+"="+path)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := &child{cmd, in, bufio.NewReader(out)}
	t.Cleanup(func() {
		if c.cmd.ProcessState == nil {
			c.kill(t)
		}
	})
	return c
}

// line reads a whole line; a last one that is cut off does not count.
func (c *child) line() (string, bool) {
	text, err := c.out.ReadString('\n')
	return strings.TrimSuffix(text, "\n"), err == nil
}

// kill ends the child with SIGKILL.
func (c *child) kill(t *testing.T) {
	t.Helper()
	if err := c.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for _, ok := c.line(); ok; {
		_, ok = c.line()
	}
	var exit *exec.ExitError
	if err := c.cmd.Wait(); !errors.As(err, &exit) {
		t.Fatalf("it was not killed: %v", err)
	}
}

// rest reads what a child says until it ends by itself.
func (c *child) rest(t *testing.T) []string {
	t.Helper()
	var lines []string
	for text, ok := c.line(); ok; text, ok = c.line() {
		lines = append(lines, text)
	}
	if err := c.cmd.Wait(); err != nil {
		t.Errorf("%v: %v", lines, err)
	}
	return lines
}

// childOpens opens the store, says how that went, and waits for the end of its
// input.
func childOpens(ctx context.Context, path string) error {
	s, err := Open(ctx, path, Options{})
	if err != nil {
		fmt.Println(errors.Is(err, store.ErrLocked), err)
		return nil
	}
	fmt.Println("opened")
	_, err = io.Copy(io.Discard, os.Stdin)
	return errors.Join(err, s.Close())
}

// childWrites commits from several goroutines, each to its own counter and to a
// new key, and says so after each acknowledgement, until it is killed.
func childWrites(ctx context.Context, path string) error {
	s, err := Open(ctx, path, Options{})
	if err != nil {
		return err
	}
	fmt.Println("opened")
	const writers = 6
	failed := make(chan error, writers)
	for w := range writers {
		go func() {
			counter := fmt.Sprintf("counter/%d", w)
			e, err := s.Get(ctx, "b", counter)
			if err != nil && !errors.Is(err, store.ErrNotFound) {
				failed <- err
				return
			}
			for rev := e.Revision; ; rev++ {
				key := fmt.Sprintf("key/%d/%d", w, rev+1)
				err := s.Commit(ctx, put(counter, strconv.FormatUint(rev+1, 10), rev), put(key, strings.Repeat(key, 20), 0))
				if err != nil {
					failed <- err
					return
				}
				fmt.Printf("%s %d\n", counter, rev+1)
			}
		}()
	}
	return <-failed
}

// childCounts raises one counter of a shared store a hundred times.
func childCounts(ctx context.Context, path string) error {
	s, err := Open(ctx, path, Options{Shared: true})
	if err != nil {
		return err
	}
	const writers = 4
	failed := make(chan error, writers)
	var group sync.WaitGroup
	for range writers {
		group.Go(func() {
			for range 25 {
				if err := raise(ctx, s); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	group.Wait()
	close(failed)
	return errors.Join(<-failed, s.Close())
}

func raise(ctx context.Context, s *Store) error {
	for {
		e, err := s.Get(ctx, "b", "counter")
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		n, err := strconv.Atoi("0" + string(e.Value))
		if err != nil {
			return err
		}
		if err := s.Commit(ctx, put("counter", strconv.Itoa(n+1), e.Revision)); !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
}

// childFillsUp commits until the system lets no file grow any more, then makes
// room and commits again. It says what was acknowledged.
func childFillsUp(ctx context.Context, path string) error {
	s, err := Open(ctx, path, Options{})
	if err != nil {
		return err
	}
	var old syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
		return err
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 1 << 20, Max: old.Max}); err != nil {
		return err
	}
	n := 0
	for ; err == nil && n < 10_000; n++ {
		key := fmt.Sprintf("key/%04d", n)
		if err = s.Commit(ctx, put(key, strings.Repeat(key, 1000), 0)); err == nil {
			fmt.Println("acknowledged", key)
		}
	}
	fmt.Println("refused", err)
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
		return err
	}
	if err := s.Commit(ctx, put("key/after", strings.Repeat("key/after", 1000), 0)); err != nil {
		return err
	}
	fmt.Println("acknowledged key/after")
	return nil // without Close: what was acknowledged is there all the same
}

// childIsNobody opens a store as a user who may not write there.
func childIsNobody(ctx context.Context, path string) error {
	if os.Getuid() == 0 {
		const nobody = 65534
		if err := errors.Join(syscall.Setgroups(nil), syscall.Setgid(nobody), syscall.Setuid(nobody)); err != nil {
			return err
		}
	}
	s, err := Open(ctx, path, Options{})
	if err == nil {
		return errors.Join(errors.New("it was opened"), s.Close())
	}
	fmt.Println(errors.Is(err, store.ErrReadOnly), err)
	return nil
}
