package bitcoin

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/spillway/spillway/mpp"
)

// Names of the method in a challenge.
const (
	Method   = "bitcoin"
	Intent   = "session"
	Currency = "sat"
	Version  = 1
)

// Channel types.
const (
	Taproot      = "taproot"
	Multisig     = "multisig"
	MultisigP2SH = "multisig-p2sh"
	Duplex       = "duplex"
)

// Unit types: what a price counts.
const (
	UnitChunk   = "chunk"
	UnitByte    = "byte"
	UnitRequest = "request"
	UnitSecond  = "second"
	UnitEvent   = "event"
)

// Modes of a duplex channel.
const (
	ModeReversal = "reversal"
	ModeLadder   = "ladder"
)

// Request is what a challenge asks for: a price, and the terms of a channel. The
// price is Amount satoshi per MethodDetails.UnitsPerAmount units.
type Request struct {
	Amount           uint64 // sat, at least 1
	Recipient        string // the provider's Ed25519 identity, 32 bytes in hex
	UnitType         string
	Description      string // for people; optional
	SuggestedDeposit uint64 // sat; 0 when there is none
	MethodDetails    MethodDetails
}

// MethodDetails are the terms of a channel. docs/protocol.md.
type MethodDetails struct {
	Version            int // 1; what is absent is 1
	Network            string
	ChannelTypes       []string // in the payee's order; unknown ones are kept
	TxVersion          int32    // of settlements, 2 or 3
	PayeePubKey        [33]byte // K2
	TipHeight          uint32
	ExpiryHeight       uint32
	MarginBlocks       uint32
	MinDeposit         uint64 // sat
	MaxDeposit         uint64 // sat
	MinConfirmations   uint32
	ZeroConfLimit      uint64 // sat, what is charged at most before they are there
	UnitsPerAmount     uint64 // units, at least 1
	CreditMsat         uint64 // msat; 0: due one ahead
	MinimumCharge      uint64 // sat, F
	RequiredCumulative uint64 // sat, what to sign for this request; a hint

	// LastUnitMsat is the price of the last unit where it is another one, such as a
	// file's last and shorter chunk, in msat; 0: it costs what the others cost.
	LastUnitMsat uint64
	// UnitBytes is how many bytes of the answer's body a unit is, where units are chunks
	// of it; 0: it is said elsewhere, such as in a manifest.
	UnitBytes uint64
	// Root is the BLAKE3 root, in hex, of the content that is quoted; "": none is.
	Root string

	// PriceAmount and PriceCurrency are the price in a currency, such as "0.05" and "EUR"
	// for PriceUnits units, where Amount was made of it at the rate of the moment: what is
	// charged is Amount. "": there is none.
	PriceAmount   string
	PriceCurrency string
	PriceUnits    uint64

	Channel *ChannelState // only on a channel that the client named

	PayeeRestScript []byte // duplex
	StepBlocks      uint32 // duplex
	Mode            string // duplex
}

// ChannelState is where a channel that the client named stands.
type ChannelState struct {
	ChannelID          string // txid:vout
	AcceptedCumulative uint64 // sat, paid
	ChargedMsat        uint64 // msat
}

// Encode returns the request parameter of a challenge: JCS in base64url.
// Errors: *FieldError (ErrRequest).
func (r Request) Encode() (string, error) {
	b, err := r.MarshalJSON()
	if err != nil {
		return "", err
	}
	return mpp.EncodeBase64(b), nil
}

// MarshalJSON writes a request that is valid, in JCS. Errors: those of Validate.
func (r Request) MarshalJSON() ([]byte, error) {
	if err := r.Validate(); err != nil {
		return nil, err
	}
	return mpp.JCS(r.object())
}

func (r Request) object() object {
	o := object{
		"amount": dec(r.Amount), "currency": Currency, "recipient": r.Recipient, "unitType": r.UnitType,
		"methodDetails": r.MethodDetails.object(),
	}
	o.text("description", r.Description)
	if r.SuggestedDeposit != 0 {
		o["suggestedDeposit"] = dec(r.SuggestedDeposit)
	}
	return o
}

