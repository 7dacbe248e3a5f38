package bench

import "testing"

// The middleware is measured beside the bare handler, and under siege beside calm.
func TestMiddleware(t *testing.T) {
	var got []Figure
	if err := Middleware(t.Context(), small(t), sound(t, &got)); err != nil {
		t.Fatal(err)
	}
	if len(got) != 6 {
		t.Errorf("%d figures", len(got))
	}
}
