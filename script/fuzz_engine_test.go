package script_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/btcec/v2/schnorr"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/script"
)

// drawn is a channel of arbitrary terms, and whether there can be such a one.
func drawn(t *testing.T, kind, restKind byte, keys []byte, expiry uint32, version int32, capacity int64) (party, bool) {
	t.Helper()
	one, two := sha256.Sum256(append([]byte{1}, keys...)), sha256.Sum256(append([]byte{2}, keys...))
	payer, _ := btcec.PrivKeyFromBytes(one[:])
	payee, _ := btcec.PrivKeyFromBytes(two[:])
	f := funding(constructions[int(kind)%len(constructions)], "drawn")
	f.PayerKey, f.PayeeKey, f.Expiry, f.TxVersion, f.Capacity = pub(payer), pub(payee), expiry, version, capacity
	f.RestScript = [][]byte{p2tr("rest"), p2wpkh("rest"), p2wsh("rest")}[int(restKind)%3]
	ch, err := script.New(f)
	if err != nil {
		least := int64(330)
		if f.Construction == script.MultisigP2SH {
			least = 540
		}
		if expiry > 0 && expiry < 500_000_000 && (version == 2 || version == 3) && capacity >= least && capacity <= 21e14 {
			t.Fatalf("good terms were refused: %v", err)
		}
		return party{}, false
	}
	return party{ch, payer, payee}, true
}

// engine runs btcd's engine over a transaction that spends one channel, nothing
// of ours in between.
func engine(tx *wire.MsgTx, p party) error {
	if len(tx.TxIn) != 1 || tx.TxIn[0].PreviousOutPoint != p.Outpoint {
		return errors.New("it spends something else")
	}
	prev := p.Prevout()
	fetcher := txscript.NewCannedPrevOutputFetcher(prev.PkScript, prev.Value)
	vm, err := txscript.NewEngine(prev.PkScript, tx, 0, txscript.StandardVerifyFlags, nil, txscript.NewTxSigHashes(tx, fetcher), prev.Value, fetcher)
	if err != nil {
		return err
	}
	return vm.Execute()
}

// executed checks that a complete transaction is taken by the engine, and that it is
// refused, by the engine and by Execute, with any one byte changed.
func executed(t *testing.T, tx *wire.MsgTx, p party, at uint16, flip byte) {
	t.Helper()
	if err := engine(tx, p); err != nil {
		t.Fatalf("%s: the engine refuses what was built: %v", p.Construction, err)
	}
	raw := rawTx(t, tx)
	raw[int(at)%len(raw)] ^= max(flip, 1)
	changed := wire.NewMsgTx(0)
	r := bytes.NewReader(raw)
	if changed.Deserialize(r) != nil || r.Len() > 0 || bytes.Equal(rawTx(t, changed), rawTx(t, tx)) {
		return
	}
	if engine(changed, p) == nil {
		t.Fatalf("%s: the engine takes it with byte %d changed: %x", p.Construction, int(at)%len(raw), raw)
	}
	if script.Execute(changed, prevouts(p)) == nil {
		t.Fatalf("%s: Execute takes it with byte %d changed: %x", p.Construction, int(at)%len(raw), raw)
	}
}

