package bitcoin

import (
	"encoding/hex"
	"strings"

	"github.com/spillway/spillway/mpp"
)

// PrepareAnswer is the answer to a prepare: the payee's signature of the refund.
type PrepareAnswer struct {
	RefundSignature []byte
}

// OpenAnswer is the answer to an open.
type OpenAnswer struct {
	Phase         string
	Confirmations uint32 // wanted before the channel's money counts
	Depth         uint32 // confirmations that T1 has
}

// ResumeAnswer is the answer to a resume: the newest update that the payee
// holds, so that a payer that lost its state can check that it signed it.
type ResumeAnswer struct {
	ChannelID          string
	Phase              string
	CumulativeAmount   uint64  // sat
	Signature          []byte  // half-signature of that amount
	ChargedMsat        uint64  // msat
	OwedMsat           uint64  // msat, charged and not paid
	RequiredCumulative uint64  // sat, what to sign next
	Epoch              uint32  // duplex
	LockHeight         uint32  // duplex
	BackMsat           uint64  // duplex: msat, cumulative, what the payee returns
	Update             *Update // duplex: the payee's newest state; nil: none
}

// CloseAnswer is the answer to a close: the transaction; in a cooperative close
// with the payee's nonce and partial signature, else completely signed.
type CloseAnswer struct {
	Tx           []byte
	PayeeNonce   []byte // 66 bytes, cooperative
	PayeePartial []byte // 32 bytes, cooperative
}

// MarshalJSON implements json.Marshaler.
func (a PrepareAnswer) MarshalJSON() ([]byte, error) {
	return mpp.JCS(object{"refundSignature": hex.EncodeToString(a.RefundSignature)})
}

// UnmarshalJSON reads an answer strictly. Errors: *FieldError (ErrAnswer).
func (a *PrepareAnswer) UnmarshalJSON(data []byte) error {
	f := parse(ErrAnswer, data)
	got := PrepareAnswer{RefundSignature: f.bytes("refundSignature", minSig, maxSig, need)}
	if f.err == nil {
		*a = got
	}
	return f.err
}

// MarshalJSON implements json.Marshaler.
func (a OpenAnswer) MarshalJSON() ([]byte, error) {
	return mpp.JCS(object{"phase": a.Phase, "confirmations": a.Confirmations, "depth": a.Depth})
}

// UnmarshalJSON reads an answer strictly. Errors: *FieldError (ErrAnswer).
func (a *OpenAnswer) UnmarshalJSON(data []byte) error {
	f := parse(ErrAnswer, data)
	got := OpenAnswer{
		Phase: f.phase(), Confirmations: f.height("confirmations", need), Depth: f.height("depth", may),
	}
	if f.err == nil {
		*a = got
	}
	return f.err
}

// maxPhase bounds the name of a phase, in bytes.
const maxPhase = 32

// phase reads the name of a phase, which people are shown: small letters. Which ones
// there are is the payee's to know.
func (f *fields) phase() string {
	s := f.text("phase", need)
	if len(s) > maxPhase || strings.Trim(s, "abcdefghijklmnopqrstuvwxyz-") != "" {
		f.fail("phase", "is not a word")
		return ""
	}
	return s
}

// MarshalJSON implements json.Marshaler.
func (a ResumeAnswer) MarshalJSON() ([]byte, error) {
	o := object{
		"channelId": a.ChannelID, "phase": a.Phase, "cumulativeAmount": dec(a.CumulativeAmount),
		"signature": hex.EncodeToString(a.Signature), "chargedMsat": dec(a.ChargedMsat),
		"owedMsat": dec(a.OwedMsat), "requiredCumulative": dec(a.RequiredCumulative),
	}
	o.epoch(a.Epoch, a.LockHeight)
	o.back(a.BackMsat, a.Update)
	return mpp.JCS(o)
}

// UnmarshalJSON reads an answer strictly. Errors: *FieldError (ErrAnswer).
func (a *ResumeAnswer) UnmarshalJSON(data []byte) error {
	f := parse(ErrAnswer, data)
	got := ResumeAnswer{
		ChannelID: f.outpoint("channelId"), Phase: f.phase(),
		CumulativeAmount: f.amount("cumulativeAmount", MaxSat, need), Signature: f.bytes("signature", minSig, maxSig, need),
		ChargedMsat: f.amount("chargedMsat", MaxMsat, need), OwedMsat: f.amount("owedMsat", MaxMsat, need),
		RequiredCumulative: f.amount("requiredCumulative", MaxSat, need),
	}
	got.Epoch, got.LockHeight = f.epoch()
	got.BackMsat, got.Update = f.back()
	if f.err == nil {
		*a = got
	}
	return f.err
}

// MarshalJSON implements json.Marshaler.
func (a CloseAnswer) MarshalJSON() ([]byte, error) {
	o := object{"tx": hex.EncodeToString(a.Tx)}
	o.bytes("payeeNonce", a.PayeeNonce)
	o.bytes("payeePartial", a.PayeePartial)
	return mpp.JCS(o)
}

// UnmarshalJSON reads an answer strictly: nonce and partial signature come
// together or not at all. Errors: *FieldError (ErrAnswer).
func (a *CloseAnswer) UnmarshalJSON(data []byte) error {
	f := parse(ErrAnswer, data)
	got := CloseAnswer{Tx: f.bytes("tx", minTx, maxTx, need)}
	if f.has("payeeNonce") || f.has("payeePartial") {
		got.PayeeNonce = f.bytes("payeeNonce", nonceLen, nonceLen, need)
		got.PayeePartial = f.bytes("payeePartial", 32, 32, need)
	}
	if f.err == nil {
		*a = got
	}
	return f.err
}
