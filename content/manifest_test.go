package content_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/spillway/spillway/content"
	"lukechampine.com/blake3"
	"pgregory.net/rapid"
)

func identity() ed25519.PrivateKey { return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, 32)) }

func signed(t testing.TB) content.Manifest {
	t.Helper()
	price, err := content.ParsePrice("1btc/file")
	if err != nil {
		t.Fatal(err)
	}
	m, err := content.NewManifest("films/f.bin", 50_000_000, content.Hash{1, 2, 3}, content.ChunkSpec{Count: 100}, price)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Sign(identity()); err != nil {
		t.Fatal(err)
	}
	return m
}

// The signed encoding and the wire form are frozen: old manifests must verify.
func TestManifestVector(t *testing.T) {
	m := signed(t)
	digest := m.Digest()
	if got := hex.EncodeToString(digest[:]); got != manifestDigest {
		t.Errorf("digest %s, want %s", got, manifestDigest)
	}
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	if string(b) != manifestWire {
		t.Errorf("wire form\n%s, want\n%s", b, manifestWire)
	}
}

const (
	manifestDigest = "517e2f5086306b1122aefc0d71fab4562837d43a34603e6f9de4eb2895508f42"
	manifestWire   = `{"version":1,"name":"films/f.bin","size":50000000,` +
		`"root":"0102030000000000000000000000000000000000000000000000000000000000",` +
		`"chunkBytes":500000,"groupBytes":8192,"chunkMsat":"1000000000","lastChunkMsat":"1000000000",` +
		`"provider":"ea4a6c63e29c520abef5507b132ec5f9954776aebebe7b92421eea691446d22c",` +
		`"signature":"8ac862ccd130d3bf6f5e4b6ff04fee6f8597480a5201d0fca1ad807b14f3d190` +
		`d0081ef1f7ce441e8944609f307ff318d321ad2b532e99fda72a126eec741405"}`
)

func TestManifestArithmetic(t *testing.T) {
	m := signed(t)
	if m.Chunks() != 100 || m.ChunkBytes != 500_000 || m.GroupBytes != 8192 || m.TotalMsat() != 1e11 {
		t.Fatalf("%+v", m)
	}
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.Uint64Range(0, 10_000).Draw(t, "size")
		spec := content.ChunkSpec{Bytes: rapid.Uint64Range(1, 12_000).Draw(t, "chunk")}
		price := content.PriceSpec{Msat: rapid.Uint64Range(1, 1e6).Draw(t, "msat"), File: rapid.Bool().Draw(t, "file"), PerBytes: 100}
		root := content.Hash{}
		if size == 0 {
			root = blake3.Sum256(nil)
		}
		m, err := content.NewManifest("f", size, root, spec, price)
		if err != nil {
			t.Fatal(err)
		}
		var next, total uint64
		for i := range m.Chunks() {
			off, n := m.ChunkRange(i)
			if off != next || n == 0 || n > m.ChunkBytes {
				t.Fatalf("chunk %d: %d+%d after %d", i, off, n, next)
			}
			first, last, err := m.ChunksTouched(off, off+n-1)
			if err != nil || first != i || last != i {
				t.Fatalf("chunk %d touches %d to %d, %v", i, first, last, err)
			}
			next += n
			total += m.ChunkPrice(i)
			if msat, err := m.RangeMsat(0, i); err != nil || msat != total {
				t.Fatalf("chunks 0 to %d: %d msat, %v, want %d", i, msat, err, total)
			}
		}
		if next != size || total != m.TotalMsat() || (price.File && size > 0 && total != price.Msat) {
			t.Fatalf("chunks cover %d of %d, cost %d of %d", next, size, total, m.TotalMsat())
		}
		if _, n := m.ChunkRange(m.Chunks()); n != 0 || m.ChunkPrice(m.Chunks()) != 0 {
			t.Fatal("a chunk behind the last")
		}
		for _, r := range [][2]uint64{{size, size}, {0, size}, {1, 0}} {
			if _, _, err := m.ChunksTouched(r[0], r[1]); !errors.Is(err, content.ErrRange) {
				t.Fatalf("bytes %v: %v", r, err)
			}
		}
		if _, err := m.RangeMsat(0, m.Chunks()); !errors.Is(err, content.ErrRange) {
			t.Fatal(err)
		}
	})
}

func TestManifestSignatureCoversEveryField(t *testing.T) {
	good := signed(t)
	if err := good.Verify(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*content.Manifest){
		"name":      func(m *content.Manifest) { m.Name = "films/g.bin" },
		"size":      func(m *content.Manifest) { m.Size-- },
		"root":      func(m *content.Manifest) { m.Root[31] ^= 1 },
		"chunk":     func(m *content.Manifest) { m.ChunkBytes++ },
		"price":     func(m *content.Manifest) { m.ChunkMsat-- },
		"last":      func(m *content.Manifest) { m.LastChunkMsat++ },
		"provider":  func(m *content.Manifest) { m.Provider[0] ^= 1 },
		"signature": func(m *content.Manifest) { m.Signature[0] ^= 1 },
	} {
		m := good
		change(&m)
		if err := m.Verify(); !errors.Is(err, content.ErrManifestSignature) {
			t.Errorf("%s changed: %v", name, err)
		}
	}
}

