package download

import (
	"errors"
	"fmt"

	"github.com/spillway/spillway/content"
	"github.com/spillway/spillway/content/bao"
)

// What stops a purchase, beside the errors of paywall, channel, payer, wallet,
// chain, store and the file system, which come through for errors.Is. Whatever
// it is, running the same purchase again goes on from where it stopped.
var (
	// ErrWrongBytes: the provider sent bytes that are not those of the root. The
	// error is a *WrongBytesError. The chunk is not paid.
	ErrWrongBytes = bao.ErrWrongBytes
	// ErrOtherContent: the file at this address is not the one that was asked for.
	ErrOtherContent = errors.New("this address has other content than was asked for")
	// ErrChanged: the provider has another file at this address, or none, since the
	// purchase began. What was verified of the first is kept and paid.
	ErrChanged = errors.New("the file at this address changed while it was being bought")
	// ErrOtherProvider: the provider is not the one that was asked for.
	ErrOtherProvider = errors.New("this address belongs to another provider than was asked for")
	// ErrExists: another file has the name already.
	ErrExists = content.ErrExists
	// ErrStopped: the run ended because Limits.Stop was closed. What came is paid and kept.
	ErrStopped = errors.New("stopped as asked; what was under way is here and paid")
	// ErrQuote: the terms make no sense for a buyer, such as a minimum charge
	// far above any settlement's fee.
	ErrQuote = errors.New("the provider's terms are unreasonable")
	// ErrFees: funding the channel would cost more than the plan said it would at most.
	ErrFees = errors.New("the fee of the funding has risen")
	// ErrDeposit: the file is too dear for the channels that the provider takes.
	ErrDeposit = errors.New("the provider takes no channel that is large enough")
)

// WrongBytesError says which chunk was wrong and where the report about it lies.
type WrongBytesError struct {
	Chunk  uint64
	Report string // path of the report; "" where it could not be written
	Err    error  // what was wrong with the bytes
}

func (e *WrongBytesError) Error() string {
	if e.Report == "" {
		return fmt.Sprintf("chunk %d: %v", e.Chunk, e.Err)
	}
	return fmt.Sprintf("chunk %d: %v; a report is at %s", e.Chunk, e.Err, e.Report)
}

// Unwrap gives what was wrong, which is ErrWrongBytes.
func (e *WrongBytesError) Unwrap() error { return e.Err }
