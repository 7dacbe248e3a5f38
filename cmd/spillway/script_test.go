package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/spillway/spillway/chain/devnet"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"spillway": main})
}

// TestScripts plays the commands as a person or a script gives them. Every
// script has a chain of its own, and folders of its own.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("SPILLWAY_DATA", filepath.Join(env.WorkDir, "data"))
			return startChain(env)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"json": cmdJSON, "random": cmdRandom, "provider": cmdProvider, "killget": cmdKillGet, "mine": cmdMine, "same": cmdSame, "exitcode": cmdExit, "damage": cmdDamage,
			"proxy": cmdProxy, "payproxy": cmdPayProxy, "through": cmdThrough, "challenge": cmdChallenge, "paid": cmdPaid, "sums": cmdSums, "words": cmdWords, "await": cmdAwait, "tower": cmdTower, "peer": cmdPeer, "tamper": cmdTamper, "certificate": cmdCertificate,
		},
	})
}

type nodeKey struct{}
type providerKey struct{}

// startChain gives a script a devnet and names it as its chain.
func startChain(env *testscript.Env) error {
	a := &app{out: &output{stdout: io.Discard, stderr: io.Discard, quiet: true}}
	d, err := a.startDevnet("", "127.0.0.1:0", 0)
	if err != nil {
		return err
	}
	env.Values[nodeKey{}], env.Values[providerKey{}], env.Values[towerKey{}] = d.node, &process{}, &process{}
	env.Values[peerKey{}] = map[string]*process{}
	env.Values[payProxyKey{}] = &process{}
	env.Setenv("SPILLWAY_CHAIN", d.url)
	env.Defer(func() {
		if p := env.Values[providerKey{}].(*process); p.cmd != nil {
			p.end(os.Interrupt)
		}
		if err := d.Close(); err != nil {
			env.T().Log(err)
		}
	})
	return nil
}

// cmdMine: mine N
func cmdMine(ts *testscript.TestScript, _ bool, args []string) {
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	_, err = ts.Value(nodeKey{}).(*devnet.Node).Mine(n)
	ts.Check(err)
}

// cmdRandom: random FILE BYTES [SEED] writes bytes that look random.
func cmdRandom(ts *testscript.TestScript, _ bool, args []string) {
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	x := uint64(0x9e3779b97f4a7c15)
	if len(args) > 2 {
		x ^= uint64(len(args[2])) << 17
	}
	b := make([]byte, n)
	for i := range b {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		b[i] = byte(x)
	}
	ts.Check(os.MkdirAll(filepath.Dir(ts.MkAbs(args[0])), 0o755))
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), b, 0o644))
}

// cmdDamage: damage FILE OFFSET flips a byte.
func cmdDamage(ts *testscript.TestScript, _ bool, args []string) {
	raw, err := os.ReadFile(ts.MkAbs(args[0]))
	ts.Check(err)
	at, err := strconv.Atoi(args[1])
	ts.Check(err)
	raw[at] ^= 1
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), raw, 0o644))
}

// cmdWords: words FILE keeps a wallet's words, $WORDS, in a file.
func cmdWords(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(ts.Getenv("WORDS")+"\n"), 0o600))
}

// cmdAwait: await PATTERN COMMAND… runs a command until its output matches.
func cmdAwait(ts *testscript.TestScript, _ bool, args []string) {
	want := regexp.MustCompile(args[0])
	limit, tick := time.After(60*time.Second), time.NewTicker(200*time.Millisecond)
	defer tick.Stop()
	for {
		err := ts.Exec(args[1], args[2:]...)
		if out := ts.ReadFile("stdout"); want.MatchString(out) {
			return
		}
		select {
		case <-limit:
			ts.Fatalf("%s does not come: %v\n%s", args[0], err, ts.ReadFile("stdout"))
		case <-tick.C:
		}
	}
}

// cmdSame: same A B compares two files.
func cmdSame(ts *testscript.TestScript, neg bool, args []string) {
	a, err := os.ReadFile(ts.MkAbs(args[0]))
	ts.Check(err)
	b, err := os.ReadFile(ts.MkAbs(args[1]))
	ts.Check(err)
	if (string(a) == string(b)) == neg {
		ts.Fatalf("%s and %s: same is %v", args[0], args[1], !neg)
	}
}

// cmdExit: exitcode N COMMAND… runs a command and checks its exit code.
func cmdExit(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	code := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if want := args[0]; strconv.Itoa(code) != want {
		ts.Fatalf("exit code %d, want %s\n%s%s", code, want, ts.ReadFile("stdout"), ts.ReadFile("stderr"))
	}
}

