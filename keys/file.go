package keys

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"filippo.io/age"
)

// maxFile bounds a seed file, in bytes.
const maxFile = 64 << 10

// workFactor is age's scrypt work factor, 2^18: about a second.
const workFactor = 18

// Seal writes words to a file that the passphrase opens, mode 0600, atomically
// and durably. It never overwrites a seed. An empty passphrase is refused.
// Errors: ErrExists, ErrPassphrase, of the file system.
func Seal(path, words, passphrase string) error { return seal(path, words, passphrase, workFactor) }

func seal(path, words, passphrase string, factor int) error {
	if passphrase == "" {
		return fmt.Errorf("%w: it is empty", ErrPassphrase)
	}
	to, err := age.NewScryptRecipient(passphrase)
	if err != nil {
		return fmt.Errorf("%w: %v", ErrPassphrase, err)
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
// Errors: ErrNoSeed, ErrPassphrase, ErrDamaged, ErrPermissions.
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
		return "", fmt.Errorf("%w: %v", ErrPassphrase, err)
	}
	r, err := age.Decrypt(bytes.NewReader(raw), id)
	var wrong *age.NoIdentityMatchError
	if errors.As(err, &wrong) {
		return "", ErrPassphrase
	} else if err != nil {
		return "", fmt.Errorf("%w: %s: %v", ErrDamaged, path, err)
	}
	words, err := io.ReadAll(io.LimitReader(r, maxFile))
	if err != nil {
		return "", fmt.Errorf("%w: %s: %v", ErrDamaged, path, err)
	}
	return strings.TrimSpace(string(words)), nil
}

// WritePlain writes words to a file of mode 0600 without a passphrase, for
// regtest. It never overwrites. Errors: ErrExists, of the file system.
func WritePlain(path, words string) error { return create(path, []byte(words+"\n")) }

// ReadPlain reads what WritePlain wrote. Errors: ErrNoSeed, ErrPermissions.
func ReadPlain(path string) (string, error) {
	raw, err := read(path)
	return strings.TrimSpace(string(raw)), err
}

func read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w at %s", ErrNoSeed, path)
	} else if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%w: %s has mode %04o", ErrPermissions, path, info.Mode().Perm())
	}
	raw, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && (len(raw) == 0 || len(raw) > maxFile) {
		err = fmt.Errorf("%w: %s has %d bytes", ErrDamaged, path, len(raw))
	}
	return raw, err
}

// create writes a new file: beside it, synced, then linked to its name.
func create(path string, data []byte) error {
	dir := filepath.Dir(path)
	tmp, err := os.CreateTemp(dir, ".seed-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(data)
	err = errors.Join(err, tmp.Chmod(0o600), tmp.Sync(), tmp.Close())
	if err != nil {
		return err
	}
	if err := os.Link(tmp.Name(), path); errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%w: %s", ErrExists, path)
	} else if err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Passphrase reads a passphrase from a file, from a descriptor (above 2), or
// from an environment variable: the first that is given. It is never taken from
// the arguments, which others can see. None given: "".
func Passphrase(file string, fd int, env string) (string, error) {
	switch {
	case file != "":
		raw, err := os.ReadFile(file)
		if err != nil {
			return "", err
		}
		return strings.TrimRight(string(raw), "\r\n"), nil
	case fd > 2:
		f := os.NewFile(uintptr(fd), "passphrase")
		if f == nil {
			return "", fmt.Errorf("%w: descriptor %d is not open", ErrPassphrase, fd)
		}
		raw, err := io.ReadAll(io.LimitReader(f, maxFile))
		return strings.TrimRight(string(raw), "\r\n"), errors.Join(err, f.Close())
	case env != "":
		return os.Getenv(env), nil
	}
	return "", nil
}
