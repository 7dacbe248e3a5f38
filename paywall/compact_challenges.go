package paywall

import (
	"fmt"

	"github.com/spillway/spillway/mpp"
	"github.com/spillway/spillway/mpp/bitcoin"
)

// keep keeps a challenge once, however many channels echo it; x.mu is held.
func (x *wire) keep(c *mpp.Challenge) (*echoed, error) {
	if had := x.challenges[c.ID]; had != nil {
		return had, nil
	}
	size := len(c.ID) + len(c.Request) + len(c.Opaque) + len(c.Realm) + len(c.Description) + 256
	if x.kept+size > maxChallenges { // what no channel uses any more goes
		used := map[string]*echoed{}
		x.kept = 0
		for _, o := range x.ones {
			if o.terms != nil && !o.over && used[o.terms.ID] == nil {
				used[o.terms.ID] = o.terms
				x.kept += len(o.terms.ID) + len(o.terms.Request) + len(o.terms.Opaque) + len(o.terms.Realm) + len(o.terms.Description) + 256
			}
		}
		x.challenges = used
	}
	if x.kept+size > maxChallenges {
		return nil, fmt.Errorf("%w: too many challenges on one connection", errRequest)
	}
	if x.challenges == nil {
		x.challenges = map[string]*echoed{}
	}
	e := &echoed{Challenge: *c}
	if req, err := bitcoin.ParseRequest(c.Request); err == nil && req.MethodDetails.Root != "" {
		e.tag = `"b3-` + req.MethodDetails.Root + `"`
	}
	x.challenges[c.ID] = e
	x.kept += size
	return e, nil
}

// echoed is a challenge that channels of a connection are bound under.
type echoed struct {
	mpp.Challenge
	tag string // of the content that it names, as in If-Match; "": it names none
}
