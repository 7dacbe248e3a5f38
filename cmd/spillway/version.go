package main

import (
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Annotations: map[string]string{unsettled: "yes"}, Short: "The version of this program", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			version, revision := "unknown", "unknown"
			if info, ok := debug.ReadBuildInfo(); ok {
				version = info.Main.Version
				for _, s := range info.Settings {
					if s.Key == "vcs.revision" {
						revision = s.Value
					}
				}
			}
			a.out.print("spillway %s (%s, %s)", version, revision, runtime.Version())
			return a.out.result(map[string]any{"version": version, "revision": revision, "go": runtime.Version()})
		},
	}
}