func (d MethodDetails) object() object {
	o := object{
		"version": d.Version, "network": d.Network, "channelTypes": d.ChannelTypes, "txVersion": d.TxVersion,
		"payeePubKey": hex.EncodeToString(d.PayeePubKey[:]), "tipHeight": d.TipHeight, "expiryHeight": d.ExpiryHeight,
		"marginBlocks": d.MarginBlocks, "minDeposit": dec(d.MinDeposit), "maxDeposit": dec(d.MaxDeposit),
		"minConfirmations": d.MinConfirmations, "zeroConfLimit": dec(d.ZeroConfLimit),
		"unitsPerAmount": d.UnitsPerAmount, "creditMsat": dec(d.CreditMsat),
		"minimumCharge": dec(d.MinimumCharge), "requiredCumulative": dec(d.RequiredCumulative),
	}
	if c := d.Channel; c != nil {
		o["channelId"] = c.ChannelID
		o["acceptedCumulative"] = dec(c.AcceptedCumulative)
		o["chargedMsat"] = dec(c.ChargedMsat)
	}
	if d.LastUnitMsat != 0 {
		o["lastUnitMsat"] = dec(d.LastUnitMsat)
	}
	if d.UnitBytes != 0 {
		o["unitBytes"] = d.UnitBytes
	}
	o.text("root", d.Root)
	o.text("priceAmount", d.PriceAmount)
	o.text("priceCurrency", d.PriceCurrency)
	o.count("priceUnits", d.PriceUnits)
	o.bytes("payeeRestScript", d.PayeeRestScript)
	o.count("stepBlocks", uint64(d.StepBlocks))
	o.text("mode", d.Mode)
	return o
}

