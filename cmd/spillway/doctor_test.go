package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/chainhash/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/script"
)

// doctorSays runs doctor and returns its findings.
func doctorSays(t *testing.T, data string, args ...string) (exit int, all []finding, last map[string]any) {
	t.Helper()
	var out, said bytes.Buffer
	exit = runUntil(t.Context(), append([]string{"doctor", "--json", "--data", data}, args...), strings.NewReader(""), &out, &said)
	for line := range strings.Lines(out.String()) {
		last = map[string]any{}
		if err := json.Unmarshal([]byte(line), &last); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if last["type"] == "check" {
			var x finding
			if err := json.Unmarshal([]byte(line), &x); err != nil {
				t.Fatal(err)
			}
			all = append(all, x)
		}
	}
	return exit, all, last
}

// has wants one finding of a check and level that says something, with what to do where
// it is not fine.
func has(t *testing.T, all []finding, check string, l level, says string) {
	t.Helper()
	for _, x := range all {
		if x.Level != levelOK && len(x.Next) < 8 {
			t.Errorf("%+v says not what to do", x)
		}
	}
	if !slices.ContainsFunc(all, func(x finding) bool { return x.Check == check && x.Level == l && strings.Contains(x.Message, says) }) {
		t.Errorf("no %s of %s that says %q in %+v", l, check, says, all)
	}
}

// TestDoctor: on a machine that is fit nothing is bad, and each thing that is then broken
// is found, by the check that is for it, with its exit code; nothing is ever changed.
func TestDoctor(t *testing.T) {
	d := devnetOf(t)
	data := t.TempDir()
	run := func(args ...string) {
		t.Helper()
		var out, said bytes.Buffer
		if exit := runUntil(t.Context(), append(args, "--data", data, "--chain", d), strings.NewReader(""), &out, &said); exit != exitDone {
			t.Fatalf("%v: exit %d: %s", args, exit, said.String())
		}
	}
	if exit, all, _ := doctorSays(t, filepath.Join(data, "none"), "--chain", d); exit != exitDone {
		t.Errorf("on nothing: exit %d", exit)
	} else if _, err := os.Stat(filepath.Join(data, "none")); err == nil {
		t.Error("it made the data folder")
	} else {
		has(t, all, "folder", levelWarn, "there is nothing in")
	}
	run("wallet", "balance")
	run("wallet", "balance", "--provider")
	exit, all, last := doctorSays(t, data, "--chain", d)
	if exit != exitDone || last["type"] != "result" || last["bad"] != 0.0 {
		t.Fatalf("exit %d, %v: %+v", exit, last, all)
	}
	for _, check := range []string{"payer folder", "payee folder", "disk", "space", "payer store", "payee store", "chain", "fees", "clock", "channels", "exports"} {
		has(t, all, check, levelOK, "")
	}
	has(t, all, "backup", levelWarn, "never backed up")
	run("backup", filepath.Join(t.TempDir(), "one"))
	_, all, _ = doctorSays(t, data, "--chain", d)
	has(t, all, "backup", levelOK, "0.0 days ago")

	for _, c := range []struct {
		what        string
		do          func(dir string) error
		args        []string
		check, says string
		exit        int
	}{
		{"a seed that others may read", func(dir string) error { return os.Chmod(filepath.Join(dir, "seed"), 0o644) }, nil, "payer folder", "may be read by others", exitLocal},
		{"a store that others may read", func(dir string) error { return os.Chmod(filepath.Join(dir, "spillway.db"), 0o640) }, nil, "payer folder", "mode 0640", exitLocal},
		{"a folder that others may enter", func(dir string) error { return os.Chmod(dir, 0o755) }, nil, "payer folder", "mode 0755", exitLocal},
		{"no seed", func(dir string) error { return os.Remove(filepath.Join(dir, "seed")) }, nil, "payer seed", "no seed", exitLocal},
		{"a damaged store", damageStore, nil, "payer store", "", exitLocal},
		{"no blockchain", nil, []string{"--chain", "http://127.0.0.1:1"}, "chain", "cannot be asked", exitChain},
		{"another network's", nil, []string{"--chain", standIn(t, d, &chaincfg.SigNetParams)}, "chain", "follows another network", exitChain},
		{"nobody at the address", nil, []string{"--chain", d, "--url", "http://127.0.0.1:1/"}, "address", "is not reached", exitUnreachable},
		{"somebody else at the address", nil, []string{"--chain", d, "--url", d}, "address", "is no provider", exitUnreachable},
	} {
		copied := filepath.Join(t.TempDir(), "data")
		if err := os.CopyFS(copied, os.DirFS(data)); err != nil {
			t.Fatal(err)
		}
		tidy(t, copied)
		if c.do != nil {
			if err := c.do(filepath.Join(copied, "payer", "regtest")); err != nil {
				t.Fatal(err)
			}
		}
		if c.args == nil {
			c.args = []string{"--chain", d}
		}
		exit, all, last := doctorSays(t, copied, c.args...)
		if exit != c.exit || last["type"] != "error" || last["code"] != "doctor" {
			t.Errorf("%s: exit %d, want %d: %v", c.what, exit, c.exit, last)
		}
		has(t, all, c.check, levelBad, c.says)
	}
}

