package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spillway/spillway/internal/badinput"
)

// conflicts are flags and arguments that do not go together.
func (w *world) conflicts() []bad {
	url, goods := "http://127.0.0.1:1/f.bin", filepath.Join(w.dir, "goods")
	list := [][]string{
		{"wallet", "send", w.good["wallet send"][0], "1000sat", "--fee-rate=2", "--blocks=3"}, {"wallet", "bump", strings.Repeat("00", 32), "--fee-rate=2", "--blocks=3"}, {"channels", "bump", w.id, "--fee-rate=2", "--blocks=3"},
		{"tower", "--add-provider=a", "--providers"}, {"tower", "--tls-cert=" + w.path("garbage")}, {"tower", "--tls-key=" + w.path("garbage")}, {"tower", "--listen=0.0.0.0:0"},
		{"serve", goods, "--tls-cert=" + w.path("garbage")}, {"serve", goods, "--tls-key=" + w.path("garbage")}, {"serve", goods, "--tls-cert=" + w.path("garbage"), "--tls-key=" + w.path("garbage")},
		{"tower", "--tls-cert=" + w.path("empty"), "--tls-key=" + w.path("empty"), "--listen=127.0.0.1:0"},
		{"serve", goods, "--listen=0.0.0.0:0"}, {"serve", goods, "--tower=http://127.0.0.1:1"}, {"serve", goods, "--tower-token-file=" + w.path("garbage")}, {"serve", goods, "--tower=http://127.0.0.1:1", "--tower-token-file=" + w.path("missing"), "--listen=127.0.0.1:0"},
		{"serve", goods, "--tower=http://127.0.0.1:1", "--tower-token-file=" + w.path("empty"), "--listen=127.0.0.1:0"},
		{"serve", w.path("missing"), "--listen=127.0.0.1:0"}, {"serve", w.path("empty") + "/below", "--listen=127.0.0.1:0"}, {"serve", "", "--listen=127.0.0.1:0"},
		{"serve", goods, "--chunk=1MiB", "--chunks=3", "--listen=127.0.0.1:0"},
		{"serve", goods, "--listen=127.0.0.1:0", "--admin-token-file=" + w.path("words")}, {"serve", goods, "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0", "--admin-token-file=" + w.path("missing")}, {"serve", goods, "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0", "--admin-token-file=" + w.path("folder")},
		{"serve", goods, "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0", "--admin-token-file=" + w.path("empty")}, {"serve", goods, "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0", "--admin-token-file=" + w.path("words")},
		{"config", "explain", "--", "nonsense"}, {"config", "explain", "--", "serve", "--price"}, {"config", "explain", "--", "serve", "--no-such"}, {"config", "explain", "x"}, {"config", "nonsense"}, {"webhooks", "test"}, {"webhooks", "nonsense"}, {"webhooks", "test", "x"}, {"reload"}, {"status"}, {"webhooks"},
		{"earnings", "--csv", "--json"}, {"demo", "--scenario=list", "--chunks=3"}, {"demo", "--scenario=list", "--capacity=1btc"}, {"demo", "--scenario=list", w.path("garbage")}, {"demo", w.path("missing")}, {"demo", w.path("empty")}, {"demo", w.path("folder")}, {"demo", "--network=signet"},
		{"devnet", "--network=mainnet", "--listen=127.0.0.1:0"}, {"get", "--trade=" + w.id, url, url}, {"get", "--trade=" + w.id, "--channel=taproot", url}, {"get", "--trade=" + w.id, "--keep-channel", url}, {"get", "--trade=" + w.id, url},
		{"get", "x"}, {"get", ""}, {"get", "ftp://h/f"}, {"get", "http://"}, {"get", "http://u:p@127.0.0.1:1/f"}, {"get", "http://h:99999/f"}, {"get", "127.0.0.1:1/f.bin"}, {"get", "http://[::1/f"}, {"get", "http://h h/f"}, {"get", "file:///etc/passwd"}, {"get", "http://%zz/f"}, {"get", "http:///f"},
		{"get", "--exports=" + w.path("x"), "--no-export", url},
		{"open", "x"}, {"open", ""}, {"open", "http://127.0.0.1:1/"}, {"open", url, w.path("garbage")}, {"open", url, "--qr"}, {"open", url, "--psbt", "--wallet=builtin"}, {"open", url, "--psbt", "--fee-rate=2"}, {"open", url, "--fee-rate=2", "--blocks=3"}, {"open", url, "--exports=" + w.path("x"), "--no-export"},
		{"open", url, "--psbt", w.path("garbage")}, {"open", url, "--psbt", w.path("empty")}, {"open", url, "--psbt", w.path("missing")}, {"open", url, "--psbt", w.path("folder")}, {"open", url, "--psbt", "-"},
		{"quote", "x"}, {"quote", ""}, {"quote", "ftp://h/f"}, {"quote", "http://"}, {"quote", "http://h:99999/f"}, {"ls", "x"}, {"ls", ""}, {"ls", "ftp://h/"}, {"ls", "http://"}, {"ls", "http://u:p@h/"}, {"ls", "http://h:99999/"},
		{"get", "--root=" + strings.Repeat("00", 32), "http://127.0.0.1:1/"},
		{"channels", "show", "x"}, {"channels", "show", ""}, {"channels", "show", "\x1b[31m"}, {"channels", "close", strings.Repeat("0", 64) + ":0"}, {"channels", "refund", "x"}, {"channels", "resume", "x"}, {"channels", "export", "x"}, {"channels", "bump", "x"}, {"channels", "close", "x"},
		{"channels", "payback", "x", "--amount=5sat"}, {"channels", "payback", w.id}, {"channels", "payback", w.id, "--amount=5sat"}, {"channels", "nonsense"}, {"wallet", "nonsense"}, {"nonsense"}, {"--", "nonsense"}, {""}, {"wallet", "--no-such"},
		{"wallet", "send", "x", "1000sat"}, {"wallet", "send", "", "1000sat"}, {"wallet", "send", "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4", "1000sat"}, {"wallet", "send", "1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2", "1000sat"},
		{"wallet", "send", w.good["wallet send"][0], "0sat"}, {"wallet", "send", w.good["wallet send"][0], "-1sat"}, {"wallet", "send", w.good["wallet send"][0], "1msat"}, {"wallet", "send", w.good["wallet send"][0], "1"}, {"wallet", "send", w.good["wallet send"][0], "ALL"}, {"wallet", "send", w.good["wallet send"][0], ""},
		{"wallet", "send", w.good["wallet send"][0], "22000000btc"}, {"wallet", "bump", "x"}, {"wallet", "bump", ""}, {"wallet", "bump", strings.Repeat("0", 63)}, {"wallet", "bump", strings.Repeat("Z", 64)},
		{"man", w.path("garbage")}, {"man", w.path("empty") + "/below"}, {"man", ""}, {"bench", "nonsense"}, {"completion", "nonsense"}, {"completion", "bash", "x"}, {"help", "nonsense"},
		{"wallet", "balance", "--network=mainnet"}, {"wallet", "create", "--network=mainnet"}, {"wallet", "balance", "--network=signet", "--passphrase-file=" + w.path("garbage")}, {"channels", "list", "--network=x"},
	}
	all := make([]bad, len(list))
	for i, args := range list {
		all[i] = bad{group: "spillway " + args[0], what: w.short(fmt.Sprintf("%q", args[1:])), args: args}
	}
	onUsed := [][]string{
		{"serve", goods, goods, "--listen=127.0.0.1:0"},
		{"wallet", "send", w.good["wallet send"][0], "10sat"}, {"wallet", "send", w.good["wallet send"][0], "20000000btc"}, {"wallet", "send", w.good["wallet send"][0], "1000sat", "--fee-rate=1000000"}, {"wallet", "bump", strings.Repeat("00", 32)},
		{"wallet", "create"}, {"wallet", "create", "--provider"}, {"restore", w.path("backup")}, {"channels", "import", w.path("export")}, {"backup", w.path("backup")}, {"backup", w.path("missing") + "/below"}, {"backup", w.path("empty") + "/below"}, {"backup", ""},
		{"channels", "export", w.id, "-o", w.path("garbage")}, {"channels", "bump", w.id}, {"channels", "show", w.id[:5]},
		{"backup", "--network=signet", filepath.Join(w.dir, "new")}, {"channels", "import", "--network=signet", w.path("export")}, {"channels", "refund", w.id},
	}
	for _, args := range onUsed {
		all = append(all, bad{group: "spillway " + args[0], what: w.short(fmt.Sprintf("%q, where there is one", args[1:])), args: args, data: true})
	}
	return all
}

