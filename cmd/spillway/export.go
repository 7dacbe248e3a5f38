package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/internal/durable"
	"github.com/spillway/spillway/payer"
)

// exportsFolder is where a payer's exports are kept, in its folder.
const exportsFolder = "exports"

// maxExportFile is how many bytes of an export are read.
const maxExportFile = 4 << 20

func (a *app) exportCommand() *cobra.Command {
	var to string
	cmd := &cobra.Command{
		Use: "export ID", Short: "What brings back a channel's unpaid money with the wallet's words, to keep somewhere safe", Args: cobra.ExactArgs(1),
		Long: `Writes all that is needed, beside the wallet's words, to get back what is unpaid
in a channel on another machine: spillway wallet restore, then spillway channels
import FILE. The refund itself, complete, is in it too. It holds no private key.
Every channel is exported by itself before its funding is broadcast; see get.`,
		RunE: func(cmd *cobra.Command, args []string) error { return a.channelExport(cmd.Context(), args[0], to) },
	}
	cmd.Flags().StringVarP(&to, "output", "o", "", "file to write to (default: standard output)")
	return cmd
}

func (a *app) importCommand() *cobra.Command {
	return &cobra.Command{
		Use: "import FILE…", Short: "Take channels back from their exports, to refund them", Args: cobra.MinimumNArgs(1),
		Long: `Reads channels back from their exports, on a machine where the wallet was
restored from its words. What was signed after an export is not known, so such a
channel is never paid in again: the provider settles what it was paid, or the
refund brings everything back from the expiry on.`,
		RunE: func(cmd *cobra.Command, args []string) error { return a.channelsImport(cmd.Context(), args) },
	}
}

