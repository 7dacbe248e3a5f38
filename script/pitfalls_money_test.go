package script_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/script"
)

// A P2SH half-signature never signs the constant 1: its own output is always at
// its index, and one that signs the constant is refused.
func TestPitfall15_SingleHasItsOutput(t *testing.T) {
	one := make([]byte, 32)
	one[0] = 1
	c := open(t, script.MultisigP2SH, "single")
	for _, rest := range []int64{330, 500_000, c.Capacity} {
		digest, err := c.HalfSighash(rest)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Equal(digest, one) {
			t.Errorf("rest %d: the digest is the constant 1", rest)
		}
		if err := c.VerifyHalf(rest, append(der(c.payer, one), 0x83)); !errors.Is(err, script.ErrSignature) {
			t.Errorf("rest %d: %v", rest, err)
		}
	}
	for _, kind := range constructions {
		c := open(t, kind, "index")
		tx := settle(t, 1000, c.claim(t, 500_000))
		if len(tx.TxIn) != 1 || tx.TxOut[0].Value != 500_000 || !bytes.Equal(tx.TxOut[0].PkScript, c.RestScript) {
			t.Errorf("%s: the rest is not at index 0", kind)
		}
	}
}

// dusts is docs/protocol.md, section 8.
var dusts = []struct {
	name     string
	pkScript []byte
	sat      int64
}{
	{"P2WPKH", p2wpkh("dust"), 294}, {"P2TR", p2tr("dust"), 330}, {"P2WSH", p2wsh("dust"), 330},
	{"P2SH", p2sh("dust"), 540}, {"P2PKH", p2pkh("dust"), 546},
}

func TestPitfall31_Dust(t *testing.T) {
	for _, row := range dusts {
		if got := script.Dust(row.pkScript); got != row.sat {
			t.Errorf("%s: %d sat, want %d", row.name, got, row.sat)
		}
	}
	for _, unknown := range [][]byte{nil, {}, {txscript.OP_TRUE}, {txscript.OP_RETURN}, {0x51, 0x02, 0x4e, 0x73}} {
		if got := script.Dust(unknown); got < 2_100_000_000_000_000 {
			t.Errorf("%x: %d sat would do", unknown, got)
		}
	}
}

func TestPitfall31_RestIsNeverDust(t *testing.T) {
	for _, kind := range constructions {
		for _, row := range dusts[:3] {
			c := open(t, kind, "dust", func(f *script.Funding) { f.RestScript = row.pkScript })
			for rest, want := range map[int64]error{
				-1: script.ErrAmount, 0: nil, 1: script.ErrDust, row.sat - 1: script.ErrDust, row.sat: nil,
				c.Capacity: nil, c.Capacity + 1: script.ErrAmount,
			} {
				sig, err := c.SignHalf(c.payer, rest)
				if !errors.Is(err, want) {
					t.Errorf("%s, %s, rest %d: sign: %v, want %v", kind, row.name, rest, err, want)
				}
				if err := c.VerifyHalf(rest, sig); !errors.Is(err, want) {
					t.Errorf("%s, %s, rest %d: verify: %v, want %v", kind, row.name, rest, err, want)
				}
				if _, err := c.HalfSighash(rest); !errors.Is(err, want) {
					t.Errorf("%s, %s, rest %d: digest: %v, want %v", kind, row.name, rest, err, want)
				}
			}
		}
	}
}

// A payout, a refund or a close that would be dust is refused or left out.
func TestPitfall31_PayoutIsNeverDust(t *testing.T) {
	for _, kind := range constructions {
		for _, row := range dusts {
			c := open(t, kind, "payout")
			fee := c.SettlementVSize(c.Capacity-row.sat, row.pkScript) // at 1 sat/vB
			for less, want := range map[int64]error{0: nil, 1: script.ErrPayoutDust} {
				tx, got, err := script.Settle([]script.Claim{c.claim(t, c.Capacity-row.sat-fee+less)}, row.pkScript, 1000)
				if !errors.Is(err, want) || want == nil && (got != fee || tx.TxOut[1].Value != row.sat) {
					t.Errorf("%s to %s, %d below: fee %d, %v, want %v", kind, row.name, less, got, err, want)
				}
			}
			for less, want := range map[int64]error{0: nil, 1: script.ErrPayoutDust} {
				fee := c.RefundVSize(row.pkScript)
				small := open(t, kind, "payout", func(f *script.Funding) { f.Capacity = row.sat + fee - less })
				if _, _, err := small.Refund(small.payer, small.refundSig(t), row.pkScript, 1000); !errors.Is(err, want) {
					t.Errorf("%s refund to %s, %d below: %v, want %v", kind, row.name, less, err, want)
				}
			}
		}
		c := open(t, kind, "nothing paid")
		if _, _, err := script.Settle([]script.Claim{c.claim(t, c.Capacity)}, p2tr("payout"), 0); !errors.Is(err, script.ErrPayoutDust) {
			t.Errorf("%s: settled for nothing: %v", kind, err)
		}
		if _, _, err := script.Settle([]script.Claim{c.claim(t, 0)}, []byte{txscript.OP_TRUE}, 1000); !errors.Is(err, script.ErrPayoutScript) {
			t.Errorf("%s: settled to OP_TRUE: %v", kind, err)
		}
	}
}

