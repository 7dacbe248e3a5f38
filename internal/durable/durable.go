// Package durable writes small files that have to survive a crash of the machine: whole
// or not at all, and there once it says so. It never leaves a file half written under
// its name, and never makes one that others may read.
package durable

import (
	"errors"
	"os"
	"path/filepath"
)

// Write puts raw into a file of mode 0600 in one step, in the place of the one that may
// be there: it is written beside its place, synced, and then given its name; the folder
// is synced too. After an error the file of that name is the old one or the new one.
// Errors: of the disk, as they came.
func Write(path string, raw []byte) error {
	return put(path, raw, os.Rename)
}

// Create is Write for a name that must be free. Errors: fs.ErrExist, of the disk.
func Create(path string, raw []byte) error {
	return put(path, raw, func(tmp, path string) error {
		return errors.Join(os.Link(tmp, path), os.Remove(tmp)) // a rename would overwrite
	})
}

// put writes a file beside its place and has it named.
func put(path string, raw []byte, name func(tmp, path string) error) error {
	dir, base := filepath.Dir(path), filepath.Base(path)
	tmp, err := os.CreateTemp(dir, "."+base[:min(len(base), 16)]+"-*") // mode 0600
	if err != nil {
		return err
	}
	_, err = tmp.Write(raw)
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err == nil {
		err = name(tmp.Name(), path)
	}
	if err != nil {
		return errors.Join(err, Remove(tmp.Name()))
	}
	return Dir(dir)
}

// Dir makes durable what names a folder holds.
func Dir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Remove removes a file that may be gone already.
func Remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
