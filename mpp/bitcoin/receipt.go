package bitcoin

import (
	"encoding/hex"
	"fmt"
	"time"

	"github.com/spillway/spillway/mpp"
)

// Receipt says where a channel stands after a request that succeeded.
type Receipt struct {
	Timestamp          time.Time // whole seconds travel
	Reference          string    // what was paid; the channel's id where empty
	ChallengeID        string
	ChannelID          string  // txid:vout
	AcceptedCumulative uint64  // sat, paid
	ChargedMsat        uint64  // msat, cumulative
	RequiredCumulative uint64  // sat, what to sign next
	Units              uint64  // that this request was charged for
	RequestMsat        uint64  // msat that this request was charged in all its repeats; 0: not said
	BackMsat           uint64  // duplex: msat, cumulative, what the payee returns
	Update             *Update // duplex: the payee's newest state where it is the newest of all; nil: none
}

// Update is what the payee signs where it pays back, in a duplex channel.
type Update struct {
	CumulativeAmount uint64 // sat, the receiver's total
	Signature        []byte // half-signature
	Epoch            uint32 // even
	LockHeight       uint32 // the epoch's
}

// back adds what flows back in a duplex channel.
func (o object) back(msat uint64, u *Update) {
	if msat > 0 {
		o["backMsat"] = dec(msat)
	}
	if u != nil {
		o["update"] = object{
			"cumulativeAmount": dec(u.CumulativeAmount), "signature": hex.EncodeToString(u.Signature),
			"epoch": u.Epoch, "lockHeight": u.LockHeight,
		}
	}
}

// back reads what flows back in a duplex channel.
func (f *fields) back() (msat uint64, update *Update) {
	msat = f.amount("backMsat", MaxMsat, may)
	if !f.has("update") {
		return msat, nil
	}
	in := f.in("update")
	u := &Update{CumulativeAmount: in.amount("cumulativeAmount", MaxSat, need), Signature: in.bytes("signature", minSig, maxSig, need)}
	if u.Epoch, u.LockHeight = in.epoch(); in.err == nil && (u.Epoch == 0 || u.Epoch%2 == 1) {
		in.fail("epoch", "%d is none of the payee's", u.Epoch)
	}
	if f.err == nil {
		f.err = in.err
	}
	return msat, u
}

// Encode is the value of Payment-Receipt. Errors: *FieldError (ErrReceipt) where
// ParseReceipt would refuse it.
func (r Receipt) Encode() (string, error) {
	b, err := r.MarshalJSON()
	if err != nil {
		return "", err
	}
	if err := new(Receipt).UnmarshalJSON(b); err != nil {
		return "", err
	}
	return mpp.EncodeBase64(b), nil
}

// MarshalJSON writes the receipt in JCS.
func (r Receipt) MarshalJSON() ([]byte, error) {
	o := object{
		"method": Method, "intent": Intent, "status": mpp.ReceiptSuccess, "timestamp": mpp.FormatTime(r.Timestamp),
		"reference": r.Reference, "challengeId": r.ChallengeID, "channelId": r.ChannelID,
		"acceptedCumulative": dec(r.AcceptedCumulative), "chargedMsat": dec(r.ChargedMsat),
		"requiredCumulative": dec(r.RequiredCumulative), "units": r.Units,
	}
	if r.Reference == "" {
		o["reference"] = r.ChannelID
	}
	if r.RequestMsat > 0 {
		o["requestMsat"] = dec(r.RequestMsat)
	}
	o.back(r.BackMsat, r.Update)
	return mpp.JCS(o)
}

// ParseReceipt decodes the one value of Payment-Receipt.
// Errors: *FieldError and others that wrap ErrReceipt.
func ParseReceipt(headerValues []string) (Receipt, error) {
	obj, err := mpp.ParseReceipt(headerValues)
	if err != nil {
		return Receipt{}, fmt.Errorf("%w: %w", ErrReceipt, err)
	}
	return readReceipt(&fields{kind: ErrReceipt, obj: obj})
}

// UnmarshalJSON reads a receipt strictly. Errors: *FieldError (ErrReceipt).
func (r *Receipt) UnmarshalJSON(data []byte) error {
	got, err := readReceipt(parse(ErrReceipt, data))
	if err == nil {
		*r = got
	}
	return err
}

func readReceipt(f *fields) (Receipt, error) {
	for _, e := range [][2]string{{"method", Method}, {"intent", Intent}, {"status", mpp.ReceiptSuccess}} {
		if got := f.text(e[0], need); f.err == nil && got != e[1] {
			f.fail(e[0], "is not %q", e[1])
		}
	}
	r := Receipt{
		Timestamp: f.time("timestamp"), Reference: f.text("reference", need), ChallengeID: f.text("challengeId", need),
		ChannelID: f.outpoint("channelId"), AcceptedCumulative: f.amount("acceptedCumulative", MaxSat, need),
		ChargedMsat:        f.amount("chargedMsat", MaxMsat, need),
		RequiredCumulative: f.amount("requiredCumulative", MaxSat, need), Units: f.count("units", maxCount, may),
	}
	r.RequestMsat = f.amount("requestMsat", MaxMsat, may)
	r.BackMsat, r.Update = f.back()
	if f.err != nil {
		return Receipt{}, f.err
	}
	return r, nil
}

func (f *fields) time(name string) time.Time {
	s := f.text(name, need)
	if f.err != nil {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339, s)
	if t = t.UTC(); err != nil || t.Year() < 0 || t.Year() > 9999 { // else it could not be written again
		f.fail(name, "is no RFC 3339 time")
	}
	return t
}
