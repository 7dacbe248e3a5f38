package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/internal/webhook"
	"github.com/spillway/spillway/store"
)

const (
	// deadAfter is how long one look at the chain may take, or none be begun: a provider
	// that hangs for so long is restarted, where somebody looks after it.
	deadAfter = 15 * time.Minute
	// unseenAfter is how long channels may go unwatched before that is an alarm: of the
	// margin's blocks it costs one or two.
	unseenAfter = 10 * time.Minute
	// leastDisk is the free space below which there is an alarm, in bytes.
	leastDisk = 512 << 20
	// certificateDays is how long before its end a certificate is an alarm, in days.
	certificateDays = 14
	// guardEvery is how often it is looked for alarms.
	guardEvery = 15 * time.Second
	// graceBlocks is how many blocks a settlement may take, after its margin began,
	// before it is an alarm.
	graceBlocks = 12
)

// healthy tells whether the process does its work: the channels are looked at.
func (o *operations) healthy() (map[string]string, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	watch := "ok"
	switch since := o.looked; {
	case !o.began.IsZero() && time.Since(o.began) > deadAfter:
		watch = fmt.Sprintf("a look at the chain has been going on for %s", time.Since(o.began).Round(time.Second))
	case o.began.IsZero() && !since.IsZero() && time.Since(since) > deadAfter:
		watch = fmt.Sprintf("the chain was last looked at %s ago", time.Since(since).Round(time.Second))
	}
	return map[string]string{"watch": watch}, watch == "ok"
}

// ready tells whether it can sell now.
func (o *operations) ready(context.Context) (map[string]string, bool) {
	checks := map[string]string{"serving": "ok", "chain": "ok", "store": "ok", "watch": "ok", "files": "ok"}
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.stopping:
		checks["serving"] = "it is about to stop"
	case o.p.url == "":
		checks["serving"] = "it has not begun"
	}
	switch {
	case o.tip.Height == 0 && o.looked.IsZero():
		checks["chain"] = "it was not asked yet"
	case o.tip.Height == 0:
		checks["chain"] = "it cannot be asked"
	case o.stale != nil:
		checks["chain"] = sentence(o.stale)
	}
	if o.stores != nil {
		checks["store"] = sentence(o.stores)
	}
	if o.failure != "" && time.Since(o.good) > time.Minute {
		checks["watch"] = o.failure
	}
	if o.p.files != nil && !o.p.files.Complete() {
		checks["files"] = "they are being read for the first time"
	}
	for _, what := range checks {
		if what != "ok" {
			return checks, false
		}
	}
	return checks, true
}