func (a *app) channelExport(ctx context.Context, id, to string) (err error) {
	found, err := a.find(ctx, id)
	if err != nil {
		return err
	}
	b, err := a.openBuyer(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	e, err := b.payer.Export(ctx, found.ID)
	if err != nil {
		return err
	}
	raw, err := e.Encode()
	if err != nil {
		return err
	}
	refund, err := channel.DecodeTx(e.RefundTx)
	if err != nil {
		return err
	}
	if to != "" {
		if err := writeExport(to, e, raw); err != nil {
			return err
		}
		a.out.print("channel %s is exported to %s", found.ID, to)
	} else {
		a.out.say("Channel %s. Its refund is valid from height %d on.", found.ID, e.Terms.Expiry)
		a.out.print("%s", strings.TrimSpace(string(raw)))
	}
	return a.out.result(map[string]any{"channel_id": found.ID, "refund_txid": refund.TxHash().String(), "hex": e.RefundTx.String(),
		"valid_from_height": e.Terms.Expiry, "file": to, "export": json.RawMessage(raw)})
}

// exportPath is where a channel's export is kept in a folder.
func exportPath(dir, id string) string {
	return filepath.Join(dir, strings.ReplaceAll(id, ":", "-")+".json")
}

// writeExport writes an export, mode 0600, durably. It takes the place of an older
// one of the same channel and of nothing else.
func writeExport(path string, e payer.Export, raw []byte) error {
	old, err := readExport(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return &failure{exit: exitUsage, code: "file-exists", message: fmt.Sprintf("%s is there and is no export of this channel: %v", path, err),
			money: noMoney, next: "Name another file.", err: err}
	case old.Terms.ID() != e.Terms.ID() || old.Newest.Newer(e.Newest):
		return &failure{exit: exitUsage, code: "file-exists", message: path + " is the export of another channel, or a newer one",
			money: noMoney, next: "Name another file."}
	}
	return localFile(durable.Write(path, raw))
}

// localFile is an error of a file that was to be written.
func localFile(err error) error {
	if err == nil {
		return nil
	}
	f := *explain(err)
	if f.exit == exitDefect || f.exit == exitUsage {
		return localError(err)
	}
	return err
}

// readExport reads an export. Errors: those of payer.DecodeExport, of the file.
func readExport(path string) (e payer.Export, err error) {
	f, err := os.Open(path)
	if err != nil {
		return e, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	raw, err := io.ReadAll(io.LimitReader(f, maxExportFile))
	if err != nil {
		return e, err
	}
	if e, err = payer.DecodeExport(raw); err != nil {
		return e, fmt.Errorf("%s: %w", path, err)
	}
	return e, nil
}

// keepExport writes a channel's export into the buyer's folder, before the channel's
// opening leaves.
func (b *buyer) keepExport(_ context.Context, e payer.Export) error {
	if b.exports == "" {
		return nil
	}
	if err := os.MkdirAll(b.exports, 0o700); err != nil {
		return localError(err)
	}
	if err := durable.Dir(filepath.Dir(b.exports)); err != nil {
		return localError(err)
	}
	raw, err := e.Encode()
	if err != nil {
		return err
	}
	path := exportPath(b.exports, e.Terms.ID())
	if err := writeExport(path, e, raw); err != nil {
		return err
	}
	b.app.out.say("Kept %s: with it and the wallet's words what is unpaid comes back on any machine, from height %d on. Copy it elsewhere.", path, e.Terms.Expiry)
	return b.app.out.event("export", map[string]any{"channel_id": e.Terms.ID(), "file": path})
}

// keepIn says where get keeps exports.
func (b *buyer) keepIn(f getFlags) {
	switch {
	case f.noExport:
		b.exports = ""
	case f.exports != "":
		b.exports = f.exports
	}
}

// exported is the file that a channel's export is kept in; "": there is none.
func (b *buyer) exported(id string) string {
	if b.exports == "" || id == "" {
		return ""
	}
	path := exportPath(b.exports, id)
	if _, err := os.Lstat(path); err != nil {
		return ""
	}
	return path
}

// tidyExports brings the exports that are kept up to date: the newest amount that was
// signed, and none of a channel that is over.
func (b *buyer) tidyExports(ctx context.Context) error {
	records, err := b.payer.Records(ctx)
	if err != nil || b.exports == "" {
		return err
	}
	var failed []error
	for _, r := range records {
		path := b.exported(r.Terms.ID())
		switch {
		case path == "":
		case r.Phase.Final():
			failed = append(failed, durable.Remove(path))
		default:
			failed = append(failed, b.renewExport(ctx, path, r))
		}
	}
	return errors.Join(failed...)
}

func (b *buyer) renewExport(ctx context.Context, path string, r channel.PayerRecord) error {
	old, err := readExport(path)
	if err == nil && !r.Newest().Newer(old.Newest) {
		return nil
	}
	e, err := b.payer.Export(ctx, r.Terms.ID())
	if err != nil {
		return err
	}
	raw, err := e.Encode()
	if err != nil {
		return err
	}
	return durable.Write(path, raw)
}

func (a *app) channelsImport(ctx context.Context, paths []string) (err error) {
	exports := make([]payer.Export, len(paths))
	for i, path := range paths {
		if exports[i], err = readExport(path); err != nil {
			return err
		}
	}
	if !a.exists("payer") {
		return &failure{exit: exitLocal, code: "no-wallet", message: "there is no wallet in " + a.folder("payer"), money: noMoney,
			next: "Make it from its words first: spillway wallet restore"}
	}
	b, err := a.openBuyer(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	rows := []map[string]any{}
	for i, e := range exports {
		got, err := b.payer.Import(ctx, e)
		if err != nil {
			return fmt.Errorf("%s: %w", paths[i], err)
		}
		rows = append(rows, a.tellImported(paths[i], got))
	}
	if err := b.look(ctx); err != nil {
		a.out.say("The chain could not be asked at the end: %v", err)
	}
	return a.out.result(map[string]any{"channels": rows})
}

// tellImported says what a channel that was read back is worth, and when.
func (a *app) tellImported(path string, got payer.Imported) map[string]any {
	r, t := got.Record, got.Record.Terms
	switch {
	case r.Phase == channel.Abandoned:
		a.out.print("%s: channel %s never came to be: the coins of its funding were spent elsewhere. There is nothing to get back.", path, t.ID())
	case got.Over:
		a.out.print("%s: channel %s is over: %s spent it, and what was yours is in the wallet.", path, t.ID(), r.SpentBy)
	case r.SpentBy != "":
		a.out.print("%s: channel %s is being closed by %s; what it leaves you comes to the wallet.", path, t.ID(), r.SpentBy)
	case !r.FundingSent:
		a.out.print("%s: the funding of channel %s is not on the chain: nothing is locked. Should it appear, the refund is possible from height %d on.", path, t.ID(), t.Expiry)
	default:
		a.out.print("%s: channel %s holds %d sat. The provider may settle what it was paid (%d sat or more); everything else comes back with the refund, from height %d on (now: %d): spillway channels refund %s",
			path, t.ID(), t.Capacity, r.Signed, t.Expiry, got.View.Tip, t.ID())
	}
	return map[string]any{"file": path, "channel_id": t.ID(), "phase": r.Phase, "capacity_sat": t.Capacity, "signed_sat": r.Signed,
		"expiry_height": t.Expiry, "closing_txid": r.SpentBy, "over": got.Over}
}
