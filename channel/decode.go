package channel

import (
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/script"
)

// maxTx bounds a transaction that is taken from the other side, in bytes.
const maxTx = 400_000

// DecodeTx reads a transaction of the other side's, whole and without anything
// behind it. It makes no room for more than the bytes can hold. Errors: ErrTerms.
func DecodeTx(raw []byte) (*wire.MsgTx, error) {
	if len(raw) == 0 || len(raw) > maxTx {
		return nil, refuse(ErrTerms, "a transaction of %d bytes", len(raw))
	}
	tx, err := script.DecodeTx(raw)
	if err != nil {
		return nil, refuse(ErrTerms, "%v", err)
	}
	return tx, nil
}
