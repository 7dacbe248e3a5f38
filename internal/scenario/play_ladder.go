package scenario

import (
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/spillway/spillway/channel"
	"github.com/spillway/spillway/script"
)

// rungs is the classic ladder of {100: c100 s0} on an output of 100 BTC: what both
// sides remember, by the rules of package channel.
type rungs struct {
	stage *Stage
	deal  *deal
	ch    *script.Channel
	side  [2]channel.Ladder
}

const (
	ladderTop  = 100
	ladderCoin = 100_000_000 // sat
)

// newLadder funds a ladder from the faucet: the payer's 100 BTC.
func (s *Stage) newLadder() (*rungs, error) {
	tip, err := s.height()
	if err != nil {
		return nil, err
	}
	nonce := channel.Nonce{15: 1}
	k1, err := s.payer.keys.PayerChannelKey(0)
	if err != nil {
		return nil, err
	}
	k2, err := s.payee.keys.PayeeChannelKey(nonce)
	if err != nil {
		return nil, err
	}
	rest, err := s.payer.wallet.ReceiveScript(s.ctx)
	if err != nil {
		return nil, err
	}
	s.book.owns(Payer, rest)
	t := channel.Terms{
		Network: "regtest", Construction: script.Duplex, TxVersion: 2, Nonce: nonce, Capacity: ladderTop * ladderCoin,
		PayerKey: channel.Key(k1.PubKey().SerializeCompressed()), PayeeKey: channel.Key(k2.PubKey().SerializeCompressed()),
		RestScript: rest, PayeeRest: s.payee.payout, Expiry: tip + 30, Margin: 1, Step: 1, Confirmations: 1,
	}
	pk, err := script.OutputScript(t.Construction, t.PayerKey, t.PayeeKey, t.Expiry)
	if err != nil {
		return nil, err
	}
	txid, err := s.chain.Faucet(s.ctx, pk, int64(t.Capacity))
	if err != nil {
		return nil, err
	}
	info, err := s.chain.Tx(s.ctx, txid)
	if err != nil {
		return nil, err
	}
	for i, out := range info.Tx.TxOut {
		if string(out.PkScript) == string(pk) {
			t.Outpoint = channel.Outpoint{Hash: txid, Index: uint32(i)}
		}
	}
	l := &rungs{stage: s, deal: &deal{id: t.ID(), terms: t, funding: info.Tx}}
	s.channels = append(s.channels, l.deal)
	s.book.sent(Payer, roleFunding, info.Tx, nil)
	for i := range l.side {
		l.side[i] = channel.Ladder{Terms: t, Side: script.Side(i), Top: ladderTop, Held: channel.Rung{Number: ladderTop}}
	}
	if l.ch, err = t.Script(); err != nil {
		return nil, err
	}
	return l, s.mine(1)
}

// sign is a side's half-signature of a state.
func (l *rungs) sign(by script.Side, st script.State) (channel.Hex, error) {
	keyring := l.stage.payee.keys
	if by == script.Payer {
		key, err := l.stage.payer.keys.PayerChannelKey(0)
		if err != nil {
			return nil, err
		}
		return l.ch.SignState(key, st)
	}
	key, err := keyring.PayeeChannelKey(l.deal.terms.Nonce)
	if err != nil {
		return nil, err
	}
	return l.ch.SignState(key, st)
}

// next plays one state, proposed by whose turn it is, and answered.
func (l *rungs) next(share uint64) error {
	tip, err := l.stage.height()
	if err != nil {
		return err
	}
	by := l.side[script.Payer].Turn
	other := by.Other()
	proposed, state, err := l.side[by].Propose(share, tip)
	if err != nil {
		return err
	}
	l.side[by] = proposed
	rung := proposed.Sent
	if rung.Signature, err = l.sign(by, state); err != nil {
		return err
	}
	held, answer, err := l.side[other].Answer(l.ch, rung, tip)
	if err != nil {
		return err
	}
	l.side[other] = held
	if rung.Signature, err = l.sign(other, answer); err != nil {
		return err
	}
	if l.side[by], err = l.side[by].Answered(l.ch, rung); err != nil {
		return err
	}
	l.deal.take(channel.Update{Amount: share})
	l.deal.delivered, l.deal.verified = share*1000, share*1000
	l.stage.exposed()
	return nil
}

