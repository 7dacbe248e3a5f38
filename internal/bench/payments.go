package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/btcec/v2/ecdsa"
	"github.com/btcsuite/btcd/btcec/v2/schnorr"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/payee"
	"github.com/spillway/spillway/script"
	"github.com/spillway/spillway/store"
)

// AllPayments is Payments of each kind of channel, on one core and on all, on one, 64
// and 1,024 channels that pay at once.
func AllPayments(ctx context.Context, cfg Config, emit func(Figure) error) error {
	for _, kind := range []script.Construction{script.Taproot, script.Multisig} {
		for useCores := 1; useCores <= runtime.NumCPU(); useCores += max(runtime.NumCPU()-1, 1) {
			for _, channels := range []int{1, 64, 1024} {
				if err := Payments(ctx, cfg, kind, channels, useCores, emit); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// expected is about how many payments a second one core takes: so many are prepared.
const expected = 4000

// Payments measures how many payments a second a payee verifies and saves durably,
// on so many distinct channels that pay at once and so many cores, beside the bare
// rate at which the same signatures are verified and the rate at which the store
// commits as much with as many writers.
func Payments(ctx context.Context, cfg Config, kind script.Construction, channels, useCores int, emit func(Figure) error) (err error) {
	cfg = cfg.defaults()
	name := fmt.Sprintf("payments, %s, %s, %s", kind, count(channels, "channel"), count(useCores, "core"))
	cfg.say("%s", name)
	dir, err := os.MkdirTemp(cfg.Dir, "spillway-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	s, err := newShop(ctx, dir, kind, channels)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	each := max(int(cfg.Time.Seconds()*expected)/cfg.Rounds/channels, 1)
	if s.built, err = s.scripts(); err != nil {
		return err
	}
	var p taken
	for round := range cfg.Rounds {
		updates, err := s.sign(ctx, round*each, each)
		if err != nil {
			return err
		}
		if err := s.round(ctx, updates, useCores, &p); err != nil {
			return err
		}
	}
	least := p.least.figure(name, "1/s", "the lesser of the library's verification and commit")
	least.Floor = 0.7
	figures := []Figure{least,
		p.verify.figure(name+": verification", "1/s", "the library's bare verification"),
		p.own.figure(name+": own verification", "1/s", "our own bare verification"),
		p.commit.figure(name+": commit", "1/s", "bare commits"),
		p.cpu.figure(name+": cores", "µs", "verification and commit alone"),
	}
	if channels == 1 { // each payment waits for the one before: neither goes on beside the other
		figures = append(figures, p.series.figure(name+": in series", "1/s", "verification and commit, one after the other"))
	}
	for _, f := range figures {
		if err := emit(f); err != nil {
			return err
		}
	}
	return nil
}

// count is a number of things in words.
func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// taken is what rounds of payments came to.
type taken struct{ least, verify, own, commit, series, cpu pairs }

// round measures verification, commits and payments once, in turn.
func (s *shop) round(ctx context.Context, updates []channel.Update, useCores int, p *taken) (err error) {
	defer cores(useCores)()
	var verify, own, commit, paid float64
	_, verifyCPU, err := cost(func() error { verify, err = s.verifyRate(ctx, updates, useCores); return err })
	if err != nil {
		return err
	}
	if own, err = s.ownRate(ctx, updates, useCores); err != nil {
		return err
	}
	_, commitCPU, err := cost(func() error { commit, err = s.commitRate(ctx, len(updates)); return err })
	if err != nil {
		return err
	}
	_, cpu, err := cost(func() error { paid, err = s.payRate(ctx, len(s.records), updates); return err })
	if err != nil {
		return err
	}
	p.least.add(paid, min(verify, commit))
	p.verify.add(paid, verify)
	p.own.add(paid, own)
	p.commit.add(paid, commit)
	p.series.add(paid, 1/(1/verify+1/commit))
	n := float64(len(updates)) * 1000
	p.cpu.add(float64(cpu.Nanoseconds())/n, float64((verifyCPU+commitCPU).Nanoseconds())/n)
	return nil
}

// payRate is how many of these updates a second the payee takes, from so many payers
// at once.
func (s *shop) payRate(ctx context.Context, payers int, updates []channel.Update) (float64, error) {
	channels := len(s.records)
	return rate(ctx, payers, len(updates), func(ctx context.Context, i int) error {
		q := payee.Request{Channel: s.records[i%channels].Terms.ID(), Update: &updates[i], Credit: price}
		got, err := s.payee.Pay(ctx, q)
		if err == nil && got.Paid != updates[i].Amount {
			err = fmt.Errorf("paid %d sat, not %d sat", got.Paid, updates[i].Amount)
		}
		return err
	})
}

// verifyRate is how many updates a second so many cores verify with the curve's library,
// keys parsed and scripts built.
func (s *shop) verifyRate(ctx context.Context, updates []channel.Update, workers int) (float64, error) {
	keys := make([]*btcec.PublicKey, len(s.records))
	for i, r := range s.records {
		var err error
		if keys[i], err = btcec.ParsePubKey(r.Terms.PayerKey[:]); err != nil {
			return 0, err
		}
	}
	return rate(ctx, workers, len(updates), func(_ context.Context, i int) error {
		c := i % len(s.records)
		digest, err := s.built[c].HalfSighash(capacity - int64(updates[i].Amount))
		if err != nil {
			return err
		}
		return byLibrary(keys[c], digest, updates[i].Signature)
	})
}

// errForged: a signature that does not verify.
var errForged = errors.New("a signature does not verify")

// byLibrary verifies a half-signature, whose last byte is its flag.
func byLibrary(key *btcec.PublicKey, digest, sig []byte) error {
	raw, ok := sig[:len(sig)-1], false
	if len(raw) == schnorr.SignatureSize {
		parsed, err := schnorr.ParseSignature(raw)
		ok = err == nil && parsed.Verify(digest, key)
	} else {
		parsed, err := ecdsa.ParseDERSignature(raw)
		ok = err == nil && parsed.Verify(digest, key)
	}
	if !ok {
		return errForged
	}
	return nil
}

// ownRate is verifyRate as the payee verifies: with arithmetic of our own.
func (s *shop) ownRate(ctx context.Context, updates []channel.Update, workers int) (float64, error) {
	return rate(ctx, workers, len(updates), func(_ context.Context, i int) error {
		c := i % len(s.records)
		return s.records[c].Terms.VerifyUpdate(s.built[c], updates[i])
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

// scripts are the channels', built.
func (s *shop) scripts() ([]*script.Channel, error) {
	built := make([]*script.Channel, len(s.records))
	for i, r := range s.records {
		var err error
		if built[i], err = r.Terms.Script(); err != nil {
			return nil, err
		}
	}
	return built, nil
}
