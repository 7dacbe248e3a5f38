//go:build linux && amd64

package killtest

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
)

// mendPayee sees to it that a provider runs whose disk takes everything: one whose
// disk refused is stopped, as a person would, and started again.
func (r *round) mendPayee(ctx context.Context) error {
	if r.payee != nil && r.refused(r.payee) {
		if err := r.stopPayee(ctx); err != nil {
			return err
		}
	}
	return r.ensurePayee(ctx)
}

// ensurePayee makes sure that a provider runs and offers the file.
func (r *round) ensurePayee(ctx context.Context) error {
	for life := 0; life < mostLives; life++ {
		if r.payee != nil && r.payee.alive() {
			return nil
		}
		if r.payee != nil {
			if err := r.judgePayee(); err != nil {
				return err
			}
		}
		if r.lives[Payee] > 0 && r.rand.IntN(2) == 0 { // before the payer can send anything again
			if err := r.look(ctx); err != nil {
				return err
			}
		}
		p, err := r.launch(Payee, "serve", filepath.Join(r.dir, "files"), "--listen", r.host, "--chunks", fmt.Sprint(chunks),
			"--price", fmt.Sprintf("%dsat/file", r.price()))
		if err != nil {
			return err
		}
		r.payee, r.faulty = p, false
		err = r.offers(ctx)
		switch {
		case errors.Is(err, errEnded):
		case err != nil && r.refused(p): // it runs, and cannot offer the file: it is told to stop
			if err := r.stopPayee(ctx); err != nil {
				return err
			}
		case err != nil:
			return fmt.Errorf("the provider does not come up: %w\n%s", err, p.said())
		case r.lives[Payee] > 1:
			return r.look(ctx)
		}
	}
	return fmt.Errorf("the provider did not come up in %d starts: %s", mostLives, strings.Join(r.out.Exits, "; "))
}

// offers waits until the provider offers the file, and keeps its address.
func (r *round) offers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	l, err := r.payee.await(ctx, "serving")
	if err != nil {
		return err
	}
	r.host = strings.TrimPrefix(l.text("url"), "http://")
	_, err = r.payee.await(ctx, "file")
	return err
}

// refused reports whether the process's disk refused something.
func (r *round) refused(p *process) bool {
	at, fired := p.fired()
	if fired && r.out.At == "" {
		r.out.At = at
	}
	return fired && p.trace.fault.Errno != 0
}

// judgePayee looks at how the provider ended, and forgets it.
func (r *round) judgePayee() error {
	p := r.payee
	<-p.ended
	r.payee, r.disturbed, r.faulty = nil, true, false
	return r.judge(Payee, p, nil)
}

// judge counts how a process ended. A kill is a kill; otherwise its code must be 0,
// 8 with an explanation where its disk refused, or one of allowed.
func (r *round) judge(role string, p *process, allowed []int) error {
	if p.err != nil {
		return fmt.Errorf("%s: tracing: %w", role, p.err)
	}
	refused := r.refused(p)
	for name, n := range p.trace.counts {
		r.out.Points[role+" "+name] = n
	}
	if p.killed() {
		r.out.Kills++
		return nil
	}
	code := p.code()
	if code == 0 {
		return nil
	}
	l := p.last()
	r.out.Exits = append(r.out.Exits, fmt.Sprintf("%s %d %s: %s", role, code, l.text("code"), l.text("message")))
	if refused {
		allowed = append(allowed, exitLocal)
	}
	for _, c := range allowed {
		if c == code && l.text("type") == "error" && l.text("message") != "" && l.text("money") != "" && l.text("next") != "" {
			return nil
		}
	}
	return fmt.Errorf("%s ended with %d where only 0 and %v are right\n%s", role, code, allowed, p.said())
}

// Exit codes of the command line's contract.
const (
	exitUnreachable = 6
	exitLocal       = 8
	exitRefused     = 9
)

// stopPayee stops the provider as a person would.
func (r *round) stopPayee(ctx context.Context) error {
	p := r.payee
	if err := p.signal(syscall.SIGINT); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	if err := p.wait(ctx); err != nil {
		return fmt.Errorf("the provider does not stop: %w\n%s", err, p.said())
	}
	return r.judgePayee()
}
