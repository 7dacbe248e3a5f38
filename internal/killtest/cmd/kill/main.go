//go:build linux && amd64

// Command kill plays many rounds of internal/killtest and remembers each in a file:
// a run that is stopped or killed goes on when the same command is given again. It
// ends with one JSON line.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spillway/spillway/internal/killtest"
)

type flags struct {
	rounds, workers, only int
	seed                  uint64
	progress, dir, binary string
	limit                 time.Duration
	again                 bool
}

func main() {
	killtest.Shim()
	var f flags
	flag.IntVar(&f.rounds, "rounds", 2000, "how many rounds to play in all")
	flag.IntVar(&f.workers, "workers", 4, "how many at a time")
	flag.IntVar(&f.only, "only", -1, "play only this round of the progress file again, and tell of it")
	flag.BoolVar(&f.again, "failed", false, "play the rounds that failed again, and keep what comes of them")
	flag.Uint64Var(&f.seed, "seed", 1, "shuffles the rounds; a progress file keeps its own")
	flag.StringVar(&f.progress, "progress", "kill.jsonl", "the file that remembers")
	flag.StringVar(&f.dir, "dir", "", "folder on a real disk for the rounds (default: a new one in the system's for temporary files)")
	flag.StringVar(&f.binary, "binary", "", "the spillway to play with (default: built from this module)")
	flag.DurationVar(&f.limit, "limit", 0, "stop after this long; 0: play all")
	flag.Parse()
	code, err := run(f)
	if err != nil {
		fmt.Fprintln(os.Stderr, "kill:", err)
		code = 1
	}
	os.Exit(code)
}

func run(f flags) (code int, err error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if f.dir == "" {
		if f.dir, err = os.MkdirTemp("", "spillway-kill-"); err != nil {
			return 1, err
		}
		defer func() { err = errors.Join(err, removeEmpty(f.dir)) }()
	}
	stand, err := killtest.NewStand(ctx, f.dir, f.binary)
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, stand.Close()) }()
	session, err := stand.Measure(ctx) // also learns the minimum charge
	if err != nil {
		return 1, err
	}
	p, err := killtest.OpenProgress(f.progress, f.seed)
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	if p.Session == nil {
		if err := p.Begin(session); err != nil {
			return 1, err
		}
	}
	if f.limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, f.limit)
		defer cancel()
	}
	return play(ctx, f, stand, p)
}

func play(ctx context.Context, f flags, stand *killtest.Stand, p *killtest.Progress) (int, error) {
	rounds := p.Session.Rounds(f.rounds, p.Seed)
	if f.only >= 0 {
		if f.only >= len(rounds) {
			return 2, fmt.Errorf("there are only %d rounds", len(rounds))
		}
		out := stand.Play(ctx, p.Round(rounds, f.only))
		return verdict(out.Error == ""), show(os.Stdout, out)
	}
	left := p.Left(rounds)
	if f.again {
		left = p.Failed()
	}
	err := stand.Run(ctx, left, f.workers, func(o killtest.Outcome) error {
		if o.Error != "" {
			fmt.Fprintf(os.Stderr, "round %d: %s\n", o.Number, o.Error)
		}
		return p.Add(o)
	})
	if err != nil {
		return 1, err
	}
	sum := killtest.Sum(p.Newest())
	return verdict(sum.Failed == 0 && (ctx.Err() == nil || f.limit > 0)), show(os.Stdout, sum)
}

func show(to *os.File, v any) error { return json.NewEncoder(to).Encode(v) }

func verdict(ok bool) int {
	if ok {
		return 0
	}
	return 1
}

// removeEmpty removes the folder unless a round that failed is kept in it.
func removeEmpty(dir string) error {
	kept, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range kept {
		if e.IsDir() && e.Name() != "devnet" {
			return nil
		}
	}
	return os.RemoveAll(dir)
}