// FuzzSettlementEngine: what Settle builds for any terms, keys, rest and rate is
// taken by btcd's engine, gives out the capacity less its fee, and is refused with
// any one byte changed; a payer's digest is the one that the BIPs write down.
func FuzzSettlementEngine(f *testing.F) {
	for kind := range byte(3) {
		f.Add(kind, kind, []byte("a"), uint32(900_000), int32(3), int64(1_000_000), int64(400_000), int64(1000), uint16(90), byte(1))
		f.Add(kind, kind+1, []byte("b"), uint32(1), int32(2), int64(546), int64(0), int64(0), uint16(5), byte(0x80))
		f.Add(kind, kind+2, []byte("c"), uint32(499_999_999), int32(2), int64(21e14), int64(21e14-330), int64(50_000), uint16(200), byte(3))
	}
	f.Fuzz(func(t *testing.T, kind, restKind byte, keys []byte, expiry uint32, version int32, capacity, rest, rate int64, at uint16, flip byte) {
		p, ok := drawn(t, kind, restKind, keys, expiry, version, capacity)
		if !ok {
			return
		}
		half, err := p.SignHalf(p.payer, rest)
		if bad := rest < 0 || rest > capacity || rest > 0 && rest < script.Dust(p.RestScript); bad != (err != nil) {
			t.Fatalf("a rest of %d of %d sat: %v", rest, capacity, err)
		} else if bad {
			return
		}
		digest, err := p.HalfSighash(rest)
		if want := specDigest(p, rest); err != nil || !bytes.Equal(digest, want) {
			t.Fatalf("%s: digest %x, by the BIPs %x, %v", p.Construction, digest, want, err)
		}
		payout := [][]byte{p2tr("payout"), p2wpkh("payout"), p2sh("payout"), p2pkh("payout")}[int(flip)%4]
		tx, fee, err := script.Settle([]script.Claim{{Channel: p.Channel, Rest: rest, HalfSig: half, PayeeKey: p.payee}}, payout, script.FeeRate(rate))
		if err != nil {
			if !errors.Is(err, script.ErrPayoutDust) {
				t.Fatal(err)
			}
			return
		}
		if paid(tx)+fee != capacity || fee < 0 || script.FeeRate(rate).Fee(script.VSize(tx)) > fee {
			t.Fatalf("%d sat are paid, and a fee of %d, of %d", paid(tx), fee, capacity)
		}
		executed(t, tx, p, at, flip)
	})
}

// FuzzRefundEngine: what Refund builds for any terms, keys and rate is taken by
// btcd's engine from the expiry on, and is refused with any one byte changed.
func FuzzRefundEngine(f *testing.F) {
	for kind := range byte(3) {
		f.Add(kind, []byte("a"), uint32(900_000), int32(3), int64(1_000_000), int64(1000), uint16(90), byte(1))
		f.Add(kind, []byte("b"), uint32(127), int32(2), int64(100_000), int64(0), uint16(4), byte(0x40))
		f.Add(kind, []byte("c"), uint32(32_768), int32(2), int64(900), int64(500), uint16(200), byte(0xff))
	}
	f.Fuzz(func(t *testing.T, kind byte, keys []byte, expiry uint32, version int32, capacity, rate int64, at uint16, flip byte) {
		p, ok := drawn(t, kind, flip, keys, expiry, version, capacity)
		if !ok {
			return
		}
		tx, fee, err := p.Refund(p.payer, p.refundSig(t), p2wpkh("refund"), script.FeeRate(rate))
		if err != nil {
			if !errors.Is(err, script.ErrPayoutDust) {
				t.Fatal(err)
			}
			return
		}
		if paid(tx)+fee != capacity || tx.LockTime != expiry || tx.TxIn[0].Sequence != script.Sequence {
			t.Fatalf("%d sat and a fee of %d of %d, lock %d of %d", paid(tx), fee, capacity, tx.LockTime, expiry)
		}
		executed(t, tx, p, at, flip)
	})
}

// FuzzHalfEngine: VerifyHalf takes exactly the payer's signatures that btcd's engine
// takes in a settlement, but for those with another flag.
func FuzzHalfEngine(f *testing.F) {
	parties := make([]party, len(constructions))
	for i, kind := range constructions {
		parties[i] = open(f, kind, "fuzz half")
		for _, rest := range []int64{0, 330, 999_000} {
			f.Add(byte(i), rest, uint16(0), byte(0), []byte{})
			f.Add(byte(i), rest, uint16(40), byte(1), []byte{})
			f.Add(byte(i), rest, uint16(0), byte(0), parties[i].half(f, 330))
		}
		f.Add(byte(i), int64(500_000), uint16(0), byte(0), highS(f, append(der(parties[i].payer, make([]byte, 32)), 0x83)))
	}
	f.Fuzz(func(t *testing.T, kind byte, rest int64, at uint16, flip byte, sig []byte) {
		p := parties[int(kind)%len(parties)]
		if rest < 0 || rest > 0 && rest < 330 || rest > p.Capacity-20_000 {
			if p.VerifyHalf(rest, sig) == nil && (rest < 0 || rest > p.Capacity || rest > 0 && rest < 330) {
				t.Fatalf("a signature for a rest of %d sat", rest)
			}
			return
		}
		if len(sig) == 0 {
			sig = p.half(t, rest)
			sig[int(at)%len(sig)] ^= flip
		}
		tx := settle(t, 1000, p.claim(t, rest))
		switch in := tx.TxIn[0]; p.Construction {
		case script.MultisigP2SH:
			if len(sig) > 100 {
				return
			}
			items, err := txscript.PushedData(in.SignatureScript)
			if err != nil {
				t.Fatal(err)
			}
			in.SignatureScript = pushes(t, nil, sig, items[len(items)-2], items[len(items)-1])
		default:
			in.Witness[1] = sig
		}
		ours, theirs := p.VerifyHalf(rest, sig), engine(tx, p)
		if (ours == nil) != (theirs == nil) && !errors.Is(ours, script.ErrSighashFlag) {
			t.Fatalf("%s, rest %d, signature %x: here %v, by the engine %v", p.Construction, rest, sig, ours, theirs)
		}
	})
}

