package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/spillway/spillway/chain/devnet"
)

// devnetAddress is where the devnet listens unless it is told otherwise.
const devnetAddress = "127.0.0.1:3002"

func (a *app) devnetCommand() *cobra.Command {
	var listen string
	var memory bool
	var every time.Duration
	cmd := &cobra.Command{
		Use:   "devnet",
		Short: "Run the embedded regtest chain alone, with its Esplora API and faucet",
		Long: `Runs a Bitcoin regtest chain in this process: btcd's own consensus and mempool,
an Esplora HTTP API, a faucet (POST /faucet), blocks on demand (POST /mine) and
reorgs (POST /reorg). It mines a block for each transaction and one every ten
seconds. Its coins are worth nothing.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir := filepath.Join(a.flags.data, "devnet")
			if memory {
				dir = ""
			}
			if !a.regtest() {
				return usagef("the devnet is a regtest chain, not %s", a.flags.network)
			}
			if every < 0 {
				return usagef("--every is a time such as 10s, not %v", every)
			}
			if _, err := checkAddress(listen); err != nil {
				return err
			}
			d, err := a.startDevnet(dir, listen, every)
			if err != nil {
				return err
			}
			a.out.say("devnet: Esplora API at %s, faucet at POST %s/faucet; stop with Ctrl-C", d.url, d.url)
			if err := a.out.event("devnet", map[string]any{"url": d.url}); err != nil {
				return errors.Join(err, d.Close())
			}
			<-cmd.Context().Done()
			if err := d.Close(); err != nil {
				return err
			}
			return a.out.result(map[string]any{"url": d.url})
		},
	}
	cmd.Flags().StringVar(&listen, "listen", devnetAddress, "address of the Esplora API")
	cmd.Flags().BoolVar(&memory, "memory", false, "keep nothing on disk")
	cmd.Flags().DurationVar(&every, "every", 10*time.Second, "mine a block this often; 0: only when a transaction arrives")
	return cmd
}

// running is a devnet of this process and its listener.
type running struct {
	node   *devnet.Node
	server *http.Server
	url    string
	done   chan error
}

func (a *app) startDevnet(dir, listen string, every time.Duration) (*running, error) {
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return nil, &failure{exit: exitLocal, code: "listen", message: err.Error(), money: noMoney,
			next: "Free the address or choose another with --listen.", err: err}
	}
	node, err := devnet.New(devnet.Config{Dir: dir, MineEvery: every, MineOnTx: true, Logger: a.out.logger()})
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	d := &running{node: node, url: "http://" + l.Addr().String(), done: make(chan error, 1)}
	d.server = quickStop(&http.Server{
		Handler: node.Handler(), ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second,
		WriteTimeout: time.Minute, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
	})
	go func() { d.done <- d.server.Serve(l) }()
	return d, nil
}

// Close stops the listener and the node.
func (d *running) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	err := d.server.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) { // a connection that was opened and never used
		err = d.server.Close()
	}
	if served := <-d.done; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return errors.Join(err, d.node.Close())
}
