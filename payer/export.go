package payer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/script"
)

// The form of an export. A program reads exports of its own version and of older
// ones.
const (
	exportFormat  = "spillway channel export"
	exportVersion = 1
	maxExport     = 2 << 20 // bytes; a relayed T1 has at most 100,000 vB
)

// What can be wrong with an export.
var (
	// ErrExport: what was read is no export, or not whole.
	ErrExport = errors.New("this is no channel export, or it is damaged")
	// ErrExportNewer: a newer version of the program made it.
	ErrExportNewer = errors.New("a newer version made this channel export")
	// ErrExportContent: whole, but what it says does not fit together.
	ErrExportContent = errors.New("the channel export contradicts itself")
	// ErrExportNetwork: a channel of another network.
	ErrExportNetwork = errors.New("the exported channel is on another network")
	// ErrExportSeed: the channel's key is not one of this wallet's seed.
	ErrExportSeed = errors.New("the exported channel belongs to another seed")
	// ErrExportKnown: the channel is here already; its record knows more.
	ErrExportKnown = errors.New("the channel is here already")
)

// Export is all that is needed, beside the seed's words, to get back what is unpaid
// in a channel. It holds no private key: who finds one learns what was paid, and can
// at most broadcast a refund that pays the channel's payer, after the expiry.
// docs/protocol.md, section 12.
type Export struct {
	Terms        channel.Terms  `json:"terms"`
	KeyIndex     uint32         `json:"key_index"`            // what K1 is derived from
	Origin       string         `json:"origin"`               // where the payee is reached
	Payee        string         `json:"payee"`                // its identity
	Newest       channel.Update `json:"newest"`               // newest that was signed when this was made
	Held         channel.Update `json:"held"`                 // duplex: newest that the payee signed
	FundingTx    channel.Hex    `json:"funding_tx"`           // T1
	RefundScript channel.Hex    `json:"refund_script"`        // where the refund goes
	RefundSig    channel.Hex    `json:"refund_sig,omitempty"` // the payee's, multisig only
	// RefundTx is the refund, complete, at the fee rate of the day: for a machine
	// without this program. Valid above height Terms.Expiry.
	RefundTx channel.Hex `json:"refund_tx"`
}

// exported is an export's file.
type exported struct {
	Format  string          `json:"format"`
	Version int             `json:"version"`
	SHA256  channel.Hex     `json:"sha256"` // of channel, without white space
	Channel json.RawMessage `json:"channel"`
}

// Encode writes an export as indented JSON with a checksum.
func (e Export) Encode() ([]byte, error) {
	inner, err := json.Marshal(e)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(inner)
	raw, err := json.MarshalIndent(exported{exportFormat, exportVersion, sum[:], inner}, "", "  ")
	return append(raw, '\n'), err
}

// DecodeExport reads what Encode wrote, in whatever layout, and checks all that can
// be checked without keys and chain. Fields that are unknown, missing, or there twice
// are refused. Errors: ErrExport, ErrExportNewer, ErrExportContent.
func DecodeExport(raw []byte) (Export, error) {
	var e Export
	if len(raw) > maxExport {
		return e, fmt.Errorf("%w: %d bytes", ErrExport, len(raw))
	}
	var head struct {
		Format  string `json:"format"`
		Version int    `json:"version"`
	}
	if err := json.Unmarshal(raw, &head); err != nil || head.Format != exportFormat {
		return e, fmt.Errorf("%w: it does not say %q", ErrExport, exportFormat)
	}
	if head.Version > exportVersion {
		return e, fmt.Errorf("%w: version %d, this program knows %d", ErrExportNewer, head.Version, exportVersion)
	}
	var file exported
	if err := strict(raw, &file); err != nil {
		return e, fmt.Errorf("%w: %w", ErrExport, err)
	}
	var inner bytes.Buffer
	if err := json.Compact(&inner, file.Channel); err != nil {
		return e, fmt.Errorf("%w: %w", ErrExport, err)
	}
	if sum := sha256.Sum256(inner.Bytes()); !bytes.Equal(sum[:], file.SHA256) {
		return e, fmt.Errorf("%w: its checksum is not that of its content", ErrExport)
	}
	if err := strict(inner.Bytes(), &e); err != nil {
		return Export{}, fmt.Errorf("%w: %w", ErrExport, err)
	}
	again, err := e.Encode()
	if err != nil || !sameJSON(again, raw) {
		return Export{}, fmt.Errorf("%w: it is not written as this program writes it", ErrExport)
	}
	if _, err := e.check(); err != nil {
		return Export{}, err
	}
	return e, nil
}

// strict reads one JSON value and nothing behind it, without unknown fields.
func strict(raw []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows its end")
	}
	return nil
}

// sameJSON compares two texts without their white space.
func sameJSON(a, b []byte) bool {
	var x, y bytes.Buffer
	return json.Compact(&x, a) == nil && json.Compact(&y, b) == nil && bytes.Equal(x.Bytes(), y.Bytes())
}

