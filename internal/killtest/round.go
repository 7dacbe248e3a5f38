//go:build linux && amd64

package killtest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/spillway/spillway/mpp/bitcoin"
)

// Kinds of rounds.
const (
	Calm     = "calm"      // nothing happens; it counts the points of a session
	Point    = "point"     // kill -9 before the n-th call of a kind
	Moment   = "moment"    // kill -9 at random moments, either side, several times
	DiskFull = "full"      // the n-th disk point and all after it fail with ENOSPC, until the process is started again
	FullOnce = "full-once" // the n-th disk point alone fails with ENOSPC
	SyncFail = "sync-fail" // the n-th fsync fails with EIO
	CallFail = "call-fail" // the n-th change of a name or a length fails with EIO
)

// The two processes.
const (
	Payer = "payer"
	Payee = "payee"
)

// Round is what is to happen in one session. The zero value of everything but
// Number is a calm one.
type Round struct {
	Number  int    `json:"round"`
	Kind    string `json:"kind"`
	Role    string `json:"role,omitempty"` // whom the fault is for
	Fault   Fault  `json:"fault,omitzero"`
	Channel string `json:"channel"`         // construction
	Cheap   bool   `json:"cheap,omitempty"` // the file costs less than the minimum charge
}

// Outcome is what came of a round.
type Outcome struct {
	Round
	At      string         `json:"at,omitempty"` // the point where the fault fired; "": it was not reached
	Kills   int            `json:"kills"`        // by kill -9, both sides
	Gets    int            `json:"gets"`
	Exits   []string       `json:"exits,omitempty"` // how processes ended that did not succeed
	Acked   int            `json:"acknowledged"`    // receipts that left the provider
	Lost    int            `json:"lost"`            // acknowledged payments that a store did not hold
	Double  int            `json:"double"`          // chunks charged or paid more than once
	Whole   bool           `json:"whole"`
	Books   bool           `json:"books"` // both sides' agree with the chain
	Error   string         `json:"error,omitempty"`
	Seconds float64        `json:"seconds"`
	Points  map[string]int `json:"-"` // of the last get and serve, by "role name"
}

// round is a session while it runs.
type round struct {
	Round
	stand *Stand
	dir   string
	host  string // the provider's address; the port is known after the first start
	out   *Outcome
	rand  *rand.Rand
	data  []byte // the file
	lives map[string]int

	payee     *process
	disturbed bool // the provider was killed, or its disk refused, since the present get began
	faulty    bool // the running provider's disk refused

	mu      sync.Mutex
	paid    map[string]uint64 // sat acknowledged, by channel
	charged map[string]uint64 // msat
	bad     error             // a receipt that is none

	receipts int
}

const (
	fileBytes = 40_000
	chunks    = 8
	mostLives = 14
)

// price is the file's, in sat.
func (r *round) price() uint64 {
	if r.Cheap {
		return 301
	}
	return 16_003
}

// Play plays one round in a folder of its own, which is removed if all was well.
func (s *Stand) Play(ctx context.Context, spec Round) Outcome {
	begin := time.Now()
	out := Outcome{Round: spec, Points: map[string]int{}}
	r := &round{Round: spec, stand: s, out: &out, lives: map[string]int{}, paid: map[string]uint64{}, charged: map[string]uint64{},
		rand: rand.New(rand.NewPCG(uint64(spec.Number), 0x6b696c6c))}
	err := r.play(ctx)
	if r.payee != nil {
		err = errors.Join(err, r.payee.kill())
	}
	out.Acked = r.receipts
	if err != nil {
		out.Error = fmt.Sprintf("%v (kept: %s)", err, r.dir)
	} else if err := os.RemoveAll(r.dir); err != nil {
		out.Error = err.Error()
	}
	out.Seconds = time.Since(begin).Seconds()
	return out
}

// prepare makes the folder, the file and an address of its own: no other process
// takes its port between two lives.
func (r *round) prepare() (err error) {
	if r.dir, err = os.MkdirTemp(r.stand.Dir, fmt.Sprintf("round-%d-", r.Number)); err != nil {
		return err
	}
	r.data = make([]byte, fileBytes+r.Number%7)
	for i := range r.data {
		r.data[i] = byte(r.rand.Uint32())
	}
	n := os.Getpid()*31 + r.Number
	r.host = fmt.Sprintf("127.%d.%d.%d:0", 16+n>>16&127, n>>8&255, 1+n%254)
	for _, dir := range []string{"files", "bought"} {
		if err := os.Mkdir(filepath.Join(r.dir, dir), 0o755); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(r.dir, "files", "f.bin"), r.data, 0o644)
}

func (r *round) common() []string {
	return []string{"--json", "--data", filepath.Join(r.dir, "data"), "--chain", r.stand.url}
}

func (r *round) bought() string { return filepath.Join(r.dir, "bought", "f.bin") }

func (r *round) play(ctx context.Context) error {
	if err := r.prepare(); err != nil {
		return err
	}
	if err := r.buy(ctx); err != nil {
		return err
	}
	if err := r.books(ctx); err != nil {
		return err
	}
	r.out.Books = true
	return r.stopPayee(ctx)
}

