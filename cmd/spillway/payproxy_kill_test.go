package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/spillway/spillway/payer"
	"github.com/spillway/spillway/store/sqlite"
)

// cutWire lies between a pay-proxy and a provider, and stops a paid exchange where it is
// told to.
type cutWire struct {
	*httptest.Server
	mu      sync.Mutex
	stop    string        // "": never; "request", "answer", "body"
	skip    int           // paid exchanges before that
	reached chan struct{} // closed when it has stopped
	free    chan struct{} // closed when it may go on
}

// stopped takes the next exchange's turn; true: it is the one to be stopped.
func (w *cutWire) stopped(at string, r *http.Request) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stop != at || r.Method != http.MethodGet || !strings.HasPrefix(r.Header.Get("Authorization"), "Payment ") {
		return false
	}
	if w.skip--; w.skip >= 0 {
		return false
	}
	w.stop = ""
	return true
}

func (w *cutWire) arm(at string, skip int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stop, w.skip, w.reached, w.free = at, skip, make(chan struct{}), make(chan struct{})
}

// wait says that it has stopped, and waits.
func (w *cutWire) wait() {
	w.mu.Lock()
	reached, free := w.reached, w.free
	w.mu.Unlock()
	close(reached)
	<-free
}

// awaits waits until an exchange has been stopped.
func (w *cutWire) awaits(t *testing.T) {
	t.Helper()
	select {
	case <-w.reached:
	case <-time.After(time.Minute):
		t.Fatal("nothing is stopped")
	}
}

func newWire(t *testing.T, to string) *cutWire {
	w := &cutWire{}
	at, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	pass := &httputil.ReverseProxy{
		Rewrite: func(pr *httputil.ProxyRequest) { pr.SetURL(at); pr.Out.Host = pr.In.Host },
		ModifyResponse: func(resp *http.Response) error {
			resp.Header.Del("Spillway-Compact") // one exchange for one chunk
			if resp.StatusCode >= 300 {
				return nil
			}
			whole, half := w.stopped("answer", resp.Request), w.stopped("body", resp.Request)
			if !whole && !half {
				return nil
			}
			raw, err := io.ReadAll(resp.Body) // all of it is charged
			if err != nil {
				return err
			}
			if whole {
				w.wait()
				return http.ErrAbortHandler
			}
			resp.Body = io.NopCloser(io.MultiReader(bytes.NewReader(raw[:len(raw)/2]), waits{w}))
			return nil
		},
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	w.Server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if w.stopped("request", r) {
			w.wait()
			panic(http.ErrAbortHandler)
		}
		pass.ServeHTTP(rw, r)
	}))
	t.Cleanup(w.Close)
	return w
}

// waits is the second half of a body that never comes.
type waits struct{ w *cutWire }

// Read implements io.Reader.
func (s waits) Read([]byte) (int, error) {
	s.w.wait()
	return 0, io.ErrUnexpectedEOF
}

// proxyProcess is a pay-proxy that is a process of its own.
type proxyProcess struct {
	s   *street
	cmd *exec.Cmd
	url string
	out *bufio.Scanner
}

func (s *street) launch(allow ...string) *proxyProcess {
	s.t.Helper()
	exe, err := exec.LookPath("spillway")
	s.must(err)
	args := []string{"pay-proxy", "--json", "--network", "regtest", "--data", filepath.Join(s.dir, "buyer"), "--chain", s.chain, "--budget", "50000sat", "--listen", "127.0.0.1:0"}
	for _, host := range allow {
		args = append(args, "--allow", strings.TrimPrefix(host, "http://"))
	}
	p := &proxyProcess{s: s, cmd: exec.Command(exe, args...)}
	p.cmd.Stderr = os.Stderr
	out, err := p.cmd.StdoutPipe()
	s.must(err)
	s.must(p.cmd.Start())
	s.t.Cleanup(func() {
		if p.cmd.ProcessState == nil {
			_ = p.cmd.Process.Kill()
			_ = p.cmd.Wait()
		}
	})
	p.out = bufio.NewScanner(out)
	for p.out.Scan() {
		var line map[string]any
		if s.must(json.Unmarshal(p.out.Bytes(), &line)); line["type"] == "paying" {
			p.url = fmt.Sprint(line["url"])
			return p
		}
	}
	s.t.Fatal("the pay-proxy does not start")
	return nil
}

// kill ends it as power that fails would.
func (p *proxyProcess) kill() {
	p.s.must(p.cmd.Process.Kill())
	_ = p.cmd.Wait() // it was killed
}

// ends stops it in order.
func (p *proxyProcess) ends() {
	p.s.t.Helper()
	p.s.must(p.cmd.Process.Signal(syscall.SIGTERM))
	for p.out.Scan() {
		continue
	}
	p.s.must(p.cmd.Wait())
}

func (p *proxyProcess) get(target string) (int, string) {
	at, err := url.Parse(p.url)
	p.s.must(err)
	tr := &http.Transport{Proxy: http.ProxyURL(at)}
	defer tr.CloseIdleConnections()
	resp, err := (&http.Client{Transport: tr, Timeout: time.Minute}).Get(target)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(body)
}

