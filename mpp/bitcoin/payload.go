package bitcoin

import (
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/spillway/spillway/mpp"
)

// Actions.
const (
	ActionPrepare = "prepare"
	ActionOpen    = "open"
	ActionVoucher = "voucher"
	ActionResume  = "resume"
	ActionClose   = "close"
	ActionTopUp   = "topUp" // refused
)

// Payload is what a credential of this method carries: a Prepare, Open, Voucher,
// Resume or Close.
type Payload interface {
	// Action is the name of what is asked for.
	Action() string
	// Channel is the channel's id, txid:vout.
	Channel() string
	// Cumulative is the amount in the form that the MAC covers: sat in decimal, or
	// empty where the action has none. In a duplex channel the epoch follows after a
	// slash, then the sender's ledger in msat where the action states it, and "payee/"
	// comes first where the payee pays.
	Cumulative() string
	// Proof is the MAC as it came, 32 bytes in hex.
	Proof() string

	object() object
}

// Prepare asks the payee to sign the refund (multisig only, step 3).
type Prepare struct {
	MAC         string
	ChannelType string
	PayerPubKey [33]byte // K1
	ChannelID   string
	Capacity    uint64 // sat
	RestScript  []byte
	RefundTx    []byte // unsigned
}

// Open tells of a channel that the payer has built on an offer.
type Open struct {
	MAC              string
	Offer            mpp.Challenge // that the terms came from; it may have expired
	ChannelType      string
	PayerPubKey      [33]byte // K1
	ChannelID        string
	Capacity         uint64 // sat
	RestScript       []byte
	CumulativeAmount uint64 // sat, of the first update; 0 unless it pays ahead
	Signature        []byte // half-signature of the first update
	FundingTx        []byte // T1; nil where the payer broadcasts it, and only its id travels
}

// Voucher is an update. In a duplex channel the payee sends one too, where it buys
// from the payer: FromPayee. Its epoch is 0 while it has signed no state yet; there
// is no signature then.
type Voucher struct {
	MAC              string
	ChannelID        string
	CumulativeAmount uint64 // sat, the receiver's total
	Signature        []byte // half-signature
	Epoch            uint32 // duplex
	LockHeight       uint32 // duplex, the epoch's
	FromPayee        bool   // duplex
}

// Resume asks where a channel stands. In a duplex channel it says which epoch is the
// newest that the payer knows, and its ledger.
type Resume struct {
	MAC         string
	ChannelID   string
	Epoch       uint32 // duplex, at least 1
	LockHeight  uint32 // duplex, the epoch's
	ChargedMsat uint64 // duplex: msat, what is verified by the payer's own ledger
}

// Close asks for the end of a channel; the second Close of a cooperative one
// brings the finished transaction, and needs no more.
type Close struct {
	MAC              string
	ChannelID        string
	CumulativeAmount uint64 // sat, of the newest update
	Signature        []byte // of the newest update; nil with FinalTx
	PayerNonce       []byte // 66 bytes, taproot and duplex
	FinalTx          []byte
	Epoch            uint32 // duplex, of the newest update
	LockHeight       uint32 // duplex, the epoch's
	ChargedMsat      uint64 // duplex: msat, the payer's ledger, which the channel is closed at
}

// Action implements Payload.
func (Prepare) Action() string { return ActionPrepare }

// Action implements Payload.
func (Open) Action() string { return ActionOpen }

// Action implements Payload.
func (Voucher) Action() string { return ActionVoucher }

// Action implements Payload.
func (Resume) Action() string { return ActionResume }

// Action implements Payload.
func (Close) Action() string { return ActionClose }

// Channel implements Payload.
func (p Prepare) Channel() string { return p.ChannelID }

// Channel implements Payload.
func (p Open) Channel() string { return p.ChannelID }

// Channel implements Payload.
func (p Voucher) Channel() string { return p.ChannelID }

// Channel implements Payload.
func (p Resume) Channel() string { return p.ChannelID }

// Channel implements Payload.
func (p Close) Channel() string { return p.ChannelID }

// Cumulative implements Payload.
func (Prepare) Cumulative() string { return "" }

// Cumulative implements Payload.
func (p Open) Cumulative() string { return dec(p.CumulativeAmount) }

// Cumulative implements Payload.
func (p Voucher) Cumulative() string {
	switch {
	case p.FromPayee:
		return "payee/" + dec(p.CumulativeAmount) + "/" + dec(uint64(p.Epoch))
	case p.Epoch > 0:
		return dec(p.CumulativeAmount) + "/" + dec(uint64(p.Epoch))
	}
	return dec(p.CumulativeAmount)
}

// Cumulative implements Payload.
func (p Resume) Cumulative() string {
	if p.Epoch > 0 {
		return "/" + dec(uint64(p.Epoch)) + "/" + dec(p.ChargedMsat)
	}
	return ""
}

// Cumulative implements Payload. A Close with FinalTx needs no amount.
func (p Close) Cumulative() string {
	if p.finishes() {
		return ""
	}
	if p.Epoch > 0 {
		return dec(p.CumulativeAmount) + "/" + dec(uint64(p.Epoch)) + "/" + dec(p.ChargedMsat)
	}
	return dec(p.CumulativeAmount)
}

