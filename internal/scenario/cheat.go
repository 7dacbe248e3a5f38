package scenario

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/btcsuite/btcd/txscript/v2"
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

// refund is T2, completed by the payer's own key whatever the height is.
func (s *Stage) refund(d *deal, rate script.FeeRate) (*wire.MsgTx, error) {
	r, err := s.payer.Record(s.ctx, d.id)
	if err != nil {
		return nil, err
	}
	ch, err := r.Terms.Script()
	if err != nil {
		return nil, err
	}
	key, err := s.payer.keys.PayerChannelKey(r.KeyIndex)
	if err != nil {
		return nil, err
	}
	tx, _, err := ch.Refund(key, r.RefundSig, r.RefundScript, rate)
	return tx, err
}

// update is the payer's half-signature of an amount (sat), made without its driver:
// nothing was verified, and nothing is saved.
func (s *Stage) update(d *deal, amount uint64) (channel.Update, error) {
	r, err := s.payer.Record(s.ctx, d.id)
	if err != nil {
		return channel.Update{}, err
	}
	ch, err := r.Terms.Script()
	if err != nil {
		return channel.Update{}, err
	}
	key, err := s.payer.keys.PayerChannelKey(r.KeyIndex)
	if err != nil {
		return channel.Update{}, err
	}
	u := r.Terms.First(nil)
	u.Amount = amount
	state, err := r.Terms.Commitment(u)
	if err != nil {
		return u, err
	}
	u.Signature, err = ch.SignState(key, state)
	return u, err
}

// refused broadcasts a cheater's transaction, which the chain has to refuse; the
// reason is the chain's own, in a word.
func (s *Stage) refused(by Side, role string, tx *wire.MsgTx) (reason string, err error) {
	var reject *chain.RejectError
	switch err := s.broadcast(by, role, tx); {
	case err == nil:
		s.want(false, "the chain took %s of the %s's, which it has to refuse", role, by)
		return "", nil
	case !errors.As(err, &reject):
		return "", err
	}
	reason, _, _ = strings.Cut(reject.Reason, " (")
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

// doubleSpend spends the coins of a funding again, to the payer itself, with a fee
// that is higher by so many sat. Its first output stands for the capacity, what was
// change is change again.
func (s *Stage) doubleSpend(d *deal, more int64) (*wire.MsgTx, error) {
	home, err := s.payer.wallet.ReceiveScript(s.ctx)
	if err != nil {
		return nil, err
	}
	s.book.owns(Payer, home)
	tx := d.funding.Copy()
	for i := range tx.TxOut {
		if uint32(i) == d.terms.Outpoint.Index {
			tx.TxOut[i] = wire.NewTxOut(int64(d.terms.Capacity)-more, home)
		}
	}
	prevouts := txscript.NewMultiPrevOutFetcher(nil)
	for _, in := range tx.TxIn {
		out, err := s.output(in.PreviousOutPoint)
		if err != nil {
			return nil, err
		}
		prevouts.AddPrevOut(in.PreviousOutPoint, out)
	}
	hashes := txscript.NewTxSigHashes(tx, prevouts)
	for i, in := range tx.TxIn {
		if in.Witness, err = s.signCoin(tx, i, hashes, prevouts.FetchPrevOutput(in.PreviousOutPoint)); err != nil {
			return nil, err
		}
	}
	return tx, nil
}

// signCoin signs for one of the payer's own coins.
func (s *Stage) signCoin(tx *wire.MsgTx, i int, hashes *txscript.TxSigHashes, out *wire.TxOut) (wire.TxWitness, error) {
	for _, change := range []bool{false, true} {
		for index := range uint32(100) {
			key, pk, err := s.payer.keys.WalletKey(change, index)
			if err != nil {
				return nil, err
			}
			if bytes.Equal(pk, out.PkScript) {
				return txscript.TaprootWitnessSignature(tx, hashes, i, out.Value, pk, txscript.SigHashDefault, key)
			}
		}
	}
	return nil, fmt.Errorf("no key of the payer's owns %x", out.PkScript)
}

// wait lets time pass without a block, so that what a side saw of the chain is old.
func (s *Stage) wait() { s.now = s.now.Add(time.Minute) }

// denied asks for one more chunk, with the newest update, and has to be refused.
func (s *Stage) denied(d *deal, why error) error {
	s.wait()
	_, err := s.ask(d, 1)
	if err == nil {
		s.want(false, "a chunk was released that had to be refused: %v", why)
		return nil
	}
	if !errors.Is(err, why) {
		return err
	}
	return nil
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
