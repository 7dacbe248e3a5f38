package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/internal/durable"
	"github.com/spillway/spillway/payer"
	"github.com/spillway/spillway/paywall"
	"github.com/spillway/spillway/store/sqlite"
)

// lookAtStores looks the stores through, page by page and entry by entry.
func (a *app) lookAtStores(ctx context.Context) (all []finding) {
	for _, name := range roles {
		if !a.exists(name) {
			continue
		}
		if err := sqlite.Verify(ctx, a.storePath(name)); err != nil {
			f := failedCheck(name+" store", err)
			f.exit = exitLocal
			all = append(all, f)
			continue
		}
		all = append(all, fine(name+" store", "every entry has its checksum"))
	}
	return all
}

// lookAtChannels says which channels want something soon.
func (a *app) lookAtChannels(ctx context.Context) []finding {
	rows, err := a.channelRows(ctx) // as channels list says it, as the chain stands
	if err != nil {
		return []finding{failedCheck("channels", err)}
	}
	running := false
	if a.exists("payee") {
		_, err := a.listChannels(ctx)
		running = err == nil
	}
	open := 0
	for _, r := range rows {
		if !channel.Phase(r.Phase).Final() {
			open++
		}
	}
	if open == 0 {
		return []finding{fine("channels", "none is open")}
	}
	c, err := a.connect(ctx)
	if err != nil {
		f := failedCheck("channels", err)
		f.exit = exitChain
		return []finding{f}
	}
	tip, err := c.Tip(ctx)
	if err = errors.Join(err, endChain(c)); err != nil {
		f := failedCheck("channels", err)
		f.exit = exitChain
		return []finding{f}
	}
	return judgeChannels(rows, tip, running, a.policy())
}

// soon is how many blocks before an expiry a day's warning is.
const soon = 144

// judgeChannels says which channels want something at this tip. running: a provider runs
// on this folder.
func judgeChannels(rows []row, tip chain.Tip, running bool, p channel.Policy) (all []finding) {
	idle := 0
	for _, r := range rows {
		phase := channel.Phase(r.Phase)
		if phase.Final() {
			continue
		}
		left := r.before() - min(r.before(), tip.Height)
		short := r.ID[:min(len(r.ID), 12)]
		switch {
		case r.Stopped != "":
			all = append(all, wrong("channels", exitLocal, "Keep a copy of the data folder, and report the message: spillway channels show "+r.ID, "%s was stopped: %s", short, r.Stopped))
		case r.Role == "payee" && r.Paid > 0 && left <= p.Margin && !running:
			all = append(all, wrong("channels", exitLocal, "Start it now, and let it run: spillway serve PATH", "%s: %d sat that were paid are not settled, %s are left, and no provider runs", short, r.Paid, blocksText(left)))
		case r.Role == "payee" && r.Paid > 0 && left <= p.Margin+soon && !running:
			all = append(all, warning("channels", "Start it within a day: spillway serve PATH", "%s: %d sat that were paid have to be settled, %s are left, and no provider runs", short, r.Paid, blocksText(left)))
		case r.Role == "payee" && r.Paid > 0 && !running:
			idle++
		case r.Role == "payer" && left == 0 && r.Refundable > 0 && !r.Unsigned && phase != channel.Refunding && r.Closing == "":
			all = append(all, warning("channels", "Take it back: spillway channels refund "+r.ID, "%s has expired with %d sat that are not paid", short, r.Refundable))
		case r.Role == "payer" && left <= soon && left > 0 && r.Refundable > 0 && !r.Unsigned:
			all = append(all, fine("channels", "%s expires in %s; its refund is possible then", short, blocksText(left)))
		}
	}
	if idle > 0 {
		all = append(all, warning("channels", "Let it run: spillway serve PATH", "payments in %s are not settled, and no provider runs that would do it", count(uint64(idle), "channel")))
	}
	if len(all) == 0 {
		all = append(all, fine("channels", "%s, none wants anything within a day", phasesOf(rows)))
	}
	return all
}

// phasesOf counts the channels that are not over by their phases, in the words of channels
// list.
func phasesOf(rows []row) string {
	counts := map[string]int{}
	for _, r := range rows {
		if !channel.Phase(r.Phase).Final() {
			counts[r.Phase]++
		}
	}
	var parts []string
	for _, phase := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%d %s", counts[phase], phase))
	}
	if len(parts) == 0 {
		return "none is open"
	}
	return strings.Join(parts, ", ")
}

// lastBackup remembers, in a provider's folder, when and where it was backed up.
const lastBackup = "last-backup.json"

// backedUp is what is remembered of a backup.
type backedUp struct {
	File string    `json:"file"`
	Made time.Time `json:"made"`
}

// noteBackup remembers a backup of the provider.
func (a *app) noteBackup(file string, at time.Time) error {
	path, err := filepath.Abs(file)
	if err != nil {
		return err
	}
	raw, err := json.Marshal(backedUp{path, at.UTC()})
	if err != nil {
		return err
	}
	return durable.Write(filepath.Join(a.folder("payee"), lastBackup), raw)
}

