package apitest

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spillway/spillway/chain/devnet"
	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/keys"
	"github.com/spillway/spillway/payee"
	"github.com/spillway/spillway/payer"
	"github.com/spillway/spillway/store/sqlite"
)

const most = 40 // lines of a program, without those that are empty or remarks

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A program of another module sells a handler and a folder, and one buys from it, each
// in under 40 lines. What was paid is what was sold, and the channel is closed.
func TestProgramsOfAnotherModule(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"sell", "buy"} {
		if n := lines(t, filepath.Join("..", "..", "examples", name, "main.go")); n >= most {
			t.Errorf("%s has %d lines", name, n)
		}
		build := exec.Command("go", "build", "-o", filepath.Join(dir, name), "./"+name)
		build.Dir = filepath.Join("..", "..", "examples")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
	}
	node, err := devnet.New(devnet.Config{MineOnTx: true})
	must(t, err)
	t.Cleanup(func() { must(t, node.Close()) })
	chain := httptest.NewServer(node.Handler())
	t.Cleanup(chain.Close)
	goods := filepath.Join(dir, "goods")
	must(t, os.Mkdir(goods, 0o755))
	data := bytes.Repeat([]byte("0123456789"), 100_000)
	must(t, os.WriteFile(filepath.Join(goods, "f.txt"), data, 0o644))
	address := freeAddress(t)
	sell := program(t, filepath.Join(dir, "sell"), chain.URL, filepath.Join(dir, "payee", "db"), address, goods)
	var told bytes.Buffer
	sell.Stderr = &told
	must(t, sell.Start())
	t.Cleanup(func() { _ = sell.Process.Kill() }) // where the test has failed before
	answers(t, "http://"+address+"/")

	buy := program(t, filepath.Join(dir, "buy"), chain.URL, filepath.Join(dir, "payer", "db"), address,
		"http://"+address+"/weather", "http://"+address+"/f.txt", "http://"+address+"/weather")
	fund(t, node, buy.Env)
	out, err := buy.Output()
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, err.(*exec.ExitError).Stderr, told.String())
	}
	if want := "It rains.\n" + string(data) + "It rains.\n"; string(out) != want {
		t.Fatalf("%d bytes came, want %d", len(out), len(want))
	}
	must(t, sell.Process.Signal(os.Interrupt))
	_ = sell.Wait() // it ends by the signal
	check(t, dir)
}

// check holds what both saved against what was sold: 1,004 sat.
func check(t *testing.T, dir string) {
	t.Helper()
	ctx := context.Background()
	open := func(side string) *sqlite.Store {
		db, err := sqlite.Open(ctx, filepath.Join(dir, side, "db"), sqlite.Options{})
		must(t, err)
		t.Cleanup(func() { must(t, db.Close()) })
		return db
	}
	sold, err := payee.List(ctx, open("payee"))
	must(t, err)
	bought, err := payer.List(ctx, open("payer"))
	must(t, err)
	if len(sold) != 1 || len(bought) != 1 {
		t.Fatalf("%d and %d channels", len(sold), len(bought))
	}
	const msat = 1_000_000 + 2*2000
	if sold[0].Charged != msat || sold[0].Paid != channel.CeilSat(msat) || bought[0].Signed != channel.CeilSat(msat) {
		t.Errorf("charged %d msat, paid %d sat, signed %d sat", sold[0].Charged, sold[0].Paid, bought[0].Signed)
	}
	if bought[0].Close == nil || sold[0].Close == nil || sold[0].Close.Txid != bought[0].Close.Txid {
		t.Error("the channel is not closed together")
	}
}

func lines(t *testing.T, path string) (n int) {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if text := strings.TrimSpace(s.Text()); text != "" && !strings.HasPrefix(text, "//") {
			n++
		}
	}
	return n
}

func program(t *testing.T, path string, args ...string) *exec.Cmd {
	t.Helper()
	words, err := keys.NewMnemonic(rand.Reader)
	must(t, err)
	c := exec.Command(path, args...)
	c.Env = append(os.Environ(), "WORDS="+words)
	return c
}

// fund gives the program of these words a coin, at its first address.
func fund(t *testing.T, node *devnet.Node, env []string) {
	t.Helper()
	ring, err := keys.FromMnemonic(strings.TrimPrefix(env[len(env)-1], "WORDS="), devnet.Params())
	must(t, err)
	_, pk, err := ring.WalletKey(false, 0)
	must(t, err)
	_, err = node.Faucet(context.Background(), pk, 1_000_000)
	must(t, err)
	_, err = node.Mine(1)
	must(t, err)
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	return l.Addr().String()
}

// answers waits until something answers at a URL.
func answers(t *testing.T, url string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		resp, err := http.Get(url)
		if err == nil {
			must(t, resp.Body.Close())
			if resp.StatusCode != http.StatusPaymentRequired {
				t.Fatalf("unpaid it answers %s", resp.Status)
			}
			return
		}
		select {
		case <-ctx.Done():
			t.Fatal(err)
		case <-tick.C:
		}
	}
}
