package wallet

import (
	"bytes"
	"errors"
	"testing"

	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/keys"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/store/memory"
)

const (
	words = "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon about"
	other = "legal winner thank year wave sausage worth useful legal winner thank yellow"
	perVB = script.FeeRate(1000)
	btc   = int64(100_000_000)
)

// elsewhere is a script of somebody else.
var elsewhere = append([]byte{0x51, 0x20}, bytes.Repeat([]byte{0x77}, 32)...)

func ring(t *testing.T, seed string, params *chaincfg.Params) *keys.Keyring {
	t.Helper()
	k, err := keys.FromMnemonic(seed, params)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func open(t *testing.T, c Chain, s Store) *Wallet {
	t.Helper()
	params := &chaincfg.RegressionNetParams
	w, err := New(t.Context(), Config{Keys: ring(t, words, params), Chain: c, Store: s, Params: params})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func receive(t *testing.T, w *Wallet) []byte {
	t.Helper()
	pk, err := w.ReceiveScript(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return pk
}

func outs(values ...int64) (list []*wire.TxOut) {
	for _, v := range values {
		list = append(list, wire.NewTxOut(v, elsewhere))
	}
	return list
}

func fund(t *testing.T, w *Wallet, values ...int64) *Funded {
	t.Helper()
	f, err := w.Fund(t.Context(), outs(values...), perVB)
	if err != nil {
		t.Fatalf("fund %v: %v", values, err)
	}
	checkFunded(t, f, perVB, values...)
	return f
}

// checkFunded is what must hold of everything that the wallet signs.
func checkFunded(t *testing.T, f *Funded, rate script.FeeRate, values ...int64) {
	t.Helper()
	if err := script.Execute(f.Tx, f.Prevouts); err != nil {
		t.Fatalf("does not execute: %v", err)
	}
	if err := script.CheckFundingInputs(f.Tx, f.Prevouts); err != nil {
		t.Fatal(err)
	}
	if f.Tx.Version != 2 || f.Tx.LockTime != 0 {
		t.Fatalf("version %d, lock %d", f.Tx.Version, f.Tx.LockTime)
	}
	fee := int64(0)
	for _, in := range f.Tx.TxIn {
		if in.Sequence != 0xfffffffd || len(in.Witness) != 1 || len(in.Witness[0]) != 64 || len(in.SignatureScript) > 0 {
			t.Fatalf("input %+v", in)
		}
		fee += f.Prevouts[in.PreviousOutPoint].Value
	}
	for i, out := range f.Tx.TxOut {
		fee -= out.Value
		if i < len(values) && (out.Value != values[i] || !bytes.Equal(out.PkScript, elsewhere)) {
			t.Fatalf("output %d was moved or changed: %d sat", i, out.Value)
		}
	}
	size := script.VSize(f.Tx)
	if fee != f.Fee || fee < rate.Fee(size) {
		t.Fatalf("fee %d, said %d, %d vB at %v", fee, f.Fee, size, rate)
	}
	most := rate.Fee(size) // exactly, or with what was too little to be change
	if f.ChangeIndex < 0 {
		most += rate.Fee(44) + 330
	}
	if fee > most {
		t.Fatalf("fee %d for %d vB at %v", fee, size, rate)
	}
	switch {
	case f.ChangeIndex >= 0 && (f.ChangeIndex != len(values) || len(f.Tx.TxOut) != len(values)+1):
		t.Fatalf("change at %d of %d outputs", f.ChangeIndex, len(f.Tx.TxOut))
	case f.ChangeIndex < 0 && len(f.Tx.TxOut) != len(values):
		t.Fatalf("%d outputs without change", len(f.Tx.TxOut))
	}
}

func balance(t *testing.T, w *Wallet, want Balance) {
	t.Helper()
	got, err := w.Balance(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got != want {
		t.Fatalf("balance %+v, want %+v", got, want)
	}
}

// The addresses are those of BIP86 (its test vectors, on mainnet).
func TestAddressesAreBIP86(t *testing.T) {
	params := &chaincfg.MainNetParams
	w, err := New(t.Context(), Config{Keys: ring(t, words, params), Chain: newLedger(), Store: memory.New(), Params: params})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"bc1p5cyxnuxmeuwuvkwfem96lqzszd02n6xdcjrs20cac6yqjjwudpxqkedrcr",
		"bc1p4qhjn9zdvkux4e44uhx8tc55attvtyu358kutcqkudyccelu0was9fqzwh",
	} {
		got, pk, err := w.Address(t.Context())
		if err != nil || got != want {
			t.Fatalf("%s, %v; want %s", got, err, want)
		}
		if back, err := w.ParseAddress(got); err != nil || !bytes.Equal(back, pk) {
			t.Fatalf("%x, %v", back, err)
		}
	}
	pk, err := w.ChangeScript(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := w.address(pk); got != "bc1p3qkhfews2uk44qtvauqyr2ttdsw7svhkl9nkm9s9c3x4ax5h60wqwruhk7" {
		t.Fatalf("change %s", got)
	}
}

func TestParseAddress(t *testing.T) {
	w := open(t, newLedger(), memory.New())
	for _, bad := range []string{
		"", "x", "bc1p5cyxnuxmeuwuvkwfem96lqzszd02n6xdcjrs20cac6yqjjwudpxqkedrcr", // another network
		"bcrt1p5cyxnuxmeuwuvkwfem96lqzszd02n6xdcjrs20cac6yqjjwudpxqkedrcr", // wrong checksum
	} {
		if pk, err := w.ParseAddress(bad); !errors.Is(err, ErrAddress) {
			t.Errorf("%q: %x, %v", bad, pk, err)
		}
	}
}

func TestFund(t *testing.T) {
	l := newLedger()
	w := open(t, l, memory.New())
	l.pays(receive(t, w), 100_000, true)
	l.pays(receive(t, w), 60_000, true)
	f := fund(t, w, 20_000, 30_000)
	if len(f.Tx.TxIn) != 1 || f.ChangeIndex != 2 {
		t.Fatalf("%d inputs, change at %d", len(f.Tx.TxIn), f.ChangeIndex)
	}
	balance(t, w, Balance{Confirmed: 160_000, Reserved: 100_000, Spendable: 60_000})
	if err := l.Broadcast(t.Context(), f.Tx); err != nil {
		t.Fatal(err)
	}
	change := f.Tx.TxOut[2].Value
	balance(t, w, Balance{Confirmed: 60_000, Unconfirmed: change, Spendable: 60_000 + change})
	both := fund(t, w, 90_000) // needs the unconfirmed change as well
	if len(both.Tx.TxIn) != 2 {
		t.Fatalf("%d inputs", len(both.Tx.TxIn))
	}
	if err := l.Broadcast(t.Context(), both.Tx); err != nil {
		t.Fatal(err)
	}
}

// The caller's outputs are not touched, and the transaction shares nothing with them.
func TestFundCopiesItsOutputs(t *testing.T) {
	l := newLedger()
	w := open(t, l, memory.New())
	l.pays(receive(t, w), 100_000, true)
	mine := []*wire.TxOut{wire.NewTxOut(5000, bytes.Clone(elsewhere)), nil}[:1]
	f, err := w.Fund(t.Context(), mine, perVB)
	if err != nil {
		t.Fatal(err)
	}
	mine[0].Value, mine[0].PkScript[5] = 1, 0
	checkFunded(t, f, perVB, 5000)
}

// Change below dust goes to the fee, and no internal address is used up by it.
func TestDustChange(t *testing.T) {
	for _, c := range []struct {
		coin   int64
		change bool
	}{
		{10_000 + 154 + 330, true}, {10_000 + 154 + 329, false}, {10_000 + 111, false},
	} {
		l := newLedger()
		w := open(t, l, memory.New())
		l.pays(receive(t, w), c.coin, true)
		f := fund(t, w, 10_000)
		if (f.ChangeIndex >= 0) != c.change {
			t.Errorf("a coin of %d: change at %d", c.coin, f.ChangeIndex)
		}
		x, err := w.index(t.Context(), true)
		if err != nil || (x.Next > 0) != c.change {
			t.Errorf("a coin of %d: %d internal addresses used, %v", c.coin, x.Next, err)
		}
		if err := l.Broadcast(t.Context(), f.Tx); err != nil {
			t.Error(err)
		}
	}
}

// 100 BTC go out of one coin and come back as change to the satoshi.
func TestFundHundredBTC(t *testing.T) {
	l := newLedger()
	w := open(t, l, memory.New())
	l.pays(receive(t, w), 101*btc, true)
	f := fund(t, w, 100*btc)
	if len(f.Tx.TxIn) != 1 || f.Tx.TxOut[1].Value != btc-f.Fee || f.Fee > 200 {
		t.Fatalf("%d inputs, fee %d", len(f.Tx.TxIn), f.Fee)
	}
}

func TestInsufficient(t *testing.T) {
	l := newLedger()
	w := open(t, l, memory.New())
	for _, c := range []struct {
		coins     []int64
		amount    int64
		available int64
	}{
		{nil, 1000, 0}, {[]int64{1000}, 1000, 1000}, {[]int64{500, 700}, 5000, 2200}, {[]int64{50}, 5000, 2200}, // 50 sat cost more than they are
	} {
		for _, sat := range c.coins {
			l.pays(receive(t, w), sat, true)
		}
		_, err := w.Fund(t.Context(), outs(c.amount), perVB)
		var e *InsufficientError
		if !errors.Is(err, ErrInsufficient) || !errors.As(err, &e) {
			t.Fatalf("%v", err)
		}
		if e.Available != c.available || e.Needed <= c.amount || e.Needed > c.amount+400 {
			t.Fatalf("needed %d, available %d; want %d", e.Needed, e.Available, c.available)
		}
	}
	if held, err := w.Reservations(t.Context()); err != nil || len(held) > 0 {
		t.Fatalf("a refusal reserved %v, %v", held, err)
	}
}

// Fees are exact at any rate and any number of inputs.
func TestFees(t *testing.T) {
	l := newLedger()
	w := open(t, l, memory.New())
	for range 300 {
		l.pays(scriptAt(t, w, false, 0), 10_000, true)
	}
	for _, c := range []struct {
		amount int64
		rate   script.FeeRate
	}{{5000, 1000}, {9000, 1001}, {95_000, 1777}, {900_000, 12_345}, {2_400_000, 3333}} {
		f, err := w.Fund(t.Context(), outs(c.amount), c.rate)
		if err != nil {
			t.Fatal(err)
		}
		checkFunded(t, f, c.rate, c.amount)
		if err := w.Release(t.Context(), f.Tx); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFundRefusals(t *testing.T) {
	l := newLedger()
	w := open(t, l, memory.New())
	l.pays(receive(t, w), 10*btc, true)
	for _, c := range []struct {
		name string
		outs []*wire.TxOut
		rate script.FeeRate
		want error
	}{
		{"no outputs", nil, perVB, ErrOutput}, {"nil", []*wire.TxOut{nil}, perVB, ErrOutput}, {"dust", outs(329), perVB, ErrOutput},
		{"negative", outs(-1), perVB, ErrOutput}, {"more than there is", outs(21_000_001 * btc), perVB, ErrOutput},
		{"more than there is, together", outs(20_000_000*btc, 20_000_000*btc), perVB, ErrOutput},
		{"rate zero", outs(1000), 0, ErrRate}, {"rate negative", outs(1000), -1, ErrRate}, {"rate absurd", outs(1000), maxRate + 1, ErrRate},
	} {
		if _, err := w.Fund(t.Context(), c.outs, c.rate); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// Only own unconfirmed change is spent: not a stranger's unconfirmed coin, not one
// that a stranger sends to a change address, and no block reward that is not ripe.
func TestUnconfirmedOfStrangers(t *testing.T) {
	l := newLedger()
	w := open(t, l, memory.New())
	change, err := w.ChangeScript(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	l.pays(receive(t, w), 50_000, false)
	l.pays(change, 60_000, false)
	l.mints(receive(t, w), 50*btc)
	balance(t, w, Balance{Confirmed: 50 * btc, Unconfirmed: 110_000})
	if _, err := w.Fund(t.Context(), outs(10_000), perVB); !errors.Is(err, ErrInsufficient) {
		t.Fatalf("%v", err)
	}
	l.mine(1)
	balance(t, w, Balance{Confirmed: 50*btc + 110_000, Spendable: 110_000})
	fund(t, w, 10_000)
	l.mine(98)
	fund(t, w, btc)
}

func TestUnreachableChain(t *testing.T) {
	l := newLedger()
	l.down = true
	w := open(t, l, memory.New()) // opening asks nothing
	if _, err := w.Balance(t.Context()); !errors.Is(err, chain.ErrUnavailable) {
		t.Fatal(err)
	}
	if _, _, err := w.Address(t.Context()); !errors.Is(err, chain.ErrUnavailable) {
		t.Fatalf("an address before the seed's use is known: %v", err)
	}
	l.down = false
	first := receive(t, w)
	l.down = true
	if second := receive(t, w); bytes.Equal(first, second) {
		t.Fatal("the same address twice")
	}
}

func TestAnotherSeed(t *testing.T) {
	s := memory.New()
	open(t, newLedger(), s)
	for seed, params := range map[string]*chaincfg.Params{other: &chaincfg.RegressionNetParams, words: &chaincfg.MainNetParams} {
		_, err := New(t.Context(), Config{Keys: ring(t, seed, params), Chain: newLedger(), Store: s, Params: params})
		if !errors.Is(err, ErrOtherSeed) {
			t.Errorf("%v", err)
		}
	}
	if _, err := New(t.Context(), Config{}); err == nil {
		t.Error("a wallet of nothing")
	}
}
