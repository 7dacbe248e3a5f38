package payee

import (
	"context"

	"github.com/spillway/spillway/internal/charged"
)

// Item is one chunk that is to be released.
type Item = charged.Item

// loadPages reads which of the items were charged on a channel.
func (p *Payee) loadPages(ctx context.Context, id string, items []Item) (charged.Pages, error) {
	return charged.Load(ctx, p.cfg.Store, bucketCharged, id, items)
}
