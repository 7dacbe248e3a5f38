package psbt

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"testing"

	"github.com/btcsuite/btcd/btcec/v2"
	bip174 "github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/script"
)

// fixture is a wallet of three kinds of coins and a funding that it was asked for.
type fixture struct {
	t    testing.TB
	keys []*btcec.PrivateKey
	wsh  []byte // the script of the third coin: 2 of 3
	outs []*wire.TxOut
	tx   *wire.MsgTx
	want Want
}

const paid = 100_000 // sat to the channel

func newFixture(t testing.TB) *fixture {
	t.Helper()
	f := &fixture{t: t}
	for i := range 4 {
		key, _ := btcec.PrivKeyFromBytes(bytes.Repeat([]byte{byte(i + 1)}, 32))
		f.keys = append(f.keys, key)
	}
	b := txscript.NewScriptBuilder().AddOp(txscript.OP_2)
	for _, key := range f.keys[1:] {
		b.AddData(key.PubKey().SerializeCompressed())
	}
	var err error
	if f.wsh, err = b.AddOp(txscript.OP_3).AddOp(txscript.OP_CHECKMULTISIG).Script(); err != nil {
		t.Fatal(err)
	}
	tr, err := txscript.PayToTaprootScript(txscript.ComputeTaprootKeyNoScript(f.keys[0].PubKey()))
	if err != nil {
		t.Fatal(err)
	}
	f.outs = []*wire.TxOut{
		{Value: 60_000, PkScript: tr}, {Value: 50_000, PkScript: f.wpkh(0)}, {Value: 70_000, PkScript: append([]byte{0, 32}, sum(f.wsh)...)},
	}
	f.tx = wire.NewMsgTx(2)
	f.tx.LockTime = 800_000
	for i := range f.outs {
		in := wire.NewTxIn(&wire.OutPoint{Hash: [32]byte{byte(i + 1)}, Index: uint32(i)}, nil, nil)
		in.Sequence = wire.MaxTxInSequenceNum - 2
		f.tx.AddTxIn(in)
	}
	channel := append([]byte{0x51, 32}, bytes.Repeat([]byte{7}, 32)...)
	f.tx.AddTxOut(wire.NewTxOut(78_000, f.wpkh(1)))
	f.tx.AddTxOut(wire.NewTxOut(paid, channel))
	f.want = Want{Script: channel, Amount: paid, Height: 800_000, Rate: 5_000, Spent: map[wire.OutPoint]Spent{}}
	return f
}

func sum(b []byte) []byte {
	h := sha256Sum(b)
	return h[:]
}

func (f *fixture) wpkh(key int) []byte {
	f.t.Helper()
	pk, err := txscript.NewScriptBuilder().AddOp(txscript.OP_0).AddData(hash160(f.keys[key].PubKey().SerializeCompressed())).Script()
	if err != nil {
		f.t.Fatal(err)
	}
	return pk
}

func (f *fixture) prevouts() map[wire.OutPoint]*wire.TxOut {
	all := map[wire.OutPoint]*wire.TxOut{}
	for i, in := range f.tx.TxIn {
		if i < len(f.outs) {
			all[in.PreviousOutPoint] = f.outs[i]
		}
	}
	return all
}

// unsigned is what the wallet hands out first.
func (f *fixture) unsigned() *bip174.Packet {
	f.t.Helper()
	p, err := New(f.tx, f.prevouts())
	if err != nil {
		f.t.Fatal(err)
	}
	if len(p.p.Inputs) > 2 {
		p.p.Inputs[2].WitnessScript = f.wsh
	}
	return p.p
}

