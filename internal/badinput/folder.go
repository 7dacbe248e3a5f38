package badinput

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Folder is what a folder holds: every file with its mode and the hash of its
// content, by path. A folder itself, or an empty one, is nothing. read, where it is not nil, may give the content of
// a file in another form, such as a database's rows; ok is false for a file that
// does not count.
func Folder(dir string, read func(path string) (content []byte, ok bool, err error)) (string, error) {
	var lines []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		content, ok := []byte(nil), true
		if read != nil {
			content, ok, err = read(path)
		} else {
			content, err = os.ReadFile(path)
		}
		if err != nil || !ok {
			return err
		}
		sum := sha256.Sum256(content)
		lines = append(lines, fmt.Sprintf("%s %04o %s", rel, info.Mode().Perm(), hex.EncodeToString(sum[:8])))
		return nil
	})
	if err != nil {
		return "", err
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n"), nil
}
