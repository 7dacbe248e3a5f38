package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"time"

	"github.com/spillway/spillway/internal/spread"
	"github.com/spillway/spillway/payee"
	"github.com/spillway/spillway/paywall"
)

// traffic is what a provider sends, files or another service's answers.
type traffic interface {
	Sent() uint64
	Deliveries() int
	Drain(ctx context.Context) error
}

// wallShape changes the configuration of a provider's paywall.
type wallShape func(*paywall.ServerConfig)

// identify reads who the provider is.
func (p *provider) identify() (ed25519.PrivateKey, error) {
	identity, err := p.role.keys.Identity()
	if err == nil {
		p.identity = hex.EncodeToString(identity[32:])
	}
	return identity, err
}

// openWall opens the payee's driver, with the tower that watches over it, and the
// paywall on it.
func (p *provider) openWall(ctx context.Context, tower towerUse, trade bool) (*paywall.Server, error) {
	a, r := p.app, p.role
	a.tellLimits(r.chain)
	payout, err := p.payout(ctx)
	if err != nil {
		return nil, err
	}
	cfg := payee.Config{
		Store: r.store, Keys: r.keys, Chain: r.chain, Network: a.flags.network, Payout: payout, Policy: a.policyOn(r.chain),
		Constructions: soldKinds, Alone: true, Spread: spread.All,
		Coins: r.wallet, Now: time.Now, Rand: rand.Reader, Log: a.out.logger(), Alarm: a.stopAlarm,
	}
	if p.files != nil {
		cfg.Offered, cfg.Dearest = p.offered, p.dearest
	} else if p.dear > 0 {
		cfg.Dearest = func() uint64 { return p.dear }
	}
	if err := p.openOps(p.use); err != nil {
		return nil, err
	}
	p.ops.observe(&cfg)
	if p.payee, err = payee.New(cfg); err != nil {
		return nil, err
	}
	if err := p.openTower(tower); err != nil {
		return nil, err
	}
	secret, before, err := r.challengeSecrets(ctx)
	if err != nil {
		return nil, err
	}
	if err := p.openTrade(ctx, trade); err != nil {
		return nil, err
	}
	wc := paywall.ServerConfig{
		Payee: p.payee, Peer: p.peerPayer(), Network: a.flags.network, Secret: secret, Before: before, Realm: "spillway-" + p.identity[:16], Recipient: p.identity, Log: a.out.logger(),
	}
	if p.shapeWall != nil {
		p.shapeWall(&wc)
	}
	wall, err := paywall.NewServer(wc)
	p.wall = wall
	return wall, err
}
