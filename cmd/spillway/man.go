package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// manCommand writes the manual pages, one for each command, from the same words
// that --help prints.
func (a *app) manCommand() *cobra.Command {
	return &cobra.Command{
		Use: "man DIR", Annotations: map[string]string{unsettled: "yes"}, Short: "Write the manual pages, one for each command, into a folder",
		Example: "  spillway man ~/.local/share/man/man1\n  man spillway-get",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir := args[0]
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return fmt.Errorf("the folder of the manual pages: %w", err)
			}
			root := cmd.Root()
			root.DisableAutoGenTag = true
			// the same pages from the same program: no day of today in them
			day := time.Unix(0, 0).UTC()
			header := &doc.GenManHeader{Section: "1", Source: "Spillway", Manual: "Spillway", Date: &day}
			if err := doc.GenManTree(root, header, dir); err != nil {
				return fmt.Errorf("the manual pages: %w", err)
			}
			pages, err := filepath.Glob(filepath.Join(dir, "spillway*.1"))
			if err != nil {
				return err
			}
			a.out.print("%d manual pages in %s", len(pages), dir)
			return a.out.result(map[string]any{"folder": dir, "pages": len(pages)})
		},
	}
}