// ParseRequest decodes the request parameter of a challenge and validates it.
// Errors: *FieldError and others that wrap ErrRequest.
func ParseRequest(encoded string) (Request, error) {
	b, err := mpp.DecodeBase64(encoded)
	if err != nil {
		return Request{}, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	var r Request
	if err := r.UnmarshalJSON(b); err != nil {
		return Request{}, err
	}
	return r, nil
}

// UnmarshalJSON reads a request and validates it. Errors: as ParseRequest.
func (r *Request) UnmarshalJSON(data []byte) error {
	f := parse(ErrRequest, data)
	got := Request{
		Amount:           f.amount("amount", MaxSat, need),
		Recipient:        f.text("recipient", need),
		UnitType:         f.text("unitType", need),
		Description:      f.text("description", may),
		SuggestedDeposit: f.amount("suggestedDeposit", MaxSat, may),
	}
	if c := f.text("currency", need); f.err == nil && c != Currency {
		f.fail("currency", "is not %q", Currency)
	}
	d := f.in("methodDetails")
	got.MethodDetails = readDetails(d)
	if f.err == nil {
		f.err = d.err
	}
	if f.err == nil {
		f.err = got.Validate()
	}
	if f.err != nil {
		return f.err
	}
	*r = got
	return nil
}

func readDetails(f *fields) MethodDetails {
	d := MethodDetails{
		Version: int(f.count("version", 1<<31-1, may)), Network: f.text("network", need),
		ChannelTypes: f.list("channelTypes"), TxVersion: int32(f.count("txVersion", 1<<31-1, need)),
		PayeePubKey: f.key("payeePubKey"), TipHeight: f.height("tipHeight", need),
		ExpiryHeight: f.height("expiryHeight", need), MarginBlocks: f.height("marginBlocks", need),
		MinDeposit: f.amount("minDeposit", MaxSat, need), MaxDeposit: f.amount("maxDeposit", MaxSat, need),
		MinConfirmations: f.height("minConfirmations", need), ZeroConfLimit: f.amount("zeroConfLimit", MaxSat, may),
		UnitsPerAmount: f.count("unitsPerAmount", maxCount, may), CreditMsat: f.amount("creditMsat", MaxMsat, may),
		MinimumCharge: f.amount("minimumCharge", MaxSat, may), RequiredCumulative: f.amount("requiredCumulative", MaxSat, may),
		PayeeRestScript: f.bytes("payeeRestScript", 1, maxScript, may), StepBlocks: f.height("stepBlocks", may),
		Mode: f.text("mode", may), LastUnitMsat: f.amount("lastUnitMsat", MaxMsat, may), UnitBytes: f.count("unitBytes", maxCount, may), Root: f.text("root", may),
		PriceAmount: f.text("priceAmount", may), PriceCurrency: f.text("priceCurrency", may), PriceUnits: f.count("priceUnits", maxCount, may),
	}
	if !f.has("version") {
		d.Version = Version
	}
	if !f.has("unitsPerAmount") {
		d.UnitsPerAmount = 1
	}
	if f.has("channelId") {
		d.Channel = &ChannelState{
			ChannelID:          f.outpoint("channelId"),
			AcceptedCumulative: f.amount("acceptedCumulative", MaxSat, need),
			ChargedMsat:        f.amount("chargedMsat", MaxMsat, need),
		}
	}
	return d
}

// Validate checks the form of every field. Whether the terms are acceptable is
// for the payer's rules. Errors: *FieldError (ErrRequest).
func (r Request) Validate() error {
	f := &fields{kind: ErrRequest}
	switch {
	case r.Amount == 0 || r.Amount > MaxSat:
		f.fail("amount", "is not from 1 to %d", MaxSat)
	case !isHex(r.Recipient, 32):
		f.fail("recipient", "is not 32 bytes of lower-case hex")
	case !slices.Contains([]string{UnitChunk, UnitByte, UnitRequest, UnitSecond, UnitEvent}, r.UnitType):
		f.fail("unitType", "is unknown: %.40q", r.UnitType)
	case len(r.Description) > maxText:
		f.fail("description", "has more than %d bytes", maxText)
	case r.SuggestedDeposit > MaxSat:
		f.fail("suggestedDeposit", "is more than %d", MaxSat)
	default:
		f.path = "methodDetails."
		r.MethodDetails.check(f)
		r.MethodDetails.checkAmounts(f)
		r.MethodDetails.checkExtras(f)
	}
	return f.err
}

func (d MethodDetails) check(f *fields) {
	switch {
	case d.Version != Version:
		f.fail("version", "%d is not understood", d.Version)
	case !isNetwork(d.Network):
		f.fail("network", "%.40q is not a network's name", d.Network)
	case len(d.ChannelTypes) == 0 || len(d.ChannelTypes) > maxTypes || slices.Contains(d.ChannelTypes, ""):
		f.fail("channelTypes", "is not a list of 1 to %d names", maxTypes)
	case d.TxVersion != 2 && d.TxVersion != 3:
		f.fail("txVersion", "%d is neither 2 nor 3", d.TxVersion)
	case checkKey(d.PayeePubKey) != nil:
		f.fail("payeePubKey", "is not a compressed public key")
	case d.TipHeight > maxHeight:
		f.fail("tipHeight", "is no height")
	case d.ExpiryHeight == 0 || d.ExpiryHeight > maxHeight:
		f.fail("expiryHeight", "is not from 1 to %d", maxHeight)
	case d.MarginBlocks == 0 || d.MarginBlocks >= d.ExpiryHeight:
		f.fail("marginBlocks", "is not below the expiry")
	case d.MinConfirmations > maxHeight:
		f.fail("minConfirmations", "is no number of blocks")
	}
}

func (d MethodDetails) checkAmounts(f *fields) {
	switch {
	case d.MaxDeposit == 0 || d.MaxDeposit > MaxSat:
		f.fail("maxDeposit", "is not from 1 to %d", MaxSat)
	case d.MinDeposit > d.MaxDeposit:
		f.fail("minDeposit", "is more than maxDeposit")
	case d.ZeroConfLimit > MaxSat:
		f.fail("zeroConfLimit", "is more than %d", MaxSat)
	case d.UnitsPerAmount == 0 || d.UnitsPerAmount > maxCount:
		f.fail("unitsPerAmount", "is not from 1 to %d", maxCount)
	case d.CreditMsat > MaxMsat:
		f.fail("creditMsat", "is more than %d", MaxMsat)
	case d.MinimumCharge > MaxSat:
		f.fail("minimumCharge", "is more than %d", MaxSat)
	case d.RequiredCumulative > MaxSat:
		f.fail("requiredCumulative", "is more than %d", MaxSat)
	}
}

func (d MethodDetails) checkExtras(f *fields) {
	if c := d.Channel; c != nil {
		switch {
		case !isOutpoint(c.ChannelID):
			f.fail("channelId", "is not txid:vout")
		case c.AcceptedCumulative > MaxSat:
			f.fail("acceptedCumulative", "is more than %d", MaxSat)
		case c.ChargedMsat > MaxMsat:
			f.fail("chargedMsat", "is more than %d", MaxMsat)
		}
	}
	switch {
	case d.UnitBytes > maxCount:
		f.fail("unitBytes", "is more than %d", maxCount)
	case d.LastUnitMsat > MaxMsat:
		f.fail("lastUnitMsat", "is more than %d", MaxMsat)
	case (d.PriceAmount == "") != (d.PriceCurrency == "") || (d.PriceAmount == "") != (d.PriceUnits == 0):
		f.fail("priceAmount", "is not there with its currency and units")
	case len(d.PriceAmount) > 32 || strings.Trim(d.PriceAmount, "0123456789.") != "":
		f.fail("priceAmount", "is no decimal number")
	case len(d.PriceCurrency) > 8 || strings.Trim(d.PriceCurrency, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") != "":
		f.fail("priceCurrency", "is no currency's name")
	case d.PriceUnits > maxCount:
		f.fail("priceUnits", "is more than %d", maxCount)
	case d.Root != "" && !isHex(d.Root, 32):
		f.fail("root", "is not 32 bytes of lower-case hex")
	case len(d.PayeeRestScript) > maxScript:
		f.fail("payeeRestScript", "has more than %d bytes", maxScript)
	case d.StepBlocks > maxHeight:
		f.fail("stepBlocks", "is no number of blocks")
	case d.Mode != "" && d.Mode != ModeReversal && d.Mode != ModeLadder:
		f.fail("mode", "is unknown: %.40q", d.Mode)
	}
}

// isNetwork takes lower-case letters and digits, beginning with a letter.
func isNetwork(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; (c < 'a' || c > 'z') && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != "" && len(s) <= 32
}
