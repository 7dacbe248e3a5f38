package forward

import (
	"context"
	"errors"
	"time"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/paywall"
)

// usedChannel is a channel that files were bought in.
type usedChannel struct {
	url, provider string
	last          time.Time
}

// uses notes that a channel was used for a file.
func (p *Proxy) uses(id, url, provider string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.used[id] = &usedChannel{url: url, provider: provider, last: time.Now()}
}

// CloseIdle closes the channels that nothing was asked on for so long, each together
// with its provider: what was not spent comes back. Errors: of those that did not close;
// their rest comes back with the refund, or with another try.
func (p *Proxy) CloseIdle(ctx context.Context, unused time.Duration) error {
	return errors.Join(p.pays.CloseIdle(ctx, unused), p.closeFiles(ctx, time.Now().Add(-unused)))
}

// Close ends tunnels, and closes every channel that was used unless they are kept.
// There should be no requests any more. Errors: as CloseIdle.
func (p *Proxy) Close(ctx context.Context, keep bool) error {
	p.mu.Lock()
	for t := range p.tunnel {
		t.end()
	}
	p.mu.Unlock()
	p.await(ctx)
	over := p.journal.flush(ctx)
	if keep {
		return over
	}
	return errors.Join(over, p.pays.Close(ctx), p.closeFiles(ctx, time.Now()))
}

// await waits until no block of a file is being bought, as long as the context lasts.
func (p *Proxy) await(ctx context.Context) {
	over := make(chan struct{})
	go func() {
		p.buying.Wait()
		close(over)
	}()
	select {
	case <-over:
	case <-ctx.Done():
	}
}

// closeFiles closes the channels of files that were not used since.
func (p *Proxy) closeFiles(ctx context.Context, since time.Time) (failed error) {
	p.mu.Lock()
	idle := map[string]usedChannel{}
	for id, u := range p.used {
		if !u.last.After(since) {
			idle[id] = *u
		}
	}
	p.mu.Unlock()
	for id, u := range idle {
		if err := p.closeFile(ctx, id, u); err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		p.mu.Lock()
		if now := p.used[id]; now != nil && !now.last.After(since) {
			delete(p.used, id)
		}
		p.mu.Unlock()
	}
	return failed
}

func (p *Proxy) closeFile(ctx context.Context, id string, u usedChannel) (err error) {
	unlock, err := p.cfg.Buyer.Hold(ctx, u.url, u.provider, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	_, err = p.cfg.Client.Close(ctx, id, u.url, paywall.Expect{Recipient: u.provider})
	if errors.Is(err, paywall.ErrGone) || errors.Is(err, channel.ErrFinalized) {
		return nil // it is over already; the watch follows it
	}
	return err
}