func TestPitfall31_CloseLeavesDustOut(t *testing.T) {
	c := open(t, script.Taproot, "close dust")
	rows := []struct {
		share, fee  int64
		rest, payee int64 // sat of the outputs, 0 for none
	}{
		{400_000, 200, 600_000, 399_800},
		{530, 200, 999_470, 330},
		{529, 200, 999_471, 0}, // the share is dust after the fee
		{200, 200, 999_800, 0}, // exactly the fee
		{150, 200, 999_800, 0}, // the rest pays what the share lacks
		{0, 200, 999_800, 0},   // all of it
		{1_000_000, 200, 0, 999_800},
		{999_671, 200, 0, 999_471}, // the rest is dust
		{999_670, 200, 330, 999_470},
	}
	for _, row := range rows {
		tx, err := c.CloseTx(row.share, p2tr("payout"), row.fee)
		if err != nil {
			t.Errorf("a share of %d sat: %v", row.share, err)
			continue
		}
		var got [2]int64
		for _, out := range tx.TxOut {
			got[b2i(!bytes.Equal(out.PkScript, c.RestScript))] += out.Value
		}
		if got != [2]int64{row.rest, row.payee} {
			t.Errorf("a share of %d sat: %v, want %d and %d", row.share, got, row.rest, row.payee)
		}
	}
	small := open(t, script.Taproot, "small", func(f *script.Funding) { f.Capacity = 600 })
	if _, err := small.CloseTx(300, p2tr("payout"), 10); !errors.Is(err, script.ErrPayoutDust) {
		t.Errorf("two dust outputs: %v", err)
	}
	for _, row := range [][2]int64{{-1, 0}, {c.Capacity + 1, 0}, {0, -1}, {0, c.Capacity + 1}} {
		if _, err := c.CloseTx(row[0], p2tr("payout"), row[1]); !errors.Is(err, script.ErrAmount) {
			t.Errorf("a share of %d sat and a fee of %d: %v", row[0], row[1], err)
		}
	}
}

// With equal keys one half-signature would complete everything.
func TestPitfall46_EqualKeys(t *testing.T) {
	for _, kind := range constructions {
		for _, sign := range []byte{0, 1} {
			f := funding(kind, "equal")
			f.PayeeKey = f.PayerKey
			f.PayeeKey[0] ^= sign
			if _, err := script.New(f); !errors.Is(err, script.ErrSameKeys) {
				t.Errorf("%s, sign %d: %v", kind, sign, err)
			}
			if _, err := script.OutputScript(kind, f.PayerKey, f.PayeeKey, f.Expiry); !errors.Is(err, script.ErrSameKeys) {
				t.Errorf("%s, sign %d: %v", kind, sign, err)
			}
		}
	}
}

// payeeSig is the payee's signature in a settlement's only input.
func payeeSig(t testing.TB, kind script.Construction, in *wire.TxIn) []byte {
	t.Helper()
	switch kind {
	case script.Taproot:
		return in.Witness[0]
	case script.Multisig:
		return in.Witness[2]
	default:
		items, err := txscript.PushedData(in.SignatureScript)
		if err != nil || len(items) < 2 {
			t.Fatalf("%d items: %v", len(items), err)
		}
		return items[len(items)-2]
	}
}

