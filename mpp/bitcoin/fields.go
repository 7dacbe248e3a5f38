package bitcoin

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/spillway/spillway/internal/curve"
	"github.com/spillway/spillway/mpp"
)

// Bounds of what is read.
const (
	// MaxSat is all the satoshi there can be.
	MaxSat uint64 = 21e14
	// MaxMsat is the same in millisatoshi.
	MaxMsat = MaxSat * 1000
	// maxCount bounds JSON numbers: beyond it a double is not exact.
	maxCount uint64 = 1<<53 - 1
	// maxHeight is where nLockTime stops being a height.
	maxHeight = 500_000_000 - 1
	maxScript = 34      // bytes, P2TR and P2WSH
	maxTx     = 400_000 // bytes, more than any standard transaction
	minTx     = 60      // bytes, one input and one output
	minSig    = 9       // bytes, the shortest DER and its flag
	maxSig    = 73      // bytes, the longest DER and its flag
	nonceLen  = 66      // bytes, a public MuSig2 nonce
	maxText   = 1024    // bytes, texts for people
	maxTypes  = 16      // entries
)

// presence says whether a field must be there.
type presence bool

const (
	need presence = true
	may  presence = false
)

// fields reads an object field by field and keeps the first error.
type fields struct {
	kind error
	path string
	obj  map[string]any
	err  error
}

// parse starts reading a JSON text that must be an object.
func parse(kind error, data []byte) *fields {
	obj, err := mpp.ParseObject(data)
	f := &fields{kind: kind, obj: obj}
	if err != nil {
		f.err = fmt.Errorf("%w: %w", kind, err)
	}
	return f
}

func (f *fields) fail(name, format string, args ...any) {
	if f.err == nil {
		f.err = &FieldError{f.kind, f.path + name, fmt.Sprintf(format, args...)}
	}
}

func (f *fields) has(name string) bool {
	_, ok := f.obj[name]
	return ok
}

// get returns a field's value; ok is false where it is absent or an error is
// known already.
func (f *fields) get(name string, p presence) (v any, ok bool) {
	if f.err != nil {
		return nil, false
	}
	if v, ok = f.obj[name]; !ok && p == need {
		f.fail(name, "is missing")
	}
	return v, ok
}

func (f *fields) text(name string, p presence) string {
	v, ok := f.get(name, p)
	if !ok {
		return ""
	}
	s, ok := v.(string)
	switch {
	case !ok:
		f.fail(name, "is not a string")
	case p == need && s == "":
		f.fail(name, "is empty")
	}
	return s
}

// amount reads money: a decimal string in its one canonical form.
func (f *fields) amount(name string, limit uint64, p presence) uint64 {
	if !f.has(name) && p == may {
		return 0
	}
	s := f.text(name, need)
	if f.err != nil {
		return 0
	}
	n, err := strconv.ParseUint(s, 10, 64)
	switch {
	case strings.Trim(s, "0123456789") != "" || s[0] == '0' && s != "0":
		f.fail(name, "is not a decimal string without leading zeros")
	case err != nil || n > limit:
		f.fail(name, "is more than %d", limit)
	}
	return n
}

// count reads a JSON number that is a whole one.
func (f *fields) count(name string, limit uint64, p presence) uint64 {
	v, ok := f.get(name, p)
	if !ok {
		return 0
	}
	number, ok := v.(json.Number)
	if !ok {
		f.fail(name, "is not a number")
		return 0
	}
	n, err := strconv.ParseUint(string(number), 10, 64)
	if err != nil || n > limit {
		f.fail(name, "is not a whole number from 0 to %d", limit)
	}
	return n
}

func (f *fields) height(name string, p presence) uint32 { return uint32(f.count(name, maxHeight, p)) }

// bytes reads lower-case hex of a length in bytes.
func (f *fields) bytes(name string, least, most int, p presence) []byte {
	if !f.has(name) && p == may {
		return nil
	}
	s := f.text(name, need)
	if f.err != nil {
		return nil
	}
	if len(s) > 2*most || len(s) < 2*least {
		f.fail(name, "is not %s long", lengths(least, most))
		return nil
	}
	b, err := hex.DecodeString(s)
	if err != nil || strings.ToLower(s) != s {
		f.fail(name, "is not lower-case hex")
	}
	return b
}

func lengths(least, most int) string {
	if least == most {
		return fmt.Sprintf("%d bytes", least)
	}
	return fmt.Sprintf("%d to %d bytes", least, most)
}

func (f *fields) key(name string) (k [33]byte) {
	b := f.bytes(name, len(k), len(k), need)
	if f.err != nil {
		return k
	}
	if _, err := curve.Parse(b); err != nil {
		f.fail(name, "is not a compressed public key")
	}
	copy(k[:], b)
	return k
}

func (f *fields) outpoint(name string) string {
	s := f.text(name, need)
	if f.err == nil && !isOutpoint(s) {
		f.fail(name, "is not txid:vout")
	}
	return s
}

// isOutpoint reports whether s is txid:vout in its one canonical form.
func isOutpoint(s string) bool {
	txid, vout, ok := strings.Cut(s, ":")
	if !ok || !isHex(txid, 32) {
		return false
	}
	n, err := strconv.ParseUint(vout, 10, 32)
	return err == nil && strconv.FormatUint(n, 10) == vout
}

// isHex reports whether s is that many bytes in lower-case hex.
func isHex(s string, n int) bool {
	return len(s) == 2*n && strings.Trim(s, "0123456789abcdef") == ""
}

func (f *fields) list(name string) []string {
	v, ok := f.get(name, need)
	if !ok {
		return nil
	}
	list, ok := v.([]any)
	if !ok || len(list) == 0 || len(list) > maxTypes {
		f.fail(name, "is not a list of 1 to %d strings", maxTypes)
		return nil
	}
	out := make([]string, len(list))
	for i, e := range list {
		s, ok := e.(string)
		if !ok || s == "" {
			f.fail(name, "is not a list of strings")
			return nil
		}
		out[i] = s
	}
	return out
}

// in opens an object inside this one.
func (f *fields) in(name string) *fields {
	v, ok := f.get(name, need)
	sub := &fields{kind: f.kind, path: f.path + name + ".", err: f.err}
	if !ok {
		return sub
	}
	if sub.obj, ok = v.(map[string]any); !ok {
		f.fail(name, "is not an object")
		sub.err = f.err
	}
	return sub
}

// object is an object to be written. Absent fields are left out of it.
type object map[string]any

func (o object) text(name, s string) {
	if s != "" {
		o[name] = s
	}
}

func (o object) bytes(name string, b []byte) {
	if len(b) > 0 {
		o[name] = hex.EncodeToString(b)
	}
}

func (o object) count(name string, n uint64) {
	if n != 0 {
		o[name] = n
	}
}

func dec(n uint64) string { return strconv.FormatUint(n, 10) }
