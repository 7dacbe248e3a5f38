package channel

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// errStored: a stored record that no rule can have led to.
var errStored = errors.New("no such record was ever saved")

var payeePhases = []Phase{Funding, Open, Settling, Closing, Closed, Refunded, Abandoned}

var payerPhases = []Phase{Prepared, Funding, Open, Settling, Closing, Refunding, Closed, Refunded, Abandoned}

// UnmarshalJSON reads a stored record and refuses one that cannot be: the rules
// rely on what they saved.
func (r *PayeeRecord) UnmarshalJSON(raw []byte) error {
	type plain PayeeRecord
	var read plain
	if err := json.Unmarshal(raw, &read); err != nil {
		return err
	}
	switch {
	case !slices.Contains(payeePhases, read.Phase):
		return fmt.Errorf("%w: phase %q", errStored, read.Phase)
	case read.Phase == Closing && read.Close == nil:
		return fmt.Errorf("%w: closing, but no close is agreed", errStored)
	case read.Terms.Capacity > MaxSat || read.Paid > read.Terms.Capacity:
		return fmt.Errorf("%w: paid %d sat of a capacity of %d sat", errStored, read.Paid, read.Terms.Capacity)
	case read.Charged > MaxSat*1000:
		return fmt.Errorf("%w: charged %d msat", errStored, read.Charged)
	}
	*r = PayeeRecord(read)
	return nil
}

// UnmarshalJSON reads a stored record and refuses one that cannot be: the rules
// rely on what they saved.
func (r *PayerRecord) UnmarshalJSON(raw []byte) error {
	type plain PayerRecord
	var read plain
	if err := json.Unmarshal(raw, &read); err != nil {
		return err
	}
	switch {
	case !slices.Contains(payerPhases, read.Phase):
		return fmt.Errorf("%w: phase %q", errStored, read.Phase)
	case read.Terms.Capacity > MaxSat || read.Signed > read.Terms.Capacity:
		return fmt.Errorf("%w: signed %d sat of a capacity of %d sat", errStored, read.Signed, read.Terms.Capacity)
	case read.Owed > MaxSat*1000:
		return fmt.Errorf("%w: owes %d msat", errStored, read.Owed)
	}
	*r = PayerRecord(read)
	return nil
}