// cmdJSON: json FIELD=VALUE… looks at the last line of stdout. FIELD? asks that
// it is there and not empty; FIELD>VALUE compares numbers; $NAME=FIELD keeps it.
func cmdJSON(ts *testscript.TestScript, _ bool, args []string) {
	lines := strings.Split(strings.TrimSpace(ts.ReadFile("stdout")), "\n")
	var got map[string]any
	d := json.NewDecoder(strings.NewReader(lines[len(lines)-1]))
	d.UseNumber()
	if err := d.Decode(&got); err != nil {
		ts.Fatalf("%q: %v", lines[len(lines)-1], err)
	}
	for _, arg := range args {
		switch {
		case strings.HasPrefix(arg, "@"):
			name, field, _ := strings.Cut(arg[1:], "=")
			ts.Setenv(name, fmt.Sprint(at(got, field)))
		case strings.HasSuffix(arg, "?"):
			v := at(got, strings.TrimSuffix(arg, "?"))
			if v == nil || reflect.ValueOf(v).IsZero() {
				ts.Fatalf("%s is missing or empty in %v", arg, got)
			}
		case strings.Contains(arg, ">"):
			name, text, _ := strings.Cut(arg, ">")
			have, err := strconv.ParseFloat(fmt.Sprint(at(got, name)), 64)
			want, err2 := strconv.ParseFloat(text, 64)
			if err != nil || err2 != nil || have <= want {
				ts.Fatalf("%s is %v, want more than %s", name, at(got, name), text)
			}
		default:
			name, want, _ := strings.Cut(arg, "=")
			if have := fmt.Sprint(at(got, name)); have != want {
				ts.Fatalf("%s is %s, want %s\n%v", name, have, want, got)
			}
		}
	}
}

// at is a value in decoded JSON by its path; nil: there is none.
func at(v any, path string) any {
	for _, name := range strings.Split(path, ".") {
		switch in := v.(type) {
		case map[string]any:
			v = in[name]
		case []any:
			i, err := strconv.Atoi(name)
			if err != nil || i < 0 || i >= len(in) {
				return nil
			}
			v = in[i]
		default:
			return nil
		}
	}
	return v
}

// process is a spillway that runs beside the script.
type process struct {
	cmd   *exec.Cmd
	lines chan map[string]any
	done  chan error
}

func launch(ts *testscript.TestScript, args []string) *process {
	exe, err := exec.LookPath("spillway")
	if path := strings.Split(ts.Getenv("PATH"), string(os.PathListSeparator)); err != nil || len(path) > 0 {
		for _, dir := range path {
			if _, err := os.Stat(filepath.Join(dir, "spillway")); err == nil {
				exe = filepath.Join(dir, "spillway")
				break
			}
		}
	}
	p := &process{cmd: exec.Command(exe, args...), lines: make(chan map[string]any, 10_000), done: make(chan error, 1)}
	p.cmd.Dir = ts.MkAbs(".")
	for _, name := range []string{"HOME", "SPILLWAY_DATA", "SPILLWAY_CHAIN", "PATH", "TESTSCRIPT_COMMAND", "GOCOVERDIR", "TMPDIR"} {
		p.cmd.Env = append(p.cmd.Env, name+"="+ts.Getenv(name))
	}
	p.cmd.Stderr = os.Stderr
	if !testing.Verbose() {
		p.cmd.Stderr = io.Discard
	}
	out, err := p.cmd.StdoutPipe()
	ts.Check(err)
	ts.Check(p.cmd.Start())
	go func() {
		scan := bufio.NewScanner(out)
		for scan.Scan() {
			var line map[string]any
			if json.Unmarshal(scan.Bytes(), &line) == nil {
				p.lines <- line
			}
		}
		close(p.lines)
		p.done <- p.cmd.Wait()
	}()
	return p
}

// await waits for a line of a type.
func (p *process) await(ts *testscript.TestScript, typ string) map[string]any {
	limit := time.After(60 * time.Second)
	for {
		select {
		case line, ok := <-p.lines:
			if !ok {
				ts.Fatalf("the process ended before it said %q", typ)
			}
			if line["type"] == typ {
				return line
			}
			if line["type"] == "error" {
				ts.Fatalf("the process failed: %v", line)
			}
		case <-limit:
			ts.Fatalf("no %q within a minute", typ)
		}
	}
}

// end sends a signal and waits.
func (p *process) end(sig os.Signal) {
	if err := p.cmd.Process.Signal(sig); err != nil {
		return // it has ended
	}
	for range p.lines {
		continue
	}
	<-p.done
}

// cmdProvider: provider start FILES ARGS… | provider kill | provider stop | provider term. FILES
// is how many files to wait for. The URL is kept in $URL; a restart keeps the
// address.
func cmdProvider(ts *testscript.TestScript, _ bool, args []string) {
	running := ts.Value(providerKey{}).(*process)
	switch args[0] {
	case "start":
		files, err := strconv.Atoi(args[1])
		ts.Check(err)
		listen := "127.0.0.1:0"
		if url := ts.Getenv("URL"); url != "" {
			listen = strings.TrimPrefix(url, "http://")
		}
		p := launch(ts, append([]string{"serve", "--json", "--listen", listen}, args[2:]...))
		ts.Setenv("URL", fmt.Sprint(p.await(ts, "serving")["url"]))
		for range files {
			p.await(ts, "file")
		}
		*running = *p
	case "kill":
		running.end(syscall.SIGKILL)
	case "stop":
		running.end(os.Interrupt)
	case "term": // it has to end by itself, in order
		ts.Check(running.cmd.Process.Signal(syscall.SIGTERM))
		for range running.lines {
			continue
		}
		ts.Check(<-running.done)
		running.cmd = nil
	default:
		ts.Fatalf("provider %s?", args[0])
	}
}

// cmdKillGet: killget CHUNKS ARGS… starts a get and kills it once it tells of
// that many chunks.
func cmdKillGet(ts *testscript.TestScript, _ bool, args []string) {
	chunks, err := strconv.Atoi(args[0])
	ts.Check(err)
	p := launch(ts, append([]string{"get", "--json"}, args[1:]...))
	for range chunks {
		p.await(ts, "progress")
	}
	p.end(syscall.SIGKILL)
}
