package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/spillway/spillway/internal/webtoolstest"
)

// issuer is an ACME server that gives a certificate to who shows by TLS-ALPN-01 that it
// answers at an address. RFC 8555, RFC 8737.
type issuer struct {
	t    *testing.T
	web  *httptest.Server
	key  *ecdsa.PrivateKey
	cert *x509.Certificate

	mu      sync.Mutex
	at      string // where the host's name leads
	thumb   string // of the account's key
	host    string
	proved  bool
	issued  []byte
	checked int
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	form := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "an issuer"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour * 24 * 365), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, form, form, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	i := &issuer{t: t, key: key}
	if i.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	i.web = httptest.NewServer(i)
	t.Cleanup(i.web.Close)
	return i
}

// jws is a signed request; whose it is is not checked, what it says is.
func jws(r *http.Request) (protected struct {
	JWK struct{ X, Y string } `json:"jwk"`
}, payload []byte, err error) {
	var m struct{ Protected, Payload string }
	if err := json.NewDecoder(r.Body).Decode(&m); err != nil {
		return protected, nil, err
	}
	head, err := base64.RawURLEncoding.DecodeString(m.Protected)
	if err == nil {
		err = json.Unmarshal(head, &protected)
	}
	if err != nil {
		return protected, nil, err
	}
	payload, err = base64.RawURLEncoding.DecodeString(m.Payload)
	return protected, payload, err
}

// ServeHTTP implements http.Handler.
func (i *issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	w.Header().Set("Replay-Nonce", "once")
	url := i.web.URL
	if r.Method != http.MethodPost {
		i.say(w, 200, map[string]any{"newNonce": url + "/nonce", "newAccount": url + "/account", "newOrder": url + "/order", "revokeCert": url + "/revoke", "keyChange": url + "/key"})
		return
	}
	protected, payload, err := jws(r)
	if err != nil {
		i.t.Error(err)
	}
	status := map[bool]string{false: "pending", true: "valid"}[i.proved]
	switch r.URL.Path {
	case "/account":
		i.account(protected.JWK.X, protected.JWK.Y)
		w.Header().Set("Location", url+"/account/1")
		i.say(w, 201, map[string]any{"status": "valid"})
	case "/order":
		var o struct{ Identifiers []struct{ Value string } }
		if err := json.Unmarshal(payload, &o); err != nil || len(o.Identifiers) != 1 {
			i.t.Errorf("%s: %v", payload, err)
		}
		i.host, i.proved = o.Identifiers[0].Value, false
		w.Header().Set("Location", url+"/order/1")
		i.say(w, 201, map[string]any{"status": "pending", "authorizations": []string{url + "/authz"}, "finalize": url + "/finalize"})
	case "/order/1":
		i.say(w, 200, map[string]any{"status": map[bool]string{false: "ready", true: "valid"}[i.issued != nil], "authorizations": []string{url + "/authz"}, "finalize": url + "/finalize", "certificate": url + "/cert"})
	case "/authz":
		i.say(w, 200, map[string]any{"status": status, "identifier": map[string]string{"type": "dns", "value": i.host}, "challenges": []any{i.challenge(status)}})
	case "/challenge":
		i.proved = i.check() == nil
		i.say(w, 200, i.challenge("processing"))
	case "/finalize":
		i.finalize(payload)
		w.Header().Set("Location", url+"/order/1")
		i.say(w, 200, map[string]any{"status": "valid", "finalize": url + "/finalize", "certificate": url + "/cert"})
	case "/cert":
		w.Header().Set("Content-Type", "application/pem-certificate-chain")
		if _, err := w.Write(i.issued); err != nil {
			i.t.Error(err)
		}
	default:
		http.NotFound(w, r)
	}
}

func (i *issuer) say(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(v); err != nil {
		i.t.Error(err)
	}
}

func (i *issuer) challenge(status string) map[string]string {
	return map[string]string{"type": "tls-alpn-01", "url": i.web.URL + "/challenge", "token": "a-token", "status": status}
}

func (i *issuer) account(x, y string) {
	px, err := base64.RawURLEncoding.DecodeString(x)
	py, err2 := base64.RawURLEncoding.DecodeString(y)
	if err = errors.Join(err, err2); err != nil || len(px) == 0 {
		i.t.Errorf("the account's key: %v", err)
		return
	}
	i.thumb, err = acme.JWKThumbprint(&ecdsa.PublicKey{Curve: elliptic.P256(), X: new(big.Int).SetBytes(px), Y: new(big.Int).SetBytes(py)})
	if err != nil {
		i.t.Error(err)
	}
}

