package channel

import (
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/script"
)

// Terms is what both sides of a channel have agreed on. It never changes.
type Terms struct {
	Network       string              `json:"network"`
	Construction  script.Construction `json:"construction"`
	TxVersion     int32               `json:"tx_version"`
	PayerKey      Key                 `json:"payer_key"` // K1
	PayeeKey      Key                 `json:"payee_key"` // K2
	Nonce         Nonce               `json:"nonce"`     // what K2 is derived from
	Outpoint      Outpoint            `json:"outpoint"`  // the channel's id
	Capacity      uint64              `json:"capacity"`  // sat
	RestScript    Hex                 `json:"rest_script"`
	Expiry        uint32              `json:"expiry"`               // height
	Margin        uint32              `json:"margin"`               // blocks
	Confirmations uint32              `json:"confirmations"`        // wanted before money counts
	ZeroConf      uint64              `json:"zero_conf"`            // msat, charged at most before that
	Credit        uint64              `json:"credit"`               // msat, charged may exceed paid by it
	MinimumCharge uint64              `json:"minimum_charge"`       // sat, F
	Step          uint32              `json:"step,omitempty"`       // blocks between two epochs; duplex only
	PayeeRest     Hex                 `json:"payee_rest,omitempty"` // where the payee's rest goes; duplex only
}

// ID is the channel's id, txid:vout.
func (t Terms) ID() string { return t.Outpoint.String() }

// Script builds the channel's scripts. Errors: those of script.New.
func (t Terms) Script() (*script.Channel, error) {
	if t.Capacity > MaxSat {
		return nil, refuse(ErrTerms, "a capacity of %d sat is more than there is", t.Capacity)
	}
	return script.New(script.Funding{
		Construction: t.Construction, PayerKey: t.PayerKey, PayeeKey: t.PayeeKey,
		Expiry: t.Expiry, TxVersion: t.TxVersion, Outpoint: wire.OutPoint(t.Outpoint),
		Capacity: int64(t.Capacity), RestScript: t.RestScript, PayeeRestScript: t.PayeeRest,
	})
}

// VerifyUpdate checks an update's amount and half-signature under these terms.
// ch is the terms' own Script (built once by the caller).
// Errors: ErrAmountExceeds, ErrSignature.
func (t Terms) VerifyUpdate(ch *script.Channel, u Update) error {
	state, err := t.Commitment(u)
	if err != nil {
		return err
	}
	if err := ch.VerifyState(state, u.Signature); err != nil {
		return refuse(ErrSignature, "%v", err)
	}
	return nil
}

// Commitment is the state that an update's half-signature is for.
// Errors: ErrAmountExceeds, ErrTerms.
func (t Terms) Commitment(u Update) (script.State, error) {
	switch {
	case t.Construction == script.Duplex:
		return t.State(u.Epoch, u.Amount)
	case u.Epoch != 0:
		return script.State{}, refuse(ErrTerms, "a %s channel has no epoch %d", t.Construction, u.Epoch)
	}
	return script.State{Rest: int64(t.Capacity - min(u.Amount, t.Capacity))}, t.CheckAmount(u.Amount)
}

// Cosigned reports whether the refund needs the payee's signature beforehand.
func (t Terms) Cosigned() bool {
	return t.Construction == script.Multisig || t.Construction == script.MultisigP2SH
}

// First is the update of amount 0 that comes with an opening.
func (t Terms) First(sig []byte) Update {
	u := Update{Signature: sig}
	if t.Construction == script.Duplex {
		u.Epoch = 1
	}
	return u
}

// deadline is the height from which on the payee stops delivering and settles.
func (t Terms) deadline() uint32 { return t.Expiry - min(t.Expiry, t.Margin) }

// Offer is what the payee promises in a challenge, before there is a payer.
type Offer struct {
	Network       string                `json:"network"`
	Constructions []script.Construction `json:"constructions"`
	TxVersion     int32                 `json:"tx_version"`
	PayeeKey      Key                   `json:"payee_key"`
	Nonce         Nonce                 `json:"nonce"`
	Tip           uint32                `json:"tip"`
	Expiry        uint32                `json:"expiry"`               // height
	Margin        uint32                `json:"margin"`               // blocks
	MinDeposit    uint64                `json:"min_deposit"`          // sat
	MaxDeposit    uint64                `json:"max_deposit"`          // sat
	Confirmations uint32                `json:"confirmations"`        // for the smallest deposit
	ZeroConf      uint64                `json:"zero_conf"`            // msat
	Credit        uint64                `json:"credit"`               // msat
	MinimumCharge uint64                `json:"minimum_charge"`       // sat
	Step          uint32                `json:"step,omitempty"`       // blocks; duplex only
	PayeeRest     Hex                   `json:"payee_rest,omitempty"` // duplex only
}

// Opening is the content of an `open`, or of the terms part of a `prepare`.
type Opening struct {
	Construction script.Construction
	PayerKey     Key
	Outpoint     Outpoint
	Capacity     uint64 // sat
	RestScript   Hex
	Update       Update // the first update; amount 0 unless the client pays ahead
	FundingTx    Hex    // may be empty where the payer broadcasts
}

