package keys

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"

	"filippo.io/age"

	"github.com/spillway/spillway/internal/durable"
)

// maxFile bounds a seed file and a passphrase, in bytes.
const maxFile = 64 << 10

// WorkFactor is the scrypt work factor of Seal as a power of two: about a second
// and 256 MiB. Open takes files up to maxWorkFactor.
const (
	WorkFactor    = 18
	maxWorkFactor = 20
)

// Seal writes words to a file that the passphrase opens, mode 0600: an age file
// with a scrypt recipient. It is written atomically and durably, and never
// overwrites a seed. An empty passphrase and what are no words are refused.
// Errors: ErrExists, ErrPassphrase, ErrWords, of the file system.
func Seal(path, words, passphrase string) error {
	return SealWith(path, words, passphrase, WorkFactor)
}

// SealWith is Seal with another work factor, from 1 to 20: a low one makes tests
// fast and a seed easy to steal.
func SealWith(path, words, passphrase string, factor int) error {
	words, err := checkWords(words)
	if err != nil {
		return err
	}
	if passphrase == "" {
		return fmt.Errorf("%w: it is empty", ErrPassphrase)
	}
	if factor < 1 || factor > maxWorkFactor {
		return fmt.Errorf("a work factor is from 1 to %d, not %d", maxWorkFactor, factor)
	}
	to, err := age.NewScryptRecipient(passphrase)
	if err != nil {
		return fmt.Errorf("%w: it cannot be used", ErrPassphrase)
	}
	to.SetWorkFactor(factor)
	var b bytes.Buffer
	w, err := age.Encrypt(&b, to)
	if err != nil {
		return err
	}
	if _, err := io.WriteString(w, words+"\n"); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	return create(path, b.Bytes())
}

// Open reads words that Seal wrote.
// Errors: ErrNoSeed, ErrPassphrase, ErrDamaged, ErrPermissions, of the file system.
func Open(path, passphrase string) (string, error) {
	raw, err := read(path)
	if err != nil {
		return "", err
	}
	if passphrase == "" {
		return "", fmt.Errorf("%w: none was given", ErrPassphrase)
	}
	id, err := age.NewScryptIdentity(passphrase)
	if err != nil {
		return "", fmt.Errorf("%w: it cannot be used", ErrPassphrase)
	}
	id.SetMaxWorkFactor(maxWorkFactor)
	r, err := age.Decrypt(bytes.NewReader(raw), id)
	var wrong *age.NoIdentityMatchError
	if errors.As(err, &wrong) {
		if slices.Contains(wrong.StanzaTypes, "scrypt") {
			return "", ErrPassphrase
		}
		return "", fmt.Errorf("%w: %s is not sealed with a passphrase", ErrDamaged, path)
	} else if err != nil {
		return "", fmt.Errorf("%w: %s: %v", ErrDamaged, path, err)
	}
	text, err := io.ReadAll(io.LimitReader(r, maxFile))
	if err != nil {
		return "", fmt.Errorf("%w: %s: %v", ErrDamaged, path, err)
	}
	return damagedWords(path, text)
}

// damagedWords are the words of a file that was read. Errors: ErrDamaged.
func damagedWords(path string, text []byte) (string, error) {
	words, err := checkWords(string(text))
	if err != nil {
		return "", fmt.Errorf("%w: %s: %w", ErrDamaged, path, err)
	}
	return words, nil
}

// WritePlain writes words to a file of mode 0600 without a passphrase, for
// regtest. It never overwrites. Errors: ErrExists, ErrWords, of the file system.
func WritePlain(path, words string) error {
	words, err := checkWords(words)
	if err != nil {
		return err
	}
	return create(path, []byte(words+"\n"))
}

// ReadPlain reads what WritePlain wrote.
// Errors: ErrNoSeed, ErrDamaged, ErrPermissions, of the file system.
func ReadPlain(path string) (string, error) {
	raw, err := read(path)
	if err != nil {
		return "", err
	}
	return damagedWords(path, raw)
}

// read reads a seed's file, if it is one that nobody else can read.
func read(path string) (raw []byte, err error) {
	info, err := os.Stat(path) // first: opening a pipe would wait for its other end
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w at %s", ErrNoSeed, path)
	} else if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: %s is no file", ErrDamaged, path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if info, err = f.Stat(); err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%w: %s has mode %04o; make it 0600", ErrPermissions, path, info.Mode().Perm())
	}
	raw, err = io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && (len(raw) == 0 || len(raw) > maxFile) {
		err = fmt.Errorf("%w: %s has %d bytes", ErrDamaged, path, info.Size())
	}
	return raw, err
}

// create writes a new file of mode 0600, whose name must be free. Errors: ErrExists.
func create(path string, data []byte) error {
	err := durable.Create(path, data)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%w: %s", ErrExists, path)
	}
	return err
}
