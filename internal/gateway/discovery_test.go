package gateway_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/spillway/spillway/internal/gateway/edgetest"
)

// TestDescriptionsHideNoFile: what describes the service is served where no file has its
// name, and follows the catalogue.
func TestDescriptionsHideNoFile(t *testing.T) {
	s := edgetest.New(t, edgetest.Config{Files: map[string][]byte{"openapi.json": edgetest.Pattern(1000, 1), "a b.bin": edgetest.Pattern(2_000_000, 2)}})
	get := func(path string) (int, string) {
		resp, err := http.Get(s.Server.URL + path)
		s.Must(err)
		body, err := io.ReadAll(resp.Body)
		s.Must(err)
		s.Must(resp.Body.Close())
		return resp.StatusCode, string(body)
	}
	if status, _ := get("/openapi.json"); status != http.StatusPaymentRequired {
		t.Errorf("the file that is for sale: %d", status)
	}
	status, text := get("/llms.txt")
	if status != http.StatusOK || !strings.Contains(text, "`GET /a%20b.bin`") || !strings.Contains(text, "1000 sat") {
		t.Errorf("%d %s", status, text)
	}
	s.Put("new.bin", edgetest.Pattern(10, 3))
	s.Reprice("free")
	if _, text := get("/llms.txt"); !strings.Contains(text, "`GET /new.bin`: free") {
		t.Errorf("%s", text)
	}
}
