package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spillway/spillway/content"
)

const (
	// lookEvery is how long serve waits between two looks at its files.
	lookEvery = 3 * time.Second
	// lookShare bounds what looking costs: the wait is at least so many times as long
	// as the look took, so that a million files take a twentieth of a processor.
	lookShare = 20
)

// refresh looks at the files and the price list again, as long as the provider runs.
func (p *provider) refresh(ctx context.Context) {
	told := map[string]string{} // by path, why it is not offered
	failed := ""
	for {
		began := time.Now()
		p.rereadPrices()
		changes, err := p.files.Refresh(ctx)
		if text := fmt.Sprint(err); err != nil && ctx.Err() == nil && text != failed {
			failed = text
			p.app.out.say("catalogue: %v", err)
		} else if err == nil {
			failed = ""
			told = p.skipped(changes.Skipped, told)
		}
		p.tellChanges(changes)
		if err == nil {
			p.tellUnused()
		}
		timer := time.NewTimer(pause(time.Since(began), len(changes.Added)+len(changes.Changed) > 0))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-p.lookNow:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// pause is how long to wait after a look that took so long. A look that hashed files
// says nothing about what the next one takes.
func pause(took time.Duration, hashed bool) time.Duration {
	if hashed {
		return lookEvery
	}
	return max(lookEvery, lookShare*took)
}

// tellChanges tells of what is offered now, and what no more.
func (p *provider) tellChanges(c content.Changes) {
	for _, name := range append(c.Added, c.Changed...) {
		p.announce(name)
	}
	for _, name := range c.Removed {
		p.app.out.say("no longer offered: %s", name)
		if err := p.app.out.event("removed", map[string]any{"name": name}); err != nil {
			p.app.out.say("output: %v", err)
		}
	}
}

// prices is a price list as it was last read.
type prices struct {
	path string // "": there is none
	raw  []byte
	list *content.PriceList
	told string // the mistake that was told of last
	idle string // the rules without files that were told of last
	seen uint64 // version of the catalogue that unused rules were looked for in
}

// openPrices reads the price list. Errors: usage.
func openPrices(path string) (*prices, error) {
	p := &prices{path: path}
	if path == "" {
		return p, nil
	}
	raw, list, err := readPrices(path)
	if err != nil {
		return nil, usagef("--prices %s: %v", path, err)
	}
	p.raw, p.list = raw, list
	return p, nil
}

func readPrices(path string) ([]byte, *content.PriceList, error) {
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a file", path)
	}
	if err != nil {
		return nil, nil, err
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, err
	}
	list, err := content.ParsePriceList(bytes.NewReader(raw))
	return raw, list, err
}

// reloadPrices has the price list read again now. Errors: of a list with a mistake, which
// changes nothing.
func (p *provider) reloadPrices() error {
	if _, _, err := readPrices(p.prices.path); err != nil {
		return err
	}
	select {
	case p.lookNow <- struct{}{}:
	default: // it is looked at soon anyway
	}
	return nil
}

// rereadPrices puts a price list that was changed in force. One with a mistake
// changes nothing, and is told of once.
func (p *provider) rereadPrices() {
	l := p.prices
	if l.path == "" {
		return
	}
	raw, list, err := readPrices(l.path)
	if err == nil {
		l.told = ""
	}
	switch {
	case err != nil && err.Error() != l.told:
		l.told = err.Error()
		p.app.out.say("prices: %v; the prices stay as they were", err)
	case err == nil && !bytes.Equal(raw, l.raw):
		l.raw, l.list, l.seen = raw, list, 0
		p.files.SetPrices(list)
		p.app.out.say("prices: read again from %s", l.path)
	}
}

// tellUnused tells of rules that match no file, when files or rules have changed.
func (p *provider) tellUnused() {
	version := p.files.Version()
	if p.prices.list == nil || p.prices.seen == version {
		return
	}
	p.prices.seen = version
	var names []string
	for _, e := range p.files.List("") {
		names = append(names, e.Manifest().Name)
	}
	idle := strings.Join(p.prices.list.Unused(names), "; ")
	if idle != "" && idle != p.prices.idle {
		p.app.out.say("prices: no file has its price from %s", idle)
	}
	p.prices.idle = idle
}