// check makes sure that an export fits together: scripts, T1, signatures.
// Errors: ErrExportContent.
func (e Export) check() (*script.Channel, error) {
	ch, err := e.Terms.Script()
	if err != nil {
		return nil, contradicts("%w", err)
	}
	tx, err := channel.DecodeTx(e.FundingTx)
	if err != nil {
		return nil, contradicts("the funding transaction: %w", err)
	}
	at := e.Terms.Outpoint
	switch {
	case tx.TxHash() != at.Hash:
		return nil, contradicts("its transaction is %s, the channel %s", tx.TxHash(), at)
	case uint64(at.Index) >= uint64(len(tx.TxOut)):
		return nil, contradicts("there is no output %s", at)
	case tx.TxOut[at.Index].Value != int64(e.Terms.Capacity) || !bytes.Equal(tx.TxOut[at.Index].PkScript, ch.OutputScript()):
		return nil, contradicts("the output %s is not one of these terms", at)
	case e.KeyIndex >= 1<<31:
		return nil, contradicts("key %d", e.KeyIndex)
	case e.Terms.Cosigned() != (len(e.RefundSig) > 0):
		return nil, contradicts("a %s channel, and a refund signature of %d bytes", e.Terms.Construction, len(e.RefundSig))
	}
	if e.Terms.Cosigned() {
		if err := ch.VerifyRefundSig(e.RefundSig); err != nil {
			return nil, contradicts("the refund: %w", err)
		}
	}
	if err := e.Terms.VerifyUpdate(ch, e.Newest); err != nil {
		return nil, contradicts("the newest update: %w", err)
	}
	if err := e.checkHeld(ch); err != nil {
		return nil, err
	}
	refund, err := channel.DecodeTx(e.RefundTx)
	if err != nil || len(refund.TxIn) != 1 || channel.Outpoint(refund.TxIn[0].PreviousOutPoint) != at {
		return nil, contradicts("its refund does not spend the channel")
	}
	return ch, nil
}

// checkHeld checks what the payee of a duplex channel signed; nothing else has any.
func (e Export) checkHeld(ch *script.Channel) error {
	if e.Held.Epoch == 0 {
		if e.Held.Amount != 0 || len(e.Held.Signature) != 0 {
			return contradicts("the payee's state has no epoch")
		}
		return nil
	}
	if e.Terms.Construction != script.Duplex || channel.SenderOf(e.Held.Epoch) != script.Payee {
		return contradicts("the payee sends nothing in epoch %d of a %s channel", e.Held.Epoch, e.Terms.Construction)
	}
	if err := e.Terms.VerifyUpdate(ch, e.Held); err != nil {
		return contradicts("the payee's state: %w", err)
	}
	return nil
}

func contradicts(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrExportContent, fmt.Errorf(format, args...))
}

// Export makes a channel's export. It saves and sends nothing. Errors: ErrUnknown;
// channel.ErrTerms for a multisig channel whose refund is not signed yet; those of
// the chain, which names the fee rate of the refund in it.
func (p *Payer) Export(ctx context.Context, id string) (Export, error) {
	h, err := p.lock(ctx, id)
	if err != nil {
		return Export{}, err
	}
	defer h.unlock()
	return p.export(ctx, h.script, h.record)
}

func (p *Payer) export(ctx context.Context, ch *script.Channel, r channel.PayerRecord) (Export, error) {
	if r.Terms.Cosigned() && len(r.RefundSig) == 0 {
		return Export{}, fmt.Errorf("%w: the refund of channel %s is not signed yet", channel.ErrTerms, r.Terms.ID())
	}
	rate, err := p.cfg.Chain.FeeRate(ctx, fundingTarget)
	if err != nil {
		return Export{}, err
	}
	tx, _, err := p.buildRefund(&held{record: r, script: ch}, rate)
	if err != nil {
		return Export{}, err
	}
	raw, err := channel.EncodeTx(tx)
	if err != nil {
		return Export{}, err
	}
	e := Export{
		Terms: r.Terms, KeyIndex: r.KeyIndex, Origin: r.Origin, Payee: r.Payee, Newest: r.Newest(),
		FundingTx: r.FundingTx, RefundScript: r.RefundScript, RefundSig: r.RefundSig, RefundTx: raw,
	}
	if len(e.Newest.Signature) == 0 { // nothing was signed yet; everything to the payer is
		if e.Newest, err = p.firstUpdate(r); err != nil {
			return Export{}, err
		}
	}
	if r.Duplex != nil {
		e.Held = r.Duplex.Held
	}
	return e, nil
}

// keep hands a channel's export to whoever keeps it, before anything of it leaves.
func (p *Payer) keep(ctx context.Context, ch *script.Channel, r channel.PayerRecord) error {
	if p.cfg.Keep == nil {
		return nil
	}
	e, err := p.export(ctx, ch, r)
	if err == nil {
		err = p.cfg.Keep(ctx, e)
	}
	if err != nil {
		return fmt.Errorf("channel %s was not exported, its funding stays here: %w", r.Terms.ID(), err)
	}
	return nil
}
