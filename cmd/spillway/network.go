package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/pflag"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/content"
	"github.com/spillway/spillway/internal/durable"
)

// On mainnet the coins are money: it is asked for once, channels are small and short
// unless somebody says otherwise, and no seed lies there in the clear.

// consentFile remembers, in the data folder, that mainnet was agreed to.
const consentFile = "real-money"

// caps bound the channels of both roles, from --max-capacity and --max-duration.
type caps struct {
	capacity string
	duration uint32 // blocks; 0: the network's
	realYes  bool   // --yes-real-money
}

func (c *caps) flags(fl *pflag.FlagSet) {
	fl.BoolVar(&c.realYes, "yes-real-money", false, "agree to use mainnet with this data folder; asked once, and remembered there")
	fl.StringVar(&c.capacity, "max-capacity", "", "the largest channel that is opened or offered, such as 500000sat (default: 0.1 BTC on mainnet, elsewhere any)")
	fl.Uint32Var(&c.duration, "max-duration", 0, "the longest time, in blocks, that a provider may hold what is locked (default: 1296 on mainnet, elsewhere 2016)")
}

// longestDuration is the most that --max-duration may be: a year.
const longestDuration = 52_560

// check reads the caps. Errors: of usage.
func (c *caps) check() error {
	if c.duration > longestDuration {
		return usagef("--max-duration is at most %d blocks, a year", longestDuration)
	}
	if p := channel.DefaultPolicy("mainnet"); c.duration != 0 && c.duration < p.Margin+p.Useful {
		return usagef("--max-duration is at least %d blocks: a margin, and some time to deliver", p.Margin+p.Useful)
	}
	_, err := c.most()
	return err
}

// most is the cap on a channel's capacity, in sat; 0: none was given.
func (c *caps) most() (uint64, error) {
	if c.capacity == "" {
		return 0, nil
	}
	msat, err := content.ParseAmountMsat(c.capacity)
	if err != nil {
		return 0, usage(fmt.Errorf("--max-capacity: %w", err))
	}
	if msat%1000 != 0 || msat/1000 < channel.MinimumPayout || msat/1000 > channel.MaxSat {
		return 0, usagef("--max-capacity is whole satoshi, at least %d: not %s", channel.MinimumPayout, clipped(c.capacity))
	}
	return msat / 1000, nil
}

// apply puts the caps into a policy. They were checked.
func (c *caps) apply(p channel.Policy) channel.Policy {
	if most, err := c.most(); err == nil && most > 0 {
		p.MaxDeposit = most
	}
	if c.duration > 0 {
		p.MaxDuration = c.duration
		p.Duration = min(p.Duration, c.duration)
	}
	return p
}

// capAllows refuses a channel that is larger than allowed, before anything is locked.
func (a *app) capAllows(capacity uint64) error {
	most := a.policy().MaxDeposit
	if capacity <= most {
		return nil
	}
	return &failure{exit: exitConsent, code: "capacity-cap", message: fmt.Sprintf("this would lock %d sat in one channel, %d sat are allowed on %s", capacity, most, a.flags.network),
		money: noMoney, next: fmt.Sprintf("Allow it with --max-capacity %dsat if you want to.", capacity)}
}

// askRealMoney makes sure that real money was agreed to: by --yes-real-money, which is
// remembered in the data folder.
func (a *app) askRealMoney() error {
	if a.flags.network != "mainnet" {
		return nil
	}
	path := filepath.Join(a.flags.data, consentFile)
	info, err := os.Stat(path)
	switch {
	case err == nil && info.Mode().IsRegular():
		return nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return localError(err)
	case err == nil:
		return &failure{exit: exitLocal, code: "local", message: path + " is no file", money: noMoney, next: "Remove it."}
	}
	if !a.caps.realYes {
		return &failure{exit: exitConsent, code: "real-money", message: "this is mainnet: its coins are real money, and nobody can give back what is lost",
			money: noMoney, next: "Try it on signet first. Then agree once with --yes-real-money; it is remembered in " + a.flags.data + "."}
	}
	if err := os.MkdirAll(a.flags.data, 0o700); err != nil {
		return localError(err)
	}
	if err := durable.Write(path, []byte("mainnet agreed to at "+time.Now().UTC().Format(time.RFC3339)+"\n")); err != nil {
		return localError(err)
	}
	p := a.policy()
	a.out.say("Real money, agreed to for %s. Channels are of at most %s and %d blocks unless --max-capacity and --max-duration say otherwise. Lock no more than you can lose.",
		a.flags.data, money(p.MaxDeposit*1000), p.MaxDuration)
	return nil
}

// sealedOnly refuses a seed in the clear where the coins are money.
func (a *app) sealedOnly(dir string) error {
	path := filepath.Join(dir, plainSeed)
	if _, err := os.Lstat(path); a.flags.network != "mainnet" || err != nil {
		return nil
	}
	return &failure{exit: exitLocal, code: "seed-plain", message: "the seed in " + path + " is not sealed with a passphrase, and this is mainnet", money: noMoney,
		next: "Have its words at hand, move the file away, and seal them: spillway wallet restore --network mainnet --passphrase-file F"}
}
