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
	"strings"
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
	Lost    uint64 `json:"lost_msat,omitempty"` // of it: in channels that are over, never received
}

func (a *app) earningsCommand() *cobra.Command {
	var by, since string
	var asCSV bool
	cmd := &cobra.Command{
		Use: "earnings", Short: "What a provider earned, by day, file and channel",
		Long: `Sums up what was charged for chunks that were delivered, by day (UTC), by file or by
channel, or all three. What was charged and is not paid yet is named apart, and so
is what never came of channels that are over. Works while serve runs, and without it.`,
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
	cmd.Flags().BoolVar(&asCSV, "csv", false, "write CSV with day, file, channel, chunks, msat, what was paid back and what was lost")
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
	Lost  uint64    `json:"lost_msat"`                // of it: charged in channels that are over, and never received
	Paid  uint64    `json:"paid_sat"`                 // in all channels; of those that are over what was mined left, before fees
	Owed  uint64    `json:"owed_msat"`                // charged and not paid in channels that are not over
}

// earningsOf sums up what was charged from a day on, and all that was paid.
func earningsOf(all []payee.Earned, records []channel.PayeeRecord, by, since string) earned {
	e := earned{By: by}
	never := map[string]uint64{}
	for _, r := range records {
		e.Paid += r.Earned()
		if !r.Phase.Final() {
			e.Owed += r.Owed()
		} else if lost := r.Lost(); lost > 0 {
			never[r.Terms.ID()] = lost
		}
	}
	e.Lines, e.Msat, e.Back, e.Lost = sumEarnings(lose(all, never), by, since)
	return e
}

// entry is what was earned, and what never came of it (msat).
type entry struct {
	payee.Earned
	lost uint64
}

// lose lays what never came of each channel (msat) on what was charged in it last.
func lose(all []payee.Earned, never map[string]uint64) []entry {
	entries := make([]entry, len(all))
	for i, e := range all {
		entries[i].Earned = e
	}
	newest := make([]int, len(all))
	for i := range newest {
		newest[i] = i
	}
	slices.SortStableFunc(newest, func(x, y int) int { return cmp.Compare(all[y].Day, all[x].Day) })
	for _, i := range newest {
		e := &entries[i]
		e.lost = min(never[e.Channel], e.Msat-min(e.Msat, e.Back))
		never[e.Channel] -= e.lost
	}
	return entries
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
		if l.Lost > 0 {
			back = strings.TrimPrefix(back+", "+money(l.Lost)+" of it lost", ", ")
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
	if e.Lost > 0 {
		a.out.print("%s of it never came: in channels that ended without it, in the payer's refund or unpaid. spillway channels says which.", money(e.Lost))
	}
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
func sumEarnings(all []entry, by, since string) (lines []earning, total, back, lost uint64) {
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
		sums[key].Back, sums[key].Lost = sums[key].Back+e.Back, sums[key].Lost+e.lost
		total, back, lost = total+e.Msat, back+e.Back, lost+e.lost
	}
	lines = make([]earning, 0, len(sums))
	for _, l := range sums {
		lines = append(lines, *l)
	}
	slices.SortFunc(lines, func(x, y earning) int {
		return cmp.Or(cmp.Compare(x.Day, y.Day), cmp.Compare(x.File, y.File), cmp.Compare(x.Channel, y.Channel))
	})
	return lines, total, back, lost
}

// earningsCSV writes CSV (RFC 4180). A name that a spreadsheet would take for a
// formula is set behind an apostrophe.
func (a *app) earningsCSV(lines []earning) error {
	w := csv.NewWriter(a.out.stdout)
	err := w.Write([]string{"day", "file", "channel", "chunks", "earned_msat", "paid_back_msat", "lost_msat"})
	for _, l := range lines {
		file := l.File
		if file != "" && (file[0] == '=' || file[0] == '+' || file[0] == '-' || file[0] == '@') {
			file = "'" + file
		}
		err = errors.Join(err, w.Write([]string{l.Day, file, l.Channel, strconv.FormatUint(l.Chunks, 10), strconv.FormatUint(l.Msat, 10), strconv.FormatUint(l.Back, 10), strconv.FormatUint(l.Lost, 10)}))
	}
	w.Flush()
	if err = errors.Join(err, w.Error()); err != nil {
		return fmt.Errorf("write CSV: %w", err)
	}
	return nil
}
