package paywall

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/mpp"
	"github.com/spillway/spillway/mpp/bitcoin"
	"github.com/spillway/spillway/payee"
)

const (
	// compactKeys is how the keys begin that binds are sealed under. Over HTTP no
	// request may have one, so that neither proof is worth anything in the other place.
	compactKeys = "compact-"
	// compactWorkers is how many channels of one connection are saved at once.
	compactWorkers = 64
	// maxChallenges bounds what a connection keeps of challenges, in bytes.
	maxChallenges = 64 << 10
	// compactHandshake is how long a connection has until its first bind.
	compactHandshake = 10 * time.Second
)

// CompactConfig is how connections of the compact transport are served.
type CompactConfig struct {
	// Handler answers orders, each as a GET of the connection's URL with the order's
	// query; nil: only updates are taken.
	Handler http.Handler
	// Handshake is how long a connection has until a channel is bound; default ten seconds.
	Handshake time.Duration
	// Idle is how long nothing may come while nothing is being sent; default two minutes.
	Idle time.Duration
	// Stall is how long a client may take nothing of what is sent; default a minute.
	Stall time.Duration
	// Max is how many connections there may be, and PerClient how many of one client (an
	// IPv4 address, an IPv6 /64); defaults 4,096 and 256.
	Max, PerClient int
}

func (c CompactConfig) defaults() CompactConfig {
	if c.Handshake <= 0 {
		c.Handshake = compactHandshake
	}
	if c.Idle <= 0 {
		c.Idle = 2 * time.Minute
	}
	if c.Stall <= 0 {
		c.Stall = time.Minute
	}
	if c.Max <= 0 {
		c.Max = 4096
	}
	if c.PerClient <= 0 {
		c.PerClient = 256
	}
	return c
}

// WantsCompact reports whether a request asks for the compact transport.
func WantsCompact(r *http.Request) bool {
	if r.Method != http.MethodGet || !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		return false
	}
	return slices.Contains(subprotocols(r), CompactProtocol)
}

// subprotocols are those that a client speaks, the best first. RFC 6455, section 4.1.
func subprotocols(r *http.Request) (names []string) {
	for _, line := range r.Header.Values("Sec-WebSocket-Protocol") {
		for _, name := range strings.Split(line, ",") {
			if name = strings.TrimSpace(name); name != "" {
				names = append(names, name)
			}
		}
	}
	return names
}

// Compact serves one connection of the compact transport, until it ends. What was paid
// on it is saved, whatever becomes of it. docs/protocol.md, section 21.
func (s *Server) Compact(w http.ResponseWriter, r *http.Request, cfg CompactConfig) {
	cfg = cfg.defaults()
	x := &wire{s: s, cfg: cfg, r: r, more: make(chan struct{}, 1)}
	client := clientOf(r)
	if !s.wires.enter(x, client, cfg.Max, cfg.PerClient) {
		s.unavailable(&visit{s: s, w: w, r: r}, errBusy)
		return
	}
	defer s.wires.leave(x, client)
	var hello helloFrame
	if _, err := rand.Read(hello.nonce[:]); err != nil {
		s.unavailable(&visit{s: s, w: w, r: r}, fmt.Errorf("no randomness: %w", err))
		return
	}
	// any page may pay: nothing here goes by who a browser thinks that it is
	over := &laid{ResponseWriter: w, stall: cfg.Stall}
	ws, err := websocket.Accept(over, r, &websocket.AcceptOptions{Subprotocols: []string{CompactProtocol}, InsecureSkipVerify: true})
	if err != nil {
		s.cfg.Log.Debug("a connection was not upgraded", "path", r.URL.Path, "error", err)
		return
	}
	x.serve(ws, over.pipe, hello)
}

// wires are the connections that were taken over from net/http: of the compact transport,
// and metered WebSockets.
type wires struct {
	mu  sync.Mutex
	all map[stopper]struct{}
	by  map[string]int
}

// stopper is a connection that can be ended; it does not wait.
type stopper interface{ stop(why error) }

func (c *wires) enter(x stopper, client string, most, each int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.all) >= most || c.by[client] >= each {
		return false
	}
	if c.all == nil {
		c.all, c.by = map[stopper]struct{}{}, map[string]int{}
	}
	c.all[x] = struct{}{}
	c.by[client]++
	return true
}

func (c *wires) leave(x stopper, client string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.all, x)
	if c.by[client]--; c.by[client] <= 0 {
		delete(c.by, client)
	}
}