// files are the bad files that commands read, and the bad things that may lie in a
// data folder.
func (w *world) files(t *testing.T) (all []bad) {
	t.Helper()
	for name, args := range map[string][]string{"export": {"channels", "import"}, "backup": {"restore"}} {
		for i, c := range badinput.Bytes(name, []byte(strings.Repeat("x", 100))) {
			if name == "backup" && (strings.HasPrefix(c.What, "a bit in") || strings.HasPrefix(c.What, "without")) { // bytes that hold no entry
				continue
			}
			all = append(all, bad{group: name + " file", what: c.What, args: append(args, w.path(fmt.Sprintf("%s-%d", name, i)))})
		}
		for _, other := range []string{"missing", "folder", "words", "empty/below", "seed.age", map[string]string{"export": "backup", "backup": "export"}[name]} {
			all = append(all, bad{group: name + " file", what: other, args: append(args, w.path(other))})
		}
	}
	all = append(all,
		bad{group: "backup file", what: "a copy of a store", args: []string{"restore", w.path("plaincopy")}},
		bad{group: "backup file", what: "of another network", args: []string{"restore", "--network=signet", w.path("backup")}},
		bad{group: "export file", what: "where there is no wallet", args: []string{"channels", "import", w.path("export"), "--network=testnet4"}})
	for _, typed := range []string{"", "abandon", strings.Repeat("abandon ", 12), words + " about", "\x00\xff", strings.Repeat("abandon ", 5000), strings.ToUpper(words[:20])} {
		all = append(all, bad{group: "words that are typed", what: fmt.Sprintf("%.30q, %d bytes", typed, len(typed)), args: []string{"wallet", "restore"}, stdin: typed})
	}
	for i, text := range badSettings {
		name := fmt.Sprintf("files/settings-%d", i)
		w.write(t, name, []byte(strings.ReplaceAll(text, "DIR", w.dir)))
		args := []string{"serve", filepath.Join(w.dir, "goods"), "--listen=127.0.0.1:0", "--config=" + filepath.Join(w.dir, name)}
		all = append(all, bad{group: "settings file", what: fmt.Sprintf("%q", strings.ReplaceAll(text, "\nurl = 'https://h'\nsecret-file = 'DIR/files/words'", "…")), args: args})
	}
	return append(all, w.inside(t)...)
}

