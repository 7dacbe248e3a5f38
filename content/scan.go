package content

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// source is one of the provider's paths.
type source struct {
	abs    string // as it was given, absolute
	prefix string // what its contents' names begin with; of a file, its name
	folder bool
}

// newSources gives every path its name in the catalogue.
func newSources(paths []string) ([]source, error) {
	if len(paths) == 0 {
		return nil, fmt.Errorf("catalogue: %w: no paths", ErrNotFound)
	}
	taken := map[string]string{}
	var list []source
	for _, p := range paths {
		abs, err := filepath.Abs(p)
		if err != nil {
			return nil, fmt.Errorf("catalogue: %w", err)
		}
		info, err := os.Stat(abs)
		if err != nil {
			return nil, fmt.Errorf("catalogue: %w", err)
		}
		s := source{abs: abs, folder: info.IsDir()}
		if !s.folder && !info.Mode().IsRegular() {
			return nil, fmt.Errorf("catalogue: %s: %w: neither a file nor a folder", p, ErrNotOffered)
		}
		if !s.folder || len(paths) > 1 {
			s.prefix = filepath.Base(abs)
			if err := CheckName(s.prefix); err != nil {
				return nil, fmt.Errorf("catalogue: %s: %w: %w", p, ErrNotOffered, err)
			}
		}
		if other, ok := taken[s.prefix]; ok {
			return nil, fmt.Errorf("catalogue: %w: %s and %s", ErrDuplicate, other, p)
		}
		taken[s.prefix] = p
		list = append(list, s)
	}
	return list, nil
}

// found is a file that may be offered: its name, and where it lies. Opening it
// never leaves root, whatever became a link meanwhile.
type found struct {
	name  string
	root  string // a folder, absolute, links resolved
	rel   string // below root, links resolved
	stamp stamp
}

func (f found) path() string { return filepath.Join(f.root, f.rel) }

// open opens the file, and nothing but a regular file.
func (f found) open() (*os.File, error) {
	root, err := os.OpenRoot(f.root)
	if err != nil {
		return nil, err
	}
	file, err := root.OpenFile(f.rel, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err = errors.Join(err, root.Close()); err != nil {
		return nil, err
	}
	if _, err := stampFile(file); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// scanner walks the provider's paths.
type scanner struct {
	ctx     context.Context
	exclude []string
	root    string
	found   []found
	skipped []Skipped
}

// scan returns every file that may be offered, and what is not.
func (c *Catalogue) scan(ctx context.Context) ([]found, []Skipped, error) {
	s := &scanner{ctx: ctx, exclude: c.exclude}
	for _, src := range c.sources {
		real, err := filepath.EvalSymlinks(src.abs)
		if err != nil {
			return nil, nil, fmt.Errorf("catalogue: %w", err)
		}
		if src.folder {
			s.root = real
			err = s.folder(src.prefix, ".", nil)
		} else {
			s.root = filepath.Dir(real)
			err = s.file(src.prefix, filepath.Base(real))
		}
		if err != nil {
			return nil, nil, fmt.Errorf("catalogue: %w", err)
		}
	}
	return s.found, s.skipped, nil
}

func (s *scanner) skip(rel string, reason error) {
	s.skipped = append(s.skipped, Skipped{filepath.Join(s.root, rel), reason})
}

func notOffered(why string) error { return fmt.Errorf("%w: %s", ErrNotOffered, why) }

// folder walks the folder rel, whose contents' names begin with prefix. above
// are the folders that led here, so that a link back ends.
func (s *scanner) folder(prefix, rel string, above []string) error {
	if err := s.ctx.Err(); err != nil {
		return err
	}
	list, err := os.ReadDir(filepath.Join(s.root, rel))
	if err != nil && len(above) == 0 {
		return err
	}
	if err != nil {
		s.skip(rel, err)
		return nil
	}
	above = append(slices.Clone(above), rel)
	for _, e := range list {
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		if err := s.visit(path.Join(prefix, e.Name()), filepath.Join(rel, e.Name()), e.Type(), above); err != nil {
			return err
		}
	}
	return nil
}

// visit takes up one element of a folder.
func (s *scanner) visit(name, rel string, kind fs.FileMode, above []string) error {
	if err := CheckName(name); err != nil {
		s.skip(rel, err)
		return nil
	}
	shown := rel
	if kind&fs.ModeSymlink != 0 {
		target, mode, err := s.resolve(rel)
		if err != nil {
			s.skip(rel, err)
			return nil
		}
		rel, kind = target, mode.Type()
	}
	if s.excluded(rel) {
		s.skip(shown, notOffered("the provider's own data"))
		return nil
	}
	switch {
	case kind.IsDir() && slices.Contains(above, rel):
		s.skip(shown, notOffered("a link back to a folder that holds it"))
		return nil
	case kind.IsDir():
		return s.folder(name, rel, above)
	case kind.IsRegular():
		return s.file(name, rel)
	}
	s.skip(shown, notOffered("neither a file nor a folder"))
	return nil
}

// resolve follows a link that stays below the root and out of hidden folders.
func (s *scanner) resolve(rel string) (target string, mode fs.FileMode, err error) {
	real, err := filepath.EvalSymlinks(filepath.Join(s.root, rel))
	if err != nil {
		return "", 0, err
	}
	if target, err = filepath.Rel(s.root, real); err != nil {
		return "", 0, err
	}
	if !filepath.IsLocal(target) {
		return "", 0, notOffered("a link that leads outside")
	}
	for element := range strings.SplitSeq(target, string(filepath.Separator)) {
		if strings.HasPrefix(element, ".") && element != "." {
			return "", 0, notOffered("a link to a hidden file")
		}
	}
	info, err := os.Lstat(real)
	if err != nil {
		return "", 0, err
	}
	return target, info.Mode(), nil
}

func (s *scanner) excluded(rel string) bool {
	full := filepath.Join(s.root, rel)
	for _, e := range s.exclude {
		if full == e || strings.HasPrefix(full, e+string(filepath.Separator)) {
			return true
		}
	}
	return false
}

func (s *scanner) file(name, rel string) error {
	if len(s.found) == MaxEntries {
		return fmt.Errorf("%w: more than %d", ErrTooMany, MaxEntries)
	}
	info, err := os.Lstat(filepath.Join(s.root, rel))
	if err != nil {
		s.skip(rel, err)
		return nil
	}
	s.found = append(s.found, found{name: name, root: s.root, rel: rel, stamp: stampOf(info)})
	return nil
}