// sign is what the wallet does with it.
func (f *fixture) sign(p *bip174.Packet, flag txscript.SigHashType) {
	f.t.Helper()
	fetch := txscript.NewMultiPrevOutFetcher(f.prevouts())
	hashes := txscript.NewTxSigHashes(f.tx, fetch)
	tap := flag
	if tap == txscript.SigHashAll {
		tap = txscript.SigHashDefault
	}
	sig, err := txscript.RawTxInTaprootSignature(f.tx, hashes, 0, f.outs[0].Value, f.outs[0].PkScript, []byte{}, tap, f.keys[0])
	if err != nil {
		f.t.Fatal(err)
	}
	p.Inputs[0].TaprootKeySpendSig = sig
	for i, keys := range map[int][]int{1: {0}, 2: {1, 3}} {
		code := f.outs[i].PkScript
		if i == 2 {
			code = f.wsh
		}
		for _, k := range keys {
			sig, err := txscript.RawTxInWitnessSignature(f.tx, hashes, i, f.outs[i].Value, code, flag, f.keys[k])
			if err != nil {
				f.t.Fatal(err)
			}
			p.Inputs[i].PartialSigs = append(p.Inputs[i].PartialSigs, &bip174.PartialSig{PubKey: f.keys[k].PubKey().SerializeCompressed(), Signature: sig})
		}
	}
}

