package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/content"
	"github.com/spillway/spillway/internal/durable"
	"github.com/spillway/spillway/internal/gateway"
	"github.com/spillway/spillway/payee"
	"github.com/spillway/spillway/store"
)

// payout is the script that this provider's settlements pay to; it stays the
// same so that a restart does not change what was quoted.
func (p *provider) payout(ctx context.Context) ([]byte, error) {
	const bucket, key = "cmd/payout", "script"
	e, err := p.role.store.Get(ctx, bucket, key)
	if err == nil {
		return e.Value, nil
	} else if !errors.Is(err, store.ErrNotFound) {
		return nil, err
	}
	pk, err := p.role.wallet.ReceiveScript(ctx)
	if err != nil {
		return nil, err
	}
	return pk, p.role.store.Commit(ctx, store.Op{Bucket: bucket, Key: key, Value: pk})
}

// announce tells of a file that is offered now.
func (p *provider) announce(name string) {
	e, err := p.files.Lookup(name)
	if err != nil {
		return // gone again
	}
	m := e.Manifest()
	price := fmt.Sprintf("%s at %s, %s in all", count(m.Chunks(), "chunk"), money(m.ChunkMsat), money(m.TotalMsat()))
	switch {
	case m.TotalMsat() == 0:
		price = "free"
	case m.FreeChunks > 0:
		price += ", the first " + size(m.FreeBytes()) + " free"
	}
	p.app.out.say("  %s%s  %s, %s", p.url, (&url.URL{Path: "/" + m.Name}).EscapedPath(), size(m.Size), price)
	if m.ChunkBytes < content.SmallChunk && m.Chunks() > 1 {
		p.app.out.say("    its chunks are small: neighbours' bytes travel with each of them unpaid")
	}
	file := map[string]any{"name": m.Name, "size": m.Size, "root": m.Root.String(), "chunks": m.Chunks(), "total_msat": m.TotalMsat(), "free_bytes": m.FreeBytes()}
	if err := p.app.out.event("file", file); err != nil {
		p.app.out.say("output: %v", err)
	}
}

// hashing tells of long hashing, at most once a second. A file whose bytes do
// not come one after the other was known already.
func (a *app) hashing() func(content.ScanProgress) {
	last, name, bytes := time.Now(), "", uint64(0)
	return func(s content.ScanProgress) {
		reads := s.Name != "" && s.Name == name && s.Bytes > bytes
		name, bytes = s.Name, s.Bytes
		if !reads || time.Since(last) < time.Second {
			return
		}
		last = time.Now()
		a.out.say("hashing %s: %s of %s", s.Name, size(s.Bytes), size(s.AllBytes))
	}
}

// walletAnswers are what the operator's wallet and trade commands ask of a provider that
// runs, whose folder they cannot open.
func (p *provider) walletAnswers() map[string]func(context.Context, url.Values) (any, error) {
	return map[string]func(context.Context, url.Values) (any, error){
		"POST /trade": p.trade,
		"GET /chain": func(ctx context.Context, _ url.Values) (any, error) {
			return p.app.chainStateOf(ctx, p.role.chain), nil
		},
		"GET /earnings": func(ctx context.Context, _ url.Values) (any, error) {
			return payee.Earnings(ctx, p.role.store, "")
		},
		"GET /wallet/balance": func(ctx context.Context, _ url.Values) (any, error) { return p.role.holdings(ctx) },
		"POST /wallet/address": func(ctx context.Context, _ url.Values) (any, error) {
			addr, _, err := p.role.wallet.Address(ctx)
			return addr, err
		},
	}
}

// adminFile tells the operator's commands where the running provider listens.
const adminFile = "admin.json"

type adminInfo struct {
	URL   string `json:"url"`
	Token string `json:"token"`
}

type adminServer struct {
	server *http.Server
	path   string
	done   chan error
}

// startAdmin opens the admin API on loopback and writes its address and token
// to a file of mode 0600.
func startAdmin(dir string, driver gateway.AdminDriver, more map[string]func(context.Context, url.Values) (any, error), logger *slog.Logger) (*adminServer, error) {
	var token [32]byte
	if _, err := rand.Read(token[:]); err != nil {
		return nil, err
	}
	info := adminInfo{Token: hex.EncodeToString(token[:])}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, localError(err)
	}
	info.URL = "http://" + l.Addr().String()
	raw, err := json.Marshal(info)
	if err != nil {
		return nil, err
	}
	s := &adminServer{path: filepath.Join(dir, adminFile), done: make(chan error, 1)}
	if err := durable.Write(s.path, raw); err != nil {
		return nil, errors.Join(localError(err), l.Close())
	}
	s.server = &http.Server{Handler: gateway.Admin(driver, info.Token, logger, more), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second}
	go func() { s.done <- s.server.Serve(l) }()
	return s, nil
}

// Close ends the admin API.
func (s *adminServer) Close() error {
	err := s.server.Close()
	<-s.done
	return errors.Join(err, durable.Remove(s.path))
}

// askProvider asks the provider that runs on this data folder.
// errNoProvider: none runs.
func (a *app) askProvider(ctx context.Context, method, path string, into any) error {
	raw, err := os.ReadFile(filepath.Join(a.folder("payee"), adminFile))
	if err != nil {
		return errNoProvider
	}
	var info adminInfo
	if err := json.Unmarshal(raw, &info); err != nil {
		return fmt.Errorf("%w: %s: %v", store.ErrDamaged, adminFile, err)
	}
	req, err := http.NewRequestWithContext(ctx, method, info.URL+path, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+info.Token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return errNoProvider // it did not stop cleanly: the file is left over
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 256<<20))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return adminError(resp.StatusCode, body)
	}
	return json.Unmarshal(body, into)
}

var errNoProvider = errors.New("no provider runs on this data folder")

func adminError(status int, body []byte) error {
	var p struct {
		Detail string `json:"detail"`
	}
	if err := json.Unmarshal(body, &p); err != nil || p.Detail == "" {
		p.Detail = http.StatusText(status)
	}
	switch status {
	case http.StatusNotFound:
		return &failure{exit: exitUsage, code: "unknown-channel", message: p.Detail, money: noMoney, next: "List the channels with: spillway channels list"}
	case http.StatusUnprocessableEntity:
		return &failure{exit: exitUsage, code: "refused", message: p.Detail, money: noMoney, next: "Look at the channel with: spillway channels show ID"}
	case http.StatusConflict:
		return fmt.Errorf("%w: %s", channel.ErrFinalized, p.Detail)
	default:
		return errors.New(p.Detail)
	}
}