// Ages of a provider's newest backup.
const (
	backupOld  = 25 * time.Hour // a day, and an hour for whoever does it
	backupDead = 7 * 24 * time.Hour
)

// lookAtBackups says how old the newest backup of a provider is, and whether a payer's
// open channels are exported.
func (a *app) lookAtBackups(now time.Time) (all []finding) {
	if a.exists("payee") {
		all = append(all, a.lookAtBackup(now))
	}
	if a.exists("payer") {
		all = append(all, a.lookAtExports())
	}
	return all
}

func (a *app) lookAtBackup(now time.Time) finding {
	const next = "Back it up, from a timer: spillway backup FILE"
	raw, err := os.ReadFile(filepath.Join(a.folder("payee"), lastBackup))
	if errors.Is(err, fs.ErrNotExist) {
		return warning("backup", next, "the provider was never backed up")
	}
	var last backedUp
	if err == nil {
		err = json.Unmarshal(raw, &last)
	}
	if err != nil {
		return failedCheck("backup", err)
	}
	age := now.Sub(last.Made)
	days := age.Hours() / 24
	if _, err := os.Stat(last.File); errors.Is(err, fs.ErrNotExist) && age < backupOld {
		return fine("backup", "made %.1f days ago; %s is elsewhere by now", days, last.File)
	}
	switch {
	case age > backupDead:
		return wrong("backup", exitLocal, next, "the newest backup of the provider is %.0f days old", days)
	case age > backupOld:
		return warning("backup", next, "the newest backup of the provider is %.1f days old", days)
	}
	return fine("backup", "made %.1f days ago: %s", days, last.File)
}

// lookAtExports says whether each open channel of the payer has its export in the data
// folder.
func (a *app) lookAtExports() finding {
	dir := filepath.Join(a.folder("payer"), exportsFolder)
	r, err := a.openFolder(context.Background(), "payer")
	if err != nil {
		return failedCheck("exports", err)
	}
	rows, err := payerRows(context.Background(), r)
	if err = errors.Join(err, r.Close()); err != nil {
		return failedCheck("exports", err)
	}
	open, missing := 0, 0
	for _, c := range rows {
		phase := channel.Phase(c.Phase)
		if phase.Final() || phase == channel.Prepared || c.Imported {
			continue
		}
		open++
		if _, err := os.Stat(exportPath(dir, c.ID)); err != nil {
			missing++
		}
	}
	switch {
	case missing > 0:
		return warning("exports", "Export them, and keep the files elsewhere: spillway channels export ID -o FILE", "%d of %s that are open have no export in %s", missing, count(uint64(open), "channel"), dir)
	case open > 0:
		return fine("exports", "%s exported to %s; keep a copy elsewhere", count(uint64(open), "open channel")+" "+isAre(open), dir)
	}
	return fine("exports", "no channel is open that would need one")
}

func isAre(n int) string {
	if n == 1 {
		return "is"
	}
	return "are"
}

// lookAtAddress says whether a provider is reached at the address that buyers are given.
func (a *app) lookAtAddress(ctx context.Context, f doctorFlags) []finding {
	if f.url == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	at := paywall.Origin(f.url) + "/openapi.json"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return []finding{failedCheck("address", usage(err))}
	}
	resp, err := paywall.DefaultHTTP().Do(req)
	if err != nil {
		return []finding{wrong("address", exitUnreachable, "Look at --listen, at the proxy in front, the firewall, the port forwarding and DNS.", "%s is not reached: %v", f.url, err)}
	}
	var doc struct {
		OpenAPI string `json:"openapi"`
	}
	read := json.NewDecoder(http.MaxBytesReader(nil, resp.Body, 8<<20)).Decode(&doc)
	if err := resp.Body.Close(); err != nil {
		read = errors.Join(read, err)
	}
	switch {
	case resp.StatusCode != http.StatusOK || read != nil || doc.OpenAPI == "":
		return []finding{wrong("address", exitUnreachable, "Look at what the proxy in front passes on, and to where.", "something answers at %s that is no provider: %s", f.url, resp.Status)}
	case strings.HasPrefix(f.url, "http://") && !loopback(f.url):
		return []finding{warning("address", "Give --tls-cert and --tls-key, or put a proxy with TLS in front.", "%s is reached, without TLS", f.url)}
	}
	return []finding{fine("address", "a provider is reached at %s", f.url)}
}

// payerRows are the channels of a payer's folder.
func payerRows(ctx context.Context, r *role) ([]row, error) {
	records, err := payer.List(ctx, r.store)
	rows := make([]row, len(records))
	for i, rec := range records {
		rows[i] = payerRow(rec)
	}
	return rows, err
}

// loopback reports whether a URL is this machine's own.
func loopback(raw string) bool {
	u, err := url.Parse(raw)
	if err != nil {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
}
