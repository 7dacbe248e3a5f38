// Package browsertest shows pages in a real Chromium, without a screen, for tests. It
// fetches the program where it is missing and fails where it cannot; it never skips.
// It is for tests only and opens nothing but what it is told to.
package browsertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"
)

// limit bounds one look at a page.
const limit = 90 * time.Second

// View is how a page is looked at. The zero value is a wide, light window.
type View struct {
	Width, Height int  // CSS pixels; default 1200 by 900. Chromium's least width is 500
	Dark          bool // the reader prefers dark pages
}

// DOM is a page as the browser built it, as HTML.
func DOM(t testing.TB, url string) string {
	t.Helper()
	return string(run(t, "--dump-dom", url))
}

// Screenshot is a picture of a page, and the same as a PNG file.
func Screenshot(t testing.TB, url string, v View) (image.Image, []byte) {
	t.Helper()
	if v.Width == 0 {
		v.Width, v.Height = 1200, 900
	}
	file := filepath.Join(t.TempDir(), "page.png")
	args := []string{"--screenshot=" + file, fmt.Sprintf("--window-size=%d,%d", v.Width, v.Height), "--hide-scrollbars"}
	if v.Dark {
		args = append(args, "--blink-settings=preferredColorScheme=0")
	}
	run(t, append(args, url)...)
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("no screenshot: %v", err)
	}
	picture, err := png.Decode(bytes.NewReader(raw))
	if err != nil {
		t.Fatalf("the screenshot: %v", err)
	}
	return picture, raw
}

// run runs the browser with a profile of its own. It is killed with this process.
func run(t testing.TB, args ...string) []byte {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatalf("no cache folder for chromium: %v", err)
	}
	path, err := fetch(filepath.Join(cache, "spillway", "chromium"))
	if err != nil {
		t.Fatalf("no chromium: %v", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	home := t.TempDir()
	cmd := exec.CommandContext(ctx, path, append([]string{
		"--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-extensions",
		"--disable-background-networking", "--no-proxy-server", "--user-data-dir=" + filepath.Join(home, "profile"),
	}, args...)...)
	cmd.Env = append(os.Environ(), "HOME="+home, "XDG_CONFIG_HOME="+home, "XDG_CACHE_HOME="+home)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("chromium: %v\n%s", err, stderr.String())
	}
	return out
}

// fetch runs tools/get-chromium once for all processes of this machine: a lock
// beside the folder makes the others wait, a mark in it says that it is whole. One
// that is installed is taken as it is.
func fetch(dir string) (path string, err error) {
	if path, err := exec.LookPath("chromium"); err == nil {
		return path, nil
	}
	path, mark := filepath.Join(dir, "bin", "chromium"), filepath.Join(dir, "complete")
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return "", err
	}
	lock, err := os.OpenFile(dir+".lock", os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	if _, err := os.Stat(mark); err == nil {
		return path, nil
	}
	if err := os.RemoveAll(dir); err != nil {
		return "", err
	}
	_, source, _, ok := runtime.Caller(0)
	if !ok {
		return "", errors.New("the source folder is not known")
	}
	tool := filepath.Join(filepath.Dir(source), "..", "..", "tools", "get-chromium")
	if out, err := exec.Command("bash", tool, dir).CombinedOutput(); err != nil {
		return "", fmt.Errorf("%s: %w\n%s", tool, err, out)
	}
	return path, os.WriteFile(mark, nil, 0o644)
}
