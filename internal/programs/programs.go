// Package programs has programs from outside once for all processes of a machine, and
// starts them so that they end with this one. It is for tests, and for stories that are
// played on a real node; it never skips, and keeps nothing outside the user's cache.
package programs

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
)

// Root is the repository's folder. Errors: where the program was built without its
// source's paths.
func Root() (string, error) {
	_, source, _, ok := runtime.Caller(0)
	if !ok || !filepath.IsAbs(source) {
		return "", errors.New("the source folder is not known")
	}
	return filepath.Dir(filepath.Dir(filepath.Dir(source))), nil
}

// Cache is where programs of a name are kept.
func Cache(name string) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("no cache folder for %s: %w", name, err)
	}
	return filepath.Join(cache, "spillway", name), nil
}

// Get is the folder of what tools/TOOL unpacks, which it does where it is not there yet.
func Get(name, tool string) (dir string, err error) {
	if dir, err = Cache(name); err != nil {
		return "", err
	}
	return dir, Once(dir, func() error {
		root, err := Root()
		if err != nil {
			return err
		}
		path := filepath.Join(root, "tools", tool)
		if out, err := exec.Command("bash", path, dir).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", path, err, out)
		}
		return nil
	})
}

// Once fills a folder once for all processes of this machine: a lock beside it makes
// the others wait, a mark in it says that it is whole. What is there of an attempt that
// failed goes first.
func Once(dir string, fill func() error) (err error) {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	lock, err := os.OpenFile(dir+".lock", os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	mark := filepath.Join(dir, "complete")
	if _, err := os.Stat(mark); err == nil {
		return nil
	}
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o755)); err != nil {
		return err
	}
	if err := fill(); err != nil {
		return err
	}
	return os.WriteFile(mark, nil, 0o644)
}

// Start starts a command that the kernel kills when this process ends in whatever way:
// a test that panics or times out runs no cleanup. The kernel means the thread that
// started it, so that thread is kept until the command has ended; exited then tells how.
func Start(cmd *exec.Cmd) (exited <-chan error, err error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started, ended := make(chan error, 1), make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			ended <- cmd.Wait()
			close(ended)
		}
	}()
	return ended, <-started
}
