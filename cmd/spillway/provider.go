package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/spillway/spillway/content"
	"github.com/spillway/spillway/store"
)

// payout is the script that this provider's settlements pay to; it stays the
// same so that a restart does not change what was quoted.
func (p *provider) payout(ctx context.Context) ([]byte, error) {
	const bucket, key = "cmd/payout", "script"
	e, err := p.role.store.Get(ctx, bucket, key)
	if err == nil {
		return e.Value, nil
	} else if !errors.Is(err, store.ErrNotFound) {
		return nil, err
	}
	pk, err := p.role.wallet.ReceiveScript(ctx)
	if err != nil {
		return nil, err
	}
	return pk, p.role.store.Commit(ctx, store.Op{Bucket: bucket, Key: key, Value: pk})
}

// announce tells of a file that is offered now.
func (p *provider) announce(name string) {
	e, err := p.files.Lookup(name)
	if err != nil {
		return // gone again
	}
	m := e.Manifest()
	price := fmt.Sprintf("%s at %s, %s in all", count(m.Chunks(), "chunk"), money(m.ChunkMsat), money(m.TotalMsat()))
	switch {
	case m.TotalMsat() == 0:
		price = "free"
	case m.FreeChunks > 0:
		price += ", the first " + size(m.FreeBytes()) + " free"
	}
	p.app.out.say("  %s%s  %s, %s", p.url, (&url.URL{Path: "/" + m.Name}).EscapedPath(), size(m.Size), price)
	if m.ChunkBytes < content.SmallChunk && m.Chunks() > 1 {
		p.app.out.say("    its chunks are small: neighbours' bytes travel with each of them unpaid")
	}
	file := map[string]any{"name": m.Name, "size": m.Size, "root": m.Root.String(), "chunks": m.Chunks(), "total_msat": m.TotalMsat(), "free_bytes": m.FreeBytes()}
	if err := p.app.out.event("file", file); err != nil {
		p.app.out.say("output: %v", err)
	}
}

// hashing tells of long hashing, at most once a second. A file whose bytes do
// not come one after the other was known already.
func (a *app) hashing() func(content.ScanProgress) {
	last, name, bytes := time.Now(), "", uint64(0)
	return func(s content.ScanProgress) {
		reads := s.Name != "" && s.Name == name && s.Bytes > bytes
		name, bytes = s.Name, s.Bytes
		if !reads || time.Since(last) < time.Second {
			return
		}
		last = time.Now()
		a.out.say("hashing %s: %s of %s", s.Name, size(s.Bytes), size(s.AllBytes))
	}
}