// complete is the settlement of what a side holds.
func (l *rungs) complete(held channel.Ladder, rate script.FeeRate) (*wire.MsgTx, error) {
	claim, err := held.Claim(l.ch)
	if err != nil {
		return nil, err
	}
	home := l.stage.payee.payout
	if held.Side == script.Payer {
		home = l.deal.terms.RestScript
		claim.PayeeKey, err = l.stage.payer.keys.PayerChannelKey(0)
	} else {
		claim.PayeeKey, err = l.stage.payee.keys.PayeeChannelKey(l.deal.terms.Nonce)
	}
	if err != nil {
		return nil, err
	}
	tx, _, err := script.Settle([]script.Claim{claim}, home, rate)
	return tx, err
}

// replayLadder: {100: c100 s0}, {99: c99 s1}, … {90: c90 s10}; the payer broadcasts
// state 99 as soon as it can, the payee answers with 90.
func replayLadder(s *Stage) error {
	l, err := s.newLadder()
	if err != nil {
		return err
	}
	if err := l.side[script.Payer].Check(true); err != nil {
		return err
	}
	t := l.deal.terms
	s.tell("The classic ladder: 100 BTC, one state for each number, each lock a block lower than the one before. A step of one block is for demonstrations: it holds only without censorship and reorgs.")
	var old channel.Ladder
	for share := uint64(1); share <= 10; share++ {
		if err := l.next(share * ladderCoin); err != nil {
			return err
		}
		if share == 1 {
			old = l.side[script.Payer]
		}
	}
	newest := l.side[script.Payee]
	lock99, _ := old.Lock(old.Held.Number)
	lock90, _ := newest.Lock(newest.Held.Number)
	s.tell("Ten payments of 1 BTC each: {100: c100 s0}, {99: c99 s1}, … {90: c90 s10}. State 99 is valid from height %d on, state 90 from %d on; the refund, 100, from %d on.", lock99, lock90, t.Expiry)
	s.marks = append(s.marks, mark{"9", "state 99 valid", lock99}, mark{"0", "state 90 valid", lock90})
	stale, err := l.complete(old, 4*perVB)
	if err != nil {
		return err
	}
	if err := s.race(l, newest, stale, lock90, lock99); err != nil {
		return err
	}
	return s.bury()
}

// race lets the provider broadcast its newest state as soon as it is valid, in blocks
// that have no room for it; the payer's old one follows as soon as it can, pays more,
// and is outbid.
func (s *Stage) race(l *rungs, newest channel.Ladder, stale *wire.MsgTx, lock90, lock99 uint32) error {
	if err := s.until(lock90 - 1); err != nil {
		return err
	}
	latest, err := l.complete(newest, 2*perVB)
	if err != nil {
		return err
	}
	early, err := s.refused(Payee, roleSettlement, latest)
	if err != nil {
		return err
	}
	if err := s.censor(); err != nil {
		return err
	}
	if err := s.broadcast(Payee, roleSettlement, latest); err != nil {
		return err
	}
	reason, err := s.refused(Payer, roleOldState, stale)
	if err != nil {
		return err
	}
	s.tell("The provider broadcasts state 90 at height %d; a block earlier it was %s. The payer tries state 99, which leaves it 99 BTC: %s.", lock90, early, reason)
	for range lock99 - lock90 {
		if err := s.censor(); err != nil {
			return err
		}
	}
	if err := s.broadcast(Payer, roleOldState, stale); err != nil {
		return err
	}
	s.tell("For nine blocks nobody mines state 90; an idle provider would stand as badly. At height %d state 99 is valid, and the payer broadcasts it at twice the rate: it replaces 90 in every mempool.", lock99)
	if err := s.draw(); err != nil {
		return err
	}
	if latest, err = l.complete(newest, 8*perVB); err != nil {
		return err
	}
	if err := s.broadcast(Payee, roleSettlement, latest); err != nil {
		return err
	}
	s.tell("The provider sees it, and completes state 90 again at twice that. State 90 is what is mined: 90 BTC and 10 BTC.")
	return nil
}
