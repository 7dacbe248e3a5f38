package paywall

import (
	"context"
	"errors"
	"fmt"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/mpp"
)

// Forgotten reports whether an error is a provider's word that it does not know a
// channel: one that was restored from an old backup has forgotten the newest ones.
func Forgotten(err error) bool {
	var p *mpp.Problem
	return errors.Is(err, ErrGone) && errors.As(err, &p) && p.Type == mpp.ProblemChannelNotFound
}

// Remind tells a provider that has forgotten a channel of it again: the opening, word
// for word, and then the newest payment. It pays nothing that was not signed before.
// The provider delivers nothing on it any more. target is any resource of the
// provider's. Errors: ErrGone where the channel is over here too; as Reopen and Voucher.
// docs/protocol.md, section 12.
func (c *Client) Remind(ctx context.Context, id, target string, e Expect) error {
	r, err := c.cfg.Payer.Record(ctx, id)
	if err != nil {
		return err
	}
	if !r.Accepted || r.Void() || r.Close != nil || r.SpentBy != "" || r.Phase != channel.Funding && r.Phase != channel.Open {
		return fmt.Errorf("%w: channel %s is %s", ErrGone, id, r.Phase)
	}
	target, e = saved(r, target, e)
	payload, err := c.opening(ctx, r)
	if err != nil {
		return err
	}
	err = c.settling(target, func(target string) error { return c.sendOpening(ctx, payload, target, e, nil) })
	if err != nil {
		return err
	}
	_, err = c.Voucher(ctx, Paid{Channel: id, URL: target, Update: r.Newest(), Expect: e})
	return err
}
