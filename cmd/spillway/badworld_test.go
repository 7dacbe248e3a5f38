package main

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spillway/spillway/chain/devnet"
	"github.com/spillway/spillway/internal/badinput"
	"github.com/spillway/spillway/keys"
)

// world is a machine on which something was sold and bought: a chain that answers, a
// data folder with a provider, a payer and a channel of theirs, and files of every
// bad kind.
type world struct {
	dir  string
	none string // a data folder that is not there
	used string // one that is in use
	kept string // a copy of it
	id   string // the channel
	node *devnet.Node
	good map[string][]string // good arguments of every command
}

// receiver is an address of nobody here.
const receiver = "bcrt1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqc8gma6"

const words = "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon about"

func newWorld(t *testing.T) *world {
	t.Helper()
	dir := t.TempDir()
	w := &world{dir: dir, none: filepath.Join(dir, "none"), used: filepath.Join(dir, "used"), kept: filepath.Join(dir, "kept")}
	for name, value := range map[string]string{"HOME": dir, "XDG_DATA_HOME": "", "SPILLWAY_DATA": w.used, "TMPDIR": t.TempDir()} {
		t.Setenv(name, value)
	}
	t.Chdir(t.TempDir())
	w.write(t, "goods/f.bin", bytes.Repeat([]byte("spillway"), 40_000))
	a := &app{out: &output{stdout: io.Discard, stderr: io.Discard, quiet: true}}
	d, err := a.startDevnet("", "127.0.0.1:0", 0)
	w.must(t, err)
	t.Cleanup(func() { w.must(t, d.Close()) })
	w.node = d.node
	t.Setenv("SPILLWAY_CHAIN", d.url)
	w.trade(t, d.url)
	w.copy(t, w.used, w.kept)
	w.spoil(t)
	url := "http://127.0.0.1:1/f.bin" // nobody is there
	w.good = map[string][]string{
		"verifier": {"--listen=127.0.0.1:0"}, "credential": {"--url=" + url}, "proxy": {"--upstream=http://127.0.0.1:1", "--listen=127.0.0.1:0"}, "pay-proxy": {"--budget=1000sat", "--allow=h", "--listen=127.0.0.1:0"},
		"open": {url}, "doctor": nil, "get": {url}, "ls": {url}, "quote": {url}, "serve": {filepath.Join(dir, "goods"), "--listen=127.0.0.1:0"}, "tower": {"--listen=127.0.0.1:0"}, "devnet": {"--listen=127.0.0.1:0"}, "demo": nil, "bench": nil,
		"earnings": nil, "channels": nil, "channels list": nil, "channels show": {w.id}, "channels close": {w.id}, "channels refund": {w.id}, "channels resume": {w.id}, "channels payback": {w.id, "--amount=5sat"},
		"channels bump": {w.id}, "channels export": {w.id}, "channels import": {w.path("export")}, "wallet": nil, "wallet create": nil, "wallet restore": nil, "wallet address": nil, "wallet balance": nil, "wallet history": nil,
		"wallet send": {receiver, "1000sat"}, "wallet bump": {strings.Repeat("00", 32)},
		"backup": {filepath.Join(dir, "new")}, "restore": {w.path("backup")}, "version": nil, "config": nil, "config explain": nil, "config sample": nil, "status": nil, "reload": nil, "webhooks": nil, "webhooks test": {"books"}, "man": {w.path("folder")}, "": nil,
	}
	return w
}

func (w *world) must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (w *world) write(t testing.TB, name string, data []byte) {
	t.Helper()
	path := filepath.Join(w.dir, name)
	w.must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	w.must(t, os.WriteFile(path, data, 0o600))
}

// run runs a command that has to succeed.
func (w *world) run(t testing.TB, args ...string) string {
	t.Helper()
	var out, said bytes.Buffer
	if exit := runUntil(t.Context(), args, strings.NewReader(""), &out, &said); exit != exitDone {
		t.Fatalf("%q: exit %d: %s", args, exit, said.String())
	}
	return out.String()
}

