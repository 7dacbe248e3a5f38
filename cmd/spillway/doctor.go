package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// level is how a finding stands.
type level string

const (
	levelOK   level = "ok"
	levelWarn level = "warn"
	levelBad  level = "bad"
)

// finding is one line of doctor: what was looked at, how it stands, and what to do.
type finding struct {
	Check   string `json:"check"`
	Level   level  `json:"level"`
	Message string `json:"message"`
	Next    string `json:"next,omitempty"`
	exit    int    // of a bad one
}

func fine(check, format string, args ...any) finding {
	return finding{Check: check, Level: levelOK, Message: fmt.Sprintf(format, args...)}
}

func warning(check, next, format string, args ...any) finding {
	return finding{Check: check, Level: levelWarn, Message: fmt.Sprintf(format, args...), Next: next}
}

func wrong(check string, exit int, next, format string, args ...any) finding {
	return finding{Check: check, Level: levelBad, Message: fmt.Sprintf(format, args...), Next: next, exit: exit}
}

// failedCheck is a finding from an error, with the words that any command has for it.
func failedCheck(check string, err error) finding {
	f := explain(err)
	exit := f.exit
	if exit == exitUsage || exit == exitDefect || exit == exitConsent {
		exit = exitLocal
	}
	return wrong(check, exit, f.next, "%s", f.message)
}

// doctorFlags are the flags of doctor.
type doctorFlags struct {
	url     string
	timeout time.Duration
}

func (a *app) doctorCommand() *cobra.Command {
	var f doctorFlags
	cmd := &cobra.Command{
		Use: "doctor", Short: "Look whether this machine is fit to hold channels, and say what to do", Args: cobra.NoArgs,
		Long: `Looks at what channels depend on, and changes nothing: the disk (a real write and
fsync, free space), who may read the data folder and the seeds, the stores, entry by
entry, the blockchains (the right network, how old the newest block is, fees, whether
they agree), the clock, backups and exports, and channels that expire soon. Each line
says ok, warn or bad, and what to do. It ends with 0 where nothing is bad, else with
7 where a blockchain is, 6 where the address at --url is, and 8 for all else.`,
		Example: `  spillway doctor --network signet --chain bitcoind://127.0.0.1
  spillway doctor --url https://shop.example --json`,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.doctor(cmd.Context(), f) },
	}
	cmd.Flags().StringVar(&f.url, "url", "", "address that buyers are given: is a provider reached there?")
	cmd.Flags().DurationVar(&f.timeout, "timeout", 20*time.Second, "how long each blockchain and address is waited for")
	return cmd
}

func (a *app) doctor(ctx context.Context, f doctorFlags) error {
	if f.url != "" {
		if err := checkURL(f.url); err != nil {
			return err
		}
	}
	if f.timeout <= 0 || f.timeout > time.Hour {
		return usagef("--timeout is a time up to an hour, such as 20s")
	}
	if err := a.checkChain(); err != nil {
		return err
	}
	counts, exit := map[level]int{}, exitDone
	tell := func(all ...finding) error {
		for _, x := range all {
			counts[x.Level]++
			if x.Level == levelBad && exit == exitDone {
				exit = x.exit
			}
			if err := a.tellFinding(x); err != nil {
				return err
			}
		}
		return nil
	}
	for _, look := range []func(context.Context) []finding{
		func(context.Context) []finding { return a.lookAtFolder() },
		func(context.Context) []finding { return a.lookAtDisk() },
		a.lookAtStores,
		func(ctx context.Context) []finding { return a.lookAtChains(ctx, f.timeout) },
		a.lookAtChannels,
		func(context.Context) []finding { return a.lookAtBackups(time.Now()) },
		func(ctx context.Context) []finding { return a.lookAtAddress(ctx, f) },
	} {
		if err := tell(look(ctx)...); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	summary := map[string]any{"ok": counts[levelOK], "warn": counts[levelWarn], "bad": counts[levelBad]}
	if exit == exitDone {
		a.out.print("%d ok, %s", counts[levelOK], count(uint64(counts[levelWarn]), "warning"))
		return a.out.result(summary)
	}
	if err := a.out.event("summary", summary); err != nil {
		return err
	}
	return &failure{exit: exit, code: "doctor", message: fmt.Sprintf("%d of %d checks are bad", counts[levelBad], counts[levelBad]+counts[levelWarn]+counts[levelOK]),
		money: "Nothing was paid, locked or changed.", next: "Each line that begins with bad says what to do."}
}

// tellFinding prints one line, and what to do below it.
func (a *app) tellFinding(x finding) error {
	x.Message, x.Next = printable(strings.ReplaceAll(x.Message, "\n", "; ")), printable(x.Next)
	a.out.print("%-4s  %-14s %s", x.Level, x.Check, x.Message)
	if x.Next != "" && x.Level != levelOK {
		a.out.print("      %-14s → %s", "", x.Next)
	}
	return a.out.event("check", x)
}
