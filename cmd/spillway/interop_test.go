package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/spillway/spillway/internal/mppxtest"
)

// post is a chain and data folders for commands that run as processes of their own.
type post struct {
	t    *testing.T
	dir  string
	data string
	node *running
}

func newPost(t *testing.T) *post {
	t.Helper()
	a := &app{out: &output{stdout: io.Discard, stderr: io.Discard, quiet: true}}
	d, err := a.startDevnet("", "127.0.0.1:0", 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	dir := t.TempDir()
	return &post{t: t, dir: dir, data: filepath.Join(dir, "data"), node: d}
}

// vars are what its commands find in their environment.
func (p *post) vars() []string {
	return []string{"HOME=" + p.dir, "SPILLWAY_DATA=" + p.data, "SPILLWAY_CHAIN=" + p.node.url}
}

func (p *post) env() []string { return append(os.Environ(), p.vars()...) }

// spillway runs the command to its end and returns the last line of its JSON.
func (p *post) spillway(args ...string) map[string]any {
	p.t.Helper()
	cmd := exec.CommandContext(p.t.Context(), "spillway", append(args, "--json")...)
	cmd.Env = p.env()
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		p.t.Fatalf("spillway %s: %v\n%s%s", strings.Join(args, " "), err, out, said.String())
	}
	lines := bytes.Split(bytes.TrimSpace(out), []byte("\n"))
	var last map[string]any
	if err := json.Unmarshal(lines[len(lines)-1], &last); err != nil {
		p.t.Fatalf("%s: %v", out, err)
	}
	return last
}

// start runs a command that serves until the test ends, and returns the first line of
// its JSON that has this type.
func (p *post) start(kind string, args ...string) map[string]any {
	p.t.Helper()
	cmd := exec.Command("spillway", append(args, "--json")...)
	cmd.Env = p.env()
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		p.t.Fatal(err)
	}
	lines, ended := json.NewDecoder(out), make(chan error, 1)
	first := make(chan map[string]any, 1)
	go func() {
		told := false
		for {
			var line map[string]any
			if err := lines.Decode(&line); err != nil {
				if !told {
					first <- nil
				}
				ended <- cmd.Wait()
				return
			}
			if line["type"] == kind && !told {
				told = true
				first <- line
			}
		}
	}()
	p.t.Cleanup(func() {
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			p.t.Log(err)
		}
		select {
		case err := <-ended:
			if err != nil {
				p.t.Errorf("spillway %s: %v\n%s", args[0], err, said.String())
			}
		case <-time.After(60 * time.Second):
			p.t.Errorf("spillway %s does not end", args[0])
		}
	})
	line := <-first
	if line == nil {
		p.t.Fatalf("spillway %s did not start:\n%s", args[0], said.String())
	}
	return line
}

