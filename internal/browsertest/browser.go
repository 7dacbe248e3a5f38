// Package browsertest shows pages in a real Chromium, without a screen, for tests. It
// fetches the program where it is missing and fails where it cannot; it never skips.
// It is for tests only and opens nothing but what it is told to.
package browsertest

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/spillway/spillway/internal/programs"
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
	path, err := fetch()
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

// fetch is the path of Chromium, fetched where it is not there yet. One that is
// installed is taken as it is.
func fetch() (path string, err error) {
	if path, err := exec.LookPath("chromium"); err == nil {
		return path, nil
	}
	dir, err := programs.Get("chromium", "get-chromium")
	return filepath.Join(dir, "bin", "chromium"), err
}
