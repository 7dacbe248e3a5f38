package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/spillway/spillway/internal/scenario"
	"github.com/spillway/spillway/script"
)

// scenario plays one story of how somebody cheats or fails, or lists them.
func (a *app) scenario(cmd *cobra.Command, f demoFlags, args []string) error {
	if !a.regtest() {
		return usagef("the demo runs on its own regtest chain, not on %s", a.flags.network)
	}
	if a.chainTyped {
		return usagef("--scenario is played on a chain of its own: it does not go with --chain")
	}
	for _, other := range []string{"chunks", "capacity"} {
		if cmd.Flags().Changed(other) {
			return usagef("--scenario sets its own figures: it does not go with --%s", other)
		}
	}
	if len(args) > 0 {
		return usagef("--scenario sells a file of its own, not %s", args[0])
	}
	if f.scenario == "list" {
		return a.listScenarios()
	}
	kind := ""
	if cmd.Flags().Changed("channel") {
		kind = f.channel
	}
	return a.playScenario(cmd.Context(), f.scenario, script.Construction(kind))
}

func (a *app) listScenarios() error {
	type entry struct {
		Name     string                `json:"name"`
		Title    string                `json:"title"`
		Honest   scenario.Side         `json:"honest"`
		Channels []script.Construction `json:"channels"`
	}
	var all []entry
	for _, s := range scenario.List() {
		all = append(all, entry{s.Name, s.Title, s.Honest, s.Channels})
		kinds := make([]string, len(s.Channels))
		for i, k := range s.Channels {
			kinds[i] = string(k)
		}
		a.out.print("%-34s %s\n%-34s --channel %s", s.Name, s.Title, "", strings.Join(kinds, ", "))
	}
	return a.out.result(map[string]any{"scenarios": all})
}

// playScenario plays a story; one that did not end as it has to is a defect of ours.
func (a *app) playScenario(ctx context.Context, name string, kind script.Construction) error {
	s, err := scenario.Find(name)
	if err != nil {
		return usagef("%v; see --scenario list", err)
	}
	a.out.say("%s: %s", s.Name, s.Title)
	who, err := company()
	if err != nil {
		return err
	}
	r, err := s.PlayApart(ctx, kind, func(line string) { a.out.say("%s", line) }, who)
	if errors.Is(err, scenario.ErrChannel) {
		return usage(err)
	}
	switch {
	case err != nil && ctx.Err() != nil:
		return err
	case err != nil:
		return scenarioFailure(err)
	}
	return a.endScenario(r)
}

// endScenario prints how a story ended. Errors: a failure of exit code 1 where it
// did not end as it has to.
func (a *app) endScenario(r *scenario.Result) error {
	a.tellScenario(r)
	if err := a.out.result(r); err != nil || r.OK {
		return err
	}
	return scenarioFailure(errors.New("it did not end as it has to: " + strings.Join(r.Failed, "; ")))
}

// scenarioFailure is a story that went wrong, whatever went wrong in it: both sides
// are ours.
func scenarioFailure(err error) error {
	return &failure{exit: exitDefect, code: "scenario", message: err.Error(), money: "The coins of this chain are worth nothing.",
		next: "This is a defect of ours: please report the message.", err: err}
}

// tellScenario prints how it ended: the transactions, the chain, and who got what.
func (a *app) tellScenario(r *scenario.Result) {
	a.out.print("%-13s %-9s %-64s %5s %8s  %s", "role", "by", "txid", "vB", "fee sat", "where")
	for txs := r.Transactions; len(txs) > 0; {
		n := alike(txs)
		first, last := txs[0], txs[n-1]
		a.out.print("%-13s %-9s %s %5d %8d  %s", first.Role, person(first.By), first.Txid, first.VSize, first.Fee, where(first))
		switch {
		case n > 1 && replaced(first):
			a.out.print("%-13s %d more, each at a higher rate than the one before, in its place; the last pays %d sat", "", n-1, last.Fee)
		case n > 1:
			a.out.print("%-13s %d more like it", "", n-1)
		}
		txs = txs[n:]
	}
	a.out.print("")
	for _, line := range r.Picture {
		a.out.print("%s", line)
	}
	a.out.print("")
	for _, line := range r.Table() {
		a.out.print("%s", line)
	}
	unpaid := ""
	if r.Credit > 0 {
		unpaid = fmt.Sprintf(", unpaid at most %s of a credit of %s", money(r.Exposure), money(r.Credit))
	}
	a.out.print("\nReleased: %s%s. %s", money(r.Delivered), unpaid, r.Verdict())
}

// alike is how many transactions at the beginning of a list can be told in one line:
// replacements of each other, or the same thing in the same block.
func alike(txs []scenario.Transaction) int {
	n, a := 1, txs[0]
	for ; n < len(txs); n++ {
		b := txs[n]
		same := a.Height != nil && b.Height != nil && *a.Height == *b.Height && a.Fee == b.Fee
		if a.Role != b.Role || a.By != b.By || !same && (!replaced(a) || !replaced(b)) {
			break
		}
	}
	return n
}

// person is what people call a side.
func person(s scenario.Side) string {
	if s == scenario.Payee {
		return "provider"
	}
	return string(s)
}

// replaced reports whether a transaction was taken by nodes and is in no block.
func replaced(t scenario.Transaction) bool { return t.Height == nil && t.Taken }

// where says what became of a transaction.
func where(t scenario.Transaction) string {
	switch {
	case t.Height != nil:
		return fmt.Sprintf("mined at height %d", *t.Height)
	case !t.Taken:
		reason, _, _ := strings.Cut(t.Refused, " (")
		return "refused: " + reason
	}
	return "replaced by another"
}
