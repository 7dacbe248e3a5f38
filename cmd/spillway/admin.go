package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/internal/durable"
	"github.com/spillway/spillway/store"
)

// adminSocket is where a running provider listens for its operator's commands: a socket
// in its folder, which nobody else can enter. A socket that was left over answers
// nobody, so a provider that died is not taken for one that runs.
const adminSocket = "admin.sock"

// oldAdminFile named the listener of earlier versions.
const oldAdminFile = "admin.json"

// longestSocket is how long the path of a socket may be, less its end.
const longestSocket = 100

type adminServer struct {
	server *http.Server
	dir    string
	done   chan error
}

// socketPath is a path to the socket that is short enough, as long as done is not called.
func socketPath(dir string) (path string, done func() error, err error) {
	path = filepath.Join(dir, adminSocket)
	if len(path) <= longestSocket {
		return path, func() error { return nil }, nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", d.Fd(), adminSocket), d.Close, nil
}

// startAdmin opens the admin API on the socket in the provider's folder. The folder is
// this process's alone: a socket that is there is left over.
func startAdmin(dir string, h http.Handler) (*adminServer, error) {
	s := &adminServer{dir: dir, done: make(chan error, 1)}
	if err := s.remove(); err != nil {
		return nil, localError(err)
	}
	path, done, err := socketPath(dir)
	if err != nil {
		return nil, localError(err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err == nil {
		l.SetUnlinkOnClose(false) // by its own path, below
		err = os.Chmod(filepath.Join(dir, adminSocket), 0o600)
	}
	if err = errors.Join(err, done()); err != nil {
		return nil, localError(err)
	}
	s.server = adminHTTP(h)
	go func() { s.done <- s.server.Serve(l) }()
	return s, nil
}

// startAdmin opens the admin API, and the listeners that were asked for beside it.
func (p *provider) startAdmin() (err error) {
	if p.admin, err = startAdmin(p.role.dir, p.adminHandler(true, "")); err != nil {
		return err
	}
	return p.ops.listen()
}

// adminHTTP is a server for the operator: he waits for a settlement, not for ever.
func adminHTTP(h http.Handler) *http.Server {
	return &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
}

func (s *adminServer) remove() error {
	return errors.Join(durable.Remove(filepath.Join(s.dir, adminSocket)), durable.Remove(filepath.Join(s.dir, oldAdminFile)))
}

// Close ends the admin API.
func (s *adminServer) Close() error {
	err := s.server.Close()
	<-s.done
	return errors.Join(err, s.remove())
}

// askProvider asks the provider that runs on this data folder.
// errNoProvider: none runs.
func (a *app) askProvider(ctx context.Context, method, path string, into any) error {
	return a.tellProvider(ctx, method, path, nil, into)
}

// tellProvider is askProvider with a body.
func (a *app) tellProvider(ctx context.Context, method, path string, body, into any) error {
	var raw []byte
	if body != nil {
		var err error
		if raw, err = json.Marshal(body); err != nil {
			return err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://provider"+path, bytes.NewReader(raw))
	if err != nil {
		return err
	}
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dialAdmin(ctx, a.folder("payee")) }}
	defer tr.CloseIdleConnections()
	resp, err := (&http.Client{Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}).Do(req)
	if errors.Is(err, errNoProvider) {
		return errNoProvider // in its own words
	} else if err != nil {
		return err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(io.LimitReader(resp.Body, 256<<20))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return adminError(resp.StatusCode, got)
	}
	return json.Unmarshal(got, into)
}

// dialAdmin connects to the provider that runs on a folder. errNoProvider: none does.
func dialAdmin(ctx context.Context, dir string) (net.Conn, error) {
	path, done, err := socketPath(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, errNoProvider
	} else if err != nil {
		return nil, localError(err)
	}
	c, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
	err = errors.Join(err, done())
	switch {
	case err == nil:
		return c, nil
	case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.EPROTOTYPE):
		return nil, errNoProvider // what is left over answers nobody
	case ctx.Err() != nil:
		return nil, ctx.Err()
	default:
		return nil, localError(err)
	}
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
	case http.StatusBadRequest:
		return usagef("%s", p.Detail)
	case http.StatusConflict:
		return fmt.Errorf("%w: %s", channel.ErrFinalized, p.Detail)
	default:
		return errors.New(p.Detail)
	}
}

// channelPath is a channel's path in the admin API.
func channelPath(id, action string) string {
	path := "/v1/channels/" + url.PathEscape(id)
	if action != "" {
		path += "/" + action
	}
	return path
}

// listChannels asks the provider that runs for its channels.
func (a *app) listChannels(ctx context.Context) ([]row, error) {
	var got struct {
		Channels []row `json:"channels"`
	}
	if err := a.askProvider(ctx, http.MethodGet, "/v1/channels", &got); err != nil {
		return nil, err
	}
	return got.Channels, nil
}

// shownRow is a channel as the admin API answers it.
func shownRow(r channel.PayeeRecord) any {
	shown := payeeRow(r)
	shown.Sentence, shown.Owed = shown.sentence(), r.Owed()
	return shown
}

// balance is what the admin API tells of the provider's wallet, in sat.
type balance struct {
	Confirmed   int64  `json:"confirmed_sat"`
	Unconfirmed int64  `json:"unconfirmed_sat"`
	Reserved    int64  `json:"reserved_sat"`  // promised to transactions that the chain does not show yet
	Spendable   int64  `json:"spendable_sat"` // now
	Unsettled   uint64 `json:"unsettled_sat"` // paid in channels, and not on the chain yet
	Channels    uint64 `json:"channels"`      // that these are in
}

// adminToken is the admin API's token, and the file that it is in: the one that was
// named, or one in the provider's folder, which is made.
func (p *provider) adminToken(use opsUse) (token, file string, err error) {
	if use.adminToken != "" {
		return use.token, use.adminToken, nil
	}
	path := filepath.Join(p.role.dir, "admin-token")
	token, err = ownSecret(path)
	if errors.Is(err, os.ErrNotExist) {
		if token, err = randomToken(); err != nil {
			return "", "", err
		}
		err = durable.Create(path, []byte(token+"\n"))
	}
	if err == nil && len(token) < 16 {
		err = fmt.Errorf("%w: %s holds no token: remove it, it is made again", store.ErrDamaged, path)
	}
	return token, path, err
}
