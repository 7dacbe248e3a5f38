package main

import (
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// build says what this program was built from.
type build struct {
	Version  string   `json:"version"`
	Revision string   `json:"revision"` // of the source; "unknown" where it was built without
	Time     string   `json:"time,omitempty"`
	Modified bool     `json:"modified"` // the source was not as it was committed
	Go       string   `json:"go"`
	OS       string   `json:"os"`
	Arch     string   `json:"arch"`
	Path     string   `json:"path"`
	Modules  []module `json:"modules"`
}

// module is a module that is built in. A replaced one stands with what replaces it.
type module struct {
	Path    string `json:"path"`
	Version string `json:"version"`
	Sum     string `json:"sum,omitempty"` // as in go.sum
}

func buildInfo() build {
	b := build{Version: "unknown", Revision: "unknown", Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH, Modules: []module{}}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	b.Version, b.Path = info.Main.Version, info.Main.Path
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Revision = s.Value
		case "vcs.time":
			b.Time = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		b.Modules = append(b.Modules, module{m.Path, m.Version, m.Sum})
	}
	return b
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Annotations: map[string]string{unsettled: "yes"}, Short: "The version of this program, and what it was built from", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			b := buildInfo()
			changed := ""
			if b.Modified {
				changed = ", changed"
			}
			a.out.print("spillway %s (%s%s, %s, %s/%s, %d modules)", b.Version, b.Revision, changed, b.Go, b.OS, b.Arch, len(b.Modules))
			return a.out.result(b)
		},
	}
}
