package bench

import (
	"testing"

	"github.com/spillway/spillway/internal/webtoolstest"
)

// Each way through a proxy can be measured; what comes out is more than nothing.
func TestProxy(t *testing.T) {
	webtoolstest.Path(t, "nginx") // it is there from now on
	var got []Figure
	if err := Proxy(t.Context(), small(t), sound(t, &got)); err != nil {
		t.Fatal(err)
	}
	if len(got) != 10 {
		t.Errorf("%d figures", len(got))
	}
}
