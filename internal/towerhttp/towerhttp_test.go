package towerhttp_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/internal/pairtest"
	"github.com/spillway/spillway/internal/towerhttp"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/store"
	"github.com/spillway/spillway/store/memory"
	"github.com/spillway/spillway/watch"
	"github.com/spillway/spillway/watch/tower"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// stand is a pair whose payee hands over to a tower through HTTP.
type stand struct {
	*pairtest.Pair
	t      *testing.T
	tower  *tower.Tower
	server *httptest.Server
	token  string
	disk   *memory.Store
	keeper *towerhttp.Keeper
	told   []tower.Taken
}

func newStand(t *testing.T) *stand {
	t.Helper()
	s := &stand{Pair: pairtest.New(t), t: t}
	disk := memory.New()
	s.disk = disk
	var err error
	s.token, err = tower.AddProvider(t.Context(), disk, "ada", [32]byte{1})
	must(t, err)
	s.tower, err = tower.New(tower.Config{Store: disk, Chain: s.Chain})
	must(t, err)
	s.server = httptest.NewServer(towerhttp.Handler(s.tower, slog.New(slog.DiscardHandler)))
	t.Cleanup(s.server.Close)
	s.keeper = &towerhttp.Keeper{Payee: s.Payee, HandOver: s.client(s.token).HandOver, Limit: script.FeeRatePerVB(1000),
		Told: func(taken tower.Taken) { s.told = append(s.told, taken) }}
	return s
}

func (s *stand) client(token string) *towerhttp.Client {
	s.t.Helper()
	c, err := towerhttp.NewClient(s.server.URL, token+"\n")
	must(s.t, err)
	return c
}

func (s *stand) step() error {
	tip, err := s.Chain.Node.Tip(s.t.Context())
	must(s.t, err)
	return s.keeper.Step(s.t.Context(), tip.Height, false)
}

func (s *stand) buy(id string, from, to int) {
	s.t.Helper()
	for i := from; i < to; i++ {
		_, err := s.Buy(id, uint64(i))
		must(s.t, err)
	}
	_, err := s.Buy(id)
	must(s.t, err)
}

// From the payee through HTTP to the tower, which settles at the margin.
func TestHandOverAndSettle(t *testing.T) {
	for _, kind := range []script.Construction{script.Taproot, script.Multisig, script.MultisigP2SH} {
		t.Run(string(kind), func(t *testing.T) {
			s := newStand(t)
			id := s.Open(kind)
			must(t, s.step())
			if len(s.told) > 0 {
				t.Fatalf("handed over before anything was paid: %v", s.told)
			}
			s.buy(id, 0, 5)
			must(t, s.step())
			must(t, s.step())
			if len(s.told) != 1 || s.told[0].Amount != 5_000 || !s.told[0].Stored {
				t.Fatalf("handed over: %+v", s.told)
			}
			s.buy(id, 5, 6)
			must(t, s.step())
			if len(s.told) != 2 || s.told[1].Amount != 6_000 {
				t.Fatalf("after another chunk: %+v", s.told)
			}
			r, err := s.Payee.Record(t.Context(), id)
			must(t, err)
			tip, err := s.Chain.Tip(t.Context())
			must(t, err)
			s.Mine(int(r.Terms.Expiry - r.Terms.Margin - tip.Height))
			must(t, (&watch.Watch{Chain: s.Chain, Drivers: []watch.Driver{s.tower}}).Step(t.Context()))
			s.Mine(1)
			must(t, s.StepPayee()) // back again, it sees that all is well
			s.Mine(6)
			must(t, s.StepPayee())
			if r, err = s.Payee.Record(t.Context(), id); err != nil || r.Phase != channel.Closed {
				t.Fatalf("phase %s, %v", r.Phase, err)
			}
		})
	}
}

