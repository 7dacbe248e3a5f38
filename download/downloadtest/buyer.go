package downloadtest

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/spillway/spillway/chain/devnet"
	"github.com/spillway/spillway/content"
	"github.com/spillway/spillway/download"
	"github.com/spillway/spillway/keys"
	"github.com/spillway/spillway/payer"
	"github.com/spillway/spillway/paywall"
	"github.com/spillway/spillway/store"
	"github.com/spillway/spillway/store/memory"
	"github.com/spillway/spillway/wallet"
)

// ErrInjected is what a fault injects.
var ErrInjected = errors.New("injected fault")

// Customer is a buyer's lasting state: seed, coins and store. Buyer opens it.
type Customer struct {
	M     *Market
	Keys  *keys.Keyring
	Store *FaultStore
	Net   *FaultNet
	Disk  *FaultDisk
	Stall time.Duration
	// Compact lets payments, and what they pay for, go over the compact transport.
	Compact bool
	// SaveEvery is how many bytes of a chunk may be lost; default: 64 KiB.
	SaveEvery uint64
	// OnSleep is called for every wait; default: a block is mined.
	OnSleep func(time.Duration) error
}

// NewCustomer makes a buyer with confirmed coins.
func (m *Market) NewCustomer(coins ...int64) *Customer {
	m.T.Helper()
	c := &Customer{M: m, Keys: NewKeys(m.T), Store: &FaultStore{Store: memory.New()}, Net: &FaultNet{}, Disk: &FaultDisk{}}
	c.Net.base = paywall.DefaultHTTP().Transport
	w := c.wallet()
	if len(coins) == 0 {
		coins = []int64{5_000_000}
	}
	for _, sat := range coins {
		pk, err := w.ReceiveScript(context.Background())
		Must(m.T, err)
		_, err = m.Node.Faucet(context.Background(), pk, sat)
		Must(m.T, err)
	}
	m.Mine(1)
	return c
}

func (c *Customer) wallet() *wallet.Wallet {
	c.M.T.Helper()
	w, err := wallet.New(context.Background(), wallet.Config{Keys: c.Keys, Chain: c.M.Node, Store: c.Store, Params: devnet.Params(), Logger: c.M.Log})
	Must(c.M.T, err)
	return w
}

// Opened is a buyer that runs.
type Opened struct {
	Payer  *payer.Payer
	Client *paywall.Client
	Buyer  *download.Buyer
	Wallet *wallet.Wallet
}

// Open starts the buyer over what it saved, as a new process would.
func (c *Customer) Open() *Opened {
	t := c.M.T
	t.Helper()
	o := &Opened{Wallet: c.wallet()}
	var err error
	o.Payer, err = payer.New(payer.Config{
		Store: c.Store, Keys: c.Keys, Wallet: o.Wallet, Chain: c.M.Node, Network: Network, Policy: c.M.Policy, Rand: rand.Reader, Log: c.M.Log,
	})
	Must(t, err)
	c.releaseOrphans(o)
	sleep := func(ctx context.Context, d time.Duration) error {
		if c.OnSleep != nil {
			return errors.Join(ctx.Err(), c.OnSleep(d))
		}
		_, err := c.M.Node.Mine(1)
		return errors.Join(ctx.Err(), err)
	}
	o.Client, err = paywall.NewClient(paywall.ClientConfig{
		HTTP: &http.Client{Transport: c.Net}, Payer: o.Payer, Network: Network, Now: c.M.Now, Sleep: sleep, Stall: c.Stall, Log: c.M.Log, Compact: c.Compact,
	})
	Must(t, err)
	t.Cleanup(o.Client.CloseIdle)
	o.Buyer, err = download.New(download.Config{
		Client: o.Client, Payer: o.Payer, Store: c.Store, Chain: c.M.Node, Wallet: o.Wallet, Network: Network, Policy: c.M.Policy,
		OpenSink: c.Disk.Open, Sleep: sleep, Now: c.M.Now, SaveEvery: max(c.SaveEvery, 64<<10), Log: c.M.Log,
	})
	Must(t, err)
	return o
}

// releaseOrphans frees what a process had reserved when it stopped before the
// channel was saved.
func (c *Customer) releaseOrphans(o *Opened) {
	t := c.M.T
	t.Helper()
	records, err := o.Payer.Records(context.Background())
	Must(t, err)
	known := map[string]bool{}
	for _, r := range records {
		known[r.Terms.Outpoint.Hash.String()] = true
	}
	_, err = o.Wallet.ReleaseOrphans(context.Background(), 0, func(txid string) bool { return known[txid] })
	Must(t, err)
}