// guard looks for alarms, until the context ends.
func (o *operations) guard(ctx context.Context) {
	o.stopped(ctx)
	height := uint32(0)
	for {
		o.guardWatch()
		o.guardDisk()
		o.guardCertificate()
		o.mu.Lock()
		now := o.tip.Height
		o.mu.Unlock()
		if now != height {
			o.guardDeadlines(ctx, now)
			height = now
		}
		timer := time.NewTimer(guardEvery)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-o.wake:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// stopped raises the alarm of each channel that was stopped before this start.
func (o *operations) stopped(ctx context.Context) {
	records, err := o.p.payee.Records(ctx)
	if err != nil {
		return // the watch tells of it
	}
	for _, r := range records {
		if stop := r.Stop(); stop != nil && !r.Phase.Final() {
			o.p.app.raise(alarmStopped, r.Terms.ID(), sentence(stop))
		}
	}
}

func (o *operations) guardWatch() {
	o.mu.Lock()
	good, failure := o.good, o.failure
	o.mu.Unlock()
	if time.Since(good) < unseenAfter {
		o.p.app.calm(alarmWatch, "", "all channels are looked at again")
		return
	}
	o.p.app.raise(alarmWatch, "", fmt.Sprintf("channels were not all looked at since %s: %s", good.UTC().Format(time.RFC3339), failure))
}

func (o *operations) guardDisk() {
	free, err := diskFree(o.p.role.dir)
	if err != nil || free >= leastDisk {
		o.p.app.calm(alarmDisk, "", "there is space on the disk again")
		return
	}
	o.p.app.raise(alarmDisk, "", fmt.Sprintf("%s are left on the disk of %s", size(free), o.p.role.dir))
}

func (o *operations) guardCertificate() {
	c := o.p.app.cert
	if c == nil {
		return
	}
	if changed := c.changed(); changed != 0 && changed != c.seen.Load() {
		if err := c.read(); err != nil {
			o.p.app.raise(alarmCertificate, "file", fmt.Sprintf("the changed certificate %s cannot be used, the one before goes on: %v", c.cert, err))
		} else {
			o.p.app.calm(alarmCertificate, "file", "the certificate can be read again")
			o.p.app.out.say("certificate: read again from %s, good until %s", c.cert, c.ends().UTC().Format(time.DateOnly))
		}
	}
	if left := time.Until(c.ends()); left < certificateDays*24*time.Hour {
		o.p.app.raise(alarmCertificate, "end", fmt.Sprintf("the certificate %s ends at %s", c.cert, c.ends().UTC().Format(time.RFC3339)))
	} else {
		o.p.app.calm(alarmCertificate, "end", "the certificate is good for long enough")
	}
}

// guardDeadlines raises the alarm of each channel whose settlement should be in a block
// by now, and is not.
func (o *operations) guardDeadlines(ctx context.Context, tip uint32) {
	records, err := o.p.payee.Records(ctx)
	if err != nil {
		return // the watch tells of it
	}
	for _, r := range records {
		id := r.Terms.ID()
		if !late(r, tip) {
			o.p.app.calm(alarmDeadline, id, "the settlement of channel "+id+" is on its way again")
			continue
		}
		settled, err := o.settled(ctx, r)
		switch {
		case err != nil:
			continue // not known: as it was
		case settled:
			o.p.app.calm(alarmDeadline, id, "the settlement of channel "+id+" is in a block")
		default:
			o.p.app.raise(alarmDeadline, id, overdue(r, tip))
		}
	}
}

// late reports whether what a payee holds should be settled in a block by now: its margin
// began a while ago. A duplex channel's margin ends where the state before is valid.
func late(r channel.PayeeRecord, tip uint32) bool {
	return !r.Phase.Final() && r.Claimed() > 0 && r.Until() <= tip+r.Terms.Margin-min(graceBlocks, r.Terms.Margin)
}

// overdue says what is late, and since when it may be lost.
func overdue(r channel.PayeeRecord, tip uint32) string {
	rival := "the payer's refund"
	if r.Until() != r.Terms.Expiry {
		rival = "an older state"
	}
	return fmt.Sprintf("channel %s: %d sat are not settled, and %s is valid from height %d on; the tip is %d", r.Terms.ID(), r.Claimed(), rival, r.Until(), tip)
}

// settled reports whether a block holds what spends a channel.
func (o *operations) settled(ctx context.Context, r channel.PayeeRecord) (bool, error) {
	spend, err := o.p.role.chain.Spend(ctx, wire.OutPoint(r.Terms.Outpoint))
	if err != nil {
		return false, err
	}
	return spend != nil && spend.Confirmed, nil
}

// hookTable is a webhook of the settings: [[webhook]].
type hookTable struct {
	Name       string   `toml:"name"`
	URL        string   `toml:"url"`
	SecretFile string   `toml:"secret-file"`
	Events     []string `toml:"events"`
	PaidEvery  timeText `toml:"paid-every"`
	Plain      bool     `toml:"insecure-http"`
}

// timeText is a time in the settings: "10s".
type timeText struct{ time.Duration }

// UnmarshalText implements encoding.TextUnmarshaler.
func (t *timeText) UnmarshalText(text []byte) (err error) {
	t.Duration, err = time.ParseDuration(string(text))
	if err == nil && t.Duration < 0 {
		err = errors.New("a time is not negative")
	}
	return err
}

// webhooks are the webhooks of the settings. Errors: of usage.
func (a *app) webhooks() (targets []webhook.Target, err error) {
	var tables []hookTable
	if _, err := a.section("webhook", &tables); err != nil {
		return nil, err
	}
	var names []string
	for i, t := range tables {
		key := fmt.Sprintf("webhook[%d]", i)
		if t.SecretFile == "" {
			return nil, a.wrongSetting(key, "secret-file names the file with its secret")
		}
		raw, err := secretFile(t.SecretFile)
		if err != nil {
			return nil, a.wrongSetting(key+".secret-file", "%v", err)
		}
		target := webhook.Target{Name: t.Name, URL: t.URL, Events: t.Events, PaidEvery: t.PaidEvery.Duration, Plain: t.Plain}
		if target.Secrets, err = webhook.ParseSecrets(raw); err == nil {
			err = target.Check()
		}
		if err == nil && slices.Contains(names, t.Name) {
			err = fmt.Errorf("two are named %s", t.Name)
		}
		if err != nil {
			return nil, a.wrongSetting(key, "%v", err)
		}
		targets, names = append(targets, target), append(names, t.Name)
	}
	return targets, nil
}

// Where the names of the webhooks are kept: what waits for one that is not there any
// more is deleted.
const bucketHooks, keyHooks = "cmd/webhooks", "names"

// forgetHooks deletes what is kept for webhooks that are not there any more.
func (o *operations) forgetHooks() error {
	ctx := context.Background()
	var names []string
	for _, t := range o.use.hooks {
		names = append(names, t.Name)
	}
	e, err := o.p.role.store.Get(ctx, bucketHooks, keyHooks)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	before := strings.Fields(string(e.Value))
	if slices.Equal(before, names) {
		return nil
	}
	dropped, err := o.outbox.Drop(ctx, before...)
	if err != nil {
		return err
	}
	if dropped > 0 {
		o.p.app.out.say("%d events of webhooks that are not there any more were deleted", dropped)
	}
	return o.p.role.store.Commit(ctx, store.Op{Bucket: bucketHooks, Key: keyHooks, Value: []byte(strings.Join(names, " ")), Expect: e.Revision})
}
