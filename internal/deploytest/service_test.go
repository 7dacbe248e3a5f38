package deploytest

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// settings are the keys of the settings file, of all commands and of serve.
func settings(t *testing.T) map[string]bool {
	t.Helper()
	keys, section := map[string]bool{}, ""
	for line := range strings.Lines(read(t, "docs/spillway.toml")) {
		if strings.HasPrefix(line, "[") {
			section = strings.TrimSpace(line)
		}
		if m := regexp.MustCompile(`^#([a-z][a-z0-9-]*) = `).FindStringSubmatch(line); m != nil && (section == "" || section == "[serve]") {
			keys[m[1]] = true
		}
	}
	if !keys["log-format"] || !keys["metrics-listen"] {
		t.Fatal("docs/spillway.toml was not understood")
	}
	keys["config"] = true
	return keys
}

// checkSettings refuses variables and flags that the program does not know.
func checkSettings(t *testing.T, file, text string) {
	t.Helper()
	known := settings(t)
	for _, name := range regexp.MustCompile(`SPILLWAY_[A-Z_]+`).FindAllString(text, -1) {
		if key := strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(name, "SPILLWAY_"), "_", "-")); !known[key] {
			t.Errorf("%s sets %s, which no setting has", file, name)
		}
	}
	for _, m := range regexp.MustCompile(`[" ]--([a-z][a-z-]+)`).FindAllStringSubmatch(text, -1) {
		if !known[m[1]] && !slices.Contains([]string{"quiet", "from", "chown", "interval", "timeout", "start-period", "name"}, m[1]) {
			t.Errorf("%s gives --%s, which serve does not take", file, m[1])
		}
	}
}

// TestServiceUnit: systemd takes the unit, rates it as little exposed, and its settings
// are the program's.
func TestServiceUnit(t *testing.T) {
	unit := read(t, "deploy/systemd/spillway.service")
	for _, want := range []string{"Type=notify", "WatchdogSec=", "ExecReload=", "LoadCredential=", "NoNewPrivileges=yes", "ProtectSystem=strict", "LimitCORE=0", "UMask=0077", "RestartPreventExitStatus=2 3"} {
		if !strings.Contains(unit, "\n"+want) {
			t.Errorf("the unit has no %s", want)
		}
	}
	var set []string
	for line := range strings.Lines(unit) {
		if strings.HasPrefix(line, "Environment=") || strings.HasPrefix(line, "ExecStart=") {
			set = append(set, line)
		}
	}
	checkSettings(t, "spillway.service", strings.Join(set, ""))
	path := filepath.Join(t.TempDir(), "spillway.service")
	here := strings.ReplaceAll(unit, "/usr/local/bin/spillway", "/bin/true") // it is not installed here
	if err := os.WriteFile(path, []byte(here), 0o600); err != nil {
		t.Fatal(err)
	}
	analyze := tool(t, "systemd-analyze")
	if out := run(t, "", analyze, "verify", "--man=no", path); strings.Contains(out, "spillway.service") {
		t.Errorf("systemd-analyze verify: %s", out)
	}
	run(t, "", analyze, "security", "--offline=true", "--threshold=15", "--no-pager", path) // of 100
}

// instructions of a container file, as its reference has them.
var instructions = []string{"FROM", "RUN", "COPY", "WORKDIR", "ENV", "USER", "VOLUME", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT", "CMD", "LABEL", "ARG"}

// TestContainerfile: the container file is one, copies what is there, runs as nobody, and
// gives flags that serve has. What it builds is built by hand here, and by no engine.
func TestContainerfile(t *testing.T) {
	text := strings.ReplaceAll(read(t, "deploy/container/Containerfile"), "\\\n", " ")
	stages, user, entry := []string{}, "", ""
	var given []string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		word, rest, _ := strings.Cut(line, " ")
		if !slices.Contains(instructions, word) {
			t.Errorf("%q is no instruction", line)
		}
		switch word {
		case "FROM":
			if _, name, ok := strings.Cut(rest, " AS "); ok {
				stages = append(stages, name)
			}
		case "COPY":
			fields := strings.Fields(rest)
			from := ""
			for len(fields) > 0 && strings.HasPrefix(fields[0], "--") {
				if name, ok := strings.CutPrefix(fields[0], "--from="); ok {
					from = name
				}
				fields = fields[1:]
			}
			if from != "" && !slices.Contains(stages, from) {
				t.Errorf("%q copies from a stage that is not there", line)
			}
			for _, source := range fields[:len(fields)-1] {
				if _, err := os.Stat(filepath.Join(root, source)); from == "" && err != nil {
					t.Errorf("%q copies what is not there: %v", line, err)
				}
			}
		case "USER":
			user = rest
		case "ENTRYPOINT":
			entry = rest
		case "ENV", "CMD", "HEALTHCHECK":
			given = append(given, line)
		}
	}
	checkSettings(t, "Containerfile", strings.Join(given, "\n"))
	if user == "" || strings.HasPrefix(user, "0") || strings.HasPrefix(user, "root") || !strings.HasPrefix(entry, `["/usr/local/bin/spillway"`) {
		t.Errorf("it runs %s as %q", entry, user)
	}
	gomod := read(t, "go.mod")
	version := regexp.MustCompile(`(?m)^go ([0-9]+\.[0-9]+)`).FindStringSubmatch(gomod)[1]
	if !strings.Contains(text, "golang:"+version+"-") {
		t.Errorf("the container builds with another Go than go.mod's %s", version)
	}
}

// TestBuildsFromTheRepository: the container's build line is one that this machine's Go
// takes, for a program without libraries of the system.
func TestBuildsFromTheRepository(t *testing.T) {
	line := regexp.MustCompile(`(?m)^RUN CGO_ENABLED=0 go build (.*) -o /out/spillway (\S+)$`).FindStringSubmatch(read(t, "deploy/container/Containerfile"))
	if line == nil {
		t.Fatal("there is no such line")
	}
	cmd := exec.Command("go", append(append([]string{"list", "-deps", "-f", "{{if .CgoFiles}}{{.ImportPath}}{{end}}"}, strings.Fields(strings.ReplaceAll(line[1], "-ldflags=-s", ""))...), line[2])...)
	cmd.Dir, cmd.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "" {
		t.Errorf("%v: packages that need C: %s", err, out)
	}
}
