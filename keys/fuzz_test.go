package keys

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// FuzzPlainFile: a file is read as words only where they are good ones in their one
// form, which a new file of them holds; an error repeats nothing of it.
func FuzzPlainFile(f *testing.F) {
	for _, s := range []string{words + "\n", strings.ToUpper(words), words + "\n" + words, "", "secretsecretsecret", words[:40], "\xff", strings.Repeat(" ", 70_000)} {
		f.Add([]byte(s))
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, raw []byte) {
		path, copied := filepath.Join(dir, "seed"), filepath.Join(dir, "copy")
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := ReadPlain(path)
		if err != nil {
			if !errors.Is(err, ErrDamaged) || got != "" {
				t.Fatalf("%q and %v", got, err)
			}
			silent(t, raw, err)
			return
		}
		if err := WritePlain(copied, got); err != nil {
			t.Fatal(err)
		}
		again, err := ReadPlain(copied)
		if err := errors.Join(err, os.Remove(copied)); err != nil || again != got || strings.Join(strings.Fields(strings.ToLower(string(raw))), " ") != got {
			t.Fatalf("%q was read as %q, then as %q, %v", raw, got, again, err)
		}
	})
}

// silent fails where an error shows a longer word of what was read.
func silent(t *testing.T, raw []byte, err error) {
	t.Helper()
	for word := range strings.FieldsSeq(string(raw)) {
		if len(word) > 9 && strings.Contains(err.Error(), word) {
			t.Fatalf("the error repeats %q: %v", word, err)
		}
	}
}

// FuzzSealedFile: whatever a sealed file holds, it opens to the sealed words or fails
// as damaged or as of another passphrase, and never shows the words in an error.
func FuzzSealedFile(f *testing.F) {
	dir := f.TempDir()
	path := filepath.Join(dir, "seed.age")
	if err := SealWith(path, words, "pass", 1); err != nil {
		f.Fatal(err)
	}
	good, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte{}, uint16(0), byte(0))
	f.Add([]byte{}, uint16(30), byte(1))
	f.Add([]byte{}, uint16(len(good)-1), byte(0x80))
	f.Add(good[:100], uint16(0), byte(0))
	f.Add(append(bytes.Clone(good), 0), uint16(0), byte(0))
	f.Add([]byte("age-encryption.org/v1\n-> scrypt AAAAAAAAAAAAAAAAAAAAAA 99\n"), uint16(0), byte(0))
	f.Fuzz(func(t *testing.T, raw []byte, at uint16, flip byte) {
		if len(raw) == 0 {
			raw = bytes.Clone(good)
			raw[int(at)%len(raw)] ^= flip
		}
		if bytes.Contains(raw, []byte("scrypt")) && !bytes.Contains(raw, []byte(" 1\n")) {
			return // other work factors: as slow as they say, or refused
		}
		path := filepath.Join(dir, "fuzz.age")
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := Open(path, "pass")
		switch {
		case err == nil && got != words:
			t.Fatalf("%q was opened to other words", raw)
		case bytes.Equal(raw, good) && err != nil:
			t.Fatal(err)
		case err != nil && !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrPassphrase):
			t.Fatalf("%q: %v", raw, err)
		case err != nil:
			silent(t, []byte(words), err)
		}
		if other, err := Open(path, "another"); err == nil {
			t.Fatalf("another passphrase opens %q: %q", raw, other)
		}
	})
}

// FuzzPassphraseFile: a passphrase is the one line of its file, whole, and never
// appears in an error.
func FuzzPassphraseFile(f *testing.F) {
	for _, s := range []string{"pass\n", "pass\r\n", "pass", "", "\n", "two\nlines", "nul\x00", " spaces stay ", strings.Repeat("p", 65_537), "\r"} {
		f.Add([]byte(s))
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, raw []byte) {
		path := filepath.Join(dir, "pass")
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := Passphrase(path, 0, "")
		if err != nil {
			if !errors.Is(err, ErrPassphrase) || got != "" {
				t.Fatalf("%q and %v", got, err)
			}
			silent(t, raw, err)
			return
		}
		if got == "" || strings.ContainsAny(got, "\r\n\x00") || !bytes.HasPrefix(raw, []byte(got)) || len(raw)-len(got) > 2 {
			t.Fatalf("%q was read as %q", raw, got)
		}
	})
}
