package channel

import (
	"testing"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/script"
)

// spending is a transaction that spends these outputs and pays these amounts.
func spending(lock uint32, ins []Outpoint, outs ...*wire.TxOut) *wire.MsgTx {
	tx := wire.NewMsgTx(3)
	tx.LockTime = lock
	for _, op := range ins {
		tx.AddTxIn(&wire.TxIn{PreviousOutPoint: wire.OutPoint(op), Sequence: script.Sequence})
	}
	for _, out := range outs {
		tx.AddTxOut(wire.NewTxOut(out.Value, out.PkScript))
	}
	return tx
}

// badTxs are changes that no transaction of a side survives, with two outputs.
var badTxs = []struct {
	name   string
	change func(*wire.MsgTx)
}{
	{"another input too", func(tx *wire.MsgTx) { tx.AddTxIn(&wire.TxIn{Sequence: script.Sequence}) }},
	{"no input", func(tx *wire.MsgTx) { tx.TxIn = nil }},
	{"another outpoint", func(tx *wire.MsgTx) { tx.TxIn[0].PreviousOutPoint.Index += 9 }},
	{"another sequence", func(tx *wire.MsgTx) { tx.TxIn[0].Sequence-- }},
	{"another lock", func(tx *wire.MsgTx) { tx.LockTime++ }},
	{"no output", func(tx *wire.MsgTx) { tx.TxOut = nil }},
	{"an output more", func(tx *wire.MsgTx) { tx.AddTxOut(tx.TxOut[0]) }},
	{"an empty output more", func(tx *wire.MsgTx) { tx.AddTxOut(wire.NewTxOut(0, tx.TxOut[0].PkScript)) }},
	{"a satoshi less in the last", func(tx *wire.MsgTx) { tx.TxOut[len(tx.TxOut)-1].Value-- }},
	{"a satoshi more in the first", func(tx *wire.MsgTx) { tx.TxOut[0].Value++ }},
	{"the first to somebody", func(tx *wire.MsgTx) { tx.TxOut[0].PkScript = p2tr(0x77) }},
	{"the last to somebody", func(tx *wire.MsgTx) { tx.TxOut[len(tx.TxOut)-1].PkScript = p2tr(0x77) }},
	{"more than there is, and less than nothing", func(tx *wire.MsgTx) {
		tx.TxOut[0].Value += 2 * int64(capacity)
		tx.TxOut[len(tx.TxOut)-1].Value -= 2 * int64(capacity)
	}},
}