// FuzzRestScript: a rest goes to exactly the three kinds of script that the protocol
// names, told from their bytes.
func FuzzRestScript(f *testing.F) {
	for _, s := range [][]byte{p2tr("a"), p2wpkh("a"), p2wsh("a"), p2sh("a"), p2pkh("a"), {0x51, 0x02, 0x4e, 0x73}, {0x51}, {0x6a}, {}, append([]byte{0x52, 0x20}, make([]byte, 32)...)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s []byte) {
		dust := int64(0)
		switch {
		case len(s) == 34 && (s[0] == 0x51 || s[0] == 0) && s[1] == 32:
			dust = 330
		case len(s) == 22 && s[0] == 0 && s[1] == 20:
			dust = 294
		}
		err := script.CheckRestScript(s)
		if (err == nil) != (dust > 0) || err != nil && !errors.Is(err, script.ErrRestScript) {
			t.Fatalf("%x: %v", s, err)
		}
		if got := script.Dust(s); dust > 0 && got != dust || got < 294 {
			t.Fatalf("%x: dust %d, not %d", s, got, dust)
		}
	})
}

// FuzzExecute: no transaction makes it panic, and what is taken pays out no more
// than it spends, and nothing twice.
func FuzzExecute(f *testing.F) {
	for _, kind := range constructions {
		p := open(f, kind, "fuzz execute")
		f.Add(rawTx(f, settle(f, 1000, p.claim(f, 400_000))), p.OutputScript(), p.Capacity)
		f.Add(rawTx(f, p.refund(f, 1000)), p.OutputScript(), int64(1))
	}
	f.Add([]byte{2, 0, 0, 0, 0, 0, 0, 0, 0, 0}, []byte{0x51}, int64(-1))
	f.Fuzz(func(t *testing.T, raw, pkScript []byte, value int64) {
		tx := wire.NewMsgTx(0)
		if tx.Deserialize(bytes.NewReader(raw)) != nil || len(tx.TxIn) == 0 {
			return
		}
		outs := map[wire.OutPoint]*wire.TxOut{}
		for _, in := range tx.TxIn {
			outs[in.PreviousOutPoint] = &wire.TxOut{Value: value, PkScript: pkScript}
		}
		if script.CheckFundingInputs(tx, outs) == nil && !txscript.IsWitnessProgram(pkScript) {
			t.Fatalf("segwit: %x", pkScript)
		}
		if script.Execute(tx, outs) != nil {
			return
		}
		sum := int64(0)
		for _, out := range tx.TxOut {
			if sum += out.Value; out.Value < 0 || out.Value > 21e14 {
				t.Fatalf("%d sat", out.Value)
			}
		}
		if len(outs) != len(tx.TxIn) || sum > value*int64(len(tx.TxIn)) {
			t.Fatalf("%d sat out of %d inputs of %d sat", sum, len(tx.TxIn), value)
		}
	})
}

