package channel

import "testing"

// What the payee returns for something that has not arrived yet is taken when it has:
// told before or after, the payer's ledger comes to the same.
func TestDuplexBackBeforeTheGoods(t *testing.T) {
	const price, back = 1_000_000, 1_700_000
	early := Duplex{Ledger: price}.TakeBack(back)
	if early.Ledger != 0 {
		t.Fatalf("a ledger of %d msat after more than it came back", early.Ledger)
	}
	early.Ledger += price // the second one arrives
	early = early.TakeBack(back)
	late := Duplex{Ledger: 2 * price}.TakeBack(back)
	if early.Ledger != late.Ledger || early.Back != late.Back || late.Ledger != 2*price-back {
		t.Fatalf("told early: %d msat, %d back; told late: %d msat, %d back", early.Ledger, early.Back, late.Ledger, late.Back)
	}
	if again := early.TakeBack(back); again.Ledger != early.Ledger {
		t.Fatalf("a repeat takes %d msat", early.Ledger-again.Ledger)
	}
}
