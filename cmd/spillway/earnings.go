package main

import (
	"cmp"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/payee"
)

// earning is a line of earnings; what it is not summed by is empty.
type earning struct {
	Day     string `json:"day,omitempty"`
	File    string `json:"file,omitempty"`
	Channel string `json:"channel,omitempty"`
	Chunks  uint64 `json:"chunks"`
	Msat    uint64 `json:"earned_msat"`
}

func (a *app) earningsCommand() *cobra.Command {
	var by, since string
	var asCSV bool
	cmd := &cobra.Command{
		Use: "earnings", Short: "What a provider earned, by day, file and channel",
		Long: `Sums up what was charged for chunks that were delivered, by day (UTC), by file or by
channel, or all three. What was charged and is not paid yet is named apart. Works
while serve runs, and without it.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !slices.Contains([]string{"day", "file", "channel", "all"}, by) {
				return usagef("--by %q: day, file, channel or all", by)
			}
			if _, err := time.Parse("2006-01-02", since); since != "" && err != nil {
				return usagef("--since %q: a day is wanted, such as 2026-11-21", since)
			}
			if asCSV && a.out.json {
				return usagef("--csv and --json are two forms: give one")
			}
			return a.earnings(cmd.Context(), by, since, asCSV)
		},
	}
	cmd.Flags().StringVar(&by, "by", "day", "sum up by day, file or channel; all: by all three")
	cmd.Flags().StringVar(&since, "since", "", "from this day on, such as 2026-11-21")
	cmd.Flags().BoolVar(&asCSV, "csv", false, "write CSV with day, file, channel, chunks and msat")
	return cmd
}

func (a *app) earnings(ctx context.Context, by, since string, asCSV bool) error {
	all, records, err := a.readEarnings(ctx)
	if err != nil {
		return err
	}
	if asCSV {
		by = "all"
	}
	lines, total := sumEarnings(all, by, since)
	if asCSV {
		return a.earningsCSV(lines)
	}
	var paid, owed uint64
	for _, r := range records {
		if r.Phase != channel.Abandoned && r.Phase != channel.Refunded {
			paid, owed = paid+r.Paid, owed+r.Owed()
		}
	}
	rows := [][]string{}
	for _, l := range lines {
		what := l.Day
		if by != "day" {
			what += " " + l.File + " " + l.Channel
		}
		rows = append(rows, []string{money(l.Msat), count(l.Chunks, "chunk"), printable(what), ""})
	}
	for _, line := range table(rows) {
		a.out.print("%s", line)
	}
	a.out.print("%s earned; in all channels %s paid, %s owed", money(total), money(paid*1000), money(owed))
	return a.out.result(map[string]any{"by": by, "lines": lines, "earned_msat": total, "paid_sat": paid, "owed_msat": owed})
}

// readEarnings asks the provider that runs, else reads its folder.
func (a *app) readEarnings(ctx context.Context) (all []payee.Earned, records []channel.PayeeRecord, err error) {
	err = a.askProvider(ctx, http.MethodGet, "/earnings", &all)
	if err == nil {
		return all, records, a.askProvider(ctx, http.MethodGet, "/channels", &records)
	} else if !errors.Is(err, errNoProvider) || !a.exists("payee") {
		if errors.Is(err, errNoProvider) {
			err = nil // nothing was ever sold here
		}
		return nil, nil, err
	}
	r, err := a.openFolder(ctx, "payee")
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if all, err = payee.Earnings(ctx, r.store, ""); err != nil {
		return nil, nil, err
	}
	records, err = payee.List(ctx, r.store)
	return all, records, err
}

// sumEarnings sums up by what is wanted, from a day on.
func sumEarnings(all []payee.Earned, by, since string) (lines []earning, total uint64) {
	sums := map[earning]*earning{}
	for _, e := range all {
		if e.Day < since {
			continue
		}
		name := e.Name
		if name == "" {
			name = e.Resource
		}
		key := earning{Day: e.Day, File: name, Channel: e.Channel}
		switch by {
		case "day":
			key = earning{Day: e.Day}
		case "file":
			key = earning{File: name}
		case "channel":
			key = earning{Channel: e.Channel}
		}
		if sums[key] == nil {
			line := key
			sums[key] = &line
		}
		sums[key].Chunks, sums[key].Msat = sums[key].Chunks+e.Chunks, sums[key].Msat+e.Msat
		total += e.Msat
	}
	lines = make([]earning, 0, len(sums))
	for _, l := range sums {
		lines = append(lines, *l)
	}
	slices.SortFunc(lines, func(x, y earning) int {
		return cmp.Or(cmp.Compare(x.Day, y.Day), cmp.Compare(x.File, y.File), cmp.Compare(x.Channel, y.Channel))
	})
	return lines, total
}

// earningsCSV writes CSV (RFC 4180). A name that a spreadsheet would take for a
// formula is set behind an apostrophe.
func (a *app) earningsCSV(lines []earning) error {
	w := csv.NewWriter(a.out.stdout)
	err := w.Write([]string{"day", "file", "channel", "chunks", "earned_msat"})
	for _, l := range lines {
		file := l.File
		if file != "" && (file[0] == '=' || file[0] == '+' || file[0] == '-' || file[0] == '@') {
			file = "'" + file
		}
		err = errors.Join(err, w.Write([]string{l.Day, file, l.Channel, strconv.FormatUint(l.Chunks, 10), strconv.FormatUint(l.Msat, 10)}))
	}
	w.Flush()
	if err = errors.Join(err, w.Error()); err != nil {
		return fmt.Errorf("write CSV: %w", err)
	}
	return nil
}
