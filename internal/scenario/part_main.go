package scenario

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/chain/devnet"
	"github.com/spillway/spillway/chain/esplora"
	"github.com/spillway/spillway/store/sqlite"
)

// message is what goes to an actor's process, a line each; the first one has the part.
type message struct {
	Part *part           `json:"part,omitempty"`
	Now  int64           `json:"now"` // unix seconds, the story's clock
	Do   string          `json:"do,omitempty"`
	Args json.RawMessage `json:"args,omitempty"`
}

// reply is what comes back, a line for each message.
type reply struct {
	URL    string          `json:"url,omitempty"` // where it listens, in the first one
	Result json.RawMessage `json:"result,omitempty"`
	Fault  *fault          `json:"fault,omitempty"`
}

// stagehand is an actor's process: the part that it plays, and its clock.
type stagehand struct {
	part
	clock atomic.Int64
	out   *json.Encoder
}

// Act plays one part of a story in this process, as lines of JSON on in tell it to,
// until in ends: then it ends the process at once, whatever it was doing, so that it
// never outlives who started it. It is the body of a hidden command and serves nobody
// but Scenario.PlayApart.
func Act(ctx context.Context, in io.Reader, out io.Writer) error {
	lines := make(chan message)
	failed := make(chan error, 1)
	go func() {
		d := json.NewDecoder(bufio.NewReader(in))
		for {
			var m message
			err := d.Decode(&m)
			if errors.Is(err, io.EOF) {
				os.Exit(0)
			}
			if err != nil {
				failed <- err
				return
			}
			lines <- m
		}
	}()
	h := &stagehand{out: json.NewEncoder(out)}
	var orders handlers
	for {
		select {
		case err := <-failed:
			return err
		case <-ctx.Done():
			return ctx.Err()
		case m := <-lines:
			var r reply
			var err error
			h.clock.Store(m.Now)
			switch {
			case m.Part != nil:
				h.part = *m.Part
				orders, r.URL, err = h.begin(ctx)
			case m.Do != "clock":
				r.Result, err = orders.do(ctx, m.Do, m.Args)
			}
			r.Fault = faultOf(err)
			if err := h.out.Encode(r); err != nil {
				return err
			}
		}
	}
}

func (h *stagehand) now() time.Time { return time.Unix(h.clock.Load(), 0) }

// begin takes up the part.
func (h *stagehand) begin(ctx context.Context) (handlers, string, error) {
	switch h.Role {
	case Node:
		return h.beNode()
	case Payee:
		return h.bePayee(ctx)
	case Payer:
		return h.bePayer(ctx)
	}
	return nil, "", fmt.Errorf("there is no part %q", h.Role)
}

func (h *stagehand) beNode() (handlers, string, error) {
	if h.Bitcoind != "" {
		return h.beCore()
	}
	node, err := devnet.New(devnet.Config{Now: h.now})
	if err != nil {
		return nil, "", err
	}
	n := &network{Node: node}
	mux := http.NewServeMux()
	for _, side := range []Side{Payer, Payee, Node} {
		path := "/" + string(side)
		mux.Handle(path+"/", http.StripPrefix(path, entrance{n, side}.serve(node.Handler())))
	}
	url, err := h.listen(mux)
	return n.orders(), url, err
}

func (h *stagehand) beCore() (handlers, string, error) {
	n, err := newCoreNetwork(h.Bitcoind, h.Dir, h)
	if err != nil {
		return nil, "", err
	}
	mux := http.NewServeMux()
	for _, side := range []Side{Payer, Payee, Node} {
		mux.HandleFunc("POST /"+string(side), n.serve(side))
	}
	url, err := h.listen(mux)
	return n.orders(), url, err
}

func (h *stagehand) bePayee(ctx context.Context) (handlers, string, error) {
	g, err := h.gear(ctx)
	if err != nil {
		return nil, "", err
	}
	s, err := newSeller(ctx, g)
	if err != nil {
		return nil, "", err
	}
	if s.file, err = newFile(ctx); err != nil {
		return nil, "", err
	}
	shop, err := s.openShop(ctx)
	if err != nil {
		return nil, "", err
	}
	url, err := h.listen(shop)
	return s.orders(), url, err
}

func (h *stagehand) bePayer(ctx context.Context) (handlers, string, error) {
	g, err := h.gear(ctx)
	if err != nil {
		return nil, "", err
	}
	b, err := newBuyer(ctx, g)
	if err != nil {
		return nil, "", err
	}
	f, err := newFile(ctx)
	if err != nil {
		return nil, "", err
	}
	b.shop, err = newShop(b, h.part, f.ob.Root())
	return b.orders(), "", err
}

// gear opens the side's folder and its way to the chain.
func (h *stagehand) gear(ctx context.Context) (g gear, err error) {
	g = gear{part: h.part, rand: newDice(h.Seed), now: h.now}
	s, err := sqlite.Open(ctx, filepath.Join(h.Dir, storeName), sqlite.Options{Shared: h.Role == Payer})
	if err != nil {
		return g, err
	}
	g.store = &mortal{Store: s, die: dieForGood}
	c, err := h.sight()
	g.chain = &line{Backend: c}
	return g, err
}

// sight is the chain as a part sees it.
func (p part) sight() (chain.Backend, error) {
	if p.Bitcoind != "" {
		return newCoreSight(p.Chain)
	}
	return esplora.New(esplora.Config{URL: p.Chain, Network: devnet.Params()})
}

// dieForGood is kill -9 by the process's own hand.
func dieForGood() error {
	p, err := os.FindProcess(os.Getpid())
	if err != nil {
		return err
	}
	if err := p.Kill(); err != nil {
		return err
	}
	select {}
}

// listen serves on loopback until the process ends.
func (h *stagehand) listen(handler http.Handler) (string, error) {
	const anywhere = "127.0.0.1:0"
	address := h.Listen
	if address == "" {
		address = anywhere
	}
	l, err := net.Listen("tcp", address)
	if err != nil && strings.HasSuffix(address, ":0") { // not every system has all of 127.0.0.0/8
		l, err = net.Listen("tcp", anywhere)
	}
	if err != nil {
		return "", err
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		if err := server.Serve(l); err != nil {
			fmt.Fprintf(os.Stderr, "the %s's listener ended: %v\n", h.Role, err)
		}
	}()
	return "http://" + l.Addr().String(), nil
}
