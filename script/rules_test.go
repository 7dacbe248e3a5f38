package script_test

import (
	"bytes"
	"errors"
	"math"
	"testing"

	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/script"
)

func TestValidate(t *testing.T) {
	notAPoint := [33]byte(bytes.Repeat([]byte{0x02}, 33))
	notAPoint[0] = 0x05
	rows := []struct {
		name   string
		change func(*script.Funding)
		want   error
	}{
		{"good", func(*script.Funding) {}, nil},
		{"version 2", func(f *script.Funding) { f.TxVersion = 2 }, nil},
		{"least expiry", func(f *script.Funding) { f.Expiry = 1 }, nil},
		{"greatest expiry", func(f *script.Funding) { f.Expiry = 499_999_999 }, nil},
		{"no expiry", func(f *script.Funding) { f.Expiry = 0 }, script.ErrExpiry},
		{"expiry is a time", func(f *script.Funding) { f.Expiry = 500_000_000 }, script.ErrExpiry},
		{"expiry is the end of time", func(f *script.Funding) { f.Expiry = math.MaxUint32 }, script.ErrExpiry},
		{"payer's key empty", func(f *script.Funding) { f.PayerKey = [33]byte{} }, script.ErrBadKey},
		{"payer's key malformed", func(f *script.Funding) { f.PayerKey = notAPoint }, script.ErrBadKey},
		{"payee's key empty", func(f *script.Funding) { f.PayeeKey = [33]byte{} }, script.ErrBadKey},
		{"payee's key above the field", func(f *script.Funding) {
			f.PayeeKey = [33]byte(append([]byte{0x02}, bytes.Repeat([]byte{0xff}, 32)...))
		}, script.ErrBadKey},
		{"same keys", func(f *script.Funding) { f.PayeeKey = f.PayerKey }, script.ErrSameKeys},
		{"same keys but for the sign", func(f *script.Funding) {
			f.PayeeKey = f.PayerKey
			f.PayeeKey[0] ^= 1
		}, script.ErrSameKeys},
		{"version 0", func(f *script.Funding) { f.TxVersion = 0 }, script.ErrTxVersion},
		{"version 1", func(f *script.Funding) { f.TxVersion = 1 }, script.ErrTxVersion},
		{"version 4", func(f *script.Funding) { f.TxVersion = 4 }, script.ErrTxVersion},
		{"capacity of nothing", func(f *script.Funding) { f.Capacity = 0 }, script.ErrCapacity},
		{"capacity below nothing", func(f *script.Funding) { f.Capacity = -1 }, script.ErrCapacity},
		{"all bitcoin", func(f *script.Funding) { f.Capacity = 2_100_000_000_000_000 }, nil},
		{"more than all bitcoin", func(f *script.Funding) { f.Capacity = 2_100_000_000_000_001 }, script.ErrCapacity},
		{"no construction", func(f *script.Funding) { f.Construction = "" }, script.ErrConstruction},
		{"another construction", func(f *script.Funding) { f.Construction = "threshold" }, script.ErrConstruction},
		{"no rest script", func(f *script.Funding) { f.RestScript = nil }, script.ErrRestScript},
	}
	for _, kind := range constructions {
		for _, row := range rows {
			f := funding(kind, "validate")
			row.change(&f)
			if err := f.Validate(); !errors.Is(err, row.want) {
				t.Errorf("%s, %s: %v, want %v", kind, row.name, err, row.want)
			}
			if c, err := script.New(f); !errors.Is(err, row.want) || (c == nil) != (row.want != nil) {
				t.Errorf("%s, %s: new: %v, want %v", kind, row.name, err, row.want)
			}
		}
	}
}

// The least capacity is what the output's own script needs to be relayed.
func TestValidateLeastCapacity(t *testing.T) {
	least := map[script.Construction]int64{script.Taproot: 330, script.Multisig: 330, script.MultisigP2SH: 540}
	for kind, sat := range least {
		f := funding(kind, "least")
		if f.Capacity = sat; f.Validate() != nil {
			t.Errorf("%s: %d sat: %v", kind, sat, f.Validate())
		}
		if f.Capacity--; !errors.Is(f.Validate(), script.ErrCapacity) {
			t.Errorf("%s: %d sat: %v", kind, f.Capacity, f.Validate())
		}
	}
}