func read(t testing.TB, p *bip174.Packet) *Packet {
	t.Helper()
	text, err := p.B64Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := Read([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// A PSBT of taproot, P2WPKH and P2WSH inputs is checked, signed, finalized and executed;
// it is the same transaction all along, and a wallet that finalizes itself is fine.
func TestCheckAndFinalize(t *testing.T) {
	f := newFixture(t)
	fund, err := f.want.Check(read(t, f.unsigned()))
	if err != nil {
		t.Fatal(err)
	}
	if fund.Index != 1 || fund.Amount != paid || fund.Fee != 2_000 || fund.Believed != 3 || fund.Tx.TxHash() != f.tx.TxHash() {
		t.Fatalf("%+v", fund)
	}
	if err := script.CheckFundingInputs(fund.Tx, fund.Prevouts); err != nil {
		t.Fatal(err)
	}
	p := f.unsigned()
	if read(t, p).Signed() {
		t.Fatal("counts as signed")
	}
	f.sign(p, txscript.SigHashAll)
	signed := read(t, p)
	if !signed.Signed() {
		t.Fatal("does not count as signed")
	}
	done, err := Finalize(signed, fund.Tx, fund.Prevouts)
	if err != nil {
		t.Fatal(err)
	}
	if done.TxHash() != f.tx.TxHash() {
		t.Fatal("another id")
	}
	for i := range p.Inputs { // a signer that drops what was known
		p.Inputs[i].WitnessUtxo = nil
	}
	p.Inputs[0].WitnessUtxo = f.outs[0]
	if again, err := Finalize(read(t, p), fund.Tx, fund.Prevouts); err != nil || again.WitnessHash() != done.WitnessHash() {
		t.Fatal(err)
	}
	p = f.unsigned()
	f.sign(p, txscript.SigHashAll)
	if err := bip174.MaybeFinalizeAll(p); err != nil {
		t.Fatal(err)
	}
	if again, err := Finalize(read(t, p), fund.Tx, fund.Prevouts); err != nil || again.WitnessHash() != done.WitnessHash() {
		t.Fatal(err)
	}
}

// What is read is read in each of its forms, and nothing else.
func TestRead(t *testing.T) {
	f := newFixture(t)
	var raw bytes.Buffer
	if err := f.unsigned().Serialize(&raw); err != nil {
		t.Fatal(err)
	}
	text := base64.StdEncoding.EncodeToString(raw.Bytes())
	for name, form := range map[string][]byte{
		"binary": raw.Bytes(), "base64": []byte(text), "lines": []byte(" " + text[:20] + "\n" + text[20:40] + "\r\n\t" + text[40:] + "\n"),
		"hex": []byte(hex.EncodeToString(raw.Bytes()) + "\n"),
	} {
		p, err := Read(form)
		if err != nil || p.Tx().TxHash() != f.tx.TxHash() {
			t.Errorf("%s: %v", name, err)
		}
	}
	v2, err := hex.DecodeString("70736274ff" + "0102" + "04" + "02000000" + "01fb" + "04" + "02000000" + "00")
	if err != nil {
		t.Fatal(err)
	}
	other := f.unsigned()
	other.Inputs[1].NonWitnessUtxo = f.tx
	var mixed bytes.Buffer
	if err := other.Serialize(&mixed); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		raw  []byte
		want error
	}{
		"nothing": {nil, ErrFormat}, "spaces": {[]byte(" \n"), ErrFormat}, "words": {[]byte("hello"), ErrFormat}, "base64 of words": {[]byte("aGVsbG8="), ErrFormat},
		"only magic": {magic, ErrFormat}, "cut": {raw.Bytes()[:raw.Len()-1], ErrFormat}, "more": {append(bytes.Clone(raw.Bytes()), 0), ErrFormat},
		"version 2": {v2, ErrVersion}, "too large": {bytes.Repeat([]byte{'a'}, MaxBytes+1), ErrTooLarge}, "a foreign transaction": {mixed.Bytes(), ErrUTXO},
	} {
		if _, err := Read(c.raw); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// TestPitfall01_PSBTIsRefusedBeforeSigning: each way in which a PSBT must not fund a
// channel, a malleable input first, has an error of its own, before
// anything is signed.
func TestPitfall01_PSBTIsRefusedBeforeSigning(t *testing.T) {
	at := func(f *fixture, i int) wire.OutPoint { return f.tx.TxIn[i].PreviousOutPoint }
	for name, c := range map[string]struct {
		change func(f *fixture)
		packet func(f *fixture, p *bip174.Packet)
		want   error
	}{
		"no inputs":           {change: func(f *fixture) { f.tx.TxIn = nil }, want: ErrNoInputs},
		"version 0":           {change: func(f *fixture) { f.tx.Version = 0 }, want: ErrTxVersion},
		"version 4":           {change: func(f *fixture) { f.tx.Version = 4 }, want: ErrTxVersion},
		"P2PKH":               {change: func(f *fixture) { f.outs[1].PkScript = p2pkh() }, want: ErrNotSegwit},
		"nested segwit":       {change: func(f *fixture) { f.outs[1].PkScript = append(append([]byte{0xa9, 20}, make([]byte, 20)...), 0x87) }, want: ErrNotSegwit},
		"a redeem script":     {packet: func(f *fixture, p *bip174.Packet) { p.Inputs[1].RedeemScript = f.wpkh(0) }, want: ErrNotSegwit},
		"a final scriptSig":   {packet: func(f *fixture, p *bip174.Packet) { p.Inputs[1].FinalScriptSig = []byte{1, 1} }, want: ErrNotSegwit},
		"no UTXO":             {packet: func(f *fixture, p *bip174.Packet) { p.Inputs[1].WitnessUtxo = nil }, want: ErrNoUTXO},
		"a UTXO out of sense": {packet: func(f *fixture, p *bip174.Packet) { p.Inputs[1].WitnessUtxo = wire.NewTxOut(-5, f.wpkh(0)) }, want: ErrUTXO},
		"the chain says less": {change: func(f *fixture) { f.want.Spent[at(f, 1)] = Spent{Out: wire.NewTxOut(49_999, f.wpkh(0))} }, want: ErrUTXO},
		"another script":      {change: func(f *fixture) { f.want.Spent[at(f, 1)] = Spent{Out: wire.NewTxOut(50_000, f.wpkh(1))} }, want: ErrUTXO},
		"spent":               {change: func(f *fixture) { f.want.Spent[at(f, 1)] = Spent{Out: f.outs[1], Taken: true} }, want: ErrSpent},
		"immature":            {change: func(f *fixture) { f.want.Spent[at(f, 1)] = Spent{Out: f.outs[1], Immature: true} }, want: ErrImmature},
		"twice the same":      {change: func(f *fixture) { f.tx.TxIn[1].PreviousOutPoint = at(f, 0); f.outs[1] = f.outs[0] }, want: ErrDuplicate},
		"no output":           {change: func(f *fixture) { f.tx.TxOut = f.tx.TxOut[:1] }, want: ErrNoOutput},
		"another script paid": {change: func(f *fixture) { f.tx.TxOut[1].PkScript = f.wpkh(2) }, want: ErrNoOutput},
		"too little":          {change: func(f *fixture) { f.tx.TxOut[1].Value-- }, want: ErrAmount},
		"too much":            {change: func(f *fixture) { f.tx.TxOut[1].Value++ }, want: ErrAmount},
		"change to us":        {change: func(f *fixture) { f.tx.TxOut[0].PkScript = f.want.Script }, want: ErrTwice},
		"dust":                {change: func(f *fixture) { f.tx.TxOut[0].Value = 293 }, want: ErrOutput},
		"bare true":           {change: func(f *fixture) { f.tx.TxOut[0].PkScript = []byte{0x51} }, want: ErrOutput},
		"money from nowhere":  {change: func(f *fixture) { f.tx.TxOut[0].Value = 90_000 }, want: ErrFee},
		"next to no fee":      {change: func(f *fixture) { f.tx.TxOut[0].Value = 79_900 }, want: ErrFee},
		"all as a fee":        {change: func(f *fixture) { f.tx.TxOut[0].Value = 1_000 }, want: ErrFee},
		"a later height":      {change: func(f *fixture) { f.tx.LockTime = 800_001 }, want: ErrLock},
		"a time":              {change: func(f *fixture) { f.tx.LockTime = 1_500_000_000 }, want: ErrLock},
		"a relative lock":     {change: func(f *fixture) { f.tx.TxIn[1].Sequence = 5 }, want: ErrLock},
		"SINGLE":              {packet: func(f *fixture, p *bip174.Packet) { p.Inputs[1].SighashType = txscript.SigHashSingle }, want: ErrSighash},
		"ANYONECANPAY": {packet: func(f *fixture, p *bip174.Packet) {
			p.Inputs[2].SighashType = txscript.SigHashAll | txscript.SigHashAnyOneCanPay
		}, want: ErrSighash},
	} {
		f := newFixture(t)
		if c.change != nil {
			c.change(f)
		}
		p := f.unsigned()
		if c.packet != nil {
			c.packet(f, p)
		}
		if _, err := f.want.Check(&Packet{p}); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// What is unusual and harmless passes: heights that are reached, final sequences with
// any lock, an empty PSBT input that the chain knows, data outputs, version 1 and 3.
func TestCheckTakes(t *testing.T) {
	for name, change := range map[string]func(f *fixture){
		"nothing":         func(*fixture) {},
		"final sequences": func(f *fixture) { f.tx.LockTime = 900_000; eachIn(f, wire.MaxTxInSequenceNum) },
		"version 1":       func(f *fixture) { f.tx.Version = 1; eachIn(f, 5) },
		"version 3":       func(f *fixture) { f.tx.Version = 3 },
		"data":            func(f *fixture) { f.tx.AddTxOut(wire.NewTxOut(0, []byte{txscript.OP_RETURN, 1, 9})) },
		"any amount":      func(f *fixture) { f.want.Amount, f.tx.TxOut[1].Value = 0, 99_000 },
		"the chain knows": func(f *fixture) {
			for i, in := range f.tx.TxIn {
				f.want.Spent[in.PreviousOutPoint] = Spent{Out: f.outs[i]}
			}
		},
	} {
		f := newFixture(t)
		change(f)
		p := f.unsigned()
		if name == "the chain knows" {
			p.Inputs[0].WitnessUtxo = nil
		}
		if _, err := f.want.Check(&Packet{p}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func eachIn(f *fixture, sequence uint32) {
	for _, in := range f.tx.TxIn {
		in.Sequence = sequence
	}
}

// A signed PSBT that is another transaction, half signed, signed wrong, or so that others
// may change the transaction, is refused.
func TestFinalizeRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		flag   txscript.SigHashType
		change func(f *fixture, p *bip174.Packet)
		want   error
	}{
		"another transaction": {change: func(f *fixture, p *bip174.Packet) { p.UnsignedTx.LockTime-- }, want: ErrOther},
		"one not signed":      {change: func(f *fixture, p *bip174.Packet) { p.Inputs[1].PartialSigs = nil }, want: ErrUnsigned},
		"one of two keys":     {change: func(f *fixture, p *bip174.Packet) { p.Inputs[2].PartialSigs = p.Inputs[2].PartialSigs[:1] }, want: ErrUnsigned},
		"a foreign key": {change: func(f *fixture, p *bip174.Packet) {
			p.Inputs[1].PartialSigs[0].PubKey = f.keys[3].PubKey().SerializeCompressed()
		}, want: ErrSignature},
		"a wrong signature":  {change: func(f *fixture, p *bip174.Packet) { p.Inputs[0].TaprootKeySpendSig[3] ^= 1 }, want: ErrSignature},
		"NONE":               {flag: txscript.SigHashNone, want: ErrSighash},
		"ALL|ANYONECANPAY":   {flag: txscript.SigHashAll | txscript.SigHashAnyOneCanPay, want: ErrSighash},
		"an empty witness":   {change: func(f *fixture, p *bip174.Packet) { p.Inputs[1].FinalScriptWitness = []byte{0} }, want: ErrFormat},
		"a scriptSig":        {change: func(f *fixture, p *bip174.Packet) { p.Inputs[1].FinalScriptSig = []byte{0x51} }, want: ErrNotSegwit},
		"no signature there": {change: func(f *fixture, p *bip174.Packet) { p.Inputs[1].FinalScriptWitness = []byte{1, 1, 5} }, want: ErrSighash},
	} {
		f := newFixture(t)
		fund, err := f.want.Check(read(t, f.unsigned()))
		if err != nil {
			t.Fatal(err)
		}
		p := f.unsigned()
		f.sign(p, max(c.flag, txscript.SigHashAll))
		if c.flag == txscript.SigHashNone {
			p = f.unsigned()
			f.sign(p, txscript.SigHashNone)
		}
		if c.change != nil {
			c.change(f, p)
		}
		if _, err := Finalize(&Packet{p}, fund.Tx, fund.Prevouts); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// A taproot key signature that leaves inputs open is refused, be it finished already.
func TestFinalizeRefusesOpenTaproot(t *testing.T) {
	f := newFixture(t)
	f.tx.TxIn, f.outs = f.tx.TxIn[:1], f.outs[:1]
	f.tx.TxOut = []*wire.TxOut{wire.NewTxOut(59_000, f.want.Script)}
	f.want.Amount = 0
	fund, err := f.want.Check(read(t, f.unsigned()))
	if err != nil {
		t.Fatal(err)
	}
	for _, flag := range []txscript.SigHashType{txscript.SigHashNone, txscript.SigHashSingle, txscript.SigHashAll | txscript.SigHashAnyOneCanPay} {
		hashes := txscript.NewTxSigHashes(f.tx, txscript.NewMultiPrevOutFetcher(f.prevouts()))
		sig, err := txscript.RawTxInTaprootSignature(f.tx, hashes, 0, f.outs[0].Value, f.outs[0].PkScript, []byte{}, flag, f.keys[0])
		if err != nil {
			t.Fatal(err)
		}
		p := f.unsigned()
		p.Inputs[0].FinalScriptWitness = append([]byte{1, byte(len(sig))}, sig...)
		if _, err := Finalize(read(t, p), fund.Tx, fund.Prevouts); !errors.Is(err, ErrSighash) {
			t.Errorf("flag %#x: %v", uint32(flag), err)
		}
	}
}

// FuzzRead: whatever is read never panics, and what is read is written again the same.
func FuzzRead(f *testing.F) {
	fix := newFixture(f)
	p := fix.unsigned()
	for range 2 {
		var raw bytes.Buffer
		if err := p.Serialize(&raw); err != nil {
			f.Fatal(err)
		}
		f.Add(raw.Bytes())
		fix.sign(p, txscript.SigHashAll)
	}
	f.Add([]byte("cHNidP8BAAA="))
	f.Fuzz(func(t *testing.T, raw []byte) {
		p, err := Read(raw)
		if err != nil {
			return
		}
		again, err := p.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		q, err := Read(again)
		if err != nil || q.Tx().TxHash() != p.Tx().TxHash() {
			t.Fatalf("%v", err)
		}
		p.Signed()
		fund, err := fix.want.Check(p)
		if err != nil {
			return
		}
		if fund.Fee < 0 || fund.Amount != paid {
			t.Fatalf("%+v", fund)
		}
		if done, err := Finalize(p, fund.Tx, fund.Prevouts); err == nil && done.TxHash() != fund.Tx.TxHash() {
			t.Fatal("another id")
		}
	})
}
