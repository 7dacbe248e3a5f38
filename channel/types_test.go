package channel

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/script"
)

const someID = "00000000000000000000000000000000000000000000000000000000000009ff:1"

func TestParseOutpoint(t *testing.T) {
	op, err := ParseOutpoint(someID)
	wantNil(t, err)
	if op.Index != 1 || op.Hash[0] != 0xff || op.Hash[1] != 0x09 || op.String() != someID {
		t.Fatalf("%v", op)
	}
	txid := strings.TrimSuffix(someID, ":1")
	for _, bad := range []string{
		"", ":", txid, txid + ":", txid + ":-1", txid + ":+1", txid + ":01", txid + ": 1", txid + ":4294967296", txid + ":1:1",
		txid[1:] + ":1", "0" + txid + ":1", strings.ToUpper(txid) + ":1", strings.Repeat("g", 64) + ":1", txid + ":1\n",
	} {
		if got, err := ParseOutpoint(bad); err == nil {
			t.Errorf("%q was read as %v", bad, got)
		}
	}
}

func TestTextForms(t *testing.T) {
	var k Key
	var n Nonce
	var h Hex
	for _, c := range []struct {
		name string
		into interface{ UnmarshalText([]byte) error }
		text string
		ok   bool
	}{
		{"key", &k, pub(1).String(), true}, {"short key", &k, "02", false}, {"long key", &k, pub(1).String() + "00", false},
		{"no hex", &k, strings.Repeat("x", 66), false}, {"nonce", &n, "0f" + strings.Repeat("ff", 15), true},
		{"nonce of 128 bits", &n, "10" + strings.Repeat("00", 15), false}, {"short nonce", &n, "00", false},
		{"hex", &h, "00ff", true}, {"odd hex", &h, "0", false},
	} {
		if err := c.into.UnmarshalText([]byte(c.text)); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if k != pub(1) {
		t.Errorf("a refused text changed the key: %v", k)
	}
}

func TestRecordsSurviveJSON(t *testing.T) {
	payee := record(func(r *PayeeRecord) {
		r.Paid, r.Charged, r.MaxPrice, r.Place, r.Signature, r.Digest = 7, 6001, 1000, true, Hex{1, 2}, Hex{3}
		r.Close = &PayeeClose{Amount: 7, Fee: 1, Tx: Hex{4}, Txid: "t", PayerNonce: Hex{5}}
		r.Settlement, r.Reason, r.Restored, r.SpentBy = &Broadcast{Tx: Hex{6}, Rate: 1000}, AtMargin, true, "x"
	})
	var back PayeeRecord
	roundTrip(t, payee, &back)
	same(t, "payee's record", back, payee)
	payer := bought(func(r *PayerRecord) {
		r.KeyIndex, r.Origin, r.Payee, r.Signed, r.Owed, r.RefundSig = 9, "http://x", "id", 8, 7001, Hex{9}
		r.Refund, r.Close = &Broadcast{Txid: "r"}, &PayerClose{Tx: Hex{1}, Txid: "c"}
	})
	var again PayerRecord
	roundTrip(t, payer, &again)
	same(t, "payer's record", again, payer)
}

func roundTrip(t *testing.T, from, to any) {
	t.Helper()
	raw, err := json.Marshal(from)
	wantNil(t, err)
	wantNil(t, json.Unmarshal(raw, to))
}

// sampleTx is a small transaction with a witness.
func sampleTx(tb testing.TB) []byte {
	tb.Helper()
	tx := wire.NewMsgTx(3)
	tx.AddTxIn(&wire.TxIn{PreviousOutPoint: wire.OutPoint(terms().Outpoint), Sequence: 0xfffffffd, Witness: wire.TxWitness{{1}}})
	tx.AddTxOut(wire.NewTxOut(1000, payout))
	raw, err := encodeTx(tx)
	if err != nil {
		tb.Fatal(err)
	}
	return raw
}

func TestDecodeTx(t *testing.T) {
	raw := sampleTx(t)
	tx, err := DecodeTx(raw)
	wantNil(t, err)
	again, err := EncodeTx(tx)
	wantNil(t, err)
	if !bytes.Equal(again, raw) {
		t.Fatal("another transaction came back")
	}
	for name, bad := range map[string][]byte{
		"empty": nil, "cut": raw[:len(raw)-1], "trailing": append(bytes.Clone(raw), 0), "huge": make([]byte, maxTx+1), "noise": {1, 2, 3},
	} {
		if _, err := DecodeTx(bad); err == nil {
			t.Errorf("%s was read", name)
		} else {
			wantErr(t, err, ErrTerms)
		}
	}
}

// FuzzParseOutpoint: an outpoint has one form.
func FuzzParseOutpoint(f *testing.F) {
	for _, s := range []string{someID, "", ":", strings.Repeat("0", 64) + ":4294967295", strings.Repeat("A", 64) + ":0", someID + "0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if op, err := ParseOutpoint(s); err == nil && op.String() != s {
			t.Fatalf("%q has a second form %q", s, op.String())
		}
	})
}

