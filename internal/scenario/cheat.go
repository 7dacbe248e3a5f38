package scenario

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/chain"
	"github.com/spillway/spillway/chain/devnet"
	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/script"
)

// perVB is a fee rate of one satoshi for a virtual byte.
const perVB = script.FeeRate(1000)

// errKept: what a cheater tried worked.
var errKept = errors.New("the chain took what it should have refused")

// Words of the chain's, why it refuses a transaction.
const (
	nonFinal = "non-final"                      // its lock is above the tip
	spent    = "bad-txns-inputs-missingorspent" // a block has another spend of its inputs
	tooCheap = "insufficient fee"               // it does not pay for what it would replace
)

// refused broadcasts a cheater's transaction, which the chain has to refuse for this
// reason; it is the chain's own, in a word.
func (s *Stage) refused(by Side, role string, tx *wire.MsgTx, why string) (reason string, err error) {
	var reject *chain.RejectError
	switch err := s.broadcast(by, role, tx); {
	case err == nil:
		s.want(false, "the chain took %s of the %s's, which it has to refuse", role, by)
		return "", nil
	case !errors.As(err, &reject):
		return "", err
	}
	reason, _, _ = strings.Cut(reject.Reason, " (")
	if strings.HasPrefix(reason, why+",") { // a bitcoind goes on with its figures
		reason = why
	}
	s.want(reason == why, "the chain refused %s of the %s's: %s, not: %s", role, by, reason, why)
	return reason, nil
}

// unminable asks a miner to take a transaction whatever nodes relay; consensus has
// to refuse the block.
func (s *Stage) unminable(tx *wire.MsgTx) error {
	switch err := s.censor(tx); {
	case err == nil:
		return fmt.Errorf("%w: a block with %s", errKept, tx.TxHash())
	case !errors.Is(err, devnet.ErrBlock):
		return err
	}
	return nil
}

// wait lets time pass without a block, so that what a side saw of the chain is old.
func (s *Stage) wait() error { return s.tick(time.Minute) }

// denied asks for one more chunk, with the newest update, and has to be refused.
func (s *Stage) denied(d *deal, why error) error {
	if err := s.wait(); err != nil {
		return err
	}
	err := s.ask(d)
	if err == nil {
		s.want(false, "a chunk was released that had to be refused: %v", why)
		return nil
	}
	if !errors.Is(err, why) {
		return err
	}
	return nil
}

// show has the provider's own node, and no other, take a transaction.
func (s *Stage) show(tx *wire.MsgTx) error {
	raw, err := channel.EncodeTx(tx)
	if err != nil {
		return err
	}
	return s.node.order(s.ctx, "show", raw, nil)
}

// lock is the height from which on the newest half-signature of a duplex channel's
// payer may be broadcast; in other channels that is at once.
func (d *deal) lock() uint32 {
	if d.terms.Construction != script.Duplex {
		return 0
	}
	height, _ := d.terms.Lock(max(d.newest.Epoch, 1))
	return height
}

// margin is the height at which the payee settles.
func (d *deal) margin() uint32 { return d.terms.Expiry - d.terms.Margin }