func TestManifestValidate(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*content.Manifest)
		want   error
	}{
		"version":             {func(m *content.Manifest) { m.Version = 3 }, content.ErrManifestVersion},
		"name":                {func(m *content.Manifest) { m.Name = "../f" }, content.ErrName},
		"size":                {func(m *content.Manifest) { m.Size = content.MaxSize + 1 }, content.ErrManifest},
		"no chunk size":       {func(m *content.Manifest) { m.ChunkBytes = 0 }, content.ErrManifest},
		"group not a power":   {func(m *content.Manifest) { m.GroupBytes = 8000 }, content.ErrManifest},
		"group of another":    {func(m *content.Manifest) { m.GroupBytes = 16384 }, content.ErrManifest},
		"total overflows":     {func(m *content.Manifest) { m.ChunkMsat = 1 << 62 }, content.ErrManifest},
		"total above 21e6":    {func(m *content.Manifest) { m.ChunkMsat = content.MaxMsat / 99 }, content.ErrManifest},
		"empty with price":    {func(m *content.Manifest) { m.Size = 0 }, content.ErrManifest},
		"empty, another root": {func(m *content.Manifest) { m.Size, m.ChunkMsat, m.LastChunkMsat = 0, 0, 0 }, content.ErrManifest},
		"one, two prices":     {func(m *content.Manifest) { m.Size = 5; m.ChunkMsat++ }, content.ErrManifest},
	} {
		m := signed(t)
		tt.change(&m)
		if err := m.Validate(); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v", name, err)
		}
		if err := m.Sign(identity()); !errors.Is(err, tt.want) {
			t.Errorf("%s: signed: %v", name, err)
		}
	}
	empty := content.Manifest{Version: 1, Name: "e", Root: blake3.Sum256(nil), ChunkBytes: 1 << 20, GroupBytes: 16384}
	if err := empty.Sign(identity()); err != nil || empty.Verify() != nil || empty.Chunks() != 0 || empty.TotalMsat() != 0 {
		t.Errorf("empty file: %v", err)
	}
	if err := empty.Sign(nil); !errors.Is(err, content.ErrManifestSignature) {
		t.Errorf("no identity: %v", err)
	}
}

func TestCheckName(t *testing.T) {
	for _, name := range []string{"f.bin", "a/b/c", "with space", "ünïcödé/文件 🎬.mkv", "100%", "a?b=c#d&e", "quote\"'", "a..b", "b.", "~", "-rf", "CON", "👨‍👩‍👧.jpg"} {
		if err := content.CheckName(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range []string{
		"", ".", "..", "../f", "a/../b", "/etc/passwd", "a/", "a//b", "./a", ".bashrc", "a/.ssh/b", "a\\b", "..\\f", "a\x00b", "a\nb", "a\x1b[2Jb", "a\x7f",
		"\xff\xfe", "evil\u202etxt.exe", "a\u2066b", "a\u2028b", "a\u0085b", strings.Repeat("a", 256), strings.Repeat("a/", 512) + "a",
	} {
		if err := content.CheckName(name); !errors.Is(err, content.ErrName) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestReadManifestIsStrict(t *testing.T) {
	m := signed(t)
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	got, err := content.ReadManifest(bytes.NewReader(b))
	if err != nil || got != m {
		t.Fatalf("%+v, %v", got, err)
	}
	s := string(b)
	replace := func(old, new string) string {
		if !strings.Contains(s, old) {
			t.Fatalf("%s is not in the manifest", old)
		}
		return strings.Replace(s, old, new, 1)
	}
	if got, err := content.ReadManifest(strings.NewReader(replace("{", `{"later":[{"x":1}],`))); err != nil || got != m {
		t.Errorf("unknown field: %v", err)
	}
	for name, in := range map[string]string{
		"empty": "", "array": "[]", "null": "null", "trailing": s + "{}", "cut": s[:len(s)-1], "two commas": replace(",", ",,"),
		"twice": replace("{", `{"size":1,`), "other case": replace(`"size"`, `"Size"`), "missing": replace(`"size":50000000,`, ""),
		"number as text": replace("50000000", `"50000000"`), "float": replace("50000000", "5e7"), "negative": replace("50000000", "-1"),
		"leading zero in text": replace(`"1000000000"`, `"01"`), "amount as number": replace(`"1000000000"`, "1000000000"),
		"above 2^53": replace("50000000", "9007199254740992"), "null field": replace("50000000", "null"),
		"upper-case hex": replace("0102", "0102"[:2]+"AB"), "short hex": replace("010203", "0102"), "name is null": replace(`"films/f.bin"`, "null"),
		"too long": strings.Replace(s, "{", "{"+strings.Repeat(" ", content.MaxManifestBytes), 1),
	} {
		if _, err := content.ReadManifest(strings.NewReader(in)); !errors.Is(err, content.ErrManifest) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := content.ReadManifest(strings.NewReader(replace(`"version":1`, `"version":3`))); !errors.Is(err, content.ErrManifestVersion) {
		t.Errorf("version 3: %v", err)
	}
}

// FuzzManifest: a manifest that is read is written and read as the same, and costs no more than
// there is.
func FuzzManifest(f *testing.F) {
	m := signed(f)
	b, err := json.Marshal(m)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"version":1}`))
	f.Add([]byte(`{"version":1,"version":1}`))
	f.Add([]byte(`{"size":-1,"name":"\ud800"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := content.ReadManifest(bytes.NewReader(b))
		if err != nil {
			return
		}
		again, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := content.ReadManifest(bytes.NewReader(again)); err != nil || back != m {
			t.Fatalf("%s: written %s, read %+v, %v", b, again, back, err)
		}
		if m.Validate() == nil && m.TotalMsat() > content.MaxMsat {
			t.Fatalf("%s: total %d", b, m.TotalMsat())
		}
	})
}
