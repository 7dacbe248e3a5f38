package bench

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// noNginx says how the comparison can be had.
const noNginx = "nginx is not installed; for the comparison: apt-get install nginx-light"

// nginx serves the market's files over TLS with nginx, where it is installed; url is
// empty where it is not, and missing says so. It ends with the market.
func (m *market) nginx(ctx context.Context) (url, missing string, err error) {
	program, err := exec.LookPath("nginx")
	if err != nil {
		if _, err := os.Stat("/usr/sbin/nginx"); err != nil { // not in every user's PATH
			return "", noNginx, nil
		}
		program = "/usr/sbin/nginx"
	}
	dir := filepath.Join(m.dir, "nginx")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", "", err
	}
	port, err := freePort()
	if err != nil {
		return "", "", err
	}
	if err := m.nginxFiles(dir, port); err != nil {
		return "", "", err
	}
	cmd := exec.Command(program, "-p", dir, "-c", filepath.Join(dir, "nginx.conf"), "-e", filepath.Join(dir, "error.log"))
	if err := cmd.Start(); err != nil {
		return "", "", err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	m.closed = append(m.closed, func() error {
		if err := cmd.Process.Signal(os.Interrupt); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return err
		}
		<-ended
		return nil
	})
	url = fmt.Sprintf("https://127.0.0.1:%d/%s", port, freeName)
	return url, "", m.answers(ctx, url, ended)
}

// answers waits until a URL answers.
func (m *market) answers(ctx context.Context, url string, ended chan error) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodHead, url, nil)
		if err != nil {
			return err
		}
		resp, err := m.buyers[0].http.Do(req)
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

// freePort is a port that nobody listens on now.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}

// nginxFiles writes what nginx needs: its configuration and the market's certificate.
func (m *market) nginxFiles(dir string, port int) error {
	key, err := x509.MarshalECPrivateKey(m.cert.PrivateKey.(*ecdsa.PrivateKey))
	if err != nil {
		return err
	}
	conf := fmt.Sprintf(`daemon off; master_process off; pid %[1]s/pid; worker_processes 1;
events { worker_connections 512; }
http { access_log off; sendfile on;
 client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/fastcgi; uwsgi_temp_path %[1]s/uwsgi; scgi_temp_path %[1]s/scgi;
 server { listen 127.0.0.1:%[2]d ssl; ssl_certificate %[1]s/cert.pem; ssl_certificate_key %[1]s/key.pem; root %[3]s; }
}
`, dir, port, filepath.Join(m.dir, "files"))
	return errors.Join(
		os.WriteFile(filepath.Join(dir, "cert.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: m.cert.Certificate[0]}), 0o600),
		os.WriteFile(filepath.Join(dir, "key.pem"), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: key}), 0o600),
		os.WriteFile(filepath.Join(dir, "nginx.conf"), []byte(conf), 0o600),
	)
}
