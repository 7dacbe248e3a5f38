package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/mpp"
	"github.com/spillway/spillway/mpp/bitcoin"
	"github.com/spillway/spillway/paywall"
)

// compactChannels pay at once, over one connection.
const compactChannels = 64

// Compact measures how many updates a second travel over the compact transport, are
// verified, saved durably and acknowledged: of 64 channels over one connection, TLS
// included, one update of each under way at a time, and pipelined, when of those that wait
// on a channel only the newest is verified. Beside it stand the same updates as vouchers
// over HTTP, with as many connections as channels, their bare verification on all cores,
// and how many bytes each takes on the wire.
func Compact(ctx context.Context, cfg Config, emit func(Figure) error) (err error) {
	cfg = cfg.defaults()
	name := fmt.Sprintf("compact, %d channels", compactChannels)
	cfg.say("%s", name)
	dir, err := os.MkdirTemp(cfg.Dir, "spillway-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	m, err := newMarket(ctx, dir, 64<<10, 64<<10, 1, compactChannels)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	p, err := m.payers(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	var c compared3
	each := max(int(cfg.Time.Seconds()*expected)/cfg.Rounds/compactChannels, 2)
	for round := range cfg.Rounds + 1 {
		cfg.say("%s, round %d of %d", name, round, cfg.Rounds)
		r, err := p.round(ctx, round*3*each, each)
		if err != nil {
			return err
		}
		if round > 0 { // connections and caches are made in the first
			c.add(r)
		}
	}
	for _, f := range c.figures(name) {
		if err := emit(f); err != nil {
			return err
		}
	}
	return nil
}

// speeds are the updates per second of one round, in each way, and what each cost.
type speeds struct {
	http, single, pipelined, verify float64
	httpCPU, singleCPU              float64 // µs of a core an update
	httpBytes, singleBytes          float64 // both directions, an update
	pipelinedBytes                  float64
}

// compared3 are the rounds.
type compared3 struct {
	singleHTTP, singleVerify, pipeHTTP, pipeVerify, cpu, bytes, pipeBytes pairs
}

func (c *compared3) add(r speeds) {
	c.singleHTTP.add(r.single, r.http)
	c.singleVerify.add(r.single, r.verify)
	c.pipeHTTP.add(r.pipelined, r.http)
	c.pipeVerify.add(r.pipelined, r.verify)
	c.cpu.add(r.singleCPU, r.httpCPU)
	c.bytes.add(r.singleBytes, r.httpBytes)
	c.pipeBytes.add(r.pipelinedBytes, r.httpBytes)
}

func (c *compared3) figures(name string) []Figure {
	return []Figure{
		c.singleHTTP.figure(name, "1/s", "vouchers over HTTP"),
		c.singleVerify.figure(name+": verification", "1/s", "bare verification on all cores"),
		c.pipeHTTP.figure(name+", pipelined", "1/s", "vouchers over HTTP"),
		c.pipeVerify.figure(name+", pipelined: verification", "1/s", "bare verification on all cores"),
		c.cpu.figure(name+": cores", "µs", "vouchers over HTTP"),
		c.bytes.figure(name+": wire", "B", "vouchers over HTTP, both ways"),
		c.pipeBytes.figure(name+", pipelined: wire", "B", "vouchers over HTTP, both ways"),
	}
}

// payers are the channels of one customer, with a connection of each kind.
type payers struct {
	m       *market
	c       *customer
	url     string
	quote   *paywall.Quoted
	http    *http.Client
	compact *paywall.Compact
	macs    [][32]byte
	wire    atomic.Int64 // bytes, both ways
}

func (m *market) payers(ctx context.Context) (p *payers, err error) {
	p = &payers{m: m, c: m.buyers[0], url: m.url + soldName}
	over := p.c.http.Transport.(*http.Transport).Clone()
	over.MaxIdleConnsPerHost = compactChannels
	over.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
		return &countedConn{conn, &p.wire}, err
	}
	p.http = &http.Client{Transport: over}
	client, err := paywall.NewClient(paywall.ClientConfig{HTTP: p.http, Payer: p.c.payer, Network: "regtest"})
	if err != nil {
		return nil, err
	}
	if p.quote, err = client.Quote(ctx, p.url, paywall.Expect{}); err != nil {
		return nil, err
	}
	if m.built, err = m.scripts(); err != nil {
		return nil, err
	}
	if p.compact, err = client.DialCompact(ctx, p.url); err != nil {
		return nil, err
	}
	for i, id := range p.c.ids {
		key, err := p.c.payer.MACKey(ctx, id)
		if err != nil {
			return nil, errors.Join(err, p.Close())
		}
		p.macs = append(p.macs, key)
		if err := p.compact.Bind(ctx, id, p.quote, channel.Update{Signature: m.records[i].Signature}); err != nil {
			return nil, errors.Join(err, p.Close())
		}
	}
	return p, nil
}

