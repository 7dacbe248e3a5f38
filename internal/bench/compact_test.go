package bench

import (
	"strings"
	"testing"
)

// The compact transport can be measured; an update takes less of the wire than over HTTP.
func TestCompact(t *testing.T) {
	var got []Figure
	if err := Compact(t.Context(), small(t), sound(t, &got)); err != nil {
		t.Fatal(err)
	}
	if len(got) != 7 {
		t.Errorf("%d figures", len(got))
	}
	for _, f := range got {
		if strings.HasSuffix(f.Name, ": wire") && f.Ratio > 0.5 {
			t.Errorf("%v", f)
		}
	}
}
