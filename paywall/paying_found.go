package paywall

import (
	"context"
	"net/http"

	"github.com/spillway/spillway/channel"
)

// Asked is a request whose payment is about to leave.
type Asked struct {
	// Request is the caller's; nil for a WebSocket.
	Request *http.Request
	// Key is its Idempotency-Key: the same request with the same key is charged once.
	Key string
	// URL and Channel are where it goes and what pays for it.
	URL, Channel string
	// Lost is what may be charged for it though nothing of it comes, in msat.
	Lost uint64
}

// asking tells of a request before its payment leaves.
func (r *trip) asking(ctx context.Context) error {
	if r.t.cfg.Asking == nil {
		return nil
	}
	return r.t.cfg.Asking(ctx, Asked{
		Request: r.req, Key: r.key, URL: r.target, Channel: r.lane.id, Lost: max(r.cost.credit, r.cost.first()),
	})
}

// Found takes channels over that an earlier process left: they are used for requests to
// their providers, and closed by Close and CloseIdle. which says which of them, and how
// much (msat) the provider may have charged for what was under way then and never came:
// so much is paid where the provider asks for it, within the budget, as it is for answers
// that are left. It returns how many there are.
func (t *Transport) Found(ctx context.Context, which func(channel.PayerRecord) (take bool, lost uint64)) (int, error) {
	records, err := t.c.cfg.Payer.Records(ctx)
	if err != nil {
		return 0, err
	}
	n := 0
	for _, r := range records {
		take, lost := which(r)
		if !take || !t.closable(r) {
			continue
		}
		a, err := t.account(Origin(r.Origin))
		if err != nil {
			return n, err
		}
		a.recall(records)
		l := a.found(r, r.Origin)
		l.mu.Lock()
		l.slack += lost
		l.idle = t.c.cfg.Now()
		l.mu.Unlock()
		n++
	}
	return n, nil
}

// closable reports whether a channel is of the kind that a Transport uses, and open.
func (t *Transport) closable(r channel.PayerRecord) bool {
	if Origin(r.Origin) == "" || r.Duplex != nil || r.Close != nil || r.SpentBy != "" || r.Void() || r.Unsigned || r.Stopped != "" {
		return false
	}
	return r.Phase == channel.Funding || r.Phase == channel.Open || r.Phase == channel.Settling
}

// found is the lane of a channel that there is a record of. What was signed beyond what
// came was wanted for what was left: it may be wanted again, and is paid already.
func (a *account) found(r channel.PayerRecord, target string) *lane {
	id := r.Terms.ID()
	a.mu.Lock()
	known := a.lanes[id] != nil
	a.mu.Unlock()
	l := a.use(id, target)
	if known {
		return l
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.slack = max(l.slack, r.Signed*1000-min(r.Signed*1000, r.Owed))
	return l
}
