package main

import (
	"fmt"
	"os"
	"runtime/pprof"

	"github.com/spf13/cobra"
)

// profiled makes every command take --cpuprofile FILE: where its time went, for
// go tool pprof. The profile is written however the command ends.
func (a *app) profiled(c *cobra.Command) {
	if run := c.RunE; run != nil {
		c.RunE = func(cmd *cobra.Command, args []string) (err error) {
			stop, err := startProfile(a.flags.cpuprofile)
			if err != nil {
				return err
			}
			defer func() {
				if failed := stop(); err == nil {
					err = failed
				}
			}()
			return run(cmd, args)
		}
	}
	for _, sub := range c.Commands() {
		a.profiled(sub)
	}
}

// startProfile starts a profile to the file at path, which it makes or replaces;
// stop ends and closes it. Without a path there is nothing to do.
func startProfile(path string) (stop func() error, err error) {
	if path == "" {
		return func() error { return nil }, nil
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, usagef("--cpuprofile: %w", err)
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		_ = f.Close() // nothing was written to it
		return nil, usagef("--cpuprofile: %w", err)
	}
	return func() error {
		pprof.StopCPUProfile()
		if err := f.Close(); err != nil {
			return fmt.Errorf("the profile %s: %w", path, err)
		}
		return nil
	}, nil
}