// A tower that cannot be reached, or refuses, is tried again; sales go on meanwhile.
func TestTowerAway(t *testing.T) {
	s := newStand(t)
	good := s.keeper.HandOver
	s.keeper.HandOver = s.client("ada." + strings.Repeat("00", 32)).HandOver
	a, b := s.Open(script.Taproot), s.Open(script.Taproot)
	s.buy(a, 0, 3)
	s.buy(b, 0, 3)
	var refused *towerhttp.RefusedError
	if err := s.step(); !errors.As(err, &refused) || refused.Status != http.StatusUnauthorized {
		t.Fatalf("a wrong token: %v", err)
	}
	if err := s.step(); err != nil {
		t.Fatalf("what was refused is asked again in the same block: %v", err)
	}
	s.keeper.HandOver = func(context.Context, tower.Handoff) (tower.Taken, error) {
		return tower.Taken{}, towerhttp.ErrUnreachable
	}
	s.Mine(1)
	for range 3 {
		if err := s.step(); !errors.Is(err, towerhttp.ErrUnreachable) {
			t.Fatalf("%v", err)
		}
	}
	s.buy(a, 3, 5)
	s.keeper.HandOver = good
	must(t, s.step())
	if len(s.told) != 2 {
		t.Fatalf("handed over: %+v", s.told)
	}
	s.buy(a, 5, 6)
	old := s.keeper.HandOver
	s.keeper.HandOver = func(ctx context.Context, h tower.Handoff) (tower.Taken, error) {
		return tower.Taken{Channel: h.Channel.String(), Amount: 1}, nil
	}
	if err := s.step(); !errors.Is(err, towerhttp.ErrRefused) {
		t.Fatalf("a tower that keeps an older ladder is believed: %v", err)
	}
	s.keeper.HandOver = old
	s.Mine(1)
	must(t, s.step())
	if last := s.told[len(s.told)-1]; last.Amount != 6_000 {
		t.Fatalf("handed over: %+v", s.told)
	}
}

// snapshot copies what the payee's disk holds now.
func (s *stand) snapshot() *pairtest.Disk {
	s.t.Helper()
	disk := memory.New()
	for _, bucket := range []string{"payee/channel", "payee/key", "payee/pool", "payee/charged", "payee/meta"} {
		entries, err := s.PayeeDisk.List(s.t.Context(), bucket, "")
		must(s.t, err)
		for _, e := range entries {
			must(s.t, disk.Commit(s.t.Context(), store.Op{Bucket: bucket, Key: e.Key, Value: e.Value}))
		}
	}
	return &pairtest.Disk{Store: disk}
}

// A provider that was restored from an old backup learns from its tower what it was
// paid since, and settles that; the two do not outbid each other.
func TestRestoredProviderLearns(t *testing.T) {
	for _, kind := range []script.Construction{script.Taproot, script.Multisig, script.MultisigP2SH} {
		t.Run(string(kind), func(t *testing.T) {
			s := newStand(t)
			id := s.Open(kind)
			s.buy(id, 0, 5)
			backup := s.snapshot()
			s.buy(id, 5, 9)
			must(t, s.step())
			s.PayeeDisk = backup
			s.RestartPayee()
			must(t, s.Payee.MarkRestored(t.Context()))
			lies := func(ctx context.Context) ([]towerhttp.Held, error) {
				list, err := s.client(s.token).Held(ctx)
				for i := range list {
					list[i].Amount += 1000
				}
				return list, err
			}
			s.keeper = &towerhttp.Keeper{Payee: s.Payee, HandOver: s.keeper.HandOver, Held: lies, Limit: script.FeeRatePerVB(1000)}
			if err := s.step(); !errors.Is(err, channel.ErrSignature) {
				t.Errorf("an amount that nobody signed: %v", err)
			}
			s.keeper.Held = s.client(s.token).Held
			s.Mine(1)
			must(t, s.step()) // the tower's answer to the last hand-over made it ask again
			r, err := s.Payee.Record(t.Context(), id)
			must(t, err)
			if r.Paid != 9_000 {
				t.Fatalf("paid %d after asking the tower", r.Paid)
			}
			tip, err := s.Chain.Tip(t.Context())
			must(t, err)
			s.Mine(int(r.Terms.Expiry - r.Terms.Margin - tip.Height))
			sent := len(s.Chain.Sent())
			for range 5 {
				must(t, s.StepPayee())
				must(t, (&watch.Watch{Chain: s.Chain, Drivers: []watch.Driver{s.tower}}).Step(t.Context()))
			}
			if n := len(s.Chain.Sent()) - sent; n != 1 {
				t.Errorf("%d broadcasts in one block", n)
			}
		})
	}
}

