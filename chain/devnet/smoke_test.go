package devnet

import (
	"context"
	"encoding/json"
	"io"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestBoot(t *testing.T) {
	ctx := context.Background()
	start := time.Now()
	n, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Log("boot", time.Since(start))
	defer n.Close()
	id, err := n.Faucet(ctx, []byte{0x00, 0x14, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, 150e8)
	if err != nil {
		t.Fatal(err)
	}
	t.Log(n.Tx(ctx, id))
	start = time.Now()
	if _, err := n.Mine(1000); err != nil {
		t.Fatal(err)
	}
	t.Log("1000", time.Since(start))
	tip, _ := n.Tip(ctx)
	t.Log(tip, time.Since(tip.Time))
	start = time.Now()
	if err := n.Reorg(100, 101); err != nil {
		t.Fatal(err)
	}
	t.Log("reorg", time.Since(start))
	t.Log(n.Tx(ctx, id))
	start = time.Now()
	if err := n.Reorg(1050, 1051); err != nil {
		t.Fatal(err)
	}
	t.Log("reorg", time.Since(start))
	t.Log(n.Tx(ctx, id))
}

func TestHandlerRoutes(t *testing.T) {
	n, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	s := httptest.NewServer(n.Handler())
	defer s.Close()
	get := func(p string) {
		r, err := s.Client().Get(s.URL + p)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(r.Body)
		r.Body.Close()
		t.Log(p, r.StatusCode, string(b))
	}
	r, err := s.Client().Post(s.URL+"/faucet", "", strings.NewReader(`{"script":"00140102030405060708090a0102030405060708090a","sat":15000000000}`))
	if err != nil {
		t.Fatal(err)
	}
	var q struct{ Txid string }
	json.NewDecoder(r.Body).Decode(&q)
	r.Body.Close()
	for _, p := range []string{"/blocks/tip/height", "/blocks", "/tx/" + q.Txid, "/tx/" + q.Txid + "/outspends", "/mempool", "/fee-estimates", "/tx/" + q.Txid + "/status"} {
		get(p)
	}
}
