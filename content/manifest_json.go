package content

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
)

// MaxManifestBytes is the longest manifest that is read.
const MaxManifestBytes = 16 << 10

// manifestJSON is the form on the wire: sizes are JSON numbers, which are
// exact up to 2^53-1, amounts decimal strings, keys and hashes lower-case hex.
type manifestJSON struct {
	Version       int    `json:"version"`
	Name          string `json:"name"`
	Size          uint64 `json:"size"`
	Root          string `json:"root"`
	ChunkBytes    uint64 `json:"chunkBytes"`
	GroupBytes    uint32 `json:"groupBytes"`
	ChunkMsat     string `json:"chunkMsat"`
	LastChunkMsat string `json:"lastChunkMsat"`
	FreeChunks    uint64 `json:"freeChunks,omitempty"`
	Provider      string `json:"provider"`
	Signature     string `json:"signature"`
}

// MarshalJSON writes the manifest for the wire.
func (m Manifest) MarshalJSON() ([]byte, error) {
	return json.Marshal(manifestJSON{
		Version: m.Version, Name: m.Name, Size: m.Size, Root: m.Root.String(),
		ChunkBytes: m.ChunkBytes, GroupBytes: m.GroupBytes,
		ChunkMsat:     strconv.FormatUint(m.ChunkMsat, 10),
		LastChunkMsat: strconv.FormatUint(m.LastChunkMsat, 10),
		FreeChunks:    m.FreeChunks,
		Provider:      m.Provider.String(), Signature: m.Signature.String(),
	})
}

// UnmarshalJSON reads one JSON object with every field exactly once, in its
// exact spelling; other fields are ignored. ErrManifest or
// ErrManifestVersion. The fields' sense and the signature are left to Verify.
func (m *Manifest) UnmarshalJSON(b []byte) error {
	if len(b) > MaxManifestBytes {
		return fmt.Errorf("%w: longer than %d bytes", ErrManifest, MaxManifestBytes)
	}
	fields, err := objectFields(b)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrManifest, err)
	}
	r := fieldReader{fields: fields}
	version := r.number("version", 31)
	if r.err == nil && version != ManifestVersion && version != VersionFree {
		return fmt.Errorf("%w: %d", ErrManifestVersion, version)
	}
	got := Manifest{
		Version:       int(version),
		Name:          r.text("name"),
		Size:          r.number("size", 53),
		ChunkBytes:    r.number("chunkBytes", 53),
		GroupBytes:    uint32(r.number("groupBytes", 32)),
		ChunkMsat:     r.amount("chunkMsat"),
		LastChunkMsat: r.amount("lastChunkMsat"),
	}
	if version == VersionFree {
		got.FreeChunks = r.number("freeChunks", 53)
	}
	r.hex("root", got.Root[:])
	r.hex("provider", got.Provider[:])
	r.hex("signature", got.Signature[:])
	if r.err != nil {
		return fmt.Errorf("%w: %w", ErrManifest, r.err)
	}
	*m = got
	return nil
}

// objectFields returns the values of one JSON object by their exact names, and
// refuses a name that comes twice or anything behind the object.
func objectFields(b []byte) (map[string]json.RawMessage, error) {
	if !json.Valid(b) {
		return nil, fmt.Errorf("%w: not JSON", ErrSyntax)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, fmt.Errorf("%w: not a JSON object", ErrSyntax)
	}
	fields := map[string]json.RawMessage{}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrSyntax, err)
		}
		name, ok := key.(string)
		if _, twice := fields[name]; !ok || twice {
			return nil, fmt.Errorf("%w: field %.40q comes twice", ErrSyntax, name)
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrSyntax, err)
		}
		fields[name] = value
	}
	if _, err := d.Token(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSyntax, err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, fmt.Errorf("%w: more follows the object", ErrSyntax)
	}
	return fields, nil
}

// fieldReader takes fields out of an object and keeps the first error.
type fieldReader struct {
	fields map[string]json.RawMessage
	err    error
}

func (r *fieldReader) fail(name string, why error) {
	if r.err == nil {
		r.err = fmt.Errorf("field %s: %w", name, why)
	}
}

func (r *fieldReader) text(name string) string {
	raw := r.fields[name]
	var s string
	if len(raw) == 0 || raw[0] != '"' || json.Unmarshal(raw, &s) != nil {
		r.fail(name, fmt.Errorf("%w: a string wanted", ErrSyntax))
		return ""
	}
	return s
}

// number reads a whole number below 2^bits.
func (r *fieldReader) number(name string, bits int) uint64 {
	return r.digits(name, string(r.fields[name]), bits)
}

// amount reads a decimal string.
func (r *fieldReader) amount(name string) uint64 {
	s := r.text(name)
	if r.err != nil {
		return 0
	}
	return r.digits(name, s, 64)
}

// digits reads decimal digits without sign or leading zeros.
func (r *fieldReader) digits(name, s string, bits int) uint64 {
	n, err := strconv.ParseUint(s, 10, bits)
	if err != nil || strconv.FormatUint(n, 10) != s {
		r.fail(name, fmt.Errorf("%w: a whole number below 2^%d wanted", ErrSyntax, bits))
		return 0
	}
	return n
}

func (r *fieldReader) hex(name string, dst []byte) {
	s := r.text(name)
	if r.err != nil {
		return
	}
	if err := unhex(dst, s); err != nil {
		r.fail(name, err)
	}
}
