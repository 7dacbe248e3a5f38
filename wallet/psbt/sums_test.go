package psbt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/btcsuite/btcd/wire/v2"
)

// inputs makes the fixture's transaction one of n inputs, each said to hold so much.
func (f *fixture) inputs(n int, value int64) {
	f.tx.TxIn, f.outs = nil, nil
	for i := range n {
		at := wire.OutPoint{Index: uint32(i)}
		binary.BigEndian.PutUint32(at.Hash[:], uint32(i+1))
		in := wire.NewTxIn(&at, nil, nil)
		in.Sequence = wire.MaxTxInSequenceNum - 2
		f.tx.AddTxIn(in)
		f.outs = append(f.outs, wire.NewTxOut(value, f.wpkh(0)))
	}
}

// Sums that are more than there is are refused, also where they pass the largest number
// there is and come out as what would be a good fee.
func TestSumsAreBounded(t *testing.T) {
	const fee = 1_000_000
	// so many inputs of value hold outputs + fee, if sums are taken modulo 2^64
	value, n := int64(2_000_000_000_000_000), 9224
	left := int64(uint64(n-1) * uint64(value)) // modulo 2^64
	for name, c := range map[string]struct {
		change func(f *fixture)
		want   error
	}{
		"inputs around": {func(f *fixture) {
			f.inputs(n, value)
			f.outs[n-1].Value = paid + fee - left
			f.tx.TxOut = f.tx.TxOut[1:]
		}, ErrUTXO},
		"two inputs": {func(f *fixture) { f.inputs(2, 11e14) }, ErrUTXO},
		"outputs": {func(f *fixture) {
			f.tx.AddTxOut(wire.NewTxOut(20e14, f.wpkh(2)))
			f.tx.AddTxOut(wire.NewTxOut(20e14, f.wpkh(2)))
		}, ErrOutput},
		"too many inputs": {func(f *fixture) {
			f.inputs(1500, 1_000)
			f.tx.TxOut = f.tx.TxOut[1:]
		}, ErrTooLarge},
	} {
		f := newFixture(t)
		c.change(f)
		if f.outs[len(f.outs)-1].Value < 0 || f.outs[len(f.outs)-1].Value > 21e14 {
			t.Fatalf("%s: the test's last input is of %d sat", name, f.outs[len(f.outs)-1].Value)
		}
		if _, err := f.want.Check(&Packet{f.unsigned()}); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// What nodes do not relay, or what no signature covers in the way that is looked for, is
// refused by its form, before anything is executed.
func TestWitnessesThatAreRefused(t *testing.T) {
	sig := bytes.Repeat([]byte{3}, 64)
	control := append([]byte{0xc0}, bytes.Repeat([]byte{4}, 32)...)
	for name, w := range map[string]wire.TxWitness{
		"an annex": {sig, {0x50, 1}}, "an annex behind a script": {sig, {0x51}, control, {0x50}},
		"NONE": {append(bytes.Clone(sig), 2)}, "SINGLE in a script": {append(bytes.Clone(sig), 3), {0x51}, control}, "ALL, and ANYONECANPAY beside it": {append(bytes.Clone(sig), 1), append(bytes.Clone(sig), 0x81), {0x51}, control},
		"no signature": {{1}}, "a script alone": {{0x51}, control}, "nothing": {},
	} {
		f := newFixture(t)
		tx := f.tx.Copy()
		tx.TxIn = tx.TxIn[:1]
		tx.TxIn[0].Witness = w
		if err := CheckSigned(tx, f.prevouts()); !errors.Is(err, ErrSighash) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// An input that is described twice is described once.
func TestTwoDescriptionsAgree(t *testing.T) {
	for more, want := range map[int64]error{0: nil, 1: ErrUTXO, -1: ErrUTXO} {
		f := newFixture(t)
		prev := wire.NewMsgTx(2)
		prev.AddTxIn(wire.NewTxIn(&wire.OutPoint{Index: 9}, nil, nil))
		prev.AddTxOut(f.outs[1])
		f.tx.TxIn[1].PreviousOutPoint = wire.OutPoint{Hash: prev.TxHash()}
		p := f.unsigned()
		p.Inputs[1].NonWitnessUtxo = prev
		p.Inputs[1].WitnessUtxo = wire.NewTxOut(f.outs[1].Value+more, f.outs[1].PkScript)
		fund, err := f.want.Check(&Packet{p})
		if !errors.Is(err, want) || err == nil && fund.Believed != 2 {
			t.Errorf("%+d sat: %v %+v", more, err, fund)
		}
	}
}
