package scenario

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/chain/devnet"
	"github.com/spillway/spillway/payee"
	"github.com/spillway/spillway/paywall"
	"github.com/spillway/spillway/store/sqlite"
)

// cast is who plays a story: parts within this process, or a process for each.
type cast interface {
	// open starts the chain, and gives the story's own sight of it.
	open(ctx context.Context, p part) (actor, chain.Backend, error)
	// start starts a side on what its disk holds.
	start(ctx context.Context, p part) (actor, error)
	// backup copies the provider's disk as it is now, while it runs; restore puts that
	// copy in the place of its disk, by the rule for restores.
	backup(ctx context.Context) error
	restore(ctx context.Context) error
	close() error
}

// inside is a cast within this process: the same parts, on stores in memory.
type inside struct {
	now    func() time.Time
	net    *network
	disks  map[Side]*disk
	saved  *disk
	seller *insider
	file   *file
}

// insider is a part that is played in this process.
type insider struct {
	handlers
	wire handlers
	disk *mortal
	gone bool
}

// order implements actor.
func (i *insider) order(ctx context.Context, do string, args, result any) error {
	if do == "clock" {
		return nil
	}
	return i.handlers.order(ctx, do, args, result)
}

func (i *insider) kill() error {
	i.gone = true
	return nil
}

func (i *insider) died() bool { return i.disk.dead }
func (i *insider) pid() int   { return 0 }

func (c *inside) open(ctx context.Context, _ part) (actor, chain.Backend, error) {
	node, err := devnet.New(devnet.Config{Now: c.now})
	if err != nil {
		return nil, nil, err
	}
	c.net = &network{Node: node}
	c.disks = map[Side]*disk{Payer: newDisk(), Payee: newDisk()}
	if c.file, err = newFile(ctx); err != nil {
		return nil, nil, errors.Join(err, node.Close())
	}
	return &insider{handlers: c.net.orders(), disk: &mortal{}}, node, nil
}

func (c *inside) start(ctx context.Context, p part) (actor, error) {
	g := gear{part: p, rand: newDice(p.Seed), now: c.now, chain: &line{Backend: entrance{c.net, p.Role}}}
	g.store = &mortal{Store: c.disks[p.Role], die: func() error { return errDead }}
	if p.Role == Payee {
		s, err := newSeller(ctx, g)
		if err != nil {
			return nil, err
		}
		s.file = c.file
		c.seller = &insider{handlers: s.orders(), wire: s.wire(), disk: g.store}
		return c.seller, nil
	}
	b, err := newBuyer(ctx, g)
	if err != nil {
		return nil, err
	}
	b.shop = counter{kind: p, root: c.file.ob.Root(), call: func(ctx context.Context, do string, args, result any) error {
		if c.seller == nil || c.seller.gone {
			return paywall.ErrUnreachable
		}
		return c.seller.wire.order(ctx, do, args, result)
	}}
	return &insider{handlers: b.orders(), disk: g.store}, nil
}

func (c *inside) backup(ctx context.Context) (err error) {
	c.saved, err = c.disks[Payee].backup(ctx)
	return err
}

func (c *inside) restore(ctx context.Context) error {
	c.disks[Payee] = c.saved
	return payee.Restored(ctx, c.saved, restoredEpoch)
}

// restoredEpoch is the number of the challenges' epoch after a restore; elsewhere it
// is drawn by chance.
const restoredEpoch = 7

func (c *inside) close() error {
	if c.net == nil {
		return nil
	}
	return c.net.Close()
}

// apart is a cast of processes, each with a folder of its own. They end with it.
type apart struct {
	Company
	now      func() time.Time
	dir      string
	node     *process
	provider string // URL, the same over restarts
	all      []*process
}

// Names in a side's folder.
const (
	storeName  = "spillway.db"
	backupName = "backup.db"
)

func (c *apart) open(ctx context.Context, p part) (_ actor, _ chain.Backend, err error) {
	if c.dir, err = os.MkdirTemp(c.Dir, "spillway-scenario-"); err != nil {
		return nil, nil, err
	}
	p.Role, p.Bitcoind, p.Dir = Node, c.Bitcoind, c.folder(Node)
	if c.node, err = c.run(ctx, p); err != nil {
		return nil, nil, err
	}
	p.Chain = c.node.url + "/" + string(Node)
	sight, err := p.sight()
	return c.node, sight, err
}

func (c *apart) run(ctx context.Context, p part) (*process, error) {
	x, err := c.Company.start(ctx, p, c.now)
	if err == nil {
		c.all = append(c.all, x)
	}
	return x, err
}

func (c *apart) start(ctx context.Context, p part) (actor, error) {
	p.Dir, p.Chain, p.Provider, p.Bitcoind = c.folder(p.Role), c.node.url+"/"+string(p.Role), c.provider, c.Bitcoind
	if p.Role == Payee {
		p.Listen = c.door()
	}
	x, err := c.run(ctx, p)
	if err != nil {
		return nil, err
	}
	if p.Role == Payee {
		c.provider = x.url
	}
	return x, nil
}

// door is where the provider listens: over all its lives at one address, and on a
// loopback address of this story's own, so that nobody else is given the port while
// the provider is down.
func (c *apart) door() string {
	if c.provider != "" {
		return strings.TrimPrefix(c.provider, "http://")
	}
	h := sha256.Sum256([]byte(c.dir))
	return fmt.Sprintf("127.%d.%d.%d:0", 1+h[0]%250, h[1], 1+h[2]%250)
}

func (c *apart) folder(role Side) string { return filepath.Join(c.dir, string(role)) }

func (c *apart) backup(ctx context.Context) error {
	return sqlite.Backup(ctx, filepath.Join(c.folder(Payee), storeName), filepath.Join(c.dir, backupName), nil)
}

// restore is what spillway restore does, on a folder that is empty again.
func (c *apart) restore(ctx context.Context) error {
	if err := os.RemoveAll(c.folder(Payee)); err != nil {
		return err
	}
	if err := os.MkdirAll(c.folder(Payee), 0o700); err != nil {
		return err
	}
	return sqlite.Restore(ctx, filepath.Join(c.dir, backupName), filepath.Join(c.folder(Payee), storeName), func(s *sqlite.Store, _ []byte) error {
		return payee.Restored(ctx, s, restoredEpoch)
	})
}

func (c *apart) close() error {
	var failed []error
	for _, x := range c.all {
		if err := x.kill(); err != nil {
			failed = append(failed, fmt.Errorf("process %d: %w", x.pid(), err))
		}
	}
	if c.dir != "" {
		failed = append(failed, os.RemoveAll(c.dir))
	}
	return errors.Join(failed...)
}
