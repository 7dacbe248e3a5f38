package content

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/spillway/spillway/content/bao"
	"lukechampine.com/blake3"
)

// The versions of manifests that are made and understood here. A file whose first
// chunks are free has the second; every other one the first, unchanged.
const (
	ManifestVersion = 1
	VersionFree     = 2
)

// What can be wrong with a manifest.
var (
	// ErrManifest: the JSON is not a manifest, or its fields contradict each
	// other.
	ErrManifest = errors.New("invalid manifest")
	// ErrManifestVersion: a manifest of another version.
	ErrManifestVersion = errors.New("unknown manifest version")
	// ErrManifestSignature: not signed by the provider that it names.
	ErrManifestSignature = errors.New("manifest signature is wrong")
	// ErrRange: bytes or chunks outside the file.
	ErrRange = bao.ErrRange
)

// Hash is a plain BLAKE3 root.
type Hash [32]byte

// String returns the hash in lower-case hex.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// ParseHash reads 64 hex digits.
func ParseHash(s string) (Hash, error) {
	var h Hash
	if err := unhex(h[:], s); err != nil {
		return Hash{}, fmt.Errorf("hash: %w", err)
	}
	return h, nil
}

// ProviderKey is a provider's Ed25519 identity.
type ProviderKey [ed25519.PublicKeySize]byte

// String returns the key in lower-case hex.
func (k ProviderKey) String() string { return hex.EncodeToString(k[:]) }

// Signature is an Ed25519 signature.
type Signature [ed25519.SignatureSize]byte

// String returns the signature in lower-case hex.
func (s Signature) String() string { return hex.EncodeToString(s[:]) }

// unhex fills dst from lower-case hex digits, exactly.
func unhex(dst []byte, s string) error {
	if len(s) != 2*len(dst) {
		return fmt.Errorf("%w: %d hex digits wanted", ErrSyntax, 2*len(dst))
	}
	if _, err := hex.Decode(dst, []byte(s)); err != nil || hex.EncodeToString(dst) != s {
		return fmt.Errorf("%w: lower-case hex wanted", ErrSyntax)
	}
	return nil
}

// Manifest describes a file for sale (docs/protocol.md, Prices). Sizes are in
// bytes, prices in msat.
type Manifest struct {
	Version       int         // ManifestVersion, or VersionFree where FreeChunks is not 0
	Name          string      // path in the catalogue, with slashes, as CheckName demands
	Size          uint64      // bytes, at most MaxSize
	Root          Hash        // plain BLAKE3 of the file
	ChunkBytes    uint64      // of each chunk but the last, which may be shorter
	GroupBytes    uint32      // GroupFor(ChunkBytes)
	ChunkMsat     uint64      // price of each chunk but the last
	LastChunkMsat uint64      // price of the last chunk
	FreeChunks    uint64      // so many chunks at the beginning cost nothing; less than all
	Provider      ProviderKey // who signed
	Signature     Signature   // over every field above
}

// NewManifest returns an unsigned manifest for a file, with its chunk and
// group sizes and its prices worked out. Errors: those of ChunkSpec.For,
// PriceSpec.Apply and CheckName.
func NewManifest(name string, size uint64, root Hash, chunk ChunkSpec, price PriceSpec) (Manifest, error) {
	return Terms{Price: price, Chunk: chunk}.Manifest(name, size, root)
}

// Validate checks everything but the signature: ErrManifestVersion, ErrName,
// or ErrManifest with what is wrong.
func (m Manifest) Validate() error {
	if m.Version != ManifestVersion && m.Version != VersionFree {
		return fmt.Errorf("%w: %d", ErrManifestVersion, m.Version)
	}
	if err := CheckName(m.Name); err != nil {
		return err
	}
	invalid := func(why string) error { return fmt.Errorf("%w: %s", ErrManifest, why) }
	switch {
	case m.Size > MaxSize:
		return invalid("size above 2^53-1")
	case m.ChunkBytes == 0 || m.ChunkBytes > MaxSize:
		return invalid("chunk size is zero or above 2^53-1")
	case m.GroupBytes != GroupFor(m.ChunkBytes):
		return invalid("group size does not follow from the chunk size")
	}
	n := m.Chunks()
	if (m.Version == VersionFree) != (m.FreeChunks > 0) || m.FreeChunks > 0 && m.FreeChunks >= n {
		return invalid("its free chunks do not fit its version, or are all that it has")
	}
	if _, ok := totalMsat(n, m.ChunkMsat, m.LastChunkMsat); !ok || m.ChunkMsat > MaxMsat {
		return invalid("price above 21 million btc")
	}
	if n == 0 && (m.ChunkMsat != 0 || m.LastChunkMsat != 0) {
		return invalid("an empty file has a price")
	}
	if n == 0 && m.Root != blake3.Sum256(nil) {
		return invalid("an empty file has another root")
	}
	if n == 1 && m.ChunkMsat != m.LastChunkMsat {
		return invalid("one chunk has two prices")
	}
	return nil
}

// tag separates manifests from whatever else the identity signs.
const tag = "spillway/manifest"