// What a side signs whole is refused with each single change: a settlement of one channel
// and of several, the agreed close, the refund, and a duplex payer's settlement.
func TestSignedWholeIsSound(t *testing.T) {
	r := seller()
	r.Phase = Settling
	other := seller(func(r *PayeeRecord) { r.Terms.Outpoint.Hash = chainhash.Hash{8}; r.Terms.RestScript = p2tr(0x66) })
	all := seller(func(r *PayeeRecord) { r.Terms.Outpoint.Hash = chainhash.Hash{9}; r.Paid = capacity })
	rest := wire.NewTxOut(int64(capacity-5000), r.Terms.RestScript)
	otherRest := wire.NewTxOut(int64(capacity-5000), other.Terms.RestScript)
	pays := func(sat int64) *wire.TxOut { return wire.NewTxOut(sat, payout) }
	both := seller(sellerBothWays)
	lock, _ := both.Terms.Lock(1)
	back := buyer()
	closing := func(tx *wire.MsgTx) PayeeRecord {
		r := seller(func(r *PayeeRecord) { r.Phase, r.Close = Closing, closeAt(5000) })
		raw, err := encodeTx(tx)
		wantNil(t, err)
		r.Close.Tx, r.Close.Txid, r.Close.Fee = raw, tx.TxHash().String(), 500
		return r
	}
	heldBack := buyer(buyerBothWays)
	heldBack.Duplex.Held = Update{Epoch: 2, Amount: 70_000, Signature: Hex{3}}
	lock2, _ := heldBack.Terms.Lock(2)
	for _, c := range []struct {
		name  string
		tx    *wire.MsgTx
		sound func(*wire.MsgTx) error
	}{
		{"settlement", spending(0, []Outpoint{r.Terms.Outpoint}, rest, pays(4500)), func(tx *wire.MsgTx) error { return r.SettlementSound(tx, 500, payout) }},
		{"settlement of all", spending(0, []Outpoint{all.Terms.Outpoint}, pays(int64(capacity)-500)), func(tx *wire.MsgTx) error { return all.SettlementSound(tx, 500, payout) }},
		{"settlement both ways", spending(lock, []Outpoint{both.Terms.Outpoint}, wire.NewTxOut(int64(capacity-4000), both.Terms.RestScript), pays(3500)),
			func(tx *wire.MsgTx) error { return both.SettlementSound(tx, 500, payout) }},
		{"batch", spending(0, []Outpoint{r.Terms.Outpoint, other.Terms.Outpoint, all.Terms.Outpoint}, rest, otherRest, pays(10_000+int64(capacity)-800)),
			func(tx *wire.MsgTx) error { return BatchSound([]*PayeeRecord{&all, &other, &r}, tx, 800, payout) }},
		{"close", spending(0, []Outpoint{r.Terms.Outpoint}, rest, pays(4500)), func(tx *wire.MsgTx) error { r := closing(tx); return r.CloseSound(payout) }},
		{"refund", spending(expiry, []Outpoint{back.Terms.Outpoint}, wire.NewTxOut(int64(capacity)-500, back.RefundScript)), func(tx *wire.MsgTx) error { return back.RefundSound(tx, 500) }},
		{"the payer's settlement", spending(lock2, []Outpoint{heldBack.Terms.Outpoint}, wire.NewTxOut(int64(capacity)-70_000, heldBack.Terms.PayeeRest), wire.NewTxOut(69_500, heldBack.RefundScript)),
			func(tx *wire.MsgTx) error { return heldBack.SettlementSound(tx, 500) }},
	} {
		if err := c.sound(c.tx.Copy()); err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		for _, bad := range badTxs {
			tx := c.tx.Copy()
			if bad.change(tx); c.name == "close" && tx.TxIn == nil || tx.TxHash() == c.tx.TxHash() {
				continue // it has no encoding, or is the same
			}
			if rule := brokenRule(c.sound(tx)); rule == "" {
				t.Errorf("%s with %s is sound", c.name, bad.name)
			}
		}
	}
}

