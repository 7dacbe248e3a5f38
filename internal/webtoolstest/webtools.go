// Package webtoolstest gives tests the programs that people fetch and serve things
// with: nginx, curl, wget and aria2, from Debian. It fetches them where they are
// missing and fails where it cannot; it never skips. It is for tests only.
package webtoolstest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"
)

// Path is where a program lies: nginx, curl, wget or aria2c.
func Path(t testing.TB, program string) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatalf("no cache folder for %s: %v", program, err)
	}
	dir, err := fetch(filepath.Join(cache, "spillway", "webtools"))
	if err != nil {
		t.Fatalf("no %s: %v", program, err)
	}
	return filepath.Join(dir, program)
}

// fetch runs tools/get-webtools once for all processes of this machine: a lock beside
// the folder makes the others wait, a mark in it says that it is whole.
func fetch(dir string) (bin string, err error) {
	bin, mark := filepath.Join(dir, "bin"), filepath.Join(dir, "complete")
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
		return bin, nil
	}
	if err := os.RemoveAll(dir); err != nil {
		return "", err
	}
	_, source, _, ok := runtime.Caller(0)
	if !ok {
		return "", errors.New("the source folder is not known")
	}
	tool := filepath.Join(filepath.Dir(source), "..", "..", "tools", "get-webtools")
	if out, err := exec.Command("bash", tool, dir).CombinedOutput(); err != nil {
		return "", fmt.Errorf("%s: %w\n%s", tool, err, out)
	}
	return bin, os.WriteFile(mark, nil, 0o644)
}

// Nginx serves a folder with nginx until the test ends, and returns its URL. more is put
// into its server block.
func Nginx(t testing.TB, root, more string) string {
	t.Helper()
	url, stop, err := StartNginx(Path(t, "nginx"), t.TempDir(), root, more)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	return url
}

// StartNginx serves a folder with an nginx program, with what it writes in dir.
func StartNginx(program, dir, root, more string) (url string, stop func() error, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		return "", nil, err
	}
	conf := fmt.Sprintf(`daemon off; master_process off; pid %[1]s/pid; worker_processes 1;
events { worker_connections 512; }
http { access_log off; sendfile on; default_type application/octet-stream; types { text/html html; text/plain txt; }
 client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/fastcgi; uwsgi_temp_path %[1]s/uwsgi; scgi_temp_path %[1]s/scgi;
 server { listen %[2]s; root %[3]s; %[4]s } }
`, dir, address, root, more)
	if err := os.WriteFile(filepath.Join(dir, "nginx.conf"), []byte(conf), 0o600); err != nil {
		return "", nil, err
	}
	cmd := exec.Command(program, "-p", dir, "-c", filepath.Join(dir, "nginx.conf"), "-e", filepath.Join(dir, "error.log"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	stop = func() error {
		if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
			return err
		}
		<-ended
		return nil
	}
	url = "http://" + address
	if err := answers(url, ended); err != nil {
		return "", nil, errors.Join(err, stop())
	}
	return url, stop, nil
}

// answers waits until a URL answers.
func answers(url string, ended chan error) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodHead, url, nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			return resp.Body.Close()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("nginx does not answer: %w", err)
		case err := <-ended:
			ended <- err
			return fmt.Errorf("nginx ended: %v", err)
		case <-tick.C:
		}
	}
}

// Repository makes a flat repository with one package in a folder, as apt reads it, and
// returns the path of the package in it.
func Repository(t testing.TB, dir, name string, payload []byte) string {
	t.Helper()
	tree := t.TempDir()
	for path, data := range map[string][]byte{
		"DEBIAN/control": fmt.Appendf(nil, "Package: %s\nVersion: 1.0\nArchitecture: all\nMaintainer: Nobody <nobody@example.org>\nDescription: a package of a test\n", name),
		"usr/share/" + name + "/data": payload,
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(tree, path)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(tree, path), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(tree, 0o755); err != nil {
		t.Fatal(err)
	}
	deb := filepath.Join(dir, name+"_1.0_all.deb")
	if out, err := exec.Command("dpkg-deb", "-Znone", "--root-owner-group", "--build", tree, deb).CombinedOutput(); err != nil {
		t.Fatalf("dpkg-deb: %v\n%s", err, out)
	}
	return deb
}