// FaultStore is a store whose n-th commit fails.
type FaultStore struct {
	*memory.Store
	mu      sync.Mutex
	commits int
	reads   map[string]int // by bucket
	FailAt  int            // which commit fails, from one; 0: none
	Persist bool           // it was saved all the same
	// Watch is shown every commit before it is made, and may refuse it.
	Watch func([]store.Op) error
}

// Commit implements store.Store.
func (s *FaultStore) Commit(ctx context.Context, ops ...store.Op) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.commits++
	if s.Watch != nil {
		if err := s.Watch(ops); err != nil {
			return err
		}
	}
	if s.FailAt == 0 || s.commits != s.FailAt {
		return s.Store.Commit(ctx, ops...)
	}
	if s.Persist {
		return errors.Join(ErrInjected, s.Store.Commit(ctx, ops...))
	}
	return ErrInjected
}

// Get implements store.Store.
func (s *FaultStore) Get(ctx context.Context, bucket, key string) (store.Entry, error) {
	s.mu.Lock()
	if s.reads == nil {
		s.reads = map[string]int{}
	}
	s.reads[bucket]++
	s.mu.Unlock()
	return s.Store.Get(ctx, bucket, key)
}

// Reads is how often entries of a bucket were read; it begins again from zero.
func (s *FaultStore) Reads(bucket string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.reads[bucket]
	delete(s.reads, bucket)
	return n
}

// Count is how many commits there were; it begins again from zero.
func (s *FaultStore) Count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.commits
	s.commits = 0
	return n
}

// FaultNet is a transport whose n-th request fails.
type FaultNet struct {
	base     http.RoundTripper
	mu       sync.Mutex
	requests int
	FailAt   int  // which request fails, from one; 0: none
	Arrives  bool // it reached the server, only the answer is lost
	Watch    func(*http.Request)
}

// RoundTrip implements http.RoundTripper.
func (n *FaultNet) RoundTrip(r *http.Request) (*http.Response, error) {
	n.mu.Lock()
	n.requests++
	fail := n.FailAt != 0 && n.requests == n.FailAt
	watch := n.Watch
	n.mu.Unlock()
	if watch != nil {
		watch(r)
	}
	if fail && !n.Arrives {
		return nil, ErrInjected
	}
	resp, err := n.base.RoundTrip(r)
	if fail && err == nil {
		return nil, errors.Join(ErrInjected, resp.Body.Close())
	}
	return resp, err
}

// Count is how many requests there were; it begins again from zero.
func (n *FaultNet) Count() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	count := n.requests
	n.requests = 0
	return count
}

// FaultDisk opens part files of which the n-th operation fails.
type FaultDisk struct {
	mu     sync.Mutex
	ops    int
	FailAt int // which write, sync or naming fails, from one; 0: none
}

// Open implements download.Config.OpenSink.
func (d *FaultDisk) Open(path string, size uint64, root content.Hash, verified *content.Ranges) (download.Sink, error) {
	s, err := content.OpenSink(path, size, root, verified)
	if err != nil {
		return nil, err
	}
	return &faultSink{Sink: s, d: d}, nil
}

// Count is how many operations there were; it begins again from zero.
func (d *FaultDisk) Count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.ops
	d.ops = 0
	return n
}

func (d *FaultDisk) next() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ops++
	if d.FailAt != 0 && d.ops == d.FailAt {
		return ErrInjected
	}
	return nil
}

type faultSink struct {
	*content.Sink
	d *FaultDisk
}

func (s *faultSink) WriteAt(p []byte, off int64) (int, error) {
	if err := s.d.next(); err != nil {
		return 0, err
	}
	return s.Sink.WriteAt(p, off)
}

func (s *faultSink) Sync() error {
	if err := s.d.next(); err != nil {
		return err
	}
	return s.Sink.Sync()
}

func (s *faultSink) Finish(replace bool) error {
	if err := s.d.next(); err != nil {
		return err
	}
	return s.Sink.Finish(replace)
}

var (
	_ store.Store   = (*FaultStore)(nil)
	_ download.Sink = (*content.Sink)(nil)
)