// Without a right token nothing is told, and it is asked for once in a block.
func TestHeldIsRefused(t *testing.T) {
	s := newStand(t)
	asked := 0
	s.keeper.Held = func(ctx context.Context) ([]towerhttp.Held, error) {
		asked++
		return s.client("ada." + strings.Repeat("00", 32)).Held(ctx)
	}
	if err := s.step(); !errors.Is(err, towerhttp.ErrRefused) {
		t.Errorf("%v", err)
	}
	must(t, s.step())
	s.Mine(1)
	if err := s.step(); !errors.Is(err, towerhttp.ErrRefused) || asked != 2 {
		t.Errorf("asked %d times: %v", asked, err)
	}
}

// A duplex channel's ladder is handed over anew with each epoch, whatever its amount, and
// settles from its lock on; a provider that was restored learns the epoch too.
func TestDuplexHandOver(t *testing.T) {
	s := newStand(t)
	s.Kinds = []script.Construction{script.Taproot, script.Duplex}
	s.Policy.Duration = 400
	s.RestartPayee()
	s.keeper.Payee = s.Payee
	id := s.Open(script.Duplex)
	must(t, s.step())
	s.buy(id, 0, 20)
	must(t, s.step())
	backup := s.snapshot()
	got, err := s.Payee.Refund(t.Context(), id, "eight", 8*pairtest.Price)
	must(t, err)
	must(t, s.Payer.TakeBack(t.Context(), id, got.Back, got.State))
	must(t, s.step())
	if len(s.told) != 1 || s.told[0].Amount != 20_000 || s.told[0].Epoch != 1 {
		t.Fatalf("after its own reversal the payee handed over %+v", s.told)
	}
	s.buy(id, 100, 103)
	must(t, s.step())
	if len(s.told) != 2 || s.told[1].Amount != 15_000 || s.told[1].Epoch != 3 || !s.told[1].Stored {
		t.Fatalf("after the payer's: %+v", s.told)
	}

	s.PayeeDisk = backup
	s.RestartPayee()
	must(t, s.Payee.MarkRestored(t.Context()))
	s.keeper = &towerhttp.Keeper{Payee: s.Payee, HandOver: s.keeper.HandOver, Held: s.client(s.token).Held, Limit: script.FeeRatePerVB(1000)}
	must(t, s.step())
	r, err := s.Payee.Record(t.Context(), id)
	must(t, err)
	if u := r.Duplex.Held; u.Epoch != 3 || u.Amount != 15_000 {
		t.Fatalf("it holds (%d, %d sat) after asking the tower", u.Epoch, u.Amount)
	}
	tip, err := s.Chain.Tip(t.Context())
	must(t, err)
	lock, _ := r.Terms.Lock(3)
	s.Mine(int(lock - tip.Height))
	must(t, (&watch.Watch{Chain: s.Chain, Drivers: []watch.Driver{s.tower}}).Step(t.Context()))
	sent := len(s.Chain.Sent())
	must(t, s.StepPayee()) // it leaves its tower's rung alone
	if n := len(s.Chain.Sent()) - sent; n > 0 {
		t.Errorf("%d broadcasts against its own tower", n)
	}
	s.Mine(7)
	must(t, s.StepPayee())
	if r, err = s.Payee.Record(t.Context(), id); err != nil || r.Phase != channel.Closed {
		t.Fatalf("phase %s, %v", r.Phase, err)
	}
}

