package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"

	"github.com/spillway/spillway/internal/gateway"
	"github.com/spillway/spillway/internal/reverse"
	"github.com/spillway/spillway/mpp"
	"github.com/spillway/spillway/paywall"
)

// proxyFlags are the flags of proxy.
type proxyFlags struct {
	upstream, upstreamCA, price, listen string
	tlsCert, tlsKey, maxBody            string
	acme                                []string
	acmeEmail, acmeDirectory            string
	free                                int
	insecure, ownAuthorization          bool
	tower                               towerUse
	ops                                 opsUse
}

func (a *app) proxyCommand() *cobra.Command {
	var f proxyFlags
	cmd := &cobra.Command{
		Use:   "proxy",
		Short: "Charge for any HTTP service, as a reverse proxy before it",
		Long: `Stands before an HTTP service and charges for what it answers: by the request, by
the byte, event or second, or not at all, by host, method and path. What is 2xx is charged, as it is
handed over; errors and redirects are free. The service never sees a credential.

Prices of single paths, other upstreams and fields that the upstream gets (an API
key, say) stand in the settings file:

  [proxy]
  upstream = "http://127.0.0.1:8080"
  price = "1sat/request"

  [[proxy.rule]]
  match = "GET /health"
  price = "free"

  [[proxy.rule]]
  match = "api.example/v1/"
  price = "1sat/64KiB"
  upstream = "https://api.internal:8443"
  set = { X-Api-Key = "…" }`,
		Example: "  spillway proxy --upstream http://127.0.0.1:8080 --price 1sat/request",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.proxy(cmd.Context(), f) },
	}
	fl := cmd.Flags()
	fl.StringVar(&f.upstream, "upstream", "", "the service: an http or https URL, or h2c://HOST for HTTP/2 without TLS (gRPC)")
	fl.StringVar(&f.upstreamCA, "upstream-ca", "", "file with the certificates that upstreams' are verified with (default: the system's)")
	fl.StringVar(&f.price, "price", "1sat/request", "price where no rule says otherwise: AMOUNT/request, AMOUNT/SIZE, AMOUNT/event (of server-sent events), AMOUNT/second or free")
	fl.StringVar(&f.listen, "listen", "127.0.0.1:4402", "address to listen on")
	fl.StringVar(&f.tlsCert, "tls-cert", "", "certificate file for TLS")
	fl.StringVar(&f.tlsKey, "tls-key", "", "key file for TLS")
	fl.StringArrayVar(&f.acme, "acme", nil, "name of this host, for which a certificate is fetched and renewed by ACME (Let's Encrypt); the listener has to be reachable at port 443 there; can be given more than once")
	fl.StringVar(&f.acmeEmail, "acme-email", "", "address that the certificate's issuer may write to")
	fl.StringVar(&f.acmeDirectory, "acme-directory", "", "URL of another issuer's ACME directory (default: Let's Encrypt)")
	fl.BoolVar(&f.insecure, "insecure-http", false, "listen beyond loopback without TLS all the same")
	fl.IntVar(&f.free, "free-per-day", 0, "requests that an address has answered unpaid in 24 hours")
	fl.StringVar(&f.maxBody, "max-body", "64MiB", "most that a request may bring")
	fl.BoolVar(&f.ownAuthorization, "own-authorization", false, "the service uses the field Authorization itself and gets it; payments come in Payment-Authorization")
	f.tower.flags(cmd)
	f.ops.flags(cmd)
	return cmd
}

// check reads what proxy needs besides its folder, before that is opened.
func (f *proxyFlags) check(a *app) (cfg reverse.Config, dear uint64, secure *tls.Config, err error) {
	if err := (serveFlags{listen: f.listen, tlsCert: f.tlsCert, tlsKey: f.tlsKey, insecure: f.insecure || len(f.acme) > 0}).checkListen(); err != nil {
		return cfg, 0, nil, err
	}
	if cfg, dear, err = a.proxyRules(*f); err != nil {
		return cfg, 0, nil, err
	}
	if cfg.RootCAs, err = readRoots(f.upstreamCA); err != nil {
		return cfg, 0, nil, err
	}
	if _, err := f.tower.client(); err != nil {
		return cfg, 0, nil, err
	}
	if secure, err = a.loadTLS(f.tlsCert, f.tlsKey); err != nil {
		return cfg, 0, nil, err
	}
	if secure != nil {
		secure.NextProtos = []string{"h2", "http/1.1"}
	}
	if err := f.ops.check(a, secure, f.insecure); err != nil {
		return cfg, 0, nil, err
	}
	return cfg, dear, secure, f.checkACME()
}

// checkACME refuses what no certificate can be fetched with.
func (f proxyFlags) checkACME() error {
	if len(f.acme) == 0 && (f.acmeEmail != "" || f.acmeDirectory != "") {
		return usagef("--acme-email and --acme-directory go with --acme HOST")
	}
	if len(f.acme) > 0 && f.tlsCert != "" {
		return usagef("--acme and --tls-cert exclude each other")
	}
	for _, host := range f.acme {
		if err := checkURL("https://" + host + "/"); err != nil || net.ParseIP(host) != nil || !isHost(host) {
			return usagef("--acme %s: the name of a host is wanted", clipped(host))
		}
	}
	if f.acmeDirectory != "" {
		return checkURL(f.acmeDirectory)
	}
	return nil
}