// The payee's signature in a settlement is DEFAULT or ALL, so no output can be
// taken, moved or changed by a stranger.
func TestPitfall47_PayeeSignsEverything(t *testing.T) {
	for _, kind := range constructions {
		for _, rest := range []int64{0, 500_000} {
			c := open(t, kind, "everything")
			tx := settle(t, 1000, c.claim(t, rest))
			sig := payeeSig(t, kind, tx.TxIn[0])
			if kind == script.Taproot && len(sig) != 64 || kind != script.Taproot && sig[len(sig)-1] != byte(txscript.SigHashAll) {
				t.Errorf("%s, rest %d: the payee's signature is %x", kind, rest, sig)
			}
			last := len(tx.TxOut) - 1
			for name, change := range map[string]func(*wire.MsgTx){
				"the payout taken":   func(tx *wire.MsgTx) { tx.TxOut[last].PkScript = p2tr("thief") },
				"the payout lowered": func(tx *wire.MsgTx) { tx.TxOut[last].Value-- },
				"the payout removed": func(tx *wire.MsgTx) { tx.TxOut = tx.TxOut[:last] },
				"an output added":    func(tx *wire.MsgTx) { tx.AddTxOut(&wire.TxOut{PkScript: p2tr("thief")}) },
				"a lock":             func(tx *wire.MsgTx) { tx.LockTime = 1 },
			} {
				stolen := tx.Copy()
				change(stolen)
				if err := script.Execute(stolen, prevouts(c)); !errors.Is(err, script.ErrExecute) {
					t.Errorf("%s, rest %d: %s: %v", kind, rest, name, err)
				}
			}
		}
	}
}

// The two half-signatures that exist on a multisig channel, the payer's of a
// commitment and the payee's of the refund, do not fit one transaction: their
// locks differ.
func TestPitfall47_HalvesAreNeverCombined(t *testing.T) {
	for _, kind := range constructions[1:] {
		for _, rest := range []int64{0, 500_000} {
			for _, lock := range []uint32{0, 900_000} {
				c := open(t, kind, "halves")
				tx := settle(t, 1000, c.claim(t, rest))
				tx.LockTime = lock
				half, other := c.half(t, rest), c.refundSig(t)
				if kind == script.Multisig {
					tx.TxIn[0].Witness[1], tx.TxIn[0].Witness[2] = half, other
				} else {
					tx.TxIn[0].SignatureScript = pushes(t, nil, half, other, lastPush(t, tx.TxIn[0].SignatureScript))
				}
				if err := script.Execute(tx, prevouts(c)); !errors.Is(err, script.ErrExecute) {
					t.Errorf("%s, rest %d, lock %d: %v", kind, rest, lock, err)
				}
			}
		}
	}
}

// A P2SH rest ends at index 0 wherever it was given, and there is only one.
func TestPitfall49_P2SHRestAtIndex0(t *testing.T) {
	names := []script.Construction{script.Taproot, script.MultisigP2SH, script.Multisig, script.MultisigP2SH}
	rests := []int64{400_000, 700_000, 0, 0}
	var channels []party
	var claims []script.Claim
	for i, kind := range names {
		channels = append(channels, open(t, kind, fmt.Sprintf("mixed %d", i)))
		claims = append(claims, channels[i].claim(t, rests[i]))
	}
	for turn := range claims {
		given := append(slices.Clone(claims[turn:]), claims[:turn]...)
		tx := settle(t, 1000, given...)
		if tx.TxIn[0].PreviousOutPoint != channels[1].Outpoint || tx.TxOut[0].Value != 700_000 {
			t.Errorf("turn %d: index 0 is %s", turn, tx.TxIn[0].PreviousOutPoint)
		}
		if tx.TxIn[1].PreviousOutPoint != channels[0].Outpoint || tx.TxOut[1].Value != 400_000 || len(tx.TxOut) != 3 {
			t.Errorf("turn %d: index 1 is %s", turn, tx.TxIn[1].PreviousOutPoint)
		}
		if err := script.Execute(tx, prevouts(channels...)); err != nil {
			t.Errorf("turn %d: %v", turn, err)
		}
	}
	second := open(t, script.MultisigP2SH, "second")
	if _, _, err := script.Settle(append(claims, second.claim(t, 330)), p2tr("payout"), 1000); !errors.Is(err, script.ErrBatch) {
		t.Errorf("two P2SH rests: %v", err)
	}
	if tx := settle(t, 1000, append(claims, second.claim(t, 0))...); len(tx.TxIn) != 5 {
		t.Errorf("%d inputs", len(tx.TxIn))
	}
}