// What only some of them have: who is where in a batch, fees and dust that are not relayed,
// and what is not there to be signed at all.
func TestNotSignedWhole(t *testing.T) {
	r := seller()
	other := seller(func(r *PayeeRecord) { r.Terms.Outpoint.Hash = chainhash.Hash{8}; r.Terms.RestScript = p2tr(0x66) })
	outs := []*wire.TxOut{wire.NewTxOut(int64(capacity-5000), r.Terms.RestScript), wire.NewTxOut(int64(capacity-5000), other.Terms.RestScript), wire.NewTxOut(9200, payout)}
	two := []*PayeeRecord{&r, &other}
	in := []Outpoint{r.Terms.Outpoint, other.Terms.Outpoint}
	one := seller(func(r *PayeeRecord) { r.Paid = 800 })
	dusty := seller(func(r *PayeeRecord) { r.Paid = capacity - 10 })
	agreed := func(change func(*PayeeRecord)) error {
		tx := spending(0, in[:1], outs[0], wire.NewTxOut(4500, payout))
		raw, err := encodeTx(tx)
		wantNil(t, err)
		r := seller(func(r *PayeeRecord) { r.Phase, r.Close = Closing, closeAt(5000) })
		r.Close.Tx, r.Close.Txid, r.Close.Fee = raw, tx.TxHash().String(), 500
		change(&r)
		return r.CloseSound(payout)
	}
	settle := func(rest, pay, fee int64) error {
		return one.SettlementSound(spending(0, in[:1], wire.NewTxOut(rest, one.Terms.RestScript), wire.NewTxOut(pay, payout)), fee, payout)
	}
	nowhere := buyer(func(r *PayerRecord) { r.RefundScript = nil })
	refund := func(sat, fee int64) error {
		r := buyer()
		return r.RefundSound(spending(expiry, []Outpoint{r.Terms.Outpoint}, wire.NewTxOut(sat, r.RefundScript)), fee)
	}
	for _, c := range []struct {
		name string
		err  error
		ok   bool
	}{
		{"a batch as it is made", BatchSound(two, spending(0, in, outs...), 800, payout), true},
		{"the rests change places", BatchSound(two, spending(0, in, outs[1], outs[0], outs[2]), 800, payout), false},
		{"the inputs change places", BatchSound(two, spending(0, []Outpoint{in[1], in[0]}, outs...), 800, payout), false},
		{"one of two channels", BatchSound(two[:1], spending(0, in, outs...), 800, payout), false},
		{"a channel twice", BatchSound([]*PayeeRecord{&r, &r}, spending(0, in, outs...), 800, payout), false},
		{"the payout where a rest belongs", BatchSound(two, spending(0, in, outs[0], outs[2]), 800, payout), false},
		{"a settlement", settle(int64(capacity-800), 500, 300), true},
		{"a payout of dust", settle(int64(capacity-800), 330, 470), true},
		{"a payout below dust", settle(int64(capacity-800), 329, 471), false},
		{"a fee that is not relayed", settle(int64(capacity-800), 750, 50), false},
		{"a rest below dust", dusty.SettlementSound(spending(0, in[:1], wire.NewTxOut(10, dusty.Terms.RestScript), wire.NewTxOut(int64(capacity)-510, payout)), 500, payout), false},
		{"a close as it was agreed", agreed(func(*PayeeRecord) {}), true},
		{"a duplex close at its ledger, which is not paid", agreed(func(r *PayeeRecord) { r.Duplex, r.Paid, r.Charged = &Duplex{}, 4000, 5000*sat }), true},
		{"none is agreed", agreed(func(r *PayeeRecord) { r.Close = nil }), false},
		{"not closing", agreed(func(r *PayeeRecord) { r.Phase = Open }), false},
		{"closing while something is owed", agreed(func(r *PayeeRecord) { r.Charged += 1 }), false},
		{"closing at less than was paid", agreed(func(r *PayeeRecord) { r.Close.Amount-- }), false},
		{"another transaction than was agreed", agreed(func(r *PayeeRecord) { r.Close.Txid = "c" }), false},
		{"none that can be read", agreed(func(r *PayeeRecord) { r.Close.Tx = Hex{1} }), false},
		{"a refund", refund(int64(capacity)-200, 200), true},
		{"a refund of dust", refund(330, int64(capacity)-330), true},
		{"a refund below dust", refund(329, int64(capacity)-329), false},
		{"a refund that pays more than there is", refund(int64(capacity)+1, -1), false},
		{"a refund without a fee", refund(int64(capacity), 0), true},
		{"a refund to nowhere", nowhere.RefundSound(spending(expiry, []Outpoint{nowhere.Terms.Outpoint}), 0), false},
		{"what a one-way payer holds", func() error { r := buyer(); return r.SettlementSound(spending(0, in[:1], outs[0]), 1) }(), false},
		{"what a payer holds that holds none", func() error {
			r := buyer(buyerBothWays)
			return r.SettlementSound(spending(expiry, in[:1], outs[0]), 1)
		}(), false},
	} {
		if (c.err == nil) != c.ok || !c.ok && brokenRule(c.err) == "" {
			t.Errorf("%s: %v", c.name, c.err)
		}
	}
}

// A payee that was restored settles an older epoch first, and then, where the payer shows
// it, a newer one that is worth less: no rule is broken. Within one epoch none falls.
func TestSettlementOfAnotherEpochMayBeLess(t *testing.T) {
	settled := func(epoch uint32, amount uint64, txid string) PayeeRecord {
		r := seller(sellerBothWays, func(r *PayeeRecord) { r.Phase, r.Restored = Settling, true })
		r.Duplex.Held = Update{Epoch: 3, Amount: 4000, Signature: Hex{4}}
		r.Paid = 4000
		lock, _ := r.Terms.Lock(epoch)
		raw, err := encodeTx(spending(lock, []Outpoint{r.Terms.Outpoint}, wire.NewTxOut(1, payout)))
		wantNil(t, err)
		r.Settlement = &Broadcast{Tx: raw, Txid: txid, Rate: 1000, Fee: 10, Amount: amount}
		return r
	}
	old := settled(1, 50_000, "a")
	next := settled(3, 4000, "b")
	if err := next.Follows(&old, &Step{}); err != nil {
		t.Fatal(err)
	}
	if err := func() error { n := settled(1, 4000, "b"); return n.Follows(&old, &Step{}) }(); brokenRule(err) != "rate-fell" {
		t.Fatalf("a lower one of the same epoch: %v", err)
	}
}
