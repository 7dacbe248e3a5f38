package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// certificate is a listener's, which is read again when the provider is told to, or the
// file has changed. One that cannot be read changes nothing.
type certificate struct {
	cert, key string
	now       atomic.Pointer[tls.Certificate]
	seen      atomic.Int64 // when the files were changed, as they were last read
}

func (c *certificate) read() error {
	changed := c.changed()
	pair, err := tls.LoadX509KeyPair(c.cert, c.key)
	if err != nil {
		return err
	}
	if pair.Leaf == nil {
		if pair.Leaf, err = x509.ParseCertificate(pair.Certificate[0]); err != nil {
			return err
		}
	}
	c.now.Store(&pair)
	c.seen.Store(changed)
	return nil
}

// changed is the time of the files' newest change; 0: not known.
func (c *certificate) changed() (newest int64) {
	for _, path := range []string{c.cert, c.key} {
		if info, err := os.Stat(path); err == nil {
			newest = max(newest, info.ModTime().UnixNano())
		}
	}
	return newest
}

// ends is when the certificate is not valid any more.
func (c *certificate) ends() time.Time { return c.now.Load().Leaf.NotAfter }

func (c *certificate) config() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.now.Load(), nil }}
}

// reloaded is something that is read again, and what it is called.
type reloaded struct {
	name string
	read func() error
}

// reloads are all that is; reading goes one after the other.
type reloads struct {
	mu  sync.Mutex
	all []reloaded
}

// onReload has something read again when the provider is told to.
func (a *app) onReload(name string, read func() error) {
	if a.reloads == nil {
		a.reloads = &reloads{}
	}
	a.reloads.mu.Lock()
	defer a.reloads.mu.Unlock()
	a.reloads.all = append(a.reloads.all, reloaded{name, read})
}

// reload reads again what can be read again: the log's level, the certificate, prices
// and rules. What has a mistake stays as it was. Errors: of usage, naming each mistake.
func (a *app) reload() (names []string, err error) {
	names = []string{}
	if a.reloads == nil {
		return names, nil
	}
	a.reloads.mu.Lock()
	defer a.reloads.mu.Unlock()
	var failed []error
	for _, r := range a.reloads.all {
		if err := r.read(); err != nil {
			failed = append(failed, fmt.Errorf("%s stays as it was: %w", r.name, err))
			continue
		}
		names = append(names, r.name)
	}
	if err := errors.Join(failed...); err != nil {
		return names, usage(err)
	}
	return names, nil
}

// rereadLevel takes the log's level from the settings file, where that is where it
// comes from.
func (a *app) rereadLevel() error {
	switch a.origins["log-level"].Kind {
	case fromFlag, fromVariable:
		return nil // these do not change
	}
	fresh := &app{out: a.out}
	fresh.flags.config = a.flags.config
	if err := fresh.openConfig(); err != nil {
		return err
	}
	level := a.out.byDefault
	for _, key := range []string{"log-level", a.section0 + ".log-level"} {
		if v, ok := fresh.config.Get(key); ok {
			text, isText := v.(string)
			if !isText {
				return fresh.config.Wrong(key, "a text in quotes is wanted")
			}
			level = text
		}
	}
	return a.out.setLevel(level)
}

// hangups calls reload at each SIGHUP, until the context ends.
func (a *app) hangups(ctx context.Context, reload func()) {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGHUP)
	defer signal.Stop(c)
	for {
		select {
		case <-ctx.Done():
			return
		case <-c:
			reload()
		}
	}
}
