package bitcoin

import (
	"encoding/hex"
	"fmt"
	"maps"

	"github.com/spillway/spillway/mpp"
)

// nonceName is the member of opaque that K2 is derived from.
const nonceName = "nonce"

// Opaque is what a challenge of this method has the client return: the nonce
// that the payee derives K2 from, and whatever else the server wants back.
type Opaque struct {
	Nonce [16]byte          // 124 bits: the four highest are zero
	More  map[string]string // may be nil; must not hold "nonce"
}

// Encode returns the opaque parameter. Errors: ErrOpaque.
func (o Opaque) Encode() (string, error) {
	if o.Nonce[0]>>4 != 0 {
		return "", &FieldError{ErrOpaque, nonceName, "is not below 2^124"}
	}
	if _, ok := o.More[nonceName]; ok {
		return "", &FieldError{ErrOpaque, nonceName, "is there twice"}
	}
	flat := map[string]string{nonceName: hex.EncodeToString(o.Nonce[:])}
	maps.Copy(flat, o.More)
	s, err := mpp.EncodeOpaque(flat)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrOpaque, err)
	}
	return s, nil
}

// ParseOpaque decodes the opaque parameter of a challenge of this method. Verify
// the challenge first: anybody can write an opaque. Errors: ErrOpaque.
func ParseOpaque(s string) (Opaque, error) {
	flat, err := mpp.DecodeOpaque(s)
	if err != nil {
		return Opaque{}, fmt.Errorf("%w: %w", ErrOpaque, err)
	}
	var o Opaque
	text := flat[nonceName]
	if !isHex(text, len(o.Nonce)) || text[0] != '0' {
		return Opaque{}, &FieldError{ErrOpaque, nonceName, "is not 16 bytes of lower-case hex below 2^124"}
	}
	if _, err := hex.Decode(o.Nonce[:], []byte(text)); err != nil {
		return Opaque{}, &FieldError{ErrOpaque, nonceName, err.Error()}
	}
	delete(flat, nonceName)
	if len(flat) > 0 {
		o.More = flat
	}
	return o, nil
}