// specDigest is the digest of a half-signature as BIP341, BIP143 and the legacy rules
// write it down, put together here byte by byte.
func specDigest(p party, rest int64) []byte {
	le32 := func(v uint32) []byte { return binary.LittleEndian.AppendUint32(nil, v) }
	le64 := func(v int64) []byte { return binary.LittleEndian.AppendUint64(nil, uint64(v)) }
	sized := func(b []byte) []byte { return append([]byte{byte(len(b))}, b...) }
	outpoint := append(bytes.Clone(p.Outpoint.Hash[:]), le32(p.Outpoint.Index)...)
	output, flag := bytes.Join([][]byte{le64(rest), sized(p.RestScript)}, nil), byte(0x83)
	if rest == 0 {
		flag = 0x82
	}
	version, sequence := le32(uint32(p.TxVersion)), le32(0xfffffffd)
	k1, k2 := p.PayerKey[:], p.PayeeKey[:]
	multi := bytes.Join([][]byte{{0x52}, sized(k1), sized(k2), {0x52, 0xae}}, nil)
	switch p.Construction {
	case script.Taproot:
		leaf := bytes.Join([][]byte{sized(k1[1:]), {0xad}, sized(k2[1:]), {0xac}}, nil)
		msg := bytes.Join([][]byte{{0, flag}, version, le32(0), {2}, outpoint, le64(p.Capacity), sized(p.OutputScript()), sequence}, nil)
		if rest > 0 {
			sum := sha256.Sum256(output)
			msg = append(msg, sum[:]...)
		}
		msg = bytes.Join([][]byte{msg, taggedHash("TapLeaf", []byte{0xc0}, sized(leaf)), {0}, le32(0xffffffff)}, nil)
		return taggedHash("TapSighash", msg)
	case script.Multisig:
		hash := make([]byte, 32)
		if rest > 0 {
			hash = twice(output)
		}
		return twice(version, make([]byte, 64), outpoint, sized(multi), le64(p.Capacity), sequence, hash, le32(0), le32(uint32(flag)))
	default:
		outs := []byte{0}
		if rest > 0 {
			outs = append([]byte{1}, output...)
		}
		return twice(version, []byte{1}, outpoint, sized(multi), sequence, outs, le32(0), le32(uint32(flag)))
	}
}

func twice(parts ...[]byte) []byte {
	first := sha256.Sum256(bytes.Join(parts, nil))
	second := sha256.Sum256(first[:])
	return second[:]
}

func taggedHash(tag string, parts ...[]byte) []byte {
	name := sha256.Sum256([]byte(tag))
	sum := sha256.Sum256(bytes.Join(append([][]byte{name[:], name[:]}, parts...), nil))
	return sum[:]
}

// FuzzPartialSign: whatever transaction the other side wants closed together, what
// is signed spends this channel alone, at once, to at most two outputs above dust
// and for no more than there is.
func FuzzPartialSign(f *testing.F) {
	p := open(f, script.Taproot, "fuzz close")
	for _, share := range []int64{0, 400_000, 1_000_000} {
		tx, err := p.CloseTx(share, p2wpkh("payout"), 300)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(rawTx(f, tx))
	}
	other := nonce(f, p.payee)
	f.Fuzz(func(t *testing.T, raw []byte) {
		tx := wire.NewMsgTx(0)
		if tx.Deserialize(bytes.NewReader(raw)) != nil {
			return
		}
		own := nonce(t, p.payer)
		part, err := p.PartialSign(tx, p.payer, own, other.Public)
		if err != nil {
			return
		}
		if len(tx.TxIn) != 1 || tx.TxIn[0].PreviousOutPoint != p.Outpoint || tx.TxIn[0].Sequence != script.Sequence || tx.LockTime != 0 ||
			tx.Version != p.TxVersion || len(tx.TxOut) == 0 || len(tx.TxOut) > 2 || paid(tx) > p.Capacity {
			t.Fatalf("signed: %x", raw)
		}
		for _, out := range tx.TxOut {
			if out.Value < 294 || out.Value > p.Capacity {
				t.Fatalf("signed %d sat: %x", out.Value, raw)
			}
		}
		if err := p.VerifyPartial(tx, part, pub(p.payer), own.Public, other.Public); err != nil {
			t.Fatal(err)
		}
		if _, err := schnorr.ParsePubKey(p.OutputScript()[2:]); err != nil {
			t.Fatal(err)
		}
	})
}
