package keys

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// Passphrase reads a passphrase from a file, from a descriptor above 2, which it
// closes, or from an environment variable: the first that is named. One line end
// is cut off. It is never taken from the arguments, which others can see. None is
// named, or the variable is not set or empty: "". A file or a descriptor that
// holds nothing, several lines or more than 64 KiB is an error: ErrPassphrase.
func Passphrase(file string, fd int, env string) (string, error) {
	switch {
	case file != "":
		f, err := os.Open(file)
		if err != nil {
			return "", err
		}
		return line(f)
	case fd > 2:
		f := os.NewFile(uintptr(fd), "passphrase")
		if f == nil {
			return "", fmt.Errorf("%w: descriptor %d is not open", ErrPassphrase, fd)
		}
		return line(f)
	case fd != 0:
		return "", fmt.Errorf("%w: descriptor %d is taken; use one above 2", ErrPassphrase, fd)
	case env != "":
		return os.Getenv(env), nil
	}
	return "", nil
}

// line reads the one line that a file holds, and closes it.
func line(f *os.File) (string, error) {
	raw, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err := errors.Join(err, f.Close()); err != nil {
		return "", err
	}
	text := strings.TrimSuffix(strings.TrimSuffix(string(raw), "\n"), "\r")
	switch {
	case text == "":
		return "", fmt.Errorf("%w: %s is empty", ErrPassphrase, f.Name())
	case len(raw) > maxFile:
		return "", fmt.Errorf("%w: %s is too long", ErrPassphrase, f.Name())
	case strings.ContainsAny(text, "\r\n\x00"):
		return "", fmt.Errorf("%w: %s holds more than a line of text", ErrPassphrase, f.Name())
	}
	return text, nil
}
