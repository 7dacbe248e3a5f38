package chain

import (
	"errors"
	"fmt"
	"math"
	"testing"

	"github.com/spillway/spillway/script"
)

func TestRejectError(t *testing.T) {
	err := fmt.Errorf("settle: %w", &RejectError{Reason: "dust (output 0)"})
	var r *RejectError
	if !errors.Is(err, ErrRejected) || errors.Is(err, ErrUnavailable) || !errors.As(err, &r) || r.Reason != "dust (output 0)" {
		t.Errorf("%v", err)
	}
	if err.Error() != "settle: the node refused the transaction: dust (output 0)" {
		t.Errorf("%q", err)
	}
}

func TestClamps(t *testing.T) {
	for rate, want := range map[script.FeeRate]script.FeeRate{
		math.MinInt64: MinFeeRate, 0: MinFeeRate, 999: MinFeeRate, 1_000: 1_000, 1_001: 1_001,
		2_000_000: 2_000_000, 2_000_001: MaxFeeRate, math.MaxInt64: MaxFeeRate,
	} {
		if got := ClampFeeRate(rate); got != want {
			t.Errorf("rate %d: %d, want %d", rate, got, want)
		}
	}
	for blocks, want := range map[int]int{math.MinInt: 1, 0: 1, 1: 1, 6: 6, 1_008: 1_008, 1_009: 1_008, math.MaxInt: 1_008} {
		if got := ClampTarget(blocks); got != want {
			t.Errorf("target %d: %d, want %d", blocks, got, want)
		}
	}
}