// Close ends the connections.
func (p *payers) Close() error {
	p.http.CloseIdleConnections()
	return p.compact.Close()
}

// countedConn counts what goes through a connection.
type countedConn struct {
	net.Conn
	bytes *atomic.Int64
}

// Read implements io.Reader.
func (c *countedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.bytes.Add(int64(n))
	return n, err
}

// Write implements io.Writer.
func (c *countedConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.bytes.Add(int64(n))
	return n, err
}

// round pays so many updates of each channel in each way, at rising amounts.
func (p *payers) round(ctx context.Context, from, each int) (r speeds, err error) {
	updates, err := p.m.sign(ctx, from, 3*each)
	if err != nil {
		return r, err
	}
	n := each * compactChannels
	over, single, pipelined := updates[:n], updates[n:2*n], updates[2*n:]
	if r.http, r.httpCPU, r.httpBytes, err = p.clocked(n, func() error { return p.vouchers(ctx, over) }); err != nil {
		return r, err
	}
	if r.single, r.singleCPU, r.singleBytes, err = p.clocked(n, func() error { return p.oneByOne(ctx, single) }); err != nil {
		return r, err
	}
	if r.pipelined, _, r.pipelinedBytes, err = p.clocked(n, func() error { return p.pipeline(ctx, pipelined) }); err != nil {
		return r, err
	}
	r.verify, err = p.m.verifyRate(ctx, updates, runtime.GOMAXPROCS(0))
	return r, err
}

// clocked is how many updates a second are paid, and what each takes of the cores, in
// µs, and of the wire, in bytes.
func (p *payers) clocked(n int, do func() error) (rate, cpu, bytes float64, err error) {
	before := p.wire.Load()
	wall, busy, err := cost(do)
	if err != nil {
		return 0, 0, 0, err
	}
	return float64(n) / wall.Seconds(), float64(busy.Nanoseconds()) / 1000 / float64(n), float64(p.wire.Load()-before) / float64(n), nil
}

// vouchers pays updates over HTTP, each channel one after the other.
func (p *payers) vouchers(ctx context.Context, updates []channel.Update) error {
	_, err := rate(ctx, compactChannels, len(updates), func(ctx context.Context, i int) error {
		c := i % compactChannels
		raw, err := bitcoin.Seal(bitcoin.Voucher{
			ChannelID: p.c.ids[c], CumulativeAmount: updates[i].Amount, Signature: updates[i].Signature,
		}, p.macs[c], p.quote.Challenge.ID, "")
		if err != nil {
			return err
		}
		return p.head(ctx, json.RawMessage(raw), p.c.ids[c], updates[i].Amount)
	})
	return err
}

// head sends one voucher alone.
func (p *payers) head(ctx context.Context, payload json.RawMessage, id string, amount uint64) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, p.url, nil)
	if err != nil {
		return err
	}
	req.Header.Set(mpp.HeaderCredential, mpp.Credential{Challenge: p.quote.Challenge, Payload: payload}.Encode())
	resp, err := p.http.Do(req)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return err
	}
	receipt, err := bitcoin.ParseReceipt(resp.Header.Values(mpp.HeaderReceipt))
	if err == nil && (resp.StatusCode != http.StatusNoContent || receipt.ChannelID != id || receipt.AcceptedCumulative != amount) {
		err = fmt.Errorf("HTTP status %d, %d sat are accepted, not %d sat", resp.StatusCode, receipt.AcceptedCumulative, amount)
	}
	return err
}

// oneByOne pays updates over the compact connection, each channel one after the other.
func (p *payers) oneByOne(ctx context.Context, updates []channel.Update) error {
	_, err := rate(ctx, compactChannels, len(updates), func(ctx context.Context, i int) error {
		id := p.c.ids[i%compactChannels]
		if err := p.compact.Update(id, updates[i]); err != nil {
			return err
		}
		return p.compact.Wait(ctx, id, updates[i].Amount)
	})
	return err
}

// pipeline pays updates over the compact connection and waits for the last of each channel.
func (p *payers) pipeline(ctx context.Context, updates []channel.Update) error {
	for i, u := range updates {
		if err := p.compact.Update(p.c.ids[i%compactChannels], u); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for c, id := range p.c.ids {
		if err := p.compact.Wait(ctx, id, updates[len(updates)-compactChannels+c].Amount); err != nil {
			return err
		}
	}
	return nil
}