// Proof implements Payload.
func (p Prepare) Proof() string { return p.MAC }

// Proof implements Payload.
func (p Open) Proof() string { return p.MAC }

// Proof implements Payload.
func (p Voucher) Proof() string { return p.MAC }

// Proof implements Payload.
func (p Resume) Proof() string { return p.MAC }

// Proof implements Payload.
func (p Close) Proof() string { return p.MAC }

func (p Prepare) object() object {
	return object{
		"channelType": p.ChannelType, "payerPubKey": hex.EncodeToString(p.PayerPubKey[:]), "channelId": p.ChannelID,
		"capacity": dec(p.Capacity), "restScript": hex.EncodeToString(p.RestScript),
		"refundTx": hex.EncodeToString(p.RefundTx),
	}
}

func (p Open) object() object {
	o := object{
		"offer": p.Offer, "channelType": p.ChannelType, "payerPubKey": hex.EncodeToString(p.PayerPubKey[:]),
		"channelId": p.ChannelID, "capacity": dec(p.Capacity), "restScript": hex.EncodeToString(p.RestScript),
		"cumulativeAmount": dec(p.CumulativeAmount), "signature": hex.EncodeToString(p.Signature),
		"fundingTx": hex.EncodeToString(p.FundingTx),
	}
	if len(p.FundingTx) == 0 && isOutpoint(p.ChannelID) {
		o["fundingTx"] = p.ChannelID[:64]
	}
	return o
}

func (p Voucher) object() object {
	o := object{"channelId": p.ChannelID, "cumulativeAmount": dec(p.CumulativeAmount)}
	if p.FromPayee {
		o["from"] = fromPayee
		o.bytes("signature", p.Signature)
	} else {
		o["signature"] = hex.EncodeToString(p.Signature)
	}
	o.epoch(p.Epoch, p.LockHeight)
	return o
}

func (p Resume) object() object {
	o := object{"channelId": p.ChannelID}
	o.epoch(p.Epoch, p.LockHeight)
	o.ledger(p.Epoch, p.ChargedMsat)
	return o
}

// epoch adds what a state of a duplex channel has beside its amount.
func (o object) epoch(epoch, lock uint32) {
	o.count("epoch", uint64(epoch))
	o.count("lockHeight", uint64(lock))
}

// ledger adds the sender's ledger, in a duplex channel.
func (o object) ledger(epoch uint32, msat uint64) {
	if epoch > 0 {
		o["chargedMsat"] = dec(msat)
	}
}

// finishes reports whether the close brings the finished transaction alone.
func (p Close) finishes() bool { return len(p.FinalTx) > 0 && len(p.Signature) == 0 }

func (p Close) object() object {
	o := object{"channelId": p.ChannelID}
	o.bytes("finalTx", p.FinalTx)
	if p.finishes() {
		return o
	}
	o["cumulativeAmount"] = dec(p.CumulativeAmount)
	o["signature"] = hex.EncodeToString(p.Signature)
	o.bytes("payerNonce", p.PayerNonce)
	o.epoch(p.Epoch, p.LockHeight)
	o.ledger(p.Epoch, p.ChargedMsat)
	return o
}

// encode writes a payload with a MAC, and refuses what ParsePayload would.
func encode(p Payload, mac string) (json.RawMessage, error) {
	o := p.object()
	o["action"], o["mac"] = p.Action(), mac
	b, err := mpp.JCS(o)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPayload, err)
	}
	if _, err := ParsePayload(b); err != nil {
		return nil, err
	}
	return b, nil
}

// ParsePayload reads a credential's payload. Types are strict, unknown fields
// ignored. The result is a Prepare, Open, Voucher, Resume or Close (values, no
// pointers). Errors: *FieldError (ErrPayload), ErrAction, ErrTopUp.
func ParsePayload(raw json.RawMessage) (Payload, error) {
	f := parse(ErrPayload, raw)
	action := f.text("action", need)
	if f.err != nil {
		return nil, f.err
	}
	var p Payload
	switch action {
	case ActionPrepare:
		p = readPrepare(f)
	case ActionOpen:
		p = readOpen(f)
	case ActionVoucher:
		p = readVoucher(f)
	case ActionResume:
		p = readResume(f)
	case ActionClose:
		p = readClose(f)
	case ActionTopUp:
		return nil, ErrTopUp
	default:
		return nil, fmt.Errorf("%w: %.32q", ErrAction, action)
	}
	if f.err != nil {
		return nil, f.err
	}
	return p, nil
}

func (f *fields) mac() string { return hex.EncodeToString(f.bytes("mac", 32, 32, need)) }

func (f *fields) channelType() string {
	s := f.text("channelType", need)
	switch s {
	case Taproot, Multisig, MultisigP2SH, Duplex:
	default:
		f.fail("channelType", "is unknown: %.32q", s)
	}
	return s
}

