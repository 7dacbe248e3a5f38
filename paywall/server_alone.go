package paywall

import (
	"context"
	"net/http"

	"github.com/spillway/spillway/mpp/bitcoin"
)

// nothingSold is what a person reads where only channels are dealt with.
const nothingSold = "Nothing is sold at this address itself. It takes payments, resumes and closes of channels that were opened with this provider."

// nothingQuote is the nominal price in a challenge that quotes no resource: the
// scheme demands one, and nothing is ever charged at it.
func nothingQuote() Quote {
	return Quote{ChunkMsat: 1000, LastMsat: 1000, UnitType: bitcoin.UnitRequest, Description: "channels of this provider; nothing is sold at this address itself"}
}

// AdmitAlone runs the payment protocol at an address where nothing is sold, such
// as the origin's root: an action that comes alone is taken whatever became of
// the resource that the channel was opened for, and what is unpaid gets a
// challenge that any such action can echo. So a channel can always be paid,
// resumed and closed. worth is as in Resource. docs/protocol.md, section 13.
func (s *Server) AdmitAlone(w http.ResponseWriter, r *http.Request, worth func()) {
	s.Admit(w, r, Resource{Quote: nothingQuote(), Worth: worth, nothing: true})
}

// Keep takes the update that came with a request that is refused for a reason
// that has nothing to do with payment: it is money all the same, and charges
// nothing. What is no voucher, or not its payer's, is left alone. docs/protocol.md,
// section 6.
func (s *Server) Keep(ctx context.Context, r *http.Request) {
	v := &visit{s: s, r: r}
	if err := v.read(); err != nil {
		return
	}
	p, ok := v.payload.(bitcoin.Voucher)
	if ok && p.FromPayee {
		s.keepTrade(ctx, v, p)
		return
	}
	if !ok || v.authenticate(ctx) != nil {
		return
	}
	u, err := v.update(ctx, p)
	if err != nil {
		return
	}
	if _, err := v.take(ctx, u, nil); err != nil && refusalOf(err) == nil {
		s.cfg.Log.Warn("an update of a refused request was not kept", "channel", p.ChannelID, "error", err)
	}
}
