package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spillway/spillway/chain/devnet"
)

// said is what a command writes, while others read it.
type said struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// selling is a provider that runs as the command does.
type selling struct {
	t        *testing.T
	dir      string // of this test
	data     string
	url      string
	node     *devnet.Node
	out, err *said
	stop     func() int
}

// sell starts serve with a settings file, on a chain of its own.
func sell(t *testing.T, settings string, args ...string) *selling {
	t.Helper()
	dir := t.TempDir()
	s := &selling{t: t, dir: dir, data: filepath.Join(dir, "data"), out: &said{}, err: &said{}}
	for name, value := range map[string]string{"HOME": dir, "XDG_CONFIG_HOME": "", "XDG_DATA_HOME": "", "SPILLWAY_DATA": s.data} {
		t.Setenv(name, value)
	}
	a := &app{out: &output{stdout: io.Discard, stderr: io.Discard, quiet: true}}
	d, err := a.startDevnet("", "127.0.0.1:0", 0)
	s.must(err)
	t.Cleanup(func() { s.must(d.Close()) })
	s.node = d.node
	t.Setenv("SPILLWAY_CHAIN", d.url)
	s.file("goods/f.bin", strings.Repeat("spillway", 40_000))
	s.start(settings, args...)
	return s
}

// start starts serve, once more after a stop.
func (s *selling) start(settings string, args ...string) {
	s.t.Helper()
	path := s.file("settings.toml", settings)
	ctx, cancel := context.WithCancel(s.t.Context())
	done := make(chan int, 1)
	s.out, s.err, s.url = &said{}, &said{}, ""
	go func() {
		done <- runUntil(ctx, append([]string{"serve", "--json", "--config", path, "--listen=127.0.0.1:0", "--price=1sat/KiB", "--chunk=64KiB", filepath.Join(s.dir, "goods")}, args...), strings.NewReader(""), s.out, s.err)
	}()
	s.stop = sync.OnceValue(func() int { cancel(); return <-done })
	s.t.Cleanup(func() { s.stop() })
	s.await("the provider to listen", func() bool {
		select {
		case exit := <-done:
			done <- exit
			s.t.Fatalf("serve ended with %d: %s%s", exit, s.out.String(), s.err.String())
		default:
		}
		for line := range strings.Lines(s.out.String()) {
			var e struct{ Type, URL string }
			if json.Unmarshal([]byte(line), &e) == nil && e.Type == "serving" {
				s.url = e.URL
			}
		}
		return s.url != "" && strings.Contains(s.out.String(), `"file"`)
	})
}

func (s *selling) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// file writes a file that only its owner reads.
func (s *selling) file(name, text string) string {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	s.must(os.MkdirAll(filepath.Dir(path), 0o755))
	s.must(os.WriteFile(path, []byte(text), 0o600))
	return path
}

// await waits until something is true.
func (s *selling) await(what string, cond func() bool) {
	s.t.Helper()
	for limit := time.Now().Add(30 * time.Second); !cond(); {
		if time.Now().After(limit) {
			s.t.Fatalf("%s did not come: %s%s", what, s.out.String(), s.err.String())
		}
		tick := time.NewTimer(5 * time.Millisecond)
		<-tick.C
	}
}

// run runs a command that has to succeed, and returns what it says.
func (s *selling) run(args ...string) string {
	s.t.Helper()
	var out, err bytes.Buffer
	if exit := runUntil(s.t.Context(), args, strings.NewReader(""), &out, &err); exit != exitDone {
		s.t.Fatalf("%q: exit %d: %s%s", args, exit, out.String(), err.String())
	}
	return out.String()
}

// buy buys the file, and leaves its channel open.
func (s *selling) buy() {
	s.t.Helper()
	s.run("get", "--keep-channel", "-o", filepath.Join(s.dir, fmt.Sprintf("got-%d", time.Now().UnixNano())), s.url+"/f.bin")
}

// channel is the id of the provider's only channel.
func (s *selling) channel() string {
	s.t.Helper()
	var got struct{ Channels []row }
	s.must(json.Unmarshal([]byte(s.run("--json", "channels", "list")), &got))
	for _, r := range got.Channels {
		if r.Role == "payee" {
			return r.ID
		}
	}
	s.t.Fatal("there is no channel")
	return ""
}

// ask asks a listener; token may be "".
func (s *selling) ask(method, url, token string, body string) (status int, header http.Header, got string) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, url, strings.NewReader(body))
	s.must(err)
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(req)
	s.must(err)
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	s.must(err)
	return resp.StatusCode, resp.Header, string(raw)
}

// at is where a listener is, as serve says: after a text, up to a space or a ";".
func (s *selling) at(after string) string {
	s.t.Helper()
	_, rest, ok := strings.Cut(s.err.String(), after)
	if !ok {
		s.t.Fatalf("%q was not said: %s", after, s.err.String())
	}
	end := strings.IndexAny(rest, "; \n")
	return strings.TrimSuffix(rest[:end], ".")
}

func listenHere(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// deadSocket leaves a socket behind that nobody listens on.
func deadSocket(path string) error {
	if len(path) > longestSocket {
		return os.WriteFile(path, nil, 0o600) // it could not be made like this
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return err
	}
	l.SetUnlinkOnClose(false)
	return l.Close()
}