// CloseConnections ends every connection that was taken over from net/http, which
// neither http.Server.Close nor Shutdown does. What was paid on them is saved.
func (s *Server) CloseConnections() {
	s.wires.mu.Lock()
	defer s.wires.mu.Unlock()
	for x := range s.wires.all {
		x.stop(errStopped)
	}
}

// Connections is how many connections there are that were taken over from net/http.
func (s *Server) Connections() int {
	s.wires.mu.Lock()
	defer s.wires.mu.Unlock()
	return len(s.wires.all)
}

// Why a connection ends.
var (
	errStopped = errors.New("the provider stops")
	errIdle    = errors.New("nothing came for too long")
)

// wire is one connection of the compact transport, at the server.
type wire struct {
	s    *Server
	cfg  CompactConfig
	r    *http.Request // that was upgraded
	key  string        // that binds are sealed under
	out  outbox
	pipe *pipe // that messages are written to

	mu         sync.Mutex
	ws         *websocket.Conn // nil: not yet
	cancel     context.CancelCauseFunc
	stopped    bool
	ones       map[uint64]*one
	challenges map[string]*echoed
	kept       int    // bytes of challenges
	ready      []*one // with updates that nobody saves
	working    int
	orders     []orderFrame
	denying    int // answers to orders for which there is no room
	serving    bool
	answerer   bool          // somebody answers orders, or waits for the next
	more       chan struct{} // tells him of it; holds one
	idle       *time.Timer
	group      sync.WaitGroup
}

// one is a channel that is bound to a connection.
type one struct {
	number  uint64
	id      string
	terms   *echoed // that orders are charged by
	over    bool    // it was refused: what comes still is not looked at
	at      tally   // as it was last said
	newest  *channel.Update
	before  *channel.Update // the newest but one, for where the newest is none
	claimed bool            // somebody saves its updates, or will
}

// stop ends the connection.
func (x *wire) stop(why error) {
	x.mu.Lock()
	ws, cancel := x.ws, x.cancel
	x.stopped = true
	x.mu.Unlock()
	if ws == nil {
		return
	}
	x.out.end(why)
	cancel(why)
	_ = ws.CloseNow() // it is over either way
}

func (x *wire) serve(ws *websocket.Conn, l *pipe, hello helloFrame) {
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(x.r.Context()))
	most := x.s.cfg.MaxCredential + 1<<10
	ws.SetReadLimit(int64(most))
	hello.version, hello.ones, hello.orders, hello.message = compactVersion, maxCompactOnes, maxOrders, uint64(most)
	x.pipe, x.out.write, x.out.limit = l, l.small, maxDataFrame
	x.key = nonceKey(hello.nonce)
	x.mu.Lock()
	x.ws, x.cancel = ws, cancel
	late := x.stopped
	x.idle = time.AfterFunc(x.cfg.Handshake, x.quiet)
	x.mu.Unlock()
	defer x.group.Wait()
	defer x.idle.Stop()
	if late {
		x.stop(errStopped)
	}
	err := x.out.put(hello.append)
	for err == nil {
		err = x.message(ctx, ws)
	}
	if errors.Is(err, errFrame) {
		x.refuse(0, http.StatusBadRequest, err)
	}
	x.s.cfg.Log.Debug("a compact connection ended", "path", x.r.URL.Path, "error", err)
	x.stop(err)
}

// quiet ends a connection that nothing comes on, unless something is being sent.
func (x *wire) quiet() {
	x.mu.Lock()
	busy := x.serving || x.working > 0
	if busy {
		x.idle.Reset(x.cfg.Idle)
	}
	x.mu.Unlock()
	if !busy {
		x.refuse(0, http.StatusRequestTimeout, errIdle)
		x.stop(errIdle)
	}
}

// message reads one message and does what its frames say. Errors: errFrame, the
// connection's.
func (x *wire) message(ctx context.Context, ws *websocket.Conn) error {
	kind, from, err := ws.Reader(ctx)
	if err != nil {
		return err
	}
	if kind != websocket.MessageBinary {
		return badFrame("a message of text")
	}
	message, err := io.ReadAll(from)
	if err != nil {
		return err
	}
	for first := true; first || len(message) > 0; first = false {
		var f frame
		if f, message, err = nextFrame(message); err != nil {
			return err
		}
		if err := x.frame(ctx, f); err != nil {
			return err
		}
	}
	x.mu.Lock()
	proved := len(x.ones) > 0
	x.mu.Unlock()
	if proved { // whoever has shown nothing gains no time
		x.idle.Reset(x.cfg.Idle)
	}
	return nil
}

