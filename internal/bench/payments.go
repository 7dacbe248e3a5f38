package bench

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/payee"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/store"
)

// Payments measures how many payments a second a payee verifies and saves durably,
// on so many distinct channels that pay at once and so many cores, beside the bare
// rate at which the same signatures are verified and the rate at which the store
// commits as much with as many writers. dir is where the store lies: its disk is
// what is measured. n is about how many payments are made.
func Payments(ctx context.Context, dir string, kind script.Construction, channels, n, useCores int) (figures []Figure, err error) {
	dir, err = os.MkdirTemp(dir, "bench-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	s, err := newShop(ctx, dir, kind, channels)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	rounds := max(n/channels, 2)
	updates, err := s.sign(ctx, 0, rounds)
	if err != nil {
		return nil, err
	}
	defer cores(useCores)()
	verify, err := s.verifyRate(ctx, updates, useCores)
	if err != nil {
		return nil, err
	}
	commit, err := s.commitRate(ctx, len(updates))
	if err != nil {
		return nil, err
	}
	paid, err := rate(ctx, channels, len(updates), func(ctx context.Context, i int) error {
		q := payee.Request{Channel: s.records[i%channels].Terms.ID(), Update: &updates[i], Credit: price}
		got, err := s.payee.Pay(ctx, q)
		if err == nil && got.Paid != updates[i].Amount {
			err = fmt.Errorf("paid %d sat, not %d sat", got.Paid, updates[i].Amount)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	name := fmt.Sprintf("payments, %s, %d channels, %d cores", kind, channels, useCores)
	least := compared(name, paid, "1/s", "the lesser of verification and commit", min(verify, commit))
	least.Floor = 0.7
	return []Figure{
		least,
		compared(name+": verification", paid, "1/s", "bare verification", verify),
		compared(name+": commit", paid, "1/s", "bare commits", commit),
	}, nil
}

// verifyRate is how many updates a second so many cores verify, scripts built.
func (s *shop) verifyRate(ctx context.Context, updates []channel.Update, workers int) (float64, error) {
	built := make([]*script.Channel, len(s.records))
	for i, r := range s.records {
		var err error
		if built[i], err = r.Terms.Script(); err != nil {
			return 0, err
		}
	}
	return rate(ctx, workers, len(updates), func(_ context.Context, i int) error {
		c := i % len(s.records)
		return s.records[c].Terms.VerifyUpdate(built[c], updates[i])
	})
}

// commitRate is how many commits a second of a record's size the store saves, with
// a writer for each channel.
func (s *shop) commitRate(ctx context.Context, n int) (float64, error) {
	e, err := s.store.Get(ctx, "payee/channel", s.records[0].Terms.ID())
	if err != nil {
		return 0, err
	}
	writers := len(s.records)
	return rate(ctx, writers, n, func(ctx context.Context, i int) error {
		return s.store.Commit(ctx, store.Op{Bucket: "bench", Key: s.records[i%writers].Terms.ID(), Value: e.Value, Expect: store.Any})
	})
}