// tidy gives a copied folder the modes that it had.
func tidy(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return errors.Join(err, os.Chmod(path, 0o700))
		}
		return os.Chmod(path, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// damageStore flips bytes in the middle of a store's last page.
func damageStore(dir string) error {
	path := filepath.Join(dir, "spillway.db")
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	at := bytes.Index(raw, []byte("regtest "))
	if at < 0 {
		return errors.New("the seed's mark is not in the store")
	}
	raw[at+10] ^= 1
	return os.WriteFile(path, raw, 0o600)
}

func devnetOf(t *testing.T) string {
	t.Helper()
	a := &app{out: newOutput(&bytes.Buffer{}, &bytes.Buffer{})}
	a.out.quiet = true
	d, err := a.startDevnet("", "127.0.0.1:0", 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d.url
}

// What a disk can be.
func TestDoctorDisk(t *testing.T) {
	good := diskState{sync: time.Millisecond, free: 5 << 30, files: 1e6, all: 2e6}
	for name, c := range map[string]struct {
		change func(*diskState)
		check  string
		level  level
		says   string
	}{
		"fit":               {func(*diskState) {}, "disk", levelOK, "synced"},
		"read-only":         {func(s *diskState) { s.err = os.ErrPermission }, "disk", levelBad, "permission denied"},
		"slow":              {func(s *diskState) { s.sync = time.Second }, "disk", levelWarn, "takes 1s"},
		"dead":              {func(s *diskState) { s.sync = 6 * time.Second }, "disk", levelBad, "takes 6s"},
		"low":               {func(s *diskState) { s.free = 500 << 20 }, "space", levelWarn, "500.0 MiB are free"},
		"full":              {func(s *diskState) { s.free = 50 << 20 }, "space", levelBad, "50.0 MiB are free"},
		"no files left":     {func(s *diskState) { s.files = 3 }, "space", levelBad, "3 files are left"},
		"no number of them": {func(s *diskState) { s.files, s.all = 0, 0 }, "space", levelOK, "5.0 GiB"},
		"memory":            {func(s *diskState) { s.memory = true }, "disk", levelWarn, "lies in memory"},
	} {
		s := good
		c.change(&s)
		t.Run(name, func(t *testing.T) { has(t, judgeDisk("/data", s), c.check, c.level, c.says) })
	}
	dir := t.TempDir()
	if s := measureDisk(dir); s.err != nil || s.free == 0 || s.sync <= 0 {
		t.Errorf("%+v", s)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("%v is left behind, %v", left, err)
	}
	if err := writeAndRead(filepath.Join(dir, "none")); err == nil {
		t.Error("written to a folder that is not there")
	}
}

// What blockchains can be, one by one and together.
func TestDoctorChains(t *testing.T) {
	now := time.Now()
	one := func() chainSeen {
		return chainSeen{
			name: "one", tip: chain.Tip{Height: 100, Time: now}, hashes: map[uint32]chainhash.Hash{98: {8}, 99: {9}, 100: {10}},
			can: chain.Capabilities{Mempool: true, FeeEstimates: true}, rates: map[int]script.FeeRate{1: 5_000, 3: 4_000, 6: 3_000, 144: 1_000},
		}
	}
	two := func() chainSeen { s := one(); s.name = "two"; return s }
	a := &app{out: newOutput(&bytes.Buffer{}, &bytes.Buffer{})}
	a.flags.network, a.flags.data = "signet", t.TempDir()
	for name, c := range map[string]struct {
		say   func() []finding
		check string
		level level
		says  string
	}{
		"fit":         {func() []finding { return a.judgeChain(one()) }, "fees", levelOK, "5.000 sat/vB"},
		"stale":       {func() []finding { s := one(); s.err = &chain.StaleError{Age: 5 * time.Hour}; return a.judgeChain(s) }, "chain", levelBad, "5h0m0s old"},
		"cut off":     {func() []finding { s := one(); s.health = &chain.Health{}; return a.judgeChain(s) }, "chain", levelWarn, "no peer"},
		"no estimate": {func() []finding { s := one(); s.rated = chain.ErrUnavailable; return a.judgeChain(s) }, "fees", levelWarn, "cannot be asked"},
		"fixed fees":  {func() []finding { s := one(); s.can.FeeEstimates = false; return a.judgeChain(s) }, "fees", levelWarn, "fixed ones"},
		"dear":        {func() []finding { s := one(); s.rates[1] = 300_000; return a.judgeChain(s) }, "fees", levelWarn, "300.000 sat/vB"},
		"senseless":   {func() []finding { s := one(); s.rates[1] = chain.MaxFeeRate; return a.judgeChain(s) }, "fees", levelWarn, "the most that is believed"},
		"upside down": {func() []finding { s := one(); s.rates[144] = 9_000; return a.judgeChain(s) }, "fees", levelWarn, "for a day"},
		"agree":       {func() []finding { return judgeAgreement([]chainSeen{one(), two()}) }, "agreement", levelOK, "agree at height 100"},
		"one block behind": {func() []finding {
			s := two()
			s.tip.Height = 99
			return judgeAgreement([]chainSeen{one(), s})
		}, "agreement", levelOK, "agree at height 99"},
		"behind": {func() []finding {
			s := two()
			s.tip.Height = 90
			return judgeAgreement([]chainSeen{one(), s})
		}, "agreement", levelWarn, "two is 10 blocks behind one"},
		"split": {func() []finding {
			s := two()
			s.hashes = map[uint32]chainhash.Hash{100: {7}}
			return judgeAgreement([]chainSeen{one(), s})
		}, "agreement", levelBad, "different blocks at height 100"},
		"a good clock": {func() []finding { s := one(); s.timed = true; return judgeClock([]chainSeen{s}, now, false) }, "clock", levelOK, "within 1s"},
		"a minute ahead": {func() []finding {
			s := one()
			s.timed, s.clock = true, -time.Minute
			return judgeClock([]chainSeen{s}, now, false)
		}, "clock", levelWarn, "1m0s ahead of that of one"},
		"an hour behind": {func() []finding {
			s := one()
			s.timed, s.clock = true, time.Hour
			return judgeClock([]chainSeen{s}, now, false)
		}, "clock", levelBad, "1h0m0s behind that of one"},
		"a day behind the blocks": {func() []finding {
			return judgeClock([]chainSeen{one()}, now.Add(-24*time.Hour), false)
		}, "clock", levelBad, "24h0m0s ahead of this clock"},
		"nobody to compare with": {func() []finding {
			s := one()
			s.err = chain.ErrUnavailable
			return judgeClock([]chainSeen{s}, now, false)
		}, "clock", levelWarn, "no blockchain"},
		"the blocks alone": {func() []finding { return judgeClock([]chainSeen{one()}, now, false) }, "clock", levelOK, "newest block"},
	} {
		t.Run(name, func(t *testing.T) { has(t, c.say(), c.check, c.level, c.says) })
	}
	a.flags.network = "mainnet"
	s := one()
	s.rated = chain.ErrUnavailable
	has(t, a.judgeChain(s), "fees", levelBad, "cannot be asked")
	late := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Date", now.Add(time.Hour).UTC().Format(http.TimeFormat))
	}))
	defer late.Close()
	if off, ok := dateOf(t.Context(), late.URL); !ok || off < 59*time.Minute || off > 61*time.Minute {
		t.Errorf("%v, %v", off, ok)
	}
	if _, ok := dateOf(t.Context(), "bitcoind://127.0.0.1"); ok {
		t.Error("a date of no HTTP server")
	}
}

