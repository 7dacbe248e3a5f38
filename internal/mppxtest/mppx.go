// Package mppxtest runs mppx, a client and server of the Payment scheme that others
// wrote, for tests: the version that clients/js names, installed once by npm from its
// lock file. It fetches what is missing and fails where it cannot; it never skips.
package mppxtest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spillway/spillway/internal/programs"
)

// limit bounds one run of a script.
const limit = 90 * time.Second

// oldest is the oldest node that is taken as it is installed.
const oldest = 20

// Kit is an installed mppx.
type Kit struct {
	node    string // the program, or the folder that it is first in
	modules string // node_modules
	js      string // clients/js of this repository
}

// Install returns mppx, installed where it is not yet.
func Install(t testing.TB) *Kit {
	t.Helper()
	k, err := install()
	if err != nil {
		t.Fatalf("no mppx: %v", err)
	}
	return k
}

func install() (*Kit, error) {
	root, err := programs.Root()
	if err != nil {
		return nil, err
	}
	k := &Kit{js: filepath.Join(root, "clients", "js")}
	if k.node, err = node(); err != nil {
		return nil, err
	}
	sum := sha256.New()
	for _, name := range []string{"package.json", "package-lock.json", ".npmrc"} {
		raw, err := os.ReadFile(filepath.Join(k.js, name))
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(sum, "%s %d\n%s", name, len(raw), raw)
	}
	dir, err := programs.Cache("mppx-" + hex.EncodeToString(sum.Sum(nil)[:8]))
	if err != nil {
		return nil, err
	}
	k.modules = filepath.Join(dir, "node_modules")
	return k, programs.Once(dir, func() error {
		for _, name := range []string{"package.json", "package-lock.json", ".npmrc"} {
			raw, err := os.ReadFile(filepath.Join(k.js, name))
			if err == nil {
				err = os.WriteFile(filepath.Join(dir, name), raw, 0o644)
			}
			if err != nil {
				return err
			}
		}
		cmd := exec.Command("npm", "ci", "--legacy-peer-deps", "--ignore-scripts", "--no-audit", "--no-fund")
		cmd.Dir, cmd.Env = dir, k.env()
		if cmd.Path, cmd.Err = k.program("npm"); cmd.Err != nil {
			return cmd.Err
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("npm ci: %w\n%s", err, out)
		}
		return nil
	})
}

// node is the folder of a node and npm that are new enough: the installed ones, else
// Debian's, unpacked.
func node() (string, error) {
	if path, err := exec.LookPath("node"); err == nil {
		out, err := exec.Command(path, "--version").Output()
		major, _, _ := strings.Cut(strings.TrimPrefix(string(out), "v"), ".")
		n, bad := strconv.Atoi(major)
		if _, npm := exec.LookPath("npm"); err == nil && bad == nil && npm == nil && n >= oldest {
			return filepath.Dir(path), nil
		}
	}
	dir, err := programs.Get("node", "get-node")
	return filepath.Join(dir, "bin"), err
}

func (k *Kit) program(name string) (string, error) {
	path := filepath.Join(k.node, name)
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	return exec.LookPath(name)
}

// env is the environment of every run: a home of its own, no proxy, no payment
// settings of the machine's.
func (k *Kit) env(more ...string) []string {
	env := []string{"PATH=" + k.node + string(os.PathListSeparator) + os.Getenv("PATH"), "NO_COLOR=1"}
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		switch upper := strings.ToUpper(name); {
		case name == "PATH", name == "NO_COLOR", strings.HasPrefix(upper, "MPPX"), strings.HasPrefix(upper, "MPP_"), strings.HasPrefix(upper, "SPILLWAY_"):
		default:
			env = append(env, v)
		}
	}
	return append(env, more...)
}

// CLI runs the mppx program to its end and returns what it wrote.
func (k *Kit) CLI(t testing.TB, args ...string) (out string, err error) {
	t.Helper()
	return k.run(t, nil, append([]string{filepath.Join(k.modules, "mppx", "dist", "bin.js")}, args...)...)
}

// Work is a folder in which the clients of this repository and mppx can be imported: as
// "./client.js", "./server.js" and "mppx/…".
func (k *Kit) Work(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	files, err := filepath.Glob(filepath.Join(k.js, "*.js"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no clients in %s: %v", k.js, err)
	}
	for _, file := range append(files, filepath.Join(k.js, "package.json")) {
		raw, err := os.ReadFile(file)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, filepath.Base(file)), raw, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(k.modules, filepath.Join(dir, "node_modules")); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Script runs an ES module in a Work folder to its end, with its environment and
// arguments, and returns its standard output. It ends the test where the script fails.
func (k *Kit) Script(t testing.TB, dir, source string, env []string, args ...string) string {
	t.Helper()
	out, err := k.run(t, env, append([]string{k.write(t, dir, source)}, args...)...)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return out
}

func (k *Kit) write(t testing.TB, dir, source string) string {
	t.Helper()
	file, err := os.CreateTemp(dir, "script-*.mjs")
	if err == nil {
		_, err = file.WriteString(source)
		err = errors.Join(err, file.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	return file.Name()
}

func (k *Kit) run(t testing.TB, env []string, args ...string) (string, error) {
	t.Helper()
	path, err := k.program("node")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = append(k.env("HOME="+t.TempDir()), env...)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	k.group(cmd)
	err = cmd.Run()
	if err != nil {
		err = fmt.Errorf("node %s: %w\n%s", strings.Join(args, " "), err, said.String())
	}
	return out.String(), err
}

// group makes the run end with all that it started.
func (k *Kit) group(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
}

// Serve runs an ES module that writes its address as its first line and serves until the
// test ends. It returns that line.
func (k *Kit) Serve(t testing.TB, dir, source string, env []string, args ...string) string {
	t.Helper()
	path, err := k.program("node")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, path, append([]string{k.write(t, dir, source)}, args...)...)
	cmd.Env = append(k.env("HOME="+t.TempDir()), env...)
	var said bytes.Buffer
	cmd.Stderr = &said
	k.group(cmd)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	first := make(chan string, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		line := make([]byte, 0, 128)
		var b [1]byte
		for {
			if _, err := out.Read(b[:]); err != nil {
				first <- ""
				break
			}
			if b[0] == '\n' {
				first <- string(line)
				break
			}
			line = append(line, b[0])
		}
		if _, err := io.Copy(io.Discard, out); err != nil {
			return // it was ended
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		if err := cmd.Wait(); err != nil && t.Failed() {
			t.Logf("node: %v\n%s", err, said.String())
		}
	})
	select {
	case line := <-first:
		if line == "" {
			cancel()
			<-done
			t.Fatalf("the server did not start:\n%s", said.String())
		}
		return line
	case <-time.After(limit):
		t.Fatal("the server did not start in time")
		return ""
	}
}
