//go:build linux && amd64

package killtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/btcsuite/btcd/chaincfg/v2"

	"github.com/spillway/spillway/chain/esplora"
)

// Bounds of waiting. Nothing takes as long unless it hangs.
const (
	startLimit  = 60 * time.Second
	getLimit    = 120 * time.Second
	booksLimit  = 60 * time.Second
	quitGrace   = 5 * time.Second
	pollEvery   = 100 * time.Millisecond
	tmpfsMagic  = 0x01021994
	buildLimit  = 5 * time.Minute
	devnetBlock = "10s"
)

func after(d time.Duration) <-chan time.Time { return time.After(d) }

// Stand is a built binary and a devnet that runs, for any number of rounds.
type Stand struct {
	Dir    string // on a real disk
	Binary string

	devnet  *process
	chain   *esplora.Client
	url     string
	minimum uint64 // sat, the charge of a taproot channel that the provider asks for at the least
}

// OnDisk refuses a folder that is memory, not a disk.
func OnDisk(dir string) error {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	if fs.Type == tmpfsMagic {
		return fmt.Errorf("%s is memory, not a disk", dir)
	}
	return nil
}

// NewStand builds the shipping binary, unless one is given, and starts a devnet.
// dir must be on a disk: a memory file system is refused.
func NewStand(ctx context.Context, dir, binary string) (_ *Stand, err error) {
	if err := OnDisk(dir); err != nil {
		return nil, err
	}
	s := &Stand{Dir: dir, Binary: binary}
	if binary == "" {
		if s.Binary, err = Build(ctx, dir); err != nil {
			return nil, err
		}
	}
	argv := []string{s.Binary, "devnet", "--memory", "--listen", "127.0.0.1:0", "--every", devnetBlock, "--json", "--data", filepath.Join(dir, "devnet")}
	if s.devnet, err = spawn(&trace{}, argv, environment(dir), false); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	up, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	l, err := s.devnet.await(up, "devnet")
	if err != nil {
		return nil, fmt.Errorf("devnet: %w\n%s", err, s.devnet.said())
	}
	s.url = l.text("url")
	s.chain, err = esplora.New(esplora.Config{URL: s.url, Network: &chaincfg.RegressionNetParams})
	return s, err
}

// Close ends the devnet. It was alive until now, or that is the error.
func (s *Stand) Close() error {
	var failed []error
	if s.chain != nil {
		failed = append(failed, s.chain.Close())
	}
	if !s.devnet.alive() {
		failed = append(failed, fmt.Errorf("the devnet ended by itself (%d)\n%s", s.devnet.code(), s.devnet.said()))
	}
	return errors.Join(append(failed, s.devnet.kill())...)
}

// Build builds the command that ships and returns its path in dir.
func Build(ctx context.Context, dir string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, buildLimit)
	defer cancel()
	path := filepath.Join(dir, "spillway")
	out, err := exec.CommandContext(ctx, "go", "build", "-o", path, "github.com/spillway/spillway/cmd/spillway").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("building spillway: %w\n%s", err, out)
	}
	return path, nil
}

// environment is what every process of a round sees: nothing of the user's.
func environment(home string) []string {
	return []string{"HOME=" + home, "PATH=" + os.Getenv("PATH"), "TMPDIR=" + home, "LANG=C.UTF-8"}
}

// ask runs a command that only looks, without trace, and returns its result.
func (r *round) ask(ctx context.Context, args ...string) (line, error) {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, r.stand.Binary, append(args, r.common()...)...)
	cmd.Env = environment(r.dir)
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w: %s%s", err, exit.Stderr, out)
		}
		return nil, fmt.Errorf("spillway %s: %w", strings.Join(args, " "), err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	var l line
	d := json.NewDecoder(strings.NewReader(lines[len(lines)-1]))
	d.UseNumber()
	return l, d.Decode(&l)
}
