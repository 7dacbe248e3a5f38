package keys

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"filippo.io/age"
)

// fast is a work factor for tests.
const fast = 4

// only checks that a folder holds nothing but these files, each of mode 0600.
func only(t *testing.T, dir string, names ...string) {
	t.Helper()
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != len(names) {
		t.Errorf("files left: %v, %v; want %v", left, err, names)
	}
	for _, name := range names {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
}

func TestSeal(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "seed.age")
	if _, err := Open(path, "x"); !errors.Is(err, ErrNoSeed) || !strings.Contains(err.Error(), path) {
		t.Errorf("nothing there: %v", err)
	}
	if err := SealWith(path, words, "", fast); !errors.Is(err, ErrPassphrase) {
		t.Errorf("an empty passphrase: %v", err)
	}
	if err := SealWith(path, "no words", "x", fast); !errors.Is(err, ErrWords) {
		t.Errorf("no words: %v", err)
	}
	for _, factor := range []int{-1, 0, 21, 64} {
		if err := SealWith(path, words, "x", factor); err == nil {
			t.Errorf("a work factor of %d", factor)
		}
	}
	only(t, dir)
	if err := SealWith(path, " "+strings.ToUpper(words)+"\n", "correct horse", fast); err != nil {
		t.Fatal(err)
	}
	only(t, dir, "seed.age")
	raw, err := os.ReadFile(path)
	if err != nil || bytes.Contains(raw, []byte("abandon")) || !bytes.HasPrefix(raw, []byte("age-encryption.org/v1\n-> scrypt ")) {
		t.Fatalf("%q (%v)", raw, err)
	}
	if got, err := Open(path, "correct horse"); err != nil || got != words {
		t.Errorf("%q, %v", got, err)
	}
	for _, wrong := range []string{"", "correct", "correct horse ", "Correct horse"} {
		if got, err := Open(path, wrong); !errors.Is(err, ErrPassphrase) || got != "" {
			t.Errorf("passphrase %q: %q, %v", wrong, got, err)
		}
	}
	if err := SealWith(path, otherWords, "other", fast); !errors.Is(err, ErrExists) {
		t.Errorf("a second seed over the first: %v", err)
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, raw) {
		t.Errorf("the first seed was changed: %v", err)
	}
	only(t, dir, "seed.age")
}

// The default costs whoever guesses.
func TestSealDefault(t *testing.T) {
	path := filepath.Join(t.TempDir(), "seed.age")
	if err := Seal(path, words, "correct horse"); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	header, _, _ := strings.Cut(strings.SplitN(string(raw), "\n", 3)[1], "\r")
	if fields := strings.Fields(header); len(fields) != 4 || fields[3] != "18" {
		t.Errorf("the header is %q", header)
	}
	if got, err := Open(path, "correct horse"); err != nil || got != words {
		t.Errorf("%q, %v", got, err)
	}
}

// Of many that make a seed at once, one does, and its seed is the one that is there.
func TestSealOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "seed.age")
	const writers = 8
	var answers [writers]error
	var group sync.WaitGroup
	for w := range writers {
		group.Go(func() { answers[w] = SealWith(path, words, strings.Repeat("x", w+1), fast) })
	}
	group.Wait()
	winner := 0
	for w, err := range answers {
		switch {
		case err == nil && winner > 0:
			t.Errorf("%d and %d both made it", winner, w+1)
		case err == nil:
			winner = w + 1
		case !errors.Is(err, ErrExists):
			t.Error(err)
		}
	}
	if got, err := Open(path, strings.Repeat("x", winner)); err != nil || got != words {
		t.Errorf("%q, %v", got, err)
	}
	only(t, filepath.Dir(path), "seed.age")
}

// Every cut and every flipped bit of a sealed seed is noticed, and no error shows
// what the file or the passphrase holds.
func TestPitfall43_DamagedSeed(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "seed.age")
	if err := SealWith(path, words, "correct horse", 1); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	refused := func(text []byte, what string, at int) {
		t.Helper()
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := Open(path, "correct horse")
		if got != "" || !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrPassphrase) {
			t.Errorf("%s at %d: %q, %v", what, at, got, err)
		} else if strings.Contains(err.Error(), "abandon") || strings.Contains(err.Error(), "horse") {
			t.Errorf("%s at %d: the error shows a secret: %v", what, at, err)
		}
	}
	for i := range raw {
		refused(raw[:i], "cut", i)
		flipped := bytes.Clone(raw)
		flipped[i] ^= 1
		refused(flipped, "flipped", i)
	}
	refused(append(bytes.Clone(raw), 0), "longer", len(raw))
	refused(make([]byte, maxFile+1), "huge", 0)
}

