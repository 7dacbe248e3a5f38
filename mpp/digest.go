package mpp

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strings"
)

// Digest is the digest parameter for a request's body. RFC 9530;
// draft-httpauth-payment-02 section 5.1.3.
func Digest(body []byte) string {
	sum := sha256.Sum256(body)
	return "sha-256=:" + base64.StdEncoding.EncodeToString(sum[:]) + ":"
}

// CheckDigest checks a body against a digest parameter; an empty one asks for
// nothing. The colons of RFC 9530 may be missing, as some leave them out.
// Errors: ErrDigest. draft-httpauth-payment-02 section 5.1.3.
func CheckDigest(digest string, body []byte) error {
	if digest == "" {
		return nil
	}
	want := strings.ReplaceAll(Digest(body), ":", "")
	got := digest
	if name, value, ok := strings.Cut(digest, "="); ok && len(value) > 1 && value[0] == ':' && strings.HasSuffix(value, ":") {
		got = name + "=" + value[1:len(value)-1]
	}
	if subtle.ConstantTimeCompare([]byte(got), []byte(want)) != 1 {
		return fmt.Errorf("%w: %.100q", ErrDigest, digest)
	}
	return nil
}
