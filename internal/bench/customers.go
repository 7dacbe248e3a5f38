package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/download"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/store"
)

// channels writes a payer's records of its channels, as openings would have left them.
func (m *market) channels(ctx context.Context, c *customer, from, n int) error {
	identity, err := m.ring.Identity()
	if err != nil {
		return err
	}
	for i := from; i < from+n; i++ {
		key, err := m.ring.PayerChannelKey(uint32(i))
		if err != nil {
			return err
		}
		if m.records[i], err = m.recordFor(script.Taproot, uint32(i), key); err != nil {
			return err
		}
		m.keys[i] = key
		t := m.records[i].Terms
		ch, err := t.Script()
		if err != nil {
			return err
		}
		first, err := ch.SignHalf(key, capacity)
		if err != nil {
			return err
		}
		m.records[i].Signature = first
		raw, err := json.Marshal(channel.PayerRecord{
			Terms: t, Phase: channel.Open, KeyIndex: uint32(i), Origin: m.url, Payee: fmt.Sprintf("%x", identity[32:]),
			FundingTx: m.records[i].FundingTx, FundingSent: true, RefundScript: m.payout, Accepted: true, Signature: first,
		})
		if err != nil {
			return err
		}
		if err := c.store.Commit(ctx, store.Op{Bucket: "payer/channel", Key: t.ID(), Value: raw}); err != nil {
			return err
		}
		c.ids = append(c.ids, t.ID())
	}
	return nil
}

// getParallel is how many chunks `get` asks for at once where it is not told otherwise, as
// far as the provider's credit allows.
const getParallel = 4

// buy downloads a file as `get` does, verified and saved, paid chunk by chunk where it
// is sold, and forgets the file. Only the download itself is on the clock of timed.
func (c *customer) buy(ctx context.Context, url string, timed func(func() error) error) (err error) {
	c.runs++
	path := filepath.Join(c.dir, fmt.Sprintf("%d.bin", c.runs))
	p, err := c.buyer.Plan(ctx, download.Want{URL: url, Path: path}, nil)
	if err != nil {
		return err
	}
	err = timed(func() error {
		res, err := c.buyer.Run(ctx, p, download.Limits{Budget: channel.MaxSat, KeepChannel: true, Parallel: getParallel}, nil)
		if err == nil {
			err = res.Unsettled
		}
		if err == nil && res.Bought != p.Manifest.Size {
			err = fmt.Errorf("%d bytes came of %d", res.Bought, p.Manifest.Size)
		}
		if want := channel.CeilSat(p.Manifest.TotalMsat()); err == nil && res.Paid != want {
			err = fmt.Errorf("%d sat were paid, not %d sat", res.Paid, want)
		}
		return err
	})
	if err != nil {
		return err
	}
	return os.Remove(path)
}

// fetch downloads a URL as it is into a file, with nothing verified or paid, and
// forgets the file.
func (c *customer) fetch(ctx context.Context, url string) (err error) {
	c.runs++
	path := filepath.Join(c.dir, fmt.Sprintf("%d.bin", c.runs))
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(path)) }()
	defer func() { err = errors.Join(err, f.Close()) }()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: HTTP status %d", url, resp.StatusCode)
	}
	if _, err := io.Copy(f, resp.Body); err != nil {
		return err
	}
	return f.Sync()
}