// age files that Seal did not write.
func TestOtherAgeFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "seed.age")
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	slow, err := age.NewScryptRecipient("x")
	if err != nil {
		t.Fatal(err)
	}
	slow.SetWorkFactor(fast)
	for name, c := range map[string]struct {
		to   age.Recipient
		text string
	}{"to a key": {id.Recipient(), words}, "no words in it": {slow, "sentinel"}} {
		var b bytes.Buffer
		w, err := age.Encrypt(&b, c.to)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(c.text)); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(path, "x"); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "sentinel") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPlain(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "seed")
	if _, err := ReadPlain(path); !errors.Is(err, ErrNoSeed) {
		t.Errorf("nothing there: %v", err)
	}
	if err := WritePlain(path, "no words"); !errors.Is(err, ErrWords) {
		t.Errorf("no words: %v", err)
	}
	if err := WritePlain(path, words); err != nil {
		t.Fatal(err)
	}
	only(t, dir, "seed")
	if got, err := ReadPlain(path); err != nil || got != words {
		t.Errorf("%q, %v", got, err)
	}
	if err := WritePlain(path, otherWords); !errors.Is(err, ErrExists) {
		t.Errorf("over a seed: %v", err)
	}
	for _, text := range []string{"", "abandon", words[:len(words)-1], strings.Repeat(words+"\n", 1000)} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := ReadPlain(path); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "abandon") || got != "" {
			t.Errorf("%d bytes of text: %q, %v", len(text), got, err)
		}
	}
	if err := WritePlain(filepath.Join(dir, "missing", "seed"), words); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a folder that is not there: %v", err)
	}
}

// Whoever else could read the file: it is refused, whatever it holds.
func TestPitfall45_Permissions(t *testing.T) {
	dir := t.TempDir()
	plain, sealed := filepath.Join(dir, "seed"), filepath.Join(dir, "seed.age")
	if err := errors.Join(WritePlain(plain, words), SealWith(sealed, words, "x", fast)); err != nil {
		t.Fatal(err)
	}
	for _, mode := range []fs.FileMode{0o640, 0o604, 0o660, 0o644, 0o601, 0o777} {
		if err := errors.Join(os.Chmod(plain, mode), os.Chmod(sealed, mode)); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadPlain(plain); !errors.Is(err, ErrPermissions) || !strings.Contains(err.Error(), "make it 0600") {
			t.Errorf("plain, mode %v: %v", mode, err)
		}
		if _, err := Open(sealed, "x"); !errors.Is(err, ErrPermissions) {
			t.Errorf("sealed, mode %v: %v", mode, err)
		}
	}
	for _, mode := range []fs.FileMode{0o600, 0o400} {
		if err := os.Chmod(plain, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadPlain(plain); err != nil {
			t.Errorf("mode %v: %v", mode, err)
		}
	}
	if _, err := ReadPlain(dir); !errors.Is(err, ErrDamaged) {
		t.Errorf("a folder: %v", err)
	}
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadPlain(pipe); !errors.Is(err, ErrDamaged) {
		t.Errorf("a pipe: %v", err)
	}
}

func TestPassphrase(t *testing.T) {
	const env = "SPILLWAY_TEST_PASS"
	file := filepath.Join(t.TempDir(), "p")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv(env, "from the environment")
	for text, want := range map[string]string{"from a file \r\n": "from a file ", "x\n": "x", "x": "x", " x\r\n": " x", "ü€\n": "ü€"} {
		write(text)
		if got, err := Passphrase(file, 0, env); err != nil || got != want {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "\n", "\r\n", "one\ntwo\n", "one\n\n", "a\x00b", strings.Repeat("x", maxFile+1)} {
		write(text)
		if got, err := Passphrase(file, 0, env); !errors.Is(err, ErrPassphrase) || got != "" || strings.Contains(err.Error(), "two") {
			t.Errorf("%.9q: %.9q, %v", text, got, err)
		}
	}
	if got, err := Passphrase("", 0, env); err != nil || got != "from the environment" {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := Passphrase("", 0, env+"_OTHER"); err != nil || got != "" {
		t.Errorf("not set: %q, %v", got, err)
	}
	if got, err := Passphrase("", 0, ""); err != nil || got != "" {
		t.Errorf("none: %q, %v", got, err)
	}
	if _, err := Passphrase(file+"x", 0, env); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
	for _, fd := range []int{-1, 1, 2} {
		if _, err := Passphrase("", fd, env); !errors.Is(err, ErrPassphrase) {
			t.Errorf("descriptor %d: %v", fd, err)
		}
	}
}

func TestPassphraseFromDescriptor(t *testing.T) {
	var ends [2]int
	if err := syscall.Pipe2(ends[:], syscall.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	if _, err := syscall.Write(ends[1], []byte("from a descriptor\n")); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Close(ends[1]); err != nil {
		t.Fatal(err)
	}
	if got, err := Passphrase("", ends[0], ""); err != nil || got != "from a descriptor" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := Passphrase("", 1<<20, ""); err == nil {
		t.Error("a descriptor that is not open")
	}
}
