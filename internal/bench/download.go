package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"time"

	"github.com/spillway/spillway/content"
)

// Download measures how fast a file is downloaded over TLS with a payment per chunk,
// beside the same file from the same provider given away, fetched by the same buyer:
// both are verified, written and synced. Beside it stand the same provider's and, where
// it is installed, nginx's plain download of the file.
func Download(ctx context.Context, cfg Config, emit func(Figure) error) error {
	cfg = cfg.defaults()
	for _, c := range []struct {
		chunk, size uint64
	}{
		{64 << 10, cfg.File / 16}, {1 << 20, cfg.File}, {16 << 20, cfg.File},
	} {
		chunk := min(c.chunk, c.size) // a small run has small chunks
		for _, payers := range cfg.Payers {
			if err := downloads(ctx, cfg, chunk, c.size, payers, emit); err != nil {
				return err
			}
		}
	}
	return nil
}

// floorOf is the least ratio of paid to unpaid that is wanted; 0: none.
func floorOf(chunk uint64, payers int) float64 {
	switch {
	case chunk == 1<<20 && payers >= 16:
		return 0.85
	case chunk == 16<<20:
		return 0.97
	}
	return 0
}

// downloadRounds is how many rounds of a download count at the most: the files are large.
const downloadRounds = 3

// share lets this process run more threads at once than it has cores, until the returned
// function is called. The payers and the server are one process here, and a thread that
// waits for the disk keeps its place among those that run for a while: sixteen payers
// that sync after every chunk would keep each other and the server from the cores, as
// programs of their own do not.
func share() (restore func()) { return cores(max(4*runtime.NumCPU(), runtime.GOMAXPROCS(0))) }

// downloads measures one size of chunks and one number of payers.
func downloads(ctx context.Context, cfg Config, chunk, size uint64, payers int, emit func(Figure) error) (err error) {
	name := fmt.Sprintf("download, chunks of %s, %s", content.FormatBytes(chunk), count(payers, "payer"))
	cfg.say("%s", name)
	dir, err := os.MkdirTemp(cfg.Dir, "spillway-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if size, err = fitting(dir, chunk, size, payers); err != nil {
		return err
	}
	defer share()()
	rounds := min(cfg.Rounds, downloadRounds)
	m, err := newMarket(ctx, dir, size, chunk, payers, rounds+1)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	other, missing, err := m.nginx(ctx)
	if err != nil {
		return err
	}
	var unpaid, plain, foreign, cores pairs
	for round := range rounds + 1 {
		cfg.say("%s, round %d of %d", name, round, rounds)
		if round == 0 { // connections and caches are made in it
			if _, err := m.round(ctx, m.warm, true); err != nil {
				return err
			}
			continue
		}
		r, err := m.round(ctx, m.whole, round%2 == 0)
		if err != nil {
			return err
		}
		unpaid.add(r.paid, r.free)
		cores.add(r.paidCPU, r.freeCPU)
		if round > 1 { // these are only for the eye: once is enough
			continue
		}
		if r.plain, _, err = m.together(m.whole.size, func(c *customer) error { return c.fetch(ctx, m.url+m.whole.free) }); err != nil {
			return err
		}
		plain.add(r.paid, r.plain)
		if other == "" {
			continue
		}
		if r.other, _, err = m.together(m.whole.size, func(c *customer) error { return c.fetch(ctx, other) }); err != nil {
			return err
		}
		foreign.add(r.paid, r.other)
	}
	paid := unpaid.figure(name, "MB/s", "unpaid, verified all the same")
	paid.Floor = floorOf(chunk, payers)
	nginx := Figure{Name: name + ": nginx", Note: missing}
	if other != "" {
		nginx = foreign.figure(nginx.Name, "MB/s", "nginx, unverified")
	}
	for _, f := range []Figure{paid,
		cores.figure(name+": cores", "ms/MB", "unpaid, verified all the same"),
		plain.figure(name+": plain", "MB/s", "the same server, unverified"),
		nginx,
	} {
		if err := emit(f); err != nil {
			return err
		}
	}
	return nil
}

// rates are the downloads of one round, in MB/s, and what they cost, in ms per MB.
type downloadRates struct{ paid, free, plain, other, paidCPU, freeCPU float64 }

// round downloads a file paid and unpaid once; the order of the two turns.
func (m *market) round(ctx context.Context, w ware, paidFirst bool) (r downloadRates, err error) {
	sold := func() (err error) {
		r.paid, r.paidCPU, err = m.together(w.size, func(c *customer) error { return c.buy(ctx, m.url+w.sold, direct) })
		return err
	}
	free := func() (err error) {
		r.free, r.freeCPU, err = m.together(w.size, func(c *customer) error { return c.buy(ctx, m.url+w.free, direct) })
		return err
	}
	turns := []func() error{free, sold}
	if paidFirst {
		turns = []func() error{sold, free}
	}
	for _, turn := range turns {
		if err := turn(); err != nil {
			return r, err
		}
	}
	return r, nil
}

// direct is a clock that does not look.
func direct(do func() error) error { return do() }

// together lets every payer download so many bytes at once, and returns the rate in
// MB/s and the time on the cores in ms per MB.
func (m *market) together(size uint64, do func(*customer) error) (mbs, cpu float64, err error) {
	failed := make([]error, len(m.buyers))
	wall, busy, err := cost(func() error {
		var wg sync.WaitGroup
		for i, c := range m.buyers {
			wg.Go(func() { failed[i] = do(c) })
		}
		wg.Wait()
		return errors.Join(failed...)
	})
	mb := float64(size) * float64(len(m.buyers)) / 1e6
	return mb / wall.Seconds(), float64(busy) / float64(time.Millisecond) / mb, err
}