func TestPitfall50_RestScripts(t *testing.T) {
	key := testKey("bare").PubKey().SerializeCompressed()
	bare, err := txscript.NewScriptBuilder().AddOp(txscript.OP_1).AddData(key).AddOp(txscript.OP_1).AddOp(txscript.OP_CHECKMULTISIG).Script()
	if err != nil {
		t.Fatal(err)
	}
	for name, pkScript := range map[string][]byte{"P2TR": p2tr("rest"), "P2WPKH": p2wpkh("rest"), "P2WSH": p2wsh("rest")} {
		if err := script.CheckRestScript(pkScript); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, pkScript := range map[string][]byte{
		"nothing": {}, "OP_TRUE": {txscript.OP_TRUE}, "bare multisig": bare, "P2A": {0x51, 0x02, 0x4e, 0x73},
		"OP_RETURN": append([]byte{txscript.OP_RETURN, 4}, "rest"...), "P2PKH": p2pkh("rest"), "P2SH": p2sh("rest"),
		"P2PK": append(append([]byte{33}, key...), txscript.OP_CHECKSIG), "a later witness version": append([]byte{0x52, 0x20}, p2tr("rest")[2:]...),
		"a short P2TR": p2tr("rest")[:33], "a long P2TR": append(p2tr("rest"), 0), "a P2WSH without its last byte": p2wsh("rest")[:33],
		"10,000 bytes": make([]byte, 10_000),
	} {
		if err := script.CheckRestScript(pkScript); !errors.Is(err, script.ErrRestScript) {
			t.Errorf("%s: %v", name, err)
		}
		f := funding(script.Taproot, "rest")
		f.RestScript = pkScript
		if err := f.Validate(); !errors.Is(err, script.ErrRestScript) {
			t.Errorf("%s: validate: %v", name, err)
		}
	}
}

// One signature of the payee serves every refund: other outputs, another fee.
func TestPitfall51_RefundFeeIsFree(t *testing.T) {
	for _, kind := range constructions {
		c := open(t, kind, "free fee")
		sig := c.refundSig(t)
		for _, rate := range []script.FeeRate{0, 100, 1000, 50_000, 2_000_000} {
			for _, row := range dusts {
				tx, fee, err := c.Refund(c.payer, sig, row.pkScript, rate)
				if err != nil {
					t.Fatalf("%s at %s to %s: %v", kind, rate, row.name, err)
				}
				if paid(tx)+fee != c.Capacity || fee != rate.Fee(c.RefundVSize(row.pkScript)) {
					t.Errorf("%s at %s to %s: a fee of %d sat", kind, rate, row.name, fee)
				}
			}
		}
		if again := c.refundSig(t); !bytes.Equal(again, sig) {
			t.Errorf("%s: a retry gets another signature", kind)
		}
	}
}

// Mixed versions would void every signature of a batch.
func TestPitfall63_OneVersionInABatch(t *testing.T) {
	for _, kind := range constructions {
		a := open(t, kind, "version 3")
		b := open(t, kind, "version 2", func(f *script.Funding) { f.TxVersion = 2 })
		claims := []script.Claim{a.claim(t, 0), b.claim(t, 0)}
		for range 2 {
			if _, _, err := script.Settle(claims, p2tr("payout"), 1000); !errors.Is(err, script.ErrBatch) {
				t.Errorf("%s: %v", kind, err)
			}
			slices.Reverse(claims)
		}
		tx := settle(t, 1000, a.claim(t, 500_000))
		tx.Version = 2
		if err := script.Execute(tx, prevouts(a)); !errors.Is(err, script.ErrExecute) {
			t.Errorf("%s: executed with another version: %v", kind, err)
		}
	}
}

// What one transaction cannot hold.
func TestBatchLimits(t *testing.T) {
	if _, _, err := script.Settle(nil, p2tr("payout"), 1000); !errors.Is(err, script.ErrBatch) {
		t.Errorf("an empty batch: %v", err)
	}
	if _, _, err := script.Settle([]script.Claim{{}}, p2tr("payout"), 1000); !errors.Is(err, script.ErrBatch) {
		t.Errorf("a claim without a channel: %v", err)
	}
	c := open(t, script.Taproot, "twice")
	if _, _, err := script.Settle([]script.Claim{c.claim(t, 0), c.claim(t, 500_000)}, p2tr("payout"), 1000); !errors.Is(err, script.ErrBatch) {
		t.Errorf("one channel twice: %v", err)
	}
	var claims []script.Claim
	for i := range 67 { // 66 channels are 10.5 + 43 + 66·150.75 = 10,003 vB
		claims = append(claims, open(t, script.Taproot, fmt.Sprintf("limit %d", i)).claim(t, 500_000))
	}
	if _, _, err := script.Settle(claims[:66], p2tr("payout"), 1000); !errors.Is(err, script.ErrBatch) {
		t.Errorf("66 channels: %v", err)
	}
	if tx := settle(t, 1000, claims[:65]...); script.VSize(tx) > 10_000 {
		t.Errorf("65 channels: %d vB", script.VSize(tx))
	}
}