func (f *fields) capacity() uint64 {
	n := f.amount("capacity", MaxSat, need)
	if n == 0 {
		f.fail("capacity", "is 0")
	}
	return n
}

func readPrepare(f *fields) Payload {
	p := Prepare{
		MAC: f.mac(), ChannelType: f.channelType(), PayerPubKey: f.key("payerPubKey"), ChannelID: f.outpoint("channelId"),
		Capacity: f.capacity(), RestScript: f.bytes("restScript", 1, maxScript, need),
		RefundTx: f.bytes("refundTx", minTx, maxTx, need),
	}
	if p.ChannelType != Multisig && p.ChannelType != MultisigP2SH {
		f.fail("channelType", "%q needs no prepare", p.ChannelType)
	}
	return p
}

func readOpen(f *fields) Payload {
	p := Open{
		MAC: f.mac(), ChannelType: f.channelType(), PayerPubKey: f.key("payerPubKey"), ChannelID: f.outpoint("channelId"),
		Capacity: f.capacity(), RestScript: f.bytes("restScript", 1, maxScript, need),
		CumulativeAmount: f.amount("cumulativeAmount", MaxSat, need), Signature: f.bytes("signature", minSig, maxSig, need),
	}
	if v, ok := f.get("offer", need); ok {
		var err error
		if p.Offer, err = mpp.ChallengeFrom(v); err != nil {
			f.fail("offer", "is not a challenge: %v", err)
		}
	}
	p.FundingTx = f.funding(p.ChannelID)
	if p.CumulativeAmount > p.Capacity {
		f.fail("cumulativeAmount", "is more than the capacity")
	}
	return p
}

// funding reads T1, or its id, which must be the channel's.
func (f *fields) funding(channel string) []byte {
	s := f.text("fundingTx", need)
	if f.err != nil {
		return nil
	}
	if len(s) == 64 {
		if s != channel[:64] {
			f.fail("fundingTx", "is not the channel's transaction")
		}
		return nil
	}
	return f.bytes("fundingTx", minTx, maxTx, need)
}

// fromPayee is the value of a voucher's "from" where the payee pays.
const fromPayee = "payee"

func readVoucher(f *fields) Payload {
	p := Voucher{MAC: f.mac(), ChannelID: f.outpoint("channelId"), CumulativeAmount: f.amount("cumulativeAmount", MaxSat, need)}
	p.Epoch, p.LockHeight = f.epoch()
	signed := need
	if f.has("from") {
		if from := f.text("from", need); f.err == nil && from != fromPayee {
			f.fail("from", "is not %q", fromPayee)
		}
		p.FromPayee = true
		signed = presence(p.Epoch > 0)
	}
	p.Signature = f.bytes("signature", minSig, maxSig, signed)
	switch {
	case p.FromPayee && p.Epoch == 0 && (p.CumulativeAmount > 0 || len(p.Signature) > 0):
		f.fail("epoch", "is missing")
	case p.Epoch > 0 && p.FromPayee != (p.Epoch%2 == 0):
		f.fail("epoch", "%d runs the other way", p.Epoch)
	}
	return p
}

// epoch reads an epoch and its lock; both or none are there.
func (f *fields) epoch() (epoch, lock uint32) {
	if !f.has("epoch") && !f.has("lockHeight") {
		return 0, 0
	}
	epoch, lock = f.height("epoch", may), f.height("lockHeight", may)
	switch {
	case f.err != nil:
	case !f.has("epoch"):
		f.fail("epoch", "is missing")
	case !f.has("lockHeight"):
		f.fail("lockHeight", "is missing")
	case epoch == 0:
		f.fail("epoch", "is 0")
	case lock == 0:
		f.fail("lockHeight", "is 0")
	}
	return epoch, lock
}

// ledger reads the sender's ledger, which goes with an epoch.
func (f *fields) ledger(epoch uint32) uint64 {
	return f.amount("chargedMsat", MaxMsat, presence(epoch > 0))
}

func readResume(f *fields) Payload {
	p := Resume{MAC: f.mac(), ChannelID: f.outpoint("channelId")}
	p.Epoch, p.LockHeight = f.epoch()
	if p.Epoch > 0 {
		p.ChargedMsat = f.ledger(p.Epoch)
	}
	return p
}

func readClose(f *fields) Payload {
	p := Close{MAC: f.mac(), ChannelID: f.outpoint("channelId"), FinalTx: f.bytes("finalTx", minTx, maxTx, may)}
	if p.FinalTx != nil && !f.has("cumulativeAmount") && !f.has("signature") {
		return p
	}
	p.CumulativeAmount = f.amount("cumulativeAmount", MaxSat, need)
	p.Signature = f.bytes("signature", minSig, maxSig, need)
	p.PayerNonce = f.bytes("payerNonce", nonceLen, nonceLen, may)
	if p.Epoch, p.LockHeight = f.epoch(); p.Epoch > 0 {
		p.ChargedMsat = f.ledger(p.Epoch)
	}
	if p.Epoch > 0 && p.Epoch%2 == 0 {
		f.fail("epoch", "%d runs the other way", p.Epoch)
	}
	return p
}