// isHost reports whether a text is a host name and nothing else.
func isHost(text string) bool {
	u, err := url.Parse("https://" + text)
	return err == nil && u.Hostname() == text && u.Path == ""
}

// certificates fetches and renews certificates by ACME, and keeps them in the
// provider's folder.
func (f proxyFlags) certificates(dir string) *tls.Config {
	m := &autocert.Manager{Prompt: autocert.AcceptTOS, Email: f.acmeEmail, HostPolicy: autocert.HostWhitelist(f.acme...), Cache: autocert.DirCache(filepath.Join(dir, "acme"))}
	if f.acmeDirectory != "" {
		m.Client = &acme.Client{DirectoryURL: f.acmeDirectory}
	}
	c := m.TLSConfig()
	c.MinVersion = tls.VersionTLS12
	return c
}

// readRoots reads certificates; nil: the system's count.
func readRoots(path string) (*x509.CertPool, error) {
	if path == "" {
		return nil, nil
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(raw) {
		return nil, usagef("%s holds no certificate", path)
	}
	return pool, nil
}

// startProxy opens the provider's folder and starts everything of it. ready is told
// once the listener is bound.
func (a *app) startProxy(ctx context.Context, f proxyFlags, ready func(*provider) error) (_ *provider, err error) {
	cfg, dear, secure, err := f.check(a)
	if err != nil {
		return nil, err
	}
	r, err := a.openRole(ctx, "payee")
	if err != nil {
		return nil, err
	}
	p := &provider{app: a, use: f.ops, role: r, served: make(chan error, 1), stop: func() {}, dear: dear}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.Close())
		}
	}()
	if len(f.acme) > 0 {
		secure = f.certificates(r.dir)
	}
	if f.ownAuthorization {
		p.shapeWall = func(c *paywall.ServerConfig) { c.CredentialField = mpp.HeaderAlternateCredential }
	}
	if err := p.buildProxy(ctx, cfg, f); err != nil {
		return nil, err
	}
	l, err := p.listen(f.listen, secure)
	if err != nil {
		return nil, err
	}
	if err := p.startAdmin(); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	if ready != nil {
		if err := ready(p); err != nil {
			return nil, errors.Join(err, l.Close())
		}
	}
	p.run(l)
	return p, nil
}

// listen binds the listener.
func (p *provider) listen(address string, secure *tls.Config) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, &failure{exit: exitLocal, code: "listen", message: err.Error(), money: noMoney,
			next: "Free the address or choose another with --listen.", err: err}
	}
	l = gateway.LimitListener(l, maxConnections)
	p.url = "http://" + l.Addr().String()
	if secure != nil {
		l = tls.NewListener(l, secure)
		p.url = "https://" + l.Addr().String()
	}
	return l, nil
}

// buildProxy wires the drivers and the handler.
func (p *provider) buildProxy(ctx context.Context, cfg reverse.Config, f proxyFlags) (err error) {
	if _, err := p.identify(); err != nil {
		return err
	}
	if cfg.Wall, err = p.openWall(ctx, f.tower, false); err != nil {
		return err
	}
	cfg.Log = p.app.out.logger()
	h, err := reverse.New(cfg)
	if err != nil {
		return usage(err)
	}
	p.app.onReload("rules", func() error { return p.app.rereadRules(f, h) })
	p.gateway = h
	var said io.Writer = io.Discard
	if p.app.out.verbose {
		said = &lockedWriter{p.app.out}
	}
	p.server = reverse.Server(h, log.New(said, "", 0))
	return nil
}

func (a *app) proxy(ctx context.Context, f proxyFlags) error {
	p, err := a.startProxy(ctx, f, func(p *provider) error {
		a.out.say("Selling what %s answers at %s for %s, on %s.", f.upstream, p.url, f.price, a.flags.network)
		a.out.say("Provider %s. Earnings go to the provider's wallet in %s.", p.identity, p.role.dir)
		a.out.say("Stop with Ctrl-C: channels stay open and go on at the next start.")
		return a.out.event("serving", map[string]any{"url": p.url, "upstream": f.upstream, "provider": p.identity, "network": a.flags.network})
	})
	if err != nil {
		return err
	}
	return p.serveUntil(ctx)
}

// serveUntil sells until the context ends, and stops in order.
func (p *provider) serveUntil(ctx context.Context) (err error) {
	shown, hide := context.WithCancel(ctx)
	defer hide()
	p.work.Add(1)
	go func() {
		defer p.work.Done()
		p.live(shown)
	}()
	select {
	case <-ctx.Done():
	case err = <-p.served:
		p.served <- http.ErrServerClosed
	}
	hide()
	p.ops.draining()
	p.app.out.say("Stopping: finishing what is being sent. A second signal ends it at once; nothing is lost by that.")
	signal.Reset(os.Interrupt, syscall.SIGTERM)
	p.finish()
	if err := errors.Join(err, p.Close()); err != nil {
		return err
	}
	return p.app.out.result(map[string]any{"url": p.url})
}