// Policy is what a side demands of a channel. The zero value is not usable; start
// from DefaultPolicy.
type Policy struct {
	Duration      uint32 // blocks from the tip to the expiry that a payee offers
	MaxDuration   uint32 // blocks that a payer accepts
	Useful        uint32 // blocks that must be left for deliveries at opening
	Margin        uint32 // blocks
	Censorship    uint32 // C, blocks
	Reorg         uint32 // R, blocks
	Reaction      uint32 // r, blocks
	Burial        uint32 // depth at which a spend counts as final: above Reorg
	TxVersion     int32
	ZeroConf      uint64 // msat
	PoolChunks    uint64 // the newcomers' pool, in chunks of the dearest kind
	StressRate    script.FeeRate
	FeeInputs     bool                         // a payee has coins of its own for settlements that are too small
	MaxDeposit    uint64                       // sat; a payee offers and a payer opens no larger channel
	Confirmations func(capacity uint64) uint32 // grows with the capacity
}

// DefaultPolicy returns the defaults of docs/protocol.md for a network.
func DefaultPolicy(network string) Policy {
	p := Policy{
		Duration: 1008, MaxDuration: 2016, Useful: 144, Margin: 36,
		Censorship: 27, Reorg: 6, Reaction: 1, Burial: 7, TxVersion: 3,
		PoolChunks: 16, StressRate: script.FeeRatePerVB(50), MaxDeposit: MaxSat,
		Confirmations: func(capacity uint64) uint32 {
			switch {
			case capacity < 1_000_000:
				return 1
			case capacity < 100_000_000:
				return 3
			default:
				return 6
			}
		},
	}
	if network == "mainnet" {
		p.MaxDeposit, p.MaxDuration = 10_000_000, 1296
	}
	if network == "regtest" {
		p.StressRate = script.FeeRatePerVB(10)
		p.Confirmations = func(uint64) uint32 { return 1 }
	}
	return p
}

// CheckMargin refuses a margin that a censorship of C blocks and a reorg of R
// with a reaction of r blocks would overrun: margin ≥ C + R + r + 2 (without
// reorgs C + r + 1), or a burial that a reorg of R undoes: nobody would watch any
// more. Errors: ErrTerms. docs/protocol.md, "Time" and "Closing".
func (p Policy) CheckMargin() error {
	if p.Burial <= p.Reorg {
		return refuse(ErrTerms, "a burial of %d blocks can be undone by a reorg of %d", p.Burial, p.Reorg)
	}
	need := p.Censorship + p.Reorg + p.Reaction + 2
	if p.Reorg == 0 {
		need = p.Censorship + p.Reaction + 1
	}
	if p.Margin < need {
		return refuse(ErrTerms, "a margin of %d blocks is below %d, what censorship, reorgs and reaction take", p.Margin, need)
	}
	return nil
}

// bind makes the terms of an opening on an offer.
func (o Offer) bind(op Opening, confirmations uint32) Terms {
	t := Terms{
		Network: o.Network, Construction: op.Construction, TxVersion: o.TxVersion,
		PayerKey: op.PayerKey, PayeeKey: o.PayeeKey, Nonce: o.Nonce, Outpoint: op.Outpoint,
		Capacity: op.Capacity, RestScript: op.RestScript, Expiry: o.Expiry, Margin: o.Margin,
		Confirmations: max(confirmations, o.Confirmations), ZeroConf: o.ZeroConf,
		Credit: o.Credit, MinimumCharge: o.MinimumCharge,
	}
	if op.Construction == script.Duplex {
		t.Step, t.PayeeRest = o.Step, o.PayeeRest
	}
	return t
}

// Terms makes the terms of an opening on this offer and checks everything that
// can be checked without the chain. Both sides call it.
// Errors: ErrTerms, ErrAmountExceeds, ErrSignature.
func (o Offer) Terms(op Opening, p Policy) (Terms, *script.Channel, error) {
	t := o.bind(op, p.Confirmations(op.Capacity))
	offered := false
	for _, c := range o.Constructions {
		offered = offered || c == op.Construction
	}
	switch {
	case !offered:
		return t, nil, refuse(ErrTerms, "%q channels are not offered", op.Construction)
	case op.Capacity < o.MinDeposit || op.Capacity > o.MaxDeposit:
		return t, nil, refuse(ErrTerms, "a capacity of %d sat is not within %d to %d sat", op.Capacity, o.MinDeposit, o.MaxDeposit)
	}
	if err := t.CheckStep(); err != nil {
		return t, nil, err
	}
	ch, err := t.Script()
	if err != nil {
		return t, nil, refuse(ErrTerms, "%v", err)
	}
	return t, ch, nil
}

// TimeLeft refuses to open when, at this tip, not enough blocks are left for
// the confirmations, a useful time and the margin. Errors: ErrTerms.
func (t Terms) TimeLeft(tip uint32, p Policy) error {
	need := uint64(tip) + uint64(t.Confirmations) + uint64(t.Margin) + uint64(p.Useful)
	if need > uint64(t.Expiry) {
		return refuse(ErrTerms, "the expiry %d leaves too little time at height %d (%d confirmations, %d useful blocks, a margin of %d)",
			t.Expiry, tip, t.Confirmations, p.Useful, t.Margin)
	}
	return nil
}
