package esplora_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/chain/esplora"
)

// pages answers with a history of so many confirmed transactions, page by page, as Esploras do; loop makes it begin
// again after the last page.
func pages(t testing.TB, total, page int, loop bool) map[string]answer {
	t.Helper()
	_, script := sample(0)
	answers := map[string]answer{}
	var ids []string
	for i := range total {
		tx, _ := sample(uint32(i))
		id := tx.TxHash().String()
		ids = append(ids, id)
		answers["GET /api/tx/"+id+"/hex"] = answer{body: hexTx(t, tx)}
	}
	list := func(from int) answer {
		var all []string
		for i := from; i < min(total, from+page); i++ {
			all = append(all, fmt.Sprintf(`{"txid":"%s","status":%s}`, ids[i], strings.Replace(confirmed, ":7", fmt.Sprint(":", 9_000-i), 1)))
		}
		return answer{body: "[" + strings.Join(all, ",") + "]"}
	}
	base := scriptURL(script) + "/txs"
	answers[base] = list(0)
	for i := range total {
		answers[base+"/chain/"+ids[i]] = list(i + 1)
	}
	if loop {
		answers[base+"/chain/"+ids[total-1]] = list(0)
	}
	return answers
}

func TestHistoryPages(t *testing.T) {
	_, script := sample(0)
	for _, total := range []int{0, 1, 9, 10, 11, 24, 25, 26, 50, 77} {
		for _, page := range []int{10, 25, 50} {
			c, _ := against(t, pages(t, total, page, false))
			got, err := c.History(t.Context(), script)
			if err != nil || len(got) != total {
				t.Fatalf("%d in pages of %d: %d, %v", total, page, len(got), err)
			}
			for i, g := range got {
				if g.Height != uint32(9_000-i) || g.Tx.LockTime != uint32(i) {
					t.Fatalf("%d in pages of %d: number %d is %d at %d", total, page, i, g.Tx.LockTime, g.Height)
				}
			}
		}
	}
	c, _ := against(t, pages(t, 50, 25, true))
	if got, err := c.History(t.Context(), script); err != nil || len(got) != 50 {
		t.Errorf("a server that begins again: %d, %v", len(got), err)
	}
	c, _ = against(t, pages(t, 2_100, 50, false))
	if _, err := c.History(t.Context(), script); !errors.Is(err, chain.ErrUnavailable) {
		t.Errorf("a history without end: %v", err)
	}
}

// TestGoneMeanwhile: what leaves the mempool between two requests is left out, what was in a block is nonsense.
func TestGoneMeanwhile(t *testing.T) {
	tx, script := sample(0)
	id := tx.TxHash().String()
	for status, good := range map[string]bool{unconfirmed: true, confirmed: false} {
		c, _ := against(t, map[string]answer{
			scriptURL(script) + "/txs":  {body: `[{"txid":"` + id + `","status":` + status + `}]`},
			scriptURL(script) + "/utxo": {body: `[{"txid":"` + id + `","vout":0,"value":5000,"status":` + status + `}]`},
		})
		h, herr := c.History(t.Context(), script)
		u, uerr := c.UTXOs(t.Context(), script)
		if len(h)+len(u) > 0 || (herr == nil) != good || (uerr == nil) != good {
			t.Errorf("%s: %d and %d, %v and %v", status, len(h), len(u), herr, uerr)
		}
		if !good && !(errors.Is(herr, esplora.ErrNonsense) && errors.Is(uerr, esplora.ErrNonsense)) {
			t.Errorf("%s: %v and %v", status, herr, uerr)
		}
	}
}

// FuzzAnswers: whatever a server says, the client answers or fails with one of the errors of package chain.
func FuzzAnswers(f *testing.F) {
	tx, script := sample(0)
	id := tx.TxHash()
	for _, s := range []string{
		"", "null", "{}", "[]", "[null]", "7", someHash, hexTx(f, tx), unconfirmed, confirmed,
		`{"spent":true,"txid":"` + id.String() + `","vin":0,"status":` + confirmed + `}`,
		`[{"txid":"` + id.String() + `","vout":0,"value":5000,"status":` + unconfirmed + `}]`,
		`{"id":"` + someHash + `","height":1,"timestamp":2}`, `{"1":1.5}`, `{"txid":"` + id.String() + `"}`,
	} {
		f.Add(200, s)
		f.Add(400, s)
	}
	var status int
	var body string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		if _, err := w.Write([]byte(body)); err != nil {
			return // the client has gone, or the status has no body
		}
	}))
	f.Cleanup(s.Close)
	f.Fuzz(func(t *testing.T, code int, text string) {
		if code < 200 || code > 599 {
			return
		}
		status, body = code, text
		c, err := esplora.New(esplora.Config{URL: s.URL, HTTP: s.Client(), Tries: 1})
		if err != nil {
			t.Fatal(err)
		}
		ctx := t.Context()
		errs := map[string]error{}
		_, errs["tip"] = c.Tip(ctx)
		_, errs["hash"] = c.BlockHash(ctx, 1)
		_, errs["tx"] = c.Tx(ctx, id)
		_, errs["spend"] = c.Spend(ctx, wire.OutPoint{Hash: chainhash.Hash{7}, Index: 1})
		_, errs["utxos"] = c.UTXOs(ctx, script)
		_, errs["history"] = c.History(ctx, script)
		_, errs["fee"] = c.FeeRate(ctx, 1)
		_, errs["faucet"] = c.Faucet(ctx, script, 1)
		errs["send"] = c.Broadcast(ctx, tx)
		for what, err := range errs {
			if err != nil && !errors.Is(err, chain.ErrUnavailable) && !errors.Is(err, chain.ErrNotFound) && !errors.Is(err, chain.ErrRejected) {
				t.Errorf("%s: %v", what, err)
			}
		}
	})
}
