package download

import "context"

// Evicted reports whether a channel was given up for purchases: its provider takes
// nothing more on it.
func (b *Buyer) Evicted(ctx context.Context, id string) (bool, error) { return b.evicted(ctx, id) }
