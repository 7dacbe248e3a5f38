package tower

import (
	"bytes"
	"fmt"

	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/channel"
)

// Limits of a ladder's form. docs/protocol.md, "Watchtower".
const (
	MaxRungs = 64    // rungs of a ladder
	maxTx    = 4_000 // bytes of a rung
	maxSig   = 80    // bytes of a signature
)

// Ladder is completed settlements of one amount at rising fees. They differ in the
// payout's value and in one signature, so only these are kept of all but the first.
type Ladder struct {
	// First is the lowest rung, complete.
	First channel.Hex `json:"first"`
	// Slot is where the signature that differs lies: its place among the items of
	// the input's witness, or among the pushes of its script.
	Slot int `json:"slot"`
	// More are the other rungs, lowest first.
	More []Step `json:"more"`
}

// Step is a rung, told by what it has of its own.
type Step struct {
	Payout    int64       `json:"payout_sat"` // value of the last output
	Signature channel.Hex `json:"signature"`  // with its flag, where it has one
}

// Pack makes a ladder of complete rungs, lowest fee first. Errors: ErrMalformed
// where they differ in more than a ladder can tell.
func Pack(rungs []*wire.MsgTx) (Ladder, error) {
	var l Ladder
	if len(rungs) == 0 || len(rungs[0].TxIn) != 1 || len(rungs[0].TxOut) == 0 {
		return l, refuse(ErrMalformed, "there is no rung")
	}
	first, err := items(rungs[0].TxIn[0])
	if err != nil {
		return l, err
	}
	if l.First, err = channel.EncodeTx(rungs[0]); err != nil {
		return l, err
	}
	for i, tx := range rungs[1:] {
		if len(tx.TxIn) != 1 || len(tx.TxOut) != len(rungs[0].TxOut) {
			return l, refuse(ErrMalformed, "rung %d has another form than the first", i+1)
		}
		own, err := items(tx.TxIn[0])
		if err != nil {
			return l, err
		}
		if i == 0 {
			l.Slot = differs(first, own)
		}
		if l.Slot >= len(own) {
			return l, refuse(ErrMalformed, "rung %d has another form than the first", i+1)
		}
		l.More = append(l.More, Step{Payout: tx.TxOut[len(tx.TxOut)-1].Value, Signature: own[l.Slot]})
	}
	back, err := l.Unpack()
	if err != nil {
		return l, err
	}
	for i, tx := range rungs {
		if tx.WitnessHash() != back[i].WitnessHash() {
			return l, refuse(ErrMalformed, "rung %d differs from the first in more than its payout and one signature", i)
		}
	}
	return l, nil
}

// differs is the first place where two lists are not the same.
func differs(a, b [][]byte) int {
	for i := range min(len(a), len(b)) {
		if !bytes.Equal(a[i], b[i]) {
			return i
		}
	}
	return 0
}

// Unpack makes the rungs, complete. It says nothing of what they are worth: see
// Check. Errors: ErrMalformed.
func (l Ladder) Unpack() ([]*wire.MsgTx, error) {
	switch {
	case len(l.First) > maxTx:
		return nil, refuse(ErrMalformed, "a rung of %d bytes, at most %d", len(l.First), maxTx)
	case len(l.More) >= MaxRungs:
		return nil, refuse(ErrMalformed, "%d rungs, at most %d", len(l.More)+1, MaxRungs)
	}
	first, err := channel.DecodeTx(l.First)
	if err != nil {
		return nil, refuse(ErrMalformed, "%v", err)
	}
	if len(first.TxIn) != 1 || len(first.TxOut) == 0 {
		return nil, refuse(ErrMalformed, "a rung with %d inputs and %d outputs", len(first.TxIn), len(first.TxOut))
	}
	rungs := []*wire.MsgTx{first}
	for i, s := range l.More {
		tx, err := l.step(first, s)
		if err != nil {
			return nil, fmt.Errorf("rung %d: %w", i+1, err)
		}
		rungs = append(rungs, tx)
	}
	return rungs, nil
}

// step is the first rung with another payout and another signature.
func (l Ladder) step(first *wire.MsgTx, s Step) (*wire.MsgTx, error) {
	if len(s.Signature) == 0 || len(s.Signature) > maxSig {
		return nil, refuse(ErrMalformed, "a signature of %d bytes", len(s.Signature))
	}
	tx := first.Copy()
	tx.TxOut[len(tx.TxOut)-1].Value = s.Payout
	in := tx.TxIn[0]
	parts, err := items(in)
	if err != nil {
		return nil, err
	}
	if l.Slot < 0 || l.Slot >= len(parts) {
		return nil, refuse(ErrMalformed, "no item %d in the input", l.Slot)
	}
	parts[l.Slot] = s.Signature
	if len(in.Witness) > 0 {
		in.Witness = parts
		return tx, nil
	}
	b := txscript.NewScriptBuilder()
	for _, p := range parts {
		b.AddData(p)
	}
	if in.SignatureScript, err = b.Script(); err != nil {
		return nil, refuse(ErrMalformed, "%v", err)
	}
	return tx, nil
}

// items are what an input shows to the script: its witness, or, where it has none,
// the pushes of its script. The list is the caller's, its items are not.
func items(in *wire.TxIn) ([][]byte, error) {
	if len(in.Witness) > 0 {
		return append([][]byte(nil), in.Witness...), nil
	}
	pushes, err := txscript.PushedData(in.SignatureScript)
	if err != nil {
		return nil, refuse(ErrMalformed, "an input's script: %v", err)
	}
	if len(in.SignatureScript) > 0 && in.SignatureScript[0] == txscript.OP_0 && (len(pushes) == 0 || len(pushes[0]) > 0) {
		pushes = append([][]byte{nil}, pushes...) // the item that CHECKMULTISIG eats
	}
	return pushes, nil
}

// Halves are the items of an input that have the form of a half-signature: what the
// payer signed for the amount of these rungs is among them, and nothing that would
// complete a rung.
func (l Ladder) Halves() ([]channel.Hex, error) {
	rungs, err := l.Unpack()
	if err != nil {
		return nil, err
	}
	all, err := items(rungs[0].TxIn[0])
	if err != nil {
		return nil, err
	}
	const single, none = txscript.SigHashSingle | txscript.SigHashAnyOneCanPay, txscript.SigHashNone | txscript.SigHashAnyOneCanPay
	var halves []channel.Hex
	for _, item := range all {
		if len(item) < 65 || len(item) > maxSig {
			continue // 64 bytes are the payee's on taproot, which has no flag
		}
		if flag := txscript.SigHashType(item[len(item)-1]); flag == single || flag == none {
			halves = append(halves, item)
		}
	}
	return halves, nil
}
