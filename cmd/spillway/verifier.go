package main

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/spillway/spillway/content"
	"github.com/spillway/spillway/internal/durable"
	"github.com/spillway/spillway/internal/gateway"
	"github.com/spillway/spillway/paywall"
)

// verifierFile tells services where the running verifier listens, and the secrets that
// they share with it.
const verifierFile = "verifier.json"

// verifierInfo is what is in it.
type verifierInfo struct {
	URL       string `json:"url"`
	Token     string `json:"token"`
	Realm     string `json:"realm"`
	SecretKey string `json:"secretKey"` // that challenges are made under, as its characters' bytes
	Network   string `json:"network"`
	Provider  string `json:"provider"`
}

// verifierFlags are the flags of verifier.
type verifierFlags struct {
	listen, realm, dearest string
	ahead                  bool
	tower                  towerUse
	ops                    opsUse
}

func (a *app) verifierCommand() *cobra.Command {
	var f verifierFlags
	cmd := &cobra.Command{
		Use:   "verifier --realm HOST",
		Short: "Verify and keep the payments of a service in another language",
		Long: `Stands beside a service that speaks the Payment scheme itself, such as one that
uses mppx, and is its payee: it says what goes into a challenge, and verifies,
charges and saves what a credential pays, before it says yes. It listens on loopback
only and answers to whoever has the token in verifier.json in its data folder, where
the secret is too that the service makes its challenges under. docs/interop.md.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.verifier(cmd.Context(), f) },
	}
	fl := cmd.Flags()
	fl.StringVar(&f.realm, "realm", "", "the service's realm, its host name (default: spillway- and the provider's identity)")
	fl.StringVar(&f.listen, "listen", "127.0.0.1:4404", "loopback address to listen on")
	fl.StringVar(&f.dearest, "dearest", "1000sat", "the dearest request: it sizes what newcomers may owe together")
	fl.BoolVar(&f.ahead, "ahead", false, "payment first; else each channel may owe one request")
	f.tower.flags(cmd)
	f.ops.flags(cmd)
	return cmd
}

// check reads the flags; the price (msat) of the dearest request comes back.
func (f verifierFlags) check() (uint64, error) {
	host, err := checkAddress(f.listen)
	if err != nil {
		return 0, err
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return 0, usagef("--listen is a loopback address: what a verifier says yes to is served")
	}
	for _, c := range f.realm {
		if c < '!' || c > '~' || c == '"' || c == '\\' || c == '|' || c == '/' {
			return 0, usagef("--realm is a host name, not %q", clipped(f.realm))
		}
	}
	if len(f.realm) > 253 {
		return 0, usagef("--realm has at most 253 characters")
	}
	msat, err := content.ParseAmountMsat(f.dearest)
	if err != nil {
		return 0, usage(err)
	}
	if msat == 0 {
		return 0, usagef("--dearest is more than nothing")
	}
	if _, err := f.tower.client(); err != nil {
		return 0, err
	}
	return msat, nil
}

// shareable derives a secret that a service can share as text from one of this
// provider's own: 32 characters, whose bytes are the key.
func shareable(secret [32]byte) (key [32]byte) {
	mac := hmac.New(sha256.New, secret[:])
	mac.Write([]byte("spillway/verifier"))
	copy(key[:], base64.RawURLEncoding.EncodeToString(mac.Sum(nil)))
	return key
}

func (a *app) verifier(ctx context.Context, f verifierFlags) (err error) {
	dear, err := f.check()
	if err != nil {
		return err
	}
	if err := f.ops.check(a, nil, false); err != nil {
		return err
	}
	r, err := a.openRole(ctx, "payee")
	if err != nil {
		return err
	}
	p := &provider{app: a, use: f.ops, role: r, served: make(chan error, 1), stop: func() {}, dear: dear}
	info, l, err := p.buildVerifier(ctx, f)
	if err != nil {
		return errors.Join(err, p.Close())
	}
	path := filepath.Join(r.dir, verifierFile)
	raw, err := json.Marshal(info)
	if err == nil {
		err = durable.Write(path, raw)
	}
	if err == nil {
		err = p.startAdmin()
	}
	if err != nil {
		return errors.Join(localError(err), l.Close(), p.Close())
	}
	a.out.say("Verifying payments at %s for the realm %s, on %s.", info.URL, info.Realm, a.flags.network)
	a.out.say("Provider %s. Earnings go to the provider's wallet in %s.", p.identity, r.dir)
	a.out.say("Services find address, token and secret in %s (only its owner can read it).", path)
	if err := a.out.event("serving", map[string]any{"url": info.URL, "realm": info.Realm, "file": path, "provider": p.identity, "network": a.flags.network}); err != nil {
		return errors.Join(err, l.Close(), p.Close())
	}
	p.run(l)
	return errors.Join(p.serveUntil(ctx), durable.Remove(path))
}

// buildVerifier wires the drivers, the verifier and its listener.
func (p *provider) buildVerifier(ctx context.Context, f verifierFlags) (info verifierInfo, l net.Listener, err error) {
	if _, err := p.identify(); err != nil {
		return info, nil, err
	}
	info = verifierInfo{Realm: f.realm, Network: p.app.flags.network, Provider: p.identity}
	p.shapeWall = func(cfg *paywall.ServerConfig) {
		cfg.Secret = shareable(cfg.Secret)
		for i, s := range cfg.Before {
			cfg.Before[i] = shareable(s)
		}
		if f.realm != "" {
			cfg.Realm = f.realm
		}
		info.Realm, info.SecretKey = cfg.Realm, string(cfg.Secret[:])
	}
	wall, err := p.openWall(ctx, f.tower, false)
	if err != nil {
		return info, nil, err
	}
	var token [32]byte
	if _, err := rand.Read(token[:]); err != nil {
		return info, nil, err
	}
	info.Token = base64.RawURLEncoding.EncodeToString(token[:])
	v, err := paywall.NewVerifier(paywall.VerifierConfig{Server: wall, Token: info.Token, Ahead: f.ahead})
	if err != nil {
		return info, nil, err
	}
	p.gateway = verified{v}
	p.server = gateway.HTTPServer(v, log.New(io.Discard, "", 0))
	if l, err = p.listen(f.listen, nil); err == nil {
		info.URL = p.url
	}
	return info, l, err
}

// verified is a verifier as the provider's live line sees it: it sends nothing itself.
type verified struct{ *paywall.Verifier }

func (verified) Sent() uint64                { return 0 }
func (verified) Deliveries() int             { return 0 }
func (verified) Drain(context.Context) error { return nil }