func TestDue(t *testing.T) {
	record := func(paid uint64) channel.PayeeRecord {
		return channel.PayeeRecord{Phase: channel.Open, Paid: paid, Terms: channel.Terms{
			Construction: script.Taproot, Capacity: 100_000, MinimumCharge: 500, Expiry: 1000, Margin: 36}}
	}
	rich, closed := record(2000), record(2000)
	rich.Terms.MinimumCharge, closed.Phase = 5_000, channel.Closed
	duplex := func(epoch uint32, amount uint64) channel.PayeeRecord {
		r := record(1) // what the newest state gives the payee is another amount
		r.Terms.Construction, r.Terms.Step = script.Duplex, 36
		r.Duplex = &channel.Duplex{Held: channel.Update{Epoch: epoch, Amount: amount}}
		return r
	}
	for _, c := range []struct {
		name string
		r    channel.PayeeRecord
		last towerhttp.Mark
		tip  uint32
		want bool
	}{
		{"nothing paid", record(0), towerhttp.Mark{}, 500, false},
		{"the first payment", record(1), towerhttp.Mark{}, 500, true},
		{"a duplex channel", duplex(1, 2000), towerhttp.Mark{}, 500, true},
		{"one in which the payee holds nothing", duplex(1, 0), towerhttp.Mark{}, 500, false},
		{"a newer epoch of less", duplex(3, 900), towerhttp.Mark{Amount: 2000, Epoch: 1, Height: 500}, 500, true},
		{"nothing new in an epoch", duplex(3, 900), towerhttp.Mark{Amount: 900, Epoch: 3, Height: 500}, 520, false},
		{"little more in an epoch", duplex(3, 901), towerhttp.Mark{Amount: 900, Epoch: 3, Height: 500}, 505, false},
		{"little more near its deadline", duplex(3, 901), towerhttp.Mark{Amount: 900, Epoch: 3, Height: 885}, 886, true},
		{"refused in an older epoch", duplex(3, 900), towerhttp.Mark{Amount: 2000, Epoch: 1, Height: 500, Refused: true}, 500, true},
		{"a closed one", closed, towerhttp.Mark{}, 500, false},
		{"nothing new", record(1000), towerhttp.Mark{Amount: 1000, Height: 500}, 520, false},
		{"nothing new for a day", record(1000), towerhttp.Mark{Amount: 1000, Height: 500}, 644, true},
		{"less than the minimum charge more", record(1499), towerhttp.Mark{Amount: 1000, Height: 500}, 505, false},
		{"the minimum charge more", record(1500), towerhttp.Mark{Amount: 1000, Height: 500}, 505, true},
		{"less than a hundredth more", rich, towerhttp.Mark{Amount: 1001, Height: 500}, 505, false},
		{"a hundredth more", rich, towerhttp.Mark{Amount: 1000, Height: 500}, 505, true},
		{"a satoshi more, six blocks later", record(1001), towerhttp.Mark{Amount: 1000, Height: 500}, 506, true},
		{"a satoshi more near the margin", record(1001), towerhttp.Mark{Amount: 1000, Height: 957}, 958, true},
		{"refused in this block", record(1000), towerhttp.Mark{Amount: 1000, Height: 500, Refused: true}, 500, false},
		{"refused in the block before", record(1000), towerhttp.Mark{Amount: 1000, Height: 500, Refused: true}, 501, true},
		{"refused, and more was paid", record(1001), towerhttp.Mark{Amount: 1000, Height: 500, Refused: true}, 500, true},
	} {
		if got := towerhttp.Due(c.r, c.last, c.tip, 6); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

// request sends raw bytes and returns the status and the problem's code.
func (s *stand) request(method, path, token string, body io.Reader) (int, string) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.server.URL+path, body)
	must(s.t, err)
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(req)
	must(s.t, err)
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	must(s.t, err)
	var p towerhttp.Problem
	if resp.StatusCode != http.StatusOK && json.Valid(raw) {
		must(s.t, json.Unmarshal(raw, &p))
	}
	return resp.StatusCode, p.Code
}

// Everything but a right hand-off by a known provider is refused, with its own code.
func TestWireRefusals(t *testing.T) {
	s := newStand(t)
	id := s.Open(script.Taproot)
	s.buy(id, 0, 5)
	var sent []byte
	s.keeper.HandOver = func(_ context.Context, h tower.Handoff) (tower.Taken, error) {
		var err error
		sent, err = json.Marshal(h)
		return tower.Taken{Channel: h.Channel.String(), Amount: 5000}, err
	}
	must(t, s.step())
	foreign := bytes.Replace(sent, []byte(id[:8]), []byte("00000000"), 1)
	for _, c := range []struct {
		name, method, path, token string
		body                      io.Reader
		status                    int
		code                      string
	}{
		{"no token", "PUT", "/v1/ladder", "", bytes.NewReader(sent), 401, "token"},
		{"a wrong one", "PUT", "/v1/ladder", s.token[:len(s.token)-1] + "1", bytes.NewReader(sent), 401, "token"},
		{"a body without a token is not read", "PUT", "/v1/ladder", "", bytes.NewReader(make([]byte, towerhttp.MaxBody+1)), 401, "token"},
		{"oversize", "PUT", "/v1/ladder", s.token, bytes.NewReader(make([]byte, towerhttp.MaxBody+1)), 413, "too-large"},
		{"oversize of unknown length", "PUT", "/v1/ladder", s.token, io.LimitReader(zeros{}, towerhttp.MaxBody+1), 413, "too-large"},
		{"no JSON", "PUT", "/v1/ladder", s.token, strings.NewReader("{"), 400, "malformed"},
		{"nothing", "PUT", "/v1/ladder", s.token, strings.NewReader("{}"), 409, "unseen"},
		{"an unknown channel", "PUT", "/v1/ladder", s.token, bytes.NewReader(foreign), 409, "unseen"},
		{"another method", "POST", "/v1/ladder", s.token, bytes.NewReader(sent), 405, ""},
		{"another path", "GET", "/", s.token, nil, 404, ""},
		{"the list without a token", "GET", "/v1/ladders", "", nil, 401, "token"},
		{"the right thing", "PUT", "/v1/ladder", s.token, bytes.NewReader(sent), 200, ""},
		{"the list", "GET", "/v1/ladders", s.token, nil, 200, ""},
	} {
		if status, code := s.request(c.method, c.path, c.token, c.body); status != c.status || code != c.code {
			t.Errorf("%s: %d %q, want %d %q", c.name, status, code, c.status, c.code)
		}
	}
	s.Chain.Down(true)
	if status, code := s.request("PUT", "/v1/ladder", s.token, bytes.NewReader(sent)); status != 503 || code != "chain" {
		t.Errorf("without a chain: %d %q", status, code)
	}
	s.Chain.Down(false)
}

