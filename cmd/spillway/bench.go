package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/spillway/spillway/internal/bench"
)

// benchFlags are the flags of bench.
type benchFlags struct {
	dir     string
	seconds float64
	rounds  int
}

func (a *app) benchCommand() *cobra.Command {
	var f benchFlags
	cmd := &cobra.Command{
		Use:   "bench [" + strings.Join(bench.Parts(), "|") + "|all]…",
		Short: "Measure what this machine makes of payments",
		Long: `Measures the code that sells and buys on this machine, each figure beside what
bounds it, in rounds that alternate: ratios mean more than rates, on a machine
that does other things too. No money is touched, no chain is asked, and nothing is
left behind. docs/performance.md says what each figure is.`,
		ValidArgs: append(bench.Parts(), "all"),
		Args:      cobra.OnlyValidArgs,
		RunE:      func(cmd *cobra.Command, args []string) error { return a.bench(cmd.Context(), f, args) },
	}
	fl := cmd.Flags()
	fl.StringVar(&f.dir, "dir", "", "folder for stores and files while it runs; its disk is what is measured (default: the system's for temporary files)")
	fl.Float64Var(&f.seconds, "seconds", 1, "about how long each figure is measured")
	fl.IntVar(&f.rounds, "rounds", 5, "alternating rounds, whose median counts")
	return cmd
}

func (a *app) bench(ctx context.Context, f benchFlags, args []string) error {
	if !(f.seconds > 0 && f.seconds <= 3600) || f.rounds < 1 || f.rounds > 1000 {
		return usagef("--seconds is above 0 and at most 3600, --rounds is from 1 to 1000")
	}
	if f.dir != "" {
		if info, err := os.Stat(f.dir); err != nil || !info.IsDir() {
			return usagef("--dir %s is no folder", f.dir)
		}
	}
	if slices.Contains(args, "all") {
		args = nil
	}
	cfg := bench.Config{
		Dir: f.dir, Time: time.Duration(f.seconds * float64(time.Second)), Rounds: f.rounds,
		Say: func(what string) { a.benchProgress("measuring " + what) },
	}
	begin, missed, all := time.Now(), 0, 0
	err := bench.Run(ctx, cfg, args, func(m bench.Figure) error {
		a.benchProgress("")
		a.out.print("%s", m)
		all++
		if m.Missed() {
			missed++
		}
		return a.out.event("figure", m)
	})
	a.benchProgress("")
	if err != nil {
		return err
	}
	a.out.print("%d figures in %s, %s short of what is wanted", all, time.Since(begin).Round(time.Second), count(uint64(missed), "figure"))
	return a.out.result(map[string]any{"figures": all, "short": missed, "seconds": time.Since(begin).Seconds()})
}

// benchProgress tells what is measured: on a terminal in a line that goes away.
func (a *app) benchProgress(what string) {
	switch {
	case a.out.drawn() && what == "":
		fmt.Fprint(a.out.stderr, "\r\x1b[2K")
	case a.out.drawn():
		a.out.redraw(what)
	case what != "" && a.out.verbose:
		a.out.say("%s", what)
	}
}