// trade has something sold and bought in a channel that stays open.
func (w *world) trade(t *testing.T, chain string) {
	t.Helper()
	a := &app{out: &output{stdout: io.Discard, stderr: io.Discard, quiet: true}}
	a.flags.data, a.flags.network, a.flags.chain = w.used, "regtest", []string{chain}
	p, err := a.startProvider(t.Context(), serveFlags{price: "1sat/KiB", chunk: "64KiB", listen: "127.0.0.1:0", credit: 1, tower: towerUse{maxRate: 500}}, []string{filepath.Join(w.dir, "goods")}, nil)
	w.must(t, err)
	_, err = p.files.Refresh(t.Context())
	w.must(t, err)
	w.run(t, "get", "--quiet", "--keep-channel", "-o", filepath.Join(w.dir, "bought"), p.url+"/f.bin")
	w.must(t, p.Close())
	_, err = w.node.Mine(6)
	w.must(t, err)
	w.run(t, "wallet", "balance")
	w.run(t, "wallet", "balance", "--provider")
	// what is buried is forgotten now, and not by a command that is watched
	var out bytes.Buffer
	if exit := runUntil(t.Context(), []string{"wallet", "send", receiver, "20000000btc"}, strings.NewReader(""), &out, &out); exit != exitCoins {
		t.Fatalf("exit %d: %s", exit, out.String())
	}
	for _, field := range strings.Fields(w.run(t, "channels", "list")) {
		if w.id = field; len(field) > 64 && field[64] == ':' {
			break
		}
	}
}

// spoil makes the files of every bad kind, and the good ones that they come of.
func (w *world) spoil(t *testing.T) {
	t.Helper()
	w.write(t, "files/empty", nil)
	w.write(t, "files/garbage", bytes.Repeat([]byte{0x17, 0xff, 0, '\n'}, 50))
	w.write(t, "files/lines", []byte("one\ntwo\n"))
	w.write(t, "files/words", []byte(words+"\n"))
	w.must(t, os.MkdirAll(w.path("folder"), 0o755))
	w.run(t, "--quiet", "channels", "export", w.id, "-o", w.path("export"))
	w.run(t, "--quiet", "backup", w.path("backup"))
	w.must(t, keys.SealWith(w.path("seed.age"), words, "the right one", 1))
	for _, name := range []string{"export", "backup"} {
		raw, err := os.ReadFile(w.path(name))
		w.must(t, err)
		for i, c := range badinput.Bytes(name, raw) {
			w.write(t, fmt.Sprintf("files/%s-%d", name, i), c.Input)
		}
	}
	plain, err := os.ReadFile(filepath.Join(w.used, "payee/regtest/spillway.db"))
	w.must(t, err)
	w.write(t, "files/plaincopy", plain)
}

// digest is what a data folder holds: stores by their entries, everything else by
// its bytes.
func (w *world) digest(t testing.TB, data string) string {
	t.Helper()
	if _, err := os.Lstat(data); errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	text, err := badinput.Folder(data, func(path string) ([]byte, bool, error) {
		switch filepath.Base(path) {
		case "spillway.db":
			if rows, err := entries(path); err == nil {
				return rows, len(rows) > 0, nil // an empty one is none
			}
		case "spillway.db-wal", "spillway.db-shm", "spillway.db.lock":
			return nil, false, nil
		}
		raw, err := os.ReadFile(path)
		return raw, true, err
	})
	w.must(t, err)
	return text
}

// entries are the entries of a store, as text.
func entries(path string) (_ []byte, err error) {
	db, err := sql.Open("sqlite", "file:"+path+"?mode=ro")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	rows, err := db.QueryContext(context.Background(), "SELECT bucket, key, revision, value FROM entries ORDER BY bucket, key, revision")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	var b bytes.Buffer
	for rows.Next() {
		var bucket, key string
		var revision uint64
		var value []byte
		if err := rows.Scan(&bucket, &key, &revision, &value); err != nil {
			return nil, err
		}
		fmt.Fprintf(&b, "%q %q %d %x\n", bucket, key, revision, value)
	}
	return b.Bytes(), rows.Err()
}

// reset puts a data folder back as it was.
func (w *world) reset(t testing.TB, data string) {
	t.Helper()
	if _, err := os.Lstat(data); data == w.none && errors.Is(err, fs.ErrNotExist) {
		return
	}
	w.must(t, os.RemoveAll(data))
	if data == w.used {
		w.copy(t, w.kept, w.used)
	}
}

// copy copies a data folder; its files are for their owner alone.
func (w *world) copy(t testing.TB, from, to string) {
	t.Helper()
	w.must(t, os.CopyFS(to, os.DirFS(from)))
	w.must(t, filepath.WalkDir(to, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		return os.Chmod(path, 0o600)
	}))
}