// Digest returns what is signed: the BIP340-style tagged SHA-256 of the fields
// in order, integers big-endian, the name after its length.
func (m Manifest) Digest() [32]byte {
	t := sha256.Sum256([]byte(tag))
	b := append(t[:], t[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(m.Version))
	b = binary.BigEndian.AppendUint64(b, uint64(len(m.Name)))
	b = append(b, m.Name...)
	b = binary.BigEndian.AppendUint64(b, m.Size)
	b = append(b, m.Root[:]...)
	b = binary.BigEndian.AppendUint64(b, m.ChunkBytes)
	b = binary.BigEndian.AppendUint32(b, m.GroupBytes)
	b = binary.BigEndian.AppendUint64(b, m.ChunkMsat)
	b = binary.BigEndian.AppendUint64(b, m.LastChunkMsat)
	if m.Version == VersionFree {
		b = binary.BigEndian.AppendUint64(b, m.FreeChunks)
	}
	b = append(b, m.Provider[:]...)
	return sha256.Sum256(b)
}

// Sign sets the provider and the signature. It refuses what Validate refuses.
func (m *Manifest) Sign(identity ed25519.PrivateKey) error {
	if len(identity) != ed25519.PrivateKeySize {
		return fmt.Errorf("%w: not an Ed25519 private key", ErrManifestSignature)
	}
	if err := m.Validate(); err != nil {
		return err
	}
	copy(m.Provider[:], identity.Public().(ed25519.PublicKey))
	digest := m.Digest()
	copy(m.Signature[:], ed25519.Sign(identity, digest[:]))
	return nil
}

// Verify checks the fields, as Validate does, and the signature:
// ErrManifestSignature. Whether the provider is the one expected is for the
// caller to compare.
func (m Manifest) Verify() error {
	if err := m.Validate(); err != nil {
		return err
	}
	digest := m.Digest()
	if !ed25519.Verify(m.Provider[:], digest[:], m.Signature[:]) {
		return ErrManifestSignature
	}
	return nil
}

// Chunks returns how many chunks the file has; an empty file has none.
func (m Manifest) Chunks() uint64 { return chunkCount(m.Size, m.ChunkBytes) }

// ChunkRange returns the first byte and the length of chunk i; nothing, at the
// end of the file, where there is no such chunk.
func (m Manifest) ChunkRange(i uint64) (off, length uint64) {
	if i >= m.Chunks() {
		return m.Size, 0
	}
	off = i * m.ChunkBytes
	return off, min(m.ChunkBytes, m.Size-off)
}

// ChunkPrice returns the price of chunk i in msat; 0 where there is no such
// chunk.
func (m Manifest) ChunkPrice(i uint64) uint64 {
	switch n := m.Chunks(); {
	case i >= n, i < m.FreeChunks:
		return 0
	case i == n-1:
		return m.LastChunkMsat
	}
	return m.ChunkMsat
}

// TotalMsat returns the price of the whole file in msat.
func (m Manifest) TotalMsat() uint64 {
	total, _ := totalMsat(m.Chunks()-m.FreeChunks, m.ChunkMsat, m.LastChunkMsat)
	return total
}

// FreeBytes returns how many bytes at the beginning cost nothing: all of a file
// that is given away.
func (m Manifest) FreeBytes() uint64 {
	if m.TotalMsat() == 0 {
		return m.Size
	}
	return m.FreeChunks * m.ChunkBytes
}

// ChunksTouched returns the first and the last chunk that the bytes a to b,
// inclusive, touch. ErrRange where they are not in the file.
func (m Manifest) ChunksTouched(a, b uint64) (first, last uint64, err error) {
	if a > b || b >= m.Size {
		return 0, 0, fmt.Errorf("%w: bytes %d-%d of %d", ErrRange, a, b, m.Size)
	}
	return a / m.ChunkBytes, b / m.ChunkBytes, nil
}

// RangeMsat returns the price in msat of the chunks first to last, inclusive.
// ErrRange where they are not in the file.
func (m Manifest) RangeMsat(first, last uint64) (uint64, error) {
	n := m.Chunks()
	if first > last || last >= n {
		return 0, fmt.Errorf("%w: chunks %d-%d of %d", ErrRange, first, last, n)
	}
	if first = max(first, m.FreeChunks); first > last {
		return 0, nil
	}
	if last < n-1 {
		return (last - first + 1) * m.ChunkMsat, nil
	}
	return (last-first)*m.ChunkMsat + m.LastChunkMsat, nil
}

// Slice names the slice of length bytes from off, for bao.DecodeSlice.
func (m Manifest) Slice(off, length uint64) bao.Slice {
	return bao.Slice{Root: m.Root, Size: m.Size, GroupBytes: m.GroupBytes, Offset: off, Length: length}
}

// ReadManifest reads a manifest from r, to its end: at most MaxManifestBytes,
// ErrManifest where it is longer or not a manifest. The signature is not
// checked: call Verify.
func ReadManifest(r io.Reader) (Manifest, error) {
	b, err := io.ReadAll(io.LimitReader(r, MaxManifestBytes+1))
	if err != nil {
		return Manifest{}, fmt.Errorf("read manifest: %w", err)
	}
	var m Manifest
	return m, m.UnmarshalJSON(b)
}
