package script

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// hexBytes is a string of hex digits in JSON; null stays nil.
type hexBytes []byte

func (h *hexBytes) UnmarshalJSON(raw []byte) error {
	var s *string
	if err := json.Unmarshal(raw, &s); err != nil || s == nil {
		return err
	}
	b, err := hex.DecodeString(*s)
	*h = append([]byte{}, b...)
	return err
}

func official(t *testing.T, into any, path ...string) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(append([]string{"testdata"}, path...)...))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, into); err != nil {
		t.Fatal(err)
	}
}

func pick[T any](from []T, indices []int) (picked []T) {
	for _, i := range indices {
		picked = append(picked, from[i])
	}
	return picked
}