// What channels can want.
func TestDoctorChannels(t *testing.T) {
	p := channel.DefaultPolicy("signet")
	tip := chain.Tip{Height: 1_000}
	paid := row{ID: strings.Repeat("a", 64) + ":0", Role: "payee", Phase: "open", Paid: 500, Expiry: 2_000}
	mine := row{ID: strings.Repeat("b", 64) + ":0", Role: "payer", Phase: "open", Refundable: 700, Expiry: 2_000}
	for name, c := range map[string]struct {
		row     row
		change  func(*row)
		running bool
		level   level
		says    string
	}{
		"nothing soon":         {paid, func(*row) {}, true, levelOK, "1 open, none wants anything"},
		"no provider runs":     {paid, func(*row) {}, false, levelWarn, "payments in 1 channel are not settled"},
		"within a day":         {paid, func(r *row) { r.Expiry = 1_100 }, false, levelWarn, "100 blocks"},
		"inside the margin":    {paid, func(r *row) { r.Expiry = 1_036 }, false, levelBad, "no provider runs"},
		"an older state":       {paid, func(r *row) { r.Until = 1_036 }, false, levelBad, "36 blocks"},
		"it runs":              {paid, func(r *row) { r.Expiry = 1_036 }, true, levelOK, "none wants"},
		"over":                 {paid, func(r *row) { r.Expiry, r.Phase = 1_036, "closed" }, false, levelOK, "none is open"},
		"stopped":              {paid, func(r *row) { r.Stopped = "signed-fell" }, true, levelBad, "signed-fell"},
		"expired":              {mine, func(r *row) { r.Expiry = 1_000 }, false, levelWarn, "expired with 700 sat"},
		"refunding":            {mine, func(r *row) { r.Expiry, r.Phase = 1_000, "refunding" }, false, levelOK, "none wants"},
		"expires soon":         {mine, func(r *row) { r.Expiry = 1_010 }, false, levelOK, "10 blocks"},
		"of another wallet":    {mine, func(r *row) { r.Expiry, r.Unsigned = 1_000, true }, false, levelOK, "none wants"},
		"closing":              {mine, func(r *row) { r.Phase = "closing" }, false, levelOK, "1 closing, none wants anything"},
		"far from its end yet": {mine, func(*row) {}, false, levelOK, "1 open"},
	} {
		r := c.row
		c.change(&r)
		t.Run(name, func(t *testing.T) { has(t, judgeChannels([]row{r}, tip, c.running, p), "channels", c.level, c.says) })
	}
}

