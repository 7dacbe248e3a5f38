package esplora_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"
	"time"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/chain/devnet"
	"github.com/spillway/spillway/chain/esplora"
	"github.com/spillway/spillway/script"
)

// known fails where an error is none that package chain names.
func known(t *testing.T, what string, err error) {
	t.Helper()
	if err != nil && !errors.Is(err, chain.ErrUnavailable) && !errors.Is(err, chain.ErrNotFound) && !errors.Is(err, chain.ErrRejected) {
		t.Fatalf("%s: %v", what, err)
	}
}

// tampering hands requests to a node and changes one byte of one kind of answer.
type tampering struct {
	node http.Handler
	kind string // end of the path; "": nothing is changed
	at   int
	flip byte
}

func (p *tampering) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	rec := httptest.NewRecorder()
	p.node.ServeHTTP(rec, r)
	body := rec.Body.Bytes()
	if p.kind != "" && len(body) > 0 && len(r.URL.Path) >= len(p.kind) && r.URL.Path[len(r.URL.Path)-len(p.kind):] == p.kind {
		body[p.at%len(body)] ^= p.flip
	}
	w.WriteHeader(rec.Code)
	if _, err := w.Write(body); err != nil {
		return // the client has gone
	}
}

// RoundTrip implements http.RoundTripper without a network between.
func (p *tampering) RoundTrip(r *http.Request) (*http.Response, error) {
	rec := httptest.NewRecorder()
	p.ServeHTTP(rec, r)
	return rec.Result(), nil
}

// FuzzTamperedAnswer: the client reads a node's answers as the node itself tells
// them, and with any one byte of them changed it fails, or what it says of
// transactions, spends and coins still agrees with their true bytes.
func FuzzTamperedAnswer(f *testing.F) {
	kinds := []string{"", "/hex", "/status", "/utxo", "/txs", "/outspend/0", "/outspend/1", "/fee-estimates", "/hash", "/tip/height", "/1"}
	for i := range kinds {
		f.Add(byte(i), uint16(0), byte(1))
		f.Add(byte(i), uint16(9), byte(2))
		f.Add(byte(i), uint16(70), byte(0x40))
	}
	node, err := devnet.New(devnet.Config{})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		if err := node.Close(); err != nil {
			f.Error(err)
		}
	})
	_, pkScript := sample(0)
	ctx := context.Background()
	id, err := node.Faucet(ctx, pkScript, 5000)
	if err == nil {
		_, err = node.Mine(2)
	}
	if err == nil {
		_, err = node.Faucet(ctx, pkScript, 7000)
	}
	truth, terr := node.Tx(ctx, id)
	coins, cerr := node.UTXOs(ctx, pkScript)
	tip, perr := node.Tip(ctx)
	if err := errors.Join(err, terr, cerr, perr); err != nil {
		f.Fatal(err)
	}
	spent := truth.Tx.TxIn[0].PreviousOutPoint
	f.Fuzz(func(t *testing.T, kind byte, at uint16, flip byte) {
		p := &tampering{node: node.Handler(), kind: kinds[int(kind)%len(kinds)], at: int(at), flip: flip}
		c, err := esplora.New(esplora.Config{URL: "http://node", HTTP: &http.Client{Transport: p}, Network: devnet.Params(), Tries: 1,
			Sleep: func(context.Context, time.Duration) error { return nil }})
		if err != nil {
			t.Fatal(err)
		}
		honest := p.kind == "" || flip == 0
		info, err := c.Tx(ctx, id)
		if known(t, "tx", err); err == nil && info.Tx.TxHash() != id || honest && (err != nil || info.Height != truth.Height || info.BlockHash != truth.BlockHash) {
			t.Fatalf("%+v, should be %+v, %v", info, truth, err)
		}
		spend, err := c.Spend(ctx, spent)
		if known(t, "spend", err); err == nil && spend != nil && (spend.Txid != id || spend.Vin != 0) || honest && (err != nil || spend == nil) {
			t.Fatalf("%+v, %v", spend, err)
		}
		got, err := c.UTXOs(ctx, pkScript)
		known(t, "coins", err)
		for _, u := range got {
			if !holds(coins, u) {
				t.Fatalf("a coin that there is not: %+v", u)
			}
		}
		history, err := c.History(ctx, pkScript)
		known(t, "history", err)
		for _, i := range history {
			if _, err := node.Tx(ctx, i.Tx.TxHash()); err != nil { // of witnesses a txid says nothing
				t.Fatalf("a transaction that there is not: %s", i.Tx.TxHash())
			}
		}
		now, err := c.Tip(ctx)
		known(t, "tip", err)
		rate, err := c.FeeRate(ctx, 1)
		if known(t, "fee", err); err == nil && (rate < chain.MinFeeRate || rate > chain.MaxFeeRate) {
			t.Fatalf("a rate of %d", rate)
		}
		if honest && (len(got) != len(coins) || len(history) != 2 || now.Hash != tip.Hash || now.Height != tip.Height) {
			t.Fatalf("%d coins, %d transactions, tip %+v", len(got), len(history), now)
		}
	})
}

