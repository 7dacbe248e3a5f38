package devnet_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/spillway/spillway/chain/devnet"
)

// TestPitfall41_Busy: requests beyond the limit are told to come again, and the slots are free afterwards.
func TestPitfall41_Busy(t *testing.T) {
	n := open(t, devnet.Config{})
	s := httptest.NewServer(n.Handler())
	defer s.Close()
	var held []*http.Request
	hold := make(chan struct{})
	ended := make(chan error)
	for range 128 {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL+"/tx", &slowBody{hold: hold, started: make(chan struct{})})
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, r)
	}
	client := s.Client()
	for _, r := range held {
		go func() {
			resp, err := client.Do(r)
			if err == nil {
				err = resp.Body.Close()
			}
			ended <- err
		}()
	}
	for _, r := range held {
		<-r.Body.(*slowBody).started
	}
	busy := false
	for !busy { // the last of the held ones may not have reached the handler yet
		resp, err := client.Get(s.URL + "/blocks/tip/height")
		if err != nil {
			t.Fatal(err)
		}
		busy = resp.StatusCode == http.StatusServiceUnavailable && resp.Header.Get("Retry-After") != ""
		if err := resp.Body.Close(); err != nil {
			t.Fatal(err)
		}
	}
	close(hold)
	for range held {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	resp, err := client.Get(s.URL + "/blocks/tip/height")
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("after the rush: %v %v", resp, err)
	}
	if err := resp.Body.Close(); err != nil {
		t.Fatal(err)
	}
}

// slowBody gives a byte and then nothing until it is let go.
type slowBody struct {
	hold    chan struct{}
	started chan struct{}
	sent    bool
}

func (b *slowBody) Read(p []byte) (int, error) {
	if !b.sent {
		b.sent = true
		p[0] = '0'
		return 1, nil
	}
	select {
	case <-b.started:
	default:
		close(b.started)
	}
	<-b.hold
	return 0, io.EOF
}

func (b *slowBody) Close() error { return nil }

// FuzzHTTP: no path and no body makes the handler fail in a way of its own.
func FuzzHTTP(f *testing.F) {
	n, err := devnet.New(devnet.Config{})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		if err := n.Close(); err != nil {
			f.Error(err)
		}
	})
	h := n.Handler()
	for _, p := range []string{"/tx/" + genesis() + "/outspend/0", "/block/" + genesis() + "/txs/0", "/blocks/5", "/address/x/utxo", "/scripthash/" + genesis() + "/txs/chain/x"} {
		f.Add(false, p, "")
	}
	f.Add(true, "/tx", "020000000001")
	f.Add(true, "/faucet", `{"address":"bcrt1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqdku202","sat":1000}`)
	f.Add(true, "/reorg", `{"depth":1,"length":2,"drop":[""],"mine":["00"]}`)
	f.Fuzz(func(t *testing.T, post bool, path, body string) {
		if !strings.HasPrefix(path, "/") {
			return
		}
		method := http.MethodGet
		if post {
			method = http.MethodPost
		}
		r, err := http.NewRequestWithContext(t.Context(), method, "http://x"+path, strings.NewReader(body))
		if err != nil {
			return
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code == http.StatusInternalServerError {
			t.Errorf("%s %q %q: %d %s", method, path, body, w.Code, w.Body)
		}
	})
}