// badSettings are files of settings that serve refuses.
var badSettings = []string{
	"x", "[serve", "= 1", "serve = 1", "\x00", "a = \xff", "[serve]\nprice = 1", "[serve]\nprices = 'a'\nprices = 'b'", "[serve]\nPrice = '1sat/MiB'", "[server]\nprice = '1sat/MiB'",
	"price = '1sat/MiB'", "[serve]\ncredit = '1'", "[serve]\ncredit = -1", "[serve]\ncredit = 1.5", "[serve]\nchunk = '1MiB'\nchunks = 3", "[serve]\ntrade = 'yes'", "[serve]\nprice = 'cheap'",
	"network = 'moon'", "json = 1", "chain = 7", "chain = [['http://h']]", "log-level = 'loud'", "log-format = 'xml'", "data = ['a']", "config = 'x'", "[[serve]]\nprice = '1sat/MiB'",
	"[webhook]\nname = 'a'", "[[webhook]]\nname = 'a'", "[[webhook]]\nname = 'a'\nurl = 'https://h'\nsecret-file = 'DIR/files/missing'", "[[webhook]]\nname = 'a'\nurl = 'https://h'\nsecret-file = 'DIR/files/folder'",
	"[[webhook]]\nname = 'a'\nurl = 'https://h'\nsecret-file = 'DIR/files/empty'", "[[webhook]]\nname = 'a'\nurl = 'https://h'\nsecret-file = 'DIR/files/lines'", "[[webhook]]\nname = 'a b'\nurl = 'https://h'\nsecret-file = 'DIR/files/words'",
	"[[webhook]]\nname = 'a'\nurl = 'http://h'\nsecret-file = 'DIR/files/words'", "[[webhook]]\nname = 'a'\nurl = 'https://u:p@h'\nsecret-file = 'DIR/files/words'", "[[webhook]]\nname = 'a'\nurl = 'ftp://h'\nsecret-file = 'DIR/files/words'",
	"[[webhook]]\nname = 'a'\nurl = 'https://h'\nsecret-file = 'DIR/files/words'\nevents = ['sold']", "[[webhook]]\nname = 'a'\nurl = 'https://h'\nsecret-file = 'DIR/files/words'\nevents = 'paid'",
	"[[webhook]]\nname = 'a'\nurl = 'https://h'\nsecret-file = 'DIR/files/words'\npaid-every = '-1s'", "[[webhook]]\nname = 'a'\nurl = 'https://h'\nsecret-file = 'DIR/files/words'\npaid-every = 'soon'",
	"[[webhook]]\nname = 'a'\nurl = 'https://h'\nsecret = 'x'", "[[webhook]]\nname = 'a'\nurl = 'https://h'\nsecret-file = 'DIR/files/words'\n[[webhook]]\nname = 'a'\nurl = 'https://h'\nsecret-file = 'DIR/files/words'",
}

