package bench

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/spillway/spillway/content"
	"github.com/spillway/spillway/internal/nginx"
	"github.com/spillway/spillway/internal/reverse"
	"github.com/spillway/spillway/paywall"
)

const (
	proxyPayers  = 4 // each with a channel
	proxyAtOnce  = 4 // requests of each
	proxySmall   = 1 << 10
	proxyRequest = 1000 // msat
)

// crossing is an nginx, a bare reverse proxy before it, and Spillway's, with payers.
type crossing struct {
	*market
	nginx, bare string // URLs without a slash at the end
	payers      []*http.Client
	plain       *http.Client
}

// Proxy measures requests and bytes through the reverse proxy, unpaid and paid, beside
// nginx alone and a bare httputil.ReverseProxy before the same nginx. Client, proxies
// and the payee's store share this process and its cores; nginx has one of its own.
func Proxy(ctx context.Context, cfg Config, emit func(Figure) error) (err error) {
	cfg = cfg.defaults()
	program := nginx.Find()
	if program == "" {
		return emit(Figure{Name: "proxy", Note: noNginx})
	}
	dir, err := os.MkdirTemp(cfg.Dir, "spillway-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	large := min(cfg.File, 8<<20)
	x, err := newCrossing(ctx, dir, program, large)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, x.Close()) }()
	for _, kind := range []struct {
		name, unit, file string
		scale            float64 // what one request counts
	}{
		{"proxy, answers of 1 KiB by the request", "1/s", "small", 1},
		{"proxy, answers of " + content.FormatBytes(large) + " by the byte", "MB/s", "large", float64(large) / 1e6},
	} {
		if err := x.compare(ctx, cfg, kind.name, kind.unit, kind.file, kind.scale, emit); err != nil {
			return err
		}
	}
	return nil
}

// compare measures one file through everything, in rounds.
func (x *crossing) compare(ctx context.Context, cfg Config, name, unit, file string, scale float64, emit func(Figure) error) error {
	var freeBare, freeNginx, paidFree, paidBare, paidNginx pairs
	for round := range cfg.Rounds + 1 {
		cfg.say("%s, round %d of %d", name, round, cfg.Rounds)
		var rates [4]float64
		for i, w := range []struct {
			url  string
			paid bool
		}{{x.nginx + "/" + file, false}, {x.bare + "/" + file, false}, {x.url + "free/" + file, false}, {x.url + file, true}} {
			r, err := x.rate(ctx, cfg.Time, w.url, w.paid)
			if err != nil {
				return fmt.Errorf("%s: %w", w.url, err)
			}
			rates[i] = r * scale
		}
		if round == 0 {
			continue // connections and keys are made in it
		}
		freeNginx.add(rates[2], rates[0])
		freeBare.add(rates[2], rates[1])
		paidNginx.add(rates[3], rates[0])
		paidBare.add(rates[3], rates[1])
		paidFree.add(rates[3], rates[2])
	}
	for _, f := range []Figure{
		freeBare.figure(name+": unpaid", unit, "a bare reverse proxy"), freeNginx.figure(name+": unpaid beside nginx", unit, "nginx alone"),
		paidBare.figure(name+": paid", unit, "a bare reverse proxy"), paidNginx.figure(name+": paid beside nginx", unit, "nginx alone"),
		paidFree.figure(name+": paid beside unpaid", unit, "the same, unpaid"),
	} {
		if err := emit(f); err != nil {
			return err
		}
	}
	return nil
}

// rate is how many answers come per second, over about so long.
func (x *crossing) rate(ctx context.Context, about time.Duration, target string, paid bool) (float64, error) {
	end := time.Now().Add(about)
	counts := make([]int, len(x.payers)*proxyAtOnce)
	failed := make([]error, len(counts))
	begin := time.Now()
	var wg sync.WaitGroup
	for i := range counts {
		client := x.plain
		if paid {
			client = x.payers[i/proxyAtOnce]
		}
		wg.Go(func() {
			for first := true; first || time.Now().Before(end); first = false {
				if failed[i] = fetchAll(ctx, client, target); failed[i] != nil {
					return
				}
				counts[i]++
			}
		})
	}
	wg.Wait()
	took := time.Since(begin)
	all := 0
	for _, n := range counts {
		all += n
	}
	return float64(all) / took.Seconds(), errors.Join(failed...)
}

