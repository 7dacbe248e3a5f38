package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/spillway/spillway/content"
	"github.com/spillway/spillway/paywall"
)

// shownFile is a file of a provider's catalogue, as ls prints it.
type shownFile struct {
	Name       string `json:"name"`
	Size       uint64 `json:"size"`
	Root       string `json:"root"`
	URL        string `json:"url"`
	ChunkBytes uint64 `json:"chunk_bytes"`
	Chunks     uint64 `json:"chunks"`
	ChunkMsat  uint64 `json:"chunk_msat"`
	LastMsat   uint64 `json:"last_chunk_msat"`
	TotalMsat  uint64 `json:"total_msat"`
	FreeBytes  uint64 `json:"free_bytes"` // at the beginning of the file
}

// shownFolder is a folder and what is in it, with all folders below.
type shownFolder struct {
	Name      string `json:"name"`
	URL       string `json:"url"`
	Files     uint64 `json:"files"`
	Size      uint64 `json:"size"`
	TotalMsat uint64 `json:"total_msat"`
}

// shownPrepared is a file that its provider is still reading.
type shownPrepared struct {
	Name string `json:"name"`
	Size uint64 `json:"size"`
}

// shownList is the answer of ls.
type shownList struct {
	URL       string          `json:"url"`
	Provider  string          `json:"provider"`
	Network   string          `json:"network,omitempty"`
	Channels  []string        `json:"channel_types,omitempty"`
	Complete  bool            `json:"complete"`
	Folders   []shownFolder   `json:"folders"`
	Files     []shownFile     `json:"files"`
	Preparing []shownPrepared `json:"preparing,omitempty"` // not offered yet
	Count     uint64          `json:"count"`               // files in all, those in folders with them
	Size      uint64          `json:"size"`
	TotalMsat uint64          `json:"total_msat"`
}