// inside are the bad things that may lie in a data folder that is in use.
func (w *world) inside(t *testing.T) (all []bad) {
	t.Helper()
	add := func(group, what string, change func(data string), args ...string) {
		all = append(all, bad{group: group, what: what, args: args, data: true, change: change})
	}
	file := func(name string, data []byte) func(string) {
		return func(dir string) {
			path := filepath.Join(dir, name)
			w.must(t, os.RemoveAll(path))
			w.must(t, os.WriteFile(path, data, 0o600))
		}
	}
	seed, err := os.ReadFile(filepath.Join(w.used, "payer/regtest/seed"))
	w.must(t, err)
	for _, c := range badinput.Bytes("seed", seed) {
		add("seed in the data folder", c.What, file("payer/regtest/seed", c.Input), "wallet", "balance")
	}
	add("seed in the data folder", "of another wallet", file("payer/regtest/seed", []byte(words+"\n")), "wallet", "balance")
	add("seed in the data folder", "readable by others", func(data string) { w.must(t, os.Chmod(filepath.Join(data, "payer/regtest/seed"), 0o644)) }, "wallet", "balance")
	add("seed in the data folder", "a folder", func(data string) {
		w.must(t, os.Remove(filepath.Join(data, "payer/regtest/seed")))
		w.must(t, os.Mkdir(filepath.Join(data, "payer/regtest/seed"), 0o700))
	}, "wallet", "balance")
	add("seed in the data folder", "missing", func(data string) { w.must(t, os.Remove(filepath.Join(data, "payer/regtest/seed"))) }, "wallet", "balance")
	sealed, err := os.ReadFile(w.path("seed.age"))
	w.must(t, err)
	seal := func(content []byte) func(string) {
		return func(data string) {
			w.must(t, os.Remove(filepath.Join(data, "payer/regtest/seed")))
			file("payer/regtest/seed.age", content)(data)
		}
	}
	for _, c := range badinput.Bytes("sealed seed", sealed) {
		if c.What == "a bit in its first half changed" { // damaged, or of another passphrase, as chance has it
			continue
		}
		add("sealed seed in the data folder", c.What, seal(c.Input), "wallet", "balance", "--passphrase-file="+w.path("right"))
	}
	w.write(t, "files/right", []byte("the right one\n"))
	w.write(t, "files/wrong", []byte("a wrong one\n"))
	add("passphrase", "none", seal(sealed), "wallet", "balance")
	for _, name := range []string{"wrong", "empty", "missing", "folder", "lines", "garbage"} {
		add("passphrase", "file "+name, seal(sealed), "wallet", "balance", "--passphrase-file="+w.path(name))
	}
	store, err := os.ReadFile(filepath.Join(w.used, "payer/regtest/spillway.db"))
	w.must(t, err)
	for _, c := range badinput.Bytes("store", store) {
		if c.What == "empty" || c.What == "one byte" || strings.HasPrefix(c.What, "a bit in") || strings.HasPrefix(c.What, "without") { // none to SQLite; bytes that hold no entry
			continue
		}
		add("store in the data folder", c.What, func(data string) {
			w.must(t, os.RemoveAll(filepath.Join(data, "payer/regtest/spillway.db-wal")))
			w.must(t, os.RemoveAll(filepath.Join(data, "payer/regtest/spillway.db-shm")))
			file("payer/regtest/spillway.db", c.Input)(data)
		}, "wallet", "balance")
	}
	for _, c := range badinput.Bytes("admin", []byte(`no socket at all`)) {
		add("admin.sock in the data folder", c.What, file("payee/regtest/admin.sock", c.Input), "channels", "payback", w.id, "--amount=5sat")
	}
	return all
}