// fetchAll reads a whole answer.
func fetchAll(ctx context.Context, client *http.Client, target string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("HTTP status %d", resp.StatusCode)
	}
	return err
}

// newCrossing starts everything.
func newCrossing(ctx context.Context, dir, program string, large uint64) (_ *crossing, err error) {
	x := &crossing{market: &market{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, x.Close())
		}
	}()
	if x.shop, err = emptyShop(ctx, dir, proxyPayers); err != nil {
		return nil, err
	}
	x.closed = append(x.closed, x.shop.Close)
	x.credit = proxyAtOnce * 4 * proxyRequest
	if err := x.site(filepath.Join(dir, "site"), large); err != nil {
		return nil, err
	}
	var stop func() error
	if x.nginx, stop, err = nginx.Start(program, dir, filepath.Join(dir, "site"), ""); err != nil {
		return nil, err
	}
	x.closed = append(x.closed, stop)
	up, err := url.Parse(x.nginx)
	if err != nil {
		return nil, err
	}
	bare := httputil.NewSingleHostReverseProxy(up)
	bare.Transport = manyConnections()
	bare.ErrorLog = log.New(io.Discard, "", 0)
	if x.bare, err = x.open(&http.Server{Handler: bare, ReadHeaderTimeout: 10 * time.Second}); err != nil {
		return nil, err
	}
	if err := x.charge(up); err != nil {
		return nil, err
	}
	if err := x.certify(); err != nil {
		return nil, err
	}
	x.plain = &http.Client{Transport: manyConnections()}
	for i := range proxyPayers {
		if err := x.payer(ctx, i); err != nil {
			return nil, err
		}
	}
	return x, x.save(ctx)
}

func manyConnections() *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.Proxy, t.MaxIdleConnsPerHost, t.DisableCompression = nil, 64, true
	return t
}

// site writes what nginx serves, and the same below free.
func (x *crossing) site(dir string, large uint64) error {
	if err := os.MkdirAll(filepath.Join(dir, "free"), 0o755); err != nil {
		return err
	}
	for name, size := range map[string]uint64{"small": proxySmall, "large": large} {
		data := make([]byte, size)
		if _, err := rand.Read(data); err != nil {
			return err
		}
		if err := errors.Join(os.WriteFile(filepath.Join(dir, name), data, 0o644), os.Link(filepath.Join(dir, name), filepath.Join(dir, "free", name))); err != nil {
			return err
		}
	}
	return nil
}

// open serves until the crossing is closed.
func (x *crossing) open(s *http.Server) (url string, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	x.closed = append(x.closed, func() error {
		err := s.Close()
		if ended := <-done; !errors.Is(ended, http.ErrServerClosed) {
			err = errors.Join(err, ended)
		}
		return err
	})
	return "http://" + l.Addr().String(), nil
}

// charge puts Spillway's proxy before the upstream.
func (x *crossing) charge(up *url.URL) error {
	identity, err := x.ring.Identity()
	if err != nil {
		return err
	}
	secret, err := x.ring.ChallengeSecret(0)
	if err != nil {
		return err
	}
	wall, err := paywall.NewServer(paywall.ServerConfig{
		Payee: x.payee, Network: "regtest", Secret: secret, Realm: "bench", Recipient: hex.EncodeToString(identity.Public().(ed25519.PublicKey)),
	})
	if err != nil {
		return err
	}
	price := paywall.PerRequest(proxyRequest)
	price.Credit = proxyAtOnce * 4 * proxyRequest
	bytes := paywall.PerByte(1000, 64<<10)
	bytes.Credit = proxyAtOnce * 64 * 1000
	p, err := reverse.New(reverse.Config{
		Wall: wall, Default: reverse.Rule{Upstream: up, Price: price},
		Rules: []reverse.Rule{{Match: "/free/"}, {Match: "/large", Price: bytes}},
	})
	if err != nil {
		return err
	}
	at, err := x.open(reverse.Server(p, log.New(io.Discard, "", 0)))
	x.url = at + "/"
	return err
}

// payer makes the i-th payer's client.
func (x *crossing) payer(ctx context.Context, i int) error {
	if err := x.customer(ctx, i, 1); err != nil {
		return err
	}
	t, err := paywall.NewTransport(paywall.TransportConfig{Client: x.buyers[i].client, Hosts: []string{"127.0.0.1:*"}, MaxPerHost: capacity, Base: manyConnections()})
	x.payers = append(x.payers, &http.Client{Transport: t})
	return err
}