// A provider that never finishes what it sends keeps no other one out.
func TestSlowProvider(t *testing.T) {
	s := newStand(t)
	other, err := tower.AddProvider(t.Context(), s.disk, "eve", [32]byte{2})
	must(t, err)
	var ends []*io.PipeWriter
	var waits sync.WaitGroup
	for range 8 {
		body, end := io.Pipe()
		ends = append(ends, end)
		waits.Go(func() { s.request("PUT", "/v1/ladder", s.token, body) })
		if _, err := end.Write([]byte("{")); err != nil { // it is being sent
			t.Fatal(err)
		}
	}
	busy := false
	for range 1000 {
		if _, code := s.request("GET", "/v1/ladders", s.token, nil); code == "busy" {
			busy = true
			break
		}
	}
	if !busy {
		t.Error("a ninth request at once is served")
	}
	if status, code := s.request("GET", "/v1/ladders", other, nil); status != 200 {
		t.Errorf("another provider: %d %q", status, code)
	}
	for _, end := range ends {
		must(t, end.Close())
	}
	waits.Wait()
	if status, code := s.request("GET", "/v1/ladders", s.token, nil); status != 200 {
		t.Errorf("afterwards: %d %q", status, code)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// A token goes to nobody but the tower: no plain HTTP beyond this machine, and no
// redirect is followed.
func TestTokenStaysHere(t *testing.T) {
	for _, bad := range []string{"", "tower", "http://tower.example", "http://192.0.2.1:4403", "ftp://localhost", "https://u:p@tower.example", "https://tower.example/?a=b"} {
		if _, err := towerhttp.NewClient(bad, "x"); !errors.Is(err, towerhttp.ErrURL) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	for _, good := range []string{"https://tower.example", "http://127.0.0.1:4403/", "http://localhost:1", "http://[::1]:2"} {
		if _, err := towerhttp.NewClient(good, "x"); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	thief := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the thief was asked") }))
	defer thief.Close()
	bad := httptest.NewServer(http.RedirectHandler(thief.URL, http.StatusTemporaryRedirect))
	defer bad.Close()
	c, err := towerhttp.NewClient(bad.URL, "x")
	must(t, err)
	if _, err := c.HandOver(t.Context(), tower.Handoff{}); !errors.Is(err, towerhttp.ErrUnreachable) {
		t.Errorf("%v", err)
	}
}

// FuzzDecode: a body from outside is read or refused.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{}`))
	f.Add([]byte(`{"channel":"00","expiry":-1}`))
	f.Add([]byte(`{"channel":"` + strings.Repeat("ab", 32) + `:0","expiry":1000,"margin":36,"first":"0300","slot":0,"more":[{"payout_sat":1,"signature":"00"}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		h, err := towerhttp.Decode(raw)
		if err != nil {
			if !errors.Is(err, tower.ErrMalformed) {
				t.Fatalf("%v", err)
			}
			return
		}
		again, err := json.Marshal(h)
		must(t, err)
		if back, err := towerhttp.Decode(again); err != nil || back.Channel != h.Channel || len(back.More) != len(h.More) {
			t.Fatalf("%s reads as %+v, %v", again, back, err)
		}
	})
}
