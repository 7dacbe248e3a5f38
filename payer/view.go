package payer

import (
	"context"
	"sync"
	"time"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/watch"
)

// freshView is how long what was seen of the chain serves orders, as on the payee's side.
const freshView = 20 * time.Second

// maxViews bounds what is remembered of the chain: beyond, what is old is forgotten.
const maxViews = 1024

// views remembers what the chain said of channels, so that a peer's orders do not become
// questions to the backend.
type views struct {
	mu sync.Mutex
	by map[string]seen
}

type seen struct {
	view channel.View
	at   time.Time
}

// view is what the chain says of a channel, at most freshView old where the funding is
// deep enough and nothing spends it.
func (p *Payer) view(ctx context.Context, h *held) (channel.View, error) {
	if v, ok := p.observed(h.id); ok {
		return v, nil
	}
	v, _, err := watch.Look(ctx, p.cfg.Chain, wire.OutPoint(h.record.Terms.Outpoint), h.record.FundingTx)
	if err == nil {
		p.observe(h, v)
	}
	return v, err
}

func (p *Payer) observed(id string) (channel.View, bool) {
	if p.cfg.Now == nil {
		return channel.View{}, false
	}
	p.views.mu.Lock()
	defer p.views.mu.Unlock()
	s, ok := p.views.by[id]
	age := p.cfg.Now().Sub(s.at)
	return s.view, ok && age >= 0 && age < freshView
}

// observe remembers what the chain says of a channel that can be sold in.
func (p *Payer) observe(h *held, v channel.View) {
	if p.cfg.Now == nil {
		return
	}
	now := p.cfg.Now()
	p.views.mu.Lock()
	defer p.views.mu.Unlock()
	if h.record.Duplex == nil || h.record.Phase.Final() || v.Spend != nil || v.Depth() < h.record.Terms.Confirmations {
		delete(p.views.by, h.id)
		return
	}
	if p.views.by == nil {
		p.views.by = map[string]seen{}
	}
	if len(p.views.by) >= maxViews {
		for id, s := range p.views.by {
			if now.Sub(s.at) >= freshView || now.Before(s.at) {
				delete(p.views.by, id)
			}
		}
	}
	p.views.by[h.id] = seen{v, now}
}
