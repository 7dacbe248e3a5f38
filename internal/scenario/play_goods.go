package scenario

import (
	"bytes"
	"context"
	"errors"
	"io"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/content/bao"
)

// goods are the stories in which something is delivered wrong, or is not paid.
func goods() []Scenario {
	return []Scenario{
		{
			Name: "provider-serves-garbage", Honest: Payer, Channels: everyWay, play: garbage,
			Title: "the provider sends wrong bytes: they are noticed within a group, and never paid",
		},
		{
			Name: "payer-stops-paying", Honest: Payee, Channels: everyWay, play: stopsPaying,
			Title: "the payer takes a chunk and does not pay: the provider is out its credit, and no more",
		},
		{
			Name: "newcomers-steal-credit", Honest: Payee, Channels: everyWay, play: stealCredit,
			setup: func(u *setup) { u.coins, u.lead = thieves, poolChunks*price },
			Title: "twenty fresh channels each take a free first chunk: the newcomers' pool bounds what they get",
		},
	}
}

// What the garbage is sold as.
const (
	chunkBytes = 32 << 10
	groupBytes = 1 << 10
	fileChunks = 4
)

// file is what the provider has.
type file struct {
	data []byte
	ob   *bao.Outboard
}

// buffer is memory that can be written at offsets.
type buffer []byte

// WriteAt implements io.WriterAt.
func (b buffer) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 || off+int64(len(p)) > int64(len(b)) {
		return 0, io.ErrShortWrite
	}
	return copy(b[off:], p), nil
}

func (s *Stage) newFile() (*file, error) {
	f := &file{data: make([]byte, fileChunks*chunkBytes)}
	if _, err := io.ReadFull(s.random(), f.data); err != nil {
		return nil, err
	}
	size := uint64(len(f.data))
	n, err := bao.OutboardSize(size, groupBytes)
	if err != nil {
		return nil, err
	}
	tree := make(buffer, n)
	root, err := bao.Build(s.ctx, bytes.NewReader(f.data), size, groupBytes, tree, bao.BuildConfig{})
	if err != nil {
		return nil, err
	}
	f.ob, err = bao.NewOutboard(bytes.NewReader(tree), root, size, groupBytes)
	return f, err
}

// fetch takes a chunk as it travels, damaged on the way where that is wanted, and
// verifies it against the file's root.
func (f *file) fetch(ctx context.Context, chunk uint64, damage bool) error {
	var wire bytes.Buffer
	if err := bao.ExtractSlice(ctx, &wire, bytes.NewReader(f.data), f.ob, chunk*chunkBytes, chunkBytes); err != nil {
		return err
	}
	if damage {
		wire.Bytes()[wire.Len()-groupBytes/2] ^= 1
	}
	got := make(buffer, len(f.data))
	s := bao.Slice{Root: f.ob.Root(), Size: f.ob.Size(), GroupBytes: groupBytes, Offset: chunk * chunkBytes, Length: chunkBytes}
	return bao.DecodeSlice(ctx, got, &wire, s, nil)
}

func garbage(s *Stage) error {
	f, err := s.newFile()
	if err != nil {
		return err
	}
	d, err := s.opened()
	if err != nil {
		return err
	}
	for i := range uint64(2) {
		if _, err := s.ask(d, 1); err != nil {
			return err
		}
		if err := f.fetch(s.ctx, i, false); err != nil {
			return err
		}
		if err := s.sign(d, price); err != nil {
			return err
		}
	}
	if _, err := s.ask(d, 1); err != nil { // pays the second, gets the third
		return err
	}
	s.tell("Two chunks arrive, are verified against the file's root, and are paid: %s. The third one comes with one bit turned over.", sat(d.paid()))
	var wrong *bao.WrongBytesError
	if err := f.fetch(s.ctx, 2, true); !errors.As(err, &wrong) {
		return errors.Join(errors.New("wrong bytes were not noticed"), err)
	}
	s.tell("The payer notices: %v. It throws them away and signs nothing.", wrong)
	if err := s.denied(d, channel.ErrInsufficient); err != nil {
		return err
	}
	s.tell("The provider says that it wants its money before it sends more. It gets none, and the payer buys elsewhere.")
	if err := s.event("!", "wrong bytes"); err != nil {
		return err
	}
	if err := s.draw(); err != nil {
		return err
	}
	if err := s.until(d.margin(), s.payee, s.payer); err != nil {
		return err
	}
	s.tell("All that the provider can settle is what was signed; the rest goes back to the payer.")
	return s.bury(s.payee, s.payer)
}

