package main

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/spillway/spillway/internal/gateway"
	"github.com/spillway/spillway/internal/webhook"
)

func (a *app) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "How the provider that runs on this data folder is", Args: cobra.NoArgs,
		Long: `Asks the provider that runs on this data folder: how many channels there are and
what is in them, how its blockchain is, which alarms there are, and how its webhooks
are. It ends with 7 where the provider cannot sell now.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.status(cmd.Context()) },
	}
}

// providerStatus is what status shows.
type providerStatus struct {
	Ready    bool              `json:"ready"`
	Checks   map[string]string `json:"checks"`
	Channels gateway.Status    `json:"channels"`
	Chain    chainState        `json:"chain"`
	Alarms   []raised          `json:"alarms"`
	Webhooks []webhook.State   `json:"webhooks"`
	Version  string            `json:"version"`
}

// notRunning is the failure of a command that needs a provider that runs.
func notRunning(err error) error {
	if !errors.Is(err, errNoProvider) {
		return err
	}
	return &failure{exit: exitUsage, code: "no-provider", message: err.Error(), money: noMoney,
		next: "Start it with: spillway serve PATH, or name its folder with --data and --network.", err: err}
}

func (a *app) status(ctx context.Context) error {
	var s providerStatus
	var alarms struct{ Alarms []raised }
	var hooks struct{ Webhooks []webhook.State }
	var b build
	for path, into := range map[string]any{"/v1/status": &s.Channels, "/v1/chain": &s.Chain, "/v1/alarms": &alarms, "/v1/webhooks": &hooks, "/v1/version": &b, "/v1/ready": &s} {
		if err := a.askProvider(ctx, http.MethodGet, path, into); err != nil {
			return notRunning(err)
		}
	}
	s.Alarms, s.Webhooks, s.Version = alarms.Alarms, hooks.Webhooks, b.Version
	c := s.Channels
	a.out.print("channels   %d in all; in those that are not over %s paid of %s, %s owed", c.Channels, money(c.Paid*1000), money(c.Capacity*1000), money(c.Owed))
	a.out.print("chain      height %d, its newest block is %s old", s.Chain.Height, max(time.Since(s.Chain.Time), 0).Round(time.Second))
	for _, w := range s.Webhooks {
		line := "taken: " + count(w.Delivered, "event") + ", waiting: " + count(uint64(w.Pending), "event")
		if w.LastError != "" {
			line += "; " + printable(w.LastError)
		}
		a.out.print("webhook    %s  %s", w.Name, line)
	}
	for _, al := range s.Alarms {
		a.out.print("ALARM      %s since %s: %s", al.Kind, al.Since.Format(time.RFC3339), printable(al.Text))
	}
	if s.Ready {
		a.out.print("ready      it can sell")
		return a.out.result(s)
	}
	var why []string
	for name, what := range s.Checks {
		if what != "ok" {
			why = append(why, name+": "+what)
		}
	}
	return &failure{exit: exitChain, code: "not-ready", message: "the provider cannot sell now: " + strings.Join(why, "; "),
		money: keptHere, next: "See the alarms in docs/operations.md; most of this passes by itself."}
}

func (a *app) reloadCommand() *cobra.Command {
	return &cobra.Command{
		Use: "reload", Short: "Have the provider read prices, certificate and log level again", Args: cobra.NoArgs,
		Long: `Has the provider that runs on this data folder read again what can be read again: the
price list, the certificate, the rules of a proxy, and the log's level in the settings
file; SIGHUP does the same. What has a mistake stays as it was.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var got struct {
				Reloaded []string `json:"reloaded"`
			}
			if err := a.askProvider(cmd.Context(), http.MethodPost, "/v1/reload", &got); err != nil {
				return notRunning(err)
			}
			a.out.print("read again: %s", strings.Join(got.Reloaded, ", "))
			return a.out.result(got)
		},
	}
}

func (a *app) webhooksCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "webhooks", Short: "How a provider's webhooks are, and trying one", Args: cobra.NoArgs,
		Long: `Shows the webhooks of the provider that runs on this data folder: what each has taken,
what waits for it, and what went wrong last. They stand in the settings file, as
[[webhook]]; see docs/operations.md.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var got struct {
				Webhooks []webhook.State `json:"webhooks"`
			}
			if err := a.askProvider(cmd.Context(), http.MethodGet, "/v1/webhooks", &got); err != nil {
				return notRunning(err)
			}
			for _, w := range got.Webhooks {
				a.out.print("%s  %s  %s  taken %d, waiting %d, failed attempts %d  %s", w.Name, w.URL, strings.Join(w.Events, ","), w.Delivered, w.Pending, w.Failed, printable(w.LastError))
			}
			if len(got.Webhooks) == 0 {
				a.out.say("There are no webhooks: a [[webhook]] of the settings file is one. See: spillway config sample")
			}
			return a.out.result(got)
		},
	}
	cmd.AddCommand(&cobra.Command{
		Use: "test NAME", Short: "Send an event of type test", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var got struct {
				ID string `json:"id"`
			}
			if err := a.tellProvider(cmd.Context(), http.MethodPost, "/v1/webhooks/test", webhookName{args[0]}, &got); err != nil {
				return notRunning(err)
			}
			a.out.print("%s is on its way to %s", got.ID, args[0])
			return a.out.result(map[string]any{"id": got.ID, "name": args[0]})
		},
	})
	return cmd
}