// open are the channels of the payer that are neither closed nor closing.
func (s *street) openChannels() (n int) {
	s.t.Helper()
	found, err := filepath.Glob(filepath.Join(s.dir, "buyer", "payer", "*", "spillway.db"))
	s.must(err)
	if len(found) != 1 {
		s.t.Fatalf("%d stores", len(found))
	}
	db, err := sqlite.Open(s.t.Context(), found[0], sqlite.Options{})
	s.must(err)
	records, err := payer.List(s.t.Context(), db)
	s.must(err)
	s.must(db.Close())
	for _, r := range records {
		if r.Close == nil && !r.Phase.Final() && r.SpentBy == "" {
			n++
		}
	}
	return n
}

// books are what a provider has charged, and what it was paid for that, in msat.
func (s *street) books(p *provider) (charged, paid uint64) {
	s.t.Helper()
	records, err := p.payee.Records(s.t.Context())
	s.must(err)
	for _, r := range records {
		charged, paid = charged+r.Charged, paid+r.Paid*1000
		if most := max(r.Charged, r.Terms.MinimumCharge*1000) + 999; r.Paid*1000 > most {
			s.t.Errorf("%d sat are paid for %d msat", r.Paid, r.Charged)
		}
	}
	return charged, paid
}

// A pay-proxy that is killed between a provider's charge and its own answer finds, when it
// is started again, its channels and what it was asked for: the same request has what was
// charged and lost free, others are served, and all channels are closed at the end, paid.
func TestPayProxyIsKilled(t *testing.T) {
	goods := t.TempDir()
	data := putFile(t, filepath.Join(goods, "f.bin"), 700_000, 7)
	s := newStreet(t, goods, "", payProxyFlags{budget: "50000sat", allow: []string{"*"}})
	s.must(s.pay.Close())
	s.pay = nil
	var runs atomic.Int64
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "answer %d to %s", runs.Add(1), r.URL)
	}))
	t.Cleanup(service.Close)
	var err error
	s.shop, err = s.app("shop").startProxy(t.Context(), proxyFlags{upstream: service.URL, price: "5sat/request", listen: "127.0.0.1:0", maxBody: "1MiB", tower: towerUse{maxRate: 500}}, nil)
	s.must(err)
	t.Cleanup(func() { s.must(s.shop.Close()) })
	toShop, toFiles := newWire(t, s.shop.url), newWire(t, s.files.url)

	for _, at := range []string{"request", "answer", "body"} {
		for _, again := range []bool{true, false} {
			if !again && at != "answer" {
				continue
			}
			before, _ := s.books(s.shop)
			p := s.launch(toShop.URL)
			first := fmt.Sprintf("/%s/%v", at, again)
			if status, body := p.get(toShop.URL + first + "/warm"); status != http.StatusOK {
				t.Fatalf("%d %s", status, body)
			}
			toShop.arm(at, 0)
			cut := make(chan int, 1)
			go func() {
				status, _ := p.get(toShop.URL + first)
				cut <- status
			}()
			toShop.awaits(t)
			p.kill()
			close(toShop.free)
			if status := <-cut; status == http.StatusOK {
				t.Fatal("it was not cut")
			}
			ran := runs.Load()
			p = s.launch(toShop.URL)
			want := uint64(6)
			if at != "request" {
				want++
			}
			if again {
				want = 7
				status, body := p.get(toShop.URL + first)
				if at != "request" && body != fmt.Sprintf("answer %d to %s", ran, first) || status != http.StatusOK {
					t.Fatalf("%s: %d %s, the service has run %d times", at, status, body, ran)
				}
			}
			for i := range 5 { // more than the credit
				if status, body := p.get(fmt.Sprintf("%s%s/%d", toShop.URL, first, i)); status != http.StatusOK {
					t.Fatalf("%s, asked again %v: %d %s", at, again, status, body)
				}
			}
			p.ends()
			after, _ := s.books(s.shop)
			if after-before != want*5_000 {
				t.Errorf("%s, asked again %v: %d msat are charged, want %d", at, again, after-before, want*5_000)
			}
			if n := s.openChannels(); n != 0 {
				t.Errorf("%s, asked again %v: %d channels stay open", at, again, n)
			}
		}
	}
	for _, skip := range []int{0, 1} { // the first chunk, the second
		p := s.launch(toFiles.URL)
		toFiles.arm("answer", skip)
		go p.get(toFiles.URL + "/f.bin")
		toFiles.awaits(t)
		p.kill()
		close(toFiles.free)
		if skip == 0 { // nobody asks for it again
			s.launch(toFiles.URL).ends()
		} else {
			p = s.launch(toFiles.URL)
			if status, body := p.get(toFiles.URL + "/f.bin"); status != http.StatusOK || body != string(data) {
				t.Fatalf("%d, %d bytes", status, len(body))
			}
			p.ends()
		}
		if n := s.openChannels(); n != 0 {
			t.Errorf("%d channels stay open", n)
		}
	}
	for _, p := range []*provider{s.shop, s.files} {
		if charged, paid := s.books(p); paid < charged {
			t.Errorf("%d msat are charged, %d paid", charged, paid)
		}
	}
}