func stopsPaying(s *Stage) error {
	d, err := s.opened()
	if err != nil {
		return err
	}
	if err := s.buy(d, 2); err != nil {
		return err
	}
	old, err := s.payer.Newest(s.ctx, d.id)
	if err != nil {
		return err
	}
	if err := s.buy(d, 13); err != nil {
		return err
	}
	s.tell("Fifteen chunks are bought and paid: %s. The payer is no newcomer any more; what bounds it now is the channel's own credit.", sat(d.paid()))
	if _, err := s.ask(d, 1); err != nil {
		return err
	}
	s.tell("The next one is delivered on credit, and the payer does not pay it.")
	if err := s.event("!", "stops paying"); err != nil {
		return err
	}
	for range 3 {
		if err := s.denied(d, channel.ErrInsufficient); err != nil {
			return err
		}
	}
	s.tell("It asks for one more, three times. Each time it is told what it owes; check and charge are one commit, so no hurry helps.")
	if _, err := s.request(d, old, 0); err != nil {
		return err
	}
	s.tell("It sends the update from when %s were paid, as if that were all. An older update is a success without effect.", sat(old.Amount))
	if err := s.draw(); err != nil {
		return err
	}
	if err := s.until(d.margin(), s.payee); err != nil {
		return err
	}
	s.tell("At the margin the provider settles what it was paid. One chunk is lost: the credit that it chose to give.")
	return s.bury(s.payee)
}

const (
	thieves    = 20
	poolChunks = 16 // the default of channel.DefaultPolicy
)

func stealCredit(s *Stage) error {
	for range thieves {
		if _, err := s.open(); err != nil {
			return err
		}
	}
	if err := s.pass(1, s.payee); err != nil {
		return err
	}
	s.tell("Somebody opens %d channels at once. Each is a stranger to the provider, and each hopes for a free first chunk.", thieves)
	stolen := 0
	for _, d := range s.channels {
		_, err := s.ask(d, 1)
		if err == nil {
			stolen++
		} else if !errors.Is(err, channel.ErrInsufficient) {
			return err
		}
	}
	if err := s.event("!", "stolen"); err != nil {
		return err
	}
	s.tell("%d of them get one. All newcomers together share a pool of %d chunks, checked in the commit of the charge.", stolen, s.policy.PoolChunks)
	s.want(stolen == poolChunks, "%d chunks were stolen, and the pool is %d", stolen, poolChunks)
	for _, d := range s.channels {
		if err := s.denied(d, channel.ErrInsufficient); err != nil {
			return err
		}
	}
	o, err := s.offer()
	if err != nil {
		return err
	}
	s.want(o.Credit == 0, "a newcomer is offered a credit of %d msat while the pool is used up", o.Credit)
	s.tell("None gets a second one. Whoever is new now is told that every chunk is due one ahead, before anything is locked.")
	if err := s.draw(); err != nil {
		return err
	}
	if err := s.until(s.channels[0].terms.Expiry, s.payer); err != nil {
		return err
	}
	if err := s.bury(s.payer, s.payee); err != nil {
		return err
	}
	fees, err := s.cost()
	if err != nil {
		return err
	}
	s.tell("The thieves take their refunds. In fees the raid cost them %s; what they got fades from the pool within 144 blocks.", sat(uint64(fees)))
	if err := s.mine(144); err != nil {
		return err
	}
	if o, err = s.offer(); err != nil {
		return err
	}
	s.want(o.Credit == price, "after 144 blocks a newcomer is offered a credit of %d msat", o.Credit)
	return nil
}

// cost is all fees of what was mined, in sat.
func (s *Stage) cost() (fees int64, err error) {
	all, err := s.transactions()
	for _, t := range all {
		if t.Height != nil {
			fees += t.Fee
		}
	}
	return fees, err
}
