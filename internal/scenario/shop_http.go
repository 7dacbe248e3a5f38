package scenario

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/content"
	"github.com/spillway/spillway/internal/gateway"
	"github.com/spillway/spillway/payee"
	"github.com/spillway/spillway/paywall"
)

// wall is a shop over HTTP 402: the client that ships, against the gateway that ships.
// Only a close in which one side cheats goes over the counter beside it, by HTTP as
// well: the client would not do what a cheating payer does, nor the server answer what
// a cheating provider answers.
type wall struct {
	counter
	client *paywall.Client
	url    string // of the file
	m      content.Manifest
}

const (
	counterPath = "/counter/" // of the provider's orders without HTTP 402
	goodsName   = "file.bin"
	maxAnswer   = 1 << 20
)

// newShop is a payer's way to a provider at a URL.
func newShop(b *buyer, p part, root [32]byte) (shop, error) {
	c := counter{kind: p, root: root, call: func(ctx context.Context, do string, args, result any) error {
		return post(ctx, p.Provider+counterPath+do, args, result)
	}}
	if p.Kind == Ladder {
		return c, nil // it has no driver; its two sides are brought together by the story
	}
	client, err := paywall.NewClient(paywall.ClientConfig{
		Payer: b.Payer, Network: "regtest", Now: b.now, Rand: b.rand,
		Sleep: func(ctx context.Context, _ time.Duration) error { return ctx.Err() }, // the story has a clock of its own
	})
	return &wall{counter: c, client: client, url: p.Provider + "/" + goodsName}, err
}

// post asks for something at the provider's counter.
func post(ctx context.Context, url string, args, result any) error {
	raw, err := json.Marshal(args)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(raw))
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("%w: %w", paywall.ErrUnreachable, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("%w: %w", paywall.ErrUnreachable, err)
	}
	if resp.StatusCode != http.StatusOK {
		f := &fault{}
		if err := json.Unmarshal(body, f); err != nil {
			return fmt.Errorf("%w: %s", paywall.ErrUnreachable, resp.Status)
		}
		return f
	}
	if result == nil {
		return nil
	}
	return json.Unmarshal(body, result)
}

// serveCounter answers what post asks.
func serveCounter(h handlers) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxAnswer))
		if err == nil {
			body, err = h.do(r.Context(), strings.TrimPrefix(r.URL.Path, counterPath), body)
		}
		if errors.Is(err, errSilent) {
			panic(http.ErrAbortHandler) // the connection ends without a word
		}
		if err != nil {
			body, err = json.Marshal(faultOf(err))
			if err != nil {
				body = []byte(`{"text":"an error that is no JSON"}`)
			}
			w.WriteHeader(http.StatusConflict)
		}
		if _, err := w.Write(body); err != nil {
			return // the payer is gone
		}
	})
}

// translated gives an error of the client's the name that the drivers have for it.
func translated(err error) error {
	switch {
	case errors.Is(err, paywall.ErrExpiring):
		return fmt.Errorf("%w: %w", channel.ErrExpiring, err)
	case errors.Is(err, paywall.ErrGone):
		return fmt.Errorf("%w: %w", channel.ErrFinalized, err)
	case errors.Is(err, paywall.ErrInsufficient):
		return fmt.Errorf("%w: %w", channel.ErrInsufficient, err)
	}
	return err
}

func (w *wall) quote(ctx context.Context) (uint64, error) {
	q, err := w.client.Quote(ctx, w.url, paywall.Expect{})
	if err != nil {
		return 0, err
	}
	return q.Offer.Credit, nil
}

func (w *wall) open(ctx context.Context, _ *buyer) (string, error) {
	q, err := w.client.Quote(ctx, w.url, paywall.Expect{})
	if err != nil {
		return "", err
	}
	return w.client.Open(ctx, q, w.kind.Kind, capacity, paywall.Expect{}, nil)
}

func (w *wall) pay(ctx context.Context, id string, u channel.Update) error {
	_, err := w.client.Voucher(ctx, paywall.Paid{Channel: id, URL: w.url, Update: u})
	return translated(err)
}

