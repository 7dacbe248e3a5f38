package channel

import "testing"

// What a payee shows of an imported channel changes nothing: only its refund is left.
func TestImportedResumesNothing(t *testing.T) {
	r := PayerRecord{Imported: true, Signed: 100, Signature: Hex{1}, Owed: 100_000}
	next, changed, err := r.Resumed(nil, Update{Amount: 500, Signature: Hex{2}})
	if err != nil || changed || next.Signed != 100 || next.Owed != 100_000 {
		t.Errorf("%d sat signed, changed: %t, %v", next.Signed, changed, err)
	}
}
