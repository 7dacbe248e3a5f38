package payer

import (
	"fmt"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/channel"
)

// relays refuses a channel whose refund this side's blockchain would not take: one in
// version 3 where that does not relay it. Errors: channel.ErrTerms.
func (p *Payer) relays(version int32) error {
	c, ok := p.cfg.Chain.(interface{ Capabilities() chain.Capabilities })
	if ok && version == 3 && c.Capabilities().NoVersion3 {
		return fmt.Errorf("%w: the provider's channels use transactions of version 3, which this node does not relay: a refund could not be sent through it; ask another node beside it", channel.ErrTerms)
	}
	return nil
}
