package download

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/content"
	"github.com/spillway/spillway/payer"
	"github.com/spillway/spillway/paywall"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/store"
)

// Store is what a purchase is remembered in: the payer's own store.
type Store interface {
	Get(ctx context.Context, bucket, key string) (store.Entry, error)
	List(ctx context.Context, bucket, prefix string) ([]store.Entry, error)
	Commit(ctx context.Context, ops ...store.Op) error
}

// Chain is what is asked of a blockchain: for estimates, for the age of a
// funding, and for the fees that were paid.
type Chain interface {
	Tip(ctx context.Context) (chain.Tip, error)
	Tx(ctx context.Context, txid chainhash.Hash) (chain.TxInfo, error)
	FeeRate(ctx context.Context, blocks int) (script.FeeRate, error)
}

// Wallet is asked what a channel's funding will cost with the coins that it has.
type Wallet interface {
	FundingFee(ctx context.Context, outputs []*wire.TxOut, rate script.FeeRate) (int64, error)
}

// Sink is the file that is filled; content.Sink is one.
type Sink interface {
	WriteAt(p []byte, off int64) (int, error)
	Verified() *content.Ranges
	Sync() error
	CheckRoot(ctx context.Context, root content.Hash, progress func(done uint64)) error
	Finish(replace bool) error
	Close() error
	Discard() error
	PartPath() string
}

// Config is what a Buyer needs. Client, Payer, Store, Chain, Network and Policy
// must be set.
type Config struct {
	Client *paywall.Client
	Payer  *payer.Payer
	Store  Store // the payer's
	Chain  Chain
	// Wallet is the one that the Payer funds channels from, for estimates; nil: a
	// single coin is taken to do.
	Wallet  Wallet
	Network string
	Policy  channel.Policy
	// Locks gives each channel one user at a time; default: within this process.
	// Several processes on one data folder share FileLocks.
	Locks Locker
	// OpenSink opens the part file; default: content.OpenSink.
	OpenSink func(path string, size uint64, root content.Hash, verified *content.Ranges) (Sink, error)
	// Sleep waits before something is tried again; default: a timer.
	Sleep func(ctx context.Context, d time.Duration) error
	// Now dates reports; default: time.Now.
	Now func() time.Time
	// Attempts bounds failures in a row without progress, where Limits.Wait is 0, and
	// those of the last payment; default: 6.
	Attempts int
	// SaveEvery is how many verified bytes of a large chunk may be lost in a
	// crash; default: 32 MiB.
	SaveEvery uint64
	Log       *slog.Logger
}

// Buyer buys files. Its methods may be called from many goroutines.
type Buyer struct{ cfg Config }

// New checks the configuration.
func New(cfg Config) (*Buyer, error) {
	if cfg.Client == nil || cfg.Payer == nil || cfg.Store == nil || cfg.Chain == nil || cfg.Network == "" || cfg.Policy.MaxDuration == 0 {
		return nil, errors.New("download: client, payer, store, chain, network and policy are needed")
	}
	if cfg.Locks == nil {
		cfg.Locks = &MemoryLocks{}
	}
	if cfg.OpenSink == nil {
		cfg.OpenSink = func(path string, size uint64, root content.Hash, verified *content.Ranges) (Sink, error) {
			return content.OpenSink(path, size, root, verified)
		}
	}
	if cfg.Sleep == nil {
		cfg.Sleep = sleep
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Attempts <= 0 {
		cfg.Attempts = 6
	}
	if cfg.SaveEvery == 0 {
		cfg.SaveEvery = 32 << 20
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Buyer{cfg: cfg}, nil
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// Want says what is to be bought and where it goes.
type Want struct {
	URL string
	// Path is the file's name here. Empty: the last element of the manifest's
	// name, in Dir.
	Path string
	Dir  string
	// Root and Provider pin the content and who sells it; nil takes what is there.
	Root     *content.Hash
	Provider *content.ProviderKey
	// Construction is the kind of channel; empty: taproot where it is offered.
	Construction script.Construction
	// Replace takes the place of another file of that name.
	Replace bool
	// Stream gets the verified bytes in order, from the first on, as they come; Path
	// is then where they are kept until all is paid. A repeat begins again from the
	// first byte, with what is there already.
	Stream io.Writer
	// Part, where it is not empty, is all that is wanted of the file: the chunks that these
	// bytes touch are bought, and it stays a part file. Stream gets these bytes alone.
	Part content.Range
	// Reserve is what else, in msat, a new channel should be able to pay: other
	// files that will be bought in it.
	Reserve uint64
}

// Limits is what a buyer allows.
type Limits struct {
	// Budget is what may be paid to the provider for this file in all, in sat,
	// over all runs of the purchase. What is locked may be more, and comes back.
	Budget uint64
	// MaxPrepay is how much may be signed before it was verified, in sat.
	MaxPrepay uint64
	// Consent: the rest below dust of a channel may go to the provider.
	Consent bool
	// KeepChannel leaves the channel open for the next purchase.
	KeepChannel bool
	// Parallel is how many chunks are asked for at once, as far as the channel's
	// credit allows; 0 and 1: one.
	Parallel int
	// Wait is how long a provider or a chain that does not answer is waited for,
	// counted from the last byte that came; 0: Config.Attempts failures.
	Wait time.Duration
	// Stop, where it is closed, ends the run behind what is under way: that comes in, is
	// verified and paid, and nothing more is asked for. Run then returns ErrStopped.
	Stop <-chan struct{}
}

// Phase is what a purchase is busy with.
type Phase string

// The phases of a purchase.
const (
	Hashing    Phase = "hashing"    // an existing file is read
	Repairing  Phase = "repairing"  // Bytes of what was there are damaged and are fetched again
	Waiting    Phase = "waiting"    // another purchase uses the channel
	Opening    Phase = "opening"    // a channel is being opened
	Confirming Phase = "confirming" // the funding needs confirmations
	Buying     Phase = "buying"     // chunks come in
	Retrying   Phase = "retrying"   // the connection broke; Wait says for how long
	Settling   Phase = "settling"   // the last payment, and the close
	Done       Phase = "done"
)

// Event is where a purchase stands.
type Event struct {
	Phase      Phase
	Bytes      uint64 // verified, or hashed
	Size       uint64 // bytes of the file
	Chunk      uint64 // index of the chunk that comes in
	Chunks     uint64
	Paid       uint64 // sat signed to the provider for this file
	Refundable uint64 // sat of the channel that come back if everything stopped now
	Channel    string // id
	Wait       time.Duration
	Reason     error         // why it waits; nil otherwise
	Down       time.Duration // Retrying: since when nothing comes
	Left       time.Duration // Retrying: after which it is given up; 0: by Config.Attempts
}

// Result is what a purchase came to.
type Result struct {
	URL, Path string
	Manifest  content.Manifest
	Payments  uint64 // updates that paid for chunks, in this run
	Bought    uint64 // bytes that came in, in this run
	Reused    uint64 // bytes that were there and verified before
	Paid      uint64 // sat signed to the provider for this file, over all runs
	Fees      int64  // sat of on-chain fees that were this side's, as far as known
	Channel   string // id; "" where nothing had to be paid
	Funding   string // txid of T1, where this run opened the channel
	Back      uint64 // msat, what the provider of a duplex channel returned in it so far
	Closing   string // txid of the close or settlement, where there is one
	// Unsettled says why the last payment or the close did not get through. The
	// file is whole all the same; the next run tries again.
	Unsettled error
}
