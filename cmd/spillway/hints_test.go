package main

import (
	"bytes"
	"context"
	"strings"
	"testing"
)

// TestHintsAreRunnable: a command that is named to a person has the common flags that were
// given, in a shell's form, and nothing else is touched.
func TestHintsAreRunnable(t *testing.T) {
	a := &app{out: newOutput(&bytes.Buffer{}, &bytes.Buffer{})}
	root := a.root()
	cmd, rest, err := root.Find([]string{"channels", "close"})
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.ParseFlags(append(rest, "--data", "/tmp/a folder", "--network", "signet", "--chain", "http://a", "--chain", "http://b")); err != nil {
		t.Fatal(err)
	}
	h := hintsOf(cmd)
	const flags = "--data '/tmp/a folder' --network signet --chain http://a --chain http://b "
	for text, want := range map[string]string{
		"Close it with: spillway channels close ab:0": "Close it with: spillway " + flags + "channels close ab:0",
		"(spillway serve PATH)":                       "(spillway " + flags + "serve PATH)",
		"spillway get A; or spillway open B":          "spillway " + flags + "get A; or spillway " + flags + "open B",
		"Use the newer version of spillway that":      "Use the newer version of spillway that",
		"/opt/spillway get":                           "/opt/spillway get",
		forOthers + "spillway get http://h/f":         forOthers + "spillway get http://h/f",
		"spillway getting":                            "spillway getting",
	} {
		if got := h.runnable(text); got != want {
			t.Errorf("%q became %q, want %q", text, got, want)
		}
	}
	if h := hintsOf((&app{out: newOutput(&bytes.Buffer{}, &bytes.Buffer{})}).root()); h != nil || h.runnable("spillway get x") != "spillway get x" {
		t.Errorf("without flags: %+v", h)
	}
}

// TestHintsOfErrors: an error's next command looks where the failed one did.
func TestHintsOfErrors(t *testing.T) {
	dir := t.TempDir()
	var stdout, stderr bytes.Buffer
	if code := runUntil(context.Background(), []string{"channels", "show", "abcdef", "--data", dir}, strings.NewReader(""), &stdout, &stderr); code != exitUsage {
		t.Fatalf("exit %d", code)
	}
	if want := "spillway --data " + dir + " channels list"; !strings.Contains(stderr.String(), want) {
		t.Errorf("%q is not in %q", want, stderr.String())
	}
}