// The output depends on the keys and their order, and on taproot the expiry;
// on nothing else that a Funding holds.
func TestOutputScript(t *testing.T) {
	for _, kind := range constructions {
		f := funding(kind, "output")
		c := open(t, kind, "output")
		got, err := script.OutputScript(kind, f.PayerKey, f.PayeeKey, f.Expiry)
		if err != nil || !bytes.Equal(got, c.OutputScript()) || !bytes.Equal(got, c.Prevout().PkScript) {
			t.Errorf("%s: %x and %x, %v", kind, got, c.OutputScript(), err)
		}
		got[0] ^= 1
		if bytes.Equal(got, c.OutputScript()) {
			t.Errorf("%s: the caller can change the channel's script", kind)
		}
		swapped, err := script.OutputScript(kind, f.PayeeKey, f.PayerKey, f.Expiry)
		if err != nil || bytes.Equal(swapped, c.OutputScript()) {
			t.Errorf("%s: roles do not matter: %v", kind, err)
		}
		later, err := script.OutputScript(kind, f.PayerKey, f.PayeeKey, f.Expiry+1)
		if err != nil || bytes.Equal(later, c.OutputScript()) != (kind != script.Taproot) {
			t.Errorf("%s: another expiry: %x, %v", kind, later, err)
		}
		if _, err := script.OutputScript(kind, f.PayerKey, f.PayerKey, f.Expiry); !errors.Is(err, script.ErrSameKeys) {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

// What New was given may change afterwards; the channel does not.
func TestNewKeepsItsOwnCopy(t *testing.T) {
	f := funding(script.Taproot, "copy")
	c, err := script.New(f)
	if err != nil {
		t.Fatal(err)
	}
	f.RestScript[5] ^= 1
	if bytes.Equal(c.RestScript, f.RestScript) {
		t.Fatal("the rest script is shared with the caller")
	}
}

func TestFeeRate(t *testing.T) {
	const all = 2_100_000_000_000_000
	rows := []struct {
		rate  script.FeeRate
		vsize int64
		want  int64
	}{
		{script.FeeRatePerVB(1), 205, 205},
		{1001, 205, 206}, // rounded up
		{100, 111, 12},
		{script.FeeRatePerVB(0), 205, 0},
		{script.FeeRatePerVB(-5), 205, 0},
		{-1000, 205, 0},
		{1000, 0, 0},
		{1000, -1, 0},
		{math.MaxInt64, 1, all},
		{script.FeeRatePerVB(math.MaxInt64), math.MaxInt64, all},
		{script.FeeRatePerVB(all), 2, all},
		{1000, math.MaxInt64, all},
	}
	for _, row := range rows {
		if got := row.rate.Fee(row.vsize); got != row.want {
			t.Errorf("%d sat/kvB of %d vB: %d sat, want %d", row.rate, row.vsize, got, row.want)
		}
	}
	if got := script.FeeRate(1500).String(); got != "1.500 sat/vB" {
		t.Errorf("written as %q", got)
	}
}

// Keys of another channel, or of the other side, sign nothing.
func TestWrongKeys(t *testing.T) {
	stranger := testKey("stranger")
	for _, kind := range constructions {
		c := open(t, kind, "keys")
		for _, key := range []*struct{ name string }{{"stranger"}, {"keys payee"}} {
			if _, err := c.SignHalf(testKey(key.name), 500_000); !errors.Is(err, script.ErrWrongKey) {
				t.Errorf("%s: half-signed by %s: %v", kind, key.name, err)
			}
			if _, _, err := c.Refund(testKey(key.name), c.refundSig(t), p2tr("refund"), 1000); !errors.Is(err, script.ErrWrongKey) {
				t.Errorf("%s: refunded by %s: %v", kind, key.name, err)
			}
		}
		if _, err := c.SignHalf(nil, 500_000); !errors.Is(err, script.ErrWrongKey) {
			t.Errorf("%s: half-signed by nobody: %v", kind, err)
		}
		claim := c.claim(t, 500_000)
		claim.PayeeKey = stranger
		if _, _, err := script.Settle([]script.Claim{claim}, p2tr("payout"), 1000); !errors.Is(err, script.ErrWrongKey) {
			t.Errorf("%s: settled by a stranger: %v", kind, err)
		}
		if _, err := c.SignRefund(stranger); !errors.Is(err, script.ErrWrongKey) {
			t.Errorf("%s: refund signed by a stranger: %v", kind, err)
		}
	}
}

// Execute refuses what no node would relay.
func TestExecuteRefuses(t *testing.T) {
	c := open(t, script.Taproot, "execute")
	good := settle(t, 1000, c.claim(t, 500_000))
	if err := script.Execute(good, prevouts(c)); err != nil {
		t.Fatal(err)
	}
	rows := []struct {
		name   string
		change func(*wire.MsgTx)
		want   error
	}{
		{"nothing spent", func(tx *wire.MsgTx) { tx.TxIn = nil }, script.ErrExecute},
		{"something unknown spent", func(tx *wire.MsgTx) { tx.TxIn[0].PreviousOutPoint.Index++ }, script.ErrExecute},
		{"spent twice", func(tx *wire.MsgTx) { tx.AddTxIn(tx.TxIn[0]) }, script.ErrExecute},
		{"more out than in", func(tx *wire.MsgTx) { tx.TxOut[1].Value += 1000 }, script.ErrAmount},
		{"less than nothing", func(tx *wire.MsgTx) { tx.TxOut[1].Value = -1 }, script.ErrAmount},
		{"overflow", func(tx *wire.MsgTx) { tx.TxOut[1].Value = math.MaxInt64 }, script.ErrAmount},
		{"the payout changed", func(tx *wire.MsgTx) { tx.TxOut[1].Value-- }, script.ErrExecute},
		{"the rest changed", func(tx *wire.MsgTx) { tx.TxOut[0].Value-- }, script.ErrExecute},
		{"no witness", func(tx *wire.MsgTx) { tx.TxIn[0].Witness = nil }, script.ErrExecute},
		{"one more item", func(tx *wire.MsgTx) {
			tx.TxIn[0].Witness = append(wire.TxWitness{{1}}, tx.TxIn[0].Witness...)
		}, script.ErrExecute},
	}
	for _, row := range rows {
		tx := good.Copy()
		row.change(tx)
		if err := script.Execute(tx, prevouts(c)); !errors.Is(err, row.want) {
			t.Errorf("%s: %v, want %v", row.name, err, row.want)
		}
	}
	anyone := map[wire.OutPoint]*wire.TxOut{{}: {Value: 1000, PkScript: []byte{txscript.OP_TRUE}}}
	once := wire.NewMsgTx(2)
	once.AddTxIn(&wire.TxIn{})
	if err := script.Execute(once, anyone); err != nil {
		t.Errorf("an output of anyone's: %v", err)
	}
	once.AddTxIn(&wire.TxIn{})
	if err := script.Execute(once, anyone); !errors.Is(err, script.ErrExecute) {
		t.Errorf("an output of anyone's, spent twice: %v", err)
	}
	if err := script.Execute(nil, nil); !errors.Is(err, script.ErrExecute) {
		t.Errorf("nothing: %v", err)
	}
}