// file writes a file that is sold.
func (p *post) file(name string, size int) {
	p.t.Helper()
	raw := make([]byte, size)
	for i := range raw {
		raw[i] = byte(i*7 ^ i>>8)
	}
	path := filepath.Join(p.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(path, raw, 0o644); err != nil {
		p.t.Fatal(err)
	}
}

// TestMppxValidates: what a third-party validator of the scheme says of spillway serve.
func TestMppxValidates(t *testing.T) {
	kit := mppxtest.Install(t)
	p := newPost(t)
	p.file("files/f.bin", 300_000)
	p.file("files/sub dir/größe {x}.bin", 100_000)
	url := p.start("serving", "serve", filepath.Join(p.dir, "files"), "--listen", "127.0.0.1:0")["url"].(string)
	awaitDescribed(t, url, 2)

	out, err := kit.CLI(t, "validate", url, "--output-json")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var got struct {
		Discovery struct{ Found, Valid bool }
		Endpoints []struct {
			Method, Path             string
			Challenge, ErrorHandling []struct{ Label, Severity, Detail string }
		}
		Summary struct{ Passed, Failed, Warnings, Suggested, Skipped int }
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if !got.Discovery.Found || !got.Discovery.Valid || len(got.Endpoints) != 2 || got.Summary.Failed != 0 || got.Summary.Skipped != 0 || got.Summary.Suggested != 0 {
		t.Errorf("%+v", got)
	}
	for _, e := range got.Endpoints {
		if len(e.Challenge) < 6 || len(e.ErrorHandling) != 2 {
			t.Errorf("%s %s: %+v", e.Method, e.Path, e)
		}
		for _, c := range append(e.Challenge, e.ErrorHandling...) {
			// a provider's realm is its identity: one channel pays it under all its names
			if c.Severity != "pass" && c.Label != "Realm matches server hostname" {
				t.Errorf("%s %s: %+v", e.Method, e.Path, c)
			}
		}
	}

	out, err = kit.CLI(t, "discover", "validate", url+"/openapi.json")
	if err != nil || !strings.Contains(out, "valid") || strings.Contains(out, "[") {
		t.Errorf("%v: %s", err, out)
	}
	out, err = kit.CLI(t, "sign", "--dry-run", "--challenge", challengeAt(t, url+"/f.bin"))
	if err != nil {
		t.Errorf("%v: %s", err, out)
	}
	checkOpenAPI(t, url)
}

// awaitDescribed waits until the description names so many operations.
func awaitDescribed(t *testing.T, url string, want int) {
	t.Helper()
	limit := time.After(30 * time.Second)
	for {
		if n := len(fetchOpenAPI(t, url)["paths"].(map[string]any)); n == want {
			return
		}
		select {
		case <-limit:
			t.Fatal("the files are not described")
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func fetch(t *testing.T, url string) (*http.Response, []byte) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if err := resp.Body.Close(); err != nil {
		t.Fatal(err)
	}
	return resp, body
}

func fetchOpenAPI(t *testing.T, url string) (doc map[string]any) {
	t.Helper()
	resp, raw := fetch(t, url+"/openapi.json")
	if err := json.Unmarshal(raw, &doc); err != nil || resp.Header.Get("Content-Type") != "application/json" {
		t.Fatalf("%d %v: %s", resp.StatusCode, err, raw)
	}
	return doc
}

func challengeAt(t *testing.T, url string) string {
	t.Helper()
	resp, _ := fetch(t, url)
	if resp.StatusCode != http.StatusPaymentRequired {
		t.Fatalf("%s: %d", url, resp.StatusCode)
	}
	return resp.Header.Get("WWW-Authenticate")
}

// validOpenAPI holds a description against OpenAPI itself.
func validOpenAPI(t *testing.T, url string) *openapi3.T {
	t.Helper()
	_, raw := fetch(t, url+"/openapi.json")
	doc, err := openapi3.NewLoader().LoadFromData(raw)
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context()); err != nil {
		t.Errorf("%v\n%s", err, raw)
	}
	return doc
}

// checkOpenAPI is validOpenAPI, and holds each offer against the challenge that comes.
func checkOpenAPI(t *testing.T, url string) {
	t.Helper()
	doc := validOpenAPI(t, url)
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			info, _ := op.Extensions["x-payment-info"].(map[string]any)
			offers, _ := info["offers"].([]any)
			if len(offers) != 1 || op.Responses.Status(http.StatusPaymentRequired) == nil {
				t.Errorf("%s %s: %v", method, path, op.Extensions)
				continue
			}
			offer := offers[0].(map[string]any)
			if offer["method"] != "bitcoin" || offer["intent"] != "session" || offer["currency"] != "sat" {
				t.Errorf("%s %s: %v", method, path, offer)
			}
			if want := challengeAt(t, url+path); !strings.Contains(want, `method="bitcoin"`) {
				t.Errorf("%s %s: %s", method, path, want)
			}
		}
	}
	resp, text := fetch(t, url+"/llms.txt")
	if resp.StatusCode != http.StatusOK || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain") || !bytes.Contains(text, []byte("GET /f.bin")) {
		t.Errorf("%d: %s", resp.StatusCode, text)
	}
}