// check looks whether who asks answers at the host's address.
func (i *issuer) check() error {
	i.checked++
	c, err := tls.Dial("tcp", i.at, &tls.Config{ServerName: i.host, NextProtos: []string{acme.ALPNProto}, InsecureSkipVerify: true})
	if err != nil {
		i.t.Error(err)
		return err
	}
	defer c.Close()
	sum := sha256.Sum256([]byte("a-token." + i.thumb))
	want, err := asn1.Marshal(sum[:])
	if err != nil {
		return err
	}
	for _, e := range c.ConnectionState().PeerCertificates[0].Extensions {
		if e.Id.String() == "1.3.6.1.5.5.7.1.31" && e.Critical && string(e.Value) == string(want) {
			return nil
		}
	}
	i.t.Error("the challenge is not answered")
	return errors.New("not answered")
}

func (i *issuer) finalize(payload []byte) {
	var f struct{ CSR string }
	err := json.Unmarshal(payload, &f)
	raw, err2 := base64.RawURLEncoding.DecodeString(f.CSR)
	csr, err3 := x509.ParseCertificateRequest(raw)
	if err := errors.Join(err, err2, err3); err != nil || !i.proved {
		i.t.Errorf("asked for a certificate without proof (%v): %v", i.proved, err)
		return
	}
	form := &x509.Certificate{SerialNumber: big.NewInt(2), DNSNames: csr.DNSNames, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(90 * 24 * time.Hour), KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, form, i.cert, csr.PublicKey, i.key)
	if err != nil {
		i.t.Error(err)
	}
	i.issued = append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.cert.Raw})...)
}

// With --acme the proxy has a certificate from an issuer that it proves its name to, and
// keeps it: another start asks nobody. It speaks HTTP/2 with it.
func TestProxyFetchesItsCertificate(t *testing.T) {
	const host = "api.example"
	i := newIssuer(t)
	site := t.TempDir()
	putFile(t, filepath.Join(site, "page.bin"), 1000, 1)
	upstream := webtoolstest.Nginx(t, site, "")
	s := &street{t: t, dir: t.TempDir()}
	a := &app{out: &output{stdout: io.Discard, stderr: io.Discard, quiet: true}}
	d, err := a.startDevnet("", "127.0.0.1:0", 0)
	s.must(err)
	t.Cleanup(func() { s.must(d.Close()) })
	s.chain = d.url
	roots := x509.NewCertPool()
	roots.AddCert(i.cert)
	for range 2 {
		p, err := s.app("shop").startProxy(t.Context(), proxyFlags{
			upstream: upstream, price: "1sat/request", listen: "127.0.0.1:0", maxBody: "1MiB", tower: towerUse{maxRate: 500},
			acme: []string{host}, acmeDirectory: i.web.URL + "/directory",
		}, nil)
		s.must(err)
		at := strings.TrimPrefix(p.url, "https://")
		i.mu.Lock()
		i.at = at
		i.mu.Unlock()
		client := &http.Client{Transport: &http.Transport{
			TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, "tcp", at)
			},
		}}
		resp, err := client.Get("https://" + host + "/page.bin")
		s.must(err)
		s.must(resp.Body.Close())
		if resp.StatusCode != http.StatusPaymentRequired || resp.ProtoMajor != 2 {
			t.Fatalf("HTTP/%d %d", resp.ProtoMajor, resp.StatusCode)
		}
		client.CloseIdleConnections()
		if c, err := tls.Dial("tcp", at, &tls.Config{ServerName: "other.example", InsecureSkipVerify: true}); err == nil {
			_ = c.Close()
			t.Fatal("it answers for a name that is not its own")
		}
		s.must(p.Close())
	}
	if i.checked != 1 {
		t.Fatalf("%d times proved", i.checked)
	}
	info, err := os.Stat(filepath.Join(s.dir, "shop", "payee", "regtest", "acme", host))
	s.must(err)
	if info.Mode().Perm()&0o077 != 0 {
		t.Fatalf("the certificate's key has the mode %v", info.Mode())
	}
}
