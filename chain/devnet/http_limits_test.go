package devnet_test

import (
	"io"
	"net/http"
	"net/http/httptest"
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
