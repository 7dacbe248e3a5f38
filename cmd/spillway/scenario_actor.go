package main

import (
	"context"
	"os"

	"github.com/spf13/cobra"

	"github.com/spillway/spillway/internal/scenario"
)

// actorName is the hidden command that plays one part of a scenario.
const actorName = "actor"

// actorCommand is what demo --scenario starts for the chain and for each side. It is
// for no person: it takes orders as lines of JSON, and ends when they do. An interrupt
// is the story's to answer, which shares the terminal with it.
func (a *app) actorCommand() *cobra.Command {
	return &cobra.Command{
		Use: actorName, Short: "Play one part of a scenario, by orders on the standard input", Hidden: true, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return scenario.Act(context.WithoutCancel(cmd.Context()), a.stdin, cmd.OutOrStdout())
		},
	}
}

// company are actors that this program plays.
func company() (scenario.Company, error) {
	exe, err := os.Executable()
	if err != nil {
		return scenario.Company{}, localError(err)
	}
	return scenario.Company{Path: exe, Args: []string{os.Args[0], actorName}}, nil
}