func holds(coins []chain.UTXO, u chain.UTXO) bool {
	for _, c := range coins {
		if c.Outpoint == u.Outpoint && c.Value == u.Value && bytes.Equal(c.PkScript, u.PkScript) {
			return true
		}
	}
	return false
}

// FuzzFees: whatever estimates a server gives, the rate is within bounds, and where
// there is one estimate it is that one, rounded up.
func FuzzFees(f *testing.F) {
	f.Add("1", 1.5, 6)
	f.Add("01", 7.0, 1)
	f.Add("1008", 1e300, -5)
	f.Add("-1", 2.0, 1)
	f.Add("144", -0.5, 1<<40)
	f.Fuzz(func(t *testing.T, target string, perVB float64, blocks int) {
		if math.IsNaN(perVB) || math.IsInf(perVB, 0) {
			return
		}
		body := fmt.Sprintf("{%s:%s}", strconv.QuoteToASCII(target), strconv.FormatFloat(perVB, 'g', -1, 64))
		p := &tampering{node: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if _, err := w.Write([]byte(body)); err != nil {
				t.Error(err)
			}
		})}
		c, err := esplora.New(esplora.Config{URL: "http://node", HTTP: &http.Client{Transport: p}, Tries: 1})
		if err != nil {
			t.Fatal(err)
		}
		rate, err := c.FeeRate(context.Background(), blocks)
		if known(t, body, err); err != nil {
			return
		}
		want := chain.MaxFeeRate
		if sat := math.Ceil(perVB * 1000); sat < float64(want) {
			want = chain.ClampFeeRate(script.FeeRate(sat))
		}
		if rate != want {
			t.Fatalf("%s: %d, should be %d", body, rate, want)
		}
	})
}

// FuzzURL: the URL of a server is taken only where requests go to that host, below
// that path.
func FuzzURL(f *testing.F) {
	for _, s := range []string{"http://127.0.0.1:3002", "https://user@host/api/", "ftp://host", "http://host/?q", "http://host/#f", "//host", "http://[::1", "http://ho st", "https://host/a//"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var asked []string
		transport := transportFunc(func(r *http.Request) (*http.Response, error) {
			asked = append(asked, r.URL.Scheme+"://"+r.URL.Host)
			return nil, errors.New("no network")
		})
		c, err := esplora.New(esplora.Config{URL: text, HTTP: &http.Client{Transport: transport}, Tries: 1})
		if err != nil {
			if !errors.Is(err, esplora.ErrConfig) {
				t.Fatal(err)
			}
			return
		}
		if err := c.Broadcast(context.Background(), wire.NewMsgTx(2)); !errors.Is(err, chain.ErrUnavailable) {
			t.Fatalf("%q: %v", text, err)
		}
		for _, to := range asked {
			if to[:7] != "http://" && to[:8] != "https://" {
				t.Fatalf("%q: asked %s", text, to)
			}
		}
	})
}

type transportFunc func(*http.Request) (*http.Response, error)

func (f transportFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