func (w *wall) chunk(ctx context.Context, id string, u channel.Update, chunk uint64) (got slice, err error) {
	if w.m.Size == 0 {
		if err := w.manifest(ctx); err != nil {
			return got, err
		}
	}
	off, n := w.m.ChunkRange(chunk)
	resp, _, err := w.client.Fetch(ctx, paywall.Paid{
		Channel: id, URL: fmt.Sprintf("%s?slice=%d-%d", w.url, off, off+n-1), Update: u,
		Header: http.Header{"If-Match": {`"b3-` + w.m.Root.String() + `"`}},
	})
	if err != nil {
		return got, translated(err)
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	got.bytes, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	got.of = w.m.Slice(off, n)
	return got, err
}

// manifest learns what is sold, and holds it against the root that is wanted.
func (w *wall) manifest(ctx context.Context) error {
	raw, _, err := w.client.Get(ctx, w.url+"?manifest", nil, content.MaxManifestBytes)
	if err != nil {
		return err
	}
	var m content.Manifest
	if err := errors.Join(m.UnmarshalJSON(raw), m.Verify()); err != nil {
		return err
	}
	if m.Root != content.Hash(w.root) {
		return fmt.Errorf("%w: the file on sale is another one", paywall.ErrMisbehaved)
	}
	w.m = m
	return nil
}

// back: what comes back travels with the answer to a payment, also to one that was
// made before.
func (w *wall) back(ctx context.Context, b *buyer, id string) error {
	u, err := b.Newest(ctx, id)
	if err != nil {
		return err
	}
	return w.pay(ctx, id, u)
}

func (w *wall) close(ctx context.Context, _ *buyer, id string) error {
	_, err := w.client.Close(ctx, id, "", paywall.Expect{})
	return translated(err)
}

// openShop is the provider's server: the gateway and the paywall that ship, and the
// counter beside them.
func (s *seller) openShop(ctx context.Context) (http.Handler, error) {
	identity, err := s.keys.Identity()
	if err != nil {
		return nil, err
	}
	path := filepath.Join(s.Dir, "goods", goodsName)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, s.file.data, 0o600)); err != nil {
		return nil, err
	}
	files, err := content.NewCatalogue(content.CatalogueConfig{
		Paths: []string{filepath.Dir(path)}, CacheDir: filepath.Join(s.Dir, "outboards"), Identity: identity,
		Price: content.PriceSpec{Msat: price, PerBytes: chunkBytes}, Chunk: content.ChunkSpec{Bytes: chunkBytes},
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return nil, err
	}
	if _, err := files.Refresh(ctx); err != nil {
		return nil, errors.Join(err, files.Close())
	}
	epoch, old, err := payee.Epochs(ctx, s.store)
	if err != nil {
		return nil, err
	}
	cfg := paywall.ServerConfig{
		Payee: s.Payee, Network: "regtest", Realm: "scenario", Recipient: hex.EncodeToString(identity[32:]), Now: s.now,
	}
	if cfg.Secret, err = s.keys.ChallengeSecret(epoch); err != nil {
		return nil, err
	}
	for _, e := range old {
		secret, err := s.keys.ChallengeSecret(e)
		if err != nil {
			return nil, err
		}
		cfg.Before = append(cfg.Before, secret)
	}
	server, err := paywall.NewServer(cfg)
	if err != nil {
		return nil, err
	}
	g, err := gateway.New(gateway.Config{Catalogue: files, Paywall: server, Provider: cfg.Recipient, Network: "regtest", CreditChunks: 1, PerSecond: 1e6})
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("/", s.cheating(g))
	mux.Handle(counterPath, serveCounter(s.wire()))
	return mux, nil
}

// cheating is the provider's server as the provider itself spoils it.
func (s *seller) cheating(honest http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case s.is(&s.mute):
			panic(http.ErrAbortHandler)
		case s.is(&s.damage) && r.URL.Query().Has("slice"):
			honest.ServeHTTP(&spoiler{ResponseWriter: w}, r)
		default:
			honest.ServeHTTP(w, r)
		}
	})
}

// spoiler turns one bit over in the last group of a slice. It knows how long a slice
// is from its header.
type spoiler struct {
	http.ResponseWriter
	at int
}

// Write implements http.ResponseWriter.
func (s *spoiler) Write(p []byte) (int, error) {
	var length int
	if _, err := fmt.Sscan(s.Header().Get("Content-Length"), &length); err != nil {
		return s.ResponseWriter.Write(p)
	}
	if bad := length - groupBytes/2 - s.at; bad >= 0 && bad < len(p) {
		p = bytes.Clone(p)
		p[bad] ^= 1
	}
	n, err := s.ResponseWriter.Write(p)
	s.at += n
	return n, err
}

// Unwrap lets http.ResponseController reach the connection.
func (s *spoiler) Unwrap() http.ResponseWriter { return s.ResponseWriter }
