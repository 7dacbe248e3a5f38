// Command spillway sells and buys data for bitcoin, chunk by chunk, over
// self-custodial on-chain payment channels.
//
// The command only wires packages together: it reads flags, opens folders and
// listeners, starts the goroutines that the drivers never start, and tells a
// person or a script what happens. No rule about money lives here.
package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/internal/settings"
	"github.com/spillway/spillway/payee"
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run is main without the process: it returns the exit code. See errors.go.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return runUntil(ctx, args, stdin, stdout, stderr)
}

// runUntil is run until the context ends.
func runUntil(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	a := &app{out: newOutput(stdout, stderr), stdin: stdin, alarms: &alarms{}, reloads: &reloads{}}
	// a complaint about the arguments comes before the flags are read
	a.out.json = slices.Contains(args, "--json") || slices.Contains(args, "--json=true") || os.Getenv("SPILLWAY_JSON") == "true"
	root := a.root()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitDone
	}
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		err = &failure{exit: exitInterrupted, code: "interrupted", message: "interrupted",
			money: "Nothing is lost: what was received and verified is kept, what was signed is recorded.",
			next:  "Run the same command again; it goes on from here."}
	}
	return a.out.fail(err)
}

// app is one invocation: its common flags and where it writes.
type app struct {
	out   *output
	stdin io.Reader
	flags struct {
		config, data, network, passphraseFile, cpuprofile string
		chain                                             []string
		json, quiet, verbose                              bool
		logFormat, logLevel                               string
	}
	caps    caps
	config  *settings.File    // nil: there is none
	origins map[string]origin // of the flags that were set, by name

	homeless bool         // the command that runs asks for no data folder
	section0 string       // of the settings, of the command that runs
	alarms   *alarms      // that are not over
	reloads  *reloads     // what is read again when the provider is told to
	cert     *certificate // of the listener; nil: it has none

	// observer, where it is set before a provider is opened, is told beside its metrics
	observer payee.Observer
	// spend, where it is set before a buyer is opened, has the last word on its payments
	spend      func(r channel.PayerRecord, more uint64) error
	secret     *string // the passphrase, once it was read: it may come from a pipe
	chainTyped bool    // --chain was on the command line, where everybody on the machine sees it
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "spillway",
		Short: "Sell and buy data for bitcoin, by the chunk, over on-chain payment channels",
		Long: `Spillway sells and buys data for bitcoin, chunk by chunk, over payment channels
that live on the chain itself: no Lightning node, no custodian, no account.

The payer locks money in a funding transaction, holding a refund that becomes
valid later; after every chunk that it has received and verified it signs a
little more to the provider; at the end one transaction settles.

Start with:  spillway demo`,
		SilenceUsage:  true,
		SilenceErrors: true,
		PersistentPreRunE: func(cmd *cobra.Command, args []string) error {
			a.chainTyped, a.out.hints = cmd.Flags().Changed("chain"), hintsOf(cmd)
			if err := checkTyped(cmd, args); err != nil {
				return err
			}
			if err := a.settle(cmd); err != nil {
				return err
			}
			a.out.configure(a.flags.json, a.flags.quiet, a.flags.verbose)
			a.section0, a.homeless = sectionOf(cmd), cmd.Annotations[unsettled] != ""
			if err := a.out.setLog(a.flags.logFormat, a.flags.logLevel); err != nil {
				return err
			}
			a.warnOfSecrets(cmd)
			return a.checkFlags()
		},
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	f := root.PersistentFlags()
	f.StringVar(&a.flags.config, "config", "", "file with settings, in TOML (default: spillway/config.toml in the user's configuration folder, where it is there)")
	f.StringVar(&a.flags.data, "data", "", "data folder (default: the user's data directory)")
	f.StringVar(&a.flags.network, "network", "regtest", "regtest, signet, testnet4 or mainnet")
	f.StringArrayVar(&a.flags.chain, "chain", nil, "the blockchain: the URL of an Esplora, bitcoind://[USER@]HOST[:PORT][?cookie=PATH], btcd://USER@HOST[:PORT][?password-file=PATH], or neutrino://[PEER,PEER] for a light client; given twice, both are asked and compared (default: on regtest the devnet at 127.0.0.1:3002, elsewhere a light client for payers)")
	a.caps.flags(f)
	f.StringVar(&a.flags.passphraseFile, "passphrase-file", "", "file that holds the passphrase of the seed")
	f.BoolVar(&a.flags.json, "json", false, "one JSON object a line on stdout")
	f.BoolVar(&a.flags.quiet, "quiet", false, "say nothing but the result")
	f.BoolVar(&a.flags.verbose, "verbose", false, "say more, on stderr")
	f.StringVar(&a.flags.logLevel, "log-level", "", "what is logged on stderr: off, error, warn, info or debug (default: off, with --verbose debug)")
	f.StringVar(&a.flags.logFormat, "log-format", "text", "form of the log: text, or json: then stderr holds nothing else")
	f.StringVar(&a.flags.cpuprofile, "cpuprofile", "", "write where the time went to this file, for go tool pprof")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usage(err) })
	root.AddCommand(a.demoCommand(), a.devnetCommand(), a.serveCommand(), a.proxyCommand(), a.verifierCommand(), a.payProxyCommand(), a.getCommand(), a.openCommand(), a.credentialCommand(), a.lsCommand(), a.quoteCommand(), a.earningsCommand(),
		a.channelsCommand(), a.walletCommand(), a.backupCommand(), a.restoreCommand(), a.towerCommand(), a.benchCommand(), a.configCommand(), a.statusCommand(), a.reloadCommand(), a.webhooksCommand(), a.doctorCommand(), a.versionCommand(), a.manCommand(), a.actorCommand())
	checkTopics(root)
	for _, c := range root.Commands() {
		wrapArgs(c)
		a.profiled(c)
	}
	return root
}

// wrapArgs turns every complaint about arguments into a usage error.
func wrapArgs(c *cobra.Command) {
	if check := c.Args; check != nil {
		c.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return usage(err)
			}
			return nil
		}
	}
	for _, sub := range c.Commands() {
		wrapArgs(sub)
	}
}
