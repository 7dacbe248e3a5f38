package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spillway/spillway/channel"
)

// standing is what serve shows on a terminal.
type standing struct {
	earned               uint64 // msat, paid or owed, of all channels
	paid, owed, exposure uint64 // sat, msat, msat: of channels that are not over
	open                 uint64
	deliveries           int
	perSecond            uint64 // bytes
}

// standingOf sums channels up. The exposure is the most that would be owed if every
// open channel used up its credit and vanished.
func standingOf(records []channel.PayeeRecord) (s standing) {
	for _, r := range records {
		s.earned += r.Earned() * 1000
		if r.Phase.Final() {
			continue
		}
		s.earned += r.Owed()
		s.open++
		s.paid += r.Paid
		s.owed += r.Owed()
		if r.Phase == channel.Open {
			s.exposure += max(r.Owed(), r.Terms.Credit)
		}
	}
	return s
}

func (s standing) line(o *output) string {
	return fmt.Sprintf("%s %s, %s of it in open channels  owed %s  at risk at most %s  %s  %s, %s/s",
		o.paint("1", "earned"), money(s.earned), money(s.paid*1000), money(s.owed), money(s.exposure), count(s.open, "channel"),
		deliveriesOf(s.deliveries), size(s.perSecond))
}

// live draws how the provider stands, every second, on a terminal only. A look at
// very many channels takes its time: it is made less often then.
func (p *provider) live(ctx context.Context) {
	if !p.app.out.drawn() {
		return
	}
	defer p.app.out.setLive("")
	before, at := p.gateway.Sent(), time.Now()
	for wait := time.Second; ; {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		began := time.Now()
		records, err := p.payee.Records(ctx)
		if err != nil {
			continue // the watch tells of it
		}
		s := standingOf(records)
		now := p.gateway.Sent()
		s.deliveries, s.perSecond = p.gateway.Deliveries(), uint64(float64(now-before)/began.Sub(at).Seconds())
		before, at = now, began
		p.app.out.setLive(s.line(p.app.out))
		wait = max(time.Second, lookShare*time.Since(began))
	}
}

func deliveriesOf(n int) string {
	if n == 1 {
		return "1 delivery"
	}
	return fmt.Sprintf("%d deliveries", n)
}
