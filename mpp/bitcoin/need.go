package bitcoin

import "github.com/spillway/spillway/mpp"

// Names of the payment events of a stream: server-sent events, and messages of a
// WebSocket.
const (
	EventNeedVoucher = "payment-need-voucher"
	EventReceipt     = "payment-receipt"
)

// NeedVoucher is what a stream says while it pauses: how much it waits for. It is a
// hint; the payer signs by its own ledger. docs/method-bitcoin-session.md, section 9.
type NeedVoucher struct {
	ChannelID          string // txid:vout
	RequiredCumulative uint64 // sat, with which the stream goes on
	AcceptedCumulative uint64 // sat, paid
	Deposit            uint64 // sat, the channel's capacity
	ChargedMsat        uint64 // msat, cumulative
}

// MarshalJSON writes it in JCS.
func (n NeedVoucher) MarshalJSON() ([]byte, error) {
	return mpp.JCS(object{
		"channelId": n.ChannelID, "requiredCumulative": dec(n.RequiredCumulative),
		"acceptedCumulative": dec(n.AcceptedCumulative), "deposit": dec(n.Deposit), "chargedMsat": dec(n.ChargedMsat),
	})
}

// UnmarshalJSON reads it strictly. Errors: *FieldError (ErrReceipt).
func (n *NeedVoucher) UnmarshalJSON(data []byte) error {
	f := parse(ErrReceipt, data)
	got := NeedVoucher{
		ChannelID: f.outpoint("channelId"), RequiredCumulative: f.amount("requiredCumulative", MaxSat, need),
		AcceptedCumulative: f.amount("acceptedCumulative", MaxSat, need), Deposit: f.amount("deposit", MaxSat, need),
		ChargedMsat: f.amount("chargedMsat", MaxMsat, need),
	}
	if f.err == nil {
		*n = got
	}
	return f.err
}
