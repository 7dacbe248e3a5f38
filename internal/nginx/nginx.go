// Package nginx runs an nginx beside a test or a measurement, with a configuration of
// its own, as the user who runs it. It installs nothing and knows nothing of payments.
package nginx

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// Find is where nginx is installed; "" where it is not: on the system, or in the user's
// cache, where the tests put one.
func Find() string {
	if path, err := exec.LookPath("nginx"); err == nil {
		return path
	}
	places := []string{"/usr/sbin/nginx"} // not in every user's PATH
	if cache, err := os.UserCacheDir(); err == nil {
		places = append(places, filepath.Join(cache, "spillway", "webtools", "bin", "nginx"))
	}
	for _, path := range places {
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			return path
		}
	}
	return ""
}

// Start serves a folder with an nginx program, with what it writes in dir.
func Start(program, dir, root, more string) (url string, stop func() error, err error) {
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