// FuzzDecodeTx: a transaction that is read is written with the same id, in no more
// bytes.
func FuzzDecodeTx(f *testing.F) {
	raw := sampleTx(f)
	f.Add(raw)
	f.Add(raw[:10])
	f.Add(append(bytes.Clone(raw), 1))
	f.Add([]byte{2, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		tx, err := DecodeTx(b)
		if err != nil {
			return
		}
		first, err := encodeTx(tx)
		if err != nil {
			t.Fatalf("read but not written: %v", err)
		}
		again, err := DecodeTx(first)
		if err != nil || again.TxHash() != tx.TxHash() || len(first) > len(b) {
			t.Fatalf("not the same after a second reading: %v", err)
		}
	})
}

// FuzzPayeeRecord: whatever is read from a store is either refused or read back
// unchanged, and no rule panics on it.
func FuzzPayeeRecord(f *testing.F) {
	for _, r := range []PayeeRecord{{}, record(), record(func(r *PayeeRecord) { r.Paid, r.Charged = 1, 999 })} {
		raw, err := json.Marshal(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Add([]byte(`{"terms":{"outpoint":"x"}}`))
	f.Add([]byte(`{"paid":-1}`))
	closing, err := json.Marshal(record(func(r *PayeeRecord) { r.Phase, r.Paid = Closing, 5000 }))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(closing)
	f.Add(bytes.Replace(closing, []byte(`"closing"`), []byte(`"settling"`), 1))
	f.Fuzz(func(t *testing.T, b []byte) {
		var r, back PayeeRecord
		if json.Unmarshal(b, &r) != nil {
			return
		}
		roundTrip(t, r, &back)
		same(t, "record", back, r)
		r.Pay(ask(chunk, 5), at(200), Pool{Size: chunk})
		_, _ = r.AskSettle(WhenAsked)
		if ch, err := r.Terms.Script(); err == nil && r.Paid <= r.Terms.Capacity {
			for _, v := range []View{at(200), at(expiry), at(300, unconfirmed), at(300, spentBy("settlement", 0)), {}} {
				once, actions := r.Due(ch, payout, v, policy())
				twice, again := once.Due(ch, payout, v, policy())
				same(t, "record", twice, once)
				same(t, "actions", again, actions)
			}
		}
		if _, err := r.Terms.Script(); err != nil && r.Terms.Construction == script.Taproot && r.Terms.PayerKey == pub(0x11) && r.Terms.Capacity == capacity {
			return // keys or scripts that were changed: refused, without a panic
		}
	})
}

// FuzzPayerRecord: what is read from a store is read back unchanged, and no amount
// that is signed then is below what was signed before.
func FuzzPayerRecord(f *testing.F) {
	for _, r := range []PayerRecord{{}, bought(), bought(func(r *PayerRecord) { r.Signed, r.Owed = 5, 4999 })} {
		raw, err := json.Marshal(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var r, back PayerRecord
		if json.Unmarshal(b, &r) != nil {
			return
		}
		roundTrip(t, r, &back)
		same(t, "record", back, r)
		if next, amount, err := r.Pay(1, free); err == nil && (amount < r.Signed || next.Signed != amount) {
			t.Fatalf("signed %d after %d", amount, r.Signed)
		}
		if _, amount, err := r.PayLast(free); err == nil && amount < r.Signed {
			t.Fatalf("signed %d last after %d", amount, r.Signed)
		}
	})
}