// How old backups can be, and which channels lack an export.
func TestDoctorBackups(t *testing.T) {
	d := devnetOf(t)
	data := t.TempDir()
	for _, args := range [][]string{{"wallet", "balance"}, {"wallet", "balance", "--provider"}} {
		if exit := runUntil(t.Context(), append(args, "--data", data, "--chain", d), strings.NewReader(""), &bytes.Buffer{}, &bytes.Buffer{}); exit != exitDone {
			t.Fatalf("exit %d", exit)
		}
	}
	a := &app{out: newOutput(&bytes.Buffer{}, &bytes.Buffer{})}
	a.flags.network, a.flags.data = "regtest", data
	file := filepath.Join(data, "copy")
	now := time.Now()
	if err := a.noteBackup(file, now); err != nil {
		t.Fatal(err)
	}
	has(t, a.lookAtBackups(now), "backup", levelOK, "is elsewhere by now")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	has(t, a.lookAtBackups(now.Add(time.Hour)), "backup", levelOK, file)
	has(t, a.lookAtBackups(now.Add(48*time.Hour)), "backup", levelWarn, "2.0 days old")
	has(t, a.lookAtBackups(now.Add(240*time.Hour)), "backup", levelBad, "10 days old")
	if err := os.WriteFile(filepath.Join(a.folder("payee"), lastBackup), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if all := a.lookAtBackups(now); all[0].Level != levelBad {
		t.Errorf("%+v", all)
	}
	has(t, a.lookAtBackups(now), "exports", levelOK, "no channel is open")
	for url, want := range map[string]bool{"http://127.0.0.1:1/f": true, "http://[::1]/": true, "http://localhost": true, "http://shop.example": false, "http://10.0.0.1": false, "%": false} {
		if loopback(url) != want {
			t.Errorf("%s: %v", url, !want)
		}
	}
}

// The lines of doctor are for people too.
func TestDoctorForPeople(t *testing.T) {
	var out bytes.Buffer
	exit := runUntil(t.Context(), []string{"doctor", "--data", t.TempDir(), "--chain", devnetOf(t)}, strings.NewReader(""), &out, &out)
	for _, want := range []string{"ok    disk", "warn  folder", "→ Make a wallet", " ok, "} {
		if exit != exitDone || !strings.Contains(out.String(), want) {
			t.Fatalf("exit %d, no %q in\n%s", exit, want, out.String())
		}
	}
	for _, args := range [][]string{{"--timeout", "0s"}, {"--timeout", "2h"}, {"--url", "nowhere"}, {"more"}} {
		if exit := runUntil(t.Context(), append([]string{"doctor"}, args...), strings.NewReader(""), &out, &out); exit != exitUsage {
			t.Errorf("%v: exit %d", args, exit)
		}
	}
	if fmt.Sprint(failedCheck("x", errors.New("who knows")).exit) != fmt.Sprint(exitLocal) {
		t.Error("a check that fails for no known reason")
	}
}