func (x *wire) frame(ctx context.Context, f frame) error {
	switch f.kind {
	case frameBind:
		b, err := parseBind(f.body)
		if err != nil {
			return err
		}
		return x.bind(ctx, b)
	case frameUpdate:
		u, err := parseUpdate(f.body)
		if err != nil {
			return err
		}
		return x.update(ctx, u)
	case frameOrder:
		o, err := parseOrder(f.body)
		if err != nil {
			return err
		}
		return x.order(ctx, o)
	}
	return badFrame("kind %#x", f.kind)
}

// bind takes a channel onto the connection, with the newest update that its payer has,
// or another challenge for one that is there.
func (x *wire) bind(ctx context.Context, f bindFrame) error {
	rec, challenge, err := x.prove(ctx, f.credential)
	if err != nil {
		x.refuseErr(f.number+1, err)
		return nil
	}
	var c *echoed
	x.mu.Lock()
	o := x.ones[f.number]
	switch {
	case o != nil && o.id != rec.Channel && !o.over:
		err = fmt.Errorf("%w: number %d is another channel's", errRequest, f.number)
	default:
		c, err = x.keep(challenge)
	}
	if err == nil {
		if x.ones == nil {
			x.ones = map[uint64]*one{}
		}
		if o == nil || o.over {
			o = &one{number: f.number, id: rec.Channel}
			x.ones[f.number] = o
		}
		o.terms, o.at = c, standingOf(rec)
	}
	x.mu.Unlock()
	if err != nil {
		x.refuseErr(f.number+1, err)
		return nil
	}
	return x.out.put(func(to []byte) []byte { return ackFrame{f.number, standingOf(rec)}.append(to, frameBound) })
}

// prove checks the credential of a bind in the order of every other one, takes its
// update, and returns where the channel stands.
func (x *wire) prove(ctx context.Context, credential string) (rec payee.Receipt, c *mpp.Challenge, err error) {
	r := &http.Request{Header: http.Header{}}
	r.Header.Set(x.s.cfg.CredentialField, credential)
	v := &visit{s: x.s, r: r}
	if err := v.readAs(x.key); err != nil {
		return rec, nil, err
	}
	p, ok := v.payload.(bitcoin.Voucher)
	if !ok || p.FromPayee || p.Epoch != 0 {
		return rec, nil, fmt.Errorf("%w: only vouchers of one-way channels travel here", errRequest)
	}
	if err := v.authenticate(ctx); err != nil {
		return rec, nil, err
	}
	if v.credential.Challenge.Expired(x.s.cfg.Now()) {
		return rec, nil, fmt.Errorf("%w at %s", errExpired, v.credential.Challenge.Expires)
	}
	u, err := v.update(ctx, p)
	if err != nil {
		return rec, nil, err
	}
	rec, err = x.s.takeUpdate(ctx, v.proved, u)
	return rec, &v.credential.Challenge, err
}

// takeUpdate saves an update that comes alone. It is money: also where the connection
// breaks meanwhile, and also where nothing else can be said of the channel just now.
func (s *Server) takeUpdate(ctx context.Context, id string, u channel.Update) (payee.Receipt, error) {
	v := &visit{s: s, proved: id}
	rec, err := v.take(context.WithoutCancel(ctx), u, nil)
	if err != nil && rec.Channel == id && rec.Paid >= u.Amount && u.Amount > 0 && !errors.Is(err, channel.ErrSignature) {
		return rec, nil
	}
	return rec, err
}

func standingOf(r payee.Receipt) tally { return tally{r.Paid, r.Charged, r.Required} }

// refuseErr sends a refusal of a channel (its number, from one), or of the connection (0).
func (x *wire) refuseErr(number uint64, err error) {
	p := refusalOf(err)
	if p == nil {
		x.s.cfg.Log.Error("a compact connection's request failed", "path", x.r.URL.Path, "error", err)
		p = &mpp.Problem{Type: "about:blank", Title: http.StatusText(http.StatusServiceUnavailable), Status: http.StatusServiceUnavailable,
			Detail: "the provider cannot answer now; repeat the request, nothing is charged twice"}
	}
	x.problem(number, p)
}

func (x *wire) refuse(number uint64, status int, err error) {
	x.problem(number, &mpp.Problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: err.Error()})
}

func (x *wire) problem(number uint64, p *mpp.Problem) {
	if number > 0 {
		x.mu.Lock()
		if o := x.ones[number-1]; o != nil {
			o.over = true
		}
		x.mu.Unlock()
	}
	raw, err := json.Marshal(p)
	if err == nil {
		err = x.out.put(problemFrame{number, raw}.append)
	}
	if err != nil {
		x.s.cfg.Log.Debug("a refusal was not taken", "path", x.r.URL.Path, "error", err)
	}
}