func (a *app) lsCommand() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use: "ls URL", Short: "A provider's catalogue: names, sizes, prices",
		Long: `Lists what a provider offers at a URL: a folder with the sums of its folders, or
one file. Prices are those of the whole file, and of a chunk. Nothing is paid, no
wallet is opened and no blockchain is asked.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			list, err := look(cmd.Context(), args[0], all)
			if err != nil {
				return err
			}
			return a.printList(list)
		},
	}
	cmd.Flags().BoolVarP(&all, "recursive", "r", false, "list every file below, not only folders' sums")
	return cmd
}

// look asks a provider for a folder's catalogue or a file's manifest. A URL without
// a slash at its end is a file, or else a folder. Errors: those of paywall.Get,
// paywall.ErrNotProvider, paywall.ErrMisbehaved.
func look(ctx context.Context, target string, all bool) (*shownList, error) {
	if err := checkURL(target); err != nil {
		return nil, err
	}
	u, err := url.Parse(target)
	if err != nil {
		return nil, usage(err)
	}
	u.RawQuery, u.Fragment, u.RawFragment = "", "", ""
	if isFolder(u.String()) {
		return lookFolder(ctx, u, all)
	}
	list, err := lookFile(ctx, *u)
	var refused *paywall.RefusedError
	if errors.As(err, &refused) && refused.Status == http.StatusNotFound {
		u.Path, u.RawPath = u.Path+"/", ""
		if folder, failed := lookFolder(ctx, u, all); failed == nil {
			return folder, nil
		}
	}
	return list, err
}

func lookFile(ctx context.Context, u url.URL) (*shownList, error) {
	u.RawQuery = "manifest"
	raw, at, err := paywall.Get(ctx, nil, u.String(), nil, content.MaxManifestBytes)
	if err != nil {
		return nil, err
	}
	var m content.Manifest
	if err := m.UnmarshalJSON(raw); err != nil {
		return nil, fmt.Errorf("%w: %w", paywall.ErrNotProvider, err)
	}
	if err := m.Verify(); err != nil {
		return nil, fmt.Errorf("%w: %w", paywall.ErrMisbehaved, err)
	}
	at = strings.TrimSuffix(at, "?manifest")
	file := shownFile{
		Name: m.Name, Size: m.Size, Root: m.Root.String(), URL: at, ChunkBytes: m.ChunkBytes, Chunks: m.Chunks(),
		ChunkMsat: m.ChunkMsat, LastMsat: m.LastChunkMsat, TotalMsat: m.TotalMsat(), FreeBytes: m.FreeBytes(),
	}
	return &shownList{
		URL: at, Provider: m.Provider.String(), Complete: true, Folders: []shownFolder{}, Files: []shownFile{file},
		Count: 1, Size: m.Size, TotalMsat: m.TotalMsat(),
	}, nil
}

func lookFolder(ctx context.Context, u *url.URL, all bool) (*shownList, error) {
	raw, at, err := paywall.Get(ctx, nil, u.String(), http.Header{"Accept": {"application/json"}}, maxCatalogue)
	if err != nil {
		return nil, err
	}
	list := &shownList{}
	if err := json.Unmarshal(raw, list); err != nil || list.Provider == "" {
		return nil, fmt.Errorf("%w: %s is no catalogue", paywall.ErrNotProvider, at)
	}
	where, err := url.Parse(at)
	if err != nil {
		return nil, err
	}
	list.URL = at
	return list, list.arrange(strings.TrimPrefix(where.Path, "/"), all)
}

// arrange checks the files of a catalogue, which are the provider's word, sums them
// up, and puts what lies in folders below into their lines. below is the folder that
// was asked for, with its slash. Errors: paywall.ErrMisbehaved.
func (l *shownList) arrange(below string, all bool) error {
	origin := paywall.Origin(l.URL)
	folders, here := map[string]*shownFolder{}, []shownFile{}
	for _, f := range l.Files {
		rest, ok := strings.CutPrefix(f.Name, below)
		if err := content.CheckName(f.Name); err != nil || !ok {
			return fmt.Errorf("%w: its catalogue of /%s lists %.200q", paywall.ErrMisbehaved, below, f.Name)
		}
		f.URL = origin + (&url.URL{Path: "/" + f.Name}).EscapedPath()
		l.Count, l.Size, l.TotalMsat = l.Count+1, plus(l.Size, f.Size), plus(l.TotalMsat, f.TotalMsat)
		name, _, inside := strings.Cut(rest, "/")
		if all || !inside {
			here = append(here, f)
			continue
		}
		d := folders[name]
		if d == nil {
			d = &shownFolder{Name: below + name + "/", URL: origin + (&url.URL{Path: "/" + below + name + "/"}).EscapedPath()}
			folders[name] = d
		}
		d.Files, d.Size, d.TotalMsat = d.Files+1, plus(d.Size, f.Size), plus(d.TotalMsat, f.TotalMsat)
	}
	l.Files, l.Folders = here, []shownFolder{}
	l.Preparing = slices.DeleteFunc(l.Preparing, func(f shownPrepared) bool { return content.CheckName(f.Name) != nil })
	for _, d := range folders {
		l.Folders = append(l.Folders, *d)
	}
	slices.SortFunc(l.Folders, func(x, y shownFolder) int { return cmp.Compare(x.Name, y.Name) })
	slices.SortFunc(l.Files, func(x, y shownFile) int { return cmp.Compare(x.Name, y.Name) })
	return nil
}

// plus adds what a provider says, up to the most that can be said.
func plus(a, b uint64) uint64 {
	if a+b < a {
		return ^uint64(0)
	}
	return a + b
}

// price says what a file costs: in all, and how that is divided.
func (f shownFile) price() (whole, detail string) {
	switch {
	case f.TotalMsat == 0:
		return "free", ""
	case f.Chunks == 1:
		detail = "1 chunk"
	default:
		detail = fmt.Sprintf("%s of %s, %s each", count(f.Chunks, "chunk"), size(f.ChunkBytes), money(f.ChunkMsat))
	}
	if f.FreeBytes > 0 {
		detail += fmt.Sprintf("; the first %s are free", size(f.FreeBytes))
	}
	return money(f.TotalMsat), detail
}

// printList prints a catalogue as a table.
func (a *app) printList(l *shownList) error {
	rows := [][]string{}
	for _, d := range l.Folders {
		whole := "free"
		if d.TotalMsat > 0 {
			whole = money(d.TotalMsat)
		}
		rows = append(rows, []string{size(d.Size), whole, d.Name, count(d.Files, "file")})
	}
	for _, f := range l.Files {
		whole, detail := f.price()
		rows = append(rows, []string{size(f.Size), whole, f.Name, detail})
	}
	for _, f := range l.Preparing {
		rows = append(rows, []string{size(f.Size), "–", printable(f.Name), "being prepared"})
	}
	on := ""
	if l.Network != "" {
		on = ", on " + l.Network
	}
	a.out.print("%s  provider %.16s…%s", l.URL, l.Provider, on)
	for _, line := range table(rows) {
		a.out.print("%s", line)
	}
	if len(rows) == 0 {
		a.out.print("  nothing is offered here")
	} else if len(rows) > 1 {
		a.out.print("%s in all, %s for everything", size(l.Size), money(l.TotalMsat))
	}
	if len(l.Channels) > 0 {
		a.out.print("channels: %s", printable(strings.Join(l.Channels, ", ")))
	}
	if !l.Complete || len(l.Preparing) > 0 {
		a.out.say("The provider is still reading its files: more may come.")
	}
	return a.out.result(l)
}

// table sets rows of two numbers, a name and a remark in columns.
func table(rows [][]string) []string {
	var wide [3]int
	for _, r := range rows {
		for i := range wide {
			wide[i] = max(wide[i], utf8.RuneCountInString(r[i]))
		}
	}
	lines := make([]string, 0, len(rows))
	for _, r := range rows {
		lines = append(lines, strings.TrimRight(fmt.Sprintf("  %*s  %*s  %-*s  %s", wide[0], r[0], wide[1], r[1], wide[2], r[2], r[3]), " "))
	}
	return lines
}

// printable leaves out what could control a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return -1
		}
		return r
	}, s)
}
