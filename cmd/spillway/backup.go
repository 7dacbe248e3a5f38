package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/spillway/spillway/internal/web"
	"github.com/spillway/spillway/payee"
	"github.com/spillway/spillway/store"
	"github.com/spillway/spillway/store/sqlite"
)

// backupVersion is the newest form of a backup that this program reads.
const backupVersion = 1

// about is what a backup says of itself.
type about struct {
	Version int    `json:"version"`
	Role    string `json:"role"`
	Network string `json:"network"`
	Made    string `json:"made"` // RFC 3339
}

// errOtherBackup: a backup of something else than is wanted.
var errOtherBackup = errors.New("this backup is of another store")

func (a *app) backupCommand() *cobra.Command {
	return &cobra.Command{
		Use: "backup FILE", Short: "Copy a provider's channels to a file, also while it sells", Args: cobra.ExactArgs(1),
		Long: `Copies what a provider knows of its channels, as it is at one moment, to a new
file; a provider that runs goes on selling. The seed is not in it: keep the
wallet's words apart. See restore for what an old backup is worth.`,
		RunE: func(cmd *cobra.Command, args []string) error { return a.backup(cmd.Context(), args[0]) },
	}
}

func (a *app) restoreCommand() *cobra.Command {
	return &cobra.Command{
		Use: "restore FILE", Short: "Put a provider's channels back from a backup", Args: cobra.ExactArgs(1),
		Long: `Puts a provider's channels back from a backup, where there are none. What was
delivered after the backup is not known any more, so nothing is delivered on
these channels: they are settled at the newest payment, which payers send again
by themselves. New channels are as ever. The seed is restored apart, with:
spillway wallet restore --provider`,
		RunE: func(cmd *cobra.Command, args []string) error { return a.restoreBackup(cmd.Context(), args[0]) },
	}
}

// storePath is the file of a role's store.
func (a *app) storePath(name string) string { return filepath.Join(a.folder(name), "spillway.db") }

func (a *app) backup(ctx context.Context, to string) error {
	if !a.exists("payee") {
		return &failure{exit: exitUsage, code: "no-provider", message: "there is no provider's store in " + a.folder("payee"),
			money: noMoney, next: "Name its folder with --data, and --network."}
	}
	note, err := json.Marshal(about{backupVersion, "payee", a.flags.network, time.Now().UTC().Format(time.RFC3339)})
	if err != nil {
		return err
	}
	if err := sqlite.Backup(ctx, a.storePath("payee"), to, note); err != nil {
		return err
	}
	info, err := os.Stat(to)
	if err != nil {
		return err
	}
	if err := a.noteBackup(to, time.Now()); err != nil {
		a.out.say("doctor will not know of this backup: %v", err)
	}
	a.out.print("backed up to %s (%s); the seed is not in it", to, size(uint64(info.Size())))
	return a.out.result(map[string]any{"file": to, "bytes": info.Size(), "network": a.flags.network, "role": "payee"})
}

func (a *app) restoreBackup(ctx context.Context, from string) error {
	epoch, err := freshEpoch()
	if err != nil {
		return err
	}
	var note about
	channels, open := 0, 0
	err = sqlite.Restore(ctx, from, a.storePath("payee"), func(s *sqlite.Store, raw []byte) error {
		if note, err = a.readAbout(raw); err != nil {
			return err
		}
		if err := payee.Restored(ctx, s, epoch); err != nil {
			return err
		}
		all, err := payee.List(ctx, s)
		for _, r := range all {
			channels++
			if r.Restored {
				open++
			}
		}
		return err
	})
	if errors.Is(err, sqlite.ErrExists) {
		return a.inTheWay(ctx, from, err)
	} else if err != nil {
		return err
	}
	a.out.print("restored the backup of %s to %s: %s, %d of them not over.", note.Made, a.folder("payee"), count(uint64(channels), "channel"), open)
	a.out.say("Nothing more is delivered on these; payers send their newest payment again, and serve settles them before they expire.")
	if _, err := a.readSeed(a.folder("payee")); err != nil {
		a.out.say("The seed has to be put back before serve: spillway wallet restore --provider (%v)", err)
	}
	return a.out.result(map[string]any{"folder": a.folder("payee"), "made": note.Made, "network": note.Network, "channels": channels, "restored": open})
}

// inTheWay says what stands where a backup was to be restored, and how to go on.
func (a *app) inTheWay(ctx context.Context, from string, err error) error {
	f := *explain(err)
	store, aside := a.storePath("payee"), filepath.Join(a.folder("payee"), "before-restore")
	away := fmt.Sprintf("mkdir %s && mv %s* %s/ && spillway restore %s", web.ShellWord(aside), web.ShellWord(store), web.ShellWord(aside), web.ShellWord(from))
	r, failed := a.openFolder(ctx, "payee")
	if failed != nil {
		f.message = fmt.Sprintf("a provider's store is there already: %s (%v)", store, failed)
		f.next = "Stop the provider that runs on it, and run this command again to see what it holds."
		return &f
	}
	all, failed := payee.List(ctx, r.store)
	if failed = errors.Join(failed, r.Close()); failed != nil {
		return errors.Join(err, failed)
	}
	open := 0
	for _, c := range all {
		if !c.Phase.Final() {
			open++
		}
	}
	if len(all) == 0 {
		f.message = fmt.Sprintf("a provider's store is there already, without any channel: %s", store)
		f.next = "Nothing is in it. Move it away and restore: " + away
		return &f
	}
	f.message = fmt.Sprintf("a provider's store is there already: %s, with %s, %d of them not over", store, count(uint64(len(all)), "channel"), open)
	f.next = fmt.Sprintf("If it is this provider's and whole, keep it: it knows more than any backup. To look at the backup, restore it into another folder: spillway restore %s --data DIR. Only if it is damaged, move it away: %s", web.ShellWord(from), away)
	return &f
}

// freshEpoch is a number for a new epoch of challenges: random, so that a backup that
// is restored twice does not take up what the first restore had offered.
func freshEpoch() (uint32, error) {
	var dice [4]byte
	if _, err := rand.Read(dice[:]); err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint32(dice[:]) >> 1, nil
}

// readAbout refuses a backup of something else, or of a newer program.
// Errors: store.ErrDamaged, ErrNewer, errOtherBackup.
func (a *app) readAbout(raw []byte) (about, error) {
	var v struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(raw, &v); err != nil || v.Version < 1 {
		return about{}, fmt.Errorf("%w: what it says of itself: %q", store.ErrDamaged, raw)
	}
	if v.Version > backupVersion {
		return about{}, fmt.Errorf("%w: version %d, this program knows %d", store.ErrNewer, v.Version, backupVersion)
	}
	var is about
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&is); err != nil {
		return is, fmt.Errorf("%w: what it says of itself: %q", store.ErrDamaged, raw)
	}
	if is.Role != "payee" || is.Network != a.flags.network {
		return is, fmt.Errorf("%w: of a %s on %s, not of a payee on %s", errOtherBackup, is.Role, is.Network, a.flags.network)
	}
	return is, nil
}