// buy gives the same command until it succeeds.
func (r *round) buy(ctx context.Context) error {
	for r.out.Gets < mostLives {
		if err := r.ensurePayee(ctx); err != nil {
			return err
		}
		if r.stand.minimum == 0 && r.Kind == Calm {
			if err := r.askMinimum(ctx); err != nil {
				return err
			}
		}
		done, err := r.get(ctx)
		if err != nil {
			return err
		}
		if err := r.whole(done); err != nil {
			return err
		}
		if done {
			r.out.Whole = true
			return r.bad
		}
		if err := r.mendPayee(ctx); err != nil {
			return err
		}
	}
	return fmt.Errorf("not bought after %d runs: %s", r.out.Gets, strings.Join(r.out.Exits, "; "))
}

// whole checks the file under its name: it is all there, or not there.
func (r *round) whole(must bool) error {
	got, err := os.ReadFile(r.bought())
	if errors.Is(err, os.ErrNotExist) && !must {
		return nil
	} else if err != nil {
		return err
	}
	if !bytes.Equal(got, r.data) {
		return fmt.Errorf("the file is not whole: %d bytes, sha256 %x", len(got), sha256.Sum256(got))
	}
	return nil
}

// fault is what happens to the next life of a process.
func (r *round) fault(role string) Fault {
	r.lives[role]++
	life := r.lives[role]
	switch {
	case role == r.Role && life == 1:
		return r.Fault
	case role == r.Role && r.Kind == Point && life == 2 && r.rand.IntN(3) == 0: // also while it recovers
		return Fault{Point: []string{AnyDisk, AnySync}[r.rand.IntN(2)], N: 1 + r.rand.IntN(20)}
	}
	return Fault{}
}

// launch starts a process with its fault, and, in a round of moments, the clock
// that kills it.
func (r *round) launch(role string, args ...string) (*process, error) {
	t := &trace{fault: r.fault(role), chainHost: strings.TrimPrefix(r.stand.url, "http://")}
	if role == Payee {
		t.onReceipt, t.onAck = r.receipt, r.acks
	}
	p, err := spawn(t, append(append([]string{r.stand.Binary}, args...), r.common()...), environment(r.dir), true)
	if err != nil {
		return nil, err
	}
	if r.Kind == Moment && r.lives[role] <= 4 && r.rand.IntN(4) > 0 {
		delay := time.Duration(r.rand.Int64N(int64(500 * time.Millisecond)))
		go func() {
			select {
			case <-after(delay):
				if err := p.signal(os.Kill); err != nil {
					r.note(err)
				}
			case <-p.ended:
			}
		}()
	}
	return p, nil
}

// note keeps an error of a callback; the round fails with it.
func (r *round) note(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.bad = errors.Join(r.bad, err)
}

// receipt notes what the provider acknowledges.
func (r *round) receipt(text string) {
	rec, err := bitcoin.ParseReceipt([]string{text})
	if err != nil {
		r.note(fmt.Errorf("a receipt left the provider that is none: %w", err))
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.receipts++
	r.paid[rec.ChannelID] = max(r.paid[rec.ChannelID], rec.AcceptedCumulative)
	r.charged[rec.ChannelID] = max(r.charged[rec.ChannelID], rec.ChargedMsat)
}

// get gives the payer's command once and reports whether it is done. A provider
// that ends meanwhile is started again at once, or only afterwards.
func (r *round) get(ctx context.Context) (done bool, err error) {
	r.out.Gets++
	r.disturbed = r.faulty
	p, err := r.launch(Payer, "get", "http://"+r.host+"/f.bin", "-o", r.bought(), "--channel", r.Channel,
		"--wait", "2s") // a provider that has to be started again is, when the command has given up
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, p.kill()) }()
	ctx, cancel := context.WithTimeout(ctx, getLimit)
	defer cancel()
	at := r.rand.IntN(2) == 0
	for p.alive() && ctx.Err() == nil && at {
		select {
		case <-p.ended:
		case <-ctx.Done():
		case <-r.payee.ended:
			if err := r.ensurePayee(ctx); err != nil {
				return false, err
			}
			r.disturbed = true
		}
	}
	if err := p.wait(ctx); err != nil {
		return false, fmt.Errorf("get: %w\n%s", err, p.said())
	}
	r.faulty = r.refused(r.payee)
	if p.code() == exitUnreachable && !r.disturbed && !r.faulty {
		r.disturbed = r.dying() // its connections go before its end is seen
	}
	r.disturbed = r.disturbed || r.faulty || !r.payee.alive()
	var allowed []int
	if r.disturbed { // refused: a provider that just came up knows no file yet
		allowed = append(allowed, exitUnreachable, exitRefused)
	}
	if err := r.judge(Payer, p, allowed); err != nil {
		return false, err
	}
	if p.killed() || p.code() != 0 {
		return false, nil
	}
	l := p.last()
	if l.text("type") != "result" {
		return false, fmt.Errorf("get succeeded without a result\n%s", p.said())
	}
	if why := l.text("unsettled"); why != "" {
		if !r.disturbed && !r.refused(p) {
			return false, fmt.Errorf("get left its channel unsettled (%s) though nothing happened", why)
		}
		r.out.Exits = append(r.out.Exits, "payer 0 unsettled: "+why)
		return false, nil
	}
	return true, nil
}
