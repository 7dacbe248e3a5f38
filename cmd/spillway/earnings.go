package main

import (
	"cmp"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"net/http"
	"net/url"
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
	Back    uint64 `json:"paid_back_msat,omitempty"`
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
			if err := checkEarnings(by, since); err != nil {
				return err
			}
			if asCSV && a.out.json {
				return usagef("--csv and --json are two forms: give one")
			}
			return a.earnings(cmd.Context(), by, since, asCSV)
		},
	}
	cmd.Flags().StringVar(&by, "by", "day", "sum up by day, file or channel; all: by all three")
	cmd.Flags().StringVar(&since, "since", "", "from this day on, such as 2026-11-21")
	cmd.Flags().BoolVar(&asCSV, "csv", false, "write CSV with day, file, channel, chunks, msat and what was paid back")
	return cmd
}

// checkEarnings refuses what nothing can be summed up by. Errors: of usage.
func checkEarnings(by, since string) error {
	if !slices.Contains([]string{"day", "file", "channel", "all"}, by) {
		return usagef("--by %q: day, file, channel or all", clipped(by))
	}
	if _, err := time.Parse("2006-01-02", since); since != "" && err != nil {
		return usagef("--since %q: a day is wanted, such as 2026-11-21", clipped(since))
	}
	return nil
}

// earned is what a provider earned, and where it stands.
type earned struct {
	By    string    `json:"by"`
	Lines []earning `json:"lines"`
	Msat  uint64    `json:"earned_msat"`
	Back  uint64    `json:"paid_back_msat,omitempty"` // taken off again, or paid back, in duplex channels
	Paid  uint64    `json:"paid_sat"`
	Owed  uint64    `json:"owed_msat"`
}

// earningsOf sums up what was charged from a day on, and all that was paid.
func earningsOf(all []payee.Earned, records []channel.PayeeRecord, by, since string) earned {
	e := earned{By: by}
	e.Lines, e.Msat, e.Back = sumEarnings(all, by, since)
	for _, r := range records {
		if r.Phase != channel.Abandoned && r.Phase != channel.Refunded {
			e.Paid, e.Owed = e.Paid+r.Paid, e.Owed+r.Owed()
		}
	}
	return e
}

func (a *app) earnings(ctx context.Context, by, since string, asCSV bool) error {
	if asCSV {
		by = "all"
	}
	e, err := a.readEarnings(ctx, by, since)
	if err != nil {
		return err
	}
	if asCSV {
		return a.earningsCSV(e.Lines)
	}
	rows := [][]string{}
	for _, l := range e.Lines {
		what := l.Day
		if by != "day" {
			what += " " + l.File + " " + l.Channel
		}
		back := ""
		if l.Back > 0 {
			back = "less " + money(l.Back) + " paid back"
		}
		rows = append(rows, []string{money(l.Msat), count(l.Chunks, "chunk"), printable(what), back})
	}
	for _, line := range table(rows) {
		a.out.print("%s", line)
	}
	back := ""
	if e.Back > 0 {
		back = ", " + money(e.Back) + " of it paid back"
	}
	a.out.print("%s earned%s; in all channels %s paid, %s owed", money(e.Msat), back, money(e.Paid*1000), money(e.Owed))
	return a.out.result(e)
}

// readEarnings asks the provider that runs, else reads its folder.
func (a *app) readEarnings(ctx context.Context, by, since string) (e earned, err error) {
	err = a.askProvider(ctx, http.MethodGet, "/v1/earnings?"+url.Values{"by": {by}, "since": {since}}.Encode(), &e)
	if !errors.Is(err, errNoProvider) {
		return e, err
	}
	if !a.exists("payee") {
		return earningsOf(nil, nil, by, since), nil // nothing was ever sold here
	}
	r, err := a.openFolder(ctx, "payee")
	if err != nil {
		return e, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	all, err := payee.Earnings(ctx, r.store, since)
	if err != nil {
		return e, err
	}
	records, err := payee.List(ctx, r.store)
	return earningsOf(all, records, by, since), err
}

// sumEarnings sums up by what is wanted, from a day on.
func sumEarnings(all []payee.Earned, by, since string) (lines []earning, total, back uint64) {
	sums, names := map[earning]*earning{}, map[string]string{payee.PaidBack: "(paid back)"}
	for _, e := range all {
		if e.Name != "" {
			names[e.Resource] = e.Name
		}
	}
	for _, e := range all {
		if e.Day < since {
			continue
		}
		name := cmp.Or(e.Name, names[e.Resource], e.Resource)
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
		sums[key].Back += e.Back
		total, back = total+e.Msat, back+e.Back
	}
	lines = make([]earning, 0, len(sums))
	for _, l := range sums {
		lines = append(lines, *l)
	}
	slices.SortFunc(lines, func(x, y earning) int {
		return cmp.Or(cmp.Compare(x.Day, y.Day), cmp.Compare(x.File, y.File), cmp.Compare(x.Channel, y.Channel))
	})
	return lines, total, back
}

// earningsCSV writes CSV (RFC 4180). A name that a spreadsheet would take for a
// formula is set behind an apostrophe.
func (a *app) earningsCSV(lines []earning) error {
	w := csv.NewWriter(a.out.stdout)
	err := w.Write([]string{"day", "file", "channel", "chunks", "earned_msat", "paid_back_msat"})
	for _, l := range lines {
		file := l.File
		if file != "" && (file[0] == '=' || file[0] == '+' || file[0] == '-' || file[0] == '@') {
			file = "'" + file
		}
		err = errors.Join(err, w.Write([]string{l.Day, file, l.Channel, strconv.FormatUint(l.Chunks, 10), strconv.FormatUint(l.Msat, 10), strconv.FormatUint(l.Back, 10)}))
	}
	w.Flush()
	if err = errors.Join(err, w.Error()); err != nil {
		return fmt.Errorf("write CSV: %w", err)
	}
	return nil
}
